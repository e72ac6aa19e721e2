//! Functions of single-precision numbers, in loops that the compiler turns into vector instructions.
//!
//! Each is computed in double precision, without branches, with a relative error of about 10⁻¹⁰, and rounded
//! once: the result is the correctly rounded one but where the true value is almost halfway between two (at most
//! 0.51 units in the last place, see the tests). Double precision also leaves nothing to treat apart: there is
//! no overflow before the rounding, what is subnormal is not, and exact differences replace corrections.
//!
//! Polynomials are minimax (Remez). No fused multiply-add is asked for, so that every machine gives the same bits.

use crate::tensor::expression::Unary;
use std::f64::consts::{FRAC_2_PI, FRAC_PI_2, FRAC_PI_4, LN_2, LOG2_E};

/// 1.5·2⁵²: what is added to it is rounded to a whole number, which then stands in the lowest bits.
const ROUND: f64 = 6_755_399_441_055_744.0;
/// Beyond ± this eˣ is infinite or 0 in single precision.
const EXP_RANGE: f64 = 150.0;
/// Bits of the exponent of 1.
const BIAS: u64 = 1023;
/// From here on sine and cosine take the standard library's reduction of their argument.
const LARGEST_ANGLE: f32 = 1e6;

/// `target = function(x)`, position by position.
#[inline(always)]
pub(super) fn unary(function: Unary, x: &[f32], target: &mut [f32]) {
    match function {
        Unary::Negate => direct(x, target, |x| -x),
        Unary::Sqrt => direct(x, target, f32::sqrt),
        Unary::Reciprocal => direct(x, target, |x| 1.0 / x),
        Unary::Exp => widened(x, target, exp),
        Unary::ExpM1 => widened(x, target, exp_m1),
        Unary::Log => widened(x, target, log),
        Unary::Log1p => widened(x, target, log_1p),
        Unary::Tanh => widened(x, target, tanh),
        Unary::Sigmoid => widened(x, target, |x| 1.0 / (1.0 + exp(-x))),
        Unary::Softplus => widened(x, target, softplus),
        Unary::Erf => widened(x, target, erf),
        Unary::Sin => {
            widened(x, target, |x| sine(x, 0));
            large_angles(x, target, f64::sin);
        }
        Unary::Cos => {
            widened(x, target, |x| sine(x, 1));
            large_angles(x, target, f64::cos);
        }
        Unary::Sinh => widened(x, target, sinh),
        Unary::Cosh => widened(x, target, cosh),
        Unary::Atan => widened(x, target, atan),
        Unary::Asin => widened(x, target, |x| atan(x / ((1.0 - x) * (1.0 + x)).sqrt())),
        Unary::Acos => widened(x, target, |x| 2.0 * atan(((1.0 - x) / (1.0 + x)).sqrt())),
        Unary::Asinh => widened(x, target, asinh),
        Unary::Acosh => widened(x, target, acosh),
        Unary::Floor => direct(x, target, f32::floor),
        Unary::Ceil => direct(x, target, f32::ceil),
        Unary::Round => direct(x, target, f32::round_ties_even),
    }
}

/// `target = x^exponent`, position by position.
#[inline(always)]
pub(super) fn power(x: &[f32], exponents: &[f32], target: &mut [f32]) {
    let mut all_usual = true;
    for (t, (x, y)) in target.iter_mut().zip(x.iter().zip(exponents)) {
        all_usual &= is_usual(*x, *y);
        *t = power_of(f64::from(*x), f64::from(*y)) as f32;
    }
    if !all_usual {
        for (t, (x, y)) in target.iter_mut().zip(x.iter().zip(exponents)) {
            if !is_usual(*x, *y) {
                *t = x.powf(*y);
            }
        }
    }
}

#[inline(always)]
fn direct(x: &[f32], target: &mut [f32], function: impl Fn(f32) -> f32) {
    for (t, x) in target.iter_mut().zip(x) {
        *t = function(*x);
    }
}

