//! `softmax` and `log_softmax`.

use super::reduce::float_operand;
use super::softmax_gpu;
use crate::cpu::elements::{Reader, write};
use crate::op::kernel::with_float;
use crate::op::rule::normalize_axis;
use crate::op::{
    Arg, Call, DefaultValue, Dispatch, Group, Kind, Op, OpKernel, RuleArgs, TensorType, optional, required,
};
use crate::tensor::Tensor;
use crate::{Error, OpError};

pub(super) static OPS: &[&Op] = &[&SOFTMAX, &LOG_SOFTMAX];

fn softmax_rule(args: &RuleArgs) -> Result<TensorType, OpError> {
    let (sizes, dtype) = args.tensor(0)?;
    float_operand(dtype)?;
    args.axis(1, sizes.len())?;
    Ok(TensorType::new(dtype, sizes))
}

/// Softmax along the last dimension by the vectorized kernel, along others column by column.
fn softmax(call: &mut Call, is_log: bool) -> Result<(), OpError> {
    let x = call.operand(0)?;
    let axis = normalize_axis(call.int(1)?, x.dims.len())?;
    let n = x.dims[axis];
    let inner: usize = x.dims[axis + 1..].iter().product();
    if n == 0 || inner == 0 {
        return Ok(());
    }
    let threads = call.threads;
    if inner == 1 {
        return with_float!(x.dtype, "x", T => {
            let softmax = if is_log { tl_kernels::log_softmax::<T> } else { tl_kernels::softmax::<T> };
            softmax(threads, x.slice()?, n, call.out()?);
            Ok(())
        });
    }
    let reader = Reader::new(&x)?;
    let (dtype, out) = (call.dtype, &mut *call.out);
    for column in 0..x.n_elems() / n {
        let start = column / inner * inner * n + column % inner;
        let at = |j: usize| start + j * inner;
        let max = (0..n).fold(f64::NEG_INFINITY, |max, j| max.max(reader.at(at(j))));
        let sum: f64 = (0..n).map(|j| (reader.at(at(j)) - max).exp()).sum();
        for j in 0..n {
            let shifted = reader.at(at(j)) - max;
            write(dtype, out, at(j), if is_log { shifted - sum.ln() } else { shifted.exp() / sum });
        }
    }
    Ok(())
}

fn softmax_on_gpu(call: &mut Call, is_log: bool) -> Result<Dispatch, OpError> {
    let axis = normalize_axis(call.int(1)?, call.operand(0)?.dims.len())?;
    softmax_gpu::run(call, axis, is_log)
}

static SOFTMAX: Op = Op {
    name: "softmax",
    group: Group::Reduce,
    doc: "`e^x / Σ e^x` along `dim`, the last one unless given, computed in `float32` from the largest element down. \
          `x: [.., n, ..] → [.., n, ..]`.",
    params: &[required("x", Kind::Tensor), optional("dim", Kind::Int, DefaultValue::Int(-1))],
    rule: softmax_rule,
    kernel: OpKernel::Contiguous(|call| softmax(call, false)),
    gpu: Some(|call| softmax_on_gpu(call, false)),
};

static LOG_SOFTMAX: Op = Op {
    name: "log_softmax",
    group: Group::Reduce,
    doc: "The logarithm of `softmax`, without its rounding to 0. `x: [.., n, ..] → [.., n, ..]`.",
    params: &[required("x", Kind::Tensor), optional("dim", Kind::Int, DefaultValue::Int(-1))],
    rule: softmax_rule,
    kernel: OpKernel::Contiguous(|call| softmax(call, true)),
    gpu: Some(|call| softmax_on_gpu(call, true)),
};

impl<T> Tensor<T> {
    /// `e^x / Σ e^x` along a dimension.
    ///
    /// # Errors
    /// [`Error::Op`] where there is no such dimension.
    pub fn softmax(&self, dim: isize) -> Result<Tensor<T>, Error> {
        self.apply(&SOFTMAX, &[Arg::Int(dim as i64)])
    }

    /// The logarithm of the softmax along a dimension.
    ///
    /// # Errors
    /// [`Error::Op`] where there is no such dimension.
    pub fn log_softmax(&self, dim: isize) -> Result<Tensor<T>, Error> {
        self.apply(&LOG_SOFTMAX, &[Arg::Int(dim as i64)])
    }
}
