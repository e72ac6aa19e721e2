//! Roots of sums, norms above all, where what is made of them is smooth at 0 although the root is not.
//!
//! A norm n = √s of s = Σ x² has no second derivatives in x at 0, but n², e^(−n²) or max(n, ε) have. What is made of a root
//! alone and of numbers beside it is a function e(n): where e'(0) = 0 it is, near s = 0,
//!
//! ```text
//! e(√s) = e(0) + ½·e''(0)·s + …
//! ```
//!
//! and it is written as that at s = 0, as e(√s) elsewhere, both in terms of s, whose derivatives exist everywhere. Where
//! e'(0) ≠ 0 it stays e of the root: a norm's first derivative at 0 is 0 then, as in PyTorch, and its second is
//! not a number ([`norm`]), so that whoever asks for it is told.

use super::super::graph::Node;
use super::super::samples::Sample;
use super::{Lowering, Tensor};
use crate::error::Result;
use crate::network::Operand;
use crate::ops::{Elementwise, Op};
use crate::tensor::Expr;
use crate::tensor::expression::{self, Binary, Unary};
use std::collections::HashMap;

/// Inputs and operations up to which what is made of a root is followed.
const MOST_INPUTS: usize = 5;
const MOST_OPERATIONS: usize = 64;

/// A function of a root.
#[derive(Clone, Debug)]
struct Root {
    /// s.
    sum: Tensor,
    /// The reshapes and the like that lie between s and the operands of the function.
    moved: Vec<(Op, Option<Sample>)>,
    /// e of the root, input 0, and of `others`, the inputs after it.
    function: Expr,
    others: Vec<Tensor>,
}

/// Functions of roots, by the value that holds them.
#[derive(Default)]
pub(super) struct Roots {
    known: HashMap<Operand, Root>,
}

impl Roots {
    /// Forgets what is known of values and constants that are taken back.
    pub(super) fn forget(&mut self, gone: impl Fn(&Operand) -> bool) {
        self.known.retain(|operand, _| !gone(operand));
    }
}

/// √s, 0 at 0 with the derivative 0, as PyTorch's norms have it; its second derivative there is not finite: that of s^(3/2).
pub(super) fn norm(s: Expr) -> Expr {
    let zero = Expr::constant(0.0);
    let flat = s.clone().power(Expr::constant(1.5));
    Expr::if_less_equal(s.clone(), zero, flat, s.unary(Unary::Sqrt))
}

/// The formula with √s·√s written as s.
fn squared(expr: &Expr) -> Expr {
    match expr.node() {
        expression::Node::Input(_) | expression::Node::Constant(_) => expr.clone(),
        expression::Node::Unary(function, x) => squared(x).unary(*function),
        expression::Node::Binary(function, x, y) => {
            let (x, y) = (squared(x), squared(y));
            match (function, x.node()) {
                (Binary::Multiply, expression::Node::Unary(Unary::Sqrt, s)) if x == y => s.clone(),
                (Binary::Multiply, expression::Node::Unary(Unary::Negate, root)) if x == y => {
                    squared(&(root.clone() * root.clone()))
                }
                (Binary::Add, _) => x + y,
                (Binary::Subtract, _) => x - y,
                (Binary::Multiply, _) => x * y,
                (Binary::Divide, _) => x / y,
                (Binary::Power, _) => x.power(y),
            }
        }
        expression::Node::IfLessEqual {
            left,
            right,
            then,
            otherwise,
        } => {
            let [left, right, then, otherwise] = [left, right, then, otherwise].map(squared);
            Expr::if_less_equal(left, right, then, otherwise)
        }
    }
}

/// e(√s) in terms of s, input 0, and what e reads beside it; `None` where e'(0) is not 0 whatever that is.
fn of_sum(function: &Expr, inputs: usize) -> Option<Expr> {
    let at = |root: Expr, expr: &Expr| {
        let others = (1..inputs).map(Expr::input);
        expr.substitute(&std::iter::once(root).chain(others).collect::<Vec<_>>())
    };
    let zero = || Expr::constant(0.0);
    let slope = function.derivative(0);
    if at(zero(), &slope).as_constant() != Some(0.0) {
        return None;
    }
    let s = Expr::input(0);
    let bend = at(zero(), &slope.derivative(0));
    let near = at(zero(), function) + Expr::constant(0.5) * bend * s.clone();
    let far = squared(&at(s.clone().unary(Unary::Sqrt), function));
    let at_most = Expr::if_less_equal(zero(), s.clone(), near, far.clone());
    Some(Expr::if_less_equal(s, zero(), at_most, far))
}

