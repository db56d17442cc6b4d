//! Activations as 8-bit blocks.

use crate::quant::activations::{BLOCK, LANES};
use crate::quant::quantize::QuantizeKernels;
use crate::quant::stretch::STRETCH;
use crate::x86::avx2::registers::load_bytes;
use crate::x86::avx512::registers::{load_16, load_64, store};
use crate::x86::avx512::transpose::transpose;
use crate::x86::level::Avx512;
use std::arch::x86_64::*;

impl QuantizeKernels for Avx512 {
    #[inline(always)]
    fn quantize_blocks<const N: usize>(self, x: &[[f32; BLOCK]; N], values: &mut [[i8; BLOCK]], scales: &mut [f32; N]) {
        // SAFETY: the set proves AVX-512.
        unsafe { quantize_blocks(x, values, scales) }
    }

    #[inline(always)]
    fn sums_of_16(self, values: &[i8; STRETCH], sums: &mut [i32; STRETCH / 16]) {
        // SAFETY: as above.
        unsafe { sums_of_16(values, sums) }
    }

    #[inline(always)]
    fn interleave(self, values: &[[i8; BLOCK]; LANES], steps: &mut [[[i8; 4]; LANES]; BLOCK / 4]) {
        // SAFETY: as above.
        unsafe { interleave(values, steps) }
    }
}

/// The largest values of eight blocks first, so that one division serves all of them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
fn quantize_blocks<const N: usize>(x: &[[f32; BLOCK]; N], values: &mut [[i8; BLOCK]], scales: &mut [f32; N]) {
    const { assert!(N.is_multiple_of(8)) };
    let eights = x.as_chunks::<8>().0.iter().zip(values.as_chunks_mut::<8>().0);
    for ((x, values), scales) in eights.zip(scales.as_chunks_mut::<8>().0) {
        let largest = largest_of_eight(x);
        let top = _mm256_set1_ps(127.0);
        let is_zero = _mm256_cmp_ps_mask::<_CMP_LT_OQ>(largest, _mm256_set1_ps(1e-30));
        let inverses = to_array(_mm256_mask_mov_ps(_mm256_div_ps(top, largest), is_zero, _mm256_setzero_ps()));
        *scales = to_array(_mm256_div_ps(largest, top));
        for ((x, values), inverse) in x.iter().zip(values).zip(inverses) {
            let (halves, _) = x.as_chunks::<16>();
            let inverse = _mm512_set1_ps(inverse);
            let low = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(load_16(&halves[0]), inverse)));
            let high = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(load_16(&halves[1]), inverse)));
            // SAFETY: the reference covers the 32 bytes, and the instruction asks for no alignment.
            unsafe { _mm256_storeu_si256(values.as_mut_ptr().cast(), _mm256_set_m128i(high, low)) };
        }
    }
}

/// The size of the largest value of each block. As integers, the sizes of floats keep their order, and NaN comes last.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
fn largest_of_eight(x: &[[f32; BLOCK]; 8]) -> __m256 {
    let mut eights = [_mm256_setzero_si256(); 8];
    for (eight, x) in eights.iter_mut().zip(x) {
        let (halves, _) = x.as_chunks::<16>();
        let (low, high) = (_mm512_abs_ps(load_16(&halves[0])), _mm512_abs_ps(load_16(&halves[1])));
        let both = _mm512_max_epu32(_mm512_castps_si512(low), _mm512_castps_si512(high));
        *eight = _mm256_max_epu32(_mm512_castsi512_si256(both), _mm512_extracti64x4_epi64::<1>(both));
    }
    // Neighbours are joined until a lane is left of each.
    let mut pairs = [_mm256_setzero_si256(); 4];
    for (pair, [a, b]) in pairs.iter_mut().zip(eights.as_chunks::<2>().0) {
        *pair = _mm256_max_epu32(_mm256_unpacklo_epi32(*a, *b), _mm256_unpackhi_epi32(*a, *b));
    }
    let mut fours = [_mm256_setzero_si256(); 2];
    for (four, [a, b]) in fours.iter_mut().zip(pairs.as_chunks::<2>().0) {
        *four = _mm256_max_epu32(_mm256_unpacklo_epi64(*a, *b), _mm256_unpackhi_epi64(*a, *b));
    }
    let [a, b] = fours;
    let halves = (_mm256_permute2x128_si256::<0x20>(a, b), _mm256_permute2x128_si256::<0x31>(a, b));
    _mm256_castsi256_ps(_mm256_max_epu32(halves.0, halves.1))
}

#[inline]
#[target_feature(enable = "avx")]
fn to_array(eight: __m256) -> [f32; 8] {
    let mut array = [0.0; 8];
    // SAFETY: the array has the 32 bytes, and the instruction asks for no alignment.
    unsafe { _mm256_storeu_ps(array.as_mut_ptr(), eight) };
    array
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
fn sums_of_16(values: &[i8; STRETCH], sums: &mut [i32; STRETCH / 16]) {
    let ones = _mm512_set1_epi8(1);
    for (values, sums) in values.as_chunks::<64>().0.iter().zip(sums.as_chunks_mut::<4>().0) {
        let fours = _mm512_dpbusd_epi32(_mm512_setzero_si512(), ones, load_64(values));
        let pairs = _mm512_add_epi32(fours, _mm512_shuffle_epi32::<0b10_11_00_01>(fours));
        let all = _mm512_add_epi32(pairs, _mm512_shuffle_epi32::<0b01_00_11_10>(pairs));
        let first = _mm512_castsi512_si128(_mm512_maskz_compress_epi32(0x1111, all));
        // SAFETY: the reference covers the 16 bytes, and the instruction asks for no alignment.
        unsafe { _mm_storeu_si128(sums.as_mut_ptr().cast(), first) };
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
fn interleave(values: &[[i8; BLOCK]; LANES], steps: &mut [[[i8; 4]; LANES]; BLOCK / 4]) {
    // Half of a transposition: a token has but eight words.
    let rows = std::array::from_fn(|t| _mm512_castsi256_si512(load_bytes(&values[t])));
    for (lanes, column) in steps.iter_mut().zip(transpose(rows)) {
        store(lanes, column);
    }
}
