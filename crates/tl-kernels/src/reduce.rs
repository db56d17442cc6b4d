//! Reductions along an axis of a strided view.
//!
//! Sums run in independent parts, lanes within a block and stretches of an outer axis, which lets them vectorize and keeps the rounding
//! of long sums small. NaN is never lost: a largest or smallest of values among which there is one is NaN.

use crate::element::Element;
use crate::isa::instantiate;
use crate::map::{BLOCK, View};
use crate::scratch::Scratch;
use crate::task_size::ROW_TASK_ELEMS;
use crate::threads::Threads;

/// Independent sums in a block: two AVX2 registers.
const LANES: usize = 16;
/// Elements of an outer axis that are summed before they join the total.
const STRETCH: usize = 64;

/// What [`reduce`] computes along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReduceOp {
    /// The sum; 0 of nothing.
    Sum,
    /// The arithmetic mean; NaN of nothing.
    Mean,
    /// The largest, NaN if one is NaN; -inf of nothing.
    Max,
    /// The smallest, NaN if one is NaN; inf of nothing.
    Min,
    /// The square root of the sum of squares; 0 of nothing.
    Norm,
}

/// What [`arg_reduce`] looks for along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArgReduceOp {
    /// The first of the largest; the first NaN if there is one.
    Max,
    /// The first of the smallest; the first NaN if there is one.
    Min,
}

/// How a reduction treats its values: see [`fold`]; `finish` makes the total the result.
struct Reduction<S, J, F> {
    start: f32,
    step: S,
    join: J,
    finish: F,
}

/// Where the elements of an axis lie in the order of a view's dimensions: element `j` of output `o` is number
/// `(o / inner * n + j) * inner + o % inner`.
#[derive(Clone, Copy)]
struct Axis {
    n: usize,
    inner: usize,
}

impl Axis {
    fn of<T>(x: &View<'_, T>, axis: usize, n_out: usize) -> Axis {
        x.assert_inside();
        let (outer, rest) = x.dims.split_at(axis);
        let (n, inner) = (rest[0], rest[1..].iter().product());
        assert_eq!(n_out, outer.iter().product::<usize>() * inner, "reduce: length of the output");
        Axis { n, inner }
    }

    /// The number of the first element of output `out`.
    fn first(self, out: usize) -> usize {
        out / self.inner * self.n * self.inner + out % self.inner
    }

    /// Outputs that make up a task.
    fn outputs_per_task(self) -> usize {
        (ROW_TASK_ELEMS / self.n.max(1)).max(1)
    }
}

/// Reduces dimension `axis` of the view. `out` has the other dimensions, contiguous in their order; computes in `f32`.
pub fn reduce<T: Element>(threads: &Threads, x: View<'_, T>, axis: usize, op: ReduceOp, out: &mut [T]) {
    let axis = Axis::of(&x, axis, out.len());
    let isa = threads.isa();
    let n = axis.n as f32;
    let per_task = axis.outputs_per_task();
    threads.for_chunks(out, per_task, &|chunk, out| {
        let first = chunk * per_task;
        match op {
            ReduceOp::Sum => reduce_chunk(
                isa,
                x,
                axis,
                first,
                out,
                Reduction { start: 0.0, step: add, join: add, finish: |sum| sum },
            ),
            ReduceOp::Mean => reduce_chunk(
                isa,
                x,
                axis,
                first,
                out,
                Reduction { start: 0.0, step: add, join: add, finish: |sum| sum / n },
            ),
            ReduceOp::Max => reduce_chunk(
                isa,
                x,
                axis,
                first,
                out,
                Reduction { start: f32::NEG_INFINITY, step: larger, join: larger, finish: |max| max },
            ),
            ReduceOp::Min => reduce_chunk(
                isa,
                x,
                axis,
                first,
                out,
                Reduction { start: f32::INFINITY, step: smaller, join: smaller, finish: |min| min },
            ),
            ReduceOp::Norm => reduce_chunk(
                isa,
                x,
                axis,
                first,
                out,
                Reduction { start: 0.0, step: |sum, x| sum + x * x, join: add, finish: f32::sqrt },
            ),
        }
    });
}

/// The index along `axis` of the largest or smallest element: the first of equals, and NaN before everything, as in NumPy.
/// `out` has the other dimensions, contiguous in their order.
///
/// # Panics
/// If the axis has no element while `out` has.
pub fn arg_reduce<T: Element>(threads: &Threads, x: View<'_, T>, axis: usize, op: ArgReduceOp, out: &mut [i32]) {
    let axis = Axis::of(&x, axis, out.len());
    assert!(axis.n > 0 || out.is_empty(), "arg_reduce: an axis without elements has no largest");
    let isa = threads.isa();
    let per_task = axis.outputs_per_task();
    threads.for_chunks(out, per_task, &|chunk, out| match op {
        ArgReduceOp::Max => arg_reduce_chunk(isa, x, axis, chunk * per_task, out, larger),
        ArgReduceOp::Min => arg_reduce_chunk(isa, x, axis, chunk * per_task, out, smaller),
    });
}

