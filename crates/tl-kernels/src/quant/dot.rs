//! Dot products of rows of blocks with the activations of some tokens, for whatever unpacks the blocks.
//!
//! Each function takes the unpacking as a closure, so that a format brings its few instructions and nothing else. A
//! block is unpacked once for up to four tokens.
#![allow(unsafe_code)]

use super::Rows;
use super::activations::{Activations, BLOCK};
use half::f16;

/// Blocks of `BYTES` bytes, each an `f16` scale and 32 values that fit a signed byte; portable.
pub(crate) fn integer<const BYTES: usize>(
    rows: Rows<'_>,
    x: Activations<'_>,
    n_tokens: usize,
    out: &mut [f32],
    unpack: impl Fn(&[u8; BYTES]) -> [i8; BLOCK],
) {
    for (j, out) in out.chunks_exact_mut(n_tokens).enumerate() {
        let (blocks, _) = rows.row(j).as_chunks::<BYTES>();
        for (b, block) in blocks.iter().enumerate() {
            let scale = f16::from_le_bytes([block[0], block[1]]).to_f32();
            let weights = unpack(block);
            for (t, out) in out.iter_mut().enumerate() {
                let x = x.row(t, blocks.len());
                let sum: i32 = weights.iter().zip(&x.values[b]).map(|(&w, &x)| i32::from(w) * i32::from(x)).sum();
                *out += scale * x.scales[b] * sum as f32;
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2 {
    use super::*;
    use crate::vector::avx2::{horizontal_sum, load};
    use std::arch::x86_64::*;

    /// How far ahead of the block at hand memory is asked for.
    const PREFETCH_BYTES: usize = 4096;

    /// As [`super::integer`], with AVX2.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(crate) fn integer<const BYTES: usize>(
        rows: Rows<'_>,
        x: Activations<'_>,
        n_tokens: usize,
        out: &mut [f32],
        unpack: impl Fn(&[u8; BYTES]) -> __m256i,
    ) {
        for (j, out) in out.chunks_exact_mut(n_tokens).enumerate() {
            let (blocks, _) = rows.row(j).as_chunks::<BYTES>();
            let mut first = 0;
            let (groups, rest) = out.as_chunks_mut::<4>();
            for group in groups {
                integer_tokens::<BYTES, 4>(blocks, x, first, group, &unpack);
                first += 4;
            }
            for out in rest.as_chunks_mut::<1>().0 {
                integer_tokens::<BYTES, 1>(blocks, x, first, out, &unpack);
                first += 1;
            }
        }
    }

    /// One row with tokens `first .. first + TOKENS`.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn integer_tokens<const BYTES: usize, const TOKENS: usize>(
        blocks: &[[u8; BYTES]],
        x: Activations<'_>,
        first: usize,
        out: &mut [f32; TOKENS],
        unpack: &impl Fn(&[u8; BYTES]) -> __m256i,
    ) {
        let tokens: [Activations<'_>; TOKENS] = std::array::from_fn(|t| x.row(first + t, blocks.len()));
        let ones = _mm256_set1_epi16(1);
        let mut sums = [_mm256_setzero_ps(); TOKENS];
        for (b, block) in blocks.iter().enumerate() {
            prefetch(block);
            let scale = half_to_f32([block[0], block[1]]);
            let weights = unpack(block);
            let sizes = _mm256_abs_epi8(weights);
            for (sum, x) in sums.iter_mut().zip(&tokens) {
                // One factor must be unsigned: |w| times x with the sign of w. No pair exceeds 2 * 128 * 127 < 2^15.
                let signed = _mm256_sign_epi8(load_bytes(&x.values[b]), weights);
                let pairs = _mm256_maddubs_epi16(sizes, signed);
                let products = _mm256_cvtepi32_ps(_mm256_madd_epi16(pairs, ones));
                *sum = _mm256_fmadd_ps(products, _mm256_set1_ps(scale * x.scales[b]), *sum);
            }
        }
        for (out, sum) in out.iter_mut().zip(sums) {
            *out += horizontal_sum(sum);
        }
    }

    /// Elements in groups of eight, `BYTES` bytes each, unpacked to `f32`; a row is a whole number of groups.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(crate) fn float<const BYTES: usize>(
        rows: Rows<'_>,
        x: &[f32],
        n_tokens: usize,
        out: &mut [f32],
        unpack: impl Fn(&[u8; BYTES]) -> __m256,
    ) {
        let token_elems = rows.length / BYTES * 8;
        let token = |t: usize| x[t * token_elems..][..token_elems].as_chunks::<8>().0;
        for (j, out) in out.chunks_exact_mut(n_tokens).enumerate() {
            let (groups, _) = rows.row(j).as_chunks::<BYTES>();
            let mut first = 0;
            let (pairs, rest) = out.as_chunks_mut::<2>();
            for out in pairs {
                float_tokens::<BYTES, 2, 2>(groups, [token(first), token(first + 1)], out, &unpack);
                first += 2;
            }
            for out in rest.as_chunks_mut::<1>().0 {
                float_tokens::<BYTES, 1, 4>(groups, [token(first)], out, &unpack);
            }
        }
    }

    /// One row with `TOKENS` tokens, in `SUMS` independent sums each, so that the additions need not wait for each other.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn float_tokens<const BYTES: usize, const TOKENS: usize, const SUMS: usize>(
        groups: &[[u8; BYTES]],
        x: [&[[f32; 8]]; TOKENS],
        out: &mut [f32; TOKENS],
        unpack: &impl Fn(&[u8; BYTES]) -> __m256,
    ) {
        let x: [&[[f32; 8]]; TOKENS] = std::array::from_fn(|t| &x[t][..groups.len()]);
        let mut sums = [[_mm256_setzero_ps(); SUMS]; TOKENS];
        let whole = groups.len() / SUMS * SUMS;
        for g in (0..whole).step_by(SUMS) {
            prefetch(&groups[g]);
            for s in 0..SUMS {
                let weights = unpack(&groups[g + s]);
                for (sums, x) in sums.iter_mut().zip(&x) {
                    sums[s] = _mm256_fmadd_ps(weights, load(&x[g + s]), sums[s]);
                }
            }
        }
        for g in whole..groups.len() {
            let weights = unpack(&groups[g]);
            for (sums, x) in sums.iter_mut().zip(&x) {
                sums[0] = _mm256_fmadd_ps(weights, load(&x[g]), sums[0]);
            }
        }
        for (out, sums) in out.iter_mut().zip(sums) {
            let mut total = _mm256_setzero_ps();
            for sum in sums {
                total = _mm256_add_ps(total, sum);
            }
            *out += horizontal_sum(total);
        }
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
    fn half_to_f32(bytes: [u8; 2]) -> f32 {
        _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(u16::from_le_bytes(bytes)))))
    }
}
