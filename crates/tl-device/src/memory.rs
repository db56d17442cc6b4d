//! The one door through which memory is taken and given back.
//!
//! A request goes to the current tensor buffer, then to the pool, then to the system. All of the bookkeeping of a device
//! (`state.rs`) lies under one lock, held for a few dozen instructions, so that the statistics are true at every moment and
//! every event has its place in one order. The system allocator is never called under the lock, and a lock that is busy is
//! waited for: memory that comes back is never thrown away instead.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, ReentrantMutex};
use tl_kernels::{Isa, Threads, WORKSPACE_BYTES};

use crate::admission;
use crate::arena::{Arena, Ranges};
use crate::available::is_under_pressure;
use crate::cpu::{ALIGN, Block};
use crate::device::{FallbackListener, LaunchListener, OutOfMemoryHook, Work};
#[cfg(feature = "gpu")]
use crate::gpu::Gpu;
use crate::heap;
use crate::pool::{Evicted, Pool, class_bytes};
use crate::state::{Request, State};
use crate::stats::{BufferPoolStats, MemoryStats, ReserveKind, TensorBufferStats};
use crate::storage::{Home, Lease, Slot};
use crate::sync::{Guard, Lock};
use crate::tensor_buffer::TensorBuffer;
use crate::trace::{Action, ArenaPlan, Source};
use crate::{
    Available, Device, DeviceOptions, Error, Layout, MemoryBound, MemoryOptions, ShaderTarget, Simulation,
    available_memory, bytes,
};

/// What the memory is for.
///
/// ```
/// use tl_device::{Device, Layout, Role};
/// let device = Device::cpu();
/// let _weight = device.take(&Layout::from(vec![100]), Role::Learnable)?;
/// let _keys = device.take(&Layout::from(vec![50]), Role::Cache)?;
/// let stats = device.stats();
/// assert_eq!((stats.learnable_bytes, stats.cache_bytes, stats.activation_bytes()), (200, 100, 0));
/// # Ok::<(), tl_device::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The result of an operation: from the tensor buffer, the pool, or the device.
    Activation,
    /// Keys and values that stay from step to step. Served as activations are, and counted apart.
    Cache,
    /// A parameter: from the learnable reserve or the device, never the pool, and given back to the system when dropped.
    Learnable,
}

/// What the memory is for, and which operation asks.
///
/// ```
/// use tl_device::{Action, Device, Layout, Purpose, Role};
/// let device = Device::cpu();
/// device.start_trace();
/// drop(device.take(&Layout::from(vec![8]), Purpose { role: Role::Activation, op: "softmax" })?);
/// let event = device.stop_trace().events().next().unwrap();
/// assert!(matches!(event.action, Action::Take { op: "softmax", .. }));
/// # Ok::<(), tl_device::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Purpose {
    /// What it is for.
    pub role: Role,
    /// The operation's name, for traces and errors.
    pub op: &'static str,
}

impl From<Role> for Purpose {
    fn from(role: Role) -> Self {
        Purpose { role, op: "take" }
    }
}

/// The most that may be allocated before the operating system is asked what it has left. Linux grants more than there is, and
/// kills the process when the pages are touched.
const UNASKED_BYTES: usize = 64 << 20;

/// What a reserved buffer takes on the heap: its block there, its slot, its places in lists.
const SLOT_BYTES: usize = 320;

/// From here on that is worth telling where a reservation fails.
const TOLD_BYTES: usize = 1 << 20;

