//! Scalar expressions: the one elementwise primitive's program, and its derivative.
//!
//! An operation such as ELU is an [`Expr`] over its inputs. The derivative of an expression is again
//! an expression, so first and second order need no further rules; the CPU interprets it in blocks,
//! the GPU compiles it to a kernel.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops;
use std::sync::Arc;

/// A scalar function of the inputs at one position.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Expr(Arc<Node>);

/// The node of an expression.
#[derive(Clone)]
pub enum Node {
    /// Input number `k`.
    Input(usize),
    /// A constant.
    Constant(f64),
    /// A function of one argument.
    Unary(Unary, Expr),
    /// A function of two arguments.
    Binary(Binary, Expr, Expr),
    /// `if left ≤ right { then } else { otherwise }`; a NaN on either side takes `otherwise`.
    IfLessEqual {
        /// Left side of the comparison.
        left: Expr,
        /// Right side of the comparison.
        right: Expr,
        /// Value where `left ≤ right`.
        then: Expr,
        /// Value elsewhere.
        otherwise: Expr,
    },
}

/// Functions of one argument.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Unary {
    /// −x
    Negate,
    /// eˣ
    Exp,
    /// eˣ − 1, accurate near 0
    ExpM1,
    /// ln x
    Log,
    /// ln(1 + x), accurate near 0
    Log1p,
    /// hyperbolic tangent, accurate near 0
    Tanh,
    /// 1 / (1 + e⁻ˣ)
    Sigmoid,
    /// ln(1 + eˣ), without overflow
    Softplus,
    /// √x
    Sqrt,
    /// 1 / x
    Reciprocal,
    /// the error function, 2/√π ∫₀ˣ e^(−t²) dt
    Erf,
    /// sine
    Sin,
    /// cosine
    Cos,
    /// hyperbolic sine, accurate near 0
    Sinh,
    /// hyperbolic cosine
    Cosh,
    /// inverse tangent, accurate near 0
    Atan,
    /// inverse sine, accurate near 0; NaN outside of ±1
    Asin,
    /// inverse cosine, accurate near 1; NaN outside of ±1
    Acos,
    /// inverse hyperbolic sine, accurate near 0
    Asinh,
    /// inverse hyperbolic cosine, accurate near 1; NaN below 1
    Acosh,
    /// the largest whole number up to x; its derivative is 0, as in PyTorch
    Floor,
    /// the smallest whole number from x on; its derivative is 0, as in PyTorch
    Ceil,
    /// the nearest whole number, of two the even one; its derivative is 0, as in PyTorch
    Round,
}

impl Unary {
    /// All of them.
    pub const ALL: [Unary; 23] = [
        Unary::Negate,
        Unary::Exp,
        Unary::ExpM1,
        Unary::Log,
        Unary::Log1p,
        Unary::Tanh,
        Unary::Sigmoid,
        Unary::Softplus,
        Unary::Sqrt,
        Unary::Reciprocal,
        Unary::Erf,
        Unary::Sin,
        Unary::Cos,
        Unary::Sinh,
        Unary::Cosh,
        Unary::Atan,
        Unary::Asin,
        Unary::Acos,
        Unary::Asinh,
        Unary::Acosh,
        Unary::Floor,
        Unary::Ceil,
        Unary::Round,
    ];
}

/// Functions of two arguments.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Binary {
    /// x + y
    Add,
    /// x − y
    Subtract,
    /// x · y
    Multiply,
    /// x / y
    Divide,
    /// xʸ, as C's `pow`: of a negative x with a whole y too
    Power,
}

impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Node::Input(a), Node::Input(b)) => a == b,
            (Node::Constant(a), Node::Constant(b)) => a.to_bits() == b.to_bits(),
            (Node::Unary(f, a), Node::Unary(g, b)) => f == g && a == b,
            (Node::Binary(f, a, b), Node::Binary(g, c, d)) => f == g && a == c && b == d,
            (
                Node::IfLessEqual {
                    left: a,
                    right: b,
                    then: c,
                    otherwise: d,
                },
                Node::IfLessEqual {
                    left: e,
                    right: f,
                    then: g,
                    otherwise: h,
                },
            ) => a == e && b == f && c == g && d == h,
            _ => false,
        }
    }
}
impl Eq for Node {}
impl Hash for Node {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::mem::discriminant(self).hash(state);
        match self {
            Node::Input(k) => k.hash(state),
            Node::Constant(value) => value.to_bits().hash(state),
            Node::Unary(f, a) => (f, a).hash(state),
            Node::Binary(f, a, b) => (f, a, b).hash(state),
            Node::IfLessEqual {
                left,
                right,
                then,
                otherwise,
            } => {
                (left, right, then, otherwise).hash(state);
            }
        }
    }
}

