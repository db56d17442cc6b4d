//! Traces of memory events, and the plans made from them.
//!
//! The device records a trace from `Device::start_trace` on; the result is data: it can be replayed in a test, drawn,
//! or turned into the exact reservations of a step ([`Trace::plan`]) and the size of an arena that serves it
//! ([`Trace::arena`]). Its memory is bounded: `recorder.rs` describes the thinning of long traces.

use std::collections::{HashMap, HashSet};

use super::arena_plan::ArenaPlan;
use super::event::{Action, Event, TraceTotals};
use super::record::Record;
use super::steps::Steps;
use super::tally::{Kind, LayoutRow, Part, Room, Tally};
use crate::error::Error;
use crate::layout::Layout;
use crate::plan::{PlanRow, ReservationPlan};
use crate::purpose::Role;
use crate::stats::ReserveKind;

/// Counts of one layout in a trace, over all tensors.
///
/// ```
/// use tl_device::{Device, Layout, Role, TracedLayout};
/// let device = Device::cpu();
/// device.start_trace();
/// let _held = [1, 2].map(|_| device.take(&Layout::from(vec![8]), Role::Activation));
/// let trace = device.stop_trace();
/// let TracedLayout { take_count, most_live, .. } = trace.layouts().next().unwrap();
/// assert_eq!((take_count, most_live), (2, 2));
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct TracedLayout<'a> {
    /// The layout.
    pub layout: &'a Layout,
    /// Tensors that got memory.
    pub take_count: u64,
    /// Of these, tensors served by a reservation or the arena.
    pub hit_count: u64,
    /// Of these, tensors served by the pool or the device, without parameters.
    pub miss_count: u64,
    /// Maximum live at once.
    pub most_live: u64,
}

/// An operation at a place in the program that took memory for a layout.
///
/// ```
/// use tl_device::{Device, Layout, Role, TracedSite};
/// let device = Device::cpu();
/// device.start_trace();
/// device.set_location(17); // a line number, say
/// drop(device.take(&Layout::from(vec![8]), Role::Activation)?);
/// let trace = device.stop_trace();
/// let TracedSite { op, location, take_count, .. } = trace.sites().next().unwrap();
/// assert_eq!((op, location, take_count), ("take", 17, 1));
/// # Ok::<(), tl_device::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct TracedSite<'a> {
    /// The layout.
    pub layout: &'a Layout,
    /// The operation.
    pub op: &'static str,
    /// The place, as set by [`Device::set_location`](crate::Device::set_location); 0: none.
    pub location: u64,
    /// Number of takes.
    pub take_count: u64,
}

/// The events between `start_trace` and `stop_trace`.
///
/// Its memory is bounded by [`MemoryOptions::recording_max_bytes`](crate::MemoryOptions::recording_max_bytes). A long
/// trace leaves out events ([`Trace::is_thinned`]): in each stretch of the run the tensors with the fewest bytes ×
/// lifetime. Its plan, its totals and its counts by layout and place stay exact.
///
/// ```
/// use tl_device::{Action, Device, Layout, Role};
/// let device = Device::cpu();
/// device.start_trace();
/// let _held = [8, 9].map(|n| device.take(&Layout::from(vec![n]), Role::Activation));
/// let trace = device.stop_trace();
/// let takes = trace.events().filter(|event| matches!(event.action, Action::Take { .. }));
/// assert_eq!(takes.count(), 2);
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Trace {
    pub(crate) records: Vec<Record>,
    pub(crate) tally: Tally,
    pub(crate) steps: Option<Steps>,
    pub(crate) totals: TraceTotals,
    pub(crate) max_bytes: u64,
    pub(crate) is_ended: bool,
}

