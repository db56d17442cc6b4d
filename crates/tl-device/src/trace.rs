//! What happened to memory, event by event, and what can be planned from it.
//!
//! A trace is recorded by the device while it is asked to (`Device::start_trace`), and is data from then on: it can be
//! replayed in a test, drawn, or turned into the exact reservations of a step ([`Trace::plan`]) and the size of an arena
//! that serves it ([`Trace::arena`]).

use std::collections::HashMap;
use std::fmt;

use crate::arena::{Lifetime, Piece, Ranges, Step, place};
use crate::memory::Role;
use crate::plan::ReservationPlan;
use crate::{Layout, ReserveKind};

/// Where a request's memory came from.
///
/// ```
/// use tl_device::{Action, Device, Layout, Role, Source};
/// let device = Device::cpu();
/// device.start_trace();
/// let _memory = device.take(&Layout::from(vec![8]), Role::Activation)?;
/// let trace = device.stop_trace();
/// assert!(matches!(trace.events[0].action, Action::Take { source: Source::Device, .. }));
/// # Ok::<(), tl_device::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A reserved buffer.
    Reserve,
    /// The arena.
    Arena,
    /// An idle buffer of the pool.
    Pool,
    /// A new allocation.
    Device,
    /// A mapped file.
    File,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Source::Reserve => "reserve",
            Source::Arena => "arena",
            Source::Pool => "pool",
            Source::Device => "device",
            Source::File => "file",
        })
    }
}

/// What happened.
///
/// ```
/// use tl_device::{Action, Device, Layout, Purpose, Role};
/// let device = Device::cpu();
/// device.start_trace();
/// let purpose = Purpose { role: Role::Activation, op: "softmax" };
/// drop(device.take(&Layout::from(vec![8]), purpose)?);
/// let events = device.stop_trace().events;
/// assert!(matches!(events[0].action, Action::Take { id: 1, op: "softmax", .. }));
/// assert_eq!(events[1].action, Action::Return { id: 1 });
/// # Ok::<(), tl_device::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// A tensor got memory.
    Take {
        /// Names the tensor for its return; counts up from 1 over all traces of a device.
        id: u64,
        /// What it is.
        layout: Layout,
        /// What it is for.
        role: Role,
        /// The operation that asked.
        op: &'static str,
        /// The place in the program that asked, as [`Device::set_location`](crate::Device::set_location) gave it; 0: none.
        location: u64,
        /// Where the memory came from.
        source: Source,
    },
    /// A tensor's memory came back.
    Return {
        /// The id of its `Take`. What was taken before the trace began has 0 here, or an id that is in no `Take` of this trace.
        id: u64,
    },
    /// Buffers were reserved.
    Reserve {
        /// The layout that each of them serves.
        layout: Layout,
        /// How many.
        count: usize,
        /// How they serve.
        kind: ReserveKind,
    },
    /// Buffers were given to the system: evicted, trimmed, cleared, or parameters that were dropped.
    Free {
        /// How many.
        count: usize,
        /// Their bytes.
        bytes: u64,
    },
}

/// An action, when it happened, and what the device held right after it.
///
/// ```
/// use tl_device::{Device, Layout, Role};
/// let device = Device::cpu();
/// device.start_trace();
/// drop(device.take(&Layout::from(vec![8]), Role::Activation)?);
/// let live: Vec<u64> = device.stop_trace().events.iter().map(|event| event.live_bytes).collect();
/// assert_eq!(live, [16, 0]);
/// # Ok::<(), tl_device::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Nanoseconds since the trace began.
    pub time_ns: u64,
    /// What happened.
    pub action: Action,
    /// Bytes of all tensors.
    pub live_bytes: u64,
    /// Bytes of all reserved buffers that are free.
    pub reserved_free_bytes: u64,
    /// Bytes idle in the pool.
    pub pooled_bytes: u64,
    /// Bytes that the system gave.
    pub driver_bytes: u64,
}

