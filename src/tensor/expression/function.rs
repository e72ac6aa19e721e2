//! The functions that expressions are made of, and their values in double precision.

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
