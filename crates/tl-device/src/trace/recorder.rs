//! A running recording, in bounded memory.
//!
//! Three things are kept. The counts for plans ([`Tally`]) and the steps for an arena ([`Steps`]) are exact however
//! long the program runs. The events are for display: beyond their share of the limit half of the tensors are left out,
//! in each stretch of the run those with the fewest bytes × lifetime, so that a long recording is equally detailed at
//! its end and at its beginning.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::time::Instant;

use super::event::{Action, Held, TraceTotals};
use super::record::{Record, What};
use super::recorded::Trace;
use super::steps::Steps;
use super::tally::{Kind, Room, Tally, list_bytes, map_bytes};
use crate::layout::LayoutHasher;
use crate::purpose::Role;

/// Maximum number of stretches of a run when tensors are left out.
const MAX_STRETCHES: usize = 1024;

/// A live tensor.
struct Open {
    site: u32,
    /// Its number among the requests of its step.
    piece: u32,
    kind: Kind,
}

/// A running recording.
pub(crate) struct Recorder {
    start: Instant,
    max_bytes: u64,
    records: Vec<Record>,
    tally: Tally,
    /// `None` once they exceeded their share.
    steps: Option<Steps>,
    /// Live tensors by id.
    open: HashMap<u64, Open, BuildHasherDefault<LayoutHasher>>,
    totals: TraceTotals,
    /// Number of ended steps.
    step_count: u64,
    /// Whether there was no room for the counts: nothing is recorded from then on.
    is_ended: bool,
}

impl Recorder {
    #[expect(clippy::disallowed_methods, reason = "events of a trace have times")]
    pub(crate) fn new(max_bytes: usize) -> Recorder {
        Recorder {
            start: Instant::now(),
            max_bytes: max_bytes as u64,
            records: Vec::new(),
            tally: Tally::default(),
            steps: Some(Steps::default()),
            open: HashMap::default(),
            totals: TraceTotals::default(),
            step_count: 0,
            is_ended: false,
        }
    }

    /// Bytes of the recording.
    pub(crate) fn bytes(&self) -> u64 {
        let steps = self.steps.as_ref().map_or(0, Steps::bytes);
        list_bytes(&self.records) + self.tally.bytes() + map_bytes(&self.open) + steps
    }

    /// Ends the recording.
    pub(crate) fn finish(mut self) -> Trace {
        if let Some(steps) = &mut self.steps {
            steps.end();
        }
        Trace {
            records: self.records,
            tally: self.tally,
            steps: self.steps,
            totals: self.totals,
            max_bytes: self.max_bytes,
            is_ended: self.is_ended,
        }
    }

    /// Records an action and the device's bytes after it. The recording may grow by `allowed` bytes.
    pub(crate) fn record(&mut self, action: &Action, held: Held, allowed: u64) {
        if self.is_ended {
            return;
        }
        let time_ns = self.start.elapsed().as_nanos() as u64;
        let mut room = Room { bytes: allowed.min(self.max_bytes.saturating_sub(self.bytes())) };
        let record = self.count(&mut room, action).map(|(what, at, value)| Record {
            number: self.totals.event_count,
            time_ns,
            held,
            value,
            at,
            what,
        });
        let is_kept = record.is_some_and(|record| self.keep(&mut room, record));
        if !is_kept {
            self.is_ended = true;
            return;
        }
        self.totals.add(time_ns, held, matches!(action, Action::Take { .. }));
    }

    /// Updates the counts and steps by an action. `None` if there is no room.
    fn count(&mut self, room: &mut Room, action: &Action) -> Option<(What, u32, u64)> {
        Some(match action {
            &Action::Take { id, ref layout, role, op, location, source } => {
                let kind = Kind { role, source };
                if !room.for_one_more_in(&mut self.open) {
                    return None;
                }
                let site = self.tally.take(room, layout, op, location, kind)?;
                let layout = self.tally.site(site)?.1.layout;
                let piece = match role {
                    Role::Activation => self.in_steps(room, |steps, share| steps.take(share, layout)),
                    Role::Cache | Role::Learnable => None,
                };
                let piece = piece.unwrap_or(0);
                self.open.insert(id, Open { site, piece, kind });
                (What::Take(role, source), site, id)
            }
            &Action::Return { id } => {
                if let Some(open) = self.open.remove(&id) {
                    self.tally.give_back(open.site, open.kind);
                    if open.kind.role == Role::Activation {
                        self.in_steps(room, |steps, share| steps.give_back(share, open.piece).then_some(()));
                    }
                }
                (What::Return, 0, id)
            }
            Action::Reserve { layout, count, kind } => {
                (What::Reserve(*kind), self.tally.layout(room, layout)?, *count as u64)
            }
            Action::Free { count, bytes } => (What::Free, u32::try_from(*count).unwrap_or(u32::MAX), *bytes),
            Action::Step { .. } => {
                self.step_count += 1;
                self.in_steps(room, |steps, share| steps.mark(share).then_some(()));
                (What::Step, 0, self.step_count)
            }
        })
    }

