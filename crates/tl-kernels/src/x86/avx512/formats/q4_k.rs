//! Dot products of rows in Q4_K.

use crate::quant::activations::Prepared;
use crate::quant::formats::q4_k::BYTES;
use crate::quant::rows::Rows;
use crate::x86::avx512::block_rows;
use crate::x86::avx512::columns::{Columns, add_minima, add_scaled};
use crate::x86::avx512::k_scales::scales_and_minima;
use crate::x86::avx512::super_blocks::{quarters, two_columns};
use std::arch::x86_64::*;

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
pub(crate) fn dot(rows: Rows<'_>, x: Prepared<'_>, out: &mut [f32]) {
    block_rows::rows(rows, x, out, |bytes: &[u8; 2 * BYTES], position| {
        let mask = _mm512_set1_epi8(15);
        let [[a, b], [c, d]] = quarters::<BYTES, 16, _>(bytes, position);
        let low = |x| _mm512_and_si512(x, mask);
        let high = |x| _mm512_and_si512(_mm512_srli_epi16::<4>(x), mask);
        let levels = two_columns([low(a), low(b), low(c), low(d)], [high(a), high(b), high(c), high(d)]);
        let (scales, minima) = scales_and_minima(bytes);
        move |sum, x: &Columns| add_minima(add_scaled(sum, x, levels, scales), x, minima)
    });
}
