//! Convolutions of few channels per group (depthwise), without matrices: a tap is a shift of the whole plane.
//!
//! A plane is copied behind its padding, cut into the phases of the stride: what tap k of window o reads is
//! element o + k·dilation / stride of phase k·dilation % stride. Windows keep the pitch of that copy, so that
//! all of them form one run, and a tap multiplies the same run at another offset.

use super::Tensor;
use super::convolution::{SAMPLE_PARTS, operand_shape};
use super::matrix::PARALLEL_WORK;
use super::patches::Geometry;
use crate::memory::zeros;
use crate::tensor::{Real, Window};
use rayon::prelude::*;

/// Positions computed together, in registers; what is left of a run goes by the smaller number.
const BLOCKS: [usize; 2] = [32, 16];
/// What a run in whole blocks reads past the last plane.
const SLACK: usize = BLOCKS[1];
/// Positions whose products are added up in registers, 256 in each: f32 sums stay short.
const CHUNK: usize = 256 * BLOCKS[0];

/// Whether a convolution, or its transpose in the inputs, is faster here than as products of matrices: up to 4 × 4
/// channels per group (measured at 28×28 and 7×7, 3×3 taps; at 8 × 8 the products win).
pub(super) fn suits(geometry: &Geometry) -> bool {
    geometry.groups > 1 && geometry.channels * geometry.outputs <= 16
}

/// The same of the transpose in the weights: on small planes the products win, which take all directions at once
/// (measured at 14×14 and 28×28).
pub(super) fn suits_weights(geometry: &Geometry) -> bool {
    geometry.groups > 1 && geometry.channels * geometry.outputs <= 4 && geometry.positions >= 400
}

/// Sizes along one axis.
struct Axis {
    stride: usize,
    padding: usize,
    input: usize,
    output: usize,
    /// Extent of the copy.
    extent: usize,
    /// Phase and shift of each tap.
    taps: Vec<(usize, usize)>,
}

/// Positions `first..last` of a phase that lie in the input, and the input position of the first.
struct Covered {
    first: usize,
    last: usize,
    input: usize,
}

impl Axis {
    /// The largest shift.
    fn reach(&self) -> usize {
        self.taps.iter().map(|tap| tap.1).max().unwrap_or(0)
    }

    fn covered(&self, phase: usize) -> Covered {
        let first = self.padding.saturating_sub(phase).div_ceil(self.stride);
        let end = (self.input + self.padding).saturating_sub(phase);
        let last = end.div_ceil(self.stride).min(self.extent).max(first);
        Covered {
            first,
            last,
            input: (first * self.stride + phase).saturating_sub(self.padding),
        }
    }
}

/// A convolution whose taps are shifts.
struct Shifts {
    axes: [Axis; 3],
    /// Phases that some tap reads, per axis of the stride.
    phases: Vec<[usize; 3]>,
    /// Per tap: its phase's place among `phases`, and its shift within a plane.
    taps: Vec<(usize, usize)>,
}

impl Shifts {
    /// With planes as large as `extent` says of each axis.
    fn new(window: &Window, extent: impl Fn(&Axis) -> usize) -> Shifts {
        let w = window.three_dimensional();
        let axes = [0, 1, 2].map(|k| {
            let steps = (0..w.kernel[k]).map(|tap| tap * w.dilation[k]);
            let mut axis = Axis {
                stride: w.stride[k],
                padding: w.padding[k],
                input: w.input[k],
                output: w.output[k],
                extent: 0,
                taps: steps.map(|s| (s % w.stride[k], s / w.stride[k])).collect(),
            };
            axis.extent = extent(&axis);
            axis
        });
        let mut shifts = Shifts {
            axes,
            phases: Vec::new(),
            taps: Vec::new(),
        };
        let [z_taps, y_taps, x_taps] = shifts.axes.each_ref().map(|axis| axis.taps.clone());
        for z in &z_taps {
            for y in &y_taps {
                for x in &x_taps {
                    let phase = [z.0, y.0, x.0];
                    let known = shifts.phases.iter().position(|p| *p == phase);
                    let place = known.unwrap_or(shifts.phases.len());
                    if known.is_none() {
                        shifts.phases.push(phase);
                    }
                    shifts.taps.push((place, shifts.flat([z.1, y.1, x.1])));
                }
            }
        }
        shifts
    }

