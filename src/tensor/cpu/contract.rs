//! Tiles of G accumulated in host memory (DESIGN §2): dense × dense and outer × outer.

use super::matrix::{Axis, Tiles, View, disjoint, multiply, offsets};
use super::symmetric::{self, Symmetric};
use super::{Cpu, Tensor, common, pick};
use crate::error::Result;
use crate::memory::zeros;
use crate::tensor::{Contract, OuterSide, Real, Shape};
use faer::MatMut;

/// Elements of a scaled operand: what a second-level cache holds beside faer's own packing.
const SCALED: usize = 1 << 16;
/// Least columns of a scaled operand, so that a product of a long inner dimension stays a good one.
const LEAST_COLUMNS: usize = 96;

/// A tile `[rows, columns]` under way, row-major.
#[derive(Clone, Debug)]
pub struct Accumulator<R> {
    rows: usize,
    columns: usize,
    values: Vec<R>,
}

impl<R: Real> Contract for Cpu<R> {
    type Accumulator = Accumulator<R>;
    type Pending = Accumulator<R>;

    fn accumulator(&self, rows: usize, columns: usize) -> Accumulator<R> {
        Accumulator {
            rows,
            columns,
            values: zeros(rows * columns),
        }
    }

    fn accumulate_dense(
        &self,
        tile: &mut Accumulator<R>,
        origin: (usize, usize),
        left: &Tensor<R>,
        right: &Tensor<R>,
    ) {
        dense(tile, origin, left, right);
    }

    fn accumulate_outer(
        &self,
        tile: &mut Accumulator<R>,
        pairs: &Tensor<R>,
        rows: OuterSide<'_, Tensor<R>>,
        columns: OuterSide<'_, Tensor<R>>,
    ) {
        let [outputs, other_outputs] = pairs.shape.rest[..] else {
            panic!("P is [samples, 1, O, O'], not {:?}", pairs.shape);
        };
        let width = tile.columns;
        let (row_origin, column_origin) = (rows.origin * width, columns.origin);
        let is_diagonal = is_diagonal(&rows, &columns) && outputs == other_outputs;
        let rows = Side::new(&rows, outputs, other_outputs, width);
        let columns = Side::new(&columns, other_outputs, 1, 1);
        let beyond = |side: &Side<R>| [side.outputs, side.inputs].map(|axis| axis.extent == 0);
        if beyond(&rows).contains(&true) || beyond(&columns).contains(&true) {
            return;
        }
        assert!(
            rows.last() + row_origin < tile.rows * width && columns.last() + column_origin < width,
            "an outer product beyond its tile"
        );
        let part = &mut tile.values[row_origin + column_origin..];
        if is_diagonal && symmetric::is_symmetric(pairs.values(), outputs) {
            let samples = common(pairs.shape.samples, columns.samples);
            let product = Symmetric {
                pairs: pairs.values(),
                pair_stride: if pairs.shape.samples == 1 {
                    0
                } else {
                    outputs * outputs
                },
                samples,
                inputs: columns.values.expect("more than one input"),
                input_stride: columns.sample_step,
                extent: columns.inputs.extent,
                outputs,
            };
            product.add_to(part, columns.outputs.stride, width);
            return;
        }
        let product = Product::new(pairs, rows, columns);
        product.add_to(part);
    }

    fn finish(&self, tile: Accumulator<R>) -> Accumulator<R> {
        tile
    }

    fn collect(&self, pending: Accumulator<R>) -> Result<Vec<R>> {
        Ok(pending.values)
    }
}

/// Whether both sides are one site's, in a layout that [`Symmetric`] takes.
fn is_diagonal<R: Real>(
    rows: &OuterSide<'_, Tensor<R>>,
    columns: &OuterSide<'_, Tensor<R>>,
) -> bool {
    let (Some(a), Some(b)) = (rows.inputs, columns.inputs) else {
        return false;
    };
    let inputs = a.shape.rest_len();
    a.is_same(b)
        && symmetric::pays(inputs)
        && rows.output_stride == columns.output_stride
        && columns.output_stride >= inputs
        && rows.input_stride == 1
        && columns.input_stride == 1
}

