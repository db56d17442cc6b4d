//! `Device`: memory and the threads that compute on it. Made once, at the top, and passed down.

use std::fmt;
use std::sync::Arc;

use tl_kernels::{Isa, Threads};

#[cfg(feature = "gpu")]
use crate::GpuChoice;
use crate::memory::{Memory, Purpose};
use crate::stats::{BufferPoolStats, MemoryStats, TensorBufferStats};
use crate::tensor_buffer::TensorBuffer;
use crate::trace::Trace;
use crate::{Error, GpuInfo, GpuOptions, GpuStats, Launch, Layout, Lease, Mapping, ShaderTarget};

/// Limits and habits of a device's memory.
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
    /// The most bytes that the pool may hold idle. 0 switches pooling off. Default 512 MiB.
    pub pool_max_bytes: usize,
    /// The most idle buffers of one size class. Default 10.
    pub max_buffers_per_size: usize,
    /// The most bytes that the device may hold, weights in mapped files included; `None`: what the system gives.
    pub limit_bytes: Option<usize>,
    /// Beyond this many bytes the pool is emptied before anything is allocated; `None`: never.
    pub soft_limit_bytes: Option<usize>,
    /// Makes the allocation with this number, counted from 1, fail, also when it is repeated after a trim; the ones that come
    /// later succeed. For tests.
    pub fail_allocation: Option<u64>,
    /// Fill memory with not-a-number when it is handed out and when it comes back, so that a kernel that reads what
    /// nobody wrote is seen. Default off.
    pub nan_fill: bool,
}

impl Default for MemoryOptions {
    fn default() -> Self {
        MemoryOptions {
            pool_max_bytes: 512 << 20,
            max_buffers_per_size: 10,
            limit_bytes: None,
            soft_limit_bytes: None,
            fail_allocation: None,
            nan_fill: false,
        }
    }
}

impl MemoryOptions {
    /// No pooling: every request that no reservation serves is an allocation.
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

/// How to make a device.
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
    /// Threads to compute with. Default: one for each core that the process may use.
    pub threads: usize,
    /// The instructions to compute with; `None`: the best that the CPU has.
    pub isa: Option<Isa>,
    /// Limits of the memory.
    pub memory: MemoryOptions,
    /// Makes a device without memory, for planning and for tests.
    pub simulation: Option<Simulation>,
    /// How a GPU is chosen and opened. Of no meaning to a CPU device.
    pub gpu: GpuOptions,
}

/// A device that only counts: its buffers have no bytes, and operations on it compute nothing.
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
    /// Whether a buffer that comes back waits until [`Device::complete`] says that the work that reads it is done, as on a
    /// GPU.
    pub is_delayed: bool,
    /// Whether operations take the memory that they would take on a GPU.
    pub is_gpu: bool,
    /// What programs of a simulated GPU may use; `None`: what every GPU can.
    pub target: Option<ShaderTarget>,
    /// Called with every launch on a simulated GPU: for tests that look at the programs.
    pub on_launch: Option<LaunchListener>,
}

impl Simulation {
    pub(crate) fn target(&self) -> ShaderTarget {
        self.target.clone().unwrap_or_default()
    }
}

/// Is shown every launch of a simulated GPU.
#[derive(Clone)]
pub struct LaunchListener(Arc<dyn Fn(&Launch) + Send + Sync>);

impl LaunchListener {
    /// A listener that does this.
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

/// Called with the bytes that are missing, before a request fails for want of memory. It may free what it can.
pub(crate) type OutOfMemoryHook = dyn Fn(usize) + Send + Sync;

/// Called with the name of an operation when it first runs on the CPU for want of a program.
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

/// A place where tensors live and are computed on. Cloning gives another handle on the same device.
///
/// ```
/// use tl_device::{Device, Layout, Role};
/// let device = Device::cpu();
/// let memory = device.take(&Layout::from(vec![8, 512]), Role::Activation)?;
/// assert_eq!(memory.bytes().len(), 8 * 512 * 2);
/// drop(memory);
/// assert_eq!(device.buffer_pool().stats().total_pooled, 1);
/// # Ok::<(), tl_device::Error>(())
/// ```
#[derive(Clone)]
pub struct Device {
    memory: Arc<Memory>,
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device").field("name", &self.name()).field("threads", &self.threads().count()).finish()
    }
}