/// Everything that happened between `start_trace` and `stop_trace`.
///
/// ```
/// use tl_device::{Action, Device, Layout, Role};
/// let device = Device::cpu();
/// device.start_trace();
/// let _held = [8, 9].map(|n| device.take(&Layout::from(vec![n]), Role::Activation));
/// let trace = device.stop_trace();
/// let takes = trace.events.iter().filter(|event| matches!(event.action, Action::Take { .. }));
/// assert_eq!(takes.count(), 2);
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Trace {
    /// In the order in which it happened.
    pub events: Vec<Event>,
}

/// What serves a trace as one block: its size, and a place for each piece of its steps.
///
/// ```
/// use tl_device::{Device, Layout, Role};
/// let device = Device::cpu();
/// device.start_trace();
/// let _held = [512, 512].map(|n| device.take(&Layout::from(vec![n]), Role::Activation));
/// let plan = device.stop_trace().arena();
/// assert_eq!((plan.size_bytes, plan.lower_bound_bytes), (2048, 2048));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct ArenaPlan {
    /// The size of the block.
    pub size_bytes: usize,
    /// The most bytes that were live at once: no arena can be smaller.
    pub lower_bound_bytes: usize,
    /// The steps of the trace, without those that find their places in another. A step begins where nothing is live.
    pub(crate) steps: Vec<Step>,
}

impl ArenaPlan {
    /// Size over lower bound; 1 for an empty trace.
    ///
    /// ```
    /// use tl_device::{Device, Layout, Role};
    /// let device = Device::cpu();
    /// device.start_trace();
    /// drop(device.take(&Layout::from(vec![512]), Role::Activation)?);
    /// assert_eq!(device.stop_trace().arena().ratio(), 1.0); // nothing is wasted
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    pub fn ratio(&self) -> f64 {
        if self.lower_bound_bytes == 0 { 1.0 } else { self.size_bytes as f64 / self.lower_bound_bytes as f64 }
    }
}

impl Trace {
    /// The reservations that serve everything that the trace took: for each layout the most that were live at once.
    /// Layouts that differ in one dimension only and take many sizes there (a sequence that grows) become one bound; so do those
    /// that differ in two whose sizes are always equal.
    ///
    /// ```
    /// # use tl_device::{Device, Layout, Role};
    /// let device = Device::cpu();
    /// device.start_trace();
    /// let held = [1, 2].map(|_| device.take(&Layout::from(vec![8, 512]), Role::Activation));
    /// drop(held);
    /// let plan = device.stop_trace().plan();
    /// assert_eq!(plan.rows[0].statement(), "buffer_reserve([8, 512], 2)");
    /// ```
    pub fn plan(&self) -> ReservationPlan {
        let mut live: HashMap<u64, (Layout, ReserveKind)> = HashMap::new();
        let mut plan = ReservationPlan::default();
        let mut now: HashMap<(Layout, ReserveKind), usize> = HashMap::new();
        for event in &self.events {
            match &event.action {
                Action::Take { id, layout, role, source, .. } if *source != Source::File => {
                    let kind = if *role == Role::Learnable { ReserveKind::Learnable } else { ReserveKind::Exact };
                    let key = (layout.clone(), kind);
                    let count = now.entry(key.clone()).or_default();
                    *count += 1;
                    plan.need(layout, kind, *count);
                    live.insert(*id, key);
                }
                Action::Return { id } => {
                    if let Some(count) = live.remove(id).and_then(|key| now.get_mut(&key)) {
                        *count -= 1;
                    }
                }
                _ => {}
            }
        }
        self.join_growing(&mut plan);
        plan
    }