/// tile[row + q, column + q'] += Σ_n Σ_r left[n, r, q] · right[n, r, q'].
fn dense<R: Real>(
    tile: &mut Accumulator<R>,
    (row, column): (usize, usize),
    left: &Tensor<R>,
    right: &Tensor<R>,
) {
    let (q, q_other) = (left.shape.rest_len(), right.shape.rest_len());
    assert!(
        row + q <= tile.rows && column + q_other <= tile.columns,
        "a dense product beyond its tile"
    );
    let samples = common(left.shape.samples, right.shape.samples);
    let directions = common(left.shape.directions, right.shape.directions);
    if q == 0 || q_other == 0 || samples * directions == 0 {
        return;
    }
    // Samples and directions are one inner dimension, unless one side repeats along one of them.
    let step = |shape: &Shape| {
        let of = |extent: usize, stride: usize| if extent == 1 { 0 } else { stride };
        (
            of(shape.samples, shape.directions * shape.rest_len()),
            of(shape.directions, shape.rest_len()),
        )
    };
    let (l, r) = (step(&left.shape), step(&right.shape));
    let joint =
        directions == 1 || samples == 1 || l.0 == directions * l.1 && r.0 == directions * r.1;
    // (outer count, outer steps, inner count, inner steps)
    let (outer, outer_steps, inner, inner_steps) = if directions == 1 {
        (1, (0, 0), samples, (l.0, r.0))
    } else if joint {
        (1, (0, 0), samples * directions, (l.1, r.1))
    } else if samples > directions {
        (directions, (l.1, r.1), samples, (l.0, r.0))
    } else {
        (samples, (l.0, r.0), directions, (l.1, r.1))
    };
    let width = tile.columns;
    let part = &mut tile.values[row * width + column..];
    let part = &mut part[..(q - 1) * width + q_other];
    let one = Tiles::new(part, &[], Axis::new(q, width), Axis::new(q_other, 1));
    one.for_each(
        0,
        || (),
        |_: &mut (), _, _, mut output: MatMut<'_, R>| {
            for k in 0..outer {
                let data = (
                    &left.values()[k * outer_steps.0..],
                    &right.values()[k * outer_steps.1..],
                );
                let left = View::new(data.0, Axis::new(inner, inner_steps.0), Axis::new(q, 1));
                let right = View::new(
                    data.1,
                    Axis::new(inner, inner_steps.1),
                    Axis::new(q_other, 1),
                );
                multiply(output.as_mut(), true, left.transpose(), right, true);
            }
        },
    );
}

/// One side of an outer × outer product, with steps in elements of the tile.
#[derive(Clone, Copy)]
struct Side<'a, R> {
    /// a, `[samples, I]`; `None` is 1.
    values: Option<&'a [R]>,
    samples: usize,
    /// Step of a per sample.
    sample_step: usize,
    outputs: Axis,
    inputs: Axis,
    /// Step of P along this side's outputs.
    pair_step: usize,
}

impl<'a, R: Real> Side<'a, R> {
    fn new(side: &OuterSide<'a, Tensor<R>>, outputs: usize, pair_step: usize, unit: usize) -> Self {
        let inputs = side.inputs.map_or(1, |a| a.shape.rest_len());
        let samples = side.inputs.map_or(1, |a| a.shape.samples);
        Self {
            values: side.inputs.map(|a| a.values()),
            samples,
            sample_step: if samples == 1 { 0 } else { inputs },
            outputs: Axis::new(outputs, side.output_stride * unit),
            inputs: Axis::new(inputs, side.input_stride * unit),
            pair_step,
        }
    }

    /// Distance from the first to the last entry.
    fn last(&self) -> usize {
        (self.outputs.extent - 1) * self.outputs.stride
            + (self.inputs.extent - 1) * self.inputs.stride
    }

    fn value(&self, sample: usize, input: usize) -> R {
        match self.values {
            Some(values) => values[sample * self.sample_step + input],
            None => R::from_f64(1.0),
        }
    }
}

/// Σ_n P_n[o, o'] a_n[i] a'_n[i'], with the side of more inputs as the one whose operand stays as it is.
///
/// For each of its outputs o the other operand is scaled by P_n[o, o'] and a plain product follows: the
/// scaling is paid off by the I products that each scaled number takes part in.
struct Product<'a, R> {
    pairs: &'a [R],
    pair_samples: usize,
    /// Step of P per sample.
    pair_stride: usize,
    samples: usize,
    fixed: Side<'a, R>,
    scaled: Side<'a, R>,
}

impl<'a, R: Real> Product<'a, R> {
    fn new(pairs: &'a Tensor<R>, rows: Side<'a, R>, columns: Side<'a, R>) -> Self {
        let (fixed, scaled) = if rows.inputs.extent >= columns.inputs.extent {
            (rows, columns)
        } else {
            (columns, rows)
        };
        let pair_samples = pairs.shape.samples;
        Self {
            pairs: pairs.values(),
            pair_samples,
            pair_stride: pairs.shape.rest_len(),
            samples: common(common(pair_samples, rows.samples), columns.samples),
            fixed,
            scaled,
        }
    }

    /// Offset of P_n[o, o'].
    fn pair(&self, sample: usize, o: usize, o_scaled: usize) -> usize {
        pick(sample, self.pair_samples) * self.pair_stride
            + o * self.fixed.pair_step
            + o_scaled * self.scaled.pair_step
    }

