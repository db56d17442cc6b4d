//! `einsum`: sums of products, written with a letter for each dimension.

use smallvec::SmallVec;
use tl_device::DType;
use tl_kernels::{Batch, Matrix};

use super::access::{Reader, for_each_index, write};
use super::product_gpu::{self, Side};
use super::rule::{RuleArgs, Size, Sizes, TensorType, same};
use super::{Arg, Call, Default, Group, Kind, Op, Operand, Ran, Run, optional, required, with_float};
use crate::{Error, Fault, Strides, Tensor};

pub(super) static OPS: &[&Op] = &[&EINSUM];

static EINSUM: Op = Op {
    name: "einsum",
    group: Group::Linear,
    doc: "A sum of products. `spec` has a letter for each dimension of the operands and, after `->`, of the result: \
          `einsum(\"ihd,jhd->ihj\", q, k)`. A letter that the result lacks is summed over, in `float32`. One or two operands.",
    params: &[required("spec", Kind::Text), required("a", Kind::Tensor), optional("b", Kind::Tensor, Default::Absent)],
    rule: |args| {
        let spec = Spec::parse(args.text(0)?)?;
        let dtype = args.common_dtype(&[1, 2])?;
        if let Some(found) = dtype.filter(|dtype| !dtype.is_float()) {
            return Err(Fault::DType { operand: "an operand", expected: "float16 or float32 (cast it first)", found });
        }
        let mut sizes: SmallVec<[(u8, Size); 8]> = SmallVec::new();
        spec.bind(args, 1, spec.left, &mut sizes)?;
        if let Some(right) = spec.right {
            spec.bind(args, 2, right, &mut sizes)?;
        } else if args.is_tensor(2) {
            return Err(spec.fault("two operands were given, but there is one"));
        }
        let size_of =
            |letter: u8| sizes.iter().find(|(known, _)| *known == letter).map_or(Size::Unknown, |(_, size)| *size);
        Ok(TensorType::new(dtype, spec.result.bytes().map(size_of).collect::<Sizes>()))
    },
    run: Run::Kernel(einsum),
    gpu: Some(einsum_gpu),
};

/// A specification, taken apart: letters of the left operand, of the right one, of the result.
struct Spec<'a> {
    text: &'a str,
    left: &'a str,
    right: Option<&'a str>,
    result: &'a str,
}

