//! Outer × outer and outer × dense: `Σ_n P_n[o, o'] a_n[i] a'_n[i']` with `P_n[o, o'] = Σ_r Δ_n[r, o] Δ'_n[r, o']` (DESIGN §2).
//!
//! One side stays as it is, packed once; for each of its outputs the other side's inputs are scaled by P_n while they are
//! packed, samples whose P_n is zero left out, and a plain product of inner dimension N follows. P is never formed whole.
//! Of a site with itself the block of a pair of outputs is symmetric in (i, i'), and the same for (o', o).

use super::block::{BLOCK, Packs, Shape, Worker, blocks, depths, room, work};
use super::panels::{Geometry, pack, scale};
use super::places::Place;
use crate::tensor::cpu::{Tensor, common, pick};
use crate::tensor::{MirrorRule, OuterAxes, OuterTerm, Placement, Real, Scaled};
use std::ops::Range;

/// Samples taken together: their packed inputs stay small, whatever their number.
const TURN: usize = 4096;
/// Inputs from which an output of the scaled side has blocks of its own; those of less share them.
const OWN_BLOCK: usize = 48;
/// Outputs of the scaled side in a task.
const OUTPUTS: usize = 16;
/// Share of the samples, of 16, that must be left out for it to pay.
const SKIPPED: usize = 2;

/// One side of the product.
struct Side<'a, R> {
    /// Δ of each sample, and the step of its directions.
    cotangents: Vec<(&'a [R], usize)>,
    /// a of each sample; `[1]` for a bias.
    inputs: Vec<&'a [R]>,
    outputs: usize,
    extent: usize,
    axes: OuterAxes,
}

impl<'a, R: Real> Side<'a, R> {
    fn new(
        delta: &'a Tensor<R>,
        a: Option<&'a Tensor<R>>,
        samples: usize,
        axes: OuterAxes,
        one: &'a [R],
    ) -> Self {
        let outputs = delta.shape.rest_len();
        let extent = a.map_or(1, |a| a.shape.rest_len());
        let step = if delta.shape.directions == 1 {
            0
        } else {
            outputs
        };
        let cotangents = |n: usize| (&delta.values()[delta.unit(n, 0) * outputs..], step);
        let inputs = |n: usize| match a {
            Some(a) => &a.values()[pick(n, a.shape.samples) * extent..][..extent],
            None => one,
        };
        Self {
            cotangents: (0..samples).map(cotangents).collect(),
            inputs: (0..samples).map(inputs).collect(),
            outputs,
            extent,
            axes,
        }
    }

    /// The samples `range`.
    fn samples(&self, range: &Range<usize>) -> Side<'a, R> {
        Side {
            cotangents: self.cotangents[range.clone()].to_vec(),
            inputs: self.inputs[range.clone()].to_vec(),
            ..*self
        }
    }

    /// a in panels of `width`.
    fn pack(&self, width: usize) -> Vec<R> {
        let mut packed =
            vec![R::default(); self.extent.next_multiple_of(width) * self.inputs.len()];
        pack(&mut packed, width, self.extent, self.inputs.iter().copied());
        packed
    }

    /// Distance of the entry (o, i) from the first one.
    fn at(&self, output: usize, input: usize) -> usize {
        output * self.axes.output_stride + input * self.axes.input_stride
    }
}