pub(crate) struct Memory {
    state: Lock<State>,
    /// Bytes asked of the system since it was last asked what it has left.
    unasked: AtomicUsize,
    /// After how many it is asked again.
    ask_after: AtomicUsize,
    /// How large the heap may become before its size is compared with the limits again.
    heap_checked: AtomicUsize,
    /// Its size when that was done last.
    heap_seen: AtomicUsize,
    /// Allocations until the one that is to fail, for tests; 0: none.
    until_failure: AtomicU64,
    hook: Mutex<Option<Arc<OutOfMemoryHook>>>,
    options: MemoryOptions,
    is_simulated: bool,
    /// Whether operations behave as on a GPU: it is one, or a simulation of one.
    is_gpu: bool,
    launch_listener: Option<LaunchListener>,
    /// What the programs of a simulated GPU may use.
    simulated_target: Option<ShaderTarget>,
    /// The GPU whose memory this is; `None`: the CPU's.
    #[cfg(feature = "gpu")]
    gpu: Option<Arc<Gpu>>,
    /// Operations that ran on the CPU for want of a program for the GPU, each named once, and how often that happened.
    host_fallbacks: Mutex<(Vec<&'static str>, u64)>,
    /// Whether the GPU's matrix instructions were tried and found right.
    pub(crate) matrix_trust: OnceLock<bool>,
    pub(crate) fallback_listener: Mutex<Option<Box<FallbackListener>>>,
    /// On a device that only counts, the work of the operations so far.
    pub(crate) work: Mutex<Work>,
    own: ThreadSet,
    /// For admissions that bring threads of their own.
    lent: [LentThreads; MAX_LENT],
}

/// Threads that compute, with the memory of their own.
struct ThreadSet {
    threads: Threads,
    /// Set when they have it, and the ledger knows: what keeps it from counting as heap.
    workspace: OnceLock<heap::Excluded>,
    /// Held while it is taken.
    turn: ReentrantMutex<()>,
}

impl ThreadSet {
    fn new(count: usize, isa: Isa) -> ThreadSet {
        let threads = Threads::with_isa(count.max(1), isa);
        ThreadSet { threads, workspace: OnceLock::new(), turn: ReentrantMutex::new(()) }
    }
}

/// A set of threads that one admission has at a time. Made once, it stays with the device.
#[derive(Default)]
struct LentThreads {
    set: OnceLock<ThreadSet>,
    is_claimed: AtomicBool,
}

/// The most sets of threads beside the device's own.
const MAX_LENT: usize = 16;

/// Why an allocation was not made.
enum Refusal {
    /// The system has no memory.
    System,
    /// The limit would be passed.
    Limit,
    /// The device has failed, or cannot do this at all.
    #[cfg(feature = "gpu")]
    Other(Error),
}

/// Bytes that a request may take, until the ledger has them in their place. Dropped before, they are given back.
#[must_use]
pub(crate) struct Booking<'a> {
    memory: &'a Memory,
    bytes: u64,
}

