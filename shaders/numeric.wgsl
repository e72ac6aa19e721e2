// Elementary functions with a small relative error everywhere; the built-in ones have a small absolute error only.

// NaN is tested by its bits: compilers fold x != x to false.
fn is_nan(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}

// The same value, but opaque: what was rounded here is not reassociated with what follows.
fn opaque(x: f32) -> f32 {
    return bitcast<f32>(bitcast<u32>(x) ^ word(HIDDEN_ZERO));
}

// A float of given bits that the compiler does not know, so that infinities and NaN may be made.
fn from_bits(bits: u32) -> f32 {
    return bitcast<f32>(bits ^ word(HIDDEN_ZERO));
}

fn less_equal(x: f32, y: f32) -> bool {
    return x <= y && !is_nan(x) && !is_nan(y);
}

// 2^n for -126 <= n <= 127.
fn power_of_two(n: i32) -> f32 {
    return bitcast<f32>(u32(n + 127) << 23u);
}

// x = n ln 2 + r with |r| <= ln(2) / 2; returns (n, r). Cody and Waite: ln 2 in two parts.
fn reduce_exp(x: f32) -> vec2<f32> {
    let n = round(x * 1.4426950408889634);
    let high = opaque(x - n * 0.693359375);
    return vec2<f32>(n, high - n * -2.12194440e-4);
}

// e^r - 1 for |r| <= ln(2) / 2. Source: Cephes, expf.
fn expm1_reduced(r: f32) -> f32 {
    var p = 1.9875691500e-4;
    p = p * r + 1.3981999507e-3;
    p = p * r + 8.3334519073e-3;
    p = p * r + 4.1665795894e-2;
    p = p * r + 1.6666665459e-1;
    p = p * r + 5.0000001201e-1;
    return r + r * r * p;
}

// x 2^n in two steps, so that neither the largest nor denormal results overflow on the way.
fn scale(x: f32, n: i32) -> f32 {
    let half = n / 2;
    return (x * power_of_two(half)) * power_of_two(n - half);
}

// e^x
fn exp_(x: f32) -> f32 {
    let clamped = select(select(x, 89.0, x > 89.0), -105.0, x < -105.0);
    let reduced = reduce_exp(clamped);
    let y = scale(1.0 + expm1_reduced(reduced.y), i32(reduced.x));
    return select(y, x, is_nan(x));
}

// e^x - 1
fn expm1_(x: f32) -> f32 {
    let clamped = select(select(x, 89.0, x > 89.0), -20.0, x < -20.0);
    let reduced = reduce_exp(clamped);
    let n = i32(reduced.x);
    let e = expm1_reduced(reduced.y);
    // 2^n e + (2^n - 1): exact where n = 0. From n = 25 on the 1 no longer shows; 2^128 would overflow.
    let small = power_of_two(min(n, 30)) * e + (power_of_two(min(n, 30)) - 1.0);
    let y = select(small, scale(1.0 + e, n), n > 30);
    // x itself where it is tiny: keeps the sign of zero, and denormals.
    return select(select(y, x, abs(x) < 1e-10), x, is_nan(x));
}

// ln(1 + z) for sqrt(1/2) - 1 <= z <= sqrt(2) - 1, without its leading z. Source: Cephes, logf.
fn log1p_tail(z: f32) -> f32 {
    var p = 7.0376836292e-2;
    p = p * z - 1.1514610310e-1;
    p = p * z + 1.1676998740e-1;
    p = p * z - 1.2420140846e-1;
    p = p * z + 1.4249322787e-1;
    p = p * z - 1.6668057665e-1;
    p = p * z + 2.0000714765e-1;
    p = p * z - 2.4999993993e-1;
    p = p * z + 3.3333331174e-1;
    return p * z * z * z;
}

// x = 2^n (1 + z) of a positive finite x with sqrt(1/2) <= 1 + z < sqrt(2); returns (n, z).
fn reduce_log(x: f32) -> vec2<f32> {
    let denormal = x < 1.17549435e-38;
    let bits = bitcast<u32>(select(x, x * 8388608.0, denormal));
    // The offset moves the cut of the exponent to sqrt(1/2).
    let shifted = bits + (0x3f800000u - 0x3f3504f3u);
    let n = i32(shifted >> 23u) - 127 - select(0, 23, denormal);
    return vec2<f32>(f32(n), bitcast<f32>((shifted & 0x007fffffu) + 0x3f3504f3u) - 1.0);
}

