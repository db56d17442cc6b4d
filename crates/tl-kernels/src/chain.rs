//! Chains: several elementwise maps in one pass over memory, without the tensors in between.
//!
//! A chain is a small program for a stack of blocks of `f32`: operands are loaded onto it, maps replace what lies on top. A
//! value between two steps is rounded to the type that it would have been stored in, so that a chain gives the same bits
//! as its steps one by one. What the steps compute is their callers' business.

use half::f16;

use crate::element::Element;
use crate::isa::{Isa, instantiate};
use crate::map::{BLOCK, CHUNK, View};
use crate::scratch::Scratch;
use crate::threads::Threads;

/// The most blocks that a chain may have on its stack.
pub const MAX_DEPTH: usize = 8;

/// What a chain reads.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// Half precision.
    F16(View<'a, f16>),
    /// Single precision.
    F32(View<'a, f32>),
    /// The same number everywhere.
    Number(f32),
}

impl Source<'_> {
    /// Panics unless the source has so many elements.
    fn assert_fits(&self, len: usize) {
        match self {
            Source::F16(view) => view.assert_fits("chain", len),
            Source::F32(view) => view.assert_fits("chain", len),
            Source::Number(_) => {}
        }
    }
}

/// Maps a block in place.
pub type UnaryMap = fn(Isa, &mut [f32]);

/// Maps two blocks to the first.
pub type BinaryMap = fn(Isa, &mut [f32], &[f32]);

/// A step of a chain.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// Puts a source, by its number, on top of the stack.
    Load(usize),
    /// Maps what lies on top.
    Unary(UnaryMap),
    /// Takes what lies on top away and maps it with what then lies there, the first operand.
    Binary(BinaryMap),
    /// Rounds what lies on top to half precision.
    Round,
}

/// The most blocks that lie on the stack at once; `None` where the steps are no chain that leaves one.
fn depth(steps: impl IntoIterator<Item = Step>) -> Option<usize> {
    let (mut height, mut most) = (0_usize, 0);
    for step in steps {
        match step {
            Step::Load(_) => height += 1,
            Step::Unary(_) | Step::Round if height >= 1 => {}
            Step::Binary(_) if height >= 2 => height -= 1,
            _ => return None,
        }
        most = most.max(height);
    }
    (height == 1).then_some(most)
}

