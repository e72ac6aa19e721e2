//! Convolution and its two transposes: per sample, patches become the columns of a matrix (im2col).

use super::Tensor;
use super::einsum::einsum;
use super::grouped;
use super::matrix::{Axis, PARALLEL_WORK, View, multiply};
use super::patches::Geometry;
use super::pool::{unwritten, zeroed};
use crate::tensor::{Einsum, Real, Shape, Window};
use faer::MatMut;
use rayon::prelude::*;

/// Into how many parts, whatever the number of threads, a sum over samples is cut.
const SAMPLE_PARTS: usize = 8;

/// A row-major matrix read from a slice.
fn rows<R: Real>(data: &[R], rows: usize, columns: usize) -> View<'_, R> {
    View::new(data, Axis::new(rows, columns), Axis::new(columns, 1))
}

/// Leading extent, channels of a convolution operand `[s, d, B, C, …]`.
fn lead_and_channels(shape: &Shape) -> (usize, usize) {
    (shape.rest[0], shape.rest[1])
}

/// Shape of an operand with B, channels and spatial extents.
pub(super) fn operand_shape(
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

/// The tensor with its rest taken as `rest`.
fn reshaped<R: Real>(tensor: &Tensor<R>, rest: &[usize]) -> Tensor<R> {
    tensor.with_shape(Shape::new(
        tensor.shape.samples,
        tensor.shape.directions,
        rest,
    ))
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
    if grouped::suits(&geometry) {
        return grouped::conv(inputs, weights, window, groups);
    }
    let directions = super::common(inputs.shape.directions, weights.shape.directions);
    let shape = operand_shape(
        inputs.shape.samples,
        directions,
        lead,
        outputs,
        &window.output,
    );
    let mut output = unwritten(shape.len());
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

/// The window of the convolution that, with turned weights, is the transpose of one of stride 1.
///
/// That is twice as fast as spreading patches back: its product writes the result alone, not a patch
/// matrix (32 → 32 channels, 3×3 on 16×16).
fn turned_window(window: &Window) -> Option<Window> {
    if window.stride.iter().any(|&stride| stride != 1) {
        return None;
    }
    let padding: Option<Vec<usize>> = (0..window.kernel.len())
        .map(|axis| {
            (window.dilation[axis] * (window.kernel[axis] - 1)).checked_sub(window.padding[axis])
        })
        .collect();
    Some(Window {
        input: window.output.clone(),
        output: window.input.clone(),
        padding: padding?,
        ..window.clone()
    })
}

/// Weights `[1, d, O, C/g, k…]` → `[1, d, C, O/g, k…]` with the taps in reverse order.
fn turned_weights<R: Real>(weights: &Tensor<R>, groups: usize) -> Tensor<R> {
    let rest = &weights.shape.rest;
    let (outputs, channels) = (rest[0] / groups, rest[1]);
    let taps: usize = rest[2..].iter().product();
    let grouped = reshaped(weights, &[groups, outputs, channels, taps]);
    let swapped = super::layout::permute(&grouped, &[0, 2, 1, 3]);
    let mut values = swapped.values().to_vec();
    if taps > 0 {
        values.chunks_mut(taps).for_each(<[R]>::reverse);
    }
    let kernel = &rest[2..];
    let shape = operand_shape(
        1,
        weights.shape.directions,
        groups * channels,
        outputs,
        kernel,
    );
    Tensor::new(shape, values)
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
    if window.is_whole() {
        let cotangents = reshaped(cotangents, &[lead, groups, geometry.outputs]);
        let weights = reshaped(weights, &[groups, geometry.outputs, geometry.rows()]);
        let product = Einsum::new("sdbgo,sdgoi->sdbgi");
        return einsum(&product, &cotangents, &weights).with_shape(shape);
    }
    if grouped::suits(&geometry) {
        return grouped::conv_inputs(cotangents, weights, window, groups);
    }
    // Its patch matrix has O rows per tap, where the one spread back has C.
    let turned = turned_window(window).filter(|_| outputs <= channels);
    if let Some(turned) = turned {
        return conv(
            cotangents,
            &turned_weights(weights, groups),
            &turned,
            groups,
        );
    }
    let mut output = zeroed(shape.len());
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
    if window.is_whole() {
        let lead = cotangents.shape.rest[0];
        let kept = if sum_samples { 1 } else { samples };
        let shape = operand_shape(kept, directions, outputs, geometry.channels, &window.kernel);
        let cotangents = reshaped(cotangents, &[lead, groups, geometry.outputs]);
        let inputs = reshaped(inputs, &[lead, groups, geometry.rows()]);
        let product = Einsum::new(if sum_samples {
            "sdbgo,sdbgi->1dgoi"
        } else {
            "sdbgo,sdbgi->sdgoi"
        });
        return einsum(&product, &cotangents, &inputs).with_shape(shape);
    }
    if grouped::suits_weights(&geometry, directions) {
        return grouped::conv_weights(cotangents, inputs, window, groups, sum_samples);
    }
    let (parts, per_part) = sample_parts(samples, sum_samples);
    let shape = operand_shape(
        parts,
        directions,
        outputs,
        geometry.channels,
        &window.kernel,
    );
    let mut output = zeroed(shape.len());
    let unit = directions * outputs * geometry.rows();
    let work = geometry.work() * directions * per_part;
    let gradients = WeightGradients {
        geometry,
        cotangents,
        inputs,
        directions,
    };
    each_unit(&mut output, unit, work, |scratch, number, part, inside| {
        for sample in number * per_part..samples.min((number + 1) * per_part) {
            gradients.add_sample(sample, scratch, part, inside);
        }
    });
    let partial = Tensor::new(shape, output);
    if sum_samples {
        sum_parts(partial)
    } else {
        partial
    }
}

/// The parts of a result and the samples in each: one of each sample, or those that a sum over samples is cut into.
///
/// The cuts depend on the number of samples alone: same bits on any machine.
pub(super) fn sample_parts(samples: usize, sum_samples: bool) -> (usize, usize) {
    let per_part = if sum_samples {
        samples.div_ceil(SAMPLE_PARTS).max(1)
    } else {
        1
    };
    (samples.div_ceil(per_part), per_part)
}

/// The sum over the parts that a sum over samples was cut into: `[1, …]`.
pub(super) fn sum_parts<R: Real>(partial: Tensor<R>) -> Tensor<R> {
    let mut shape = partial.shape.clone();
    let parts = std::mem::replace(&mut shape.samples, 1);
    match parts {
        0 => Tensor::new(shape.clone(), vec![R::default(); shape.len()]),
        1 => partial.with_shape(shape),
        _ => super::reduce::reduce_sum(&partial, &[0]),
    }
}

/// The operands of a sum of weight gradients.
struct WeightGradients<'a, R: Real> {
    geometry: Geometry,
    cotangents: &'a Tensor<R>,
    inputs: &'a Tensor<R>,
    /// The number of directions of the result.
    directions: usize,
}

impl<R: Real> WeightGradients<'_, R> {
    /// Adds one sample's weight gradients, `[directions, O, (c, k)]`.
    fn add_sample(
        &self,
        sample: usize,
        scratch: &mut (Vec<R>, Vec<R>),
        output: &mut [R],
        inside: bool,
    ) {
        let (geometry, cotangents, inputs) = (&self.geometry, self.cotangents, self.inputs);
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
                    0..self.directions
                } else {
                    input_direction..input_direction + 1
                };
                let delta = |direction: usize| {
                    let unit = cotangents.unit(sample, direction) * lead + b;
                    &cotangents.values()[unit * output_unit..]
                };
                if o < served.len() {
                    // A group has fewer output channels than there are directions: these are the rows then.
                    let from = delta(served.start);
                    let step = lead * output_unit;
                    for channel in 0..geometry.groups * o {
                        let part = &patches[channel / o * ck * t..];
                        multiply(
                            // Turned round: faer 0.24 confuses the strides of the row-major constructor.
                            MatMut::from_column_major_slice_with_stride_mut(
                                &mut output[channel * ck..],
                                ck,
                                served.len(),
                                per_direction,
                            )
                            .transpose_mut(),
                            true,
                            View::new(
                                &from[channel * t..],
                                Axis::new(served.len(), step),
                                Axis::new(t, 1),
                            ),
                            rows(part, ck, t).transpose(),
                            inside,
                        );
                    }
                    continue;
                }
                for direction in served {
                    let delta = delta(direction);
                    for group in 0..geometry.groups {
                        let start = direction * per_direction + group * o * ck;
                        multiply(
                            MatMut::from_row_major_slice_mut(
                                &mut output[start..start + o * ck],
                                o,
                                ck,
                            ),
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
}
