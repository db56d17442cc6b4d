//! Memory of a `Device`: requests for tensors, the tensor buffer, the pool, the seal.

use std::sync::Arc;

use super::handle::Device;
use crate::error::Error;
use crate::layout::Layout;
use crate::mapping::Mapping;
use crate::memory::Memory;
use crate::purpose::Purpose;
use crate::slot::Block;
use crate::stats::BufferPoolStats;
use crate::storage::Lease;
use crate::tensor_buffer::TensorBuffer;

impl Device {
    /// Memory for a tensor: from the tensor buffer, else the pool (never for parameters), else the system. Its contents
    /// are left over from an earlier use.
    ///
    /// ```
    /// use tl_device::{Device, Layout, Purpose, Role};
    /// let device = Device::cpu();
    /// let purpose = Purpose { role: Role::Activation, op: "matmul" };
    /// let mut memory = device.take(&Layout::from(vec![8, 512]), purpose)?;
    /// memory.bytes_mut().fill(0);
    /// assert_eq!(memory.bytes(), [0; 8192]);
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] after a trim of the pool and a second attempt; [`Error::Layout`] for impossible layouts.
    pub fn take(&self, layout: &Layout, purpose: impl Into<Purpose>) -> Result<Lease, Error> {
        let (slot, len_bytes) = self.memory.take(layout, purpose.into())?;
        Ok(Lease::new(self, slot, len_bytes))
    }

    /// Takes the kernels' workspace for products and attention, unless the device has it: see
    /// [`MemoryStats::workspace_bytes`](crate::MemoryStats::workspace_bytes). Operations on tensors call this themselves.
    ///
    /// ```
    /// use tl_device::Device;
    /// let device = Device::cpu();
    /// assert_eq!(device.stats().workspace_bytes, 0);
    /// device.take_workspace()?;
    /// assert!(device.stats().workspace_bytes > 4 << 20);
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] and [`Error::Limit`].
    pub fn take_workspace(&self) -> Result<(), Error> {
        self.memory.take_workspace()
    }

    /// Checks that the process's heap may grow by `bytes`: by the available memory and, where a
    /// [`CountedHeap`](crate::heap::CountedHeap) serves the program, by this device's limit. For allocations whose size
    /// an input determines. `what` names the allocation in the error. Small requests cost a comparison or two.
    ///
    /// ```
    /// use tl_device::Device;
    /// let device = Device::cpu();
    /// assert!(device.check_heap(1 << 20, || "a string".to_owned()).is_ok());
    /// let error = device.check_heap(usize::MAX / 2, || "a string of 8 EiB".to_owned()).unwrap_err();
    /// assert!(error.to_string().starts_with("out of memory: a string of 8 EiB needs"));
    /// ```
    ///
    /// # Errors
    /// [`Error::Limit`] and [`Error::OutOfMemory`].
    #[inline]
    pub fn check_heap(&self, bytes: usize, what: impl Fn() -> String) -> Result<(), Error> {
        self.memory.check_heap(bytes, what)
    }

    /// A part of a mapped file as read-only memory. It counts in
    /// [`MemoryStats::mapped_bytes`](crate::MemoryStats::mapped_bytes) and against the limit.
    ///
    /// ```
    /// use tl_device::{Device, Mapping};
    /// let device = Device::cpu();
    /// let file = Mapping::open("Cargo.toml")?;
    /// let memory = device.adopt(&file, 1, 7)?;
    /// assert_eq!(memory.bytes(), b"package");
    /// assert_eq!(device.stats().mapped_bytes, 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::OutsideFile`] if it reaches beyond the file's end, [`Error::Limit`].
    pub fn adopt(&self, mapping: &Mapping, offset: usize, len: usize) -> Result<Lease, Error> {
        let file_bytes = mapping.bytes().len();
        let block =
            Block::of_file(mapping.file(), offset, len).ok_or(Error::OutsideFile { offset, len, file_bytes })?;
        let (slot, len_bytes) = self.memory.adopt_mapped(block)?;
        Ok(Lease::new(self, slot, len_bytes))
    }

    /// Sets the tensor buffer that operations on this device take from. The former one is released.
    ///
    /// ```
    /// use tl_device::{Device, Layout, Role, TensorBuffer};
    /// let device = Device::cpu();
    /// let buffer = TensorBuffer::new(&device);
    /// buffer.reserve(vec![8, 512], 1)?;
    /// device.set_tensor_buffer(buffer.clone());
    /// let _memory = device.take(&Layout::from(vec![8, 512]), Role::Activation)?;
    /// assert_eq!(buffer.stats().in_use_count, 1);
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    ///
    /// # Panics
    /// If the buffer was made for another device; [`Device::replace_tensor_buffer`] gives an error instead.
    pub fn set_tensor_buffer(&self, buffer: TensorBuffer) {
        if let Err(error) = self.replace_tensor_buffer(Some(buffer)) {
            panic!("set_tensor_buffer: {error}");
        }
    }

    /// Sets or (with `None`) unsets the tensor buffer and returns the former one.
    ///
    /// ```
    /// use tl_device::{Device, Error, TensorBuffer};
    /// let device = Device::cpu();
    /// assert!(device.replace_tensor_buffer(Some(TensorBuffer::new(&device)))?.is_none());
    /// assert!(device.replace_tensor_buffer(None)?.is_some());
    /// let foreign = TensorBuffer::new(&Device::cpu());
    /// assert_eq!(device.replace_tensor_buffer(Some(foreign)).err(), Some(Error::OtherDevice));
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::OtherDevice`] if the buffer was made for another device.
    pub fn replace_tensor_buffer(&self, buffer: Option<TensorBuffer>) -> Result<Option<TensorBuffer>, Error> {
        if buffer.as_ref().is_some_and(|buffer| !buffer.belongs_to(self.memory())) {
            return Err(Error::OtherDevice);
        }
        let former = self.memory.set_current(buffer.as_ref().map(TensorBuffer::current));
        Ok(former.as_ref().and_then(TensorBuffer::of))
    }

    /// The tensor buffer that operations take from.
    ///
    /// ```
    /// use tl_device::{Device, TensorBuffer};
    /// let device = Device::cpu();
    /// assert!(device.tensor_buffer().is_none());
    /// device.set_tensor_buffer(TensorBuffer::new(&device));
    /// assert!(device.tensor_buffer().is_some());
    /// ```
    pub fn tensor_buffer(&self) -> Option<TensorBuffer> {
        self.memory.current().as_ref().and_then(TensorBuffer::of)
    }

    /// The reactive pool.
    ///
    /// ```
    /// use tl_device::{Device, Layout, Role};
    /// let device = Device::cpu();
    /// drop(device.take(&Layout::from(vec![8, 512]), Role::Activation)?);
    /// assert_eq!(device.buffer_pool().stats().total_memory, 8192);
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    pub fn buffer_pool(&self) -> BufferPool<'_> {
        BufferPool { memory: &self.memory }
    }

    /// Seals the device: a request that would be a new allocation is an error, [`Error::Sealed`], that names the
    /// operation and the layout. [`Error::missing_reservation`] is the reservation that would have served it.
    ///
    /// ```
    /// # use tl_device::{Device, Layout, Role};
    /// let device = Device::cpu();
    /// device.seal();
    /// let error = device.take(&Layout::from(vec![8, 512]), Role::Activation).err().unwrap();
    /// assert!(error.to_string().contains("would allocate float16[8, 512]"));
    /// ```
    pub fn seal(&self) {
        self.memory.seal();
    }

    /// Seals the device at the first request for memory other than a parameter's: earlier reservations must suffice.
    ///
    /// ```
    /// use tl_device::{Device, Error, Layout, Role, TensorBuffer};
    /// let device = Device::cpu();
    /// device.seal_at_first_use();
    /// let buffer = TensorBuffer::new(&device);
    /// buffer.reserve(vec![8], 1)?;
    /// device.set_tensor_buffer(buffer);
    /// let _first = device.take(&Layout::from(vec![8]), Role::Activation)?;
    /// let second = device.take(&Layout::from(vec![8]), Role::Activation);
    /// assert!(matches!(second, Err(Error::Sealed { .. })));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn seal_at_first_use(&self) {
        self.memory.lock().context(self.memory.entered()).seals_at_use = true;
    }

    /// Allows allocations again.
    ///
    /// ```
    /// use tl_device::{Device, Layout, Role};
    /// let device = Device::cpu();
    /// let layout = Layout::from(vec![8, 512]);
    /// device.seal();
    /// assert!(device.take(&layout, Role::Activation).is_err());
    /// device.unseal();
    /// assert!(device.take(&layout, Role::Activation).is_ok());
    /// ```
    pub fn unseal(&self) {
        self.memory.lock().context(self.memory.entered()).is_sealed = false;
    }

    /// Whether new allocations are refused.
    ///
    /// ```
    /// use tl_device::Device;
    /// let device = Device::cpu();
    /// assert!(!device.is_sealed());
    /// device.seal();
    /// assert!(device.is_sealed());
    /// ```
    pub fn is_sealed(&self) -> bool {
        self.memory.is_sealed()
    }

    /// Sets the hook called with the number of missing bytes before a request fails for lack of memory; the request is
    /// then repeated once. The hook may drop tensors and clear reservations.
    ///
    /// ```
    /// # use std::sync::Mutex;
    /// # use tl_device::{Device, DeviceOptions, Layout, Lease, Role};
    /// let mut options = DeviceOptions::default();
    /// options.memory.limit_bytes = Some(4096);
    /// let device = Device::cpu_with(&options);
    /// static CACHED: Mutex<Vec<Lease>> = Mutex::new(Vec::new());
    /// CACHED.lock().unwrap().push(device.take(&Layout::from(vec![1500]), Role::Activation)?);
    /// device.on_out_of_memory(|_missing_bytes| {
    ///     let cached = std::mem::take(&mut *CACHED.lock().unwrap());
    ///     let device = cached[0].device().clone();
    ///     drop(cached);
    ///     device.trim();
    /// });
    /// assert!(device.take(&Layout::from(vec![1500]), Role::Activation).is_ok());
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    pub fn on_out_of_memory(&self, hook: impl Fn(usize) + Send + Sync + 'static) {
        self.memory.set_hook(Some(Arc::new(hook)));
    }

    /// Frees the pool's idle memory. Reservations stay.
    ///
    /// ```
    /// use tl_device::{Device, Layout, Role};
    /// let device = Device::cpu();
    /// drop(device.take(&Layout::from(vec![8, 512]), Role::Activation)?);
    /// assert_eq!(device.stats().pooled_bytes, 8192);
    /// device.trim();
    /// assert_eq!(device.stats().driver_bytes, 0);
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    pub fn trim(&self) {
        self.memory.trim();
    }
}