impl Expr {
    /// Input number `k`.
    pub fn input(k: usize) -> Expr {
        Expr(Arc::new(Node::Input(k)))
    }

    /// A constant.
    pub fn constant(value: f64) -> Expr {
        Expr(Arc::new(Node::Constant(value)))
    }

    /// The node at the root.
    pub fn node(&self) -> &Node {
        &self.0
    }

    /// The value where the expression is a constant.
    pub fn as_constant(&self) -> Option<f64> {
        match self.node() {
            Node::Constant(value) => Some(*value),
            _ => None,
        }
    }

    fn is(&self, value: f64) -> bool {
        self.as_constant() == Some(value)
    }

    /// Applies a function of one argument.
    pub fn unary(self, function: Unary) -> Expr {
        if let Some(value) = self.as_constant() {
            return Expr::constant(function.evaluate(value));
        }
        Expr(Arc::new(Node::Unary(function, self)))
    }

    fn binary(self, function: Binary, other: Expr) -> Expr {
        if let (Some(a), Some(b)) = (self.as_constant(), other.as_constant()) {
            return Expr::constant(function.evaluate(a, b));
        }
        // Structural zeros and ones of derivatives vanish here, so that kernels stay small. These are
        // zeros of the formula, not of the data: a NaN in the data still comes through the other terms.
        match function {
            Binary::Add if self.is(0.0) => other,
            Binary::Add | Binary::Subtract if other.is(0.0) => self,
            Binary::Subtract if self.is(0.0) => other.unary(Unary::Negate),
            Binary::Multiply if self.is(0.0) || other.is(0.0) => Expr::constant(0.0),
            Binary::Multiply if self.is(1.0) => other,
            Binary::Multiply | Binary::Divide if other.is(1.0) => self,
            Binary::Divide if self.is(0.0) => self,
            Binary::Power if other.is(0.0) => Expr::constant(1.0),
            Binary::Power if other.is(1.0) => self,
            Binary::Power if other.is(2.0) => self.clone() * self,
            Binary::Power if other.is(-1.0) => self.unary(Unary::Reciprocal),
            _ => Expr(Arc::new(Node::Binary(function, self, other))),
        }
    }

    /// self to the power of `exponent`.
    pub fn power(self, exponent: Expr) -> Expr {
        self.binary(Binary::Power, exponent)
    }

    /// `if left ≤ right { then } else { otherwise }`.
    pub fn if_less_equal(left: Expr, right: Expr, then: Expr, otherwise: Expr) -> Expr {
        if then == otherwise {
            return then;
        }
        if let (Some(a), Some(b)) = (left.as_constant(), right.as_constant()) {
            return if a <= b { then } else { otherwise };
        }
        Expr(Arc::new(Node::IfLessEqual {
            left,
            right,
            then,
            otherwise,
        }))
    }

