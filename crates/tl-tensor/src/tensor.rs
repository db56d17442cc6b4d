//! `Tensor`: storage, an offset into it, dimensions, strides, and a data type.
//!
//! There is one representation, [`DynTensor`]; the type parameter of [`Tensor`] is a marker on it. Operations are in `ops/`;
//! here are making, reading and viewing.

use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroU32;

use half::f16;
use smallvec::SmallVec;
use tl_device::{Binding, DType, Device, HoldsMemory, Layout, Lease, Purpose, Role, Shape, Storage};

use crate::ops::{Arg, Operand, apply, create};
use crate::{Error, OpError};

/// Distances between neighbours in each dimension, in elements.
pub type Strides = SmallVec<[usize; 6]>;

/// The marker of tensors whose element type is known only when the program runs.
#[derive(Debug, Clone, Copy)]
pub enum Dyn {}

/// A Rust type that tensors can have as elements: `f16`, `f32`, `i32`, `bool`.
pub trait Element: Copy + Send + Sync + sealed::Stored + 'static {
    /// The data type in memory.
    const DTYPE: DType;
}

mod sealed {
    /// How an element lies in memory.
    pub trait Stored: Sized {
        type Bytes: bytemuck::Pod + Send + Sync;
        fn to_stored(self) -> Self::Bytes;
        /// Elements as they lie in memory.
        fn stored(elements: &[Self]) -> &[u8];
        fn from_stored(stored: Self::Bytes) -> Self;
    }
}

macro_rules! element {
    ($type:ty, $dtype:expr) => {
        impl Element for $type {
            const DTYPE: DType = $dtype;
        }
        impl sealed::Stored for $type {
            type Bytes = $type;
            fn to_stored(self) -> $type {
                self
            }
            fn stored(elements: &[$type]) -> &[u8] {
                bytemuck::cast_slice(elements)
            }
            fn from_stored(stored: $type) -> $type {
                stored
            }
        }
    };
}
element!(f16, DType::F16);
element!(f32, DType::F32);
element!(i32, DType::I32);
impl Element for bool {
    const DTYPE: DType = DType::Bool;
}
impl sealed::Stored for bool {
    type Bytes = u8;
    fn to_stored(self) -> u8 {
        u8::from(self)
    }
    fn stored(elements: &[bool]) -> &[u8] {
        bytemuck::cast_slice(elements)
    }
    fn from_stored(stored: u8) -> bool {
        stored != 0
    }
}

/// A tensor without its marker.
pub struct DynTensor {
    storage: Storage,
    dtype: DType,
    /// The first element, counted in elements from the storage's start.
    offset: usize,
    shape: Shape,
    strides: Strides,
    /// Of one dimension, elements that count several times. What has this is read as [`DynTensor::split`] has it, or copied;
    /// einsum and attention alone read it as it lies.
    repeat: Option<Repeat>,
}

impl Clone for DynTensor {
    fn clone(&self) -> DynTensor {
        // Strides as shapes: see `Shape::clone`.
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

/// A dimension that repeats each of its elements: element `i` lies `i / times` strides from the first. It is what becomes of two
/// dimensions, the second with stride 0, when `reshape` makes one of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Repeat {
    axis: u32,
    /// The size of the dimension is a multiple of it.
    times: NonZeroU32,
}

impl Repeat {
    /// `None` where the numbers are larger than views are made for.
    pub(crate) fn new(axis: usize, times: usize) -> Option<Repeat> {
        Some(Repeat { axis: u32::try_from(axis).ok()?, times: NonZeroU32::new(u32::try_from(times).ok()?)? })
    }

    pub(crate) fn axis(self) -> usize {
        self.axis as usize
    }

    pub(crate) fn times(self) -> usize {
        self.times.get() as usize
    }
}

/// Strides of a contiguous tensor; all 0 for one without elements, so that no kernel steps out of its empty memory.
pub(crate) fn contiguous_strides(dims: &[usize]) -> Strides {
    if dims.contains(&0) {
        return SmallVec::from_elem(0, dims.len());
    }
    let mut strides: Strides = SmallVec::from_elem(1, dims.len());
    for i in (1..dims.len()).rev() {
        strides[i - 1] = strides[i].saturating_mul(dims[i]);
    }
    strides
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

    /// Whether a dimension repeats its elements, so that strides alone do not say where elements lie.
    pub(crate) fn has_repeat(&self) -> bool {
        self.repeat.is_some()
    }

    /// Strides say all only where nothing repeats: whoever asks for them must have made sure.
    fn assert_plain(&self) {
        assert!(self.repeat.is_none(), "a tensor with a repeated dimension is read as if it had none");
    }

    /// The same elements in the same order, the dimension that repeats its elements as two: a plain view.
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

    /// Whether the memory is a parameter's.
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

    /// The tensor as an operation reads it.
    pub(crate) fn operand(&self) -> Operand<'_> {
        self.assert_plain();
        self.operand_with_repeat()
    }

