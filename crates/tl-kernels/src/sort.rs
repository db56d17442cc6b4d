//! Rows in the order of their elements, and the places of the elements in that order.
//!
//! Sorting happens in the output itself, so that no memory is needed beside it.

use half::f16;

use crate::threads::Threads;

/// Elements of rows that make up a task.
const TASK_ELEMS: usize = 16 * 1024;

/// Elements that can be put in order.
pub trait Ordered: Copy + Send + Sync {
    /// A number that grows with the value: the same for both zeros, the largest for NaN.
    fn rank(self) -> u32;
}

impl Ordered for f32 {
    fn rank(self) -> u32 {
        // The sum of two zeros is the positive one.
        let bits = (self + 0.0).to_bits();
        match bits >> 31 {
            _ if self.is_nan() => u32::MAX,
            0 => bits | 1 << 31,
            _ => !bits,
        }
    }
}

impl Ordered for f16 {
    fn rank(self) -> u32 {
        self.to_f32().rank()
    }
}

impl Ordered for i32 {
    fn rank(self) -> u32 {
        self as u32 ^ 1 << 31
    }
}

/// Each row of `n` in ascending order, NaN at the end, or in descending order, NaN at the start. `x, out: [rows, n]`,
/// contiguous.
pub fn sort<T: Ordered>(threads: &Threads, x: &[T], n: usize, descending: bool, out: &mut [T]) {
    rows(threads, x, n, out, &|row, out| {
        out.copy_from_slice(row);
        out.sort_unstable_by_key(|value| key(value.rank(), descending));
    });
}

/// The places of what [`sort`] gives; of equals, the first one stands first.
pub fn sort_places<T: Ordered>(threads: &Threads, x: &[T], n: usize, descending: bool, out: &mut [i32]) {
    rows(threads, x, n, out, &|row, out| {
        out.iter_mut().enumerate().for_each(|(place, out)| *out = place as i32);
        out.sort_unstable_by_key(|&place| {
            u64::from(key(row[place as usize].rank(), descending)) << 32 | u64::from(place as u32)
        });
    });
}

fn key(rank: u32, descending: bool) -> u32 {
    if descending { !rank } else { rank }
}

fn rows<T: Ordered, S: Send>(
    threads: &Threads,
    x: &[T],
    n: usize,
    out: &mut [S],
    body: &(dyn Fn(&[T], &mut [S]) + Sync),
) {
    assert!(x.len() == out.len() && (n == 0 || x.len().is_multiple_of(n)), "sort: rows of {n}");
    if out.is_empty() {
        return;
    }
    let per_task = (TASK_ELEMS / n).max(1) * n;
    threads.for_chunks(out, per_task, &|chunk, out| {
        let x = &x[chunk * per_task..];
        for (row, out) in x.chunks_exact(n).zip(out.chunks_exact_mut(n)) {
            body(row, out);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::all_threads;

    #[test]
    fn rows_of_values_and_places() {
        let x = [3.0, f32::NAN, -0.0, 0.0, f32::NEG_INFINITY, 3.0, 1.0, 1.0, 1.0, 1.0, -2.0, 1.0];
        let places = |descending: bool| if descending { [1, 0, 5, 2, 3, 4] } else { [4, 2, 3, 0, 5, 1] };
        for threads in all_threads() {
            for descending in [false, true] {
                let mut out = [0; 12];
                sort_places(&threads, &x, 6, descending, &mut out);
                assert_eq!(out[..6], places(descending));
                assert_eq!(out[6..], if descending { [0, 1, 2, 3, 5, 4] } else { [4, 0, 1, 2, 3, 5] });
                let mut sorted = [0.0; 12];
                sort(&threads, &x, 6, descending, &mut sorted);
                for (value, place) in sorted.iter().zip(&out[..6]) {
                    assert_eq!(value.rank(), x[*place as usize].rank());
                }
            }
            let mut out = [0; 3];
            sort(&threads, &[i32::MAX, i32::MIN, -1], 3, true, &mut out);
            assert_eq!(out, [i32::MAX, -1, i32::MIN]);
            sort::<i32>(&threads, &[], 0, true, &mut []);
        }
    }
}
