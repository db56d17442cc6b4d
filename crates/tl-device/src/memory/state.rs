//! The books of a device, changed under its lock: the source that serves a request, the owner of a returned slot, and
//! the trace records.
//!
//! Nothing here calls the system: `allocator.rs` makes and frees blocks, outside the lock.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use super::ledger::Ledger;
use super::pool::{Evicted, Pool};
use super::reserve::{Request, Reserve};
use super::thread_context::Entry;
use crate::layout::Layout;
use crate::options::MemoryOptions;
use crate::purpose::{Purpose, Role};
use crate::slot::{Slot, SlotOwner};
use crate::stats::{MemoryStats, ReserveKind, TensorBufferStats};
use crate::trace::{Action, Held, Recorder, Source, Trace};

/// A handle on the memory of these books.
pub(crate) type Keeper = Arc<dyn Any + Send + Sync>;

/// The tensor buffer that serves a context.
#[derive(Clone)]
pub(crate) struct CurrentBuffer {
    /// The id of its reserve.
    pub(crate) reserve: u64,
    /// A handle on the buffer; the last one removes the reserve.
    pub(crate) handle: Arc<dyn Any + Send + Sync>,
}

/// The sources of a thread's requests.
#[derive(Default)]
pub(crate) struct Context {
    pub(crate) current: Option<CurrentBuffer>,
    /// Whether new allocations are refused.
    pub(crate) is_sealed: bool,
    /// Whether the next request for an activation seals it.
    pub(crate) seals_at_use: bool,
}

pub(crate) struct State {
    pub(crate) pool: Pool,
    reserves: Vec<Reserve>,
    next_id: u64,
    /// The context of threads outside admissions.
    own: Context,
    /// The contexts of admissions, by their index.
    admitted: Vec<Option<Context>>,
    pub(crate) ledger: Ledger,
    /// Slots that are out, mapped ones included.
    out: usize,
    /// The memory itself.
    memory: Weak<dyn Any + Send + Sync>,
    /// A handle on it while slots are out, so that they need not hold one each.
    kept: Option<Keeper>,
    /// Returned slots that wait for queued work; `None` if nothing is queued.
    returning: Option<VecDeque<Arc<Slot>>>,
    /// Running traces, the most recently started last.
    traces: Vec<Recorder>,
    /// The id of the next recorded take.
    next_take: u64,
    /// Maximum bytes of a recording, and of the device.
    recording_max_bytes: usize,
    limit_bytes: Option<usize>,
    scopes: Vec<ScopePeak>,
}

/// The peak since a scope was opened.
struct ScopePeak {
    id: u64,
    peak: u64,
}

impl State {
    pub(crate) fn new(
        memory: Weak<dyn Any + Send + Sync>,
        pool: Pool,
        options: &MemoryOptions,
        is_delayed: bool,
        counts_heap: bool,
    ) -> State {
        State {
            pool,
            reserves: Vec::new(),
            next_id: 1,
            own: Context::default(),
            admitted: Vec::new(),
            ledger: Ledger { counts_heap, ..Ledger::default() },
            out: 0,
            memory,
            kept: None,
            returning: is_delayed.then(VecDeque::new),
            traces: Vec::new(),
            next_take: 1,
            recording_max_bytes: options.recording_max_bytes,
            limit_bytes: options.limit_bytes,
            scopes: Vec::new(),
        }
    }

