//! Windows over the last axes: sums and their transpose, maxima, gather and scatter.

use super::Tensor;
use crate::memory::zeros;
use crate::tensor::{Real, Shape, Window};
use rayon::prelude::*;
use std::sync::Arc;

/// Elements from which planes go to several threads.
const PARALLEL: usize = 1 << 14;
/// The position of a window that lies wholly in the padding.
const NOWHERE: u32 = u32::MAX;

/// Positions chosen by a max-pool: per sample, direction and leading position, one per window.
#[derive(Clone, Debug)]
pub struct Indices {
    samples: usize,
    directions: usize,
    positions: Arc<Vec<u32>>,
}

/// The output positions `first..last` whose tap lies in the input, and where it lies for `first`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Reach {
    pub first: usize,
    pub last: usize,
    pub start: usize,
}

/// Where tap `tap` of `axis` meets the input: position `o·stride + tap·dilation − padding`.
pub(super) fn reach(window: &Window, axis: usize, tap: usize) -> Reach {
    let (stride, padding) = (window.stride[axis], window.padding[axis]);
    let ahead = tap * window.dilation[axis];
    let first = padding.saturating_sub(ahead).div_ceil(stride);
    // o·stride < input + padding − ahead
    let end = (window.input[axis] + padding).saturating_sub(ahead);
    let last = end.div_ceil(stride).min(window.output[axis]).max(first);
    Reach {
        first: first.min(last),
        last,
        start: (first * stride + ahead).saturating_sub(padding),
    }
}

/// Extent of the window axes of the input and of the output.
fn planes(window: &Window) -> (usize, usize) {
    (
        window.input.iter().product(),
        window.output.iter().product(),
    )
}

/// The shape with its last axes replaced.
fn with_last(shape: &Shape, last: &[usize]) -> Shape {
    let lead = shape.rest.len() - last.len();
    let mut rest = shape.rest[..lead].to_vec();
    rest.extend_from_slice(last);
    Shape::new(shape.samples, shape.directions, &rest)
}

/// Whether the axis is left as it is.
fn is_identity(window: &Window, axis: usize) -> bool {
    window.kernel[axis] == 1
        && window.stride[axis] == 1
        && window.padding[axis] == 0
        && window.input[axis] == window.output[axis]
}

/// Sum over each window, or its transpose, one axis after another: a box is a product of intervals, so
/// that costs the sum of the kernel's extents, not their product.
pub(super) fn window_sum<R: Real>(input: &Tensor<R>, window: &Window, spread: bool) -> Tensor<R> {
    let mut current = input.clone();
    let lead = input.shape.rest.len() - window.input.len();
    for axis in (0..window.input.len()).rev() {
        if is_identity(window, axis) {
            continue;
        }
        let mut rest = current.shape.rest.clone();
        let (to_extent, from_extent) = if spread {
            (window.input[axis], window.output[axis])
        } else {
            (window.output[axis], window.input[axis])
        };
        rest[lead + axis] = to_extent;
        let inner: usize = rest[lead + axis + 1..].iter().product();
        let shape = Shape::new(current.shape.samples, current.shape.directions, &rest);
        let mut output = zeros(shape.len());
        let (from_plane, to_plane) = (from_extent * inner, to_extent * inner);
        if !output.is_empty() && from_plane > 0 {
            let data = current.values();
            output
                .par_chunks_mut(to_plane)
                .with_min_len((PARALLEL / to_plane).max(1))
                .zip(data.par_chunks(from_plane))
                .for_each(|(to, from)| one_axis(window, axis, inner, spread, from, to));
        }
        current = Tensor::new(shape, output);
    }
    current
}

fn one_axis<R: Real>(
    window: &Window,
    axis: usize,
    inner: usize,
    spread: bool,
    from: &[R],
    to: &mut [R],
) {
    for tap in 0..window.kernel[axis] {
        let reach = reach(window, axis, tap);
        let stride = window.stride[axis];
        if inner == 1 && reach.first < reach.last {
            // Single elements: no inner slices, and the commonest strides as loops that vectorise.
            let outputs = reach.first..reach.last;
            if spread {
                let to = to[reach.start..].iter_mut();
                add_strided(to, &from[outputs], stride);
            } else {
                let from = from[reach.start..].iter();
                sum_strided(&mut to[outputs], from, stride);
            }
            continue;
        }
        for (step, output) in (reach.first..reach.last).enumerate() {
            let input = reach.start + step * stride;
            let (to_at, from_at) = if spread {
                (input, output)
            } else {
                (output, input)
            };
            let from = &from[from_at * inner..(from_at + 1) * inner];
            let to = &mut to[to_at * inner..(to_at + 1) * inner];
            for (t, x) in to.iter_mut().zip(from) {
                *t += *x;
            }
        }
    }
}

