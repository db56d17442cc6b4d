//! The process's heap: all memory outside devices and mapped files. A program that makes [`CountedHeap`] its allocator
//! has it counted, and a limit on devices then covers it too.
//!
//! One of the places in this crate with `unsafe`. Nothing here knows devices or their limits.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Bytes of all allocated blocks, with the allocator's overhead for each, and of files that were read.
static COUNTED: AtomicUsize = AtomicUsize::new(0);
/// The part of these that devices count as their own.
static OF_DEVICES: AtomicUsize = AtomicUsize::new(0);
/// Maximum difference of the two so far.
static MOST: AtomicUsize = AtomicUsize::new(0);
/// Maximum of `COUNTED`.
static LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);
static IS_COUNTED: AtomicBool = AtomicBool::new(false);
static ON_FAILURE: OnceLock<fn(usize) -> !> = OnceLock::new();

thread_local! {
    /// Whether this thread handles a failed request.
    static IS_REFUSABLE: Cell<bool> = const { Cell::new(false) };
}

/// The system's allocator, counted. A request that it cannot serve, or that would exceed the limit, ends the program
/// through the handler of [`on_failure`], since most code cannot handle a failed allocation. Within [`refusable`] it
/// fails.
///
/// ```
/// use tl_device::heap::{self, CountedHeap};
/// #[global_allocator]
/// static HEAP: CountedHeap = CountedHeap;
/// let before = heap::bytes();
/// let text = vec![b'a'; 1 << 20];
/// assert!(heap::bytes() >= before + (1 << 20));
/// drop(text);
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct CountedHeap;

/// Bytes that a block takes from the system: glibc puts 8 bytes before each, and rounds up to multiples of 16.
const fn cost(size: usize) -> usize {
    let cost = (size.saturating_add(8 + 15)) & !15;
    if cost < 32 { 32 } else { cost }
}

/// Counts `cost` more bytes; `false` if they would exceed the limit.
#[inline]
fn count(cost: usize) -> bool {
    let now = COUNTED.fetch_add(cost, Ordering::Relaxed).saturating_add(cost);
    if now > LIMIT.load(Ordering::Relaxed) {
        COUNTED.fetch_sub(cost, Ordering::Relaxed);
        return false;
    }
    let heap = now.saturating_sub(OF_DEVICES.load(Ordering::Relaxed));
    if heap > MOST.load(Ordering::Relaxed) {
        MOST.fetch_max(heap, Ordering::Relaxed);
    }
    true
}

#[inline]
fn uncount(cost: usize) {
    COUNTED.fetch_sub(cost, Ordering::Relaxed);
}

/// Ends the program or returns null for a request that cannot be served.
#[cold]
fn refuse(size: usize) -> *mut u8 {
    // An ending thread has no flag any more.
    if !IS_REFUSABLE.try_with(Cell::get).unwrap_or(false)
        && let Some(end) = ON_FAILURE.get()
    {
        end(size);
    }
    std::ptr::null_mut()
}

impl CountedHeap {
    #[inline]
    fn serve(size: usize, request: impl FnOnce() -> *mut u8) -> *mut u8 {
        if !count(cost(size)) {
            return refuse(size);
        }
        let block = request();
        if block.is_null() {
            uncount(cost(size));
            return refuse(size);
        }
        block
    }
}

// SAFETY: every call is forwarded to the system's allocator with the caller's own arguments, or refused; counting
// neither allocates nor unwinds.
unsafe impl GlobalAlloc for CountedHeap {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are the system allocator's.
        CountedHeap::serve(layout.size(), || unsafe { System.alloc(layout) })
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        CountedHeap::serve(layout.size(), || unsafe { System.alloc_zeroed(layout) })
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        uncount(cost(layout.size()));
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let (old, new) = (cost(layout.size()), cost(new_size));
        if new > old && !count(new - old) {
            return refuse(new_size);
        }
        // SAFETY: as above.
        let moved = unsafe { System.realloc(block, layout, new_size) };
        match (moved.is_null(), new > old) {
            (true, true) => uncount(new - old),
            (false, false) => uncount(old - new),
            _ => {}
        }
        if moved.is_null() { refuse(new_size) } else { moved }
    }
}

