//! What can go wrong with memory. Variants carry the figures; the words are made here and nowhere else.

use crate::{Layout, MemoryStats, PlanRow, ReserveKind, Role};

/// A memory request that cannot be served.
///
/// ```
/// use tl_device::{Device, Error, Layout, Role, bytes};
/// let device = Device::cpu();
/// device.seal();
/// match device.take(&Layout::from(vec![8, 512]), Role::Activation) {
///     Err(Error::Sealed { op, layout, .. }) => println!("{op} wanted {}", bytes(layout.len_bytes()? as u64)),
///     Err(error) => return Err(error),
///     Ok(_) => unreachable!("nothing was reserved"),
/// }
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The element count or byte count does not fit the address space.
    #[error("{layout} is too large: its size in bytes does not fit the address space")]
    TooLarge {
        /// What was asked for.
        layout: Layout,
    },
    /// A block format whose last dimension is not a whole number of blocks.
    #[error("{layout}: the last dimension must be a multiple of {block_elems}, the block size of this format")]
    PartialBlock {
        /// What was asked for.
        layout: Layout,
        /// Elements in a block.
        block_elems: usize,
    },
    /// Neither reserve, pool nor device has the memory, also after the pool was trimmed and the request repeated.
    #[error(
        "out of memory: {what} needs {}, and the machine has {} available (live {}, reserved free {}, pooled {}, largest free {}, pool cap {}); \
         use smaller sizes or fewer buffers, a smaller context, or free memory",
        bytes(*requested_bytes as u64), available(*available_bytes), bytes(stats.live_bytes), bytes(stats.reserved_free_bytes),
        bytes(stats.pooled_bytes), bytes(stats.largest_free_bytes), bytes(stats.pool_cap_bytes)
    )]
    OutOfMemory {
        /// What the memory was for, `float16[512, 128]` or `20 buffers of float16[512, 128]`.
        what: String,
        /// Bytes asked for in all.
        requested_bytes: usize,
        /// What the operating system said was available, where it says.
        available_bytes: Option<u64>,
        /// The device's statistics at that moment.
        stats: Box<MemoryStats>,
    },
    /// The device's limit would be passed, also after the pool was trimmed.
    #[error(
        "over the memory limit: {what} needs {}, and of the limit of {} is in use: live {}, reserved free {}, pooled {}, largest free {}, mapped {}; \
         raise the limit, or use smaller sizes, fewer buffers or a smaller context",
        bytes(*requested_bytes as u64), bytes(*limit_bytes), bytes(stats.live_bytes), bytes(stats.reserved_free_bytes),
        bytes(stats.pooled_bytes), bytes(stats.largest_free_bytes), bytes(stats.mapped_bytes)
    )]
    Limit {
        /// What the memory was for.
        what: String,
        /// Bytes asked for in all.
        requested_bytes: usize,
        /// The limit.
        limit_bytes: u64,
        /// The device's statistics at that moment.
        stats: Box<MemoryStats>,
    },
    /// The device is sealed, and the request would have been a new allocation.
    #[error("memory is sealed, and {op} would allocate {layout}; reserve it before sealing: {}", statement(layout, *role))]
    Sealed {
        /// The operation that asked.
        op: &'static str,
        /// What it asked for.
        layout: Layout,
        /// What for.
        role: Role,
        /// The place in the program, as [`Device::set_location`](crate::Device::set_location) gave it; 0: none.
        location: u64,
    },
    /// A part of a mapped file that the file does not have.
    #[error("bytes {offset} to {} are outside the file, which has {file_bytes}", offset.saturating_add(*len))]
    OutsideFile {
        /// The first byte.
        offset: usize,
        /// How many.
        len: usize,
        /// How many the file has.
        file_bytes: usize,
    },
    /// The device that a tensor buffer belongs to is gone.
    #[error("the device of this tensor buffer no longer exists")]
    DeviceGone,
    /// A tensor buffer was given to a device that it was not made for.
    #[error("this tensor buffer belongs to another device; make one with TensorBuffer::new(&device) for this one")]
    OtherDevice,
}

/// A count of bytes for people: `512 B`, `1.5 MiB`.
///
/// ```
/// use tl_device::bytes;
/// assert_eq!(bytes(512), "512 B");
/// assert_eq!(bytes(3 << 19), "1.5 MiB");
/// ```
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// The statement of TL that would have served a request.
fn statement(layout: &Layout, role: Role) -> String {
    let kind = if role == Role::Learnable { ReserveKind::Learnable } else { ReserveKind::Exact };
    PlanRow { layout: layout.clone(), kind, count: 1 }.statement()
}

fn available(n: Option<u64>) -> String {
    n.map_or_else(|| "an unknown amount".to_owned(), bytes)
}
