//! Reductions: `sum`, `mean`, `max`, `min`, `norm`, `argmax`, `argmin`. More of them are in `reduce_plain`.

use tl_device::DType;
use tl_kernels::{ArgReduceOp, ReduceOp, View};

use super::reduce_gpu::{self, Reduction};
use crate::cpu::elements::{Reader, for_each_index, write};
use crate::op::kernel::with_float;
use crate::op::rule::normalize_axis;
use crate::op::{
    Arg, Call, DefaultValue, Dispatch, Group, Kind, Op, OpKernel, Param, RuleArgs, TensorType, optional, required,
};
use crate::size::{Size, Sizes};
use crate::strides::Strides;
use crate::tensor::Tensor;
use crate::{Error, OpError};

pub(super) static OPS: &[&Op] = &[&SUM, &MEAN, &MAX, &MIN, &NORM, &ARGMAX, &ARGMIN];

pub(super) static PARAMS: &[Param] = &[
    required("x", Kind::Tensor),
    optional("dim", Kind::Int, DefaultValue::Absent),
    optional("keepdim", Kind::Bool, DefaultValue::Bool(false)),
];

pub(super) fn float_operand(dtype: Option<DType>) -> Result<(), OpError> {
    match dtype.filter(|dtype| !dtype.is_float()) {
        Some(found) => {
            Err(OpError::DType { operand: "x", expected: "float16 or float32 (cast it, `x as float32`)", found })
        }
        None => Ok(()),
    }
}

/// The sizes without the dimension that is reduced (or with 1 in its place); a single number where none is named.
pub(super) fn reduced(args: &RuleArgs) -> Result<(Sizes, Option<DType>), OpError> {
    let (sizes, dtype) = args.tensor(0)?;
    let keep = args.bool(2)?;
    let mut result = Sizes::from_slice(sizes);
    if !args.is_given(1) {
        result = if keep { Sizes::from_elem(Size::Known(1), sizes.len()) } else { Sizes::new() };
        return Ok((result, dtype));
    }
    let axis = args.axis(1, sizes.len())?;
    if keep {
        result[axis] = Size::Known(1);
    } else {
        result.remove(axis);
    }
    Ok((result, dtype))
}

fn reduce_rule(args: &RuleArgs) -> Result<TensorType, OpError> {
    let (sizes, dtype) = reduced(args)?;
    match dtype {
        Some(found @ (DType::Block(_) | DType::Bool)) => {
            Err(OpError::DType { operand: "x", expected: "float16, float32 or int32 (cast it first)", found })
        }
        _ => Ok(TensorType::new(dtype, sizes)),
    }
}

/// Of `bool` the sum counts.
fn sum_rule(args: &RuleArgs) -> Result<TensorType, OpError> {
    match reduced(args)? {
        (sizes, Some(DType::Bool)) => Ok(TensorType::new(Some(DType::I32), sizes)),
        _ => reduce_rule(args),
    }
}

pub(super) fn float_reduce_rule(args: &RuleArgs) -> Result<TensorType, OpError> {
    let result = reduce_rule(args)?;
    float_operand(result.dtype)?;
    Ok(result)
}

/// As `reduce_rule`, for indices, which exist only where there are elements.
fn place_rule(args: &RuleArgs) -> Result<TensorType, OpError> {
    let result = reduce_rule(args)?;
    let (sizes, _) = args.tensor(0)?;
    let axis = if args.is_given(1) { Some(args.axis(1, sizes.len())?) } else { None };
    let is_empty = match axis {
        Some(axis) => sizes[axis] == Size::Known(0),
        None => sizes.contains(&Size::Known(0)),
    };
    if is_empty {
        return Err(OpError::Value { operand: "the number of elements", expected: "1 or more", found: 0.0 });
    }
    Ok(TensorType { dtype: Some(DType::I32), ..result })
}

/// The dimension to reduce; `None`: all.
fn axis(call: &Call, rank: usize) -> Result<Option<usize>, OpError> {
    match call.arg(1) {
        Arg::None => Ok(None),
        _ => normalize_axis(call.int(1)?, rank).map(Some),
    }
}