    /// The partial derivative with respect to input `k`, as an expression of the same inputs.
    ///
    /// At a kink the branch taken is differentiated: `max(x, 0)` written as `if x ≤ 0 {0} else {x}` has
    /// derivative 0 at 0, as in PyTorch.
    pub fn derivative(&self, k: usize) -> Expr {
        let one = || Expr::constant(1.0);
        match self.node() {
            Node::Input(j) => Expr::constant(if *j == k { 1.0 } else { 0.0 }),
            Node::Constant(_) => Expr::constant(0.0),
            Node::Unary(function, x) => {
                let inner = x.derivative(k);
                if inner.is(0.0) {
                    return inner;
                }
                let x = x.clone();
                let this = self.clone();
                let outer = match function {
                    Unary::Negate => Expr::constant(-1.0),
                    Unary::Exp => this,
                    Unary::ExpM1 => x.unary(Unary::Exp),
                    Unary::Log => x.unary(Unary::Reciprocal),
                    Unary::Log1p => (one() + x).unary(Unary::Reciprocal),
                    // (1 − tanh x)(1 + tanh x): one rounding less than 1 − tanh² near ±1.
                    Unary::Tanh => (one() - this.clone()) * (one() + this),
                    // σ(x)·σ(−x): no cancellation where σ(x) is near 1.
                    Unary::Sigmoid => this * (-x).unary(Unary::Sigmoid),
                    Unary::Softplus => x.unary(Unary::Sigmoid),
                    Unary::Sqrt => Expr::constant(0.5) / this,
                    Unary::Reciprocal => -(this.clone() * this),
                    Unary::Sin => x.unary(Unary::Cos),
                    Unary::Cos => -x.unary(Unary::Sin),
                    Unary::Erf => {
                        Expr::constant(std::f64::consts::FRAC_2_SQRT_PI)
                            * (-(x.clone() * x)).unary(Unary::Exp)
                    }
                    Unary::Sinh => x.unary(Unary::Cosh),
                    Unary::Cosh => x.unary(Unary::Sinh),
                    Unary::Atan => (one() + x.clone() * x).unary(Unary::Reciprocal),
                    // (1 − x)(1 + x): one rounding less than 1 − x² near ±1.
                    Unary::Asin | Unary::Acos => {
                        let square = (one() - x.clone()) * (one() + x);
                        let size = square.unary(Unary::Sqrt).unary(Unary::Reciprocal);
                        if *function == Unary::Asin {
                            size
                        } else {
                            -size
                        }
                    }
                    Unary::Asinh => {
                        let square = one() + x.clone() * x;
                        square.unary(Unary::Sqrt).unary(Unary::Reciprocal)
                    }
                    Unary::Acosh => {
                        let square = (x.clone() - one()) * (x + one());
                        square.unary(Unary::Sqrt).unary(Unary::Reciprocal)
                    }
                    Unary::Floor | Unary::Ceil | Unary::Round => Expr::constant(0.0),
                };
                outer * inner
            }
            Node::Binary(function, x, y) => {
                let (dx, dy) = (x.derivative(k), y.derivative(k));
                let (x, y) = (x.clone(), y.clone());
                match function {
                    Binary::Add => dx + dy,
                    Binary::Subtract => dx - dy,
                    Binary::Multiply => dx * y + x * dy,
                    Binary::Divide => dx / y.clone() - self.clone() * dy / y,
                    Binary::Power => {
                        let lower = x.clone().power(y.clone() - one());
                        let first = dx * (y * lower);
                        if dy.is(0.0) {
                            return first;
                        }
                        first + dy * (self.clone() * x.unary(Unary::Log))
                    }
                }
            }
            Node::IfLessEqual {
                left,
                right,
                then,
                otherwise,
            } => Expr::if_less_equal(
                left.clone(),
                right.clone(),
                then.derivative(k),
                otherwise.derivative(k),
            ),
        }
    }

    /// The value at one position, in double precision: the definition the kernels are tested against.
    pub fn evaluate(&self, inputs: &[f64]) -> f64 {
        match self.node() {
            Node::Input(k) => inputs[*k],
            Node::Constant(value) => *value,
            Node::Unary(function, x) => function.evaluate(x.evaluate(inputs)),
            Node::Binary(function, x, y) => {
                function.evaluate(x.evaluate(inputs), y.evaluate(inputs))
            }
            Node::IfLessEqual {
                left,
                right,
                then,
                otherwise,
            } => {
                if left.evaluate(inputs) <= right.evaluate(inputs) {
                    then.evaluate(inputs)
                } else {
                    otherwise.evaluate(inputs)
                }
            }
        }
    }

    /// What its node is computed from.
    pub(crate) fn operands(&self) -> Vec<&Expr> {
        match self.node() {
            Node::Input(_) | Node::Constant(_) => Vec::new(),
            Node::Unary(_, x) => vec![x],
            Node::Binary(_, x, y) => vec![x, y],
            Node::IfLessEqual {
                left,
                right,
                then,
                otherwise,
            } => vec![left, right, then, otherwise],
        }
    }

