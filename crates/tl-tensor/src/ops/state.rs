//! Operations with a state that is carried from token to token: the checks and memories that they share.
//!
//! They are no rows of [`OPS`](super::OPS): beside their result they write a state, into memory that the caller holds
//! ([`TensorMut`]). They read one memory and write another, so that a step that fails leaves the state as it was.
//! States are `float32` whatever the activations are, because rounding errors would add up from token to token.

use tl_device::{DType, Device};

use crate::op::{self, Dispatch};
use crate::size::Size;
use crate::tensor::DynTensor;
use crate::{Error, OpError, TensorMut};

pub(super) fn dims<const N: usize>(
    tensor: &DynTensor,
    operand: &'static str,
    expected: &'static str,
) -> Result<[usize; N], OpError> {
    let dims = tensor.shape().dims();
    <[usize; N]>::try_from(dims).map_err(|_| OpError::Rank { operand, expected, found: dims.len() })
}

pub(super) fn same(rule: &'static str, left: usize, right: usize) -> Result<(), OpError> {
    op::rule::same(rule, known(left), known(right)).map(drop)
}

pub(super) fn known(size: usize) -> Size {
    Size::Known(i64::try_from(size).unwrap_or(i64::MAX))
}

pub(super) fn is_dense(dtype: DType) -> bool {
    dtype.is_float() || matches!(dtype, DType::Block(format) if format.block_elems == 1)
}

/// The memories of a state before and after a step.
pub(super) struct States<'a> {
    pub(super) state: Option<&'a TensorMut>,
    pub(super) next: &'a mut TensorMut,
}

impl States<'_> {
    pub(super) fn check(&self, shape: &[usize]) -> Result<(), OpError> {
        for memory in self.state.into_iter().chain([&*self.next]) {
            let layout = memory.layout();
            if layout.dtype() != DType::F32 {
                let expected = "float32";
                return Err(OpError::DType { operand: "the state", expected, found: layout.dtype() });
            }
            let found = layout.shape().dims();
            if found.len() != shape.len() {
                let expected = "as many dimensions as a step's";
                return Err(OpError::Rank { operand: "the state", expected, found: found.len() });
            }
            for (&found, &size) in found.iter().zip(shape) {
                same("the state has other sizes than the step", found, size)?;
            }
        }
        Ok(())
    }
}

#[cold]
pub(super) fn op_error(op: &'static str, operands: &[Option<&DynTensor>], error: OpError) -> Error {
    match error {
        OpError::Device(error) => Error::Memory { op, error: *error },
        error => {
            let describe = |tensor: &&DynTensor| format!("{}{}", tensor.dtype(), tensor.shape());
            Error::Op { op, operands: operands.iter().flatten().map(describe).collect(), error }
        }
    }
}

/// The operands, those that are not contiguous as copies.
pub(super) fn contiguous<const N: usize>(operands: [Option<&DynTensor>; N]) -> Result<[Option<DynTensor>; N], Error> {
    let mut copies = [const { None }; N];
    for (copy, tensor) in copies.iter_mut().zip(operands) {
        *copy = tensor.map(DynTensor::contiguous).transpose()?;
    }
    Ok(copies)
}

pub(super) fn check_devices(device: &Device, operands: &[Option<&DynTensor>]) -> Result<(), OpError> {
    let is_elsewhere = |tensor: &&DynTensor| !tensor.device().is_same(device);
    if operands.iter().flatten().any(is_elsewhere) { Err(OpError::Devices) } else { Ok(()) }
}

/// An error where no program was launched, because these operations have no fallback to the CPU.
pub(super) fn needs_program(ran: Dispatch) -> Result<(), OpError> {
    match ran {
        Dispatch::Launched => Ok(()),
        Dispatch::Unsupported => Err(OpError::UnsupportedOnGpu),
    }
}

/// All elements of a `float32` memory.
pub(super) fn floats(memory: &TensorMut) -> Result<&[f32], OpError> {
    let n_elems = memory.layout().shape().iter().product();
    let floats = bytemuck::try_cast_slice(memory.bytes()).map_err(|_| OpError::Unaligned { dtype: DType::F32 })?;
    Ok(floats.get(..n_elems).unwrap_or_default())
}
