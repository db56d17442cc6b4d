//! A buffer of a device as the stream of commands uses it.

use std::sync::atomic::AtomicU64;

pub(super) struct RawBuffer {
    pub(super) raw: wgpu::Buffer,
    /// Never given twice: what bind groups are found by.
    pub(super) id: u64,
    /// The number of the batch that used the buffer last; 0: none. What is written to it later goes behind that batch.
    pub(super) last_use: AtomicU64,
    pub(super) capacity: usize,
}
