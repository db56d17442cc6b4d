//! Finding the scale of a group of weights: rounding to the largest value alone wastes levels on it, so several scales are
//! tried, each is replaced by the one that fits the rounded values best (least squares), and the smallest error wins.

/// Scales that are tried on either side of the one that the largest value suggests.
const TRIES: i32 = 8;
/// Their distance, in levels.
const TRY_STEP: f32 = 0.1;

/// Values of larger size count more: they matter more in products. `variance` keeps the small ones from being ignored.
fn importance(x: f32, variance: f32) -> f32 {
    variance.sqrt() + x.abs()
}

fn mean_square(x: &[f32]) -> f32 {
    x.iter().map(|x| x * x).sum::<f32>() / x.len().max(1) as f32
}

/// The scale for which `x` is best approximated by `scale * level`, `-levels <= level < levels`. It may be negative, since
/// there is one level more below zero than above. Zero for zeros; finite for finite values.
pub(crate) fn signed_scale(x: &[f32], levels: i32) -> f32 {
    let largest = x.iter().fold(0.0, |max: f32, &x| if x.abs() > max.abs() { x } else { max });
    if largest.abs() < f32::MIN_POSITIVE || !largest.is_finite() {
        return 0.0;
    }
    let variance = mean_square(x);
    let (mut best, mut best_gain) = (largest / -levels as f32, 0.0);
    for step in -TRIES..=TRIES {
        let inverse = -(levels as f32 + step as f32 * TRY_STEP) / largest;
        let (mut product, mut square) = (0.0, 0.0);
        for &x in x {
            let level = round_to_level(x * inverse, -levels, levels - 1) as f32;
            let weight = importance(x, variance);
            product += weight * x * level;
            square += weight * level * level;
        }
        // The error is a constant less this.
        let gain = product * product / square;
        if gain > best_gain {
            (best, best_gain) = (product / square, gain);
        }
    }
    best
}

/// The scale for which `x` is best approximated by `scale * levels[nearest(x / scale)]`. The level of largest size is the
/// first. Zero for zeros; finite for finite values.
pub(crate) fn table_scale(x: &[f32], levels: &[i8], nearest: impl Fn(f32) -> i32) -> f32 {
    let largest = x.iter().fold(0.0, |max: f32, &x| if x.abs() > max.abs() { x } else { max });
    if largest.abs() < f32::MIN_POSITIVE || !largest.is_finite() {
        return 0.0;
    }
    let variance = mean_square(x);
    let end = f32::from(levels[0]);
    let (mut best, mut best_gain) = (largest / end, 0.0);
    for step in -TRIES..=TRIES {
        let inverse = end * (1.0 + step as f32 * TRY_STEP / 4.0) / largest;
        let (mut product, mut square) = (0.0, 0.0);
        for &x in x {
            let level = f32::from(levels[nearest(x * inverse) as usize]);
            let weight = importance(x, variance);
            product += weight * x * level;
            square += weight * level * level;
        }
        let gain = product * product / square;
        if gain > best_gain {
            (best, best_gain) = (product / square, gain);
        }
    }
    best
}

/// The scale and minimum for which `x` is best approximated by `scale * level + minimum`, `0 <= level <= top`; the scale is
/// not negative. `minimum_at_most_zero` says that the format cannot store another.
pub(crate) fn scale_and_minimum(x: &[f32], top: i32, minimum_at_most_zero: bool) -> (f32, f32) {
    let low = x.iter().fold(f32::INFINITY, |low, &x| low.min(x));
    let high = x.iter().fold(f32::NEG_INFINITY, |high, &x| high.max(x));
    let low = if minimum_at_most_zero { low.min(0.0) } else { low };
    let range = high - low;
    if !range.is_finite() {
        return (0.0, 0.0);
    }
    if range < f32::MIN_POSITIVE {
        return (0.0, low);
    }
    let variance = mean_square(x);
    let error = |scale: f32, minimum: f32| -> f32 {
        let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        let square = |&x: &f32| {
            let level = round_to_level((x - minimum) * inverse, 0, top) as f32;
            importance(x, variance) * (x - scale * level - minimum).powi(2)
        };
        x.iter().map(square).sum()
    };
    let mut best = (range / top as f32, low);
    let mut best_error = error(best.0, best.1);
    for step in -TRIES..=TRIES {
        let inverse = (top as f32 + step as f32 * TRY_STEP) / range;
        let (scale, minimum) = fit(x, variance, top, inverse, low, minimum_at_most_zero);
        let error = if scale > 0.0 { error(scale, minimum) } else { f32::INFINITY };
        if error < best_error {
            (best, best_error) = ((scale, minimum), error);
        }
    }
    best
}

