//! The one door through which memory is taken and given back, and the ledger that knows where every byte is.
//!
//! A request goes to the current tensor buffer, then to the pool, then to the system. All of the bookkeeping of a device
//! lies under one lock, held for a few dozen instructions, so that the statistics are true at every moment and every
//! event has its place in one order. The system allocator is never called under the lock, and a lock that is busy is
//! waited for: memory that comes back is never thrown away instead.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tl_kernels::Threads;

use crate::cpu::{self, ALIGN, Block};
use crate::pool::{Evicted, Pool, class_bytes};
use crate::reserve::Reserve;
use crate::stats::{BufferPoolStats, MemoryStats, ReserveKind, TensorBufferStats};
use crate::storage::{Home, Lease, Slot};
use crate::tensor_buffer::TensorBuffer;
use crate::{Device, DeviceOptions, Error, Layout};

/// What the memory is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The result of an operation: from the tensor buffer, the pool, or the device.
    Activation,
    /// A parameter: from the learnable reserve or the device, never the pool, and given back to the system when dropped.
    Learnable,
}

/// How much may be allocated before the operating system is asked what it has left. Linux grants more than there is, and
/// kills the process when the pages are touched.
const UNASKED_BYTES: usize = 64 << 20;

pub(crate) struct Memory {
    state: Mutex<State>,
    /// Bytes asked of the system since it was last asked what it has left.
    unasked: AtomicUsize,
    nan_fill: bool,
    threads: Threads,
}

struct State {
    pool: Pool,
    reserves: Vec<Reserve>,
    next_id: u64,
    /// The tensor buffer that serves the operations of this device.
    current: Option<TensorBuffer>,
    ledger: Ledger,
    /// Slots that are out, mapped ones included.
    out: usize,
    /// A handle on the memory itself while slots are out, so that they need not hold one each.
    kept: Option<Device>,
}

/// Sums in bytes, and counts. `held` is the capacity of all slots that are out, `live` the bytes of their layouts.
#[derive(Default)]
struct Ledger {
    driver: u64,
    held: u64,
    live: u64,
    peak: u64,
    reserved_free: u64,
    mapped: u64,
    learnable: u64,
    allocations: u64,
    frees: u64,
    evictions: u64,
    pool_reuses: u64,
    pool_allocations: u64,
}

impl Ledger {
    /// A slot goes out for `len_bytes` bytes.
    fn go_out(&mut self, slot: &Slot, len_bytes: usize) {
        self.held += slot.block.capacity() as u64;
        self.live += len_bytes as u64;
        self.peak = self.peak.max(self.live);
        if slot.learnable {
            self.learnable += len_bytes as u64;
        }
    }

    fn come_back(&mut self, slot: &Slot) {
        self.held -= slot.block.capacity() as u64;
        self.live -= slot.len_bytes() as u64;
        if slot.learnable {
            self.learnable -= slot.len_bytes() as u64;
        }
    }

    fn allocated(&mut self, capacity: usize) {
        self.driver += capacity as u64;
        self.allocations += 1;
    }

    fn freed(&mut self, slots: &[Arc<Slot>]) {
        for slot in slots {
            self.driver -= slot.block.capacity() as u64;
            self.frees += 1;
        }
    }
}

impl State {
    /// Books a slot out.
    fn go_out(&mut self, device: &Device, slot: &Slot, len_bytes: usize) {
        if self.out == 0 {
            self.kept = Some(device.clone());
        }
        self.out += 1;
        match slot.home {
            Home::Mapped => self.ledger.mapped += len_bytes as u64,
            _ => self.ledger.go_out(slot, len_bytes),
        }
    }

    fn reserve(&mut self, id: u64) -> Option<&mut Reserve> {
        self.reserves.iter_mut().find(|reserve| reserve.id == id)
    }

    fn current_reserve(&mut self) -> Option<&mut Reserve> {
        let id = self.current.as_ref()?.id();
        self.reserve(id)
    }

