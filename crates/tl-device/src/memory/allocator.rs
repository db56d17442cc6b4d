//! Allocation and return of memory: the single entry point.
//!
//! A request goes to the current tensor buffer, then to the pool, then to the system. All bookkeeping of a device
//! (`state.rs`) lies under one lock, held for a few dozen instructions, so that the statistics are always consistent
//! and all events have one order. The system allocator is never called under the lock. A busy lock is waited for:
//! returned memory is never discarded to avoid the wait.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tl_kernels::{Isa, Threads, WORKSPACE_BYTES};

use super::pool::{Evicted, Pool, class_bytes};
use super::reserve::Request;
use super::state::{Keeper, State};
use super::thread_context::{self, Entry};
use super::thread_sets::{ThreadSet, ThreadSets};
use crate::available::{Available, MemoryBound, available_memory, is_under_pressure};
use crate::error::Error;
#[cfg(feature = "gpu")]
use crate::gpu::{self, Buffer, Gpu};
use crate::heap;
use crate::layout::{ALIGN, DType, Layout, LayoutError};
use crate::options::{
    DeviceOptions, FallbackListener, LaunchListener, MemoryOptions, OutOfMemoryHook, Simulation, Work,
};
use crate::purpose::{Purpose, Role};
use crate::shader_target::ShaderTarget;
use crate::slot::{Block, Slot, SlotOwner};
use crate::stats::{BufferPoolStats, MemoryStats};
use crate::sync::{Guard, Lock};
use crate::trace::Source;

/// Bytes that may be allocated between two checks of the operating system's available memory. Linux overcommits, and
/// kills the process when the pages are touched.
const MEMINFO_INTERVAL: usize = 64 << 20;

pub(crate) struct Memory {
    state: Lock<State>,
    /// Bytes requested from the system since the last check of its available memory.
    unasked: AtomicUsize,
    /// The number of such bytes after which to check again.
    ask_after: AtomicUsize,
    /// Heap size from which on it is compared with the limits again.
    heap_checked: AtomicUsize,
    /// Heap size at the last comparison.
    heap_seen: AtomicUsize,
    /// Allocations until the one that a test makes fail; 0: none.
    until_failure: AtomicU64,
    hook: Mutex<Option<Arc<OutOfMemoryHook>>>,
    options: MemoryOptions,
    is_simulated: bool,
    /// Whether operations behave as on a GPU: a real or a simulated one.
    is_gpu: bool,
    launch_listener: Option<LaunchListener>,
    /// The features of a simulated GPU's programs.
    simulated_target: Option<ShaderTarget>,
    /// The GPU that has the memory; `None`: the CPU.
    #[cfg(feature = "gpu")]
    gpu: Option<Arc<Gpu>>,
    /// Operations that ran on the CPU for lack of a GPU program, each named once, and the number of such runs.
    host_fallbacks: Mutex<(Vec<&'static str>, u64)>,
    /// Whether the GPU's matrix instructions passed their check.
    pub(crate) matrix_trust: OnceLock<bool>,
    pub(crate) fallback_listener: Mutex<Option<Box<FallbackListener>>>,
    /// On a simulated device, the work of the operations so far.
    pub(crate) work: Mutex<Work>,
    thread_sets: ThreadSets,
}

/// Reason for a failed allocation.
pub(super) enum AllocError {
    /// The system has no memory.
    System,
    /// The limit would be exceeded.
    Limit,
    /// The device has failed, or does not support the request.
    #[cfg(feature = "gpu")]
    Other(Error),
}

/// Bytes booked for a request until the ledger has them in their place. Dropping it earlier releases them.
#[must_use]
pub(crate) struct Booking<'a> {
    memory: &'a Memory,
    bytes: u64,
}

impl<'a> Booking<'a> {
    /// A part of it as a booking of its own; `None` if it holds fewer bytes.
    fn split(&mut self, bytes: u64) -> Option<Booking<'a>> {
        self.bytes = self.bytes.checked_sub(bytes)?;
        Some(Booking { memory: self.memory, bytes })
    }

    /// Ends the booking: the caller, who holds the lock, enters the bytes in their place.
    pub(super) fn settle(mut self, state: &mut State) {
        state.ledger.booked -= std::mem::take(&mut self.bytes);
    }
}

impl Drop for Booking<'_> {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.memory.lock().ledger.booked -= self.bytes;
        }
    }
}

