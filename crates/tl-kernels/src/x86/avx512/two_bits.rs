//! Levels in pairs of bits, as registers.

use crate::quant::activations::RowStretch;
use crate::x86::avx2::registers::load_bytes;
use crate::x86::avx512::registers::{load_8, load_16, load_64};
use crate::x86::walk::PrefetchPosition;
use std::arch::x86_64::*;

/// The group of 16 elements whose products a lane ends up with; see [`add_products`].
const GROUP_OF_LANE: [u8; 16] = [0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15];

/// Where the scale of each lane is among the bytes of 16, for both words of a lane; the upper byte of a word is none.
const SCALES_OF_WORDS: [u8; 64] = {
    let mut places = [0x80; 64];
    let mut word = 0;
    while word < 32 {
        places[2 * word] = GROUP_OF_LANE[word / 2];
        word += 1;
    }
    places
};

/// A stretch of activations in the order of pairs of bits: blocks `i` and `i + 4` of 32 elements side by side.
#[derive(Clone, Copy)]
pub(crate) struct Quarters {
    values: [__m512i; 4],
    /// By lanes: the scale of each group; that of every second block for levels that are four times too large.
    scales: __m512,
    /// The offset times the sum of each 16 values, as words.
    sums: __m256i,
    /// The scale of each block.
    block_scales: __m256,
}

// SAFETY: registers, of which zeros are values.
unsafe impl bytemuck::Zeroable for Quarters {}

impl Quarters {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
    pub(crate) fn new(x: &RowStretch, offset: u8) -> Quarters {
        let q = x.values.as_chunks::<64>().0;
        let [a, b, c, d] = [load_64(&q[0]), load_64(&q[1]), load_64(&q[2]), load_64(&q[3])];
        let mut scales = [0.0; 16];
        for (scale, &group) in scales.iter_mut().zip(&GROUP_OF_LANE) {
            let block = usize::from(group / 2);
            *scale = if block.is_multiple_of(2) { x.scales[block] } else { x.scales[block] / 4.0 };
        }
        Quarters {
            values: [
                _mm512_shuffle_i64x2::<0b01_00_01_00>(a, c),
                _mm512_shuffle_i64x2::<0b11_10_11_10>(a, c),
                _mm512_shuffle_i64x2::<0b01_00_01_00>(b, d),
                _mm512_shuffle_i64x2::<0b11_10_11_10>(b, d),
            ],
            scales: load_16(&scales),
            // At most 7 * 16 * 127.
            sums: load_bytes(&bytemuck::cast::<_, [u8; 32]>(x.sums.map(|sum| sum as i16 * i16::from(offset)))),
            block_scales: load_8(&x.scales),
        }
    }
}

/// Adds the products of a block. The levels come in the order of [`Quarters`]: at most 7, and four times as large in every
/// second register. So eight products stay below 2^15, and four registers shrink to one before there are floats.
/// `groups` are the scales of the groups, as [`words_of_lanes`] gives them, in units of `scale`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
pub(crate) fn add_products<const BYTES: usize>(
    sum: __m512,
    bytes: &[u8; BYTES],
    levels: [__m512i; 4],
    (groups, scale): (__m512i, f32),
    x: &Quarters,
    position: PrefetchPosition,
) -> __m512 {
    let four = |i: usize| {
        position.prefetch(bytes, i, 4);
        _mm512_dpbusd_epi32(_mm512_setzero_si512(), levels[i], x.values[i])
    };
    let halve = |a: __m512i, b: __m512i, times: __m512i| _mm512_madd_epi16(_mm512_packs_epi32(a, b), times);
    let ones = _mm512_set1_epi16(1);
    let (first, last) = (halve(four(0), four(1), ones), halve(four(2), four(3), ones));
    let products = _mm512_cvtepi32_ps(halve(first, last, groups));
    _mm512_fmadd_ps(products, _mm512_mul_ps(x.scales, _mm512_set1_ps(scale)), sum)
}

/// Subtracts what the offset or the minima of a block come to, from a sum of which the lower half counts. `groups` are words,
/// in units of `scale`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
pub(crate) fn subtract_sums(sum: __m512, (groups, scale): (__m256i, f32), x: &Quarters) -> __m512 {
    let sums = _mm256_cvtepi32_ps(_mm256_madd_epi16(groups, x.sums));
    let scales = _mm256_mul_ps(x.block_scales, _mm256_set1_ps(scale));
    _mm512_zextps256_ps512(_mm256_fnmadd_ps(sums, scales, _mm512_castps512_ps256(sum)))
}

/// The bytes of 16 groups as the words that [`add_products`] multiplies by.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
pub(crate) fn words_of_lanes(groups: __m128i) -> __m512i {
    _mm512_shuffle_epi8(_mm512_broadcast_i32x4(groups), load_64(&SCALES_OF_WORDS))
}
