//! The events of a trace, and its totals.

use std::fmt;

use crate::layout::Layout;
use crate::purpose::Role;
use crate::stats::ReserveKind;

/// Where a request's memory came from.
///
/// ```
/// use tl_device::{Action, Device, Layout, Role, Source};
/// let device = Device::cpu();
/// device.start_trace();
/// let _memory = device.take(&Layout::from(vec![8]), Role::Activation)?;
/// let trace = device.stop_trace();
/// assert!(matches!(trace.events().next().unwrap().action, Action::Take { source: Source::Device, .. }));
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
/// let events: Vec<_> = device.stop_trace().events().collect();
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
    /// A step of the program ended: [`Device::end_step`](crate::Device::end_step).
    Step {
        /// Counts the steps of a trace from 1.
        number: u64,
    },
}

/// An action, when it happened, and what the device held right after it.
///
/// ```
/// use tl_device::{Device, Layout, Role};
/// let device = Device::cpu();
/// device.start_trace();
/// drop(device.take(&Layout::from(vec![8]), Role::Activation)?);
/// let live: Vec<u64> = device.stop_trace().events().map(|event| event.live_bytes).collect();
/// assert_eq!(live, [16, 0]);
/// # Ok::<(), tl_device::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Counts the events of the trace from 0. Where numbers are missing, events were left out.
    pub number: u64,
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

/// Figures of a whole trace, exact also where events were left out.
///
/// ```
/// use tl_device::{Device, Layout, Role};
/// let device = Device::cpu();
/// device.start_trace();
/// drop(device.take(&Layout::from(vec![1000]), Role::Activation)?);
/// let totals = device.stop_trace().totals();
/// assert_eq!((totals.event_count, totals.take_count, totals.peak_live_bytes), (2, 1, 2000));
/// # Ok::<(), tl_device::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub struct TraceTotals {
    /// Everything that happened.
    pub event_count: u64,
    /// Tensors that got memory.
    pub take_count: u64,
    /// Nanoseconds from the beginning to the last event.
    pub end_ns: u64,
    /// The most bytes of tensors at one moment.
    pub peak_live_bytes: u64,
    /// The most bytes that the system gave.
    pub peak_driver_bytes: u64,
    /// The most bytes between tensors and their buffers.
    pub peak_waste_bytes: u64,
}

/// What the device holds right after an event.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Held {
    pub(crate) live: u64,
    pub(crate) reserved_free: u64,
    pub(crate) pooled: u64,
    pub(crate) driver: u64,
}

impl TraceTotals {
    pub(crate) fn add(&mut self, time_ns: u64, held: Held, is_take: bool) {
        self.event_count += 1;
        self.take_count += u64::from(is_take);
        self.end_ns = time_ns;
        self.peak_live_bytes = self.peak_live_bytes.max(held.live);
        self.peak_driver_bytes = self.peak_driver_bytes.max(held.driver);
        let placed = held.live + held.reserved_free + held.pooled;
        self.peak_waste_bytes = self.peak_waste_bytes.max(held.driver.saturating_sub(placed));
    }
}
