//! A call of `einsum` of one or two operands as strides: the sum itself, and the batch of matrix products that most sums
//! are.

use smallvec::SmallVec;

use super::einsum_spec::{Letters, Spec, is_ellipsis};
use crate::operand::Operand;
use crate::strides::{Repeat, Strides};

/// A letter whose dimension repeats its elements becomes two: the letter itself steps through the distinct elements,
/// and this one counts the repetitions.
fn times_of(letter: u8) -> u8 {
    letter | 0x80
}

/// The letter of the dimension of an operand that repeats its elements, and how often.
pub(super) fn repeated(spec: &Spec, index: usize, repeat: Option<Repeat>) -> Option<(u8, usize)> {
    let repeat = repeat?;
    Some((*spec.operands.get(index)?.get(repeat.axis())?, repeat.times()))
}

/// A dimension of an operand.
#[derive(Clone, Copy, Debug)]
struct Axis {
    letter: u8,
    size: usize,
    stride: usize,
}

/// An operand with its letters.
pub(super) struct Term<'a> {
    pub(super) operand: Operand<'a>,
    axes: SmallVec<[Axis; 8]>,
}

impl<'a> Term<'a> {
    /// `repeated`: the letters that are split in two. `size`: the size of a letter, where that of this operand may
    /// repeat.
    fn new(operand: Operand<'a>, letters: &Letters, repeated: &[(u8, usize)], size: impl Fn(u8) -> usize) -> Term<'a> {
        let mut axes = SmallVec::new();
        for (axis, &letter) in letters.iter().enumerate() {
            let (mut own, mut stride) = (operand.dims[axis], operand.strides[axis]);
            if own == 1 && is_ellipsis(letter) {
                (own, stride) = (size(letter), 0);
            }
            let Some((_, times)) = repeated.iter().find(|(known, _)| *known == letter) else {
                axes.push(Axis { letter, size: own, stride });
                continue;
            };
            let repeats = operand.repeat.is_some_and(|repeat| repeat.axis() == axis);
            let (step, within) = if repeats { (stride, 0) } else { (stride * times, stride) };
            axes.push(Axis { letter, size: own / times, stride: step });
            axes.push(Axis { letter: times_of(letter), size: *times, stride: within });
        }
        Term { operand, axes }
    }

    fn has(&self, letter: u8) -> bool {
        self.axes.iter().any(|axis| axis.letter == letter)
    }

    fn size(&self, letter: u8) -> Option<usize> {
        self.axes.iter().find(|axis| axis.letter == letter).map(|axis| axis.size)
    }

    /// 0 where the operand lacks the letter, the sum where it occurs twice (a diagonal).
    fn stride(&self, letter: u8) -> usize {
        self.axes.iter().filter(|axis| axis.letter == letter).map(|axis| axis.stride).sum()
    }
}

/// The sum of products of a call.
pub(super) struct Sum<'a> {
    pub(super) left: Term<'a>,
    pub(super) right: Option<Term<'a>>,
    /// Letters and sizes of the result, in order.
    result: SmallVec<[(u8, usize); 8]>,
    /// Those that are summed over.
    summed: SmallVec<[(u8, usize); 4]>,
}

impl<'a> Sum<'a> {
    /// The sum of products of one or two operands.
    pub(super) fn new(spec: &Spec, a: Operand<'a>, b: Option<Operand<'a>>) -> Sum<'a> {
        let of_b = b.and_then(|b| repeated(spec, 1, b.repeat));
        let split: SmallVec<[(u8, usize); 2]> = repeated(spec, 0, a.repeat).into_iter().chain(of_b).collect();
        let full_size = |letter: u8| {
            let of = |index: usize, operand: Option<&Operand>| {
                let axis = spec.operands.get(index)?.iter().position(|known| *known == letter)?;
                operand?.dims.get(axis).copied()
            };
            [of(0, Some(&a)), of(1, b.as_ref())].into_iter().flatten().find(|size| *size != 1).unwrap_or(1)
        };
        let left = Term::new(a, &spec.operands[0], &split, full_size);
        let right = b.zip(spec.operands.get(1)).map(|(b, letters)| Term::new(b, letters, &split, full_size));
        let mut sum = Sum { left, right, result: SmallVec::new(), summed: SmallVec::new() };
        let size = |letter: u8| sum.left.size(letter).or_else(|| sum.right.as_ref()?.size(letter)).unwrap_or(1);
        for &letter in &spec.result {
            sum.result.push((letter, size(letter)));
            if split.iter().any(|(known, _)| *known == letter) {
                sum.result.push((times_of(letter), size(times_of(letter))));
            }
        }
        for axis in sum.left.axes.iter().chain(sum.right.iter().flat_map(|term| &term.axes)) {
            let letter = (axis.letter, axis.size);
            if !sum.result.contains(&letter) && !sum.summed.contains(&letter) {
                sum.summed.push(letter);
            }
        }
        sum
    }

    /// Sizes and strides, in the left and in the right operand, of the dimensions of the result.
    pub(super) fn result_strides(&self) -> (Strides, [Strides; 2]) {
        self.strides(&self.result)
    }

    /// As [`Sum::result_strides`], of the dimensions that are summed over.
    pub(super) fn summed_strides(&self) -> (Strides, [Strides; 2]) {
        self.strides(&self.summed)
    }

    fn strides(&self, letters: &[(u8, usize)]) -> (Strides, [Strides; 2]) {
        let of = |term: &Term| letters.iter().map(|&(letter, _)| term.stride(letter)).collect();
        let right = self.right.as_ref().map_or_else(|| Strides::from_elem(0, letters.len()), of);
        (letters.iter().map(|&(_, size)| size).collect(), [of(&self.left), right])
    }
}

