//! Convolutions of few channels, without matrices: a tap is a shift of the whole plane.
//!
//! A plane is copied behind its padding, cut into the phases of the stride: what tap k of window o reads is
//! element o + k·dilation / stride of phase k·dilation % stride. Windows keep the pitch of that copy, so that
//! all of them form one run, and a tap multiplies the same run at another offset.

mod correlate;
mod shifts;

use super::Tensor;
use super::convolution::{operand_shape, sample_parts, sum_parts};
use super::matrix::PARALLEL_WORK;
use super::patches::Geometry;
use super::pool::{unwritten, zeroed};
use crate::tensor::{Real, Window};
use correlate::{add_lanes, correlate, correlations, lanes, pack};
use rayon::prelude::*;
use shifts::{Axis, Shifts, write_every};

/// A run is in whole blocks of this many positions, computed together in registers; what it reads past the last
/// plane is less.
const BLOCK: usize = 32;

/// Whether a convolution, or its transpose in the inputs, is faster here than as products of matrices.
///
/// In groups up to 4 × 4 channels each (measured at 28×28 and 7×7, 3×3 taps; at 8 × 8 the products win). Of one
/// group up to 16 × 16, where the products are too small for faer and their patches cost as much (measured on
/// LeNet-5's, 1 → 6 channels at 28×28 and 6 → 16 at 12×12).
pub(super) fn suits(geometry: &Geometry) -> bool {
    if geometry.work() == 0 || geometry.input == 0 {
        return false;
    }
    if geometry.groups > 1 {
        return geometry.channels * geometry.outputs <= 16;
    }
    geometry.channels.max(geometry.outputs) <= 16 && geometry.has_step_one()
}

