//! `Gpu`: an open device, its programs and its stream of commands.
#![allow(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use smallvec::SmallVec;

use super::driver::{Counts, DeviceLost, Driver, count, wait_for};
use super::programs::{Binding, Programs};
use super::raw_buffer::RawBuffer;
use super::stream::{FAULT_BYTES, READBACK_BYTES, STAGING_BYTES, Stream};
use crate::error::{Error, GpuProblem};
use crate::gpu_options::{GpuInfo, GpuStats};
use crate::shader_target::ShaderTarget;

/// Sets every word of a buffer.
const FILL: &str = "
    struct Params { word: u32, n_words: u32 }
    var<immediate> p: Params;
    @group(0) @binding(0) var<storage, read_write> out: array<u32>;
    @compute @workgroup_size(256)
    fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
            @builtin(local_invocation_index) lane: u32) {
        let first = ((group.x + group.y * groups.x) * 256u + lane) * 4u;
        for (var i = first; i < min(first + 4u, p.n_words); i++) { out[i] = p.word; }
    }
";

/// An open device.
pub(crate) struct Gpu {
    driver: Driver,
    /// Locked after `stream` where both are needed.
    programs: Mutex<Programs>,
    stream: Mutex<Stream>,
}

// Asserted here, with the fields checked below: otherwise the compiler would walk all of wgpu's types for every crate
// that holds a device, deeper than its default recursion limit allows.
// SAFETY: every field is `Send`.
unsafe impl Send for Gpu {}
// SAFETY: every field is `Sync`.
unsafe impl Sync for Gpu {}

const _: () = {
    const fn check<T: Send + Sync>() {}
    check::<(wgpu::Device, wgpu::Queue, GpuInfo, ShaderTarget, Duration, Counts)>();
    check::<(Arc<DeviceLost>, Mutex<Programs>, Mutex<Stream>)>();
};

/// A part of a buffer bound to a program.
pub(crate) struct Bound<'a> {
    buffer: &'a RawBuffer,
    offset: u64,
    len: u64,
}

/// The bindings of a launch.
pub(crate) type BoundBuffers<'a> = SmallVec<[Bound<'a>; 8]>;

/// A launch without its memory: see [`Launch`](crate::Launch).
pub(crate) struct Dispatch<'a> {
    pub(crate) name: &'static str,
    pub(crate) variant: u64,
    pub(crate) source: &'a dyn Fn(&ShaderTarget) -> String,
    /// Number of read-only bindings; they come first.
    pub(crate) read_count: usize,
    pub(crate) reports_faults: bool,
    pub(crate) immediates: &'a [u32],
    pub(crate) groups: u32,
}

/// Reason for a failed buffer allocation.
pub(crate) enum AllocError {
    OutOfMemory,
    Other(Error),
}

impl Gpu {
    pub(super) fn new(driver: Driver, programs: Programs, stream: Stream) -> Result<Gpu, Error> {
        driver.check()?;
        Ok(Gpu { driver, programs: Mutex::new(programs), stream: Mutex::new(stream) })
    }

    /// Closes the driver's device, for tests of lost devices.
    #[cfg(test)]
    pub(super) fn destroy(&self) {
        self.driver.device.destroy();
    }

    pub(crate) fn error(&self, problem: GpuProblem) -> Error {
        self.driver.error(problem)
    }

    pub(crate) fn info(&self) -> &GpuInfo {
        &self.driver.info
    }

    pub(crate) fn target(&self) -> &ShaderTarget {
        &self.driver.target
    }

    pub(crate) fn staging_bytes(&self) -> u64 {
        STAGING_BYTES
    }

    pub(crate) fn stats(&self) -> GpuStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let gauges = self.driver.device.get_internal_counters().hal;
        let gauge = |value: isize| value.max(0) as u64;
        GpuStats {
            buffers_created: read(&self.driver.counts.buffers),
            bind_groups_created: read(&self.driver.counts.bind_groups),
            pipelines_created: read(&self.driver.counts.pipelines),
            submissions: read(&self.driver.counts.submissions),
            dispatches: read(&self.driver.counts.dispatches),
            uploads: read(&self.driver.counts.uploads),
            upload_bytes: read(&self.driver.counts.upload_bytes),
            readbacks: read(&self.driver.counts.readbacks),
            readback_bytes: read(&self.driver.counts.readback_bytes),
            staging_bytes: STAGING_BYTES,
            host_fallbacks: 0,
            driver_buffers: gauge(gauges.buffers.read()),
            driver_bind_groups: gauge(gauges.bind_groups.read()),
            driver_pipelines: gauge(gauges.compute_pipelines.read()),
        }
    }
}

