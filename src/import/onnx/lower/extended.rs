//! Infinities and NaN that a file means: what stands for them, and what formulas make of them.
//!
//! Attention masks hold −∞, a softmax of nothing but −∞ is NaN, and a guard of the exporter turns that NaN into 0. Kernels
//! cannot be trusted with either: shading languages leave infinities and NaN undefined, and in a derivative 0·∞ spoils
//! what the guard threw away. So a tensor that may hold them stores finite numbers that stand for them:
//!
//! | means | stored | read as |
//! |---|---|---|
//! | −∞ | −S, S = 10³⁸ | x ≤ −¾S |
//! | +∞ | S | ¾S ≤ x < 1½S |
//! | NaN | 2S | 1½S ≤ x |
//!
//! and which of the three it may hold is known at import ([`Lowering::kinds`]). Everything goes through one of four doors:
//!
//! - **Formulas** ([`Lowering::elementwise`]) are rewritten by cases: for each stand-in that an operand may hold, the
//!   formula's value there is found by the rules of IEEE 754 at import (−∞ + x = −∞, e^−∞ = 0, NaN ≤ x is false) and chosen by a
//!   comparison of finite numbers. A case has the derivative of its own value, so none reaches an operand through a
//!   stand-in.
//! - **Moves** (reshape, transpose, slice, concatenation, maximum) carry stand-ins along: their order is that of what they stand
//!   for, NaN being the greatest, as maxima propagate it.
//! - **Softmax** of a row whose maximum is a stand-in (all −∞, or any +∞ or NaN) is NaN in the whole row.
//! - **Everything else** (products, sums, convolutions) takes true infinities, made at that point, and zeros in place of NaN;
//!   that the sample is spoilt is remembered beside, and its outputs are NaN at the end. So a NaN that no guard removed is
//!   always seen by the check of the outputs, and never meets a derivative.
//!
//! Finite numbers as large as S (the `finfo.min` that some masks use) stay what they are; where they meet a tensor with
//! stand-ins they are cut to ±½S.

use super::super::fold;
use super::super::graph::Node;
use super::super::tensor::Array;
use super::{Lowering, Tensor};
use crate::error::Result;
use crate::network::{Network, Operand};
use crate::ops::{Elementwise, Op, ReduceSum, Reshape, Softmax};
use crate::tensor::expression::{self, Binary, Unary};
use crate::tensor::{Expr, broadcast_rest};
use std::collections::{HashMap, HashSet};

/// S, which stands for ∞.
pub(super) const INFINITE: f64 = 1e38f32 as f64;
/// What stands for NaN.
const NOT_A_NUMBER: f64 = 2e38f32 as f64;
/// From here on a number stands for ∞; its negative alike.
const INFINITE_FROM: f64 = 0.75 * INFINITE;
/// From here on a number stands for NaN.
const NAN_FROM: f64 = 1.5 * INFINITE;
/// Finite numbers beside stand-ins are no larger.
const MOST_FINITE: f64 = 0.5 * INFINITE;
/// Finite constants from here on are cut where they meet stand-ins; smaller ones are lost in the rounding of S.
const HUGE: f64 = 1e20;
/// Inputs and operations up to which a truth value's formula is written into what reads it.
const MOST_INPUTS: usize = 6;
const MOST_OPERATIONS: usize = 48;

/// What a value may be, as bits.
pub(super) type Classes = u8;
const NEGATIVE: Classes = 1;
const ZERO: Classes = 2;
const POSITIVE: Classes = 4;
const FINITE: Classes = NEGATIVE | ZERO | POSITIVE;
/// −∞.
pub(super) const LOW: Classes = 8;
/// +∞.
pub(super) const HIGH: Classes = 16;
/// Not a number.
pub(super) const NAN: Classes = 32;
/// All that has a stand-in.
pub(super) const SPECIAL: Classes = LOW | HIGH | NAN;

/// What is known of a tensor that may hold stand-ins.
#[derive(Clone, Debug)]
struct Special {
    /// Which ones.
    kinds: Classes,
    /// Where −∞ is, as 0 and 1, if that is known at import.
    hidden: Option<Array>,
    /// Name and operation of the node that made them.
    origin: (String, String),
}

/// A formula in terms of what its operands mean.
#[derive(Clone, Debug)]
struct Formula {
    expr: Expr,
    operands: Vec<Tensor>,
}

