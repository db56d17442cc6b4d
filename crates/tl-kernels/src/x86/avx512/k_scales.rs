//! The scales and minima of Q4_K and Q5_K.

use super::super_blocks::IN_PAIRS;
use crate::array::array;
use crate::x86::avx2::registers::{load_bytes, load_half};
use crate::x86::avx512::registers::pair;
use std::arch::x86_64::*;

/// Where, among the scales and minima of two blocks, that of each lane is: the scales, then the minima.
const PLACES: [u8; 32] = {
    let mut places = [0; 32];
    let mut lane = 0;
    while lane < 16 {
        let (block, group) = (IN_PAIRS[lane] / 8, IN_PAIRS[lane] % 8);
        places[lane] = block * 16 + group;
        places[16 + lane] = block * 16 + 8 + group;
        lane += 1;
    }
    places
};

/// The scales of the groups of two blocks of `BYTES / 2` bytes, and minus their minima, in the order of [`IN_PAIRS`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,f16c")]
pub(crate) fn scales_and_minima<const BYTES: usize>(bytes: &[u8; BYTES]) -> (__m512, __m512) {
    let header = |block: usize| load_half(array(&bytes[block * BYTES / 2..][..16]));
    let headers = _mm256_set_m128i(header(1), header(0));
    // The scales from bytes 4 to 7 and 12 to 15, the minima from 8 to 11 and 12 to 15.
    let words = _mm_setr_epi8(4, 5, 6, 7, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15);
    let words = _mm256_shuffle_epi8(headers, _mm256_broadcastsi128_si256(words));
    // For each of the eight, the bit where its low part begins; then, for the last four, where its upper two do.
    let low = _mm_setr_epi8(0, 8, 16, 24, 32, 40, 48, 56, 0, 8, 16, 24, 36, 44, 52, 60);
    let low = _mm256_multishift_epi64_epi8(_mm256_broadcastsi128_si256(low), words);
    let low = _mm256_and_si256(low, _mm256_set1_epi64x(0x0F0F_0F0F_3F3F_3F3F));
    let high = _mm256_set1_epi64x(i64::from_le_bytes([0, 0, 0, 0, 2, 10, 18, 26]));
    let high = _mm256_multishift_epi64_epi8(high, words);
    let high = _mm256_and_si256(high, _mm256_set1_epi64x(0x3030_3030_0000_0000));
    let sixes = _mm256_permutexvar_epi8(load_bytes(&PLACES), _mm256_or_si256(low, high));
    let floats = |sixes: __m128i| _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(sixes));
    let (scales, minima) = (floats(_mm256_castsi256_si128(sixes)), floats(_mm256_extracti128_si256::<1>(sixes)));
    let [scale, minimum, next_scale, next_minimum] = halves_as_floats(headers);
    (_mm512_mul_ps(scales, pair(&[scale, next_scale])), _mm512_mul_ps(minima, pair(&[-minimum, -next_minimum])))
}

/// The first two `f16` of each header.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn halves_as_floats(headers: __m256i) -> [f32; 4] {
    let both = _mm_unpacklo_epi32(_mm256_castsi256_si128(headers), _mm256_extracti128_si256::<1>(headers));
    let floats = _mm_cvtph_ps(both);
    let next = _mm_movehl_ps(floats, floats);
    [
        _mm_cvtss_f32(floats),
        _mm_cvtss_f32(_mm_movehdup_ps(floats)),
        _mm_cvtss_f32(next),
        _mm_cvtss_f32(_mm_movehdup_ps(next)),
    ]
}
