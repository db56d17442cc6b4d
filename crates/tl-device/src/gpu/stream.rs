//! The one stream of commands of a device: recording, submitting, uploading, reading back, waiting.
//!
//! Commands are recorded as they come and submitted in batches. The host runs ahead of the device and waits only where it
//! reads, where too much is queued, or where the upload ring is full of data that the device has not taken yet.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use smallvec::SmallVec;

use super::buffer::Buffer;
use super::programs::{Bound, place};
use super::{Gpu, count};
use crate::launch::{Launch, MAX_IMMEDIATE_BYTES};
use crate::{Error, GpuProblem};

/// Commands that make a batch: few at first after the host has waited, so that the device begins while the rest is being
/// recorded.
const FIRST_BATCH: usize = 48;
const BATCH: usize = 256;

/// Batches that may be queued before the host waits.
const MAX_QUEUED: usize = 8;

/// Pieces of the upload ring, and bytes of each.
const UPLOAD_PIECES: usize = 4;
const UPLOAD_BYTES: usize = 2 << 20;

/// Bytes that are read back at once, behind the fault words.
const READBACK_BYTES: usize = 1 << 20;

/// The words in which a program reports an index out of range: 1, the index, the size, nothing.
const FAULT_BYTES: u64 = 16;

/// Bytes of host memory that all this takes.
pub(super) const STAGING_BYTES: u64 = (UPLOAD_PIECES * UPLOAD_BYTES + READBACK_BYTES) as u64 + 2 * FAULT_BYTES;

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

/// A piece of the upload ring.
struct Piece {
    buffer: wgpu::Buffer,
    /// Set when the host may write again.
    is_mapped: Arc<AtomicBool>,
    /// The submission that took what was written last.
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

    fn encoder(&mut self, device: &wgpu::Device) -> &mut wgpu::CommandEncoder {
        self.encoder.get_or_insert_with(|| device.create_command_encoder(&Default::default()))
    }

    /// The pass that programs are recorded in.
    fn pass(&mut self, device: &wgpu::Device) -> &mut wgpu::ComputePass<'static> {
        if self.pass.is_none() {
            let pass = self.encoder(device).begin_compute_pass(&Default::default()).forget_lifetime();
            self.pass = Some(pass);
        }
        self.pass.as_mut().expect("made above")
    }

    /// The encoder between passes, for copies.
    fn between(&mut self, device: &wgpu::Device) -> &mut wgpu::CommandEncoder {
        self.pass = None;
        self.n_recorded += 1;
        self.encoder(device)
    }
}