// ln x of a positive finite x plus a correction that is small beside it.
fn log_positive(x: f32, correction: f32) -> f32 {
    let reduced = reduce_log(x);
    let n = reduced.x;
    let z = reduced.y;
    var tail = log1p_tail(z) + n * -2.12194440e-4 + correction;
    tail = opaque(tail - 0.5 * z * z);
    return opaque(z + tail) + n * 0.693359375;
}

// ln x
fn log_(x: f32) -> f32 {
    let y = log_positive(select(x, 1.0, x <= 0.0 || is_nan(x)), 0.0);
    let infinite = bitcast<u32>(x) == 0x7f800000u;
    let edge = select(select(y, from_bits(0x7f800000u), infinite), from_bits(0xff800000u), x == 0.0);
    return select(select(edge, from_bits(0x7fc00000u), x < 0.0), x, is_nan(x));
}

// ln(1 + x)
fn log1p_(x: f32) -> f32 {
    let near = x > -0.29 && x < 0.41;
    let z = select(0.0, x, near);
    let series = z + opaque(log1p_tail(z) - 0.5 * z * z);
    let sum = opaque(1.0 + x);
    // What 1 + x lost to rounding, which matters where the logarithm is small.
    let lost = select(x - opaque(sum - 1.0), opaque(sum - x) * -1.0 + 1.0, x > 1.0);
    let usable = !near && x > -1.0 && x < 1e30;
    let far = log_positive(select(1.0, sum, usable), select(0.0, lost / sum, usable));
    let y = select(far, series, near);
    let edge = select(y, log_(sum), !near && !usable);
    return select(select(edge, x, x == 0.0), x, is_nan(x));
}

// hyperbolic tangent
fn tanh_(x: f32) -> f32 {
    let a = min(abs(x), 20.0);
    let t = expm1_(2.0 * a);
    let y = select(1.0 - 2.0 / (t + 2.0), t / (t + 2.0), a < 0.55);
    let signed = bitcast<f32>(bitcast<u32>(y) | (bitcast<u32>(x) & 0x80000000u));
    return select(select(signed, x, abs(x) < 1e-4), x, is_nan(x));
}

// 1 / (1 + e^-x)
fn sigmoid_(x: f32) -> f32 {
    let e = exp_(-abs(x));
    return select(select(1.0, e, x < 0.0) / (1.0 + e), x, is_nan(x));
}

// ln(1 + e^x)
fn softplus_(x: f32) -> f32 {
    return select(select(0.0, x, x > 0.0) + log1p_(exp_(-abs(x))), x, is_nan(x));
}

// x = n pi/2 + r with |r| <= pi/4; returns (n mod 4, r). Cody and Waite: pi/2 in three parts, which holds for
// |x| up to some thousands.
fn reduce_angle(x: f32) -> vec2<f32> {
    let n = round(x * 0.6366197723675814);
    let high = opaque(x - n * 1.5703125);
    let middle = opaque(high - n * 4.837512969970703e-4);
    let r = middle - n * 7.549789954891882e-8;
    return vec2<f32>(n - 4.0 * floor(0.25 * n), r);
}

// sin r and cos r of a reduced angle, the quarter turns put back. Source: Cephes, sinf and cosf.
fn sine_of_quarter(quarter: f32, r: f32) -> f32 {
    let z = r * r;
    let sine = r + r * z * ((-1.9515295891e-4 * z + 8.3321608736e-3) * z - 1.6666654611e-1);
    let tail = z * z * ((2.443315711809948e-5 * z - 1.388731625493765e-3) * z + 4.166664568298827e-2);
    let cosine = opaque(1.0 - 0.5 * z) + tail;
    let odd = quarter == 1.0 || quarter == 3.0;
    let y = select(sine, cosine, odd);
    return select(y, -y, quarter >= 2.0);
}

// sine
fn sin_(x: f32) -> f32 {
    let angle = reduce_angle(x);
    let y = sine_of_quarter(angle.x, angle.y);
    return select(select(y, x, abs(x) < 1e-4), x, is_nan(x));
}

// cosine
fn cos_(x: f32) -> f32 {
    let angle = reduce_angle(x);
    let quarter = angle.x + 1.0;
    let y = sine_of_quarter(select(quarter, 0.0, quarter == 4.0), angle.y);
    return select(y, x, is_nan(x));
}

