//! `Device`: a handle on memory and the threads that compute on it. Made once, at the top, and passed down.

use std::fmt;
use std::sync::Arc;

use tl_kernels::Threads;

use crate::available::Available;
use crate::error::Error;
use crate::memory::Memory;
use crate::options::{DeviceOptions, Simulation};

/// A device: tensors live and are computed on it. Cloning gives another handle on the same device.
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
    pub(super) memory: Arc<Memory>,
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device").field("name", &self.name()).field("threads", &self.threads().count()).finish()
    }
}

impl Device {
    /// A new CPU device with its own memory and threads.
    ///
    /// ```
    /// use tl_device::Device;
    /// let device = Device::cpu();
    /// assert_eq!((device.name(), device.stats().driver_bytes), ("cpu", 0));
    /// ```
    pub fn cpu() -> Device {
        Device::cpu_with(&DeviceOptions::default())
    }

    /// A new CPU device with these options.
    ///
    /// ```
    /// use tl_device::{Device, DeviceOptions};
    /// let mut options = DeviceOptions::default();
    /// options.threads = 1;
    /// let device = Device::cpu_with(&options);
    /// assert_eq!(device.threads().count(), 1);
    /// ```
    pub fn cpu_with(options: &DeviceOptions) -> Device {
        Device { memory: Memory::new(options) }
    }

    /// Memory still available: by the bounds of the operating system ([`available_memory`](crate::available_memory)),
    /// or a GPU's memory beyond that of this device; `None` if unknown.
    ///
    /// ```
    /// use tl_device::{Device, available_memory};
    /// let (own, all) = (Device::cpu().available(), available_memory());
    /// assert_eq!(own.map(|own| own.bound), all.map(|all| all.bound));
    /// ```
    pub fn available(&self) -> Option<Available> {
        self.memory.available()
    }

    /// Waits until the device has finished all submitted work. A CPU device never has any.
    ///
    /// ```
    /// use tl_device::Device;
    /// assert!(Device::cpu().synchronize().is_ok());
    /// ```
    ///
    /// # Errors
    /// [`Error::Gpu`] if the device has failed.
    pub fn synchronize(&self) -> Result<(), Error> {
        #[cfg(feature = "gpu")]
        if let Some(gpu) = self.memory.gpu() {
            return gpu.synchronize();
        }
        Ok(())
    }

    pub(crate) fn from_memory(memory: Arc<Memory>) -> Device {
        Device { memory }
    }

    /// A simulated device, without threads of its own: see [`Simulation`].
    ///
    /// ```
    /// # use tl_device::{Device, Layout, Role, Simulation};
    /// let device = Device::simulated(Simulation::default());
    /// let _cache = device.take(&Layout::from(vec![4096, 32, 128]), Role::Cache)?;
    /// assert_eq!(device.stats().cache_bytes, 32 << 20); // and no memory was used for it
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    pub fn simulated(simulation: Simulation) -> Device {
        Device::cpu_with(&DeviceOptions { simulation: Some(simulation), threads: 1, ..DeviceOptions::default() })
    }

    /// The public name.
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

    /// Whether the device is simulated: operations on it compute nothing.
    ///
    /// ```
    /// use tl_device::{Device, Simulation};
    /// assert!(!Device::cpu().is_simulated());
    /// assert!(Device::simulated(Simulation::default()).is_simulated());
    /// ```
    pub fn is_simulated(&self) -> bool {
        self.memory.is_simulated()
    }

    /// Whether operations run on a GPU, or are planned as if they did (see [`Simulation::is_gpu`](crate::Simulation::is_gpu)).
    ///
    /// ```
    /// use tl_device::Device;
    /// assert!(!Device::cpu().is_gpu());
    /// ```
    pub fn is_gpu(&self) -> bool {
        self.memory.is_gpu()
    }

    /// Whether both handles refer to the same device.
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

    /// The compute threads.
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
}

impl Simulation {
    /// A simulation of `device`: its operations take the same memory.
    ///
    /// ```
    /// use tl_device::{Device, Simulation};
    /// let counting = Device::simulated(Simulation::of(&Device::cpu()));
    /// assert!(counting.is_simulated() && !counting.is_gpu());
    /// ```
    pub fn of(device: &Device) -> Simulation {
        let target = device.shader_target().cloned();
        Simulation { is_gpu: device.is_gpu(), target, ..Simulation::default() }
    }
}
