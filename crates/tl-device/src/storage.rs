//! Slots and the handles on them.
//!
//! A *slot* is a piece of device memory that its owner (the pool, a reserve, the device) keeps for good. A handle on a
//! slot counts itself; the one that reaches zero gives the slot back, exactly once. The count serves that purpose only:
//! nobody looks at it to find out whether memory may be used again.
//!
//! [`Lease`] is the unique, writable handle that a request yields; [`Lease::share`] turns it into a [`Storage`], which is
//! read-only and can be cloned. There is no way back, so a reader never sees a writer.
//!
//! This file and `cpu.rs` are where the crate needs `unsafe`.
#![allow(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};

use crate::Device;
use crate::cpu::Block;

/// Who gets the slot when its last handle goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Home {
    /// Slot `index` of entry `entry` of the reserve with this id.
    Reserve { id: u64, entry: u32, index: u32 },
    /// The pool.
    Pool,
    /// Nobody: the memory goes back to the system. Learnable memory beyond its reserve.
    Device,
    /// A file that is mapped; not memory of the device.
    Mapped,
}

pub(crate) struct Slot {
    pub(crate) block: Block,
    pub(crate) home: Home,
    /// Whether the reserve is to keep this learnable slot when its last handle goes.
    pub(crate) recycled: AtomicBool,
    /// Whether the memory is a parameter's. Never handed to an activation.
    pub(crate) learnable: bool,
    /// Whether the slot has been handed out before. Changed under the memory's lock.
    pub(crate) used: AtomicBool,
    /// Bytes of the layout that the slot serves at present. Changed under the memory's lock.
    len_bytes: AtomicUsize,
    handles: AtomicUsize,
}

impl Slot {
    pub(crate) fn new(block: Block, home: Home, learnable: bool) -> Arc<Slot> {
        Arc::new(Slot {
            block,
            home,
            recycled: AtomicBool::new(false),
            learnable,
            used: AtomicBool::new(false),
            len_bytes: AtomicUsize::new(0),
            handles: AtomicUsize::new(0),
        })
    }

    pub(crate) fn len_bytes(&self) -> usize {
        self.len_bytes.load(Ordering::Relaxed)
    }

    /// Fills the slot with bytes that are not-a-number in every float type.
    ///
    /// # Safety
    /// No handle on the slot exists but, at most, the caller's own.
    pub(crate) unsafe fn fill_with_nan(&self) {
        // SAFETY: no other handle exists, so nobody else uses the bytes.
        unsafe { self.block.bytes_mut() }.fill(0xff);
    }
}

/// Memory that one tensor or several views of it read. Cloning counts a handle; nothing is copied or allocated.
pub struct Storage {
    slot: Arc<Slot>,
    device: Device,
}

impl Storage {
    /// The bytes of the layout that this memory was taken for.
    pub fn bytes(&self) -> &[u8] {
        self.slot.block.bytes().get(..self.slot.len_bytes()).unwrap_or_default()
    }

    /// Whether this is the only handle. Only [`TensorBuffer::recycle`](crate::TensorBuffer::recycle) asks.
    pub(crate) fn is_unique(&self) -> bool {
        self.slot.handles.load(Ordering::Acquire) == 1
    }

    /// Whether the memory is a parameter's: reserved as learnable, or mapped from a file.
    pub fn is_learnable(&self) -> bool {
        self.slot.learnable
    }

    pub(crate) fn slot(&self) -> &Slot {
        &self.slot
    }

    /// The device that the memory belongs to.
    pub fn device(&self) -> &Device {
        &self.device
    }
}

impl Clone for Storage {
    fn clone(&self) -> Self {
        // Relaxed suffices: the handle that is cloned keeps the slot out of its owner's hands.
        self.slot.handles.fetch_add(1, Ordering::Relaxed);
        Storage { slot: self.slot.clone(), device: self.device.clone() }
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        // Release/acquire: whatever other threads read through their handles happens before the slot is written again.
        if self.slot.handles.fetch_sub(1, Ordering::Release) == 1 {
            fence(Ordering::Acquire);
            self.device.memory().give_back(&self.slot);
        }
    }
}

/// Memory that its holder alone uses, and may write. Dropping it gives the memory back.
pub struct Lease {
    storage: Storage,
}

impl Lease {
    /// The first handle on a slot that its owner has just handed out for `len_bytes` bytes.
    pub(crate) fn new(slot: Arc<Slot>, device: &Device, len_bytes: usize) -> Lease {
        let before = slot.handles.swap(1, Ordering::Relaxed);
        debug_assert_eq!(before, 0, "a slot was handed out while a handle on it exists");
        slot.len_bytes.store(len_bytes, Ordering::Relaxed);
        Lease { storage: Storage { slot, device: device.clone() } }
    }

    /// The bytes, to read.
    pub fn bytes(&self) -> &[u8] {
        self.storage.bytes()
    }

    /// The bytes, to write. What is in them at first is left over from an earlier use.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let len = self.storage.slot.len_bytes();
        // SAFETY: a lease is made only by `Lease::new`, for a slot without handles, is not `Clone`, and gives out its
        // storage only by value. So this is the only handle, and `&mut self` makes this the only slice.
        let bytes = unsafe { self.storage.slot.block.bytes_mut() };
        bytes.get_mut(..len).unwrap_or_default()
    }

    /// Ends the writing: from here on the memory is read-only and can be shared.
    pub fn share(self) -> Storage {
        self.storage
    }

    /// The device that the memory belongs to.
    pub fn device(&self) -> &Device {
        self.storage.device()
    }
}
