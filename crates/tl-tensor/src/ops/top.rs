//! The largest elements of the last dimension: `topk`, `argtopk`.

use tl_device::DType;

use super::rule::{RuleArgs, Size, Sizes, TensorType};
use super::{Arg, Call, Group, Kind, Op, Run, required, with_float};
use crate::{Error, Fault, Tensor};

pub(super) static OPS: &[&Op] = &[&TOPK, &ARGTOPK];

static TOPK: Op = Op {
    name: "topk",
    group: Group::Reduce,
    doc: "The `k` largest elements of the last dimension, the largest first; NaN before everything. `x: [.., n] → [.., k]`.",
    params: &[required("x", Kind::Tensor), required("k", Kind::Int)],
    rule,
    run: Run::ContiguousKernel(|call| {
        let (x, n_and_k, threads) = (call.operand(0)?, n_and_k(call)?, call.threads);
        with_float!(x.dtype, "x", T => {
            tl_kernels::top::<T>(threads, x.slice()?, n_and_k, call.out()?);
            Ok(())
        })
    }),
    gpu: None,
};

static ARGTOPK: Op = Op {
    name: "argtopk",
    group: Group::Reduce,
    doc: "The places of the `k` largest elements of the last dimension, the largest first; of equals the first ones, and NaN before \
          everything. `x: [.., n] → int32[.., k]`.",
    params: &[required("x", Kind::Tensor), required("k", Kind::Int)],
    rule: |args| Ok(TensorType { dtype: Some(DType::I32), ..rule(args)? }),
    run: Run::ContiguousKernel(|call| {
        let (x, n_and_k, threads) = (call.operand(0)?, n_and_k(call)?, call.threads);
        with_float!(x.dtype, "x", T => {
            tl_kernels::top_places::<T>(threads, x.slice()?, n_and_k, call.out()?);
            Ok(())
        })
    }),
    gpu: None,
};

fn rule(args: &RuleArgs) -> Result<TensorType, Fault> {
    let (x, dtype) = args.tensor(0)?;
    if let Some(found) = dtype.filter(|dtype| !dtype.is_float()) {
        return Err(Fault::DType { operand: "x", expected: "float16 or float32 (cast it first)", found });
    }
    let Some((&n, outer)) = x.split_last() else {
        return Err(Fault::Rank { operand: "x", expected: "1 dimension or more, [.., n]", found: 0 });
    };
    // Places are `int32`.
    if let Size::Known(n) = n
        && n > i64::from(i32::MAX)
    {
        return Err(Fault::Value { operand: "the last dimension", expected: "less than 2^31", found: n as f64 });
    }
    if let Size::Known(k) = args.int(1)
        && (k < 0 || n.known().is_some_and(|n| k > n))
    {
        let expected = "0 or more and no more than the last dimension's size";
        return Err(Fault::Value { operand: "k", expected, found: k as f64 });
    }
    let mut sizes = Sizes::from_slice(outer);
    sizes.push(args.int(1));
    Ok(TensorType::new(dtype, sizes))
}

/// Sizes of the last dimension, of the operand and of the result.
fn n_and_k(call: &Call) -> Result<[usize; 2], Fault> {
    let last = |dims: &[usize]| dims.last().copied().unwrap_or(0);
    Ok([last(call.operand(0)?.dims), last(call.dims)])
}

impl<T> Tensor<T> {
    /// The `k` largest elements of the last dimension: see the operation `topk`.
    ///
    /// # Errors
    /// [`Error::Op`] where there are fewer.
    pub fn topk(&self, k: usize) -> Result<Tensor<T>, Error> {
        self.apply(&TOPK, &[Arg::Int(k as i64)])
    }

    /// The places of the `k` largest elements of the last dimension: see the operation `argtopk`.
    ///
    /// # Errors
    /// [`Error::Op`] where there are fewer.
    pub fn argtopk(&self, k: usize) -> Result<Tensor<i32>, Error> {
        self.apply(&ARGTOPK, &[Arg::Int(k as i64)])
    }
}
