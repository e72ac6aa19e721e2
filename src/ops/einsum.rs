//! Products of two operands with named axes: MatMul of activations, Einsum, attention.

use super::{Forward, Operation, Pullback, Role, SiteKind, reduce_to};
use crate::error::{Error, Result};
use crate::tensor::{self, Backend};
use std::collections::BTreeMap;

/// z = Σ x·y over the labels that the result lacks. Operands: x, y.
///
/// Labels are those of the rests, any bytes but `s`, `d` and `1`; an axis of extent 1 broadcasts where its label
/// is in the result. A label of one operand alone is in the result.
#[derive(Clone, Debug, PartialEq)]
pub struct Einsum {
    /// Labels of x.
    pub left: Vec<u8>,
    /// Labels of y.
    pub right: Vec<u8>,
    /// Labels of the result.
    pub output: Vec<u8>,
}

/// Labels that an operand's axes may have.
pub(crate) const LABELS: &[u8] = b"abcefghijklmnopqrtuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

impl Einsum {
    /// z[…, m, n] = Σ_k x[…, m, k] y[…, k, n], leading axes broadcast at the back, of two axes or more each.
    pub fn matmul(left_rank: usize, right_rank: usize) -> Einsum {
        let most = left_rank.max(right_rank).max(2) - 2;
        let labels = |rank: usize, last: &[u8; 2]| {
            let lead = &LABELS[3 + most - (rank.max(2) - 2)..3 + most];
            [lead, last].concat()
        };
        Einsum {
            left: labels(left_rank, b"ab"),
            right: labels(right_rank, b"bc"),
            output: labels(most + 2, b"ac"),
        }
    }

    /// The primitive's formula `x, y → z` of labels of rests.
    fn formula(x: &[u8], y: &[u8], z: &[u8]) -> tensor::Einsum {
        let all = |labels: &[u8]| [b"sd", labels].concat();
        tensor::Einsum {
            left: all(x),
            right: all(y),
            output: all(z),
        }
    }

    /// Every label's extent.
    fn extents(&self, x: &[usize], y: &[usize]) -> Option<BTreeMap<u8, usize>> {
        let mut extents = BTreeMap::new();
        for (labels, rest) in [(&self.left, x), (&self.right, y)] {
            if labels.len() != rest.len() {
                return None;
            }
            for (k, (&label, &extent)) in labels.iter().zip(rest).enumerate() {
                let summed = !self.output.contains(&label);
                let known = extents.entry(label).or_insert(extent);
                let fits = *known == extent || (!summed && (*known == 1 || extent == 1));
                if !fits || labels[..k].contains(&label) || !LABELS.contains(&label) {
                    return None;
                }
                *known = (*known).max(extent);
            }
        }
        let in_both = |label: &u8| self.left.contains(label) && self.right.contains(label);
        let summed_alone = |label: &u8| !self.output.contains(label) && !in_both(label);
        (!extents.keys().any(summed_alone)).then_some(extents)
    }
}

impl Operation for Einsum {
    fn shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let rest = match inputs {
            [x, y] => self.extents(x, y).and_then(|extents| {
                let extent = |label| extents.get(label).copied();
                self.output.iter().map(extent).collect::<Option<Vec<_>>>()
            }),
            _ => None,
        };
        rest.ok_or_else(|| {
            let text = |labels| String::from_utf8_lossy(labels).into_owned();
            Error::Shape(format!(
                "a product {},{}->{} of {inputs:?}",
                text(&self.left),
                text(&self.right),
                text(&self.output)
            ))
        })
    }

    /// A weight's axes in the order: shared by all three, outputs, summed.
    fn role(&self, operand: usize, shape: &[usize]) -> Role {
        let (own, other) = match operand {
            0 => (&self.left, &self.right),
            _ => (&self.right, &self.left),
        };
        let kind = |label: &u8| match (self.output.contains(label), other.contains(label)) {
            (true, true) => 0,
            (true, false) => 1,
            (false, _) => 2,
        };
        // Without a sum it is a product entry by entry: no weight of an affine operation.
        if !own.iter().any(|label| kind(label) == 2) {
            return Role::Other;
        }
        let extent = |wanted: usize| -> usize {
            let axes = own.iter().zip(shape);
            axes.filter(|(label, _)| kind(label) == wanted)
                .map(|(_, e)| e)
                .product()
        };
        let mut axes: Vec<usize> = (0..own.len()).collect();
        axes.sort_by_key(|&axis| kind(&own[axis]));
        Role::Weight {
            fan_in: extent(2),
            fan_out: extent(1),
            groups: extent(0),
            rows: extent(1),
            axes,
        }
    }

    fn forward<B: Backend>(&self, backend: &B, inputs: &[B::Tensor]) -> Forward<B> {
        let formula = Self::formula(&self.left, &self.right, &self.output);
        Forward::value(backend.einsum(&formula, &inputs[0], &inputs[1]))
    }

    fn vjp<B: Backend>(
        &self,
        backend: &B,
        pullback: &Pullback<'_, B>,
        operand: usize,
    ) -> B::Tensor {
        let (own, other) = if operand == 0 {
            (&self.left, &self.right)
        } else {
            (&self.right, &self.left)
        };
        let formula = Self::formula(&self.output, other, own);
        let back = backend.einsum(&formula, pullback.cotangent, &pullback.inputs[1 - operand]);
        reduce_to(
            backend,
            &back,
            &backend.shape(&pullback.inputs[operand]).rest,
        )
    }

    fn site<B: Backend>(
        &self,
        backend: &B,
        pullback: &Pullback<'_, B>,
        operand: usize,
    ) -> SiteKind<B::Tensor> {
        SiteKind::Rows(self.vjp(backend, pullback, operand))
    }
}
