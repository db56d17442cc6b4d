//! Dot products of rows of a weight with the activations of one token.
//!
//! [`stretch`] multiplies what [`Stretch`] holds, for any format, with any instructions. `pairs` (AVX2) and `avx512` have what the
//! formats' own dot products are made of: a format brings its few instructions as closures and nothing else. `avx2` has the
//! floats, and loads for both.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
#[cfg(target_arch = "x86_64")]
pub(crate) mod pairs;

#[cfg(target_arch = "x86_64")]
use super::Rows;
use super::activations::{BLOCK, RowStretch};
use super::block::{BlockFormat, Stretch};

/// The dot product of a stretch of a row with a stretch of activations.
#[inline(always)]
pub(crate) fn stretch<F: BlockFormat>(w: &Stretch, x: &RowStretch) -> f32 {
    let groups = w.values.chunks_exact(F::GROUP).zip(x.values.chunks_exact(F::GROUP));
    let mut total = 0.0;
    for (g, (w_values, x_values)) in groups.enumerate() {
        let products =
            w_values.iter().zip(x_values).map(|(&w, &x)| (i32::from(w) - i32::from(F::OFFSET)) * i32::from(x));
        total += w.scales[g] * x.scales[g * F::GROUP / BLOCK] * products.sum::<i32>() as f32;
    }
    // A minimum stands for 32 elements, as a total does.
    let minima = || w.minima.iter().zip(&x.totals).map(|(minimum, total)| minimum * total).sum::<f32>();
    if F::HAS_MINIMA { total + minima() } else { total }
}
