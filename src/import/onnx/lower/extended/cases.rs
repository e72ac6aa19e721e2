//! Formulas of numbers that may be infinite or NaN, by cases: as formulas of finite numbers that stand for them.
//!
//! This file knows expressions alone; [`super`] says where stand-ins come from and go to.

use crate::network::{LOWEST, MINUS_INFINITY};
use crate::tensor::Expr;
use crate::tensor::expression::{self, Binary, Unary};
use std::collections::HashMap;

/// The number that stands for +∞.
pub(in super::super) const INFINITE: f64 = 2.5e38f32 as f64;
/// The number that stands for NaN.
const NOT_A_NUMBER: f64 = 3e38f32 as f64;
/// From here on a number stands for +∞.
pub(super) const INFINITE_FROM: f64 = 2.25e38;
/// From here on a number stands for NaN.
pub(super) const NAN_FROM: f64 = 2.75e38;
/// Finite numbers beside stand-ins are no larger.
pub(super) const MOST_FINITE: f64 = 2e38;

/// The classes of numbers that a value may belong to, as bits.
pub(in super::super) type Classes = u8;
const NEGATIVE: Classes = 1;
const ZERO: Classes = 2;
const POSITIVE: Classes = 4;
pub(super) const FINITE: Classes = NEGATIVE | ZERO | POSITIVE;
/// −∞.
pub(super) const LOW: Classes = 8;
/// +∞.
pub(super) const HIGH: Classes = 16;
/// Not a number.
pub(super) const NAN: Classes = 32;
/// All that has a stand-in.
pub(super) const SPECIAL: Classes = LOW | HIGH | NAN;

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
pub(super) fn up_to(x: &Expr, bound: f64, then: Expr, otherwise: Expr) -> Expr {
    Expr::if_less_equal(x.clone(), Expr::constant(bound), then, otherwise)
}

/// `if bound ≤ x { then } else { otherwise }` of input x.
pub(super) fn from(x: &Expr, bound: f64, then: Expr, otherwise: Expr) -> Expr {
    Expr::if_less_equal(Expr::constant(bound), x.clone(), then, otherwise)
}

/// x as a finite number beside stand-ins: the lowest one a step up, with x's derivative, and none above what they may be.
fn cut(x: Expr) -> Expr {
    let step = Expr::constant(LOWEST - MINUS_INFINITY);
    let above = from(&x, MOST_FINITE, Expr::constant(MOST_FINITE), x.clone());
    up_to(&x, MINUS_INFINITY, x.clone() + step, above)
}

/// The stand-in of a class.
pub(super) fn stand_in(class: Classes) -> Expr {
    Expr::constant(match class {
        LOW => MINUS_INFINITY,
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
pub(super) fn by_cases(
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
            LOW => up_to(&x, MINUS_INFINITY, there, result),
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
pub(super) fn has_infinity(expr: &Expr) -> bool {
    holds(
        expr,
        &|node| matches!(node, expression::Node::Constant(v) if v.is_infinite()),
    )
}

pub(super) fn reads(expr: &Expr, k: usize) -> bool {
    holds(
        expr,
        &|node| matches!(node, expression::Node::Input(j) if *j == k),
    )
}

/// Whether a part of the formula makes infinities of finite numbers.
pub(super) fn is_singular(expr: &Expr) -> bool {
    holds(expr, &|node| match node {
        expression::Node::Unary(f, _) => {
            matches!(
                f,
                Unary::Log | Unary::Log1p | Unary::Reciprocal | Unary::Exp
            )
        }
        expression::Node::Binary(f, _, y) => match f {
            Binary::Divide => y.as_constant().is_none(),
            Binary::Power => true,
            _ => false,
        },
        _ => false,
    })
}

/// Whether the formula has no derivative but 0.
pub(super) fn is_truth(expr: &Expr, inputs: usize) -> bool {
    (0..inputs).all(|k| expr.derivative(k).as_constant() == Some(0.0))
}

/// Whether the formula chooses among its inputs and constants, and computes nothing.
pub(super) fn chooses(expr: &Expr) -> bool {
    !holds(expr, &|node| {
        matches!(
            node,
            expression::Node::Unary(..) | expression::Node::Binary(..)
        )
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
            x if x <= MINUS_INFINITY => -INFINITY,
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
