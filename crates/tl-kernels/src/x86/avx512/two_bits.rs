//! Levels in pairs of bits, and the third bits beside them, of two blocks of 256 elements, as columns.

use super::columns::four_columns;
use super::super_blocks::by_quarters;
use crate::array::array;
use crate::x86::avx2::registers::load_half;
use std::arch::x86_64::*;

/// The columns of the groups whose pairs of bits [`halves_of_pairs`](super::super_blocks::halves_of_pairs) gives.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(crate) fn pairs_of_bits([first, last]: [__m512i; 2]) -> [__m512i; 8] {
    let mask = _mm512_set1_epi8(3);
    let four = |x| {
        let next = [_mm512_srli_epi16::<2>(x), _mm512_srli_epi16::<4>(x), _mm512_srli_epi16::<6>(x)];
        four_columns([x, next[0], next[1], next[2]])
    };
    let ([a, b, c, d], [e, f, g, h]) = (four(first), four(last));
    let pair = |x| _mm512_and_si512(x, mask);
    [pair(a), pair(b), pair(c), pair(d), pair(e), pair(f), pair(g), pair(h)]
}

/// The columns of the same groups' third bits, times four: bit `s` of byte `j` of the first 32 of a block is that of element `j` of group
/// `s`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(crate) fn thirds<const BLOCK: usize, const BYTES: usize>(bytes: &[u8; BYTES]) -> [__m512i; 8] {
    let mask = _mm512_set1_epi8(4);
    let (by_four, half) = (by_quarters([0, 4, 0, 4]), |from: usize| load_half(array(&bytes[from..][..16])));
    let four = |from: usize| {
        let both = _mm256_set_m128i(half(BLOCK + from), half(from));
        // Each half twice: for groups 0 to 3, and for groups 4 to 7.
        let both = _mm512_castsi256_si512(both);
        let bits = _mm512_srlv_epi32(_mm512_shuffle_i64x2::<0b01_01_00_00>(both, both), by_four);
        let next = [_mm512_slli_epi16::<1>(bits), _mm512_srli_epi16::<1>(bits)];
        four_columns([_mm512_slli_epi16::<2>(bits), next[0], bits, next[1]])
    };
    let ([a, b, c, d], [e, f, g, h]) = (four(0), four(16));
    let third = |x| _mm512_and_si512(x, mask);
    [third(a), third(b), third(c), third(d), third(e), third(f), third(g), third(h)]
}
