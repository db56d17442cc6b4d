//! Elements into tensors from the host, out of them to the host, and to other memory.

use tl_device::{DType, Device, Layout, Lease, Role, Shape};

use crate::cpu::convert::copy_into;
use crate::operand::Operand;
use crate::tensor::{DynTensor, Tensor, take};
use crate::{Element, Error, OpError};

impl<T: Element> Tensor<T> {
    /// Memory with contents of an earlier use, for a tensor that is written before it is read.
    pub fn new_uninit(device: &Device, shape: impl Into<Shape>) -> Result<Tensor<T>, Error> {
        let layout = Layout::new(T::DTYPE, shape);
        let lease = take(device, &layout, Role::Activation, "new_uninit")?;
        Ok(Tensor::from_dyn(DynTensor::new(lease.share(), &layout)))
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
        Ok(Tensor::from_dyn(DynTensor::new(lease.share(), &layout)))
    }

    /// As [`Tensor::from_vec`], on a GPU only.
    ///
    /// # Errors
    /// As for [`Tensor::from_vec`], and [`Error::Memory`] where the device is no GPU.
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
    /// [`Error::Memory`] where the contiguous copy of a view finds no memory.
    pub fn to_vec(&self) -> Result<Vec<T>, Error> {
        let source = self.as_dyn().contiguous()?;
        let (n, size) = (self.n_elems(), self.dtype().block_bytes());
        let mut elements = Vec::with_capacity(n);
        if n == 0 {
            return Ok(elements);
        }
        source
            .storage()
            .read(source.offset_bytes(), n * size, &mut |bytes| {
                let stored = bytes.chunks_exact(size).map(bytemuck::pod_read_unaligned::<T::Bytes>);
                elements.extend(stored.map(T::from_stored));
            })
            .map_err(|error| Error::Memory { op: "to_vec", error })?;
        Ok(elements)
    }
}

impl Tensor<bool> {
    /// A tensor that is true at these places, counted in the order of the indices, and false elsewhere. Places beyond the
    /// last element are left out.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub fn true_at(device: &Device, shape: impl Into<Shape>, mut places: Vec<usize>) -> Result<Tensor<bool>, Error> {
        const OP: &str = "mask";
        places.sort_unstable();
        let layout = Layout::new(DType::Bool, shape);
        let mut lease = take(device, &layout, Role::Activation, OP)?;
        let (mut places, mut start) = (places.into_iter().peekable(), 0);
        while start < lease.len_bytes() {
            let mut block = [0u8; 4096];
            let len = block.len().min(lease.len_bytes() - start);
            while let Some(place) = places.next_if(|place| *place < start + len) {
                block[place - start] = 1;
            }
            lease.write(start, &block[..len]).map_err(|error| Error::Memory { op: OP, error })?;
            start += len;
        }
        Ok(Tensor::from_dyn(DynTensor::new(lease.share(), &layout)))
    }

    /// Calls a function with the place of each element that is true, counted in the order of the indices.
    ///
    /// # Errors
    /// [`Error::Memory`] where the contiguous copy of a view finds no memory.
    pub fn for_each_true(&self, mut each: impl FnMut(usize)) -> Result<(), Error> {
        let source = self.as_dyn().contiguous()?;
        let mut start = 0;
        source
            .storage()
            .read(source.offset_bytes(), self.n_elems(), &mut |bytes| {
                let true_bytes = bytes.iter().enumerate().filter(|(_, byte)| **byte != 0);
                true_bytes.for_each(|(at, _)| each(start + at));
                start += bytes.len();
            })
            .map_err(|error| Error::Memory { op: "places", error })
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
        Ok(Tensor::from_dyn(DynTensor::new(lease.share(), layout)))
    }
}

