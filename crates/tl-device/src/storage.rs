//! Slots and the handles on them.
//!
//! A *slot* is a piece of device memory that its owner (the pool, a reserve, the device) keeps for good. A handle on a
//! slot counts itself; the one that reaches zero gives the slot back, exactly once. The count serves that purpose only:
//! nobody looks at it to find out whether memory may be used again.
//!
//! A slot that is out belongs to its handles, and a slot that is at home to its owner: the `Arc` moves with it, so that
//! taking and returning count nothing. The memory of the device stays while slots are out (`memory.rs` keeps a handle on
//! itself for that long), so a slot may point to its device without counting either. Together, a take and the return of an
//! unshared tensor cost the two locks of the ledger and no other atomic operation.
//!
//! [`Lease`] is the unique, writable handle that a request yields; [`Lease::share`] turns it into a [`Storage`], which is
//! read-only and can be cloned. There is no way back, so a reader never sees a writer.
//!
//! This file, `cpu.rs` and `sync.rs` are where the crate needs `unsafe`.
#![allow(unsafe_code)]

use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};

use crate::cpu::Block;
use crate::memory::{Memory, Role};
use crate::sync::HandleCount;
use crate::{Device, Error};

/// Who gets the slot when its last handle goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Home {
    /// Slot `index` of entry `entry` of the reserve with this id.
    Reserve { id: u64, entry: u32, index: u32 },
    /// The pool.
    Pool,
    /// The piece at `offset` of an arena of the reserve with this id, and the index of its cell there.
    Arena { id: u64, offset: usize, cell: u32 },
    /// Nobody: the memory goes back to the system. Learnable memory beyond its reserve.
    Device,
    /// A file that is mapped; not memory of the device.
    Mapped,
}

pub(crate) struct Slot {
    pub(crate) block: Block,
    pub(crate) home: Home,
    /// The device that the slot belongs to. Not counted: valid while the slot is out, and not to be dropped.
    device: ManuallyDrop<Device>,
    /// Whether the reserve is to keep this learnable slot when its last handle goes.
    recycled: AtomicBool,
    /// Whether the memory is a parameter's. Never handed to an activation.
    pub(crate) learnable: bool,
    /// Whether the slot has been handed out before. Changed under the memory's lock.
    used: AtomicBool,
    /// The id of the slot's present take in the trace that is being recorded; 0: none. Changed under the memory's lock.
    pub(crate) trace_id: AtomicU64,
    /// What the slot is out for. Changed under the memory's lock.
    role: AtomicU8,
    /// Bytes of the layout that the slot serves at present. Changed by the first handle, while it is the only one.
    len_bytes: AtomicUsize,
    handles: HandleCount,
}

impl Slot {
    pub(crate) fn new(device: &Device, block: Block, home: Home, learnable: bool) -> Arc<Slot> {
        // SAFETY: the copy is never dropped, so it counts nothing, and it is used only through handles on a slot that is
        // out, while which the device's memory exists.
        let device = ManuallyDrop::new(unsafe { std::ptr::read(device) });
        Arc::new(Slot {
            block,
            home,
            device,
            recycled: AtomicBool::new(false),
            learnable,
            used: AtomicBool::new(false),
            trace_id: AtomicU64::new(0),
            role: AtomicU8::new(0),
            len_bytes: AtomicUsize::new(0),
            handles: HandleCount::none(),
        })
    }

