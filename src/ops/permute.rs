//! Permutation of axes: Transpose.

use super::site::inverse;
use super::{Forward, Operation, Pullback, SiteKind, Step, shape_error};
use crate::error::Result;
use crate::tensor::Backend;
use ndarray::{ArrayD, IxDyn};

/// Output axis k is input axis `order[k]`. Operand: x.
#[derive(Clone, Debug, PartialEq)]
pub struct Permute {
    /// The permutation.
    pub order: Vec<usize>,
}

impl Operation for Permute {
    fn shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let mut seen = self.order.clone();
        seen.sort_unstable();
        if inputs.len() != 1 || seen != (0..inputs[0].len()).collect::<Vec<_>>() {
            return shape_error(format!("axes {inputs:?} permuted as {:?}", self.order));
        }
        Ok(self.order.iter().map(|&axis| inputs[0][axis]).collect())
    }

    fn relabels(&self) -> bool {
        true
    }

    fn step_back(&self, _: &[usize]) -> Option<Step> {
        Some(Step::Permute(self.order.clone()))
    }

    fn arranged(&self, entries: &ArrayD<usize>) -> Option<ArrayD<usize>> {
        Some(entries.clone().permuted_axes(IxDyn(&self.order)))
    }

    fn forward<B: Backend>(&self, backend: &B, inputs: &[B::Tensor]) -> Forward<B> {
        Forward::value(backend.permute(&inputs[0], &self.order))
    }

    fn vjp<B: Backend>(&self, backend: &B, pullback: &Pullback<'_, B>, _: usize) -> B::Tensor {
        backend.permute(pullback.cotangent, &inverse(&self.order))
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
