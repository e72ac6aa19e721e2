//! z = x·Wᵀ on the last axis: Gemm and MatMul with a weight.

use super::{Forward, Operation, Pullback, Role, SiteKind, shape_error};
use crate::error::Result;
use crate::tensor::{Backend, Einsum};

/// z[…, o] = Σ_i x[…, i] W[o, i]. Operands: x, W.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear {
    /// Whether W is O×I, else I×O.
    pub outputs_first: bool,
}

impl Linear {
    fn weight_labels(&self) -> &'static str {
        if self.outputs_first { "sdoi" } else { "sdio" }
    }

    /// The operand with its leading axes taken together: `[T, last]`.
    fn positions<B: Backend>(backend: &B, tensor: &B::Tensor) -> B::Tensor {
        let rest = backend.shape(tensor).rest;
        let (last, lead) = rest.split_last().expect("checked at import");
        backend.reshape(tensor, &[lead.iter().product(), *last])
    }
}

impl Operation for Linear {
    fn shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [x, w] = inputs else {
            return shape_error(format!(
                "a linear operation has two operands, not {}",
                inputs.len()
            ));
        };
        if w.len() != 2 || x.is_empty() {
            return shape_error(format!(
                "inputs {x:?} and a weight {w:?}, which should have two axes"
            ));
        }
        let (outputs, width) = if self.outputs_first {
            (w[0], w[1])
        } else {
            (w[1], w[0])
        };
        if x[x.len() - 1] != width {
            return shape_error(format!(
                "inputs {x:?} for a weight of {width} inputs and {outputs} outputs"
            ));
        }
        let mut rest = x.to_vec();
        *rest.last_mut().expect("x is not empty") = outputs;
        Ok(rest)
    }

    fn offset_inputs(&self, operand: usize) -> Option<&'static [usize]> {
        (operand == 1).then_some(&[0])
    }

    fn role(&self, operand: usize, shape: &[usize]) -> Role {
        match (operand, self.outputs_first) {
            (1, true) => Role::weight(shape, shape[1], shape[0], 1),
            (1, false) => Role::weight(shape, shape[0], shape[1], 1),
            _ => Role::Other,
        }
    }

    fn forward<B: Backend>(&self, backend: &B, inputs: &[B::Tensor]) -> Forward<B> {
        let x = Self::positions(backend, &inputs[0]);
        // The weight's own samples and directions (a tangent has directions) share the labels s, d.
        let einsum = Einsum::new(&format!("sdti,{}->sdto", self.weight_labels()));
        let z = backend.einsum(&einsum, &x, &inputs[1]);
        let rest = self.shape(&[
            &backend.shape(&inputs[0]).rest,
            &backend.shape(&inputs[1]).rest,
        ]);
        Forward::value(backend.reshape(&z, &rest.expect("checked at import")))
    }

    fn vjp<B: Backend>(
        &self,
        backend: &B,
        pullback: &Pullback<'_, B>,
        operand: usize,
    ) -> B::Tensor {
        assert_eq!(operand, 0, "a weight is a site");
        let cotangents = Self::positions(backend, pullback.cotangent);
        let einsum = Einsum::new(&format!("sdto,{}->sdti", self.weight_labels()));
        let back = backend.einsum(&einsum, &cotangents, &pullback.inputs[1]);
        backend.reshape(&back, &backend.shape(&pullback.inputs[0]).rest)
    }

    fn site<B: Backend>(
        &self,
        backend: &B,
        pullback: &Pullback<'_, B>,
        operand: usize,
    ) -> SiteKind<B::Tensor> {
        if operand == 0 {
            return SiteKind::Rows(self.vjp(backend, pullback, 0));
        }
        SiteKind::Linear {
            cotangents: Self::positions(backend, pullback.cotangent),
            inputs: Self::positions(backend, &pullback.inputs[0]),
            outputs_first: self.outputs_first,
        }
    }
}