    pub(crate) fn len_bytes(&self) -> usize {
        self.len_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn role(&self) -> Role {
        match self.role.load(Ordering::Relaxed) {
            1 => Role::Cache,
            2 => Role::Learnable,
            _ => Role::Activation,
        }
    }

    pub(crate) fn set_role(&self, role: Role) {
        let number = match role {
            Role::Activation => 0,
            Role::Cache => 1,
            Role::Learnable => 2,
        };
        self.role.store(number, Ordering::Relaxed);
    }

    // A plain load and store, where an exchange would cost ten times as much: what changes under a lock, or through the
    // only handle, has one writer at a time.

    /// Notes that the slot goes out. Whether it had been out before.
    pub(crate) fn mark_used(&self) -> bool {
        let was_used = self.used.load(Ordering::Relaxed);
        self.used.store(true, Ordering::Relaxed);
        was_used
    }

    /// The reserve is to keep the slot when its last handle goes. The caller has the only one.
    pub(crate) fn recycle(&self) {
        self.recycled.store(true, Ordering::Relaxed);
    }

    /// Whether [`Slot::recycle`] was called since the slot went out.
    pub(crate) fn take_recycled(&self) -> bool {
        let is_recycled = self.recycled.load(Ordering::Relaxed);
        if is_recycled {
            self.recycled.store(false, Ordering::Relaxed);
        }
        is_recycled
    }

    /// Gives `sink` the bytes from `offset` on.
    pub(crate) fn read(&self, offset: usize, len: usize, sink: &mut dyn FnMut(&[u8])) -> Result<(), Error> {
        let end = offset.saturating_add(len);
        assert!(end <= self.len_bytes(), "bytes {offset}..{end} of {}", self.len_bytes());
        #[cfg(feature = "gpu")]
        if let Some(buffer) = self.block.gpu() {
            return buffer.read(offset, len, sink);
        }
        sink(self.block.bytes().get(offset..end).unwrap_or_default());
        Ok(())
    }

    /// Fills the slot with bytes that are not-a-number in every float type.
    ///
    /// # Safety
    /// No handle on the slot exists but, at most, the caller's own.
    pub(crate) unsafe fn fill_with_nan(&self) {
        #[cfg(feature = "gpu")]
        if let Some(buffer) = self.block.gpu() {
            // A device that has failed says so at the next use.
            let _ = buffer.fill(u32::MAX);
            return;
        }
        // SAFETY: no other handle exists, so nobody else uses the bytes.
        unsafe { self.block.bytes_mut() }.fill(0xff);
    }
}

/// Memory that one tensor or several views of it read. Cloning counts a handle; nothing is copied or allocated.
///
/// ```
/// use tl_device::{Device, Layout, Role};
/// let device = Device::cpu();
/// let storage = device.take(&Layout::from(vec![8]), Role::Activation)?.share();
/// let view = storage.clone();
/// drop(storage);
/// assert_eq!(device.stats().live_bytes, 16); // the view still reads it
/// drop(view);
/// assert_eq!(device.stats().live_bytes, 0);
/// # Ok::<(), tl_device::Error>(())
/// ```
pub struct Storage {
    /// From `Arc::into_raw`; the handles on a slot own it together.
    slot: NonNull<Slot>,
}

// SAFETY: a slot can be read by several threads (its fields are atomics or never change, its block is `Sync`), and the
// handle count is kept with the orderings of a shared pointer.
unsafe impl Send for Storage {}
// SAFETY: as above.
unsafe impl Sync for Storage {}

impl Storage {
    /// The bytes of the layout that this memory was taken for; empty where they lie on a GPU (see [`Storage::read`]) and on a
    /// simulated device.
    ///
    /// ```
    /// use tl_device::{DType, Device, Layout, Role};
    /// let device = Device::cpu();
    /// let mut memory = device.take(&Layout::new(DType::Bool, [3]), Role::Activation)?;
    /// memory.bytes_mut().copy_from_slice(&[1, 0, 1]);
    /// assert_eq!(memory.share().bytes(), [1, 0, 1]);
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    pub fn bytes(&self) -> &[u8] {
        let slot = self.slot();
        slot.block.bytes().get(..slot.len_bytes()).unwrap_or_default()
    }

    /// Bytes of the layout that the memory was taken for, wherever they lie.
    pub fn len_bytes(&self) -> usize {
        self.slot().len_bytes()
    }

    /// Whether both handles are on the same memory.
    pub fn is_same(&self, other: &Storage) -> bool {
        self.slot == other.slot
    }

    /// Gives `sink` the bytes from `offset` on, `len` of them, in order and in as few pieces as the device allows. On a GPU
    /// this waits until the device has computed them, and `sink` must not use the device.
    ///
    /// ```
    /// use tl_device::{Device, Layout, Role};
    /// let device = Device::cpu();
    /// let mut memory = device.take(&Layout::from(vec![8]), Role::Activation)?;
    /// memory.write(0, &[7; 16])?;
    /// let mut found = Vec::new();
    /// memory.share().read(4, 8, &mut |bytes| found.extend_from_slice(bytes))?;
    /// assert_eq!(found, [7; 8]);
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Gpu`] where the device has failed, [`Error::Index`] where a program met an index out of range.
    ///
    /// # Panics
    /// If the range reaches beyond the layout's bytes.
    pub fn read(&self, offset: usize, len: usize, sink: &mut dyn FnMut(&[u8])) -> Result<(), Error> {
        self.slot().read(offset, len, sink)
    }

    /// Whether this is the only handle. Only [`TensorBuffer::recycle`](crate::TensorBuffer::recycle) asks.
    pub(crate) fn is_unique(&self) -> bool {
        self.slot().handles.is_one()
    }

    /// Whether the memory is a parameter's: reserved as learnable, or mapped from a file.
    ///
    /// ```
    /// use tl_device::{Device, Layout, Role};
    /// let device = Device::cpu();
    /// let layout = Layout::from(vec![8]);
    /// assert!(device.take(&layout, Role::Learnable)?.share().is_learnable());
    /// assert!(!device.take(&layout, Role::Activation)?.share().is_learnable());
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    pub fn is_learnable(&self) -> bool {
        self.slot().learnable
    }