    /// The tensor as an operation reads it that looks at [`Operand::repeat`].
    pub(crate) fn operand_with_repeat(&self) -> Operand<'_> {
        let block = self.dtype.block_elems();
        let start = self.offset / block * self.dtype.block_bytes();
        let bytes = self.storage.bytes().get(start..).unwrap_or_default();
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

pub(crate) fn is_contiguous(dims: &[usize], strides: &[usize]) -> bool {
    if dims.contains(&0) {
        return true;
    }
    let mut expected = 1;
    for (&dim, &stride) in dims.iter().zip(strides).rev() {
        if dim != 1 && stride != expected {
            return false;
        }
        expected *= dim;
    }
    true
}

/// A tensor: a view of memory on a device, with a data type and dimensions.
///
/// `Tensor<f16>` knows its element type when the program is compiled; `Tensor` (that is, `Tensor<Dyn>`) when it runs. Cloning
/// gives another view of the same memory. The memory goes back to where it came from when the last view is dropped.
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
    raw: DynTensor,
    marker: PhantomData<fn() -> T>,
}

impl<T> Clone for Tensor<T> {
    fn clone(&self) -> Self {
        Tensor::from_raw(self.raw.clone())
    }
}

impl<T> HoldsMemory for Tensor<T> {
    fn storage(&self) -> &Storage {
        &self.raw.storage
    }
}

impl<T> fmt::Debug for Tensor<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({}{})", self.raw.dtype, self.raw.shape)
    }
}

impl From<DynTensor> for Tensor {
    fn from(raw: DynTensor) -> Tensor {
        Tensor::from_raw(raw)
    }
}

impl<'a, T> From<&'a Tensor<T>> for Arg<'a> {
    fn from(tensor: &'a Tensor<T>) -> Self {
        Arg::Tensor(&tensor.raw)
    }
}

impl<T> Tensor<T> {
    pub(crate) fn from_raw(raw: DynTensor) -> Tensor<T> {
        Tensor { raw, marker: PhantomData }
    }

    /// The tensor without its marker, as [`Arg::Tensor`] takes it.
    pub fn raw(&self) -> &DynTensor {
        &self.raw
    }

    /// The dimensions, outermost first.
    pub fn dims(&self) -> &[usize] {
        &self.raw.shape
    }

    /// The dimensions.
    pub fn shape(&self) -> &Shape {
        &self.raw.shape
    }

    /// How many dimensions there are.
    pub fn rank(&self) -> usize {
        self.raw.shape.len()
    }

    /// How many elements there are.
    pub fn n_elems(&self) -> usize {
        self.raw.shape.iter().product()
    }

    /// The type of the elements.
    pub fn dtype(&self) -> DType {
        self.raw.dtype
    }

    /// Type and dimensions.
    pub fn layout(&self) -> Layout {
        Layout::new(self.raw.dtype, self.raw.shape.clone())
    }

    /// The device that the tensor lies on.
    pub fn device(&self) -> &Device {
        self.raw.device()
    }

    /// Whether the memory is a parameter's: from the learnable reserve, or mapped from a file.
    pub fn is_learnable(&self) -> bool {
        self.raw.is_learnable()
    }

    /// The same tensor with its element type unknown to the compiler.
    pub fn into_dyn(self) -> Tensor {
        Tensor::from_raw(self.raw)
    }

    /// The same tensor with its element type known to the compiler.
    ///
    /// # Errors
    /// [`Error::ElementType`] where it has another.
    pub fn into_typed<U: Element>(self) -> Result<Tensor<U>, Error> {
        if self.raw.dtype == U::DTYPE {
            Ok(Tensor::from_raw(self.raw))
        } else {
            Err(Error::ElementType { expected: U::DTYPE, found: self.raw.dtype })
        }
    }