impl Device {
    /// A CPU device of its own, with its own memory and threads.
    ///
    /// ```
    /// use tl_device::Device;
    /// let device = Device::cpu();
    /// assert_eq!((device.name(), device.stats().driver_bytes), ("cpu", 0));
    /// ```
    pub fn cpu() -> Device {
        Device::cpu_with(&DeviceOptions::default())
    }

    /// A CPU device with these options.
    ///
    /// ```
    /// use tl_device::{Device, DeviceOptions};
    /// let mut options = DeviceOptions::default();
    /// options.threads = 1;
    /// let device = Device::cpu_with(&options);
    /// assert_eq!(device.threads().count(), 1);
    /// ```
    pub fn cpu_with(options: &DeviceOptions) -> Device {
        Device { memory: Arc::new(Memory::new(options)) }
    }

    /// The best GPU of this machine, a software device where there is no other.
    ///
    /// ```no_run
    /// use tl_device::Device;
    /// let device = Device::gpu()?;
    /// println!("{}", device.gpu_info().unwrap().name);
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NoGpu`] where there is none, [`Error::Gpu`] where it cannot be opened.
    #[cfg(feature = "gpu")]
    pub fn gpu() -> Result<Device, Error> {
        Device::gpu_with(&DeviceOptions::default())
    }

    /// The GPU that the options choose. Its memory is that of [`DeviceOptions::memory`]; the threads serve the operations that
    /// have no program for the GPU.
    ///
    /// ```
    /// use tl_device::{Device, DeviceOptions, Error, GpuChoice};
    /// let mut options = DeviceOptions::default();
    /// options.gpu.choice = GpuChoice::Name("no such device".to_owned());
    /// assert!(matches!(Device::gpu_with(&options), Err(Error::NoGpu { .. })));
    /// ```
    ///
    /// # Errors
    /// As for [`Device::gpu`].
    #[cfg(feature = "gpu")]
    pub fn gpu_with(options: &DeviceOptions) -> Result<Device, Error> {
        Ok(Device { memory: Arc::new(Memory::on_gpu(options)?) })
    }

    /// All GPUs of this machine, the best first, with what they can.
    ///
    /// ```
    /// use tl_device::Device;
    /// for gpu in Device::gpus() {
    ///     println!("{}: {} ({}, {})", gpu.index, gpu.name, gpu.backend, gpu.kind.name());
    /// }
    /// ```
    #[cfg(feature = "gpu")]
    pub fn gpus() -> Vec<GpuInfo> {
        crate::gpu::list()
    }

    /// What the GPU says of itself; `None` for another device.
    ///
    /// ```
    /// use tl_device::Device;
    /// assert!(Device::cpu().gpu_info().is_none());
    /// ```
    pub fn gpu_info(&self) -> Option<&GpuInfo> {
        #[cfg(feature = "gpu")]
        return self.memory.gpu().map(|gpu| gpu.info());
        #[cfg(not(feature = "gpu"))]
        return None;
    }

    /// What was made and done on the GPU; `None` for another device.
    ///
    /// ```
    /// use tl_device::Device;
    /// assert!(Device::cpu().gpu_stats().is_none());
    /// ```
    pub fn gpu_stats(&self) -> Option<GpuStats> {
        #[cfg(feature = "gpu")]
        return self.memory.gpu().map(|gpu| {
            let host_fallbacks = self.memory.host_fallback_count();
            GpuStats { host_fallbacks, ..gpu.stats() }
        });
        #[cfg(not(feature = "gpu"))]
        return None;
    }

    /// Whether operations run on a GPU, or are planned as if they did (see [`Simulation::is_gpu`]).
    ///
    /// ```
    /// use tl_device::Device;
    /// assert!(!Device::cpu().is_gpu());
    /// ```
    pub fn is_gpu(&self) -> bool {
        self.memory.is_gpu()
    }

