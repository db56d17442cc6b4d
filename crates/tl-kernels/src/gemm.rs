//! One tile of a matrix product: the blocked loop under `matmul`, and under `linear` where rows are too long for the workspace.
//!
//! A tile of the output accumulates in `f32` on the stack while the inner dimension goes by in steps of [`DEPTH`]: the rows of
//! `a` are loaded once per step, the columns of `b` in panels of [`PANEL`], and a micro-kernel of a few rows by one panel keeps
//! its sums in registers. Where the operands come from is the business of [`Operands`].
#![allow(unsafe_code)]

use crate::element::Element;
use crate::isa::{Isa, instantiate};
use crate::scratch::{Aligned, Scratch};
use crate::threads::Tile;
#[cfg(target_arch = "x86_64")]
use crate::vector::{avx2, avx512};

/// Columns of a panel: an AVX-512 register, two of AVX2.
pub(crate) const PANEL: usize = 16;
/// Steps of the inner dimension that are loaded at a time.
const DEPTH: usize = 256;
/// The most columns of a tile.
const TILE_COLS: usize = 128;
/// The most rows of a tile.
const TILE_ROWS: usize = 96;
/// The most rows of a micro-kernel: so many sums fit the registers of AVX-512 and hide how long an addition takes.
const MICRO_ROWS: usize = 12;

/// Two factors `a [m, k]` and `b [k, n]`, and what their product is added to.
pub(crate) trait Operands {
    /// `dst[i] = a[row, first_k + i]`.
    fn load_a(&self, isa: Isa, row: usize, first_k: usize, dst: &mut [f32]);
    /// `panel[i][c] = b[first_k + i, first_col + c]` for `c < n_cols`; the other columns are not used.
    fn load_b(&self, isa: Isa, first_col: usize, n_cols: usize, first_k: usize, panel: &mut [[f32; PANEL]]);
    /// What the sums of the columns from `first_col` on begin with.
    fn load_start(&self, isa: Isa, first_col: usize, dst: &mut [f32]);
}

/// Computes the tile, whose first row is row `first_row` of `a`. The tile has at most [`TILE_ROWS`] x [`TILE_COLS`] elements.
pub(crate) fn gemm_tile<O: Operands, Y: Element>(
    isa: Isa,
    operands: &O,
    k: usize,
    first_row: usize,
    tile: &mut Tile<'_, Y>,
) {
    const PANELS: usize = TILE_COLS / PANEL;
    if tile.n_rows() <= MICRO_ROWS {
        tile_in_room::<{ MICRO_ROWS * DEPTH }, { MICRO_ROWS * PANELS }, O, Y>(isa, operands, k, first_row, tile);
    } else {
        tile_in_room::<{ TILE_ROWS * DEPTH }, { TILE_ROWS * PANELS }, O, Y>(isa, operands, k, first_row, tile);
    }
}

/// Room on the stack for so many elements of `a` and so many panels of sums.
struct Room<const A: usize, const SUMS: usize> {
    a: Scratch<f32, A>,
    b: Scratch<[f32; PANEL], DEPTH>,
    sums: Scratch<[f32; PANEL], SUMS>,
}

/// Not inlined: each page of the room is touched when it is made, which a product of few rows would notice of the larger one.
#[inline(never)]
fn tile_in_room<const A: usize, const SUMS: usize, O: Operands, Y: Element>(
    isa: Isa,
    operands: &O,
    k: usize,
    first_row: usize,
    tile: &mut Tile<'_, Y>,
) {
    let mut room = Room::<A, SUMS> { a: Scratch::new(), b: Scratch::new(), sums: Scratch::new() };
    compute_tile(isa, operands, k, first_row, tile, &mut room);
}