    pub(crate) fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }

    /// Books a slot out. The caller makes its lease.
    #[inline]
    pub(crate) fn record_take(&mut self, slot: &Slot, request: Request, source: Source) {
        if self.out == 0 {
            self.kept = self.memory.upgrade();
        }
        self.out += 1;
        slot.set_role(request.purpose.role);
        if slot.owner == SlotOwner::File {
            self.ledger.map(slot, request.len_bytes as u64);
        } else {
            self.ledger.record_take(slot, request.len_bytes as u64);
            for scope in &mut self.scopes {
                scope.peak = scope.peak.max(self.ledger.live);
            }
        }
        slot.trace_id.store(0, Ordering::Relaxed);
        if !self.traces.is_empty() {
            self.trace_take(slot, request, source);
        }
    }

    #[cold]
    fn trace_take(&mut self, slot: &Slot, request: Request, source: Source) {
        let id = self.next_take;
        self.next_take += 1;
        slot.trace_id.store(id, Ordering::Relaxed);
        let (layout, location) = (request.layout.clone(), request.location);
        let Purpose { role, op } = request.purpose;
        self.record(Action::Take { id, layout, role, op, location, source });
    }

    /// Takes a slot back. Slots that leave the device go into `freed`; the result is the keeper of the memory, if no
    /// slot is out any more. The caller drops both outside the lock.
    #[inline]
    pub(crate) fn record_return(&mut self, slot: Arc<Slot>, freed: &mut Evicted) -> Option<Keeper> {
        self.out -= 1;
        if slot.owner == SlotOwner::File {
            self.ledger.unmap(&slot);
        } else {
            self.ledger.record_return(&slot);
        }
        if !self.traces.is_empty() {
            self.record(Action::Return { id: slot.trace_id.load(Ordering::Relaxed) });
        }
        match &mut self.returning {
            Some(returning) if slot.owner != SlotOwner::File => {
                self.ledger.returning += slot.block.capacity() as u64;
                returning.push_back(slot);
            }
            _ => self.return_to_owner(slot, freed),
        }
        if self.out == 0 { self.kept.take() } else { None }
    }

    /// Number of slots that wait for queued work.
    pub(crate) fn returning(&self) -> usize {
        self.returning.as_ref().map_or(0, VecDeque::len)
    }

    /// Completes the work that the `index`-th waiting slot waits for.
    pub(crate) fn complete(&mut self, index: usize, freed: &mut Evicted) -> bool {
        let Some(slot) = self.returning.as_mut().and_then(|returning| returning.remove(index)) else { return false };
        self.ledger.returning -= slot.block.capacity() as u64;
        self.return_to_owner(slot, freed);
        true
    }

    /// Returns a slot to its owner. Slots that leave the device go into `freed`.
    #[inline]
    fn return_to_owner(&mut self, slot: Arc<Slot>, freed: &mut Evicted) {
        let capacity = slot.block.capacity() as u64;
        let before = freed.len();
        match slot.owner {
            SlotOwner::Pool => {
                let evicted = self.pool.put(slot);
                self.ledger.evictions += evicted.len() as u64;
                freed.extend(evicted);
            }
            SlotOwner::Reserve { id, entry, index } => {
                let recycled = slot.take_recycled();
                let not_kept = match self.reserve(id) {
                    Some(reserve) => reserve.give_back(slot, entry, index, recycled),
                    None => Some(slot),
                };
                match not_kept {
                    Some(slot) => freed.push(slot),
                    None => self.ledger.reserved_free += capacity,
                }
            }
            SlotOwner::Arena { id, offset, cell } => self.give_back_piece(slot, (id, offset, cell), freed),
            SlotOwner::System => freed.push(slot),
            SlotOwner::File => return,
        }
        self.book_freed(&freed[before..]);
    }

    /// Takes back a piece of an arena. The last one of an arena that was given up frees it.
    #[inline]
    fn give_back_piece(&mut self, slot: Arc<Slot>, (id, offset, cell): (u64, usize, u32), freed: &mut Evicted) {
        self.ledger.reserved_free += slot.block.capacity() as u64;
        let Some(reserve) = self.reserve(id) else { return };
        if let Some(whole) = reserve.give_back_piece(slot, offset, cell) {
            self.ledger.reserved_free -= whole.block.capacity() as u64;
            freed.push(whole);
            self.remove_if_done(id);
        }
    }

    /// Books these slots as leaving the device. The caller drops them outside the lock.
    pub(crate) fn book_freed(&mut self, freed: &[Arc<Slot>]) {
        let mut bytes = 0;
        for slot in freed {
            bytes += slot.block.capacity() as u64;
            self.ledger.freed(slot.block.capacity() as u64);
        }
        if !freed.is_empty() {
            self.record(Action::Free { count: freed.len(), bytes });
        }
    }

    /// A slot of the reserve with this id, booked out.
    pub(crate) fn take_reserved(&mut self, id: u64, request: Request) -> Option<Arc<Slot>> {
        let reserve = self.reserve(id)?;
        let (slot, source) = match request.purpose.role {
            Role::Activation | Role::Cache => reserve.take(request),
            Role::Learnable => reserve.take_learnable(request.layout),
        }?;
        self.ledger.reserved_free -= slot.block.capacity() as u64;
        self.record_take(&slot, request, source);
        Some(slot)
    }

    /// An idle slot of the pool, booked out.
    pub(crate) fn take_pooled(&mut self, class_bytes: usize, request: Request) -> Option<Arc<Slot>> {
        let slot = self.pool.take(class_bytes)?;
        self.ledger.pool_reuses += 1;
        self.record_take(&slot, request, Source::Pool);
        Some(slot)
    }

    /// Evicts the pool's idle slots.
    pub(crate) fn trim(&mut self, freed: &mut Evicted) {
        self.pool.shrink_to(0, freed);
        self.book_freed(freed);
    }
}

/// Contexts.
impl State {
    /// The context of a thread with this entry.
    #[inline]
    pub(crate) fn context(&mut self, entry: Option<Entry>) -> &mut Context {
        match entry.and_then(|entry| self.admitted.get_mut(entry.at)) {
            Some(Some(context)) => context,
            _ => &mut self.own,
        }
    }

