//! Convolutions of few channels per group, and their transposes, as one sum per output element: nothing is copied.
//!
//! Tiles of a product over one or two channels would idle, and padding is a range of the terms here.

use super::Gpu;
use super::axis::{Axis, broadcast, merge};
use super::conv::leading;
use super::kernel::{GroupedKernel, Kernel, THREADS};
use super::launch::Launch;
use super::params::{MAX_GROUPED_AXES, Words, grouped as params};
use super::tensor::GpuTensor;
use crate::tensor::{Shape, Window};

/// Terms per dispatch, which bounds the loops of an invocation, and those of one run along the last axis.
const TERM_RANGE: usize = 4096;
const RUN: usize = 256;

/// Axes before the spatial ones that the kernel for a number of them has: each costs a driver's compilation.
const AXIS_COUNTS: [usize; MAX_GROUPED_AXES + 1] = [2, 2, 2, 3, 5, 5];

/// One sum per output element, of products of `placed`, read through windows, and of `other`.
struct Sums {
    /// Reads windows and writes input positions.
    transposed: bool,
    /// Axes of the output before the spatial ones, with their steps in placed and other.
    lead: [Axis<2>; MAX_GROUPED_AXES],
    /// Axes summed over beside the spatial ones.
    summed: [Axis<2>; 2],
    /// Spatial extents of output, placed and other.
    places: [usize; 3],
    placed: [usize; 3],
    other: [usize; 3],
    padding: [usize; 3],
    /// Distance in placed of two places, and of two terms; the stride and the dilation where transposed.
    place_step: [usize; 3],
    step: [usize; 3],
}

/// Progress of the transposed sums along one axis: a window meets every `skip`-th tap at most, from the first that
/// fits, and windows follow each other `step` apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Meeting {
    skip: usize,
    step: usize,
    /// Greatest common divisor of stride and dilation: input positions that it does not divide meet no tap.
    divisor: usize,
    /// step · inverse = 1 modulo skip.
    inverse: usize,
}

impl Meeting {
    fn new(stride: usize, dilation: usize) -> Meeting {
        let (mut divisor, mut rest) = (stride, dilation);
        while rest > 0 {
            (divisor, rest) = (rest, divisor % rest);
        }
        let (skip, step) = (stride / divisor, dilation / divisor);
        let inverse = (0..skip).find(|k| k * (step % skip) % skip == 1 % skip);
        Meeting {
            skip,
            step,
            divisor,
            inverse: inverse.expect("they have no common divisor"),
        }
    }
}

/// Corners of the boxes that a box of terms is cut into, one per dispatch.
fn parts(extents: [usize; 5]) -> Vec<[[usize; 5]; 2]> {
    let mut sizes = [1; 5];
    let mut room = TERM_RANGE;
    for axis in (0..5).rev() {
        let most = if axis == 4 { RUN } else { room };
        sizes[axis] = extents[axis].min(most).max(1);
        room /= sizes[axis];
    }
    let mut corners = vec![[0; 5]];
    for axis in 0..5 {
        let along = |corner: &[usize; 5]| {
            let corner = *corner;
            (0..extents[axis]).step_by(sizes[axis]).map(move |at| {
                let mut corner = corner;
                corner[axis] = at;
                corner
            })
        };
        corners = corners.iter().flat_map(along).collect();
    }
    let stop = |from: [usize; 5]| {
        let stop = [0, 1, 2, 3, 4].map(|k| (from[k] + sizes[k]).min(extents[k]));
        [from, stop]
    };
    corners.into_iter().map(stop).collect()
}

fn three(extents: &[usize]) -> [usize; 3] {
    [0, 1, 2].map(|k| extents[k])
}

fn product(extents: [usize; 3]) -> i64 {
    extents.iter().product::<usize>() as i64
}

/// Steps of samples and directions in two tensors; 0 where they repeat.
fn steps(placed: &GpuTensor, other: &GpuTensor) -> [[i64; 2]; 2] {
    let of = |tensor: &GpuTensor| {
        let shape = &tensor.shape;
        leading(shape, shape.directions, shape.rest_len())
    };
    let (placed, other) = (of(placed), of(other));
    [0, 1].map(|k| [placed[k], other[k]])
}

/// Axes of an output before its spatial ones: samples and directions, and three more.
fn lead(
    shape: &Shape,
    placed: &GpuTensor,
    other: &GpuTensor,
    rest: [Axis<2>; 3],
) -> [Axis<2>; MAX_GROUPED_AXES] {
    let [samples, directions] = steps(placed, other);
    let [first, second, third] = rest;
    [
        Axis::new(shape.samples, samples),
        Axis::new(shape.directions, directions),
        first,
        second,
        third,
    ]
}

