//! The derivative of an expression, which is again an expression of the same inputs.

use super::{Binary, Expr, Node, Unary};

impl Expr {
    /// The partial derivative with respect to input `k`, as an expression of the same inputs.
    ///
    /// At a kink the branch taken is differentiated: `max(x, 0)` written as `if x ≤ 0 {0} else {x}` has
    /// derivative 0 at 0, as in PyTorch.
    pub fn derivative(&self, k: usize) -> Expr {
        match self.node() {
            Node::Input(j) => Expr::constant(if *j == k { 1.0 } else { 0.0 }),
            Node::Constant(_) => Expr::constant(0.0),
            Node::Unary(function, x) => {
                let inner = x.derivative(k);
                if inner.is(0.0) {
                    return inner;
                }
                function.slope(x.clone(), self.clone()) * inner
            }
            Node::Binary(function, x, y) => {
                let slopes = [x.derivative(k), y.derivative(k)];
                function.derivative([x.clone(), y.clone()], slopes, self)
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
}

impl Unary {
    /// The function's derivative f′(x) at its argument `x`; `this` is f(x), which many derivatives contain.
    fn slope(self, x: Expr, this: Expr) -> Expr {
        let one = || Expr::constant(1.0);
        match self {
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
            Unary::Asin => inverse_root((one() - x.clone()) * (one() + x)),
            Unary::Acos => -inverse_root((one() - x.clone()) * (one() + x)),
            Unary::Asinh => inverse_root(one() + x.clone() * x),
            Unary::Acosh => inverse_root((x.clone() - one()) * (x + one())),
            Unary::Floor | Unary::Ceil | Unary::Round => Expr::constant(0.0),
        }
    }
}

/// 1/√x.
fn inverse_root(x: Expr) -> Expr {
    x.unary(Unary::Sqrt).unary(Unary::Reciprocal)
}

impl Binary {
    /// The derivative of f(x, y), whose arguments have the derivatives `dx` and `dy`; `this` is f(x, y).
    fn derivative(self, [x, y]: [Expr; 2], [dx, dy]: [Expr; 2], this: &Expr) -> Expr {
        match self {
            Binary::Add => dx + dy,
            Binary::Subtract => dx - dy,
            Binary::Multiply => dx * y + x * dy,
            Binary::Divide => dx / y.clone() - this.clone() * dy / y,
            Binary::Power => {
                let lower = x.clone().power(y.clone() - Expr::constant(1.0));
                let first = dx * (y * lower);
                if dy.is(0.0) {
                    return first;
                }
                first + dy * (this.clone() * x.unary(Unary::Log))
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
