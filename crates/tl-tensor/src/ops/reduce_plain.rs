//! Reductions that are computed element by element: `any`, `all`, `prod`, `var`, `std`.

use tl_device::DType;

use super::reduce::{PARAMS, each_line, float_reduce_rule, reduced};
use crate::OpError;
use crate::op::{Call, Group, Op, OpKernel, RuleArgs, TensorType};

pub(super) static OPS: &[&Op] = &[&ANY, &ALL, &PROD, &VAR, &STD];

static ANY: Op = Op {
    name: "any",
    group: Group::Reduce,
    doc: "Whether an element over a dimension, or over all, is true (a number: is not 0). `x: [.., n, ..] → bool[.., ..]`.",
    params: PARAMS,
    rule: truth_rule,
    kernel: OpKernel::Contiguous(|call| each_line(call, |n, at| f64::from(u8::from((0..n).any(|i| at(i) != 0.0))))),
    gpu: None,
};

static ALL: Op = Op {
    name: "all",
    group: Group::Reduce,
    doc: "Whether every element over a dimension, or over all, is true (a number: is not 0); true where there is none. \
          `x: [.., n, ..] → bool[.., ..]`.",
    params: PARAMS,
    rule: truth_rule,
    kernel: OpKernel::Contiguous(|call| each_line(call, |n, at| f64::from(u8::from((0..n).all(|i| at(i) != 0.0))))),
    gpu: None,
};

static PROD: Op = Op {
    name: "prod",
    group: Group::Reduce,
    doc: "The product over a dimension, or over all; 1 where there is no element. Multiplied in 64-bit floats, so products of \
          `int32` are exact. `x: [.., n, ..] → [.., ..]`.",
    params: PARAMS,
    rule: |args| {
        let (sizes, dtype) = reduced(args)?;
        match dtype {
            Some(found @ (DType::Block(_) | DType::Bool)) => {
                Err(OpError::DType { operand: "x", expected: "float16, float32 or int32 (cast it first)", found })
            }
            _ => Ok(TensorType::new(dtype, sizes)),
        }
    },
    kernel: OpKernel::Contiguous(|call| each_line(call, |n, at| (0..n).map(at).product())),
    gpu: None,
};

static VAR: Op = Op {
    name: "var",
    group: Group::Reduce,
    doc: "The variance over a dimension, or over all: the mean of the squared distances from the mean. \
          `x: [.., n, ..] → [.., ..]`.",
    params: PARAMS,
    rule: float_reduce_rule,
    kernel: OpKernel::Contiguous(|call| each_line(call, variance)),
    gpu: None,
};

static STD: Op = Op {
    name: "std",
    group: Group::Reduce,
    doc: "The standard deviation over a dimension, or over all: the square root of `var`. `x: [.., n, ..] → [.., ..]`.",
    params: PARAMS,
    rule: float_reduce_rule,
    kernel: OpKernel::Contiguous(|call: &mut Call| each_line(call, |n, at| variance(n, at).sqrt())),
    gpu: None,
};

fn truth_rule(args: &RuleArgs) -> Result<TensorType, OpError> {
    match reduced(args)? {
        (_, Some(found @ DType::Block(_))) => {
            Err(OpError::DType { operand: "x", expected: "an activation (cast the weight first)", found })
        }
        (sizes, _) => Ok(TensorType::new(Some(DType::Bool), sizes)),
    }
}

fn variance(n: usize, at: &dyn Fn(usize) -> f64) -> f64 {
    let mean = (0..n).map(at).sum::<f64>() / n as f64;
    (0..n).map(|i| (at(i) - mean).powi(2)).sum::<f64>() / n as f64
}
