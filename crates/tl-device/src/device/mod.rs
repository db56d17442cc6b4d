//! `Device`: memory and the threads that compute on it. Made once, at the top, and passed down.

mod gpu;
mod measure;
mod options;

use std::fmt;
use std::sync::Arc;

use tl_kernels::Threads;

pub use measure::Scope;
pub use options::{DeviceOptions, LaunchListener, MemoryOptions, Simulation, Work};
pub(crate) use options::{FallbackListener, OutOfMemoryHook};

use crate::admission::entered;
use crate::memory::{Memory, Purpose};
use crate::stats::BufferPoolStats;
use crate::tensor_buffer::TensorBuffer;
use crate::{Available, Error, Layout, Lease, Mapping};

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

    /// What can still be had: by the bounds of the operating system ([`available_memory`](crate::available_memory)), or of a
    /// GPU's memory beyond what this device holds; `None` where nobody says.
    ///
    /// ```
    /// use tl_device::{Device, available_memory};
    /// let (own, all) = (Device::cpu().available(), available_memory());
    /// assert_eq!(own.map(|own| own.bound), all.map(|all| all.bound));
    /// ```
    pub fn available(&self) -> Option<Available> {
        self.memory.available()
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

    pub(crate) fn from_memory(memory: Arc<Memory>) -> Device {
        Device { memory }
    }

    /// A device that only counts, without threads of its own: see [`Simulation`].
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

    /// Adds to what operations on a device that only counts would have to read and to compute.
    ///
    /// ```
    /// use tl_device::{Device, Simulation, Work};
    /// let device = Device::simulated(Simulation::default());
    /// device.count_work(Work { weight_bytes: 10, ..Work::default() });
    /// device.count_work(Work { weight_bytes: 5, operations: 2.0, ..Work::default() });
    /// assert_eq!(device.take_work(), Work { weight_bytes: 15, cache_bytes: 0, operations: 2.0 });
    /// assert_eq!(device.take_work(), Work::default());
    /// ```
    pub fn count_work(&self, work: Work) {
        *self.memory.work.lock() += work;
    }

    /// The sum of what was counted, which begins anew.
    pub fn take_work(&self) -> Work {
        std::mem::take(&mut *self.memory.work.lock())
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

    /// Takes the memory that kernels need of their own for products and attention, unless the device has it: see
    /// [`MemoryStats::workspace_bytes`](crate::MemoryStats::workspace_bytes). Operations on tensors call this themselves.
    ///
    /// ```
    /// use tl_device::Device;
    /// let device = Device::cpu();
    /// assert_eq!(device.stats().workspace_bytes, 0);
    /// device.take_workspace()?;
    /// assert!(device.stats().workspace_bytes > 4 << 20);
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] and [`Error::Limit`].
    pub fn take_workspace(&self) -> Result<(), Error> {
        self.memory.take_workspace()
    }

    /// Whether the process's heap may grow by `bytes`, by what the system has and, where a [`CountedHeap`](crate::heap::CountedHeap)
    /// serves the program, by this device's limit: for whoever is about to make
    /// something as large as an input wants it. `what` names it in the error. It costs a comparison or two where little is asked.
    ///
    /// ```
    /// use tl_device::Device;
    /// let device = Device::cpu();
    /// assert!(device.check_heap(1 << 20, || "a string".to_owned()).is_ok());
    /// let error = device.check_heap(usize::MAX / 2, || "a string of 8 EiB".to_owned()).unwrap_err();
    /// assert!(error.to_string().starts_with("out of memory: a string of 8 EiB needs"));
    /// ```
    ///
    /// # Errors
    /// [`Error::Limit`] and [`Error::OutOfMemory`].
    #[inline]
    pub fn check_heap(&self, bytes: usize, what: impl Fn() -> String) -> Result<(), Error> {
        self.memory.check_heap(bytes, what)
    }

    /// A part of a mapped file as read-only memory. It is counted in [`MemoryStats::mapped_bytes`](crate::MemoryStats::mapped_bytes) and against the limit.
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
        self.memory.lock().context(entered(&self.memory)).current.clone()
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
        self.memory.seal();
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
        self.memory.lock().context(entered(&self.memory)).seals_at_use = true;
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
        self.memory.lock().context(entered(&self.memory)).is_sealed = false;
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
        self.memory.is_sealed()
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
