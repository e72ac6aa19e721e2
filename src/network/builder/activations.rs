//! Formulas of one input at every position.

use super::Builder;
use crate::tensor::Expr;
use crate::tensor::expression::Unary;

impl Builder {
    /// max(x, 0)
    pub fn relu(self) -> Self {
        let (x, zero) = (Expr::input(0), Expr::constant(0.0));
        let expr = Expr::if_less_equal(x.clone(), zero.clone(), zero, x);
        self.activation("relu", "Relu", expr)
    }

    /// x where positive, α·x elsewhere.
    pub fn leaky_relu(self, alpha: f64) -> Self {
        let x = Expr::input(0);
        let low = Expr::constant(alpha) * x.clone();
        let expr = Expr::if_less_equal(x.clone(), Expr::constant(0.0), low, x);
        self.activation("leaky_relu", "LeakyRelu", expr)
    }

    /// x where positive, α·(eˣ − 1) elsewhere.
    pub fn elu(self, alpha: f64) -> Self {
        let x = Expr::input(0);
        let low = Expr::constant(alpha) * x.clone().unary(Unary::ExpM1);
        let expr = Expr::if_less_equal(x.clone(), Expr::constant(0.0), low, x);
        self.activation("elu", "Elu", expr)
    }

    /// tanh x
    pub fn tanh(self) -> Self {
        self.activation("tanh", "Tanh", Expr::input(0).unary(Unary::Tanh))
    }

    /// 1 / (1 + e⁻ˣ)
    pub fn sigmoid(self) -> Self {
        self.activation("sigmoid", "Sigmoid", Expr::input(0).unary(Unary::Sigmoid))
    }

    /// ln(1 + eˣ)
    pub fn softplus(self) -> Self {
        self.activation(
            "softplus",
            "Softplus",
            Expr::input(0).unary(Unary::Softplus),
        )
    }

    /// Any formula of one input, at every position.
    pub fn map(self, expr: Expr) -> Self {
        self.activation("map", "Map", expr)
    }

    fn activation(self, name: &str, operation: &str, expr: Expr) -> Self {
        self.then(|b| b.pointwise(name, operation, expr, &[]))
    }
}