impl Gpu {
    /// Records a launch. Waits only if the device is far behind.
    pub(crate) fn launch(&self, bound: &[Bound<'_>], dispatch: &Dispatch) -> Result<(), Error> {
        self.driver.check()?;
        if dispatch.groups == 0 {
            return Ok(());
        }
        let mut stream = self.stream.lock();
        let faults = stream.faults().clone();
        let mut bindings: SmallVec<[Binding<'_>; 8]> = SmallVec::new();
        for &Bound { buffer, offset, len } in bound {
            buffer.last_use.store(stream.serial(), Ordering::Relaxed);
            bindings.push(((buffer.id, offset, len), &buffer.raw));
        }
        if dispatch.reports_faults {
            bindings.push(((0, 0, FAULT_BYTES), &faults));
        }
        let signature = (dispatch.read_count as u8, (bindings.len() - dispatch.read_count) as u8);
        let key = (dispatch.name, dispatch.variant);
        let mut programs = self.programs.lock();
        let pipeline = programs.pipeline(&self.driver, key, signature, dispatch.source)?;
        let group = programs.bind_group(&self.driver, signature, &bindings);
        drop(programs);
        stream.record(&self.driver, &pipeline, &group, dispatch.immediates, dispatch.groups)
    }

    /// A part of a buffer as a binding; a `len` of 0 extends to the end.
    pub(super) fn bind<'a>(&self, buffer: &'a RawBuffer, offset: u64, len: u64) -> Result<Bound<'a>, Error> {
        let behind = buffer.capacity as u64 - offset;
        let len = if len == 0 { behind } else { len.next_multiple_of(4).min(behind) };
        let max_bytes = self.driver.target.max_binding_bytes;
        if len > max_bytes {
            return Err(self.driver.error(GpuProblem::BindingTooLarge { bytes_asked: len, max_bytes }));
        }
        Ok(Bound { buffer, offset, len })
    }

    /// Submits the recorded commands and waits until the device has finished them.
    pub(crate) fn synchronize(&self) -> Result<(), Error> {
        let mut stream = self.stream.lock();
        stream.submit(&self.driver)?;
        stream.wait_for_all(&self.driver)
    }

    pub(super) fn fill(&self, buffer: &RawBuffer, word: u32) -> Result<(), Error> {
        self.driver.check()?;
        let n_words = buffer.capacity / 4;
        let mut stream = self.stream.lock();
        buffer.last_use.store(stream.serial(), Ordering::Relaxed);
        if word == 0 {
            stream.between(&self.driver.device).clear_buffer(&buffer.raw, 0, None);
            return Ok(());
        }
        let bound = [((buffer.id, 0, buffer.capacity as u64), &buffer.raw)];
        let mut programs = self.programs.lock();
        let pipeline = programs.pipeline(&self.driver, ("fill", 0), (0, 1), &|_| FILL.to_owned())?;
        let group = programs.bind_group(&self.driver, (0, 1), &bound);
        drop(programs);
        let groups = n_words.div_ceil(4 * 256) as u32;
        stream.record(&self.driver, &pipeline, &group, &[word, n_words as u32], groups)
    }

    pub(super) fn copy(&self, from: &RawBuffer, offset: usize, to: &RawBuffer, len: usize) -> Result<(), Error> {
        self.driver.check()?;
        if len == 0 {
            return Ok(());
        }
        let mut stream = self.stream.lock();
        for buffer in [from, to] {
            buffer.last_use.store(stream.serial(), Ordering::Relaxed);
        }
        // Copies are of whole words; a buffer has room for the last word beyond a layout's bytes.
        let len = (len.next_multiple_of(4) as u64).min(from.capacity as u64 - offset as u64);
        stream.between(&self.driver.device).copy_buffer_to_buffer(&from.raw, offset as u64, &to.raw, 0, len);
        Ok(())
    }

    /// Writes after all commands recorded before: the bytes go through the ring, and a copy is recorded.
    pub(super) fn write(&self, buffer: &RawBuffer, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        self.driver.check()?;
        let mut stream = self.stream.lock();
        let last_use = buffer.last_use.swap(stream.serial(), Ordering::Relaxed);
        debug_assert!(last_use <= stream.serial(), "what still reads the buffer was recorded before");
        let mut at = offset;
        let mut rest = bytes;
        while !rest.is_empty() {
            let n = stream.stage(&self.driver, buffer, at, rest)?;
            (at, rest) = (at + n, &rest[n..]);
        }
        count(&self.driver.counts.uploads, 1);
        count(&self.driver.counts.upload_bytes, bytes.len() as u64);
        Ok(())
    }

    /// Reads in pieces, waiting for each.
    pub(super) fn read(
        &self,
        buffer: &RawBuffer,
        offset: usize,
        len: usize,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Error> {
        self.driver.check()?;
        let mut stream = self.stream.lock();
        let mut at = offset;
        while at < offset + len {
            // Copies begin and end at multiples of four.
            let start = at / 4 * 4;
            let end = (offset + len).min(start + READBACK_BYTES);
            stream.read_piece(&self.driver, buffer, start, end.next_multiple_of(4) - start, &mut |bytes| {
                sink(&bytes[at - start..end - start]);
            })?;
            at = end;
        }
        count(&self.driver.counts.readbacks, 1);
        count(&self.driver.counts.readback_bytes, len as u64);
        Ok(())
    }

    /// Memory of `capacity` bytes, a multiple of 4; its contents are zeros.
    pub(super) fn create_buffer(&self, capacity: usize) -> Result<RawBuffer, AllocError> {
        let driver = &self.driver;
        driver.check().map_err(AllocError::Other)?;
        let max = driver.info.max_buffer_bytes;
        if capacity as u64 > max {
            let problem = GpuProblem::BufferTooLarge { bytes_asked: capacity as u64, max_bytes: max };
            return Err(AllocError::Other(driver.error(problem)));
        }
        let out_of_memory = driver.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let raw = driver.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: capacity as u64,
            usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        if wait_for(out_of_memory.pop()).is_some() {
            return Err(AllocError::OutOfMemory);
        }
        count(&driver.counts.buffers, 1);
        let id = self.programs.lock().next_buffer_id();
        Ok(RawBuffer { raw, id, last_use: AtomicU64::new(0), capacity })
    }

    /// Drops the cached bind groups of a freed buffer, which would keep its memory.
    pub(super) fn forget(&self, buffer: &RawBuffer) {
        self.programs.lock().forget(buffer.id);
    }
}
