//! Scalar expressions: the one elementwise primitive's program, and its derivative.
//!
//! An operation such as ELU is an [`Expr`] over its inputs. The derivative of an expression is again
//! an expression, so first and second order need no further rules; the CPU interprets it in blocks,
//! the GPU compiles it to a kernel.

mod derivative;
mod function;

pub use function::{Binary, Unary};

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