/// Which tensors of the network may hold stand-ins, and what else is known of them.
#[derive(Default)]
pub(super) struct Extended {
    specials: HashMap<Operand, Special>,
    /// Truth values of tensors with stand-ins: a guard's condition.
    truths: HashMap<Operand, Formula>,
    /// Results of a softmax and what was chosen of them: never infinite, nor NaN unless by a stand-in.
    bounded: HashSet<Operand>,
    /// What operations that know no stand-ins read instead.
    plain: HashMap<Operand, Operand>,
    /// Per NaN that no guard removed: how often it is in the sample, a scalar, and who made it.
    spoilt: Vec<(Operand, (String, String))>,
    /// Whether a finite constant was met that is not lost in the rounding of S.
    huge: bool,
    /// Per value, as far as it was asked: whether it depends on a parameter.
    varies: Vec<bool>,
}

/// The classes of a number.
fn class_of(value: f64) -> Classes {
    match value {
        v if v.is_nan() => NAN,
        f64::NEG_INFINITY => LOW,
        f64::INFINITY => HIGH,
        v if v < 0.0 => NEGATIVE,
        v if v > 0.0 => POSITIVE,
        _ => ZERO,
    }
}

fn bits(classes: Classes) -> impl Iterator<Item = Classes> {
    (0..6).map(|k| 1 << k).filter(move |bit| classes & bit != 0)
}

/// The sign of a class: −1, 0, 1.
fn sign(class: Classes) -> i8 {
    match class {
        NEGATIVE | LOW => -1,
        ZERO => 0,
        _ => 1,
    }
}

fn infinite(sign: i8) -> Classes {
    if sign < 0 { LOW } else { HIGH }
}

fn signed(sign: i8) -> Classes {
    match sign {
        -1 => NEGATIVE,
        0 => ZERO,
        _ => POSITIVE,
    }
}

fn of_unary(function: Unary, class: Classes) -> Classes {
    match class {
        LOW => class_of(function.evaluate(f64::NEG_INFINITY)),
        HIGH => class_of(function.evaluate(f64::INFINITY)),
        NAN => NAN,
        _ => match function {
            Unary::Negate => signed(-sign(class)),
            Unary::Exp | Unary::Sigmoid | Unary::Softplus => ZERO | POSITIVE,
            Unary::ExpM1 | Unary::Tanh | Unary::Erf => class | ZERO,
            // What a finite number makes of its own singularity is no matter here: it is found when it is met.
            _ => FINITE,
        },
    }
}

fn of_binary(function: Binary, a: Classes, b: Classes) -> Classes {
    if (a | b) & NAN != 0 {
        return NAN;
    }
    let (large_a, large_b) = (a & SPECIAL != 0, b & SPECIAL != 0);
    match function {
        Binary::Add | Binary::Subtract => {
            let other = match function {
                Binary::Add => sign(b),
                _ => -sign(b),
            };
            match (large_a, large_b) {
                (true, true) if sign(a) != other => NAN,
                (true, _) => a,
                (_, true) => infinite(other),
                _ if sign(a) == other || other == 0 => a,
                _ if sign(a) == 0 => signed(other),
                _ => FINITE,
            }
        }
        Binary::Multiply => match sign(a) * sign(b) {
            0 if large_a || large_b => NAN,
            product if large_a || large_b => infinite(product),
            product => signed(product) | ZERO,
        },
        Binary::Divide => match (large_a, large_b) {
            (true, true) => NAN,
            (true, false) if b == ZERO => LOW | HIGH,
            (true, false) => infinite(sign(a) * sign(b)),
            (false, true) => ZERO,
            _ if b == ZERO => FINITE,
            _ => signed(sign(a) * sign(b)) | ZERO,
        },
        Binary::Power if large_a || large_b => FINITE | SPECIAL,
        Binary::Power => FINITE,
    }
}

/// Whether `left ≤ right`, where the classes of both sides say.
fn decided(left: (&Expr, Classes), right: (&Expr, Classes)) -> Option<bool> {
    if left.0 == right.0 && left.1 & NAN == 0 {
        return Some(true);
    }
    let each = |a: Classes, b: Classes| match (a, b) {
        (NAN, _) | (_, NAN) => Some(false),
        (LOW, _) | (_, HIGH) => Some(true),
        (HIGH, _) | (_, LOW) => Some(false),
        (ZERO, ZERO) => Some(true),
        _ if sign(a) != sign(b) => Some(sign(a) < sign(b)),
        _ => None,
    };
    let mut all = bits(left.1).flat_map(|a| bits(right.1).map(move |b| each(a, b)));
    let first = all.next()??;
    all.all(|outcome| outcome == Some(first)).then_some(first)
}

