//! What several kernels do with vectors: dot products and weighted sums of one against many in a row (attention, products
//! of a few rows), transposed registers, and asking for memory ahead.
#![allow(unsafe_code)]

use crate::isa::Isa;
use std::ops::Range;

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

/// A line of the caches.
const LINE_BYTES: usize = 64;

/// Pieces of memory, `stride` bytes apart, that are asked for little by little while something else is computed: such as the CPU does
/// not foresee, and all of which at once would make it wait. They go to the second cache. Only x86-64 is asked.
#[derive(Clone, Copy)]
pub(crate) struct Ahead {
    start: *const u8,
    n: usize,
    stride: usize,
    len: usize,
}

impl Ahead {
    pub(crate) const NOTHING: Ahead = Ahead { start: std::ptr::null(), n: 0, stride: 0, len: 0 };

    /// `n` pieces of `len` bytes, as far as there are such.
    #[inline(always)]
    pub(crate) fn new(bytes: &[u8], n: usize, stride: usize, len: usize) -> Ahead {
        Ahead { start: bytes.as_ptr(), n, stride, len }
    }

    /// Asks for some of the pieces, as far as there are such.
    #[inline(always)]
    pub(crate) fn ask(self, pieces: Range<usize>) {
        for index in pieces.start..pieces.end.min(self.n) {
            self.ask_part(index, 0..self.len);
        }
    }

    /// Asks for the lines that begin in some bytes of a piece, if there is such a piece.
    #[inline(always)]
    pub(crate) fn ask_part(self, index: usize, bytes: Range<usize>) {
        if index < self.n {
            for byte in bytes.step_by(LINE_BYTES) {
                prefetch(self.start.wrapping_add(index * self.stride + byte));
            }
        }
    }
}

/// Asks for the lines of what will be read next but a little, into the second cache.
#[inline(always)]
pub(crate) fn prefetch_all<T>(values: &[T]) {
    for byte in (0..size_of_val(values)).step_by(LINE_BYTES) {
        prefetch(values.as_ptr().cast::<u8>().wrapping_add(byte));
    }
}

/// Asks for the line at an address, which need not mean anything.
#[inline(always)]
fn prefetch(address: *const u8) {
    let _ = address;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint that every x86-64 CPU takes; it reads nothing, wherever it points.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(address.cast());
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

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512 {
    use std::arch::x86_64::*;

    /// Exchanges rows and columns of 16 by 16 words.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(crate) fn transpose(rows: [__m512i; 16]) -> [__m512i; 16] {
        let mut pairs = rows;
        for i in 0..8 {
            pairs[2 * i] = _mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
            pairs[2 * i + 1] = _mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
        }
        // Of rows 4g to 4g + 3, register 4g + j has the columns j, 4 + j, 8 + j and 12 + j.
        let mut fours = pairs;
        for g in 0..4 {
            let [a, b, c, d] = [pairs[4 * g], pairs[4 * g + 1], pairs[4 * g + 2], pairs[4 * g + 3]];
            fours[4 * g] = _mm512_unpacklo_epi64(a, c);
            fours[4 * g + 1] = _mm512_unpackhi_epi64(a, c);
            fours[4 * g + 2] = _mm512_unpacklo_epi64(b, d);
            fours[4 * g + 3] = _mm512_unpackhi_epi64(b, d);
        }
        let mut columns = fours;
        for j in 0..4 {
            let [a, b, c, d] = [fours[j], fours[4 + j], fours[8 + j], fours[12 + j]];
            let [even_ab, odd_ab] =
                [_mm512_shuffle_i32x4::<0b10_00_10_00>(a, b), _mm512_shuffle_i32x4::<0b11_01_11_01>(a, b)];
            let [even_cd, odd_cd] =
                [_mm512_shuffle_i32x4::<0b10_00_10_00>(c, d), _mm512_shuffle_i32x4::<0b11_01_11_01>(c, d)];
            columns[j] = _mm512_shuffle_i32x4::<0b10_00_10_00>(even_ab, even_cd);
            columns[4 + j] = _mm512_shuffle_i32x4::<0b10_00_10_00>(odd_ab, odd_cd);
            columns[8 + j] = _mm512_shuffle_i32x4::<0b11_01_11_01>(even_ab, even_cd);
            columns[12 + j] = _mm512_shuffle_i32x4::<0b11_01_11_01>(odd_ab, odd_cd);
        }
        columns
    }

    /// As [`transpose`], in place.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(crate) fn transpose_square(square: &mut [[f32; 16]; 16]) {
        // A loop and no closure, which would not be inlined.
        let mut rows = [_mm512_setzero_si512(); 16];
        for (register, row) in rows.iter_mut().zip(&*square) {
            *register = load(row);
        }
        for (row, column) in square.iter_mut().zip(transpose(rows)) {
            store(row, column);
        }
    }

    /// The two values, over and over.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(crate) fn pair(values: &[f32; 2]) -> __m512 {
        let bits = u64::from(values[1].to_bits()) << 32 | u64::from(values[0].to_bits());
        _mm512_castsi512_ps(_mm512_set1_epi64(bits.cast_signed()))
    }

    /// 16 words at any alignment.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(crate) fn load<T: bytemuck::Pod>(words: &[T; 16]) -> __m512i {
        const { assert!(size_of::<T>() == 4) };
        // SAFETY: the reference covers the 64 bytes, and the instruction asks for no alignment.
        unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
    }

    /// Stores 16 words at any alignment.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(crate) fn store<T: bytemuck::Pod>(words: &mut [T; 16], register: __m512i) {
        const { assert!(size_of::<T>() == 4) };
        // SAFETY: the reference covers the 64 bytes, and the instruction asks for no alignment.
        unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), register) };
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use crate::isa::Isa;

        #[test]
        fn rows_become_columns() {
            #[target_feature(enable = "avx512f")]
            fn transposed(rows: &[[i32; 16]; 16]) -> [[i32; 16]; 16] {
                let mut columns = [[0; 16]; 16];
                let registers = transpose(std::array::from_fn(|r| load(&rows[r])));
                columns.iter_mut().zip(registers).for_each(|(column, register)| store(column, register));
                columns
            }
            if Isa::detect().has_avx512() {
                let rows = std::array::from_fn(|r| std::array::from_fn(|c| (r * 100 + c) as i32));
                // SAFETY: this CPU has AVX-512.
                let columns = unsafe { transposed(&rows) };
                assert!((0..256).all(|i| columns[i % 16][i / 16] == rows[i / 16][i % 16]));
            }
        }
    }
}
