//! The patch matrix of a convolution (im2col) and its transpose: windows as columns, taps as rows.

use super::window::{Reach, reach};
use crate::tensor::{Real, Window};

/// Sizes of a convolution, per group.
pub(super) struct Geometry {
    window: Window,
    /// Groups.
    pub groups: usize,
    /// Input channels of a group.
    pub channels: usize,
    /// Output channels of a group.
    pub outputs: usize,
    /// Taps of the kernel.
    pub taps: usize,
    /// Positions of the output.
    pub positions: usize,
    /// Positions of the input.
    pub input: usize,
    /// Reach of every tap, per axis.
    reaches: [Vec<Reach>; 3],
}

impl Geometry {
    pub fn new(window: &Window, groups: usize, channels: usize, outputs: usize) -> Self {
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
    pub fn rows(&self) -> usize {
        self.channels * self.taps
    }

    /// Elements of the patch matrix of all groups.
    pub fn patches_len(&self) -> usize {
        self.groups * self.rows() * self.positions
    }

    /// Elements of one sample's input and of its output.
    pub fn units(&self) -> (usize, usize) {
        (
            self.groups * self.channels * self.input,
            self.groups * self.outputs * self.positions,
        )
    }

    /// Multiply-adds of one sample.
    pub fn work(&self) -> usize {
        self.groups * self.outputs * self.rows() * self.positions
    }

    /// Whether neighbouring windows are one position apart along every axis.
    pub fn has_step_one(&self) -> bool {
        self.window.stride.iter().all(|&stride| stride == 1)
    }

    /// Whether the patch matrix is the input itself.
    pub fn is_pointwise(&self) -> bool {
        let w = &self.window;
        self.taps == 1
            && w.input == w.output
            && self.has_step_one()
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
    pub fn patches<'a, R: Real>(&self, input: &'a [R], buffer: &'a mut Vec<R>) -> &'a [R] {
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
    pub fn fold<R: Real>(&self, patches: &[R], input: &mut [R]) {
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