    /// A copy in learnable memory: from the learnable reserve, else from the device, never from the pool.
    ///
    /// # Errors
    /// [`Error::Memory`] where there is none.
    pub fn to_learnable(&self) -> Result<Tensor<T>, Error> {
        let raw = self.raw.contiguous()?;
        let layout = Layout::new(raw.dtype, raw.shape.clone());
        let mut lease = take(raw.device(), &layout, Role::Learnable, "to_learnable")?;
        raw.copy_bytes(&mut lease).map_err(|error| Error::Memory { op: "to_learnable", error })?;
        Ok(Tensor::from_raw(DynTensor::new(lease.share(), &layout)))
    }

    /// A copy on another device.
    ///
    /// # Errors
    /// [`Error::Memory`] where there is none, or where one of the devices has failed.
    pub fn to_device(&self, device: &Device) -> Result<Tensor<T>, Error> {
        let raw = self.raw.contiguous()?;
        let layout = Layout::new(raw.dtype, raw.shape.clone());
        let mut lease = take(device, &layout, Role::Activation, "to_device")?;
        raw.copy_bytes(&mut lease).map_err(|error| Error::Memory { op: "to_device", error })?;
        Ok(Tensor::from_raw(DynTensor::new(lease.share(), &layout)))
    }

    /// Copies all elements, in the order of their indices, into `out` as `f32`. Allocates nothing.
    ///
    /// # Errors
    /// [`Error::DataLength`] where `out` has another length, [`Error::Op`] for a transposed weight in a block format.
    pub fn read_f32(&self, out: &mut [f32]) -> Result<(), Error> {
        let expected = self.n_elems();
        if out.len() != expected {
            return Err(Error::DataLength { given: out.len(), shape: self.raw.shape.clone(), expected });
        }
        let isa = self.device().threads().isa();
        let copy = |operand: &Operand, out: &mut [f32]| {
            crate::ops::cast::copy_into(isa, operand, DType::F32, bytemuck::cast_slice_mut(out))
                .map_err(|error| Error::Op { op: "read_f32", operands: vec![self.layout().to_string()], error })
        };
        if !self.device().is_gpu() {
            return copy(&self.raw.split().operand(), out);
        }
        if self.device().is_simulated() || expected == 0 {
            return Ok(());
        }
        let raw = self.raw.contiguous()?;
        let (block_elems, block_bytes) = (raw.dtype.block_elems(), raw.dtype.block_bytes());
        let (start, len) = (raw.offset / block_elems * block_bytes, expected / block_elems * block_bytes);
        let (mut rest, mut result) = (out, Ok(()));
        raw.storage
            .read(start, len, &mut |bytes| {
                let n = bytes.len() / block_bytes * block_elems;
                let (part, behind) = std::mem::take(&mut rest).split_at_mut(n);
                let (dims, strides) = ([n], [1]);
                let operand = Operand { bytes, binding: None, dims: &dims, strides: &strides, ..raw.operand() };
                result = std::mem::replace(&mut result, Ok(())).and_then(|()| copy(&operand, part));
                rest = behind;
            })
            .map_err(|error| Error::Memory { op: "read_f32", error })?;
        result
    }

    /// All elements in the order of their indices, as `U`.
    ///
    /// # Errors
    /// [`Error::ElementType`] where the tensor has another type.
    pub(crate) fn elements<U: Element>(&self) -> Result<Vec<U>, Error> {
        if self.raw.dtype != U::DTYPE {
            return Err(Error::ElementType { expected: U::DTYPE, found: self.raw.dtype });
        }
        let raw = self.raw.contiguous()?;
        let size = self.raw.dtype.block_bytes();
        let mut elements = Vec::with_capacity(self.n_elems());
        if self.n_elems() == 0 {
            return Ok(elements);
        }
        raw.storage
            .read(raw.offset * size, self.n_elems() * size, &mut |bytes| {
                let stored = bytes.chunks_exact(size).map(bytemuck::pod_read_unaligned::<U::Bytes>);
                elements.extend(stored.map(U::from_stored));
            })
            .map_err(|error| Error::Memory { op: "to_vec", error })?;
        Ok(elements)
    }
}

