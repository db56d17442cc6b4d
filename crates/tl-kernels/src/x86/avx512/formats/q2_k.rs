//! Dot products of rows in Q2_K.

use crate::array::array;
use crate::quant::activations::Row;
use crate::quant::formats::q2_k::{BYTES, LEVELS, MINIMUM, SCALE};
use crate::quant::rows::Rows;
use crate::x86::avx2::registers::{half_to_f32, load_half};
use crate::x86::avx512::block_rows;
use crate::x86::avx512::registers::load_64;
use crate::x86::avx512::two_bits::{Quarters, add_products, subtract_sums, words_of_lanes};
use std::arch::x86_64::*;

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
pub(crate) fn dot(rows: Rows<'_>, x: Row<'_>, out: &mut [f32]) {
    block_rows::rows(
        rows,
        x,
        out,
        |[x]| Quarters::new(x, 1),
        |[sum, below], bytes: &[u8; BYTES], x, position| {
            let bits = load_64(array(&bytes[LEVELS..SCALE]));
            let high = _mm512_srli_epi16::<4>(bits);
            let (first, second) = (_mm512_set1_epi8(0b0011), _mm512_set1_epi8(0b1100));
            let levels = [
                _mm512_and_si512(bits, first),
                _mm512_and_si512(bits, second),
                _mm512_and_si512(high, first),
                _mm512_and_si512(high, second),
            ];
            let header = load_half(array(&bytes[..LEVELS]));
            let scales = words_of_lanes(_mm_and_si128(header, _mm_set1_epi8(15)));
            let minima = _mm256_srli_epi16::<4>(_mm256_cvtepu8_epi16(header));
            let scale = half_to_f32([bytes[SCALE], bytes[SCALE + 1]]);
            let minimum = half_to_f32([bytes[MINIMUM], bytes[MINIMUM + 1]]);
            [add_products(sum, bytes, levels, (scales, scale), x, position), subtract_sums(below, (minima, minimum), x)]
        },
        |sums| block_rows::total(sums),
    );
}