    /// For windows that read the input.
    fn of_inputs(window: &Window) -> Shifts {
        Shifts::new(window, |axis| axis.output + axis.reach())
    }

    /// For the transpose: planes hold cotangents, and the largest shift comes before them.
    fn of_cotangents(window: &Window) -> Shifts {
        Shifts::new(window, |axis| {
            (axis.input + axis.padding).div_ceil(axis.stride) + axis.reach()
        })
    }

    /// Place of a position in a plane.
    fn flat(&self, [z, y, x]: [usize; 3]) -> usize {
        (z * self.axes[1].extent + y) * self.axes[2].extent + x
    }

    /// Elements of a plane.
    fn plane(&self) -> usize {
        self.axes.iter().map(|axis| axis.extent).product()
    }

    /// Elements from the first to the last of a box of positions that starts at a plane's start, in whole
    /// blocks.
    fn run(&self, extents: [usize; 3]) -> usize {
        let last = self.flat(extents.map(|extent| extent.saturating_sub(1)));
        (last + 1).next_multiple_of(BLOCKS[1])
    }

    fn outputs(&self) -> [usize; 3] {
        self.axes.each_ref().map(|axis| axis.output)
    }

    /// Calls `row(place in the plane, position in the input, length)` for the positions of a phase that lie in
    /// the input, a row along the last axis at a time.
    fn rows(&self, phase: [usize; 3], mut row: impl FnMut(usize, usize, usize)) {
        let [az, ay, ax] = &self.axes;
        let [cz, cy, cx] = [0, 1, 2].map(|k| self.axes[k].covered(phase[k]));
        if cx.first == cx.last {
            return;
        }
        for z in cz.first..cz.last {
            let iz = cz.input + (z - cz.first) * az.stride;
            for y in cy.first..cy.last {
                let iy = cy.input + (y - cy.first) * ay.stride;
                let input = (iz * ay.input + iy) * ax.input + cx.input;
                row(self.flat([z, y, cx.first]), input, cx.last - cx.first);
            }
        }
    }

    /// Copies a channel of the input into its phases; the rest of `planes` is zero and stays so.
    fn split<R: Real>(&self, input: &[R], planes: &mut [R]) {
        let (plane, stride) = (self.plane(), self.axes[2].stride);
        for (phase, planes) in self.phases.iter().zip(planes.chunks_mut(plane)) {
            self.rows(*phase, |to, from, length| {
                take_every(stride, &input[from..], &mut planes[to..to + length]);
            });
        }
    }

    /// Calls `row(place in the plane, position in the output, length)` for each row of the windows, placed
    /// `lead` behind the plane's start, as far as they lie in the plane.
    fn windows(&self, lead: [usize; 3], mut row: impl FnMut(usize, usize, usize)) {
        let [nz, ny, nx] = [0, 1, 2].map(|k| {
            let axis = &self.axes[k];
            axis.output.min(axis.extent.saturating_sub(lead[k]))
        });
        for z in 0..nz {
            for y in 0..ny {
                let output = (z * self.axes[1].output + y) * self.axes[2].output;
                row(self.flat([lead[0] + z, lead[1] + y, lead[2]]), output, nx);
            }
        }
    }
}

/// Takes every `stride`-th element; pairs, the commonest, in a loop that vectorises.
fn take_every<R: Real>(stride: usize, from: &[R], to: &mut [R]) {
    match stride {
        1 => to.iter_mut().zip(from).for_each(|(to, x)| *to = *x),
        2 => {
            let (pairs, rest) = from.as_chunks::<2>();
            let (whole, end) = to.split_at_mut(pairs.len().min(to.len()));
            whole.iter_mut().zip(pairs).for_each(|(to, x)| *to = x[0]);
            end.iter_mut().zip(rest).for_each(|(to, x)| *to = *x);
        }
        _ => {
            let from = from.iter().step_by(stride);
            to.iter_mut().zip(from).for_each(|(to, x)| *to = *x);
        }
    }
}