    /// Changes the steps within their share of the limit, which keeps room for the counts. They are dropped once the
    /// share is exceeded.
    fn in_steps<T>(&mut self, room: &mut Room, change: impl FnOnce(&mut Steps, &mut Room) -> Option<T>) -> Option<T> {
        let steps = self.steps.as_mut()?;
        let bytes = room.bytes.min((self.max_bytes / 4).saturating_sub(steps.bytes()));
        let mut share = Room { bytes };
        let changed = change(steps, &mut share);
        room.bytes -= bytes - share.bytes;
        if changed.is_none() {
            self.steps = None;
        }
        changed
    }

    /// Keeps an event, if necessary in place of others.
    fn keep(&mut self, room: &mut Room, record: Record) -> bool {
        let share = (self.max_bytes / 4).saturating_sub(list_bytes(&self.records));
        let mut of_share = Room { bytes: room.bytes.min(share) };
        if !of_share.for_one_more(&mut self.records) && !thin(&mut self.records, &self.tally, record.number) {
            return false;
        }
        self.records.push(record);
        true
    }
}

/// A tensor among the kept events, or an event without a tensor.
#[derive(Clone, Copy)]
struct Weight {
    stretch: u32,
    /// Whether it is the end of a step or a reservation: a quarter of the room is for these.
    is_mark: bool,
    /// Bytes × events for which it was live.
    area: f32,
    /// The first event.
    first: u32,
    /// The last event, if it is kept; else equal to `first`.
    last: u32,
}

/// Leaves out about half of the events, and keeps in each stretch of the run the tensors with the most bytes × lifetime
/// and those that begin or end at an extreme of the live bytes. Returns whether that made room.
fn thin(records: &mut Vec<Record>, tally: &Tally, total: u64) -> bool {
    let (len, most) = (records.len(), records.len() / 2);
    let n_stretches = (len / 64).clamp(1, MAX_STRETCHES);
    let stretch = |number: u64| (number as u128 * n_stretches as u128 / u128::from(total.max(1))) as usize;
    let (mut order, mut weights, mut is_kept) = (Vec::new(), Vec::new(), Vec::new());
    let has_room = order.try_reserve_exact(len).is_ok()
        && weights.try_reserve_exact(len).is_ok()
        && is_kept.try_reserve_exact(len).is_ok();
    if !has_room || len < 2 {
        return false;
    }
    is_kept.resize(len, false);
    mark_extremes(records, &mut is_kept, n_stretches, stretch);
    // Groups the events of one tensor; events without a tensor stay single.
    order.extend(0..len as u32);
    let tensor = |at: u32| match records[at as usize].what {
        What::Take(..) | What::Return => records[at as usize].value,
        _ => 0,
    };
    order.sort_unstable_by_key(|&at| (tensor(at), at));
    let mut at = 0;
    while at < len {
        let first = order[at];
        let has_pair = tensor(first) != 0 && order.get(at + 1).is_some_and(|&next| tensor(next) == tensor(first));
        let last = if has_pair { order[at + 1] } else { first };
        at += if has_pair { 2 } else { 1 };
        let (begin, end) = (&records[first as usize], &records[last as usize]);
        let area = match begin.what {
            What::Take(..) => {
                let bytes = tally.site(begin.at).and_then(|(layout, _)| layout.len_bytes().ok()).unwrap_or(0);
                let end = if has_pair { end.number } else { total };
                bytes as f32 * (end - begin.number) as f32
            }
            What::Reserve(_) => f32::INFINITY,
            What::Free => begin.value as f32,
            // Every second step outweighs its neighbours, every fourth outweighs those, and so on.
            What::Step => begin.value.trailing_zeros() as f32,
            What::Return => 0.0,
        };
        let is_extreme = is_kept[first as usize] || is_kept[last as usize];
        (is_kept[first as usize], is_kept[last as usize]) = (is_extreme, is_extreme);
        if !is_extreme {
            let is_mark = matches!(begin.what, What::Step | What::Reserve(_));
            weights.push(Weight { stretch: stretch(begin.number) as u32, is_mark, area, first, last });
        }
    }
    // The heaviest of each stretch, while there is room.
    weights.sort_unstable_by(|a, b| {
        let by_kind = (a.stretch, b.is_mark).cmp(&(b.stretch, a.is_mark));
        by_kind.then(b.area.total_cmp(&a.area)).then(a.first.cmp(&b.first))
    });
    let n_extreme = is_kept.iter().filter(|kept| **kept).count();
    let share = most.saturating_sub(n_extreme) / n_stretches;
    let (mut current, mut left) = (u32::MAX, 0);
    for weight in &weights {
        if weight.stretch != current {
            (current, left) = (weight.stretch, share);
        }
        let count = if weight.first == weight.last { 1 } else { 2 };
        let least = if weight.is_mark { share - share / 4 } else { 0 };
        if left >= least + count {
            left -= count;
            (is_kept[weight.first as usize], is_kept[weight.last as usize]) = (true, true);
        }
    }
    let mut at = 0;
    records.retain(|_| {
        at += 1;
        is_kept[at - 1]
    });
    records.len() < len
}