    fn stats(&self) -> MemoryStats {
        let ledger = &self.ledger;
        let pooled = self.pool.idle_bytes() as u64;
        debug_assert_eq!(ledger.driver, ledger.held + ledger.reserved_free + pooled, "every byte has its place");
        MemoryStats {
            driver_bytes: ledger.driver,
            live_bytes: ledger.live,
            peak_bytes: ledger.peak,
            reserved_free_bytes: ledger.reserved_free,
            pooled_bytes: pooled,
            waste_bytes: ledger.held - ledger.live,
            mapped_bytes: ledger.mapped,
            learnable_bytes: ledger.learnable,
            allocation_count: ledger.allocations,
            free_count: ledger.frees,
            eviction_count: ledger.evictions,
            pool_reuse_count: ledger.pool_reuses,
            pool_cap_bytes: self.pool.cap_bytes() as u64,
        }
    }

    /// Puts a slot that came back where it belongs.
    fn keep_or_free(&mut self, slot: Arc<Slot>, freed: &mut Evicted) {
        let capacity = slot.block.capacity() as u64;
        match slot.home {
            Home::Pool => {
                let evicted = self.pool.put(slot);
                self.ledger.evictions += evicted.len() as u64;
                freed.extend(evicted);
            }
            Home::Reserve { id, entry, index } => {
                let recycled = slot.recycled.swap(false, Ordering::Relaxed);
                let not_kept = match self.reserve(id) {
                    Some(reserve) => reserve.give_back(slot, entry, index, recycled),
                    None => Some(slot),
                };
                match not_kept {
                    Some(slot) => freed.push(slot),
                    None => self.ledger.reserved_free += capacity,
                }
            }
            Home::Device | Home::Mapped => freed.push(slot),
        }
    }

    /// Takes a slot of the reserve with this id, and books it out.
    fn take_reserved(
        &mut self,
        device: &Device,
        id: u64,
        layout: &Layout,
        len_bytes: usize,
        role: Role,
    ) -> Option<Arc<Slot>> {
        let reserve = self.reserve(id)?;
        let slot = match role {
            Role::Activation => reserve.take(layout),
            Role::Learnable => reserve.take_learnable(layout),
        }?;
        self.ledger.reserved_free -= slot.block.capacity() as u64;
        self.go_out(device, &slot, len_bytes);
        Some(slot)
    }
}

impl Memory {
    pub(crate) fn new(options: &DeviceOptions) -> Memory {
        Memory {
            state: Mutex::new(State {
                pool: Pool::new(options.memory.pool_max_bytes, options.memory.max_buffers_per_size),
                reserves: Vec::new(),
                next_id: 1,
                current: None,
                ledger: Ledger::default(),
                out: 0,
                kept: None,
            }),
            unasked: AtomicUsize::new(0),
            nan_fill: options.memory.nan_fill,
            threads: Threads::new(options.threads.max(1)),
        }
    }

    pub(crate) fn threads(&self) -> &Threads {
        &self.threads
    }

    /// Memory for a tensor of this layout, from the first source that has it.
    pub(crate) fn take(&self, device: &Device, layout: &Layout, role: Role) -> Result<Lease, Error> {
        let len_bytes = layout.len_bytes()?;
        let class = match role {
            Role::Activation => class_bytes(len_bytes),
            Role::Learnable => len_bytes.max(1).checked_next_multiple_of(ALIGN),
        };
        let class = class.ok_or_else(|| Error::TooLarge { layout: layout.clone() })?;
        let mut state = self.state.lock();
        let current = state.current.as_ref().map(TensorBuffer::id);
        let mut slot = current.and_then(|id| state.take_reserved(device, id, layout, len_bytes, role));
        if slot.is_none() && role == Role::Activation {
            slot = state.pool.take(class);
            if let Some(slot) = &slot {
                state.ledger.pool_reuses += 1;
                state.go_out(device, slot, len_bytes);
            }
        }
        drop(state);
        let slot = match slot {
            Some(slot) => slot,
            None => self.allocate_slot(device, layout, len_bytes, class, role)?,
        };
        Ok(self.lease(slot, len_bytes))
    }

    fn lease(&self, slot: Arc<Slot>, len_bytes: usize) -> Lease {
        let mut lease = Lease::new(slot, len_bytes);
        if self.nan_fill {
            lease.bytes_mut().fill(0xff);
        }
        lease
    }

