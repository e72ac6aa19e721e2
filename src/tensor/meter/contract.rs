//! The work of contractions into tiles.

use super::{Meter, MeterTensor, MeterTile};
use crate::error::Result;
use crate::tensor::tally::{Kind, Work};
use crate::tensor::{Contract, MirrorRule, OuterAxes, OuterTerm, Placement, Scaled};

/// Places that an entry of a product is written to.
fn places(how: Placement) -> u64 {
    if how.mirror == MirrorRule::Both { 2 } else { 1 }
}

/// What a product with itself leaves out.
fn halves(how: Placement) -> u64 {
    if how.mirror == MirrorRule::Symmetric {
        2
    } else {
        1
    }
}

impl Contract for Meter {
    type Accumulator = MeterTile;
    type Pending = ();

    fn accumulator(&self, rows: usize, columns: usize) -> MeterTile {
        let numbers = (rows * columns) as u64;
        if numbers > 0 {
            self.enter(Kind::Tile, Work::call(0, 0, numbers, 0));
        }
        MeterTile {
            _memory: self.allocate(rows * columns),
        }
    }

    fn accumulate_dense(
        &self,
        _: &mut MeterTile,
        how: Placement,
        _: (usize, usize),
        (left, right): (&MeterTensor, &MeterTensor),
    ) {
        let rows = left.shape.samples.max(right.shape.samples)
            * left.shape.directions.max(right.shape.directions);
        let entries = left.shape.rest_len() as u64 * right.shape.rest_len() as u64;
        let operations = 2 * rows as u64 * entries / halves(how);
        let packed = left.shape.len() + right.shape.len();
        self.enter(
            Kind::Dense,
            Work::call(0, operations, entries * places(how), packed as u64),
        );
        self.count(operations);
    }

    fn accumulate_outer(
        &self,
        _: &mut MeterTile,
        how: Placement,
        (rows, _): (OuterAxes, OuterAxes),
        term: OuterTerm<'_, MeterTensor>,
        scaled: Scaled,
    ) {
        let (l, r) = (&term.row_cotangents.shape, &term.column_cotangents.shape);
        let (samples, directions) = (
            l.samples.max(r.samples) as u64,
            l.directions.max(r.directions) as u64,
        );
        let pairs = (l.rest_len() * r.rest_len()) as u64;
        let extent = |a: Option<&MeterTensor>| a.map_or(1, |a| a.shape.rest_len() as u64);
        let (own, other) = (extent(term.row_inputs), extent(term.column_inputs));
        let inputs = own * other;
        let alike = if scaled == Scaled::Alike && rows.output_stride >= rows.input_stride {
            2
        } else {
            1
        };
        let operations = 2 * samples * pairs * (directions + inputs / alike) / halves(how);
        let of_pairs = 2 * samples * pairs * directions / halves(how);
        // One side's inputs are scaled by P.
        let scaled_inputs = match scaled {
            Scaled::Columns => other,
            Scaled::Rows | Scaled::Alike => own,
        };
        let work = Work::call(
            samples * pairs * scaled_inputs / halves(how),
            operations - of_pairs,
            pairs * inputs * places(how),
            of_pairs,
        );
        self.enter(Kind::Outer, work);
        self.count(operations);
        // A device forms P, the host packs a, of as many samples as are taken at a time.
        let packed = (own + other) * samples.min(1 << 12);
        drop(self.allocate((samples * pairs).min(1 << 22).max(packed) as usize));
    }

    fn finish(&self, _: MeterTile) {}

    fn collect(&self, (): ()) -> Result<Vec<f32>> {
        Ok(Vec::new())
    }
}
