//! `cast`: the same elements in another type.

use half::f16;
use tl_device::DType;

use crate::cpu::convert::copy_into;
use crate::gpu::map::map_unary;
use crate::op::{Arg, Call, Dispatch, Group, Kind, Map, Op, OpKernel, RuleArgs, TensorType, required};
use crate::tensor::Tensor;
use crate::{Error, OpError};

pub(super) static OPS: &[&Op] = &[&CAST];

static CAST: Op = Op {
    name: "cast",
    group: Group::Elementwise,
    doc: "The same elements in another type; written `x as float32`. Floats are rounded to the nearest value, ties to even; \
          to `int32` they are truncated and kept within its range; to `bool` everything but 0 is true. Weights in a stored \
          format become floats. `x: [..] → [..]`.",
    params: &[required("x", Kind::Weight), required("dtype", Kind::DType)],
    rule: |args: &RuleArgs| {
        let (sizes, found) = args.tensor(0)?;
        let dtype = args.dtype(1);
        match (found, dtype) {
            (_, Some(target @ DType::Block(_))) => {
                Err(OpError::DType { operand: "dtype", expected: "float16, float32, int32 or bool", found: target })
            }
            (Some(found @ DType::Block(_)), Some(DType::I32 | DType::Bool)) => Err(OpError::DType {
                operand: "x",
                expected: "an activation (cast the weight to a float type first, `w as float32`)",
                found,
            }),
            _ => Ok(TensorType::new(dtype, sizes)),
        }
    },
    kernel: OpKernel::Elementwise(Map::Store, |call: &mut Call| {
        let operand = call.operand(0)?;
        let (isa, dtype, threads) = (call.threads.isa(), call.dtype, call.threads);
        match (operand.dtype, dtype) {
            (DType::F16, DType::F32) => {
                tl_kernels::unary::<f16, f32>(threads, operand.kernel_view()?, call.out()?, |x| x);
            }
            (DType::F32, DType::F16) => {
                tl_kernels::unary::<f32, f16>(threads, operand.kernel_view()?, call.out()?, |x| x);
            }
            _ => copy_into(isa, &operand, dtype, call.out)?,
        }
        Ok(())
    }),
    gpu: Some(|call| {
        let source = call.operand(0)?.dtype;
        match (source, call.dtype) {
            // In two parts that `f32` represents exactly, so that only their sum is rounded.
            (DType::I32, DType::F16 | DType::F32) => {
                let sum = |x: &str| format!("let x = {x}; v[k] = f32(x >> 12u) * 4096.0 + f32(x & 4095);");
                map_unary(call, "cast", &sum, [0.0; 2])
            }
            (DType::I32 | DType::Block(_), _) | (_, DType::I32) => Ok(Dispatch::Unsupported),
            (DType::Bool, DType::Bool) => map_unary(call, "contiguous", &|x| format!("v[k] = {x};"), [0.0; 2]),
            (_, DType::Bool) => map_unary(call, "cast", &|x| format!("v[k] = !({x} == 0.0);"), [0.0; 2]),
            _ => map_unary(call, "cast", &|x| format!("v[k] = f32({x});"), [0.0; 2]),
        }
    }),
};

impl<T> Tensor<T> {
    /// The same elements in another type: see the operation `cast`.
    ///
    /// # Errors
    /// [`Error::Op`] for a target that is a weight format.
    pub fn cast<U: crate::Element>(&self) -> Result<Tensor<U>, Error> {
        self.apply(&CAST, &[Arg::DType(U::DTYPE)])
    }
}
