//! Windows over the last axes: sums and their transpose, maxima, gather and scatter.

use super::Tensor;
use super::pool::{unwritten, zeroed};
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

/// The sums along one axis, or their transpose, within a plane `[outer, extent, inner]`.
struct Pass {
    taps: Vec<Reach>,
    stride: usize,
    spread: bool,
    outer: usize,
    inner: usize,
    /// Extent of the axis in what is read and in what is written.
    from: usize,
    to: usize,
}

impl Pass {
    /// Elements read and elements written.
    fn sizes(&self) -> (usize, usize) {
        let rows = self.outer * self.inner;
        (rows * self.from, rows * self.to)
    }

    /// Windows that lie side by side and fill the axis make one run with those of the outer axes.
    fn joined(mut self) -> Pass {
        let (input, output) = if self.spread {
            (self.to, self.from)
        } else {
            (self.from, self.to)
        };
        let fills = |tap: &Reach| (tap.first, tap.last) == (0, output) && tap.start < self.stride;
        if input == self.stride * output && self.taps.iter().all(fills) {
            self.taps.iter_mut().for_each(|tap| tap.last *= self.outer);
            self.from *= self.outer;
            self.to *= self.outer;
            self.outer = 1;
        }
        self
    }

    fn run<R: Real>(&self, from: &[R], to: &mut [R]) {
        to.fill(R::default());
        let (from_row, to_row) = (self.from * self.inner, self.to * self.inner);
        for (from, to) in from.chunks(from_row).zip(to.chunks_mut(to_row)) {
            for tap in &self.taps {
                self.add(tap, from, to);
            }
        }
    }

    fn add<R: Real>(&self, tap: &Reach, from: &[R], to: &mut [R]) {
        let (stride, inner) = (self.stride, self.inner);
        if inner == 1 && tap.first < tap.last {
            // Single elements: no inner slices, and the commonest strides as loops that vectorise.
            let outputs = tap.first..tap.last;
            if self.spread {
                add_spread(&mut to[tap.start..], &from[outputs], stride);
            } else {
                add_gathered(&mut to[outputs], &from[tap.start..], stride);
            }
            return;
        }
        for (step, output) in (tap.first..tap.last).enumerate() {
            let input = tap.start + step * stride;
            let (to_at, from_at) = if self.spread {
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

/// Sum over each window, or its transpose, one axis after another: a box is a product of intervals, so
/// that costs the sum of the kernel's extents, not their product.
///
/// All axes of a plane are done at once, in the first-level cache; the last axis, whose elements are taken one by
/// one, when the plane is smallest.
pub(super) fn window_sum<R: Real>(input: &Tensor<R>, window: &Window, spread: bool) -> Tensor<R> {
    let lead = input.shape.rest.len() - window.input.len();
    let mut extents = input.shape.rest[lead..].to_vec();
    let mut axes: Vec<usize> = (0..extents.len())
        .filter(|&axis| !is_identity(window, axis))
        .collect();
    if spread {
        axes.reverse();
    }
    let mut passes = Vec::new();
    for axis in axes {
        let from = extents[axis];
        let to = if spread {
            window.input[axis]
        } else {
            window.output[axis]
        };
        let pass = Pass {
            taps: (0..window.kernel[axis])
                .map(|tap| reach(window, axis, tap))
                .collect(),
            stride: window.stride[axis],
            spread,
            outer: extents[..axis].iter().product(),
            inner: extents[axis + 1..].iter().product(),
            from,
            to,
        };
        passes.push(pass.joined());
        extents[axis] = to;
    }
    let Some((last, earlier)) = passes.split_last() else {
        return input.clone();
    };
    let shape = with_last(&input.shape, &extents);
    let from_plane = earlier.first().unwrap_or(last).sizes().0;
    let to_plane = last.sizes().1;
    let largest = passes.iter().map(|pass| pass.sizes().1).max().unwrap_or(0);
    if shape.is_empty() || from_plane == 0 || passes.iter().any(|pass| pass.sizes().1 == 0) {
        return Tensor::new(shape.clone(), zeroed(shape.len()));
    }
    let mut output = unwritten(shape.len());
    output
        .par_chunks_mut(to_plane)
        .with_min_len((PARALLEL / largest).max(1))
        .zip(input.values().par_chunks(from_plane))
        .for_each_init(
            || (vec![R::default(); largest], vec![R::default(); largest]),
            |(current, next), (to, from)| {
                let mut from = from;
                for pass in earlier {
                    let length = pass.sizes().1;
                    pass.run(from, &mut next[..length]);
                    std::mem::swap(current, next);
                    from = &current[..length];
                }
                last.run(from, to);
            },
        );
    Tensor::new(shape, output)
}

/// Adds `from` to every `stride`-th element.
fn add_spread<R: Real>(to: &mut [R], from: &[R], stride: usize) {
    match stride {
        1 => to.iter_mut().zip(from).for_each(|(t, x)| *t += *x),
        2 => {
            let (pairs, rest) = to.as_chunks_mut::<2>();
            let (whole, end) = from.split_at(pairs.len().min(from.len()));
            pairs.iter_mut().zip(whole).for_each(|(t, x)| t[0] += *x);
            rest.iter_mut().zip(end).for_each(|(t, x)| *t += *x);
        }
        _ => {
            let to = to.iter_mut().step_by(stride);
            to.zip(from).for_each(|(t, x)| *t += *x);
        }
    }
}

/// Adds every `stride`-th element of `from`.
fn add_gathered<R: Real>(to: &mut [R], from: &[R], stride: usize) {
    match stride {
        1 => to.iter_mut().zip(from).for_each(|(t, x)| *t += *x),
        2 => {
            let (pairs, rest) = from.as_chunks::<2>();
            let (whole, end) = to.split_at_mut(pairs.len().min(to.len()));
            whole.iter_mut().zip(pairs).for_each(|(t, x)| *t += x[0]);
            end.iter_mut().zip(rest).for_each(|(t, x)| *t += *x);
        }
        _ => {
            let from = from.iter().step_by(stride);
            to.iter_mut().zip(from).for_each(|(t, x)| *t += *x);
        }
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
    let mut output = zeroed(shape.len());
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