impl Lowering<'_> {
    /// Remembers a root of a tensor, where the formula is one.
    pub(super) fn note_root(&mut self, expr: &Expr, tensors: &[Tensor], result: &Tensor) {
        if let [sum] = tensors
            && *expr == Expr::input(0).unary(Unary::Sqrt)
        {
            self.note_norm(sum, result);
        }
    }

    /// Remembers that a value is the root of a tensor.
    pub(super) fn note_norm(&mut self, sum: &Tensor, result: &Tensor) {
        let root = Root {
            sum: sum.clone(),
            moved: Vec::new(),
            function: Expr::input(0),
            others: Vec::new(),
        };
        self.roots_of_sums.known.insert(result.operand, root);
    }

    /// Remembers what a reshape or the like makes of a function of a root.
    pub(super) fn note_root_moved(&mut self, op: &Op, inputs: &[Operand], result: &Tensor) {
        let (Op::Broadcast(_) | Op::Permute(_) | Op::Reshape(_) | Op::Slice(_), [input]) =
            (op, inputs)
        else {
            return;
        };
        let known = self.roots_of_sums.known.get(input).cloned();
        if let Some(mut root) = known.filter(|root| root.others.is_empty()) {
            root.moved.push((op.clone(), result.sample));
            self.roots_of_sums.known.insert(result.operand, root);
        }
    }

    /// A formula of a root, in terms of the sum where it is smooth at 0; `None` where no root is about, or it is not.
    pub(super) fn through_root(
        &mut self,
        node: &Node,
        expr: &Expr,
        tensors: &[Tensor],
        sample: Option<Sample>,
    ) -> Result<Option<Tensor>> {
        let known = |t: &Tensor| self.roots_of_sums.known.get(&t.operand);
        let Some(first) = tensors.iter().find_map(known).cloned() else {
            return Ok(None);
        };
        let mut others: Vec<Tensor> = Vec::new();
        let mut place = |tensor: &Tensor| {
            let found = others.iter().position(|t| t.operand == tensor.operand);
            Expr::input(
                1 + found.unwrap_or_else(|| {
                    others.push(tensor.clone());
                    others.len() - 1
                }),
            )
        };
        let inputs: Vec<Expr> = tensors
            .iter()
            .map(|tensor| match known(tensor) {
                Some(root)
                    if root.sum.operand == first.sum.operand && root.moved == first.moved =>
                {
                    let inner = root.others.iter().map(&mut place);
                    let inner = std::iter::once(Expr::input(0)).chain(inner);
                    root.function.substitute(&inner.collect::<Vec<_>>())
                }
                _ => place(tensor),
            })
            .collect();
        let function = expr.substitute(&inputs);
        if others.len() >= MOST_INPUTS || function.operations() > MOST_OPERATIONS {
            return Ok(None);
        }
        let Some(formula) = of_sum(&function, 1 + others.len()) else {
            let operands: Vec<Operand> = tensors.iter().map(|t| t.operand).collect();
            let op = Elementwise::new(expr.clone());
            let result = self.append(node, op, &operands, sample)?;
            let root = Root {
                function,
                others,
                ..first
            };
            self.roots_of_sums.known.insert(result.operand, root);
            return Ok(Some(result));
        };
        let mut sum = first.sum;
        for (op, sample) in first.moved {
            sum = self.append(node, op, &[sum.operand], sample)?;
        }
        let operands: Vec<Operand> = std::iter::once(&sum)
            .chain(&others)
            .map(|t| t.operand)
            .collect();
        let result = self.append(node, Elementwise::new(formula), &operands, sample)?;
        Ok(Some(result))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_smooth_at_a_root_of_0_has_its_derivatives_there() {
        let (n, y) = (Expr::input(0), Expr::input(1));
        let constant = Expr::constant;
        let square = n.clone() * n.clone();
        // e(√s), and its value and first derivatives in s at 0 where y = 3.
        let cases = [
            (square.clone(), [0.0, 1.0, 0.0]),
            ((-n.clone()) * (-n.clone()), [0.0, 1.0, 0.0]),
            (
                (-(y.clone() * square.clone())).unary(Unary::Exp),
                [1.0, -3.0, 0.0],
            ),
            ((n.clone() * y.clone()).unary(Unary::Cos), [1.0, -4.5, 0.0]),
            (square.clone() * square + y, [3.0, 0.0, 1.0]),
            (
                Expr::if_less_equal(n.clone(), constant(0.1), constant(0.1), n.clone()),
                [0.1, 0.0, 0.0],
            ),
        ];
        for (function, [value, slope, beside]) in cases {
            let formula = of_sum(&function, 2).unwrap_or_else(|| panic!("{function:?} is smooth"));
            let at = [0.0, 3.0];
            assert_eq!(formula.evaluate(&at), value, "{function:?}");
            assert_eq!(formula.derivative(0).evaluate(&at), slope, "{function:?}");
            assert_eq!(formula.derivative(1).evaluate(&at), beside, "{function:?}");
            for s in [1e-9, 0.04, 2.0] {
                let right = function.evaluate(&[f64::sqrt(s), 3.0]);
                let is = formula.evaluate(&[s, 3.0]);
                assert!((is - right).abs() <= 1e-14, "{function:?}: {is}, {right}");
            }
        }
        for kinked in [n.clone(), (-n.clone()).unary(Unary::Exp), n + constant(1.0)] {
            assert!(of_sum(&kinked, 2).is_none(), "{kinked:?}");
        }
    }

    #[test]
    fn the_second_derivative_of_a_norm_of_0_is_not_finite() {
        let norm = norm(Expr::input(0));
        assert_eq!(norm.evaluate(&[0.0]), 0.0);
        assert_eq!(norm.derivative(0).evaluate(&[0.0]), 0.0);
        assert!(
            !norm
                .derivative(0)
                .derivative(0)
                .evaluate(&[0.0])
                .is_finite()
        );
        assert_eq!(norm.evaluate(&[4.0]), 2.0);
    }
}
