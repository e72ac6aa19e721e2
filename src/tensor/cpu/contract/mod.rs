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
use crate::tensor::{Contract, How, OuterAxes, OuterTerm, Real, Scaled};

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
        how: How,
        origin: (usize, usize),
        sides: (&Tensor<R>, &Tensor<R>),
    ) {
        tile.finite &= dense::accumulate(&mut tile.values, tile.columns, how, origin, sides);
    }

    fn accumulate_outer(
        &self,
        tile: &mut Accumulator<R>,
        how: How,
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
