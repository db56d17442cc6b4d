//! `einsum`: sums of products, written with a letter for each dimension.

use smallvec::SmallVec;
use tl_device::DType;
use tl_kernels::{Batch, Matrix};

use super::einsum_order::contract;
use super::einsum_products::{Products, Sum, repeated};
use super::einsum_spec::Spec;
use crate::cpu::elements::{Reader, for_each_index, write};
use crate::dispatch::apply;
use crate::gpu::products::{self, Side};
use crate::op::kernel::with_float;
use crate::op::{
    Arg, Call, DefaultValue, Dispatch, Group, Kind, Op, OpKernel, RuleArgs, TensorType, optional, required,
};
use crate::size::{Size, Sizes};
use crate::tensor::Tensor;
use crate::{Error, OpError};

pub(super) static OPS: &[&Op] = &[&EINSUM];

static EINSUM: Op = Op {
    name: "einsum",
    group: Group::Linear,
    doc: "A sum of products, as NumPy's. `spec` has a letter for each dimension of the operands and, after `->`, of the \
          result: `einsum(\"ihd,jhd->ihj\", q, k)`. A letter that the result lacks is summed over: floats in `float32`, `int32` \
          in 64 bits, and of `bool` the sum is an or and the product an and. A letter that stands twice in an operand is a \
          diagonal. `...` stands for any further dimensions, which broadcast. Without `->`, the result has `...` and the \
          letters that stand once, in alphabetical order. Three operands and more are multiplied pair by pair, in the order \
          that costs least; results in between have the operands' type.",
    params: &[
        required("spec", Kind::Text),
        required("a", Kind::Tensor),
        optional("b", Kind::Tensor, DefaultValue::Absent),
        optional("others", Kind::Tensors, DefaultValue::Absent),
    ],
    rule,
    kernel: OpKernel::Composed { compose: contract, must_copy, kernel: einsum },
    gpu: Some(einsum_gpu),
};

fn rule(args: &RuleArgs) -> Result<TensorType, OpError> {
    let mut operands: SmallVec<[(&[Size], Option<DType>); 4]> = SmallVec::new();
    for index in [1, 2] {
        if args.is_given(index) {
            operands.push(args.tensor(index)?);
        }
    }
    if args.is_given(3) {
        for ty in args.tensors(3)? {
            operands.push((ty.sizes.as_deref().ok_or(OpError::Unknown)?, ty.dtype));
        }
    }
    let mut dtype = None;
    for &(_, own) in &operands {
        match (dtype, own) {
            (_, Some(found @ DType::Block(_))) => {
                let expected = "an activation (convert the weight first, `w as float32`)";
                return Err(OpError::DType { operand: "an operand", expected, found });
            }
            (Some(left), Some(right)) if left != right => return Err(OpError::Mixed { left, right }),
            (known, own) => dtype = known.or(own),
        }
    }
    let ranks: SmallVec<[usize; 4]> = operands.iter().map(|(sizes, _)| sizes.len()).collect();
    let sizes: SmallVec<[&[Size]; 4]> = operands.iter().map(|(sizes, _)| *sizes).collect();
    let result: Sizes = Spec::parse(args.text(0)?, &ranks)?.result_sizes(&sizes)?;
    Ok(TensorType::new(dtype, result))
}

/// A repeated dimension is read in place, its letter split in two everywhere. It is copied where its letter is summed
/// over, because that would be a sum over two letters, and where two operands repeat one letter differently.
fn must_copy(args: &[Arg], index: usize) -> bool {
    let operand = |index: usize| args.get(index).and_then(Arg::operand);
    let repeat = |index: usize| operand(index).and_then(|operand| operand.repeat);
    let (Some(Arg::Text(text)), Some(_)) = (args.first(), repeat(index)) else { return false };
    let ranks: SmallVec<[usize; 2]> =
        [1, 2].into_iter().filter_map(operand).map(|operand| operand.dims.len()).collect();
    let Ok(spec) = Spec::parse(text, &ranks) else { return false };
    let Some((letter, times)) = repeated(&spec, index - 1, repeat(index)) else { return false };
    let differs = |(other, n): (u8, usize)| other == letter && n != times;
    !spec.result.contains(&letter) || (index == 2 && repeated(&spec, 0, repeat(1)).is_some_and(differs))
}

/// The sum of products that the call asks for.
fn sum_of<'a>(call: &Call<'a>) -> Result<Sum<'a>, OpError> {
    let Arg::Text(text) = call.arg(0) else { return Err(OpError::Unknown) };
    if matches!(call.arg(3), Arg::Tensors([_, ..])) {
        return Err(OpError::Argument { parameter: "each of several operands", expected: "a tensor" });
    }
    let a = call.operand_with_repeat(1).ok_or(OpError::Unknown)?;
    let b = call.operand_with_repeat(2);
    let ranks: SmallVec<[usize; 2]> = std::iter::once(&a).chain(&b).map(|operand| operand.dims.len()).collect();
    Ok(Sum::new(&Spec::parse(text, &ranks)?, a, b))
}