/// The formula without choices that the classes of its inputs decide, and the classes of its value.
fn simplified(
    expr: &Expr,
    given: &[Classes],
    seen: &mut HashMap<*const expression::Node, (Expr, Classes)>,
) -> (Expr, Classes) {
    let address: *const expression::Node = expr.node();
    if let Some(found) = seen.get(&address) {
        return found.clone();
    }
    let known = |expr: Expr, classes: Classes| match expr.as_constant() {
        Some(value) => (expr, class_of(value)),
        None => (expr, classes),
    };
    let result = match expr.node() {
        expression::Node::Input(k) => (expr.clone(), given[*k]),
        expression::Node::Constant(value) => (expr.clone(), class_of(*value)),
        expression::Node::Unary(function, x) => {
            let (x, classes) = simplified(x, given, seen);
            let classes = bits(classes).fold(0, |all, c| all | of_unary(*function, c));
            known(x.unary(*function), classes)
        }
        expression::Node::Binary(function, x, y) => {
            let (x, a) = simplified(x, given, seen);
            let (y, b) = simplified(y, given, seen);
            let pairs = bits(a).flat_map(|a| bits(b).map(move |b| (a, b)));
            let classes = pairs.fold(0, |all, (a, b)| all | of_binary(*function, a, b));
            let expr = match function {
                Binary::Add => x + y,
                Binary::Subtract => x - y,
                Binary::Multiply => x * y,
                Binary::Divide => x / y,
                Binary::Power => x.power(y),
            };
            known(expr, classes)
        }
        expression::Node::IfLessEqual {
            left,
            right,
            then,
            otherwise,
        } => {
            let (left, a) = simplified(left, given, seen);
            let (right, b) = simplified(right, given, seen);
            match decided((&left, a), (&right, b)) {
                Some(true) => simplified(then, given, seen),
                Some(false) => simplified(otherwise, given, seen),
                None => {
                    let (then, c) = simplified(then, given, seen);
                    let (otherwise, d) = simplified(otherwise, given, seen);
                    known(Expr::if_less_equal(left, right, then, otherwise), c | d)
                }
            }
        }
    };
    seen.insert(address, result.clone());
    result
}

/// `if x ≤ bound { then } else { otherwise }` of input x.
fn up_to(x: &Expr, bound: f64, then: Expr, otherwise: Expr) -> Expr {
    Expr::if_less_equal(x.clone(), Expr::constant(bound), then, otherwise)
}

/// `if bound ≤ x { then } else { otherwise }` of input x.
fn from(x: &Expr, bound: f64, then: Expr, otherwise: Expr) -> Expr {
    Expr::if_less_equal(Expr::constant(bound), x.clone(), then, otherwise)
}

/// x, cut to what finite numbers beside stand-ins may be.
fn cut(x: Expr) -> Expr {
    let (low, high) = (Expr::constant(-MOST_FINITE), Expr::constant(MOST_FINITE));
    let below = up_to(&x, -MOST_FINITE, low, x.clone());
    from(&x, MOST_FINITE, high, below)
}

/// The stand-in of a class.
fn stand_in(class: Classes) -> Expr {
    Expr::constant(match class {
        LOW => -INFINITE,
        HIGH => INFINITE,
        _ => NOT_A_NUMBER,
    })
}

/// A formula of finite numbers and true infinities, as what stands for its value; and the stand-ins among it.
fn encoded(expr: &Expr, given: &[Classes], cuts: bool) -> (Expr, Classes) {
    let (expr, classes) = simplified(expr, given, &mut HashMap::new());
    let special = classes & SPECIAL;
    if special == 0 {
        return (if cuts { cut(expr) } else { expr }, 0);
    }
    if classes.count_ones() == 1 {
        return (stand_in(classes), classes);
    }
    if let expression::Node::IfLessEqual {
        left,
        right,
        then,
        otherwise,
    } = expr.node()
    {
        let (then, a) = encoded(then, given, cuts);
        let (otherwise, b) = encoded(otherwise, given, cuts);
        let chosen = Expr::if_less_equal(left.clone(), right.clone(), then, otherwise);
        return (chosen, a | b);
    }
    // Only the numbers say: a product of ∞ with what may be 0.
    let finite = if cuts {
        cut(expr.clone())
    } else {
        expr.clone()
    };
    let number = Expr::if_less_equal(expr.clone(), expr.clone(), finite, stand_in(NAN));
    let upper = from(&expr, f64::INFINITY, stand_in(HIGH), number);
    (
        up_to(&expr, f64::NEG_INFINITY, stand_in(LOW), upper),
        SPECIAL,
    )
}