/// Folds `n` values that `load(first, block)` brings: `step` takes one value into a lane, `join` joins lanes and blocks.
#[inline(always)]
pub(crate) fn fold(
    n: usize,
    start: f32,
    load: impl Fn(usize, &mut [f32]),
    step: impl Fn(f32, f32) -> f32,
    join: impl Fn(f32, f32) -> f32,
) -> f32 {
    let mut room = Scratch::<f32, BLOCK>::new();
    let values = room.zeroed(BLOCK.min(n));
    let mut total = start;
    for first in (0..n).step_by(BLOCK) {
        let values = &mut values[..BLOCK.min(n - first)];
        load(first, values);
        total = join(total, fold_values(values, start, &step, &join));
    }
    total
}

/// As [`fold`], for values that are there: each lane takes every 16th of them, and in the end the lanes are joined in pairs, for
/// which fewer wait for each other than one after the other.
#[inline(always)]
pub(crate) fn fold_values(
    values: &[f32],
    start: f32,
    step: impl Fn(f32, f32) -> f32,
    join: impl Fn(f32, f32) -> f32,
) -> f32 {
    let mut lanes = [start; LANES];
    let (groups, rest) = values.as_chunks::<LANES>();
    for group in groups {
        for (lane, value) in lanes.iter_mut().zip(group) {
            *lane = step(*lane, *value);
        }
    }
    if !rest.is_empty() {
        // Lanes of their own: those above stay in a register, which a number of lanes that is not known would forbid.
        let mut last = [start; LANES];
        for (lane, value) in last.iter_mut().zip(rest) {
            *lane = step(*lane, *value);
        }
        for (lane, last) in lanes.iter_mut().zip(last) {
            *lane = join(*lane, last);
        }
    }
    const { assert!(LANES == 16) };
    let (mut eight, mut four, mut two) = ([start; 8], [start; 4], [start; 2]);
    for i in 0..8 {
        eight[i] = join(lanes[i], lanes[i + 8]);
    }
    for i in 0..4 {
        four[i] = join(eight[i], eight[i + 4]);
    }
    for i in 0..2 {
        two[i] = join(four[i], four[i + 2]);
    }
    join(two[0], two[1])
}

/// The larger, NaN if either is.
#[inline(always)]
pub(crate) fn larger(a: f32, b: f32) -> f32 {
    if b > a || b.is_nan() { b } else { a }
}

/// The smaller, NaN if either is.
#[inline(always)]
pub(crate) fn smaller(a: f32, b: f32) -> f32 {
    if b < a || b.is_nan() { b } else { a }
}

#[inline(always)]
pub(crate) fn add(a: f32, b: f32) -> f32 {
    a + b
}

