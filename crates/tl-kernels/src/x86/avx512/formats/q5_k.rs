//! Dot products of rows in Q5_K.

use crate::quant::activations::Prepared;
use crate::quant::formats::q5_k::{BYTES, FIFTHS, HALVES};
use crate::quant::rows::Rows;
use crate::x86::avx512::block_rows;
use crate::x86::avx512::columns::{Columns, add_minima, add_scaled};
use crate::x86::avx512::k_scales::scales_and_minima;
use crate::x86::avx512::super_blocks::{by_quarters, halves_of_32, quarters, two_columns};
use std::arch::x86_64::*;

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
pub(crate) fn dot(rows: Rows<'_>, x: Prepared<'_>, out: &mut [f32]) {
    // The fifth bits of a quarter's two groups come to place 4.
    let (to_low, to_high) = (by_quarters([4, 2, 0, 30]), by_quarters([3, 1, 31, 29]));
    block_rows::rows(rows, x, out, |bytes: &[u8; 2 * BYTES], position| {
        let (mask, bit) = (_mm512_set1_epi8(15), _mm512_set1_epi8(16));
        let [[a, b], [c, d]] = quarters::<BYTES, HALVES, _>(bytes, position);
        let [[e, f], [g, h]] = halves_of_32::<BYTES, FIFTHS, _>(bytes);
        let low = |x, fifths| {
            let fifths = _mm512_and_si512(_mm512_rolv_epi32(fifths, to_low), bit);
            _mm512_or_si512(_mm512_and_si512(x, mask), fifths)
        };
        let high = |x, fifths| {
            let fifths = _mm512_and_si512(_mm512_rolv_epi32(fifths, to_high), bit);
            _mm512_or_si512(_mm512_and_si512(_mm512_srli_epi16::<4>(x), mask), fifths)
        };
        let levels =
            two_columns([low(a, e), low(b, f), low(c, g), low(d, h)], [high(a, e), high(b, f), high(c, g), high(d, h)]);
        let (scales, minima) = scales_and_minima(bytes);
        move |sum, x: &Columns| add_minima(add_scaled(sum, x, levels, scales), x, minima)
    });
}
