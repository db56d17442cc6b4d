//! Whether the process has address space left for another thread.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};

/// What a thread of Rust's takes: its stack, and what the C library begins one with.
pub(crate) const THREAD_BYTES: usize = 3 << 20;

/// Whether the system would give the process a block of so many bytes, which nobody touches, at this moment. The C library ends a
/// process that has no address space left for what a thread begins with.
///
/// ```
/// assert!(tl_kernels::has_address_space(1 << 20) && !tl_kernels::has_address_space(usize::MAX / 4));
/// ```
pub fn has_address_space(bytes: usize) -> bool {
    let Ok(layout) = Layout::from_size_align(bytes.max(1), 16) else { return false };
    // SAFETY: the layout is not empty. The block is given back at once; a program's own allocator does not see it.
    unsafe {
        let block = System.alloc(layout);
        if block.is_null() {
            return false;
        }
        System.dealloc(std::hint::black_box(block), layout);
    }
    true
}