    /// What programs for this GPU may use; `None` for another device.
    ///
    /// ```
    /// use tl_device::Device;
    /// assert!(Device::cpu().shader_target().is_none());
    /// ```
    pub fn shader_target(&self) -> Option<&ShaderTarget> {
        #[cfg(feature = "gpu")]
        if let Some(gpu) = self.memory.gpu() {
            return Some(gpu.target());
        }
        self.memory.simulated_target()
    }

    /// Records the run of a program on the GPU, behind everything that was recorded before. Waits for nothing.
    ///
    /// ```
    /// use tl_device::{Binding, Device, Error, Launch, Layout, Role};
    /// let device = Device::cpu();
    /// let source = |_: &_| "@compute @workgroup_size(1) fn main() {}".to_owned();
    /// let (name, variant, reads, writes) = ("nothing", 0, &[][..], &[][..]);
    /// let launch =
    ///     Launch { name, variant, source: &source, reads, writes, reports_faults: false, immediates: &[], groups: 1 };
    /// assert!(matches!(device.launch(&launch), Err(Error::NotGpu { .. })));
    /// ```
    ///
    /// # Errors
    /// [`Error::NotGpu`] for another device, [`Error::Gpu`] where the program is not taken or the device has failed.
    pub fn launch(&self, launch: &Launch) -> Result<(), Error> {
        #[cfg(feature = "gpu")]
        if let Some(gpu) = self.memory.gpu() {
            return gpu.launch(launch);
        }
        if self.is_simulated() && self.is_gpu() {
            if let Some(LaunchListener(listener)) = self.memory.launch_listener() {
                listener(launch);
            }
            return Ok(());
        }
        Err(Error::NotGpu { device: self.name().to_owned() })
    }

    /// Whether the GPU's matrix instructions may be used. They are an experimental part of the drivers, so that `check` tries
    /// them first, once for each device: on two further devices on the same GPU, with their own memory, of which only the
    /// first has them. A simulated GPU is trusted.
    ///
    /// ```
    /// use tl_device::Device;
    /// assert!(!Device::cpu().trusts_matrices(|_with, _without| true));
    /// ```
    pub fn trusts_matrices(&self, check: impl FnOnce(&Device, &Device) -> bool) -> bool {
        if self.is_simulated() {
            return self.is_gpu();
        }
        *self.memory.matrix_trust.get_or_init(|| match (self.sibling(true), self.sibling(false)) {
            (Ok(with), Ok(without)) => with.memory.matrix_trust.set(true).is_ok() && check(&with, &without),
            _ => false,
        })
    }

    /// Another device on the same GPU, with memory of its own.
    fn sibling(&self, use_matrix: bool) -> Result<Device, Error> {
        #[cfg(feature = "gpu")]
        if let Some(gpu) = self.memory.gpu() {
            let mut options = DeviceOptions::default();
            options.gpu.choice = GpuChoice::Index(gpu.info().index);
            options.gpu.use_matrix = use_matrix;
            return Device::gpu_with(&options);
        }
        let _ = use_matrix;
        Err(Error::NotGpu { device: self.name().to_owned() })
    }

    /// Bytes that can still be had: what the machine says, or what a GPU has beyond what this device holds; `None` where
    /// nobody says.
    ///
    /// ```
    /// use tl_device::{Device, available_bytes};
    /// assert_eq!(Device::cpu().available_bytes().is_some(), available_bytes().is_some());
    /// ```
    pub fn available_bytes(&self) -> Option<u64> {
        self.memory.available_bytes()
    }

    /// Waits until the device has done everything that it was given. A CPU device has always done it.
    ///
    /// ```
    /// use tl_device::Device;
    /// assert!(Device::cpu().synchronize().is_ok());
    /// ```
    ///
    /// # Errors
    /// [`Error::Gpu`] where the device has failed.
    pub fn synchronize(&self) -> Result<(), Error> {
        #[cfg(feature = "gpu")]
        if let Some(gpu) = self.memory.gpu() {
            return gpu.synchronize();
        }
        Ok(())
    }

