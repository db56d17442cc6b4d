//! Measurements of a `Device`'s memory: statistics, scopes, traces.

use super::handle::Device;
use crate::memory::thread_context;
use crate::stats::{MemoryStats, TensorBufferStats};
use crate::trace::Trace;

impl Device {
    /// Sets the present place in the program on this thread, for traces and errors: any number that the caller can map
    /// back to a place; 0: none.
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
        thread_context::set_location(location);
    }

    /// Starts recording memory events. Traces nest: each records until its own end. A recording's own memory is bounded
    /// and counted ([`MemoryStats::recording_bytes`]).
    ///
    /// ```
    /// use tl_device::{Device, Layout, Role};
    /// let device = Device::cpu();
    /// device.start_trace();
    /// drop(device.take(&Layout::from(vec![8]), Role::Activation)?);
    /// assert_eq!(device.stop_trace().events().count(), 2); // taken, returned
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    pub fn start_trace(&self) {
        self.memory.lock().start_trace();
    }

    /// Ends the most recently started recording and returns its trace; an empty trace if none was started.
    ///
    /// ```
    /// use tl_device::{Device, Layout, Role};
    /// let device = Device::cpu();
    /// device.start_trace(); // the outer one
    /// device.start_trace();
    /// drop(device.take(&Layout::from(vec![8]), Role::Activation)?);
    /// assert_eq!(device.stop_trace().events().count(), 2); // the inner one
    /// assert_eq!(device.stop_trace().events().count(), 2); // the outer one recorded it too
    /// assert_eq!(device.stop_trace().totals().event_count, 0);
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    pub fn stop_trace(&self) -> Trace {
        self.memory.lock().stop_trace()
    }

    /// Marks the end of a step of the program (a token generated, a line printed) in traces:
    /// [`Action::Step`](crate::Action::Step).
    ///
    /// ```
    /// use tl_device::{Action, Device};
    /// let device = Device::cpu();
    /// device.start_trace();
    /// device.end_step();
    /// assert_eq!(device.stop_trace().events().next().unwrap().action, Action::Step { number: 1 });
    /// ```
    pub fn end_step(&self) {
        self.memory.lock().end_step();
    }

    /// Starts a measurement of counts and peak. Scopes may nest.
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

    /// The device's memory statistics.
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

    /// Statistics of the current tensor buffer; all zeros if none is set.
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

    /// Restarts [`MemoryStats::peak_bytes`] from the present live bytes.
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

/// A running measurement: see [`Device::scope`].
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
    /// The device's statistics, with counts and peak since the scope was opened.
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