    fn add_to(&self, tile: &mut [R]) {
        if self.samples == 0 {
            return;
        }
        let (fixed, scaled) = (&self.fixed, &self.scaled);
        if !disjoint([fixed.outputs, fixed.inputs, scaled.outputs, scaled.inputs]) {
            return self.add_one_by_one(tile);
        }
        // The scaled side's axes, the one of longer step first.
        let inputs_outside = scaled.inputs.stride > scaled.outputs.stride;
        let (outer, inner) = if inputs_outside {
            (scaled.inputs, scaled.outputs)
        } else {
            (scaled.outputs, scaled.inputs)
        };
        let joint = outer.stride == inner.extent * inner.stride || inner.extent == 1;
        // (walked one by one, columns of the product, extent of the columns' faster axis)
        let (walked, columns, inputs_fast) = if inner.extent == 1 {
            (Axis::new(1, 0), outer, inputs_outside)
        } else if outer.extent == 1 {
            (Axis::new(1, 0), inner, !inputs_outside)
        } else if joint {
            let all = Axis::new(outer.extent * inner.extent, inner.stride);
            (Axis::new(1, 0), all, !inputs_outside)
        } else if inner.extent >= outer.extent {
            (outer, inner, !inputs_outside)
        } else {
            (inner, outer, inputs_outside)
        };
        let fast = if inputs_fast {
            scaled.inputs.extent
        } else {
            scaled.outputs.extent
        };
        let block = (SCALED / self.samples).max(LEAST_COLUMNS);
        let block = if block > fast {
            block / fast * fast
        } else {
            block
        };
        let tiles =
            Tiles::new(tile, &[fixed.outputs, walked], fixed.inputs, columns).column_blocks(block);
        let work = self.samples * fixed.inputs.extent * columns.extent.min(block);
        // Few large tiles share threads inside.
        let inside = tiles.count() < rayon::current_num_threads();
        let one = [R::from_f64(1.0)];
        let left = View::new(
            fixed.values.unwrap_or(&one),
            Axis::new(self.samples, fixed.sample_step),
            Axis::new(fixed.inputs.extent, 1),
        )
        .transpose();
        let place = [fixed.outputs, walked];
        let task = |buffer: &mut Vec<R>, position: usize, first: usize, output: MatMut<'_, R>| {
            let [o, walk] = {
                let walks = place[1].extent;
                [position / walks, position % walks]
            };
            let count = output.ncols();
            if let (None, true) = (scaled.values, scaled.inputs.extent == 1) {
                // a' = 1: P itself is the operand.
                let at = o * fixed.pair_step + first * scaled.pair_step;
                let stride = if self.pair_samples == 1 {
                    0
                } else {
                    self.pair_stride
                };
                let right = View::new(
                    &self.pairs[at..],
                    Axis::new(self.samples, stride),
                    Axis::new(count, scaled.pair_step),
                );
                multiply(output, true, left, right, inside);
                return;
            }
            buffer.resize((self.samples * count).max(buffer.len()), R::default());
            let buffer = &mut buffer[..self.samples * count];
            for (sample, row) in buffer.chunks_mut(count).enumerate() {
                self.scale(row, sample, o, walk, first, fast, inputs_fast);
            }
            let right = View::new(buffer, Axis::new(self.samples, count), Axis::new(count, 1));
            multiply(output, true, left, right, inside);
        };
        tiles.for_each(if inside { 0 } else { work }, Vec::new, task);
    }

    /// Columns `first..` of row n of the scaled operand: P_n[o, o'] a'_n[i'].
    #[allow(clippy::too_many_arguments)] // the inner loop of the function above
    fn scale(
        &self,
        row: &mut [R],
        sample: usize,
        o: usize,
        walk: usize,
        first: usize,
        fast: usize,
        inputs_fast: bool,
    ) {
        let scaled = &self.scaled;
        let mut filled = 0;
        while filled < row.len() {
            let (slow, start) = ((first + filled) / fast + walk, (first + filled) % fast);
            let run = (fast - start).min(row.len() - filled);
            let part = &mut row[filled..filled + run];
            if inputs_fast {
                let weight = self.pairs[self.pair(sample, o, slow)];
                match scaled.values {
                    Some(values) => {
                        let at = sample * scaled.sample_step + start;
                        for (t, a) in part.iter_mut().zip(&values[at..]) {
                            *t = weight * *a;
                        }
                    }
                    None => part.fill(weight),
                }
            } else {
                let weight = scaled.value(sample, slow);
                let pairs = self.pairs[self.pair(sample, o, start)..].iter();
                for (t, p) in part.iter_mut().zip(pairs.step_by(scaled.pair_step)) {
                    *t = weight * *p;
                }
            }
            filled += run;
        }
    }

    /// The formula as it stands, for steps that interleave; slow.
    fn add_one_by_one(&self, tile: &mut [R]) {
        let (fixed, scaled) = (&self.fixed, &self.scaled);
        let axes = [fixed.outputs, fixed.inputs, scaled.outputs, scaled.inputs];
        let count = axes.iter().map(|axis| axis.extent).product();
        for position in 0..count {
            let [offset] = offsets(position, &axes, |axis| (axis.extent, [axis.stride]));
            let mut rest = position;
            let [i_scaled, o_scaled, i, o] = [3, 2, 1, 0].map(|axis: usize| {
                let index = rest % axes[axis].extent;
                rest /= axes[axis].extent;
                index
            });
            let mut sum = R::default();
            for sample in 0..self.samples {
                let pair = self.pairs[self.pair(sample, o, o_scaled)];
                sum += pair * fixed.value(sample, i) * scaled.value(sample, i_scaled);
            }
            tile[offset] += sum;
        }
    }
}