    /// Counts an operation that ran on the CPU because it has no program for this GPU. Whether it is the first of its name,
    /// so that the user can be told once.
    ///
    /// ```
    /// use tl_device::Device;
    /// let device = Device::cpu();
    /// assert!(device.count_host_fallback("einsum"));
    /// assert!(!device.count_host_fallback("einsum"));
    /// ```
    pub fn count_host_fallback(&self, op: &'static str) -> bool {
        let is_new = self.memory.count_host_fallback(op);
        if is_new && let Some(listener) = &*self.memory.fallback_listener.lock() {
            listener(op);
        }
        is_new
    }

    /// Sets what is called with the name of an operation when it first runs on the CPU for want of a program for the GPU.
    ///
    /// ```
    /// use tl_device::Device;
    /// let device = Device::cpu();
    /// device.on_host_fallback(|op| eprintln!("{op} runs on the CPU"));
    /// ```
    pub fn on_host_fallback(&self, listener: impl Fn(&'static str) + Send + Sync + 'static) {
        *self.memory.fallback_listener.lock() = Some(Box::new(listener));
    }

    pub(crate) fn from_memory(memory: Arc<Memory>) -> Device {
        Device { memory }
    }

    /// A device that only counts: see [`Simulation`].
    ///
    /// ```
    /// # use tl_device::{Device, Layout, Role, Simulation};
    /// let device = Device::simulated(Simulation::default());
    /// let _cache = device.take(&Layout::from(vec![4096, 32, 128]), Role::Cache)?;
    /// assert_eq!(device.stats().cache_bytes, 32 << 20); // and no memory was used for it
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    pub fn simulated(simulation: Simulation) -> Device {
        Device::cpu_with(&DeviceOptions { simulation: Some(simulation), ..DeviceOptions::default() })
    }

    /// The name that users see.
    ///
    /// ```
    /// use tl_device::{Device, Simulation};
    /// assert_eq!(Device::cpu().name(), "cpu");
    /// assert_eq!(Device::simulated(Simulation::default()).name(), "simulated");
    /// ```
    pub fn name(&self) -> &'static str {
        match (self.is_simulated(), self.is_gpu()) {
            (true, _) => "simulated",
            (false, true) => "gpu",
            (false, false) => "cpu",
        }
    }

    /// Whether the device only counts, and operations on it compute nothing.
    ///
    /// ```
    /// use tl_device::{Device, Simulation};
    /// assert!(!Device::cpu().is_simulated());
    /// assert!(Device::simulated(Simulation::default()).is_simulated());
    /// ```
    pub fn is_simulated(&self) -> bool {
        self.memory.is_simulated()
    }

    /// How many buffers of a simulated device came back and wait for [`Device::complete`].
    ///
    /// ```
    /// use tl_device::{Device, Layout, Role, Simulation};
    /// let mut simulation = Simulation::default();
    /// simulation.is_delayed = true;
    /// let device = Device::simulated(simulation);
    /// drop(device.take(&Layout::from(vec![8]), Role::Activation)?);
    /// assert_eq!((device.returning_count(), device.stats().pooled_bytes), (1, 0));
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    pub fn returning_count(&self) -> usize {
        self.memory.lock().returning()
    }

    /// Says that the work that the `index`-th waiting buffer waits for is done; `false` where there is no such buffer.
    ///
    /// ```
    /// use tl_device::{Device, Layout, Role, Simulation};
    /// let mut simulation = Simulation::default();
    /// simulation.is_delayed = true;
    /// let device = Device::simulated(simulation);
    /// drop(device.take(&Layout::from(vec![8]), Role::Activation)?);
    /// assert!(device.complete(0));
    /// assert_eq!((device.returning_count(), device.buffer_pool().stats().total_pooled), (0, 1));
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    pub fn complete(&self, index: usize) -> bool {
        self.memory.complete(index)
    }

    /// Whether both handles mean the same device.
    ///
    /// ```
    /// use tl_device::Device;
    /// let device = Device::cpu();
    /// assert!(device.is_same(&device.clone()));
    /// assert!(!device.is_same(&Device::cpu()));
    /// ```
    pub fn is_same(&self, other: &Device) -> bool {
        Arc::ptr_eq(&self.memory, &other.memory)
    }

