//! Convolution and its two transposes: per sample, patches become the columns of a matrix (im2col).

use super::Tensor;
use super::matrix::{Axis, PARALLEL_WORK, View, multiply};
use super::window::{Reach, reach};
use crate::tensor::{Real, Shape, Window};
use faer::MatMut;
use rayon::prelude::*;

/// Into how many parts, whatever the number of threads, a sum over samples is cut.
const SAMPLE_PARTS: usize = 8;

/// Sizes of a convolution, per group.
struct Geometry {
    window: Window,
    groups: usize,
    /// Input channels of a group.
    channels: usize,
    /// Output channels of a group.
    outputs: usize,
    /// Taps of the kernel.
    taps: usize,
    /// Positions of the output.
    positions: usize,
    /// Positions of the input.
    input: usize,
    /// Reach of every tap, per axis.
    reaches: [Vec<Reach>; 3],
}

impl Geometry {
    fn new(window: &Window, groups: usize, channels: usize, outputs: usize) -> Self {
        let window = window.three_dimensional();
        let reaches = [0, 1, 2].map(|axis| {
            (0..window.kernel[axis])
                .map(|tap| reach(&window, axis, tap))
                .collect()
        });
        Self {
            groups,
            channels: channels / groups,
            outputs: outputs / groups,
            taps: window.kernel.iter().product(),
            positions: window.output.iter().product(),
            input: window.input.iter().product(),
            reaches,
            window,
        }
    }

    /// Rows of the patch matrix of a group: (c, k).
    fn rows(&self) -> usize {
        self.channels * self.taps
    }

    /// Elements of the patch matrix of all groups.
    fn patches_len(&self) -> usize {
        self.groups * self.rows() * self.positions
    }

    /// Elements of one sample's input and of its output.
    fn units(&self) -> (usize, usize) {
        (
            self.groups * self.channels * self.input,
            self.groups * self.outputs * self.positions,
        )
    }

    /// Multiply-adds of one sample.
    fn work(&self) -> usize {
        self.groups * self.outputs * self.rows() * self.positions
    }

    /// Whether the patch matrix is the input itself.
    fn is_pointwise(&self) -> bool {
        let w = &self.window;
        self.taps == 1
            && w.input == w.output
            && w.stride.iter().all(|&s| s == 1)
            && w.padding.iter().all(|&p| p == 0)
    }

    /// Calls `run(input offset, patch offset, input step, length)` for every run of positions along the
    /// last axis whose tap lies in the input; offsets are within one sample and the patch matrix.
    fn runs(&self, mut run: impl FnMut(usize, usize, usize, usize)) {
        let w = &self.window;
        let [z_taps, y_taps, x_taps] = &self.reaches;
        let mut row = 0;
        for channel in 0..self.groups * self.channels {
            for z in z_taps {
                for y in y_taps {
                    for x in x_taps {
                        for (dz, oz) in (z.first..z.last).enumerate() {
                            let iz = z.start + dz * w.stride[0];
                            for (dy, oy) in (y.first..y.last).enumerate() {
                                let iy = y.start + dy * w.stride[1];
                                let input = channel * self.input
                                    + (iz * w.input[1] + iy) * w.input[2]
                                    + x.start;
                                let patch = row * self.positions
                                    + (oz * w.output[1] + oy) * w.output[2]
                                    + x.first;
                                if x.last > x.first {
                                    run(input, patch, w.stride[2], x.last - x.first);
                                }
                            }
                        }
                        row += 1;
                    }
                }
            }
        }
    }

    /// The patch matrix of a sample, `[groups, (c, k), positions]`. What lies outside the input is never
    /// written, so a buffer that started as zeros can be used again.
    fn patches<'a, R: Real>(&self, input: &'a [R], buffer: &'a mut Vec<R>) -> &'a [R] {
        if self.is_pointwise() {
            return input;
        }
        buffer.resize(self.patches_len(), R::default());
        self.runs(|from, to, step, length| {
            let to = &mut buffer[to..to + length];
            if step == 1 {
                to.copy_from_slice(&input[from..from + length]);
            } else {
                for (t, x) in to.iter_mut().zip(input[from..].iter().step_by(step)) {
                    *t = *x;
                }
            }
        });
        buffer
    }

    /// Adds a patch matrix back to the positions it came from.
    fn fold<R: Real>(&self, patches: &[R], input: &mut [R]) {
        self.runs(|to, from, step, length| {
            let from = &patches[from..from + length];
            if step == 1 {
                for (t, x) in input[to..to + length].iter_mut().zip(from) {
                    *t += *x;
                }
            } else {
                for (t, x) in input[to..].iter_mut().step_by(step).zip(from) {
                    *t += *x;
                }
            }
        });
    }
}

/// A row-major matrix read from a slice.
fn rows<R: Real>(data: &[R], rows: usize, columns: usize) -> View<'_, R> {
    View::new(data, Axis::new(rows, columns), Axis::new(columns, 1))
}