/// [`encoded`], the inputs from `k` on distinguished by what they may be.
fn by_cases(
    expr: &Expr,
    kinds: &[Classes],
    k: usize,
    given: &mut [Classes],
    cuts: bool,
) -> (Expr, Classes) {
    let Some(k) = (k..kinds.len()).find(|&k| kinds[k] != 0) else {
        return encoded(expr, given, cuts);
    };
    let x = Expr::input(k);
    let (mut result, mut found) = by_cases(expr, kinds, k + 1, given, cuts);
    let cases = [
        (LOW, f64::NEG_INFINITY),
        (HIGH, f64::INFINITY),
        (NAN, f64::NAN),
    ];
    for (class, value) in cases {
        if kinds[k] & class == 0 {
            continue;
        }
        let mut inputs: Vec<Expr> = (0..kinds.len()).map(Expr::input).collect();
        inputs[k] = Expr::constant(value);
        let there = expr.substitute(&inputs);
        let (there, more) = by_cases(&there, kinds, k + 1, given, cuts);
        found |= more;
        result = match class {
            LOW => up_to(&x, -INFINITE_FROM, there, result),
            HIGH => from(&x, INFINITE_FROM, there, result),
            _ => from(&x, NAN_FROM, there, result),
        };
    }
    (result, found)
}

/// Whether a part of the formula is of that sort.
fn holds(expr: &Expr, sort: &dyn Fn(&expression::Node) -> bool) -> bool {
    sort(expr.node()) || expr.operands().into_iter().any(|part| holds(part, sort))
}

/// Whether the formula has a constant that is infinite.
fn has_infinity(expr: &Expr) -> bool {
    holds(
        expr,
        &|node| matches!(node, expression::Node::Constant(v) if v.is_infinite()),
    )
}

fn reads(expr: &Expr, k: usize) -> bool {
    holds(
        expr,
        &|node| matches!(node, expression::Node::Input(j) if *j == k),
    )
}

/// Whether the formula has no derivative but 0.
fn is_truth(expr: &Expr, inputs: usize) -> bool {
    (0..inputs).all(|k| expr.derivative(k).as_constant() == Some(0.0))
}

/// Whether the formula chooses among its inputs and constants, and computes nothing.
fn chooses(expr: &Expr) -> bool {
    !holds(expr, &|node| {
        matches!(
            node,
            expression::Node::Unary(..) | expression::Node::Binary(..)
        )
    })
}

/// Whether an operation moves numbers without looking at more than their order.
pub(super) fn moves(op: &Op) -> bool {
    matches!(
        op,
        Op::Broadcast(_)
            | Op::Concat(_)
            | Op::MaxPool(_)
            | Op::Permute(_)
            | Op::Reshape(_)
            | Op::Slice(_)
            | Op::Take(_)
    )
}

/// Where a host array is −∞, as 0 and 1.
fn hidden_of(array: &Array) -> Array {
    let truth = |v: f64| i64::from(v == f64::NEG_INFINITY);
    Array::ints(
        &array.shape,
        array.to_f64().into_iter().map(truth).collect(),
    )
}

