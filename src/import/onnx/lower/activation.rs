//! The formulas of one operand: activations, powers, clipping, each with PyTorch's choice at every kink.

use super::super::graph::Node;
use super::{Lowering, Tensor, Value, refuse};
use crate::error::{Error, Result};
use crate::network::Operand;
use crate::ops::Op;
use crate::tensor::Expr;
use crate::tensor::expression::{self, Unary};
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_PI};
use std::slice::from_ref;

/// Whole exponents up to which a power is written as a product: it has derivatives at 0 and below, and is
/// cheaper than a logarithm.
const MOST_FACTORS: i32 = 8;

/// `if x ≤ bound { then } else { otherwise }`.
pub(super) fn below(x: &Expr, bound: f64, then: Expr, otherwise: Expr) -> Expr {
    Expr::if_less_equal(x.clone(), Expr::constant(bound), then, otherwise)
}

/// `if x = y { then } else { otherwise }`.
fn equal(x: &Expr, y: &Expr, then: Expr, otherwise: Expr) -> Expr {
    let at_least = Expr::if_less_equal(y.clone(), x.clone(), then, otherwise.clone());
    Expr::if_less_equal(x.clone(), y.clone(), at_least, otherwise)
}

/// scale·(e^(rate·x) − 1) up to 0 and x above. At 0 the first derivative is that from below, `slope`; the second is 0, as
/// in PyTorch.
fn elu(scale: Expr, slope: Expr, rate: Expr) -> Expr {
    let (x, zero) = (Expr::input(0), Expr::constant(0.0));
    let low = scale * (rate * x.clone()).unary(Unary::ExpM1);
    let at_most = Expr::if_less_equal(zero, x.clone(), slope * x.clone(), low);
    below(&x, 0.0, at_most, x.clone())
}

/// |x|, with the derivative 0 at 0.
pub(super) fn absolute() -> Expr {
    let (x, zero) = (Expr::input(0), Expr::constant(0.0));
    let at_zero = Expr::if_less_equal(zero.clone(), x.clone(), zero.clone(), -x.clone());
    Expr::if_less_equal(x.clone(), zero, at_zero, x)
}

/// The larger (or smaller) of two; at a tie each has half the derivative.
pub(super) fn extremum(largest: bool) -> Expr {
    let (x, y) = (Expr::input(0), Expr::input(1));
    let half = Expr::constant(0.5) * (x.clone() + y.clone());
    let (low, high) = if largest {
        (y.clone(), x.clone())
    } else {
        (x.clone(), y.clone())
    };
    let tie = Expr::if_less_equal(y.clone(), x.clone(), half, low);
    Expr::if_less_equal(x, y, tie, high)
}

/// The activations that are one function of the network's own, by the name of the operation.
const FUNCTIONS: &[(&str, Unary)] = &[
    ("Tanh", Unary::Tanh),
    ("Sigmoid", Unary::Sigmoid),
    ("Softplus", Unary::Softplus),
    ("Exp", Unary::Exp),
    ("Log", Unary::Log),
    ("Sqrt", Unary::Sqrt),
    ("Reciprocal", Unary::Reciprocal),
    ("Erf", Unary::Erf),
    ("Sin", Unary::Sin),
    ("Cos", Unary::Cos),
    ("Asin", Unary::Asin),
    ("Acos", Unary::Acos),
    ("Atan", Unary::Atan),
    ("Sinh", Unary::Sinh),
    ("Cosh", Unary::Cosh),
    ("Asinh", Unary::Asinh),
    ("Acosh", Unary::Acosh),
    ("Ceil", Unary::Ceil),
    ("Floor", Unary::Floor),
    ("Round", Unary::Round),
];

/// The formula of an activation.
///
/// # Errors
/// [`Error::Unsupported`] for a variant that there is none for.
pub(super) fn activation(node: &Node) -> Result<Option<Expr>> {
    let operation = node.op_type();
    if let Some((_, function)) = FUNCTIONS.iter().find(|(name, _)| *name == operation) {
        return Ok(Some(Expr::input(0).unary(*function)));
    }
    if operation == "Gelu" {
        return gelu(node).map(Some);
    }
    Ok(smooth(node).or_else(|| by_pieces(node)))
}

/// The formula of an activation that is smooth wherever it is defined, composed of several functions.
fn smooth(node: &Node) -> Option<Expr> {
    let x = Expr::input(0);
    let constant = Expr::constant;
    let unary = |function| Expr::input(0).unary(function);
    Some(match node.op_type() {
        "Neg" => -x,
        "Tan" => unary(Unary::Sin) / unary(Unary::Cos),
        // ½ (ln(1 + x) − ln(1 − x)): nothing cancels near 0.
        "Atanh" => constant(0.5) * (unary(Unary::Log1p) - (-x).unary(Unary::Log1p)),
        "Mish" => x * unary(Unary::Softplus).unary(Unary::Tanh),
        "Swish" => {
            let alpha = constant(node.float("alpha", 1.0));
            x.clone() * (alpha * x).unary(Unary::Sigmoid)
        }
        _ => return None,
    })
}