/// Marks in each stretch of the run the events after which the live bytes are at their maximum and minimum.
fn mark_extremes(records: &[Record], is_kept: &mut [bool], n_stretches: usize, stretch: impl Fn(u64) -> usize) {
    let mut at = 0;
    for which in 0..n_stretches {
        let end = at + records[at..].iter().take_while(|record| stretch(record.number) <= which).count();
        let live = |i: &usize| records[*i].held.live;
        let extremes = [(at..end).max_by_key(live), (at..end).min_by_key(live)];
        extremes.into_iter().flatten().for_each(|i| is_kept[i] = true);
        at = end;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, VecDeque};

    use proptest::prelude::*;

    use super::super::tally::Part;
    use super::*;
    use crate::{Device, DeviceOptions, Event, Layout, ReserveKind, Simulation, TensorBuffer};

    fn device(recording_max_bytes: usize, limit_bytes: Option<usize>) -> Device {
        let mut options = DeviceOptions::default();
        options.memory.recording_max_bytes = recording_max_bytes;
        options.memory.limit_bytes = limit_bytes;
        options.simulation = Some(Simulation::default());
        Device::cpu_with(&options)
    }

    /// Takes tensors of these layouts, at most so many at once, the first first.
    fn trace_of(device: &Device, layouts: impl Iterator<Item = Vec<usize>>, most: usize) -> Trace {
        device.start_trace();
        let mut held = VecDeque::new();
        for (i, dims) in layouts.enumerate() {
            if held.len() == most {
                held.pop_front();
            }
            let role = if dims.len() == 1 { Role::Cache } else { Role::Activation };
            held.push_back(device.take(&Layout::from(dims), role).unwrap());
            if i % 100 == 99 {
                device.end_step();
                held.clear();
            }
        }
        drop(held);
        device.stop_trace()
    }

    /// A thousand small ones and then a larger one, again and again.
    fn sizes(n: usize) -> impl Iterator<Item = Vec<usize>> {
        (0..n).map(|i| if i % 1000 == 999 { vec![100 + i % 7, 8] } else { vec![1 + i % 3, 8] })
    }

    #[test]
    fn a_long_trace_is_coarser_and_exact_where_it_must_be() {
        let (short, long) = (device(256 << 10, None), device(64 << 20, None));
        let (thinned, whole) = (trace_of(&short, sizes(50_000), 5), trace_of(&long, sizes(50_000), 5));
        assert!(thinned.is_thinned() && !whole.is_thinned());
        assert!(list_bytes(&thinned.records) <= 64 << 10);
        let end = |trace: &Trace| TraceTotals { end_ns: 0, ..trace.totals() };
        assert_eq!(end(&thinned), end(&whole));
        assert_eq!(thinned.tally, whole.tally);
        assert_eq!(thinned.plan(), whole.plan());
        assert_eq!(thinned.arena().unwrap(), whole.arena().unwrap());
        // The large ones are there, with both ends, and so is the peak; the events are in order and from the whole run.
        let events: Vec<Event> = thinned.events().collect();
        let ids = |large: bool| -> Vec<u64> {
            let take = |event: &Event| match &event.action {
                Action::Take { id, layout, .. } if !large || layout.shape()[0] >= 100 => Some(*id),
                _ => None,
            };
            events.iter().filter_map(take).collect()
        };
        assert_eq!(ids(true).len(), 50);
        let returned = |id| events.iter().any(|event| event.action == Action::Return { id });
        assert!(ids(false).into_iter().all(returned));
        assert_eq!(events.iter().map(|event| event.live_bytes).max(), Some(whole.totals().peak_live_bytes));
        assert!(events.windows(2).all(|pair| pair[0].number < pair[1].number && pair[0].time_ns <= pair[1].time_ns));
        for tenth in 0..10 {
            let range = tenth * whole.totals().event_count / 10..(tenth + 1) * whole.totals().event_count / 10;
            let count = events.iter().filter(|event| range.contains(&event.number)).count();
            assert!(count > events.len() / 40, "{tenth}: {count} of {}", events.len());
        }
        let steps = events.iter().filter(|event| matches!(event.action, Action::Step { .. })).count();
        assert!((10..=events.len() / 4).contains(&steps), "{steps}");
    }

    #[test]
    fn the_recording_is_counted_and_counts_against_the_limit() {
        let device = device(1 << 20, Some(100_000));
        device.start_trace();
        for n in (0..10_000).map(|i| 1 + i % 50) {
            drop(device.take(&Layout::from(vec![n]), Role::Activation).unwrap());
            let stats = device.stats();
            assert!(stats.recording_bytes > 0 && stats.total_bytes() <= 100_000, "{stats:?}");
        }
        let trace = device.stop_trace();
        assert!(trace.is_thinned() && !trace.is_ended());
        assert_eq!((trace.totals().take_count, device.stats().recording_bytes), (10_000, 0));
    }

    #[test]
    fn without_room_the_recording_ends_and_the_program_does_not() {
        let device = device(1 << 20, Some(2000));
        let trace = trace_of(&device, (1..300).map(|n| vec![n % 20, 2]), 2);
        assert!(trace.is_ended() && trace.totals().event_count < 600);
        assert!(matches!(trace.plan(), Err(crate::Error::RecordingEnded { .. })));
        assert!(matches!(trace.arena(), Err(crate::Error::RecordingEnded { .. })));
    }

    #[test]
    fn steps_without_end_leave_no_arena_and_all_else() {
        let trace = trace_of(&device(1 << 20, None), (0..90_000).map(|n| vec![n % 20, 2]), 5);
        assert_eq!(trace.longest_step(), Some(100));
        let device = device(1 << 20, None);
        let held = device.take(&Layout::from(vec![1, 1]), Role::Activation);
        device.start_trace();
        let _held = (held, device.take(&Layout::from(vec![1, 1]), Role::Activation));
        for n in 0..90_000 {
            drop(device.take(&Layout::from(vec![n % 20, 2]), Role::Activation).unwrap());
        }
        let trace = device.stop_trace();
        assert!(matches!(trace.arena(), Err(crate::Error::StepsTooLong { max_bytes: 262_144 })));
        assert_eq!((trace.longest_step(), trace.plan().unwrap().count()), (None, 2));
    }

    /// For each layout the most that were live at once, found by replaying the events.
    fn replayed(trace: &Trace) -> HashMap<Layout, usize> {
        let (mut live, mut now, mut most) = (HashMap::new(), HashMap::new(), HashMap::new());
        for event in trace.events() {
            match event.action {
                Action::Take { id, layout, .. } => {
                    let count: &mut usize = now.entry(layout.clone()).or_default();
                    *count += 1;
                    let highest: &mut usize = most.entry(layout.clone()).or_default();
                    *highest = (*count).max(*highest);
                    live.insert(id, layout);
                }
                Action::Return { id } => {
                    live.remove(&id).and_then(|layout| now.get_mut(&layout)).into_iter().for_each(|count| *count -= 1);
                }
                _ => {}
            }
        }
        most
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

        /// Rows for single layouts are what a replay finds; a program with the plan's reservations needs nothing else.
        #[test]
        fn a_plan_is_what_was_live_and_serves_the_program(
            dims in prop::collection::vec((0usize..3, 1usize..13), 1..400),
            most in 1usize..9,
        ) {
            let layouts = || dims.iter().map(|&(kind, n)| [vec![n], vec![4, n], vec![2, n, n]][kind].clone());
            let trace = trace_of(&device(64 << 20, None), layouts(), most);
            let (plan, replayed) = (trace.plan().unwrap(), replayed(&trace));
            for row in plan.rows.iter().filter(|row| row.kind == ReserveKind::Exact) {
                prop_assert_eq!(replayed.get(&row.layout), Some(&row.count));
            }
            for layout in replayed.keys() {
                prop_assert!(plan.rows.iter().any(|row| row.serves(layout)), "{}", layout);
            }
            let served = device(64 << 20, None);
            let buffer = TensorBuffer::new(&served);
            plan.reserve(&buffer).unwrap();
            served.set_tensor_buffer(buffer);
            served.seal();
            prop_assert!(trace_of(&served, layouts(), most).layouts().all(|layout| layout.miss_count == 0));
            // What missed it in the first run is all of its activations, if the program is to be tuned.
            let missed = trace.missed_plan(0).unwrap();
            prop_assert!(missed.rows.iter().all(|row| row.layout.shape().len() > 1));
            prop_assert_eq!(&missed, &trace.tally.plan(Part::Missed));
        }
    }
}
