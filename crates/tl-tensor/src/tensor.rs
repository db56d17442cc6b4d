//! `Tensor`: storage, an offset into it, dimensions, strides, and a data type.
//!
//! There is one representation, [`DynTensor`]; the type parameter of [`Tensor`] is a marker on it. This file is data
//! and views of it. Whatever computes or copies elements is above: `transfer.rs`, `dispatch/`, `ops/`.

use std::fmt;
use std::marker::PhantomData;

use tl_device::{Binding, DType, Device, HoldsMemory, Layout, Lease, Purpose, Role, Shape, Storage};

use crate::operand::Operand;
use crate::strides::{Repeat, Strides, contiguous_strides, is_contiguous};
use crate::{Element, Error};

/// The marker of tensors whose element type is known only when the program runs.
#[derive(Debug, Clone, Copy)]
pub enum Dyn {}

/// A tensor without its marker.
pub struct DynTensor {
    storage: Storage,
    dtype: DType,
    /// The first element, counted in elements from the storage's start.
    offset: usize,
    shape: Shape,
    strides: Strides,
    /// The dimension that repeats its elements. Einsum and attention read it in place; all others read
    /// [`DynTensor::split`], or a copy.
    repeat: Option<Repeat>,
}

impl Clone for DynTensor {
    fn clone(&self) -> DynTensor {
        // `from_slice` copies the inline words; see `Shape::clone`.
        let DynTensor { storage, dtype, offset, shape, strides, repeat } = self;
        let strides = Strides::from_slice(strides);
        DynTensor {
            storage: storage.clone(),
            dtype: *dtype,
            offset: *offset,
            shape: shape.clone(),
            strides,
            repeat: *repeat,
        }
    }
}

impl DynTensor {
    /// A contiguous tensor over memory that was taken for `layout`.
    pub(crate) fn new(storage: Storage, layout: &Layout) -> DynTensor {
        let shape = layout.shape().clone();
        let strides = contiguous_strides(&shape);
        DynTensor { storage, dtype: layout.dtype(), offset: 0, shape, strides, repeat: None }
    }

    /// The same memory seen with other dimensions, strides and offset (relative to this view's own).
    pub(crate) fn view(&self, shape: Shape, strides: Strides, offset: usize) -> DynTensor {
        self.view_with_repeat(shape, strides, offset, None)
    }

    /// As [`DynTensor::view`], with a dimension that repeats its elements.
    pub(crate) fn view_with_repeat(
        &self,
        shape: Shape,
        strides: Strides,
        offset: usize,
        repeat: Option<Repeat>,
    ) -> DynTensor {
        self.assert_plain();
        let offset = self.offset + offset;
        DynTensor { storage: self.storage.clone(), dtype: self.dtype, offset, shape, strides, repeat }
    }

    /// Whether a dimension repeats its elements, so that strides alone do not locate them.
    pub(crate) fn has_repeat(&self) -> bool {
        self.repeat.is_some()
    }

    /// Strides locate elements only where no dimension repeats them; callers ensure that.
    fn assert_plain(&self) {
        assert!(self.repeat.is_none(), "a tensor with a repeated dimension is read as if it had none");
    }

    /// The same elements in the same order, with the repeating dimension as two, the second with stride 0.
    pub(crate) fn split(&self) -> DynTensor {
        let Some(repeat) = self.repeat else { return self.clone() };
        let (axis, times) = (repeat.axis(), repeat.times());
        let (mut dims, mut strides) = (Strides::from_slice(&self.shape), self.strides.clone());
        dims[axis] /= times;
        dims.insert(axis + 1, times);
        strides.insert(axis + 1, 0);
        DynTensor { shape: dims.into_iter().collect(), strides, repeat: None, ..self.clone() }
    }

    /// The device that the tensor lies on.
    pub fn device(&self) -> &Device {
        self.storage.device()
    }

