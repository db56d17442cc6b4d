//! A device buffer as used by the stream of commands.

use std::sync::atomic::AtomicU64;

pub(super) struct RawBuffer {
    pub(super) raw: wgpu::Buffer,
    /// Never reused: bind groups are looked up by it.
    pub(super) id: u64,
    /// The number of the batch that used the buffer last; 0: none. Later writes to it go after that batch.
    pub(super) last_use: AtomicU64,
    pub(super) capacity: usize,
}