impl Memory {
    /// The memory of a CPU, or of a simulated device.
    pub(crate) fn new(options: &DeviceOptions) -> Arc<Memory> {
        Memory::with(
            options,
            #[cfg(feature = "gpu")]
            None,
        )
    }

    /// The memory of a GPU.
    #[cfg(feature = "gpu")]
    pub(crate) fn on_gpu(options: &DeviceOptions) -> Result<Arc<Memory>, Error> {
        Ok(Memory::with(options, Some(gpu::open(&options.gpu)?)))
    }

    fn with(options: &DeviceOptions, #[cfg(feature = "gpu")] gpu: Option<Arc<Gpu>>) -> Arc<Memory> {
        #[cfg(feature = "gpu")]
        let has_gpu = gpu.is_some();
        #[cfg(not(feature = "gpu"))]
        let has_gpu = false;
        let memory = &options.memory;
        let simulation = options.simulation.as_ref();
        let pool = Pool::new(memory.pool_max_bytes, memory.max_buffers_per_size);
        let is_delayed = simulation.is_some_and(|simulation| simulation.is_delayed);
        let counts_heap = simulation.is_none() && !has_gpu;
        Arc::new_cyclic(|own: &std::sync::Weak<Memory>| Memory {
            state: Lock::new(State::new(own.clone(), pool, memory, is_delayed, counts_heap)),
            unasked: AtomicUsize::new(0),
            ask_after: AtomicUsize::new(0),
            heap_checked: AtomicUsize::new(0),
            heap_seen: AtomicUsize::new(0),
            until_failure: AtomicU64::new(memory.fail_allocation.unwrap_or(0)),
            hook: Mutex::new(None),
            options: memory.clone(),
            is_simulated: simulation.is_some(),
            is_gpu: has_gpu || simulation.is_some_and(|simulation| simulation.is_gpu),
            simulated_target: simulation.filter(|simulation| simulation.is_gpu).map(Simulation::target),
            launch_listener: simulation.and_then(|simulation| simulation.on_launch.clone()),
            #[cfg(feature = "gpu")]
            gpu,
            host_fallbacks: Mutex::default(),
            matrix_trust: OnceLock::new(),
            fallback_listener: Mutex::new(None),
            work: Mutex::default(),
            thread_sets: ThreadSets::new(options.threads, options.isa.unwrap_or_else(Isa::detect)),
        })
    }

    #[cfg(feature = "gpu")]
    pub(crate) fn gpu(&self) -> Option<&Arc<Gpu>> {
        self.gpu.as_ref()
    }

    pub(crate) fn simulated_target(&self) -> Option<&ShaderTarget> {
        self.simulated_target.as_ref()
    }

    pub(crate) fn launch_listener(&self) -> Option<&LaunchListener> {
        self.launch_listener.as_ref()
    }

    pub(crate) fn is_gpu(&self) -> bool {
        self.is_gpu
    }

    /// Counts an operation that ran on the CPU for lack of a GPU program. Returns whether it is the first of its name.
    pub(crate) fn count_host_fallback(&self, op: &'static str) -> bool {
        let mut fallbacks = self.host_fallbacks.lock();
        fallbacks.1 += 1;
        let is_new = !fallbacks.0.contains(&op);
        if is_new {
            fallbacks.0.push(op);
        }
        is_new
    }

    #[cfg(feature = "gpu")]
    pub(crate) fn host_fallback_count(&self) -> u64 {
        self.host_fallbacks.lock().1
    }

    pub(crate) fn threads(&self) -> &Threads {
        &self.thread_set().threads
    }

    /// The address that identifies this memory in thread contexts.
    pub(crate) fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// The admission of this memory that the thread has entered.
    #[inline]
    pub(crate) fn entered(&self) -> Option<Entry> {
        thread_context::entered(self.address())
    }

    pub(crate) fn is_simulated(&self) -> bool {
        self.is_simulated
    }

    pub(super) fn limit_bytes(&self) -> Option<usize> {
        self.options.limit_bytes
    }

    /// Bytes that count against the limit.
    pub(super) fn promised(&self) -> u64 {
        self.lock().ledger.promised()
    }

