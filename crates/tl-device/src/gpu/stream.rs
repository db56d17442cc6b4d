//! The command stream of a device: recording, submission, uploads, readbacks, waiting.
//!
//! Commands are recorded as they come and submitted in batches. The host runs ahead of the device and waits only for
//! reads, for a full queue, and for an upload ring full of data that the device has not consumed yet.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::driver::{Driver, count};
use super::raw_buffer::RawBuffer;
use crate::error::{Error, GpuProblem};
use crate::shader_target::MAX_IMMEDIATE_BYTES;

/// Commands in a batch: few at first after the host has waited, so that the device starts while the rest is being
/// recorded.
const FIRST_BATCH: usize = 48;
const BATCH: usize = 256;

/// Maximum number of queued batches before the host waits.
const MAX_QUEUED: usize = 8;

/// Pieces of the upload ring, and bytes of each.
const UPLOAD_PIECES: usize = 4;
const UPLOAD_BYTES: usize = 2 << 20;

/// Bytes read back at once, after the fault words.
pub(super) const READBACK_BYTES: usize = 1 << 20;

/// The words in which a program reports an index out of range: 1, the index, the size, unused.
pub(super) const FAULT_BYTES: u64 = 16;

/// Total bytes of host staging memory.
pub(super) const STAGING_BYTES: u64 = (UPLOAD_PIECES * UPLOAD_BYTES + READBACK_BYTES) as u64 + 2 * FAULT_BYTES;

/// A piece of the upload ring.
struct Piece {
    buffer: wgpu::Buffer,
    /// Set when the host may write again.
    is_mapped: Arc<AtomicBool>,
    /// The submission that contains the last write.
    submission: Option<wgpu::SubmissionIndex>,
    used: usize,
}

pub(super) struct Stream {
    encoder: Option<wgpu::CommandEncoder>,
    pass: Option<wgpu::ComputePass<'static>>,
    /// Commands recorded and not submitted.
    n_recorded: usize,
    /// The number of the batch that is being recorded.
    serial: u64,
    /// Batches submitted since the host last waited for all of them.
    queued: VecDeque<wgpu::SubmissionIndex>,
    /// Whether nothing was submitted since the host waited.
    is_first: bool,
    pieces: Vec<Piece>,
    at: usize,
    readback: wgpu::Buffer,
    faults: wgpu::Buffer,
}

