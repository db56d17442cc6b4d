//! The handles on slots: [`Lease`], unique and writable, and [`Storage`], shared and read-only.
//!
//! A request yields a lease; [`Lease::share`] turns it into a storage, which can be cloned. There is no way back, so a
//! reader never sees a writer. The last handle on a slot gives it back, exactly once.
//!
//! The `Arc` of a slot moves: to its handles while it is out, to its owner while it is in. So taking and returning
//! change no reference count. The device's memory stays alive while slots are out (`memory/state.rs` keeps a handle on
//! it for that long), so a handle refers to its device without a count either. Together, a take and the return of an
//! unshared tensor cost two locks of the books and no other atomic operation.
#![allow(unsafe_code)]

use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::Error;
use crate::device::Device;
use crate::launch::Binding;
use crate::memory::Memory;
use crate::slot::Slot;

/// Shared read-only memory of a tensor and its views. Cloning adds a handle; nothing is copied or allocated.
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
    /// An uncounted copy that must not be dropped: the device's memory exists while the slot is out.
    device: ManuallyDrop<Device>,
}

// SAFETY: a slot can be read by several threads (its fields are atomics or never change, its block is `Sync`), and the
// handle count is kept with the orderings of a shared pointer.
unsafe impl Send for Storage {}
// SAFETY: as above.
unsafe impl Sync for Storage {}

impl Storage {
    /// The bytes of the layout that the memory was taken for; empty on a GPU (see [`Storage::read`]) and on a simulated
    /// device.
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

    /// Bytes of the layout that the memory was taken for, on any device.
    pub fn len_bytes(&self) -> usize {
        self.slot().len_bytes()
    }

    /// Whether both handles refer to the same memory.
    pub fn is_same(&self, other: &Storage) -> bool {
        self.slot == other.slot
    }

    /// Passes `len` bytes from `offset` on to `sink`, in order and in as few pieces as the device allows. On a GPU this
    /// waits until the device has computed them, and `sink` must not use the device.
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
    /// [`Error::Gpu`] if the device has failed, [`Error::Index`] if a program met an index out of range.
    ///
    /// # Panics
    /// If the range reaches beyond the layout's bytes.
    pub fn read(&self, offset: usize, len: usize, sink: &mut dyn FnMut(&[u8])) -> Result<(), Error> {
        self.slot().read(offset, len, sink)
    }

    /// Whether this is the only handle. For [`TensorBuffer::recycle`](crate::TensorBuffer::recycle) only.
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

    /// The device of the memory.
    ///
    /// ```
    /// use tl_device::{Device, Layout, Role};
    /// let device = Device::cpu();
    /// let storage = device.take(&Layout::from(vec![8]), Role::Activation)?.share();
    /// assert!(storage.device().is_same(&device));
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    pub fn device(&self) -> &Device {
        &self.device
    }
}

impl Clone for Storage {
    fn clone(&self) -> Self {
        self.slot().handles.add();
        Storage { slot: self.slot, device: uncounted(&self.device) }
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        if !self.slot().handles.is_last() {
            return;
        }
        // SAFETY: this is the last handle, so the count that `Lease::new` put into the pointer is this function's.
        let slot = unsafe { Arc::from_raw(self.slot.as_ptr()) };
        let memory: *const Memory = Arc::as_ptr(self.device.memory());
        // SAFETY: the memory exists while a slot is out. `give_back` hands over the handle that kept it, if this was the
        // last slot, so that it ends here and not under a reference.
        let kept = unsafe { (*memory).give_back(slot) };
        drop(kept);
    }
}

/// An uncounted copy of a device's handle, for a slot that is out.
fn uncounted(device: &Device) -> ManuallyDrop<Device> {
    // SAFETY: the copy is never dropped, so it counts nothing. It is used only through a handle on a slot that is out, while
    // which the device's memory exists.
    ManuallyDrop::new(unsafe { std::ptr::read(device) })
}

/// Exclusive, writable memory. Dropping it returns the memory.
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
    /// The first handle on a slot that the memory of `device` has just handed out for `len_bytes` bytes.
    pub(crate) fn new(device: &Device, slot: Arc<Slot>, len_bytes: usize) -> Lease {
        slot.first_handle(len_bytes);
        // SAFETY: `Arc::into_raw` never gives a null pointer.
        let slot = unsafe { NonNull::new_unchecked(Arc::into_raw(slot).cast_mut()) };
        Lease { storage: Storage { slot, device: uncounted(device) } }
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

    /// The bytes, to write. Their initial contents are left over from an earlier use.
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

    /// Copies bytes to `offset`, on any device. On a GPU `offset` is a multiple of 4, and the copy runs after the work
    /// submitted before.
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
    /// [`Error::Gpu`] if the device has failed.
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

    /// Copies the bytes of `source` from `offset` on, as many as this memory has; `source` may lie on another device.
    /// Within one GPU nothing passes through the host.
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
    /// [`Error::Gpu`] if a device has failed.
    ///
    /// # Panics
    /// If `source` has fewer bytes after `offset`.
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
        // Collected first, because `sink` must not use the device.
        let mut bytes = Vec::with_capacity(len);
        source.read(offset, len, &mut |part| bytes.extend_from_slice(part))?;
        self.write(0, &bytes)
    }

    /// Sets every group of four bytes to `word` in the machine's byte order, on any device.
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
    /// [`Error::Gpu`] if the device has failed.
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

    /// Bytes of the layout that the memory was taken for, on any device.
    pub fn len_bytes(&self) -> usize {
        self.storage.slot().len_bytes()
    }

    /// Identifies the buffer: two takes have the same id if they got the same buffer.
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

    /// Ends writing: the memory becomes read-only and can be shared.
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

    /// The device of the memory.
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

impl<'a> Binding<'a> {
    /// All of the memory, for reading.
    pub fn read(storage: &'a Storage) -> Binding<'a> {
        Binding::of(storage.slot())
    }

    /// All of the memory, for reading, while its holder keeps the right to write it.
    pub fn read_lease(lease: &'a Lease) -> Binding<'a> {
        Binding::of(lease.storage.slot())
    }

    /// All of the memory, for writing.
    pub fn write(lease: &'a mut Lease) -> Binding<'a> {
        Binding::of(lease.storage.slot())
    }
}