impl Lowering<'_> {
    /// The stand-ins that an operand may hold.
    pub(super) fn kinds(&self, operand: Operand) -> Classes {
        self.extended.specials.get(&operand).map_or(0, |s| s.kinds)
    }

    /// Whether an operand is neither infinite nor NaN, whatever the data.
    pub(super) fn is_bounded(&self, operand: Operand) -> bool {
        self.kinds(operand) == 0 && self.extended.bounded.contains(&operand)
    }

    /// Remembers what a host array becomes as a constant of the network.
    pub(super) fn note_constant(&mut self, node: &Node, array: &Array, operand: Operand) {
        let values = array.to_f64();
        let classes = values.iter().fold(0, |all, &v| all | class_of(v)) & SPECIAL;
        self.extended.huge |= values.iter().any(|v| v.is_finite() && v.abs() > HUGE);
        if classes != 0 {
            let hidden = (classes == LOW).then(|| hidden_of(array));
            self.note(node, operand, classes, hidden);
        }
    }

    /// Remembers a constant that becomes part of a formula.
    pub(super) fn note_scalar(&mut self, value: f64) {
        self.extended.huge |= value.is_finite() && value.abs() > HUGE;
    }

    fn note(&mut self, node: &Node, operand: Operand, kinds: Classes, hidden: Option<Array>) {
        let origin = (node.name().to_string(), node.op_type().to_string());
        let special = Special {
            kinds,
            hidden,
            origin,
        };
        self.extended.specials.insert(operand, special);
    }

    /// Says where a tensor is −∞, for a choice whose condition is known.
    pub(super) fn note_hidden(&mut self, tensor: &Tensor, hidden: Array) {
        if let Some(special) = self.extended.specials.get_mut(&tensor.operand)
            && special.kinds == LOW
        {
            special.hidden = Some(hidden);
        }
    }

    /// The operands of an operation that moves numbers or computes with them: stand-ins go along with moves, and become what
    /// they stand for everywhere else. Returns the operands, and what the result may hold.
    pub(super) fn carried(
        &mut self,
        op: &Op,
        inputs: &[Operand],
    ) -> Result<(Vec<Operand>, Classes)> {
        let kinds = inputs.iter().fold(0, |all, &i| all | self.kinds(i));
        if kinds == 0 || moves(op) || matches!(op, Op::Elementwise(_)) {
            let kinds = if moves(op) { kinds } else { 0 };
            return Ok((inputs.to_vec(), kinds));
        }
        let plain: Result<Vec<Operand>> = inputs.iter().map(|&i| self.plain(i)).collect();
        Ok((plain?, 0))
    }

    /// Remembers what a move made.
    pub(super) fn note_moved(&mut self, inputs: &[Operand], result: Operand, kinds: Classes) {
        if inputs.iter().all(|i| self.extended.bounded.contains(i)) {
            self.extended.bounded.insert(result);
        }
        let from = inputs.iter().find_map(|i| self.extended.specials.get(i));
        if let (true, Some(from)) = (kinds != 0, from) {
            let special = Special {
                kinds,
                hidden: None,
                origin: from.origin.clone(),
            };
            self.extended.specials.insert(result, special);
        }
    }

    /// The operand with true infinities, and 0 for NaN; that the sample is spoilt is remembered.
    fn plain(&mut self, operand: Operand) -> Result<Operand> {
        let Some(special) = self.extended.specials.get(&operand).cloned() else {
            return Ok(operand);
        };
        if let Some(&plain) = self.extended.plain.get(&operand) {
            return Ok(plain);
        }
        let x = Expr::input(0);
        let mut expr = x.clone();
        if special.kinds & LOW != 0 {
            let low = Expr::constant(f64::NEG_INFINITY);
            expr = up_to(&x, -INFINITE_FROM, low, expr);
        }
        if special.kinds & HIGH != 0 {
            expr = from(&x, INFINITE_FROM, Expr::constant(f64::INFINITY), expr);
        }
        if special.kinds & NAN != 0 {
            expr = from(&x, NAN_FROM, Expr::constant(0.0), expr);
            self.spoil(operand, &special.origin)?;
        }
        let (name, operation) = &special.origin;
        let op = Elementwise::new(expr);
        let value = self.network.append(name, operation, op, &[operand])?;
        self.extended.plain.insert(operand, Operand::Value(value));
        Ok(Operand::Value(value))
    }

    /// Counts the NaN of an operand per sample.
    fn spoil(&mut self, operand: Operand, origin: &(String, String)) -> Result<()> {
        let (name, operation) = origin;
        let constant = Expr::constant;
        let truth = from(&Expr::input(0), NAN_FROM, constant(1.0), constant(0.0));
        let truth = self
            .network
            .append(name, operation, Elementwise::new(truth), &[operand])?;
        let axes = (0..self.network.rest(truth).len()).collect();
        let sum = ReduceSum { axes, keep: false };
        let sum = self
            .network
            .append(name, operation, sum, &[Operand::Value(truth)])?;
        self.extended
            .spoilt
            .push((Operand::Value(sum), origin.clone()));
        Ok(())
    }

    /// The network's output as it leaves: NaN where it stands for that, or where a NaN that no guard removed is in the sample.
    ///
    /// −∞ stays what stands for it: losses of logits take it, a class that is masked.
    pub(super) fn exposed(&mut self, output: Operand) -> Result<Operand> {
        let mut output = output;
        if let Some(special) = self.extended.specials.get(&output).cloned()
            && special.kinds & (HIGH | NAN) != 0
        {
            let x = Expr::input(0);
            let high = from(&x, INFINITE_FROM, Expr::constant(f64::INFINITY), x.clone());
            let nan = from(&x, NAN_FROM, Expr::constant(f64::NAN), high);
            let (name, operation) = &special.origin;
            let op = Elementwise::new(nan);
            output = Operand::Value(self.network.append(name, operation, op, &[output])?);
        }
        for (count, (name, operation)) in std::mem::take(&mut self.extended.spoilt) {
            let rest = vec![1; self.network.operand_rest(output).len()];
            let count = self
                .network
                .append(&name, &operation, Reshape { rest }, &[count])?;
            let none = up_to(
                &Expr::input(1),
                0.5,
                Expr::input(0),
                Expr::constant(f64::NAN),
            );
            let operands = [output, Operand::Value(count)];
            let op = Elementwise::new(none);
            output = Operand::Value(self.network.append(&name, &operation, op, &operands)?);
        }
        Ok(output)
    }

    /// An elementwise operation on tensors already aligned, its formula in terms of what the tensors mean.
    ///
    /// `None` where no stand-in is about, and the formula is as it stands.
    pub(super) fn extended_elementwise(
        &mut self,
        node: &Node,
        expr: &Expr,
        tensors: &[Tensor],
        sample: Option<super::Sample>,
    ) -> Result<Option<Tensor>> {
        let Formula { expr, operands } = self.written_in(expr, tensors);
        let kinds: Vec<Classes> = operands.iter().map(|t| self.kinds(t.operand)).collect();
        if kinds.iter().all(|&k| k == 0) && !has_infinity(&expr) {
            return Ok(None);
        }
        let absorbed = self.absorbed(&expr, &operands, &kinds);
        let (formula, found, hidden) = match absorbed {
            Some(special) => (expr.clone(), special.kinds, special.hidden),
            None => {
                let mut given: Vec<Classes> = vec![FINITE; operands.len()];
                let (mut formula, found) = by_cases(&expr, &kinds, 0, &mut given, false);
                if found != 0 && self.extended.huge {
                    formula = by_cases(&expr, &kinds, 0, &mut given, true).0;
                }
                (formula, found, None)
            }
        };
        let bounded = chooses(&formula)
            && (operands.iter().enumerate())
                .all(|(k, t)| !reads(&formula, k) || self.extended.bounded.contains(&t.operand));
        let (formula, kept) = self.compact(formula, &operands, sample.is_some());
        let inputs: Vec<Operand> = kept.iter().map(|t| t.operand).collect();
        let result = self.append(node, Elementwise::new(formula), &inputs, sample)?;
        if found != 0 {
            self.note(node, result.operand, found, hidden);
        } else if is_truth(&expr, operands.len()) && expr.operations() <= MOST_OPERATIONS {
            let formula = Formula { expr, operands };
            self.extended.truths.insert(result.operand, formula);
        }
        if bounded {
            self.extended.bounded.insert(result.operand);
        }
        Ok(Some(result))
    }

    /// A formula with those of its operands that are truth values of stand-ins written out, so that a guard's condition is
    /// decided together with what it guards.
    fn written_in(&self, expr: &Expr, tensors: &[Tensor]) -> Formula {
        let mut operands: Vec<Tensor> = Vec::new();
        let mut place = |tensor: &Tensor| {
            let found = operands.iter().position(|t| t.operand == tensor.operand);
            Expr::input(found.unwrap_or_else(|| {
                operands.push(tensor.clone());
                operands.len() - 1
            }))
        };
        let inputs: Vec<Expr> = tensors
            .iter()
            .map(|tensor| match self.extended.truths.get(&tensor.operand) {
                Some(truth) => {
                    let inner: Vec<Expr> = truth.operands.iter().map(&mut place).collect();
                    truth.expr.substitute(&inner)
                }
                None => place(tensor),
            })
            .collect();
        let written = expr.substitute(&inputs);
        if operands.len() > MOST_INPUTS || written.operations() > MOST_OPERATIONS {
            return Formula {
                expr: expr.clone(),
                operands: tensors.to_vec(),
            };
        }
        Formula {
            expr: written,
            operands,
        }
    }

    /// What a sum of finite numbers and one tensor of −∞ may hold: S swallows what is added to it, and the formula stands.
    fn absorbed(&self, expr: &Expr, operands: &[Tensor], kinds: &[Classes]) -> Option<Special> {
        let mut special = (0..kinds.len()).filter(|&k| kinds[k] != 0);
        let (k, None) = (special.next()?, special.next()) else {
            return None;
        };
        let sum = expr.derivative(k).as_constant() == Some(1.0);
        let plain = !self.extended.huge && !has_infinity(expr);
        if kinds[k] != LOW || !sum || !plain {
            return None;
        }
        self.extended.specials.get(&operands[k].operand).cloned()
    }

    /// The formula without the operands that it does not read, unless they widen its result.
    fn compact(&self, formula: Expr, operands: &[Tensor], sampled: bool) -> (Expr, Vec<Tensor>) {
        let shape = |tensors: &[Tensor]| {
            let rests = tensors.iter();
            rests.fold(Vec::new(), |all, t| {
                broadcast_rest(&all, &t.rest).unwrap_or_default()
            })
        };
        let whole = shape(operands);
        let mut kept: Vec<usize> = (0..operands.len()).collect();
        for k in 0..operands.len() {
            let less: Vec<usize> = kept.iter().copied().filter(|&j| j != k).collect();
            let tensors: Vec<Tensor> = less.iter().map(|&j| operands[j].clone()).collect();
            let samples = !sampled || tensors.iter().any(|t| t.sample.is_some());
            if !reads(&formula, k) && samples && !tensors.is_empty() && shape(&tensors) == whole {
                kept = less;
            }
        }
        let place = |k: usize| kept.iter().position(|&j| j == k).unwrap_or(0);
        let inputs: Vec<Expr> = (0..operands.len()).map(|k| Expr::input(place(k))).collect();
        let tensors = kept.iter().map(|&k| operands[k].clone()).collect();
        (formula.substitute(&inputs), tensors)
    }

    /// Softmax or its logarithm along an axis, NaN in rows that are −∞ throughout or hold +∞ or NaN.
    pub(super) fn softmax(
        &mut self,
        node: &Node,
        x: &Tensor,
        axis: usize,
        log: bool,
    ) -> Result<Tensor> {
        let op = Softmax { axis, log };
        let value = self.append_as_is(node, op.into(), &[x.operand], x.sample)?;
        if !log {
            self.extended.bounded.insert(value.operand);
        }
        let Some(special) = self.extended.specials.get(&x.operand).cloned() else {
            return Ok(value);
        };
        let rows = special
            .hidden
            .as_ref()
            .is_some_and(|hidden| !covers_row(hidden, &x.rest, axis));
        if special.kinds == LOW && rows {
            if log {
                self.note(node, value.operand, LOW, special.hidden);
            }
            return Ok(value);
        }
        let most = self.maximum(node, x, &[axis], true)?;
        let input = Expr::input;
        let mut number = input(0);
        let mut operands = vec![value.operand, most.operand];
        let mut kinds = NAN;
        if log && special.kinds & LOW != 0 {
            number = up_to(&input(2), -INFINITE_FROM, stand_in(LOW), number);
            operands.push(x.operand);
            kinds |= LOW;
        }
        let above = from(&input(1), INFINITE_FROM, stand_in(NAN), number);
        let formula = up_to(&input(1), -INFINITE_FROM, stand_in(NAN), above);
        let result = self.append(node, Elementwise::new(formula), &operands, x.sample)?;
        self.note(node, result.operand, kinds, None);
        if !log {
            self.extended.bounded.insert(result.operand);
        }
        Ok(result)
    }

    /// The operand with its infinities and NaN replaced by what stands for them, where it is computed of data alone and a
    /// softmax reads what is made of it: an additive mask among the inputs.
    pub(super) fn masking(&mut self, node: &Node, tensor: &Tensor) -> Result<Tensor> {
        let Operand::Value(_) = tensor.operand else {
            return Ok(tensor.clone());
        };
        if tensor.integer
            || self.kinds(tensor.operand) != 0
            || self.is_bounded(tensor.operand)
            || self.varies(tensor.operand)
            || !self.reaches_softmax(node)
        {
            return Ok(tensor.clone());
        }
        let (x, most) = (Expr::input(0), f64::from(f32::MAX));
        let number = Expr::if_less_equal(x.clone(), x.clone(), x.clone(), stand_in(NAN));
        let limit = Expr::constant;
        let finite = up_to(&x, most, limit(MOST_FINITE), stand_in(HIGH));
        let upper = from(&x, MOST_FINITE, finite, number);
        let finite = from(&x, -most, limit(-MOST_FINITE), stand_in(LOW));
        let expr = up_to(&x, -MOST_FINITE, finite, upper);
        let op = Elementwise::new(expr);
        let result = self.append(node, op, &[tensor.operand], tensor.sample)?;
        self.note(node, result.operand, SPECIAL, None);
        Ok(result)
    }

    /// Whether an operand depends on a parameter.
    fn varies(&mut self, operand: Operand) -> bool {
        let Operand::Value(value) = operand else {
            return matches!(operand, Operand::Parameter(_));
        };
        let Network { inputs, nodes, .. } = &self.network;
        let varies = &mut self.extended.varies;
        varies.resize(varies.len().max(inputs.len()), false);
        for node in &nodes[varies.len() - inputs.len()..] {
            let any = node.inputs.iter().any(|input| match *input {
                Operand::Value(value) => varies[value],
                Operand::Parameter(_) => true,
                Operand::Constant(_) => false,
            });
            varies.push(any);
        }
        varies[value]
    }

    /// Whether what the node makes gets to a softmax by moves, sums and choices.
    fn reaches_softmax(&self, node: &Node) -> bool {
        let mut reached: HashSet<&str> = node.proto.output.iter().map(String::as_str).collect();
        let after = self
            .graph
            .nodes
            .iter()
            .skip_while(|n| !std::ptr::eq(*n, node));
        for next in after {
            if !next
                .proto
                .input
                .iter()
                .any(|name| reached.contains(name.as_str()))
            {
                continue;
            }
            match next.op_type() {
                "Softmax" | "LogSoftmax" | "Attention" | "ReduceLogSumExp" => return true,
                "Add" | "Sub" | "Sum" | "Mul" | "Div" | "Where" | "Cast" | "CastLike"
                | "Reshape" | "Transpose" | "Unsqueeze" | "Squeeze" | "Flatten" | "Expand"
                | "Slice" | "Gather" | "Concat" | "Identity" | "Min" | "Max" | "Neg" => {
                    reached.extend(next.proto.output.iter().map(String::as_str));
                }
                _ => {}
            }
        }
        false
    }
}