/// Leading extent, channels of a convolution operand `[s, d, B, C, …]`.
fn lead_and_channels(shape: &Shape) -> (usize, usize) {
    (shape.rest[0], shape.rest[1])
}

/// Shape of an operand with B, channels and spatial extents.
fn operand_shape(
    samples: usize,
    directions: usize,
    lead: usize,
    channels: usize,
    spatial: &[usize],
) -> Shape {
    let mut rest = vec![lead, channels];
    rest.extend_from_slice(spatial);
    Shape::new(samples, directions, &rest)
}

/// Runs `task(number, part)` on the units of an output: in parallel where there are enough of them; else
/// one by one, with `task`'s last argument asking for threads inside.
fn each_unit<R: Real>(
    output: &mut [R],
    unit: usize,
    work: usize,
    task: impl Fn(&mut (Vec<R>, Vec<R>), usize, &mut [R], bool) + Sync,
) {
    if output.is_empty() {
        return;
    }
    let scratch = || (Vec::new(), Vec::new());
    let count = output.len() / unit;
    if count < rayon::current_num_threads() || count * work < PARALLEL_WORK {
        let mut scratch = scratch();
        for (number, part) in output.chunks_mut(unit).enumerate() {
            task(&mut scratch, number, part, true);
        }
    } else {
        output
            .par_chunks_mut(unit)
            .enumerate()
            .with_min_len((PARALLEL_WORK / 4 / work.max(1)).max(1))
            .for_each_init(scratch, |scratch, (number, part)| {
                task(scratch, number, part, false)
            });
    }
}

/// Inputs `[s, d, B, C, in…]`, weights `[1, d, O, C/g, k…]` → `[s, d, B, O, out…]`.
pub(super) fn conv<R: Real>(
    inputs: &Tensor<R>,
    weights: &Tensor<R>,
    window: &Window,
    groups: usize,
) -> Tensor<R> {
    let (lead, channels) = lead_and_channels(&inputs.shape);
    let outputs = weights.shape.rest[0];
    assert_eq!(
        weights.shape.samples, 1,
        "a convolution's weights are shared"
    );
    let geometry = Geometry::new(window, groups, channels, outputs);
    let directions = super::common(inputs.shape.directions, weights.shape.directions);
    let shape = operand_shape(
        inputs.shape.samples,
        directions,
        lead,
        outputs,
        &window.output,
    );
    let mut output = vec![R::default(); shape.len()];
    let (from_unit, to_unit) = geometry.units();
    let weight_len = weights.shape.rest_len();
    // With one direction of inputs and several of weights, a sample's patches serve all of them.
    let shared = if inputs.shape.directions == 1 {
        directions
    } else {
        1
    };
    each_unit(
        &mut output,
        shared * lead * to_unit,
        geometry.work() * shared * lead,
        |scratch, number, part, inside| {
            let first = number * shared;
            for b in 0..lead {
                let unit = inputs.unit(first / directions, first % directions) * lead + b;
                let from = &inputs.values()[unit * from_unit..(unit + 1) * from_unit];
                let patches = geometry.patches(from, &mut scratch.0);
                for d in 0..shared {
                    let weight = weights.unit(0, (first + d) % directions) * weight_len;
                    let weight = &weights.values()[weight..weight + weight_len];
                    let to = &mut part[(d * lead + b) * to_unit..][..to_unit];
                    forward(&geometry, patches, weight, to, inside);
                }
            }
        },
    );
    Tensor::new(shape, output)
}

fn forward<R: Real>(
    geometry: &Geometry,
    patches: &[R],
    weights: &[R],
    output: &mut [R],
    inside: bool,
) {
    let (o, ck, t) = (geometry.outputs, geometry.rows(), geometry.positions);
    for group in 0..geometry.groups {
        multiply(
            MatMut::from_row_major_slice_mut(&mut output[group * o * t..(group + 1) * o * t], o, t),
            false,
            rows(&weights[group * o * ck..], o, ck),
            rows(&patches[group * ck * t..], ck, t),
            inside,
        );
    }
}