impl Gpu {
    fn sum_directly(
        &self,
        shape: Shape,
        placed: &GpuTensor,
        other: &GpuTensor,
        sums: &Sums,
    ) -> GpuTensor {
        let len = shape.len();
        self.create(shape, &[placed, other], |output, views| {
            let meetings = [0, 1, 2].map(|k| Meeting::new(sums.place_step[k], sums.step[k]));
            let (terms, step) = match sums.transposed {
                true => (
                    [0, 1, 2].map(|k| sums.other[k].div_ceil(meetings[k].skip)),
                    meetings.map(|meeting| meeting.step),
                ),
                false => (sums.other, sums.step),
            };
            let single = |meeting: &Meeting| meeting.skip * meeting.divisor == 1;
            let merged = merge(&sums.lead);
            let axes = AXIS_COUNTS[merged.len()];
            let mut lead = vec![Axis::new(1, [0; 2]); axes - merged.len()];
            lead.extend(merged);
            let kernel = GroupedKernel {
                transposed: sums.transposed,
                unit: step == [1; 3] && (!sums.transposed || meetings.iter().all(single)),
                axes,
            };
            let mut words = Words::new(len);
            words.set(params::PLACED_START, views[0].offset);
            words.set(params::OTHER_START, views[1].offset);
            words.set_axes(params::LEAD_AXES, &lead, 2);
            words.set_all(params::PLACES, &sums.places);
            words.set_all(params::PLACED, &sums.placed);
            words.set_all(params::OTHER, &sums.other);
            words.set_all(params::PADDING, &sums.padding);
            words.set_all(params::PLACE_STEP, &sums.place_step);
            words.set_all(params::STEP, &step);
            words.set_all(params::SKIP, &meetings.map(|meeting| meeting.skip));
            words.set_all(params::DIVISOR, &meetings.map(|m| m.divisor));
            words.set_all(params::INVERSE, &meetings.map(|m| m.inverse));
            let [a, b] = sums.summed;
            let steps = [a.strides, b.strides].concat();
            let steps: Vec<usize> = steps.iter().map(|&step| step as usize).collect();
            words.set_all(params::SUMMED, &steps);
            let terms = [a.extent, b.extent, terms[0], terms[1], terms[2]];
            for (number, [from, to]) in parts(terms).into_iter().enumerate() {
                words.set(params::ADD, usize::from(number > 0));
                words.set_all(params::FROM, &from);
                words.set_all(params::TO, &to);
                let here: usize = from.iter().zip(&to).map(|(from, to)| to - from).product();
                self.device.launch(Launch {
                    kernel: Kernel::Grouped(kernel),
                    inputs: &[views[0].buffer, views[1].buffer],
                    output: output.buffer,
                    beside: None,
                    words,
                    groups: len.div_ceil(THREADS) as u64,
                    // Finding the terms takes about as long as some of them.
                    work: (THREADS * (here + 8)) as f64,
                });
            }
            true
        })
    }

    /// `z[s, d, b, o, p] = Σ_c Σ_k x[s, d, b, c, p·stride + k·dilation − padding] · w[s, d, o, c, k]`, c of o's group.
    pub(super) fn grouped_forward(
        &self,
        shape: Shape,
        inputs: &GpuTensor,
        weights: &GpuTensor,
        window: &Window,
        groups: usize,
    ) -> GpuTensor {
        let w = window.three_dimensional();
        let (placed, other) = (three(&w.input), three(&w.kernel));
        let (input, taps) = (product(placed), product(other));
        let (channels, outputs) = (weights.shape.rest[1], weights.shape.rest[0] / groups);
        let (cg, og, g) = (channels as i64, outputs as i64, groups as i64);
        let sums = Sums {
            transposed: false,
            lead: lead(
                &shape,
                inputs,
                weights,
                [
                    Axis::new(shape.rest[0], [g * cg * input, 0]),
                    Axis::new(groups, [cg * input, og * cg * taps]),
                    Axis::new(outputs, [0, cg * taps]),
                ],
            ),
            summed: [Axis::new(1, [0; 2]), Axis::new(channels, [input, taps])],
            places: three(&w.output),
            placed,
            other,
            padding: three(&w.padding),
            place_step: three(&w.stride),
            step: three(&w.dilation),
        };
        self.sum_directly(shape, inputs, weights, &sums)
    }