/// A reduction in `f64`, for integers.
struct Plain {
    start: f64,
    step: fn(f64, f64) -> f64,
}

fn reduce(call: &mut Call, op: ReduceOp, plain: Option<Plain>) -> Result<(), OpError> {
    let x = call.operand(0)?;
    let axis = axis(call, x.dims.len())?;
    let threads = call.threads;
    if let Some(Plain { start, step }) = plain.filter(|_| !x.dtype.is_float()) {
        return each_line(call, |n, at| (0..n).fold(start, |value, i| step(value, at(i))));
    }
    // The operand is contiguous, so all dimensions together are one.
    let (all, one) = ([x.n_elems()], [1]);
    with_float!(x.dtype, "x", T => {
        let (view, axis) = match axis {
            Some(axis) => (x.kernel_view::<T>()?, axis),
            None => (View { data: x.data::<T>()?, dims: &all, strides: &one }, 0),
        };
        tl_kernels::reduce(threads, view, axis, op, call.out()?);
        Ok(())
    })
}

/// Computes each element of the result from the elements of a line of the operand: their number, and each by its index.
pub(super) fn each_line(call: &mut Call, line: impl Fn(usize, &dyn Fn(usize) -> f64) -> f64) -> Result<(), OpError> {
    let x = call.operand(0)?;
    let axis = axis(call, x.dims.len())?;
    let reader = Reader::new(&x)?;
    let (n, step) = axis.map_or((x.n_elems(), 1), |axis| (x.dims[axis], x.strides[axis]));
    let mut dims = Strides::from_slice(x.dims);
    let mut strides = Strides::from_slice(x.strides);
    match axis {
        Some(axis) => {
            dims.remove(axis);
            strides.remove(axis);
        }
        None => {
            dims.clear();
            strides.clear();
        }
    }
    let (dtype, out) = (call.dtype, &mut *call.out);
    for_each_index(&dims, [&strides], |i, [at]| write(dtype, out, i, line(n, &|j| reader.at(at + j * step))));
    Ok(())
}

fn reduce_on_gpu(call: &mut Call, reduction: Reduction) -> Result<Dispatch, OpError> {
    let axis = axis(call, call.operand(0)?.dims.len())?;
    reduce_gpu::reduce(call, axis, reduction)
}

macro_rules! reductions {
    ($($row:ident $name:ident $rule:ident $op:ident $plain:expr, $doc:literal;)*) => {
        $(static $row: Op = Op {
            name: stringify!($name),
            group: Group::Reduce,
            doc: $doc,
            params: PARAMS,
            rule: $rule,
            kernel: OpKernel::Contiguous(|call| reduce(call, ReduceOp::$op, $plain)),
            gpu: Some(|call| reduce_on_gpu(call, Reduction::$op)),
        };)*
        impl<T> Tensor<T> {
            $(#[doc = $doc]
            ///
            /// `dim`: the dimension, counted from the end where negative; `None`: all of them, to a single number.
            ///
            /// # Errors
            /// [`Error::Op`] where there is no such dimension, [`Error::ElementType`] where the result has another type.
            pub fn $name(&self, dim: Option<isize>, keepdim: bool) -> Result<Tensor<T>, Error> {
                let result: Tensor<T> = self.apply(&$row, &[axis_arg(dim), Arg::Bool(keepdim)])?;
                match (self.dtype(), result.dtype()) {
                    (expected, found) if expected == found => Ok(result),
                    (expected, found) => Err(Error::ElementType { expected, found }),
                }
            })*
        }
    };
}

fn axis_arg(dim: Option<isize>) -> Arg<'static> {
    dim.map_or(Arg::None, |dim| Arg::Int(dim as i64))
}

