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

use crate::jacobian::{Factor, Rectangle, rectangles, slice};
use crate::ops::Outer;
use crate::tensor::{Backend, Contract, Einsum, OuterSide};
use std::ops::Range;

/// Numbers that a temporary (P, W, rows of V) may hold; more samples than fit are taken in turns.
///
/// A constant, not a share of the budget: the order of accumulation must not depend on the budget.
const TEMPORARY: usize = 1 << 22;

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

/// A rectangle of an outer segment, with its slices of Δ and a.
struct Piece<T> {
    cotangents: T,
    inputs: Option<T>,
    origin: usize,
    output_stride: usize,
    input_stride: usize,
}

impl<T: Clone> Piece<T> {
    /// Cuts a segment of an outer factor into rectangles.
    fn cut<B: Backend<Tensor = T>>(
        backend: &B,
        outer: &Outer<T>,
        segment: &Segment<'_, T>,
    ) -> Vec<Piece<T>> {
        let (outputs, inputs) = (outer.output_count(backend), outer.input_count(backend));
        let inner = if outer.outputs_first { inputs } else { outputs };
        rectangles(segment.range.clone(), inner)
            .into_iter()
            .map(
                |Rectangle {
                     major,
                     minor,
                     offset,
                 }| {
                    let (o, i, output_stride, input_stride) = if outer.outputs_first {
                        (major, minor, inputs, 1)
                    } else {
                        (minor, major, 1, outputs)
                    };
                    Piece {
                        cotangents: slice(backend, &outer.cotangents, 2, &o),
                        inputs: outer.inputs.as_ref().map(|a| slice(backend, a, 2, &i)),
                        origin: segment.origin + offset,
                        output_stride,
                        input_stride,
                    }
                },
            )
            .collect()
    }

    fn side<'a>(&self, inputs: Option<&'a T>) -> OuterSide<'a, T> {
        OuterSide {
            inputs,
            origin: self.origin,
            output_stride: self.output_stride,
            input_stride: self.input_stride,
        }
    }
}

/// The contraction that [`accumulate`] will take for a pair of segments, and its operations.
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

/// Adds one unit's contribution to the part of a tile where two segments meet; returns the rule taken and its
/// operations, which are those of [`contraction`].
///
/// `signs` is `[samples, directions, 1]` where the loss factor carries signs.
pub fn accumulate<B: Contract>(
    backend: &B,
    tile: &mut B::Accumulator,
    rows: &Segment<'_, B::Tensor>,
    columns: &Segment<'_, B::Tensor>,
    signs: Option<&B::Tensor>,
) -> (Contraction, u64) {
    let signed = |x: &B::Tensor| match signs {
        Some(signs) => backend.multiply(x, signs),
        None => x.clone(),
    };
    let (kind, operations) = contraction(backend, rows, columns);
    let outer = |segment: &Segment<'_, B::Tensor>| {
        let outer = segment
            .factor
            .outer(backend)
            .expect("the cost model offers this to outer factors alone");
        Piece::cut(backend, &outer, segment)
    };
    match kind {
        Contraction::OuterOuter => {
            let right = outer(columns);
            let right: Vec<_> = right
                .iter()
                .map(|piece| (piece, signed(&piece.cotangents)))
                .collect();
            for left in outer(rows) {
                for (right, signed_right) in &right {
                    outer_pair(
                        backend,
                        tile,
                        (&left, &left.cotangents),
                        (right, signed_right),
                    );
                }
            }
        }
        Contraction::OuterDense => {
            let dense = signed(&columns.factor.rows(backend, columns.range.clone()));
            let right = Piece {
                cotangents: dense.clone(),
                inputs: None,
                origin: columns.origin,
                output_stride: 1,
                input_stride: 1,
            };
            for left in outer(rows) {
                outer_pair(backend, tile, (&left, &left.cotangents), (&right, &dense));
            }
        }
        Contraction::DenseOuter => {
            let dense = signed(&rows.factor.rows(backend, rows.range.clone()));
            let left = Piece {
                cotangents: dense.clone(),
                inputs: None,
                origin: rows.origin,
                output_stride: 1,
                input_stride: 1,
            };
            for right in outer(columns) {
                outer_pair(backend, tile, (&left, &dense), (&right, &right.cotangents));
            }
        }
        // Columns are no pair of factors: the cost model does not know of them.
        Contraction::DenseDense | Contraction::HessianColumns => {
            let left = rows.factor.rows(backend, rows.range.clone());
            let right = signed(&columns.factor.rows(backend, columns.range.clone()));
            backend.accumulate_dense(tile, (rows.origin, columns.origin), &left, &right);
        }
    }
    (kind, operations)
}

/// `tile[(o,i),(o',i')] += Σ_n (Σ_r Δ_n[r,o] Δ'_n[r,o']) a_n[i] a'_n[i']`, in turns of samples.
fn outer_pair<B: Contract>(
    backend: &B,
    tile: &mut B::Accumulator,
    (left, left_cotangents): (&Piece<B::Tensor>, &B::Tensor),
    (right, right_cotangents): (&Piece<B::Tensor>, &B::Tensor),
) {
    let (l, r) = (
        backend.shape(left_cotangents),
        backend.shape(right_cotangents),
    );
    let samples = l.samples.max(r.samples);
    let each = (l.rest_len() * r.rest_len()).max(1);
    let turn = (TEMPORARY / each).clamp(1, samples.max(1));
    let formula = Einsum::new("sro,srp->s1op");
    for start in (0..samples).step_by(turn) {
        let range = start..(start + turn).min(samples);
        // A tensor that all samples share stays whole.
        let take = |x: &B::Tensor| match backend.shape(x).samples {
            1 => x.clone(),
            _ => slice(backend, x, 0, &range),
        };
        let pairs = backend.einsum(&formula, &take(left_cotangents), &take(right_cotangents));
        let (a, a2) = (
            left.inputs.as_ref().map(take),
            right.inputs.as_ref().map(take),
        );
        backend.accumulate_outer(tile, &pairs, left.side(a.as_ref()), right.side(a2.as_ref()));
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
