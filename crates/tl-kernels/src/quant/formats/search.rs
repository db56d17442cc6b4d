//! Finding the scale of a group of weights: rounding to the largest value alone wastes levels on it, so several scales are
//! tried, each is replaced by the one that fits the rounded values best (least squares), and the smallest error wins.
//!
//! All tries go through the values side by side, a lane each, so that the compiler makes vectors of them while each one's sums
//! keep their order: what is found depends on no instruction set.

/// Scales that are tried on either side of the one that the largest value suggests.
const TRIES: usize = 8;
/// One lane for each try, from the smallest scale to the largest, and more to fill the last vector: one of them has the scale that
/// the range alone suggests, the others are not looked at.
const LANES: usize = (2 * TRIES + 1).next_multiple_of(4);
const _: () = assert!(LANES > 2 * TRIES + 1);
/// The distance between tries, in levels.
const TRY_STEP: f32 = 0.1;

/// A number for each try.
type Lanes = [f32; LANES];

/// The number of each try, from its distance to the middle one.
fn lanes(of: impl Fn(f32) -> f32) -> Lanes {
    std::array::from_fn(|lane| of(lane as f32 - TRIES as f32))
}

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
    let inverses = lanes(|step| -(levels as f32 + step * TRY_STEP) / largest);
    let (mut products, mut squares): (Lanes, Lanes) = ([0.0; LANES], [0.0; LANES]);
    for &x in x {
        let weight = importance(x, variance);
        for lane in 0..LANES {
            let level = nearest_level(x * inverses[lane], -levels, levels - 1);
            products[lane] += weight * x * level;
            squares[lane] += weight * level * level;
        }
    }
    let (mut best, mut best_gain) = (largest / -levels as f32, 0.0);
    for (product, square) in products.into_iter().zip(squares).take(2 * TRIES + 1) {
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
    for inverse in lanes(|step| end * (1.0 + step * TRY_STEP / 4.0) / largest).into_iter().take(2 * TRIES + 1) {
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
    let inverses = lanes(|step| (top as f32 + step * TRY_STEP) / range);
    let (mut scales, mut minima) = fits(x, variance, top, &inverses, low, minimum_at_most_zero);
    // The first lane beyond the tries: what the range alone suggests.
    let plain = 2 * TRIES + 1;
    (scales[plain], minima[plain]) = (range / top as f32, low);
    let errors = errors(x, variance, top, &scales, &minima);
    let mut best = plain;
    for lane in 0..plain {
        if scales[lane] > 0.0 && errors[lane] < errors[best] {
            best = lane;
        }
    }
    (scales[best], minima[best])
}

/// Which of a few scales and minima approximates `x` best by `scale * level + minimum`, `0 <= level <= top`; the first of equal
/// ones.
///
/// # Panics
/// If there are none, or more than tries are made side by side.
pub(crate) fn nearest_fit(x: &[f32], top: i32, fits: &[(f32, f32)]) -> usize {
    let (mut scales, mut minima) = ([0.0; LANES], [0.0; LANES]);
    assert!((1..=LANES).contains(&fits.len()), "{} fits", fits.len());
    for ((scale, minimum), fit) in scales.iter_mut().zip(&mut minima).zip(fits) {
        (*scale, *minimum) = *fit;
    }
    let errors = errors(x, mean_square(x), top, &scales, &minima);
    (1..fits.len()).fold(0, |best, lane| if errors[lane] < errors[best] { lane } else { best })
}

/// The weighted squares of what each scale and minimum leaves.
fn errors(x: &[f32], variance: f32, top: i32, scales: &Lanes, minima: &Lanes) -> Lanes {
    let inverses = scales.map(|scale| if scale > 0.0 { 1.0 / scale } else { 0.0 });
    let mut errors = [0.0; LANES];
    for &x in x {
        let weight = importance(x, variance);
        for lane in 0..LANES {
            let level = nearest_level((x - minima[lane]) * inverses[lane], 0, top);
            let rest = x - scales[lane] * level - minima[lane];
            errors[lane] += weight * (rest * rest);
        }
    }
    errors
}

/// The least-squares scales and minima for the levels that the inverses and `low` give.
fn fits(x: &[f32], variance: f32, top: i32, inverses: &Lanes, low: f32, at_most_zero: bool) -> (Lanes, Lanes) {
    let [mut levels, mut squares, mut products]: [Lanes; 3] = [[0.0; LANES]; 3];
    let [mut weights, mut values] = [0.0f32; 2];
    for &x in x {
        let weight = importance(x, variance);
        weights += weight;
        values += weight * x;
        for lane in 0..LANES {
            let level = nearest_level((x - low) * inverses[lane], 0, top);
            levels[lane] += weight * level;
            squares[lane] += weight * level * level;
            products[lane] += weight * level * x;
        }
    }
    let (mut scales, mut minima) = ([0.0; LANES], [low; LANES]);
    for lane in 0..LANES {
        let (levels, squares, products) = (levels[lane], squares[lane], products[lane]);
        let determinant = weights * squares - levels * levels;
        if determinant > 0.0 {
            scales[lane] = (weights * products - levels * values) / determinant;
            minima[lane] = (squares * values - levels * products) / determinant;
            if at_most_zero && minima[lane] > 0.0 {
                (scales[lane], minima[lane]) = (products / squares, 0.0);
            }
        }
    }
    (scales, minima)
}

/// The nearest level in the range; the lowest for NaN.
pub(crate) fn round_to_level(x: f32, lowest: i32, highest: i32) -> i32 {
    nearest_level(x, lowest, highest) as i32
}

/// As [`round_to_level`], as a number with a fraction that is 0.
#[inline(always)]
fn nearest_level(x: f32, lowest: i32, highest: i32) -> f32 {
    /// Added, it leaves no bits for a fraction.
    const WHOLE: f32 = (3 << 22) as f32;
    let (lowest, highest) = (lowest as f32, highest as f32);
    let x = if x > lowest { x } else { lowest };
    let up = if x < highest { x } else { highest } + 0.5;
    // Rounded down by what every vector unit has: `floor` is a call on a CPU that is not known to have it, and conversions
    // to integers and back are not made vectors of.
    let near = (up + WHOLE) - WHOLE;
    if near > up { near - 1.0 } else { near }
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
