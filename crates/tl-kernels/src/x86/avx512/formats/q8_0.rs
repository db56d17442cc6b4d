//! Dot products of rows in Q8_0.

use crate::array::array;
use crate::quant::activations::Prepared;
use crate::quant::formats::q8_0::BYTES;
use crate::quant::rows::Rows;
use crate::x86::avx2::block_rows::eight_halves;
use crate::x86::avx2::registers::load_bytes;
use crate::x86::avx512::block_rows;
use crate::x86::avx512::columns::{HalvedColumns, four_columns};
use std::arch::x86_64::*;

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
pub(crate) fn dot(rows: Rows<'_>, x: Prepared<'_>, out: &mut [f32]) {
    block_rows::rows(rows, x, out, |bytes: &[u8; 16 * BYTES], position| {
        let block = |b: usize| load_bytes(array(&bytes[b * BYTES + 2..][..32]));
        let pair = |i: usize| {
            position.prefetch(bytes, i, 8);
            let b = i / 4 * 8 + i % 4;
            let both = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(block(b)), block(b + 4));
            _mm512_xor_si512(both, _mm512_set1_epi8(-128))
        };
        let values =
            [four_columns([pair(0), pair(1), pair(2), pair(3)]), four_columns([pair(4), pair(5), pair(6), pair(7)])];
        let scales =
            |half: usize| eight_halves::<BYTES, 0, { 8 * BYTES }>(array(&bytes[half * 8 * BYTES..][..8 * BYTES]));
        let scales = _mm512_insertf32x8::<1>(_mm512_castps256_ps512(scales(0)), scales(1));
        move |sum, x: &HalvedColumns| x.add_scaled(sum, values, scales)
    });
}
