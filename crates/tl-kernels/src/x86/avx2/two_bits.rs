//! Levels in pairs of bits, as registers.

use crate::array::array;
use crate::x86::avx2::block_rows::both;
use crate::x86::walk::PrefetchPosition;
use std::arch::x86_64::*;

/// The levels of blocks `i` and `i + 4`, whose 64 bytes begin at `AT`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn pair<const AT: usize, const BYTES: usize>(
    bytes: &[u8; BYTES],
    i: usize,
    position: PrefetchPosition,
) -> [__m256i; 2] {
    position.prefetch(bytes, i, 4);
    let first = both(array(&bytes[AT..][..16]), array(&bytes[AT + 32..][..16]));
    let last = both(array(&bytes[AT + 16..][..16]), array(&bytes[AT + 48..][..16]));
    [bits(first, i), bits(last, i)]
}

/// Bits `2 i` and `2 i + 1` of each byte.
#[inline]
#[target_feature(enable = "avx2")]
fn bits(bytes: __m256i, i: usize) -> __m256i {
    let bits = match i {
        0 => bytes,
        1 => _mm256_srli_epi16::<2>(bytes),
        2 => _mm256_srli_epi16::<4>(bytes),
        _ => _mm256_srli_epi16::<6>(bytes),
    };
    _mm256_and_si256(bits, _mm256_set1_epi8(3))
}

/// Of each block, its first number times the first of its scales and its last number times the last, where no number
/// exceeds 16 bits. The scales are words, two for each block.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn scaled([first, last]: [__m256i; 2], scales: __m256i) -> __m256i {
    _mm256_madd_epi16(_mm256_blend_epi16::<0b1010_1010>(first, _mm256_slli_epi32::<16>(last)), scales)
}
