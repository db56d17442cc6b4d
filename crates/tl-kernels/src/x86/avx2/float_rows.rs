//! Dot products of rows of floats.

use crate::element::{Element, FloatSlice};
use crate::quant::prefetch::{Prefetch, STREAMS};
use crate::quant::rows::Rows;
use crate::quant::tokens::FloatTokens;
use crate::x86::avx2::registers::{horizontal_sum, load, load_bytes, load_half};
use crate::x86::float_rows;
use crate::x86::walk::{side_by_side, walk_floats};
use half::{bf16, f16};
use std::arch::x86_64::*;

/// Tokens whose sums fit the registers beside a register of weights.
const TILE: usize = 3;
/// Elements of a register of `f32`.
pub(crate) const LANES: usize = 8;

/// The dot products of rows of weights `W`, for each type of them and of activations a function of its own.
///
/// # Safety
/// The CPU has avx2, fma and f16c.
pub(crate) unsafe fn dot<W: Element>(rows: Rows<'_>, x: FloatSlice<'_>, out: &mut [f32]) {
    macro_rules! dot {
        ($w_type:ty, $w_unpack:ident; $x:ident: $x_type:ty, $x_unpack:ident) => {{
            #[target_feature(enable = "avx2,fma,f16c")]
            fn dot(rows: Rows<'_>, x: &[$x_type], out: &mut [f32]) {
                float::<{ LANES * size_of::<$w_type>() }, $x_type>(
                    rows,
                    x,
                    out,
                    |weights| $w_unpack(weights),
                    |x| $x_unpack(bytemuck::cast_ref(x)),
                );
            }
            // SAFETY: the caller guarantees it.
            unsafe { dot(rows, $x, out) }
        }};
    }
    macro_rules! dot_with_any {
        ($w_type:ty, $w_unpack:ident) => {
            match x {
                FloatSlice::F32(x) => dot!($w_type, $w_unpack; x: f32, unpack_f32),
                FloatSlice::F16(x) => dot!($w_type, $w_unpack; x: f16, unpack_f16),
                FloatSlice::Bf16(x) => dot!($w_type, $w_unpack; x: bf16, unpack_bf16),
            }
        };
    }
    match W::as_floats(&[]) {
        FloatSlice::F32(_) => dot_with_any!(f32, unpack_f32),
        FloatSlice::F16(_) => dot_with_any!(f16, unpack_f16),
        FloatSlice::Bf16(_) => dot_with_any!(bf16, unpack_bf16),
    }
}

/// The dot products of rows of weights `W` with several tokens, for each type of weights a function of its own.
///
/// # Safety
/// The CPU has avx2, fma and f16c.
pub(crate) unsafe fn dots<W: Element>(rows: Rows<'_>, x: FloatTokens<'_>, out: &mut [f32]) {
    macro_rules! dots {
        ($w_type:ty, $w_unpack:ident) => {{
            #[target_feature(enable = "avx2,fma,f16c")]
            fn dots(rows: Rows<'_>, x: FloatTokens<'_>, out: &mut [f32]) {
                float_rows::rows::<{ LANES * size_of::<$w_type>() }, LANES, __m256>(
                    rows,
                    x,
                    out,
                    TILE,
                    _mm256_setzero_ps(),
                    |weights| $w_unpack(weights),
                    |sum, weights, x| _mm256_fmadd_ps(weights, load(x), sum),
                    |sums| total(sums),
                );
            }
            // SAFETY: the caller guarantees it.
            unsafe { dots(rows, x, out) }
        }};
    }
    match W::as_floats(&[]) {
        FloatSlice::F32(_) => dots!(f32, unpack_f32),
        FloatSlice::F16(_) => dots!(f16, unpack_f16),
        FloatSlice::Bf16(_) => dots!(bf16, unpack_bf16),
    }
}

/// The total of the four sums of a row.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn total([a, b, c, d]: [__m256; 4]) -> f32 {
    horizontal_sum(_mm256_add_ps(_mm256_add_ps(a, b), _mm256_add_ps(c, d)))
}

/// Dot products of rows whose elements lie in groups of [`LANES`], `BYTES` bytes each; `unpack` makes `f32` of a group, and `unpack_x` of
/// one of the activations. A row is a whole number of groups.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn float<const BYTES: usize, X>(
    rows: Rows<'_>,
    x: &[X],
    out: &mut [f32],
    unpack: impl Fn(&[u8; BYTES]) -> __m256,
    unpack_x: impl Fn(&[X; LANES]) -> __m256,
) {
    let add = |sum, weights: &_, x: &_| _mm256_fmadd_ps(unpack(weights), unpack_x(x), sum);
    match rows.prefetch {
        Prefetch::Sequential | Prefetch::NonTemporal => float_rows::<1, _, _>(rows, x, out, &add),
        Prefetch::Interleaved => float_rows::<STREAMS, _, _>(rows, x, out, &add),
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
        let sums =
            walk_floats::<S, false, _, _, _, _>(side_by_side(&rows, i, rows.length), x, _mm256_setzero_ps(), add);
        for (stream, sums) in sums.into_iter().enumerate() {
            out[stream * n_rows + i] += total(sums);
        }
    }
}

/// Eight `f32` at any alignment.
#[inline]
#[target_feature(enable = "avx")]
fn unpack_f32(bytes: &[u8; 32]) -> __m256 {
    _mm256_castsi256_ps(load_bytes(bytes))
}

/// Eight `f16` at any alignment.
#[inline]
#[target_feature(enable = "avx,f16c")]
fn unpack_f16(bytes: &[u8; 16]) -> __m256 {
    _mm256_cvtph_ps(load_half(bytes))
}

/// Eight `bf16` at any alignment: the upper halves of `f32`.
#[inline]
#[target_feature(enable = "avx2")]
fn unpack_bf16(bytes: &[u8; 16]) -> __m256 {
    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(load_half(bytes))))
}