/// Adds an outer product to a tile of rows `width` apart; whether all results are finite.
///
/// # Panics
/// Where it reaches beyond the tile, or two of its entries meet.
pub(super) fn accumulate<R: Real>(
    tile: &mut [R],
    width: usize,
    how: Placement,
    term: OuterTerm<'_, Tensor<R>>,
    (rows, columns): (OuterAxes, OuterAxes),
    how_scaled: Scaled,
) -> bool {
    let one = [R::from_f64(1.0)];
    let (l, r) = (&term.row_cotangents.shape, &term.column_cotangents.shape);
    let inputs = |a: Option<&Tensor<R>>| a.map_or(1, |a| a.shape.samples);
    let samples = common(inputs(term.row_inputs), inputs(term.column_inputs));
    let samples = common(common(l.samples, r.samples), samples);
    let left = Side::new(term.row_cotangents, term.row_inputs, samples, rows, &one);
    let right = Side::new(
        term.column_cotangents,
        term.column_inputs,
        samples,
        columns,
        &one,
    );
    if [left.outputs, left.extent, right.outputs, right.extent].contains(&0) {
        return true;
    }
    check(tile.len(), width, how.mirror, &left, &right);
    let alike = how_scaled == Scaled::Alike;
    assert!(
        how.mirror != MirrorRule::Symmetric || alike,
        "a product with itself has inputs that are alike"
    );
    let mut finite = true;
    // Where there is no sample at all, the sum is zero.
    for turn in 0..samples.div_ceil(TURN).max(1) {
        let range = turn * TURN..((turn + 1) * TURN).min(samples);
        let (rows, columns) = (left.samples(&range), right.samples(&range));
        let (scaled, fixed) = match how_scaled {
            Scaled::Columns => (columns, rows),
            Scaled::Rows | Scaled::Alike => (rows, columns),
        };
        let product = Product {
            alike,
            by_rows: how_scaled != Scaled::Columns,
            directions: common(l.directions, r.directions),
            width,
            how: Placement {
                begin: how.begin && turn == 0,
                ..how
            },
            scaled,
            fixed,
        };
        finite &= product.run(tile);
    }
    finite
}

/// Asserts that a product stays in its tile and that no two of its entries meet.
fn check<R: Real>(
    len: usize,
    width: usize,
    mirror: MirrorRule,
    left: &Side<'_, R>,
    right: &Side<'_, R>,
) {
    let end =
        |side: &Side<'_, R>| side.axes.origin + side.at(side.outputs - 1, side.extent - 1) + 1;
    let nest = |side: &Side<'_, R>| {
        let (o, i) = (side.axes.output_stride, side.axes.input_stride);
        (side.extent == 1 || i > 0)
            && (side.outputs == 1 || o > 0)
            && (side.extent == 1
                || side.outputs == 1
                || o > (side.extent - 1) * i
                || i > (side.outputs - 1) * o)
    };
    assert!(
        nest(left) && nest(right),
        "two entries of a factor at one place"
    );
    let (rows, columns) = (end(left), end(right));
    let height = len / width.max(1);
    let own = rows <= height && columns <= width;
    let transposed = columns <= height && rows <= width;
    let apart = rows <= right.axes.origin || columns <= left.axes.origin;
    let fits = match mirror {
        MirrorRule::Own => own,
        MirrorRule::Transposed => transposed,
        MirrorRule::Both => own && transposed && apart,
        MirrorRule::Symmetric => {
            let steps = |side: &Side<'_, R>| (side.axes.output_stride, side.axes.input_stride);
            let alike = (left.outputs, left.extent) == (right.outputs, right.extent);
            own && alike && steps(left) == steps(right)
        }
    };
    assert!(fits, "an outer product beyond its tile");
}

/// A product with its sides in the roles they play: one is scaled by P, the other stays as it is.
struct Product<'a, R> {
    /// Whether both sides are of one site, and so blocks of pairs of outputs symmetric.
    alike: bool,
    /// Whether the scaled side is that of the rows.
    by_rows: bool,
    /// R.
    directions: usize,
    width: usize,
    how: Placement,
    scaled: Side<'a, R>,
    fixed: Side<'a, R>,
}

/// Outputs × inputs of the scaled side whose entries, one after another at one distance, are the rows of a block.
struct Part {
    outputs: Range<usize>,
    inputs: Range<usize>,
    step: usize,
}

/// The work of one task: an output of the fixed side with some outputs of the scaled side.
struct Task {
    fixed: usize,
    outputs: Range<usize>,
}

/// The rows and columns of a block: a part of the scaled side, and inputs of an output of the fixed side.
struct Cut<'a> {
    part: &'a Part,
    columns: &'a Range<usize>,
}