impl<'a> Booking<'a> {
    /// A part of it, as a booking of its own; `None` where it is not as much.
    fn split(&mut self, bytes: u64) -> Option<Booking<'a>> {
        self.bytes = self.bytes.checked_sub(bytes)?;
        Some(Booking { memory: self.memory, bytes })
    }

    /// What was booked is where it belongs from now on: the caller, who holds the lock, enters it there.
    fn settle(mut self, state: &mut State) {
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
    pub(crate) fn new(options: &DeviceOptions) -> Memory {
        let memory = &options.memory;
        let simulation = options.simulation.as_ref();
        let pool = Pool::new(memory.pool_max_bytes, memory.max_buffers_per_size);
        let mut state = State::new(pool, memory, simulation.is_some_and(|simulation| simulation.is_delayed));
        state.ledger.counts_heap = simulation.is_none();
        Memory {
            state: Lock::new(state),
            unasked: AtomicUsize::new(0),
            ask_after: AtomicUsize::new(0),
            heap_checked: AtomicUsize::new(0),
            heap_seen: AtomicUsize::new(0),
            until_failure: AtomicU64::new(memory.fail_allocation.unwrap_or(0)),
            hook: Mutex::new(None),
            options: memory.clone(),
            is_simulated: simulation.is_some(),
            is_gpu: simulation.is_some_and(|simulation| simulation.is_gpu),
            simulated_target: simulation.filter(|simulation| simulation.is_gpu).map(Simulation::target),
            launch_listener: simulation.and_then(|simulation| simulation.on_launch.clone()),
            #[cfg(feature = "gpu")]
            gpu: None,
            host_fallbacks: Mutex::default(),
            matrix_trust: OnceLock::new(),
            fallback_listener: Mutex::new(None),
            work: Mutex::default(),
            own: ThreadSet::new(options.threads, options.isa.unwrap_or_else(Isa::detect)),
            lent: std::array::from_fn(|_| LentThreads::default()),
        }
    }

    /// The memory of a GPU.
    #[cfg(feature = "gpu")]
    pub(crate) fn on_gpu(options: &DeviceOptions) -> Result<Memory, Error> {
        let gpu = crate::gpu::open(&options.gpu)?;
        let memory = Memory { gpu: Some(gpu), is_gpu: true, ..Memory::new(options) };
        memory.lock().ledger.counts_heap = false;
        Ok(memory)
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

    /// Counts an operation that ran on the CPU for want of a program. Whether it is the first of its name.
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

    pub(crate) fn is_simulated(&self) -> bool {
        self.is_simulated
    }

    pub(crate) fn lock(&self) -> Guard<'_, State> {
        self.state.lock()
    }

    pub(crate) fn set_hook(&self, hook: Option<Arc<OutOfMemoryHook>>) {
        *self.hook.lock() = hook;
    }

    fn request<'a>(&self, layout: &'a Layout, purpose: Purpose) -> Result<Request<'a>, Error> {
        let location = admission::location();
        Ok(Request { layout, len_bytes: layout.len_bytes()?, purpose, location })
    }

    /// Memory for a tensor of this layout, from the first source that has it.
    pub(crate) fn take(&self, device: &Device, layout: &Layout, purpose: Purpose) -> Result<Lease, Error> {
        let request = self.request(layout, purpose)?;
        let mut state = self.lock();
        let entry = admission::entered(self);
        let context = state.context(entry);
        if context.seals_at_use && purpose.role != Role::Learnable {
            context.seals_at_use = false;
            drop(state);
            self.seal();
            state = self.lock();
        }
        let current = state.context(entry).current.as_ref().map(TensorBuffer::id);
        if let Some(slot) = current.and_then(|id| state.take_reserved(device, id, request)) {
            drop(state);
            return Ok(self.lease(slot, request.len_bytes));
        }
        let class = match purpose.role {
            Role::Activation | Role::Cache => class_bytes(request.len_bytes),
            Role::Learnable => request.len_bytes.max(1).checked_next_multiple_of(ALIGN),
        };
        let class = class.ok_or_else(|| Error::TooLarge { layout: layout.clone() })?;
        let slot = match purpose.role {
            Role::Activation | Role::Cache => state.take_pooled(device, class, request),
            Role::Learnable => None,
        };
        let is_refused = slot.is_none() && state.context(entry).is_sealed;
        drop(state);
        let slot = match slot {
            Some(slot) => slot,
            None if is_refused => return Err(self.sealed(request)),
            None => self.allocate_slot(device, class, request)?,
        };
        Ok(self.lease(slot, request.len_bytes))
    }

    /// Takes the kernels' own memory, once: see [`MemoryStats::workspace_bytes`].
    #[inline]
    pub(crate) fn take_workspace(&self) -> Result<(), Error> {
        if self.thread_set().workspace.get().is_some() { Ok(()) } else { self.take_workspace_now() }
    }

    #[cold]
    fn take_workspace_now(&self) -> Result<(), Error> {
        // A GPU multiplies without; what the CPU does for one has its copies on the heap.
        if self.is_gpu {
            return Ok(());
        }
        // One thread takes it and the others wait, so that it is booked once. A hook that multiplies comes here again.
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
                return Err(Refusal::System);
            }
            let mut state = self.lock();
            booking.settle(&mut state);
            state.ledger.workspace += WORKSPACE_BYTES as u64;
            let _ = set.workspace.set(excluded);
            Ok(())
        })
    }

    /// The threads that compute for the calling one.
    #[inline]
    fn thread_set(&self) -> &ThreadSet {
        let lent = admission::entered(self).and_then(|entry| self.lent.get(entry.threads?)?.set.get());
        lent.unwrap_or(&self.own)
    }

    /// A set of so many threads, until it is released; `None` where all are claimed.
    pub(crate) fn claim_threads(&self, count: usize) -> Option<usize> {
        self.lent.iter().position(|lent| {
            let is_as_large = |set: &ThreadSet| set.threads.count() == count.max(1);
            if lent.set.get().is_some_and(|set| !is_as_large(set)) || lent.is_claimed.swap(true, Ordering::Acquire) {
                return false;
            }
            if is_as_large(lent.set.get_or_init(|| ThreadSet::new(count, self.own.threads.isa()))) {
                return true;
            }
            lent.is_claimed.store(false, Ordering::Release);
            false
        })
    }

    pub(crate) fn release_threads(&self, at: usize) {
        if let Some(lent) = self.lent.get(at) {
            lent.is_claimed.store(false, Ordering::Release);
        }
    }

    /// Whether the calling thread's context is sealed.
    pub(crate) fn is_sealed(&self) -> bool {
        self.lock().context(admission::entered(self)).is_sealed
    }

    /// Books a session's bytes, all that it will ever take.
    pub(crate) fn book_session(&self, bytes: u64) -> Result<Booking<'_>, Error> {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let what = || format!("a session of {}", crate::bytes(bytes as u64));
        self.or_after_trim(bytes, what, || {
            let booking = self.book(bytes)?;
            if self.is_available(bytes) { Ok(booking) } else { Err(Refusal::System) }
        })
    }

    /// From here on, new allocations are refused. Without the memory for the workspace, the first product says so.
    pub(crate) fn seal(&self) {
        let _ = self.take_workspace();
        self.lock().context(admission::entered(self)).is_sealed = true;
    }

    fn lease(&self, slot: Arc<Slot>, len_bytes: usize) -> Lease {
        if self.options.nan_fill {
            // SAFETY: the slot was just handed out, and its first handle is made below.
            #[allow(unsafe_code)]
            unsafe {
                slot.fill_with_nan();
            }
        }
        Lease::new(slot, len_bytes)
    }

    #[cold]
    fn sealed(&self, request: Request) -> Error {
        let Purpose { role, op } = request.purpose;
        Error::Sealed { op, layout: request.layout.clone(), role, location: request.location }
    }

    /// A new slot. Where a class of the pool's passes the limit and the request itself does not, it is exactly as large as
    /// that, and goes back to the system afterwards.
    fn allocate_slot(&self, device: &Device, class: usize, request: Request) -> Result<Arc<Slot>, Error> {
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
                    Err(Refusal::Limit) if is_last && exact < class => self.allocate_booked(exact),
                    granted => granted,
                }
            },
        )?;
        let capacity = block.capacity();
        let home = if is_learnable || capacity < class { Home::Device } else { Home::Pool };
        let slot = Slot::new(device, block, home, is_learnable);
        let mut state = self.lock();
        booking.settle(&mut state);
        state.ledger.allocated(1, capacity as u64);
        if !is_learnable {
            state.ledger.pool_allocations += 1;
        }
        state.go_out(device, &slot, request, Source::Device);
        Ok(slot)
    }

    /// A block from the system, booked before it is asked for.
    fn allocate_booked(&self, capacity: usize) -> Result<(Block, Booking<'_>), Refusal> {
        let booking = self.book(capacity)?;
        Ok((self.allocate(capacity)?, booking))
    }

    /// A block from the system, where it has one. The caller has booked it.
    fn allocate(&self, capacity: usize) -> Result<Block, Refusal> {
        if self.is_to_fail() || !self.is_available(capacity) {
            return Err(Refusal::System);
        }
        if self.is_simulated {
            return Ok(Block::Simulated { capacity, whole: None });
        }
        #[cfg(feature = "gpu")]
        if let Some(gpu) = &self.gpu {
            return crate::gpu::Buffer::create(gpu, capacity).map(Block::Gpu).map_err(|refused| match refused {
                crate::gpu::Refused::OutOfMemory => Refusal::System,
                crate::gpu::Refused::Other(error) => Refusal::Other(error),
            });
        }
        let mut block = Block::allocate(capacity).ok_or(Refusal::System)?;
        // The pages come now: what the system then says is available takes them into account.
        block.touch_pages();
        Ok(block)
    }

    /// Books `bytes` more, if they stay within the limits: in one step, so that what threads take at the same time stays within
    /// them too. Beyond the soft limit, what is idle in the pool goes first.
    fn book(&self, bytes: usize) -> Result<Booking<'_>, Refusal> {
        let bytes = bytes as u64;
        if let Some(soft) = self.options.soft_limit_bytes
            && self.lock().ledger.promised() + bytes > soft as u64
        {
            self.trim();
        }
        let mut state = self.lock();
        match self.options.limit_bytes {
            Some(limit) if state.ledger.promised().saturating_add(bytes) > limit as u64 => Err(Refusal::Limit),
            _ => {
                state.ledger.booked += bytes;
                self.heap_checked.store(0, Ordering::Relaxed);
                Ok(Booking { memory: self, bytes })
            }
        }
    }

    /// Of what a session has booked, else booked now.
    fn book_within<'a>(&'a self, bytes: usize, session: Option<&mut Booking<'a>>) -> Result<Booking<'a>, Refusal> {
        match session.and_then(|session| session.split(bytes as u64)) {
            Some(booking) => Ok(booking),
            None => self.book(bytes),
        }
    }

    /// Whether the heap may grow by `bytes`: see [`Device::check_heap`].
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
        // What it grew by is there already: it only brings on the next look at the system.
        self.unasked.fetch_add(grown, Ordering::Relaxed);
        let booking = self.or_after_trim(bytes, what, || {
            // Where nobody counts the heap, no limit is on it; a GPU's limit is on its own memory.
            let is_bounded = heap::is_counted() && !self.is_gpu;
            let booking = if is_bounded { Some(self.book(bytes)?) } else { None };
            if self.host_has(bytes) { Ok(booking) } else { Err(Refusal::System) }
        })?;
        drop(booking);
        // As long as nothing else is taken, so much more of it needs no other look.
        let limit = self.options.limit_bytes.map_or(u64::MAX, |limit| limit as u64);
        let room = limit.saturating_sub(self.lock().ledger.promised()).min(UNASKED_BYTES as u64 / 8);
        self.heap_checked.store(now + room as usize, Ordering::Relaxed);
        Ok(())
    }

    /// Whether this is the allocation that a test wants to fail, or its repetition.
    fn is_to_fail(&self) -> bool {
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

    /// Whether the system has `bytes` to give. It is asked once for every so many bytes, whether they come in large
    /// requests or in many small ones; when it says that memory is short, what is idle goes first.
    fn is_available(&self, bytes: usize) -> bool {
        if self.is_simulated {
            return true;
        }
        if self.is_gpu {
            return self.available().is_none_or(|has| bytes as u64 <= has.bytes);
        }
        self.host_has(bytes)
    }

    /// Whether the machine has `bytes` for this process.
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
        // Where little is left, little is taken before the system is asked again.
        let ask_after = available.map_or(UNASKED_BYTES, |has| (has.bytes / 8).min(UNASKED_BYTES as u64) as usize);
        self.ask_after.store(ask_after, Ordering::Relaxed);
        available.is_none_or(|has| bytes as u64 <= has.bytes)
    }

    /// What the operating system leaves this process, or what a GPU has beyond what this device holds.
    pub(crate) fn available(&self) -> Option<Available> {
        #[cfg(feature = "gpu")]
        if let Some(gpu) = &self.gpu {
            let held = self.lock().ledger.driver;
            let bytes = gpu.info().memory_bytes?.saturating_sub(held);
            return Some(Available { bytes, bound: MemoryBound::Gpu });
        }
        available_memory()
    }

    /// What `request` yields, if necessary at the second attempt, after everything idle was freed and the hook was asked to
    /// free what it can.
    fn or_after_trim<T>(
        &self,
        bytes: usize,
        what: impl Fn() -> String,
        mut request: impl FnMut() -> Result<T, Refusal>,
    ) -> Result<T, Error> {
        match request() {
            Ok(result) => return Ok(result),
            #[cfg(feature = "gpu")]
            Err(Refusal::Other(error)) => return Err(error),
            Err(_) => {}
        }
        self.trim();
        #[cfg(feature = "gpu")]
        if let Some(gpu) = &self.gpu {
            // What queued work still uses is freed only when that work is done.
            gpu.synchronize()?;
        }
        self.call_hook(bytes);
        request().map_err(|refusal| self.out_of_memory(what(), bytes, &refusal))
    }

    /// Asks the hook to free what it can. A request of the hook's own that fails does not call it again.
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
    fn out_of_memory(&self, what: String, requested_bytes: usize, refusal: &Refusal) -> Error {
        let stats = Box::new(self.stats());
        match (refusal, self.options.limit_bytes) {
            #[cfg(feature = "gpu")]
            (Refusal::Other(error), _) => error.clone(),
            (Refusal::Limit, Some(limit)) => Error::Limit { what, requested_bytes, limit_bytes: limit as u64, stats },
            _ => {
                let available = self.available();
                let available_bytes = available.map(|available| available.bytes);
                Error::OutOfMemory { what, requested_bytes, place: self.place(available), available_bytes, stats }
            }
        }
    }

    /// Whose memory it is, in words.
    fn place(&self, available: Option<Available>) -> String {
        #[cfg(feature = "gpu")]
        if let Some(gpu) = &self.gpu {
            return format!("GPU {:?}", gpu.info().name);
        }
        available.map_or(MemoryBound::Machine, |available| available.bound).to_string()
    }

    /// Takes back a slot whose last handle is gone. Called by [`Storage`](crate::Storage) when it is dropped, which then
    /// drops what this returns: the handle that kept the memory, if no slot is out any more.
    #[must_use]
    pub(crate) fn give_back(&self, slot: Arc<Slot>) -> Option<Device> {
        if self.options.nan_fill {
            // SAFETY: the last handle is gone and the slot is not handed out again before the end of this function.
            #[allow(unsafe_code)]
            unsafe {
                slot.fill_with_nan();
            }
        }
        // Declared before the lock is taken: what leaves the device is freed after the lock is released.
        let mut freed = Evicted::new();
        let mut state = self.lock();
        state.come_back(slot, &mut freed)
    }

    /// Frees everything that is idle in the pool.
    pub(crate) fn trim(&self) {
        let mut freed = Evicted::new();
        self.lock().trim(&mut freed);
    }

    /// The work that the `index`-th waiting slot of a simulated device waits for is done.
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

    /// Makes `peak_bytes` start again from what is live now.
    pub(crate) fn reset_peak(&self) {
        let mut state = self.lock();
        state.ledger.peak = state.ledger.live;
    }

    /// A part of a mapped file as storage; it counts as mapped, not as memory of the device, but against the limit.
    pub(crate) fn adopt_mapped(&self, device: &Device, block: Block) -> Result<Lease, Error> {
        if self.is_gpu && !self.is_simulated {
            return Err(Error::NotMappable);
        }
        let len = block.capacity();
        let what = || "a weight in a mapped file".to_owned();
        // What was read is on the heap, and counts there.
        let booked = if block.is_on_heap() { 0 } else { len };
        let booking = self.or_after_trim(booked, what, || self.book(booked))?;
        let layout = Layout::new(crate::DType::Bool, [len]);
        let purpose = Purpose { role: Role::Learnable, op: "map" };
        let request = self.request(&layout, purpose)?;
        let slot = Slot::new(device, block, Home::Mapped, true);
        let mut state = self.lock();
        booking.settle(&mut state);
        state.go_out(device, &slot, request, Source::File);
        drop(state);
        Ok(Lease::new(slot, len))
    }
}

