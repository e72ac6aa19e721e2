//! From two factors to a block of G: the pair rules of DESIGN §2 and the cost that chooses among them.
//!
//! A tile's segment pair is one of
//!
//! | pair | formula | inner dimension |
//! |---|---|---|
//! | outer × outer | `G[(o,i),(o',i')] = Σ_n P_n[o,o'] a_n[i] a'_n[i']`, `P_n = Σ_r s_r Δ_n[r,o] Δ'_n[r,o']` | N |
//! | outer × dense | `G[(o,i),q] = Σ_n a_n[i] W_n[o,q]`, `W_n = Σ_r s_r Δ_n[r,o] V_n[r,q]` | N |
//! | dense × dense | `G[q,q'] = Σ_n Σ_r s_r V_n[r,q] V'_n[r,q']` | N·R |
//!
//! The kernels are the backends' ([`Contract`]); this folder must not know of files.

use crate::jacobian::hessian::unit_rows;
use crate::jacobian::{Factor, Rectangle, rectangles, slice};
use crate::ops::Outer;
use crate::tensor::{Backend, Contract, MirrorRule, OuterAxes, OuterTerm, Placement, Scaled};
use std::ops::Range;

/// How a pair of factors is contracted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Contraction {
    /// Both factors outer, inner dimension N.
    OuterOuter,
    /// Rows outer, columns dense, inner dimension N.
    OuterDense,
    /// Rows dense, columns outer, inner dimension N.
    DenseOuter,
    /// V ᵀV', inner dimension N·R.
    DenseDense,
    /// Columns of the exact Hessian, put in their place.
    HessianColumns,
}

/// What of a factor decides its cost: entries, and outputs and inputs where it is outer.
#[derive(Clone, Copy, Debug)]
pub struct FactorSize {
    /// Entries in the segment.
    pub entries: usize,
    /// (outputs, inputs) of the segment where the factor is outer.
    pub outer: Option<(usize, usize)>,
}

/// Operations per sample (a multiply-add is two) of each admissible contraction; the cheapest is taken.
pub fn choose(rows: FactorSize, columns: FactorSize, directions: usize) -> (Contraction, u64) {
    let r = directions as u64;
    let (q, q2) = (rows.entries as u64, columns.entries as u64);
    let pair = |(o, i): (usize, usize)| (o as u64, i as u64);
    let form_rows = |size: FactorSize| size.outer.map_or(0, |_| r * size.entries as u64);
    let mut best = (
        Contraction::DenseDense,
        2 * r * q * q2 + form_rows(rows) + form_rows(columns),
    );
    let mut consider = |contraction, operations| {
        if operations < best.1 {
            best = (contraction, operations);
        }
    };
    if let (Some(left), Some(right)) = (rows.outer, columns.outer) {
        let ((o, _), (o2, _)) = (pair(left), pair(right));
        consider(Contraction::OuterOuter, 2 * r * o * o2 + 2 * q * q2);
    }
    if let Some((o, _)) = rows.outer.map(pair) {
        consider(
            Contraction::OuterDense,
            2 * r * o * q2 + 2 * q * q2 + form_rows(columns),
        );
    }
    if let Some((o, _)) = columns.outer.map(pair) {
        consider(
            Contraction::DenseOuter,
            2 * r * q * o + 2 * q * q2 + form_rows(rows),
        );
    }
    best
}

/// A run of rows (or columns) of a tile that belong to one parameter.
pub struct Segment<'a, T> {
    /// The parameter's factor for the unit.
    pub factor: &'a Factor<T>,
    /// Flat range within the parameter.
    pub range: Range<usize>,
    /// The tile's row (or column) of the range's first entry.
    pub origin: usize,
}

