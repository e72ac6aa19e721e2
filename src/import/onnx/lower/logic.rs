//! Comparisons, choices and casts. Integers and truth values of the data are reals 0, 1, 2 … that have no
//! derivative: tokens, padding masks and positions go the way of every other tensor, on every device.

use super::super::graph::Node;
use super::super::proto::data_type::BOOL;
use super::super::tensor::Array;
use super::{Lowering, Tensor, Value, is_float, refuse};
use crate::error::{Error, Result};
use crate::tensor::{Expr, broadcast_rest};

/// 1 where x ≤ y, else 0.
fn at_most(x: Expr, y: Expr) -> Expr {
    Expr::if_less_equal(x, y, Expr::constant(1.0), Expr::constant(0.0))
}

/// Whether a node's results are integers or truth values.
pub(super) fn makes_integers(node: &Node, inputs: &[Option<Value>]) -> bool {
    let integer = |value: &Value| match value {
        Value::Tensor(tensor) => tensor.integer,
        Value::Host(arrays) => !arrays[1].is_float(),
        Value::Sequence(_) | Value::Unknown => false,
    };
    let all = |from: usize| inputs.iter().skip(from).flatten().all(integer);
    match node.op_type() {
        "And" | "Equal" | "Greater" | "GreaterOrEqual" | "Less" | "LessOrEqual" | "Not" | "Or"
        | "Xor" => true,
        "Cast" => !is_float(node.int("to", 1) as i32),
        "Where" | "CastLike" => all(1),
        "OneHot" => all(2),
        _ => all(0),
    }
}

impl Lowering<'_> {
    /// Comparisons and logic, as 0 and 1.
    pub(super) fn compare(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Tensor> {
        let given: Vec<Value> = inputs.iter().flatten().cloned().collect();
        let wanted = if node.op_type() == "Not" { 1 } else { 2 };
        if given.len() != wanted {
            return Err(Error::Shape(format!(
                "{} operands instead of {wanted}",
                given.len()
            )));
        }
        let (x, y) = (Expr::input(0), Expr::input(1));
        let one = || Expr::constant(1.0);
        let expr = match node.op_type() {
            "Not" => one() - x,
            "And" => x * y,
            "Or" => x.clone() + y.clone() - x * y,
            "Xor" => x.clone() + y.clone() - Expr::constant(2.0) * x * y,
            "LessOrEqual" => at_most(x, y),
            "GreaterOrEqual" => at_most(y, x),
            "Less" => one() - at_most(y, x),
            "Greater" => one() - at_most(x, y),
            _ => at_most(x.clone(), y.clone()) * at_most(y, x),
        };
        self.pointwise(node, expr, &given)
    }

    /// Where: one of two values by a truth value.
    pub(super) fn choose(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Tensor> {
        let [Some(condition), Some(then), Some(otherwise)] = inputs else {
            return Err(Error::Shape("a Where has three operands".into()));
        };
        if let Some(chosen) = self.chosen(condition, then, otherwise) {
            return Ok(chosen);
        }
        let expr = Expr::if_less_equal(
            Expr::input(0),
            Expr::constant(0.5),
            Expr::input(2),
            Expr::input(1),
        );
        let operands = [condition.clone(), then.clone(), otherwise.clone()];
        self.pointwise(node, expr, &operands)
    }

    /// The operand that a Where always takes, where it is a tensor of the result's shape: of a condition that is known
    /// and the same everywhere, as JAX guards a variance, the other operand does not matter.
    fn chosen(&self, condition: &Value, then: &Value, otherwise: &Value) -> Option<Tensor> {
        let Value::Host([few, many]) = condition else {
            return None;
        };
        let truth = few.to_f64().first().map(|&v| v != 0.0)?;
        let alike = |array: &Array| array.to_f64().iter().all(|&v| (v != 0.0) == truth);
        let (taken, left) = match truth {
            true => (then, otherwise),
            false => (otherwise, then),
        };
        let Value::Tensor(taken) = taken else {
            return None;
        };
        let fits = |k: usize, condition: &Array| {
            let shape = taken.shape(self.batch.sizes[k]);
            let other = match left {
                Value::Host(arrays) => arrays[k].shape.clone(),
                Value::Tensor(tensor) => tensor.shape(self.batch.sizes[k]),
                _ => return false,
            };
            let within = |other: &[usize]| broadcast_rest(&shape, other).as_ref() == Some(&shape);
            within(&condition.shape) && within(&other) && alike(condition)
        };
        (fits(0, few) && fits(1, many)).then(|| taken.clone())
    }

    /// Casts between reals change nothing, nor do those of integers.
    pub(super) fn cast(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Tensor> {
        let x = self.tensor(node, inputs, 0)?;
        let to = node.int("to", 1) as i32;
        if node.op_type() == "CastLike" || is_float(to) || x.integer && to != BOOL {
            return Ok(x);
        }
        if to != BOOL {
            return refuse("a cast of activations or parameters to integers has no derivative");
        }
        let zero = || Expr::constant(0.0);
        let is_zero = at_most(Expr::input(0), zero()) * at_most(zero(), Expr::input(0));
        let truth = Expr::constant(1.0) - is_zero;
        self.pointwise(node, truth, &[Value::Tensor(x)])
    }
}
