//! Dot products and weighted sums of one vector against many in a row, all `f32`: the inner loops of attention.
#![allow(unsafe_code)]

use crate::isa::Isa;

/// `out[j]` = the dot product of `x` with `rows[j * x.len() ..]`.
#[inline(always)]
pub(crate) fn dots(isa: Isa, x: &[f32], rows: &[f32], out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if isa.has_avx2() {
        // SAFETY: this `Isa` proves avx2 and fma.
        return unsafe { avx2::dots(x, rows, out) };
    }
    for (out, row) in out.iter_mut().zip(rows.chunks_exact(x.len())) {
        let mut sums = [0.0; 8];
        let ((groups, rest), (groups_x, rest_x)) = (row.as_chunks::<8>(), x.as_chunks::<8>());
        for (a, b) in groups.iter().zip(groups_x) {
            for i in 0..8 {
                sums[i] += a[i] * b[i];
            }
        }
        let rest: f32 = rest.iter().zip(rest_x).map(|(a, b)| a * b).sum();
        *out = sums.iter().sum::<f32>() + rest;
    }
}

/// `sums +=` the sum over `j` of `weights[j] * rows[j * sums.len() ..]`.
#[inline(always)]
pub(crate) fn add_weighted(isa: Isa, weights: &[f32], rows: &[f32], sums: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if isa.has_avx2() {
        // SAFETY: this `Isa` proves avx2 and fma.
        return unsafe { avx2::add_weighted(weights, rows, sums) };
    }
    for (weight, row) in weights.iter().zip(rows.chunks_exact(sums.len())) {
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum += weight * value;
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2 {
    use std::arch::x86_64::*;

    /// Four rows at a time, so that `x` is loaded once for them.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn dots(x: &[f32], rows: &[f32], out: &mut [f32]) {
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
        let groups: [&[[f32; 8]]; ROWS] = std::array::from_fn(|r| &rows[r].as_chunks().0[..groups_x.len()]);
        let mut sums = [_mm256_setzero_ps(); ROWS];
        for (g, x) in groups_x.iter().enumerate() {
            let x = load(x);
            for (sum, groups) in sums.iter_mut().zip(&groups) {
                *sum = _mm256_fmadd_ps(load(&groups[g]), x, *sum);
            }
        }
        std::array::from_fn(|r| {
            let rest = rows[r][groups_x.len() * 8..].iter().zip(rest_x);
            rest.fold(horizontal_sum(sums[r]), |sum, (a, b)| sum + a * b)
        })
    }

    /// 32 sums at a time stay in registers while the rows go by.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn add_weighted(weights: &[f32], rows: &[f32], sums: &mut [f32]) {
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
        let mut registers: [__m256; GROUPS] = std::array::from_fn(|g| load(&sums[g]));
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
}
