//! Comparisons, choices and casts. Integers and truth values of the data are reals 0, 1, 2 … that have no
//! derivative: tokens, padding masks and positions go the way of every other tensor, on every device.

use super::super::graph::Node;
use super::super::proto::data_type::BOOL;
use super::{Lowering, Tensor, Value, is_float, refuse};
use crate::error::{Error, Result};
use crate::tensor::Expr;

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
        | "Xor" | "ArgMax" | "ArgMin" | "IsNaN" => true,
        "Cast" => !is_float(node.int("to", 1) as i32),
        "Where" | "CastLike" => all(1),
        "OneHot" => all(2),
        _ => all(0),
    }
}

/// Whether a node does arithmetic of integers whose results may be larger than its operands.
pub(super) fn counts(node: &Node, inputs: &[Option<Value>]) -> bool {
    matches!(
        node.op_type(),
        "Add" | "CumSum" | "MatMul" | "Mul" | "ReduceProd" | "ReduceSum" | "Sub" | "Sum"
    ) && makes_integers(node, inputs)
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
        let expr = Expr::if_less_equal(
            Expr::input(0),
            Expr::constant(0.5),
            Expr::input(2),
            Expr::input(1),
        );
        let operands = [condition.clone(), then.clone(), otherwise.clone()];
        self.pointwise(node, expr, &operands)
    }

    /// Casts between reals change nothing, nor do those of integers.
    pub(super) fn cast(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Tensor> {
        let x = self.tensor(node, inputs, 0)?;
        let to = node.int("to", 1) as i32;
        if node.op_type() == "CastLike" || is_float(to) || x.integer && to != BOOL {
            return Ok(x);
        }
        if to != BOOL {
            return refuse(
                "a cast to integers of what depends on parameters has no derivative; of the inputs alone it is supported",
            );
        }
        let zero = || Expr::constant(0.0);
        let is_zero = at_most(Expr::input(0), zero()) * at_most(zero(), Expr::input(0));
        let truth = Expr::constant(1.0) - is_zero;
        self.pointwise(node, truth, &[Value::Tensor(x)])
    }
}
