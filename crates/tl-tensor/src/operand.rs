//! A tensor as a kernel reads it.

use tl_device::{Binding, DType};
use tl_kernels::{View, Weight, WeightKernels};

use crate::OpError;
use crate::strides::{Repeat, Strides, broadcast_strides, is_contiguous};

/// A tensor as a kernel reads it: bytes from its first element on, or a binding on a GPU; dimensions and strides.
#[derive(Clone, Copy)]
pub struct Operand<'a> {
    pub(crate) dtype: DType,
    /// From the first element on; empty on a GPU.
    pub(crate) bytes: &'a [u8],
    /// The memory on a GPU; `None`: the elements are in `bytes`.
    pub(crate) binding: Option<Binding<'a>>,
    /// The first element, counted in elements from the start of that memory.
    pub(crate) offset: usize,
    /// Whether it is a weight: learnable memory, or mapped from a model's file.
    pub(crate) is_weight: bool,
    pub(crate) dims: &'a [usize],
    pub(crate) strides: &'a [usize],
    /// The dimension that repeats its elements. Only kernels of `OpKernel::Repeated` get operands with one.
    pub(crate) repeat: Option<Repeat>,
}

impl<'a> Operand<'a> {
    /// The elements from the first one on.
    pub(crate) fn data<T: bytemuck::Pod>(&self) -> Result<&'a [T], OpError> {
        let whole = self.bytes.len() / size_of::<T>() * size_of::<T>();
        bytemuck::try_cast_slice(&self.bytes[..whole]).map_err(|_| OpError::Unaligned { dtype: self.dtype })
    }

    pub(crate) fn kernel_view<T: bytemuck::Pod>(&self) -> Result<View<'a, T>, OpError> {
        Ok(View { data: self.data()?, dims: self.dims, strides: self.strides })
    }

    /// Exactly the elements of a contiguous operand.
    pub(crate) fn slice<T: bytemuck::Pod>(&self) -> Result<&'a [T], OpError> {
        self.data::<T>().map(|data| data.get(..self.n_elems()).unwrap_or_default())
    }

    pub(crate) fn n_elems(&self) -> usize {
        self.dims.iter().product()
    }

    pub(crate) fn is_contiguous(&self) -> bool {
        self.repeat.is_none() && is_contiguous(self.dims, self.strides)
    }

    /// The operand as a weight: exactly its rows of blocks. Not for views with gaps, whose rows the caller finds by
    /// their strides in `bytes`.
    pub(crate) fn weight(&self) -> Result<Weight<'a>, OpError> {
        let format = self.weight_format()?;
        let len = self.n_elems() / format.blocks.block_elems * format.blocks.block_bytes;
        Ok(Weight { bytes: self.bytes.get(..len).unwrap_or_default(), format })
    }

    pub(crate) fn weight_format(&self) -> Result<&'static WeightKernels, OpError> {
        let expected = "a float type or a weight format";
        let error = OpError::DType { operand: "a weight", expected, found: self.dtype };
        crate::quant::format_of(self.dtype).map(|format| format.kernels).ok_or(error)
    }
}

/// A tensor, or a number that stands for a tensor with that number everywhere.
pub(crate) enum OperandOrNumber<'a> {
    Operand(Operand<'a>),
    Number(f64),
}

impl OperandOrNumber<'_> {
    /// Strides with which it is read as if it had these dimensions.
    pub(crate) fn strides(&self, dims: &[usize]) -> Strides {
        match self {
            OperandOrNumber::Operand(operand) => broadcast_strides(operand.dims, operand.strides, dims),
            OperandOrNumber::Number(_) => Strides::from_elem(0, dims.len()),
        }
    }
}