    /// The threads that compute.
    ///
    /// ```
    /// use tl_device::{Device, DeviceOptions};
    /// let mut options = DeviceOptions::default();
    /// options.threads = 2;
    /// assert_eq!(Device::cpu_with(&options).threads().count(), 2);
    /// ```
    pub fn threads(&self) -> &Threads {
        self.memory.threads()
    }

    pub(crate) fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// Memory for a tensor: from the tensor buffer, else the pool (never for parameters), else the system. Its contents
    /// are left over from an earlier use.
    ///
    /// ```
    /// use tl_device::{Device, Layout, Purpose, Role};
    /// let device = Device::cpu();
    /// let purpose = Purpose { role: Role::Activation, op: "matmul" };
    /// let mut memory = device.take(&Layout::from(vec![8, 512]), purpose)?;
    /// memory.bytes_mut().fill(0);
    /// assert_eq!(memory.bytes(), [0; 8192]);
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] after the pool was emptied and the request repeated; [`Error::TooLarge`] and
    /// [`Error::PartialBlock`] for impossible layouts.
    pub fn take(&self, layout: &Layout, purpose: impl Into<Purpose>) -> Result<Lease, Error> {
        self.memory.take(self, layout, purpose.into())
    }

    /// A part of a mapped file as read-only memory. It is counted in [`MemoryStats::mapped_bytes`] and against the limit.
    ///
    /// ```
    /// use tl_device::{Device, Mapping};
    /// let device = Device::cpu();
    /// let file = Mapping::open("Cargo.toml")?;
    /// let memory = device.adopt(&file, 1, 7)?;
    /// assert_eq!(memory.bytes(), b"package");
    /// assert_eq!(device.stats().mapped_bytes, 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::OutsideFile`] where it reaches beyond the file's end, [`Error::Limit`].
    pub fn adopt(&self, mapping: &Mapping, offset: usize, len: usize) -> Result<Lease, Error> {
        let file_bytes = mapping.bytes().len();
        let block = mapping.block(offset, len).ok_or(Error::OutsideFile { offset, len, file_bytes })?;
        self.memory.adopt_mapped(self, block)
    }

    /// From here on, operations on this device take from `buffer`. The former one is let go.
    ///
    /// ```
    /// use tl_device::{Device, Layout, Role, TensorBuffer};
    /// let device = Device::cpu();
    /// let buffer = TensorBuffer::new(&device);
    /// buffer.reserve(vec![8, 512], 1)?;
    /// device.set_tensor_buffer(buffer.clone());
    /// let _memory = device.take(&Layout::from(vec![8, 512]), Role::Activation)?;
    /// assert_eq!(buffer.stats().in_use_count, 1);
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    ///
    /// # Panics
    /// Where the buffer was made for another device; [`Device::replace_tensor_buffer`] gives an error instead.
    pub fn set_tensor_buffer(&self, buffer: TensorBuffer) {
        if let Err(error) = self.replace_tensor_buffer(Some(buffer)) {
            panic!("set_tensor_buffer: {error}");
        }
    }

    /// Sets or (with `None`) unsets the tensor buffer and gives back the one that was set.
    ///
    /// ```
    /// use tl_device::{Device, Error, TensorBuffer};
    /// let device = Device::cpu();
    /// assert!(device.replace_tensor_buffer(Some(TensorBuffer::new(&device)))?.is_none());
    /// assert!(device.replace_tensor_buffer(None)?.is_some());
    /// let foreign = TensorBuffer::new(&Device::cpu());
    /// assert_eq!(device.replace_tensor_buffer(Some(foreign)).err(), Some(Error::OtherDevice));
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::OtherDevice`] where the buffer was made for another device.
    pub fn replace_tensor_buffer(&self, buffer: Option<TensorBuffer>) -> Result<Option<TensorBuffer>, Error> {
        if buffer.as_ref().is_some_and(|buffer| !buffer.belongs_to(self.memory())) {
            return Err(Error::OtherDevice);
        }
        Ok(self.memory.set_current(buffer))
    }

    /// The tensor buffer that operations take from.
    ///
    /// ```
    /// use tl_device::{Device, TensorBuffer};
    /// let device = Device::cpu();
    /// assert!(device.tensor_buffer().is_none());
    /// device.set_tensor_buffer(TensorBuffer::new(&device));
    /// assert!(device.tensor_buffer().is_some());
    /// ```
    pub fn tensor_buffer(&self) -> Option<TensorBuffer> {
        self.memory.lock().current.clone()
    }

    /// The reactive pool.
    ///
    /// ```
    /// use tl_device::{Device, Layout, Role};
    /// let device = Device::cpu();
    /// drop(device.take(&Layout::from(vec![8, 512]), Role::Activation)?);
    /// assert_eq!(device.buffer_pool().stats().total_memory, 8192);
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    pub fn buffer_pool(&self) -> BufferPool<'_> {
        BufferPool { memory: &self.memory }
    }

    /// From here on, a request that would be a new allocation is an error, [`Error::Sealed`], that names the operation, the
    /// layout and the reservation that would have served it.
    ///
    /// ```
    /// # use tl_device::{Device, Layout, Role};
    /// let device = Device::cpu();
    /// device.seal();
    /// let error = device.take(&Layout::from(vec![8, 512]), Role::Activation).err().unwrap();
    /// assert!(error.to_string().ends_with("buffer_reserve([8, 512], 1)"));
    /// ```
    pub fn seal(&self) {
        self.memory.lock().is_sealed = true;
    }

    /// Seals the device as soon as something other than a parameter asks for memory: what was reserved before then must do.
    ///
    /// ```
    /// use tl_device::{Device, Error, Layout, Role, TensorBuffer};
    /// let device = Device::cpu();
    /// device.seal_at_first_use();
    /// let buffer = TensorBuffer::new(&device);
    /// buffer.reserve(vec![8], 1)?;
    /// device.set_tensor_buffer(buffer);
    /// let _first = device.take(&Layout::from(vec![8]), Role::Activation)?;
    /// let second = device.take(&Layout::from(vec![8]), Role::Activation);
    /// assert!(matches!(second, Err(Error::Sealed { .. })));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn seal_at_first_use(&self) {
        self.memory.lock().seals_at_use = true;
    }

    /// Allows allocations again.
    ///
    /// ```
    /// use tl_device::{Device, Layout, Role};
    /// let device = Device::cpu();
    /// let layout = Layout::from(vec![8, 512]);
    /// device.seal();
    /// assert!(device.take(&layout, Role::Activation).is_err());
    /// device.unseal();
    /// assert!(device.take(&layout, Role::Activation).is_ok());
    /// ```
    pub fn unseal(&self) {
        self.memory.lock().is_sealed = false;
    }

    /// Whether new allocations are refused.
    ///
    /// ```
    /// use tl_device::Device;
    /// let device = Device::cpu();
    /// assert!(!device.is_sealed());
    /// device.seal();
    /// assert!(device.is_sealed());
    /// ```
    pub fn is_sealed(&self) -> bool {
        self.memory.lock().is_sealed
    }

    /// Names the place in the program that runs from here on, for traces and errors: any number that the caller can turn
    /// into a place again; 0: none.
    ///
    /// ```
    /// use tl_device::{Device, Error, Layout, Role};
    /// let device = Device::cpu();
    /// device.seal();
    /// device.set_location(17); // a line number, say
    /// let refused = device.take(&Layout::from(vec![8]), Role::Activation).err();
    /// assert!(matches!(refused, Some(Error::Sealed { location: 17, .. })));
    /// ```
    pub fn set_location(&self, location: u64) {
        self.memory.set_location(location);
    }

    /// Begins to record what happens to memory. Traces nest: each records what happens until its own end.
    ///
    /// ```
    /// use tl_device::{Device, Layout, Role};
    /// let device = Device::cpu();
    /// device.start_trace();
    /// drop(device.take(&Layout::from(vec![8]), Role::Activation)?);
    /// assert_eq!(device.stop_trace().events.len(), 2); // taken, returned
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    pub fn start_trace(&self) {
        self.memory.lock().start_trace();
    }

    /// Ends the recording that was begun last and gives what was recorded; nothing where none was begun.
    ///
    /// ```
    /// use tl_device::{Device, Layout, Role};
    /// let device = Device::cpu();
    /// device.start_trace(); // the outer one
    /// device.start_trace();
    /// drop(device.take(&Layout::from(vec![8]), Role::Activation)?);
    /// assert_eq!(device.stop_trace().events.len(), 2); // the inner one
    /// assert_eq!(device.stop_trace().events.len(), 2); // the outer one recorded it too
    /// assert!(device.stop_trace().events.is_empty());
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    pub fn stop_trace(&self) -> Trace {
        self.memory.lock().stop_trace()
    }

    /// Measures from here on: counts and the peak since now. Scopes may nest.
    ///
    /// ```
    /// use tl_device::{Device, Layout, Role};
    /// let device = Device::cpu();
    /// drop(device.take(&Layout::from(vec![8, 512]), Role::Activation)?);
    /// let scope = device.scope();
    /// drop(device.take(&Layout::from(vec![8]), Role::Activation)?);
    /// assert_eq!((device.stats().peak_bytes, scope.stats().peak_bytes), (8192, 16));
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    pub fn scope(&self) -> Scope {
        let (id, start) = self.memory.lock().open_scope();
        Scope { device: self.clone(), id, start }
    }

    /// Sets what is called, with the bytes that are missing, before a request fails for want of memory; the request is
    /// then repeated once. It may drop tensors and clear reservations.
    ///
    /// ```
    /// # use std::sync::Mutex;
    /// # use tl_device::{Device, DeviceOptions, Layout, Lease, Role};
    /// let mut options = DeviceOptions::default();
    /// options.memory.limit_bytes = Some(4096);
    /// let device = Device::cpu_with(&options);
    /// static CACHED: Mutex<Vec<Lease>> = Mutex::new(Vec::new());
    /// CACHED.lock().unwrap().push(device.take(&Layout::from(vec![1500]), Role::Activation)?);
    /// device.on_out_of_memory(|_missing_bytes| {
    ///     let cached = std::mem::take(&mut *CACHED.lock().unwrap());
    ///     let device = cached[0].device().clone();
    ///     drop(cached);
    ///     device.trim();
    /// });
    /// assert!(device.take(&Layout::from(vec![1500]), Role::Activation).is_ok());
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    pub fn on_out_of_memory(&self, hook: impl Fn(usize) + Send + Sync + 'static) {
        self.memory.set_hook(Some(Arc::new(hook)));
    }

    /// Frees everything that is idle in the pool. Reservations stay.
    ///
    /// ```
    /// use tl_device::{Device, Layout, Role};
    /// let device = Device::cpu();
    /// drop(device.take(&Layout::from(vec![8, 512]), Role::Activation)?);
    /// assert_eq!(device.stats().pooled_bytes, 8192);
    /// device.trim();
    /// assert_eq!(device.stats().driver_bytes, 0);
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    pub fn trim(&self) {
        self.memory.trim();
    }

    /// What the device holds.
    ///
    /// ```
    /// use tl_device::{Device, Layout, Role};
    /// let device = Device::cpu();
    /// let _weight = device.take(&Layout::from(vec![64]), Role::Learnable)?;
    /// let _cache = device.take(&Layout::from(vec![32]), Role::Cache)?;
    /// let stats = device.stats();
    /// assert_eq!((stats.live_bytes, stats.learnable_bytes, stats.cache_bytes), (192, 128, 64));
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    pub fn stats(&self) -> MemoryStats {
        self.memory.stats()
    }

    /// What the current tensor buffer holds and did; all zeros where none is set.
    ///
    /// ```
    /// use tl_device::{Device, TensorBuffer};
    /// let device = Device::cpu();
    /// let buffer = TensorBuffer::new(&device);
    /// buffer.reserve(vec![8, 512], 4)?;
    /// assert_eq!(device.tensor_buffer_stats().reserved_count, 0);
    /// device.set_tensor_buffer(buffer);
    /// assert_eq!(device.tensor_buffer_stats().reserved_count, 4);
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    pub fn tensor_buffer_stats(&self) -> TensorBufferStats {
        self.memory.current_reserve_stats()
    }

    /// Lets [`MemoryStats::peak_bytes`] start again from what is live now.
    ///
    /// ```
    /// use tl_device::{Device, Layout, Role};
    /// let device = Device::cpu();
    /// drop(device.take(&Layout::from(vec![1000]), Role::Activation)?);
    /// assert_eq!(device.stats().peak_bytes, 2000);
    /// device.reset_peak();
    /// assert_eq!(device.stats().peak_bytes, 0);
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    pub fn reset_peak(&self) {
        self.memory.reset_peak();
    }
}