/// A dimension, and its strides in the operands: 0 where an operand lacks the dimension or repeats along it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dim {
    pub(super) size: usize,
    pub(super) x: usize,
    pub(super) w: usize,
}

impl Dim {
    const ONE: Dim = Dim { size: 1, x: 0, w: 0 };

    fn is_only_in_x(&self) -> bool {
        self.x != 0 && self.w == 0
    }

    fn is_only_in_w(&self) -> bool {
        self.w != 0 && self.x == 0
    }

    /// Whether this dimension, the one before `next`, is contiguous with it in both operands, so that the two can be
    /// merged.
    fn continues(&self, next: &Dim) -> bool {
        self.x == next.x * next.size && self.w == next.w * next.size
    }
}

/// The letters' dimensions, neighbours merged where they can be.
fn merged(letters: &[(u8, usize)], x: &Term, w: &Term) -> SmallVec<[Dim; 6]> {
    let mut dims: SmallVec<[Dim; 6]> = SmallVec::new();
    for &(letter, size) in letters.iter().filter(|(_, size)| *size != 1) {
        let dim = Dim { size, x: x.stride(letter), w: w.stride(letter) };
        match dims.last_mut() {
            Some(last) if last.continues(&dim) => *last = Dim { size: last.size * size, ..dim },
            _ => dims.push(dim),
        }
    }
    dims
}

/// A sum over letters of both operands that are one dimension together: a batch of matrix products. The result's last
/// dimension is the columns, where one operand alone has it; the largest dimension that only the other operand has is
/// the rows; all others are the batch. So the result is written in its own order: batch, rows, inner batch, columns.
pub(super) struct Products<'a> {
    pub(super) x: &'a Term<'a>,
    pub(super) w: &'a Term<'a>,
    batch: SmallVec<[Dim; 6]>,
    /// The number of batch dimensions after the rows.
    pub(super) n_inner: usize,
    pub(super) row: Dim,
    pub(super) column: Dim,
    /// The size of what is summed over, and its strides in `x` and `w`.
    pub(super) k: usize,
    pub(super) inner: [usize; 2],
}

impl<'a> Products<'a> {
    /// `None` where the sum is no batch of matrix products.
    pub(super) fn new(sum: &'a Sum<'a>) -> Option<Products<'a>> {
        let (mut x, mut w) = (&sum.left, sum.right.as_ref()?);
        if sum.summed.is_empty() || !sum.summed.iter().all(|&(letter, _)| x.has(letter) && w.has(letter)) {
            return None;
        }
        let mut summed = match *merged(&sum.summed, x, w) {
            [] => Dim::ONE,
            [dim] => dim,
            _ => return None,
        };
        let mut dims = merged(&sum.result, x, w);
        // The operand that alone has the last dimension becomes the right one.
        if dims.last().is_some_and(Dim::is_only_in_x) {
            (x, w) = (w, x);
            dims.iter_mut().chain([&mut summed]).for_each(|dim| std::mem::swap(&mut dim.x, &mut dim.w));
        }
        let has_column = dims.last().is_some_and(Dim::is_only_in_w);
        let column = if has_column { dims.pop() } else { None }.unwrap_or(Dim::ONE);
        let rows = dims.iter().enumerate().filter(|(_, dim)| dim.is_only_in_x());
        let place = rows.max_by_key(|(_, dim)| dim.size).map(|(place, _)| place);
        let n_inner = place.map_or(0, |place| dims.len() - 1 - place);
        let row = place.map_or(Dim::ONE, |place| dims.remove(place));
        Some(Products { x, w, batch: dims, n_inner, row, column, k: summed.size, inner: [summed.x, summed.w] })
    }

    pub(super) fn batch_dims(&self) -> Strides {
        self.batch.iter().map(|dim| dim.size).collect()
    }

    /// Of `x` and of `w`.
    pub(super) fn batch_strides(&self) -> [Strides; 2] {
        [self.batch.iter().map(|dim| dim.x).collect(), self.batch.iter().map(|dim| dim.w).collect()]
    }
}