reductions! {
    SUM sum sum_rule Sum Some(Plain { start: 0.0, step: |a, b| a + b }),
        "The sum over a dimension, or over all; floats summed in `float32`. Of `bool` it counts, in `int32`. \
         `x: [.., n, ..] → [.., ..]`.";
    MEAN mean float_reduce_rule Mean None, "The arithmetic mean over a dimension, or over all. `x: [.., n, ..] → [.., ..]`.";
    MAX max reduce_rule Max Some(Plain { start: f64::NEG_INFINITY, step: f64::max }),
        "The largest over a dimension, or over all; NaN if one is. `x: [.., n, ..] → [.., ..]`.";
    MIN min reduce_rule Min Some(Plain { start: f64::INFINITY, step: f64::min }),
        "The smallest over a dimension, or over all; NaN if one is. `x: [.., n, ..] → [.., ..]`.";
    NORM norm float_reduce_rule Norm None,
        "The square root of the sum of squares over a dimension, or over all. `x: [.., n, ..] → [.., ..]`.";
}

fn place(call: &mut Call, op: ArgReduceOp) -> Result<(), OpError> {
    let x = call.operand(0)?;
    let axis = axis(call, x.dims.len())?;
    let threads = call.threads;
    let (all, one) = ([x.n_elems()], [1]);
    if x.dtype == DType::I32 {
        return place_plain(call, axis, op);
    }
    with_float!(x.dtype, "x", T => {
        let (view, axis) = match axis {
            Some(axis) => (x.kernel_view::<T>()?, axis),
            None => (View { data: x.data::<T>()?, dims: &all, strides: &one }, 0),
        };
        tl_kernels::arg_reduce(threads, view, axis, op, call.out()?);
        Ok(())
    })
}

fn place_plain(call: &mut Call, axis: Option<usize>, op: ArgReduceOp) -> Result<(), OpError> {
    let x = call.operand(0)?;
    let reader = Reader::new(&x)?;
    // The stride of a dimension of size 1 is meaningless, so the distance is computed from the sizes.
    let (n, inner) = axis.map_or((x.n_elems(), 1), |axis| (x.dims[axis], x.dims[axis + 1..].iter().product()));
    let out = call.out::<i32>()?;
    for (i, out) in out.iter_mut().enumerate() {
        let at = |j: usize| reader.at(i / inner * inner * n + i % inner + j * inner);
        let is_better = |a: f64, b: f64| if matches!(op, ArgReduceOp::Max) { a > b } else { a < b };
        *out = (1..n).fold(0, |best, j| if is_better(at(j), at(best)) { j } else { best }) as i32;
    }
    Ok(())
}

static ARGMAX: Op = Op {
    name: "argmax",
    group: Group::Reduce,
    doc: "The place of the largest over a dimension, or over all; the first of equals. `x: [.., n, ..] → int32[.., ..]`.",
    params: PARAMS,
    rule: place_rule,
    kernel: OpKernel::Contiguous(|call| place(call, ArgReduceOp::Max)),
    gpu: Some(|call| reduce_on_gpu(call, Reduction::ArgMax)),
};

static ARGMIN: Op = Op {
    name: "argmin",
    group: Group::Reduce,
    doc: "The place of the smallest over a dimension, or over all; the first of equals. `x: [.., n, ..] → int32[.., ..]`.",
    params: PARAMS,
    rule: place_rule,
    kernel: OpKernel::Contiguous(|call| place(call, ArgReduceOp::Min)),
    gpu: Some(|call| reduce_on_gpu(call, Reduction::ArgMin)),
};

impl<T> Tensor<T> {
    /// The index of the largest element over a dimension, or over all.
    ///
    /// # Errors
    /// [`Error::Op`] where there is no such dimension or no element.
    pub fn argmax(&self, dim: Option<isize>, keepdim: bool) -> Result<Tensor<i32>, Error> {
        self.apply(&ARGMAX, &[axis_arg(dim), Arg::Bool(keepdim)])
    }

    /// The index of the smallest element over a dimension, or over all.
    ///
    /// # Errors
    /// [`Error::Op`] where there is no such dimension or no element.
    pub fn argmin(&self, dim: Option<isize>, keepdim: bool) -> Result<Tensor<i32>, Error> {
        self.apply(&ARGMIN, &[axis_arg(dim), Arg::Bool(keepdim)])
    }
}
