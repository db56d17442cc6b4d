//! Options of a device: threads, instructions, memory limits, simulation.

use std::fmt;
use std::sync::Arc;

use tl_kernels::Isa;

use crate::gpu_options::GpuOptions;
use crate::launch::Launch;
use crate::shader_target::ShaderTarget;

/// Memory limits and policies of a device.
///
/// ```
/// use tl_device::{Device, DeviceOptions, Error, Layout, Role};
/// let mut options = DeviceOptions::default();
/// options.memory.limit_bytes = Some(4096);
/// let device = Device::cpu_with(&options);
/// let refused = device.take(&Layout::from(vec![8, 512]), Role::Activation).err();
/// assert!(matches!(refused, Some(Error::Limit { requested_bytes: 8192, .. })));
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct MemoryOptions {
    /// Maximum idle bytes of the pool. 0 disables pooling. Default 512 MiB.
    pub pool_max_bytes: usize,
    /// Maximum idle buffers per size class. Default 10.
    pub max_buffers_per_size: usize,
    /// Maximum bytes of the device, weights in mapped files included; `None`: no limit but the system's.
    pub limit_bytes: Option<usize>,
    /// Above this many bytes the pool is emptied before each allocation; `None`: never.
    pub soft_limit_bytes: Option<usize>,
    /// Maximum bytes of a recording ([`Device::start_trace`](crate::Device::start_trace)); beyond it the recording
    /// becomes coarser. Default 64 MiB.
    pub recording_max_bytes: usize,
    /// Makes the allocation with this number, counted from 1, fail, including its repetition after a trim; later ones
    /// succeed. For tests.
    #[doc(hidden)]
    pub fail_allocation: Option<u64>,
    /// Fill memory with not-a-number when it is handed out and when it comes back, to reveal kernels that read
    /// unwritten memory. Default off.
    pub nan_fill: bool,
}

impl Default for MemoryOptions {
    fn default() -> Self {
        MemoryOptions {
            pool_max_bytes: 512 << 20,
            max_buffers_per_size: 10,
            limit_bytes: None,
            soft_limit_bytes: None,
            recording_max_bytes: 64 << 20,
            fail_allocation: None,
            nan_fill: false,
        }
    }
}

impl MemoryOptions {
    /// Options without pooling: every request that no reservation serves is an allocation.
    ///
    /// ```
    /// use tl_device::{Device, DeviceOptions, Layout, MemoryOptions, Role};
    /// let mut options = DeviceOptions::default();
    /// options.memory = MemoryOptions::unpooled();
    /// let device = Device::cpu_with(&options);
    /// drop(device.take(&Layout::from(vec![8]), Role::Activation)?);
    /// assert_eq!(device.stats().driver_bytes, 0);
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    pub fn unpooled() -> Self {
        MemoryOptions { pool_max_bytes: 0, ..Self::default() }
    }
}

/// Options of a device.
///
/// ```
/// use tl_device::{Device, DeviceOptions};
/// let mut options = DeviceOptions::default();
/// options.threads = 2;
/// options.memory.pool_max_bytes = 64 << 20;
/// let device = Device::cpu_with(&options);
/// assert_eq!(device.stats().pool_cap_bytes, 64 << 20);
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DeviceOptions {
    /// Number of compute threads. Default: one for each core available to the process.
    pub threads: usize,
    /// The instruction set; `None`: the best that the CPU has.
    pub isa: Option<Isa>,
    /// The memory options.
    pub memory: MemoryOptions,
    /// Makes a device without memory, for planning and for tests.
    pub simulation: Option<Simulation>,
    /// The GPU's choice and options. Ignored by a CPU device.
    pub gpu: GpuOptions,
}

/// A simulated device: its buffers have no bytes, and operations on it compute nothing.
///
/// ```
/// use tl_device::{Device, Layout, Role, Simulation};
/// let mut simulation = Simulation::default();
/// simulation.is_delayed = true;
/// let device = Device::simulated(simulation);
/// drop(device.take(&Layout::from(vec![8, 512]), Role::Activation)?);
/// assert_eq!(device.returning_count(), 1);
/// # Ok::<(), tl_device::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Simulation {
    /// Whether a returned buffer waits until [`Device::complete`](crate::Device::complete) marks the work that reads it
    /// as done, as on a GPU.
    #[doc(hidden)]
    pub is_delayed: bool,
    /// Whether operations take the memory that they would take on a GPU.
    pub is_gpu: bool,
    /// Features of a simulated GPU; `None`: those that every GPU has.
    pub target: Option<ShaderTarget>,
    /// Called with every launch on a simulated GPU: for tests of the programs.
    pub on_launch: Option<LaunchListener>,
}

/// Work of operations, by the sizes of their operands: see
/// [`Device::count_work`](crate::Device::count_work).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Work {
    /// Bytes of weights read.
    pub weight_bytes: u64,
    /// Bytes of keys and values read.
    pub cache_bytes: u64,
    /// Multiplications and additions of matrix products.
    pub operations: f64,
}

impl std::ops::AddAssign for Work {
    fn add_assign(&mut self, other: Work) {
        self.weight_bytes = self.weight_bytes.saturating_add(other.weight_bytes);
        self.cache_bytes = self.cache_bytes.saturating_add(other.cache_bytes);
        self.operations += other.operations;
    }
}

impl Simulation {
    pub(crate) fn target(&self) -> ShaderTarget {
        self.target.clone().unwrap_or_default()
    }
}

/// A listener for every launch of a simulated GPU.
#[derive(Clone)]
pub struct LaunchListener(pub(crate) Arc<dyn Fn(&Launch) + Send + Sync>);

impl LaunchListener {
    /// A listener that calls this function.
    ///
    /// ```
    /// use tl_device::{Device, LaunchListener, Simulation};
    /// let mut simulation = Simulation::default();
    /// simulation.is_gpu = true;
    /// simulation.on_launch = Some(LaunchListener::new(|launch| println!("{}", launch.name)));
    /// assert!(Device::simulated(simulation).is_gpu());
    /// ```
    pub fn new(listener: impl Fn(&Launch) + Send + Sync + 'static) -> LaunchListener {
        LaunchListener(Arc::new(listener))
    }
}

impl fmt::Debug for LaunchListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LaunchListener")
    }
}

/// Called with the number of missing bytes before a request fails for lack of memory. It may free memory.
pub(crate) type OutOfMemoryHook = dyn Fn(usize) + Send + Sync;

/// Called with the name of an operation when it first runs on the CPU for lack of a GPU program.
pub(crate) type FallbackListener = dyn Fn(&'static str) + Send + Sync;

impl Default for DeviceOptions {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        DeviceOptions {
            threads,
            isa: None,
            memory: MemoryOptions::default(),
            simulation: None,
            gpu: GpuOptions::default(),
        }
    }
}
