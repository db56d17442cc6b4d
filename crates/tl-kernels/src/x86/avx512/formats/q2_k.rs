//! Dot products of rows in Q2_K.

use crate::array::array;
use crate::quant::activations::Prepared;
use crate::quant::formats::q2_k::{BYTES, LEVELS, SCALE};
use crate::quant::rows::Rows;
use crate::x86::avx512::block_rows;
use crate::x86::avx512::columns::{IN_ORDER, SplitColumns, words_of_16};
use crate::x86::avx512::super_blocks::{eights, halves_of_pairs, scales_of_16};
use crate::x86::avx512::two_bits::pairs_of_bits;
use std::arch::x86_64::*;

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
pub(crate) fn dot(rows: Rows<'_>, x: Prepared<'_>, out: &mut [f32]) {
    let (of_scales, of_minima) = (eights([0, 2]), eights([1, 3]));
    block_rows::rows(rows, x, out, |bytes: &[u8; 2 * BYTES], position| {
        let levels = pairs_of_bits(halves_of_pairs::<BYTES, LEVELS, _>(bytes, position));
        let [first, last] = scales_of_16::<BYTES, 0, _>(bytes, &IN_ORDER);
        let fours = |x| _mm_and_si128(x, _mm_set1_epi8(15));
        let upper = |x| fours(_mm_srli_epi16::<4>(x));
        let words = |first, last| words_of_16(_mm512_cvtepu8_epi32(first), _mm512_cvtepu8_epi32(last));
        let (scales, minima) = (words(fours(first), fours(last)), words(upper(first), upper(last)));
        // The scale and the minimum of the first block, then of the second.
        let both = |block: usize| i32::from_le_bytes(*array(&bytes[block * BYTES + SCALE..][..4]));
        let both = _mm512_castps128_ps512(_mm_cvtph_ps(_mm_setr_epi32(both(0), both(1), 0, 0)));
        let (scale, minimum) = (_mm512_permutexvar_ps(of_scales, both), _mm512_permutexvar_ps(of_minima, both));
        move |sum, x: &SplitColumns| {
            let products = _mm512_cvtepi32_ps(_mm512_madd_epi16(x.words::<false>(levels), scales));
            let sum = _mm512_fmadd_ps(products, _mm512_mul_ps(scale, x.scales()), sum);
            // The offset is one, so that what stands for it is minus the sums of the activations.
            let below = _mm512_cvtepi32_ps(_mm512_madd_epi16(x.words_of_offsets(), minima));
            _mm512_fmadd_ps(below, _mm512_mul_ps(minimum, x.scales()), sum)
        }
    });
}