impl Gpu {
    /// Records a launch. Nothing is waited for, but where the device is far behind.
    pub(crate) fn launch(&self, launch: &Launch) -> Result<(), Error> {
        self.check()?;
        if launch.groups == 0 {
            return Ok(());
        }
        let mut stream = self.stream.lock();
        let faults = stream.faults.clone();
        let mut bound: SmallVec<[Bound<'_>; 8]> = SmallVec::new();
        for binding in launch.reads.iter().chain(launch.writes) {
            bound.push(place(self, binding)?);
            if let Some(buffer) = binding.slot.block.gpu() {
                buffer.last_use.store(stream.serial, Ordering::Relaxed);
            }
        }
        if launch.reports_faults {
            bound.push(((0, 0, FAULT_BYTES), &faults));
        }
        let signature = (launch.reads.len() as u8, (bound.len() - launch.reads.len()) as u8);
        let key = (launch.name, launch.variant);
        let mut programs = self.programs.lock();
        let pipeline = programs.pipeline(self, key, signature, launch.source)?;
        let group = programs.bind_group(self, signature, &bound);
        drop(programs);
        self.record(&mut stream, &pipeline, &group, launch.immediates, launch.groups)
    }

    fn record(
        &self,
        stream: &mut Stream,
        pipeline: &wgpu::ComputePipeline,
        group: &wgpu::BindGroup,
        immediates: &[u32],
        groups: u32,
    ) -> Result<(), Error> {
        assert!(immediates.len() * 4 <= MAX_IMMEDIATE_BYTES, "{} words of immediates", immediates.len());
        let max_x = 65535;
        let y = groups.div_ceil(max_x);
        let pass = stream.pass(&self.device);
        pass.set_pipeline(pipeline);
        pass.set_bind_group(0, group, &[]);
        if !immediates.is_empty() {
            pass.set_immediates(0, bytemuck::cast_slice(immediates));
        }
        pass.dispatch_workgroups(groups.div_ceil(y), y, 1);
        count(&self.counts.dispatches, 1);
        stream.n_recorded += 1;
        if stream.n_recorded >= if stream.is_first { FIRST_BATCH } else { BATCH } {
            self.submit(stream)?;
        }
        Ok(())
    }

    /// Gives what was recorded to the driver.
    fn submit(&self, stream: &mut Stream) -> Result<(), Error> {
        stream.pass = None;
        let Some(encoder) = stream.encoder.take() else { return self.check() };
        for piece in stream.pieces.iter_mut().filter(|piece| piece.used > 0) {
            piece.is_mapped.store(false, Ordering::Relaxed);
            piece.buffer.unmap();
        }
        if stream.pieces[stream.at].used > 0 {
            stream.at = (stream.at + 1) % UPLOAD_PIECES;
        }
        let submission = self.queue.submit([encoder.finish()]);
        count(&self.counts.submissions, 1);
        for piece in stream.pieces.iter_mut().filter(|piece| piece.used > 0) {
            piece.used = 0;
            piece.submission = Some(submission.clone());
            let is_mapped = piece.is_mapped.clone();
            piece.buffer.map_async(wgpu::MapMode::Write, .., move |result| {
                is_mapped.store(result.is_ok(), Ordering::Release);
            });
        }
        stream.n_recorded = 0;
        stream.serial += 1;
        stream.is_first = false;
        stream.queued.push_back(submission);
        if stream.queued.len() > MAX_QUEUED
            && let Some(oldest) = stream.queued.pop_front()
        {
            self.wait_until(oldest)?;
        }
        self.check()
    }

    /// Waits until the device has done that batch.
    fn wait_until(&self, submission: wgpu::SubmissionIndex) -> Result<(), Error> {
        let poll = wgpu::PollType::Wait { submission_index: Some(submission), timeout: Some(self.timeout) };
        match self.device.poll(poll) {
            Ok(_) => self.check(),
            Err(wgpu::PollError::Timeout) => {
                let problem = GpuProblem::Hung { seconds: self.timeout.as_secs() };
                self.failure.set(problem.clone());
                Err(self.error(problem))
            }
            Err(error) => Err(self.error(GpuProblem::Refused { message: error.to_string() })),
        }
    }

    /// Submits what was recorded and waits until the device has done all of it.
    pub(crate) fn synchronize(&self) -> Result<(), Error> {
        let mut stream = self.stream.lock();
        self.submit(&mut stream)?;
        self.wait_for_all(&mut stream)
    }

    fn wait_for_all(&self, stream: &mut Stream) -> Result<(), Error> {
        if let Some(last) = stream.queued.pop_back() {
            stream.queued.clear();
            self.wait_until(last)?;
        }
        stream.is_first = true;
        Ok(())
    }

    pub(super) fn fill(&self, buffer: &Buffer, word: u32) -> Result<(), Error> {
        self.check()?;
        let n_words = buffer.capacity() / 4;
        let mut stream = self.stream.lock();
        buffer.last_use.store(stream.serial, Ordering::Relaxed);
        if word == 0 {
            stream.between(&self.device).clear_buffer(&buffer.raw, 0, None);
            return Ok(());
        }
        let bound = [((buffer.id, 0, buffer.capacity() as u64), &buffer.raw)];
        let mut programs = self.programs.lock();
        let pipeline = programs.pipeline(self, ("fill", 0), (0, 1), &|_| FILL.to_owned())?;
        let group = programs.bind_group(self, (0, 1), &bound);
        drop(programs);
        let groups = n_words.div_ceil(4 * 256) as u32;
        self.record(&mut stream, &pipeline, &group, &[word, n_words as u32], groups)
    }

    pub(super) fn copy(&self, from: &Buffer, offset: usize, to: &Buffer, len: usize) -> Result<(), Error> {
        self.check()?;
        if len == 0 {
            return Ok(());
        }
        let mut stream = self.stream.lock();
        for buffer in [from, to] {
            buffer.last_use.store(stream.serial, Ordering::Relaxed);
        }
        // Copies are of whole words; behind a layout's bytes there is room for the rest of one.
        let len = (len.next_multiple_of(4) as u64).min(from.capacity() as u64 - offset as u64);
        stream.between(&self.device).copy_buffer_to_buffer(&from.raw, offset as u64, &to.raw, 0, len);
        Ok(())
    }

    /// Writes behind everything that was recorded before: the bytes go through the ring, and a copy is recorded.
    pub(super) fn write(&self, buffer: &Buffer, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        self.check()?;
        let mut stream = self.stream.lock();
        let last_use = buffer.last_use.swap(stream.serial, Ordering::Relaxed);
        debug_assert!(last_use <= stream.serial, "what still reads the buffer was recorded before");
        let mut at = offset;
        let mut rest = bytes;
        while !rest.is_empty() {
            let n = self.stage(&mut stream, buffer, at, rest)?;
            (at, rest) = (at + n, &rest[n..]);
        }
        count(&self.counts.uploads, 1);
        count(&self.counts.upload_bytes, bytes.len() as u64);
        Ok(())
    }

    /// Puts as many of the bytes as fit into the ring's present piece. How many.
    fn stage(&self, stream: &mut Stream, buffer: &Buffer, at: usize, bytes: &[u8]) -> Result<usize, Error> {
        if stream.pieces[stream.at].used == UPLOAD_BYTES {
            self.submit(stream)?;
        }
        let index = stream.at;
        self.wait_for_piece(stream, index)?;
        let start = stream.pieces[index].used;
        let n = bytes.len().min(UPLOAD_BYTES - start);
        let padded = n.next_multiple_of(4);
        let piece = &mut stream.pieces[index];
        let mapped = piece.buffer.get_mapped_range_mut(start as u64..(start + padded) as u64);
        let mut mapped = mapped.map_err(|error| self.error(GpuProblem::Refused { message: error.to_string() }))?;
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
        // Pieces are cut at multiples of 16, so that the next one begins where copies and maps may.
        piece.used = (start + padded).next_multiple_of(16).min(UPLOAD_BYTES);
        let source = piece.buffer.clone();
        let encoder = stream.between(&self.device);
        encoder.copy_buffer_to_buffer(&source, start as u64, &buffer.raw, at as u64, padded as u64);
        Ok(n)
    }

    /// Waits until the host may write the piece again.
    fn wait_for_piece(&self, stream: &mut Stream, index: usize) -> Result<(), Error> {
        let piece = &mut stream.pieces[index];
        if piece.is_mapped.load(Ordering::Acquire) {
            return Ok(());
        }
        if let Some(submission) = piece.submission.take() {
            self.wait_until(submission)?;
        }
        if piece.is_mapped.load(Ordering::Acquire) {
            return Ok(());
        }
        Err(self.error(GpuProblem::Refused { message: "the upload buffer could not be mapped".to_owned() }))
    }

    /// Reads in pieces, waiting for each.
    pub(super) fn read(
        &self,
        buffer: &Buffer,
        offset: usize,
        len: usize,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Error> {
        self.check()?;
        let mut stream = self.stream.lock();
        let mut at = offset;
        while at < offset + len {
            // Copies begin and end at multiples of four.
            let start = at / 4 * 4;
            let end = (offset + len).min(start + READBACK_BYTES);
            self.read_piece(&mut stream, buffer, start, end.next_multiple_of(4) - start, &mut |bytes| {
                sink(&bytes[at - start..end - start]);
            })?;
            at = end;
        }
        count(&self.counts.readbacks, 1);
        count(&self.counts.readback_bytes, len as u64);
        Ok(())
    }

    fn read_piece(
        &self,
        stream: &mut Stream,
        buffer: &Buffer,
        start: usize,
        len: usize,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Error> {
        let (readback, faults) = (stream.readback.clone(), stream.faults.clone());
        let encoder = stream.between(&self.device);
        encoder.copy_buffer_to_buffer(&faults, 0, &readback, 0, FAULT_BYTES);
        encoder.copy_buffer_to_buffer(&buffer.raw, start as u64, &readback, FAULT_BYTES, len as u64);
        self.submit(stream)?;
        let range = ..FAULT_BYTES + len as u64;
        readback.map_async(wgpu::MapMode::Read, range, |_| {});
        self.wait_for_all(stream)?;
        let mapped = readback.get_mapped_range(range);
        let mapped = mapped.map_err(|error| self.error(GpuProblem::Refused { message: error.to_string() }))?;
        let (fault, bytes) = mapped.split_at(FAULT_BYTES as usize);
        let fault: [u32; 4] = bytemuck::pod_read_unaligned(fault);
        if fault[0] == 0 {
            sink(bytes);
        }
        drop(mapped);
        readback.unmap();
        if fault[0] != 0 {
            stream.between(&self.device).clear_buffer(&faults, 0, None);
            return Err(Error::Index { index: fault[1] as i32, size: fault[2] });
        }
        Ok(())
    }
}