impl Tensor {
    /// A tensor of this layout with these bytes, its elements as they are stored.
    ///
    /// # Errors
    /// [`Error::DataLength`] where the bytes do not fill the layout, [`Error::Memory`].
    pub fn from_bytes(device: &Device, layout: &Layout, bytes: &[u8]) -> Result<Tensor, Error> {
        let memory = |error| Error::Memory { op: "from_bytes", error };
        let expected = layout.len_bytes().map_err(|error| memory(error.into()))?;
        if bytes.len() != expected {
            return Err(Error::DataLength { given: bytes.len(), shape: layout.shape().clone(), expected });
        }
        let mut lease = take(device, layout, Role::Activation, "from_bytes")?;
        lease.write(0, bytes).map_err(memory)?;
        Ok(Tensor::from_dyn(DynTensor::new(lease.share(), layout)))
    }

    /// Passes the bytes of all elements to `sink`, in the order of their indices, part by part.
    ///
    /// # Errors
    /// [`Error::Memory`] where the contiguous copy of a view finds no memory.
    pub fn read_bytes(&self, sink: &mut dyn FnMut(&[u8])) -> Result<(), Error> {
        let len = self.layout().len_bytes().map_err(|error| Error::Memory { op: "read_bytes", error: error.into() })?;
        if len == 0 {
            return Ok(());
        }
        let source = self.as_dyn().contiguous()?;
        let read = source.storage().read(source.offset_bytes(), len, sink);
        read.map_err(|error| Error::Memory { op: "read_bytes", error })
    }
}

impl<T> Tensor<T> {
    /// A copy in learnable memory: from the learnable reserve, else from the device, never from the pool.
    ///
    /// # Errors
    /// [`Error::Memory`] where there is none.
    pub fn to_learnable(&self) -> Result<Tensor<T>, Error> {
        self.copy_to(self.device(), Role::Learnable, "to_learnable")
    }

    /// A copy on another device.
    ///
    /// # Errors
    /// [`Error::Memory`] where there is none, or where one of the devices has failed.
    pub fn to_device(&self, device: &Device) -> Result<Tensor<T>, Error> {
        self.copy_to(device, Role::Activation, "to_device")
    }

    fn copy_to(&self, device: &Device, role: Role, op: &'static str) -> Result<Tensor<T>, Error> {
        let source = self.as_dyn().contiguous()?;
        let layout = self.layout();
        let mut lease = take(device, &layout, role, op)?;
        lease.copy_from(source.storage(), source.offset_bytes()).map_err(|error| Error::Memory { op, error })?;
        Ok(Tensor::from_dyn(DynTensor::new(lease.share(), &layout)))
    }

    /// Copies all elements, in the order of their indices, into `out` as `f32`. Allocates nothing.
    ///
    /// # Errors
    /// [`Error::DataLength`] where `out` has another length, [`Error::Op`] for a transposed weight in a block format.
    pub fn read_f32(&self, out: &mut [f32]) -> Result<(), Error> {
        let expected = self.n_elems();
        if out.len() != expected {
            return Err(Error::DataLength { given: out.len(), shape: self.shape().clone(), expected });
        }
        let isa = self.device().threads().isa();
        let copy = |operand: &Operand, out: &mut [f32]| {
            copy_into(isa, operand, DType::F32, bytemuck::cast_slice_mut(out)).map_err(|error| Error::Op {
                op: "read_f32",
                operands: vec![self.layout().to_string()],
                error,
            })
        };
        if !self.device().is_gpu() {
            return copy(&self.as_dyn().split().operand(), out);
        }
        if self.device().is_simulated() || expected == 0 {
            return Ok(());
        }
        let source = self.as_dyn().contiguous()?;
        let (block_elems, block_bytes) = (self.dtype().block_elems(), self.dtype().block_bytes());
        let (start, len) = (source.offset_bytes(), expected / block_elems * block_bytes);
        let (mut rest, mut result) = (out, Ok(()));
        source
            .storage()
            .read(start, len, &mut |bytes| {
                let n = bytes.len() / block_bytes * block_elems;
                let (part, after) = std::mem::take(&mut rest).split_at_mut(n);
                let (dims, strides) = ([n], [1]);
                let operand = Operand { bytes, binding: None, dims: &dims, strides: &strides, ..source.operand() };
                result = std::mem::replace(&mut result, Ok(())).and_then(|()| copy(&operand, part));
                rest = after;
            })
            .map_err(|error| Error::Memory { op: "read_f32", error })?;
        result
    }
}
