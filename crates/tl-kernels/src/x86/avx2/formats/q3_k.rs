//! Dot products of rows in Q3_K.

use crate::array::array;
use crate::quant::activations::Prepared;
use crate::quant::formats::q3_k::{BYTES, PAIRS, SCALE, SCALES};
use crate::quant::rows::Rows;
use crate::x86::avx2::block_rows;
use crate::x86::avx2::block_rows::{Columns, columns, products_of_16};
use crate::x86::avx2::registers::{half_to_f32, load_half};
use crate::x86::avx2::two_bits::{pair, scaled};
use std::arch::x86_64::*;

#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn dot(rows: Rows<'_>, x: Prepared<'_>, out: &mut [f32]) {
    block_rows::rows(rows, x, out, |bytes: &[u8; BYTES], position| {
        let (first, last) = (thirds(array(&bytes[..16])), thirds(array(&bytes[16..PAIRS])));
        let with_third = |i: usize| {
            let levels = pair::<PAIRS, _>(bytes, i, position);
            [add_third(levels[0], first, i), add_third(levels[1], last, i)]
        };
        let sixes = sixes(array(&bytes[SCALES - 4..SCALE]));
        let (levels, scales) = (columns(with_third), _mm256_cvtepi8_epi16(sixes));
        let scale = _mm256_set1_ps(half_to_f32([bytes[SCALE], bytes[SCALE + 1]]));
        move |sum, x: &Columns| {
            let products = scaled(products_of_16::<7>(x, levels), scales);
            _mm256_fmadd_ps(_mm256_cvtepi32_ps(products), _mm256_mul_ps(scale, x.scales), sum)
        }
    });
}

/// The 16 scales of a block, whose 12 bytes are the last of these.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn sixes(bytes: &[u8; 16]) -> __m128i {
    // The lower four bits of 16 scales from bytes 0 to 7, the upper two from bytes 8 to 11.
    let header = load_half(bytes);
    let words = _mm_srli_si128::<4>(header);
    let mask = _mm_set1_epi8(15);
    let low = _mm_unpacklo_epi64(_mm_and_si128(words, mask), _mm_and_si128(_mm_srli_epi16::<4>(words), mask));
    let high = _mm_srlv_epi32(_mm_shuffle_epi32::<0b11_11_11_11>(header), _mm_setr_epi32(0, 2, 4, 6));
    let high = _mm_slli_epi16::<4>(_mm_and_si128(high, _mm_set1_epi8(3)));
    _mm_sub_epi8(_mm_or_si128(low, high), _mm_set1_epi8(32))
}

/// The third bits of 16 elements: bit `i` of a byte of the lower half, and bit `i + 4` of one of the upper half, at place `i`.
#[inline]
#[target_feature(enable = "avx2")]
fn thirds(bytes: &[u8; 16]) -> __m256i {
    let bits = _mm256_broadcastsi128_si256(load_half(bytes));
    _mm256_blend_epi32::<0b1111_0000>(bits, _mm256_srli_epi16::<4>(bits))
}

/// Adds 4 where bit `i` of [`thirds`] says so.
#[inline]
#[target_feature(enable = "avx2")]
fn add_third(levels: __m256i, thirds: __m256i, i: usize) -> __m256i {
    let bits = match i {
        0 => _mm256_slli_epi16::<2>(thirds),
        1 => _mm256_slli_epi16::<1>(thirds),
        2 => thirds,
        _ => _mm256_srli_epi16::<1>(thirds),
    };
    _mm256_or_si256(levels, _mm256_and_si256(bits, _mm256_set1_epi8(4)))
}
