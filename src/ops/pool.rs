//! Pooling: the sum over windows (average pools divide it) and the maximum.

use super::{Forward, Operation, Pullback, SiteKind, shape_error};
use crate::error::Result;
use crate::tensor::{Backend, Window};

/// Sum over each window of the last axes. Operand: x. An average pool is this times a constant.
#[derive(Clone, Debug, PartialEq)]
pub struct WindowSum {
    /// Geometry.
    pub window: Window,
}

/// Maximum over each window of the last axes, padding never chosen. Operand: x.
#[derive(Clone, Debug, PartialEq)]
pub struct MaxPool {
    /// Geometry.
    pub window: Window,
}

fn pooled(window: &Window, inputs: &[&[usize]]) -> Result<Vec<usize>> {
    let spatial = window.input.len();
    match inputs {
        [x] if x.len() >= spatial && x[x.len() - spatial..] == window.input[..] => {
            let mut rest = x[..x.len() - spatial].to_vec();
            rest.extend_from_slice(&window.output);
            Ok(rest)
        }
        _ => shape_error(format!(
            "a pool over {:?} of inputs {inputs:?}",
            window.input
        )),
    }
}

impl Operation for WindowSum {
    fn shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        pooled(&self.window, inputs)
    }

    fn forward<B: Backend>(&self, backend: &B, inputs: &[B::Tensor]) -> Forward<B> {
        Forward::value(backend.window_sum(&inputs[0], &self.window))
    }

    fn vjp<B: Backend>(&self, backend: &B, pullback: &Pullback<'_, B>, _: usize) -> B::Tensor {
        backend.window_spread(pullback.cotangent, &self.window)
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

impl Operation for MaxPool {
    fn shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        pooled(&self.window, inputs)
    }

    fn forward<B: Backend>(&self, backend: &B, inputs: &[B::Tensor]) -> Forward<B> {
        let indices = backend.max_pool_indices(&inputs[0], &self.window);
        Forward {
            output: backend.gather(&inputs[0], &indices, &self.window),
            indices: Some(indices),
        }
    }

    fn vjp<B: Backend>(&self, backend: &B, pullback: &Pullback<'_, B>, _: usize) -> B::Tensor {
        let indices = pullback
            .indices
            .expect("the forward pass of a max-pool chooses");
        backend.scatter(pullback.cotangent, indices, &self.window)
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