#[inline(always)]
fn widened(x: &[f32], target: &mut [f32], function: impl Fn(f64) -> f64) {
    for (t, x) in target.iter_mut().zip(x) {
        *t = function(f64::from(*x)) as f32;
    }
}

/// Computes anew what [`sine`] cannot.
#[inline(always)]
fn large_angles(x: &[f32], target: &mut [f32], function: impl Fn(f64) -> f64) {
    let is_large = |x: f32| x.abs() > LARGEST_ANGLE;
    if x.iter().fold(false, |any, x| any | is_large(*x)) {
        for (t, x) in target.iter_mut().zip(x) {
            if is_large(*x) {
                *t = function(f64::from(*x)) as f32;
            }
        }
    }
}

/// Σ_k coefficients[k]·xᵏ.
#[inline(always)]
fn polynomial<const N: usize>(x: f64, coefficients: [f64; N]) -> f64 {
    let mut sum = coefficients[N - 1];
    for k in (0..N - 1).rev() {
        sum = sum * x + coefficients[k];
    }
    sum
}

/// x within ± `range`; NaN stays.
#[inline(always)]
fn clamp(x: f64, range: f64) -> f64 {
    let x = if x > range { range } else { x };
    if x < -range { -range } else { x }
}

/// (2ᵏ, eʳ − 1) with x = k ln 2 + r, |r| ≤ ln 2 / 2.
#[inline(always)]
fn exp_parts(x: f64) -> (f64, f64) {
    let x = clamp(x, EXP_RANGE);
    let shifted = x * LOG2_E + ROUND;
    let r = x - (shifted - ROUND) * LN_2;
    let scale = f64::from_bits((shifted.to_bits().wrapping_add(BIAS)) << 52);
    // (eʳ − 1) / r to 2.4·10⁻¹⁰
    let quotient = polynomial(
        r,
        [
            0.9999999999910035,
            0.5000000047155857,
            0.16666666853819095,
            0.041666352738171056,
            0.008333268552453197,
            0.0013941121106184856,
            0.00019915886856186222,
        ],
    );
    (scale, r * quotient)
}

#[inline(always)]
fn exp(x: f64) -> f64 {
    let (scale, minus_one) = exp_parts(x);
    scale + scale * minus_one
}

/// eˣ − 1, but +0 at −0.
#[inline(always)]
fn exp_m1_unsigned(x: f64) -> f64 {
    let (scale, minus_one) = exp_parts(x);
    scale * minus_one + (scale - 1.0)
}

#[inline(always)]
fn exp_m1(x: f64) -> f64 {
    let value = exp_m1_unsigned(x);
    if x == 0.0 { x } else { value }
}

/// ln x for a positive, finite x.
#[inline(always)]
fn log_positive(x: f64) -> f64 {
    /// Bits of √½: x = 2ᵏ m with m in √½..√2.
    const LEAST: u64 = 0x3fe6_a09e_667f_3bcd;
    /// A whole number below 2⁵² in its lowest bits, plus 2⁵².
    const WHOLE: u64 = 0x4330_0000_0000_0000;
    let bits = x.to_bits();
    let exponent = bits.wrapping_sub(LEAST).wrapping_add(BIAS << 52) >> 52;
    let k = f64::from_bits(exponent | WHOLE) - (f64::from_bits(WHOLE) + BIAS as f64);
    let m = f64::from_bits(bits.wrapping_sub(exponent << 52).wrapping_add(BIAS << 52));
    let s = (m - 1.0) / (m + 1.0);
    let z = s * s;
    // ln m = 2 artanh s; (artanh s / s − 1) / s² to 4·10⁻¹² of 1
    let tail = polynomial(
        z,
        [
            0.33333333333692355,
            0.19999999393382048,
            0.14285878174957897,
            0.11095650640742974,
            0.09682180257644522,
        ],
    );
    let twice = s + s;
    k * LN_2 + (twice + twice * (z * tail))
}

