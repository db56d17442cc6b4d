//! One tile of a matrix product: the blocked loop under `matmul`, and under `linear` where rows are too long for the workspace.
//!
//! A tile of the output accumulates in `f32` on the stack while the inner dimension goes by in steps of [`DEPTH`]: the rows of
//! `a` are loaded once per step, the columns of `b` in panels of [`PANEL`], and a micro-kernel of a few rows by one panel keeps
//! its sums in registers. Where the operands come from is the business of [`Operands`].

use crate::element::Element;
use crate::isa::{Isa, Portable, dispatch, instantiate};
use crate::scratch::{Aligned, Scratch};
use crate::threads::Tile;

/// Columns of a panel: an AVX-512 register, two of AVX2.
pub(crate) const PANEL: usize = 16;
/// Steps of the inner dimension that are loaded at a time.
const DEPTH: usize = 256;
/// The most columns of a tile.
const TILE_COLS: usize = 128;
/// The most rows of a tile.
const TILE_ROWS: usize = 96;
/// The most rows of a micro-kernel: so many sums fit the registers of AVX-512 and hide how long an addition takes.
pub(crate) const MICRO_ROWS: usize = 12;

/// Two factors `a [m, k]` and `b [k, n]`, and what their product is added to.
pub(crate) trait Operands {
    /// `dst[i] = a[row, first_k + i]`.
    fn load_a(&self, isa: Isa, row: usize, first_k: usize, dst: &mut [f32]);
    /// `panel[i][c] = b[first_k + i, first_col + c]` for `c < n_cols`; the other columns are not used.
    fn load_b(&self, isa: Isa, first_col: usize, n_cols: usize, first_k: usize, panel: &mut [[f32; PANEL]]);
    /// What the sums of the columns from `first_col` on begin with.
    fn init_accumulators(&self, isa: Isa, first_col: usize, dst: &mut [f32]);
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

/// Not inlined: making the room touches each of its pages, and a product of few rows should not pay for the larger room.
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
            operands.init_accumulators(isa, first_col + col, &mut start[..PANEL.min(n_cols - col)]);
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
                dispatch!(isa, set => set.multiply(a, b, sums));
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
        dispatch!(isa, set => set.transpose(square));
    }
    if !rest.is_empty() {
        let mut square = Aligned([[0.0; PANEL]; PANEL]);
        for (col, column) in square.0[..n_cols].iter_mut().enumerate() {
            load(col, squares.len() * PANEL, &mut column[..rest.len()]);
        }
        dispatch!(isa, set => set.transpose(&mut square.0));
        rest.copy_from_slice(&square.0[..rest.len()]);
    }
}

/// What an instruction set brings to the blocked product.
pub(crate) trait MicroKernels: Copy {
    /// Exchanges rows and columns.
    #[inline(always)]
    fn transpose(self, square: &mut [[f32; PANEL]; PANEL]) {
        let rows = *square;
        for (j, row) in rows.iter().enumerate() {
            for (column, value) in square.iter_mut().zip(row) {
                column[j] = *value;
            }
        }
    }

    /// `sums[r][c] +=` the sum over `i` of `a[r][i] * b[i][c]`. `a: [sums.len(), b.len()]`.
    #[inline(always)]
    fn multiply(self, a: &[f32], b: &[[f32; PANEL]], sums: &mut [[f32; PANEL]]) {
        for (a, sums) in a.chunks_exact(b.len()).zip(sums) {
            let mut row = *sums;
            for (a, b) in a.iter().zip(b) {
                for (sum, b) in row.iter_mut().zip(b) {
                    *sum += a * b;
                }
            }
            *sums = row;
        }
    }
}

impl MicroKernels for Portable {}

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
