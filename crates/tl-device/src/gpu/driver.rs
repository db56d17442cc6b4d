//! An open device with its driver's handles, its counters, and the first problem that it reported.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::error::{Error, GpuProblem};
use crate::gpu_options::GpuInfo;
use crate::shader_target::ShaderTarget;

pub(super) struct Driver {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) info: GpuInfo,
    pub(super) target: ShaderTarget,
    /// Maximum time for submitted work.
    pub(super) timeout: Duration,
    pub(super) counts: Counts,
    pub(super) lost: Arc<DeviceLost>,
}

/// Counters of created things and actions. Each is counted in the one place where it happens.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) buffers: AtomicU64,
    pub(super) bind_groups: AtomicU64,
    pub(super) pipelines: AtomicU64,
    pub(super) submissions: AtomicU64,
    pub(super) dispatches: AtomicU64,
    pub(super) uploads: AtomicU64,
    pub(super) upload_bytes: AtomicU64,
    pub(super) readbacks: AtomicU64,
    pub(super) readback_bytes: AtomicU64,
}

pub(super) fn count(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

/// The device's first error that no caller waited for. All later work fails with it.
#[derive(Default)]
pub(super) struct DeviceLost(Mutex<Option<GpuProblem>>);

impl DeviceLost {
    /// Keeps the first problem; those that follow are mostly its consequences.
    pub(super) fn set(&self, problem: GpuProblem) {
        self.0.lock().get_or_insert(problem);
    }
}

impl Driver {
    /// An error if the device has failed before.
    pub(super) fn check(&self) -> Result<(), Error> {
        match &*self.lost.0.lock() {
            Some(problem) => Err(self.error(problem.clone())),
            None => Ok(()),
        }
    }

    pub(super) fn error(&self, problem: GpuProblem) -> Error {
        Error::Gpu { adapter: self.info.name.clone(), problem }
    }
}

/// The result of a wgpu future; on a native backend it is ready at once or after its own waiting.
pub(super) fn wait_for<T>(future: impl Future<Output = T>) -> T {
    pollster::block_on(future)
}
