//! A part of an axis: Slice, Split, and Gather of one entry.

use super::{Forward, Operation, Pullback, SiteKind, shape_error};
use crate::error::Result;
use crate::tensor::Backend;
use ndarray::{ArrayD, Axis};
use std::ops::Range;

/// The entries `range` of an axis. Operand: x.
#[derive(Clone, Debug, PartialEq)]
pub struct Slice {
    /// The axis of the rest.
    pub axis: usize,
    /// The entries taken.
    pub range: Range<usize>,
}

impl Operation for Slice {
    fn shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        match inputs {
            [x] if x
                .get(self.axis)
                .is_some_and(|&extent| self.range.end <= extent && !self.range.is_empty()) =>
            {
                let mut rest = x.to_vec();
                rest[self.axis] = self.range.len();
                Ok(rest)
            }
            _ => shape_error(format!(
                "the entries {:?} of axis {} of {inputs:?}",
                self.range, self.axis
            )),
        }
    }

    fn arranged(&self, entries: &ArrayD<usize>) -> Option<ArrayD<usize>> {
        let range = ndarray::Slice::from(self.range.clone());
        Some(entries.slice_axis(Axis(self.axis), range).to_owned())
    }

    fn forward<B: Backend>(&self, backend: &B, inputs: &[B::Tensor]) -> Forward<B> {
        let Range { start, end } = self.range;
        Forward::value(backend.slice(&inputs[0], self.axis + 2, start, end))
    }

    fn vjp<B: Backend>(&self, backend: &B, pullback: &Pullback<'_, B>, _: usize) -> B::Tensor {
        let extent = backend.shape(&pullback.inputs[0]).rest[self.axis];
        backend.embed(pullback.cotangent, self.axis + 2, self.range.start, extent)
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
