//! Registers: loads at any alignment, conversions, sums.

use std::arch::x86_64::*;

/// Eight floats at any alignment.
#[inline]
#[target_feature(enable = "avx")]
pub(crate) fn load(values: &[f32; 8]) -> __m256 {
    // SAFETY: the reference covers the 32 bytes, and the instruction asks for no alignment.
    unsafe { _mm256_loadu_ps(values.as_ptr()) }
}

/// The sum of the eight lanes.
#[inline]
#[target_feature(enable = "avx")]
pub(crate) fn horizontal_sum(v: __m256) -> f32 {
    let four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
}

/// 32 bytes at any alignment.
#[inline]
#[target_feature(enable = "avx")]
pub(crate) fn load_bytes<T: bytemuck::Pod>(bytes: &[T; 32]) -> __m256i {
    const { assert!(size_of::<T>() == 1) };
    // SAFETY: the reference covers the 32 bytes, and the instruction asks for no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// 16 bytes at any alignment.
#[inline]
#[target_feature(enable = "avx")]
pub(crate) fn load_half(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: the reference covers the 16 bytes, and the instruction asks for no alignment.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

/// An `f16` as the hardware converts it.
#[inline]
#[target_feature(enable = "avx,f16c")]
pub(crate) fn half_to_f32(bytes: [u8; 2]) -> f32 {
    _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(u16::from_le_bytes(bytes)))))
}