/// A stretch of a program, measured: see [`Device::scope`].
///
/// ```
/// use tl_device::{Device, Layout, Role};
/// let device = Device::cpu();
/// let _before = device.take(&Layout::from(vec![1000]), Role::Activation)?;
/// let scope = device.scope();
/// drop(device.take(&Layout::from(vec![32]), Role::Activation)?);
/// assert_eq!(scope.stats().allocation_count, 1);
/// assert_eq!(scope.stats().peak_bytes, 2000 + 64);
/// # Ok::<(), tl_device::Error>(())
/// ```
#[derive(Debug)]
pub struct Scope {
    device: Device,
    id: u64,
    start: MemoryStats,
}

impl Scope {
    /// The device's statistics, the counts and the peak being those since the scope was opened.
    ///
    /// ```
    /// use tl_device::{Device, Layout, Role};
    /// let device = Device::cpu();
    /// drop(device.take(&Layout::from(vec![8]), Role::Activation)?);
    /// let scope = device.scope();
    /// drop(device.take(&Layout::from(vec![8]), Role::Activation)?);
    /// assert_eq!((scope.stats().allocation_count, scope.stats().pool_reuse_count), (0, 1));
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    pub fn stats(&self) -> MemoryStats {
        let state = self.device.memory.lock();
        let (now, start) = (state.stats(), &self.start);
        MemoryStats {
            peak_bytes: state.scope_peak(self.id),
            allocation_count: now.allocation_count - start.allocation_count,
            free_count: now.free_count - start.free_count,
            eviction_count: now.eviction_count - start.eviction_count,
            pool_reuse_count: now.pool_reuse_count - start.pool_reuse_count,
            ..now
        }
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        self.device.memory.lock().close_scope(self.id);
    }
}