instantiate! {
    fn compute_tile[const A: usize, const SUMS: usize, O: Operands, Y: Element](
        isa: Isa, operands: &O, k: usize, first_row: usize, tile: &mut Tile<'_, Y>, room: &mut Room<A, SUMS>,
    ) {
        let (n_rows, n_cols, first_col) = (tile.n_rows(), tile.n_cols(), tile.first_col());
        let (n_panels, max_depth) = (n_cols.div_ceil(PANEL), k.min(DEPTH));
        let Room { a, b, sums } = room;
        let (a, b, sums) = (a.zeroed(n_rows * max_depth), b.zeroed(max_depth), sums.zeroed(n_panels * n_rows));
        for (panel, sums) in sums.chunks_exact_mut(n_rows).enumerate() {
            let col = panel * PANEL;
            let mut start = [0.0; PANEL];
            operands.load_start(isa, first_col + col, &mut start[..PANEL.min(n_cols - col)]);
            sums.fill(start);
        }
        for first_k in (0..k).step_by(DEPTH) {
            let depth = DEPTH.min(k - first_k);
            let (a, b) = (&mut a[..n_rows * depth], &mut b[..depth]);
            for (row, a) in a.chunks_exact_mut(depth).enumerate() {
                operands.load_a(isa, first_row + row, first_k, a);
            }
            for (panel, sums) in sums.chunks_exact_mut(n_rows).enumerate() {
                let col = panel * PANEL;
                operands.load_b(isa, first_col + col, PANEL.min(n_cols - col), first_k, b);
                multiply(isa, a, b, sums);
            }
        }
        let mut values = Aligned([[0.0; PANEL]; TILE_COLS / PANEL]);
        for row in 0..n_rows {
            for (values, sums) in values.0.iter_mut().zip(sums.chunks_exact(n_rows)) {
                *values = sums[row];
            }
            Y::store(isa, &values.0.as_flattened()[..n_cols], tile.row_mut(row));
        }
    }
}

/// Fills one column of a panel with the values that `load` brings.
#[inline(always)]
pub(crate) fn fill_column(panel: &mut [[f32; PANEL]], col: usize, load: impl FnOnce(&mut [f32])) {
    let mut column = [0.0; DEPTH];
    let column = &mut column[..panel.len()];
    load(column);
    for (panel, value) in panel.iter_mut().zip(column) {
        panel[col] = *value;
    }
}

/// Fills a panel with columns that lie each for itself: `load(c, i, values)` brings the elements from `i` on of column `c`.
#[inline(always)]
pub(crate) fn fill_columns(
    isa: Isa,
    panel: &mut [[f32; PANEL]],
    n_cols: usize,
    mut load: impl FnMut(usize, usize, &mut [f32]),
) {
    let (squares, rest) = panel.as_chunks_mut::<PANEL>();
    for (block, square) in squares.iter_mut().enumerate() {
        for (col, column) in square[..n_cols].iter_mut().enumerate() {
            load(col, block * PANEL, column);
        }
        transpose(isa, square);
    }
    if !rest.is_empty() {
        let mut square = Aligned([[0.0; PANEL]; PANEL]);
        for (col, column) in square.0[..n_cols].iter_mut().enumerate() {
            load(col, squares.len() * PANEL, &mut column[..rest.len()]);
        }
        transpose(isa, &mut square.0);
        rest.copy_from_slice(&square.0[..rest.len()]);
    }
}

/// Exchanges rows and columns.
#[inline(always)]
fn transpose(isa: Isa, square: &mut [[f32; PANEL]; PANEL]) {
    #[cfg(target_arch = "x86_64")]
    if isa.has_avx512() {
        // SAFETY: this `Isa` proves avx512f.
        return unsafe { avx512::transpose_square(square) };
    }
    let rows = *square;
    for (j, row) in rows.iter().enumerate() {
        for (column, value) in square.iter_mut().zip(row) {
            column[j] = *value;
        }
    }
}

/// `sums[r][c] +=` the sum over `i` of `a[r][i] * b[i][c]`. `a: [sums.len(), b.len()]`.
#[inline(always)]
fn multiply(isa: Isa, a: &[f32], b: &[[f32; PANEL]], sums: &mut [[f32; PANEL]]) {
    #[cfg(target_arch = "x86_64")]
    if isa.has_avx512() {
        // SAFETY: this `Isa` proves avx512f.
        return unsafe { multiply_avx512(a, b, sums) };
    }
    #[cfg(target_arch = "x86_64")]
    if isa.has_avx2() {
        // SAFETY: this `Isa` proves avx2 and fma.
        return unsafe { multiply_avx2(a, b, sums) };
    }
    for (a, sums) in a.chunks_exact(b.len()).zip(sums) {
        let mut row = *sums;
        for (a, b) in a.iter().zip(b) {
            for (sum, b) in row.iter_mut().zip(b) {
                *sum = isa.mul_add(*a, *b, *sum);
            }
        }
        *sums = row;
    }
}

