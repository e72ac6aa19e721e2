//! Tiles of G accumulated in host memory (DESIGN §2, §7): dense × dense, outer × outer and outer × dense.
//!
//! One way for all: operands are packed ([`panels`]), blocks that stay in cache are computed and, while the next is
//! computed, written to their places ([`block`]): once each, their mirrors too. The tile may be the result's own memory.

mod block;
mod dense;
mod outer;
mod panels;
mod places;

use super::{Cpu, Tensor};
use crate::error::Result;
use crate::memory::zeros;
use crate::tensor::{Contract, OuterAxes, OuterTerm, Placement, Real, Scaled};

/// A tile `[rows, columns]` under way, row-major.
#[derive(Clone, Debug)]
pub struct Accumulator<R> {
    rows: usize,
    columns: usize,
    values: Vec<R>,
    finite: bool,
}

impl<R: Real> Contract for Cpu<R> {
    type Accumulator = Accumulator<R>;
    type Pending = Accumulator<R>;

    fn accumulator(&self, rows: usize, columns: usize) -> Accumulator<R> {
        self.accumulator_in(rows, columns, zeros(rows * columns))
    }

    fn accumulator_in(&self, rows: usize, columns: usize, mut memory: Vec<R>) -> Accumulator<R> {
        memory.resize(rows * columns, R::default());
        Accumulator {
            rows,
            columns,
            values: memory,
            finite: true,
        }
    }

    fn accumulates_in_host_memory(&self) -> bool {
        true
    }

    fn accumulate_dense(
        &self,
        tile: &mut Accumulator<R>,
        how: Placement,
        origin: (usize, usize),
        sides: (&Tensor<R>, &Tensor<R>),
    ) {
        tile.finite &= dense::accumulate(&mut tile.values, tile.columns, how, origin, sides);
    }

    fn accumulate_outer(
        &self,
        tile: &mut Accumulator<R>,
        how: Placement,
        sides: (OuterAxes, OuterAxes),
        term: OuterTerm<'_, Tensor<R>>,
        scaled: Scaled,
    ) {
        let width = tile.columns;
        tile.finite &= outer::accumulate(&mut tile.values, width, how, term, sides, scaled);
    }

    fn finish(&self, tile: Accumulator<R>) -> Accumulator<R> {
        tile
    }

    fn is_finite(&self, pending: &Accumulator<R>) -> bool {
        pending.finite
    }

    fn collect(&self, pending: Accumulator<R>) -> Result<Vec<R>> {
        debug_assert_eq!(pending.values.len(), pending.rows * pending.columns);
        Ok(pending.values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::{Backend, HostSlice, MirrorRule, Shape};

    /// Blocks and their mirrors are loaded, added to and written out, by several threads where there are several blocks
    /// (under Miri products are shared from a few operations on).
    fn dense_products<R: Real>(extent: usize) {
        let (backend, samples, directions) = (Cpu::<R>::new(), 2, 2);
        let tensor = |seed: usize| {
            let shape = Shape::new(samples, directions, &[extent]);
            let number = |k: usize| ((k * 7 + seed) % 5) as f64 - 2.0;
            let values: Vec<f64> = (0..samples * directions * extent).map(number).collect();
            let tensor = backend.upload(&shape, HostSlice::F64(&values));
            (tensor, values)
        };
        let ((left, a), (right, b)) = (tensor(1), tensor(3));
        let product = |a: &[f64], b: &[f64], i: usize, j: usize| -> f64 {
            let terms = (0..samples * directions).map(|k| a[k * extent + i] * b[k * extent + j]);
            terms.sum()
        };
        let side = 2 * extent;
        let mut tile = backend.accumulator(side, side);
        let how = |begin, fill| Placement {
            begin,
            mirror: fill,
        };
        // Its own square, twice; then a product and its mirror in what is left.
        for begin in [true, false] {
            let how = how(begin, MirrorRule::Symmetric);
            backend.accumulate_dense(&mut tile, how, (0, 0), (&left, &left));
        }
        backend.accumulate_dense(
            &mut tile,
            how(true, MirrorRule::Both),
            (0, extent),
            (&left, &right),
        );
        let tile = backend.collect(backend.finish(tile)).unwrap();
        for i in 0..extent {
            for j in 0..extent {
                assert_eq!(tile[i * side + j].to_f64(), 2.0 * product(&a, &a, i, j));
                let expected = product(&a, &b, i, j);
                assert_eq!(tile[i * side + extent + j].to_f64(), expected);
                assert_eq!(tile[(extent + j) * side + i].to_f64(), expected);
            }
        }
    }

    #[test]
    fn dense_products_and_their_mirrors_go_to_their_places() {
        dense_products::<f32>(11);
        dense_products::<f64>(9);
    }

    /// Several blocks, written by several threads.
    #[test]
    fn blocks_of_several_threads_do_not_meet() {
        dense_products::<f32>(block::BLOCK + 3);
    }

    /// A site's product with itself, entries exchanged and mirrored, begun and then added to; whatever side is scaled.
    #[test]
    fn outer_products_and_their_mirrors_go_to_their_places() {
        let (backend, samples, outputs, inputs) = (Cpu::<f32>::new(), 3, 3, 5);
        let tensor = |directions: usize, entries: usize| {
            let shape = Shape::new(samples, directions, &[entries]);
            let number = |k: usize| ((k * 5 + entries) % 7) as f64 - 3.0;
            let values: Vec<f64> = (0..shape.len()).map(number).collect();
            (backend.upload(&shape, HostSlice::F64(&values)), values)
        };
        let ((cotangents, delta), (rows, a)) = (tensor(2, outputs), tensor(1, inputs));
        let term = OuterTerm {
            row_cotangents: &cotangents,
            column_cotangents: &cotangents,
            row_inputs: Some(&rows),
            column_inputs: Some(&rows),
        };
        let entry = |(o, i): (usize, usize), (p, j): (usize, usize)| -> f64 {
            let of = |n: usize| {
                let at = |r: usize, o: usize| delta[(2 * n + r) * outputs + o];
                let pairs: f64 = (0..2).map(|r| at(r, o) * at(r, p)).sum();
                pairs * a[n * inputs + i] * a[n * inputs + j]
            };
            (0..samples).map(of).sum()
        };
        let side = outputs * inputs;
        // Row-major weights, and transposed ones.
        for (output, input) in [(inputs, 1), (1, outputs)] {
            for (scaled, fill) in [
                (Scaled::Rows, MirrorRule::Own),
                (Scaled::Columns, MirrorRule::Transposed),
                (Scaled::Alike, MirrorRule::Symmetric),
            ] {
                let axes = OuterAxes {
                    origin: 1,
                    output_stride: output,
                    input_stride: input,
                };
                let mut tile = backend.accumulator(side + 1, side + 1);
                for begin in [true, false] {
                    let how = Placement {
                        mirror: fill,
                        begin,
                    };
                    backend.accumulate_outer(&mut tile, how, (axes, axes), term, scaled);
                }
                let tile = backend.collect(backend.finish(tile)).unwrap();
                let all = || (0..outputs).flat_map(|o| (0..inputs).map(move |i| (o, i)));
                let place = |(o, i): (usize, usize)| 1 + o * output + i * input;
                for row in all() {
                    for column in all() {
                        let found = tile[place(row) * (side + 1) + place(column)].to_f64();
                        assert_eq!(found, 2.0 * entry(row, column), "{scaled:?}, {input}");
                    }
                }
            }
        }
    }
}
