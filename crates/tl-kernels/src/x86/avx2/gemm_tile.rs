//! The micro-kernels of the blocked product of matrices of floats.

use crate::gemm_tile::{MicroKernels, PANEL};
use crate::x86::avx2::registers::load;
use crate::x86::level::Avx2;
use crate::x86::micro_kernels::{for_rows, in_steps};
use std::arch::x86_64::*;

impl MicroKernels for Avx2 {
    #[inline(always)]
    fn multiply(self, a: &[f32], b: &[[f32; PANEL]], sums: &mut [[f32; PANEL]]) {
        // SAFETY: the set proves avx2 and fma.
        unsafe { multiply(a, b, sums) }
    }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn multiply(a: &[f32], b: &[[f32; PANEL]], sums: &mut [[f32; PANEL]]) {
    for_rows!(micro_kernel, a, b, sums; 6: 1, 4: 1, 3: 2, 2: 2, 1: 4);
}

/// As for AVX-512, with two registers a panel.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn micro_kernel<const ROWS: usize, const PARTS: usize>(a: &[f32], b: &[[f32; PANEL]], sums: &mut [[f32; PANEL]; ROWS]) {
    let (steps, rest) = b.as_chunks::<PARTS>();
    let rows = in_steps::<ROWS, PARTS>(a, b.len());
    let mut registers = [[[_mm256_setzero_ps(); 2]; PARTS]; ROWS];
    for (register, sums) in registers.iter_mut().zip(&*sums) {
        register[0] = halves(sums);
    }
    for (i, b) in steps.iter().enumerate() {
        for part in 0..PARTS {
            let b = halves(&b[part]);
            for (register, (row, _)) in registers.iter_mut().zip(&rows) {
                let a = _mm256_set1_ps(row[i][part]);
                register[part][0] = _mm256_fmadd_ps(a, b[0], register[part][0]);
                register[part][1] = _mm256_fmadd_ps(a, b[1], register[part][1]);
            }
        }
    }
    for (i, b) in rest.iter().enumerate() {
        let b = halves(b);
        for (register, (_, row)) in registers.iter_mut().zip(&rows) {
            let a = _mm256_set1_ps(row[i]);
            register[0][0] = _mm256_fmadd_ps(a, b[0], register[0][0]);
            register[0][1] = _mm256_fmadd_ps(a, b[1], register[0][1]);
        }
    }
    for (sums, register) in sums.iter_mut().zip(registers) {
        let [mut left, mut right] = register[0];
        for part in &register[1..] {
            left = _mm256_add_ps(left, part[0]);
            right = _mm256_add_ps(right, part[1]);
        }
        // SAFETY: the reference covers both halves, and the instruction asks for no alignment.
        unsafe {
            _mm256_storeu_ps(sums.as_mut_ptr(), left);
            _mm256_storeu_ps(sums.as_mut_ptr().add(8), right);
        }
    }
}

#[inline]
#[target_feature(enable = "avx")]
fn halves(row: &[f32; PANEL]) -> [__m256; 2] {
    let (halves, _) = row.as_chunks::<8>();
    [load(&halves[0]), load(&halves[1])]
}
