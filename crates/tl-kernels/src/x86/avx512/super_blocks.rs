//! Pieces of two blocks of 256 elements, as columns.
//!
//! Such a block has eight groups of 32 elements, of which two or four share their bytes. The first and the last 16 elements of a group
//! lie in 16 bytes each: these are quarters of registers. Words of both blocks are interleaved before the bits of the groups are told
//! apart, so that each register is rearranged once.

use super::columns::Order;
use crate::array::array;
use crate::x86::avx2::registers::{load_bytes, load_half};
use crate::x86::avx512::registers::load_64;
use crate::x86::walk::PrefetchPosition;
use std::arch::x86_64::*;

/// Of quarter `j`: groups `2 j` and `2 j + 1` of the first block and of the second.
pub(crate) const IN_PAIRS: Order = [0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15];
/// Of quarter `2 p + w`: groups `4 p + w` and `4 p + w + 2` of the first block and of the second.
pub(crate) const IN_PARTS: Order = [0, 8, 2, 10, 1, 9, 3, 11, 4, 12, 6, 14, 5, 13, 7, 15];

/// The 128 bytes at `AT` of two blocks of `BLOCK` bytes: for the first 16 elements of the groups, then for the last, the words of
/// both blocks in turns, the lower two of each quarter and the upper two.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(crate) fn quarters<const BLOCK: usize, const AT: usize, const BYTES: usize>(
    bytes: &[u8; BYTES],
    position: PrefetchPosition,
) -> [[__m512i; 2]; 2] {
    let halves = |block: usize| {
        position.prefetch(bytes, 2 * block, 4);
        let (a, b) = (at::<64, _>(bytes, block * BLOCK + AT), at::<64, _>(bytes, block * BLOCK + AT + 64));
        position.prefetch(bytes, 2 * block + 1, 4);
        evens_and_odds(load_64(a), load_64(b))
    };
    let ([first, last], [next_first, next_last]) = (halves(0), halves(1));
    [interleaved(first, next_first), interleaved(last, next_last)]
}

/// As [`quarters`], of 64 bytes with more bits of the groups that [`IN_PARTS`] has.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(crate) fn upper_quarters<const BLOCK: usize, const AT: usize, const BYTES: usize>(
    bytes: &[u8; BYTES],
) -> [[__m512i; 2]; 2] {
    let (a, b) = (load_64(at(bytes, AT)), load_64(at(bytes, BLOCK + AT)));
    let first = |x| _mm512_shuffle_i64x2::<0b10_10_00_00>(x, x);
    let last = |x| _mm512_shuffle_i64x2::<0b11_11_01_01>(x, x);
    [interleaved(first(a), first(b)), interleaved(last(a), last(b))]
}

/// As [`quarters`], of 32 bytes with a bit of each group.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(crate) fn halves_of_32<const BLOCK: usize, const AT: usize, const BYTES: usize>(
    bytes: &[u8; BYTES],
) -> [[__m512i; 2]; 2] {
    let half = |from: usize| _mm512_broadcast_i32x4(load_half(at(bytes, from)));
    let [first, last] = [half(AT), half(AT + 16)];
    [interleaved(first, half(BLOCK + AT)), interleaved(last, half(BLOCK + AT + 16))]
}

/// The columns of groups of which those of a quarter are, after [`quarters`], in `low` and `high`.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn two_columns(low: [__m512i; 4], high: [__m512i; 4]) -> [__m512i; 8] {
    let [a, b, c, d] = low;
    let [e, f, g, h] = high;
    [
        _mm512_unpacklo_epi64(a, e),
        _mm512_unpackhi_epi64(a, e),
        _mm512_unpacklo_epi64(b, f),
        _mm512_unpackhi_epi64(b, f),
        _mm512_unpacklo_epi64(c, g),
        _mm512_unpackhi_epi64(c, g),
        _mm512_unpacklo_epi64(d, h),
        _mm512_unpackhi_epi64(d, h),
    ]
}

/// The 64 bytes at `AT` of two blocks, in which four groups share their bytes: for the first 16 elements of the groups, those of both
/// blocks, then for the last.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(crate) fn halves_of_pairs<const BLOCK: usize, const AT: usize, const BYTES: usize>(
    bytes: &[u8; BYTES],
    position: PrefetchPosition,
) -> [__m512i; 2] {
    position.prefetch(bytes, 0, 2);
    let (a, b) = (load_64(at(bytes, AT)), load_64(at(bytes, BLOCK + AT)));
    position.prefetch(bytes, 1, 2);
    evens_and_odds(a, b)
}

/// Two blocks' scales of 16 elements each, from 16 bytes at `AT`: for each lane that of the first 16 elements of its group, and that of
/// the last.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi")]
pub(crate) fn scales_of_16<const BLOCK: usize, const AT: usize, const BYTES: usize>(
    bytes: &[u8; BYTES],
    order: &'static Order,
) -> [__m128i; 2] {
    let scales = |block: usize| load_half(at(bytes, block * BLOCK + AT));
    split_scales(_mm256_set_m128i(scales(1), scales(0)), order)
}

/// As [`scales_of_16`], from the scales of both blocks.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi")]
pub(crate) fn split_scales(scales: __m256i, order: &'static Order) -> [__m128i; 2] {
    let mut places = [0u8; 32];
    for (lane, group) in order.iter().enumerate() {
        (places[lane], places[16 + lane]) = (2 * group, 2 * group + 1);
    }
    let split = _mm256_permutexvar_epi8(load_bytes(&places), scales);
    [_mm256_castsi256_si128(split), _mm256_extracti128_si256::<1>(split)]
}

/// The number of each block over the lanes of its groups, one block after the other.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
pub(crate) fn of_blocks([first, second]: [f32; 2]) -> __m512 {
    _mm512_insertf32x8::<1>(_mm512_set1_ps(first), _mm256_set1_ps(second))
}

/// A number for each half, over its eight lanes.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
pub(crate) fn eights([a, b]: [i32; 2]) -> __m512i {
    _mm512_inserti32x8::<1>(_mm512_set1_epi32(a), _mm256_set1_epi32(b))
}

/// A number for each quarter, over its four lanes.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn by_quarters([a, b, c, d]: [i32; 4]) -> __m512i {
    _mm512_setr_epi32(a, a, a, a, b, b, b, b, c, c, c, c, d, d, d, d)
}

/// The even quarters of both, and the odd ones.
#[inline]
#[target_feature(enable = "avx512f")]
fn evens_and_odds(a: __m512i, b: __m512i) -> [__m512i; 2] {
    [_mm512_shuffle_i64x2::<0b10_00_10_00>(a, b), _mm512_shuffle_i64x2::<0b11_01_11_01>(a, b)]
}

/// The words of both in turns, those of the lower half of each quarter, then those of the upper.
#[inline]
#[target_feature(enable = "avx512f")]
fn interleaved(a: __m512i, b: __m512i) -> [__m512i; 2] {
    [_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b)]
}

/// `N` bytes from a place on.
#[inline(always)]
fn at<const N: usize, const BYTES: usize>(bytes: &[u8; BYTES], place: usize) -> &[u8; N] {
    array(&bytes[place..][..N])
}
