//! Products of a few rows with a matrix that lies contiguous along one of its dimensions: decoding, where each product of
//! a batch has one row. The matrix is read once, as it lies; only its elements become `f32`, a small block at a time.
#![allow(unsafe_code)]

use crate::element::Element;
use crate::isa::{Isa, instantiate};
use crate::matmul::Matrix;
use crate::scratch::Scratch;
use crate::threads::Tile;
use crate::vector::{add_weighted, dots, prefetch};

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
    /// Computes the tile of `a b`, whose first row is row `first_row` of `a: [.., k]`.
    pub(crate) fn gemv_tile[A: Element, B: Element, Y: Element](
        isa: Isa, a: Matrix<'_, A>, b: Matrix<'_, B>, k: usize, first_row: usize, tile: &mut Tile<'_, Y>,
    ) {
        let first_col = tile.first_col();
        let mut scratch = Scratch::<f32, { DEPTH * COLUMNS }>::new();
        let block = scratch.zeroed(COLUMNS.min(tile.n_cols()) * DEPTH.min(k));
        for row in 0..tile.n_rows() {
            let x = Matrix { data: &a.data[(first_row + row) * a.row_stride..], ..a };
            for (index, out) in tile.row_mut(row).chunks_mut(COLUMNS).enumerate() {
                let first_col = first_col + index * COLUMNS;
                let mut sums = [0.0; COLUMNS];
                let sums = &mut sums[..out.len()];
                for first_k in (0..k).step_by(DEPTH) {
                    let mut part = [0.0; DEPTH];
                    let part = &mut part[..DEPTH.min(k - first_k)];
                    load(isa, &x.data[first_k * x.col_stride..], x.col_stride, part);
                    let start = &b.data[first_k * b.row_stride + first_col * b.col_stride..];
                    let block = &mut block[..part.len() * sums.len()];
                    if b.col_stride == 1 {
                        for (i, row) in block.chunks_exact_mut(sums.len()).enumerate() {
                            ask_for(start, (i + AHEAD) * b.row_stride, row.len());
                            B::load(isa, &start[i * b.row_stride..][..row.len()], row);
                        }
                        add_weighted(isa, part, block, sums);
                    } else {
                        for (c, column) in block.chunks_exact_mut(part.len()).enumerate() {
                            ask_for(start, (c + AHEAD) * b.col_stride, column.len());
                            B::load(isa, &start[c * b.col_stride..][..column.len()], column);
                        }
                        let mut products = [0.0; COLUMNS];
                        dots(isa, part, block, &mut products[..sums.len()]);
                        for (sum, product) in sums.iter_mut().zip(products) {
                            *sum += product;
                        }
                    }
                }
                Y::store(isa, sums, out);
            }
        }
    }
}

/// Asks for elements that are loaded soon: they lie too far from each other for the CPU to guess.
#[inline(always)]
fn ask_for<T>(data: &[T], start: usize, len: usize) {
    if let Some(elements) = data.get(start..start + len) {
        prefetch(elements);
    }
}

/// `dst[i] = src[i * stride]`.
#[inline(always)]
fn load<T: Element>(isa: Isa, src: &[T], stride: usize, dst: &mut [f32]) {
    if stride == 1 {
        return T::load(isa, &src[..dst.len()], dst);
    }
    for (i, dst) in dst.iter_mut().enumerate() {
        *dst = src[i * stride].to_f32();
    }
}