#[inline(always)]
fn log(x: f64) -> f64 {
    let value = log_positive(x);
    let edge = if x == 0.0 {
        f64::NEG_INFINITY
    } else {
        f64::NAN
    };
    let value = if x > 0.0 { value } else { edge };
    if x == f64::INFINITY { x } else { value }
}

#[inline(always)]
fn log_1p(x: f64) -> f64 {
    let sum = 1.0 + x;
    // What the sum rounded away; the division by it is by 1 where that matters.
    let value = log(sum) + (x - (sum - 1.0));
    let value = if x == 0.0 { x } else { value };
    if x == f64::INFINITY { x } else { value }
}

#[inline(always)]
fn tanh(x: f64) -> f64 {
    // tanh |x| = (e^2|x| − 1) / (e^2|x| + 1)
    let minus_one = exp_m1_unsigned(2.0 * x.abs());
    (minus_one / (minus_one + 2.0)).copysign(x)
}

#[inline(always)]
fn softplus(x: f64) -> f64 {
    let e = exp(-x.abs());
    let sum = 1.0 + e;
    let positive = if x > 0.0 { x } else { 0.0 };
    positive + (log_positive(sum) + (e - (sum - 1.0)))
}

#[inline(always)]
fn erf(x: f64) -> f64 {
    // From 4 on erf is 1 in single precision.
    let a = clamp(x.abs(), 4.0);
    // −ln(1 − erf a) / a, to 3·10⁻¹⁰ of erf a
    let rate = polynomial(
        a,
        [
            1.1283791667651315,
            0.6366198179242858,
            0.10277159544778659,
            -0.019119959192216346,
            -0.0002451829755072336,
            0.001784146069009127,
            -0.0007233782784969683,
            0.00015564966604829727,
            -1.660262977547594e-05,
            1.6428601642740134e-07,
            9.235158315633331e-08,
        ],
    );
    (-exp_m1_unsigned(-a * rate)).copysign(x)
}

/// sin(x + quarters·π/2).
#[inline(always)]
fn sine(x: f64, quarters: u64) -> f64 {
    /// π/2, its first 33 bits: its product with a whole number up to 2²⁰ is exact.
    const HIGH: f64 = 1.570_796_326_734_125_6;
    /// π/2 − HIGH.
    const LOW: f64 = 6.077_100_506_506_192e-11;
    let shifted = x * FRAC_2_PI + ROUND;
    let whole = shifted - ROUND;
    let r = x - whole * HIGH - whole * LOW;
    let z = r * r;
    // (sin r / r − 1) / r² to 2·10⁻¹¹, (cos r − 1) / r² to 2·10⁻¹³ of 1
    let sine = polynomial(
        z,
        [
            -0.16666666663858606,
            0.008333331875459392,
            -0.00019840086964800245,
            2.7249940396777236e-06,
        ],
    );
    let cosine = polynomial(
        z,
        [
            -0.4999999999996392,
            0.04166666663740447,
            -0.001388888509170052,
            2.47998621700167e-05,
            -2.7237130822525595e-07,
        ],
    );
    let (sine, cosine) = (r * (1.0 + z * sine), 1.0 + z * cosine);
    let quarter = shifted.to_bits().wrapping_add(quarters);
    let value = if quarter & 1 == 0 { sine } else { cosine };
    // The second bit of the quarter is the sign.
    f64::from_bits(value.to_bits() ^ (quarter & 2) << 62)
}

#[inline(always)]
fn sinh(x: f64) -> f64 {
    let e = exp_m1_unsigned(x.abs());
    (0.5 * (e + e / (e + 1.0))).copysign(x)
}

#[inline(always)]
fn cosh(x: f64) -> f64 {
    let e = exp(x.abs());
    0.5 * (e + 1.0 / e)
}

