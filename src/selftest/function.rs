//! Elementwise functions over all sizes of arguments, their derivatives, powers, and numbers that are not finite.

use super::compare::{Measure, Part};
use super::draft::{Draft, SUMS, read};
use crate::error::Result;
use crate::random::Draws;
use crate::tensor::expression::Unary;
use crate::tensor::{Contract, Expr, Shape};
use crate::trial::{Array, Loaded, Primitive};
use std::sync::Arc;

/// What a function of one argument may be off by, as in `tests/gpu.rs`: built of exp and log of one or two units.
const FUNCTIONS: Measure = Measure::Ulps(4.0);
/// An error of ln x counts y times in xʸ: for results within e^±20, 4e-7 + 20 · 1.5e-8 of the result.
const POWERS: Measure = Measure::Ulps(12.0);

/// Expressions of the same arguments.
#[derive(Clone, Debug)]
pub(super) struct Function {
    expressions: Vec<(String, Expr)>,
    arguments: Arguments,
}

#[derive(Clone, Debug)]
enum Arguments {
    /// One, of all sizes within a range.
    Within(f64, f64),
    /// One, spread evenly.
    Evenly(f64, f64),
    /// Bases and exponents whose powers are within e^±20.
    Powers,
    NotFinite,
}

impl Arguments {
    fn arrays(&self) -> Vec<Arc<Array>> {
        let row = |values: Vec<f64>| {
            // What single precision holds.
            let values: Vec<f64> = values.iter().map(|&v| f64::from(v as f32)).collect();
            Arc::new(Array::new(Shape::new(1, 1, &[values.len()]), values))
        };
        match *self {
            Arguments::Within(low, high) => vec![row(within(low, high))],
            Arguments::Evenly(low, high) => vec![row(evenly(low, high, 1031))],
            Arguments::NotFinite => {
                let infinite = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
                vec![row([&infinite[..], &[-0.0, 0.0, 0.5]].concat())]
            }
            Arguments::Powers => {
                let (mut bases, mut exponents) = (Vec::new(), Vec::new());
                let mut draws = Draws::new(0, 7, 0);
                for _ in 0..2000 {
                    // Bases of every size and ever closer to 1.
                    let spread = 2f64.powf(-18.0 + 24.0 * draws.uniform());
                    let base = f64::from((spread * (2.0 * draws.uniform() - 1.0)).exp() as f32);
                    let most = 20.0 / base.ln().abs().max(1e-6);
                    let exponent = most * (2.0 * draws.uniform() - 1.0);
                    bases.extend([base, -base]);
                    exponents.extend([exponent, exponent.trunc().clamp(-1e6, 1e6)]);
                }
                for whole in -6..=6 {
                    for base in [0.3, 1.7, -2.5, 10.0, 1e-3] {
                        bases.push(base);
                        exponents.push(f64::from(whole));
                    }
                }
                vec![row(bases), row(exponents)]
            }
        }
    }
}

fn evenly(low: f64, high: f64, count: usize) -> Vec<f64> {
    let at = |k: usize| low + (high - low) * k as f64 / (count - 1) as f64;
    (0..count).map(at).collect()
}

/// Evenly, by powers of two around every size of a normal number, and around 1, where logarithms vanish. (Denormal
/// arguments a device may take for 0.)
fn within(low: f64, high: f64) -> Vec<f64> {
    let mut all = evenly(low, high, 4001);
    for exponent in -126..12 {
        for step in 0..8 {
            let x = 2f64.powi(exponent) * (1.0 + f64::from(step) / 8.0);
            all.extend([x, -x]);
        }
    }
    all.extend((-100..100).map(|k| 1.0 + f64::from(k) * 2f64.powi(-23)));
    all.retain(|x| (low..=high).contains(x));
    all.push(0.0f64.clamp(low, high));
    all
}