    pub(crate) fn slot(&self) -> &Slot {
        // SAFETY: the handles own the slot together, and this is one of them.
        unsafe { self.slot.as_ref() }
    }

    /// The device that the memory belongs to.
    ///
    /// ```
    /// use tl_device::{Device, Layout, Role};
    /// let device = Device::cpu();
    /// let storage = device.take(&Layout::from(vec![8]), Role::Activation)?.share();
    /// assert!(storage.device().is_same(&device));
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    pub fn device(&self) -> &Device {
        // The slot is out, so the device's memory exists.
        &self.slot().device
    }
}

impl Clone for Storage {
    fn clone(&self) -> Self {
        self.slot().handles.add();
        Storage { slot: self.slot }
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        if !self.slot().handles.is_last() {
            return;
        }
        // SAFETY: this is the last handle, so the count that `Lease::new` put into the pointer is this function's.
        let slot = unsafe { Arc::from_raw(self.slot.as_ptr()) };
        let memory: *const Memory = Arc::as_ptr(slot.device.memory());
        // SAFETY: the memory exists while a slot is out. `give_back` hands over the handle that kept it, if this was the
        // last slot, so that it ends here and not under a reference.
        let kept = unsafe { (*memory).give_back(slot) };
        drop(kept);
    }
}

/// Memory that its holder alone uses, and may write. Dropping it gives the memory back.
///
/// ```
/// use tl_device::{Device, Layout, Role};
/// let device = Device::cpu();
/// let mut memory = device.take(&Layout::from(vec![8]), Role::Activation)?;
/// memory.bytes_mut().fill(0);
/// drop(memory);
/// assert_eq!(device.stats().live_bytes, 0);
/// # Ok::<(), tl_device::Error>(())
/// ```
pub struct Lease {
    storage: Storage,
}

impl Lease {
    /// The first handle on a slot that its owner has just handed out for `len_bytes` bytes.
    pub(crate) fn new(slot: Arc<Slot>, len_bytes: usize) -> Lease {
        slot.handles.first();
        slot.len_bytes.store(len_bytes, Ordering::Relaxed);
        // SAFETY: `Arc::into_raw` never gives a null pointer.
        let slot = unsafe { NonNull::new_unchecked(Arc::into_raw(slot).cast_mut()) };
        Lease { storage: Storage { slot } }
    }

    /// The bytes, to read.
    ///
    /// ```
    /// use tl_device::{Device, Layout, Role};
    /// let device = Device::cpu();
    /// let memory = device.take(&Layout::from(vec![8]), Role::Activation)?;
    /// assert_eq!(memory.bytes().len(), 16); // the layout's bytes, however large the buffer is
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    pub fn bytes(&self) -> &[u8] {
        self.storage.bytes()
    }

    /// The bytes, to write. What is in them at first is left over from an earlier use.
    ///
    /// ```
    /// use tl_device::{DType, Device, Layout, Role};
    /// let device = Device::cpu();
    /// let mut memory = device.take(&Layout::new(DType::F32, [1]), Role::Activation)?;
    /// memory.bytes_mut().copy_from_slice(&1.5f32.to_ne_bytes());
    /// assert_eq!(memory.bytes(), 1.5f32.to_ne_bytes());
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let slot = self.storage.slot();
        let len = slot.len_bytes();
        // SAFETY: a lease is made only by `Lease::new`, for a slot without handles, is not `Clone`, and gives out its
        // storage only by value. So this is the only handle, and `&mut self` makes this the only slice.
        let bytes = unsafe { slot.block.bytes_mut() };
        bytes.get_mut(..len).unwrap_or_default()
    }

