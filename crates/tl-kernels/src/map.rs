//! Elementwise maps and copies over strided views: broadcasting and transposition cost no copy of their own.
//!
//! A view is read in the order of its dimensions, 256 elements at a time: loaded into a block of `f32` on the stack,
//! mapped there, stored. Each operand finds its own longest runs of evenly spaced elements, so that contiguous and
//! broadcast operands are as fast as their layout lets them be. Nothing here knows what the mapped function is.

use crate::element::Element;
use crate::isa::{Isa, instantiate};
use crate::scratch::Scratch;
use crate::threads::Threads;

/// Elements in a block on the stack.
pub(crate) const BLOCK: usize = 256;
/// Elements that one task maps; no more than this run on the calling thread.
pub(crate) const CHUNK: usize = 32 * 1024;

/// A strided view of a slice. The first element is `data[0]`; dimension `i` has `dims[i]` elements, `strides[i]` apart.
#[derive(Debug)]
pub struct View<'a, T> {
    /// The elements, from the view's first to at least its last.
    pub data: &'a [T],
    /// Sizes, outermost first. No dimension at all is a single element.
    pub dims: &'a [usize],
    /// Distances in elements, as many as `dims`; 0 repeats (broadcasts).
    pub strides: &'a [usize],
}

impl<T> Clone for View<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for View<'_, T> {}

/// `length` elements from `data[start]`, `stride` apart.
struct Run {
    start: usize,
    stride: usize,
    length: usize,
}

impl<'a, T> View<'a, T> {
    /// How many elements the view has: the product of its dimensions.
    pub fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// Whether the view has no elements.
    pub fn is_empty(&self) -> bool {
        self.dims.contains(&0)
    }

    /// Panics unless all elements lie inside `data`.
    pub(crate) fn assert_inside(&self) {
        assert_eq!(self.dims.len(), self.strides.len(), "as many strides as dimensions");
        if self.is_empty() {
            return;
        }
        let last = self
            .dims
            .iter()
            .zip(self.strides)
            .try_fold(0usize, |sum, (&dim, &stride)| sum.checked_add((dim - 1).checked_mul(stride)?));
        assert!(
            last.is_some_and(|last| last < self.data.len()),
            "a view of {:?} with strides {:?} leaves its {} elements",
            self.dims,
            self.strides,
            self.data.len()
        );
    }

    /// As [`View::assert_inside`], and panics unless `op` has room for so many elements.
    pub(crate) fn assert_fits(&self, op: &str, len: usize) {
        self.assert_inside();
        assert_eq!(self.len(), len, "{op}: lengths of input and output");
    }

    /// The length and stride of the view's runs: the longest suffix of dimensions that is evenly spaced. Also the number
    /// of dimensions before that suffix.
    fn runs(&self) -> (usize, usize, usize) {
        let (mut length, mut stride) = (1, 1);
        for axis in (0..self.dims.len()).rev() {
            if self.dims[axis] == 1 {
                continue;
            }
            if length == 1 {
                stride = self.strides[axis];
            } else if self.strides[axis] != stride * length {
                return (length, stride, axis + 1);
            }
            length *= self.dims[axis];
        }
        (length, stride, 0)
    }

    /// Calls `visit` with the runs that make up elements `first .. first + count`, and with each run's place among them.
    #[inline(always)]
    fn for_runs(&self, first: usize, count: usize, mut visit: impl FnMut(Run, usize)) {
        let (length, stride, n_outer) = self.runs();
        let (outer_dims, outer_strides) = (&self.dims[..n_outer], &self.strides[..n_outer]);
        let mut within = first % length;
        let mut outer = Odometer::at(first / length, outer_dims, outer_strides);
        let mut done = 0;
        while done < count {
            let run =
                Run { start: outer.offset + within * stride, stride, length: (length - within).min(count - done) };
            let run_length = run.length;
            visit(run, done);
            done += run_length;
            within = 0;
            outer.step(outer_dims, outer_strides);
        }
    }
}

/// Dimensions whose indices an odometer keeps; of more, it divides for those before them.
const KEPT: usize = 4;

/// Where an index of several dimensions points to, and the indices of the last of them.
struct Odometer {
    index: usize,
    kept: [usize; KEPT],
    offset: usize,
}