impl<T: Clone> Segment<'_, T> {
    /// What the cost model needs to know.
    fn size<B: Backend<Tensor = T>>(&self, backend: &B, outer: Option<&Outer<T>>) -> FactorSize {
        let (entries, share) = (
            self.range.len(),
            self.range.len() as f64 / self.factor.count as f64,
        );
        let outer = outer.map(|outer| {
            let (outputs, inputs) = (outer.output_count(backend), outer.input_count(backend));
            // The fast axis is taken whole where the segment spans rows; the slow one in part.
            if outer.outputs_first {
                (
                    ((outputs as f64 * share).ceil() as usize).max(1),
                    inputs.min(entries),
                )
            } else {
                (
                    outputs.min(entries),
                    ((inputs as f64 * share).ceil() as usize).max(1),
                )
            }
        });
        FactorSize { entries, outer }
    }
}

impl<T: Clone> Outer<T> {
    /// O.
    pub fn output_count<B: Backend<Tensor = T>>(&self, backend: &B) -> usize {
        backend.shape(&self.cotangents).rest[0]
    }

    /// I, 1 for a bias.
    pub fn input_count<B: Backend<Tensor = T>>(&self, backend: &B) -> usize {
        self.inputs.as_ref().map_or(1, |a| backend.shape(a).rest[0])
    }
}

/// A rectangle of an outer segment: outputs × inputs, and how its entries lie in the tile.
#[derive(Clone, PartialEq, Eq)]
struct Piece {
    outputs: Range<usize>,
    inputs: Range<usize>,
    axes: OuterAxes,
}

impl Piece {
    /// Cuts a segment of an outer factor into rectangles.
    fn cut<B: Backend>(
        backend: &B,
        outer: &Outer<B::Tensor>,
        segment: &Segment<'_, B::Tensor>,
    ) -> Vec<Piece> {
        let (outputs, inputs) = (outer.output_count(backend), outer.input_count(backend));
        let inner = if outer.outputs_first { inputs } else { outputs };
        let piece = |rectangle: Rectangle| {
            let Rectangle {
                major,
                minor,
                offset,
            } = rectangle;
            let (own, others, output_stride, input_stride) = if outer.outputs_first {
                (major, minor, inputs, 1)
            } else {
                (minor, major, 1, outputs)
            };
            Piece {
                outputs: own,
                inputs: others,
                axes: OuterAxes {
                    origin: segment.origin + offset,
                    output_stride,
                    input_stride,
                },
            }
        };
        rectangles(segment.range.clone(), inner)
            .into_iter()
            .map(piece)
            .collect()
    }

    /// All of a segment of dense rows: each entry an output with one input, 1.
    fn dense<T>(segment: &Segment<'_, T>) -> Piece {
        Piece {
            outputs: 0..segment.range.len(),
            inputs: 0..1,
            axes: OuterAxes {
                origin: segment.origin,
                output_stride: 1,
                input_stride: 1,
            },
        }
    }

    /// Δ and a of the piece.
    fn of<B: Backend>(
        &self,
        backend: &B,
        outer: &Outer<B::Tensor>,
    ) -> (B::Tensor, Option<B::Tensor>) {
        let inputs = outer.inputs.as_ref();
        (
            slice(backend, &outer.cotangents, 2, &self.outputs),
            inputs.map(|a| slice(backend, a, 2, &self.inputs)),
        )
    }
}

/// The factors of the rows and of the columns of a part of a tile, in one unit of samples and directions.
pub struct FactorPair<'a, T> {
    /// The rows' segment.
    pub rows: Segment<'a, T>,
    /// The columns' segment.
    pub columns: Segment<'a, T>,
    /// `[samples, directions, 1]` where the loss factor carries signs.
    pub signs: Option<&'a T>,
}

impl<T> FactorPair<'_, T> {
    /// `[samples, directions, …]` times the signs, where there are any.
    fn signed<B: Backend<Tensor = T>>(&self, backend: &B, x: T) -> T {
        match self.signs {
            Some(signs) => backend.multiply(&x, signs),
            None => x,
        }
    }
}

