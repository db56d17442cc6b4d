//! `Device`: memory and the threads that compute on it. Made once, at the top, and passed down.

use std::fmt;
use std::sync::Arc;

use tl_kernels::Threads;

use crate::memory::{Memory, Role};
use crate::stats::{BufferPoolStats, MemoryStats, TensorBufferStats};
use crate::tensor_buffer::TensorBuffer;
use crate::{Error, Layout, Lease, Mapping};

/// Limits and habits of a device's memory.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct MemoryOptions {
    /// The most bytes that the pool may hold idle. 0 switches pooling off. Default 512 MiB.
    pub pool_max_bytes: usize,
    /// The most idle buffers of one size class. Default 10.
    pub max_buffers_per_size: usize,
    /// Fill memory with not-a-number when it is handed out and when it comes back, so that a kernel that reads what
    /// nobody wrote is seen. Default off.
    pub nan_fill: bool,
}

impl Default for MemoryOptions {
    fn default() -> Self {
        MemoryOptions { pool_max_bytes: 512 << 20, max_buffers_per_size: 10, nan_fill: false }
    }
}

impl MemoryOptions {
    /// No pooling: every request that no reservation serves is an allocation.
    pub fn unpooled() -> Self {
        MemoryOptions { pool_max_bytes: 0, ..Self::default() }
    }
}

/// How to make a device.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DeviceOptions {
    /// Threads to compute with. Default: one for each core that the process may use.
    pub threads: usize,
    /// Limits of the memory.
    pub memory: MemoryOptions,
}

impl Default for DeviceOptions {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        DeviceOptions { threads, memory: MemoryOptions::default() }
    }
}

/// A place where tensors live and are computed on. Cloning gives another handle on the same device.
///
/// ```
/// use tl_device::{Device, Layout, Role};
/// let device = Device::cpu();
/// let memory = device.take(&Layout::from(vec![8, 512]), Role::Activation)?;
/// assert_eq!(memory.bytes().len(), 8 * 512 * 2);
/// drop(memory);
/// assert_eq!(device.buffer_pool().stats().total_pooled, 1);
/// # Ok::<(), tl_device::Error>(())
/// ```
#[derive(Clone)]
pub struct Device {
    memory: Arc<Memory>,
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device").field("name", &self.name()).field("threads", &self.threads().count()).finish()
    }
}

impl Device {
    /// A CPU device of its own, with its own memory and threads.
    pub fn cpu() -> Device {
        Device::cpu_with(&DeviceOptions::default())
    }

    /// A CPU device with these options.
    pub fn cpu_with(options: &DeviceOptions) -> Device {
        Device { memory: Arc::new(Memory::new(options)) }
    }

    pub(crate) fn from_memory(memory: Arc<Memory>) -> Device {
        Device { memory }
    }

    /// The name that users see.
    pub fn name(&self) -> &'static str {
        "cpu"
    }

    /// Whether both handles mean the same device.
    pub fn is_same(&self, other: &Device) -> bool {
        Arc::ptr_eq(&self.memory, &other.memory)
    }

    /// The threads that compute.
    pub fn threads(&self) -> &Threads {
        self.memory.threads()
    }

    pub(crate) fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// Memory for a tensor: from the tensor buffer, else the pool (never for parameters), else the system. Its contents
    /// are left over from an earlier use.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] after the pool was emptied and the request repeated; [`Error::TooLarge`] and
    /// [`Error::PartialBlock`] for impossible layouts.
    pub fn take(&self, layout: &Layout, role: Role) -> Result<Lease, Error> {
        self.memory.take(self, layout, role)
    }

    /// A part of a mapped file as read-only memory, or `None` where it reaches beyond the file's end. It is counted in
    /// [`MemoryStats::mapped_bytes`].
    pub fn adopt(&self, mapping: &Mapping, offset: usize, len: usize) -> Option<Lease> {
        mapping.block(offset, len).map(|block| self.memory.adopt_mapped(self, block))
    }

    /// From here on, operations on this device take from `buffer`. The former one is let go.
    ///
    /// # Panics
    /// Where the buffer was made for another device; [`Device::replace_tensor_buffer`] gives an error instead.
    pub fn set_tensor_buffer(&self, buffer: TensorBuffer) {
        if let Err(error) = self.replace_tensor_buffer(Some(buffer)) {
            panic!("set_tensor_buffer: {error}");
        }
    }

    /// Sets or (with `None`) unsets the tensor buffer and gives back the one that was set.
    ///
    /// # Errors
    /// [`Error::OtherDevice`] where the buffer was made for another device.
    pub fn replace_tensor_buffer(&self, buffer: Option<TensorBuffer>) -> Result<Option<TensorBuffer>, Error> {
        if buffer.as_ref().is_some_and(|buffer| !buffer.belongs_to(self.memory())) {
            return Err(Error::OtherDevice);
        }
        Ok(self.memory.set_current(buffer))
    }

    /// The tensor buffer that operations take from.
    pub fn tensor_buffer(&self) -> Option<TensorBuffer> {
        self.memory.current()
    }

    /// The reactive pool.
    pub fn buffer_pool(&self) -> BufferPool<'_> {
        BufferPool { memory: &self.memory }
    }

    /// Frees everything that is idle in the pool. Reservations stay.
    pub fn trim(&self) {
        self.memory.trim();
    }

    /// What the device holds.
    pub fn stats(&self) -> MemoryStats {
        self.memory.stats()
    }

    /// What the current tensor buffer holds and did; all zeros where none is set.
    pub fn tensor_buffer_stats(&self) -> TensorBufferStats {
        self.memory.current_reserve_stats()
    }

    /// Lets [`MemoryStats::peak_bytes`] start again from what is live now.
    pub fn reset_peak(&self) {
        self.memory.reset_peak();
    }
}

/// A device's reactive pool: what no reservation serves is kept here when it comes back, by size class, up to a cap.
pub struct BufferPool<'a> {
    memory: &'a Arc<Memory>,
}

impl BufferPool<'_> {
    /// What the pool holds and did.
    pub fn stats(&self) -> BufferPoolStats {
        self.memory.pool_stats()
    }

    /// Frees everything that is idle.
    pub fn clear(&self) {
        self.memory.trim();
    }
}