impl Trace {
    /// The events in order.
    ///
    /// ```
    /// use tl_device::{Device, Layout, Role};
    /// let device = Device::cpu();
    /// device.start_trace();
    /// drop(device.take(&Layout::from(vec![8]), Role::Activation)?);
    /// assert_eq!(device.stop_trace().events().count(), 2); // taken, returned
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    pub fn events(&self) -> impl DoubleEndedIterator<Item = Event> + '_ {
        self.records.iter().filter_map(|record| record.event(&self.tally))
    }

    /// Whether events were left out to stay within the size limit.
    ///
    /// ```
    /// use tl_device::{Device, DeviceOptions, Layout, Role};
    /// let mut options = DeviceOptions::default();
    /// options.memory.recording_max_bytes = 64 << 10;
    /// let device = Device::cpu_with(&options);
    /// device.start_trace();
    /// for _ in 0..1000 {
    ///     drop(device.take(&Layout::from(vec![8]), Role::Activation)?);
    /// }
    /// let trace = device.stop_trace();
    /// assert!(trace.is_thinned() && trace.events().count() < 300);
    /// assert_eq!((trace.totals().take_count, trace.plan()?.count()), (1000, 1)); // the counts are exact
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    pub fn is_thinned(&self) -> bool {
        (self.records.len() as u64) < self.totals.event_count
    }

    /// Whether the recording ended early: its own limit or the device's left no room for another layout or place.
    ///
    /// ```
    /// use tl_device::{Device, DeviceOptions, Error, Layout, Role};
    /// let mut options = DeviceOptions::default();
    /// options.memory.recording_max_bytes = 64 << 10;
    /// let device = Device::cpu_with(&options);
    /// device.start_trace();
    /// for n in 1..1000 {
    ///     drop(device.take(&Layout::from(vec![n]), Role::Activation)?);
    /// }
    /// let trace = device.stop_trace();
    /// assert!(trace.is_ended() && matches!(trace.plan(), Err(Error::RecordingEnded { .. })));
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    pub fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// Totals of the whole trace.
    ///
    /// ```
    /// use tl_device::Device;
    /// let device = Device::cpu();
    /// device.start_trace();
    /// assert_eq!(device.stop_trace().totals().event_count, 0);
    /// ```
    pub fn totals(&self) -> TraceTotals {
        self.totals
    }

    /// The layouts of all tensors, in the order of their first take.
    ///
    /// ```
    /// use tl_device::{Device, Layout, Role};
    /// let device = Device::cpu();
    /// device.start_trace();
    /// let _held = [8, 9, 8].map(|n| device.take(&Layout::from(vec![n]), Role::Activation));
    /// assert_eq!(device.stop_trace().layouts().count(), 2);
    /// ```
    pub fn layouts(&self) -> impl Iterator<Item = TracedLayout<'_>> {
        self.tally.layouts().map(|LayoutRow { layout, takes, hits, misses, most_live }| TracedLayout {
            layout,
            take_count: takes,
            hit_count: hits,
            miss_count: misses,
            most_live,
        })
    }

    /// The operations and places that took memory, each for one layout, in the order of their first take.
    ///
    /// ```
    /// use tl_device::{Device, Layout, Purpose, Role};
    /// let device = Device::cpu();
    /// device.start_trace();
    /// for op in ["add", "multiply", "add"] {
    ///     drop(device.take(&Layout::from(vec![8]), Purpose { role: Role::Activation, op })?);
    /// }
    /// let trace = device.stop_trace();
    /// let ops: Vec<&str> = trace.sites().map(|site| site.op).collect();
    /// assert_eq!(ops, ["add", "multiply"]);
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    pub fn sites(&self) -> impl Iterator<Item = TracedSite<'_>> {
        self.tally.sites().map(|(layout, site)| TracedSite {
            layout,
            op: site.op,
            location: site.location,
            take_count: site.takes,
        })
    }

    /// The reservations that serve all takes of the trace: for each layout the maximum live at once. Layouts that
    /// differ in one dimension only and take many sizes there (a growing sequence) become one bound; so do those that
    /// differ in two dimensions that are always equal. Exact for traces of any length.
    ///
    /// ```
    /// # use tl_device::{Device, Layout, Role};
    /// let device = Device::cpu();
    /// device.start_trace();
    /// let held = [1, 2].map(|_| device.take(&Layout::from(vec![8, 512]), Role::Activation));
    /// drop(held);
    /// let plan = device.stop_trace().plan()?;
    /// assert_eq!(plan.to_string(), "exact float16[8, 512] 2\n");
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::RecordingEnded`]: the trace lacks the end of the program.
    pub fn plan(&self) -> Result<ReservationPlan, Error> {
        self.check_whole()?;
        Ok(self.tally.plan(Part::All))
    }

    /// The reservations that would have served the activations without one. Memory taken before `time_ns` and still out
    /// at the end counts as permanent and needs none, provided that all events are present; in a thinned trace it is
    /// part of the plan.
    ///
    /// ```
    /// use tl_device::{Device, Layout, Role, TensorBuffer};
    /// let device = Device::cpu();
    /// let buffer = TensorBuffer::new(&device);
    /// buffer.reserve(vec![8], 1)?;
    /// device.set_tensor_buffer(buffer);
    /// device.start_trace();
    /// drop([8, 8, 9].map(|n| device.take(&Layout::from(vec![n]), Role::Activation)));
    /// let plan = device.stop_trace().missed_plan(0)?;
    /// assert_eq!(plan.to_string(), "exact float16[8] 1\nexact float16[9] 1\n");
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`Trace::plan`].
    pub fn missed_plan(&self, time_ns: u64) -> Result<ReservationPlan, Error> {
        self.check_whole()?;
        if self.is_thinned() {
            return Ok(self.tally.plan(Part::Missed));
        }
        let mut sites = HashMap::new();
        let (mut tally, mut room) = (Tally::default(), Room { bytes: u64::MAX });
        let returned: HashSet<u64> = self.events().filter_map(|event| returned(&event)).collect();
        for event in self.events() {
            match event.action {
                Action::Take { id, layout, role, op, location, source } => {
                    let kind = Kind { role, source };
                    let stays = event.time_ns < time_ns && !returned.contains(&id);
                    if role == Role::Activation && kind.is_miss() && !stays {
                        let site = tally.take(&mut room, &layout, op, location, kind);
                        sites.extend(site.map(|site| (id, (site, kind))));
                    }
                }
                Action::Return { id } => {
                    if let Some((site, kind)) = sites.remove(&id) {
                        tally.give_back(site, kind);
                    }
                }
                _ => {}
            }
        }
        Ok(tally.plan(Part::Missed))
    }

    /// Growth of the tensors of a bound from one [`Device::end_step`](crate::Device::end_step) to the next, along each
    /// dimension; `None` if they did not grow, grew unequally over the last four steps, or events were left out.
    ///
    /// ```
    /// use tl_device::{Device, Layout, Role};
    /// let device = Device::cpu();
    /// device.start_trace();
    /// for t in 1..=10 {
    ///     drop(device.take(&Layout::from(vec![2 * t, 64]), Role::Activation)?);
    ///     device.end_step();
    /// }
    /// let trace = device.stop_trace();
    /// let plan = trace.plan()?;
    /// assert_eq!(trace.growth(&plan.rows[0]), Some(vec![2, 0]));
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    pub fn growth(&self, bound: &PlanRow) -> Option<Vec<usize>> {
        if bound.kind != ReserveKind::UpTo || self.is_thinned() {
            return None;
        }
        // The maximum of each step along each dimension.
        let (mut steps, mut largest) = (Vec::new(), vec![0; bound.layout.shape().len()]);
        for event in self.events() {
            match event.action {
                Action::Take { layout, .. } if bound.serves(&layout) => {
                    largest.iter_mut().zip(layout.shape().iter()).for_each(|(most, &dim)| *most = dim.max(*most));
                }
                Action::Step { .. } => steps.push(std::mem::replace(&mut largest, vec![0; bound.layout.shape().len()])),
                _ => {}
            }
        }
        let last = steps.last_chunk::<4>()?;
        let rises = |pair: &[Vec<usize>]| -> Option<Vec<usize>> {
            pair[1].iter().zip(&pair[0]).map(|(now, before)| now.checked_sub(*before)).collect()
        };
        let first = rises(&last[..2])?;
        let is_steady = last.windows(2).all(|pair| rises(pair).as_ref() == Some(&first));
        (is_steady && first.iter().any(|&rise| rise > 0)).then_some(first)
    }

    /// Maximum number of requests in one step: the time of [`Trace::arena`] grows with its square.
    ///
    /// ```
    /// use tl_device::{Device, Layout, Role};
    /// let device = Device::cpu();
    /// device.start_trace();
    /// drop([8, 9].map(|n| device.take(&Layout::from(vec![n]), Role::Activation)));
    /// drop(device.take(&Layout::from(vec![8]), Role::Activation)?);
    /// assert_eq!(device.stop_trace().longest_step(), Some(2));
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    ///
    /// `None` if the steps were too long or too many to be kept.
    pub fn longest_step(&self) -> Option<usize> {
        self.steps.as_ref().map(|steps| steps.longest(&self.tally))
    }

    /// The plan of one block for all activations of the trace. Each step, from one moment when nothing is live to the
    /// next, is placed on its own with its lifetimes known. A step with the same requests in the same order as another,
    /// or smaller ones, uses its places. Where something is always live and steps repeat from one
    /// [`Device::end_step`](crate::Device::end_step) to the next, these are the steps, and tensors that outlive them
    /// have buffers beside the block.
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
    /// assert_eq!(device.stop_trace().arena()?.size_bytes, 2 * 1024);
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::RecordingEnded`], and [`Error::StepsTooLong`] if the steps exceeded the recording's limit.
    pub fn arena(&self) -> Result<ArenaPlan, Error> {
        self.check_whole()?;
        let Some(steps) = &self.steps else {
            return Err(Error::StepsTooLong { max_bytes: self.max_bytes / 4 });
        };
        let mut arena = steps.arena(&self.tally);
        let outliving = std::mem::replace(&mut arena.beside, self.tally.plan(Part::Staying));
        for row in outliving.rows {
            match arena.beside.rows.iter_mut().find(|known| known.kind == row.kind && known.layout == row.layout) {
                Some(known) => known.count += row.count,
                None => arena.beside.rows.push(row),
            }
        }
        Ok(arena)
    }

    pub(crate) fn check_whole(&self) -> Result<(), Error> {
        match self.is_ended {
            true => Err(Error::RecordingEnded {
                layout_count: self.tally.layouts().count(),
                event_count: self.totals.event_count,
                max_bytes: self.max_bytes,
            }),
            false => Ok(()),
        }
    }
}

fn returned(event: &Event) -> Option<u64> {
    match event.action {
        Action::Return { id } => Some(id),
        _ => None,
    }
}
