//! The same elements under another shape (Reshape, Flatten, Squeeze, Unsqueeze), and repetition (Expand).

use super::{Forward, Operation, Pullback, SiteKind, Step, reduce_to, shape_error};
use crate::error::Result;
use crate::tensor::{Backend, broadcast_rest};
use ndarray::{ArrayD, IxDyn};

/// The same elements in the same order under the shape `rest`. Operand: x.
#[derive(Clone, Debug, PartialEq)]
pub struct Reshape {
    /// The new shape at batch 1.
    pub rest: Vec<usize>,
}

/// x repeated to the shape `rest`. Operand: x.
#[derive(Clone, Debug, PartialEq)]
pub struct Broadcast {
    /// The new shape at batch 1.
    pub rest: Vec<usize>,
}

impl Operation for Reshape {
    fn shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [x] = inputs else {
            return shape_error(format!("a reshape has one operand, not {}", inputs.len()));
        };
        if x.iter().product::<usize>() != self.rest.iter().product::<usize>() {
            return shape_error(format!("{x:?} cannot be reshaped to {:?}", self.rest));
        }
        Ok(self.rest.clone())
    }

    fn relabels(&self) -> bool {
        true
    }

    fn step_back(&self, rest: &[usize]) -> Option<Step> {
        Some(Step::Reshape(rest.to_vec()))
    }

    fn arranged(&self, entries: &ArrayD<usize>) -> Option<ArrayD<usize>> {
        let flat = entries.iter().copied().collect();
        ArrayD::from_shape_vec(IxDyn(&self.rest), flat).ok()
    }

    fn passes_offsets(&self, _: usize) -> bool {
        true
    }

    fn forward<B: Backend>(&self, backend: &B, inputs: &[B::Tensor]) -> Forward<B> {
        Forward::value(backend.reshape(&inputs[0], &self.rest))
    }

    fn vjp<B: Backend>(&self, backend: &B, pullback: &Pullback<'_, B>, _: usize) -> B::Tensor {
        backend.reshape(pullback.cotangent, &backend.shape(&pullback.inputs[0]).rest)
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

impl Operation for Broadcast {
    fn shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        match inputs {
            [x] if broadcast_rest(x, &self.rest).as_ref() == Some(&self.rest) => {
                Ok(self.rest.clone())
            }
            _ => shape_error(format!("{inputs:?} cannot be expanded to {:?}", self.rest)),
        }
    }

    fn forward<B: Backend>(&self, backend: &B, inputs: &[B::Tensor]) -> Forward<B> {
        Forward::value(backend.broadcast(&inputs[0], &self.rest))
    }

    fn vjp<B: Backend>(&self, backend: &B, pullback: &Pullback<'_, B>, _: usize) -> B::Tensor {
        reduce_to(
            backend,
            pullback.cotangent,
            &backend.shape(&pullback.inputs[0]).rest,
        )
    }

    fn site<B: Backend>(&self, _: &B, pullback: &Pullback<'_, B>, _: usize) -> SiteKind<B::Tensor> {
        SiteKind::Elementwise {
            cotangents: pullback.cotangent.clone(),
            derivative: None,
        }
    }
}
