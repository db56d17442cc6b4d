//! `einsum`: sums of products, written with a letter for each dimension.

use smallvec::SmallVec;
use tl_kernels::{Batch, Matrix};

use crate::cpu::elements::{Reader, for_each_index, write};
use crate::dispatch::apply;
use crate::gpu::products::{self, Side};
use crate::op::kernel::with_float;
use crate::op::rule::same;
use crate::op::{
    Arg, Call, DefaultValue, Dispatch, Group, Kind, Op, OpKernel, RuleArgs, TensorType, optional, required,
};
use crate::operand::Operand;
use crate::size::{Size, Sizes};
use crate::strides::{Repeat, Strides};
use crate::tensor::Tensor;
use crate::{Error, OpError};

pub(super) static OPS: &[&Op] = &[&EINSUM];

static EINSUM: Op = Op {
    name: "einsum",
    group: Group::Linear,
    doc: "A sum of products. `spec` has a letter for each dimension of the operands and, after `->`, of the result: \
          `einsum(\"ihd,jhd->ihj\", q, k)`. A letter that the result lacks is summed over, in `float32`. One or two operands.",
    params: &[
        required("spec", Kind::Text),
        required("a", Kind::Tensor),
        optional("b", Kind::Tensor, DefaultValue::Absent),
    ],
    rule: |args| {
        let spec = Spec::parse(args.text(0)?)?;
        let dtype = args.common_dtype(&[1, 2])?;
        if let Some(found) = dtype.filter(|dtype| !dtype.is_float()) {
            return Err(OpError::DType {
                operand: "an operand",
                expected: "float16 or float32 (cast it first)",
                found,
            });
        }
        let mut sizes: SmallVec<[(u8, Size); 8]> = SmallVec::new();
        spec.bind(args, 1, spec.left, &mut sizes)?;
        if let Some(right) = spec.right {
            spec.bind(args, 2, right, &mut sizes)?;
        } else if args.is_tensor(2) {
            return Err(spec.error("two operands were given, but there is one"));
        }
        let size_of =
            |letter: u8| sizes.iter().find(|(known, _)| *known == letter).map_or(Size::Unknown, |(_, size)| *size);
        Ok(TensorType::new(dtype, spec.result.bytes().map(size_of).collect::<Sizes>()))
    },
    kernel: OpKernel::Repeated { must_copy, kernel: einsum },
    gpu: Some(einsum_gpu),
};

/// A parsed specification: letters of the left operand, of the right one, of the result.
struct Spec<'a> {
    text: &'a str,
    left: &'a str,
    right: Option<&'a str>,
    result: &'a str,
}

