//! Dot products of rows in IQ4_XS.

use crate::array::array;
use crate::quant::activations::Row;
use crate::quant::codec::BlockCodec;
use crate::quant::formats::iq4_nl::UNSIGNED;
use crate::quant::formats::iq4_xs::{BYTES, Format, NUMBERS};
use crate::quant::rows::Rows;
use crate::x86::avx2::registers::{half_to_f32, load_half};
use crate::x86::avx512::block_rows;
use crate::x86::avx512::nibbles::{Halves, add_products, over_four};
use crate::x86::avx512::registers::load_64;
use std::arch::x86_64::*;

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
pub(crate) fn dot(rows: Rows<'_>, x: Row<'_>, out: &mut [f32]) {
    let levels = _mm512_broadcast_i32x4(load_half(&UNSIGNED));
    block_rows::rows(
        rows,
        x,
        out,
        |[x]| Halves::new(x, Format::OFFSET),
        |sums, bytes: &[u8; BYTES], x, position| {
            // For each of the eight scales, the bit where its lower four begin, and the one four before its upper two.
            let header = _mm_set1_epi64x(i64::from_le_bytes(*array(&bytes[..NUMBERS])));
            let lower = _mm_set1_epi64x(i64::from_le_bytes([32, 36, 40, 44, 48, 52, 56, 60]));
            let upper = _mm_set1_epi64x(i64::from_le_bytes([12, 14, 16, 18, 20, 22, 24, 26]));
            let lower = _mm_and_si128(_mm_multishift_epi64_epi8(lower, header), _mm_set1_epi8(15));
            let upper = _mm_and_si128(_mm_multishift_epi64_epi8(upper, header), _mm_set1_epi8(0x30));
            let sixes = _mm_sub_epi8(_mm_or_si128(lower, upper), _mm_set1_epi8(32));
            let sixes = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(sixes));
            let scales = _mm256_mul_ps(sixes, _mm256_set1_ps(half_to_f32([bytes[0], bytes[1]])));
            add_products(sums, x, |h| {
                position.prefetch(bytes, 2 * h, 4);
                let numbers = load_64(array(&bytes[NUMBERS + 64 * h..][..64]));
                let mask = _mm512_set1_epi8(15);
                let numbers =
                    [_mm512_and_si512(numbers, mask), _mm512_and_si512(_mm512_srli_epi16::<4>(numbers), mask)];
                let values = [_mm512_shuffle_epi8(levels, numbers[0]), _mm512_shuffle_epi8(levels, numbers[1])];
                position.prefetch(bytes, 2 * h + 1, 4);
                (values, over_four(scales, h))
            })
        },
        |sums| block_rows::total(sums),
    );
}
