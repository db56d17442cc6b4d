//! The micro-kernels of the blocked product of matrices of floats.

use crate::gemm_tile::{MICRO_ROWS, MicroKernels, PANEL};
use crate::x86::avx512::registers::{load, store};
use crate::x86::avx512::transpose::transpose_square;
use crate::x86::level::Avx512;
use crate::x86::micro_kernels::{for_rows, in_steps};
use std::arch::x86_64::*;

impl MicroKernels for Avx512 {
    #[inline(always)]
    fn transpose(self, square: &mut [[f32; PANEL]; PANEL]) {
        // SAFETY: the set proves AVX-512.
        unsafe { transpose_square(square) }
    }

    #[inline(always)]
    fn multiply(self, a: &[f32], b: &[[f32; PANEL]], sums: &mut [[f32; PANEL]]) {
        // SAFETY: the set proves AVX-512.
        unsafe { multiply(a, b, sums) }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn multiply(a: &[f32], b: &[[f32; PANEL]], sums: &mut [[f32; PANEL]]) {
    const { assert!(MICRO_ROWS == 12) };
    for_rows!(micro_kernel, a, b, sums; 12: 1, 8: 1, 4: 2, 3: 4, 2: 4, 1: 8);
}

/// An addition waits for the one before it: with few rows, parts keep the CPU busy meanwhile.
#[inline]
#[target_feature(enable = "avx512f")]
fn micro_kernel<const ROWS: usize, const PARTS: usize>(a: &[f32], b: &[[f32; PANEL]], sums: &mut [[f32; PANEL]; ROWS]) {
    let (steps, rest) = b.as_chunks::<PARTS>();
    let rows = in_steps::<ROWS, PARTS>(a, b.len());
    let mut registers = [[_mm512_setzero_ps(); PARTS]; ROWS];
    for (register, sums) in registers.iter_mut().zip(&*sums) {
        register[0] = _mm512_castsi512_ps(load(sums));
    }
    for (i, b) in steps.iter().enumerate() {
        for (register, (row, _)) in registers.iter_mut().zip(&rows) {
            let a = &row[i];
            for part in 0..PARTS {
                let b = _mm512_castsi512_ps(load(&b[part]));
                register[part] = _mm512_fmadd_ps(_mm512_set1_ps(a[part]), b, register[part]);
            }
        }
    }
    for (i, b) in rest.iter().enumerate() {
        let b = _mm512_castsi512_ps(load(b));
        for (register, (_, row)) in registers.iter_mut().zip(&rows) {
            register[0] = _mm512_fmadd_ps(_mm512_set1_ps(row[i]), b, register[0]);
        }
    }
    for (sums, register) in sums.iter_mut().zip(registers) {
        let mut total = register[0];
        for part in &register[1..] {
            total = _mm512_add_ps(total, *part);
        }
        store(sums, _mm512_castps_si512(total));
    }
}