    /// The type of the elements.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The dimensions.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    pub(crate) fn storage(&self) -> &Storage {
        &self.storage
    }

    /// The first element, counted in bytes from the storage's start.
    pub(crate) fn offset_bytes(&self) -> usize {
        self.offset / self.dtype.block_elems() * self.dtype.block_bytes()
    }

    /// Whether the memory is learnable.
    pub(crate) fn is_learnable(&self) -> bool {
        self.storage.is_learnable()
    }

    pub(crate) fn strides(&self) -> &[usize] {
        self.assert_plain();
        &self.strides
    }

    /// Whether the elements lie one after the other in the order of their indices.
    pub fn is_contiguous(&self) -> bool {
        self.repeat.is_none() && is_contiguous(&self.shape, &self.strides)
    }

    /// The tensor as an operation reads it, without a repeating dimension.
    pub(crate) fn operand(&self) -> Operand<'_> {
        self.assert_plain();
        self.operand_with_repeat()
    }

    /// As [`DynTensor::operand`], for operations that read [`Operand::repeat`].
    pub(crate) fn operand_with_repeat(&self) -> Operand<'_> {
        let bytes = self.storage.bytes().get(self.offset_bytes()..).unwrap_or_default();
        Operand {
            dtype: self.dtype,
            bytes,
            binding: self.device().is_gpu().then(|| Binding::read(&self.storage)),
            offset: self.offset,
            is_weight: self.is_learnable(),
            dims: &self.shape,
            strides: &self.strides,
            repeat: self.repeat,
        }
    }
}

/// A tensor: a view of memory on a device, with a data type and dimensions.
///
/// `Tensor<f16>` knows its element type when the program is compiled; `Tensor` (that is, `Tensor<Dyn>`) when it runs.
/// Cloning gives another view of the same memory. The memory goes back to where it came from when the last view is
/// dropped.
///
/// ```
/// use half::f16;
/// use tl_device::{Device, TensorBuffer};
/// use tl_tensor::Tensor;
/// let device = Device::cpu();
/// let buffer = TensorBuffer::new(&device);
/// buffer.reserve(vec![512, 128], 10)?;
/// device.set_tensor_buffer(buffer);
/// let t = Tensor::<f16>::zeros(&device, vec![512, 128])?;
/// assert_eq!(device.tensor_buffer().unwrap().stats().taken_count, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Tensor<T = Dyn> {
    inner: DynTensor,
    marker: PhantomData<fn() -> T>,
}

impl<T> Clone for Tensor<T> {
    fn clone(&self) -> Self {
        Tensor::from_dyn(self.inner.clone())
    }
}

impl<T> HoldsMemory for Tensor<T> {
    fn storage(&self) -> &Storage {
        &self.inner.storage
    }
}

impl<T> fmt::Debug for Tensor<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({}{})", self.inner.dtype, self.inner.shape)
    }
}

impl From<DynTensor> for Tensor {
    fn from(tensor: DynTensor) -> Tensor {
        Tensor::from_dyn(tensor)
    }
}

impl<T> Tensor<T> {
    pub(crate) fn from_dyn(inner: DynTensor) -> Tensor<T> {
        Tensor { inner, marker: PhantomData }
    }

    /// The tensor without its marker, as [`Arg::Tensor`](crate::ops::Arg::Tensor) takes it.
    pub fn as_dyn(&self) -> &DynTensor {
        &self.inner
    }

    /// The dimensions, outermost first.
    pub fn dims(&self) -> &[usize] {
        &self.inner.shape
    }

    /// The dimensions.
    pub fn shape(&self) -> &Shape {
        &self.inner.shape
    }

    /// How many dimensions there are.
    pub fn rank(&self) -> usize {
        self.inner.shape.len()
    }

    /// How many elements there are.
    pub fn n_elems(&self) -> usize {
        self.inner.shape.iter().product()
    }

    /// The type of the elements.
    pub fn dtype(&self) -> DType {
        self.inner.dtype
    }

    /// Type and dimensions.
    pub fn layout(&self) -> Layout {
        Layout::new(self.inner.dtype, self.inner.shape.clone())
    }

    /// The device that the tensor lies on.
    pub fn device(&self) -> &Device {
        self.inner.device()
    }

    /// Whether the memory is a parameter's: from the learnable reserve, or mapped from a file.
    pub fn is_learnable(&self) -> bool {
        self.inner.is_learnable()
    }

    /// The same tensor with its element type unknown to the compiler.
    pub fn into_dyn(self) -> Tensor {
        Tensor::from_dyn(self.inner)
    }

    /// The same tensor with its element type known to the compiler.
    ///
    /// # Errors
    /// [`Error::ElementType`] where it has another.
    pub fn into_typed<U: Element>(self) -> Result<Tensor<U>, Error> {
        if self.inner.dtype == U::DTYPE {
            Ok(Tensor::from_dyn(self.inner))
        } else {
            Err(Error::ElementType { expected: U::DTYPE, found: self.inner.dtype })
        }
    }
}

/// Takes memory for a tensor; every tensor gets its memory here.
pub(crate) fn take(device: &Device, layout: &Layout, role: Role, op: &'static str) -> Result<Lease, Error> {
    device.take(layout, Purpose { role, op }).map_err(|error| Error::Memory { op, error })
}
