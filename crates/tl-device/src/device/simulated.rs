//! A simulated `Device`: the work counted for operations, and buffers that wait for simulated work.

use super::handle::Device;
use crate::options::Work;

impl Device {
    /// Adds to the counted work of operations on a simulated device.
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

    /// The work counted so far; resets the count.
    pub fn take_work(&self) -> Work {
        std::mem::take(&mut *self.memory.work.lock())
    }

    /// Number of returned buffers of a simulated device that wait for [`Device::complete`].
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
    #[doc(hidden)]
    pub fn returning_count(&self) -> usize {
        self.memory.lock().returning()
    }

    /// Completes the work that the `index`-th waiting buffer waits for; `false` if there is no such buffer.
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
    #[doc(hidden)]
    pub fn complete(&self, index: usize) -> bool {
        self.memory.complete(index)
    }
}
