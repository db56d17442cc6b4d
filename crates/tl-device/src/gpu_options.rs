//! GPU choice, description and statistics. Plain data, the same in builds without GPU support.

use std::path::PathBuf;
use std::time::Duration;

/// The choice of a GPU.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum GpuChoice {
    /// The best: a discrete GPU before an integrated one, and either before a software device.
    #[default]
    Best,
    /// The best, but no software device.
    BestHardware,
    /// The GPU with this index in [`Device::gpus`](crate::Device::gpus).
    Index(usize),
    /// The first whose name contains this text; case is ignored.
    Name(String),
}

/// Options of opening a GPU.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct GpuOptions {
    /// The choice of the GPU.
    pub choice: GpuChoice,
    /// A folder that keeps compiled programs for the next start, where the backend can; `None`: they are not kept.
    pub pipeline_cache: Option<PathBuf>,
    /// Maximum time for submitted work before the device counts as hung. Default one minute.
    pub timeout: Duration,
    /// Whether the device's `float16` arithmetic may be used. Default true; without it, values are unpacked from words.
    pub use_f16: bool,
    /// Whether subgroup operations may be used. Default true.
    pub use_subgroups: bool,
    /// Whether matrix instructions may be used. Default true.
    pub use_matrix: bool,
    /// A binding limit below the device's own, in bytes: for tests.
    pub max_binding_bytes: Option<u64>,
    /// Whether to load the driver's validation layers, if installed. They are slow. Default false.
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

/// The kind of a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum GpuKind {
    /// A processor with memory of its own.
    Discrete,
    /// A processor that shares the CPU's memory.
    Integrated,
    /// A virtual machine's share of a processor.
    Virtual,
    /// Something else.
    Other,
    /// A software implementation on the CPU.
    Software,
}

impl GpuKind {
    /// The name of the kind.
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
    /// Its index in the list, the best first.
    pub index: usize,
    /// The driver's name for it.
    pub name: String,
    /// `vulkan`, `metal` or `dx12`.
    pub backend: &'static str,
    /// The driver and its version.
    pub driver: String,
    /// Its kind.
    pub kind: GpuKind,
    /// Bytes of memory on the device, where the backend reports it.
    pub memory_bytes: Option<u64>,
    /// Whether `float16` is a native type.
    pub has_f16: bool,
    /// Smallest and largest size of a subgroup; `None`: none.
    pub subgroup: Option<(u32, u32)>,
    /// Shapes of matrix product instructions, as `16×16×16 float16 → float32`.
    pub matrix_shapes: Vec<String>,
    /// The largest buffer in bytes.
    pub max_buffer_bytes: u64,
    /// Maximum bytes visible through one binding.
    pub max_binding_bytes: u64,
    /// Bytes of workgroup memory.
    pub workgroup_bytes: u32,
    /// Maximum invocations of a workgroup.
    pub max_workgroup_size: u32,
    /// The missing feature that makes the device unusable; `None`: usable.
    pub missing: Option<&'static str>,
}

/// Counters of a GPU since it was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GpuStats {
    /// Buffers made.
    pub buffers_created: u64,
    /// Bind groups made: what ties buffers to a program.
    pub bind_groups_created: u64,
    /// Pipelines made: programs compiled.
    pub pipelines_created: u64,
    /// Batches of commands submitted to the driver.
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
    /// Bytes of the host's staging buffers, reserved when the device was opened.
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