/// atan |x| of t = |x|, or π/2 − atan t with t = 1/|x|; and atan t = π/4 + atan((t − 1) / (t + 1)) where that is
/// nearer to 0.
#[inline(always)]
fn atan(x: f64) -> f64 {
    /// tan(π/8)
    const EIGHTH: f64 = 0.414_213_562_373_095_03;
    let a = x.abs();
    let inverse = a > 1.0;
    let t = if inverse { 1.0 / a } else { a };
    let far = t > EIGHTH;
    let r = if far { (t - 1.0) / (t + 1.0) } else { t };
    let z = r * r;
    // (atan r / r − 1) / r² to 2·10⁻¹¹ of atan r / r
    let tail = polynomial(
        z,
        [
            -0.3333333251460829,
            0.19999905186882638,
            -0.14282042076308593,
            0.11045093567771164,
            -0.08478406359164349,
            0.047482756060061644,
        ],
    );
    let value = r + r * (z * tail);
    let value = if far { FRAC_PI_4 + value } else { value };
    let value = if inverse { FRAC_PI_2 - value } else { value };
    value.copysign(x)
}

/// asinh |x| = ln(1 + u) with u = |x| + x² / (1 + √(1 + x²))
#[inline(always)]
fn asinh(x: f64) -> f64 {
    let a = x.abs();
    let square = a * a;
    let value = log_1p(a + square / (1.0 + (1.0 + square).sqrt()));
    let value = if a == f64::INFINITY { a } else { value };
    value.copysign(x)
}

/// acosh x = ln(1 + u) with u = t + √(t·(t + 2)), t = x − 1
#[inline(always)]
fn acosh(x: f64) -> f64 {
    let t = x - 1.0;
    let value = log_1p(t + (t * (t + 2.0)).sqrt());
    if x < 1.0 { f64::NAN } else { value }
}

/// Whether [`power_of`] covers the case: no zero, no infinity, no NaN.
#[inline(always)]
fn is_usual(x: f32, exponent: f32) -> bool {
    x != 0.0 && x.abs() < f32::INFINITY && exponent.abs() < f32::INFINITY
}

