//! Joining operands along an axis.

use super::{Forward, Operation, Pullback, SiteKind, shape_error};
use crate::error::Result;
use crate::tensor::Backend;

/// The operands one after another along an axis of the rest.
#[derive(Clone, Debug, PartialEq)]
pub struct Concat {
    /// The axis of the rest.
    pub axis: usize,
}

impl Operation for Concat {
    fn shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let first = inputs.first().copied().unwrap_or_default();
        let fits = |x: &&[usize]| {
            x.len() == first.len()
                && self.axis < x.len()
                && (0..x.len()).all(|axis| axis == self.axis || x[axis] == first[axis])
        };
        if inputs.is_empty() || !inputs.iter().all(fits) {
            return shape_error(format!("{inputs:?} joined along axis {}", self.axis));
        }
        let mut rest = first.to_vec();
        rest[self.axis] = inputs.iter().map(|x| x[self.axis]).sum();
        Ok(rest)
    }

    fn forward<B: Backend>(&self, backend: &B, inputs: &[B::Tensor]) -> Forward<B> {
        let inputs: Vec<&B::Tensor> = inputs.iter().collect();
        Forward::value(backend.concat(&inputs, self.axis + 2))
    }

    fn vjp<B: Backend>(
        &self,
        backend: &B,
        pullback: &Pullback<'_, B>,
        operand: usize,
    ) -> B::Tensor {
        let extent = |x: &B::Tensor| backend.shape(x).rest[self.axis];
        let start: usize = pullback.inputs[..operand].iter().map(extent).sum();
        let stop = start + extent(&pullback.inputs[operand]);
        backend.slice(pullback.cotangent, self.axis + 2, start, stop)
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
