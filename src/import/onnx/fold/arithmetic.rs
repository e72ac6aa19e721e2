//! Arithmetic of constants: integers exactly, reals in double precision.
//!
//! Reals are not rounded to the file's type in between, so that a run in double precision uses √(1/8) and not
//! its single-precision neighbour; where they become whole numbers, they are (see [`whole`]).

use super::super::graph::Node;
use super::super::proto::data_type;
use super::super::tensor::{Array, Data};
use super::{MOST, Outcome, expand};
use crate::tensor::broadcast_rest;
use std::sync::Arc;

pub(super) fn cast(x: &Array, to: i32) -> Array {
    match (to, &x.data) {
        (to, Data::Int(_)) if data_type::is_float(to) => Array::reals(&x.shape, x.to_f64(), true),
        (to, _) if data_type::is_float(to) => x.clone(),
        (data_type::BOOL, _) => Array::ints(
            &x.shape,
            x.to_f64().iter().map(|&v| (v != 0.0) as i64).collect(),
        ),
        (_, Data::Int(_)) => x.clone(),
        _ => Array::ints(
            &x.shape,
            x.to_f64().iter().map(|&v| whole(v) as i64).collect(),
        ),
    }
}

/// A real that is about to become a whole number, as single precision has it: 10·0.7 is 7 there, while the 0.7
/// of the file times 10 is a little less.
fn whole(value: f64) -> f64 {
    let single = f64::from(value as f32);
    if single.abs() < 8_388_608.0 {
        single
    } else {
        value
    }
}

/// Values in the number type of `model`.
pub(super) fn like(shape: &[usize], values: Vec<f64>, model: &Array) -> Array {
    match model.data {
        Data::Int(_) => Array::ints(shape, values.iter().map(|&v| v as i64).collect()),
        _ => Array::reals(shape, values, true),
    }
}

pub(super) fn range(start: &Array, limit: &Array, step: &Array) -> Outcome<Array> {
    let scalar = |a: &Array| a.scalar().ok_or("its operands should be scalars");
    let (from, to, by) = (scalar(start)?, scalar(limit)?, scalar(step)?);
    let count = ((to - from) / by).ceil().max(0.0);
    if !count.is_finite() || count > MOST as f64 {
        return Err("it is too large to be folded".into());
    }
    let values: Vec<f64> = (0..count as usize).map(|k| from + k as f64 * by).collect();
    Ok(like(&[values.len()], values, start))
}

/// The functions of one operand.
pub(super) const UNARY: &[&str] = &[
    "Abs",
    "BitwiseNot",
    "Ceil",
    "Cos",
    "Erf",
    "Exp",
    "Floor",
    "IsNaN",
    "Log",
    "Neg",
    "Not",
    "Reciprocal",
    "Relu",
    "Round",
    "Sigmoid",
    "Sign",
    "Sin",
    "Sqrt",
    "Tanh",
];

pub(super) fn unary(operation: &str, x: &Array) -> Outcome<Array> {
    if let Data::Int(v) = &x.data {
        let apply = |&a: &i64| match operation {
            "Neg" => a.checked_neg(),
            "Abs" => a.checked_abs(),
            "Sign" => Some(a.signum()),
            "Relu" => Some(a.max(0)),
            "Not" => Some((a == 0) as i64),
            "BitwiseNot" => Some(!a),
            // Integers are whole already.
            "Floor" | "Ceil" | "Round" => Some(a),
            _ => None,
        };
        if let Some(values) = v.iter().map(apply).collect() {
            return Ok(Array::ints(&x.shape, values));
        }
        if matches!(operation, "Neg" | "Abs") {
            return Err("it overflows".into());
        }
    } else if matches!(operation, "Not" | "BitwiseNot") {
        return Err("its operand should be a truth value or an integer".into());
    }
    let values = x.to_f64().into_iter();
    if operation == "IsNaN" {
        return Ok(Array::ints(
            &x.shape,
            values.map(|a| a.is_nan() as i64).collect(),
        ));
    }
    let apply = |a: f64| match operation {
        "Neg" => -a,
        "Abs" => a.abs(),
        "Sqrt" => a.sqrt(),
        "Exp" => a.exp(),
        "Log" => a.ln(),
        "Sin" => a.sin(),
        "Cos" => a.cos(),
        "Tanh" => a.tanh(),
        "Erf" => libm::erf(a),
        "Relu" => a.max(0.0),
        "Sigmoid" => 1.0 / (1.0 + (-a).exp()),
        "Floor" => whole(a).floor(),
        "Ceil" => whole(a).ceil(),
        "Round" => whole(a).round_ties_even(),
        // Of 0 it is 0, where Rust's is 1.
        "Sign" if a == 0.0 => 0.0,
        "Sign" => a.signum(),
        _ => 1.0 / a,
    };
    Ok(like(&x.shape, values.map(apply).collect(), x))
}