/// Bytes on the heap now, without those of devices: allocated blocks with the allocator's overhead, and files that
/// were read into memory. Without a [`CountedHeap`] only the latter.
///
/// ```
/// use tl_device::{Mapping, heap};
/// let before = heap::bytes();
/// let file = Mapping::read("Cargo.toml")?;
/// assert!(heap::bytes() >= before + file.bytes().len());
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn bytes() -> usize {
    COUNTED.load(Ordering::Relaxed).saturating_sub(OF_DEVICES.load(Ordering::Relaxed))
}

/// Maximum of [`bytes`] so far.
///
/// ```
/// assert!(tl_device::heap::peak_bytes() >= tl_device::heap::bytes());
/// ```
pub fn peak_bytes() -> usize {
    MOST.load(Ordering::Relaxed)
}

/// Restarts [`peak_bytes`] from the present value.
///
/// ```
/// use tl_device::heap;
/// heap::reset_peak();
/// assert!(heap::peak_bytes() >= heap::bytes());
/// ```
pub fn reset_peak() {
    MOST.store(bytes(), Ordering::Relaxed);
}

/// Whether a [`CountedHeap`] serves this program.
pub(crate) fn is_counted() -> bool {
    IS_COUNTED.load(Ordering::Relaxed)
}

/// Sets the limit of heap and CPU devices together, for a program with a [`CountedHeap`]. It is the last resort after
/// the limit of a device, which gives errors with figures.
///
/// ```
/// tl_device::heap::set_limit(usize::MAX);
/// ```
pub fn set_limit(bytes: usize) {
    LIMIT.store(bytes, Ordering::Relaxed);
}

/// Declares that a [`CountedHeap`] serves this program, and sets the handler of a request that cannot be served; `end`
/// receives the bytes of that request, and must not allocate.
///
/// ```
/// tl_device::heap::on_failure(|_bytes| std::process::abort());
/// ```
pub fn on_failure(end: fn(usize) -> !) {
    IS_COUNTED.store(true, Ordering::Relaxed);
    let _ = ON_FAILURE.set(end);
}

/// Runs code that handles failed requests, such as `Vec::try_reserve`.
///
/// ```
/// use tl_device::heap;
/// let mut list: Vec<u64> = Vec::new();
/// assert!(heap::refusable(|| list.try_reserve_exact(usize::MAX / 16)).is_err());
/// ```
pub fn refusable<T>(run: impl FnOnce() -> T) -> T {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            IS_REFUSABLE.set(self.0);
        }
    }
    let _restore = Restore(IS_REFUSABLE.replace(true));
    run()
}

/// Bytes of a block that count as a device's and not the heap's, from before its allocation until it is freed.
#[derive(Debug)]
pub(crate) struct Excluded {
    bytes: usize,
}

impl Excluded {
    /// A block of `bytes` bytes. The allocator's overhead for it counts as heap.
    pub(crate) fn new(bytes: usize) -> Excluded {
        OF_DEVICES.fetch_add(bytes, Ordering::Relaxed);
        Excluded { bytes }
    }
}

impl Drop for Excluded {
    fn drop(&mut self) {
        OF_DEVICES.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A file read into private memory, counted while it exists.
#[derive(Debug)]
pub(crate) struct ReadFile {
    bytes: usize,
}

impl ReadFile {
    /// Counts a file of `bytes` bytes; `None` if it would exceed the limit.
    pub(crate) fn count(bytes: usize) -> Option<ReadFile> {
        count(bytes).then_some(ReadFile { bytes })
    }
}

impl Drop for ReadFile {
    fn drop(&mut self) {
        uncount(self.bytes);
    }
}
