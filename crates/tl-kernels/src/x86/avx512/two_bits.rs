//! Levels in pairs of bits, and the third bits beside them, of two blocks of 256 elements, as columns.
//!
//! Four groups share their bytes, and a column has the same words of them in neighbouring lanes: so it is a word of each quarter, four
//! times, with each lane's bits shifted to their place.

use crate::array::array;
use crate::x86::avx2::registers::load_half;
use std::arch::x86_64::*;

/// The columns of the groups whose pairs of bits [`halves_of_pairs`](super::super_blocks::halves_of_pairs) gives.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn pairs_of_bits([first, last]: [__m512i; 2]) -> [__m512i; 8] {
    let (to_place, mask) = (_mm512_broadcast_i32x4(_mm_setr_epi32(0, 2, 4, 6)), _mm512_set1_epi8(3));
    let pair = |words| _mm512_and_si512(_mm512_srlv_epi32(words, to_place), mask);
    let ([a, b, c, d], [e, f, g, h]) = (words_of_quarters(first), words_of_quarters(last));
    [pair(a), pair(b), pair(c), pair(d), pair(e), pair(f), pair(g), pair(h)]
}

/// The columns of the same groups' third bits, times four: bit `s` of byte `j` of the first 32 of a block is that of element `j` of group
/// `s`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(crate) fn thirds<const BLOCK: usize, const BYTES: usize>(bytes: &[u8; BYTES]) -> [__m512i; 8] {
    // Place 2 is that of group 2; the quarters have groups 0 to 3 and 4 to 7 of the first block, then of the second.
    let to_place = _mm512_setr_epi32(2, 1, 0, 31, 30, 29, 28, 27, 2, 1, 0, 31, 30, 29, 28, 27);
    let (mask, half) = (_mm512_set1_epi8(4), |from: usize| load_half(array(&bytes[from..][..16])));
    let four = |from: usize| {
        let both = _mm512_castsi256_si512(_mm256_set_m128i(half(BLOCK + from), half(from)));
        words_of_quarters(_mm512_shuffle_i64x2::<0b01_01_00_00>(both, both))
    };
    let third = |words| _mm512_and_si512(_mm512_rolv_epi32(words, to_place), mask);
    let ([a, b, c, d], [e, f, g, h]) = (four(0), four(16));
    [third(a), third(b), third(c), third(d), third(e), third(f), third(g), third(h)]
}

/// For each of the four words of a quarter, that word four times.
#[inline]
#[target_feature(enable = "avx512f")]
fn words_of_quarters(x: __m512i) -> [__m512i; 4] {
    [
        _mm512_shuffle_epi32::<0b00_00_00_00>(x),
        _mm512_shuffle_epi32::<0b01_01_01_01>(x),
        _mm512_shuffle_epi32::<0b10_10_10_10>(x),
        _mm512_shuffle_epi32::<0b11_11_11_11>(x),
    ]
}