/// Writes to every `stride`-th element.
fn write_every<R: Real>(stride: usize, from: &[R], to: &mut [R]) {
    match stride {
        1 => to.iter_mut().zip(from).for_each(|(to, x)| *to = *x),
        _ => {
            let to = to.iter_mut().step_by(stride);
            to.zip(from).for_each(|(to, x)| *to = *x);
        }
    }
}

/// `run[p] = Σ weight·planes[p + offset]` over the taps (weight, offset).
struct Correlate<'a, R> {
    planes: &'a [R],
    taps: &'a [(R, usize)],
    run: &'a mut [R],
}

impl<R: Real> Correlate<'_, R> {
    #[inline(always)]
    fn block<const N: usize>(&mut self, start: usize) {
        let planes = &self.planes[start..];
        let mut sum = [R::default(); N];
        for &(weight, offset) in self.taps {
            for (sum, from) in sum.iter_mut().zip(&planes[offset..offset + N]) {
                *sum += weight * *from;
            }
        }
        self.run[start..start + N].copy_from_slice(&sum);
    }
}

impl<R: Real> pulp::NullaryFnOnce for Correlate<'_, R> {
    type Output = ();

    #[inline(always)]
    fn call(mut self) {
        let mut start = 0;
        while self.run.len() - start >= BLOCKS[0] {
            self.block::<{ BLOCKS[0] }>(start);
            start += BLOCKS[0];
        }
        while start < self.run.len() {
            self.block::<{ BLOCKS[1] }>(start);
            start += BLOCKS[1];
        }
    }
}

/// `Σ_p run[p]·planes[p + offsets[k]]` in parts, of every `BLOCKS[0]`-th position each.
struct Correlations<'a, R> {
    planes: &'a [R],
    run: &'a [R],
    offsets: &'a [usize],
    parts: &'a mut [R],
}

impl<R: Real> pulp::NullaryFnOnce for Correlations<'_, R> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let parts = self.parts.as_chunks_mut::<{ BLOCKS[0] }>().0;
        let (blocks, _) = self.run.as_chunks::<{ BLOCKS[0] }>();
        let rest = &self.run[blocks.len() * BLOCKS[0]..];
        for (parts, &offset) in parts.iter_mut().zip(self.offsets) {
            let planes = &self.planes[offset..offset + self.run.len()];
            let mut sum = [R::default(); BLOCKS[0]];
            for (run, planes) in blocks.iter().zip(planes.as_chunks::<{ BLOCKS[0] }>().0) {
                for k in 0..BLOCKS[0] {
                    sum[k] += run[k] * planes[k];
                }
            }
            let planes = &planes[blocks.len() * BLOCKS[0]..];
            for ((sum, run), planes) in sum.iter_mut().zip(rest).zip(planes) {
                *sum += *run * *planes;
            }
            *parts = sum;
        }
    }
}

/// Adds up the parts that [`Correlations`] left. Not inlined there: with the sums in sight the compiler orders the
/// products for them, at a third of the speed.
#[inline(never)]
fn add_parts<R: Real>(parts: &mut [R], into: &mut [R]) {
    for (into, parts) in into
        .iter_mut()
        .zip(parts.as_chunks_mut::<{ BLOCKS[0] }>().0)
    {
        let mut width = BLOCKS[0];
        while width > 1 {
            width /= 2;
            for k in 0..width {
                parts[k] += parts[k + width];
            }
        }
        *into += parts[0];
    }
}

/// What a thread works in: planes, a run, and parts of sums.
type Scratch<R> = (Vec<R>, Vec<R>, Vec<R>);

/// Runs `task(scratch, number, part)` on equal parts of an output, in parallel; `lengths` are those
/// of the scratch, zeros at first.
fn each_part<R: Real>(
    output: &mut [R],
    part: usize,
    work: usize,
    lengths: [usize; 3],
    task: impl Fn(&mut Scratch<R>, usize, &mut [R]) + Sync,
) {
    if output.is_empty() {
        return;
    }
    output
        .par_chunks_mut(part)
        .enumerate()
        .with_min_len((PARALLEL_WORK / work.max(1)).max(1))
        .for_each_init(
            || {
                let [planes, run, parts] = lengths.map(|len| vec![R::default(); len]);
                (planes, run, parts)
            },
            |scratch, (number, part)| task(scratch, number, part),
        );
}

