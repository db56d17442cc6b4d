//! What can go wrong with memory. Variants carry the figures; the words are made here and nowhere else.

use crate::gpu_options::GpuChoice;
use crate::layout::{Layout, LayoutError};
use crate::plan::PlanRow;
use crate::purpose::Role;
use crate::stats::{MemoryStats, ReserveKind};

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
    /// A layout that has no size in bytes.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// Neither reserve, pool nor device has the memory, also after the pool was trimmed and the request repeated.
    #[error(
        "out of memory: {what} needs {}, and {place} has {} available (live {}, reserved free {}, pooled {}, largest free {}, pool cap {}); \
         use smaller sizes or fewer buffers, a smaller context, or free memory",
        bytes(*requested_bytes as u64), available(*available_bytes), bytes(stats.live_bytes), bytes(stats.reserved_free_bytes),
        bytes(stats.pooled_bytes), bytes(stats.largest_free_bytes), bytes(stats.pool_cap_bytes)
    )]
    OutOfMemory {
        /// What the memory was for, `float16[512, 128]` or `20 buffers of float16[512, 128]`.
        what: String,
        /// Bytes asked for in all.
        requested_bytes: usize,
        /// What bounds it: `the machine`, a control group, a limit of the process, or the GPU's name.
        place: String,
        /// What that leaves, or what the GPU has beyond what is in use, where it is known.
        available_bytes: Option<u64>,
        /// The device's statistics at that moment.
        stats: Box<MemoryStats>,
    },
    /// The device's limit would be passed, also after the pool was trimmed.
    #[error(
        "over the memory limit: {what} needs {}, and of the limit of {} is in use: live {}, reserved free {}, pooled {}, largest free {}, mapped {}, \
         heap {}, recordings {}; raise the limit, or use smaller sizes, fewer buffers or a smaller context",
        bytes(*requested_bytes as u64), bytes(*limit_bytes), bytes(stats.live_bytes), bytes(stats.reserved_free_bytes),
        bytes(stats.pooled_bytes), bytes(stats.largest_free_bytes), bytes(stats.mapped_bytes), bytes(stats.heap_bytes),
        bytes(stats.recording_bytes)
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
    #[error("memory is sealed, and {op} would allocate {layout}; reserve it before sealing")]
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
    /// No GPU that can be used, or none of those asked for.
    #[error("{}", no_gpu(choice, found))]
    NoGpu {
        /// What was asked for.
        choice: GpuChoice,
        /// The GPUs that there are.
        found: Vec<String>,
    },
    /// A GPU that does not do what it should.
    #[error("GPU {adapter:?}: {problem}")]
    Gpu {
        /// Its name.
        adapter: String,
        /// What happened.
        problem: GpuProblem,
    },
    /// A program on the GPU met an index that it has nothing for. Noticed when the host next read from the device.
    #[error("index {index} is out of range for size {size} (found when a result was read from the GPU)")]
    Index {
        /// The index.
        index: i32,
        /// How many there are.
        size: u32,
    },
    /// Something that only a GPU can do was asked of another device.
    #[error("this needs a GPU, and the device is {device}; open one with Device::gpu() or --device gpu")]
    NotGpu {
        /// The device's name.
        device: String,
    },
    /// A part of a file was to be used as it lies, on a GPU.
    #[error("a GPU cannot read a mapped file: take memory and write the file's bytes into it")]
    NotMappable,
    /// A recording ended before it was stopped, and nothing can be planned from what it has.
    #[error(
        "the recording ended after {event_count} events and {layout_count} layouts: it had no room for more within its {} \
         or the memory limit; raise the limit, or record fewer steps",
        bytes(*max_bytes)
    )]
    RecordingEnded {
        /// Layouts that it has.
        layout_count: usize,
        /// Events until then.
        event_count: u64,
        /// The most bytes that it may take.
        max_bytes: u64,
    },
    /// The steps of a recording do not fit it.
    #[error(
        "no arena can be planned: a step lasts from one moment without activations to the next, and the steps here take \
         more than the {} that a recording has for them; let go of tensors between steps, or use a plan",
        bytes(*max_bytes)
    )]
    StepsTooLong {
        /// The most bytes that they may take.
        max_bytes: u64,
    },
    /// An arena was asked of a GPU.
    #[error(
        "a GPU has no arenas: a piece of a buffer cannot be written while another piece is read; reserve whole buffers"
    )]
    NoArena,
    /// The device that a tensor buffer belongs to is gone.
    #[error("the device of this tensor buffer no longer exists")]
    DeviceGone,
    /// A tensor buffer was given to a device that it was not made for.
    #[error("this tensor buffer belongs to another device; make one with TensorBuffer::new(&device) for this one")]
    OtherDevice,
}

impl Error {
    /// The reservation that would have served the request, of an error that sealing caused.
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

/// What can go wrong with a GPU.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GpuProblem {
    /// It lacks what every program needs.
    #[error("it lacks {missing}; use another device, or the CPU")]
    Lacks {
        /// What.
        missing: &'static str,
    },
    /// The device is out of memory.
    #[error("it is out of memory; use a smaller model or context, or the CPU")]
    OutOfMemory,
    /// A buffer beyond the device's limit.
    #[error("a buffer of {} is more than its limit of {}; use smaller sizes, or the CPU", bytes(*bytes_asked), bytes(*max_bytes))]
    BufferTooLarge {
        /// Bytes asked for.
        bytes_asked: u64,
        /// The most that it allows.
        max_bytes: u64,
    },
    /// A tensor beyond what a program may see at once.
    #[error(
        "a program would have to see {} at once, and its limit is {}; use smaller sizes, or the CPU",
        bytes(*bytes_asked), bytes(*max_bytes)
    )]
    BindingTooLarge {
        /// Bytes to be seen.
        bytes_asked: u64,
        /// The most that it allows.
        max_bytes: u64,
    },
    /// The device is gone: taken out, reset by the system, its driver crashed.
    #[error("it was lost: {message}; start again, and if it happens again update the driver or use the CPU")]
    Lost {
        /// What the driver says.
        message: String,
    },
    /// The device has not done in time what it was given.
    #[error("it has not answered for {seconds} s, and counts as hung; use smaller sizes, another device, or the CPU")]
    Hung {
        /// How long it was waited for.
        seconds: u64,
    },
    /// A program that the driver does not take.
    #[error("its driver does not take the program `{name}`: {message}")]
    Program {
        /// The program.
        name: &'static str,
        /// What the driver says.
        message: String,
    },
    /// The driver refused something.
    #[error("its driver refused: {message}")]
    Refused {
        /// What it says.
        message: String,
    },
    /// Memory that is not on this device.
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

fn available(n: Option<u64>) -> String {
    n.map_or_else(|| "an unknown amount".to_owned(), bytes)
}
