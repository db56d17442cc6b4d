//! Dot products of floats with AVX2, and how its registers are loaded.

use super::Rows;
use crate::vector::avx2::{horizontal_sum, load};
use std::arch::x86_64::*;

/// How far ahead of the bytes at hand memory is asked for. Not a page: a line that lies a page behind the one at hand
/// competes with it.
const PREFETCH_BYTES: usize = 2048;
/// Sums of a row of floats: as many registers of eight.
const FLOAT_SUMS: usize = 4;

/// Dot products of rows whose elements lie in groups of eight, `BYTES` bytes each, which `unpack` makes `f32`; a row is a whole
/// number of groups.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn float<const BYTES: usize>(
    rows: Rows<'_>,
    x: &[f32],
    out: &mut [f32],
    unpack: impl Fn(&[u8; BYTES]) -> __m256,
) {
    let (x, _) = x.as_chunks::<8>();
    let (pairs, rest) = out.as_chunks_mut::<2>();
    for (pair, out) in pairs.iter_mut().enumerate() {
        let sums = float_rows::<BYTES, 2>([rows.row(2 * pair), rows.row(2 * pair + 1)], x, &unpack);
        out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum);
    }
    for (j, out) in rest.iter_mut().enumerate() {
        let [sum] = float_rows::<BYTES, 1>([rows.row(2 * pairs.len() + j)], x, &unpack);
        *out += sum;
    }
}

/// Some rows at once, each in [`FLOAT_SUMS`] independent sums, so that the additions need not wait for each other.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn float_rows<const BYTES: usize, const ROWS: usize>(
    rows: [&[u8]; ROWS],
    x: &[[f32; 8]],
    unpack: &impl Fn(&[u8; BYTES]) -> __m256,
) -> [f32; ROWS] {
    let rows: [&[[u8; BYTES]]; ROWS] = rows.map(|row| &row.as_chunks::<BYTES>().0[..x.len()]);
    let mut sums = [[_mm256_setzero_ps(); FLOAT_SUMS]; ROWS];
    let whole = x.len() / FLOAT_SUMS * FLOAT_SUMS;
    for g in (0..whole).step_by(FLOAT_SUMS) {
        for (sums, row) in sums.iter_mut().zip(&rows) {
            prefetch(&row[g]);
            for (s, sum) in sums.iter_mut().enumerate() {
                *sum = _mm256_fmadd_ps(unpack(&row[g + s]), load(&x[g + s]), *sum);
            }
        }
    }
    for g in whole..x.len() {
        for (sums, row) in sums.iter_mut().zip(&rows) {
            sums[0] = _mm256_fmadd_ps(unpack(&row[g]), load(&x[g]), sums[0]);
        }
    }
    sums.map(|sums| horizontal_sum(sums.into_iter().reduce(|a, b| _mm256_add_ps(a, b)).unwrap_or(_mm256_setzero_ps())))
}

/// Asks for the bytes that a pass over a weight comes to next but a little; the hardware's own prefetching stops at the end of a page.
#[inline]
#[target_feature(enable = "sse")]
fn prefetch<T>(at: &T) {
    // A hint: it reads nothing, wherever it points.
    _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(at).cast::<i8>().wrapping_add(PREFETCH_BYTES));
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
