//! What operations with a state from token to token share.
//!
//! They are no rows of [`OPS`](super::OPS): beside their result they write a state, into memory that their caller keeps
//! ([`TensorMut`]). They read one memory and write another, so that a step that fails leaves the state as it was. States are
//! `float32` whatever the activations are, because rounding errors would add up from token to token.

use tl_device::{DType, Device};

use crate::op::{self, Dispatch};
use crate::size::Size;
use crate::tensor::DynTensor;
use crate::{Error, OpError, TensorMut};

pub(super) fn dims<const N: usize>(
    raw: &DynTensor,
    operand: &'static str,
    expected: &'static str,
) -> Result<[usize; N], OpError> {
    let dims = raw.shape().dims();
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

/// The memories of a state, which have these dimensions.
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
pub(super) fn with_operands(op: &'static str, operands: &[Option<&DynTensor>], error: OpError) -> Error {
    match error {
        OpError::Device(error) => Error::Memory { op, error: *error },
        error => {
            let describe = |raw: &&DynTensor| format!("{}{}", raw.dtype(), raw.shape());
            Error::Op { op, operands: operands.iter().flatten().map(describe).collect(), error }
        }
    }
}

/// The operands contiguous, those that are not as copies.
pub(super) fn contiguous<const N: usize>(operands: [Option<&DynTensor>; N]) -> Result<[Option<DynTensor>; N], Error> {
    let mut copies = [const { None }; N];
    for (copy, raw) in copies.iter_mut().zip(operands) {
        *copy = raw.map(DynTensor::contiguous).transpose()?;
    }
    Ok(copies)
}

pub(super) fn check_devices(device: &Device, operands: &[Option<&DynTensor>]) -> Result<(), OpError> {
    let is_elsewhere = |raw: &&DynTensor| !raw.device().is_same(device);
    if operands.iter().flatten().any(is_elsewhere) { Err(OpError::Devices) } else { Ok(()) }
}

/// What must be launched, since nobody else does it.
pub(super) fn needs_program(ran: Dispatch) -> Result<(), OpError> {
    match ran {
        Dispatch::Launched => Ok(()),
        Dispatch::Unsupported => Err(OpError::UnsupportedOnGpu),
    }
}

/// All elements of a memory of `float32`.
pub(super) fn floats(memory: &TensorMut) -> Result<&[f32], OpError> {
    let n_elems = memory.layout().shape().iter().product();
    let floats = bytemuck::try_cast_slice(memory.bytes()).map_err(|_| OpError::Unaligned { dtype: DType::F32 })?;
    Ok(floats.get(..n_elems).unwrap_or_default())
}
