//! Elements in halves of bytes, as registers.

use crate::array::array;
use crate::x86::avx2::block_rows::both;
use crate::x86::walk::PrefetchPosition;
use std::arch::x86_64::*;

/// The halves of blocks `i` and `i + 4` of eight, of `BLOCK` bytes each, whose 16 bytes begin at `AT`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn pair<const BLOCK: usize, const AT: usize, const BYTES: usize>(
    bytes: &[u8; BYTES],
    i: usize,
    position: PrefetchPosition,
) -> [__m256i; 2] {
    position.prefetch(bytes, i, 4);
    let halves = both(array(&bytes[i * BLOCK + AT..][..16]), array(&bytes[(i + 4) * BLOCK + AT..][..16]));
    let mask = _mm256_set1_epi8(15);
    [_mm256_and_si256(halves, mask), _mm256_and_si256(_mm256_srli_epi16::<4>(halves), mask)]
}

/// The halves of sub-blocks `i` and `i + 4` of the groups of Q4_K and Q5_K, whose 128 bytes begin at `AT`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn pair_of_groups<const AT: usize, const BYTES: usize>(
    bytes: &[u8; BYTES],
    i: usize,
    position: PrefetchPosition,
) -> [__m256i; 2] {
    position.prefetch(bytes, i, 4);
    [0, 1].map(|last| {
        let at = AT + i / 2 * 32 + last * 16;
        let halves = both(array(&bytes[at..][..16]), array(&bytes[at + 64..][..16]));
        let halves = if i.is_multiple_of(2) { halves } else { _mm256_srli_epi16::<4>(halves) };
        _mm256_and_si256(halves, _mm256_set1_epi8(15))
    })
}

/// Adds 16 where the fifth bits, four bytes at `AT` of each block, say so.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn add_fifths<const BLOCK: usize, const AT: usize, const BYTES: usize>(
    bytes: &[u8; BYTES],
    i: usize,
    halves: [__m256i; 2],
) -> [__m256i; 2] {
    let bits = |b: usize| _mm256_set1_epi32(i32::from_le_bytes(*array(&bytes[b * BLOCK + AT..][..4])));
    let bits = _mm256_blend_epi32::<0b1111_0000>(bits(i), bits(i + 4));
    let bit = _mm256_set1_epi64x(i64::from_le_bytes([1, 2, 4, 8, 16, 32, 64, 128]));
    [0, 1].map(|last| {
        let byte = 0x0202_0202_0202_0202 * last as i64;
        let (first, second) = (byte, byte + 0x0101_0101_0101_0101);
        let spread = _mm256_shuffle_epi8(bits, _mm256_set_epi64x(second, first, second, first));
        let set = _mm256_cmpeq_epi8(_mm256_and_si256(spread, bit), bit);
        _mm256_or_si256(halves[last], _mm256_and_si256(set, _mm256_set1_epi8(16)))
    })
}
