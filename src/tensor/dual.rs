//! Forward mode: dual numbers over any backend.
//!
//! A dual tensor is a primal and, where it is not structurally zero, a tangent with an axis of
//! directions. Each primitive is linear, bilinear or a scalar expression, so its tangent is a composition
//! of the same primitives; every rule in `src/ops` therefore also runs forward over reverse (DESIGN §3).

use super::{Backend, Einsum, Expr, HostSlice, Shape, Window};
use crate::error::Result;
use std::ops::Range;

/// A primal value and its tangent; `None` is a structural zero.
///
/// The tangent has the primal's samples and rest, and its own directions.
#[derive(Clone, Debug)]
pub struct DualTensor<T> {
    /// The value.
    pub primal: T,
    /// Its derivative along each direction: `[samples, directions, rest…]`.
    pub tangent: Option<T>,
}

impl<T> DualTensor<T> {
    /// A value that does not vary.
    pub fn constant(primal: T) -> Self {
        Self {
            primal,
            tangent: None,
        }
    }
}

/// The backend of dual tensors over `B`.
pub struct Dual<'a, B> {
    /// Where primals and tangents live.
    pub inner: &'a B,
}

impl<B: Backend> Dual<'_, B> {
    fn linear(
        &self,
        x: &DualTensor<B::Tensor>,
        f: impl Fn(&B::Tensor) -> B::Tensor,
    ) -> DualTensor<B::Tensor> {
        DualTensor {
            primal: f(&x.primal),
            tangent: x.tangent.as_ref().map(f),
        }
    }

    /// f(x, y) bilinear: the tangent is f(ẋ, y) + f(x, ẏ).
    fn bilinear(
        &self,
        x: &DualTensor<B::Tensor>,
        y: &DualTensor<B::Tensor>,
        f: impl Fn(&B::Tensor, &B::Tensor) -> B::Tensor,
    ) -> DualTensor<B::Tensor> {
        let left = x.tangent.as_ref().map(|tangent| f(tangent, &y.primal));
        let right = y.tangent.as_ref().map(|tangent| f(&x.primal, tangent));
        DualTensor {
            primal: f(&x.primal, &y.primal),
            tangent: match (left, right) {
                (Some(left), Some(right)) => Some(self.inner.add(&left, &right)),
                (left, right) => left.or(right),
            },
        }
    }
}