instantiate! {
    /// Outputs `first ..`: one after the other where the axis is innermost, else a block of neighbours at a time.
    fn reduce_chunk[T: Element, S: Fn(f32, f32) -> f32, J: Fn(f32, f32) -> f32, F: Fn(f32) -> f32](
        isa: Isa, x: View<'_, T>, axis: Axis, first: usize, out: &mut [T], reduction: Reduction<S, J, F>,
    ) {
        let Reduction { start, step, join, finish } = reduction;
        if axis.inner == 1 {
            for (i, out) in out.iter_mut().enumerate() {
                let start_of_row = (first + i) * axis.n;
                let load = |at: usize, dst: &mut [f32]| x.load(isa, start_of_row + at, dst);
                *out = T::from_f32(finish(fold(axis.n, start, load, &step, &join)));
            }
            return;
        }
        let mut done = 0;
        while done < out.len() {
            let count = BLOCK.min(out.len() - done).min(axis.inner - (first + done) % axis.inner);
            let (mut totals, mut parts, mut values) = ([start; BLOCK], [start; BLOCK], [0.0; BLOCK]);
            let (totals, parts, values) = (&mut totals[..count], &mut parts[..count], &mut values[..count]);
            for j in 0..axis.n {
                x.load(isa, axis.first(first + done) + j * axis.inner, values);
                for (part, value) in parts.iter_mut().zip(values.iter()) {
                    *part = step(*part, *value);
                }
                if j % STRETCH == STRETCH - 1 || j == axis.n - 1 {
                    for (total, part) in totals.iter_mut().zip(parts.iter_mut()) {
                        *total = join(*total, *part);
                        *part = start;
                    }
                }
            }
            for total in totals.iter_mut() {
                *total = finish(*total);
            }
            T::store(isa, totals, &mut out[done..done + count]);
            done += count;
        }
    }

    /// `choose(a, b)` gives `b` where it is better than `a` or NaN.
    fn arg_reduce_chunk[T: Element, C: Fn(f32, f32) -> f32](
        isa: Isa, x: View<'_, T>, axis: Axis, first: usize, out: &mut [i32], choose: C,
    ) {
        let mut values = [0.0; BLOCK];
        for (i, out) in out.iter_mut().enumerate() {
            if axis.inner == 1 {
                let start = (first + i) * axis.n;
                x.load(isa, start, &mut values[..1]);
                let best = fold(axis.n, values[0], |at, dst| x.load(isa, start + at, dst), &choose, &choose);
                let is_best = |value: &f32| *value == best || value.is_nan();
                *out = (0..axis.n).step_by(BLOCK).find_map(|at| {
                    let values = &mut values[..BLOCK.min(axis.n - at)];
                    x.load(isa, start + at, values);
                    values.iter().position(is_best).map(|index| (at + index) as i32)
                }).unwrap_or(0);
                continue;
            }
            let mut best = f32::NAN;
            for j in 0..axis.n {
                x.load(isa, axis.first(first + i) + j * axis.inner, &mut values[..1]);
                let better = choose(best, values[0]) != best && !best.is_nan();
                if j == 0 || better {
                    best = values[0];
                    *out = j as i32;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Random, all_threads, assert_close, rounding};
    use half::f16;

    const OPS: [ReduceOp; 5] = [ReduceOp::Sum, ReduceOp::Mean, ReduceOp::Max, ReduceOp::Min, ReduceOp::Norm];

    fn reference(op: ReduceOp, x: &[f64]) -> f64 {
        let sum = x.iter().sum::<f64>();
        let nan = x.iter().any(|x| x.is_nan());
        match op {
            ReduceOp::Sum => sum,
            ReduceOp::Mean => sum / x.len() as f64,
            _ if nan => f64::NAN,
            ReduceOp::Max => x.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            ReduceOp::Min => x.iter().copied().fold(f64::INFINITY, f64::min),
            ReduceOp::Norm => x.iter().map(|x| x * x).sum::<f64>().sqrt(),
        }
    }

    /// Every reduction of every axis of a view of `data` with `dims`, and strides that leave a gap, or exchange the axes.
    fn check<T: Element>(dims: [usize; 3], strides: [usize; 3], data: &[T]) {
        let x = View { data, dims: &dims, strides: &strides };
        let at =
            |index: [usize; 3]| f64::from(data[index.iter().zip(strides).map(|(i, s)| i * s).sum::<usize>()].to_f32());
        for axis in 0..3 {
            let mut others = dims;
            others[axis] = 1;
            let mut rows: Vec<Vec<f64>> = Vec::new();
            for out in 0..others.iter().product() {
                let mut index = [out / (others[1] * others[2]), out / others[2] % others[1], out % others[2]];
                rows.push(
                    (0..dims[axis])
                        .map(|j| {
                            index[axis] = j;
                            at(index)
                        })
                        .collect(),
                );
            }
            for threads in all_threads() {
                for op in OPS {
                    let mut out = vec![T::from_f32(9.0); rows.len()];
                    reduce(&threads, x, axis, op, &mut out);
                    let expected: Vec<f64> = rows.iter().map(|row| reference(op, row)).collect();
                    let absolute = 1e-6 * dims[axis] as f64;
                    assert_close(&format!("{op:?} {dims:?} {axis}"), &out, &expected, absolute, rounding::<T>());
                }
                for op in [ArgReduceOp::Max, ArgReduceOp::Min] {
                    if dims[axis] == 0 {
                        continue;
                    }
                    let mut out = vec![-1; rows.len()];
                    arg_reduce(&threads, x, axis, op, &mut out);
                    let expected: Vec<i32> = rows.iter().map(|row| first_best(op, row)).collect();
                    assert_eq!(out, expected, "{op:?} {dims:?} {axis}");
                }
            }
        }
    }

    fn first_best(op: ArgReduceOp, row: &[f64]) -> i32 {
        let mut best = 0;
        for (j, value) in row.iter().enumerate() {
            let better = if op == ArgReduceOp::Max { *value > row[best] } else { *value < row[best] };
            if !row[best].is_nan() && (better || value.is_nan()) {
                best = j;
            }
        }
        best as i32
    }

    #[test]
    fn every_axis_of_any_view() {
        let mut random = Random::new(8);
        for dims in
            [[0, 2, 3], [2, 0, 3], [1, 1, 1], [2, 3, 4], [3, 31, 33], [2, 5, 257], [300, 2, 300], [1, 70_000, 1]]
        {
            let [a, b, c] = dims;
            let data = random.vec::<f32>(2 * a * b * c + 1);
            check(dims, [b * c, c, 1], &data);
            check(dims, [1, a, a * b], &data);
            check(dims, [2 * b * c, 2 * c, 2], &data);
            check(dims, [0, 0, 1], &data);
            let halves: Vec<f16> = data.iter().map(|x| f16::from_f32(*x)).collect();
            check(dims, [b * c, c, 1], &halves);
        }
    }

    #[test]
    fn equals_and_nan() {
        let mut data = vec![1.0f32; 3000];
        check([1, 10, 300], [0, 300, 1], &data);
        (data[700], data[1400], data[1401], data[2999]) = (f32::NAN, f32::NAN, f32::NAN, -0.0);
        check([1, 10, 300], [0, 300, 1], &data);
        check([10, 300, 1], [300, 1, 1], &vec![f32::NEG_INFINITY; 3000]);
        check([10, 300, 1], [300, 1, 1], &vec![f32::INFINITY; 3000]);
    }
}
