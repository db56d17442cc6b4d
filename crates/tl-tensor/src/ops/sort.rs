//! `sort`, `argsort` and `cumsum`: along one dimension, elements in order and sums of those before.

use tl_device::DType;

use super::along_last::{by_last, last_size};
use crate::op::kernel::with_float;
use crate::op::{Arg, Call, DefaultValue, Group, Kind, Op, OpKernel, Param, RuleArgs, TensorType, optional, required};
use crate::tensor::Tensor;
use crate::{Error, OpError};

pub(super) static OPS: &[&Op] = &[&SORT, &ARGSORT, &CUMSUM];

static PARAMS: &[Param] = &[
    required("x", Kind::Tensor),
    optional("dim", Kind::Int, DefaultValue::Int(-1)),
    optional("descending", Kind::Bool, DefaultValue::Bool(false)),
];

static SORT: Op = Op {
    name: "sort",
    group: Group::Reduce,
    doc: "The elements along a dimension, the last one unless given, in ascending order with NaN at the end, or in descending \
          order with NaN at the start. `x: [.., n, ..] → [.., n, ..]`.",
    params: PARAMS,
    rule: sort_rule,
    kernel: OpKernel::Composed { compose: by_last::<1>, must_copy: |_, _| true, kernel: sort },
    gpu: None,
};

static ARGSORT: Op = Op {
    name: "argsort",
    group: Group::Reduce,
    doc: "The places of the elements in the order of `sort`; of equals, the first one stands first. \
          `x: [.., n, ..] → int32[.., n, ..]`.",
    params: PARAMS,
    rule: |args| Ok(TensorType { dtype: Some(DType::I32), ..sort_rule(args)? }),
    kernel: OpKernel::Composed { compose: by_last::<1>, must_copy: |_, _| true, kernel: argsort },
    gpu: None,
};

static CUMSUM: Op = Op {
    name: "cumsum",
    group: Group::Reduce,
    doc: "Each element along a dimension, the last one unless given, plus all before it: floats summed in `float32`, `int32` in 64 \
          bits; of `bool` it counts, in `int32`. `x: [.., n, ..] → [.., n, ..]`.",
    params: &[required("x", Kind::Tensor), optional("dim", Kind::Int, DefaultValue::Int(-1))],
    rule: |args| {
        let (sizes, dtype) = args.tensor(0)?;
        args.axis(1, sizes.len())?;
        let dtype = match dtype {
            Some(DType::Bool) => Some(DType::I32),
            Some(found @ DType::Block(_)) => return Err(refused(found, "float16, float32, int32 or bool")),
            dtype => dtype,
        };
        Ok(TensorType::new(dtype, sizes))
    },
    kernel: OpKernel::Composed { compose: by_last::<1>, must_copy: |_, _| true, kernel: cumsum },
    gpu: None,
};

fn refused(found: DType, expected: &'static str) -> OpError {
    OpError::DType { operand: "x", expected, found }
}

/// The operand's type, which has an order.
pub(super) fn ordered(dtype: Option<DType>) -> Result<(), OpError> {
    match dtype {
        Some(found @ (DType::Block(_) | DType::Bool)) => {
            Err(refused(found, "float16, float32 or int32 (cast it first)"))
        }
        _ => Ok(()),
    }
}

fn sort_rule(args: &RuleArgs) -> Result<TensorType, OpError> {
    let (sizes, dtype) = args.tensor(0)?;
    ordered(dtype)?;
    args.axis(1, sizes.len())?;
    Ok(TensorType::new(dtype, sizes))
}

/// Runs the same code for every type that has an order.
macro_rules! with_ordered {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            tl_device::DType::I32 => {
                type $T = i32;
                $body
            }
            dtype => crate::op::kernel::with_float!(dtype, "x", $T => $body),
        }
    };
}
pub(super) use with_ordered;

fn sort(call: &mut Call) -> Result<(), OpError> {
    let (x, n, descending, threads) = (call.operand(0)?, last_size(call, 1)?, call.bool(2), call.threads);
    with_ordered!(x.dtype, T => {
        tl_kernels::sort::<T>(threads, x.slice()?, n, descending, call.out()?);
        Ok(())
    })
}

fn argsort(call: &mut Call) -> Result<(), OpError> {
    let (x, n, descending, threads) = (call.operand(0)?, last_size(call, 1)?, call.bool(2), call.threads);
    with_ordered!(x.dtype, T => {
        tl_kernels::sort_places::<T>(threads, x.slice()?, n, descending, call.out()?);
        Ok(())
    })
}

fn cumsum(call: &mut Call) -> Result<(), OpError> {
    let (x, n) = (call.operand(0)?, last_size(call, 1)?.max(1));
    match x.dtype {
        DType::I32 => count(x.slice::<i32>()?, n, call.out()?),
        DType::Bool => count(x.slice::<u8>()?, n, call.out()?),
        dtype => with_float!(dtype, "x", T => {
            let (x, out) = (x.slice::<T>()?, call.out::<T>()?);
            for (row, out) in x.chunks(n).zip(out.chunks_mut(n)) {
                let mut sum = 0f32;
                for (x, out) in row.iter().zip(out) {
                    sum += tl_kernels::Element::to_f32(*x);
                    *out = tl_kernels::Element::from_f32(sum);
                }
            }
            Ok(())
        })?,
    }
    Ok(())
}

fn count<T: Copy + Into<i64>>(x: &[T], n: usize, out: &mut [i32]) {
    for (row, out) in x.chunks(n).zip(out.chunks_mut(n)) {
        let mut sum = 0i64;
        for (x, out) in row.iter().zip(out) {
            sum += (*x).into();
            *out = sum.clamp(i32::MIN.into(), i32::MAX.into()) as i32;
        }
    }
}

impl<T> Tensor<T> {
    /// The elements along a dimension in order: see the operation `sort`.
    ///
    /// # Errors
    /// [`Error::Op`] where there is no such dimension.
    pub fn sort(&self, dim: isize, descending: bool) -> Result<Tensor<T>, Error> {
        self.apply(&SORT, &[Arg::Int(dim as i64), Arg::Bool(descending)])
    }

    /// The places of the elements along a dimension, in order: see the operation `argsort`.
    ///
    /// # Errors
    /// [`Error::Op`] where there is no such dimension.
    pub fn argsort(&self, dim: isize, descending: bool) -> Result<Tensor<i32>, Error> {
        self.apply(&ARGSORT, &[Arg::Int(dim as i64), Arg::Bool(descending)])
    }

    /// The sums of the elements along a dimension up to each: see the operation `cumsum`.
    ///
    /// # Errors
    /// [`Error::Op`] where there is no such dimension.
    pub fn cumsum(&self, dim: isize) -> Result<Tensor, Error> {
        self.apply(&CUMSUM, &[Arg::Int(dim as i64)])
    }
}
