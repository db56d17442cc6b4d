//! Memory on the device: whole buffers. A piece of a buffer cannot be bound for writing beside a piece that is read, so
//! there are no arenas here.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::{Gpu, count};
use crate::{Error, GpuProblem};

/// A buffer of the device.
pub(crate) struct Buffer {
    pub(super) raw: wgpu::Buffer,
    /// Never given twice: what bind groups are found by.
    pub(super) id: u64,
    pub(super) gpu: Arc<Gpu>,
    /// The number of the batch that used the buffer last; 0: none. What is written to it later goes behind that batch.
    pub(super) last_use: AtomicU64,
    capacity: usize,
}

/// Why there is no buffer.
pub(crate) enum Refused {
    OutOfMemory,
    Other(Error),
}

impl Buffer {
    /// Memory of `capacity` bytes, a multiple of 4; its contents are zeros.
    pub(crate) fn create(gpu: &Arc<Gpu>, capacity: usize) -> Result<Buffer, Refused> {
        gpu.check().map_err(Refused::Other)?;
        let max = gpu.info.max_buffer_bytes;
        if capacity as u64 > max {
            let problem = GpuProblem::BufferTooLarge { bytes_asked: capacity as u64, max_bytes: max };
            return Err(Refused::Other(gpu.error(problem)));
        }
        let out_of_memory = gpu.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let raw = gpu.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: capacity as u64,
            usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        if Gpu::wait_for(out_of_memory.pop()).is_some() {
            return Err(Refused::OutOfMemory);
        }
        count(&gpu.counts.buffers, 1);
        let id = gpu.programs.lock().next_buffer_id();
        Ok(Buffer { raw, id, gpu: gpu.clone(), last_use: AtomicU64::new(0), capacity })
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// The bytes from `offset` on, in pieces: `sink` gets each, in order. Waits for what was recorded before.
    pub(crate) fn read(&self, offset: usize, len: usize, sink: &mut dyn FnMut(&[u8])) -> Result<(), Error> {
        self.gpu.read(self, offset, len, sink)
    }

    /// Writes `bytes` behind everything that was recorded before. `offset` is a multiple of 4.
    pub(crate) fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        self.gpu.write(self, offset, bytes)
    }

    /// Copies bytes to the beginning of another buffer of the device. `offset` is a multiple of 4.
    pub(crate) fn copy_to(&self, offset: usize, to: &Buffer, len: usize) -> Result<(), Error> {
        self.gpu.copy(self, offset, to, len)
    }

    /// Sets every word.
    pub(crate) fn fill(&self, word: u32) -> Result<(), Error> {
        self.gpu.fill(self, word)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // Bind groups would keep the memory.
        self.gpu.programs.lock().forget(self.id);
    }
}
