//! The scales and minima of Q4_K and Q5_K, and the activations in the order of their levels.

use crate::array::array;
use crate::x86::avx2::block_rows::{Columns, add_minima, add_scaled};
use crate::x86::avx2::registers::load_half;
use std::arch::x86_64::*;

/// The scales and the minima of the eight groups of a block.
#[derive(Clone, Copy)]
pub(crate) struct Scales {
    scales: __m256,
    minima: __m256,
}

impl Scales {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(crate) fn of<const BYTES: usize>(block: &[u8; BYTES]) -> Scales {
        let header = load_half(array(&block[..16]));
        // Of the scales, then of the minima, the first four and the last four: bytes 4 to 7 and 12 to 15, 8 to 11 and 12 to 15.
        let low = _mm_srlv_epi32(_mm_shuffle_epi32::<0b11_10_11_01>(header), _mm_setr_epi32(0, 0, 0, 4));
        let low = _mm_and_si128(low, _mm_set1_epi64x(0x0F0F_0F0F_3F3F_3F3F));
        // The upper two bits of the last four are those of the first four's bytes.
        let high = _mm_srli_epi32::<2>(_mm_shuffle_epi32::<0b10_10_01_01>(header));
        let high = _mm_and_si128(high, _mm_set1_epi64x(0x3030_3030_0000_0000));
        let sixes = _mm_or_si128(low, high);
        let float = |sixes: __m128i| _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(sixes));
        let both = _mm_cvtph_ps(header);
        let scales = _mm256_mul_ps(float(sixes), _mm256_broadcastss_ps(both));
        let minimum = _mm256_broadcastss_ps(_mm_movehdup_ps(_mm_sub_ps(_mm_setzero_ps(), both)));
        let minima = _mm256_mul_ps(float(_mm_unpackhi_epi64(sixes, sixes)), minimum);
        Scales { scales, minima }
    }

    /// Adds the products of a block's levels, in its scales, and its minima.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(crate) fn add(self, sum: __m256, products: __m256i, x: &Columns) -> __m256 {
        add_minima(add_scaled(sum, x, products, self.scales), x, self.minima)
    }
}
