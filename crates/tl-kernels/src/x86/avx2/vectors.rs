//! Dot products and weighted sums of vectors of `f32`.

use crate::vector::VectorKernels;
use crate::x86::avx2::registers::{horizontal_sum, load};
use crate::x86::level::{Avx2, Avx512};
use std::arch::x86_64::*;

impl VectorKernels for Avx2 {
    #[inline(always)]
    fn dots(self, x: &[f32], rows: &[f32], out: &mut [f32]) {
        // SAFETY: the set proves avx2 and fma.
        unsafe { dots(x, rows, out) }
    }

    #[inline(always)]
    fn add_weighted(self, weights: &[f32], rows: &[f32], sums: &mut [f32]) {
        // SAFETY: as above.
        unsafe { add_weighted(weights, rows, sums) }
    }
}

impl VectorKernels for Avx512 {
    #[inline(always)]
    fn dots(self, x: &[f32], rows: &[f32], out: &mut [f32]) {
        // SAFETY: the set proves avx2 and fma too.
        unsafe { dots(x, rows, out) }
    }

    #[inline(always)]
    fn add_weighted(self, weights: &[f32], rows: &[f32], sums: &mut [f32]) {
        // SAFETY: as above.
        unsafe { add_weighted(weights, rows, sums) }
    }
}

/// Four rows at a time, so that `x` is loaded once for them.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn dots(x: &[f32], rows: &[f32], out: &mut [f32]) {
    let n = x.len();
    let (fours, rest) = out.as_chunks_mut::<4>();
    let (rows_of_four, rest_rows) = rows.split_at(fours.len() * 4 * n);
    for (out, rows) in fours.iter_mut().zip(rows_of_four.chunks_exact(4 * n)) {
        let (ab, cd) = rows.split_at(2 * n);
        let ((a, b), (c, d)) = (ab.split_at(n), cd.split_at(n));
        *out = dots_of([a, b, c, d], x);
    }
    for (out, row) in rest.iter_mut().zip(rest_rows.chunks_exact(n)) {
        [*out] = dots_of([row], x);
    }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn dots_of<const ROWS: usize>(rows: [&[f32]; ROWS], x: &[f32]) -> [f32; ROWS] {
    let (groups_x, rest_x) = x.as_chunks::<8>();
    // Loops and no closures: a closure has the instructions of this function, and what calls it has not, so that neither
    // would be inlined.
    let mut groups: [&[[f32; 8]]; ROWS] = [&[]; ROWS];
    for (groups, row) in groups.iter_mut().zip(rows) {
        *groups = &row.as_chunks().0[..groups_x.len()];
    }
    let mut sums = [_mm256_setzero_ps(); ROWS];
    for (g, x) in groups_x.iter().enumerate() {
        let x = load(x);
        for (sum, groups) in sums.iter_mut().zip(&groups) {
            *sum = _mm256_fmadd_ps(load(&groups[g]), x, *sum);
        }
    }
    let mut dots = [0.0; ROWS];
    for ((dot, sum), row) in dots.iter_mut().zip(sums).zip(rows) {
        *dot = horizontal_sum(sum);
        for (a, b) in row[groups_x.len() * 8..].iter().zip(rest_x) {
            *dot += a * b;
        }
    }
    dots
}

/// 32 sums at a time stay in registers while the rows go by.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn add_weighted(weights: &[f32], rows: &[f32], sums: &mut [f32]) {
    let n = sums.len();
    let mut first = 0;
    let (wide, rest) = sums.as_chunks_mut::<32>();
    for sums in wide {
        add_columns::<4>(weights, rows, n, first, sums.as_chunks_mut().0);
        first += 32;
    }
    let (groups, rest) = rest.as_chunks_mut::<8>();
    for sums in groups {
        add_columns::<1>(weights, rows, n, first, std::slice::from_mut(sums));
        first += 8;
    }
    for (i, sum) in rest.iter_mut().enumerate() {
        for (weight, row) in weights.iter().zip(rows.chunks_exact(n)) {
            *sum += weight * row[first + i];
        }
    }
}

/// The sums of `8 * GROUPS` columns from `first` on, of rows of `n`.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn add_columns<const GROUPS: usize>(weights: &[f32], rows: &[f32], n: usize, first: usize, sums: &mut [[f32; 8]]) {
    let mut registers = [_mm256_setzero_ps(); GROUPS];
    for (register, sums) in registers.iter_mut().zip(&*sums) {
        *register = load(sums);
    }
    for (weight, row) in weights.iter().zip(rows.chunks_exact(n)) {
        let weight = _mm256_set1_ps(*weight);
        let (groups, _) = row[first..first + 8 * GROUPS].as_chunks::<8>();
        for (register, group) in registers.iter_mut().zip(groups) {
            *register = _mm256_fmadd_ps(weight, load(group), *register);
        }
    }
    for (sums, register) in sums.iter_mut().zip(registers) {
        // SAFETY: the reference covers the 32 bytes, and the instruction asks for no alignment.
        unsafe { _mm256_storeu_ps(sums.as_mut_ptr(), register) };
    }
}