/// What [`TensorBuffer`] asks of the memory of its device.
impl Memory {
    pub(crate) fn set_current(&self, buffer: Option<TensorBuffer>) -> Option<TensorBuffer> {
        // The old one is dropped by the caller, outside the lock: it may be the last handle and remove its reserve.
        std::mem::replace(&mut self.lock().context(admission::entered(self)).current, buffer)
    }

    /// Adds `count` buffers to a reserve, all or none. What a session has booked is used before anything else is booked.
    pub(crate) fn reserve<'a>(
        &'a self,
        device: &Device,
        id: u64,
        layout: &Layout,
        count: usize,
        kind: ReserveKind,
        mut session: Option<&mut Booking<'a>>,
    ) -> Result<(), Error> {
        let too_large = || Error::TooLarge { layout: layout.clone() };
        let role = if kind == ReserveKind::Learnable { Role::Learnable } else { Role::Activation };
        let request = self.request(layout, Purpose { role, op: "reserve" })?;
        let capacity = request.len_bytes.max(1).checked_next_multiple_of(ALIGN).ok_or_else(too_large)?;
        let total = capacity.checked_mul(count).ok_or_else(too_large)?;
        if count > 0 && self.is_sealed() {
            return Err(self.sealed(request));
        }
        let bookkeeping = count.saturating_mul(SLOT_BYTES);
        let what = || match bookkeeping {
            0..TOLD_BYTES => format!("a reservation of {count} × {layout}"),
            _ => {
                format!("a reservation of {count} × {layout} (and {} to keep account of it)", bytes(bookkeeping as u64))
            }
        };
        let (blocks, booking) = self.or_after_trim(total, what, || {
            let booking = self.book_within(total, session.as_deref_mut())?;
            self.allocate_all(capacity, count, total, booking)
        })?;
        let mut state = self.lock();
        // Without a reserve the blocks are dropped, and the booking with them.
        let Some(reserve) = state.reserve(id) else { return Err(Error::DeviceGone) };
        let entry = reserve.entry(layout, kind);
        for block in blocks {
            let home = Home::Reserve { id, entry, index: reserve.next_index(entry) };
            reserve.add(entry, Slot::new(device, block, home, kind == ReserveKind::Learnable));
        }
        booking.settle(&mut state);
        state.ledger.allocated(count as u64, total as u64);
        state.ledger.reserved_free += total as u64;
        state.record(Action::Reserve { layout: layout.clone(), count, kind });
        Ok(())
    }

    /// Gives a reserve an arena; a former one goes when its pieces are back.
    pub(crate) fn reserve_arena<'a>(
        &'a self,
        device: &Device,
        id: u64,
        plan: &ArenaPlan,
        mut session: Option<&mut Booking<'a>>,
    ) -> Result<(), Error> {
        if self.is_gpu {
            return Err(Error::NoArena);
        }
        let bytes = plan.size_bytes;
        let layout = Layout::new(crate::DType::Bool, [bytes]);
        let request = self.request(&layout, Purpose { role: Role::Activation, op: "reserve_arena" })?;
        let size = Ranges::piece_bytes(bytes).ok_or_else(|| Error::TooLarge { layout: layout.clone() })?;
        if self.is_sealed() {
            return Err(self.sealed(request));
        }
        let what = || format!("an arena of {bytes} bytes");
        let (block, booking) = self.or_after_trim(size, what, || {
            let booking = self.book_within(size, session.as_deref_mut())?;
            Ok((self.allocate(size)?, booking))
        })?;
        let whole = Slot::new(device, block, Home::Device, false);
        let arena = Arena::new(device, id, whole, &plan.steps);
        let mut freed = Vec::new();
        let mut state = self.lock();
        let Some(reserve) = state.reserve(id) else { return Err(Error::DeviceGone) };
        freed.extend(reserve.set_arena(arena));
        let old: u64 = freed.iter().map(|slot| slot.block.capacity() as u64).sum();
        booking.settle(&mut state);
        state.ledger.allocated(1, size as u64);
        state.ledger.reserved_free += size as u64;
        state.ledger.reserved_free -= old;
        state.book_freed(&freed);
        state.record(Action::Reserve { layout, count: 1, kind: ReserveKind::UpTo });
        drop(state);
        Ok(())
    }

    /// `count` blocks with their pages touched, or none at all.
    fn allocate_all<'a>(
        &'a self,
        capacity: usize,
        count: usize,
        total: usize,
        // All of them are booked first, so that a reservation that cannot end does not start.
        booking: Booking<'a>,
    ) -> Result<(Vec<Block>, Booking<'a>), Refusal> {
        // What each buffer takes on the heap comes on top; it is counted there.
        let bookkeeping = count.saturating_mul(SLOT_BYTES);
        let is_within = |limit: usize| self.lock().ledger.promised().saturating_add(bookkeeping as u64) <= limit as u64;
        if heap::is_counted() && !self.is_simulated && !self.options.limit_bytes.is_none_or(is_within) {
            return Err(Refusal::Limit);
        }
        if !self.is_available(total.saturating_add(bookkeeping)) {
            return Err(Refusal::System);
        }
        let mut blocks = Vec::new();
        heap::refusable(|| blocks.try_reserve_exact(count)).map_err(|_| Refusal::System)?;
        for _ in 0..count {
            blocks.push(self.allocate(capacity)?);
        }
        Ok((blocks, booking))
    }

    /// A free buffer of this reserve, or `None` where it has none for the layout.
    pub(crate) fn take_from(
        &self,
        device: &Device,
        id: u64,
        layout: &Layout,
        purpose: Purpose,
    ) -> Result<Option<Lease>, Error> {
        let request = self.request(layout, purpose)?;
        let slot = self.lock().take_reserved(device, id, request);
        Ok(slot.map(|slot| self.lease(slot, request.len_bytes)))
    }

    pub(crate) fn clear(&self, id: u64, with_arena: bool, which: impl Fn(&Layout, ReserveKind) -> bool) {
        let freed = self.lock().clear(id, with_arena, which);
        drop(freed);
    }

    pub(crate) fn remove_reserve(&self, id: u64) {
        let freed = self.lock().remove_reserve(id);
        drop(freed);
    }

    pub(crate) fn current_reserve_stats(&self) -> TensorBufferStats {
        self.lock().current_reserve(admission::entered(self)).map(|reserve| reserve.stats()).unwrap_or_default()
    }
}