    /// One more than the largest input number used.
    pub fn arity(&self) -> usize {
        match self.node() {
            Node::Input(k) => k + 1,
            _ => {
                let arities = self.operands().into_iter().map(Expr::arity);
                arities.max().unwrap_or(0)
            }
        }
    }

    /// Whether input `k` is read, be it in a comparison alone.
    pub fn reads(&self, k: usize) -> bool {
        match self.node() {
            Node::Input(j) => *j == k,
            _ => self.operands().into_iter().any(|operand| operand.reads(k)),
        }
    }

    /// Replaces every input `k` by `inputs[k]`.
    pub fn substitute(&self, inputs: &[Expr]) -> Expr {
        match self.node() {
            Node::Input(k) => inputs[*k].clone(),
            Node::Constant(_) => self.clone(),
            Node::Unary(function, x) => x.substitute(inputs).unary(*function),
            Node::Binary(function, x, y) => {
                x.substitute(inputs).binary(*function, y.substitute(inputs))
            }
            Node::IfLessEqual {
                left,
                right,
                then,
                otherwise,
            } => Expr::if_less_equal(
                left.substitute(inputs),
                right.substitute(inputs),
                then.substitute(inputs),
                otherwise.substitute(inputs),
            ),
        }
    }

    /// Operations that an evaluation takes where shared parts are evaluated once: plain ones, and those of functions that take
    /// many.
    pub fn cost(&self) -> (usize, usize) {
        fn count(expr: &Expr, seen: &mut Vec<*const Node>, cost: &mut (usize, usize)) {
            let node = expr.node();
            if matches!(node, Node::Input(_) | Node::Constant(_))
                || seen.contains(&std::ptr::from_ref(node))
            {
                return;
            }
            seen.push(node);
            match node {
                Node::Unary(
                    Unary::Negate
                    | Unary::Sqrt
                    | Unary::Reciprocal
                    | Unary::Floor
                    | Unary::Ceil
                    | Unary::Round,
                    _,
                )
                | Node::Binary(
                    Binary::Add | Binary::Subtract | Binary::Multiply | Binary::Divide,
                    ..,
                )
                | Node::IfLessEqual { .. } => cost.0 += 1,
                _ => cost.1 += 1,
            }
            for operand in expr.operands() {
                count(operand, seen, cost);
            }
        }
        let mut cost = (0, 0);
        count(self, &mut Vec::new(), &mut cost);
        cost
    }

    /// Number of arithmetic operations in one evaluation, for cost estimates.
    pub fn operations(&self) -> usize {
        match self.node() {
            Node::Input(_) | Node::Constant(_) => 0,
            _ => {
                let below = self.operands().into_iter().map(Expr::operations);
                1 + below.sum::<usize>()
            }
        }
    }
}

impl Unary {
    /// The function in double precision.
    #[inline]
    pub fn evaluate(self, x: f64) -> f64 {
        match self {
            Unary::Negate => -x,
            Unary::Exp => x.exp(),
            Unary::ExpM1 => x.exp_m1(),
            Unary::Log => x.ln(),
            Unary::Log1p => x.ln_1p(),
            Unary::Tanh => x.tanh(),
            Unary::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Unary::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
            Unary::Sqrt => x.sqrt(),
            Unary::Reciprocal => 1.0 / x,
            Unary::Erf => libm::erf(x),
            Unary::Sin => x.sin(),
            Unary::Cos => x.cos(),
            Unary::Sinh => x.sinh(),
            Unary::Cosh => x.cosh(),
            Unary::Atan => x.atan(),
            Unary::Asin => x.asin(),
            Unary::Acos => x.acos(),
            Unary::Asinh => x.asinh(),
            // The standard library's adds 1 to what it takes the logarithm of, which loses digits near 1.
            Unary::Acosh if x < 1.0 => f64::NAN,
            Unary::Acosh => {
                let beyond = x - 1.0;
                (beyond + beyond.sqrt() * (x + 1.0).sqrt()).ln_1p()
            }
            Unary::Floor => x.floor(),
            Unary::Ceil => x.ceil(),
            Unary::Round => x.round_ties_even(),
        }
    }
}

impl Binary {
    /// The function in double precision.
    pub fn evaluate(self, x: f64, y: f64) -> f64 {
        match self {
            Binary::Add => x + y,
            Binary::Subtract => x - y,
            Binary::Multiply => x * y,
            Binary::Divide => x / y,
            Binary::Power => x.powf(y),
        }
    }
}

