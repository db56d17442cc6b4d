//! The CPU device's memory: aligned blocks from the system allocator and files mapped into memory.
//!
//! One of the places in this crate with `unsafe`. Nothing here counts or pools; that is
//! `memory.rs`. The rule that makes the writing sound is kept by [`Lease`](crate::Lease): a block is written only
//! through the one handle that exists on it.
#![allow(unsafe_code)]

use std::alloc::{Layout as HeapLayout, alloc_zeroed, dealloc};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;

use memmap2::{Mmap, MmapMut};

use crate::heap::{self, Excluded, ReadFile};
use crate::storage::Slot;

/// Every block starts at a multiple of this: a cache line, and the width of the widest vector registers.
pub(crate) const ALIGN: usize = 64;

/// Bytes at a fixed address.
pub(crate) enum Block {
    /// Owned.
    Heap { start: NonNull<u8>, capacity: usize, _excluded: Excluded },
    /// A piece of the block of `whole`, an arena; pieces that exist at the same time do not overlap.
    Part { whole: Arc<Slot>, start: NonNull<u8>, len: usize },
    /// A part of a file, mapped or read.
    Mapped { mapping: Arc<MappedFile>, offset: usize, len: usize },
    /// A buffer of a GPU, whose bytes the host cannot see.
    #[cfg(feature = "gpu")]
    Gpu(crate::gpu::Buffer),
    /// No bytes at all, for planning: only the count is real. A piece of an arena names it.
    Simulated { capacity: usize, whole: Option<Arc<Slot>> },
}

// SAFETY: a block owns its bytes (or a read-only mapping); nothing in it is tied to a thread. Writing goes through
// `bytes_mut`, whose caller vouches for being the only user.
unsafe impl Send for Block {}
// SAFETY: as above; shared access only reads.
unsafe impl Sync for Block {}

impl Block {
    /// Zeroed memory of `capacity` bytes, a multiple of [`ALIGN`] and not 0. `None` where the system has no memory.
    pub(crate) fn allocate(capacity: usize) -> Option<Block> {
        let layout = heap_layout(capacity)?;
        let excluded = Excluded::new(capacity);
        // SAFETY: the layout's size is not 0 (checked in `heap_layout`).
        let start = NonNull::new(heap::refusable(|| unsafe { alloc_zeroed(layout) }))?;
        Some(Block::Heap { start, capacity, _excluded: excluded })
    }

    /// The piece of `len` bytes at `offset` of an arena. Without bytes where the arena has none (a simulated device).
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

    /// Whether this is a piece of that arena.
    pub(crate) fn is_part_of(&self, arena: &Arc<Slot>) -> bool {
        match self {
            Block::Part { whole, .. } | Block::Simulated { whole: Some(whole), .. } => Arc::ptr_eq(whole, arena),
            _ => false,
        }
    }

    /// Bytes that the block holds.
    pub(crate) fn capacity(&self) -> usize {
        match self {
            Block::Heap { capacity, .. } => *capacity,
            Block::Part { len, .. } | Block::Mapped { len, .. } => *len,
            #[cfg(feature = "gpu")]
            Block::Gpu(buffer) => buffer.capacity(),
            Block::Simulated { capacity, .. } => *capacity,
        }
    }

    /// Whether its bytes are counted as the heap's: those of a file that was read.
    pub(crate) fn is_on_heap(&self) -> bool {
        matches!(self, Block::Mapped { mapping, .. } if mapping.read.is_some()) && heap::is_counted()
    }

    /// The buffer, where it is one of a GPU.
    #[cfg(feature = "gpu")]
    pub(crate) fn gpu(&self) -> Option<&crate::gpu::Buffer> {
        match self {
            Block::Gpu(buffer) => Some(buffer),
            _ => None,
        }
    }