impl Function {
    /// All expressions of the arguments.
    pub fn run<B: Contract>(&self, backend: &B) -> Result<Vec<Part>> {
        let arrays = self.arguments.arrays();
        let mut parts = Vec::new();
        for (name, expr) in &self.expressions {
            let loaded = Loaded::new(backend, &Primitive::Map(expr.clone()), &arrays);
            parts.push(read(backend, name, &loaded.apply(backend))?);
        }
        Ok(parts)
    }
}

pub(super) fn drafts() -> Vec<Draft<Function>> {
    let x = Expr::input;
    let draft = |about: String, measure, expressions, arguments| {
        let function = Function {
            expressions,
            arguments,
        };
        Draft::new("map", about, measure, function)
    };
    let word = |function: Unary| format!("{function:?}").to_lowercase();
    let mut drafts = Vec::new();
    for (function, low, high) in [
        (Unary::Negate, -1e30, 1e30),
        (Unary::Exp, -120.0, 90.0),
        (Unary::ExpM1, -120.0, 90.0),
        (Unary::Log, 0.0, 1e30),
        (Unary::Log, 0.1, 10.0),
        (Unary::Log1p, -1.0, 1e30),
        (Unary::Log1p, -0.99, 4.0),
        (Unary::Tanh, -30.0, 30.0),
        (Unary::Tanh, -1.0, 1.0),
        (Unary::Sigmoid, -100.0, 100.0),
        (Unary::Softplus, -100.0, 100.0),
        (Unary::Sqrt, 0.0, 1e30),
        (Unary::Reciprocal, 1e-30, 1e30),
        (Unary::Sin, -60.0, 60.0),
        (Unary::Cos, -60.0, 60.0),
        (Unary::Erf, -5.0, 5.0),
        (Unary::Sinh, -89.0, 89.0),
        (Unary::Cosh, -89.0, 89.0),
        (Unary::Atan, -1e30, 1e30),
        (Unary::Atan, -4.0, 4.0),
        (Unary::Asin, -1.0, 1.0),
        (Unary::Acos, -1.0, 1.0),
        (Unary::Asinh, -1e30, 1e30),
        (Unary::Asinh, -4.0, 4.0),
        (Unary::Acosh, 1.0, 1e30),
        (Unary::Acosh, 1.0, 4.0),
        (Unary::Floor, -1e30, 1e30),
        (Unary::Ceil, -1e30, 1e30),
        (Unary::Round, -1e30, 1e30),
    ] {
        let bound = |x: f64| match x.abs() {
            size if size == 0.0 || (1e-3..1e4).contains(&size) => x.to_string(),
            _ => format!("{x:e}"),
        };
        let about = format!("{} of {} to {}", word(function), bound(low), bound(high));
        let value = vec![("value".to_string(), x(0).unary(function))];
        drafts.push(draft(about, FUNCTIONS, value, Arguments::Within(low, high)));
    }
    for function in Unary::ALL {
        // The derivatives of others are constants.
        if x(0).unary(function).derivative(0).as_constant().is_some() {
            continue;
        }
        // Away from poles; a derivative near 0 is a difference of numbers near 1, so of the largest.
        let (low, high) = match function {
            Unary::Log | Unary::Sqrt | Unary::Reciprocal => (0.25, 4.0),
            Unary::Log1p => (-0.75, 4.0),
            Unary::Asin | Unary::Acos => (-0.75, 0.75),
            Unary::Acosh => (1.25, 4.0),
            _ => (-4.0, 4.0),
        };
        let first = x(0).unary(function).derivative(0);
        let second = ("second".to_string(), first.derivative(0));
        let both = vec![("first".to_string(), first), second];
        let about = format!("derivatives of {}", word(function));
        drafts.push(draft(about, SUMS, both, Arguments::Evenly(low, high)));
    }
    let power = x(0).power(x(1));
    let powers = vec![("value".to_string(), power)];
    drafts.push(draft("powers".into(), POWERS, powers, Arguments::Powers));
    let each = Unary::ALL
        .into_iter()
        .map(|f| (word(f), x(0).unary(f)))
        .collect();
    let about = "NaN, infinities and zeros".into();
    drafts.push(draft(about, FUNCTIONS, each, Arguments::NotFinite));
    drafts
}