// The error function. Both polynomials are near-minimax fits (Chebyshev): of erf(x) / x - 1 in x^2 on 0..1, and of
// ln(1 - erf(x)) on 1..4, where erf is 1 from 4 on.
fn erf_(x: f32) -> f32 {
    let a = min(abs(x), 4.0);
    let s = a * a;
    var p = 7.87587506e-5;
    p = p * s - 8.01686429e-4;
    p = p * s + 5.18908742e-3;
    p = p * s - 2.685421201e-2;
    p = p * s + 1.128359471e-1;
    p = p * s - 3.761262667e-1;
    p = p * s + 1.283791658e-1;
    let near = x + x * p;
    var q = 1.6371514e-6;
    q = q * a - 4.6058043e-5;
    q = q * a + 5.9680563e-4;
    q = q * a - 4.7595963e-3;
    q = q * a + 2.64211360e-2;
    q = q * a - 1.100800830e-1;
    q = q * a - 6.318260516e-1;
    q = q * a - 1.1302334348;
    q = q * a + 3.20138050e-4;
    let far = 1.0 - exp_(q);
    let signed = bitcast<f32>(bitcast<u32>(far) | (bitcast<u32>(x) & 0x80000000u));
    return select(select(signed, near, a < 1.0), x, is_nan(x));
}

// e^x / 2 for 0 <= x, which overflows later than e^x.
fn half_exp(x: f32) -> f32 {
    let reduced = reduce_exp(select(x, 90.0, x > 90.0));
    return scale(0.5 + 0.5 * expm1_reduced(reduced.y), i32(reduced.x));
}

// hyperbolic sine
fn sinh_(x: f32) -> f32 {
    let a = abs(x);
    let e = expm1_(min(a, 1.0));
    let h = half_exp(a);
    let y = select(h - 0.25 / h, 0.5 * (e + e / (e + 1.0)), a < 1.0);
    let signed = bitcast<f32>(bitcast<u32>(y) | (bitcast<u32>(x) & 0x80000000u));
    return select(select(signed, x, a < 1e-4), x, is_nan(x));
}

// hyperbolic cosine
fn cosh_(x: f32) -> f32 {
    let h = half_exp(abs(x));
    return select(h + 0.25 / h, x, is_nan(x));
}

// atan x - x for |x| <= tan(pi/8). Source: Cephes, atanf.
fn atan_tail(x: f32) -> f32 {
    let z = x * x;
    return (((8.05374449538e-2 * z - 1.38776856032e-1) * z + 1.99777106478e-1) * z - 3.33329491539e-1) * z * x;
}

// inverse tangent: pi/2 - atan(1/|x|) from tan(3 pi/8) on, pi/4 + atan((|x| - 1) / (|x| + 1)) from tan(pi/8) on
fn atan_(x: f32) -> f32 {
    let a = abs(x);
    let far = a > 2.414213562373095;
    let middle = !far && a > 0.4142135623730950;
    let r = select(select(a, (a - 1.0) / (a + 1.0), middle), -1.0 / max(a, 1.0), far);
    let lead = select(select(0.0, 0.785398163397448, middle), 1.570796326794897, far);
    let y = lead + (r + atan_tail(r));
    let signed = bitcast<f32>(bitcast<u32>(y) | (bitcast<u32>(x) & 0x80000000u));
    return select(select(signed, x, a < 1e-4), x, is_nan(x));
}

// asin s for 0 <= s <= 1/2. Source: Cephes, asinf.
fn asin_small(s: f32) -> f32 {
    let z = s * s;
    var p = 4.2163199048e-2;
    p = p * z + 2.4181311049e-2;
    p = p * z + 4.5470025998e-2;
    p = p * z + 7.4953002686e-2;
    p = p * z + 1.6666752422e-1;
    return s + s * z * p;
}

// asin sqrt((1 - a) / 2), which is half of acos a, for 1/2 <= a <= 1.
fn half_acos(a: f32) -> f32 {
    return asin_small(sqrt(0.5 - 0.5 * clamp(a, 0.5, 1.0)));
}

// inverse sine
fn asin_(x: f32) -> f32 {
    let a = abs(x);
    let y = select(1.570796326794897 - 2.0 * half_acos(a), asin_small(min(a, 0.5)), a < 0.5);
    let signed = bitcast<f32>(bitcast<u32>(y) | (bitcast<u32>(x) & 0x80000000u));
    let defined = select(signed, from_bits(0x7fc00000u), a > 1.0);
    return select(select(defined, x, a < 1e-4), x, is_nan(x));
}

// inverse cosine
fn acos_(x: f32) -> f32 {
    let a = abs(x);
    let s = asin_small(min(a, 0.5));
    let twice = 2.0 * half_acos(a);
    let near = 1.570796326794897 - select(s, -s, x < 0.0);
    let far = select(twice, 3.141592653589793 - twice, x < 0.0);
    let defined = select(select(far, near, a < 0.5), from_bits(0x7fc00000u), a > 1.0);
    return select(defined, x, is_nan(x));
}