    pub(crate) fn lock(&self) -> Guard<'_, State> {
        self.state.lock()
    }

    pub(crate) fn set_hook(&self, hook: Option<Arc<OutOfMemoryHook>>) {
        *self.hook.lock() = hook;
    }

    pub(super) fn request<'a>(&self, layout: &'a Layout, purpose: Purpose) -> Result<Request<'a>, Error> {
        let location = thread_context::location();
        Ok(Request { layout, len_bytes: layout.len_bytes()?, purpose, location })
    }

    /// A slot for a tensor of this layout, from the first source that has one, and the bytes of it that the tensor
    /// uses.
    pub(crate) fn take(&self, layout: &Layout, purpose: Purpose) -> Result<(Arc<Slot>, usize), Error> {
        let request = self.request(layout, purpose)?;
        let mut state = self.lock();
        let entry = self.entered();
        let context = state.context(entry);
        if context.seals_at_use && purpose.role != Role::Learnable {
            context.seals_at_use = false;
            drop(state);
            self.seal();
            state = self.lock();
        }
        let current = state.context(entry).current.as_ref().map(|current| current.reserve);
        if let Some(slot) = current.and_then(|id| state.take_reserved(id, request)) {
            drop(state);
            return Ok((self.hand_out(slot), request.len_bytes));
        }
        let class = match purpose.role {
            Role::Activation | Role::Cache => class_bytes(request.len_bytes),
            Role::Learnable => request.len_bytes.max(1).checked_next_multiple_of(ALIGN),
        };
        let class = class.ok_or_else(|| LayoutError::TooLarge { layout: layout.clone() })?;
        let slot = match purpose.role {
            Role::Activation | Role::Cache => state.take_pooled(class, request),
            Role::Learnable => None,
        };
        let is_refused = slot.is_none() && state.context(entry).is_sealed;
        drop(state);
        let slot = match slot {
            Some(slot) => slot,
            None if is_refused => return Err(self.sealed(request)),
            None => self.allocate_slot(class, request)?,
        };
        Ok((self.hand_out(slot), request.len_bytes))
    }

    /// Takes the kernels' workspace, once: see [`MemoryStats::workspace_bytes`].
    #[inline]
    pub(crate) fn take_workspace(&self) -> Result<(), Error> {
        if self.thread_set().workspace.get().is_some() { Ok(()) } else { self.take_workspace_now() }
    }

    #[cold]
    fn take_workspace_now(&self) -> Result<(), Error> {
        // A GPU multiplies without a workspace; products that the CPU computes for one keep their copies on the heap.
        if self.is_gpu {
            return Ok(());
        }
        // One thread takes it and the others wait, so that it is booked once. A hook that multiplies re-enters here.
        let set = self.thread_set();
        let _turn = set.turn.lock();
        let what = || "the kernels' workspace".to_owned();
        self.or_after_trim(WORKSPACE_BYTES, what, || {
            if set.workspace.get().is_some() {
                return Ok(());
            }
            let booking = self.book(WORKSPACE_BYTES)?;
            let excluded = heap::Excluded::new(if self.is_simulated { 0 } else { WORKSPACE_BYTES });
            if !self.is_simulated && !heap::refusable(|| set.threads.take_workspace()) {
                return Err(AllocError::System);
            }
            let mut state = self.lock();
            booking.settle(&mut state);
            state.ledger.workspace += WORKSPACE_BYTES as u64;
            let _ = set.workspace.set(excluded);
            Ok(())
        })
    }

    /// The compute threads of the calling thread.
    #[inline]
    fn thread_set(&self) -> &ThreadSet {
        self.thread_sets.of(self.entered())
    }

    /// Claims a set of `count` threads until it is released; `None` if all are claimed.
    pub(crate) fn claim_threads(&self, count: usize) -> Option<usize> {
        self.thread_sets.claim(count)
    }

    pub(crate) fn release_threads(&self, at: usize) {
        self.thread_sets.release(at);
    }

    /// Whether the calling thread's context is sealed.
    pub(crate) fn is_sealed(&self) -> bool {
        self.lock().context(self.entered()).is_sealed
    }

    /// Books the maximum bytes of a session.
    pub(crate) fn book_session(&self, bytes: u64) -> Result<Booking<'_>, Error> {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let what = || format!("a session of {}", crate::error::bytes(bytes as u64));
        self.or_after_trim(bytes, what, || {
            let booking = self.book(bytes)?;
            if self.is_available(bytes) { Ok(booking) } else { Err(AllocError::System) }
        })
    }

    /// Refuses new allocations from here on. If there is no memory for the workspace, the first product fails.
    pub(crate) fn seal(&self) {
        let _ = self.take_workspace();
        self.lock().context(self.entered()).is_sealed = true;
    }

    /// Prepares a slot for its first handle: fills it if that option is set.
    pub(super) fn hand_out(&self, slot: Arc<Slot>) -> Arc<Slot> {
        if self.options.nan_fill {
            // SAFETY: the slot was just handed out, and its first handle is made by the caller.
            #[allow(unsafe_code)]
            unsafe {
                slot.fill_with_nan();
            }
        }
        slot
    }

    #[cold]
    pub(super) fn sealed(&self, request: Request) -> Error {
        let Purpose { role, op } = request.purpose;
        Error::Sealed { op, layout: request.layout.clone(), role, location: request.location }
    }

    /// A new slot. If a size class of the pool would exceed the limit and the request itself does not, the slot has
    /// exactly the requested size, and goes back to the system afterwards.
    fn allocate_slot(&self, class: usize, request: Request) -> Result<Arc<Slot>, Error> {
        let is_learnable = request.purpose.role == Role::Learnable;
        let exact = request.len_bytes.max(1).next_multiple_of(ALIGN);
        let mut is_repeated = false;
        let (block, booking) = self.or_after_trim(
            exact,
            || request.layout.to_string(),
            || {
                let granted = self.allocate_booked(class);
                let is_last = std::mem::replace(&mut is_repeated, true);
                match granted {
                    Err(AllocError::Limit) if is_last && exact < class => self.allocate_booked(exact),
                    granted => granted,
                }
            },
        )?;
        let capacity = block.capacity();
        let owner = if is_learnable || capacity < class { SlotOwner::System } else { SlotOwner::Pool };
        let slot = Slot::new(block, owner, is_learnable);
        let mut state = self.lock();
        booking.settle(&mut state);
        state.ledger.allocated(1, capacity as u64);
        if !is_learnable {
            state.ledger.pool_allocations += 1;
        }
        state.record_take(&slot, request, Source::Device);
        Ok(slot)
    }

    /// A block from the system, booked before it is allocated.
    fn allocate_booked(&self, capacity: usize) -> Result<(Block, Booking<'_>), AllocError> {
        let booking = self.book(capacity)?;
        Ok((self.allocate(capacity)?, booking))
    }

    /// A block from the system, booked by the caller.
    pub(super) fn allocate(&self, capacity: usize) -> Result<Block, AllocError> {
        if self.should_inject_failure() || !self.is_available(capacity) {
            return Err(AllocError::System);
        }
        if self.is_simulated {
            return Ok(Block::Simulated { capacity, whole: None });
        }
        #[cfg(feature = "gpu")]
        if let Some(gpu) = &self.gpu {
            return Buffer::create(gpu, capacity).map(Block::Gpu).map_err(|refused| match refused {
                gpu::AllocError::OutOfMemory => AllocError::System,
                gpu::AllocError::Other(error) => AllocError::Other(error),
            });
        }
        let mut block = Block::allocate(capacity).ok_or(AllocError::System)?;
        // The pages are touched now, so that the system's available memory takes them into account.
        block.touch_pages();
        Ok(block)
    }

    /// Books `bytes` more if they stay within the limits, atomically, so that concurrent requests stay within them too.
    /// Above the soft limit, the pool's idle memory is freed first.
    fn book(&self, bytes: usize) -> Result<Booking<'_>, AllocError> {
        let bytes = bytes as u64;
        if let Some(soft) = self.options.soft_limit_bytes
            && self.lock().ledger.promised() + bytes > soft as u64
        {
            self.trim();
        }
        let mut state = self.lock();
        match self.options.limit_bytes {
            Some(limit) if state.ledger.promised().saturating_add(bytes) > limit as u64 => Err(AllocError::Limit),
            _ => {
                state.ledger.booked += bytes;
                self.heap_checked.store(0, Ordering::Relaxed);
                Ok(Booking { memory: self, bytes })
            }
        }
    }

    /// Takes from a session's booking, or books now.
    pub(super) fn book_within<'a>(
        &'a self,
        bytes: usize,
        session: Option<&mut Booking<'a>>,
    ) -> Result<Booking<'a>, AllocError> {
        match session.and_then(|session| session.split(bytes as u64)) {
            Some(booking) => Ok(booking),
            None => self.book(bytes),
        }
    }

    /// Checks that the heap may grow by `bytes`: see [`Device::check_heap`].
    #[inline]
    pub(crate) fn check_heap(&self, bytes: usize, what: impl Fn() -> String) -> Result<(), Error> {
        let size = heap::bytes().saturating_add(bytes);
        if size <= self.heap_checked.load(Ordering::Relaxed) { Ok(()) } else { self.check_heap_now(bytes, what) }
    }

    #[cold]
    fn check_heap_now(&self, bytes: usize, what: impl Fn() -> String) -> Result<(), Error> {
        if self.is_simulated {
            return Ok(());
        }
        let now = heap::bytes();
        let grown = now.saturating_sub(self.heap_seen.swap(now, Ordering::Relaxed));
        // The growth has already happened: it only brings the next check of the system closer.
        self.unasked.fetch_add(grown, Ordering::Relaxed);
        let booking = self.or_after_trim(bytes, what, || {
            // An uncounted heap has no limit; a GPU's limit is on its own memory.
            let is_bounded = heap::is_counted() && !self.is_gpu;
            let booking = if is_bounded { Some(self.book(bytes)?) } else { None };
            if self.host_has(bytes) { Ok(booking) } else { Err(AllocError::System) }
        })?;
        drop(booking);
        // While nothing else is taken, this much more heap needs no further check.
        let limit = self.options.limit_bytes.map_or(u64::MAX, |limit| limit as u64);
        let room = limit.saturating_sub(self.lock().ledger.promised()).min(MEMINFO_INTERVAL as u64 / 8);
        self.heap_checked.store(now + room as usize, Ordering::Relaxed);
        Ok(())
    }

    /// Whether this allocation, or its repetition, is the one that a test makes fail.
    fn should_inject_failure(&self) -> bool {
        const REPETITION: u64 = u64::MAX;
        let count_down = |n: u64| match n {
            0 => None,
            1 => Some(REPETITION),
            REPETITION => Some(0),
            n => Some(n - 1),
        };
        let before = self.until_failure.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count_down);
        matches!(before, Ok(1 | REPETITION))
    }

    /// Whether the system has `bytes` available. It is checked once per interval of bytes, whether they come in large
    /// requests or in many small ones; when memory is short, idle memory is freed first.
    pub(super) fn is_available(&self, bytes: usize) -> bool {
        if self.is_simulated {
            return true;
        }
        if self.is_gpu {
            return self.available().is_none_or(|has| bytes as u64 <= has.bytes);
        }
        self.host_has(bytes)
    }

    /// Whether the machine has `bytes` available for this process.
    fn host_has(&self, bytes: usize) -> bool {
        let unasked = self.unasked.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if unasked < self.ask_after.load(Ordering::Relaxed) {
            return true;
        }
        self.unasked.store(0, Ordering::Relaxed);
        if is_under_pressure() {
            self.trim();
        }
        let available = available_memory();
        // The less memory is left, the sooner the next check.
        let ask_after = available.map_or(MEMINFO_INTERVAL, |has| (has.bytes / 8).min(MEMINFO_INTERVAL as u64) as usize);
        self.ask_after.store(ask_after, Ordering::Relaxed);
        available.is_none_or(|has| bytes as u64 <= has.bytes)
    }

    /// Memory that the operating system leaves this process, or the GPU's memory beyond that of this device.
    pub(crate) fn available(&self) -> Option<Available> {
        #[cfg(feature = "gpu")]
        if let Some(gpu) = &self.gpu {
            let held = self.lock().ledger.driver;
            let bytes = gpu.info().memory_bytes?.saturating_sub(held);
            return Some(Available { bytes, bound: MemoryBound::Gpu });
        }
        available_memory()
    }

    /// The result of `request`, with a second attempt after all idle memory was freed and the out-of-memory hook was
    /// called.
    pub(super) fn or_after_trim<T>(
        &self,
        bytes: usize,
        what: impl Fn() -> String,
        mut request: impl FnMut() -> Result<T, AllocError>,
    ) -> Result<T, Error> {
        match request() {
            Ok(result) => return Ok(result),
            #[cfg(feature = "gpu")]
            Err(AllocError::Other(error)) => return Err(error),
            Err(_) => {}
        }
        self.trim();
        #[cfg(feature = "gpu")]
        if let Some(gpu) = &self.gpu {
            // Memory used by queued work is freed only when that work is done.
            gpu.synchronize()?;
        }
        self.call_hook(bytes);
        request().map_err(|error| self.out_of_memory(what(), bytes, &error))
    }

    /// Calls the out-of-memory hook. A failing request of the hook itself does not call it again.
    fn call_hook(&self, missing_bytes: usize) {
        thread_local! {
            static IS_RUNNING: Cell<bool> = const { Cell::new(false) };
        }
        struct End;
        impl Drop for End {
            fn drop(&mut self) {
                IS_RUNNING.set(false);
            }
        }
        let hook = self.hook.lock().clone();
        if let Some(hook) = hook
            && !IS_RUNNING.replace(true)
        {
            let _end = End;
            hook(missing_bytes);
        }
    }

    #[cold]
    fn out_of_memory(&self, what: String, requested_bytes: usize, error: &AllocError) -> Error {
        let stats = Box::new(self.stats());
        match (error, self.options.limit_bytes) {
            #[cfg(feature = "gpu")]
            (AllocError::Other(error), _) => error.clone(),
            (AllocError::Limit, Some(limit)) => {
                Error::Limit { what, requested_bytes, limit_bytes: limit as u64, stats }
            }
            _ => {
                let available = self.available();
                let available_bytes = available.map(|available| available.bytes);
                Error::OutOfMemory { what, requested_bytes, place: self.place(available), available_bytes, stats }
            }
        }
    }

    /// The owner of the memory, in words.
    fn place(&self, available: Option<Available>) -> String {
        #[cfg(feature = "gpu")]
        if let Some(gpu) = &self.gpu {
            return format!("GPU {:?}", gpu.info().name);
        }
        available.map_or(MemoryBound::Machine, |available| available.bound).to_string()
    }

    /// Takes back a slot whose last handle is gone. That handle calls this when it is dropped, and then drops the
    /// result: the keeper of the memory, if no slot is out any more.
    #[must_use]
    pub(crate) fn give_back(&self, slot: Arc<Slot>) -> Option<Keeper> {
        if self.options.nan_fill {
            // SAFETY: the last handle is gone and the slot is not handed out again before the end of this function.
            #[allow(unsafe_code)]
            unsafe {
                slot.fill_with_nan();
            }
        }
        // Declared before the lock is taken, so that the freed slots are dropped after its release.
        let mut freed = Evicted::new();
        let mut state = self.lock();
        state.record_return(slot, &mut freed)
    }

    /// Frees the pool's idle memory.
    pub(crate) fn trim(&self) {
        let mut freed = Evicted::new();
        self.lock().trim(&mut freed);
    }

    /// Marks the work that the `index`-th waiting slot of a simulated device waits for as done.
    pub(crate) fn complete(&self, index: usize) -> bool {
        let mut freed = Evicted::new();
        self.lock().complete(index, &mut freed)
    }

    pub(crate) fn stats(&self) -> MemoryStats {
        let stats = self.lock().stats();
        #[cfg(feature = "gpu")]
        let stats = MemoryStats { staging_bytes: self.gpu.as_ref().map_or(0, |gpu| gpu.staging_bytes()), ..stats };
        stats
    }

    pub(crate) fn pool_stats(&self) -> BufferPoolStats {
        let state = self.lock();
        BufferPoolStats {
            total_pooled: state.pool.idle_count(),
            size_classes: state.pool.class_count(),
            total_memory: state.pool.idle_bytes() as u64,
            reuse_count: state.ledger.pool_reuses,
            allocation_count: state.ledger.pool_allocations,
            eviction_count: state.ledger.evictions,
        }
    }

    /// Restarts `peak_bytes` from the present `live_bytes`.
    pub(crate) fn reset_peak(&self) {
        let mut state = self.lock();
        state.ledger.peak = state.ledger.live;
    }

    /// A slot for a part of a mapped file; it counts as mapped, not as memory of the device, but against the limit.
    pub(crate) fn adopt_mapped(&self, block: Block) -> Result<(Arc<Slot>, usize), Error> {
        if self.is_gpu && !self.is_simulated {
            return Err(Error::NotMappable);
        }
        let len = block.capacity();
        let what = || "a weight in a mapped file".to_owned();
        // A file that was read is on the heap, and counts there.
        let booked = if block.is_on_heap() { 0 } else { len };
        let booking = self.or_after_trim(booked, what, || self.book(booked))?;
        let layout = Layout::new(DType::Bool, [len]);
        let purpose = Purpose { role: Role::Learnable, op: "map" };
        let request = self.request(&layout, purpose)?;
        let slot = Slot::new(block, SlotOwner::File, true);
        let mut state = self.lock();
        booking.settle(&mut state);
        state.record_take(&slot, request, Source::File);
        drop(state);
        Ok((slot, len))
    }
}
