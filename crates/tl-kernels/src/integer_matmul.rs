//! Matrix products of integers and of truth values, one or a batch of them. Floats are multiplied in `matmul`.

use crate::matmul::{Batch, offset};
use crate::matrix::Matrix;
use crate::task_size::PARALLEL_MIN;
use crate::threads::{Threads, Tile, Tiling};

/// Columns whose sums are kept at a time.
const WIDTH: usize = 256;
/// Factors that are passed over together where all are zero.
const FACTORS: usize = 64;
/// The most rows of a tile.
const TILE_ROWS: usize = 16;

/// Elements that can be multiplied and added.
pub trait Ring: Copy + Send + Sync {
    /// What sums are kept in.
    type Sum: Copy;
    /// The sum of nothing.
    const ZERO: Self::Sum;

    /// Whether a product with this element changes no sum.
    fn is_zero(self) -> bool;

    /// The sum with one more product.
    fn add_product(sum: Self::Sum, a: Self, b: Self) -> Self::Sum;

    /// The sum as an element.
    fn from_sum(sum: Self::Sum) -> Self;
}

/// Sums in 64 bits, which saturate; results saturate, too.
impl Ring for i32 {
    type Sum = i64;
    const ZERO: i64 = 0;

    fn is_zero(self) -> bool {
        self == 0
    }

    #[inline(always)]
    fn add_product(sum: i64, a: i32, b: i32) -> i64 {
        sum.saturating_add(i64::from(a) * i64::from(b))
    }

    fn from_sum(sum: i64) -> i32 {
        sum.clamp(i32::MIN.into(), i32::MAX.into()) as i32
    }
}

/// Truth values, 0 and 1: a sum is an or, a product an and.
impl Ring for u8 {
    type Sum = u8;
    const ZERO: u8 = 0;

    fn is_zero(self) -> bool {
        self == 0
    }

    #[inline(always)]
    fn add_product(sum: u8, a: u8, b: u8) -> u8 {
        sum | (a & b)
    }

    fn from_sum(sum: u8) -> u8 {
        sum
    }
}

/// As [`batch_matmul`](crate::batch_matmul), in the arithmetic of integers or of truth values.
pub fn batch_ring_matmul<T: Ring>(
    threads: &Threads,
    batch: Batch<'_>,
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    [m, k, n]: [usize; 3],
    y: &mut [T],
) {
    let Batch { dims, n_inner, a_strides, b_strides } = batch;
    let n_batches: usize = dims.iter().product();
    assert_eq!(y.len(), n_batches * m * n, "batch_ring_matmul: length of the output");
    let parallel = y.len().saturating_mul(k) >= PARALLEL_MIN;
    let row_step = dims[dims.len() - n_inner..].iter().product();
    let tiling = Tiling { n_cols: n, group_rows: m, row_step, tile_rows: TILE_ROWS, tile_cols: WIDTH };
    threads.for_tiles_if(parallel, y, tiling, &|mut tile| {
        let a = Matrix { data: &a.data[offset(tile.group(), dims, a_strides)..], ..a };
        let b = Matrix { data: &b.data[offset(tile.group(), dims, b_strides)..], ..b };
        multiply(a, b, k, &mut tile);
    });
}

fn multiply<T: Ring>(a: Matrix<'_, T>, b: Matrix<'_, T>, k: usize, tile: &mut Tile<'_, T>) {
    let (first_row, first_col, n_cols) = (tile.first_row(), tile.first_col(), tile.n_cols());
    for row in 0..tile.n_rows() {
        let mut room = [T::ZERO; WIDTH];
        let sums = &mut room[..n_cols];
        let start = (first_row + row) * a.row_stride;
        for first in (0..k).step_by(FACTORS) {
            let end = k.min(first + FACTORS);
            // Relations have few elements: most factors are zero, and rows of them are passed over together.
            let are_zero = |factors: &[T]| factors.iter().fold(true, |all, factor| all & factor.is_zero());
            if a.col_stride == 1 && are_zero(&a.data[start + first..start + end]) {
                continue;
            }
            for i in first..end {
                let factor = a.data[start + i * a.col_stride];
                if !factor.is_zero() {
                    add_products(sums, factor, b, i * b.row_stride + first_col * b.col_stride);
                }
            }
        }
        for (y, &sum) in tile.row_mut(row).iter_mut().zip(&*sums) {
            *y = T::from_sum(sum);
        }
    }
}

/// Adds the products of a factor with the elements of a row from `start` on.
#[inline(always)]
fn add_products<T: Ring>(sums: &mut [T::Sum], factor: T, b: Matrix<'_, T>, start: usize) {
    if b.col_stride == 1 {
        let n_cols = sums.len();
        for (sum, &b) in sums.iter_mut().zip(&b.data[start..][..n_cols]) {
            *sum = T::add_product(*sum, factor, b);
        }
    } else {
        for (col, sum) in sums.iter_mut().enumerate() {
            *sum = T::add_product(*sum, factor, b.data[start + col * b.col_stride]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Random, all_threads};

    /// A batch of `[outer, inner]` products of random matrices, the rows of inner batches between each other.
    fn check<T: Ring + PartialEq + std::fmt::Debug>(
        element: impl Fn(u32) -> T,
        [outer, inner, m, k, n]: [usize; 5],
        is_transposed: bool,
    ) {
        let mut random = Random::new((outer + 3 * inner + 7 * m + 11 * k + 13 * n) as u64);
        let mut elements = |n: usize| -> Vec<T> { (0..n).map(|_| element(random.bits() as u32)).collect() };
        let (a, b) = (elements(outer * inner * m * k), elements(k * n));
        let (b_row, b_col) = if is_transposed { (1, k) } else { (n, 1) };
        let mut expected = vec![T::from_sum(T::ZERO); outer * inner * m * n];
        for (index, expected) in expected.iter_mut().enumerate() {
            let (column, index) = (index % n, index / n);
            let (row, group) = (index / inner % m, index / inner / m * inner + index % inner);
            let product = |sum, i| T::add_product(sum, a[(group * m + row) * k + i], b[i * b_row + column * b_col]);
            *expected = T::from_sum((0..k).fold(T::ZERO, product));
        }
        for threads in all_threads() {
            let mut y = vec![element(1); expected.len()];
            let a = Matrix { data: &a, row_stride: k, col_stride: 1 };
            let b = Matrix { data: &b, row_stride: b_row, col_stride: b_col };
            let a_strides = [inner * m * k, m * k];
            let batch = Batch { dims: &[outer, inner], n_inner: 1, a_strides: &a_strides, b_strides: &[0, 0] };
            batch_ring_matmul(&threads, batch, a, b, [m, k, n], &mut y);
            assert_eq!(y, expected, "{outer} x {inner} x [{m}, {k}] @ [{k}, {n}] {threads:?}");
        }
    }

    #[test]
    fn products_of_awkward_sizes() {
        for sizes in [[1, 1, 1, 1, 1], [1, 1, 3, 0, 5], [2, 3, 17, 5, 33], [1, 1, 70, 60, 300], [0, 1, 2, 2, 2]] {
            for is_transposed in [false, true] {
                check(|bits| bits as i32 >> 20, sizes, is_transposed);
                check(|bits| bits as i32, sizes, is_transposed);
                check(|bits| u8::from(bits.is_multiple_of(9)), sizes, is_transposed);
            }
        }
    }
}