impl<R: Real> Product<'_, R> {
    fn samples(&self) -> usize {
        self.scaled.inputs.len()
    }

    /// Whether the outputs of the scaled side lie within its inputs: I×O in the file.
    fn outputs_inside(&self) -> bool {
        self.scaled.axes.output_stride < self.scaled.axes.input_stride
    }

    fn run(&self, tile: &mut [R]) -> bool {
        let geometry = Geometry::of::<R>();
        let samples = self.samples();
        let scaled = &self.scaled;
        let own = !self.outputs_inside() && scaled.extent >= OWN_BLOCK;
        let step = match (own, self.outputs_inside()) {
            (true, _) => OUTPUTS,
            (false, false) => (BLOCK / scaled.extent).max(1),
            (false, true) => BLOCK,
        };
        let chunks = scaled.outputs.div_ceil(step);
        let right = self.fixed.pack(geometry.columns);
        let left = if own {
            scaled.pack(geometry.rows)
        } else {
            Vec::new()
        };
        // A weight of zero times what is not finite is not zero.
        let all_finite = |values: &[R]| {
            let zero = R::default();
            values.iter().fold(true, |all, x| all & (*x * zero == zero))
        };
        let finite: Vec<bool> = (0..samples)
            .map(|k| all_finite(scaled.inputs[k]) && all_finite(self.fixed.inputs[k]))
            .collect();
        let entries = scaled.outputs * scaled.extent * self.fixed.outputs * self.fixed.extent;
        let task = |worker: &mut Worker<'_, R>, number: usize| {
            let (fixed, chunk) = (number / chunks, number % chunks);
            let end = ((chunk + 1) * step).min(scaled.outputs);
            // Of a symmetric product the rows' outputs up to the columns' one.
            let end = match self.how.mirror {
                MirrorRule::Symmetric => end.min(fixed + 1),
                _ => end,
            };
            let outputs = (chunk * step).min(end)..end;
            if outputs.is_empty() {
                return;
            }
            let task = Task { fixed, outputs };
            let mut packs = worker.packs();
            self.pairs(&mut packs, &task);
            if own {
                self.own_blocks(worker, &mut packs, (&left, &right), &finite, &task);
            } else {
                self.shared_blocks(worker, &mut packs, &right, &task);
            }
            worker.put_back(packs);
        };
        let count = self.fixed.outputs * chunks;
        // SAFETY: a task's blocks are entries of one output of the fixed side and a range of outputs of the other, or, of a
        // symmetric product, their mirrors; `check` has seen that different entries have different places.
        unsafe { work(tile, count, entries.saturating_mul(samples), task) }
    }

    /// P_n[o, o'] = Σ_r Δ_n[r, o] Δ'_n[r, o'] of one output of the fixed side: the terms in order, whatever the range.
    fn pairs(&self, packs: &mut Packs<R>, task: &Task) {
        let Task { fixed, outputs } = task;
        let samples = self.samples();
        let count = outputs.len();
        let pairs = room(&mut packs.pairs, count * samples);
        let sums = room(&mut packs.sums, count);
        for k in 0..samples {
            let ((other, other_step), (own, own_step)) =
                (self.scaled.cotangents[k], self.fixed.cotangents[k]);
            sums.fill(R::default());
            for r in 0..self.directions {
                let weight = own[r * own_step + *fixed];
                let other = &other[r * other_step + outputs.start..][..count];
                for (sum, x) in sums.iter_mut().zip(other) {
                    *sum += weight * *x;
                }
            }
            for (o, sum) in sums.iter().enumerate() {
                pairs[o * samples + k] = *sum;
            }
        }
    }

    /// Each output of the scaled side by itself.
    fn own_blocks(
        &self,
        worker: &mut Worker<'_, R>,
        packs: &mut Packs<R>,
        (left, right): (&[R], &[R]),
        finite: &[bool],
        task: &Task,
    ) {
        let (fixed, outputs) = (task.fixed, &task.outputs);
        let geometry = worker.geometry;
        let samples = self.samples();
        let step = lcm(geometry.rows, geometry.columns);
        for output in outputs.clone() {
            let pairs = &packs.pairs[(output - outputs.start) * samples..][..samples];
            packs.kept.clear();
            let zero = R::default();
            let kept = (0..samples).filter(|&k| pairs[k] != zero || !finite[k]);
            packs.kept.extend(kept.map(|k| k as u32));
            let skips = packs.kept.len() + samples * SKIPPED / 16 <= samples;
            if !skips {
                packs.kept.clear();
                packs.kept.extend(0..samples as u32);
            }
            packs.weights.clear();
            packs
                .weights
                .extend(packs.kept.iter().map(|&k| pairs[k as usize]));
            for rows in blocks(self.scaled.extent, step) {
                let part = Part {
                    outputs: output..output + 1,
                    inputs: rows.clone(),
                    step: self.scaled.axes.input_stride,
                };
                for columns in blocks(self.fixed.extent, step) {
                    // Exchanged inputs have the same sums where both sides are alike.
                    if self.alike && columns.start < rows.start {
                        continue;
                    }
                    let apart = self.how.mirror != MirrorRule::Symmetric || output != fixed;
                    let shape = self.shape(&part, fixed, &columns, self.alike && apart);
                    worker.begin(shape, !self.how.begin);
                    let left = &left[rows.start * samples..];
                    let right = &right[columns.start * samples..];
                    let padded = rows.len().next_multiple_of(geometry.rows);
                    let mut done = 0;
                    for chunk in depths(samples) {
                        // Those kept are in order.
                        let rest = &packs.kept[done..];
                        let chunk =
                            done..done + rest.partition_point(|&k| (k as usize) < chunk.end);
                        done = chunk.end;
                        let kept = &packs.kept[chunk.clone()];
                        let weights = &packs.weights[chunk.clone()];
                        let kept = (chunk.len() < samples).then_some(kept);
                        let into = room(&mut packs.left, padded * weights.len());
                        scale(into, (left, samples), geometry.rows, weights, kept);
                        worker.add(&packs.left, (right, samples), kept, chunk.len());
                    }
                    worker.end();
                }
            }
        }
    }

    /// Several outputs (or inputs) of the scaled side in one block.
    fn shared_blocks(
        &self,
        worker: &mut Worker<'_, R>,
        packs: &mut Packs<R>,
        right: &[R],
        task: &Task,
    ) {
        let (fixed, outputs) = (task.fixed, &task.outputs);
        let geometry = worker.geometry;
        let all = 0..self.scaled.extent;
        let itself = self.how.mirror == MirrorRule::Symmetric && outputs.contains(&fixed);
        let others = outputs.start..if itself { fixed } else { outputs.end };
        for part in self.parts(&others, &all) {
            for columns in blocks(self.fixed.extent, geometry.columns) {
                let cut = Cut {
                    part: &part,
                    columns: &columns,
                };
                self.shared_block(worker, packs, right, task, &cut);
            }
        }
        if !itself {
            return;
        }
        // Of an output with itself the upper half decides.
        let cut: Vec<_> =
            blocks(self.scaled.extent, lcm(geometry.rows, geometry.columns)).collect();
        for (k, rows) in cut.iter().enumerate() {
            let part = Part {
                outputs: fixed..fixed + 1,
                inputs: rows.clone(),
                step: self.scaled.axes.input_stride,
            };
            for columns in &cut[k..] {
                let cut = Cut {
                    part: &part,
                    columns,
                };
                self.shared_block(worker, packs, right, task, &cut);
            }
        }
    }

    /// Computes one block of several outputs (or inputs) of the scaled side.
    fn shared_block(
        &self,
        worker: &mut Worker<'_, R>,
        packs: &mut Packs<R>,
        right: &[R],
        task: &Task,
        cut: &Cut<'_>,
    ) {
        let shape = self.shape(cut.part, task.fixed, cut.columns, false);
        worker.begin(shape, !self.how.begin);
        self.add_part(worker, packs, right, cut, task.outputs.start);
        worker.end();
    }

    /// Cuts outputs × inputs of the scaled side into the rows of blocks.
    fn parts(&self, outputs: &Range<usize>, inputs: &Range<usize>) -> Vec<Part> {
        let axes = &self.scaled.axes;
        let inside = self.outputs_inside();
        let (slow, fast) = if inside {
            (inputs, outputs)
        } else {
            (outputs, inputs)
        };
        let (slow_step, step) = if inside {
            (axes.input_stride, axes.output_stride)
        } else {
            (axes.output_stride, axes.input_stride)
        };
        // Several positions of the slow axis are one run where the fast one has no gap behind it.
        let joint = slow_step == fast.len() * step;
        let together = if joint {
            (BLOCK / fast.len().max(1)).max(1)
        } else {
            1
        };
        let mut parts = Vec::new();
        for first in slow.clone().step_by(together) {
            let slow = first..(first + together).min(slow.end);
            for start in fast.clone().step_by(BLOCK) {
                let fast = start..(start + BLOCK).min(fast.end);
                let (outputs, inputs) = if inside {
                    (fast, slow.clone())
                } else {
                    (slow.clone(), fast)
                };
                parts.push(Part {
                    outputs,
                    inputs,
                    step,
                });
            }
        }
        parts
    }

    /// Packs a part of the scaled side and multiplies it; `first` is the first output of the task.
    fn add_part(
        &self,
        worker: &mut Worker<'_, R>,
        packs: &mut Packs<R>,
        right: &[R],
        cut: &Cut<'_>,
        first: usize,
    ) {
        let (part, columns) = (cut.part, cut.columns);
        let (geometry, samples) = (worker.geometry, self.samples());
        let extent = part.outputs.len() * part.inputs.len();
        let right = &right[columns.start * samples..];
        for chunk in depths(samples) {
            packs.row.clear();
            for k in chunk.clone() {
                let weight = |o: usize| packs.pairs[(o - first) * samples + k];
                let inputs = &self.scaled.inputs[k][part.inputs.clone()];
                if self.outputs_inside() {
                    for a in inputs {
                        packs
                            .row
                            .extend(part.outputs.clone().map(|o| weight(o) * *a));
                    }
                } else {
                    for weight in part.outputs.clone().map(weight) {
                        packs.row.extend(inputs.iter().map(|a| weight * *a));
                    }
                }
            }
            let into = room(
                &mut packs.left,
                extent.next_multiple_of(geometry.rows) * chunk.len(),
            );
            pack(into, geometry.rows, extent, packs.row.chunks_exact(extent));
            packs.kept.clear();
            packs.kept.extend(chunk.start as u32..chunk.end as u32);
            let kept = (chunk.len() < samples).then_some(&packs.kept[..]);
            worker.add(&packs.left, (right, samples), kept, chunk.len());
        }
    }

    /// The block of a part of the scaled side and `columns` of an output of the fixed one, with its places; where
    /// `exchanged`, also those of the entries with their inputs exchanged.
    fn shape(&self, part: &Part, fixed: usize, columns: &Range<usize>, exchanged: bool) -> Shape {
        let (scaled, other) = (&self.scaled, &self.fixed);
        let output = part.outputs.start;
        let itself = self.alike && part.outputs.len() == 1 && part.inputs == *columns;
        let on_diagonal =
            self.how.mirror == MirrorRule::Symmetric && part.outputs == (fixed..fixed + 1);
        let symmetric = itself && (exchanged || on_diagonal);
        // Where the entry lies along the tile's rows and columns; `turned` for its mirror.
        let place = |rows: &Range<usize>, columns: &Range<usize>, turned: bool| {
            let (own, others) = if self.by_rows != turned {
                (self.width, 1)
            } else {
                (1, self.width)
            };
            // A square's mirror lies in the square, another product's at columns × rows.
            let swapped = turned && self.how.mirror == MirrorRule::Symmetric;
            let (first, second) = if swapped {
                (other, scaled)
            } else {
                (scaled, other)
            };
            let (at, other_at) = (
                scaled.at(output, rows.start),
                other.at(fixed, columns.start),
            );
            Place {
                offset: (first.axes.origin + at) * own + (second.axes.origin + other_at) * others,
                row_step: part.step * own,
                column_step: other.axes.input_stride * others,
            }
        };
        let (own, mirrored) = match self.how.mirror {
            MirrorRule::Own => (true, false),
            MirrorRule::Transposed => (false, true),
            MirrorRule::Both => (true, true),
            MirrorRule::Symmetric => (true, !(on_diagonal && symmetric)),
        };
        let mut shape = Shape::new(
            part.outputs.len() * part.inputs.len(),
            columns.len(),
            symmetric,
        );
        for turned in [own.then_some(false), mirrored.then_some(true)]
            .into_iter()
            .flatten()
        {
            shape = shape.at(place(&part.inputs, columns, turned));
            if exchanged && !symmetric {
                // Entry (i, i') of the block is that of (i', i): its rows run along the fixed side.
                shape = shape.at(place(columns, &part.inputs, turned).transposed());
            }
        }
        shape
    }
}

/// The least common multiple.
fn lcm(a: usize, b: usize) -> usize {
    let (mut x, mut y) = (a, b);
    while y > 0 {
        (x, y) = (y, x % y);
    }
    a / x * b
}
