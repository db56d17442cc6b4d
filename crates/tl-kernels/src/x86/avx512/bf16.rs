//! Panels and rows in `bf16`: rounded, or split into parts that add up to them.

use crate::quant::gemm::layout::LANES;
use crate::quant::stretch::{STRETCH, Stretch};
use crate::quant::weight::IntegerKernels;
use crate::x86::avx2::registers::load_half;
use crate::x86::avx512::registers::{load, store};
use crate::x86::avx512::transpose::transpose;
use std::arch::x86_64::*;

/// Elements of a step: 64 bytes of `bf16`.
pub(super) const STEP: usize = 32;
/// The most parts of an activation.
pub(super) const MAX_PARTS: usize = 3;

/// Interleaves the elements of 16 tokens by pairs, part after part.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma,f16c")]
pub(super) fn pack(tokens: &[[f32; STRETCH]; LANES], n_parts: usize, lines: &mut [[u32; LANES]]) {
    let part_lines = lines.len() / n_parts;
    for step in 0..part_lines / (STEP / 2) {
        let mut parts = [[_mm512_setzero_si512(); LANES]; MAX_PARTS];
        for (t, token) in tokens.iter().enumerate() {
            for (p, part) in split(token.as_chunks::<STEP>().0, step, n_parts).into_iter().enumerate() {
                parts[p][t] = part;
            }
        }
        for (p, part) in parts.into_iter().enumerate().take(n_parts) {
            let lines = &mut lines[p * part_lines + step * (STEP / 2)..][..STEP / 2];
            for (line, column) in lines.iter_mut().zip(transpose(part)) {
                store(line, column);
            }
        }
    }
}

/// The parts of the first `n_elems` elements, a multiple of the step.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma,f16c")]
pub(super) fn split_row<const PARTS: usize>(
    values: &[f32; STRETCH],
    n_elems: usize,
    row: &mut [[u16; STRETCH]; PARTS],
) {
    for step in 0..n_elems / STEP {
        let parts = split(values.as_chunks::<STEP>().0, step, PARTS);
        for (row, part) in row.iter_mut().zip(parts) {
            store_step(&mut row.as_chunks_mut::<STEP>().0[step], part);
        }
    }
}

/// A step as `bf16` parts that add up to it. The last part is rounded to nearest; the others are cut off, so that what
/// they leave is exact.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma,f16c")]
fn split(steps: &[[f32; STEP]], step: usize, n_parts: usize) -> [__m512i; MAX_PARTS] {
    let (halves, _) = steps[step].as_chunks::<16>();
    let mut rest = [0, 1].map(|h| _mm512_castsi512_ps(load(&halves[h])));
    let upper = _mm512_set1_epi32(0xFFFF_0000_u32 as i32);
    let mut parts = [_mm512_setzero_si512(); MAX_PARTS];
    for (p, out) in parts.iter_mut().enumerate().take(n_parts) {
        let part = match p + 1 == n_parts {
            true => rest,
            false => rest.map(|x| _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(x), upper))),
        };
        rest = [0, 1].map(|h| _mm512_sub_ps(rest[h], part[h]));
        *out = bits(_mm512_cvtne2ps_pbh(part[1], part[0]));
    }
    parts
}

/// The values of a stretch of small integers, rounded.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma,f16c")]
pub(super) fn round_stretch(stretch: &Stretch, kernels: &IntegerKernels, row: &mut [u16; STRETCH]) {
    let offset = f32::from(kernels.offset);
    let blocks = stretch.values.as_chunks::<STEP>().0.iter().zip(row.as_chunks_mut::<STEP>().0);
    for (b, (values, row)) in blocks.enumerate() {
        let groups = if kernels.group == STEP { [b, b] } else { [2 * b, 2 * b + 1] };
        let (halves, _) = values.as_chunks::<16>();
        let half = |h: usize| {
            let value = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(load_half(&halves[h])));
            let scale = stretch.scales[groups[h]];
            // The offset is a power of two: this is exact.
            let minimum = if kernels.has_minima { stretch.minima[groups[h]] } else { -(offset * scale) };
            _mm512_fmadd_ps(value, _mm512_set1_ps(scale), _mm512_set1_ps(minimum))
        };
        store_step(row, bits(_mm512_cvtne2ps_pbh(half(1), half(0))));
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store_step(row: &mut [u16; STEP], values: __m512i) {
    // SAFETY: the reference covers the 64 bytes, and the instruction asks for no alignment.
    unsafe { _mm512_storeu_si512(row.as_mut_ptr().cast(), values) };
}

#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn bits(values: __m512bh) -> __m512i {
    // SAFETY: both are 64 bytes at the same alignment, and every pattern of bits is a value.
    unsafe { (&raw const values).cast::<__m512i>().read() }
}
