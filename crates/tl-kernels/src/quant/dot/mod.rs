//! Dot products of rows of a weight with the activations of one token.
//!
//! [`stretch`] multiplies what [`Stretch`] holds, for any format. `avx512` has what formats with instructions of their
//! own are made of: such a format brings its few instructions as closures and nothing else.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;

use super::Rows;
use super::activations::{BLOCK, RowStretch};
use super::block::{BlockFormat, Stretch};
use crate::isa::Isa;

/// The dot product of a stretch of a row with a stretch of activations.
#[inline(always)]
pub(crate) fn stretch<F: BlockFormat>(isa: Isa, w: &Stretch, x: &RowStretch) -> f32 {
    let sum = products::<F>(isa, w, x);
    // A minimum stands for 32 elements, as a total does.
    let minima = || w.minima.iter().zip(&x.totals).map(|(minimum, total)| minimum * total).sum::<f32>();
    if F::HAS_MINIMA { sum + minima() } else { sum }
}

/// The part of the scales.
#[inline(always)]
fn products<F: BlockFormat>(isa: Isa, w: &Stretch, x: &RowStretch) -> f32 {
    #[cfg(target_arch = "x86_64")]
    if isa.has_avx2() {
        // SAFETY: this `Isa` proves avx2, fma and f16c.
        return unsafe { avx2::stretch::<F>(w, x) };
    }
    let groups = w.values.chunks_exact(F::GROUP).zip(x.values.chunks_exact(F::GROUP));
    let mut total = 0.0;
    for (g, (w_values, x_values)) in groups.enumerate() {
        let products =
            w_values.iter().zip(x_values).map(|(&w, &x)| (i32::from(w) - i32::from(F::OFFSET)) * i32::from(x));
        total += w.scales[g] * x.scales[g * F::GROUP / BLOCK] * products.sum::<i32>() as f32;
    }
    total
}
