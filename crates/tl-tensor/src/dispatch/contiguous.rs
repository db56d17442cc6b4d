//! `contiguous`: a copy in the order of the indices. It is the one operation that running others needs.

use tl_device::{DType, Layout};

use super::kernel::{ResultMemory, run_kernel};
use crate::cpu::convert::copy_into;
use crate::gpu::map::map_unary;
use crate::op::{Arg, Call, Dispatch, Group, Kind, Op, OpKernel, RuleArgs, TensorType, required};
use crate::strides::contiguous_strides;
use crate::tensor::{DynTensor, Tensor};
use crate::{Error, OpError};

pub(crate) static OPS: &[&Op] = &[&CONTIGUOUS];

/// A copy whose elements lie one after the other.
pub(crate) static CONTIGUOUS: Op = Op {
    name: "contiguous",
    group: Group::Shape,
    doc: "A copy whose elements lie one after the other in the order of their indices. `x: [..] → [..]`.",
    params: &[required("x", Kind::Tensor)],
    rule: |args: &RuleArgs| {
        let (sizes, dtype) = args.tensor(0)?;
        Ok(TensorType::new(dtype, sizes))
    },
    kernel: OpKernel::Strided(copy),
    gpu: Some(|call| match call.dtype {
        DType::Block(_) => Ok(Dispatch::Unsupported),
        _ => map_unary(call, "contiguous", &|x| format!("v[k] = {x};"), [0.0; 2]),
    }),
};

fn copy(call: &mut Call) -> Result<(), OpError> {
    let operand = call.operand(0)?;
    match operand.dtype {
        DType::Bool => tl_kernels::copy::<u8>(call.threads, operand.kernel_view()?, call.out()?),
        DType::F16 => tl_kernels::copy::<u16>(call.threads, operand.kernel_view()?, call.out()?),
        DType::F32 | DType::I32 => tl_kernels::copy::<u32>(call.threads, operand.kernel_view()?, call.out()?),
        DType::Block(_) => return copy_into(call.threads.isa(), &operand, call.dtype, call.out),
    }
    Ok(())
}

impl DynTensor {
    /// This tensor, or a contiguous copy where it is not contiguous.
    pub(crate) fn contiguous(&self) -> Result<DynTensor, Error> {
        if self.is_contiguous() {
            return Ok(self.clone());
        }
        let source = self.split();
        let layout = Layout::new(self.dtype(), source.shape().clone());
        let args = [Arg::Tensor(&source)];
        let copy = run_kernel(&CONTIGUOUS, copy, self.device(), &args, &ResultMemory::of_activation(&layout))?;
        let strides = || contiguous_strides(self.shape());
        Ok(if self.has_repeat() { copy.view(self.shape().clone(), strides(), 0) } else { copy })
    }
}

impl<T> Tensor<T> {
    /// This tensor, or a contiguous copy where it is not contiguous.
    ///
    /// # Errors
    /// [`Error::Memory`] where the copy finds no memory, [`Error::Op`] for a weight whose blocks a view has split.
    pub fn contiguous(&self) -> Result<Tensor<T>, Error> {
        self.as_dyn().contiguous().map(Tensor::from_dyn)
    }
}