/// Cotangents `[s, d, B, O, out…]` → `[s, d, B, C, in…]`.
pub(super) fn conv_inputs<R: Real>(
    cotangents: &Tensor<R>,
    weights: &Tensor<R>,
    window: &Window,
    groups: usize,
) -> Tensor<R> {
    let (lead, outputs) = lead_and_channels(&cotangents.shape);
    let channels = weights.shape.rest[1] * groups;
    assert_eq!(
        weights.shape.samples, 1,
        "a convolution's weights are shared"
    );
    let geometry = Geometry::new(window, groups, channels, outputs);
    let directions = super::common(cotangents.shape.directions, weights.shape.directions);
    let samples = cotangents.shape.samples;
    let shape = operand_shape(samples, directions, lead, channels, &window.input);
    let mut output = vec![R::default(); shape.len()];
    let (to_unit, from_unit) = geometry.units();
    let weight_len = weights.shape.rest_len();
    let (o, ck, t) = (geometry.outputs, geometry.rows(), geometry.positions);
    each_unit(
        &mut output,
        to_unit,
        geometry.work(),
        |scratch, number, to, inside| {
            let (number, b) = (number / lead, number % lead);
            let (sample, direction) = (number / directions, number % directions);
            let unit = cotangents.unit(sample, direction) * lead + b;
            let from = &cotangents.values()[unit * from_unit..(unit + 1) * from_unit];
            let weight = weights.unit(0, direction) * weight_len;
            let weight = &weights.values()[weight..weight + weight_len];
            let pointwise = geometry.is_pointwise();
            let patches = if pointwise {
                &mut *to
            } else {
                scratch.1.resize(geometry.patches_len(), R::default());
                &mut scratch.1[..]
            };
            for group in 0..groups {
                let part = &mut patches[group * ck * t..(group + 1) * ck * t];
                multiply(
                    MatMut::from_row_major_slice_mut(part, ck, t),
                    false,
                    rows(&weight[group * o * ck..], o, ck).transpose(),
                    rows(&from[group * o * t..], o, t),
                    inside,
                );
            }
            if !pointwise {
                geometry.fold(&scratch.1, to);
            }
        },
    );
    Tensor::new(shape, output)
}

/// Cotangents `[s, d, B, O, out…]` and inputs `[s, d, B, C, in…]` → `[s, d, O, C/g, k…]`, summed over B,
/// and over samples too where `sum_samples`.
pub(super) fn conv_weights<R: Real>(
    cotangents: &Tensor<R>,
    inputs: &Tensor<R>,
    window: &Window,
    groups: usize,
    sum_samples: bool,
) -> Tensor<R> {
    let (_, outputs) = lead_and_channels(&cotangents.shape);
    let (_, channels) = lead_and_channels(&inputs.shape);
    let geometry = Geometry::new(window, groups, channels, outputs);
    let samples = super::common(cotangents.shape.samples, inputs.shape.samples);
    let directions = super::common(cotangents.shape.directions, inputs.shape.directions);
    // The sum over samples is cut at places that depend on their number alone: same bits on any machine.
    let (parts, per_part) = if sum_samples {
        let per_part = samples.div_ceil(SAMPLE_PARTS).max(1);
        (samples.div_ceil(per_part), per_part)
    } else {
        (samples, 1)
    };
    let mut shape = operand_shape(
        parts,
        directions,
        outputs,
        geometry.channels,
        &window.kernel,
    );
    let mut output = vec![R::default(); shape.len()];
    let unit = directions * outputs * geometry.rows();
    each_unit(
        &mut output,
        unit,
        geometry.work() * directions * per_part,
        |scratch, number, part, inside| {
            for sample in number * per_part..samples.min((number + 1) * per_part) {
                add_sample(
                    &geometry, cotangents, inputs, sample, directions, scratch, part, inside,
                );
            }
        },
    );
    if !sum_samples {
        return Tensor::new(shape, output);
    }
    let partial = Tensor::new(shape.clone(), output);
    shape.samples = 1;
    match parts {
        0 => Tensor::new(shape.clone(), vec![R::default(); shape.len()]),
        1 => partial.with_shape(shape),
        _ => super::reduce::reduce_sum(&partial, &[0]),
    }
}

/// Adds one sample's weight gradients, `[directions, O, (c, k)]`.
#[allow(clippy::too_many_arguments)] // one inner step of the function above
fn add_sample<R: Real>(
    geometry: &Geometry,
    cotangents: &Tensor<R>,
    inputs: &Tensor<R>,
    sample: usize,
    directions: usize,
    scratch: &mut (Vec<R>, Vec<R>),
    output: &mut [R],
    inside: bool,
) {
    let lead = cotangents.shape.rest[0];
    let (input_unit, output_unit) = geometry.units();
    let (o, ck, t) = (geometry.outputs, geometry.rows(), geometry.positions);
    let per_direction = geometry.groups * o * ck;
    for b in 0..lead {
        // One direction of inputs serves all directions of cotangents.
        for input_direction in 0..inputs.shape.directions {
            let unit = inputs.unit(sample, input_direction) * lead + b;
            let from = &inputs.values()[unit * input_unit..(unit + 1) * input_unit];
            let patches = geometry.patches(from, &mut scratch.0);
            let served = if inputs.shape.directions == 1 {
                0..directions
            } else {
                input_direction..input_direction + 1
            };
            for direction in served {
                let unit = cotangents.unit(sample, direction) * lead + b;
                let delta = &cotangents.values()[unit * output_unit..(unit + 1) * output_unit];
                for group in 0..geometry.groups {
                    let start = direction * per_direction + group * o * ck;
                    multiply(
                        MatMut::from_row_major_slice_mut(&mut output[start..start + o * ck], o, ck),
                        true,
                        rows(&delta[group * o * t..], o, t),
                        rows(&patches[group * ck * t..], ck, t).transpose(),
                        inside,
                    );
                }
            }
        }
    }
}