impl Stream {
    pub(super) fn new(device: &wgpu::Device) -> Stream {
        use wgpu::BufferUsages as Usage;
        let buffer = |label, size, usage, mapped_at_creation| {
            device.create_buffer(&wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation })
        };
        let piece = |_| Piece {
            buffer: buffer("upload", UPLOAD_BYTES as u64, Usage::MAP_WRITE | Usage::COPY_SRC, true),
            is_mapped: Arc::new(AtomicBool::new(true)),
            submission: None,
            used: 0,
        };
        let readback_bytes = READBACK_BYTES as u64 + FAULT_BYTES;
        Stream {
            encoder: None,
            pass: None,
            n_recorded: 0,
            serial: 1,
            queued: VecDeque::with_capacity(MAX_QUEUED + 1),
            is_first: true,
            pieces: (0..UPLOAD_PIECES).map(piece).collect(),
            at: 0,
            readback: buffer("readback", readback_bytes, Usage::MAP_READ | Usage::COPY_DST, false),
            faults: buffer("faults", FAULT_BYTES, Usage::STORAGE | Usage::COPY_SRC | Usage::COPY_DST, false),
        }
    }

    /// The number of the batch being recorded.
    pub(super) fn serial(&self) -> u64 {
        self.serial
    }

    /// The words in which programs report an index out of range.
    pub(super) fn faults(&self) -> &wgpu::Buffer {
        &self.faults
    }

    fn encoder(&mut self, device: &wgpu::Device) -> &mut wgpu::CommandEncoder {
        self.encoder.get_or_insert_with(|| device.create_command_encoder(&Default::default()))
    }

    /// The compute pass being recorded.
    fn pass(&mut self, device: &wgpu::Device) -> &mut wgpu::ComputePass<'static> {
        if self.pass.is_none() {
            let pass = self.encoder(device).begin_compute_pass(&Default::default()).forget_lifetime();
            self.pass = Some(pass);
        }
        self.pass.as_mut().expect("made above")
    }

    /// The encoder between passes, for copies.
    pub(super) fn between(&mut self, device: &wgpu::Device) -> &mut wgpu::CommandEncoder {
        self.pass = None;
        self.n_recorded += 1;
        self.encoder(device)
    }

    pub(super) fn record(
        &mut self,
        driver: &Driver,
        pipeline: &wgpu::ComputePipeline,
        group: &wgpu::BindGroup,
        immediates: &[u32],
        groups: u32,
    ) -> Result<(), Error> {
        assert!(immediates.len() * 4 <= MAX_IMMEDIATE_BYTES, "{} words of immediates", immediates.len());
        let max_x = 65535;
        let y = groups.div_ceil(max_x);
        let pass = self.pass(&driver.device);
        pass.set_pipeline(pipeline);
        pass.set_bind_group(0, group, &[]);
        if !immediates.is_empty() {
            pass.set_immediates(0, bytemuck::cast_slice(immediates));
        }
        pass.dispatch_workgroups(groups.div_ceil(y), y, 1);
        count(&driver.counts.dispatches, 1);
        self.n_recorded += 1;
        if self.n_recorded >= if self.is_first { FIRST_BATCH } else { BATCH } {
            self.submit(driver)?;
        }
        Ok(())
    }

    /// Submits the recorded commands to the driver.
    pub(super) fn submit(&mut self, driver: &Driver) -> Result<(), Error> {
        self.pass = None;
        let Some(encoder) = self.encoder.take() else { return driver.check() };
        for piece in self.pieces.iter_mut().filter(|piece| piece.used > 0) {
            piece.is_mapped.store(false, Ordering::Relaxed);
            piece.buffer.unmap();
        }
        if self.pieces[self.at].used > 0 {
            self.at = (self.at + 1) % UPLOAD_PIECES;
        }
        let submission = driver.queue.submit([encoder.finish()]);
        count(&driver.counts.submissions, 1);
        for piece in self.pieces.iter_mut().filter(|piece| piece.used > 0) {
            piece.used = 0;
            piece.submission = Some(submission.clone());
            let is_mapped = piece.is_mapped.clone();
            piece.buffer.map_async(wgpu::MapMode::Write, .., move |result| {
                is_mapped.store(result.is_ok(), Ordering::Release);
            });
        }
        self.n_recorded = 0;
        self.serial += 1;
        self.is_first = false;
        self.queued.push_back(submission);
        if self.queued.len() > MAX_QUEUED
            && let Some(oldest) = self.queued.pop_front()
        {
            wait_until(driver, oldest)?;
        }
        driver.check()
    }

    pub(super) fn wait_for_all(&mut self, driver: &Driver) -> Result<(), Error> {
        if let Some(last) = self.queued.pop_back() {
            self.queued.clear();
            wait_until(driver, last)?;
        }
        self.is_first = true;
        Ok(())
    }

    /// Copies as many of the bytes as fit into the ring's present piece; returns their number.
    pub(super) fn stage(
        &mut self,
        driver: &Driver,
        buffer: &RawBuffer,
        at: usize,
        bytes: &[u8],
    ) -> Result<usize, Error> {
        if self.pieces[self.at].used == UPLOAD_BYTES {
            self.submit(driver)?;
        }
        let index = self.at;
        self.wait_for_piece(driver, index)?;
        let start = self.pieces[index].used;
        let n = bytes.len().min(UPLOAD_BYTES - start);
        let padded = n.next_multiple_of(4);
        let piece = &mut self.pieces[index];
        let mapped = piece.buffer.get_mapped_range_mut(start as u64..(start + padded) as u64);
        let mut mapped = mapped.map_err(|error| driver.error(GpuProblem::Refused { message: error.to_string() }))?;
        if padded == n {
            mapped.copy_from_slice(&bytes[..n]);
        } else {
            let whole = n / 4 * 4;
            if whole > 0 {
                mapped.slice(..whole).copy_from_slice(&bytes[..whole]);
            }
            let mut last = [0u8; 4];
            last[..n - whole].copy_from_slice(&bytes[whole..n]);
            mapped.slice(whole..).copy_from_slice(&last);
        }
        drop(mapped);
        // Uploads begin at multiples of 16, as copies and maps require.
        piece.used = (start + padded).next_multiple_of(16).min(UPLOAD_BYTES);
        let source = piece.buffer.clone();
        let encoder = self.between(&driver.device);
        encoder.copy_buffer_to_buffer(&source, start as u64, &buffer.raw, at as u64, padded as u64);
        Ok(n)
    }

    /// Waits until the host may write the piece again.
    fn wait_for_piece(&mut self, driver: &Driver, index: usize) -> Result<(), Error> {
        let piece = &mut self.pieces[index];
        if piece.is_mapped.load(Ordering::Acquire) {
            return Ok(());
        }
        if let Some(submission) = piece.submission.take() {
            wait_until(driver, submission)?;
        }
        if piece.is_mapped.load(Ordering::Acquire) {
            return Ok(());
        }
        Err(driver.error(GpuProblem::Refused { message: "the upload buffer could not be mapped".to_owned() }))
    }

    pub(super) fn read_piece(
        &mut self,
        driver: &Driver,
        buffer: &RawBuffer,
        start: usize,
        len: usize,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Error> {
        let (readback, faults) = (self.readback.clone(), self.faults.clone());
        let encoder = self.between(&driver.device);
        encoder.copy_buffer_to_buffer(&faults, 0, &readback, 0, FAULT_BYTES);
        encoder.copy_buffer_to_buffer(&buffer.raw, start as u64, &readback, FAULT_BYTES, len as u64);
        self.submit(driver)?;
        let range = ..FAULT_BYTES + len as u64;
        readback.map_async(wgpu::MapMode::Read, range, |_| {});
        self.wait_for_all(driver)?;
        let mapped = readback.get_mapped_range(range);
        let mapped = mapped.map_err(|error| driver.error(GpuProblem::Refused { message: error.to_string() }))?;
        let (fault, bytes) = mapped.split_at(FAULT_BYTES as usize);
        let fault: [u32; 4] = bytemuck::pod_read_unaligned(fault);
        if fault[0] == 0 {
            sink(bytes);
        }
        drop(mapped);
        readback.unmap();
        if fault[0] != 0 {
            self.between(&driver.device).clear_buffer(&faults, 0, None);
            return Err(Error::Index { index: fault[1] as i32, size: fault[2] });
        }
        Ok(())
    }
}

/// Waits until the device has finished that batch.
fn wait_until(driver: &Driver, submission: wgpu::SubmissionIndex) -> Result<(), Error> {
    let poll = wgpu::PollType::Wait { submission_index: Some(submission), timeout: Some(driver.timeout) };
    match driver.device.poll(poll) {
        Ok(_) => driver.check(),
        Err(wgpu::PollError::Timeout) => {
            let problem = GpuProblem::Hung { seconds: driver.timeout.as_secs() };
            driver.lost.set(problem.clone());
            Err(driver.error(problem))
        }
        Err(error) => Err(driver.error(GpuProblem::Refused { message: error.to_string() })),
    }
}
