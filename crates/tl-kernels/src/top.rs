//! The largest elements of rows, and their places.
//!
//! What is chosen stands in the output itself, as a heap whose first element is the last in order, until all of the row has been seen;
//! then it is sorted where it stands. So no memory is needed beside it.

use crate::sort::Ordered;
use crate::threads::Threads;

/// Elements of rows that make up a task.
const TASK_ELEMS: usize = 16 * 1024;

/// The `k` largest elements of each row of `n`, the largest first; NaN before everything, as for
/// [`arg_reduce`](crate::arg_reduce). `x: [rows, n]`, `out: [rows, k]`, contiguous.
///
/// # Panics
/// If `k` is larger than `n`, or a length is wrong.
pub fn top<T: Ordered>(threads: &Threads, x: &[T], [n, k]: [usize; 2], out: &mut [T]) {
    rows(threads, x, [n, k], out, &|row, out| {
        select(n, out, |i| row[i], |value| u64::from(value.rank()) << 32);
    });
}

/// The places of what [`top`] gives; of equals, the first ones in order.
///
/// # Panics
/// As for [`top`].
pub fn top_places<T: Ordered>(threads: &Threads, x: &[T], [n, k]: [usize; 2], out: &mut [i32]) {
    rows(threads, x, [n, k], out, &|row, out| {
        let key = |place: i32| u64::from(row[place as usize].rank()) << 32 | u64::from(!(place as u32));
        select(n, out, |i| i as i32, key);
    });
}

fn rows<T: Ordered, S: Send>(
    threads: &Threads,
    x: &[T],
    [n, k]: [usize; 2],
    out: &mut [S],
    body: &(dyn Fn(&[T], &mut [S]) + Sync),
) {
    if out.is_empty() {
        return;
    }
    assert!(k <= n && out.len() / k * n == x.len() && out.len().is_multiple_of(k), "top {k} of rows of {n}");
    let per_task = (TASK_ELEMS / n).max(1);
    threads.for_chunks(out, per_task * k, &|chunk, out| {
        let x = &x[chunk * per_task * n..];
        for (row, out) in x.chunks_exact(n).zip(out.chunks_exact_mut(k)) {
            body(row, out);
        }
    });
}

/// The `out.len()` candidates with the largest keys, in order. There are `n`, no fewer.
fn select<S: Copy>(n: usize, out: &mut [S], candidate: impl Fn(usize) -> S, key: impl Fn(S) -> u64) {
    let k = out.len();
    out.iter_mut().enumerate().for_each(|(i, out)| *out = candidate(i));
    for root in (0..k / 2).rev() {
        sift_down(out, root, &key);
    }
    for i in k..n {
        let next = candidate(i);
        if key(next) > key(out[0]) {
            out[0] = next;
            sift_down(out, 0, &key);
        }
    }
    for end in (1..k).rev() {
        out.swap(0, end);
        sift_down(&mut out[..end], 0, &key);
    }
}

/// Makes a heap of the elements below `root` and it: none has a smaller key than the one above it.
fn sift_down<S: Copy>(heap: &mut [S], mut root: usize, key: &impl Fn(S) -> u64) {
    loop {
        let (left, right) = (2 * root + 1, 2 * root + 2);
        if left >= heap.len() {
            return;
        }
        let child = if right < heap.len() && key(heap[right]) < key(heap[left]) { right } else { left };
        if key(heap[root]) <= key(heap[child]) {
            return;
        }
        heap.swap(root, child);
        root = child;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::Element;
    use crate::testing::{Random, all_threads};
    use half::f16;

    fn check<T: Ordered + Element>(x: &[T], n: usize, k: usize) {
        let mut values = Vec::new();
        let mut places = Vec::new();
        for row in x.chunks(n) {
            let mut order: Vec<usize> = (0..n).collect();
            // Sorting keeps the order of equals.
            order.sort_by(|&a, &b| {
                let (a, b) = (row[a].to_f32(), row[b].to_f32());
                b.is_nan().cmp(&a.is_nan()).then(b.partial_cmp(&a).unwrap_or(std::cmp::Ordering::Equal))
            });
            values.extend(order[..k].iter().map(|&place| row[place].to_f32()));
            places.extend(order[..k].iter().map(|&place| place as i32));
        }
        for threads in all_threads() {
            let mut found = vec![T::from_f32(77.0); values.len()];
            top(&threads, x, [n, k], &mut found);
            let is_same = |(a, b): (&T, &f32)| a.to_f32() == *b || a.to_f32().is_nan() && b.is_nan();
            assert!(found.iter().zip(&values).all(is_same), "{k} of {n}");
            let mut found = vec![-1; places.len()];
            top_places(&threads, x, [n, k], &mut found);
            assert_eq!(found, places, "{k} of {n}");
        }
    }

    #[test]
    fn in_order() {
        for (rows, n) in [(0, 3), (1, 1), (3, 2), (5, 7), (70, 128), (2, 5000), (300, 64)] {
            for k in [1, 2, 5, 8, 64, 5000] {
                let x = Random::new(n as u64).vec::<f32>(rows * n);
                // Few values, so that many are equal.
                let few: Vec<f16> = x.iter().map(|x| f16::from_f32((x * 3.0).round())).collect();
                check(&x, n, k.min(n));
                check(&few, n, k.min(n));
            }
        }
        let special = [f32::NAN, -0.0, 0.0, f32::INFINITY, -1e-40, f32::NEG_INFINITY, -f32::NAN, 0.0, 1e-40, -0.0];
        for k in 1..=special.len() {
            check(&special, special.len(), k);
        }
    }
}
