//! Blocks of bytes, and the slots that carry them.
//!
//! A *block* is memory at a fixed address: of the system allocator, of a mapped file, of a GPU. A *slot* is a block
//! with an owner (the pool, a reserve, an arena), which keeps it for good and gets it back when its last handle is
//! dropped. Handles are counted only for that purpose: no code reads the count to find out whether memory may be
//! reused.
//!
//! Slots know neither their device nor its lock: the handles (`storage.rs`) know the device, and the books (`memory/`)
//! know all slots.
#![allow(unsafe_code)]

use std::alloc::{Layout as HeapLayout, alloc_zeroed, dealloc};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};

use crate::Error;
#[cfg(feature = "gpu")]
use crate::gpu::Buffer;
use crate::heap::{self, Excluded};
use crate::layout::ALIGN;
use crate::mapping::MappedFile;
use crate::purpose::Role;
use crate::sync::HandleCount;

/// Bytes at a fixed address.
pub(crate) enum Block {
    /// Allocated memory.
    Heap { start: NonNull<u8>, capacity: usize, _excluded: Excluded },
    /// A piece of the block of `whole`, an arena; pieces that exist at the same time do not overlap.
    Part { whole: Arc<Slot>, start: NonNull<u8>, len: usize },
    /// A part of a file, mapped or read.
    Mapped { mapping: Arc<MappedFile>, offset: usize, len: usize },
    /// A buffer of a GPU, whose bytes the host cannot see.
    #[cfg(feature = "gpu")]
    Gpu(Buffer),
    /// No bytes, for planning: only the capacity is real. A piece of a simulated arena has `whole`.
    Simulated { capacity: usize, whole: Option<Arc<Slot>> },
}

// SAFETY: a block owns its bytes (or a read-only mapping); nothing in it is tied to a thread. Writing goes through
// `bytes_mut`, whose caller vouches for being the only user.
unsafe impl Send for Block {}
// SAFETY: as above; shared access only reads.
unsafe impl Sync for Block {}

impl Block {
    /// Zeroed memory of `capacity` bytes, a multiple of [`ALIGN`] and not 0. `None` if the system has no memory.
    pub(crate) fn allocate(capacity: usize) -> Option<Block> {
        let layout = heap_layout(capacity)?;
        let excluded = Excluded::new(capacity);
        // SAFETY: the layout's size is not 0 (checked in `heap_layout`).
        let start = NonNull::new(heap::refusable(|| unsafe { alloc_zeroed(layout) }))?;
        Some(Block::Heap { start, capacity, _excluded: excluded })
    }

    /// The piece of `len` bytes at `offset` of an arena. It has no bytes if the arena has none (a simulated device).
    pub(crate) fn part(whole: &Arc<Slot>, offset: usize, len: usize) -> Block {
        match &whole.block {
            Block::Heap { start, capacity, .. } => {
                assert!(offset + len <= *capacity, "a piece lies within its arena");
                // SAFETY: within the block, as was just checked. The pointer is the block's own, not one of a slice.
                let start = unsafe { start.add(offset) };
                Block::Part { whole: whole.clone(), start, len }
            }
            _ => Block::Simulated { capacity: len, whole: Some(whole.clone()) },
        }
    }

    /// The part of a file from `offset` on, or `None` if it reaches beyond the end.
    pub(crate) fn of_file(file: &Arc<MappedFile>, offset: usize, len: usize) -> Option<Block> {
        let end = offset.checked_add(len)?;
        (end <= file.bytes().len()).then(|| Block::Mapped { mapping: file.clone(), offset, len })
    }

    /// Whether this is a piece of that arena.
    pub(crate) fn is_part_of(&self, arena: &Arc<Slot>) -> bool {
        match self {
            Block::Part { whole, .. } | Block::Simulated { whole: Some(whole), .. } => Arc::ptr_eq(whole, arena),
            _ => false,
        }
    }

    /// Capacity in bytes.
    pub(crate) fn capacity(&self) -> usize {
        match self {
            Block::Heap { capacity, .. } => *capacity,
            Block::Part { len, .. } | Block::Mapped { len, .. } => *len,
            #[cfg(feature = "gpu")]
            Block::Gpu(buffer) => buffer.capacity(),
            Block::Simulated { capacity, .. } => *capacity,
        }
    }

    /// Whether its bytes count as heap: those of a file that was read.
    pub(crate) fn is_on_heap(&self) -> bool {
        matches!(self, Block::Mapped { mapping, .. } if mapping.is_on_heap()) && heap::is_counted()
    }

    /// The GPU buffer, if it is one.
    #[cfg(feature = "gpu")]
    pub(crate) fn gpu(&self) -> Option<&Buffer> {
        match self {
            Block::Gpu(buffer) => Some(buffer),
            _ => None,
        }
    }

