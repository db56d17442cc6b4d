//! Matrix products of strided float matrices, one or a batch of them. Weights in block formats are multiplied by
//! `linear`; this module knows only elements and strides.

use crate::element::Element;
use crate::gemm_tile::{Operands, PANEL, fill_columns, gemm_tile, tile_size};
use crate::gemv_tile;
use crate::isa::Isa;
use crate::matrix::{Matrix, load_strided};
use crate::task_size::PARALLEL_MIN;
use crate::threads::{Threads, Tiling};

/// The products of a batch: where the matrices of each begin, and where their rows stand in the output.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// The dimensions of the batch.
    pub dims: &'a [usize],
    /// How many of them, the last ones, stand behind the rows in the output.
    pub n_inner: usize,
    /// From one left matrix to the next, in elements: a stride for each dimension; 0 repeats the matrix.
    pub a_strides: &'a [usize],
    /// The same of the right matrices.
    pub b_strides: &'a [usize],
}

impl Batch<'_> {
    /// One product.
    pub const ONE: Batch<'static> = Batch { dims: &[], n_inner: 0, a_strides: &[], b_strides: &[] };
}

/// `y[outer, .., inner] = a[outer, inner] b[outer, inner]` for each index of a batch. `a: [m, k]` and `b: [k, n]` are the first
/// matrices, `[m, k, n]` their sizes, `y: [outer.., m, inner.., n]` contiguous; sums in `f32`. `k = 0` gives zeros.
pub fn batch_matmul<A: Element, B: Element, Y: Element>(
    threads: &Threads,
    batch: Batch<'_>,
    a: Matrix<'_, A>,
    b: Matrix<'_, B>,
    [m, k, n]: [usize; 3],
    y: &mut [Y],
) {
    let Batch { dims, n_inner, a_strides, b_strides } = batch;
    assert!(
        a_strides.len() == dims.len() && b_strides.len() == dims.len() && n_inner <= dims.len(),
        "batch_matmul: as many strides as batch dimensions"
    );
    let n_batches: usize = dims.iter().product();
    assert_eq!(y.len(), n_batches * m * n, "batch_matmul: length of the output");
    let isa = threads.isa();
    let parallel = y.len().saturating_mul(k) >= PARALLEL_MIN;
    let (tile_rows, tile_cols) = tile_size(n_batches, m, n, if parallel { threads.count() } else { 1 });
    let row_step = dims[dims.len() - n_inner..].iter().product();
    let tiling = Tiling { n_cols: n, group_rows: m, row_step, tile_rows, tile_cols };
    threads.for_tiles_if(parallel, y, tiling, &|mut tile| {
        let a = Matrix { data: &a.data[offset(tile.group(), dims, a_strides)..], ..a };
        let b = Matrix { data: &b.data[offset(tile.group(), dims, b_strides)..], ..b };
        let first_row = tile.first_row();
        if gemv_tile::is_better(isa, &b, tile.n_rows(), tile.n_cols(), k) {
            return gemv_tile::gemv_tile(isa, a, b, k, first_row, &mut tile);
        }
        gemm_tile(isa, &Pair { a, b }, k, first_row, &mut tile);
    });
}

/// Where matrix `index` of a batch begins.
pub(crate) fn offset(mut index: usize, dims: &[usize], strides: &[usize]) -> usize {
    let mut offset = 0;
    for (dim, stride) in dims.iter().zip(strides).rev() {
        offset += index % dim * stride;
        index /= dim;
    }
    offset
}

/// Two strided factors.
struct Pair<'a, A, B> {
    a: Matrix<'a, A>,
    b: Matrix<'a, B>,
}