impl DynTensor {
    /// This tensor, or a contiguous copy where it is not contiguous.
    pub(crate) fn contiguous(&self) -> Result<DynTensor, Error> {
        if self.is_contiguous() {
            return Ok(self.clone());
        }
        let copy = apply(&crate::ops::CONTIGUOUS, self.device(), &[Arg::Tensor(&self.split())])?;
        Ok(if self.has_repeat() { copy.view(self.shape.clone(), contiguous_strides(&self.shape), 0) } else { copy })
    }

    /// Copies the bytes of a contiguous tensor, which may lie on another device.
    fn copy_bytes(&self, lease: &mut Lease) -> Result<(), tl_device::Error> {
        let start = self.offset / self.dtype.block_elems() * self.dtype.block_bytes();
        lease.copy_from(&self.storage, start)
    }
}

/// The one way in which tensors get memory.
pub(crate) fn take(device: &Device, layout: &Layout, role: Role, op: &'static str) -> Result<Lease, Error> {
    device.take(layout, Purpose { role, op }).map_err(|error| Error::Memory { op, error })
}

impl<T: Element> Tensor<T> {
    /// All zeros (`false` for `bool`).
    ///
    /// # Errors
    /// [`Error::Memory`] where there is none; the same holds for all that make tensors.
    pub fn zeros(device: &Device, shape: impl Into<Shape>) -> Result<Tensor<T>, Error> {
        Ok(Tensor::from_raw(create::filled(device, Layout::new(T::DTYPE, shape), 0.0, "zeros")?))
    }

    /// All ones (`true` for `bool`).
    pub fn ones(device: &Device, shape: impl Into<Shape>) -> Result<Tensor<T>, Error> {
        Ok(Tensor::from_raw(create::filled(device, Layout::new(T::DTYPE, shape), 1.0, "ones")?))
    }

    /// All elements the same.
    pub fn full(device: &Device, shape: impl Into<Shape>, value: T) -> Result<Tensor<T>, Error> {
        let layout = Layout::new(T::DTYPE, shape);
        let mut lease = take(device, &layout, Role::Activation, "full")?;
        let stored = value.to_stored();
        let bytes = bytemuck::bytes_of(&stored);
        let word: [u8; 4] = std::array::from_fn(|i| bytes[i % bytes.len()]);
        lease.fill(u32::from_ne_bytes(word)).map_err(|error| Error::Memory { op: "full", error })?;
        Ok(Tensor::from_raw(DynTensor::new(lease.share(), &layout)))
    }

    /// Memory whose contents are left over from an earlier use: for a tensor that is written before it is read.
    pub fn new_uninit(device: &Device, shape: impl Into<Shape>) -> Result<Tensor<T>, Error> {
        let layout = Layout::new(T::DTYPE, shape);
        let lease = take(device, &layout, Role::Activation, "new_uninit")?;
        Ok(Tensor::from_raw(DynTensor::new(lease.share(), &layout)))
    }

    /// The data, in the order of the indices, in new memory.
    ///
    /// # Errors
    /// [`Error::DataLength`] where the data does not fill the shape, [`Error::Memory`].
    pub fn from_vec(device: &Device, data: Vec<T>, shape: impl Into<Shape>) -> Result<Tensor<T>, Error> {
        Tensor::from_slice(device, &data, shape)
    }

    /// As [`Tensor::from_vec`], from a slice.
    ///
    /// # Errors
    /// As for [`Tensor::from_vec`].
    pub fn from_slice(device: &Device, data: &[T], shape: impl Into<Shape>) -> Result<Tensor<T>, Error> {
        let layout = Layout::new(T::DTYPE, shape);
        let expected = layout.shape().checked_elems().unwrap_or(usize::MAX);
        if data.len() != expected {
            return Err(Error::DataLength { given: data.len(), shape: layout.shape().clone(), expected });
        }
        let mut lease = take(device, &layout, Role::Activation, "from_vec")?;
        lease.write(0, T::stored(data)).map_err(|error| Error::Memory { op: "from_vec", error })?;
        Ok(Tensor::from_raw(DynTensor::new(lease.share(), &layout)))
    }

    /// As [`Tensor::from_vec`], for code that is to run on a GPU and nowhere else.
    ///
    /// # Errors
    /// As for [`Tensor::from_vec`], and [`Error::Memory`] where the device is none.
    pub fn from_vec_gpu(device: &Device, data: Vec<T>, shape: impl Into<Shape>) -> Result<Tensor<T>, Error> {
        if !device.is_gpu() {
            let error = tl_device::Error::NotGpu { device: device.name().to_owned() };
            return Err(Error::Memory { op: "from_vec_gpu", error });
        }
        Tensor::from_slice(device, &data, shape)
    }

