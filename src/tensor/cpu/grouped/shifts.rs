//! Planes behind their padding, cut into the phases of the stride, and the taps as shifts within them.

use super::BLOCK;
use crate::tensor::{Real, Window};

/// Sizes along one axis.
pub(super) struct Axis {
    pub stride: usize,
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
    pub fn reach(&self) -> usize {
        self.taps.iter().map(|tap| tap.1).max().unwrap_or(0)
    }

    /// Positions of a phase that the transpose computes.
    pub fn sources(&self) -> usize {
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
pub(super) struct Shifts {
    pub axes: [Axis; 3],
    /// Phases that some tap reads, per axis of the stride.
    pub phases: Vec<[usize; 3]>,
    /// Per tap: its phase's place among `phases`, and its shift within a plane.
    pub taps: Vec<(usize, usize)>,
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
    pub fn of_inputs(window: &Window) -> Shifts {
        Shifts::new(window, |axis| axis.output + axis.reach())
    }

    /// For the transpose: planes hold cotangents, whose rows are as far apart as the largest shift reaches.
    pub fn of_cotangents(window: &Window) -> Shifts {
        Shifts::new(window, |axis| {
            (axis.output + axis.reach()).max(axis.sources())
        })
    }

    /// Place of a position in a plane.
    pub fn flat(&self, [z, y, x]: [usize; 3]) -> usize {
        (z * self.axes[1].extent + y) * self.axes[2].extent + x
    }

    /// Elements of a plane.
    pub fn plane(&self) -> usize {
        self.axes.iter().map(|axis| axis.extent).product()
    }

    /// Elements from the first to the last of a box of positions that starts at a plane's start, in whole
    /// blocks.
    pub fn run(&self, extents: [usize; 3]) -> usize {
        let last = self.flat(extents.map(|extent| extent.saturating_sub(1)));
        (last + 1).next_multiple_of(BLOCK)
    }

    /// Extents of the output.
    pub fn outputs(&self) -> [usize; 3] {
        self.axes.each_ref().map(|axis| axis.output)
    }

    /// Calls `row(place in the plane, position in the input, length)` for the positions of a phase that lie in
    /// the input, a row along the last axis at a time.
    pub fn rows(&self, phase: [usize; 3], mut row: impl FnMut(usize, usize, usize)) {
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
    pub fn split<R: Real>(&self, input: &[R], planes: &mut [R]) {
        let (plane, stride) = (self.plane(), self.axes[2].stride);
        for (phase, planes) in self.phases.iter().zip(planes.chunks_mut(plane)) {
            self.rows(*phase, |to, from, length| {
                take_every(stride, &input[from..], &mut planes[to..to + length]);
            });
        }
    }

    /// Calls `row(place in the plane, position in the output, length)` for each row of the windows.
    pub fn windows(&self, mut row: impl FnMut(usize, usize, usize)) {
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
pub(super) fn write_every<R: Real>(stride: usize, from: &[R], to: &mut [R]) {
    match stride {
        1 => to.iter_mut().zip(from).for_each(|(to, x)| *to = *x),
        _ => {
            let to = to.iter_mut().step_by(stride);
            to.zip(from).for_each(|(to, x)| *to = *x);
        }
    }
}
