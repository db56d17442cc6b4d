//! Functions in WGSL that formulas use.

/// The hyperbolic tangent. Near 0, where the quotient cancels, by its power series.
pub(crate) const TANH_WGSL: &str = "
fn tanh_(x: f32) -> f32 {
    let s = x * x;
    let near = x * (1.0 + s * (-1.0 / 3.0 + s * (2.0 / 15.0 + s * (-17.0 / 315.0 + s * (62.0 / 2835.0)))));
    return select(1.0 - 2.0 / (exp(2.0 * x) + 1.0), near, abs(x) < 0.3);
}";

/// The other functions that formulas use.
pub(crate) const MATH: &str = "
fn infinity() -> f32 { return bitcast<f32>(0x7f800000u | p.zero); }
fn not_a_number() -> f32 { return bitcast<f32>(0x7fc00000u | p.zero); }
// Comparisons with what is not a number are false, `!=` among them.
fn is_nan(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u; }
fn is_infinite(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) == 0x7f800000u; }
fn sigmoid(x: f32) -> f32 { return 1.0 / (1.0 + exp(-x)); }
// The error function (Abramowitz, Stegun, 7.1.26), to 1.5e-7.
fn erf(x: f32) -> f32 {
    let t = 1.0 / (1.0 + 0.3275911 * abs(x));
    let y = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
    return sign(x) * (1.0 - y * exp(-x * x));
}
fn gelu(x: f32) -> f32 { return 0.5 * x * (1.0 + erf(x * 0.70710678)); }
// As a logistic function, where nothing cancels.
fn gelu_tanh(y: f32) -> f32 {
    let x = select(y, -20.0, y < -20.0);
    return x * sigmoid(1.5957691216 * (x + 0.044715 * (x * x * x)));
}
fn minimum(a: f32, b: f32) -> f32 { return select(b, a, is_nan(a) || a < b); }
fn maximum(a: f32, b: f32) -> f32 { return select(b, a, is_nan(a) || a > b); }
// A power of a negative number is one only for whole exponents.
fn pow_(a: f32, b: f32) -> f32 {
    if b == 0.0 || a == 1.0 { return 1.0; }
    if is_nan(a) || is_nan(b) { return not_a_number(); }
    let size = select(pow(abs(a), b), 1.0, a == -1.0);
    if a >= 0.0 { return size; }
    if b != trunc(b) { return not_a_number(); }
    return select(-size, size, b * 0.5 == trunc(b * 0.5));
}
// Without its lower 12 bits, so that a product of two such numbers is exact.
fn upper(x: f32) -> f32 { return bitcast<f32>(bitcast<u32>(x) & 0xfffff000u); }
// The product with the quotient is taken away in exact parts; the quotient is off by one where it was rounded to a
// whole number.
fn remainder(a: f32, b: f32) -> f32 {
    if is_infinite(b) && !is_infinite(a) { return a; }
    let q = trunc(a / b);
    let q1 = upper(q);
    let b1 = upper(b);
    var r = a - q1 * b1 - (q - q1) * b1 - q1 * (b - b1) - (q - q1) * (b - b1);
    if r != 0.0 && (r < 0.0) != (a < 0.0) { r += select(-abs(b), abs(b), a >= 0.0); }
    if abs(r) >= abs(b) { r -= select(-abs(b), abs(b), a >= 0.0); }
    return r;
}";
