//! Memory errors. Variants carry the figures; their messages are made here and nowhere else.

use crate::gpu_options::GpuChoice;
use crate::layout::{Layout, LayoutError};
use crate::plan::PlanRow;
use crate::purpose::Role;
use crate::stats::{MemoryStats, ReserveKind};

/// A failed memory request.
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
    /// A layout that has no size in bytes.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// Neither reserve, pool nor device has the memory, even after a trim of the pool and a second attempt.
    #[error(
        "out of memory: {what} needs {}, and {place} has {} available (live {}, reserved free {}, pooled {}, largest free {}, pool cap {}); \
         use smaller sizes or fewer buffers, a smaller context, or free memory",
        bytes(*requested_bytes as u64), available(*available_bytes), bytes(stats.live_bytes), bytes(stats.reserved_free_bytes),
        bytes(stats.pooled_bytes), bytes(stats.largest_free_bytes), bytes(stats.pool_cap_bytes)
    )]
    OutOfMemory {
        /// The requested memory, `float16[512, 128]` or `20 buffers of float16[512, 128]`.
        what: String,
        /// Total bytes requested.
        requested_bytes: usize,
        /// The bound: `the machine`, a control group, a limit of the process, or the GPU's name.
        place: String,
        /// Bytes left within that bound, or on the GPU beyond those in use, where known.
        available_bytes: Option<u64>,
        /// The device's statistics at that moment.
        stats: Box<MemoryStats>,
    },
    /// The request would exceed the device's limit, even after a trim of the pool.
    #[error(
        "over the memory limit: {what} needs {}, and of the limit of {} is in use: live {}, reserved free {}, pooled {}, largest free {}, mapped {}, \
         heap {}, recordings {}; raise the limit, or use smaller sizes, fewer buffers or a smaller context",
        bytes(*requested_bytes as u64), bytes(*limit_bytes), bytes(stats.live_bytes), bytes(stats.reserved_free_bytes),
        bytes(stats.pooled_bytes), bytes(stats.largest_free_bytes), bytes(stats.mapped_bytes), bytes(stats.heap_bytes),
        bytes(stats.recording_bytes)
    )]
    Limit {
        /// The requested memory.
        what: String,
        /// Total bytes requested.
        requested_bytes: usize,
        /// The limit.
        limit_bytes: u64,
        /// The device's statistics at that moment.
        stats: Box<MemoryStats>,
    },
    /// The device is sealed, and the request would have been a new allocation.
    #[error("memory is sealed, and {op} would allocate {layout}; reserve it before sealing")]
    Sealed {
        /// The requesting operation.
        op: &'static str,
        /// The requested layout.
        layout: Layout,
        /// The role of the memory.
        role: Role,
        /// The place in the program, as [`Device::set_location`](crate::Device::set_location) gave it; 0: none.
        location: u64,
    },
    /// A range beyond the end of a mapped file.
    #[error("bytes {offset} to {} are outside the file, which has {file_bytes}", offset.saturating_add(*len))]
    OutsideFile {
        /// The first byte.
        offset: usize,
        /// The number of bytes.
        len: usize,
        /// The file's size in bytes.
        file_bytes: usize,
    },
    /// No usable GPU, or none that matches the choice.
    #[error("{}", no_gpu(choice, found))]
    NoGpu {
        /// The choice.
        choice: GpuChoice,
        /// The GPUs present.
        found: Vec<String>,
    },
    /// A GPU failure.
    #[error("GPU {adapter:?}: {problem}")]
    Gpu {
        /// The GPU's name.
        adapter: String,
        /// The problem.
        problem: GpuProblem,
    },
    /// An index out of range in a program on the GPU, noticed when the host next read from the device.
    #[error("index {index} is out of range for size {size} (found when a result was read from the GPU)")]
    Index {
        /// The index.
        index: i32,
        /// The size of the indexed dimension.
        size: u32,
    },
    /// A GPU operation on another device.
    #[error("this needs a GPU, and the device is {device}; open one with Device::gpu() or --device gpu")]
    NotGpu {
        /// The device's name.
        device: String,
    },
    /// A mapped file used in place on a GPU.
    #[error("a GPU cannot read a mapped file: take memory and write the file's bytes into it")]
    NotMappable,
    /// A recording ran out of room before it was stopped, and no plan can be made from it.
    #[error(
        "the recording ended after {event_count} events and {layout_count} layouts: it had no room for more within its {} \
         or the memory limit; raise the limit, or record fewer steps",
        bytes(*max_bytes)
    )]
    RecordingEnded {
        /// Layouts recorded.
        layout_count: usize,
        /// Events recorded.
        event_count: u64,
        /// Maximum bytes of the recording.
        max_bytes: u64,
    },
    /// The steps of a recording exceed its size limit.
    #[error(
        "no arena can be planned: a step lasts from one moment without activations to the next, and the steps here take \
         more than the {} that a recording has for them; let go of tensors between steps, or use a plan",
        bytes(*max_bytes)
    )]
    StepsTooLong {
        /// Maximum bytes of the steps.
        max_bytes: u64,
    },
    /// An arena was requested on a GPU.
    #[error(
        "a GPU has no arenas: a piece of a buffer cannot be written while another piece is read; reserve whole buffers"
    )]
    NoArena,
    /// The device of a tensor buffer no longer exists.
    #[error("the device of this tensor buffer no longer exists")]
    DeviceGone,
    /// A tensor buffer was given to a device other than its own.
    #[error("this tensor buffer belongs to another device; make one with TensorBuffer::new(&device) for this one")]
    OtherDevice,
}

