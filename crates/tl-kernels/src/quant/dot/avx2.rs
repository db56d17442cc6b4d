//! Dot products of floats with AVX2, and how its registers are loaded.

use super::{Rows, walk_floats};
use crate::quant::reading::{Reading, STREAMS};
use crate::vector::avx2::horizontal_sum;
use std::arch::x86_64::*;

/// Elements of a register of `f32`.
pub(crate) const LANES: usize = 8;

/// Dot products of rows whose elements lie in groups of [`LANES`], `BYTES` bytes each; `unpack` makes `f32` of a group, and `unpack_x` of
/// one of the activations. A row is a whole number of groups.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn float<const BYTES: usize, X>(
    rows: Rows<'_>,
    x: &[X],
    out: &mut [f32],
    unpack: impl Fn(&[u8; BYTES]) -> __m256,
    unpack_x: impl Fn(&[X; LANES]) -> __m256,
) {
    let add = |sum, weights: &_, x: &_| _mm256_fmadd_ps(unpack(weights), unpack_x(x), sum);
    match rows.reading {
        Reading::InOrder | Reading::Past => float_rows::<1, _, _>(rows, x, out, &add),
        Reading::Beside => float_rows::<STREAMS, _, _>(rows, x, out, &add),
    }
}

/// The same with what adds a register's products; there are `S` streams.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn float_rows<const S: usize, const BYTES: usize, X>(
    rows: Rows<'_>,
    x: &[X],
    out: &mut [f32],
    add: &impl Fn(__m256, &[u8; BYTES], &[X; LANES]) -> __m256,
) {
    let n_rows = out.len() / S;
    for i in 0..n_rows {
        let sums = walk_floats::<S, false, _, _, _, _>(rows.side_by_side(i, 0), x, _mm256_setzero_ps(), add);
        for (stream, [a, b, c, d]) in sums.into_iter().enumerate() {
            out[stream * n_rows + i] += horizontal_sum(_mm256_add_ps(_mm256_add_ps(a, b), _mm256_add_ps(c, d)));
        }
    }
}

/// Eight `f32` at any alignment.
#[inline]
#[target_feature(enable = "avx")]
pub(crate) fn unpack_f32(bytes: &[u8; 32]) -> __m256 {
    _mm256_castsi256_ps(load_bytes(bytes))
}

/// Eight `f16` at any alignment.
#[inline]
#[target_feature(enable = "avx,f16c")]
pub(crate) fn unpack_f16(bytes: &[u8; 16]) -> __m256 {
    _mm256_cvtph_ps(load_half(bytes))
}

/// Eight `bf16` at any alignment: the upper halves of `f32`.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn unpack_bf16(bytes: &[u8; 16]) -> __m256 {
    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(load_half(bytes))))
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
