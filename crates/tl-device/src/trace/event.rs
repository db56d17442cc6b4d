//! The events of a trace, and its totals.

use std::fmt;

use crate::layout::Layout;
use crate::purpose::Role;
use crate::stats::ReserveKind;

/// The source of a request's memory.
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

/// The action of an event.
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
#[non_exhaustive]
pub enum Action {
    /// A tensor got memory.
    Take {
        /// Identifies the tensor for its return; counts up from 1 over all traces of a device.
        id: u64,
        /// The layout.
        layout: Layout,
        /// The role.
        role: Role,
        /// The requesting operation.
        op: &'static str,
        /// The requesting place in the program, as set by [`Device::set_location`](crate::Device::set_location); 0:
        /// none.
        location: u64,
        /// The source of the memory.
        source: Source,
    },
    /// A tensor's memory came back.
    Return {
        /// The id of its `Take`. For memory taken before the trace began it is 0, or an id without a `Take` in this
        /// trace.
        id: u64,
    },
    /// Buffers were reserved.
    Reserve {
        /// The layout of each buffer.
        layout: Layout,
        /// The number of buffers.
        count: usize,
        /// The kind of the reservation.
        kind: ReserveKind,
    },
    /// Buffers were returned to the system: evicted, trimmed, cleared, or dropped parameters.
    Free {
        /// The number of buffers.
        count: usize,
        /// Their bytes.
        bytes: u64,
    },
    /// A step of the program ended: [`Device::end_step`](crate::Device::end_step).
    Step {
        /// Number of the step in the trace, from 1.
        number: u64,
    },
}

/// An action, its time, and the device's bytes right after it.
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
#[non_exhaustive]
pub struct Event {
    /// Number of the event in the trace, from 0. Gaps mark events that were left out.
    pub number: u64,
    /// Nanoseconds since the trace began.
    pub time_ns: u64,
    /// The action.
    pub action: Action,
    /// Bytes of all tensors.
    pub live_bytes: u64,
    /// Bytes of all reserved buffers that are free.
    pub reserved_free_bytes: u64,
    /// Bytes idle in the pool.
    pub pooled_bytes: u64,
    /// Bytes obtained from the system.
    pub driver_bytes: u64,
}

/// Totals of a whole trace, exact even where events were left out.
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
    /// Number of events.
    pub event_count: u64,
    /// Tensors that got memory.
    pub take_count: u64,
    /// Nanoseconds from the beginning to the last event.
    pub end_ns: u64,
    /// Maximum bytes of live tensors.
    pub peak_live_bytes: u64,
    /// Maximum bytes obtained from the system.
    pub peak_driver_bytes: u64,
    /// Maximum bytes lost between tensors and their buffers.
    pub peak_waste_bytes: u64,
}

/// The device's bytes right after an event.
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
