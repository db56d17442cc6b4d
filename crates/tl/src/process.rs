//! The process itself: its heap is counted, it ends with a message where that has no memory left, and on request the operating
//! system is told not to give it more than was said.
//!
//! The one place in this program with `unsafe`.
#![allow(unsafe_code)]

use std::io::Write;

use tl_device::heap::{self, CountedHeap};

#[global_allocator]
static HEAP: CountedHeap = CountedHeap;

/// What heap and devices may pass a limit by before the allocator itself refuses: errors with figures come first.
const SPARE_BYTES: usize = 1 << 20;

/// From here on, a failing allocation ends the process with one message and exit code 1.
pub(crate) fn watch_heap() {
    heap::on_failure(end);
}

/// Heap and CPU devices together stay within this limit, whatever asks for memory.
pub(crate) fn limit_heap(limit: Option<usize>) {
    heap::set_limit(limit.map_or(usize::MAX, |bytes| bytes.saturating_add(SPARE_BYTES)));
}

/// Tells which request could not be served, without allocating, and ends the process.
fn end(bytes: usize) -> ! {
    let mut text = [0; 200];
    let mut rest = &mut text[..];
    let held = heap::bytes();
    let _ = writeln!(
        rest,
        "error: out of memory: {bytes} bytes more cannot be had beside the {held} that the program has on the heap; raise \
         --memory-limit or the system's limits"
    );
    let left = rest.len();
    let written = text.len() - left;
    write_error(&text[..written]);
    exit()
}

#[cfg(unix)]
fn write_error(text: &[u8]) {
    // SAFETY: the bytes are there for the length that is given.
    unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len()) };
}

#[cfg(not(unix))]
fn write_error(text: &[u8]) {
    let _ = std::io::stderr().write_all(text);
}

#[cfg(unix)]
fn exit() -> ! {
    // SAFETY: ends the process without running anything else of it, which could allocate.
    unsafe { libc::_exit(1) }
}

#[cfg(not(unix))]
fn exit() -> ! {
    std::process::exit(1)
}
