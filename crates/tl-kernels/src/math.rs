//! Elementary functions on `f32`, without branches or table look-ups, so that loops over them vectorize.
//!
//! The polynomials are Chebyshev fits; the tests hold each function against `f64` over its whole range. There is no
//! fused multiply-add here, so that every instruction set gives the same bits.

/// The value of a polynomial, its coefficients from the highest power down.
macro_rules! polynomial {
    ($x:expr; $first:expr $(, $rest:expr)+) => {{
        let x = $x;
        let sum = $first;
        $(let sum = sum * x + $rest;)+
        sum
    }};
}

/// `a` where `condition`, else `b`: a form that always becomes a select.
#[inline(always)]
fn select(condition: bool, a: f32, b: f32) -> f32 {
    if condition { a } else { b }
}

/// Adding this to a float below 2^22 in size leaves its nearest integer in the low bits.
const ROUND: f32 = 12_582_912.0;

/// e^x, within 2 units in the last place; overflow is infinity, underflow 0 by way of the subnormal numbers.
///
/// `x = n ln 2 + r`, `|r| <= ln 2 / 2`, `e^x = 2^n e^r`; 2^n in two factors, since n may leave the range of exponents. What is
/// 0 in any case, such as for a masked score, is not computed by underflow, which costs CPUs a hundred times a multiplication.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let is_zero = x < -104.0;
    let x = select(is_zero, 0.0, x);
    let x = select(x > 89.0, 89.0, x);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN_2_HIGH - n * LN_2_LOW;
    let tail = polynomial!(r; 1.989_099e-4, 1.393_364_8e-3, 8.333_311e-3, 4.166_646_5e-2, 0.166_666_67, 0.5);
    let value = tail * (r * r) + r + 1.0;
    let n = shifted.to_bits().wrapping_sub(ROUND.to_bits()) as i32;
    let half = n >> 1;
    select(is_zero, 0.0, value * power_of_two(half) * power_of_two(n.wrapping_sub(half)))
}

/// 2^n for -126 <= n <= 127.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// The hyperbolic tangent: a polynomial near 0, `1 - 2 / (e^2|x| + 1)` beyond, where nothing cancels.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let size = x.abs();
    let s = x * x;
    let near = x + x * s * polynomial!(s; -6.096_714e-3, 2.099_718e-2, -5.385_091e-2, 0.133_327_7, -0.333_333_3);
    let far = 1.0 - 2.0 / (exp(2.0 * size) + 1.0);
    select(size < 0.625, near.abs(), far).copysign(x)
}

/// The logistic function, `1 / (1 + e^-x)`.
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `x sigmoid(x)`, also called swish; 0 at minus infinity.
#[inline(always)]
pub fn silu(x: f32) -> f32 {
    select(x < -200.0, -200.0, x) * sigmoid(x)
}

/// The error function: a polynomial up to 1, `1 - e^(p(|x|))` beyond, where `p` fits `ln erfc`.
#[inline(always)]
fn erf(x: f32) -> f32 {
    let s = x * x;
    let near = x
        * polynomial!(
            s; 7.875_875e-5, -8.016_864e-4, 5.189_087_4e-3, -2.685_421_2e-2, 0.112_835_95, -0.376_126_27, std::f32::consts::FRAC_2_SQRT_PI
        );
    let size = x.abs();
    let capped = select(size > 4.0, 4.0, size);
    let log_rest = polynomial!(
        capped; -1.327_236_2e-5, 3.169_370_2e-4, -3.432_351_4e-3, 2.260_477_2e-2, -0.103_281_12, -0.639_141_26,
        -1.125_893_7, -7.658_978_8e-4
    );
    let far = (1.0 - exp(log_rest)).copysign(x);
    select(size < 1.0, near, far)
}

/// The Gaussian error linear unit, `x (1 + erf(x / sqrt 2)) / 2` (the exact form, not its tanh approximation); 0 at minus infinity.
#[inline(always)]
pub fn gelu(x: f32) -> f32 {
    let half = 0.5 * select(x < -20.0, -20.0, x);
    half + half * erf(x * std::f32::consts::FRAC_1_SQRT_2)
}

/// The tanh approximation of [`gelu`], `x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2`, as `x` times a logistic function, where
/// nothing cancels; 0 at minus infinity.
#[inline(always)]
pub fn gelu_tanh(x: f32) -> f32 {
    const SLOPE: f32 = 1.595_769; // 2 sqrt(2 / pi)
    let x = select(x < -20.0, -20.0, x);
    x * sigmoid(SLOPE * (x + 0.044_715 * (x * x * x)))
}