/// Clip: bounds as attributes or as operands.
pub(super) fn clip(
    node: &Node,
    x: &Array,
    low: Option<&Array>,
    high: Option<&Array>,
) -> Outcome<Array> {
    let bound = |given: Option<&Array>, name: &str, open: f64| match given {
        Some(array) => array.scalar().ok_or("its bounds should be scalars"),
        None => Ok(node.float(name, open as f32)),
    };
    let low = bound(low, "min", f64::NEG_INFINITY)?;
    let high = bound(high, "max", f64::INFINITY)?;
    let clipped = x.to_f64().into_iter().map(|v| v.max(low).min(high));
    Ok(like(&x.shape, clipped.collect(), x))
}

/// A function of two operands; `fmod` gives Mod the sign of the first.
pub(super) fn binary(operation: &str, fmod: bool, a: &Array, b: &Array) -> Outcome<Array> {
    let shape = broadcast_rest(&a.shape, &b.shape).ok_or("its operands do not broadcast")?;
    let (a, b) = (expand(a, &shape)?, expand(b, &shape)?);
    let compare = |x: f64, y: f64| match operation {
        "Equal" => Some(x == y),
        "Greater" => Some(x > y),
        "GreaterOrEqual" => Some(x >= y),
        "Less" => Some(x < y),
        "LessOrEqual" => Some(x <= y),
        "And" => Some(x != 0.0 && y != 0.0),
        "Or" => Some(x != 0.0 || y != 0.0),
        "Xor" => Some((x != 0.0) != (y != 0.0)),
        _ => None,
    };
    if compare(0.0, 0.0).is_some() {
        let (x, y) = (a.to_f64(), b.to_f64());
        let values = x.iter().zip(&y).filter_map(|(&x, &y)| compare(x, y));
        return Ok(Array::ints(&shape, values.map(|v| v as i64).collect()));
    }
    if let (Data::Int(x), Data::Int(y)) = (&a.data, &b.data) {
        let apply = |(&x, &y): (&i64, &i64)| match operation {
            "Add" => x.checked_add(y),
            "Sub" => x.checked_sub(y),
            "Mul" => x.checked_mul(y),
            // ONNX divides integers towards zero.
            "Div" => x.checked_div(y),
            "Mod" => x.checked_rem(y).map(|r| {
                if !fmod && r != 0 && (r < 0) != (y < 0) {
                    r + y
                } else {
                    r
                }
            }),
            "Min" => Some(x.min(y)),
            "Max" => Some(x.max(y)),
            "BitwiseAnd" => Some(x & y),
            "BitwiseOr" => Some(x | y),
            "BitwiseXor" => Some(x ^ y),
            "ShiftRight" => u32::try_from(y).ok().map(|y| x.checked_shr(y).unwrap_or(0)),
            "ShiftLeft" => u32::try_from(y)
                .ok()
                .and_then(|y| x.checked_mul(1i64.checked_shl(y)?)),
            "Pow" => u32::try_from(y).ok().and_then(|y| x.checked_pow(y)),
            _ => None,
        };
        let values: Option<Vec<i64>> = x.iter().zip(y.iter()).map(apply).collect();
        let values = values.ok_or("it overflows or divides by zero")?;
        return Ok(Array {
            shape,
            data: Data::Int(Arc::new(values)),
        });
    }
    if operation.starts_with("Bitwise") || operation.starts_with("Shift") {
        return Err("its operands should be integers".into());
    }
    let (x, y) = (a.to_f64(), b.to_f64());
    let apply = |(&x, &y): (&f64, &f64)| match operation {
        "Add" => x + y,
        "Sub" => x - y,
        "Mul" => x * y,
        "Div" => x / y,
        "Min" => x.min(y),
        "Max" => x.max(y),
        "Pow" => x.powf(y),
        "Mod" if fmod => x % y,
        _ => f64::NAN,
    };
    let values = x.iter().zip(&y).map(apply).collect();
    Ok(Array::reals(&shape, values, true))
}