/// Calls the micro-kernel with as many rows as it can take until none is left: the numbers of rows fall, the last is 1. Beside
/// each stands in how many parts a row is summed.
#[cfg(target_arch = "x86_64")]
macro_rules! for_rows {
    ($micro:ident, $a:expr, $b:expr, $sums:expr; $($rows:literal: $parts:literal),+) => {
        let (a, b, sums) = ($a, $b, $sums);
        $(let (tiles, sums) = sums.as_chunks_mut::<$rows>();
        let (tiles_a, a) = a.split_at(tiles.len() * $rows * b.len());
        for (a, sums) in tiles_a.chunks_exact($rows * b.len()).zip(tiles) {
            $micro::<$rows, $parts>(a, b, sums);
        })+
        debug_assert!(a.is_empty() && sums.is_empty());
    };
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f")]
fn multiply_avx512(a: &[f32], b: &[[f32; PANEL]], sums: &mut [[f32; PANEL]]) {
    const { assert!(MICRO_ROWS == 12) };
    for_rows!(micro_kernel_avx512, a, b, sums; 12: 1, 8: 1, 4: 2, 3: 4, 2: 4, 1: 8);
}

/// The rows of `a: [ROWS, depth]` in steps of `PARTS`, and what is left of each.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn in_steps<const ROWS: usize, const PARTS: usize>(a: &[f32], depth: usize) -> [(&[[f32; PARTS]], &[f32]); ROWS] {
    let mut rows: [(&[[f32; PARTS]], &[f32]); ROWS] = [(&[], &[]); ROWS];
    for (row, a) in rows.iter_mut().zip(a.chunks_exact(depth)) {
        *row = a.as_chunks();
    }
    rows
}

/// An addition waits for the one before it: with few rows, parts keep the CPU busy meanwhile.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f")]
fn micro_kernel_avx512<const ROWS: usize, const PARTS: usize>(
    a: &[f32],
    b: &[[f32; PANEL]],
    sums: &mut [[f32; PANEL]; ROWS],
) {
    use std::arch::x86_64::*;
    let (steps, rest) = b.as_chunks::<PARTS>();
    let rows = in_steps::<ROWS, PARTS>(a, b.len());
    let mut registers = [[_mm512_setzero_ps(); PARTS]; ROWS];
    for (register, sums) in registers.iter_mut().zip(&*sums) {
        register[0] = _mm512_castsi512_ps(avx512::load(sums));
    }
    for (i, b) in steps.iter().enumerate() {
        for (register, (row, _)) in registers.iter_mut().zip(&rows) {
            let a = &row[i];
            for part in 0..PARTS {
                let b = _mm512_castsi512_ps(avx512::load(&b[part]));
                register[part] = _mm512_fmadd_ps(_mm512_set1_ps(a[part]), b, register[part]);
            }
        }
    }
    for (i, b) in rest.iter().enumerate() {
        let b = _mm512_castsi512_ps(avx512::load(b));
        for (register, (_, row)) in registers.iter_mut().zip(&rows) {
            register[0] = _mm512_fmadd_ps(_mm512_set1_ps(row[i]), b, register[0]);
        }
    }
    for (sums, register) in sums.iter_mut().zip(registers) {
        let mut total = register[0];
        for part in &register[1..] {
            total = _mm512_add_ps(total, *part);
        }
        avx512::store(sums, _mm512_castps_si512(total));
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2,fma")]
fn multiply_avx2(a: &[f32], b: &[[f32; PANEL]], sums: &mut [[f32; PANEL]]) {
    for_rows!(micro_kernel_avx2, a, b, sums; 6: 1, 4: 1, 3: 2, 2: 2, 1: 4);
}

/// As for AVX-512, with two registers a panel.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2,fma")]
fn micro_kernel_avx2<const ROWS: usize, const PARTS: usize>(
    a: &[f32],
    b: &[[f32; PANEL]],
    sums: &mut [[f32; PANEL]; ROWS],
) {
    use std::arch::x86_64::*;
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

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx")]
fn halves(row: &[f32; PANEL]) -> [std::arch::x86_64::__m256; 2] {
    let (halves, _) = row.as_chunks::<8>();
    [avx2::load(&halves[0]), avx2::load(&halves[1])]
}

/// The rows and columns of the tiles of an `[m, n]` product: rows in equal parts, whole micro-kernels; columns fewer where
/// `n_threads` would have too few tiles.
pub(crate) fn tile_size(n_batches: usize, m: usize, n: usize, n_threads: usize) -> (usize, usize) {
    let tiles_down = m.div_ceil(TILE_ROWS).max(1);
    let rows = m.div_ceil(tiles_down).next_multiple_of(MICRO_ROWS).clamp(1, TILE_ROWS);
    let mut cols = TILE_COLS;
    while n_threads > 1 && cols > 2 * PANEL && n_batches * tiles_down * n.div_ceil(cols) < 3 * n_threads {
        cols /= 2;
    }
    (rows, cols)
}
