//! Every operation that acts position by position: activations, bias, sums and products, normalisation.

use super::{Forward, Operation, Pullback, Role, SiteKind, reduce_to, shape_error};
use crate::error::Result;
use crate::tensor::{Backend, Expr, broadcast_rest};

/// z = f(x₀, x₁, …) at every position, operands broadcast as in NumPy.
#[derive(Clone, Debug, PartialEq)]
pub struct Elementwise {
    /// f.
    pub expr: Expr,
}

impl Elementwise {
    /// From its expression.
    pub fn new(expr: Expr) -> Self {
        Self { expr }
    }

    /// ∂f/∂x_k as a tensor at primal directions; `None` where it is 1 everywhere.
    ///
    /// It is formed before it meets the cotangent: it has one direction, the cotangent has many.
    fn derivative<B: Backend>(
        &self,
        backend: &B,
        inputs: &[B::Tensor],
        operand: usize,
    ) -> Option<B::Tensor> {
        let derivative = self.expr.derivative(operand);
        if derivative.as_constant() == Some(1.0) {
            return None;
        }
        let inputs: Vec<&B::Tensor> = inputs.iter().collect();
        Some(backend.map(&derivative, &inputs))
    }
}

impl Operation for Elementwise {
    fn shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let mut rest = Vec::new();
        for input in inputs {
            rest = match broadcast_rest(&rest, input) {
                Some(rest) => rest,
                None => return shape_error(format!("operands {inputs:?} do not broadcast")),
            };
        }
        Ok(rest)
    }

    fn differentiates(&self, operand: usize) -> bool {
        self.expr.derivative(operand).as_constant() != Some(0.0)
    }

    fn passes_offsets(&self, operand: usize) -> bool {
        self.expr.derivative(operand).as_constant() == Some(1.0)
    }

    fn offset_inputs(&self, operand: usize) -> Option<&'static [usize]> {
        self.passes_offsets(operand).then_some(&[])
    }

    fn role(&self, operand: usize, _: &[usize]) -> Role {
        let derivative = self.expr.derivative(operand);
        match derivative.as_constant() {
            Some(0.0) => Role::Other,
            Some(_) => Role::Shift,
            None if derivative.derivative(operand).as_constant() == Some(0.0) => Role::Factor,
            None => Role::Other,
        }
    }

    fn forward<B: Backend>(&self, backend: &B, inputs: &[B::Tensor]) -> Forward<B> {
        let inputs: Vec<&B::Tensor> = inputs.iter().collect();
        Forward::value(backend.map(&self.expr, &inputs))
    }

    fn vjp<B: Backend>(
        &self,
        backend: &B,
        pullback: &Pullback<'_, B>,
        operand: usize,
    ) -> B::Tensor {
        let product = match self.derivative(backend, pullback.inputs, operand) {
            Some(derivative) => backend.multiply(pullback.cotangent, &derivative),
            None => pullback.cotangent.clone(),
        };
        reduce_to(
            backend,
            &product,
            &backend.shape(&pullback.inputs[operand]).rest,
        )
    }

    fn site<B: Backend>(
        &self,
        backend: &B,
        pullback: &Pullback<'_, B>,
        operand: usize,
    ) -> SiteKind<B::Tensor> {
        SiteKind::Elementwise {
            cotangents: pullback.cotangent.clone(),
            derivative: self.derivative(backend, pullback.inputs, operand),
        }
    }
}