/// The contraction that [`accumulate`] will take for a pair of segments, and its operations where it fills every entry by
/// itself.
pub fn contraction<B: Backend>(
    backend: &B,
    rows: &Segment<'_, B::Tensor>,
    columns: &Segment<'_, B::Tensor>,
) -> (Contraction, u64) {
    let (left, right) = (rows.factor.outer(backend), columns.factor.outer(backend));
    let (contraction, operations) = choose(
        rows.size(backend, left.as_ref()),
        columns.size(backend, right.as_ref()),
        rows.factor.directions,
    );
    (contraction, operations * rows.factor.samples as u64)
}

/// Adds what a unit gives to the part of a tile where two segments meet; returns the rule taken and its operations.
///
/// `how` is the place; on the side of the diagonal that is not computed rows and columns are those of its mirror.
pub fn accumulate<B: Contract>(
    backend: &B,
    tile: &mut B::Accumulator,
    how: Placement,
    pair: &FactorPair<'_, B::Tensor>,
) -> (Contraction, u64) {
    let (rows, columns) = (&pair.rows, &pair.columns);
    let (kind, mut operations) = contraction(backend, rows, columns);
    if how.mirror == MirrorRule::Symmetric {
        operations /= 2;
    }
    let dense =
        |segment: &Segment<'_, B::Tensor>| segment.factor.rows(backend, segment.range.clone());
    match kind {
        Contraction::OuterOuter => outer_outer(backend, tile, how, pair),
        Contraction::OuterDense => {
            let (right, outer) = (Piece::dense(columns), outer(backend, rows));
            let v = (pair.signed(backend, dense(columns)), None);
            for left in Piece::cut(backend, &outer, rows) {
                let sides = (left.axes, right.axes);
                let own = left.of(backend, &outer);
                add_outer(backend, tile, how, sides, (&own, &v), Scaled::Columns);
            }
        }
        Contraction::DenseOuter => {
            let (left, outer) = (Piece::dense(rows), outer(backend, columns));
            let v = (pair.signed(backend, dense(rows)), None);
            for right in Piece::cut(backend, &outer, columns) {
                let sides = (left.axes, right.axes);
                let own = right.of(backend, &outer);
                add_outer(backend, tile, how, sides, (&v, &own), Scaled::Rows);
            }
        }
        // Columns are no pair of factors: the cost model does not know of them.
        Contraction::DenseDense | Contraction::HessianColumns => {
            let (left, right) = (dense(rows), pair.signed(backend, dense(columns)));
            backend.accumulate_dense(tile, how, (rows.origin, columns.origin), (&left, &right));
        }
    }
    (kind, operations)
}

/// Adds what tangents of consecutive entries do to a range of the gradient, `[1, entries, range]`, to the place `origin` of a
/// tile: as its rows where `as_rows`, else as its columns. Returns the rule and its operations.
pub fn accumulate_columns<B: Contract>(
    backend: &B,
    tile: &mut B::Accumulator,
    origin: (usize, usize),
    columns: &B::Tensor,
    as_rows: bool,
) -> (Contraction, u64) {
    let shape = backend.shape(columns);
    let count = shape.directions;
    let units = unit_rows(backend, 0..count, count);
    let factors = if as_rows {
        (&units, columns)
    } else {
        (columns, &units)
    };
    backend.accumulate_dense(tile, Placement::ADD, origin, factors);
    let operations = 2 * (count * count * shape.rest_len()) as u64;
    (Contraction::HessianColumns, operations)
}

/// A segment's outer factor.
fn outer<B: Backend>(backend: &B, segment: &Segment<'_, B::Tensor>) -> Outer<B::Tensor> {
    let outer = segment.factor.outer(backend);
    outer.expect("the cost model offers this to outer factors alone")
}

/// Δ and a of a side.
type Own<T> = (T, Option<T>);