    /// Replaces families of layouts that grow along one dimension by bounds.
    fn join_growing(&self, plan: &mut ReservationPlan) {
        for family in plan.growing_families() {
            let mut live: HashMap<u64, ()> = HashMap::new();
            let mut most = 0;
            for event in &self.events {
                match &event.action {
                    Action::Take { id, layout, role, .. } if *role != Role::Learnable && family.has(layout) => {
                        live.insert(*id, ());
                        most = most.max(live.len());
                    }
                    Action::Return { id } => drop(live.remove(id)),
                    _ => {}
                }
            }
            plan.join(&family, most);
        }
    }

    /// The block that serves all activations of the trace. Each step, from one moment when nothing is live to the next, is
    /// placed on its own with its lifetimes known. One that asks for the same in the same order as a step before it, or for less,
    /// has its places there.
    ///
    /// ```
    /// use tl_device::{Device, Layout, Role};
    /// let device = Device::cpu();
    /// device.start_trace();
    /// let scores = device.take(&Layout::from(vec![512]), Role::Activation)?;
    /// let weights = device.take(&Layout::from(vec![512]), Role::Activation)?;
    /// drop(scores);
    /// let _output = device.take(&Layout::from(vec![512]), Role::Activation)?; // where the scores were
    /// drop(weights);
    /// assert_eq!(device.stop_trace().arena().size_bytes, 2 * 1024);
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    pub fn arena(&self) -> ArenaPlan {
        let mut plan = ArenaPlan { size_bytes: 0, lower_bound_bytes: 0, steps: Vec::new() };
        let mut step = TracedStep::default();
        for event in &self.events {
            match &event.action {
                Action::Take { id, layout, role: Role::Activation, .. } => step.take(*id, layout),
                Action::Return { id } => {
                    step.give_back(*id);
                    if step.live.is_empty() {
                        plan.add(std::mem::take(&mut step));
                    }
                }
                _ => {}
            }
        }
        plan.add(step);
        plan
    }
}

/// A step while a trace is read.
#[derive(Default)]
struct TracedStep {
    layouts: Vec<Layout>,
    lifetimes: Vec<Lifetime>,
    /// Index of each piece that is out, by its id.
    live: HashMap<u64, usize>,
    live_bytes: usize,
    most_bytes: usize,
}

impl TracedStep {
    fn take(&mut self, id: u64, layout: &Layout) {
        let Some(bytes) = layout.len_bytes().ok().and_then(Ranges::piece_bytes) else { return };
        self.live.insert(id, self.layouts.len());
        let from = self.layouts.len();
        self.layouts.push(layout.clone());
        self.lifetimes.push(Lifetime { bytes, from, until: usize::MAX });
        self.live_bytes += bytes;
        self.most_bytes = self.most_bytes.max(self.live_bytes);
    }

    fn give_back(&mut self, id: u64) {
        let Some(piece) = self.live.remove(&id) else { return };
        // Pieces requested from here on may have its place.
        let until = self.layouts.len();
        let lifetime = &mut self.lifetimes[piece];
        lifetime.until = until;
        self.live_bytes -= lifetime.bytes;
    }
}

impl ArenaPlan {
    fn add(&mut self, traced: TracedStep) {
        let untils = || traced.lifetimes.iter().map(|lifetime| lifetime.until);
        if traced.layouts.is_empty() || self.steps.iter().any(|step| step.covers(traced.layouts.iter().zip(untils()))) {
            return;
        }
        let offsets = place(&traced.lifetimes);
        let ends = offsets.iter().zip(&traced.lifetimes).map(|(offset, lifetime)| offset + lifetime.bytes);
        self.size_bytes = self.size_bytes.max(ends.max().unwrap_or(0));
        self.lower_bound_bytes = self.lower_bound_bytes.max(traced.most_bytes);
        let lifetimes = traced.lifetimes.iter().zip(offsets);
        let pieces = traced.layouts.iter().zip(lifetimes).map(|(layout, (lifetime, offset))| Piece {
            layout: layout.clone(),
            until: lifetime.until,
            offset,
            bytes: lifetime.bytes,
        });
        self.steps.push(Step { pieces: pieces.collect() });
    }
}