    /// All bytes of the block, to read. None that the host could see: those of a GPU, of a simulated block.
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            // SAFETY: the block owns `capacity` bytes at `start`, zeroed when allocated, so all are initialized. They are
            // written only through `bytes_mut`, whose caller guarantees that no shared slice is alive.
            Block::Heap { start, capacity, .. } => unsafe { std::slice::from_raw_parts(start.as_ptr(), *capacity) },
            // SAFETY: `len` bytes within the arena's block, which the piece keeps alive, and which no other piece overlaps;
            // the arena's own bytes are never looked at while it is one.
            Block::Part { start, len, .. } => unsafe { std::slice::from_raw_parts(start.as_ptr(), *len) },
            Block::Mapped { mapping, offset, len } => mapping.map.get(*offset..*offset + *len).unwrap_or_default(),
            #[cfg(feature = "gpu")]
            Block::Gpu(_) => &[],
            Block::Simulated { .. } => &[],
        }
    }

    /// All bytes of the block, to write; none for a mapping, which is read-only, and for what the host cannot see.
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

    /// Writes to every page, so that the operating system hands the memory over now and not in the middle of a step.
    pub(crate) fn touch_pages(&mut self) {
        // SAFETY: `&mut self`.
        let bytes = unsafe { self.bytes_mut() };
        for byte in bytes.iter_mut().step_by(4096) {
            // A plain store of the zero that is there could be optimized away.
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

/// A file that is no folder.
fn open(path: &Path) -> io::Result<File> {
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "is a directory"));
    }
    Ok(file)
}

/// A file mapped into memory, read-only. Cheap to clone.
///
/// The file must not be truncated while it is mapped: the operating system answers a read beyond its end with a signal.
///
/// ```
/// use tl_device::{Device, Mapping};
/// let device = Device::cpu();
/// let file = Mapping::open("Cargo.toml")?;
/// let weight = device.adopt(&file, 0, 9)?.share();
/// drop(file); // the weight keeps the mapping
/// assert_eq!(weight.bytes(), b"[package]");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Mapping {
    map: Arc<MappedFile>,
}

#[derive(Debug)]
pub(crate) struct MappedFile {
    map: Mmap,
    /// Where the file was read: what counts it.
    read: Option<ReadFile>,
}

impl Mapping {
    /// Maps the whole file.
    ///
    /// ```
    /// use std::io::ErrorKind;
    /// use tl_device::Mapping;
    /// assert!(Mapping::open("Cargo.toml").is_ok());
    /// assert_eq!(Mapping::open("src").unwrap_err().kind(), ErrorKind::IsADirectory);
    /// assert_eq!(Mapping::open("absent.gguf").unwrap_err().kind(), ErrorKind::NotFound);
    /// ```
    ///
    /// # Errors
    /// What the operating system says: the file is missing, is a folder, may not be read.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Mapping> {
        let file = open(path.as_ref())?;
        // SAFETY: the mapping is private and read-only. Another process that truncates the file can still end this one
        // with SIGBUS, as for every program that maps files; that is stated in the documentation.
        let map = unsafe { Mmap::map(&file)? };
        // Pages of 2 MiB, where the file system reads files into such: a weight is read through once for each token, and looking up
        // small pages is a fifth of the time. Refused, it changes nothing.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        Ok(Mapping { map: Arc::new(MappedFile { map, read: None }) })
    }

    /// The whole file, read into memory of the process's own: it is there whatever becomes of the file, in pages of 2 MiB where the
    /// system gives them, which a file that was read some other way does not lie in. The price is the time to copy it, and memory
    /// that no other process shares.
    ///
    /// ```
    /// use tl_device::Mapping;
    /// let copy = Mapping::read("Cargo.toml")?;
    /// assert_eq!(copy.bytes(), Mapping::open("Cargo.toml")?.bytes());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`Mapping::open`], and where there is no memory or the file ends early.
    pub fn read(path: impl AsRef<Path>) -> io::Result<Mapping> {
        let mut file = open(path.as_ref())?;
        let too_long = |_| io::Error::from(io::ErrorKind::FileTooLarge);
        let len = usize::try_from(file.metadata()?.len()).map_err(too_long)?;
        let read = ReadFile::count(len).ok_or(io::ErrorKind::OutOfMemory)?;
        let mut copy = MmapMut::map_anon(len)?;
        #[cfg(target_os = "linux")]
        let _ = copy.advise(memmap2::Advice::HugePage);
        file.read_exact(&mut copy)?;
        Ok(Mapping { map: Arc::new(MappedFile { map: copy.make_read_only()?, read: Some(read) }) })
    }

    /// The file's bytes.
    ///
    /// ```
    /// use tl_device::Mapping;
    /// let file = Mapping::open("Cargo.toml")?;
    /// assert!(file.bytes().starts_with(b"[package]"));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn bytes(&self) -> &[u8] {
        &self.map.map
    }

    /// A part of the mapping as a block, or `None` where it reaches beyond the end.
    pub(crate) fn block(&self, offset: usize, len: usize) -> Option<Block> {
        let end = offset.checked_add(len)?;
        (end <= self.map.map.len()).then(|| Block::Mapped { mapping: self.map.clone(), offset, len })
    }
}
