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
}

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512 {
    use crate::quant::activations::RowStretch;
    use crate::quant::dot::Place;
    use crate::quant::dot::avx2::load_bytes;
    use crate::quant::dot::avx512::{load_8, load_16, load_64};
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
        place: Place,
    ) -> __m512 {
        let four = |i: usize| {
            place.ask_ahead(bytes, i, 4);
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
}
