//! Reductions over axes: sums, means, norms and extremes.

use super::super::fold;
use super::super::graph::Node;
use super::super::samples::Sample;
use super::activation::absolute;
use super::conv::MOST_EXTENT;
use super::layout::fits;
use super::root::norm;
use super::{Lowering, Tensor, Value, refuse};
use crate::error::Result;
use crate::ops::{MaxPool, ReduceSum, Reshape};
use crate::tensor::expression::Unary;
use crate::tensor::{Expr, Window};
use std::slice::from_ref;

impl Lowering<'_> {
    /// The axes of a reduction, none twice, and whether they stay with extent 1.
    ///
    /// # Errors
    /// Refused where the samples sit on one of them.
    fn reduced(
        &self,
        node: &Node,
        inputs: &[Option<Value>],
        x: &Tensor,
    ) -> Result<(Vec<usize>, bool)> {
        let rank = x.rest.len();
        if node.op_type().starts_with("Global") {
            let axes: Vec<usize> = (2..rank).collect();
            for &axis in &axes {
                self.not_over_samples(x, axis)?;
            }
            return Ok((axes, true));
        }
        let operand = self.host(inputs, 1)?;
        let axes = match fits(fold::axes_of(node, operand.as_ref()))? {
            Some(axes) if !axes.is_empty() => axes,
            _ if node.int("noop_with_empty_axes", 0) != 0 => vec![],
            _ => (0..rank as i64).collect(),
        };
        let mut listed = Vec::with_capacity(axes.len());
        for axis in axes {
            let axis = fits(fold::axis_of(axis, rank))?;
            self.not_over_samples(x, axis)?;
            if !listed.contains(&axis) {
                listed.push(axis);
            }
        }
        Ok((listed, node.int("keepdims", 1) != 0))
    }

    /// Sums, means and norms; GlobalAveragePool.
    pub(super) fn reduce(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Tensor> {
        let x = self.tensor(node, inputs, 0)?;
        let (axes, keep) = self.reduced(node, inputs, &x)?;
        let count: usize = axes.iter().map(|&a| x.rest[a]).product();
        let each = Expr::input(0);
        let operation = match (node.op_type(), node.int("p", 2)) {
            ("GlobalLpPool", 1) => "ReduceL1",
            ("GlobalLpPool", 2) => "ReduceL2",
            ("GlobalLpPool", p) => {
                return refuse(format!("its norm is p = {p}; 1 and 2 are supported"));
            }
            (operation, _) => operation,
        };
        match operation {
            "ReduceL1" => {
                let x = self.elementwise(node, absolute(), from_ref(&x), x.sample)?;
                self.sum(node, &x, &axes, keep)
            }
            "ReduceL2" | "ReduceSumSquare" => {
                let square = each.clone() * each.clone();
                let x = self.elementwise(node, square, from_ref(&x), x.sample)?;
                let sum = self.sum(node, &x, &axes, keep)?;
                if operation == "ReduceSumSquare" {
                    return Ok(sum);
                }
                let norm = self.elementwise(node, norm(each), from_ref(&sum), sum.sample)?;
                self.note_norm(&sum, &norm);
                Ok(norm)
            }
            "ReduceLogSum" => {
                let sum = self.sum(node, &x, &axes, keep)?;
                self.elementwise(node, each.unary(Unary::Log), from_ref(&sum), sum.sample)
            }
            // ln Σ e^x = m + ln Σ e^(x − m): nothing overflows, and m's own derivative cancels.
            "ReduceLogSumExp" => {
                let mut most = self.maximum(node, &x, &axes, true)?;
                let special = self.kinds(x.operand) != 0;
                if special {
                    // ∞ − ∞ has no logarithm: a row of −∞ alone is ln 0.
                    let limit = |sign: f64| Expr::constant(sign * f64::INFINITY);
                    let zero = || Expr::constant(0.0);
                    let low = Expr::if_less_equal(each.clone(), limit(-1.0), zero(), each.clone());
                    let finite = Expr::if_less_equal(limit(1.0), each.clone(), zero(), low);
                    most = self.elementwise(node, finite, from_ref(&most), most.sample)?;
                }
                let shifted = (each.clone() - Expr::input(1)).unary(Unary::Exp);
                let x = self.elementwise(node, shifted, &[x.clone(), most.clone()], x.sample)?;
                let sum = self.sum(node, &x, &axes, true)?;
                let mut result = each.clone().unary(Unary::Log) + Expr::input(1);
                if special {
                    let none = Expr::constant(f64::NEG_INFINITY);
                    result = Expr::if_less_equal(each, Expr::constant(0.0), none, result);
                }
                let result = self.elementwise(node, result, &[sum, most], x.sample)?;
                self.dropped(node, result, &axes, keep)
            }
            _ => {
                let sum = self.sum(node, &x, &axes, keep)?;
                if node.op_type() == "ReduceSum" || count == 1 {
                    return Ok(sum);
                }
                let mean = Expr::constant(1.0 / count as f64) * each;
                self.elementwise(node, mean, from_ref(&sum), sum.sample)
            }
        }
    }

    /// ReduceMax, ReduceMin and GlobalMaxPool: of equals, the first has the derivative.
    pub(super) fn extreme(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Tensor> {
        let x = self.tensor(node, inputs, 0)?;
        let (axes, keep) = self.reduced(node, inputs, &x)?;
        if node.op_type() != "GlobalMaxPool" && !x.integer && self.source_of(x.operand).0 {
            self.warn_of_ties(node);
        }
        if node.op_type() != "ReduceMin" {
            return self.maximum(node, &x, &axes, keep);
        }
        let negative = self.elementwise(node, -Expr::input(0), from_ref(&x), x.sample)?;
        let most = self.maximum(node, &negative, &axes, keep)?;
        self.elementwise(node, -Expr::input(0), from_ref(&most), most.sample)
    }

    /// Warns, once for a network, of what the file does not say of equal entries.
    fn warn_of_ties(&mut self, node: &Node) {
        const TIES: &str = "of equal entries the first has all of the derivative";
        if self.network.warnings.iter().any(|w| w.contains(TIES)) {
            return;
        }
        let warning = format!(
            "node {:?} ({}): {TIES}, as in torch.max(x, dim); torch.amax shares it evenly, which the file does not tell apart",
            node.name(),
            node.op_type()
        );
        self.network.warnings.push(warning);
    }

    /// Σ over axes.
    fn sum(&mut self, node: &Node, x: &Tensor, axes: &[usize], keep: bool) -> Result<Tensor> {
        if axes.is_empty() {
            return Ok(x.clone());
        }
        let axes = axes.to_vec();
        let sample = self.kept_sample(x, &axes, keep);
        self.append(node, ReduceSum { axes, keep }, &[x.operand], sample)
    }

    /// The maximum over axes: a pool with one window over all of them.
    pub(super) fn maximum(
        &mut self,
        node: &Node,
        x: &Tensor,
        axes: &[usize],
        keep: bool,
    ) -> Result<Tensor> {
        let flat = self.last(node, x, axes)?;
        let count = flat.rest[flat.rest.len() - 1];
        let window = Window::over_all(count);
        let most = self.append(node, MaxPool { window }, &[flat.operand], flat.sample)?;
        self.unflattened(node, x, &most, axes, keep)
    }

    /// ReduceProd: one half of the entries times the other, until one is left. No entry is divided by, so
    /// derivatives at 0 are right.
    pub(super) fn reduce_product(
        &mut self,
        node: &Node,
        inputs: &[Option<Value>],
    ) -> Result<Tensor> {
        let x = self.tensor(node, inputs, 0)?;
        let (axes, keep) = self.reduced(node, inputs, &x)?;
        let mut left = self.last(node, &x, &axes)?;
        let axis = left.rest.len() - 1;
        let times = || Expr::input(0) * Expr::input(1);
        let mut odd: Option<Tensor> = None;
        while left.rest[axis] > 1 {
            let half = left.rest[axis] / 2;
            let mut part = |from: usize, to: usize| {
                self.entries(node, &left, axis, (from..to).map(Some).collect())
            };
            let (first, second) = (part(0, half)?, part(half, 2 * half)?);
            let last = if left.rest[axis] % 2 == 1 {
                Some(part(2 * half, 2 * half + 1)?)
            } else {
                None
            };
            left = self.elementwise(node, times(), &[first, second], x.sample)?;
            odd = match (odd, last) {
                (Some(a), Some(b)) => Some(self.elementwise(node, times(), &[a, b], x.sample)?),
                (a, b) => a.or(b),
            };
        }
        if let Some(odd) = odd {
            left = self.elementwise(node, times(), &[left, odd], x.sample)?;
        }
        self.unflattened(node, &x, &left, &axes, keep)
    }

    /// The tensor with the axes of a reduction merged into one, which is the last.
    fn last(&mut self, node: &Node, x: &Tensor, axes: &[usize]) -> Result<Tensor> {
        let count: usize = axes.iter().map(|&a| x.rest[a]).product();
        if count > MOST_EXTENT {
            return refuse(format!(
                "a reduction over {count} entries is larger than can be"
            ));
        }
        let kept: Vec<usize> = (0..x.rest.len()).filter(|a| !axes.contains(a)).collect();
        let mut sorted = axes.to_vec();
        sorted.sort_unstable();
        let order = [&kept[..], &sorted].concat();
        let moved = self.permute(node, x, &order)?;
        let mut rest: Vec<usize> = kept.iter().map(|&a| x.rest[a]).collect();
        rest.push(count);
        self.append(node, Reshape { rest }, &[moved.operand], moved.sample)
    }

    /// What is left of x after a reduction over its merged axes, in its own axes again.
    fn unflattened(
        &mut self,
        node: &Node,
        x: &Tensor,
        reduced: &Tensor,
        axes: &[usize],
        keep: bool,
    ) -> Result<Tensor> {
        let rest = (0..x.rest.len())
            .filter(|a| keep || !axes.contains(a))
            .map(|a| if axes.contains(&a) { 1 } else { x.rest[a] })
            .collect();
        let sample = self.kept_sample(x, axes, keep);
        self.append(node, Reshape { rest }, &[reduced.operand], sample)
    }

    /// Drops axes of extent 1 unless they are to stay.
    fn dropped(&mut self, node: &Node, x: Tensor, axes: &[usize], keep: bool) -> Result<Tensor> {
        if keep {
            return Ok(x);
        }
        let rest = (0..x.rest.len())
            .filter(|a| !axes.contains(a))
            .map(|a| x.rest[a])
            .collect();
        let sample = self.kept_sample(&x, axes, keep);
        self.append(node, Reshape { rest }, &[x.operand], sample)
    }

    /// Where the samples sit after axes before theirs were dropped.
    fn kept_sample(&self, x: &Tensor, axes: &[usize], keep: bool) -> Option<Sample> {
        x.sample.map(|s| {
            let before = axes.iter().filter(|&&a| !keep && a < s.axis).count();
            s.on(s.axis - before)
        })
    }
}
