//! One tile of a matrix product: the blocked loop under `matmul`, and under `linear` where rows are too long for the workspace.
//!
//! A tile of the output accumulates in `f32` on the stack while the inner dimension goes by in steps of [`DEPTH`]: the rows of
//! `a` are loaded once per step, the columns of `b` in panels of [`PANEL`], and a micro-kernel of [`MICRO_ROWS`] rows by one
//! panel keeps its sums in registers. Where the operands come from is the business of [`Operands`].
#![allow(unsafe_code)]

use crate::element::Element;
use crate::isa::{Isa, instantiate};
use crate::threads::Tile;

/// Columns of a panel: two AVX2 registers.
pub(crate) const PANEL: usize = 16;
/// Steps of the inner dimension that are loaded at a time.
const DEPTH: usize = 256;
/// The most columns of a tile.
const TILE_COLS: usize = 128;
/// The most rows of a tile for large products.
const TILE_ROWS: usize = 96;
/// Rows whose sums fit the registers beside a panel.
const MICRO_ROWS: usize = 6;

/// Two factors `a [m, k]` and `b [k, n]`, and what their product is added to.
pub(crate) trait Operands {
    /// `dst[i] = a[row, first_k + i]`.
    fn load_a(&self, isa: Isa, row: usize, first_k: usize, dst: &mut [f32]);
    /// `panel[i][c] = b[first_k + i, first_col + c]` for `c < n_cols`; the other columns are not used.
    fn load_b(&self, isa: Isa, first_col: usize, n_cols: usize, first_k: usize, panel: &mut [[f32; PANEL]]);
    /// What the sums of the columns from `first_col` on begin with.
    fn load_start(&self, isa: Isa, first_col: usize, dst: &mut [f32]);
}

/// The stack memory of a tile of up to `ROWS` rows, a multiple of [`MICRO_ROWS`].
struct Scratch<const ROWS: usize> {
    a: [[f32; DEPTH]; ROWS],
    b: [[f32; PANEL]; DEPTH],
    sums: [[[f32; PANEL]; ROWS]; TILE_COLS / PANEL],
}

impl<const ROWS: usize> Scratch<ROWS> {
    #[inline(always)]
    fn new() -> Self {
        Scratch { a: [[0.0; DEPTH]; ROWS], b: [[0.0; PANEL]; DEPTH], sums: [[[0.0; PANEL]; ROWS]; TILE_COLS / PANEL] }
    }
}

/// Computes the tile, whose first row is row `first_row` of `a`. The tile has at most [`TILE_ROWS`] x [`TILE_COLS`] elements.
pub(crate) fn gemm_tile<O: Operands, Y: Element>(
    isa: Isa,
    operands: &O,
    k: usize,
    first_row: usize,
    tile: &mut Tile<'_, Y>,
) {
    if tile.n_rows() <= MICRO_ROWS {
        scratch_tile(isa, operands, k, first_row, tile, &mut Scratch::<MICRO_ROWS>::new());
    } else {
        scratch_tile(isa, operands, k, first_row, tile, &mut Scratch::<TILE_ROWS>::new());
    }
}