    /// All bytes of the block, for reading; empty for a GPU's or a simulated block.
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            // SAFETY: the block owns `capacity` bytes at `start`, zeroed when allocated, so all are initialized. They are
            // written only through `bytes_mut`, whose caller guarantees that no shared slice is alive.
            Block::Heap { start, capacity, .. } => unsafe { std::slice::from_raw_parts(start.as_ptr(), *capacity) },
            // SAFETY: `len` bytes within the arena's block, which the piece keeps alive, and which no other piece overlaps;
            // the arena's own bytes are never looked at while it is one.
            Block::Part { start, len, .. } => unsafe { std::slice::from_raw_parts(start.as_ptr(), *len) },
            Block::Mapped { mapping, offset, len } => mapping.bytes().get(*offset..*offset + *len).unwrap_or_default(),
            #[cfg(feature = "gpu")]
            Block::Gpu(_) => &[],
            Block::Simulated { .. } => &[],
        }
    }

    /// All bytes of the block, for writing; empty for a read-only mapping, a GPU's or a simulated block.
    ///
    /// # Safety
    /// The caller is the only one that uses this block's bytes for as long as the slice lives.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn bytes_mut(&self) -> &mut [u8] {
        match self {
            // SAFETY: the block owns these bytes, and the caller vouches for exclusive use.
            Block::Heap { start, capacity, .. } => unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), *capacity) },
            // SAFETY: as for reading, and the caller vouches for exclusive use of the piece.
            Block::Part { start, len, .. } => unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), *len) },
            #[cfg(feature = "gpu")]
            Block::Gpu(_) => &mut [],
            Block::Mapped { .. } | Block::Simulated { .. } => &mut [],
        }
    }

    /// Writes to every page, so that the operating system allocates them now and not in the middle of a step.
    pub(crate) fn touch_pages(&mut self) {
        // SAFETY: `&mut self`.
        let bytes = unsafe { self.bytes_mut() };
        for byte in bytes.iter_mut().step_by(4096) {
            // A plain store of the existing zero could be optimized away.
            // SAFETY: a valid, exclusive reference.
            unsafe { std::ptr::write_volatile(byte, 0) };
        }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Block::Heap { start, capacity, .. } = self
            && let Some(layout) = heap_layout(*capacity)
        {
            // SAFETY: allocated in `allocate` with this very layout, and freed once: the block is not `Clone`.
            unsafe { dealloc(start.as_ptr(), layout) };
        }
    }
}

fn heap_layout(capacity: usize) -> Option<HeapLayout> {
    if capacity == 0 {
        return None;
    }
    HeapLayout::from_size_align(capacity, ALIGN).ok()
}

/// The owner that gets the slot when its last handle is dropped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum SlotOwner {
    /// Slot `index` of entry `entry` of the reserve with this id.
    Reserve { id: u64, entry: u32, index: u32 },
    /// The pool.
    Pool,
    /// The piece at `offset` of an arena of the reserve with this id, and the index of its cell there.
    Arena { id: u64, offset: usize, cell: u32 },
    /// No owner: the memory goes back to the system. Learnable memory beyond its reserve.
    System,
    /// A mapped file; not memory of the device.
    File,
}

pub(crate) struct Slot {
    pub(crate) block: Block,
    pub(crate) owner: SlotOwner,
    /// Whether the reserve keeps this learnable slot when its last handle is dropped.
    recycled: AtomicBool,
    /// Whether the memory is a parameter's. It never serves an activation.
    pub(crate) learnable: bool,
    /// Whether the slot has been handed out before. Changed under the memory's lock.
    used: AtomicBool,
    /// The id of the slot's present take in the running trace; 0: none. Changed under the memory's lock.
    pub(crate) trace_id: AtomicU64,
    /// The role that the slot is out for. Changed under the memory's lock.
    role: AtomicU8,
    /// Bytes of the layout that the slot serves now. Set by the first handle.
    len_bytes: AtomicUsize,
    pub(crate) handles: HandleCount,
}

impl Slot {
    pub(crate) fn new(block: Block, owner: SlotOwner, learnable: bool) -> Arc<Slot> {
        Arc::new(Slot {
            block,
            owner,
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

    /// Hands the slot out for `len_bytes` bytes, with one handle.
    pub(crate) fn first_handle(&self, len_bytes: usize) {
        self.handles.first();
        self.len_bytes.store(len_bytes, Ordering::Relaxed);
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

    // A plain load and store, where an exchange would cost ten times as much: values changed under a lock, or through
    // the only handle, have one writer at a time.

    /// Marks the slot as used. Returns whether it was used before.
    pub(crate) fn mark_used(&self) -> bool {
        let was_used = self.used.load(Ordering::Relaxed);
        self.used.store(true, Ordering::Relaxed);
        was_used
    }

    /// Marks the slot to be kept by the reserve when its last handle is dropped. The caller has the only handle.
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

    /// Passes `len` bytes from `offset` on to `sink`.
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
            // A failed device reports it at the next use.
            let _ = buffer.fill(u32::MAX);
            return;
        }
        // SAFETY: no other handle exists, so nobody else uses the bytes.
        unsafe { self.block.bytes_mut() }.fill(0xff);
    }
}