/// The same of the transpose in the weights: on small planes and with many directions, which they take all at
/// once, the products win (measured at 14×14 and 28×28).
pub(super) fn suits_weights(geometry: &Geometry, directions: usize) -> bool {
    if geometry.groups > 1 {
        return suits(geometry)
            && geometry.channels * geometry.outputs <= 4
            && geometry.positions >= 400;
    }
    suits(geometry) && directions == 1
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

/// Where tap k of channel c starts to read, for every (c, k), with a channel's phases one after another.
fn tap_offsets(g: &Geometry, shifts: &Shifts) -> Vec<usize> {
    let channel = shifts.phases.len() * shifts.plane();
    let offset = |row: usize| {
        let (phase, shift) = shifts.taps[row % g.taps];
        row / g.taps * channel + phase * shifts.plane() + shift
    };
    (0..g.rows()).map(offset).collect()
}

/// Per phase of the inputs, for every (output o, tap) that reads it: where it starts to read in the planes of
/// cotangents, and which of a group's weights it is multiplied with. `origin` elements precede each plane.
fn phase_reads(g: &Geometry, shifts: &Shifts, origin: usize) -> Vec<(Vec<usize>, Vec<usize>)> {
    let plane = origin + shifts.plane();
    let reads = |place: usize| {
        let taps = shifts.taps.iter().enumerate();
        let taps: Vec<(usize, usize)> = taps
            .filter(|(_, tap)| tap.0 == place)
            .map(|(k, tap)| (k, tap.1))
            .collect();
        let all = (0..g.outputs).flat_map(|o| taps.iter().map(move |tap| (o, *tap)));
        all.map(|(o, (k, shift))| (o * plane + origin - shift, o * g.rows() + k))
            .unzip()
    };
    (0..shifts.phases.len()).map(reads).collect()
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
    let mut output = unwritten(shape.len());
    let shifts = Shifts::of_inputs(window);
    let channel = shifts.phases.len() * shifts.plane();
    let (input, positions) = (g.input, g.positions);
    let arch = pulp::Arch::new();
    let sizes = [
        g.channels * channel + BLOCK,
        g.outputs * shifts.run(shifts.outputs()),
        0,
    ];
    let offsets = tap_offsets(&g, &shifts);
    let per_group = g.outputs * g.rows();
    let mut packed = Vec::with_capacity(weights.values().len());
    for weights in weights.values().chunks(per_group) {
        pack(
            g.outputs,
            g.rows(),
            |o, k| weights[o * g.rows() + k],
            &mut packed,
        );
    }
    each_part(
        &mut output,
        g.outputs * positions,
        g.work() / groups,
        sizes,
        |(planes, runs, _), number, part| {
            let (unit, group) = (number / groups, number % groups);
            let (unit, b) = (unit / lead, unit % lead);
            let (s, d) = (unit / directions, unit % directions);
            let from = (inputs.unit(s, d) * lead + b) * groups + group;
            let from = &inputs.values()[from * g.channels * input..][..g.channels * input];
            for (from, planes) in from.chunks(input).zip(planes.chunks_mut(channel)) {
                shifts.split(from, planes);
            }
            let group = weights.unit(0, d) * groups + group;
            let weights = &packed[group * per_group..][..per_group];
            correlate(arch, planes, weights, &offsets, g.outputs, runs);
            let run = runs.len() / g.outputs;
            for (to, run) in part.chunks_mut(positions).zip(runs.chunks(run)) {
                shifts.windows(|from, at, length| {
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
    let mut output = zeroed(shape.len());
    let shifts = Shifts::of_cotangents(window);
    // A shift by more than a position's place in its row reaches into the gap behind the row before.
    let origin = shifts.flat(shifts.axes.each_ref().map(Axis::reach));
    let plane = origin + shifts.plane();
    let (input, positions) = (g.input, g.positions);
    let arch = pulp::Arch::new();
    let sources = shifts.axes.each_ref().map(Axis::sources);
    let sizes = [
        g.outputs * plane + BLOCK,
        g.channels * shifts.run(sources),
        0,
    ];
    let phases = phase_reads(&g, &shifts, origin);
    let per_group = g.outputs * g.rows();
    let mut packed = Vec::with_capacity(weights.values().len());
    for weights in weights.values().chunks(per_group) {
        for (offsets, entries) in &phases {
            let of = |c: usize, k: usize| weights[entries[k] + c * g.taps];
            pack(g.channels, offsets.len(), of, &mut packed);
        }
    }
    each_part(
        &mut output,
        g.channels * input,
        g.work() / groups,
        sizes,
        |(planes, runs, _), number, part| {
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
                let plane = &mut planes[origin..];
                shifts.windows(|to, at, length| {
                    plane[to..to + length].copy_from_slice(&from[at..at + length]);
                });
            }
            let group = weights.unit(0, d) * groups + group;
            let mut packed = &packed[group * per_group..][..per_group];
            let run = runs.len() / g.channels;
            for (phase, (offsets, _)) in shifts.phases.iter().zip(&phases) {
                let (weights, rest) = packed.split_at(g.channels * offsets.len());
                packed = rest;
                correlate(arch, planes, weights, offsets, g.channels, runs);
                let stride = shifts.axes[2].stride;
                for (to, run) in part.chunks_mut(input).zip(runs.chunks(run)) {
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
    let (parts, per_part) = sample_parts(samples, sum_samples);
    let shape = operand_shape(parts, directions, outputs, g.channels, &window.kernel);
    let mut output = zeroed(shape.len());
    let shifts = Shifts::of_inputs(window);
    let channel = shifts.phases.len() * shifts.plane();
    let (input, positions) = (g.input, g.positions);
    let arch = pulp::Arch::new();
    let offsets = tap_offsets(&g, &shifts);
    let sizes = [
        g.channels * channel + BLOCK,
        g.outputs * shifts.run(shifts.outputs()),
        g.outputs * g.rows() * lanes::<R>(),
    ];
    each_part(
        &mut output,
        g.outputs * g.rows(),
        g.work() / groups * per_part * lead,
        sizes,
        |(planes, runs, parts), number, part| {
            let (unit, group) = (number / groups, number % groups);
            let (first, d) = (unit / directions * per_part, unit % directions);
            let run = runs.len() / g.outputs;
            parts.fill(R::default());
            for s in first..samples.min(first + per_part) {
                for b in 0..lead {
                    let from = (inputs.unit(s, d) * lead + b) * groups + group;
                    let from = &inputs.values()[from * g.channels * input..][..g.channels * input];
                    for (from, planes) in from.chunks(input).zip(planes.chunks_mut(channel)) {
                        shifts.split(from, planes);
                    }
                    let delta = (cotangents.unit(s, d) * lead + b) * groups + group;
                    let delta = &cotangents.values()[delta * g.outputs * positions..];
                    for (delta, run) in delta.chunks(positions).zip(runs.chunks_mut(run)) {
                        shifts.windows(|to, at, length| {
                            run[to..to + length].copy_from_slice(&delta[at..at + length]);
                        });
                    }
                    correlations(arch, planes, &offsets, g.outputs, runs, parts);
                }
            }
            add_lanes(parts, part);
        },
    );
    let partial = Tensor::new(shape, output);
    if sum_samples {
        sum_parts(partial)
    } else {
        partial
    }
}
