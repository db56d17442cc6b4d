//! Dot products of rows in MXFP4.

use crate::quant::activations::Prepared;
use crate::quant::formats::mxfp4::{BITS_OF_ZERO, BYTES, FIRST_NORMAL, UNSIGNED};
use crate::quant::rows::Rows;
use crate::x86::avx512::block_rows;
use crate::x86::avx512::columns::{Columns, add_scaled, four_columns};
use crate::x86::avx512::nibbles::{four_bytes, fours, looked_up, low_and_high};
use std::arch::x86_64::*;

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
pub(crate) fn dot(rows: Rows<'_>, x: Prepared<'_>, out: &mut [f32]) {
    block_rows::rows(rows, x, out, |bytes: &[u8; 16 * BYTES], position| {
        let values = looked_up(&UNSIGNED, low_and_high(four_columns(fours::<BYTES, 1, _>(bytes, position))));
        let scales = powers(_mm512_and_si512(four_bytes::<BYTES, 0, _>(bytes), _mm512_set1_epi32(0xFF)));
        move |sum, x: &Columns| add_scaled(sum, x, values, scales)
    });
}

/// The powers of two that have these exponents.
#[inline]
#[target_feature(enable = "avx512f")]
fn powers(exponents: __m512i) -> __m512 {
    let normal = _mm512_slli_epi32::<23>(_mm512_sub_epi32(exponents, _mm512_set1_epi32(1)));
    let is_small = _mm512_cmplt_epi32_mask(exponents, _mm512_set1_epi32(i32::from(FIRST_NORMAL)));
    let zero = _mm512_set1_epi32(BITS_OF_ZERO as i32);
    _mm512_castsi512_ps(_mm512_mask_sllv_epi32(normal, is_small, zero, exponents))
}