/// Sine and cosine of an angle of up to 10^9, each within 1e-7. The angle is reduced to an eighth of a turn in `f64`.
#[inline(always)]
pub(crate) fn sin_cos(angle: f64) -> (f32, f32) {
    const ROUND: f64 = 6_755_399_441_055_744.0;
    let shifted = angle * std::f64::consts::FRAC_2_PI + ROUND;
    let quadrant = shifted.to_bits() as u32;
    let r = (angle - (shifted - ROUND) * std::f64::consts::FRAC_PI_2) as f32;
    let s = r * r;
    let sin = r + r * s * polynomial!(s; 2.755_732e-6, -1.984_127e-4, 8.333_333e-3, -0.166_666_67);
    let cos = 1.0 + s * polynomial!(s; -2.755_732e-7, 2.480_158_7e-5, -1.388_888_9e-3, 4.166_666_7e-2, -0.5);
    let odd = quadrant & 1 == 1;
    let sign = |flip: u32| f32::from_bits(0x3F80_0000 | (flip & 2) << 30);
    (select(odd, cos, sin) * sign(quadrant), select(odd, sin, cos) * sign(quadrant.wrapping_add(1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f32::consts::FRAC_1_SQRT_2;

    /// Holds `f` against `reference` over `low .. high`, in `f32` steps that reach both ends: within `absolute`, or
    /// within `ulps` units in the last place of the expected value.
    fn check(
        name: &str,
        f: fn(f32) -> f32,
        reference: impl Fn(f64) -> f64,
        (low, high): (f32, f32),
        (ulps, absolute): (f64, f64),
    ) {
        const STEPS: u32 = 400_000;
        for step in 0..=STEPS {
            let x = low + (high - low) * (step as f32 / STEPS as f32);
            let expected = reference(f64::from(x));
            let found = f64::from(f(x));
            let rounded = expected.abs() as f32;
            let ulp = f64::from(rounded.next_up()) - f64::from(rounded);
            assert!(
                found == expected as f32 as f64 || (found - expected).abs() <= (ulps * ulp).max(absolute),
                "{name}({x}) = {found:e}, expected {expected:e}"
            );
        }
    }

    /// The error function by its series, or by the continued fraction of `erfc`: for reference.
    fn erf64(x: f64) -> f64 {
        if x.abs() < 2.5 {
            let (mut term, mut sum) = (x, x);
            for n in 1..60 {
                term *= -x * x / f64::from(n);
                sum += term / f64::from(2 * n + 1);
            }
            return sum * 2.0 / std::f64::consts::PI.sqrt();
        }
        let fraction = (1..80).rev().fold(0.0, |f, n| f64::from(n) / 2.0 / (x.abs() + f));
        let rest = (-x * x).exp() / (x.abs() + fraction) / std::f64::consts::PI.sqrt();
        (1.0 - rest).copysign(x)
    }

    #[test]
    fn close_to_f64() {
        check("exp", exp, f64::exp, (-110.0, 88.722), (2.0, 1.5e-45));
        check("exp", exp, f64::exp, (-1.0, 1.0), (1.5, 0.0));
        check("tanh", tanh, f64::tanh, (-20.0, 20.0), (3.0, 0.0));
        check("tanh", tanh, f64::tanh, (-1e-3, 1e-3), (2.0, 0.0));
        let sigmoid64 = |x: f64| 1.0 / (1.0 + (-x).exp());
        check("sigmoid", sigmoid, sigmoid64, (-87.0, 87.0), (4.0, 0.0));
        check("silu", silu, |x| x * sigmoid64(x), (-87.0, 87.0), (5.0, 0.0));
        check("silu", silu, |x| x * sigmoid64(x), (-300.0, -80.0), (0.0, 1e-35));
        check("erf", erf, erf64, (-6.0, 6.0), (3.0, 0.0));
        let gelu64 = |x: f64| 0.5 * x * (1.0 + erf64(x * f64::from(FRAC_1_SQRT_2)));
        check("gelu", gelu, gelu64, (-10.0, 10.0), (3.0, 4e-7));
        let gelu_tanh64 = |x: f64| {
            let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
            // As the quotient of exponentials, since 1 + tanh cancels.
            x / (1.0 + (-2.0 * u).exp())
        };
        check("gelu_tanh", gelu_tanh, gelu_tanh64, (-10.0, 10.0), (5.0, 4e-7));
    }

    #[test]
    fn sin_cos_of_large_angles() {
        for step in 0..400_000 {
            let angle = f64::from(step) * 0.777_777_7 * if step % 2 == 0 { 1.0 } else { -1e3 };
            let (sin, cos) = sin_cos(angle);
            assert!((f64::from(sin) - angle.sin()).abs() < 1e-7, "sin {angle}");
            assert!((f64::from(cos) - angle.cos()).abs() < 1e-7, "cos {angle}");
        }
    }

    #[test]
    fn limits() {
        const INF: f32 = f32::INFINITY;
        type Function = fn(f32) -> f32;
        let table: [(&str, Function, f32, f32); 7] = [
            ("exp", exp, 0.0, INF),
            ("tanh", tanh, -1.0, 1.0),
            ("sigmoid", sigmoid, 0.0, 1.0),
            ("erf", erf, -1.0, 1.0),
            ("silu", silu, 0.0, INF),
            ("gelu", gelu, 0.0, INF),
            ("gelu_tanh", gelu_tanh, 0.0, INF),
        ];
        for (name, f, low, high) in table {
            for (x, expected) in [(-INF, low), (INF, high), (-1e30, low)] {
                assert_eq!(f(x), expected, "{name}({x})");
            }
            assert!(f(f32::NAN).is_nan(), "{name}(NaN)");
        }
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(88.8), INF);
        assert_eq!(exp(f32::MAX), INF);
        assert_eq!(exp(-104.0), 0.0);
        assert!(exp(-103.0) > 0.0);
        assert!(tanh(-0.0).is_sign_negative());
    }
}
