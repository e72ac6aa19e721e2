//! Convolutions of few channels, without matrices: a tap is a shift of the whole plane.
//!
//! A plane is copied behind its padding, cut into the phases of the stride: what tap k of window o reads is
//! element o + k·dilation / stride of phase k·dilation % stride. Windows keep the pitch of that copy, so that
//! all of them form one run, and a tap multiplies the same run at another offset.

use super::Tensor;
use super::convolution::{SAMPLE_PARTS, operand_shape};
use super::matrix::PARALLEL_WORK;
use super::patches::Geometry;
use super::pool::{unwritten, zeroed};
use crate::tensor::{Real, Window};
use rayon::prelude::*;

/// A run is in whole blocks of this many positions, computed together in registers; what it reads past the last
/// plane is less.
const BLOCK: usize = 32;
/// Positions whose products are added up in registers, 256 in each of single precision: sums stay short.
const CHUNK: usize = 64 * BLOCK;
/// Bytes of the widest registers that the tiles below are made for.
const REGISTER: usize = 32;

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

    /// Positions of a phase that the transpose computes.
    fn sources(&self) -> usize {
        (self.input + self.padding).div_ceil(self.stride)
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

    /// For the transpose: planes hold cotangents, whose rows are as far apart as the largest shift reaches.
    fn of_cotangents(window: &Window) -> Shifts {
        Shifts::new(window, |axis| {
            (axis.output + axis.reach()).max(axis.sources())
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
        (last + 1).next_multiple_of(BLOCK)
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

    /// Calls `row(place in the plane, position in the output, length)` for each row of the windows.
    fn windows(&self, mut row: impl FnMut(usize, usize, usize)) {
        let [nz, ny, nx] = self.outputs();
        for z in 0..nz {
            for y in 0..ny {
                row(self.flat([z, y, 0]), (z * ny + y) * nx, nx);
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

/// How many of `left` rows are computed together: those that share a load best, in as many registers as there are.
fn together(left: usize) -> usize {
    match left {
        0..=4 => left,
        5 => 3,
        7 => 4,
        _ if left.is_multiple_of(4) => 4,
        _ => 6,
    }
}

/// Appends the weights `of(row, tap)` in the order in which [`Correlate`] reads them: the rows computed together
/// side by side.
fn pack<R>(rows: usize, taps: usize, of: impl Fn(usize, usize) -> R, into: &mut Vec<R>) {
    let mut first = 0;
    while first < rows {
        let count = together(rows - first);
        for tap in 0..taps {
            into.extend((first..first + count).map(|row| of(row, tap)));
        }
        first += count;
    }
}

/// `runs[m, p] = Σ_k weights[k, m]·planes[p + offsets[k]]`, N positions at a time.
///
/// A kernel of its own for each M and N: of several in one function the compiler leaves the sums in memory, and it
/// does so with 2 × 32 in any (20 times as slow).
struct Correlate<'a, R, const M: usize, const N: usize> {
    planes: &'a [R],
    weights: &'a [R],
    offsets: &'a [usize],
    runs: &'a mut [R],
}

impl<R: Real, const M: usize, const N: usize> pulp::NullaryFnOnce for Correlate<'_, R, M, N> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let weights = self.weights.as_chunks::<M>().0;
        let run = self.runs.len() / M;
        for start in (0..run).step_by(N) {
            let planes = &self.planes[start..];
            let mut sums = [[R::default(); N]; M];
            for (weights, &offset) in weights.iter().zip(self.offsets) {
                let from: [R; N] = array(&planes[offset..]);
                for m in 0..M {
                    for n in 0..N {
                        sums[m][n] += weights[m] * from[n];
                    }
                }
            }
            for (m, sums) in sums.iter().enumerate() {
                self.runs[m * run + start..][..N].copy_from_slice(sums);
            }
        }
    }
}

/// The first N numbers.
#[inline(always)]
fn array<R: Copy, const N: usize>(values: &[R]) -> [R; N] {
    *values.first_chunk().expect("runs are in whole blocks")
}

/// `runs[row, p] = Σ_k weights[row, k]·planes[p + offsets[k]]`, with weights from [`pack`].
fn correlate<R: Real>(
    arch: pulp::Arch,
    planes: &[R],
    weights: &[R],
    offsets: &[usize],
    rows: usize,
    runs: &mut [R],
) {
    let run = runs.len() / rows;
    let taps = offsets.len();
    let mut first = 0;
    while first < rows {
        let count = together(rows - first);
        let weights = &weights[first * taps..][..count * taps];
        let runs = &mut runs[first * run..][..count * run];
        macro_rules! kernel {
            ($m:literal, $n:literal) => {
                arch.dispatch(Correlate::<R, $m, $n> {
                    planes,
                    weights,
                    offsets,
                    runs,
                })
            };
        }
        // Two registers of positions a row; four where no other row's sums fill the time until an addition is done.
        match (count, lanes::<R>()) {
            (6, 8) => kernel!(6, 16),
            (6, _) => kernel!(6, 8),
            (4, 8) => kernel!(4, 16),
            (4, _) => kernel!(4, 8),
            (3, 8) => kernel!(3, 16),
            (3, _) => kernel!(3, 8),
            (2, 8) => kernel!(2, 16),
            (2, _) => kernel!(2, 8),
            (_, 8) => kernel!(1, 32),
            (_, _) => kernel!(1, 16),
        }
        first += count;
    }
}

/// `parts[m, k, lane] += Σ_p runs[m, p]·planes[p + offsets[k]]` over every p of the lane, for M rows, K taps at a
/// time and N lanes.
struct Correlations<'a, R, const M: usize, const K: usize, const N: usize> {
    planes: &'a [R],
    runs: &'a [R],
    offsets: &'a [usize],
    /// The first offset's tap: `parts` are of all.
    first: usize,
    parts: &'a mut [R],
}

impl<R: Real, const M: usize, const K: usize, const N: usize> pulp::NullaryFnOnce
    for Correlations<'_, R, M, K, N>
{
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let run = self.runs.len() / M;
        let row = self.parts.len() / M;
        for (tap, offsets) in self.offsets.as_chunks::<K>().0.iter().enumerate() {
            for chunk in (0..run).step_by(CHUNK) {
                let length = CHUNK.min(run - chunk);
                let runs: [&[R]; M] =
                    std::array::from_fn(|m| &self.runs[m * run + chunk..][..length]);
                let planes: [&[R]; K] =
                    std::array::from_fn(|k| &self.planes[offsets[k] + chunk..][..length]);
                let mut sums = [[[R::default(); N]; K]; M];
                for start in (0..length).step_by(N) {
                    let runs: [[R; N]; M] = std::array::from_fn(|m| array(&runs[m][start..]));
                    let planes: [[R; N]; K] = std::array::from_fn(|k| array(&planes[k][start..]));
                    for m in 0..M {
                        for k in 0..K {
                            for n in 0..N {
                                sums[m][k][n] += runs[m][n] * planes[k][n];
                            }
                        }
                    }
                }
                for (m, sums) in sums.iter().enumerate() {
                    let parts = &mut self.parts[m * row + (self.first + tap * K) * N..][..K * N];
                    for (part, sum) in parts.iter_mut().zip(sums.as_flattened()) {
                        *part += *sum;
                    }
                }
            }
        }
    }
}

/// `parts[row, k, lane] += Σ_p runs[row, p]·planes[p + offsets[k]]` over every p of the lane, a register's.
fn correlations<R: Real>(
    arch: pulp::Arch,
    planes: &[R],
    offsets: &[usize],
    rows: usize,
    runs: &[R],
    parts: &mut [R],
) {
    let run = runs.len() / rows;
    let row = parts.len() / rows;
    let (fours, ones) = offsets.split_at(offsets.len() - offsets.len() % 4);
    for (runs, parts) in runs.chunks(2 * run).zip(parts.chunks_mut(2 * row)) {
        macro_rules! kernels {
            ($m:literal, $n:literal) => {{
                arch.dispatch(Correlations::<R, $m, 4, $n> {
                    planes,
                    runs,
                    offsets: fours,
                    first: 0,
                    parts,
                });
                arch.dispatch(Correlations::<R, $m, 1, $n> {
                    planes,
                    runs,
                    offsets: ones,
                    first: fours.len(),
                    parts,
                });
            }};
        }
        match (parts.len() > row, lanes::<R>()) {
            (true, 8) => kernels!(2, 8),
            (true, _) => kernels!(2, 4),
            (false, 8) => kernels!(1, 8),
            (false, _) => kernels!(1, 4),
        }
    }
}

/// Numbers in a register.
fn lanes<R>() -> usize {
    REGISTER / size_of::<R>()
}

/// Adds up the lanes that [`Correlations`] left. Not inlined there: with the sums in sight the compiler orders the
/// products for them, at a third of the speed.
#[inline(never)]
fn add_lanes<R: Real>(parts: &mut [R], into: &mut [R]) {
    for (into, parts) in into.iter_mut().zip(parts.chunks_mut(lanes::<R>())) {
        let mut width = parts.len();
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
    let mut output = unwritten(shape.len());
    let shifts = Shifts::of_inputs(window);
    let channel = shifts.phases.len() * shifts.plane();
    let (input, positions) = (g.input, g.positions);
    let arch = pulp::Arch::new();
    let offset = |c: usize, k: usize| {
        let (phase, shift) = shifts.taps[k];
        c * channel + phase * shifts.plane() + shift
    };
    let sizes = [
        g.channels * channel + BLOCK,
        g.outputs * shifts.run(shifts.outputs()),
        0,
    ];
    let offsets: Vec<usize> = (0..g.rows())
        .map(|k| offset(k / g.taps, k % g.taps))
        .collect();
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
    // Per phase: where (o, tap) reads, and which of the weights it is.
    let phases: Vec<(Vec<usize>, Vec<usize>)> = (0..shifts.phases.len())
        .map(|place| {
            let taps = shifts.taps.iter().enumerate();
            let taps: Vec<(usize, usize)> = taps
                .filter(|(_, tap)| tap.0 == place)
                .map(|(k, tap)| (k, tap.1))
                .collect();
            let all = (0..g.outputs).flat_map(|o| taps.iter().map(move |tap| (o, *tap)));
            all.map(|(o, (k, shift))| (o * plane + origin - shift, o * g.rows() + k))
                .unzip()
        })
        .collect();
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
    let per_part = if sum_samples {
        samples.div_ceil(SAMPLE_PARTS).max(1)
    } else {
        1
    };
    let parts = samples.div_ceil(per_part);
    let shape = operand_shape(parts, directions, outputs, g.channels, &window.kernel);
    let mut output = zeroed(shape.len());
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
        super::convolution::sum_parts(partial)
    } else {
        partial
    }
}