impl<A: Element, B: Element> Operands for Pair<'_, A, B> {
    #[inline(always)]
    fn load_a(&self, isa: Isa, row: usize, first_k: usize, dst: &mut [f32]) {
        let start = row * self.a.row_stride + first_k * self.a.col_stride;
        load_strided(isa, &self.a.data[start..], self.a.col_stride, dst);
    }

    #[inline(always)]
    fn load_b(&self, isa: Isa, first_col: usize, n_cols: usize, first_k: usize, panel: &mut [[f32; PANEL]]) {
        let Matrix { data, row_stride, col_stride } = self.b;
        let start = first_k * row_stride + first_col * col_stride;
        if row_stride == 1 && col_stride != 1 {
            return fill_columns(isa, panel, n_cols, |col, first, values| {
                B::load(isa, &data[start + col * col_stride + first..][..values.len()], values);
            });
        }
        if col_stride == 1 && n_cols == PANEL {
            for (i, panel) in panel.iter_mut().enumerate() {
                B::load(isa, &data[start + i * row_stride..][..PANEL], panel);
            }
            return;
        }
        for (i, panel) in panel.iter_mut().enumerate() {
            load_strided(isa, &data[start + i * row_stride..], col_stride, &mut panel[..n_cols]);
        }
    }

    #[inline(always)]
    fn init_accumulators(&self, _isa: Isa, _first_col: usize, dst: &mut [f32]) {
        dst.fill(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Random, all_threads, assert_close, rounding};
    use half::f16;

    /// Multiplies random matrices, a batch of `outer * inner`; `transposed` says which operand lies transposed in memory.
    fn check<A: Element, B: Element, Y: Element>(
        [outer, inner]: [usize; 2],
        (m, k, n): (usize, usize, usize),
        transposed: (bool, bool),
    ) {
        let batch = outer * inner;
        let mut random = Random::new((batch * 31 + m * 7 + k * 3 + n) as u64);
        let (a, b) = (random.vec::<A>(batch * m * k), random.vec::<B>(m.max(1) * k * n));
        let strides = |flip: bool, rows: usize, cols: usize| if flip { (1, rows) } else { (cols, 1) };
        let (a_row, a_col) = strides(transposed.0, m, k);
        let (b_row, b_col) = strides(transposed.1, k, n);
        let mut expected = vec![0.0; batch * m * n];
        for (index, expected) in expected.iter_mut().enumerate() {
            let (j, index) = (index % n, index / n);
            let (i, g) = (index / inner % m, index / inner / m * inner + index % inner);
            *expected = (0..k)
                .map(|c| {
                    let a = a[g * m * k + i * a_row + c * a_col].to_f32();
                    f64::from(a) * f64::from(b[c * b_row + j * b_col].to_f32())
                })
                .sum();
        }
        for threads in all_threads() {
            let mut y = vec![Y::from_f32(f32::NAN); batch * m * n];
            let a = Matrix { data: &a, row_stride: a_row, col_stride: a_col };
            let b = Matrix { data: &b, row_stride: b_row, col_stride: b_col };
            if batch == 1 {
                batch_matmul(&threads, Batch::ONE, a, b, [m, k, n], &mut y);
            } else {
                let a_strides = [inner * m * k, m * k];
                let batch = Batch { dims: &[outer, inner], n_inner: 1, a_strides: &a_strides, b_strides: &[0, 0] };
                batch_matmul(&threads, batch, a, b, [m, k, n], &mut y);
            }
            // Rounding of the sums (a random walk of k steps), then of the output.
            let relative = rounding::<Y>();
            let what = format!("{outer} x {inner} x [{m}, {k}] @ [{k}, {n}] {transposed:?} {threads:?}");
            assert_close(&what, &y, &expected, 2e-6 * (1.0 + k as f64).sqrt(), relative);
        }
    }

    #[test]
    fn products_of_awkward_sizes() {
        let sizes = [0, 1, 2, 5, 6, 7, 16, 31, 33, 97, 255, 257];
        for (k, n) in [(0, 5), (1, 1), (16, 64), (33, 67), (64, 128), (144, 70), (257, 130), (600, 3)] {
            for m in [1, 2, 3, 8, 9] {
                for transposed in [(false, false), (false, true), (true, false), (true, true)] {
                    check::<f32, f16, f32>([3, 1], (m, k, n), transposed);
                    check::<f32, f16, f32>([1, 3], (m, k, n), transposed);
                    check::<f16, f16, f16>([1, 1], (m, k, n), transposed);
                }
            }
        }
        let mut random = Random::new(3);
        let mut size = || sizes[random.bits() as usize % sizes.len()];
        for i in 0..60 {
            let (m, k, n) = (size(), size(), size());
            check::<f32, f32, f32>([1, 1], (m, k, n), (i & 1 == 1, i & 2 == 2));
            check::<f16, f32, f16>([1, 1], (m, k, n), (i & 2 == 2, i & 1 == 1));
        }
        check::<f16, f16, f16>([1, 1], (100, 513, 300), (false, true));
        check::<f32, f32, f32>([1, 1], (1, 2048, 700), (false, false));
    }

    #[test]
    fn batches_share_or_own_their_matrices() {
        for batch in [[0, 1], [2, 1], [5, 1], [1, 0], [1, 3], [2, 3], [3, 7]] {
            for m in [1, 2, 3, 7, 8, 11, 12, 13] {
                check::<f16, f16, f16>(batch, (m, 32, 33), (false, m % 2 == 0));
            }
            check::<f32, f16, f32>(batch, (1, 64, 40), (true, true));
            check::<f32, f32, f32>(batch, (100, 33, 130), (false, true));
        }
        let (dims, strides) = ([2, 3, 4], [100, 0, 7]);
        assert_eq!(offset(2 * 4 + 3, &dims, &strides), 21);
        assert_eq!(offset(12 + 4 + 1, &dims, &strides), 107);
    }
}
