//! Prefetching: memory is requested before it is read.
#![allow(unsafe_code)]

use std::ops::Range;

/// A line of the caches.
const LINE_BYTES: usize = 64;

/// Pieces of memory, `stride` bytes apart, that are prefetched little by little while something else is computed: the hardware's
/// prefetching does not follow them, and requesting all at once would stall. They go to the second cache. A no-op but on x86-64.
#[derive(Clone, Copy)]
pub(crate) struct Prefetcher {
    start: *const u8,
    n: usize,
    stride: usize,
    len: usize,
}

impl Prefetcher {
    pub(crate) const NOTHING: Prefetcher = Prefetcher { start: std::ptr::null(), n: 0, stride: 0, len: 0 };

    /// `n` pieces of `len` bytes.
    #[inline(always)]
    pub(crate) fn new(bytes: &[u8], n: usize, stride: usize, len: usize) -> Prefetcher {
        Prefetcher { start: bytes.as_ptr(), n, stride, len }
    }

    /// Prefetches those of the pieces that exist.
    #[inline(always)]
    pub(crate) fn prefetch(self, pieces: Range<usize>) {
        for index in pieces.start..pieces.end.min(self.n) {
            self.prefetch_part(index, 0..self.len);
        }
    }

    /// Prefetches the lines that begin in a range of bytes of a piece, if the piece exists.
    #[inline(always)]
    pub(crate) fn prefetch_part(self, index: usize, bytes: Range<usize>) {
        if index < self.n {
            for byte in bytes.step_by(LINE_BYTES) {
                prefetch_line(self.start.wrapping_add(index * self.stride + byte));
            }
        }
    }
}

/// Prefetches all lines of the values into the second cache.
#[inline(always)]
pub(crate) fn prefetch_all<T>(values: &[T]) {
    for byte in (0..size_of_val(values)).step_by(LINE_BYTES) {
        prefetch_line(values.as_ptr().cast::<u8>().wrapping_add(byte));
    }
}

/// Prefetches the line at an address, which may be invalid.
#[inline(always)]
fn prefetch_line(address: *const u8) {
    let _ = address;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint that every x86-64 CPU takes; it reads nothing, wherever it points.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(address.cast());
    }
}
