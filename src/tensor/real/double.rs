//! Functions of double-precision numbers: the standard library's, which are the reference.

use crate::tensor::expression::Unary;

/// `target = function(x)`, position by position.
#[inline(always)]
pub(super) fn unary(function: Unary, x: &[f64], target: &mut [f64]) {
    // One loop per function, so that the compiler sees which it is.
    macro_rules! loops {
        ($($name:ident),*) => {
            match function {
                $(Unary::$name => {
                    for (t, x) in target.iter_mut().zip(x) {
                        *t = Unary::$name.evaluate(*x);
                    }
                })*
            }
        };
    }
    loops!(
        Negate, Exp, ExpM1, Log, Log1p, Tanh, Sigmoid, Softplus, Sqrt, Reciprocal, Erf, Sin, Cos,
        Sinh, Cosh, Atan, Asin, Acos, Asinh, Acosh, Floor, Ceil, Round
    );
}

/// `target = x^exponent`, position by position.
#[inline(always)]
pub(super) fn power(x: &[f64], exponents: &[f64], target: &mut [f64]) {
    for (t, (x, y)) in target.iter_mut().zip(x.iter().zip(exponents)) {
        *t = x.powf(*y);
    }
}