    /// Adds a sealed context with this buffer. Returns its index.
    pub(crate) fn admit(&mut self, buffer: CurrentBuffer) -> usize {
        let context = Context { current: Some(buffer), is_sealed: true, seals_at_use: false };
        match self.admitted.iter_mut().enumerate().find(|(_, place)| place.is_none()) {
            Some((at, place)) => {
                *place = Some(context);
                at
            }
            None => {
                self.admitted.push(Some(context));
                self.admitted.len() - 1
            }
        }
    }

    /// Ends a context. The caller drops the result outside the lock.
    #[must_use]
    pub(crate) fn dismiss(&mut self, at: usize) -> Option<Context> {
        self.admitted.get_mut(at)?.take()
    }
}

/// Reserves.
impl State {
    pub(crate) fn add_reserve(&mut self) -> u64 {
        let id = self.new_id();
        self.reserves.push(Reserve::new(id));
        id
    }

    pub(crate) fn reserve(&mut self, id: u64) -> Option<&mut Reserve> {
        let at = self.reserve_position(id)?;
        self.reserves.get_mut(at)
    }

    /// Ids only grow, so the reserves are in their order.
    fn reserve_position(&self, id: u64) -> Option<usize> {
        self.reserves.binary_search_by_key(&id, |reserve| reserve.id).ok()
    }

    fn remove_if_done(&mut self, id: u64) {
        if let Some(at) = self.reserve_position(id)
            && self.reserves.get(at).is_some_and(Reserve::is_done)
        {
            self.reserves.remove(at);
        }
    }

    /// The reserve of the context's tensor buffer.
    pub(crate) fn current_reserve(&mut self, entry: Option<Entry>) -> Option<&mut Reserve> {
        let id = self.context(entry).current.as_ref()?.reserve;
        self.reserve(id)
    }

    /// Empties the entries that `which` selects, and the arena if `with_arena`.
    pub(crate) fn clear(
        &mut self,
        id: u64,
        with_arena: bool,
        which: impl Fn(&Layout, ReserveKind) -> bool,
    ) -> Vec<Arc<Slot>> {
        let Some(reserve) = self.reserve(id) else { return Vec::new() };
        let freed = reserve.clear(with_arena, which);
        let bytes: usize = freed.iter().map(|slot| slot.block.capacity()).sum();
        self.ledger.reserved_free -= bytes as u64;
        self.book_freed(&freed);
        freed
    }

    /// Removes a reserve; one whose arena has pieces out stays until they are back.
    pub(crate) fn remove_reserve(&mut self, id: u64) -> Vec<Arc<Slot>> {
        let freed = self.clear(id, true, |_, _| true);
        if let Some(reserve) = self.reserve(id) {
            reserve.is_removed = true;
        }
        self.remove_if_done(id);
        freed
    }

    pub(crate) fn reserve_stats(&mut self, id: u64) -> TensorBufferStats {
        self.reserve(id).map(|reserve| reserve.stats()).unwrap_or_default()
    }
}

/// Statistics, scopes and traces.
impl State {
    pub(crate) fn stats(&self) -> MemoryStats {
        let reserved = self.reserves.iter().map(Reserve::largest_free_bytes).max().unwrap_or(0);
        MemoryStats {
            largest_free_bytes: reserved.max(self.pool.largest_bytes()) as u64,
            ..self.ledger.stats(self.pool.idle_bytes() as u64, self.pool.cap_bytes() as u64)
        }
    }

    pub(crate) fn open_scope(&mut self) -> (u64, MemoryStats) {
        let id = self.new_id();
        self.scopes.push(ScopePeak { id, peak: self.ledger.live });
        (id, self.stats())
    }

    /// Maximum of the live bytes since the scope was opened.
    pub(crate) fn scope_peak(&self, id: u64) -> u64 {
        self.scopes.iter().find(|scope| scope.id == id).map_or(0, |scope| scope.peak)
    }

    pub(crate) fn close_scope(&mut self, id: u64) {
        self.scopes.retain(|scope| scope.id != id);
    }

    pub(crate) fn start_trace(&mut self) {
        self.traces.push(Recorder::new(self.recording_max_bytes));
    }

    pub(crate) fn stop_trace(&mut self) -> Trace {
        let Some(recorder) = self.traces.pop() else { return Trace::default() };
        self.ledger.recording -= recorder.bytes();
        recorder.finish()
    }

    /// Records the end of a step of the program.
    pub(crate) fn end_step(&mut self) {
        if !self.traces.is_empty() {
            self.record(Action::Step { number: 0 });
        }
    }

    pub(crate) fn record(&mut self, action: Action) {
        let held = Held {
            live: self.ledger.live,
            reserved_free: self.ledger.reserved_free,
            pooled: self.pool.idle_bytes() as u64,
            driver: self.ledger.driver,
        };
        for recorder in &mut self.traces {
            let limit = self.limit_bytes.map_or(u64::MAX, |limit| limit as u64);
            let before = recorder.bytes();
            recorder.record(&action, held, limit.saturating_sub(self.ledger.promised()));
            self.ledger.recording = self.ledger.recording + recorder.bytes() - before;
        }
    }
}