/// Runs the steps for each element; `out[i]` is what they leave. All sources have `out`'s elements, in the order of their
/// dimensions.
pub fn chain<T: Element>(threads: &Threads, sources: &[Source<'_>], steps: &[Step], out: &mut [T]) {
    let depth = depth(steps.iter().copied());
    let depth = depth.filter(|depth| *depth <= MAX_DEPTH);
    let depth =
        depth.unwrap_or_else(|| panic!("chain: {} steps that leave no result, or need too much room", steps.len()));
    for source in sources {
        source.assert_fits(out.len());
    }
    let is_known = |step: &Step| !matches!(step, Step::Load(source) if *source >= sources.len());
    assert!(steps.iter().all(is_known), "chain: a source that does not exist");
    threads.for_chunks(out, CHUNK, &|chunk, out| {
        chain_chunk(threads.isa(), sources, steps, depth, chunk * CHUNK, out);
    });
}

/// `values[i] = f(values[i])`.
#[inline]
pub fn map_block(isa: Isa, values: &mut [f32], f: impl Fn(f32) -> f32) {
    unary_block(isa, values, f);
}

/// `left[i] = f(left[i], right[i])`.
#[inline]
pub fn map_blocks(isa: Isa, left: &mut [f32], right: &[f32], f: impl Fn(f32, f32) -> f32) {
    binary_block(isa, left, right, f);
}

instantiate! {
    fn unary_block[F: Fn(f32) -> f32](isa: Isa, values: &mut [f32], f: F) {
        for value in values.iter_mut() {
            *value = f(*value);
        }
    }

    fn binary_block[F: Fn(f32, f32) -> f32](isa: Isa, left: &mut [f32], right: &[f32], f: F) {
        for (left, right) in left.iter_mut().zip(right) {
            *left = f(*left, *right);
        }
    }

    fn chain_chunk[T: Element](
        isa: Isa, sources: &[Source<'_>], steps: &[Step], depth: usize, first: usize, out: &mut [T],
    ) {
        let mut scratch = Scratch::<[f32; BLOCK], MAX_DEPTH>::new();
        let stack = scratch.zeroed(depth);
        for (block, out) in out.chunks_mut(BLOCK).enumerate() {
            let (at, len) = (first + block * BLOCK, out.len());
            let mut height = 0;
            for step in steps {
                match *step {
                    Step::Load(source) => {
                        let values = &mut stack[height][..len];
                        match &sources[source] {
                            Source::F16(view) => view.load(isa, at, values),
                            Source::F32(view) => view.load(isa, at, values),
                            Source::Number(number) => values.fill(*number),
                        }
                        height += 1;
                    }
                    Step::Unary(map) => map(isa, &mut stack[height - 1][..len]),
                    Step::Binary(map) => {
                        height -= 1;
                        let (left, right) = stack.split_at_mut(height);
                        map(isa, &mut left[height - 1][..len], &right[0][..len]);
                    }
                    Step::Round => {
                        let values = &mut stack[height - 1][..len];
                        let mut halves = [f16::ZERO; BLOCK];
                        f16::store(isa, values, &mut halves[..len]);
                        f16::load(isa, &halves[..len], values);
                    }
                }
            }
            T::store(isa, &stack[0][..len], out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::{binary, unary};
    use crate::math;
    use crate::testing::{Random, all_threads};

    const SIGMOID: Step = Step::Unary(|isa, values| map_block(isa, values, math::sigmoid));
    const MULTIPLY: Step = Step::Binary(|isa, left, right| map_blocks(isa, left, right, |a, b| a * b));
    const SUBTRACT: Step = Step::Binary(|isa, left, right| map_blocks(isa, left, right, |a, b| a - b));

    /// `(x · sigmoid(x) - y) · 0.3`, in one pass and one by one, where `x` has these dimensions and `y` these strides.
    fn check<T: Element + PartialEq + std::fmt::Debug>(dims: &[usize], y_strides: &[usize], round: &[Step]) {
        let n: usize = dims.iter().product();
        let mut x_strides = vec![1; dims.len()];
        for i in (1..dims.len()).rev() {
            x_strides[i - 1] = x_strides[i] * dims[i];
        }
        let extent = 1 + dims.iter().zip(y_strides).map(|(d, s)| d.saturating_sub(1) * s).sum::<usize>();
        let (x, y) = (Random::new(1).vec::<T>(n), Random::new(2).vec::<f16>(extent));
        let wide_y: Vec<f32> = y.iter().map(|y| y.to_f32()).collect();
        let x = View { data: &x, dims, strides: &x_strides };
        let y_view = View { data: &wide_y, dims, strides: y_strides };
        for threads in all_threads() {
            let mut buffers = [(); 4].map(|()| vec![T::from_f32(f32::NAN); n]);
            let [sigmoid, product, difference, expected] = &mut buffers;
            let contiguous = |data| View { data, dims, strides: &x_strides };
            unary(&threads, x, sigmoid, math::sigmoid);
            binary(&threads, x, contiguous(sigmoid.as_slice()), product, |a, b| a * b);
            binary(&threads, contiguous(product.as_slice()), y_view, difference, |a, b| a - b);
            unary(&threads, contiguous(difference.as_slice()), expected, |a| a * 0.3);

            let wide_x: Vec<f32> = x.data.iter().map(|x| x.to_f32()).collect();
            let sources = [
                Source::F32(View { data: &wide_x, dims, strides: &x_strides }),
                Source::F16(View { data: &y, dims, strides: y_strides }),
                Source::Number(0.3),
            ];
            let mut steps = vec![Step::Load(0), Step::Load(0), SIGMOID];
            steps.extend_from_slice(round);
            steps.push(MULTIPLY);
            steps.extend_from_slice(round);
            steps.extend([Step::Load(1), SUBTRACT]);
            steps.extend_from_slice(round);
            steps.extend([Step::Load(2), MULTIPLY]);
            let mut found = vec![T::from_f32(f32::NAN); n];
            chain(&threads, &sources, &steps, &mut found);
            assert_eq!(&found, expected, "{dims:?} {y_strides:?} {threads:?}");
        }
    }

    #[test]
    fn as_one_by_one() {
        let cases: [(&[usize], &[usize]); 9] = [
            (&[], &[]),
            (&[0], &[1]),
            (&[1], &[1]),
            (&[255], &[1]),
            (&[256, 2], &[0, 1]),
            (&[3, 100], &[1, 3]),
            (&[3, 100], &[1, 0]),
            (&[2, 3, 257], &[3, 1, 0]),
            (&[70_001], &[1]),
        ];
        for (dims, y_strides) in cases {
            check::<f16>(dims, y_strides, &[Step::Round]);
            check::<f32>(dims, y_strides, &[]);
        }
    }

    #[test]
    fn what_is_no_chain() {
        let check = |steps: &[Step], expected| assert_eq!(depth(steps.iter().copied()), expected, "{steps:?}");
        check(&[], None);
        check(&[Step::Load(0)], Some(1));
        check(&[Step::Load(0), Step::Load(1)], None);
        check(&[Step::Load(0), Step::Load(1), Step::Load(1), MULTIPLY, SUBTRACT], Some(3));
        check(&[SIGMOID], None);
        check(&[Step::Round, Step::Load(0)], None);
        check(&[Step::Load(0), MULTIPLY], None);
    }

    #[test]
    #[should_panic(expected = "a source that does not exist")]
    fn a_missing_source_is_refused() {
        chain(&Threads::new(1), &[], &[Step::Load(0)], &mut [0.0f32]);
    }
}
