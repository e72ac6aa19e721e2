//! Softmax and its logarithm along one axis.

use super::{Forward, Operation, Pullback, SiteKind, shape_error};
use crate::error::Result;
use crate::tensor::{Backend, Expr, Window, expression::Unary};

/// π = eˣ / Σ eˣ along an axis, or ln π. Operand: x.
#[derive(Clone, Debug, PartialEq)]
pub struct Softmax {
    /// The axis of the rest.
    pub axis: usize,
    /// Whether it is the logarithm.
    pub log: bool,
}

impl Softmax {
    /// The maximum along the axis, kept with extent 1. What is made of it does not depend on it: it only
    /// keeps the exponentials from overflowing.
    fn maximum<B: Backend>(&self, backend: &B, x: &B::Tensor) -> B::Tensor {
        let rest = backend.shape(x).rest;
        let (last, extent) = (rest.len() - 1, rest[self.axis]);
        let mut kept = rest;
        kept[self.axis] = 1;
        let turned = if self.axis == last {
            x.clone()
        } else {
            let others = (0..=last).filter(|&axis| axis != self.axis);
            backend.permute(x, &others.chain([self.axis]).collect::<Vec<_>>())
        };
        let window = Window::over_all(extent);
        let indices = backend.max_pool_indices(&turned, &window);
        let maximum = backend.gather(&turned, &indices, &window);
        backend.reshape(&maximum, &kept)
    }

    /// eˣ over its sum, or x less the logarithm of that sum.
    fn apply<B: Backend>(&self, backend: &B, x: &B::Tensor, log: bool) -> B::Tensor {
        let maximum = self.maximum(backend, x);
        let shifted = Expr::input(0) - Expr::input(1);
        let powers = backend.map(&shifted.clone().unary(Unary::Exp), &[x, &maximum]);
        let sum = backend.reduce_sum(&powers, &[self.axis + 2]);
        if log {
            let formula = shifted - Expr::input(2).unary(Unary::Log);
            return backend.map(&formula, &[x, &maximum, &sum]);
        }
        backend.map(&(Expr::input(0) / Expr::input(1)), &[&powers, &sum])
    }
}

impl Operation for Softmax {
    fn shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        match inputs {
            [x] if self.axis < x.len() => Ok(x.to_vec()),
            _ => shape_error(format!("a softmax along axis {} of {inputs:?}", self.axis)),
        }
    }

    fn forward<B: Backend>(&self, backend: &B, inputs: &[B::Tensor]) -> Forward<B> {
        Forward::value(self.apply(backend, &inputs[0], self.log))
    }

    /// π·(c − Σ π c), or c − π Σ c of the logarithm.
    fn vjp<B: Backend>(&self, backend: &B, pullback: &Pullback<'_, B>, _: usize) -> B::Tensor {
        let c = pullback.cotangent;
        let pi = self.apply(backend, &pullback.inputs[0], false);
        let axis = [self.axis + 2];
        let x = Expr::input;
        if self.log {
            let sum = backend.reduce_sum(c, &axis);
            return backend.map(&(x(0) - x(1) * x(2)), &[c, &pi, &sum]);
        }
        let product = backend.multiply(&pi, c);
        let sum = backend.reduce_sum(&product, &axis);
        backend.map(&(x(0) - x(1) * x(2)), &[&product, &pi, &sum])
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