/// As [`super::convolution::conv`].
pub(super) fn conv<R: Real>(
    inputs: &Tensor<R>,
    weights: &Tensor<R>,
    window: &Window,
    groups: usize,
) -> Tensor<R> {
    let (lead, outputs) = (inputs.shape.rest[0], weights.shape.rest[0]);
    let g = Geometry::new(window, groups, inputs.shape.rest[1], outputs);
    let directions = super::common(inputs.shape.directions, weights.shape.directions);
    let samples = inputs.shape.samples;
    let shape = operand_shape(samples, directions, lead, outputs, &window.output);
    let mut output = zeros(shape.len());
    let shifts = Shifts::of_inputs(window);
    let channel = shifts.phases.len() * shifts.plane();
    let (input, positions) = (g.input, g.positions);
    let arch = pulp::Arch::new();
    let offset = |c: usize, k: usize| {
        let (phase, shift) = shifts.taps[k];
        c * channel + phase * shifts.plane() + shift
    };
    let sizes = [
        g.channels * channel + SLACK,
        shifts.run(shifts.outputs()),
        0,
    ];
    each_part(
        &mut output,
        g.outputs * positions,
        g.work() / groups,
        sizes,
        |(planes, run, _), number, part| {
            let (unit, group) = (number / groups, number % groups);
            let (unit, b) = (unit / lead, unit % lead);
            let (s, d) = (unit / directions, unit % directions);
            let from = (inputs.unit(s, d) * lead + b) * groups + group;
            let from = &inputs.values()[from * g.channels * input..][..g.channels * input];
            for (from, planes) in from.chunks(input).zip(planes.chunks_mut(channel)) {
                shifts.split(from, planes);
            }
            let weight = (weights.unit(0, d) * groups + group) * g.outputs * g.rows();
            let weight = &weights.values()[weight..][..g.outputs * g.rows()];
            for (to, weight) in part.chunks_mut(positions).zip(weight.chunks(g.rows())) {
                let taps = weight.iter().enumerate();
                let taps = taps.map(|(k, w)| (*w, offset(k / g.taps, k % g.taps)));
                arch.dispatch(Correlate {
                    planes,
                    taps: &taps.collect::<Vec<_>>(),
                    run,
                });
                shifts.windows([0; 3], |from, at, length| {
                    to[at..at + length].copy_from_slice(&run[from..from + length]);
                });
            }
        },
    );
    Tensor::new(shape, output)
}

/// As [`super::convolution::conv_inputs`].
pub(super) fn conv_inputs<R: Real>(
    cotangents: &Tensor<R>,
    weights: &Tensor<R>,
    window: &Window,
    groups: usize,
) -> Tensor<R> {
    let (lead, outputs) = (cotangents.shape.rest[0], cotangents.shape.rest[1]);
    let channels = weights.shape.rest[1] * groups;
    let g = Geometry::new(window, groups, channels, outputs);
    let directions = super::common(cotangents.shape.directions, weights.shape.directions);
    let samples = cotangents.shape.samples;
    let shape = operand_shape(samples, directions, lead, channels, &window.input);
    let mut output = zeros(shape.len());
    let shifts = Shifts::of_cotangents(window);
    let plane = shifts.plane();
    let (input, positions) = (g.input, g.positions);
    let arch = pulp::Arch::new();
    let lead_in = shifts.axes.each_ref().map(Axis::reach);
    let origin = shifts.flat(lead_in);
    let sources = [0, 1, 2].map(|k| shifts.axes[k].extent - lead_in[k]);
    let sizes = [g.outputs * plane + SLACK, shifts.run(sources), 0];
    each_part(
        &mut output,
        g.channels * input,
        g.work() / groups,
        sizes,
        |(planes, run, _), number, part| {
            let (unit, group) = (number / groups, number % groups);
            let (unit, b) = (unit / lead, unit % lead);
            let (s, d) = (unit / directions, unit % directions);
            let from = (cotangents.unit(s, d) * lead + b) * groups + group;
            let from = &cotangents.values()[from * g.outputs * positions..];
            for (from, planes) in from
                .chunks(positions)
                .zip(planes.chunks_mut(plane))
                .take(g.outputs)
            {
                shifts.windows(lead_in, |to, at, length| {
                    planes[to..to + length].copy_from_slice(&from[at..at + length]);
                });
            }
            let weight = (weights.unit(0, d) * groups + group) * g.outputs * g.rows();
            let weight = &weights.values()[weight..][..g.outputs * g.rows()];
            let mut taps = Vec::new();
            for (c, to) in part.chunks_mut(input).enumerate() {
                for (place, phase) in shifts.phases.iter().enumerate() {
                    taps.clear();
                    for o in 0..g.outputs {
                        for (k, tap) in shifts.taps.iter().enumerate() {
                            if tap.0 == place {
                                let w = weight[o * g.rows() + c * g.taps + k];
                                taps.push((w, o * plane + origin - tap.1));
                            }
                        }
                    }
                    let taps = &taps;
                    arch.dispatch(Correlate { planes, taps, run });
                    let stride = shifts.axes[2].stride;
                    shifts.rows(*phase, |from, at, length| {
                        write_every(stride, &run[from..from + length], &mut to[at..]);
                    });
                }
            }
        },
    );
    Tensor::new(shape, output)
}