instantiate! {
    fn scratch_tile[const ROWS: usize, O: Operands, Y: Element](
        isa: Isa, operands: &O, k: usize, first_row: usize, tile: &mut Tile<'_, Y>, scratch: &mut Scratch<ROWS>,
    ) {
        let (n_rows, n_cols, first_col) = (tile.n_rows(), tile.n_cols(), tile.first_col());
        let Scratch { a, b, sums } = scratch;
        let n_panels = n_cols.div_ceil(PANEL);
        for (panel, sums) in sums[..n_panels].iter_mut().enumerate() {
            let col = panel * PANEL;
            let mut start = [0.0; PANEL];
            operands.load_start(isa, first_col + col, &mut start[..PANEL.min(n_cols - col)]);
            sums[..n_rows].fill(start);
        }
        for first_k in (0..k).step_by(DEPTH) {
            let depth = DEPTH.min(k - first_k);
            for (row, a) in a[..n_rows].iter_mut().enumerate() {
                operands.load_a(isa, first_row + row, first_k, &mut a[..depth]);
            }
            for (panel, sums) in sums[..n_panels].iter_mut().enumerate() {
                let col = panel * PANEL;
                let b = &mut b[..depth];
                operands.load_b(isa, first_col + col, PANEL.min(n_cols - col), first_k, b);
                let rows = n_rows.next_multiple_of(MICRO_ROWS);
                let (a, _) = a[..rows].as_chunks::<MICRO_ROWS>();
                let (sums, _) = sums[..rows].as_chunks_mut::<MICRO_ROWS>();
                for (a, sums) in a.iter().zip(sums) {
                    micro_kernel(isa, a, b, sums);
                }
            }
        }
        let mut values = [[0.0; PANEL]; TILE_COLS / PANEL];
        for row in 0..n_rows {
            for (values, sums) in values.iter_mut().zip(&sums[..n_panels]) {
                *values = sums[row];
            }
            Y::store(isa, &values.as_flattened()[..n_cols], tile.row_mut(row));
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

/// `sums[r][c] +=` the sum over `i` of `a[r][i] * b[i][c]`.
#[inline(always)]
fn micro_kernel(isa: Isa, a: &[[f32; DEPTH]; MICRO_ROWS], b: &[[f32; PANEL]], sums: &mut [[f32; PANEL]; MICRO_ROWS]) {
    #[cfg(target_arch = "x86_64")]
    if isa.has_avx2() {
        // SAFETY: this `Isa` proves avx2 and fma.
        return unsafe { micro_kernel_avx2(a, b, sums) };
    }
    for (a, sums) in a.iter().zip(sums) {
        let mut row = *sums;
        for (a, b) in a.iter().zip(b) {
            for (sum, b) in row.iter_mut().zip(b) {
                *sum = isa.mul_add(*a, *b, *sum);
            }
        }
        *sums = row;
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2,fma")]
fn micro_kernel_avx2(a: &[[f32; DEPTH]; MICRO_ROWS], b: &[[f32; PANEL]], sums: &mut [[f32; PANEL]; MICRO_ROWS]) {
    use std::arch::x86_64::*;
    let load = |values: &[f32; PANEL]| {
        // SAFETY: the reference covers both halves, and the instruction asks for no alignment.
        unsafe { [_mm256_loadu_ps(values.as_ptr()), _mm256_loadu_ps(values.as_ptr().add(8))] }
    };
    let mut registers: [[__m256; 2]; MICRO_ROWS] = std::array::from_fn(|r| load(&sums[r]));
    assert!(b.len() <= DEPTH);
    for (i, b) in b.iter().enumerate() {
        let b = load(b);
        for (register, a) in registers.iter_mut().zip(a) {
            let a = _mm256_set1_ps(a[i]);
            register[0] = _mm256_fmadd_ps(a, b[0], register[0]);
            register[1] = _mm256_fmadd_ps(a, b[1], register[1]);
        }
    }
    for (sums, register) in sums.iter_mut().zip(registers) {
        // SAFETY: the reference covers both halves, and the instruction asks for no alignment.
        unsafe {
            _mm256_storeu_ps(sums.as_mut_ptr(), register[0]);
            _mm256_storeu_ps(sums.as_mut_ptr().add(8), register[1]);
        }
    }
}

/// The rows and columns of the tiles of an `[m, n]` product, smaller where `n_threads` would have too few of them.
pub(crate) fn tile_size(n_batches: usize, m: usize, n: usize, n_threads: usize) -> (usize, usize) {
    let rows = if m <= MICRO_ROWS { MICRO_ROWS } else { TILE_ROWS };
    let mut cols = TILE_COLS;
    while cols > 2 * PANEL && n_batches * m.div_ceil(rows) * n.div_ceil(cols) < 3 * n_threads {
        cols /= 2;
    }
    (rows, cols)
}
