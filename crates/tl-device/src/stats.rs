//! Memory statistics. All are snapshots, taken at one moment under the memory's lock.

use crate::layout::Layout;

/// Memory statistics of a device: bytes and counts.
///
/// At all times `live + reserved free + pooled + waste = driver`.
///
/// ```
/// use tl_device::{Device, Layout, Role};
/// let device = Device::cpu();
/// let _held = device.take(&Layout::from(vec![1000]), Role::Activation)?;
/// drop(device.take(&Layout::from(vec![8]), Role::Activation)?);
/// let s = device.stats();
/// assert_eq!(s.live_bytes + s.reserved_free_bytes + s.pooled_bytes + s.waste_bytes, s.driver_bytes);
/// # Ok::<(), tl_device::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct MemoryStats {
    /// Bytes obtained from the system and still held; mapped files are not in it.
    pub driver_bytes: u64,
    /// Bytes of the layouts of all live tensors (views count once).
    pub live_bytes: u64,
    /// Maximum of `live_bytes` so far.
    pub peak_bytes: u64,
    /// Bytes of reserved buffers that are free.
    pub reserved_free_bytes: u64,
    /// Bytes idle in the buffer pool.
    pub pooled_bytes: u64,
    /// Bytes lost between the layouts of tensors and their buffers (alignment, size classes, bounds), and bytes of
    /// returned buffers that wait for queued work.
    pub waste_bytes: u64,
    /// The largest free buffer: idle in the pool, free in a reservation, or the widest gap of an arena.
    pub largest_free_bytes: u64,
    /// Bytes of files that hold tensors, through a [`Mapping`](crate::Mapping).
    pub mapped_bytes: u64,
    /// Bytes of the kernels' workspace for activations during products; not in `driver_bytes`. Taken once, by the first
    /// product or when the device is sealed; 0 before, and on a GPU.
    pub workspace_bytes: u64,
    /// Bytes of running recordings ([`Device::start_trace`](crate::Device::start_trace)), at most
    /// [`MemoryOptions::recording_max_bytes`](crate::MemoryOptions::recording_max_bytes) each; not in `driver_bytes`.
    pub recording_bytes: u64,
    /// Bytes of the process's heap, if a [`CountedHeap`](crate::heap::CountedHeap) serves the program: all memory
    /// outside devices and mapped files, including files that were read, excluding recordings. 0 on a GPU and on a
    /// simulated device.
    pub heap_bytes: u64,
    /// The part of `mapped_bytes` that `heap_bytes` includes: files that were read.
    pub read_bytes: u64,
    /// Bytes of host staging memory for transfers to and from a GPU; not in `driver_bytes`. 0 on the CPU.
    pub staging_bytes: u64,
    /// Bytes of parameters, a part of `live_bytes`; mapped ones are not in it.
    pub learnable_bytes: u64,
    /// Bytes of KV caches, a part of `live_bytes`.
    pub cache_bytes: u64,
    /// Allocations from the system, those of reservations included.
    pub allocation_count: u64,
    /// Buffers returned to the system.
    pub free_count: u64,
    /// Buffers evicted from the pool to stay within its limits.
    pub eviction_count: u64,
    /// Requests served by an idle buffer of the pool.
    pub pool_reuse_count: u64,
    /// Maximum idle bytes of the pool.
    pub pool_cap_bytes: u64,
}

impl MemoryStats {
    /// All bytes that count against a limit: device memory, workspace, recordings, mapped files, and the heap.
    ///
    /// ```
    /// use tl_device::{Device, Layout, Role};
    /// let device = Device::cpu();
    /// device.take_workspace()?;
    /// let _x = device.take(&Layout::from(vec![32]), Role::Activation)?;
    /// let stats = device.stats();
    /// assert_eq!(stats.total_bytes(), 64 + stats.workspace_bytes);
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    pub fn total_bytes(&self) -> u64 {
        self.driver_bytes + self.workspace_bytes + self.recording_bytes + self.mapped_bytes - self.read_bytes
            + self.heap_bytes
    }

    /// Bytes of activations: live bytes other than parameters and KV caches.
    ///
    /// ```
    /// use tl_device::{Device, Layout, Role};
    /// let device = Device::cpu();
    /// let _x = device.take(&Layout::from(vec![50]), Role::Activation)?;
    /// assert_eq!(device.stats().activation_bytes(), 100);
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    pub fn activation_bytes(&self) -> u64 {
        self.live_bytes - self.learnable_bytes - self.cache_bytes
    }
}

