//! Sums over axes: ReduceSum, and with a constant factor ReduceMean and GlobalAveragePool.

use super::{Forward, Operation, Pullback, SiteKind, shape_error};
use crate::error::Result;
use crate::tensor::Backend;

/// Sum over axes of the rest. Operand: x.
#[derive(Clone, Debug, PartialEq)]
pub struct ReduceSum {
    /// The axes of the rest that are summed.
    pub axes: Vec<usize>,
    /// Whether they stay with extent 1.
    pub keep: bool,
}

impl ReduceSum {
    fn kept(&self, rest: &[usize]) -> Vec<usize> {
        let extent =
            |(axis, &extent): (usize, &usize)| if self.axes.contains(&axis) { 1 } else { extent };
        rest.iter().enumerate().map(extent).collect()
    }
}

impl Operation for ReduceSum {
    fn shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        match inputs {
            [x] if self.axes.iter().all(|&axis| axis < x.len()) => Ok(if self.keep {
                self.kept(x)
            } else {
                (0..x.len())
                    .filter(|a| !self.axes.contains(a))
                    .map(|a| x[a])
                    .collect()
            }),
            _ => shape_error(format!("a sum over the axes {:?} of {inputs:?}", self.axes)),
        }
    }

    fn forward<B: Backend>(&self, backend: &B, inputs: &[B::Tensor]) -> Forward<B> {
        let rest = backend.shape(&inputs[0]).rest;
        let axes: Vec<usize> = self.axes.iter().map(|axis| axis + 2).collect();
        let sum = backend.reduce_sum(&inputs[0], &axes);
        let shape = self.shape(&[&rest]).expect("checked at import");
        Forward::value(backend.reshape(&sum, &shape))
    }

    fn vjp<B: Backend>(&self, backend: &B, pullback: &Pullback<'_, B>, _: usize) -> B::Tensor {
        let rest = backend.shape(&pullback.inputs[0]).rest;
        let kept = backend.reshape(pullback.cotangent, &self.kept(&rest));
        backend.broadcast(&kept, &rest)
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
