//! Gemm and MatMul: a weight on either side, or two activations.

use super::super::graph::Node;
use super::super::samples::Sample;
use super::{Lowering, Tensor, Value, refuse};
use crate::error::{Error, Result};
use crate::ops::{Einsum, Elementwise, Linear, Permute, Reshape};
use crate::tensor::Expr;

impl Lowering<'_> {
    /// α·A'·B' + β·C.
    pub(super) fn gemm(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Tensor> {
        let (alpha, beta) = (node.float("alpha", 1.0), node.float("beta", 1.0));
        let mut a = self.tensor(node, inputs, 0)?;
        let mut b = self.tensor(node, inputs, 1)?;
        if a.rest.len() != 2 || b.rest.len() != 2 {
            return Err(Error::Shape(format!(
                "operands {:?} and {:?} of a Gemm",
                a.rest, b.rest
            )));
        }
        if node.int("transA", 0) != 0 {
            a = self.swap_last(node, &a)?;
        }
        let transposed = node.int("transB", 0) != 0;
        let product = if !self.depends(&b) && self.depends(&a) {
            self.linear(node, &a, &b, transposed)?
        } else {
            if transposed {
                b = self.swap_last(node, &b)?;
            }
            self.matmul(node, &a, &b)?
        };
        let bias = inputs.get(2).and_then(|c| c.as_ref());
        let x = |k: usize, factor: f64| Expr::constant(factor) * Expr::input(k);
        match bias {
            Some(bias) if beta != 0.0 => self.pointwise(
                node,
                x(0, alpha) + x(1, beta),
                &[Value::Tensor(product), bias.clone()],
            ),
            _ if alpha != 1.0 => self.pointwise(node, x(0, alpha), &[Value::Tensor(product)]),
            _ => Ok(product),
        }
    }

    /// `MatMul`, vectors included.
    pub(super) fn matmul_node(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Tensor> {
        let mut a = self.tensor(node, inputs, 0)?;
        let mut b = self.tensor(node, inputs, 1)?;
        let vectors = (a.rest.len() == 1, b.rest.len() == 1);
        if (vectors.0 && a.sample.is_some()) || (vectors.1 && b.sample.is_some()) {
            self.weighs(a.sample.is_none() || b.sample.is_none());
            return refuse(
                "it sums over the axis that holds the samples; if the file is for one sample without such an axis, export it with one (an example input of shape [1, …])",
            );
        }
        if vectors.0 {
            let rest = [1, a.rest[0]];
            a = self.append(
                node,
                Reshape {
                    rest: rest.to_vec(),
                },
                &[a.operand],
                None,
            )?;
        }
        if vectors.1 {
            let rest = [b.rest[0], 1];
            b = self.append(
                node,
                Reshape {
                    rest: rest.to_vec(),
                },
                &[b.operand],
                None,
            )?;
        }
        let mut product = self.matmul(node, &a, &b)?;
        for (vector, back) in [(vectors.1, 1), (vectors.0, 2 - vectors.1 as usize)] {
            if !vector {
                continue;
            }
            let axis = product.rest.len() - back;
            let mut rest = product.rest.clone();
            rest.remove(axis);
            let sample = product
                .sample
                .map(|s| s.on(if s.axis > axis { s.axis - 1 } else { s.axis }));
            product = self.append(node, Reshape { rest }, &[product.operand], sample)?;
        }
        Ok(product)
    }

    /// a·b over the last two axes, leading axes broadcast.
    fn matmul(&mut self, node: &Node, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        let (m, n) = (a.rest.len(), b.rest.len());
        if m < 2 || n < 2 {
            return Err(Error::Shape(format!(
                "a matrix product of {:?} and {:?}",
                a.rest, b.rest
            )));
        }
        if self.depends(a) && !self.depends(b) && n == 2 {
            return self.linear(node, a, b, false);
        }
        if !self.depends(a) && self.depends(b) && m == 2 {
            // z = W·x is (xᵀ·Wᵀ)ᵀ, and W is outputs × inputs.
            let turned = self.swap_last(node, b)?;
            let product = self.linear(node, &turned, a, true)?;
            return self.swap_last(node, &product);
        }
        if m.max(n) > crate::ops::LABELS.len() - 3 {
            return refuse(format!("products of {} axes are not supported", m.max(n)));
        }
        self.not_over_samples(a, m - 1)?;
        self.not_over_samples(b, n - 2)?;
        // The samples' axis in the result, counted from the end.
        let place = |t: &Tensor| t.sample.map(|s| (t.rest.len() - s.axis, s));
        let rank = m.max(n);
        let sample = match (place(a), place(b)) {
            (None, None) => None,
            (Some((back, s)), None) | (None, Some((back, s))) => Some((back, s)),
            (Some((p, s)), Some((q, t)))
                if p == q && p > 2 && (s.before, s.after) == (t.before, t.after) =>
            {
                Some((p, s))
            }
            _ => {
                return refuse(
                    "it multiplies samples with each other: the samples of its two operands lie on different axes",
                );
            }
        };
        if let Some((back, _)) = sample {
            for (one, other) in [(a, b), (b, a)] {
                let lead = back > 2 && one.sample.is_none() && one.rest.len() >= back;
                if lead && one.rest[one.rest.len() - back] != 1 && self.batch.sizes[1] != 1 {
                    return refuse(format!(
                        "an operand of shape {:?} that is made of weights has a row per sample of the example input beside {}; export it for one sample (an example input of batch 1) or with an open batch",
                        one.rest,
                        self.spelled(other)
                    ));
                }
            }
        }
        let sample = sample.map(|(back, s)| s.on(rank - back));
        let product = Einsum::matmul(m, n);
        self.append(node, product, &[a.operand, b.operand], sample)
    }

    /// x·W (or x·Wᵀ) on the last axis of x.
    pub(super) fn linear(
        &mut self,
        node: &Node,
        x: &Tensor,
        w: &Tensor,
        outputs_first: bool,
    ) -> Result<Tensor> {
        self.weighs(x.samples_on(x.rest.len() - 1));
        self.not_over_samples(x, x.rest.len() - 1)?;
        self.append(
            node,
            Linear { outputs_first },
            &[x.operand, w.operand],
            x.sample,
        )
    }

    /// Notes that a parameter has an entry for each entry of the axis taken for that of the samples.
    pub(super) fn weighs(&self, weighs: bool) {
        self.weighted.set(self.weighted.get() || weighs);
    }

    /// Refuses an operation that acts along the axis of the samples.
    pub(super) fn not_over_samples(&self, x: &Tensor, axis: usize) -> Result<()> {
        if x.samples_on(axis) {
            return refuse(format!(
                "it acts along axis {axis} of shape {}, which holds the samples, and so mixes them",
                self.spelled(x)
            ));
        }
        Ok(())
    }

    /// Transposes the last two axes.
    fn swap_last(&mut self, node: &Node, x: &Tensor) -> Result<Tensor> {
        let rank = x.rest.len();
        let mut order: Vec<usize> = (0..rank).collect();
        order.swap(rank - 1, rank - 2);
        self.permute(node, x, &order)
    }

    /// Permutes axes, the samples' with them.
    pub(super) fn permute(&mut self, node: &Node, x: &Tensor, order: &[usize]) -> Result<Tensor> {
        let sample = x.sample.map(|s| {
            let axis = order.iter().position(|&a| a == s.axis);
            s.on(axis.expect("order is a permutation"))
        });
        if order.iter().enumerate().all(|(k, &a)| k == a) {
            return Ok(Tensor {
                sample,
                ..x.clone()
            });
        }
        let moved = order.iter().copied().filter(|&a| x.rest[a] != 1);
        if moved.clone().zip(moved.skip(1)).all(|(a, b)| a < b) {
            // Only axes of extent 1 move, as where the samples change their place: the order in memory stays.
            let rest = order.iter().map(|&a| x.rest[a]).collect();
            return self.append(node, Reshape { rest }, &[x.operand], sample);
        }
        let order = order.to_vec();
        self.append(node, Permute { order }, &[x.operand], sample)
    }

    /// An elementwise operation of this crate on tensors already aligned, its formula in terms of what they mean: of true
    /// infinities where they stand for them.
    pub(super) fn elementwise(
        &mut self,
        node: &Node,
        expr: Expr,
        tensors: &[Tensor],
        sample: Option<Sample>,
    ) -> Result<Tensor> {
        if let Some(result) = self.extended_elementwise(node, &expr, tensors, sample)? {
            return Ok(result);
        }
        if let Some(result) = self.through_root(node, &expr, tensors, sample)? {
            return Ok(result);
        }
        let operands: Vec<_> = tensors.iter().map(|t| t.operand).collect();
        let result = self.append(node, Elementwise::new(expr.clone()), &operands, sample)?;
        self.note_root(&expr, tensors, &result);
        Ok(result)
    }
}
