//! Dot products of rows in MXFP4.

use crate::array::array;
use crate::quant::activations::Prepared;
use crate::quant::formats::mxfp4::{BITS_OF_ZERO, BYTES, FIRST_NORMAL, UNSIGNED};
use crate::quant::rows::Rows;
use crate::x86::avx2::block_rows;
use crate::x86::avx2::block_rows::{Columns, add_scaled, columns, products};
use crate::x86::avx2::nibbles::pair;
use crate::x86::avx2::registers::load_half;
use std::arch::x86_64::*;

#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn dot(rows: Rows<'_>, x: Prepared<'_>, out: &mut [f32]) {
    let levels = _mm256_broadcastsi128_si256(load_half(&UNSIGNED));
    block_rows::rows(rows, x, out, |bytes: &[u8; 8 * BYTES], position| {
        let values = columns(|i| {
            let [first, last] = pair::<BYTES, 1, _>(bytes, i, position);
            [_mm256_shuffle_epi8(levels, first), _mm256_shuffle_epi8(levels, last)]
        });
        let scales = eight_scales(bytes);
        move |sum, x: &Columns| add_scaled(sum, x, products::<31>(x, values), scales)
    });
}

/// The powers of eight blocks.
#[inline]
#[target_feature(enable = "avx2")]
fn eight_scales(bytes: &[u8; 8 * BYTES]) -> __m256 {
    // 16 bytes from such a place that byte `b` is the first of block `b`.
    let around = |b: usize| load_half(array(&bytes[b * (BYTES - 1)..][..16]));
    // Of four blocks that lie two apart, each in a word.
    let four = |first: usize| {
        let low = _mm_blend_epi16::<0b0010>(around(first), around(first + 2));
        let high = _mm_blend_epi16::<0b1000>(around(first + 4), around(first + 6));
        _mm_blend_epi16::<0b1100>(low, high)
    };
    let exponents = _mm_blendv_epi8(four(0), four(1), _mm_set1_epi16(0xFF00_u16 as i16));
    let exponents = _mm256_cvtepu8_epi32(exponents);
    let normal = _mm256_slli_epi32::<23>(_mm256_sub_epi32(exponents, _mm256_set1_epi32(1)));
    let small = _mm256_sllv_epi32(_mm256_set1_epi32(BITS_OF_ZERO as i32), exponents);
    let is_small = _mm256_cmpgt_epi32(_mm256_set1_epi32(i32::from(FIRST_NORMAL)), exponents);
    _mm256_castsi256_ps(_mm256_blendv_epi8(normal, small, is_small))
}