/// Whether a row along the axis is hidden throughout.
fn covers_row(hidden: &Array, rest: &[usize], axis: usize) -> bool {
    let Ok(hidden) = fold::expand(hidden, rest) else {
        return true;
    };
    let values = hidden.to_f64();
    let (extent, inner) = (rest[axis], rest[axis + 1..].iter().product::<usize>());
    let rows = values.len() / extent.max(1);
    (0..rows).any(|row| {
        let start = row / inner * inner * extent + row % inner;
        (0..extent).all(|k| values[start + k * inner] != 0.0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFINITY: f64 = f64::INFINITY;

    /// The number that a stored one stands for.
    fn meant(x: f64) -> f64 {
        match x {
            x if x >= NAN_FROM => f64::NAN,
            x if x >= INFINITE_FROM => INFINITY,
            x if x <= -INFINITE_FROM => -INFINITY,
            x => x,
        }
    }

    fn stored(x: f64) -> f64 {
        match class_of(x) {
            class if class & SPECIAL == 0 => x,
            class => stand_in(class).as_constant().unwrap(),
        }
    }

    #[test]
    fn formulas_of_stand_ins_mean_what_ieee_754_says() {
        let (x, y) = (Expr::input(0), Expr::input(1));
        let constant = Expr::constant;
        let is_nan = Expr::if_less_equal(x.clone(), x.clone(), constant(0.0), constant(1.0));
        let guarded = Expr::if_less_equal(is_nan, constant(0.5), x.clone(), constant(0.0));
        let formulas = [
            x.clone() + y.clone(),
            x.clone() - y.clone(),
            x.clone() * y.clone(),
            x.clone() / (y.clone() + constant(0.25)),
            -x.clone(),
            x.clone().unary(Unary::Exp),
            x.clone().unary(Unary::Tanh) * y.clone(),
            x.clone() * constant(-2.0),
            x.clone() + constant(-INFINITY),
            y.clone() * constant(INFINITY),
            Expr::if_less_equal(x.clone(), y.clone(), x.clone(), y.clone()),
            Expr::if_less_equal(y, constant(0.5), constant(-INFINITY), x),
            guarded,
        ];
        let values = [-INFINITY, -2.0, 0.0, 0.5, INFINITY, f64::NAN];
        for expr in formulas {
            for cuts in [false, true] {
                let mut given = vec![FINITE; 2];
                let (formula, found) = by_cases(&expr, &[SPECIAL; 2], 0, &mut given, cuts);
                for (a, b) in values.iter().flat_map(|&a| values.map(|b| (a, b))) {
                    let right = expr.evaluate(&[a, b]);
                    let is = formula.evaluate(&[stored(a), stored(b)]);
                    assert!(
                        is.is_finite(),
                        "{expr:?} as {formula:?} is {is} at {a}, {b}"
                    );
                    let is = meant(is);
                    assert!(
                        is == right || is.is_nan() && right.is_nan(),
                        "{expr:?} as {formula:?} is {is} and not {right} at {a}, {b}"
                    );
                    let class = class_of(right) & SPECIAL;
                    assert_eq!(found & class, class, "{expr:?} may be {right}");
                    for k in 0..2 {
                        let derivative = formula.derivative(k).evaluate(&[stored(a), stored(b)]);
                        let special = class_of([a, b][k]) & SPECIAL != 0;
                        assert!(
                            !special || derivative == 0.0,
                            "{expr:?} has derivative {derivative} at {a}, {b}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_guard_removes_what_it_guards_against() {
        let x = Expr::input(0);
        let constant = Expr::constant;
        let is_nan = Expr::if_less_equal(x.clone(), x.clone(), constant(0.0), constant(1.0));
        let guarded = Expr::if_less_equal(is_nan, constant(0.5), x, constant(0.0));
        assert_eq!(by_cases(&guarded, &[NAN], 0, &mut [FINITE], false).1, 0);
        assert_eq!(
            by_cases(&guarded, &[NAN | LOW], 0, &mut [FINITE], false).1,
            LOW
        );
    }
}
