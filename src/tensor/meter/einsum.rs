//! The choice between matrix products and plain loops for an einsum.

use crate::tensor::tally::Kind;
use crate::tensor::{Einsum, Shape};
use std::collections::BTreeMap;

/// Below this, a product of two sides and an inner dimension is not worth a matrix's.
const MATRIX: u64 = 64;

/// Whether an einsum is of matrices, and of how many: of either operand's own axes the longest is a matrix's, the others
/// are walked.
pub(super) fn matrices(
    einsum: &Einsum,
    extents: &BTreeMap<u8, usize>,
    (left, right): (&Shape, &Shape),
) -> (Kind, u64) {
    let has = |labels: &[u8], shape: &Shape, label: u8| {
        let axes = shape.axes();
        labels.iter().zip(axes).any(|(&l, e)| l == label && e > 1)
    };
    let (mut all, mut rows, mut columns, mut inner) = (1, 1, 1, 1);
    // Neighbouring axes of a kind are one, the samples and directions of a linear layer above all.
    for (&label, &extent) in extents {
        let extent = extent as u64;
        all *= extent;
        let (l, r) = (
            has(&einsum.left, left, label),
            has(&einsum.right, right, label),
        );
        match (l, r, einsum.output.contains(&label)) {
            (true, false, true) => rows *= extent,
            (false, true, true) => columns *= extent,
            (true, true, false) => inner *= extent,
            _ => {}
        }
    }
    let matrix = rows * columns * inner;
    let count = all / matrix.max(1);
    match matrix <= MATRIX || rows * columns == 1 || inner == 1 && rows.min(columns) == 1 {
        true => (Kind::Lanes, count),
        false => (Kind::Product, count),
    }
}