macro_rules! operator {
    ($trait:ident, $method:ident, $binary:ident) => {
        impl ops::$trait for Expr {
            type Output = Expr;
            fn $method(self, other: Expr) -> Expr {
                self.binary(Binary::$binary, other)
            }
        }
    };
}
operator!(Add, add, Add);
operator!(Sub, sub, Subtract);
operator!(Mul, mul, Multiply);
operator!(Div, div, Divide);
impl ops::Neg for Expr {
    type Output = Expr;
    fn neg(self) -> Expr {
        self.unary(Unary::Negate)
    }
}

impl fmt::Debug for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.node() {
            Node::Input(k) => write!(f, "x{k}"),
            Node::Constant(value) => write!(f, "{value}"),
            Node::Unary(function, x) => write!(f, "{function:?}({x:?})"),
            Node::Binary(function, x, y) => write!(f, "{function:?}({x:?}, {y:?})"),
            Node::IfLessEqual {
                left,
                right,
                then,
                otherwise,
            } => {
                write!(f, "if({left:?} <= {right:?}, {then:?}, {otherwise:?})")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares ∂f/∂x_k with Richardson's extrapolation of central differences, error O(h⁴).
    fn check(expr: &Expr, at: &[f64], k: usize) {
        let difference = |step: f64| {
            let moved = |by: f64| {
                let mut inputs = at.to_vec();
                inputs[k] += by;
                expr.evaluate(&inputs)
            };
            (moved(step) - moved(-step)) / (2.0 * step)
        };
        let step = 1e-3 * at[k].abs().max(0.1);
        let expected = (4.0 * difference(step / 2.0) - difference(step)) / 3.0;
        let derivative = expr.derivative(k).evaluate(at);
        assert!(
            (derivative - expected).abs() <= 1e-8 * expected.abs().max(1.0),
            "d/dx{k} of {expr:?} at {at:?} is {expected}, not {derivative}"
        );
    }

    #[test]
    fn derivatives_of_unary_functions_agree_with_finite_differences_to_third_order() {
        for function in Unary::ALL {
            // Scaled inside, so that the chain rule counts.
            let mut expr = (Expr::constant(0.7) * Expr::input(0)).unary(function);
            let points = match function {
                Unary::Asin | Unary::Acos => [0.05, 0.4, 0.8, 1.2],
                Unary::Acosh => [1.7, 1.9, 2.4, 2.9],
                _ => [0.05, 0.4, 1.3, 2.9],
            };
            for _ in 0..3 {
                for x in points {
                    check(&expr, &[x], 0);
                    if !matches!(
                        function,
                        Unary::Log | Unary::Log1p | Unary::Sqrt | Unary::Reciprocal | Unary::Acosh
                    ) {
                        check(&expr, &[-x], 0);
                    }
                }
                expr = expr.derivative(0);
            }
        }
    }

    #[test]
    fn derivatives_of_sums_products_and_branches_agree_with_finite_differences() {
        let (x, y) = (Expr::input(0), Expr::input(1));
        let exprs = [
            x.clone() + y.clone() * y.clone(),
            x.clone() - y.clone(),
            x.clone() * y.clone() * x.clone(),
            x.clone() / (y.clone() + Expr::constant(3.0)),
            Expr::if_less_equal(
                x.clone() * y.clone(),
                Expr::constant(0.2),
                (x.clone() * y.clone()).unary(Unary::Exp),
                x / y,
            ),
        ];
        for expr in exprs {
            for at in [[0.3, 0.9], [-0.5, 1.4], [1.1, 0.6]] {
                for k in [0, 1] {
                    check(&expr, &at, k);
                    check(&expr.derivative(k), &at, 1 - k);
                }
            }
        }
    }

    #[test]
    fn a_kink_takes_the_derivative_of_its_branch() {
        let zero = Expr::constant(0.0);
        let relu = Expr::if_less_equal(Expr::input(0), zero.clone(), zero, Expr::input(0));
        assert_eq!(relu.derivative(0).evaluate(&[0.0]), 0.0);
        assert_eq!(relu.derivative(0).evaluate(&[1e-300]), 1.0);
    }
}
