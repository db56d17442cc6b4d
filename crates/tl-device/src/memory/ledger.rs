//! Sums of all bytes by their state. Changed under the memory's lock only.

use crate::heap;
use crate::purpose::Role;
use crate::slot::Slot;
use crate::stats::MemoryStats;

/// Sums in bytes, and counts. `held` is the capacity of all slots that are out, `live` the bytes of their layouts,
/// `returning` the capacity of returned slots that wait for queued work, `booked` the bytes booked by requests in
/// progress.
#[derive(Default, Clone)]
pub(crate) struct Ledger {
    /// Whether the heap counts for this device: true for the CPU, false for GPUs and simulated devices.
    pub(crate) counts_heap: bool,
    pub(crate) driver: u64,
    pub(crate) booked: u64,
    /// The kernels' workspace.
    pub(crate) workspace: u64,
    /// Memory of running recordings.
    pub(crate) recording: u64,
    pub(crate) held: u64,
    pub(crate) live: u64,
    pub(crate) peak: u64,
    pub(crate) returning: u64,
    pub(crate) reserved_free: u64,
    pub(crate) mapped: u64,
    /// The part of `mapped` in files that were read, which counts as heap.
    pub(crate) read: u64,
    pub(crate) learnable: u64,
    pub(crate) cache: u64,
    pub(crate) allocations: u64,
    pub(crate) frees: u64,
    pub(crate) evictions: u64,
    pub(crate) pool_reuses: u64,
    pub(crate) pool_allocations: u64,
}

impl Ledger {
    /// Bytes that count against a limit.
    pub(crate) fn promised(&self) -> u64 {
        self.driver + self.mapped - self.read + self.workspace + self.recording + self.booked + self.heap()
    }

    /// The counted part of the process's heap; recordings lie there too, and are counted separately.
    fn heap(&self) -> u64 {
        let is_counted = self.counts_heap && heap::is_counted();
        if is_counted { (heap::bytes() as u64).saturating_sub(self.recording) } else { 0 }
    }

    /// Counts a part of a file that goes out for `len_bytes` bytes.
    pub(crate) fn map(&mut self, slot: &Slot, len_bytes: u64) {
        self.mapped += len_bytes;
        self.read += if slot.block.is_on_heap() { len_bytes } else { 0 };
    }

    pub(crate) fn unmap(&mut self, slot: &Slot) {
        let len_bytes = slot.block.capacity() as u64;
        self.mapped -= len_bytes;
        self.read -= if slot.block.is_on_heap() { len_bytes } else { 0 };
    }

    /// Counts a slot that goes out for `len_bytes` bytes.
    pub(crate) fn record_take(&mut self, slot: &Slot, len_bytes: u64) {
        self.held += slot.block.capacity() as u64;
        self.live += len_bytes;
        self.peak = self.peak.max(self.live);
        if let Some(sum) = self.of_role(slot.role()) {
            *sum += len_bytes;
        }
    }

    pub(crate) fn record_return(&mut self, slot: &Slot) {
        let len_bytes = slot.len_bytes() as u64;
        self.held -= slot.block.capacity() as u64;
        self.live -= len_bytes;
        if let Some(sum) = self.of_role(slot.role()) {
            *sum -= len_bytes;
        }
    }

    fn of_role(&mut self, role: Role) -> Option<&mut u64> {
        match role {
            Role::Learnable => Some(&mut self.learnable),
            Role::Cache => Some(&mut self.cache),
            Role::Activation => None,
        }
    }

    /// Counts `count` blocks obtained from the system, `bytes` in all.
    pub(crate) fn allocated(&mut self, count: u64, bytes: u64) {
        self.driver += bytes;
        self.allocations += count;
    }

    /// Counts a block returned to the system.
    pub(crate) fn freed(&mut self, bytes: u64) {
        self.driver -= bytes;
        self.frees += 1;
    }

    /// The public statistics; `pooled` is the pool's idle bytes, `pool_cap` its cap.
    pub(crate) fn stats(&self, pooled: u64, pool_cap: u64) -> MemoryStats {
        let accounted = self.held + self.returning + self.reserved_free + pooled;
        debug_assert_eq!(self.driver, accounted, "every byte has its place");
        MemoryStats {
            driver_bytes: self.driver,
            live_bytes: self.live,
            peak_bytes: self.peak,
            reserved_free_bytes: self.reserved_free,
            pooled_bytes: pooled,
            waste_bytes: self.held - self.live + self.returning,
            mapped_bytes: self.mapped,
            read_bytes: self.read,
            workspace_bytes: self.workspace,
            heap_bytes: self.heap(),
            recording_bytes: self.recording,
            learnable_bytes: self.learnable,
            cache_bytes: self.cache,
            allocation_count: self.allocations,
            free_count: self.frees,
            eviction_count: self.evictions,
            pool_reuse_count: self.pool_reuses,
            pool_cap_bytes: pool_cap,
            ..MemoryStats::default()
        }
    }
}
