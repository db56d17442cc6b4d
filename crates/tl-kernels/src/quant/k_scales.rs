//! The 12 bytes in which Q4_K and Q5_K keep eight scales and eight minima of six bits, and what else the two share.
#![allow(unsafe_code)]

use super::block::{array, array_mut};
use super::search::{inverse, round_to_level, scale_and_minimum};
use super::{half_at, store_half};
use crate::isa::Isa;

/// Sub-blocks of 32 elements.
pub(crate) const SUBS: usize = 8;

/// The six-bit scales, then the minima.
#[inline(always)]
fn six_bits(bytes: &[u8; 12]) -> ([u8; SUBS], [u8; SUBS]) {
    let (mut scales, mut minima) = ([0; SUBS], [0; SUBS]);
    for i in 0..4 {
        scales[i] = bytes[i] & 63;
        minima[i] = bytes[4 + i] & 63;
        scales[4 + i] = bytes[8 + i] & 15 | bytes[i] >> 6 << 4;
        minima[4 + i] = bytes[8 + i] >> 4 | bytes[4 + i] >> 6 << 4;
    }
    (scales, minima)
}

fn pack_six_bits(scales: &[u8; SUBS], minima: &[u8; SUBS], bytes: &mut [u8; 12]) {
    for i in 0..4 {
        bytes[i] = scales[i] | scales[4 + i] >> 4 << 6;
        bytes[4 + i] = minima[i] | minima[4 + i] >> 4 << 6;
        bytes[8 + i] = scales[4 + i] & 15 | minima[4 + i] << 4;
    }
}

/// Scales and (negative) minima from the first 16 bytes of a block: an `f16` for the scales, one for the minima, and 12 bytes.
#[inline(always)]
pub(crate) fn unpack_scales(isa: Isa, block: &[u8], scales: &mut [f32], minima: &mut [f32]) {
    let (scale, minimum) = (half_at(isa, block, 0), half_at(isa, block, 2));
    let (six_scales, six_minima) = six_bits(array(&block[4..16]));
    for i in 0..SUBS {
        scales[i] = scale * f32::from(six_scales[i]);
        minima[i] = -(minimum * f32::from(six_minima[i]));
    }
}

/// Chooses and stores the scales and minima of 256 values, and returns the level of each, 0 to `top`.
pub(crate) fn quantize_levels(x: &[f32; 256], top: i32, block: &mut [u8]) -> [u8; 256] {
    let (subs, _) = x.as_chunks::<32>();
    let mut wanted = [(0.0, 0.0); SUBS];
    for (wanted, x) in wanted.iter_mut().zip(subs) {
        let (scale, minimum) = scale_and_minimum(x, top, true);
        *wanted = (scale, -minimum);
    }
    let largest = |part: fn(&(f32, f32)) -> f32| wanted.iter().map(part).fold(0.0, f32::max) / 63.0;
    let scale = store_half(block, 0, largest(|(scale, _)| *scale));
    let minimum = store_half(block, 2, largest(|(_, minimum)| *minimum));
    let (mut scales, mut minima) = ([0; SUBS], [0; SUBS]);
    for (i, wanted) in wanted.iter().enumerate() {
        scales[i] = round_to_level(wanted.0 * inverse(scale), 0, 63) as u8;
        minima[i] = round_to_level(wanted.1 * inverse(minimum), 0, 63) as u8;
    }
    pack_six_bits(&scales, &minima, array_mut(&mut block[4..16]));
    let mut levels = [0; 256];
    for (i, (x, levels)) in subs.iter().zip(levels.as_chunks_mut::<32>().0).enumerate() {
        let (scale, minimum) = (scale * f32::from(scales[i]), minimum * f32::from(minima[i]));
        let inverse = inverse(scale);
        for (x, level) in x.iter().zip(levels) {
            *level = round_to_level((x + minimum) * inverse, 0, top) as u8;
        }
    }
    levels
}

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2 {
    use crate::quant::block::array;
    use crate::quant::dot::avx2::load_half;
    use crate::quant::dot::pairs::{Pairs, Sums, add_minima, add_scaled};
    use std::arch::x86_64::*;

    /// Adds the products of a block's levels, in its scales, and its minima.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(crate) fn add<const BYTES: usize>(sums: Sums, block: &[u8; BYTES], products: __m256i, x: &Pairs) -> Sums {
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
        add_minima(add_scaled(sums, x, products, scales), x, minima)
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512 {
    use crate::quant::activations::RowStretch;
    use crate::quant::block::array;
    use crate::quant::dot::Place;
    use crate::quant::dot::avx2::load_half;
    use crate::quant::dot::avx512::{Sums, indexes, load_8, load_64, spread};
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
        place: Place,
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
            place.ask_ahead(block, q, 4);
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn six_bits_come_back() {
        for seed in 0..64u8 {
            let scales = std::array::from_fn(|i| (seed + 9 * i as u8) % 64);
            let minima = std::array::from_fn(|i| (seed ^ 63).wrapping_add(23 * i as u8) % 64);
            let mut bytes = [0; 12];
            pack_six_bits(&scales, &minima, &mut bytes);
            assert_eq!(six_bits(&bytes), (scales, minima));
        }
    }
}