    /// Copies bytes to `offset`, wherever the memory lies. On a GPU `offset` is a multiple of 4, and the copy takes its place
    /// behind the work that was given to the device before.
    ///
    /// ```
    /// use tl_device::{Device, Layout, Role};
    /// let device = Device::cpu();
    /// let mut memory = device.take(&Layout::from(vec![8]), Role::Activation)?;
    /// memory.write(0, &[1; 16])?;
    /// assert_eq!(memory.bytes(), [1; 16]);
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Gpu`] where the device has failed.
    ///
    /// # Panics
    /// If the bytes reach beyond the layout's.
    pub fn write(&mut self, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        let slot = self.storage.slot();
        let end = offset.saturating_add(bytes.len());
        assert!(end <= slot.len_bytes(), "bytes {offset}..{end} of {}", slot.len_bytes());
        #[cfg(feature = "gpu")]
        if let Some(buffer) = slot.block.gpu() {
            return buffer.write(offset, bytes);
        }
        if let Some(own) = self.bytes_mut().get_mut(offset..end) {
            own.copy_from_slice(bytes);
        }
        Ok(())
    }

    /// Copies the bytes of `source` from `offset` on, as many as this memory has; `source` may lie on another device. On one
    /// GPU nothing goes through the host.
    ///
    /// ```
    /// use tl_device::{Device, Layout, Role};
    /// let device = Device::cpu();
    /// let mut first = device.take(&Layout::from(vec![8]), Role::Activation)?;
    /// first.write(0, &[7; 16])?;
    /// let mut second = device.take(&Layout::from(vec![4]), Role::Learnable)?;
    /// second.copy_from(&first.share(), 8)?;
    /// assert_eq!(second.bytes(), [7; 8]);
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Gpu`] where a device has failed.
    ///
    /// # Panics
    /// If `source` has fewer bytes behind `offset`.
    pub fn copy_from(&mut self, source: &Storage, offset: usize) -> Result<(), Error> {
        let len = self.len_bytes();
        #[cfg(feature = "gpu")]
        if let (Some(from), Some(to)) = (source.slot().block.gpu(), self.storage.slot().block.gpu())
            && self.device().is_same(source.device())
            && offset.is_multiple_of(4)
        {
            return from.copy_to(offset, to, len);
        }
        if self.device().is_same(source.device()) && !self.device().is_gpu() {
            let bytes = source.bytes().get(offset..offset + len).unwrap_or_default();
            return self.write(0, bytes);
        }
        // Not written while it is read: whoever reads a device holds it.
        let mut bytes = Vec::with_capacity(len);
        source.read(offset, len, &mut |part| bytes.extend_from_slice(part))?;
        self.write(0, &bytes)
    }

    /// Sets every group of four bytes to `word` in the machine's order, wherever the memory lies.
    ///
    /// ```
    /// use tl_device::{Device, Layout, Role};
    /// let device = Device::cpu();
    /// let mut memory = device.take(&Layout::from(vec![7]), Role::Activation)?;
    /// memory.fill(0x3c00_3c00)?; // ones
    /// assert_eq!(memory.bytes()[12..], [0x00, 0x3c]);
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Gpu`] where the device has failed.
    pub fn fill(&mut self, word: u32) -> Result<(), Error> {
        #[cfg(feature = "gpu")]
        if let Some(buffer) = self.storage.slot().block.gpu() {
            return buffer.fill(word);
        }
        for bytes in self.bytes_mut().chunks_mut(4) {
            bytes.copy_from_slice(&word.to_ne_bytes()[..bytes.len()]);
        }
        Ok(())
    }

    /// As [`Storage::read`].
    ///
    /// # Errors
    /// As for [`Storage::read`].
    ///
    /// # Panics
    /// As for [`Storage::read`].
    pub fn read(&self, offset: usize, len: usize, sink: &mut dyn FnMut(&[u8])) -> Result<(), Error> {
        self.storage.read(offset, len, sink)
    }

    /// Bytes of the layout that the memory was taken for, wherever they lie.
    pub fn len_bytes(&self) -> usize {
        self.storage.slot().len_bytes()
    }

    /// A number of the buffer: two takes have the same one where they got the same buffer.
    ///
    /// ```
    /// use tl_device::{Device, Layout, Role};
    /// let device = Device::cpu();
    /// let first = device.take(&Layout::from(vec![8]), Role::Activation)?;
    /// let number = first.buffer_id();
    /// drop(first);
    /// assert_eq!(device.take(&Layout::from(vec![8]), Role::Activation)?.buffer_id(), number);
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    pub fn buffer_id(&self) -> usize {
        std::ptr::from_ref(self.storage.slot()).addr()
    }

    pub(crate) fn slot(&self) -> &Slot {
        self.storage.slot()
    }

    /// Ends the writing: from here on the memory is read-only and can be shared.
    ///
    /// ```
    /// use tl_device::{Device, Layout, Role};
    /// let device = Device::cpu();
    /// let mut memory = device.take(&Layout::from(vec![8]), Role::Activation)?;
    /// memory.bytes_mut().fill(7);
    /// let storage = memory.share();
    /// let view = storage.clone();
    /// assert_eq!(view.bytes().as_ptr(), storage.bytes().as_ptr()); // the same memory
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    pub fn share(self) -> Storage {
        self.storage
    }

    /// The device that the memory belongs to.
    ///
    /// ```
    /// use tl_device::{Device, Layout, Role};
    /// let device = Device::cpu();
    /// let memory = device.take(&Layout::from(vec![8]), Role::Activation)?;
    /// assert!(memory.device().is_same(&device));
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    pub fn device(&self) -> &Device {
        self.storage.device()
    }
}
