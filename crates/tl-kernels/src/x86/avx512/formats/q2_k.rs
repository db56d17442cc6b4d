//! Dot products of rows in Q2_K.

use crate::array::array;
use crate::quant::activations::Prepared;
use crate::quant::formats::q2_k::{BYTES, LEVELS, MINIMUM, SCALE};
use crate::quant::rows::Rows;
use crate::x86::avx2::registers::half_to_f32;
use crate::x86::avx512::block_rows;
use crate::x86::avx512::columns::{IN_ORDER, SplitColumns, words_of_16};
use crate::x86::avx512::super_blocks::{halves_of_pairs, of_blocks, scales_of_16};
use crate::x86::avx512::two_bits::pairs_of_bits;
use std::arch::x86_64::*;

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
pub(crate) fn dot(rows: Rows<'_>, x: Prepared<'_>, out: &mut [f32]) {
    block_rows::rows(rows, x, out, |bytes: &[u8; 2 * BYTES], position| {
        let levels = pairs_of_bits(halves_of_pairs::<BYTES, LEVELS, _>(bytes, position));
        let [first, last] = scales_of_16::<BYTES, 0, _>(bytes, &IN_ORDER);
        let fours = |x| _mm_and_si128(x, _mm_set1_epi8(15));
        let upper = |x| fours(_mm_srli_epi16::<4>(x));
        let words = |first, last| words_of_16(_mm512_cvtepu8_epi32(first), _mm512_cvtepu8_epi32(last));
        let (scales, minima) = (words(fours(first), fours(last)), words(upper(first), upper(last)));
        let half = |block: usize, at: usize| half_to_f32(*array(&bytes[block * BYTES + at..][..2]));
        let scale = of_blocks([half(0, SCALE), half(1, SCALE)]);
        let minimum = of_blocks([half(0, MINIMUM), half(1, MINIMUM)]);
        move |sum, x: &SplitColumns| {
            let products = _mm512_cvtepi32_ps(_mm512_madd_epi16(x.words::<false>(levels), scales));
            let sum = _mm512_fmadd_ps(products, _mm512_mul_ps(scale, x.scales()), sum);
            // The offset is one, so that what stands for it is minus the sums of the activations.
            let below = _mm512_cvtepi32_ps(_mm512_madd_epi16(x.words_of_offsets(), minima));
            _mm512_fmadd_ps(below, _mm512_mul_ps(minimum, x.scales()), sum)
        }
    });
}