/// A device's reactive pool: returned memory without a reservation is kept here by size class, up to a cap.
///
/// ```
/// use tl_device::{Device, Layout, Role};
/// let device = Device::cpu();
/// for _ in 0..3 {
///     drop(device.take(&Layout::from(vec![8, 512]), Role::Activation)?);
/// }
/// let stats = device.buffer_pool().stats();
/// assert_eq!((stats.allocation_count, stats.reuse_count), (1, 2));
/// # Ok::<(), tl_device::Error>(())
/// ```
pub struct BufferPool<'a> {
    memory: &'a Arc<Memory>,
}

impl BufferPool<'_> {
    /// The pool's statistics.
    ///
    /// ```
    /// use tl_device::{Device, Layout, Role};
    /// let device = Device::cpu();
    /// drop(device.take(&Layout::from(vec![8]), Role::Activation)?);
    /// let stats = device.buffer_pool().stats();
    /// assert_eq!((stats.total_pooled, stats.total_memory), (1, 64)); // 16 bytes lie in a buffer of 64
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    pub fn stats(&self) -> BufferPoolStats {
        self.memory.pool_stats()
    }

    /// Frees all idle buffers.
    ///
    /// ```
    /// use tl_device::{Device, Layout, Role};
    /// let device = Device::cpu();
    /// drop(device.take(&Layout::from(vec![8]), Role::Activation)?);
    /// device.buffer_pool().clear();
    /// assert_eq!(device.buffer_pool().stats().total_pooled, 0);
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    pub fn clear(&self) {
        self.memory.trim();
    }
}
