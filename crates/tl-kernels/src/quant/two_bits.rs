//! Levels in pairs of bits, as Q2_K and Q3_K keep them: in each 128 elements, bits `2 i` and `2 i + 1` of byte `j` of 32
//! belong to element `32 i + j`. Both have scales for 16 elements each.
#![allow(unsafe_code)]

/// 64 bytes as 256 values of 0 to 3.
#[inline(always)]
pub(crate) fn unpack_pairs(bytes: &[u8], values: &mut [u8]) {
    for (bytes, values) in bytes.chunks_exact(32).zip(values.chunks_exact_mut(128)) {
        for (i, values) in values.chunks_exact_mut(32).enumerate() {
            for (value, byte) in values.iter_mut().zip(bytes) {
                *value = byte >> (2 * i) & 3;
            }
        }
    }
}

/// Packs the lowest two bits of 256 values.
pub(crate) fn pack_pairs(values: &[u8; 256], bytes: &mut [u8]) {
    for (values, bytes) in values.as_chunks::<128>().0.iter().zip(bytes.chunks_exact_mut(32)) {
        for (j, byte) in bytes.iter_mut().enumerate() {
            *byte = (0..4).fold(0, |bits, i| bits | (values[32 * i + j] & 3) << (2 * i));
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2 {
    use crate::quant::block::array;
    use crate::quant::dot::Place;
    use crate::quant::dot::pairs::both;
    use std::arch::x86_64::*;

    /// The levels of blocks `i` and `i + 4`, whose 64 bytes begin at `AT`.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(crate) fn pair<const AT: usize, const BYTES: usize>(
        bytes: &[u8; BYTES],
        i: usize,
        place: Place,
    ) -> [__m256i; 2] {
        place.ask_ahead(bytes, i, 4);
        [AT, AT + 16].map(|at| {
            let bits = both(array(&bytes[at..][..16]), array(&bytes[at + 32..][..16]));
            let bits = match i {
                0 => bits,
                1 => _mm256_srli_epi16::<2>(bits),
                2 => _mm256_srli_epi16::<4>(bits),
                _ => _mm256_srli_epi16::<6>(bits),
            };
            _mm256_and_si256(bits, _mm256_set1_epi8(3))
        })
    }

    /// Of each block, its first number times the first of its scales and its last number times the last, where no number
    /// exceeds 16 bits. The scales are words, two for each block.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(crate) fn scaled([first, last]: [__m256i; 2], scales: __m256i) -> __m256i {
        _mm256_madd_epi16(_mm256_blend_epi16::<0b1010_1010>(first, _mm256_slli_epi32::<16>(last)), scales)
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512 {
    use crate::quant::activations::RowStretch;
    use crate::quant::dot::Place;
    use crate::quant::dot::avx512::{load_16, load_64};
    use std::arch::x86_64::*;

    /// The group of 16 elements whose products a lane ends up with; see [`products`].
    pub(crate) const GROUP_OF_LANE: [u8; 16] = [0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15];

    /// A stretch of activations in the order of pairs of bits: blocks `i` and `i + 4` of 32 elements side by side.
    #[derive(Clone, Copy)]
    pub(crate) struct Quarters {
        values: [__m512i; 4],
        /// By lanes: the scale of each group; that of every second block for levels that are four times too large.
        pub(crate) scales: __m512,
        /// By lanes: minus the offset times the sum of each group as it is meant.
        pub(crate) corrections: __m512,
    }

    // SAFETY: registers, of which zeros are values.
    unsafe impl bytemuck::Zeroable for Quarters {}

    impl Quarters {
        #[inline]
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
        pub(crate) fn new(x: &RowStretch, offset: u8) -> Quarters {
            let q = x.values.as_chunks::<64>().0;
            let [a, b, c, d] = [load_64(&q[0]), load_64(&q[1]), load_64(&q[2]), load_64(&q[3])];
            let (mut scales, mut corrections) = ([0.0; 16], [0.0; 16]);
            for (lane, &group) in GROUP_OF_LANE.iter().enumerate() {
                let (group, block) = (usize::from(group), usize::from(group / 2));
                scales[lane] = if block % 2 == 0 { x.scales[block] } else { x.scales[block] / 4.0 };
                corrections[lane] = x.scales[block] * (-i32::from(offset) * x.sums[group]) as f32;
            }
            Quarters {
                values: [
                    _mm512_shuffle_i64x2::<0b01_00_01_00>(a, c),
                    _mm512_shuffle_i64x2::<0b11_10_11_10>(a, c),
                    _mm512_shuffle_i64x2::<0b01_00_01_00>(b, d),
                    _mm512_shuffle_i64x2::<0b11_10_11_10>(b, d),
                ],
                scales: load_16(&scales),
                corrections: load_16(&corrections),
            }
        }
    }

    /// The sums of the products of each group, in the order of [`GROUP_OF_LANE`]. The levels come in the order of
    /// [`Quarters`]: at most 7, and four times as large in every second register. So eight products stay below 2^15, and four
    /// registers shrink to one before the scales come.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
    pub(crate) fn products<const BYTES: usize>(
        bytes: &[u8; BYTES],
        levels: [__m512i; 4],
        x: &Quarters,
        place: Place,
    ) -> __m512 {
        let four = |i: usize| {
            place.ask_ahead(bytes, i, 4);
            _mm512_dpbusd_epi32(_mm512_setzero_si512(), levels[i], x.values[i])
        };
        let ones = _mm512_set1_epi16(1);
        let halve = |a: __m512i, b: __m512i| _mm512_madd_epi16(_mm512_packs_epi32(a, b), ones);
        _mm512_cvtepi32_ps(halve(halve(four(0), four(1)), halve(four(2), four(3))))
    }

    /// 16 bytes as floats.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(crate) fn floats(bytes: __m128i) -> __m512 {
        _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes))
    }
}
