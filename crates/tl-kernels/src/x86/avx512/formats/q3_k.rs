//! Dot products of rows in Q3_K.

use crate::array::array;
use crate::quant::activations::Row;
use crate::quant::codec::BlockCodec;
use crate::quant::formats::q3_k::{BYTES, Format, PAIRS, SCALE, SCALES};
use crate::quant::rows::Rows;
use crate::x86::avx2::registers::{half_to_f32, load_bytes, load_half};
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
        |[x]| Quarters::new(x, Format::OFFSET),
        |[sum, below], bytes: &[u8; BYTES], x, position| {
            let bits = load_64(array(&bytes[PAIRS..SCALES]));
            let high = _mm512_srli_epi16::<4>(bits);
            // Bit `i` of a byte of the lower half, and bit `i + 4` of one of the upper half, are at place `i`.
            let thirds = _mm512_broadcast_i64x4(load_bytes(array(&bytes[..PAIRS])));
            let thirds = _mm512_mask_srli_epi16::<4>(thirds, 0xFFFF_0000, thirds);
            let with_third = |[pairs, pair]: [__m512i; 2], [thirds, third]: [__m512i; 2]| {
                _mm512_or_si512(_mm512_and_si512(pairs, pair), _mm512_and_si512(thirds, third))
            };
            let (pair, third) = (_mm512_set1_epi8(0b0_0011), _mm512_set1_epi8(0b0_0100));
            let (next_pair, next_third) = (_mm512_set1_epi8(0b0_1100), _mm512_set1_epi8(0b1_0000));
            let levels = [
                with_third([bits, pair], [_mm512_slli_epi16::<2>(thirds), third]),
                with_third([bits, next_pair], [_mm512_slli_epi16::<3>(thirds), next_third]),
                with_third([high, pair], [thirds, third]),
                with_third([high, next_pair], [_mm512_slli_epi16::<1>(thirds), next_third]),
            ];
            // In both halves the first eight bytes of the scales, and the last four twice.
            let header = load_half(array(&bytes[SCALES - 4..SCALE]));
            let first = _mm_shuffle_epi8(header, _mm_setr_epi8(4, 5, 6, 7, 8, 9, 10, 11, 4, 5, 6, 7, 8, 9, 10, 11));
            let last = _mm_shuffle_epi32::<0b11_11_11_11>(header);
            let low = _mm_multishift_epi64_epi8(load_half(&LOW_BITS), first);
            let upper = _mm_multishift_epi64_epi8(load_half(&UPPER_BITS), last);
            let low = _mm_and_si128(low, _mm_set1_epi8(15));
            let sixes = _mm_or_si128(low, _mm_and_si128(upper, _mm_set1_epi8(0x30)));
            let scales = _mm512_sub_epi16(words_of_lanes(sixes), _mm512_set1_epi16(32));
            let sixes = _mm256_sub_epi16(_mm256_cvtepu8_epi16(sixes), _mm256_set1_epi16(32));
            let scale = half_to_f32([bytes[SCALE], bytes[SCALE + 1]]);
            [add_products(sum, bytes, levels, (scales, scale), x, position), subtract_sums(below, (sixes, scale), x)]
        },
        |sums| block_rows::total(sums),
    );
}

/// For each scale, the bit where its lower four begin among the first eight bytes.
const LOW_BITS: [u8; 16] = [0, 8, 16, 24, 32, 40, 48, 56, 4, 12, 20, 28, 36, 44, 52, 60];

/// The bit four before the one where its upper two begin, among the last four bytes, which are there twice.
const UPPER_BITS: [u8; 16] = [28, 4, 12, 20, 30, 6, 14, 22, 0, 8, 16, 24, 2, 10, 18, 26];
