//! Graphics processors through wgpu: Vulkan, Metal, Direct3D 12.
//!
//! `adapter.rs` lists and opens them, `buffer.rs` is their memory, `programs.rs` keeps what is made once (pipelines, bind
//! groups), `stream.rs` records commands, submits them and moves data between host and device. Together they know buffers,
//! programs and order; what a program computes is its caller's affair, and who may use which memory is `memory.rs`'s.
//!
//! There is one stream of commands for each device, in the order in which they were recorded, uploads included. A buffer
//! that comes back while queued work still reads it can therefore be handed out at once: whatever writes it next is behind
//! that work.

#![allow(unsafe_code)]

mod adapter;
mod buffer;
mod programs;
mod stream;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

pub(crate) use adapter::{list, open};
pub(crate) use buffer::{Buffer, Refused};

use crate::gpu_options::{GpuInfo, GpuStats};
use crate::launch::ShaderTarget;
use crate::{Error, GpuProblem};
use programs::Programs;
use stream::Stream;

/// An open device.
pub(crate) struct Gpu {
    device: wgpu::Device,
    queue: wgpu::Queue,
    info: GpuInfo,
    target: ShaderTarget,
    /// How long the device may take for what it was given.
    timeout: Duration,
    counts: Counts,
    failure: Arc<Failure>,
    /// Taken after `stream` where both are needed.
    programs: Mutex<Programs>,
    stream: Mutex<Stream>,
}

// Said here once, and checked field by field below: left to itself, the compiler would go through all of
// wgpu's types for every crate that holds a device, deeper than its default limit allows.
// SAFETY: every field is `Send`.
unsafe impl Send for Gpu {}
// SAFETY: every field is `Sync`.
unsafe impl Sync for Gpu {}

const _: () = {
    const fn check<T: Send + Sync>() {}
    check::<(wgpu::Device, wgpu::Queue, GpuInfo, ShaderTarget, Duration, Counts)>();
    check::<(Arc<Failure>, Mutex<Programs>, Mutex<Stream>)>();
};

/// How often things were made and done. Each is counted in the one place where it happens.
#[derive(Default)]
struct Counts {
    buffers: AtomicU64,
    bind_groups: AtomicU64,
    pipelines: AtomicU64,
    submissions: AtomicU64,
    dispatches: AtomicU64,
    uploads: AtomicU64,
    upload_bytes: AtomicU64,
    readbacks: AtomicU64,
    readback_bytes: AtomicU64,
}

fn count(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

/// What the device said that no caller was waiting for. Everything that comes later fails with it.
#[derive(Default)]
struct Failure(Mutex<Option<GpuProblem>>);

impl Failure {
    /// Keeps the first problem; those that follow are mostly its consequences.
    fn set(&self, problem: GpuProblem) {
        self.0.lock().get_or_insert(problem);
    }
}

impl Gpu {
    pub(crate) fn info(&self) -> &GpuInfo {
        &self.info
    }

    pub(crate) fn target(&self) -> &ShaderTarget {
        &self.target
    }

    pub(crate) fn staging_bytes(&self) -> u64 {
        stream::STAGING_BYTES
    }

    pub(crate) fn stats(&self) -> GpuStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let gauges = self.device.get_internal_counters().hal;
        let gauge = |value: isize| value.max(0) as u64;
        GpuStats {
            buffers_created: read(&self.counts.buffers),
            bind_groups_created: read(&self.counts.bind_groups),
            pipelines_created: read(&self.counts.pipelines),
            submissions: read(&self.counts.submissions),
            dispatches: read(&self.counts.dispatches),
            uploads: read(&self.counts.uploads),
            upload_bytes: read(&self.counts.upload_bytes),
            readbacks: read(&self.counts.readbacks),
            readback_bytes: read(&self.counts.readback_bytes),
            staging_bytes: stream::STAGING_BYTES,
            host_fallbacks: 0,
            driver_buffers: gauge(gauges.buffers.read()),
            driver_bind_groups: gauge(gauges.bind_groups.read()),
            driver_pipelines: gauge(gauges.compute_pipelines.read()),
        }
    }

    /// An error where the device has failed before.
    fn check(&self) -> Result<(), Error> {
        match &*self.failure.0.lock() {
            Some(problem) => Err(self.error(problem.clone())),
            None => Ok(()),
        }
    }

    fn error(&self, problem: GpuProblem) -> Error {
        Error::Gpu { adapter: self.info.name.clone(), problem }
    }

    /// What a future of wgpu's yields; on a native backend it is there at once or after its own waiting.
    fn wait_for<T>(future: impl Future<Output = T>) -> T {
        pollster::block_on(future)
    }
}

#[cfg(test)]
mod tests {
    use crate::{DType, Device, DeviceOptions, Layout, Role};

    #[test]
    fn a_lost_device_is_an_error_with_its_name() {
        let Ok(device) = Device::gpu_with(&DeviceOptions::default()) else {
            assert!(std::env::var_os("TL_REQUIRE_GPU").is_none(), "TL_REQUIRE_GPU is set, and there is no GPU");
            return;
        };
        let mut memory = device.take(&Layout::new(DType::I32, [16]), Role::Activation).unwrap();
        memory.fill(1).unwrap();
        device.synchronize().unwrap();
        let gpu = device.memory().gpu().unwrap().clone();
        gpu.device.destroy();
        let mut messages = Vec::new();
        messages.extend(memory.fill(2).err());
        messages.extend(memory.read(0, 64, &mut |_| {}).err());
        messages.extend(device.synchronize().err());
        assert!(!messages.is_empty(), "nothing was noticed");
        assert!(messages.iter().all(|error| error.to_string().contains(&gpu.info.name)), "{messages:?}");
    }
}