impl<'a> Spec<'a> {
    fn parse(text: &'a str) -> Result<Spec<'a>, Fault> {
        let fault = |problem| Fault::Spec { spec: text.to_owned(), problem };
        let (operands, result) = text.split_once("->").ok_or_else(|| fault("there is no `->`"))?;
        let (left, right) = match operands.split_once(',') {
            Some((left, right)) => (left.trim(), Some(right.trim())),
            None => (operands.trim(), None),
        };
        let spec = Spec { text, left, right, result: result.trim() };
        if right.is_some_and(|right| right.contains(',')) {
            return Err(fault("there are more than two operands"));
        }
        let is_letters = |part: &str| part.bytes().all(|letter| letter.is_ascii_alphabetic());
        if !is_letters(left) || !right.is_none_or(is_letters) || !is_letters(spec.result) {
            return Err(fault("there is something other than a letter for each dimension"));
        }
        let mut seen: SmallVec<[u8; 16]> = SmallVec::new();
        for letter in spec.result.bytes() {
            if seen.contains(&letter) {
                return Err(fault("a letter stands twice in the result"));
            }
            if !left.as_bytes().contains(&letter) && !right.is_some_and(|right| right.as_bytes().contains(&letter)) {
                return Err(fault("a letter of the result stands in no operand"));
            }
            seen.push(letter);
        }
        Ok(spec)
    }

    /// The letters that the result lacks.
    fn summed(&self) -> SmallVec<[u8; 8]> {
        let mut summed: SmallVec<[u8; 8]> = SmallVec::new();
        for letter in self.left.bytes().chain(self.right.unwrap_or_default().bytes()) {
            if !self.result.as_bytes().contains(&letter) && !summed.contains(&letter) {
                summed.push(letter);
            }
        }
        summed
    }

    fn fault(&self, problem: &'static str) -> Fault {
        Fault::Spec { spec: self.text.to_owned(), problem }
    }

    /// Gives the letters of one operand their sizes; a letter has one size everywhere.
    fn bind(
        &self,
        args: &RuleArgs,
        index: usize,
        letters: &str,
        sizes: &mut SmallVec<[(u8, Size); 8]>,
    ) -> Result<(), Fault> {
        if !args.is_tensor(index) {
            return Err(if args.is_given(index) {
                Fault::Unknown
            } else {
                self.fault("there are fewer operands than parts")
            });
        }
        let (dims, _) = args.tensor(index)?;
        if dims.len() != letters.len() {
            return Err(self.fault("an operand has another number of dimensions than letters"));
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

/// The stride of a letter in an operand: 0 where the operand lacks it, the sum where it stands twice (a diagonal).
fn stride_of(letter: u8, letters: &str, operand: &Operand) -> usize {
    letters.bytes().zip(operand.strides).filter(|(own, _)| *own == letter).map(|(_, stride)| stride).sum()
}

/// The size of a letter in the operands.
fn size_of(letter: u8, letters: &str, operand: &Operand) -> Option<usize> {
    letters.bytes().zip(operand.dims).find(|(own, _)| *own == letter).map(|(_, &size)| size)
}

fn einsum(call: &mut Call) -> Result<(), Fault> {
    let Arg::Text(text) = call.arg(0) else { return Err(Fault::Unknown) };
    let spec = Spec::parse(text)?;
    let a = call.operand(1)?;
    let one = no_operand(a.dtype);
    let (b, right) = match (call.optional_operand(2), spec.right) {
        (Some(b), Some(right)) => (b, right),
        _ => (one, ""),
    };
    let summed = spec.summed();
    if let Some(products) = Products::new(&spec, &a, &b, &summed) {
        return run_products(call, &products);
    }
    sum_of_products(call, &spec, (&a, spec.left), (&b, right), &summed)
}

/// Batches of matrix products have a program, other sums of products do not.
fn einsum_gpu(call: &mut Call) -> Result<Ran, Fault> {
    let Arg::Text(text) = call.arg(0) else { return Err(Fault::Unknown) };
    let spec = Spec::parse(text)?;
    let (a, Some(b)) = (call.operand(1)?, call.optional_operand(2)) else { return Ok(Ran::NoProgram) };
    let Some(products) = Products::new(&spec, &a, &b, &spec.summed()) else { return Ok(Ran::NoProgram) };
    let Products { x, w, n_batch, x_batch, w_batch, x_strides, w_strides, sizes: [m, k, n] } = products;
    let x = Side { operand: x, batch: &x_batch, outer: x_strides[0], inner: x_strides[1] };
    let w = Side { operand: w, batch: &w_batch, outer: w_strides[1], inner: w_strides[0] };
    let batch_dims = call.dims.get(..n_batch).unwrap_or_default();
    product_gpu::run(call, batch_dims, &x, &w, &product_gpu::Sizes { m, k, n, n_inner: 1 })
}

/// What stands for the second operand where there is none.
fn no_operand<'a>(dtype: DType) -> Operand<'a> {
    Operand { dtype, bytes: &[], binding: None, offset: 0, is_weight: false, dims: &[], strides: &[] }
}

/// A specification that sums over one letter of both operands: a batch of matrix products. The result's last dimension
/// gives the columns, the one before it the rows where it belongs to the other operand alone; all others are the batch. So
/// the result is written in its own order.
struct Products<'a> {
    x: &'a Operand<'a>,
    w: &'a Operand<'a>,
    /// Dimensions of the batch: the first of the result.
    n_batch: usize,
    x_batch: Strides,
    w_batch: Strides,
    /// Along rows and sum.
    x_strides: [usize; 2],
    /// Along sum and columns.
    w_strides: [usize; 2],
    /// Rows, sum, columns.
    sizes: [usize; 3],
}

impl<'a> Products<'a> {
    /// `None` where the specification is another sum.
    fn new(spec: &Spec<'a>, a: &'a Operand<'a>, b: &'a Operand<'a>, summed: &[u8]) -> Option<Products<'a>> {
        let (left, right, result) = (spec.left, spec.right.unwrap_or_default(), spec.result.as_bytes());
        let has = |letters: &str, letter: u8| letters.as_bytes().contains(&letter);
        let &[summed] = summed else { return None };
        if !has(left, summed) || !has(right, summed) {
            return None;
        }
        let only_in = |letter: u8, own: &str, other: &str| has(own, letter) && !has(other, letter);
        // The operand that has the last letter to itself gives the columns; it takes the place on the right.
        let is_swapped = result.last().is_some_and(|&last| only_in(last, left, right));
        let ((x, x_letters), (w, w_letters)) =
            if is_swapped { ((b, right), (a, left)) } else { ((a, left), (b, right)) };
        let mut batch = result;
        let column = batch.last().copied().filter(|&last| only_in(last, w_letters, x_letters));
        batch = &batch[..batch.len() - usize::from(column.is_some())];
        let row = batch.last().copied().filter(|&last| only_in(last, x_letters, w_letters));
        batch = &batch[..batch.len() - usize::from(row.is_some())];
        let stride = |letter: Option<u8>, letters, operand| letter.map_or(0, |l| stride_of(l, letters, operand));
        let size =
            |letter: Option<u8>, letters, operand| letter.and_then(|l| size_of(l, letters, operand)).unwrap_or(1);
        let strides = |letters, operand| batch.iter().map(|&letter| stride_of(letter, letters, operand)).collect();
        let inner = Some(summed);
        Some(Products {
            x,
            w,
            n_batch: batch.len(),
            x_batch: strides(x_letters, x),
            w_batch: strides(w_letters, w),
            x_strides: [stride(row, x_letters, x), stride(inner, x_letters, x)],
            w_strides: [stride(inner, w_letters, w), stride(column, w_letters, w)],
            sizes: [size(row, x_letters, x), size(inner, x_letters, x), size(column, w_letters, w)],
        })
    }
}

fn run_products(call: &mut Call, products: &Products) -> Result<(), Fault> {
    let Products { x, w, n_batch, x_batch, w_batch, x_strides, w_strides, sizes: [m, k, n] } = products;
    let (threads, batch_dims) = (call.threads, call.dims.get(..*n_batch).unwrap_or_default());
    with_float!(call.dtype, "an operand", T => {
        let x = Matrix { data: x.data::<T>()?, row_stride: x_strides[0], col_stride: x_strides[1] };
        let w = Matrix { data: w.data::<T>()?, row_stride: w_strides[0], col_stride: w_strides[1] };
        let batch = Batch { dims: batch_dims, n_inner: 0, a_strides: x_batch, b_strides: w_batch };
        tl_kernels::batch_matmul(threads, batch, x, w, [*m, *k, *n], call.out::<T>()?);
        Ok(())
    })
}

/// The plain way, for every other specification: each element of the result is summed on its own.
fn sum_of_products(
    call: &mut Call,
    spec: &Spec,
    (a, left): (&Operand, &str),
    (b, right): (&Operand, &str),
    summed: &[u8],
) -> Result<(), Fault> {
    let readers = (
        Reader::new(a)?,
        if right.is_empty() && b.dims.is_empty() && b.bytes.is_empty() { Reader::Number(1.0) } else { Reader::new(b)? },
    );
    let strides = |letters: &[u8], own: &str, operand: &Operand| -> Strides {
        letters.iter().map(|&letter| stride_of(letter, own, operand)).collect()
    };
    let result = spec.result.as_bytes();
    let (a_result, b_result) = (strides(result, left, a), strides(result, right, b));
    let (a_summed, b_summed) = (strides(summed, left, a), strides(summed, right, b));
    let sizes: Strides = summed
        .iter()
        .map(|&letter| size_of(letter, left, a).or_else(|| size_of(letter, right, b)).unwrap_or(1))
        .collect();
    let (dtype, out) = (call.dtype, &mut *call.out);
    for_each_index(call.dims, [&a_result, &b_result], |i, [at_a, at_b]| {
        let mut sum = 0f32;
        for_each_index(&sizes, [&a_summed, &b_summed], |_, [in_a, in_b]| {
            sum += (readers.0.at(at_a + in_a) * readers.1.at(at_b + in_b)) as f32;
        });
        write(dtype, out, i, f64::from(sum));
    });
    Ok(())
}

impl<T> Tensor<T> {
    /// A sum of products of this tensor and another: see the operation `einsum`.
    ///
    /// # Errors
    /// [`Error::Op`] where the specification does not fit the operands.
    pub fn einsum<U>(&self, spec: &str, other: &Tensor<U>) -> Result<Tensor<T>, Error> {
        super::apply(&EINSUM, self.device(), &[Arg::Text(spec), self.into(), other.into()]).map(Tensor::from_raw)
    }
}