/// As [`super::convolution::conv_weights`].
pub(super) fn conv_weights<R: Real>(
    cotangents: &Tensor<R>,
    inputs: &Tensor<R>,
    window: &Window,
    groups: usize,
    sum_samples: bool,
) -> Tensor<R> {
    let (lead, outputs) = (cotangents.shape.rest[0], cotangents.shape.rest[1]);
    let g = Geometry::new(window, groups, inputs.shape.rest[1], outputs);
    let samples = super::common(cotangents.shape.samples, inputs.shape.samples);
    let directions = super::common(cotangents.shape.directions, inputs.shape.directions);
    let per_part = if sum_samples {
        samples.div_ceil(SAMPLE_PARTS).max(1)
    } else {
        1
    };
    let parts = samples.div_ceil(per_part);
    let shape = operand_shape(parts, directions, outputs, g.channels, &window.kernel);
    let mut output = zeros(shape.len());
    let shifts = Shifts::of_inputs(window);
    let channel = shifts.phases.len() * shifts.plane();
    let (input, positions) = (g.input, g.positions);
    let arch = pulp::Arch::new();
    let offsets: Vec<usize> = (0..g.rows())
        .map(|k| {
            let (phase, shift) = shifts.taps[k % g.taps];
            k / g.taps * channel + phase * shifts.plane() + shift
        })
        .collect();
    let sizes = [
        g.channels * channel + SLACK,
        shifts.run(shifts.outputs()),
        g.rows() * BLOCKS[0],
    ];
    each_part(
        &mut output,
        g.outputs * g.rows(),
        g.work() / groups * per_part * lead,
        sizes,
        |(planes, run, parts), number, part| {
            let (unit, group) = (number / groups, number % groups);
            let (first, d) = (unit / directions * per_part, unit % directions);
            for s in first..samples.min(first + per_part) {
                for b in 0..lead {
                    let from = (inputs.unit(s, d) * lead + b) * groups + group;
                    let from = &inputs.values()[from * g.channels * input..][..g.channels * input];
                    for (from, planes) in from.chunks(input).zip(planes.chunks_mut(channel)) {
                        shifts.split(from, planes);
                    }
                    let delta = (cotangents.unit(s, d) * lead + b) * groups + group;
                    let delta = &cotangents.values()[delta * g.outputs * positions..];
                    let deltas = delta.chunks(positions).zip(part.chunks_mut(g.rows()));
                    for (delta, into) in deltas {
                        shifts.windows([0; 3], |to, at, length| {
                            run[to..to + length].copy_from_slice(&delta[at..at + length]);
                        });
                        for (chunk, run) in run.chunks(CHUNK).enumerate() {
                            arch.dispatch(Correlations {
                                planes: &planes[chunk * CHUNK..],
                                run,
                                offsets: &offsets,
                                parts,
                            });
                            add_parts(parts, into);
                        }
                    }
                }
            }
        },
    );
    let partial = Tensor::new(shape, output);
    if sum_samples {
        super::convolution::sum_parts(partial)
    } else {
        partial
    }
}
