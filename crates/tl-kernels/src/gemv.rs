//! Products of a few rows with a matrix that lies contiguous along one of its dimensions: decoding, where each product of
//! a batch has one row. The matrix is read once, as it lies; only its elements become `f32`, a small block at a time.
#![allow(unsafe_code)]

use crate::element::Element;
use crate::isa::{Isa, instantiate};
use crate::matmul::{Matrix, load_strided};
use crate::scratch::Scratch;
use crate::threads::Tile;
use crate::vector::{add_weighted, dots, prefetch_all};

/// The most rows; with more, a loaded piece of the matrix serves more rows in the blocked loop of `gemm`.
pub(crate) const MAX_ROWS: usize = 2;
/// Steps of the inner dimension in a block.
const DEPTH: usize = 128;
/// Columns in a block.
const COLUMNS: usize = 32;
/// Rows or columns between the one that is loaded and the one that is asked for.
const AHEAD: usize = 8;

/// Whether [`gemv_tile`] serves the matrix `b`.
pub(crate) fn is_served<T>(b: &Matrix<'_, T>) -> bool {
    b.row_stride == 1 || b.col_stride == 1
}

instantiate! {
    /// Computes the tile of `a b`, whose first row is row `first_row` of `a: [.., k]`. The tile has at most [`MAX_ROWS`] rows.
    pub(crate) fn gemv_tile[A: Element, B: Element, Y: Element](
        isa: Isa, a: Matrix<'_, A>, b: Matrix<'_, B>, k: usize, first_row: usize, tile: &mut Tile<'_, Y>,
    ) {
        let (n_rows, n_cols) = (tile.n_rows(), tile.n_cols());
        let mut scratch = Scratch::<f32, { DEPTH * COLUMNS }>::new();
        let block = scratch.zeroed(COLUMNS.min(n_cols) * DEPTH.min(k));
        for col in (0..n_cols).step_by(COLUMNS) {
            let width = COLUMNS.min(n_cols - col);
            let first_col = tile.first_col() + col;
            let mut sums = [[0.0; COLUMNS]; MAX_ROWS];
            for first_k in (0..k).step_by(DEPTH) {
                let depth = DEPTH.min(k - first_k);
                let block = &mut block[..depth * width];
                let start = &b.data[first_k * b.row_stride + first_col * b.col_stride..];
                // Rows of the matrix, or its columns: what lies in one piece.
                let (stride, len) = if b.col_stride == 1 { (b.row_stride, width) } else { (b.col_stride, depth) };
                for (i, piece) in block.chunks_exact_mut(len).enumerate() {
                    ask_for(start, (i + AHEAD) * stride, len);
                    B::load(isa, &start[i * stride..][..len], piece);
                }
                for (row, sums) in sums[..n_rows].iter_mut().enumerate() {
                    let mut part = [0.0; DEPTH];
                    let part = &mut part[..depth];
                    let x = &a.data[(first_row + row) * a.row_stride + first_k * a.col_stride..];
                    load_strided(isa, x, a.col_stride, part);
                    add_products(isa, part, block, b.col_stride == 1, &mut sums[..width]);
                }
            }
            for (row, sums) in sums[..n_rows].iter().enumerate() {
                Y::store(isa, &sums[..width], &mut tile.row_mut(row)[col..col + width]);
            }
        }
    }
}

/// `sums +=` the product of `x` with a block whose rows, or else columns, lie one after the other.
#[inline(always)]
fn add_products(isa: Isa, x: &[f32], block: &[f32], has_rows: bool, sums: &mut [f32]) {
    if has_rows {
        return add_weighted(isa, x, block, sums);
    }
    let mut products = [0.0; COLUMNS];
    dots(isa, x, block, &mut products[..sums.len()]);
    for (sum, product) in sums.iter_mut().zip(products) {
        *sum += product;
    }
}

/// Asks for elements that are loaded soon: they lie too far from each other for the CPU to guess.
#[inline(always)]
fn ask_for<T>(data: &[T], start: usize, len: usize) {
    if let Some(elements) = data.get(start..start + len) {
        prefetch_all(elements);
    }
}