    /// All elements in the order of their indices.
    ///
    /// # Errors
    /// [`Error::Memory`] where a view that is not contiguous finds no memory to be put in order.
    pub fn to_vec(&self) -> Result<Vec<T>, Error> {
        self.elements()
    }
}

impl Tensor {
    /// A contiguous tensor over memory that holds exactly this layout: a weight in a mapped file.
    ///
    /// # Errors
    /// [`Error::DataLength`] where the memory is of another size, [`Error::Memory`] for an impossible layout.
    pub fn from_lease(lease: Lease, layout: &Layout) -> Result<Tensor, Error> {
        let expected = layout.len_bytes();
        let expected = expected.map_err(|error| Error::Memory { op: "from_lease", error: error.into() })?;
        let given = lease.len_bytes();
        if given != expected {
            return Err(Error::DataLength { given, shape: layout.shape().clone(), expected });
        }
        let is_aligned = lease.bytes().is_empty()
            || match layout.dtype() {
                DType::F16 => bytemuck::try_cast_slice::<u8, u16>(lease.bytes()).is_ok(),
                DType::F32 | DType::I32 => bytemuck::try_cast_slice::<u8, u32>(lease.bytes()).is_ok(),
                DType::Bool | DType::Block(_) => true,
            };
        if !is_aligned {
            let error = OpError::Unaligned { dtype: layout.dtype() };
            return Err(Error::Op { op: "from_lease", operands: vec![layout.to_string()], error });
        }
        Ok(Tensor::from_raw(DynTensor::new(lease.share(), layout)))
    }
}

/// Making tensors whose type is chosen when the program runs.
pub trait CreateTensors {
    /// All zeros.
    ///
    /// # Errors
    /// [`Error::Memory`] where there is none.
    fn zeros(&self, layout: impl Into<Layout>) -> Result<Tensor, Error>;
    /// All ones.
    ///
    /// # Errors
    /// [`Error::Memory`] where there is none.
    fn ones(&self, layout: impl Into<Layout>) -> Result<Tensor, Error>;
    /// All elements the nearest value to `value`.
    ///
    /// # Errors
    /// [`Error::Memory`] where there is none.
    fn full(&self, layout: impl Into<Layout>, value: f64) -> Result<Tensor, Error>;
}

impl CreateTensors for Device {
    fn zeros(&self, layout: impl Into<Layout>) -> Result<Tensor, Error> {
        Ok(Tensor::from_raw(create::filled(self, layout.into(), 0.0, "zeros")?))
    }
    fn ones(&self, layout: impl Into<Layout>) -> Result<Tensor, Error> {
        Ok(Tensor::from_raw(create::filled(self, layout.into(), 1.0, "ones")?))
    }
    fn full(&self, layout: impl Into<Layout>, value: f64) -> Result<Tensor, Error> {
        Ok(Tensor::from_raw(create::filled(self, layout.into(), value, "full")?))
    }
}

/// A tensor that its holder writes a few rows at a time: a KV cache. Nobody else can hold it, so what operations read
/// from it, through [`TensorMut::rows`], cannot change under them.
pub struct TensorMut {
    lease: Lease,
    layout: Layout,
    strides: Strides,
    row_bytes: usize,
}

impl TensorMut {
    /// Memory of this layout, of which nothing has been written yet.
    ///
    /// # Errors
    /// [`Error::Memory`] where there is none.
    pub fn new(device: &Device, layout: &Layout) -> Result<TensorMut, Error> {
        let lease = take(device, layout, Role::Cache, "kv_cache")?;
        let rows = layout.shape().first().copied().unwrap_or(1);
        let row_bytes = lease.len_bytes() / rows.max(1);
        let strides = contiguous_strides(layout.shape());
        Ok(TensorMut { lease, layout: layout.clone(), strides, row_bytes })
    }

    /// Type and dimensions; the first dimension counts the rows.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The device that the memory is on.
    pub fn device(&self) -> &Device {
        self.lease.device()
    }