impl<B: Backend> Backend for Dual<'_, B> {
    type Real = B::Real;
    type Tensor = DualTensor<B::Tensor>;
    type Indices = B::Indices;

    fn shape(&self, tensor: &Self::Tensor) -> Shape {
        self.inner.shape(&tensor.primal)
    }

    fn upload(&self, shape: &Shape, values: HostSlice<'_>) -> Self::Tensor {
        DualTensor::constant(self.inner.upload(shape, values))
    }

    fn fill(&self, shape: &Shape, value: f64) -> Self::Tensor {
        DualTensor::constant(self.inner.fill(shape, value))
    }

    fn read(&self, tensor: &Self::Tensor) -> Result<Vec<B::Real>> {
        self.inner.read(&tensor.primal)
    }

    fn map(&self, expr: &Expr, inputs: &[&Self::Tensor]) -> Self::Tensor {
        let primals: Vec<&B::Tensor> = inputs.iter().map(|x| &x.primal).collect();
        let primal = self.inner.map(expr, &primals);
        let mut tangent: Option<B::Tensor> = None;
        for (k, input) in inputs.iter().enumerate() {
            let derivative = expr.derivative(k);
            let (Some(direction), false) = (&input.tangent, derivative.as_constant() == Some(0.0))
            else {
                continue;
            };
            // The primal comes along unused: it makes the tangent as wide as the result, which a bias's
            // tangent alone would not be.
            let mut operands = vec![direction, &primal];
            let factor;
            let mut term = Expr::input(0);
            match derivative.as_constant() {
                Some(constant) => term = term * Expr::constant(constant),
                None => {
                    factor = self.inner.map(&derivative, &primals);
                    term = term * Expr::input(2);
                    operands.push(&factor);
                }
            }
            tangent = Some(match &tangent {
                None => self.inner.map(&term, &operands),
                Some(sum) => {
                    let term = term + Expr::input(operands.len());
                    operands.push(sum);
                    self.inner.map(&term, &operands)
                }
            });
        }
        DualTensor { primal, tangent }
    }

    fn einsum(&self, einsum: &Einsum, left: &Self::Tensor, right: &Self::Tensor) -> Self::Tensor {
        self.bilinear(left, right, |x, y| self.inner.einsum(einsum, x, y))
    }

    fn conv(
        &self,
        inputs: &Self::Tensor,
        weights: &Self::Tensor,
        window: &Window,
        groups: usize,
    ) -> Self::Tensor {
        self.bilinear(inputs, weights, |x, w| {
            self.inner.conv(x, w, window, groups)
        })
    }

    fn conv_inputs(
        &self,
        cotangents: &Self::Tensor,
        weights: &Self::Tensor,
        window: &Window,
        groups: usize,
    ) -> Self::Tensor {
        self.bilinear(cotangents, weights, |c, w| {
            self.inner.conv_inputs(c, w, window, groups)
        })
    }

    fn conv_weights(
        &self,
        cotangents: &Self::Tensor,
        inputs: &Self::Tensor,
        window: &Window,
        groups: usize,
        sum_samples: bool,
    ) -> Self::Tensor {
        self.bilinear(cotangents, inputs, |c, x| {
            self.inner.conv_weights(c, x, window, groups, sum_samples)
        })
    }

    fn window_sum(&self, inputs: &Self::Tensor, window: &Window) -> Self::Tensor {
        self.linear(inputs, |x| self.inner.window_sum(x, window))
    }

    fn window_spread(&self, cotangents: &Self::Tensor, window: &Window) -> Self::Tensor {
        self.linear(cotangents, |x| self.inner.window_spread(x, window))
    }

    fn max_pool_indices(&self, inputs: &Self::Tensor, window: &Window) -> Self::Indices {
        self.inner.max_pool_indices(&inputs.primal, window)
    }

    fn gather(
        &self,
        inputs: &Self::Tensor,
        indices: &Self::Indices,
        window: &Window,
    ) -> Self::Tensor {
        self.linear(inputs, |x| self.inner.gather(x, indices, window))
    }

    fn scatter(
        &self,
        cotangents: &Self::Tensor,
        indices: &Self::Indices,
        window: &Window,
    ) -> Self::Tensor {
        self.linear(cotangents, |x| self.inner.scatter(x, indices, window))
    }

    /// # Panics
    /// For axis 1: directions of a primal and of a tangent are not the same thing, and no rule sums them.
    fn reduce_sum(&self, inputs: &Self::Tensor, axes: &[usize]) -> Self::Tensor {
        assert!(!axes.contains(&1), "no rule sums over directions");
        self.linear(inputs, |x| self.inner.reduce_sum(x, axes))
    }

    fn broadcast(&self, inputs: &Self::Tensor, rest: &[usize]) -> Self::Tensor {
        self.linear(inputs, |x| self.inner.broadcast(x, rest))
    }

    fn reshape(&self, inputs: &Self::Tensor, rest: &[usize]) -> Self::Tensor {
        self.linear(inputs, |x| self.inner.reshape(x, rest))
    }

    fn permute(&self, inputs: &Self::Tensor, order: &[usize]) -> Self::Tensor {
        self.linear(inputs, |x| self.inner.permute(x, order))
    }

    fn slice(&self, inputs: &Self::Tensor, axis: usize, start: usize, stop: usize) -> Self::Tensor {
        self.linear(inputs, |x| self.inner.slice(x, axis, start, stop))
    }

    fn embed(
        &self,
        inputs: &Self::Tensor,
        axis: usize,
        start: usize,
        extent: usize,
    ) -> Self::Tensor {
        self.linear(inputs, |x| self.inner.embed(x, axis, start, extent))
    }

    fn take(&self, inputs: &Self::Tensor, indices: &Self::Tensor, axis: usize) -> Self::Tensor {
        self.linear(inputs, |x| self.inner.take(x, &indices.primal, axis))
    }

    fn put(
        &self,
        cotangents: &Self::Tensor,
        indices: &Self::Tensor,
        axis: usize,
        range: Range<usize>,
        sum_samples: bool,
    ) -> Self::Tensor {
        self.linear(cotangents, |x| {
            let range = range.clone();
            self.inner.put(x, &indices.primal, axis, range, sum_samples)
        })
    }

    fn concat(&self, inputs: &[&Self::Tensor], axis: usize) -> Self::Tensor {
        let primals: Vec<&B::Tensor> = inputs.iter().map(|x| &x.primal).collect();
        let primal = self.inner.concat(&primals, axis);
        let tangent = inputs.iter().any(|x| x.tangent.is_some()).then(|| {
            let tangents: Vec<B::Tensor> = inputs
                .iter()
                .map(|x| match &x.tangent {
                    Some(tangent) => tangent.clone(),
                    None => self.inner.fill(&self.inner.shape(&x.primal), 0.0),
                })
                .collect();
            self.inner
                .concat(&tangents.iter().collect::<Vec<_>>(), axis)
        });
        DualTensor { primal, tangent }
    }
}
