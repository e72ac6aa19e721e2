//! Comparisons, choices and casts. Integers and truth values of the data are reals 0, 1, 2 … that have no
//! derivative: tokens, padding masks and positions go the way of every other tensor, on every device.

use super::super::fold;
use super::super::graph::Node;
use super::super::proto::data_type::BOOL;
use super::super::tensor::Array;
use super::extended::MOST_KNOWN;
use super::{Lowering, Tensor, Value, is_float, refuse};
use crate::error::{Error, Result};
use crate::ops::Elementwise;
use crate::tensor::{Expr, broadcast_rest};
use std::slice::from_ref;

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
        | "Xor" | "ArgMax" | "ArgMin" | "IsInf" | "IsNaN" => true,
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

/// Where a choice between a constant and something else is −∞, if its condition is known: 0 and 1, as
/// [`Lowering::note_hidden`] takes it.
fn hidden_by(operands: &[Value; 3]) -> Option<Array> {
    let known = |value: &Value| match value {
        Value::Host([one, many]) if one == many => Some(many.clone()),
        _ => None,
    };
    let condition = known(&operands[0])?;
    let sides = [known(&operands[1]), known(&operands[2])];
    let mut shape = condition.shape.clone();
    for side in sides.iter().flatten() {
        shape = broadcast_rest(&shape, &side.shape)?;
    }
    if shape
        .iter()
        .try_fold(1usize, |all, &d| all.checked_mul(d))
        .is_none_or(|all| all > MOST_KNOWN)
    {
        return None;
    }
    let spread = |array: &Array| fold::expand(array, &shape).ok().map(|a| a.to_f64());
    let truth = spread(&condition)?;
    let [then, otherwise] = sides.map(|side| side.as_ref().and_then(spread));
    let hidden = truth.iter().enumerate().map(|(k, &truth)| {
        let side = if truth != 0.0 { &then } else { &otherwise };
        let low = side.as_ref().is_some_and(|s| s[k] == f64::NEG_INFINITY);
        i64::from(low)
    });
    Some(Array::ints(&shape, hidden.collect()))
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
        let [then, otherwise] = [then, otherwise].map(|side| self.meant(node, side.clone()));
        let operands = [condition.clone(), then, otherwise];
        let result = self.pointwise(node, expr, &operands)?;
        let plain = |value: &Value| match value {
            Value::Tensor(tensor) => self.kinds(tensor.operand) == 0,
            _ => true,
        };
        if let Some(hidden) = hidden_by(&operands).filter(|_| operands.iter().all(plain)) {
            self.note_hidden(&result, hidden);
        }
        Ok(result)
    }

    /// IsNaN and IsInf: by what stands for them where that may be, else by the numbers themselves.
    pub(super) fn is_special(&mut self, node: &Node, given: &[Value]) -> Result<Value> {
        let [operand] = given else {
            return Err(Error::Shape(format!(
                "{} operands instead of one",
                given.len()
            )));
        };
        let Value::Tensor(x) = operand else {
            return refuse("its operand is no tensor");
        };
        let (one, zero) = (|| Expr::constant(1.0), || Expr::constant(0.0));
        let input = || Expr::input(0);
        let expr = if node.op_type() == "IsNaN" {
            Expr::if_less_equal(input(), input(), zero(), one())
        } else {
            let infinity = |sign: f64| Expr::constant(sign * f64::INFINITY);
            let mut expr = zero();
            if node.int("detect_positive", 1) != 0 {
                expr = Expr::if_less_equal(infinity(1.0), input(), one(), expr);
            }
            if node.int("detect_negative", 1) != 0 {
                expr = Expr::if_less_equal(input(), infinity(-1.0), one(), expr);
            }
            expr
        };
        if self.is_bounded(x.operand) || x.integer || expr.as_constant().is_some() {
            let shape = vec![1; x.rest.len()];
            return Ok(Value::Host([(); 2].map(|()| Array::ints(&shape, vec![0]))));
        }
        Ok(Value::Tensor(if self.kinds(x.operand) == 0 {
            // Of finite numbers alone, as kernels hold them: whatever they computed.
            self.append(node, Elementwise::new(expr), &[x.operand], x.sample)?
        } else {
            self.elementwise(node, expr, from_ref(x), x.sample)?
        }))
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