    fn allocate_slot(
        &self,
        device: &Device,
        layout: &Layout,
        len_bytes: usize,
        class: usize,
        role: Role,
    ) -> Result<Arc<Slot>, Error> {
        let (home, learnable) = match role {
            Role::Activation => (Home::Pool, false),
            Role::Learnable => (Home::Device, true),
        };
        let block = self.or_after_trim(|| self.allocate(class));
        let block = block.ok_or_else(|| self.out_of_memory(layout.to_string(), class))?;
        let slot = Slot::new(device, block, home, learnable);
        let mut state = self.state.lock();
        state.ledger.allocated(class);
        state.go_out(device, &slot, len_bytes);
        if role == Role::Activation {
            state.ledger.pool_allocations += 1;
        }
        Ok(slot)
    }

    /// A block from the system, where it has one.
    fn allocate(&self, capacity: usize) -> Option<Block> {
        if self.is_available(capacity) { Block::allocate(capacity) } else { None }
    }

    /// Whether the system has `bytes` to give. It is asked once for every so many bytes, whether they come in large
    /// requests or in many small ones.
    fn is_available(&self, bytes: usize) -> bool {
        let unasked = self.unasked.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if unasked < UNASKED_BYTES {
            return true;
        }
        self.unasked.store(0, Ordering::Relaxed);
        cpu::available_bytes().is_none_or(|available| bytes as u64 <= available)
    }

    /// What `request` yields, if necessary at the second attempt, after everything idle was freed.
    fn or_after_trim<T>(&self, request: impl Fn() -> Option<T>) -> Option<T> {
        request().or_else(|| {
            self.trim();
            request()
        })
    }

    #[cold]
    fn out_of_memory(&self, what: String, requested_bytes: usize) -> Error {
        let available_bytes = cpu::available_bytes();
        Error::OutOfMemory { what, requested_bytes, available_bytes, stats: Box::new(self.stats()) }
    }

    /// Takes back a slot whose last handle is gone. Called by [`Storage`](crate::Storage) when it is dropped, which then
    /// drops what this returns: the handle that kept the memory, if no slot is out any more.
    #[must_use]
    pub(crate) fn give_back(&self, slot: Arc<Slot>) -> Option<Device> {
        if self.nan_fill {
            // SAFETY: the last handle is gone and the slot is not handed out again before the end of this function.
            #[allow(unsafe_code)]
            unsafe {
                slot.fill_with_nan();
            }
        }
        // Declared before the lock is taken: what leaves the device is freed after the lock is released.
        let mut freed = Evicted::new();
        let mut state = self.state.lock();
        state.out -= 1;
        if slot.home == Home::Mapped {
            state.ledger.mapped -= slot.block.capacity() as u64;
        } else {
            state.ledger.come_back(&slot);
            state.keep_or_free(slot, &mut freed);
            state.ledger.freed(&freed);
        }
        if state.out == 0 { state.kept.take() } else { None }
    }

    /// Frees everything that is idle in the pool.
    pub(crate) fn trim(&self) {
        let mut freed = Evicted::new();
        let mut state = self.state.lock();
        state.pool.shrink_to(0, &mut freed);
        state.ledger.freed(&freed);
        drop(state);
    }

    pub(crate) fn stats(&self) -> MemoryStats {
        self.state.lock().stats()
    }

    pub(crate) fn pool_stats(&self) -> BufferPoolStats {
        let state = self.state.lock();
        BufferPoolStats {
            total_pooled: state.pool.idle_count(),
            size_classes: state.pool.class_count(),
            total_memory: state.pool.idle_bytes() as u64,
            reuse_count: state.ledger.pool_reuses,
            allocation_count: state.ledger.pool_allocations,
            eviction_count: state.ledger.evictions,
        }
    }

    /// Makes `peak_bytes` start again from what is live now.
    pub(crate) fn reset_peak(&self) {
        let mut state = self.state.lock();
        state.ledger.peak = state.ledger.live;
    }

    /// A part of a mapped file as storage; it counts as mapped, not as memory of the device.
    pub(crate) fn adopt_mapped(&self, device: &Device, block: Block) -> Lease {
        let len = block.capacity();
        let slot = Slot::new(device, block, Home::Mapped, true);
        self.state.lock().go_out(device, &slot, len);
        Lease::new(slot, len)
    }
}