fn add_strided<R: Real>(to: std::slice::IterMut<'_, R>, from: &[R], stride: usize) {
    let add = |(t, x): (&mut R, &R)| *t += *x;
    match stride {
        1 => to.zip(from).for_each(add),
        _ => to.step_by(stride).zip(from).for_each(add),
    }
}

fn sum_strided<R: Real>(to: &mut [R], from: std::slice::Iter<'_, R>, stride: usize) {
    let add = |(t, x): (&mut R, &R)| *t += *x;
    match stride {
        1 => to.iter_mut().zip(from).for_each(add),
        _ => to.iter_mut().zip(from.step_by(stride)).for_each(add),
    }
}

/// Where each window has its first maximum; a NaN counts as the greatest, as in PyTorch.
pub(super) fn max_pool_indices<R: Real>(input: &Tensor<R>, window: &Window) -> Indices {
    let window = window.three_dimensional();
    let (from_plane, to_plane) = planes(&window);
    let shape = with_last(&input.shape, &[]);
    let count = shape.len().checked_div(from_plane).unwrap_or(0);
    let mut positions = vec![NOWHERE; count * to_plane];
    if !positions.is_empty() {
        positions
            .par_chunks_mut(to_plane)
            .with_min_len((PARALLEL / from_plane).max(1))
            .zip(input.values().par_chunks(from_plane))
            .for_each(|(to, from)| maxima(&window, from, to));
    }
    Indices {
        samples: shape.samples,
        directions: shape.directions,
        positions: Arc::new(positions),
    }
}

/// The taps of one axis that lie in the input, for output position `output`: first tap, count, input
/// position of the first.
fn taps(window: &Window, axis: usize, output: usize) -> (usize, usize) {
    let (dilation, padding) = (window.dilation[axis], window.padding[axis]);
    let corner = output * window.stride[axis];
    let first = padding.saturating_sub(corner).div_ceil(dilation);
    let end = (window.input[axis] + padding).saturating_sub(corner);
    let last = end.div_ceil(dilation).min(window.kernel[axis]);
    (first, last.max(first))
}

fn maxima<R: Real>(window: &Window, from: &[R], to: &mut [u32]) {
    let input = |axis: usize, output: usize, tap: usize| {
        output * window.stride[axis] + tap * window.dilation[axis] - window.padding[axis]
    };
    let mut targets = to.iter_mut();
    for oz in 0..window.output[0] {
        let (z_first, z_last) = taps(window, 0, oz);
        for oy in 0..window.output[1] {
            let (y_first, y_last) = taps(window, 1, oy);
            for ox in 0..window.output[2] {
                let (x_first, x_last) = taps(window, 2, ox);
                let mut best: Option<(usize, R)> = None;
                for z in (z_first..z_last).map(|tap| input(0, oz, tap)) {
                    for y in (y_first..y_last).map(|tap| input(1, oy, tap)) {
                        let row = (z * window.input[1] + y) * window.input[2];
                        for x in (x_first..x_last).map(|tap| input(2, ox, tap)) {
                            let value = from[row + x];
                            let is_nan = value.partial_cmp(&value).is_none();
                            if best.is_none_or(|(_, most)| value > most || is_nan) {
                                best = Some((row + x, value));
                            }
                        }
                    }
                }
                let target = targets.next().expect("one position per window");
                *target = best.map_or(NOWHERE, |(position, _)| position as u32);
            }
        }
    }
}

/// Picks the chosen positions; a window wholly in the padding gives 0.
pub(super) fn gather<R: Real>(input: &Tensor<R>, indices: &Indices, window: &Window) -> Tensor<R> {
    let output = &window.output;
    chosen(
        input,
        indices,
        window,
        output,
        |window, from, chosen, to| {
            let (from_plane, to_plane) = planes(window);
            let rows = to.chunks_mut(to_plane).zip(chosen.chunks(to_plane));
            for ((to, chosen), from) in rows.zip(from.chunks(from_plane)) {
                for (t, &position) in to.iter_mut().zip(chosen) {
                    if position != NOWHERE {
                        *t = from[position as usize];
                    }
                }
            }
        },
    )
}

