//! Pools. An average pool is a sum over windows times the reciprocal counts, which factor over axes.

use super::super::graph::Node;
use super::conv::{MOST_EXTENT, Spatial, spatial};
use super::{Array, Lowering, Tensor, Value, refuse};
use crate::error::{Error, Result};
use crate::ops::{MaxPool, WindowSum};
use crate::tensor::{Expr, Window};

impl Lowering<'_> {
    fn pool_window(&mut self, node: &Node, x: &Tensor) -> Result<Spatial> {
        let rank = x.rest.len();
        if !(3..=5).contains(&rank) {
            return refuse(format!(
                "pools over one to three axes are supported, not on {:?}",
                x.rest
            ));
        }
        for axis in 2..rank {
            self.not_over_samples(x, axis)?;
        }
        let kernel = node
            .ints("kernel_shape")
            .and_then(super::super::tensor::extents);
        let kernel = kernel.ok_or_else(|| Error::Shape("its kernel_shape is missing".into()))?;
        let spatial = spatial(node, &x.rest[2..], &kernel, node.int("ceil_mode", 0) != 0)?;
        let window = &spatial.window;
        if window
            .output
            .iter()
            .chain(&window.kernel)
            .any(|&e| e > MOST_EXTENT)
        {
            return refuse("its windows are larger than can be");
        }
        Ok(spatial)
    }

    pub(super) fn max_pool(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Tensor> {
        let x = self.tensor(node, inputs, 0)?;
        let window = self.pool_window(node, &x)?.window;
        for axis in 0..window.input.len() {
            if counts(&window, axis, 0, window.input[axis]).contains(&0) {
                return refuse("a window holds nothing but padding, so it has no maximum");
            }
        }
        self.append(node, MaxPool { window }, &[x.operand], x.sample)
    }

    pub(super) fn average_pool(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Tensor> {
        let x = self.tensor(node, inputs, 0)?;
        let Spatial {
            window,
            padding_after,
        } = self.pool_window(node, &x)?;
        let with_padding = node.int("count_include_pad", 0) != 0;
        let n = window.input.len();
        let mut expr = Expr::input(0);
        let mut factor = 1.0;
        let mut axes = Vec::new();
        for (axis, &end_padding) in padding_after.iter().enumerate() {
            // As in PyTorch, what a window of ceil mode has past the padding does not count.
            let (before, after) = if with_padding {
                (window.padding[axis], end_padding)
            } else {
                (0, 0)
            };
            let counts = counts(&window, axis, before, window.input[axis] + after);
            if counts.contains(&0) {
                return refuse("a window holds nothing but padding, so it has no mean");
            }
            if counts.iter().all(|&c| c == counts[0]) {
                factor /= counts[0] as f64;
                continue;
            }
            let mut shape = vec![1; n - axis];
            shape[0] = counts.len();
            let reciprocal = counts.iter().map(|&c| 1.0 / c as f64).collect();
            axes.push(self.constant(node, &Array::reals(&shape, reciprocal, true))?);
            expr = expr * Expr::input(axes.len());
        }
        let sum = self.append(node, WindowSum { window }, &[x.operand], x.sample)?;
        let mut tensors = vec![sum];
        tensors.extend(axes);
        let expr = Expr::constant(factor) * expr;
        if expr == Expr::input(0) {
            return Ok(tensors.remove(0));
        }
        self.elementwise(node, expr, &tensors, x.sample)
    }
}

/// How many taps of each window lie between `−before` and `end`, along one axis.
fn counts(window: &Window, axis: usize, before: usize, end: usize) -> Vec<usize> {
    let (before, end) = (before as i64, end as i64);
    let (kernel, dilation) = (window.kernel[axis] as i64, window.dilation[axis] as i64);
    (0..window.output[axis])
        .map(|t| {
            let start = (t * window.stride[axis]) as i64 - window.padding[axis] as i64;
            // Taps start + k·dilation with −before ≤ tap < end: first and one past the last k.
            let low = (-before - start + dilation - 1)
                .div_euclid(dilation)
                .clamp(0, kernel);
            let high = (end - start + dilation - 1)
                .div_euclid(dilation)
                .clamp(0, kernel);
            (high - low).max(0) as usize
        })
        .collect()
}