/// The formula of an activation that is another one on either side of a number.
fn by_pieces(node: &Node) -> Option<Expr> {
    let x = Expr::input(0);
    let constant = Expr::constant;
    Some(match node.op_type() {
        "Relu" => below(&x, 0.0, constant(0.0), x.clone()),
        "LeakyRelu" => {
            let alpha = constant(node.float("alpha", 0.01));
            below(&x, 0.0, alpha * x.clone(), x.clone())
        }
        "Elu" => {
            let alpha = constant(node.float("alpha", 1.0));
            elu(alpha.clone(), alpha, constant(1.0))
        }
        "Celu" => {
            let alpha = constant(node.float("alpha", 1.0));
            elu(alpha.clone(), constant(1.0), constant(1.0) / alpha)
        }
        "Selu" => {
            let alpha = constant(node.float("alpha", 1.673_263_2));
            let gamma = constant(node.float("gamma", 1.050_701));
            let low = gamma.clone() * alpha;
            below(
                &x,
                0.0,
                elu(low.clone(), low, constant(1.0)),
                gamma * x.clone(),
            )
        }
        "HardSigmoid" => {
            let line = constant(node.float("alpha", 0.2)) * x + constant(node.float("beta", 0.5));
            let top = Expr::if_less_equal(constant(1.0), line.clone(), constant(1.0), line.clone());
            below(&line, 0.0, constant(0.0), top)
        }
        "HardSwish" => {
            // Its derivative is 0 at −3 and 1 at 3.
            let middle = x.clone() * (x.clone() + constant(3.0)) / constant(6.0);
            let top = Expr::if_less_equal(constant(3.0), x.clone(), x.clone(), middle);
            below(&x, -3.0, constant(0.0), top)
        }
        "Abs" => absolute(),
        "Softsign" => {
            let one = || constant(1.0);
            below(
                &x,
                0.0,
                x.clone() / (one() - x.clone()),
                x.clone() / (one() + x.clone()),
            )
        }
        "ThresholdedRelu" => below(&x, node.float("alpha", 1.0), constant(0.0), x.clone()),
        "Shrink" => {
            // 0 at both ends of the gap too.
            let (gap, bias) = (node.float("lambd", 0.5), constant(node.float("bias", 0.0)));
            let inside = below(&x, gap, constant(0.0), x.clone() - bias.clone());
            Expr::if_less_equal(constant(-gap), x.clone(), inside, x + bias)
        }
        "Sign" => {
            // sign(0) = 0; its derivative is 0 everywhere.
            let at_least =
                Expr::if_less_equal(constant(0.0), x.clone(), constant(0.0), constant(-1.0));
            below(&x, 0.0, at_least, constant(1.0))
        }
        _ => return None,
    })
}

/// x·Φ(x), or its approximation by a tanh.
fn gelu(node: &Node) -> Result<Expr> {
    let x = Expr::input(0);
    let constant = Expr::constant;
    match node.text("approximate").as_deref() {
        None | Some("none" | "") => {
            let normal = (x.clone() * constant(FRAC_1_SQRT_2)).unary(Unary::Erf);
            Ok(constant(0.5) * x * (constant(1.0) + normal))
        }
        Some("tanh") => {
            let cube = x.clone() * x.clone() * x.clone();
            let line = constant(FRAC_2_PI.sqrt()) * (x.clone() + constant(0.044715) * cube);
            Ok(constant(0.5) * x * (constant(1.0) + line.unary(Unary::Tanh)))
        }
        Some(other) => refuse(format!(
            "its attribute approximate is {other:?}; \"none\" and \"tanh\" are supported"
        )),
    }
}

/// x to the power of a number; `None` where that is not finite.
fn power_of(x: Expr, exponent: f64) -> Option<Expr> {
    if exponent.abs() == 0.5 {
        let root = x.unary(Unary::Sqrt);
        return Some(if exponent > 0.0 {
            root
        } else {
            root.unary(Unary::Reciprocal)
        });
    }
    if exponent.fract() != 0.0 || exponent.abs() > MOST_FACTORS.into() {
        return exponent
            .is_finite()
            .then(|| x.power(Expr::constant(exponent)));
    }
    let mut left = exponent.abs() as u32;
    let (mut product, mut square) = (Expr::constant(1.0), x);
    while left > 0 {
        if left % 2 == 1 {
            product = product * square.clone();
        }
        square = square.clone() * square;
        left /= 2;
    }
    Some(if exponent < 0.0 {
        product.unary(Unary::Reciprocal)
    } else {
        product
    })
}

