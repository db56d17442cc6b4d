//! Kernels: how an operation is computed, and what its function gets.

use tl_device::{DType, Device, Layout, Lease, Role};
use tl_kernels::{BinaryMap, Threads, UnaryMap};

use super::argument::Arg;
use crate::operand::{Operand, OperandOrNumber};
use crate::tensor::DynTensor;
use crate::{Error, OpError};

/// Computes the result of a call on the CPU.
pub(crate) type CpuKernel = fn(&mut Call) -> Result<(), OpError>;

/// Launches the programs of a call on a GPU.
pub type GpuKernel = fn(&mut Call) -> Result<Dispatch, OpError>;

/// Computes a call of an operation by calls of itself, the last of them with this role; `None`: the kernel computes it.
pub(crate) type Compose = fn(&[Arg], Role, Again) -> Option<Result<DynTensor, Error>>;

/// Applies the operation with an argument for each parameter; the result's memory has this role.
pub(crate) type Again<'a> = &'a dyn Fn(&[Arg], Role) -> Result<DynTensor, Error>;

/// Whether a GPU has a program for the arguments of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dispatch {
    /// The programs were launched.
    Launched,
    /// There is no program for these arguments.
    Unsupported,
}

/// How an operation is computed.
pub enum OpKernel {
    /// The result is a view of the first operand, where its strides allow one; else of a contiguous copy of it.
    View(fn(&DynTensor, &[Arg], &Layout) -> Option<DynTensor>),
    /// The result is computed into new memory, from operands at any strides.
    Strided(CpuKernel),
    /// As `Strided`. On floats each element of the result depends on one element of each operand, so that several such
    /// operations can run as one chain.
    Elementwise(Map, CpuKernel),
    /// As `Strided`, on contiguous operands; others are copied first.
    Contiguous(CpuKernel),
    /// As `Strided`, after the operands that the kernel cannot read by their strides have been copied.
    Prepared {
        /// Whether the operand at this position must be copied.
        must_copy: fn(&[Arg], usize) -> bool,
        /// The kernel.
        kernel: CpuKernel,
    },
    /// As `Prepared`, for kernels that read a dimension that repeats its elements (`Call::operand_with_repeat`). All
    /// other kernels get copies of such operands.
    Repeated {
        /// Whether the operand at this position must be copied.
        must_copy: fn(&[Arg], usize) -> bool,
        /// The kernel.
        kernel: CpuKernel,
    },
    /// As `Repeated`, for an operation that may be computed by several calls of itself.
    Composed {
        /// Computes the call by others.
        compose: Compose,
        /// Whether the operand at this position must be copied.
        must_copy: fn(&[Arg], usize) -> bool,
        /// The kernel.
        kernel: CpuKernel,
    },
}

/// What an elementwise operation does with a block of floats. Its operands are its first arguments.
#[derive(Clone, Copy)]
pub enum Map {
    /// A function of one operand.
    Unary(UnaryMap),
    /// A function of two operands, which broadcast.
    Binary(BinaryMap),
    /// Nothing but that the result is stored in another type.
    Store,
}

/// What a kernel gets: its arguments and the memory of its result.
pub struct Call<'a> {
    pub(crate) device: &'a Device,
    pub(crate) threads: &'a Threads,
    pub(crate) args: &'a [Arg<'a>],
    /// The type of the result.
    pub(crate) dtype: DType,
    /// The dimensions of the result, which is contiguous.
    pub(crate) dims: &'a [usize],
    /// The bytes of the result; empty on a GPU.
    pub(crate) out: &'a mut [u8],
    /// The memory of the result on a GPU.
    pub(crate) lease: Option<&'a mut Lease>,
}

impl<'a> Call<'a> {
    pub(crate) fn arg(&self, index: usize) -> &'a Arg<'a> {
        self.args.get(index).unwrap_or(&Arg::None)
    }

    /// An operand that must be a tensor.
    pub(crate) fn operand(&self, index: usize) -> Result<Operand<'a>, OpError> {
        self.optional_operand(index).ok_or(OpError::Unknown)
    }

    pub(crate) fn optional_operand(&self, index: usize) -> Option<Operand<'a>> {
        let operand = self.arg(index).operand()?;
        assert!(operand.repeat.is_none(), "an operand with a repeated dimension is read as if it had none");
        Some(operand)
    }

    /// The operand, where the argument is one. A dimension may repeat its elements.
    pub(crate) fn operand_with_repeat(&self, index: usize) -> Option<Operand<'a>> {
        self.arg(index).operand()
    }

    /// An operand that must be a tensor or a number.
    pub(crate) fn operand_or_number(&self, index: usize) -> Result<OperandOrNumber<'a>, OpError> {
        match self.optional_operand(index) {
            Some(operand) => Ok(OperandOrNumber::Operand(operand)),
            None => self.number(index).map(OperandOrNumber::Number),
        }
    }

    /// Whether the argument is a weight: learnable memory, or mapped from a model's file.
    pub(crate) fn is_weight(&self, index: usize) -> bool {
        self.optional_operand(index).is_some_and(|operand| operand.is_weight)
    }

    pub(crate) fn number(&self, index: usize) -> Result<f64, OpError> {
        match self.arg(index) {
            Arg::Number(x) => Ok(*x),
            Arg::Int(n) => Ok(*n as f64),
            _ => Err(OpError::Unknown),
        }
    }

    pub(crate) fn int(&self, index: usize) -> Result<i64, OpError> {
        match self.arg(index) {
            Arg::Int(n) => Ok(*n),
            _ => Err(OpError::Unknown),
        }
    }

    pub(crate) fn bool(&self, index: usize) -> bool {
        matches!(self.arg(index), Arg::Bool(true))
    }

    /// The result's memory as elements.
    pub(crate) fn out<T: bytemuck::Pod>(&mut self) -> Result<&mut [T], OpError> {
        let dtype = self.dtype;
        bytemuck::try_cast_slice_mut(self.out).map_err(|_| OpError::Unaligned { dtype })
    }
}

/// Runs the same code for `float16` and `float32`; another type is an error.
macro_rules! with_float {
    ($dtype:expr, $operand:expr, $T:ident => $body:expr) => {
        match $dtype {
            tl_device::DType::F16 => {
                type $T = half::f16;
                $body
            }
            tl_device::DType::F32 => {
                type $T = f32;
                $body
            }
            found => Err(crate::OpError::DType { operand: $operand, expected: "float16 or float32", found }),
        }
    };
}
pub(crate) use with_float;