impl<'a> Spec<'a> {
    fn parse(text: &'a str) -> Result<Spec<'a>, OpError> {
        let error = |problem| OpError::Spec { spec: text.to_owned(), problem };
        let arrow = text.as_bytes().windows(2).position(|two| two == b"->").ok_or_else(|| error("there is no `->`"))?;
        let (operands, result) = (&text[..arrow], &text[arrow + 2..]);
        let (left, right) = match operands.split_once(',') {
            Some((left, right)) => (left.trim(), Some(right.trim())),
            None => (operands.trim(), None),
        };
        let spec = Spec { text, left, right, result: result.trim() };
        if right.is_some_and(|right| right.contains(',')) {
            return Err(error("there are more than two operands"));
        }
        let is_letters = |part: &str| part.bytes().all(|letter| letter.is_ascii_alphabetic());
        if !is_letters(left) || !right.is_none_or(is_letters) || !is_letters(spec.result) {
            return Err(error("there is something other than a letter for each dimension"));
        }
        let mut seen: SmallVec<[u8; 16]> = SmallVec::new();
        for letter in spec.result.bytes() {
            if seen.contains(&letter) {
                return Err(error("a letter stands twice in the result"));
            }
            if !left.as_bytes().contains(&letter) && !right.is_some_and(|right| right.as_bytes().contains(&letter)) {
                return Err(error("a letter of the result stands in no operand"));
            }
            seen.push(letter);
        }
        Ok(spec)
    }

    fn error(&self, problem: &'static str) -> OpError {
        OpError::Spec { spec: self.text.to_owned(), problem }
    }

    /// Adds the sizes of the letters of one operand; a letter has one size everywhere.
    fn bind(
        &self,
        args: &RuleArgs,
        index: usize,
        letters: &str,
        sizes: &mut SmallVec<[(u8, Size); 8]>,
    ) -> Result<(), OpError> {
        if !args.is_tensor(index) {
            return Err(if args.is_given(index) {
                OpError::Unknown
            } else {
                self.error("there are fewer operands than parts")
            });
        }
        let (dims, _) = args.tensor(index)?;
        if dims.len() != letters.len() {
            return Err(self.error("an operand has another number of dimensions than letters"));
        }
        for (letter, &size) in letters.bytes().zip(dims) {
            match sizes.iter_mut().find(|(known, _)| *known == letter) {
                Some((_, known)) => *known = same("one letter stands for two sizes", *known, size)?,
                None => sizes.push((letter, size)),
            }
        }
        Ok(())
    }
}

/// A letter whose dimension repeats its elements becomes two: the letter itself steps through the distinct elements,
/// and this one counts the repetitions.
fn times_of(letter: u8) -> u8 {
    letter | 0x80
}

/// The letter of the dimension of this argument that repeats its elements, and how often.
fn repeated(spec: &Spec, index: usize, repeat: Option<Repeat>) -> Option<(u8, usize)> {
    let letters = if index == 1 { spec.left } else { spec.right? };
    let repeat = repeat?;
    Some((*letters.as_bytes().get(repeat.axis())?, repeat.times()))
}

/// A repeated dimension is read in place, its letter split in two everywhere. It is copied where its letter is summed
/// over, because that would be a sum over two letters, and where two operands repeat one letter differently.
fn must_copy(args: &[Arg], index: usize) -> bool {
    let repeat = |index: usize| match args.get(index) {
        Some(Arg::Tensor(tensor)) => tensor.operand_with_repeat().repeat,
        _ => None,
    };
    let (Some(Arg::Text(text)), Some(_)) = (args.first(), repeat(index)) else { return false };
    let Ok(spec) = Spec::parse(text) else { return false };
    let Some((letter, times)) = repeated(&spec, index, repeat(index)) else { return false };
    let differs = |(other, n): (u8, usize)| other == letter && n != times;
    !spec.result.as_bytes().contains(&letter) || (index == 2 && repeated(&spec, 1, repeat(1)).is_some_and(differs))
}

/// A dimension of an operand.
#[derive(Clone, Copy, Debug)]
struct Axis {
    letter: u8,
    size: usize,
    stride: usize,
}

/// An operand with its letters.
struct Term<'a> {
    operand: Operand<'a>,
    axes: SmallVec<[Axis; 8]>,
}