// inverse hyperbolic sine: ln(1 + a + a^2 / (1 + sqrt(1 + a^2)))
fn asinh_(x: f32) -> f32 {
    let a = abs(x);
    let b = min(a, 1e9);
    let square = b * b;
    let near = log1p_(b + square / (1.0 + sqrt(1.0 + square)));
    let y = select(near, log_(a) + 0.6931471805599453, a > 1e9);
    let signed = bitcast<f32>(bitcast<u32>(y) | (bitcast<u32>(x) & 0x80000000u));
    return select(select(signed, x, a < 1e-4), x, is_nan(x));
}

// inverse hyperbolic cosine: ln(1 + t + sqrt(t (t + 2))) with t = x - 1
fn acosh_(x: f32) -> f32 {
    let t = clamp(x, 1.0, 1e9) - 1.0;
    let near = log1p_(t + sqrt(t * (t + 2.0)));
    let y = select(near, log_(x) + 0.6931471805599453, x > 1e9);
    return select(select(y, from_bits(0x7fc00000u), x < 1.0), x, is_nan(x));
}

// Whole numbers stay what they are, and so does what is not finite.
fn is_whole(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7fffffffu) >= 0x4b000000u;
}

// the largest whole number up to x
fn floor_(x: f32) -> f32 {
    return select(floor(x), x, is_whole(x));
}

// the smallest whole number from x on
fn ceil_(x: f32) -> f32 {
    return select(ceil(x), x, is_whole(x));
}

// the nearest whole number, of two the even one
fn round_(x: f32) -> f32 {
    return select(round(x), x, is_whole(x));
}

// The leading twelve bits of x: products of two such numbers are exact.
fn leading(x: f32) -> f32 {
    return bitcast<f32>(bitcast<u32>(x) & 0xfffff000u);
}

// ln x of a positive finite x as a sum of two, with half as many digits again.
fn log_parts(x: f32) -> vec2<f32> {
    let reduced = reduce_log(x);
    let n = reduced.x;
    let z = reduced.y;
    // z - z^2 / 2 + tail, the square in an exact part and the rest of it.
    let zh = leading(z);
    let square = -0.5 * zh * zh;
    let rest = -0.5 * (z + zh) * (z - zh);
    let sum = opaque(z + square);
    let high = opaque(n * 0.693359375 + sum);
    // What the two sums lost.
    let lost = (square - opaque(sum - z)) + (sum - opaque(high - n * 0.693359375));
    return vec2<f32>(high, lost + (rest + log1p_tail(z) + n * -2.12194440e-4));
}

// x^y as C's pow: of a negative x with a whole y too.
fn power_(x: f32, y: f32) -> f32 {
    let a = abs(x);
    let infinity = from_bits(0x7f800000u);
    let ordinary = a > 0.0 && bitcast<u32>(a) < 0x7f800000u && !is_nan(y);
    let ln = log_parts(select(1.0, a, ordinary));
    let estimate = y * ln.x;
    // y ln x as an exact product and what is small beside it.
    let usable = ordinary && abs(estimate) < 110.0;
    let e = select(0.0, y, usable);
    let eh = leading(e);
    let lh = leading(ln.x);
    let product = eh * lh;
    let beside = eh * opaque(ln.x - lh) + opaque(e - eh) * ln.x + e * ln.y;
    let n = round((product + beside) * 1.4426950408889634);
    let r = opaque(product - n * 0.693359375) - n * -2.12194440e-4 + beside;
    var size = scale(1.0 + expm1_reduced(r), i32(n));
    // Beyond all numbers; with x = 0 or infinite; with x = 1 or -1, or y = 0.
    size = select(size, select(0.0, infinity, estimate > 0.0), ordinary && !usable);
    size = select(size, select(0.0, infinity, (a > 1.0) == (y > 0.0)), !ordinary);
    size = select(size, 1.0, a == 1.0 || y == 0.0);
    // The sign is that of x where y is odd. A y from 2^24 on is even.
    let whole = floor(y) == y;
    let odd = whole && abs(y) < 16777216.0 && (i32(clamp(y, -16777216.0, 16777216.0)) & 1) != 0;
    let negative = (bitcast<u32>(x) & 0x80000000u) != 0u;
    let signed = select(size, -size, negative && odd);
    let defined = select(signed, from_bits(0x7fc00000u), x < 0.0 && !whole && a < infinity);
    let nan = select(select(defined, y, is_nan(y)), x, is_nan(x));
    return select(nan, 1.0, y == 0.0 && !is_nan(y) || x == 1.0 && !is_nan(x));
}