impl Error {
    /// The reservation that would have served the request, for an error caused by sealing.
    ///
    /// ```
    /// use tl_device::{Device, Layout, Role};
    /// let device = Device::cpu();
    /// device.seal();
    /// let error = device.take(&Layout::from(vec![8, 512]), Role::Activation).err().unwrap();
    /// assert_eq!(error.missing_reservation().unwrap().layout, Layout::from(vec![8, 512]));
    /// ```
    pub fn missing_reservation(&self) -> Option<PlanRow> {
        let Error::Sealed { layout, role, .. } = self else { return None };
        let kind = if *role == Role::Learnable { ReserveKind::Learnable } else { ReserveKind::Exact };
        Some(PlanRow { layout: layout.clone(), kind, count: 1 })
    }
}

/// A problem with a GPU.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GpuProblem {
    /// A feature that every program needs is missing.
    #[error("it lacks {missing}; use another device, or the CPU")]
    Lacks {
        /// The feature.
        missing: &'static str,
    },
    /// The device is out of memory.
    #[error("it is out of memory; use a smaller model or context, or the CPU")]
    OutOfMemory,
    /// A buffer larger than the device's limit.
    #[error("a buffer of {} is more than its limit of {}; use smaller sizes, or the CPU", bytes(*bytes_asked), bytes(*max_bytes))]
    BufferTooLarge {
        /// Bytes requested.
        bytes_asked: u64,
        /// The device's limit.
        max_bytes: u64,
    },
    /// A tensor larger than one binding can show.
    #[error(
        "a program would have to see {} at once, and its limit is {}; use smaller sizes, or the CPU",
        bytes(*bytes_asked), bytes(*max_bytes)
    )]
    BindingTooLarge {
        /// Bytes requested.
        bytes_asked: u64,
        /// The device's limit.
        max_bytes: u64,
    },
    /// The device was lost: removed, reset by the system, or its driver crashed.
    #[error("it was lost: {message}; start again, and if it happens again update the driver or use the CPU")]
    Lost {
        /// The driver's message.
        message: String,
    },
    /// The device exceeded its timeout.
    #[error("it has not answered for {seconds} s, and counts as hung; use smaller sizes, another device, or the CPU")]
    Hung {
        /// The timeout in seconds.
        seconds: u64,
    },
    /// The driver rejected a program.
    #[error("its driver does not take the program `{name}`: {message}")]
    Program {
        /// The program's name.
        name: &'static str,
        /// The driver's message.
        message: String,
    },
    /// The driver rejected a call.
    #[error("its driver refused: {message}")]
    Refused {
        /// The driver's message.
        message: String,
    },
    /// Memory of another device.
    #[error("it was given memory of another device")]
    ForeignMemory,
}

fn no_gpu(choice: &GpuChoice, found: &[String]) -> String {
    let asked = match choice {
        GpuChoice::Best => "no GPU that can be used".to_owned(),
        GpuChoice::BestHardware => "no GPU in hardware that can be used".to_owned(),
        GpuChoice::Index(index) => format!("no GPU number {index}"),
        GpuChoice::Name(name) => format!("no GPU whose name contains {name:?}"),
    };
    match found {
        [] => format!("{asked}: the machine shows none (a driver for Vulkan, Metal or Direct3D 12 is needed)"),
        _ => format!("{asked}; there are: {}", found.join(", ")),
    }
}

/// A human-readable byte count: `512 B`, `1.5 MiB`.
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

fn available(n: Option<u64>) -> String {
    n.map_or_else(|| "an unknown amount".to_owned(), bytes)
}
