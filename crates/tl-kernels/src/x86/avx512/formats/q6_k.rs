//! Dot products of rows in Q6_K.

use crate::array::array;
use crate::quant::activations::Prepared;
use crate::quant::formats::q6_k::{BYTES, SCALE, SCALES, UPPER};
use crate::quant::rows::Rows;
use crate::x86::avx2::registers::half_to_f32;
use crate::x86::avx512::block_rows;
use crate::x86::avx512::columns::SplitColumns;
use crate::x86::avx512::registers::pair;
use crate::x86::avx512::super_blocks::{IN_PARTS, by_quarters, quarters, scales_of_16, two_columns, upper_quarters};
use std::arch::x86_64::*;

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
pub(crate) fn dot(rows: Rows<'_>, x: Prepared<'_>, out: &mut [f32]) {
    // The upper two bits of a quarter's two groups come to places 4 and 5.
    let (to_low, to_high) = (by_quarters([4, 2, 4, 2]), by_quarters([0, 30, 0, 30]));
    block_rows::rows(rows, x, out, |bytes: &[u8; 2 * BYTES], position| {
        let (mask, bits) = (_mm512_set1_epi8(15), _mm512_set1_epi8(0x30));
        let [[a, b], [c, d]] = quarters::<BYTES, 0, _>(bytes, position);
        let [[e, f], [g, h]] = upper_quarters::<BYTES, UPPER, _>(bytes);
        let low = |x, upper| {
            let upper = _mm512_and_si512(_mm512_rolv_epi32(upper, to_low), bits);
            _mm512_or_si512(_mm512_and_si512(x, mask), upper)
        };
        let high = |x, upper| {
            let upper = _mm512_and_si512(_mm512_rolv_epi32(upper, to_high), bits);
            _mm512_or_si512(_mm512_and_si512(_mm512_srli_epi16::<4>(x), mask), upper)
        };
        let levels =
            two_columns([low(a, e), low(b, f), low(c, g), low(d, h)], [high(a, e), high(b, f), high(c, g), high(d, h)]);
        let [first, last] = scales_of_16::<BYTES, SCALES, _>(bytes, &IN_PARTS);
        let (first, last) = (_mm512_cvtepi8_epi32(first), _mm512_cvtepi8_epi32(last));
        let (first, last) = (_mm512_cvtepi32_ps(first), _mm512_cvtepi32_ps(last));
        let scale = |block: usize| half_to_f32(*array(&bytes[block * BYTES + SCALE..][..2]));
        let scale = pair(&[scale(0), scale(1)]);
        move |sum, x: &SplitColumns| {
            let [of_first, of_last] = x.products(levels);
            let products = _mm512_mul_ps(_mm512_cvtepi32_ps(of_last), last);
            let products = _mm512_fmadd_ps(_mm512_cvtepi32_ps(of_first), first, products);
            _mm512_fmadd_ps(products, _mm512_mul_ps(scale, x.scales()), sum)
        }
    });
}