    /// `x[s, d, b, c, q] = Σ_o Σ_{p, k} z[s, d, b, o, p] · w[s, d, o, c, k]`, o of c's group, where tap k of window p
    /// reads q.
    pub(super) fn grouped_inputs(
        &self,
        shape: Shape,
        cotangents: &GpuTensor,
        weights: &GpuTensor,
        window: &Window,
        groups: usize,
    ) -> GpuTensor {
        let w = window.three_dimensional();
        let (placed, other) = (three(&w.output), three(&w.kernel));
        let (output, taps) = (product(placed), product(other));
        let (channels, outputs) = (weights.shape.rest[1], weights.shape.rest[0] / groups);
        let (cg, og, g) = (channels as i64, outputs as i64, groups as i64);
        let sums = Sums {
            transposed: true,
            lead: lead(
                &shape,
                cotangents,
                weights,
                [
                    Axis::new(shape.rest[0], [g * og * output, 0]),
                    Axis::new(groups, [og * output, og * cg * taps]),
                    Axis::new(channels, [0, taps]),
                ],
            ),
            summed: [
                Axis::new(1, [0; 2]),
                Axis::new(outputs, [output, cg * taps]),
            ],
            places: three(&w.input),
            placed,
            other,
            padding: three(&w.padding),
            place_step: three(&w.stride),
            step: three(&w.dilation),
        };
        self.sum_directly(shape, cotangents, weights, &sums)
    }

    /// `w[s, d, o, c, k] = Σ_b Σ_p z[s, d, b, o, p] · x[s, d, b, c, p·stride + k·dilation − padding]`, c of o's group;
    /// summed over samples too where `shape` has fewer.
    pub(super) fn grouped_weights(
        &self,
        shape: Shape,
        inputs: &GpuTensor,
        cotangents: &GpuTensor,
        window: &Window,
        groups: usize,
    ) -> GpuTensor {
        let w = window.three_dimensional();
        let (placed, other) = (three(&w.input), three(&w.output));
        let (input, output) = (product(placed), product(other));
        let (channels, outputs) = (shape.rest[1], shape.rest[0] / groups);
        let (cg, og, g) = (channels as i64, outputs as i64, groups as i64);
        let samples = broadcast(inputs.shape.samples, cotangents.shape.samples);
        let summed = samples / shape.samples.max(1);
        let sums = Sums {
            transposed: false,
            lead: lead(
                &shape,
                inputs,
                cotangents,
                [
                    Axis::new(groups, [cg * input, og * output]),
                    Axis::new(outputs, [0, output]),
                    Axis::new(channels, [input, 0]),
                ],
            ),
            summed: [
                Axis::new(summed, steps(inputs, cotangents)[0]),
                Axis::new(inputs.shape.rest[0], [g * cg * input, g * og * output]),
            ],
            places: three(&w.kernel),
            placed,
            other,
            padding: three(&w.padding),
            place_step: three(&w.dilation),
            step: three(&w.stride),
        };
        self.sum_directly(shape, inputs, cotangents, &sums)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taps_meet_windows_where_the_first_and_the_skip_say() {
        for (stride, dilation) in [
            (1, 1),
            (1, 3),
            (2, 1),
            (3, 2),
            (4, 6),
            (6, 4),
            (5, 5),
            (2, 6),
        ] {
            let m = Meeting::new(stride, dilation);
            for reach in 0..40 {
                let meets = |tap: usize| {
                    reach >= tap * dilation && (reach - tap * dilation).is_multiple_of(stride)
                };
                let first = reach / m.divisor % m.skip * m.inverse % m.skip;
                for tap in 0..20 {
                    let expected =
                        reach % m.divisor == 0 && tap % m.skip == first && reach >= tap * dilation;
                    assert_eq!(meets(tap), expected, "{stride} {dilation} {reach} {tap}");
                }
            }
        }
    }

    #[test]
    fn parts_cover_every_term_once_within_the_limits() {
        for extents in [
            [1, 1, 1, 5, 5],
            [7, 3, 1, 28, 28],
            [1, 2, 3, 1, 9001],
            [70_000, 1, 1, 1, 1],
            [1, 1, 5, 300, 300],
        ] {
            let parts = parts(extents);
            let size = |[from, to]: &[[usize; 5]; 2]| {
                (0..5).map(|k| to[k] - from[k]).collect::<Vec<usize>>()
            };
            let mut all = 0;
            for part in &parts {
                let size = size(part);
                // Trips of the loops, each with its exit test.
                let trips = size
                    .iter()
                    .rev()
                    .fold(0, |inner, axis| axis * (inner + 1) + 1);
                assert!(trips <= 60_000 && size[4] <= RUN, "{size:?}: {trips}");
                all += size.iter().product::<usize>();
            }
            assert_eq!(all, extents.iter().product::<usize>());
            assert_eq!(parts[0][0], [0; 5]);
        }
    }
}
