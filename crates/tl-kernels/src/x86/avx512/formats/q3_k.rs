//! Dot products of rows in Q3_K.

use crate::array::array;
use crate::quant::activations::Prepared;
use crate::quant::formats::q3_k::{BYTES, PAIRS, SCALE, SCALES};
use crate::quant::rows::Rows;
use crate::x86::avx2::formats::q3_k::sixes;
use crate::x86::avx2::registers::half_to_f32;
use crate::x86::avx512::block_rows;
use crate::x86::avx512::columns::{IN_ORDER, SplitColumns, words_of_16};
use crate::x86::avx512::super_blocks::{halves_of_pairs, of_blocks, split_scales};
use crate::x86::avx512::two_bits::{pairs_of_bits, thirds};
use std::arch::x86_64::*;

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
pub(crate) fn dot(rows: Rows<'_>, x: Prepared<'_>, out: &mut [f32]) {
    block_rows::rows(rows, x, out, |bytes: &[u8; 2 * BYTES], position| {
        let pairs = pairs_of_bits(halves_of_pairs::<BYTES, PAIRS, _>(bytes, position));
        let thirds = thirds::<BYTES, _>(bytes);
        let mut levels = pairs;
        for (level, third) in levels.iter_mut().zip(thirds) {
            *level = _mm512_or_si512(*level, third);
        }
        let sixes = |block: usize| sixes(array(&bytes[block * BYTES + SCALES - 4..][..16]));
        let [first, last] = split_scales(_mm256_set_m128i(sixes(1), sixes(0)), &IN_ORDER);
        let scales = words_of_16(_mm512_cvtepi8_epi32(first), _mm512_cvtepi8_epi32(last));
        let half = |block: usize| half_to_f32(*array(&bytes[block * BYTES + SCALE..][..2]));
        let scale = of_blocks([half(0), half(1)]);
        move |sum, x: &SplitColumns| {
            let products = _mm512_cvtepi32_ps(_mm512_madd_epi16(x.words::<true>(levels), scales));
            _mm512_fmadd_ps(products, _mm512_mul_ps(scale, x.scales()), sum)
        }
    });
}