impl Odometer {
    #[inline(always)]
    fn at(index: usize, dims: &[usize], strides: &[usize]) -> Odometer {
        let (mut kept, mut offset, mut rest) = ([0; KEPT], 0, index);
        for axis in (0..dims.len()).rev() {
            let at = rest % dims[axis];
            rest /= dims[axis];
            offset += at * strides[axis];
            if let Some(place) = kept.get_mut(dims.len() - 1 - axis) {
                *place = at;
            }
        }
        Odometer { index, kept, offset }
    }

    /// To the next index, in the order of the dimensions; behind the last, to the first.
    #[inline(always)]
    fn step(&mut self, dims: &[usize], strides: &[usize]) {
        self.index += 1;
        for (kept, axis) in self.kept.iter_mut().zip((0..dims.len()).rev()) {
            *kept += 1;
            self.offset += strides[axis];
            if *kept < dims[axis] {
                return;
            }
            self.offset -= strides[axis] * dims[axis];
            *kept = 0;
        }
        if dims.len() > KEPT {
            *self = Odometer::at(self.index, dims, strides);
        }
    }
}

impl<T: Element> View<'_, T> {
    /// `dst[i]` = element `first + i` of the view, in the order of its dimensions.
    #[inline(always)]
    pub(crate) fn load(&self, isa: Isa, first: usize, dst: &mut [f32]) {
        self.for_runs(first, dst.len(), |run, at| {
            let dst = &mut dst[at..at + run.length];
            match run.stride {
                1 => T::load(isa, &self.data[run.start..run.start + run.length], dst),
                0 => dst.fill(self.data[run.start].to_f32()),
                stride => {
                    for (d, s) in dst.iter_mut().zip(self.data[run.start..].iter().step_by(stride)) {
                        *d = s.to_f32();
                    }
                }
            }
        });
    }
}

impl View<'_, u8> {
    /// `dst[i]` = whether element `first + i` is anything but 0.
    #[inline(always)]
    fn load_flags(&self, first: usize, dst: &mut [bool]) {
        self.for_runs(first, dst.len(), |run, at| {
            let dst = &mut dst[at..at + run.length];
            match run.stride {
                0 => dst.fill(self.data[run.start] != 0),
                1 => {
                    for (d, s) in dst.iter_mut().zip(&self.data[run.start..]) {
                        *d = *s != 0;
                    }
                }
                stride => {
                    for (d, s) in dst.iter_mut().zip(self.data[run.start..].iter().step_by(stride)) {
                        *d = *s != 0;
                    }
                }
            }
        });
    }
}

/// `out[i] = f(x[i])`, elements in the order of the view's dimensions. `f` computes in `f32`.
pub fn unary<T: Element, U: Element>(
    threads: &Threads,
    x: View<'_, T>,
    out: &mut [U],
    f: impl Fn(f32) -> f32 + Sync + Copy,
) {
    x.assert_fits("unary", out.len());
    threads.for_chunks(out, CHUNK, &|chunk, out| unary_chunk(threads.isa(), x, chunk * CHUNK, out, f));
}

/// `out[i] = f(a[i], b[i])` for two views of the same dimensions. `f` computes in `f32`.
pub fn binary<A: Element, B: Element, U: Element>(
    threads: &Threads,
    a: View<'_, A>,
    b: View<'_, B>,
    out: &mut [U],
    f: impl Fn(f32, f32) -> f32 + Sync + Copy,
) {
    a.assert_fits("binary", out.len());
    b.assert_inside();
    assert_eq!(a.dims, b.dims, "binary: dimensions");
    threads.for_chunks(out, CHUNK, &|chunk, out| binary_chunk(threads.isa(), a, b, chunk * CHUNK, out, f));
}

/// `out[i] = x[i]` where `shown[i]` is not 0, `other` elsewhere, for two views of the same dimensions.
pub fn mask<T: Element>(threads: &Threads, x: View<'_, T>, shown: View<'_, u8>, other: f32, out: &mut [T]) {
    x.assert_fits("mask", out.len());
    shown.assert_inside();
    assert_eq!(x.dims, shown.dims, "mask: dimensions");
    threads.for_chunks(out, CHUNK, &|chunk, out| mask_chunk(threads.isa(), x, shown, other, chunk * CHUNK, out));
}