fn einsum(call: &mut Call) -> Result<(), OpError> {
    let sum = sum_of(call)?;
    match Products::new(&sum) {
        Some(products) => run_products(call, &products),
        None => sum_of_products(call, &sum),
    }
}

/// Only batches of matrix products have a program.
fn einsum_gpu(call: &mut Call) -> Result<Dispatch, OpError> {
    if !call.dtype.is_float() {
        return Ok(Dispatch::Unsupported);
    }
    let sum = sum_of(call)?;
    let Some(products) = Products::new(&sum) else { return Ok(Dispatch::Unsupported) };
    let Products { x, w, n_inner, k, .. } = products;
    let ([x_inner, w_inner], [x_batch, w_batch]) = (products.inner, products.batch_strides());
    let (row, column, dims) = (products.row, products.column, products.batch_dims());
    let x = Side { operand: &x.operand, batch: &x_batch, outer: row.x, inner: x_inner };
    let w = Side { operand: &w.operand, batch: &w_batch, outer: column.w, inner: w_inner };
    let n_inner = dims[dims.len() - n_inner..].iter().product();
    products::run(call, &dims, &x, &w, &products::Sizes { m: row.size, k, n: column.size, n_inner })
}

/// The two factors as matrices of the first product.
fn factors<'a, T: bytemuck::Pod>(products: &Products<'a>) -> Result<[Matrix<'a, T>; 2], OpError> {
    let Products { x, w, row, column, inner: [x_inner, w_inner], .. } = *products;
    let x = Matrix { data: x.operand.data::<T>()?, row_stride: row.x, col_stride: x_inner };
    let w = Matrix { data: w.operand.data::<T>()?, row_stride: w_inner, col_stride: column.w };
    Ok([x, w])
}

fn run_products(call: &mut Call, products: &Products) -> Result<(), OpError> {
    let Products { n_inner, row, column, k, .. } = *products;
    let (threads, dims, [x_batch, w_batch]) = (call.threads, products.batch_dims(), products.batch_strides());
    let batch = Batch { dims: &dims, n_inner, a_strides: &x_batch, b_strides: &w_batch };
    let sizes = [row.size, k, column.size];
    match call.dtype {
        DType::I32 => {
            let [x, w] = factors::<i32>(products)?;
            tl_kernels::batch_ring_matmul(threads, batch, x, w, sizes, call.out()?);
        }
        DType::Bool => {
            let [x, w] = factors::<u8>(products)?;
            tl_kernels::batch_ring_matmul(threads, batch, x, w, sizes, call.out()?);
        }
        dtype => with_float!(dtype, "an operand", T => {
            let [x, w] = factors::<T>(products)?;
            tl_kernels::batch_matmul(threads, batch, x, w, sizes, call.out::<T>()?);
            Ok(())
        })?,
    }
    Ok(())
}

/// Any other specification: each element of the result is summed on its own.
fn sum_of_products(call: &mut Call, sum: &Sum) -> Result<(), OpError> {
    match call.dtype {
        DType::I32 => {
            let add = |total: i64, a: f64, b: f64| total.saturating_add(a as i64 * b as i64);
            sum_elements(call, sum, 0, add, |total| total as f64)
        }
        DType::Bool => {
            let add = |total, a: f64, b: f64| total || a * b != 0.0;
            sum_elements(call, sum, false, add, |total| f64::from(u8::from(total)))
        }
        _ => sum_elements(call, sum, 0f32, |total, a, b| total + (a * b) as f32, f64::from),
    }
}

/// Sums each element of the result from `zero` on: `add` adds the product of two elements.
fn sum_elements<S: Copy>(
    call: &mut Call,
    sum: &Sum,
    zero: S,
    add: impl Fn(S, f64, f64) -> S,
    value: impl Fn(S) -> f64,
) -> Result<(), OpError> {
    let left = Reader::new(&sum.left.operand)?;
    let right = sum.right.as_ref().map_or(Ok(Reader::Number(1.0)), |term| Reader::new(&term.operand))?;
    let ((dims, [a_result, b_result]), (summed, [a_summed, b_summed])) = (sum.result_strides(), sum.summed_strides());
    let (dtype, out) = (call.dtype, &mut *call.out);
    for_each_index(&dims, [&a_result, &b_result], |i, [at_a, at_b]| {
        let mut total = zero;
        for_each_index(&summed, [&a_summed, &b_summed], |_, [in_a, in_b]| {
            total = add(total, left.at(at_a + in_a), right.at(at_b + in_b));
        });
        write(dtype, out, i, value(total));
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
