//! Dot products of rows in IQ4_XS.

use crate::array::array;
use crate::quant::activations::Prepared;
use crate::quant::formats::iq4_nl::LEVELS;
use crate::quant::formats::iq4_xs::{BYTES, LOWER, NUMBERS, UPPER};
use crate::quant::rows::Rows;
use crate::x86::avx2::block_rows;
use crate::x86::avx2::block_rows::{Columns, add_scaled, columns, signed_products};
use crate::x86::avx2::nibbles::pair;
use crate::x86::avx2::registers::{half_to_f32, load_half};
use std::arch::x86_64::*;

#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn dot(rows: Rows<'_>, x: Prepared<'_>, out: &mut [f32]) {
    let levels = _mm256_broadcastsi128_si256(load_half(&LEVELS.map(|level| level as u8)));
    block_rows::rows(rows, x, out, |bytes: &[u8; BYTES], position| {
        let values = columns(|i| {
            let [first, last] = pair::<16, NUMBERS, _>(bytes, i, position);
            [_mm256_shuffle_epi8(levels, first), _mm256_shuffle_epi8(levels, last)]
        });
        let lower = _mm256_set1_epi32(i32::from_le_bytes(*array(&bytes[LOWER..NUMBERS])));
        let upper = _mm256_set1_epi32(i32::from(u16::from_le_bytes([bytes[UPPER], bytes[UPPER + 1]])) << 4);
        let lower = _mm256_srlv_epi32(lower, _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28));
        let upper = _mm256_srlv_epi32(upper, _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14));
        let lower = _mm256_and_si256(lower, _mm256_set1_epi32(15));
        let sixes = _mm256_or_si256(lower, _mm256_and_si256(upper, _mm256_set1_epi32(0x30)));
        let sixes = _mm256_cvtepi32_ps(_mm256_sub_epi32(sixes, _mm256_set1_epi32(32)));
        let scale = _mm256_set1_ps(half_to_f32([bytes[0], bytes[1]]));
        let scales = _mm256_mul_ps(sixes, scale);
        move |sum, x: &Columns| add_scaled(sum, x, signed_products(x, values), scales)
    });
}
