//! The scales and minima of Q4_K and Q5_K, and the activations in the order of their levels.

use crate::array::array;
use crate::quant::activations::RowStretch;
use crate::x86::avx2::registers::load_half;
use crate::x86::avx512::block_rows::{Sums, spread};
use crate::x86::avx512::registers::{indexes, load_8, load_64};
use crate::x86::walk::PrefetchPosition;
use std::arch::x86_64::*;

/// Of the eight scales, those of the two sub-blocks of register `q`; see [`Subs`].
const SUB_PAIRS: [[i32; 16]; 4] = spread([[0, 2], [1, 3], [4, 6], [5, 7]]);
/// The scale over eight lanes, the minimum over the other eight.
const SCALE_AND_MINIMUM: [[i32; 16]; 1] = spread([[0, 1]]);

/// A stretch of activations in the order of the halves of the bytes: sub-blocks 0 and 2, 1 and 3, 4 and 6, 5 and 7.
#[derive(Clone, Copy)]
pub(crate) struct Subs {
    values: [__m512i; 4],
    /// The eight scales, then the eight totals.
    factors: __m512,
}

// SAFETY: registers, of which zeros are values.
unsafe impl bytemuck::Zeroable for Subs {}

impl Subs {
    /// `odd`: how many times too large the levels of every second sub-block will be.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
    pub(crate) fn new(x: &RowStretch, odd: f32) -> Subs {
        let times = _mm256_blend_ps::<0b1010_1010>(_mm256_set1_ps(1.0), _mm256_set1_ps(1.0 / odd));
        let scales = _mm512_castps256_ps512(_mm256_mul_ps(load_8(&x.scales), times));
        let q = x.values.as_chunks::<64>().0;
        let [a, b, c, d] = [load_64(&q[0]), load_64(&q[1]), load_64(&q[2]), load_64(&q[3])];
        Subs {
            values: [
                _mm512_shuffle_i64x2::<0b01_00_01_00>(a, b),
                _mm512_shuffle_i64x2::<0b11_10_11_10>(a, b),
                _mm512_shuffle_i64x2::<0b01_00_01_00>(c, d),
                _mm512_shuffle_i64x2::<0b11_10_11_10>(c, d),
            ],
            factors: _mm512_insertf32x8::<1>(scales, load_8(&x.totals)),
        }
    }
}

/// Adds the products of a block, whose levels come in the order of [`Subs`]. The second sum gathers, in its upper half, what is
/// subtracted in the end.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
pub(crate) fn add<const BYTES: usize>(
    sums: Sums,
    block: &[u8; BYTES],
    levels: [__m512i; 4],
    x: &Subs,
    position: PrefetchPosition,
) -> Sums {
    let header = load_half(array(&block[..16]));
    // The scales from bytes 4 to 7 and 12 to 15, the minima from 8 to 11 and 12 to 15.
    let words = _mm_setr_epi8(4, 5, 6, 7, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15);
    let words = _mm_shuffle_epi8(header, words);
    // For each of the eight, the bit where its low part begins; then, for the last four, where its upper two do.
    let low = _mm_setr_epi8(0, 8, 16, 24, 32, 40, 48, 56, 0, 8, 16, 24, 36, 44, 52, 60);
    let low = _mm_multishift_epi64_epi8(low, words);
    let low = _mm_and_si128(low, _mm_set1_epi64x(0x0F0F_0F0F_3F3F_3F3F));
    let high = _mm_set1_epi64x(i64::from_le_bytes([0, 0, 0, 0, 2, 10, 18, 26]));
    let high = _mm_multishift_epi64_epi8(high, words);
    let high = _mm_and_si128(high, _mm_set1_epi64x(0x3030_3030_0000_0000));
    let sixes = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_or_si128(low, high)));
    let both = _mm512_castps128_ps512(_mm_cvtph_ps(header));
    let both = _mm512_permutexvar_ps(indexes(&SCALE_AND_MINIMUM[0]), both);
    let scales = _mm512_mul_ps(sixes, _mm512_mul_ps(both, x.factors));
    let [mut sum, minima] = sums;
    for (q, levels) in levels.into_iter().enumerate() {
        position.prefetch(block, q, 4);
        let products = _mm512_dpbusd_epi32(_mm512_setzero_si512(), levels, x.values[q]);
        let scale = _mm512_permutexvar_ps(indexes(&SUB_PAIRS[q]), scales);
        sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products), scale, sum);
    }
    [sum, _mm512_add_ps(minima, scales)]
}

/// The total of the sums that [`add`] makes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
pub(crate) fn total(sums: Sums) -> f32 {
    _mm512_reduce_add_ps(_mm512_mask_sub_ps(sums[0], 0xFF00, sums[0], sums[1]))
}