/// Writes the view's elements contiguously, in the order of its dimensions.
pub fn copy<T: Copy + Send + Sync>(threads: &Threads, x: View<'_, T>, out: &mut [T]) {
    x.assert_fits("copy", out.len());
    threads.for_chunks(out, CHUNK, &|chunk, out| {
        x.for_runs(chunk * CHUNK, out.len(), |run, at| {
            let out = &mut out[at..at + run.length];
            match run.stride {
                1 => out.copy_from_slice(&x.data[run.start..run.start + run.length]),
                0 => out.fill(x.data[run.start]),
                stride => {
                    for (d, s) in out.iter_mut().zip(x.data[run.start..].iter().step_by(stride)) {
                        *d = *s;
                    }
                }
            }
        });
    });
}

instantiate! {
    fn unary_chunk[T: Element, U: Element, F: Fn(f32) -> f32](isa: Isa, x: View<'_, T>, first: usize, out: &mut [U], f: F) {
        let mut room = Scratch::<f32, BLOCK>::new();
        let values = room.zeroed(BLOCK.min(out.len()));
        for (block, out) in out.chunks_mut(BLOCK).enumerate() {
            let values = &mut values[..out.len()];
            x.load(isa, first + block * BLOCK, values);
            for value in values.iter_mut() {
                *value = f(*value);
            }
            U::store(isa, values, out);
        }
    }

    fn mask_chunk[T: Element](isa: Isa, x: View<'_, T>, shown: View<'_, u8>, other: f32, first: usize, out: &mut [T]) {
        let (mut room, mut flags) = (Scratch::<f32, BLOCK>::new(), [false; BLOCK]);
        let values = room.zeroed(BLOCK.min(out.len()));
        for (block, out) in out.chunks_mut(BLOCK).enumerate() {
            let (values, flags) = (&mut values[..out.len()], &mut flags[..out.len()]);
            x.load(isa, first + block * BLOCK, values);
            shown.load_flags(first + block * BLOCK, flags);
            for (value, is_shown) in values.iter_mut().zip(flags.iter()) {
                *value = if *is_shown { *value } else { other };
            }
            T::store(isa, values, out);
        }
    }

    fn binary_chunk[A: Element, B: Element, U: Element, F: Fn(f32, f32) -> f32](
        isa: Isa, a: View<'_, A>, b: View<'_, B>, first: usize, out: &mut [U], f: F,
    ) {
        let mut room = [const { Scratch::<f32, BLOCK>::new() }; 2];
        let [left, right] = room.each_mut().map(|room| room.zeroed(BLOCK.min(out.len())));
        for (block, out) in out.chunks_mut(BLOCK).enumerate() {
            let left = &mut left[..out.len()];
            let right = &mut right[..out.len()];
            a.load(isa, first + block * BLOCK, left);
            b.load(isa, first + block * BLOCK, right);
            for (l, r) in left.iter_mut().zip(right.iter()) {
                *l = f(*l, *r);
            }
            U::store(isa, left, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math;
    use crate::testing::{Random, all_threads, assert_close, rounding};
    use half::{bf16, f16};

    /// The elements of a view in the order of its dimensions, one index at a time.
    fn elements<T: Copy>(view: &View<'_, T>) -> Vec<T> {
        let mut indexes: Vec<usize> = vec![0];
        for (dim, stride) in view.dims.iter().zip(view.strides) {
            indexes = indexes.iter().flat_map(|start| (0..*dim).map(move |i| start + i * stride)).collect();
        }
        indexes.into_iter().map(|index| view.data[index]).collect()
    }

    /// Dimensions and two operands' strides.
    const VIEWS: [(&[usize], &[usize], &[usize]); 14] = [
        (&[], &[], &[]),
        (&[1], &[5], &[0]),
        (&[0], &[1], &[1]),
        (&[3, 0, 2], &[0, 2, 1], &[2, 2, 1]),
        (&[31], &[1], &[3]),
        (&[257], &[0], &[1]),
        (&[33, 255], &[255, 1], &[0, 1]),
        (&[255, 33], &[1, 255], &[1, 0]),
        (&[7, 5, 3], &[15, 3, 1], &[1, 7, 35]),
        (&[7, 1, 300], &[300, 77, 1], &[600, 0, 2]),
        (&[2, 3, 4, 5, 6, 7], &[2520, 840, 210, 42, 7, 1], &[1, 2, 6, 24, 120, 720]),
        (&[1, 1, 70_000], &[9, 9, 1], &[9, 9, 0]),
        (&[40_000, 2], &[2, 1], &[1, 40_000]),
        (&[3, 100, 301], &[30_100, 301, 1], &[0, 1, 0]),
    ];

    fn check<A: Element, B: Element, U: Element>() {
        for (dims, a_strides, b_strides) in VIEWS {
            let extent =
                |strides: &[usize]| 1 + dims.iter().zip(strides).map(|(d, s)| d.saturating_sub(1) * s).sum::<usize>();
            let (a, b) = (Random::new(1).vec::<A>(extent(a_strides)), Random::new(2).vec::<B>(extent(b_strides)));
            let a = View { data: &a, dims, strides: a_strides };
            let b = View { data: &b, dims, strides: b_strides };
            let wide_a: Vec<f64> = elements(&a).into_iter().map(|a| f64::from(a.to_f32())).collect();
            let wide_b: Vec<f64> = elements(&b).into_iter().map(|b| f64::from(b.to_f32())).collect();
            assert_eq!((a.len(), a.is_empty()), (wide_a.len(), wide_a.is_empty()));
            for threads in all_threads() {
                let what = format!("{dims:?} {a_strides:?} {b_strides:?} {threads:?}");
                let mut out = vec![U::from_f32(9.0); wide_a.len()];
                unary(&threads, a, &mut out, math::exp);
                let expected: Vec<f64> = wide_a.iter().map(|a| a.exp()).collect();
                assert_close(&what, &out, &expected, 0.0, rounding::<U>());
                binary(&threads, a, b, &mut out, |a, b| a - 2.0 * b);
                let expected: Vec<f64> = wide_a.iter().zip(&wide_b).map(|(a, b)| a - 2.0 * b).collect();
                assert_close(&what, &out, &expected, 2e-7, rounding::<U>());
                let flags: Vec<u8> = (0..extent(a_strides)).map(|i| (i % 3 != 1) as u8 * 2).collect();
                let flags = View { data: &flags, dims, strides: a_strides };
                let mut masked = vec![B::from_f32(9.0); wide_b.len()];
                mask(&threads, b, flags, -5.0, &mut masked);
                let shown = elements(&flags).into_iter().zip(&wide_b);
                let expected: Vec<f64> = shown.map(|(flag, b)| if flag != 0 { *b } else { -5.0 }).collect();
                assert_close(&what, &masked, &expected, 0.0, 0.0);
                let mut copied = vec![B::from_f32(9.0); wide_b.len()];
                copy(&threads, b, &mut copied);
                assert_close(&what, &copied, &wide_b, 0.0, 0.0);
            }
        }
    }

    #[test]
    fn every_view_and_element_type() {
        check::<f32, f32, f32>();
        check::<f16, f16, f16>();
        check::<bf16, f16, f32>();
        check::<f32, bf16, bf16>();
    }

    #[test]
    fn any_type_is_copied() {
        let flags = [true, false, false, true, true, false];
        let mut out = [false; 6];
        copy(&Threads::new(1), View { data: &flags, dims: &[3, 2], strides: &[1, 3] }, &mut out);
        assert_eq!(out, [true, true, false, true, false, false]);
    }

    #[test]
    #[should_panic(expected = "leaves its 10 elements")]
    fn a_view_outside_its_data_is_refused() {
        let view = View { data: &[0.0f32; 10], dims: &[2, 4], strides: &[7, 1] };
        unary(&Threads::new(1), view, &mut [0.0f32; 8], |x| x);
    }

    #[test]
    #[should_panic(expected = "leaves its 10 elements")]
    fn strides_that_overflow_are_refused() {
        let view = View { data: &[0u8; 10], dims: &[3, 1], strides: &[usize::MAX / 2 + 2, 1] };
        copy(&Threads::new(1), view, &mut [0u8; 3]);
    }
}