    /// All bytes; none where they lie on a GPU.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.lease.bytes()
    }

    /// As [`TensorMut::bytes`], to be written.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        self.lease.bytes_mut()
    }

    /// All of the memory, for a GPU's program that reads it.
    pub(crate) fn binding(&self) -> Binding<'_> {
        Binding::read_lease(&self.lease)
    }

    /// All of the memory, for a GPU's program that writes it.
    pub(crate) fn binding_mut(&mut self) -> Binding<'_> {
        Binding::write(&mut self.lease)
    }

    /// Copies `rows`, `[n, …]` with the same other dimensions, to the rows from `start` on, converting them to the type
    /// here: a float type or, on the CPU, a format of blocks.
    ///
    /// # Errors
    /// [`Error::Rows`] where they do not fit, [`Error::Op`] where the other dimensions or the types differ.
    pub fn write_rows<T>(&mut self, start: usize, rows: &Tensor<T>) -> Result<(), Error> {
        let raw = &rows.raw;
        let error = |error| Error::Op {
            op: "kv_cache",
            operands: vec![self.layout.to_string(), format!("{}{}", raw.dtype, raw.shape)],
            error,
        };
        if raw.shape.get(1..) != self.layout.shape().get(1..) {
            let expected = "the same dimensions but the first as the cache";
            return Err(error(OpError::Rank { operand: "rows", expected, found: raw.shape.len() }));
        }
        let (n, rows) = (raw.shape.first().copied().unwrap_or(0), self.layout.shape().first().copied().unwrap_or(0));
        let end = start.saturating_add(n);
        if end > rows {
            return Err(Error::Rows { start, end, rows });
        }
        let target = self.layout.dtype();
        if raw.device().is_gpu() {
            let first = start * self.row_bytes / target.block_bytes();
            let rows = raw.split();
            return crate::ops::join::write_rows(&mut self.lease, target, first, &rows.operand()).map_err(error);
        }
        if raw.device().is_simulated() {
            // There are no bytes to copy or to convert.
            return Ok(());
        }
        let threads = raw.device().threads().isa();
        let bytes = self.lease.bytes_mut().get_mut(start * self.row_bytes..end * self.row_bytes).unwrap_or_default();
        crate::ops::cast::copy_into(threads, &raw.split().operand(), target, bytes).map_err(error)
    }

    /// Moves the `n` rows from `start` on to the front. On a GPU a row must be a whole number of words of 4 bytes.
    ///
    /// # Errors
    /// [`Error::Rows`] where there are not so many, [`Error::Op`] for rows of other lengths on a GPU, or one that has failed.
    pub fn move_to_front(&mut self, start: usize, n: usize) -> Result<(), Error> {
        const WORD_BYTES: usize = 4;
        let rows = self.layout.shape().first().copied().unwrap_or(0);
        let end = start.saturating_add(n);
        if end > rows {
            return Err(Error::Rows { start, end, rows });
        }
        let row_bytes = self.row_bytes;
        if self.lease.device().is_gpu() {
            let row_words = row_bytes / WORD_BYTES;
            let moved = match row_bytes % WORD_BYTES {
                0 => crate::ops::join::move_to_front(&mut self.lease, start * row_words, n * row_words),
                _ => Err(OpError::Value {
                    operand: "the bytes of a row",
                    expected: "a multiple of 4 on a GPU",
                    found: row_bytes as f64,
                }),
            };
            return moved.map_err(|error| Error::Op { op: "kv_cache", operands: vec![self.layout.to_string()], error });
        }
        let bytes = self.lease.bytes_mut();
        // A simulated device has no bytes.
        if bytes.len() >= end * row_bytes {
            bytes.copy_within(start * row_bytes..end * row_bytes, 0);
        }
        Ok(())
    }

    /// The first `n` rows, as an operation reads them. `dims` is room for their dimensions.
    pub fn rows<'a>(&'a self, n: usize, dims: &'a mut Shape) -> Operand<'a> {
        let all = self.layout.shape();
        *dims = all.iter().enumerate().map(|(i, &dim)| if i == 0 { n.min(dim) } else { dim }).collect();
        Operand {
            dtype: self.layout.dtype(),
            bytes: self.lease.bytes(),
            binding: self.lease.device().is_gpu().then(|| Binding::read_lease(&self.lease)),
            offset: 0,
            is_weight: false,
            dims,
            strides: &self.strides,
            repeat: None,
        }
    }
}