/// Transpose of [`gather`]: overlaps are summed.
pub(super) fn scatter<R: Real>(
    cotangents: &Tensor<R>,
    indices: &Indices,
    window: &Window,
) -> Tensor<R> {
    let input = &window.input;
    chosen(
        cotangents,
        indices,
        window,
        input,
        |window, from, chosen, to| {
            let (to_plane, from_plane) = planes(window);
            let rows = from.chunks(from_plane).zip(chosen.chunks(from_plane));
            for (to, (from, chosen)) in to.chunks_mut(to_plane).zip(rows) {
                for (x, &position) in from.iter().zip(chosen) {
                    if position != NOWHERE {
                        to[position as usize] += *x;
                    }
                }
            }
        },
    )
}

/// Runs `copy` on each sample and direction of a tensor and its indices, which broadcast.
fn chosen<R: Real>(
    from: &Tensor<R>,
    indices: &Indices,
    window: &Window,
    last: &[usize],
    copy: impl Fn(&Window, &[R], &[u32], &mut [R]) + Sync,
) -> Tensor<R> {
    let mut shape = with_last(&from.shape, last);
    shape.samples = super::common(shape.samples, indices.samples);
    shape.directions = super::common(shape.directions, indices.directions);
    let mut output = zeros(shape.len());
    let unit = shape.rest_len();
    let units = indices.samples * indices.directions;
    let chosen_unit = indices.positions.len().checked_div(units).unwrap_or(0);
    let from_unit = from.shape.rest_len();
    if !output.is_empty() && chosen_unit > 0 {
        output
            .par_chunks_mut(unit)
            .enumerate()
            .with_min_len((PARALLEL / unit).max(1))
            .for_each(|(number, to)| {
                let (sample, direction) = (number / shape.directions, number % shape.directions);
                let source = from.unit(sample, direction) * from_unit;
                let sample = super::pick(sample, indices.samples);
                let direction = super::pick(direction, indices.directions);
                let choice = (sample * indices.directions + direction) * chosen_unit;
                copy(
                    window,
                    &from.values()[source..source + from_unit],
                    &indices.positions[choice..choice + chosen_unit],
                    to,
                );
            });
    }
    Tensor::new(shape, output)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(output: usize, padding: usize) -> Window {
        Window {
            input: vec![5],
            output: vec![output],
            kernel: vec![2],
            stride: vec![2],
            dilation: vec![1],
            padding: vec![padding],
        }
    }

    fn maxima_of(values: [f64; 5], window: &Window) -> Vec<u32> {
        let tensor = Tensor::new(Shape::new(1, 1, &[5]), values.to_vec());
        max_pool_indices(&tensor, window).positions.to_vec()
    }

    #[test]
    fn a_nan_is_the_maximum_of_its_window_and_of_no_other() {
        let values = [f64::NAN, 7.0, 1.0, f64::NAN, 2.0];
        assert_eq!(maxima_of(values, &window(3, 0)), [0, 3, 4]);
    }

    #[test]
    fn minus_infinity_is_chosen_over_padding() {
        let values = [f64::NEG_INFINITY; 5];
        assert_eq!(maxima_of(values, &window(3, 1)), [0, 1, 3]);
    }

    #[test]
    fn a_window_in_the_padding_alone_chooses_nothing_and_gathers_zero() {
        let window = window(4, 0);
        let tensor = Tensor::new(
            Shape::new(1, 1, &[5]),
            vec![-1.0f64, -2.0, -3.0, -4.0, -5.0],
        );
        let indices = max_pool_indices(&tensor, &window);
        assert_eq!(indices.positions.to_vec(), [0, 2, 4, NOWHERE]);
        let chosen = gather(&tensor, &indices, &window);
        assert_eq!(chosen.values(), [-1.0, -3.0, -5.0, 0.0]);
        let spread = scatter(&chosen, &indices, &window);
        assert_eq!(spread.values(), [-1.0, 0.0, -3.0, 0.0, -5.0]);
    }
}
