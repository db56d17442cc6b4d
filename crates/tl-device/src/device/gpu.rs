//! The GPU side of `Device`; on a CPU device its functions return nothing or an error.

use super::handle::Device;
use crate::error::Error;
#[cfg(feature = "gpu")]
use crate::error::GpuProblem;
#[cfg(feature = "gpu")]
use crate::gpu::{BoundBuffers, Dispatch, Gpu};
#[cfg(feature = "gpu")]
use crate::gpu_options::GpuChoice;
use crate::gpu_options::{GpuInfo, GpuStats};
use crate::launch::Launch;
#[cfg(feature = "gpu")]
use crate::memory::Memory;
#[cfg(feature = "gpu")]
use crate::options::DeviceOptions;
use crate::options::LaunchListener;
use crate::shader_target::ShaderTarget;

impl Device {
    /// The best GPU of this machine, or a software device if there is no other.
    ///
    /// ```no_run
    /// use tl_device::Device;
    /// let device = Device::gpu()?;
    /// println!("{}", device.gpu_info().unwrap().name);
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NoGpu`] if there is none, [`Error::Gpu`] if it cannot be opened.
    #[cfg(feature = "gpu")]
    pub fn gpu() -> Result<Device, Error> {
        Device::gpu_with(&DeviceOptions::default())
    }

    /// The GPU chosen by the options. [`DeviceOptions::memory`] applies to its memory; the threads serve the operations
    /// without a GPU program.
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
        Ok(Device { memory: Memory::on_gpu(options)? })
    }

    /// All GPUs of this machine, the best first, with their features.
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

    /// The description of the GPU; `None` for another device.
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

    /// The counters of the GPU; `None` for another device.
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

    /// The features available to programs of this GPU; `None` for another device.
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

    /// Records the launch of a program on the GPU, after all commands recorded before. Does not wait.
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
    /// [`Error::NotGpu`] for another device, [`Error::Gpu`] if the program is rejected or the device has failed.
    pub fn launch(&self, launch: &Launch) -> Result<(), Error> {
        #[cfg(feature = "gpu")]
        if let Some(gpu) = self.memory.gpu() {
            return launch_on(gpu, launch);
        }
        if self.is_simulated() && self.is_gpu() {
            if let Some(LaunchListener(listener)) = self.memory.launch_listener() {
                listener(launch);
            }
            return Ok(());
        }
        Err(Error::NotGpu { device: self.name().to_owned() })
    }

    /// Whether the GPU's matrix instructions may be used. They are an experimental part of the drivers, so `check`
    /// tests them first, once per device: on two further devices on the same GPU, with their own memory, of which only
    /// the first has matrix instructions. A simulated GPU is trusted.
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

    /// Counts an operation that ran on the CPU for lack of a GPU program. Returns whether it is the first of its name,
    /// so that the user can be warned once.
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

    /// Sets the listener called with the name of an operation when it first runs on the CPU for lack of a GPU program.
    ///
    /// ```
    /// use tl_device::Device;
    /// let device = Device::cpu();
    /// device.on_host_fallback(|op| eprintln!("{op} runs on the CPU"));
    /// ```
    pub fn on_host_fallback(&self, listener: impl Fn(&'static str) + Send + Sync + 'static) {
        *self.memory.fallback_listener.lock() = Some(Box::new(listener));
    }
}

/// Records a launch on a GPU that owns the memory of all its bindings.
#[cfg(feature = "gpu")]
fn launch_on(gpu: &Gpu, launch: &Launch) -> Result<(), Error> {
    let mut bound = BoundBuffers::new();
    for binding in launch.reads.iter().chain(launch.writes) {
        let buffer = binding.slot.block.gpu().ok_or_else(|| gpu.error(GpuProblem::ForeignMemory))?;
        let (offset_bytes, len_bytes) = binding.range();
        bound.push(buffer.bind(offset_bytes, len_bytes)?);
    }
    gpu.launch(
        &bound,
        &Dispatch {
            name: launch.name,
            variant: launch.variant,
            source: launch.source,
            read_count: launch.reads.len(),
            reports_faults: launch.reports_faults,
            immediates: launch.immediates,
            groups: launch.groups,
        },
    )
}