/// Adds the outer product of rows and columns.
fn add_outer<B: Contract>(
    backend: &B,
    tile: &mut B::Accumulator,
    how: Placement,
    axes: (OuterAxes, OuterAxes),
    (rows, columns): (&Own<B::Tensor>, &Own<B::Tensor>),
    scaled: Scaled,
) {
    let term = OuterTerm {
        row_cotangents: &rows.0,
        column_cotangents: &columns.0,
        row_inputs: rows.1.as_ref(),
        column_inputs: columns.1.as_ref(),
    };
    backend.accumulate_outer(tile, how, axes, term, scaled);
}

/// Outer × outer, piece by piece.
fn outer_outer<B: Contract>(
    backend: &B,
    tile: &mut B::Accumulator,
    how: Placement,
    pair: &FactorPair<'_, B::Tensor>,
) {
    let (left, right) = (outer(backend, &pair.rows), outer(backend, &pair.columns));
    let one_site = std::ptr::eq(pair.rows.factor, pair.columns.factor);
    // The side of fewer inputs is scaled: by the parameters alone, so that a product and its mirror round alike.
    let scaled = if left.input_count(backend) > right.input_count(backend) {
        Scaled::Columns
    } else {
        Scaled::Rows
    };
    let (rows, columns) = (
        Piece::cut(backend, &left, &pair.rows),
        Piece::cut(backend, &right, &pair.columns),
    );
    for (k, row) in rows.iter().enumerate() {
        for (j, column) in columns.iter().enumerate() {
            // Of a symmetric product the earlier piece's outputs are the rows, on the other side of the diagonal too.
            let (row_axes, column_axes, fill) = match how.mirror {
                MirrorRule::Symmetric if j < k => {
                    (columns[j].axes, rows[k].axes, MirrorRule::Transposed)
                }
                MirrorRule::Symmetric if j > k => (row.axes, column.axes, MirrorRule::Own),
                fill => (row.axes, column.axes, fill),
            };
            let transposed = how.mirror == MirrorRule::Symmetric && j < k;
            let (row, column) = if transposed {
                (&rows[j], &columns[k])
            } else {
                (row, column)
            };
            let own = row.of(backend, &left);
            let (cotangents, inputs) = column.of(backend, &right);
            let other = (pair.signed(backend, cotangents), inputs);
            // Whole rows, whose pieces are the same in every tile, and what is its own mirror.
            let itself = how.mirror == MirrorRule::Symmetric && j == k;
            let whole = row.inputs.len() == left.input_count(backend);
            let alike = one_site && row.inputs == column.inputs && (whole || itself);
            let scaled = if alike { Scaled::Alike } else { scaled };
            let (how, sides) = (
                Placement {
                    mirror: fill,
                    ..how
                },
                (row_axes, column_axes),
            );
            add_outer(backend, tile, how, sides, (&own, &other), scaled);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outer(o: usize, i: usize) -> FactorSize {
        FactorSize {
            entries: o * i,
            outer: Some((o, i)),
        }
    }

    #[test]
    fn the_cost_model_takes_what_design_section_2_takes() {
        let dense = FactorSize {
            entries: 2400,
            outer: None,
        };
        assert_eq!(
            choose(outer(120, 256), outer(120, 256), 10).0,
            Contraction::OuterOuter
        );
        assert_eq!(
            choose(outer(120, 256), outer(120, 1), 10).0,
            Contraction::OuterOuter
        );
        assert_eq!(
            choose(outer(120, 1), outer(120, 1), 10).0,
            Contraction::DenseDense
        );
        assert_eq!(
            choose(outer(120, 256), dense, 10).0,
            Contraction::OuterDense
        );
        assert_eq!(
            choose(dense, outer(120, 256), 10).0,
            Contraction::DenseOuter
        );
        assert_eq!(choose(dense, dense, 10).0, Contraction::DenseDense);
        assert_eq!(choose(outer(120, 256), dense, 1).0, Contraction::DenseDense);
    }
}
