//! Dot products of rows in Q6_K.

use crate::array::array;
use crate::quant::activations::Prepared;
use crate::quant::formats::q6_k::{BYTES, SCALE, SCALES, UPPER};
use crate::quant::rows::Rows;
use crate::x86::avx2::block_rows;
use crate::x86::avx2::block_rows::{Columns, both, columns, products_of_16};
use crate::x86::avx2::registers::{half_to_f32, load_half};
use std::arch::x86_64::*;

#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn dot(rows: Rows<'_>, x: Prepared<'_>, out: &mut [f32]) {
    block_rows::rows(rows, x, out, |bytes: &[u8; BYTES], position| {
        let (mask, bits) = (_mm256_set1_epi8(15), _mm256_set1_epi8(0x30));
        // Block `i` is in the first 128 elements, block `i + 4` in the last.
        let pair = |i: usize| {
            position.prefetch(bytes, i, 4);
            let half = |last: usize| {
                let at = i % 2 * 32 + last * 16;
                let halves = both(array(&bytes[at..][..16]), array(&bytes[at + 64..][..16]));
                let halves = if i < 2 { halves } else { _mm256_srli_epi16::<4>(halves) };
                let at = UPPER + last * 16;
                let upper = both(array(&bytes[at..][..16]), array(&bytes[at + 32..][..16]));
                let upper = match i {
                    0 => _mm256_slli_epi16::<4>(upper),
                    1 => _mm256_slli_epi16::<2>(upper),
                    2 => upper,
                    _ => _mm256_srli_epi16::<2>(upper),
                };
                _mm256_or_si256(_mm256_and_si256(halves, mask), _mm256_and_si256(upper, bits))
            };
            [half(0), half(1)]
        };
        let levels = columns(pair);
        // The scales of each block's first 16 elements and of its last are the low and the high byte of a word.
        let scales = _mm256_cvtepi16_epi32(load_half(array(&bytes[SCALES..SCALE])));
        let of_first = _mm256_cvtepi32_ps(_mm256_srai_epi32::<24>(_mm256_slli_epi32::<24>(scales)));
        let of_last = _mm256_cvtepi32_ps(_mm256_srai_epi32::<8>(scales));
        let scale = _mm256_set1_ps(half_to_f32([bytes[SCALE], bytes[SCALE + 1]]));
        move |sum, x: &Columns| {
            let [first, last] = products_of_16::<63>(x, levels);
            let last = _mm256_mul_ps(_mm256_cvtepi32_ps(last), of_last);
            let products = _mm256_fmadd_ps(_mm256_cvtepi32_ps(first), of_first, last);
            _mm256_fmadd_ps(products, _mm256_mul_ps(scale, x.scales), sum)
        }
    });
}
