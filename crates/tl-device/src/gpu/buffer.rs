//! Memory on the device: whole buffers. A piece of a buffer cannot be bound for writing while another piece is read, so
//! there are no arenas here.

use std::sync::Arc;

use super::device::{AllocError, Bound, Gpu};
use super::raw_buffer::RawBuffer;
use crate::error::Error;

/// A buffer of the device.
pub(crate) struct Buffer {
    raw: RawBuffer,
    gpu: Arc<Gpu>,
}

impl Buffer {
    /// Memory of `capacity` bytes, a multiple of 4; its contents are zeros.
    pub(crate) fn create(gpu: &Arc<Gpu>, capacity: usize) -> Result<Buffer, AllocError> {
        Ok(Buffer { raw: gpu.create_buffer(capacity)?, gpu: gpu.clone() })
    }

    pub(crate) fn capacity(&self) -> usize {
        self.raw.capacity
    }

    /// A part of the buffer as a binding; a `len_bytes` of 0 extends to the end.
    pub(crate) fn bind(&self, offset_bytes: u64, len_bytes: u64) -> Result<Bound<'_>, Error> {
        self.gpu.bind(&self.raw, offset_bytes, len_bytes)
    }

    /// Reads the bytes from `offset` on: `sink` receives them in pieces, in order. Waits for the commands recorded
    /// before.
    pub(crate) fn read(&self, offset: usize, len: usize, sink: &mut dyn FnMut(&[u8])) -> Result<(), Error> {
        self.gpu.read(&self.raw, offset, len, sink)
    }

    /// Writes `bytes` after all commands recorded before. `offset` is a multiple of 4.
    pub(crate) fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        self.gpu.write(&self.raw, offset, bytes)
    }

    /// Copies bytes to the beginning of another buffer of the device. `offset` is a multiple of 4.
    pub(crate) fn copy_to(&self, offset: usize, to: &Buffer, len: usize) -> Result<(), Error> {
        self.gpu.copy(&self.raw, offset, &to.raw, len)
    }

    /// Sets every word.
    pub(crate) fn fill(&self, word: u32) -> Result<(), Error> {
        self.gpu.fill(&self.raw, word)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.gpu.forget(&self.raw);
    }
}