/// The least-squares scale and minimum for the levels that `inverse` and `low` give.
fn fit(x: &[f32], variance: f32, top: i32, inverse: f32, low: f32, minimum_at_most_zero: bool) -> (f32, f32) {
    let [mut weights, mut levels, mut squares, mut values, mut products] = [0.0f32; 5];
    for &x in x {
        let level = round_to_level((x - low) * inverse, 0, top) as f32;
        let weight = importance(x, variance);
        weights += weight;
        levels += weight * level;
        squares += weight * level * level;
        values += weight * x;
        products += weight * level * x;
    }
    let determinant = weights * squares - levels * levels;
    if determinant <= 0.0 {
        return (0.0, low);
    }
    let scale = (weights * products - levels * values) / determinant;
    let minimum = (squares * values - levels * products) / determinant;
    if minimum_at_most_zero && minimum > 0.0 { (products / squares, 0.0) } else { (scale, minimum) }
}

/// The nearest level in the range; the lowest for NaN.
pub(crate) fn round_to_level(x: f32, lowest: i32, highest: i32) -> i32 {
    (x.clamp(lowest as f32, highest as f32) + 0.5).floor().max(lowest as f32) as i32
}

/// The inverse of a scale, and 0 of 0.
pub(crate) fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { scale.recip() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    fn squares(x: &[f32], approximate: impl Fn(f32) -> f32) -> f32 {
        x.iter().map(|&x| (x - approximate(x)).powi(2)).sum()
    }

    #[test]
    fn better_than_the_largest_value_alone() {
        let mut random = Random::new(11);
        let (mut plain, mut found, mut plain_affine, mut found_affine) = (0.0, 0.0, 0.0, 0.0);
        for _ in 0..200 {
            let x: Vec<f32> = (0..32).map(|_| (0..6).map(|_| random.unit()).sum()).collect();
            let with = |scale: f32| squares(&x, |x| scale * round_to_level(x / scale, -8, 7) as f32);
            let largest = x.iter().fold(0.0, |max: f32, &x| if x.abs() > max.abs() { x } else { max });
            plain += with(largest / -8.0);
            found += with(signed_scale(&x, 8));
            let affine = |(scale, low): (f32, f32)| {
                squares(&x, |x| scale * round_to_level((x - low) / scale, 0, 15) as f32 + low)
            };
            let low = x.iter().copied().fold(f32::INFINITY, f32::min);
            let high = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            plain_affine += affine(((high - low) / 15.0, low));
            found_affine += affine(scale_and_minimum(&x, 15, false));
        }
        assert!(found < 0.93 * plain, "{found} {plain}");
        assert!(found_affine < 0.95 * plain_affine, "{found_affine} {plain_affine}");
    }

    #[test]
    fn degenerate_groups() {
        for x in [[0.0; 16], [f32::NAN; 16], [f32::INFINITY; 16], [1e-42; 16], [-3.0; 16], [f32::MAX; 16]] {
            assert!(signed_scale(&x, 8).is_finite());
            for at_most_zero in [false, true] {
                let (scale, minimum) = scale_and_minimum(&x, 15, at_most_zero);
                assert!(scale >= 0.0 && scale.is_finite() && minimum.is_finite(), "{x:?} {scale} {minimum}");
                assert!(!at_most_zero || minimum <= 0.0);
            }
        }
        assert_eq!(signed_scale(&[], 8), 0.0);
    }
}
