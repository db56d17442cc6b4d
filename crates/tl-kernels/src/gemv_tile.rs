//! Products of a few rows with a matrix that lies contiguous along one of its dimensions: decoding, where each product of a batch has
//! a row for each head. The matrix's rows, or its columns, are vectors that are read where they lie.

use crate::element::Element;
use crate::isa::{Isa, instantiate};
use crate::matrix::{Matrix, load_strided};
use crate::scratch::Scratch;
use crate::strided_vectors::{LANES, MAX_VECTORS, PerVector, Vectors};
use crate::threads::Tile;

/// The most rows of a tile.
const MAX_ROWS: usize = 8;
/// Steps of the inner dimension at a time.
const DEPTH: usize = MAX_VECTORS;
/// The most columns at a time.
const WIDTH: usize = MAX_VECTORS;
/// The most elements that are loaded into a block at a time.
const BLOCK_ELEMS: usize = 4 * 1024;
/// Rows of the matrix between the one that is read and the one that is prefetched.
const AHEAD: usize = 8;

/// Whether [`gemv_tile`] is the better way to compute a tile of `n_rows` by `n_cols` of a product with `b: [k, ..]`.
pub(crate) fn is_better<B: Element>(isa: Isa, b: &Matrix<'_, B>, n_rows: usize, n_cols: usize, k: usize) -> bool {
    // What must be loaded first serves more rows in the blocked loop of `gemm`.
    let max_rows = if needs_block(isa, b, n_cols, k) { 2 } else { MAX_ROWS };
    (b.row_stride == 1 || b.col_stride == 1) && (1..=max_rows).contains(&n_rows) && k > 0
}

/// Whether the matrix's vectors, which are its columns if those lie in one piece and else its rows, are not multiplied as they lie.
fn needs_block<B: Element>(isa: Isa, b: &Matrix<'_, B>, n_cols: usize, k: usize) -> bool {
    Vectors::<B>::need_block(isa, if b.row_stride == 1 { k } else { n_cols })
}

instantiate! {
    /// Computes the tile of `a b`, whose first row is row `first_row` of `a: [.., k]`, where this [is better](is_better).
    pub(crate) fn gemv_tile[A: Element, B: Element, Y: Element](
        isa: Isa, a: Matrix<'_, A>, b: Matrix<'_, B>, k: usize, first_row: usize, tile: &mut Tile<'_, Y>,
    ) {
        let (n_rows, n_cols, first_col) = (tile.n_rows(), tile.n_cols(), tile.first_col());
        let mut room = Room::new();
        let needs_block = needs_block(isa, &b, n_cols, k);
        let max_width = if needs_block { BLOCK_ELEMS / DEPTH } else { WIDTH };
        let block = room.block.zeroed(if needs_block { max_width.min(n_cols) * DEPTH.min(k) } else { 0 });
        let per_vector = room.per_vector.zeroed(n_rows);
        for col in (0..n_cols).step_by(max_width) {
            let width = max_width.min(n_cols - col);
            let sums = room.sums.zeroed(n_rows * width);
            for first_k in (0..k).step_by(DEPTH) {
                let depth = DEPTH.min(k - first_k);
                let a_of = |row: usize| &a.data[(first_row + row) * a.row_stride + first_k * a.col_stride..];
                let data = &b.data[first_k * b.row_stride + (first_col + col) * b.col_stride..];
                if b.row_stride == 1 {
                    let rows = room.rows.zeroed(n_rows * depth);
                    for (row, values) in rows.chunks_exact_mut(depth).enumerate() {
                        load_strided(isa, a_of(row), a.col_stride, values);
                    }
                    let columns = Vectors { data, n: width, stride: b.col_stride, len: depth };
                    columns.dots(isa, rows, columns.skip(LANES).ahead(), block, per_vector);
                    for (sums, products) in sums.chunks_exact_mut(width).zip(&*per_vector) {
                        for (sum, product) in sums.iter_mut().zip(products) {
                            *sum += product;
                        }
                    }
                } else {
                    for (row, weights) in per_vector.iter_mut().enumerate() {
                        load_strided(isa, a_of(row), a.col_stride, &mut weights[..depth]);
                    }
                    let rows = Vectors { data, n: depth, stride: b.row_stride, len: width };
                    rows.add_weighted(isa, per_vector, |_| 0..depth, rows.skip(AHEAD).ahead(), block, sums);
                }
            }
            for (row, sums) in sums.chunks_exact(width).enumerate() {
                Y::store(isa, sums, &mut tile.row_mut(row)[col..col + width]);
            }
        }
    }
}

/// Room on the stack for a tile.
struct Room {
    /// One step of the inner dimension of the left matrix's rows.
    rows: Scratch<f32, { MAX_ROWS * DEPTH }>,
    /// Of each row, its products with the matrix's columns, or what it weighs the matrix's rows with.
    per_vector: Scratch<PerVector, MAX_ROWS>,
    block: Scratch<f32, BLOCK_ELEMS>,
    sums: Scratch<f32, { MAX_ROWS * WIDTH }>,
}

impl Room {
    #[inline(always)]
    fn new() -> Room {
        Room { rows: Scratch::new(), per_vector: Scratch::new(), block: Scratch::new(), sums: Scratch::new() }
    }
}