/// Statistics of a [`BufferPool`](crate::BufferPool).
///
/// ```
/// use tl_device::{BufferPoolStats, Device, Layout, Role};
/// let device = Device::cpu();
/// drop(device.take(&Layout::from(vec![8]), Role::Activation)?);
/// let BufferPoolStats { total_pooled, reuse_count, .. } = device.buffer_pool().stats();
/// assert_eq!((total_pooled, reuse_count), (1, 0));
/// # Ok::<(), tl_device::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct BufferPoolStats {
    /// Idle buffers.
    pub total_pooled: usize,
    /// Size classes seen so far.
    pub size_classes: usize,
    /// Bytes of the idle buffers.
    pub total_memory: u64,
    /// Requests served by an idle buffer.
    pub reuse_count: u64,
    /// Requests served by a new allocation.
    pub allocation_count: u64,
    /// Buffers evicted to stay within the limits.
    pub eviction_count: u64,
}

/// The layouts that a reservation serves.
///
/// ```
/// use tl_device::{Device, ReserveKind, TensorBuffer};
/// let device = Device::cpu();
/// let buffer = TensorBuffer::new(&device);
/// buffer.reserve_up_to(vec![32, 2048], 1)?;
/// assert_eq!(buffer.stats().by_layout[0].kind, ReserveKind::UpTo);
/// # Ok::<(), tl_device::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReserveKind {
    /// Exactly its layout.
    Exact,
    /// Every layout of its type and rank that is no larger in any dimension.
    UpTo,
    /// Parameters of exactly its layout.
    Learnable,
}

/// Statistics of a [`TensorBuffer`](crate::TensorBuffer).
///
/// ```
/// use tl_device::{Device, TensorBuffer};
/// let device = Device::cpu();
/// let buffer = TensorBuffer::new(&device);
/// buffer.reserve(vec![8, 512], 1)?;
/// let _memory = buffer.take(vec![8, 512])?;
/// assert!(buffer.take(vec![8, 512])?.is_none());
/// assert_eq!((buffer.stats().taken_count, buffer.stats().fallback_count), (1, 1));
/// # Ok::<(), tl_device::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct TensorBufferStats {
    /// Buffers in the reserve, free or in use; an arena is one.
    pub reserved_count: usize,
    /// Bytes of those buffers.
    pub reserved_bytes: u64,
    /// Buffers and arena pieces in use.
    pub in_use_count: usize,
    /// Requests served by the reserve; those for parameters count by layout alone.
    pub taken_count: u64,
    /// Of these, requests whose buffer, or place in the arena, had been used before.
    pub reused_count: u64,
    /// Requests that it could not serve; parameters do not count.
    pub fallback_count: u64,
    /// Bytes of the arena, a part of `reserved_bytes`; 0: there is none.
    pub arena_bytes: u64,
    /// Requests that the arena served, a part of `taken_count`.
    pub arena_taken_count: u64,
    /// The smallest arena size that would have sufficed so far.
    pub arena_most_bytes: u64,
    /// The same by layout: reservations in the order they were made, then missed layouts.
    pub by_layout: Vec<LayoutStats>,
}

impl TensorBufferStats {
    /// `taken / (taken + fallbacks)`, from 0 to 1; 0 without requests.
    ///
    /// ```
    /// use tl_device::{Device, TensorBuffer};
    /// let device = Device::cpu();
    /// let buffer = TensorBuffer::new(&device);
    /// buffer.reserve(vec![8, 512], 1)?;
    /// let _held = [buffer.take(vec![8, 512])?, buffer.take(vec![8, 512])?];
    /// assert_eq!(buffer.stats().hit_rate(), 0.5);
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    pub fn hit_rate(&self) -> f64 {
        let asked = self.taken_count + self.fallback_count;
        if asked == 0 { 0.0 } else { self.taken_count as f64 / asked as f64 }
    }
}

/// A row of [`TensorBufferStats::by_layout`].
///
/// ```
/// use tl_device::{Device, Layout, TensorBuffer};
/// let device = Device::cpu();
/// let buffer = TensorBuffer::new(&device);
/// buffer.reserve(vec![8], 1)?;
/// buffer.take(vec![9])?;
/// let missed = &buffer.stats().by_layout[1];
/// assert_eq!(missed.layout, Layout::from(vec![9]));
/// assert_eq!((missed.reserved_count, missed.fallback_count), (0, 1));
/// # Ok::<(), tl_device::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct LayoutStats {
    /// The layout that was reserved or, with a `reserved_count` of 0, missed.
    pub layout: Layout,
    /// How the reservation serves requests.
    pub kind: ReserveKind,
    /// Buffers in the reserve.
    pub reserved_count: usize,
    /// Their bytes.
    pub reserved_bytes: u64,
    /// Buffers in use.
    pub in_use_count: usize,
    /// Maximum buffers in use at once.
    pub most_in_use: usize,
    /// Requests served.
    pub taken_count: u64,
    /// Of these, requests whose buffer had been used before.
    pub reused_count: u64,
    /// Requests of this layout that the reserve could not serve.
    pub fallback_count: u64,
}
