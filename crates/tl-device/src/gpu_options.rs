//! How to choose a GPU, what it says of itself, and what was done on it. Plain data, the same where the crate is built
//! without GPUs.

use std::path::PathBuf;
use std::time::Duration;

/// Which GPU.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum GpuChoice {
    /// The best: a processor of its own before one that shares the CPU's memory, and either before a software device.
    #[default]
    Best,
    /// The best, but no software device.
    BestHardware,
    /// The one with this number in [`Device::gpus`](crate::Device::gpus).
    Index(usize),
    /// The first whose name contains this text, upper or lower case.
    Name(String),
}

/// How to open a GPU.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct GpuOptions {
    /// Which one.
    pub choice: GpuChoice,
    /// A folder in which compiled programs are kept for the next start, where the backend can; `None`: they are not kept.
    pub pipeline_cache: Option<PathBuf>,
    /// How long the device may take for what it was given before it counts as hung. Default one minute.
    pub timeout: Duration,
    /// Whether `float16` arithmetic of the device may be used. Default true; without it, values are unpacked from words.
    pub use_f16: bool,
    /// Whether subgroup operations may be used. Default true.
    pub use_subgroups: bool,
    /// Whether matrix instructions may be used. Default true.
    pub use_matrix: bool,
    /// The most bytes that one binding may show, where less than the device's own limit: for tests.
    pub max_binding_bytes: Option<u64>,
    /// Whether the driver's validation layers are loaded, where they are installed. They are slow. Default false.
    pub validation: bool,
}

impl Default for GpuOptions {
    fn default() -> Self {
        GpuOptions {
            choice: GpuChoice::Best,
            pipeline_cache: None,
            timeout: Duration::from_secs(60),
            use_f16: true,
            use_subgroups: true,
            use_matrix: true,
            max_binding_bytes: None,
            validation: false,
        }
    }
}

/// What kind of device it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum GpuKind {
    /// A processor with memory of its own.
    Discrete,
    /// A processor that shares the CPU's memory.
    Integrated,
    /// A part of a processor that a virtual machine was given.
    Virtual,
    /// Something else.
    Other,
    /// A program on the CPU that behaves like a GPU.
    Software,
}

impl GpuKind {
    /// The kind in words.
    pub fn name(self) -> &'static str {
        match self {
            GpuKind::Discrete => "discrete",
            GpuKind::Integrated => "integrated",
            GpuKind::Virtual => "virtual",
            GpuKind::Other => "other",
            GpuKind::Software => "software",
        }
    }
}

/// A GPU of this machine.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct GpuInfo {
    /// Its number in the list, the best first.
    pub index: usize,
    /// The name that the driver gives.
    pub name: String,
    /// `vulkan`, `metal` or `dx12`.
    pub backend: &'static str,
    /// The driver and its version.
    pub driver: String,
    /// What it is.
    pub kind: GpuKind,
    /// Bytes of memory on the device, where the backend tells.
    pub memory_bytes: Option<u64>,
    /// Whether `float16` is a native type.
    pub has_f16: bool,
    /// Smallest and largest size of a subgroup; `None`: none.
    pub subgroup: Option<(u32, u32)>,
    /// Shapes of matrix products that have an instruction, as `16×16×16 float16 → float32`.
    pub matrix_shapes: Vec<String>,
    /// The largest buffer in bytes.
    pub max_buffer_bytes: u64,
    /// The most bytes that a program sees through one binding.
    pub max_binding_bytes: u64,
    /// Bytes of memory that a workgroup shares.
    pub workgroup_bytes: u32,
    /// The most invocations of a workgroup.
    pub max_workgroup_size: u32,
    /// What the device lacks to be used at all; `None`: nothing.
    pub missing: Option<&'static str>,
}

/// What was made and done on a GPU since it was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GpuStats {
    /// Buffers made.
    pub buffers_created: u64,
    /// Bind groups made: what ties buffers to a program.
    pub bind_groups_created: u64,
    /// Pipelines made: programs compiled.
    pub pipelines_created: u64,
    /// Batches of commands given to the driver.
    pub submissions: u64,
    /// Programs run.
    pub dispatches: u64,
    /// Writes from the host to the device.
    pub uploads: u64,
    /// Their bytes.
    pub upload_bytes: u64,
    /// Reads from the device to the host. The host waits for each.
    pub readbacks: u64,
    /// Their bytes.
    pub readback_bytes: u64,
    /// Bytes of the host's buffers that data goes through, reserved when the device was opened.
    pub staging_bytes: u64,
    /// Operations that ran on the CPU because they have no program for the GPU.
    pub host_fallbacks: u64,
    /// Buffers that the driver holds now.
    pub driver_buffers: u64,
    /// Bind groups that the driver holds now.
    pub driver_bind_groups: u64,
    /// Pipelines that the driver holds now.
    pub driver_pipelines: u64,
}