impl<'a> Term<'a> {
    /// `repeated`: the letters that are split in two.
    fn new(operand: Operand<'a>, letters: &str, repeated: &[(u8, usize)]) -> Term<'a> {
        let mut axes = SmallVec::new();
        for (axis, letter) in letters.bytes().enumerate() {
            let (size, stride) = (operand.dims[axis], operand.strides[axis]);
            let Some((_, times)) = repeated.iter().find(|(known, _)| *known == letter) else {
                axes.push(Axis { letter, size, stride });
                continue;
            };
            let repeats = operand.repeat.is_some_and(|repeat| repeat.axis() == axis);
            let (step, within) = if repeats { (stride, 0) } else { (stride * times, stride) };
            axes.push(Axis { letter, size: size / times, stride: step });
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
struct Sum<'a> {
    left: Term<'a>,
    right: Option<Term<'a>>,
    /// Letters and sizes of the result, in order.
    result: SmallVec<[(u8, usize); 8]>,
    /// Those that are summed over.
    summed: SmallVec<[(u8, usize); 4]>,
}

impl<'a> Sum<'a> {
    fn new(call: &Call<'a>) -> Result<Sum<'a>, OpError> {
        let Arg::Text(text) = call.arg(0) else { return Err(OpError::Unknown) };
        let spec = Spec::parse(text)?;
        let a = call.operand_with_repeat(1).ok_or(OpError::Unknown)?;
        let b = call.operand_with_repeat(2).zip(spec.right);
        let of_b = b.and_then(|(b, _)| repeated(&spec, 2, b.repeat));
        let repeated: SmallVec<[(u8, usize); 2]> = repeated(&spec, 1, a.repeat).into_iter().chain(of_b).collect();
        let left = Term::new(a, spec.left, &repeated);
        let right = b.map(|(b, letters)| Term::new(b, letters, &repeated));
        let mut sum = Sum { left, right, result: SmallVec::new(), summed: SmallVec::new() };
        let size = |letter: u8| sum.left.size(letter).or_else(|| sum.right.as_ref()?.size(letter)).unwrap_or(1);
        for letter in spec.result.bytes() {
            sum.result.push((letter, size(letter)));
            if repeated.iter().any(|(known, _)| *known == letter) {
                sum.result.push((times_of(letter), size(times_of(letter))));
            }
        }
        for axis in sum.left.axes.iter().chain(sum.right.iter().flat_map(|term| &term.axes)) {
            let letter = (axis.letter, axis.size);
            if !sum.result.contains(&letter) && !sum.summed.contains(&letter) {
                sum.summed.push(letter);
            }
        }
        Ok(sum)
    }
}

fn einsum(call: &mut Call) -> Result<(), OpError> {
    let sum = Sum::new(call)?;
    match Products::new(&sum) {
        Some(products) => run_products(call, &products),
        None => sum_of_products(call, &sum),
    }
}

/// Only batches of matrix products have a program.
fn einsum_gpu(call: &mut Call) -> Result<Dispatch, OpError> {
    let sum = Sum::new(call)?;
    let Some(products) = Products::new(&sum) else { return Ok(Dispatch::Unsupported) };
    let Products { x, w, n_inner, k, .. } = products;
    let ([x_inner, w_inner], [x_batch, w_batch]) = (products.inner, products.batch_strides());
    let (row, column, dims) = (products.row, products.column, products.batch_dims());
    let x = Side { operand: &x.operand, batch: &x_batch, outer: row.x, inner: x_inner };
    let w = Side { operand: &w.operand, batch: &w_batch, outer: column.w, inner: w_inner };
    let n_inner = dims[dims.len() - n_inner..].iter().product();
    products::run(call, &dims, &x, &w, &products::Sizes { m: row.size, k, n: column.size, n_inner })
}

/// A dimension of the result, and its strides in the operands: 0 where an operand lacks the dimension or repeats along
/// it.
#[derive(Clone, Copy, Debug)]
struct Dim {
    size: usize,
    x: usize,
    w: usize,
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

/// A sum over one letter of both operands: a batch of matrix products. The result's last dimension is the columns,
/// where one operand alone has it; the largest dimension that only the other operand has is the rows; all others are
/// the batch. So the result is written in its own order: batch, rows, inner batch, columns.
struct Products<'a> {
    x: &'a Term<'a>,
    w: &'a Term<'a>,
    batch: SmallVec<[Dim; 6]>,
    /// The number of batch dimensions after the rows.
    n_inner: usize,
    row: Dim,
    column: Dim,
    /// The size of the letter that is summed over, and its strides in `x` and `w`.
    k: usize,
    inner: [usize; 2],
}

impl<'a> Products<'a> {
    /// `None` where the sum is no batch of matrix products.
    fn new(sum: &'a Sum<'a>) -> Option<Products<'a>> {
        let (mut x, mut w) = (&sum.left, sum.right.as_ref()?);
        let &[(summed, k)] = sum.summed.as_slice() else { return None };
        if !x.has(summed) || !w.has(summed) {
            return None;
        }
        let mut dims: SmallVec<[Dim; 6]> = SmallVec::new();
        for &(letter, size) in sum.result.iter().filter(|(_, size)| *size != 1) {
            let dim = Dim { size, x: x.stride(letter), w: w.stride(letter) };
            match dims.last_mut() {
                Some(last) if last.continues(&dim) => *last = Dim { size: last.size * size, ..dim },
                _ => dims.push(dim),
            }
        }
        // The operand that alone has the last dimension becomes the right one.
        if dims.last().is_some_and(Dim::is_only_in_x) {
            (x, w) = (w, x);
            dims.iter_mut().for_each(|dim| std::mem::swap(&mut dim.x, &mut dim.w));
        }
        let has_column = dims.last().is_some_and(Dim::is_only_in_w);
        let column = if has_column { dims.pop() } else { None }.unwrap_or(Dim::ONE);
        let rows = dims.iter().enumerate().filter(|(_, dim)| dim.is_only_in_x());
        let place = rows.max_by_key(|(_, dim)| dim.size).map(|(place, _)| place);
        let n_inner = place.map_or(0, |place| dims.len() - 1 - place);
        let row = place.map_or(Dim::ONE, |place| dims.remove(place));
        let inner = [x.stride(summed), w.stride(summed)];
        Some(Products { x, w, batch: dims, n_inner, row, column, k, inner })
    }

    fn batch_dims(&self) -> Strides {
        self.batch.iter().map(|dim| dim.size).collect()
    }

    /// Of `x` and of `w`.
    fn batch_strides(&self) -> [Strides; 2] {
        [self.batch.iter().map(|dim| dim.x).collect(), self.batch.iter().map(|dim| dim.w).collect()]
    }
}

fn run_products(call: &mut Call, products: &Products) -> Result<(), OpError> {
    let Products { x, w, n_inner, row, column, k, inner: [x_inner, w_inner], .. } = *products;
    let (threads, dims, [x_batch, w_batch]) = (call.threads, products.batch_dims(), products.batch_strides());
    with_float!(call.dtype, "an operand", T => {
        let x = Matrix { data: x.operand.data::<T>()?, row_stride: row.x, col_stride: x_inner };
        let w = Matrix { data: w.operand.data::<T>()?, row_stride: w_inner, col_stride: column.w };
        let batch = Batch { dims: &dims, n_inner, a_strides: &x_batch, b_strides: &w_batch };
        tl_kernels::batch_matmul(threads, batch, x, w, [row.size, k, column.size], call.out::<T>()?);
        Ok(())
    })
}

/// Any other specification: each element of the result is summed on its own.
fn sum_of_products(call: &mut Call, sum: &Sum) -> Result<(), OpError> {
    let left = Reader::new(&sum.left.operand)?;
    let right = sum.right.as_ref().map_or(Ok(Reader::Number(1.0)), |term| Reader::new(&term.operand))?;
    let strides = |letters: &[(u8, usize)]| -> [Strides; 2] {
        let of = |term: &Term| letters.iter().map(|&(letter, _)| term.stride(letter)).collect();
        [of(&sum.left), sum.right.as_ref().map_or_else(|| Strides::from_elem(0, letters.len()), of)]
    };
    let sizes = |letters: &[(u8, usize)]| -> Strides { letters.iter().map(|&(_, size)| size).collect() };
    let ([a_result, b_result], [a_summed, b_summed]) = (strides(&sum.result), strides(&sum.summed));
    let (dims, summed) = (sizes(&sum.result), sizes(&sum.summed));
    let (dtype, out) = (call.dtype, &mut *call.out);
    for_each_index(&dims, [&a_result, &b_result], |i, [at_a, at_b]| {
        let mut total = 0f32;
        for_each_index(&summed, [&a_summed, &b_summed], |_, [in_a, in_b]| {
            total += (left.at(at_a + in_a) * right.at(at_b + in_b)) as f32;
        });
        write(dtype, out, i, f64::from(total));
    });
    Ok(())
}

impl<T> Tensor<T> {
    /// A sum of products of this tensor and another: see the operation `einsum`.
    ///
    /// # Errors
    /// [`Error::Op`] where the specification does not fit the operands.
    pub fn einsum<U>(&self, spec: &str, other: &Tensor<U>) -> Result<Tensor<T>, Error> {
        apply(&EINSUM, self.device(), &[Arg::Text(spec), self.into(), other.into()]).map(Tensor::from_dyn)
    }
}