/// A device's reactive pool: what no reservation serves is kept here when it comes back, by size class, up to a cap.
///
/// ```
/// use tl_device::{Device, Layout, Role};
/// let device = Device::cpu();
/// for _ in 0..3 {
///     drop(device.take(&Layout::from(vec![8, 512]), Role::Activation)?);
/// }
/// let stats = device.buffer_pool().stats();
/// assert_eq!((stats.allocation_count, stats.reuse_count), (1, 2));
/// # Ok::<(), tl_device::Error>(())
/// ```
pub struct BufferPool<'a> {
    memory: &'a Arc<Memory>,
}

impl BufferPool<'_> {
    /// What the pool holds and did.
    ///
    /// ```
    /// use tl_device::{Device, Layout, Role};
    /// let device = Device::cpu();
    /// drop(device.take(&Layout::from(vec![8]), Role::Activation)?);
    /// let stats = device.buffer_pool().stats();
    /// assert_eq!((stats.total_pooled, stats.total_memory), (1, 64)); // 16 bytes lie in a buffer of 64
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    pub fn stats(&self) -> BufferPoolStats {
        self.memory.pool_stats()
    }

    /// Frees everything that is idle.
    ///
    /// ```
    /// use tl_device::{Device, Layout, Role};
    /// let device = Device::cpu();
    /// drop(device.take(&Layout::from(vec![8]), Role::Activation)?);
    /// device.buffer_pool().clear();
    /// assert_eq!(device.buffer_pool().stats().total_pooled, 0);
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    pub fn clear(&self) {
        self.memory.trim();
    }
}