impl Lowering<'_> {
    /// An activation of the data; what is no activation is refused.
    pub(super) fn activate(&mut self, node: &Node, given: &[Value]) -> Result<Tensor> {
        let ([operand], Some(expr)) = (given, activation(node)?) else {
            return Err(Error::Shape(format!(
                "{} operands instead of one",
                given.len()
            )));
        };
        self.say_rounded(node, operand);
        match self.log_sigmoid(node, operand)? {
            Some(result) => Ok(result),
            None => self.pointwise(node, expr, &given[..1]),
        }
    }

    /// Warns of a function whose derivative is 0 where it is defined, once for each: training past it takes an
    /// estimate that no file tells of.
    fn say_rounded(&mut self, node: &Node, operand: &Value) {
        let operation = node.op_type();
        let Value::Tensor(tensor) = operand else {
            return;
        };
        if !matches!(operation, "Ceil" | "Floor" | "Round" | "Sign") {
            return;
        }
        let about = format!("the derivative of {operation} is 0");
        let said = self.network.warnings.iter().any(|w| w.contains(&about));
        if !said && self.source_of(tensor.operand).0 {
            self.network.warnings.push(format!(
                "node {:?} ({operation}): {about}, as in PyTorch; a straight-through estimate (detach) in the module does not survive the export, and the derivatives are then not the module's",
                node.name()
            ));
        }
    }

    /// ln σ(x) in two nodes as −softplus(−x): in single precision σ(−104) is 0 already.
    fn log_sigmoid(&mut self, node: &Node, operand: &Value) -> Result<Option<Tensor>> {
        let (
            "Log",
            Value::Tensor(Tensor {
                operand: Operand::Value(value),
                sample,
                ..
            }),
        ) = (node.op_type(), operand)
        else {
            return Ok(None);
        };
        let before = value.checked_sub(self.network.inputs.len());
        let Some(before) = before.map(|k| self.network.nodes[k].clone()) else {
            return Ok(None);
        };
        let Op::Elementwise(sigmoid) = &before.op else {
            return Ok(None);
        };
        let expression::Node::Unary(Unary::Sigmoid, inner) = sigmoid.expr.node() else {
            return Ok(None);
        };
        let expr = -(-inner.clone()).unary(Unary::Softplus);
        let fused = crate::ops::Elementwise::new(expr);
        self.append(node, fused, &before.inputs, *sample).map(Some)
    }

    /// Pow, with formulas of their own for exponents that are known.
    pub(super) fn power(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Tensor> {
        let [Some(base), Some(exponent)] = inputs else {
            return Err(Error::Shape("a power has two operands".into()));
        };
        if matches!(base, Value::Tensor(base) if base.integer) {
            return refuse("of whole numbers among the data it rounds, which is not supported");
        }
        let x = Expr::input(0);
        let Value::Host(exponents) = exponent else {
            let operands = [base.clone(), exponent.clone()];
            return self.pointwise(node, x.power(Expr::input(1)), &operands);
        };
        if let Some(value) = exponents[1]
            .scalar()
            .filter(|_| exponents[0] == exponents[1])
            && exponents[1].shape.len() <= self.rank(base)
        {
            return match power_of(x, value) {
                Some(expr) => self.pointwise(node, expr, from_ref(base)),
                None => refuse(format!("its exponent is {value}")),
            };
        }
        let y = Expr::input(1);
        // x⁰ and x¹ apart: their derivatives as powers would be 0·∞ at x = 0.
        let first = equal(&y, &Expr::constant(1.0), x.clone(), x.power(y.clone()));
        let expr = equal(&y, &Expr::constant(0.0), Expr::constant(1.0), first);
        self.pointwise(node, expr, &[base.clone(), exponent.clone()])
    }

    /// Clip: bounds as attributes (to version 10 of the operations) or as operands.
    pub(super) fn clip(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Tensor> {
        let bound = |k: usize, name: &str, open: f64| -> Result<f64> {
            match self.host(inputs, k)? {
                Some(array) => match array.scalar() {
                    Some(value) if value.is_nan() => refuse("a bound is not a number"),
                    Some(value) => Ok(value),
                    None => refuse("its bounds should be scalars"),
                },
                None => Ok(node.attribute(name).map_or(open, |a| a.f.into())),
            }
        };
        let high = bound(2, "max", f64::INFINITY)?;
        // Where the bounds cross, all is the upper one.
        let low = bound(1, "min", f64::NEG_INFINITY)?.min(high);
        let x = Expr::input(0);
        let constant = Expr::constant;
        // The derivative is 0 at the bounds too.
        let mut expr = x.clone();
        if high < f64::INFINITY {
            expr = Expr::if_less_equal(constant(high), x.clone(), constant(high), expr);
        }
        if low > f64::NEG_INFINITY {
            expr = below(&x, low, constant(low), expr);
        }
        let base = inputs.first().cloned().flatten();
        let base = base.ok_or_else(|| Error::Shape("input 0 is missing".into()))?;
        self.pointwise(node, expr, &[base])
    }
}
