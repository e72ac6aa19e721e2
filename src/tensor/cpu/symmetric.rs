//! Outer × outer of a site with itself: both symmetries of the product used (DESIGN §2, §7).
//!
//! With one P symmetric in (o, o') and a = a', the block of (o, o') is `Aᵀ diag(P[o, o']) A`, symmetric in
//! (i, i'), and that of (o', o) is the same block. So each pair o ≤ o' is computed once, its lower half only, in a
//! buffer that stays in the second-level cache, and added to both places.

use super::matrix::{Axis, Tiles, View, multiply};
use crate::tensor::Real;
use faer::MatMut;

/// Columns of the lower half computed by one product; what it computes above the diagonal is thrown away.
const PANEL: usize = 32;
/// Side of the squares in which the lower half is mirrored.
const SQUARE: usize = 16;
/// Inputs from which a pair is worth its own products; below, several pairs share one.
const LEAST_INPUTS: usize = 48;

/// A diagonal outer product.
pub(super) struct Symmetric<'a, R> {
    /// P, `[samples, O, O]`, symmetric in its last axes.
    pub pairs: &'a [R],
    /// Step of P per sample; 0 where samples share it.
    pub pair_stride: usize,
    pub samples: usize,
    /// a, `[samples, I]`.
    pub inputs: &'a [R],
    /// Step of a per sample; 0 where samples share it.
    pub input_stride: usize,
    /// I.
    pub extent: usize,
    /// O.
    pub outputs: usize,
}

/// Whether blocks of so many inputs are worth the way of this file.
pub(super) fn pays(inputs: usize) -> bool {
    inputs >= LEAST_INPUTS
}

/// Whether P `[samples, O, O]` equals its transpose exactly (a product of Δ with itself does): N·O² comparisons where the product takes
/// N·O²·I² multiply-adds.
pub(super) fn is_symmetric<R: Real>(pairs: &[R], outputs: usize) -> bool {
    pairs.chunks(outputs * outputs).all(|pair| {
        (0..outputs).all(|o| (0..o).all(|p| pair[o * outputs + p] == pair[p * outputs + o]))
    })
}

impl<R: Real> Symmetric<'_, R> {
    /// Adds to a tile whose rows and columns of (o, i) are `o·output_step + i`, its rows `width` apart.
    pub fn add_to(&self, tile: &mut [R], output_step: usize, width: usize) {
        let outputs = [output_step * width, output_step].map(|step| Axis::new(self.outputs, step));
        let (rows, columns) = (Axis::new(self.extent, width), Axis::new(self.extent, 1));
        let tiles = Tiles::new(tile, &outputs, rows, columns);
        let scratch = || {
            let extent = self.extent;
            (
                vec![R::default(); self.samples * extent],
                vec![R::default(); extent * extent],
            )
        };
        tiles.for_each_pair(scratch, |(scaled, block), (o, p), upper, lower| {
            self.block(o, p, scaled, block);
            add(block, upper);
            if let Some(lower) = lower {
                add(block, lower);
            }
        });
    }

    /// Aᵀ diag(P[o, p]) A in `block`, both halves.
    fn block(&self, o: usize, p: usize, scaled: &mut [R], block: &mut [R]) {
        let extent = self.extent;
        for (sample, row) in scaled.chunks_mut(extent).enumerate() {
            let weight = self.pairs[sample * self.pair_stride + o * self.outputs + p];
            let inputs = &self.inputs[sample * self.input_stride..];
            for (t, a) in row.iter_mut().zip(inputs) {
                *t = weight * *a;
            }
        }
        let samples = Axis::new(self.samples, self.input_stride);
        let fixed = View::new(self.inputs, samples, Axis::new(extent, 1));
        let samples = Axis::new(self.samples, extent);
        let scaled = View::new(scaled, samples, Axis::new(extent, 1));
        for first in (0..extent).step_by(PANEL) {
            let last = extent.min(first + PANEL);
            // Column-major, so that the panel's rows below `first` are contiguous in each column.
            let to = &mut block[first * extent + first..];
            let rows = extent - first;
            let to = &mut to[..(last - first - 1) * extent + rows];
            let panel =
                MatMut::from_column_major_slice_with_stride_mut(to, rows, last - first, extent);
            let fixed = fixed.columns(first, extent).transpose();
            multiply(panel, false, fixed, scaled.columns(first, last), false);
        }
        // The lower half to the upper one, square by square.
        for row in (0..extent).step_by(SQUARE) {
            for column in (0..=row).step_by(SQUARE) {
                for r in row..extent.min(row + SQUARE) {
                    for c in column..r.min(column + SQUARE) {
                        block[r * extent + c] = block[c * extent + r];
                    }
                }
            }
        }
    }
}

/// Adds a symmetric block to its place.
fn add<R: Real>(block: &[R], mut place: MatMut<'_, R>) {
    let extent = place.nrows();
    for (row, from) in block.chunks(extent).enumerate() {
        let to = place.as_mut().row_mut(row).try_as_row_major_mut();
        let to = to.expect("inputs are next to each other").as_slice_mut();
        for (t, x) in to.iter_mut().zip(from) {
            *t += *x;
        }
    }
}