/// What [`TensorBuffer`] asks of the memory of its device.
impl Memory {
    pub(crate) fn add_reserve(&self) -> u64 {
        let mut state = self.state.lock();
        let id = state.next_id;
        state.next_id += 1;
        state.reserves.push(Reserve::new(id));
        id
    }

    pub(crate) fn remove_reserve(&self, id: u64) {
        let mut state = self.state.lock();
        let Some(at) = state.reserves.iter().position(|reserve| reserve.id == id) else { return };
        let freed = state.reserves.swap_remove(at).clear(|_, _| true);
        state.book_cleared(&freed);
        drop(state);
    }

    pub(crate) fn set_current(&self, buffer: Option<TensorBuffer>) -> Option<TensorBuffer> {
        // The old one is dropped by the caller, outside the lock: it may be the last handle and remove its reserve.
        std::mem::replace(&mut self.state.lock().current, buffer)
    }

    pub(crate) fn current(&self) -> Option<TensorBuffer> {
        self.state.lock().current.clone()
    }

    /// Adds `count` buffers to a reserve, all or none.
    pub(crate) fn reserve(
        &self,
        device: &Device,
        id: u64,
        layout: &Layout,
        count: usize,
        kind: ReserveKind,
    ) -> Result<(), Error> {
        let too_large = || Error::TooLarge { layout: layout.clone() };
        let capacity = layout.len_bytes()?.max(1).checked_next_multiple_of(ALIGN).ok_or_else(too_large)?;
        let total = capacity.checked_mul(count).ok_or_else(too_large)?;
        let blocks = self.or_after_trim(|| self.allocate_all(capacity, count, total));
        let blocks = blocks.ok_or_else(|| self.out_of_memory(format!("a reservation of {count} × {layout}"), total))?;
        let mut state = self.state.lock();
        let Some(reserve) = state.reserve(id) else { return Err(Error::DeviceGone) };
        let entry = reserve.entry(layout, kind);
        for block in blocks {
            let home = Home::Reserve { id, entry, index: reserve.next_index(entry) };
            reserve.add(entry, Slot::new(device, block, home, kind == ReserveKind::Learnable));
        }
        state.ledger.driver += total as u64;
        state.ledger.reserved_free += total as u64;
        state.ledger.allocations += count as u64;
        Ok(())
    }

    /// `count` blocks with their pages touched, or none at all.
    fn allocate_all(&self, capacity: usize, count: usize, total: usize) -> Option<Vec<Block>> {
        // Asking for all of them first keeps a reservation that cannot end from starting.
        if !self.is_available(total) {
            return None;
        }
        let mut blocks = Vec::new();
        blocks.try_reserve_exact(count).ok()?;
        for _ in 0..count {
            let mut block = self.allocate(capacity)?;
            block.touch_pages();
            blocks.push(block);
        }
        Some(blocks)
    }

    /// A free buffer of this reserve, or `None` where it has none for the layout.
    pub(crate) fn take_from(
        &self,
        device: &Device,
        id: u64,
        layout: &Layout,
        role: Role,
    ) -> Result<Option<Lease>, Error> {
        let len_bytes = layout.len_bytes()?;
        let slot = self.state.lock().take_reserved(device, id, layout, len_bytes, role);
        Ok(slot.map(|slot| self.lease(slot, len_bytes)))
    }

    pub(crate) fn clear(&self, id: u64, which: impl Fn(&Layout, ReserveKind) -> bool) {
        let mut state = self.state.lock();
        let Some(reserve) = state.reserve(id) else { return };
        let freed = reserve.clear(which);
        state.book_cleared(&freed);
        drop(state);
    }

    pub(crate) fn reserve_stats(&self, id: u64) -> TensorBufferStats {
        self.state.lock().reserve(id).map(|reserve| reserve.stats()).unwrap_or_default()
    }

    pub(crate) fn current_reserve_stats(&self) -> TensorBufferStats {
        self.state.lock().current_reserve().map(|reserve| reserve.stats()).unwrap_or_default()
    }
}

impl State {
    fn book_cleared(&mut self, freed: &[Arc<Slot>]) {
        let bytes: usize = freed.iter().map(|slot| slot.block.capacity()).sum();
        self.ledger.reserved_free -= bytes as u64;
        self.ledger.freed(freed);
    }
}
