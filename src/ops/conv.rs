//! Convolution over one to three spatial axes, with groups, and its transpose.

use super::{Forward, Operation, Pullback, Role, SiteKind, shape_error};
use crate::error::Result;
use crate::tensor::{Backend, Window};

/// z[B, o, t] = Σ_{c, k} x[B, c, t·stride + k·dilation − padding] W[o, c, k]. Operands: x, W.
///
/// The bias is an elementwise operation of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Conv {
    /// Geometry.
    pub window: Window,
    /// Groups.
    pub groups: usize,
}

impl Operation for Conv {
    fn shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [x, w] = inputs else {
            return shape_error(format!(
                "a convolution has two operands, not {}",
                inputs.len()
            ));
        };
        let spatial = self.window.kernel.len();
        let fits = x.len() == spatial + 2
            && w.len() == spatial + 2
            && x[2..] == self.window.input[..]
            && w[2..] == self.window.kernel[..]
            && w[1] * self.groups == x[1]
            && w[0] % self.groups == 0;
        if !fits {
            return shape_error(format!(
                "a convolution with weight {w:?} and {} groups on inputs {x:?}",
                self.groups
            ));
        }
        let mut rest = vec![x[0], w[0]];
        rest.extend_from_slice(&self.window.output);
        Ok(rest)
    }

    fn offset_inputs(&self, operand: usize) -> Option<&'static [usize]> {
        (operand == 1).then_some(&[0])
    }

    fn role(&self, operand: usize, shape: &[usize]) -> Role {
        if operand != 1 {
            return Role::Other;
        }
        let kernel: usize = shape[2..].iter().product();
        let outputs = shape[0] / self.groups;
        Role::weight(shape, shape[1] * kernel, outputs * kernel, self.groups)
    }

    fn forward<B: Backend>(&self, backend: &B, inputs: &[B::Tensor]) -> Forward<B> {
        Forward::value(backend.conv(&inputs[0], &inputs[1], &self.window, self.groups))
    }

    fn vjp<B: Backend>(
        &self,
        backend: &B,
        pullback: &Pullback<'_, B>,
        operand: usize,
    ) -> B::Tensor {
        assert_eq!(operand, 0, "a weight is a site");
        backend.conv_inputs(
            pullback.cotangent,
            &pullback.inputs[1],
            &self.window,
            self.groups,
        )
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
        SiteKind::Conv {
            cotangents: pullback.cotangent.clone(),
            inputs: pullback.inputs[0].clone(),
            window: self.window.clone(),
            groups: self.groups,
        }
    }
}

/// z[B, c, t·stride + k·dilation − padding] = Σ_{o, k} x[B, o, t] W[o, c, k]: the transpose of [`Conv`] in its
/// inputs. Operands: x, W.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvTranspose {
    /// Geometry of the convolution that this transposes: its output is x, its input z.
    pub window: Window,
    /// Groups.
    pub groups: usize,
}

impl Operation for ConvTranspose {
    fn shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let spatial = self.window.kernel.len();
        match inputs {
            [x, w]
                if x.len() == spatial + 2
                    && w.len() == spatial + 2
                    && x[2..] == self.window.output[..]
                    && w[2..] == self.window.kernel[..]
                    && w[0] == x[1]
                    && w[0] % self.groups == 0 =>
            {
                let mut rest = vec![x[0], w[1] * self.groups];
                rest.extend_from_slice(&self.window.input);
                Ok(rest)
            }
            _ => shape_error(format!(
                "a transposed convolution with {} groups of inputs and weight {inputs:?}",
                self.groups
            )),
        }
    }

    fn role(&self, operand: usize, shape: &[usize]) -> Role {
        if operand != 1 {
            return Role::Other;
        }
        let kernel: usize = shape[2..].iter().product();
        let inputs = shape[0] / self.groups;
        Role::weight(shape, inputs * kernel, shape[1] * kernel, self.groups)
    }

    fn forward<B: Backend>(&self, backend: &B, inputs: &[B::Tensor]) -> Forward<B> {
        Forward::value(backend.conv_inputs(&inputs[0], &inputs[1], &self.window, self.groups))
    }

    fn vjp<B: Backend>(
        &self,
        backend: &B,
        pullback: &Pullback<'_, B>,
        operand: usize,
    ) -> B::Tensor {
        assert_eq!(operand, 0, "a weight is a site");
        backend.conv(
            pullback.cotangent,
            &pullback.inputs[1],
            &self.window,
            self.groups,
        )
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
        // x and Δ change places: the weight's rows are those of the convolution from z to x.
        SiteKind::Conv {
            cotangents: pullback.inputs[0].clone(),
            inputs: pullback.cotangent.clone(),
            window: self.window.clone(),
            groups: self.groups,
        }
    }
}