#[inline(always)]
fn power_of(x: f64, exponent: f64) -> f64 {
    let is_whole = |y: f64| (y + ROUND) - ROUND == y;
    let size = exp(exponent * log_positive(x.abs()));
    let negative = if is_whole(0.5 * exponent) {
        size
    } else {
        -size
    };
    let negative = if is_whole(exponent) {
        negative
    } else {
        f64::NAN
    };
    if x < 0.0 { negative } else { size }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every n-th number of single precision, of both signs and all sizes.
    fn sweep(step: usize) -> impl Iterator<Item = f32> {
        let all = (0..=u32::MAX).step_by(step).map(f32::from_bits);
        all.filter(|x| !x.is_nan())
    }

    /// Numbers at which something changes.
    fn special() -> Vec<f32> {
        let positive = [
            0.0,
            f32::from_bits(1),
            1e-40,
            f32::MIN_POSITIVE,
            1e-20,
            1e-8,
            1e-5,
            0.3465,
            0.3467,
            0.5,
            std::f32::consts::FRAC_1_SQRT_2,
            std::f32::consts::FRAC_1_SQRT_2 + f32::EPSILON / 2.0,
            1.0 - f32::EPSILON / 2.0,
            1.0,
            1.0 + f32::EPSILON,
            2.0,
            3.0,
            3.9,
            4.0,
            9.0,
            16.6,
            17.0,
            87.3,
            88.72283,
            88.72284,
            103.9,
            104.0,
            150.0,
            LARGEST_ANGLE,
            1.01 * LARGEST_ANGLE,
            1e10,
            f32::MAX,
            f32::INFINITY,
            f32::NAN,
        ];
        positive.into_iter().flat_map(|x| [x, -x]).collect()
    }

    /// |value − exact| in units of the last place of `exact`; a wrong zero, infinity or NaN is infinitely far.
    fn error(value: f32, exact: f64) -> f64 {
        let rounded = exact as f32;
        if exact == 0.0 || exact.is_nan() || rounded.is_infinite() || value.is_infinite() {
            let same = value == rounded && value.is_sign_negative() == rounded.is_sign_negative();
            return if same || value.is_nan() && exact.is_nan() {
                0.0
            } else {
                f64::INFINITY
            };
        }
        let unit = (exact.abs().log2().floor().max(-126.0) - 23.0).exp2();
        let error = (f64::from(value) - exact).abs() / unit;
        if error.is_nan() { f64::INFINITY } else { error }
    }

    /// The largest error over numbers of all sizes and at special ones.
    fn worst(function: Unary, exact: impl Fn(f64) -> f64) -> f64 {
        // 251 numbers: blocks of the backend are not whole vectors either.
        let mut all = special();
        all.extend(sweep(4099));
        let mut worst = (0.0, 0.0);
        for x in all.chunks(251) {
            let mut target = vec![f32::NAN; x.len()];
            unary(function, x, &mut target);
            for (value, x) in target.iter().zip(x) {
                let error = error(*value, exact(f64::from(*x)));
                if error > worst.0 {
                    worst = (error, *x);
                }
            }
        }
        println!(
            "{function:?}: at most {:.6} units, at {:e}",
            worst.0, worst.1
        );
        worst.0
    }

    #[test]
    fn functions_are_correctly_rounded_but_at_halves() {
        type Exact = (Unary, fn(f64) -> f64);
        let exact: [Exact; 23] = [
            (Unary::Negate, |x| -x),
            (Unary::Sqrt, f64::sqrt),
            (Unary::Reciprocal, |x| 1.0 / x),
            (Unary::Exp, f64::exp),
            (Unary::ExpM1, f64::exp_m1),
            (Unary::Log, f64::ln),
            (Unary::Log1p, f64::ln_1p),
            (Unary::Tanh, f64::tanh),
            (Unary::Sigmoid, |x| 1.0 / (1.0 + (-x).exp())),
            (Unary::Softplus, |x| x.max(0.0) + (-x.abs()).exp().ln_1p()),
            (Unary::Erf, libm::erf),
            (Unary::Sin, f64::sin),
            (Unary::Cos, f64::cos),
            (Unary::Sinh, f64::sinh),
            (Unary::Cosh, f64::cosh),
            (Unary::Atan, f64::atan),
            (Unary::Asin, f64::asin),
            (Unary::Acos, f64::acos),
            (Unary::Asinh, f64::asinh),
            (Unary::Acosh, f64::acosh),
            (Unary::Floor, f64::floor),
            (Unary::Ceil, f64::ceil),
            (Unary::Round, f64::round_ties_even),
        ];
        for (function, exact) in exact {
            let worst = worst(function, exact);
            assert!(worst <= 0.51, "{function:?}: {worst}");
        }
    }

    #[test]
    fn powers_are_correctly_rounded_but_at_halves() {
        let exponents = [
            0.0,
            0.5,
            1.0,
            1.5,
            2.0,
            3.0,
            -1.0,
            -2.0,
            -3.0,
            -0.5,
            1.0 / 3.0,
            7.25,
            1e-3,
            17.0,
            -40.0,
            16777215.0,
            16777216.0,
            1e20,
            1e-30,
        ];
        let mut all = special();
        all.extend(sweep(40_009));
        let mut worst = (0.0, 0.0, 0.0);
        for y in exponents.into_iter().chain(special()) {
            for x in all.chunks(251) {
                let mut target = vec![f32::NAN; x.len()];
                power(x, &vec![y; x.len()], &mut target);
                for (value, x) in target.iter().zip(x) {
                    let error = error(*value, f64::from(*x).powf(f64::from(y)));
                    if error > worst.0 {
                        worst = (error, *x, y);
                    }
                }
            }
        }
        println!("power: at most {worst:?}");
        assert!(worst.0 <= 0.51, "{worst:?}");
    }
}
