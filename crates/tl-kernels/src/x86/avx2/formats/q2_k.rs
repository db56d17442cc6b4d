//! Dot products of rows in Q2_K.

use crate::array::array;
use crate::quant::activations::Prepared;
use crate::quant::formats::q2_k::{BYTES, LEVELS, MINIMUM, SCALE};
use crate::quant::rows::Rows;
use crate::x86::avx2::block_rows;
use crate::x86::avx2::block_rows::{Columns, columns, sums_of_16};
use crate::x86::avx2::registers::{half_to_f32, load_half};
use crate::x86::avx2::two_bits::{pair, scaled};
use std::arch::x86_64::*;

#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn dot(rows: Rows<'_>, x: Prepared<'_>, out: &mut [f32]) {
    block_rows::rows(rows, x, out, |bytes: &[u8; BYTES], position| {
        let header = _mm256_cvtepu8_epi16(load_half(array(&bytes[..LEVELS])));
        let of_scales = _mm256_and_si256(header, _mm256_set1_epi16(15));
        let of_minima = _mm256_srli_epi16::<4>(header);
        let levels = columns(|i| pair::<LEVELS, _>(bytes, i, position));
        let scale = _mm256_set1_ps(half_to_f32([bytes[SCALE], bytes[SCALE + 1]]));
        let minimum = _mm256_set1_ps(half_to_f32([bytes[MINIMUM], bytes[MINIMUM + 1]]));
        move |sum, x: &Columns| {
            let products = scaled(sums_of_16::<3>(x, levels), of_scales);
            let below = scaled(x.offsets_of_16(), of_minima);
            let sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(products), _mm256_mul_ps(scale, x.scales), sum);
            _mm256_fnmadd_ps(_mm256_cvtepi32_ps(below), _mm256_mul_ps(minimum, x.scales), sum)
        }
    });
}
