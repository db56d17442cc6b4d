//! The steps of a recording, from which an arena is made. A step is stored as the indices of its layouts and the
//! lifetimes of its pieces; a step equal to a known one takes no memory.
//!
//! A step lasts from one moment when nothing is live to the next. Where tensors always pass from one round of a program
//! to the next there is no such moment; then a step lasts from one mark (`Device::end_step`, an output of a program) to
//! the next, if two neighbours request tensors of the same types and ranks. Tensors that outlive such a step are
//! planned beside the arena.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::{BuildHasherDefault, Hash, Hasher};

use super::arena_plan::{ArenaPlan, Lifetime, Piece, Step, piece_bytes, place, shared_beginnings};
use super::event::Source;
use super::tally::{Kind, Part, Room, Tally, list_bytes, map_bytes};
use crate::layout::{Layout, LayoutHasher};
use crate::purpose::Role;

/// A request of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Request {
    /// The layout's index in the tally.
    layout: u32,
    /// The request of the step before which it was back; `u32::MAX`: none.
    until: u32,
}

/// Stretches of requests in the order in which they were first seen. One begins where nothing is live.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Steps {
    /// The requests of all stretches, concatenated, the running one last.
    requests: Vec<Request>,
    /// The first request of each stretch.
    starts: Vec<u32>,
    /// Requests preceded by a mark while something was live.
    marks: Vec<u32>,
    /// Known stretches by the hash of their layouts. On a collision the later one has the next free key.
    known: HashMap<u64, u32, BuildHasherDefault<LayoutHasher>>,
    /// The start of the running stretch, and the number of its live requests.
    start: usize,
    live: usize,
}

/// A planned request.
#[derive(Clone, Copy)]
struct Wanted {
    layout: u32,
    /// The request of its step before which it is back.
    until: usize,
    /// Whether it outlives its step.
    is_beside: bool,
}

impl Steps {
    /// Adds a request for this layout. Returns its number in the step; `None` if there is no room.
    pub(crate) fn take(&mut self, room: &mut Room, layout: u32) -> Option<u32> {
        let number = u32::try_from(self.requests.len() - self.start).ok()?;
        if !room.for_one_more(&mut self.requests) {
            return None;
        }
        self.requests.push(Request { layout, until: u32::MAX });
        self.live += 1;
        Some(number)
    }

    /// Adds a mark. Returns whether there was room for it.
    pub(crate) fn mark(&mut self, room: &mut Room) -> bool {
        let at = self.requests.len() as u32;
        if self.live == 0 || self.marks.last() == Some(&at) {
            return true;
        }
        let is_kept = room.for_one_more(&mut self.marks);
        if is_kept {
            self.marks.push(at);
        }
        is_kept
    }

    /// Ends the lifetime of a request. Returns whether there was room for a step that this may end.
    pub(crate) fn give_back(&mut self, room: &mut Room, number: u32) -> bool {
        // Later requests may use its place.
        let until = (self.requests.len() - self.start) as u32;
        if let Some(request) = self.requests.get_mut(self.start + number as usize) {
            request.until = until;
        }
        self.live -= 1;
        self.live > 0 || self.close(room)
    }

    /// Ends the running step.
    fn close(&mut self, room: &mut Room) -> bool {
        let mut hasher = LayoutHasher::default();
        self.requests[self.start..].iter().for_each(|request| request.layout.hash(&mut hasher));
        let mut hash = hasher.finish();
        while let Some(&step) = self.known.get(&hash) {
            if self.is_running(step as usize) {
                self.keep_longest(step as usize);
                self.requests.truncate(self.start);
                let marks = self.marks.partition_point(|&mark| (mark as usize) <= self.start);
                self.marks.truncate(marks);
                return true;
            }
            hash = hash.wrapping_add(1);
        }
        let Ok(start) = u32::try_from(self.start) else { return false };
        if !room.for_one_more(&mut self.starts) || !room.for_one_more_in(&mut self.known) {
            return false;
        }
        self.known.insert(hash, self.starts.len() as u32);
        self.starts.push(start);
        self.start = self.requests.len();
        true
    }

    /// Whether the running step has the same requests as a known one.
    fn is_running(&self, step: usize) -> bool {
        let running = &self.requests[self.start..];
        let known = self.step(step);
        known.len() == running.len() && known.iter().zip(running).all(|(a, b)| a.layout == b.layout)
    }

    /// Extends the lifetimes of a known step to those of the running one.
    fn keep_longest(&mut self, step: usize) {
        let start = self.starts[step] as usize;
        let (known, running) = self.requests.split_at_mut(self.start);
        for (known, running) in known[start..].iter_mut().zip(running) {
            known.until = known.until.max(running.until);
        }
    }

    fn step(&self, step: usize) -> &[Request] {
        let end = self.starts.get(step + 1).map_or(self.start, |&end| end as usize);
        &self.requests[self.starts[step] as usize..end]
    }

    /// Ends the recording: a running step counts as it is.
    pub(crate) fn end(&mut self) {
        if self.start < self.requests.len() {
            self.close(&mut Room { bytes: u64::MAX });
        }
    }

    /// Maximum number of requests in one step.
    pub(crate) fn longest(&self, tally: &Tally) -> usize {
        let lens = (0..self.starts.len()).flat_map(|stretch| {
            let cuts = self.cuts(stretch, tally);
            cuts.windows(2).map(|cut| cut[1] - cut[0]).collect::<Vec<_>>()
        });
        lens.max().unwrap_or(0)
    }

    pub(crate) fn bytes(&self) -> u64 {
        list_bytes(&self.requests) + list_bytes(&self.starts) + list_bytes(&self.marks) + map_bytes(&self.known)
    }

    /// The cuts of a stretch into steps: 0, its length, and its marks if steps repeat between them.
    fn cuts(&self, stretch: usize, tally: &Tally) -> Vec<usize> {
        let (start, requests) = (self.starts[stretch] as usize, self.step(stretch));
        let first = self.marks.partition_point(|&mark| mark as usize <= start);
        let marks = self.marks[first..].iter().map(|&mark| mark as usize - start);
        let marks = marks.take_while(|mark| *mark < requests.len());
        let cuts: Vec<usize> = [0].into_iter().chain(marks).chain([requests.len()]).collect();
        let repeats = |cut: &[usize]| is_alike(&requests[cut[0]..cut[1]], &requests[cut[1]..cut[2]], tally);
        if cuts.windows(3).any(repeats) { cuts } else { vec![0, requests.len()] }
    }

    /// For each request of a stretch, whether it outlives its step. If one does, so do the requests in its place in
    /// similar neighbouring steps: this covers the last round of a program, after which nothing lives.
    fn outliving(&self, stretch: usize, cuts: &[usize], tally: &Tally) -> Vec<bool> {
        let requests = self.step(stretch);
        let outlives = |cut: &[usize]| {
            let end = cut[1];
            let is_over = move |request: &Request| end < requests.len() && request.until as usize > end;
            requests[cut[0]..end].iter().map(is_over).collect::<Vec<bool>>()
        };
        let mut outliving: Vec<bool> = cuts.windows(2).flat_map(outlives).collect();
        let pairs: Vec<&[usize]> = cuts.windows(3).collect();
        for cut in pairs.iter().chain(pairs.iter().rev()) {
            if is_alike(&requests[cut[0]..cut[1]], &requests[cut[1]..cut[2]], tally) {
                for at in cut[0]..cut[1] {
                    let beside = at + cut[1] - cut[0];
                    let is_either = outliving[at] || outliving[beside];
                    (outliving[at], outliving[beside]) = (is_either, is_either);
                }
            }
        }
        outliving
    }

    /// The plan of an arena: each step placed on its own with its lifetimes known, the largest first; a step covered by
    /// another is left out.
    pub(crate) fn arena(&self, tally: &Tally) -> ArenaPlan {
        let mut plan = ArenaPlan::default();
        let (mut steps, mut outliving, mut room) = (Vec::new(), Tally::default(), Room { bytes: u64::MAX });
        for stretch in 0..self.starts.len() {
            let (cuts, requests) = (self.cuts(stretch, tally), self.step(stretch));
            let is_beside = self.outliving(stretch, &cuts, tally);
            for cut in cuts.windows(2) {
                steps.push(wanted(requests, &is_beside, cut[0], cut[1]));
            }
            count_outliving(&mut outliving, &mut room, requests, &is_beside, tally);
        }
        let bytes = |step: &Vec<Wanted>| -> u128 {
            let bytes = |wanted: &Wanted| tally.layout_at(wanted.layout).and_then(|layout| layout.len_bytes().ok());
            step.iter().filter_map(bytes).map(|bytes| bytes as u128).sum()
        };
        steps.sort_by_cached_key(|step| Reverse(bytes(step)));
        let layouts = |step: &Vec<Wanted>| step.iter().map(|wanted| wanted.layout).collect();
        let shared = shared_beginnings(&steps.iter().map(layouts).collect::<Vec<Vec<u32>>>());
        steps.iter().zip(shared).for_each(|(step, n_shared)| add(&mut plan, step, n_shared, tally));
        plan.beside = outliving.plan(Part::All);
        plan
    }
}

/// Whether two steps request tensors of the same types and ranks.
fn is_alike(a: &[Request], b: &[Request], tally: &Tally) -> bool {
    let kind = |request: &Request| tally.layout_at(request.layout).map(|layout| (layout.dtype(), layout.shape().len()));
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| kind(a) == kind(b))
}

/// The requests from `start` to `end` as a step.
fn wanted(requests: &[Request], is_beside: &[bool], start: usize, end: usize) -> Vec<Wanted> {
    let wanted = |at: usize| {
        let Request { layout, until } = requests[at];
        let is_open = is_beside[at] || until == u32::MAX;
        Wanted { layout, until: if is_open { usize::MAX } else { until as usize - start }, is_beside: is_beside[at] }
    };
    (start..end).map(wanted).collect()
}

/// Counts the maximum of live tensors among those that outlive their step.
fn count_outliving(outliving: &mut Tally, room: &mut Room, requests: &[Request], is_beside: &[bool], tally: &Tally) {
    let kind = Kind { role: Role::Activation, source: Source::Device };
    let mut ends: BinaryHeap<Reverse<(u32, u32)>> = BinaryHeap::new();
    for (at, request) in requests.iter().enumerate() {
        while let Some(&Reverse((_, site))) = ends.peek().filter(|Reverse((until, _))| *until as usize <= at) {
            ends.pop();
            outliving.give_back(site, kind);
        }
        if let Some(layout) = tally.layout_at(request.layout).filter(|_| is_beside[at]) {
            let site = outliving.take(room, layout, "", 0, kind);
            ends.extend(site.map(|site| Reverse((request.until, site))));
        }
    }
    ends.into_iter().for_each(|Reverse((_, site))| outliving.give_back(site, kind));
}

/// Places the pieces of a step, whose first `n_shared` requests are shared with another step.
fn add(plan: &mut ArenaPlan, step: &[Wanted], n_shared: usize, tally: &Tally) {
    let layouts: Option<Vec<&Layout>> = step.iter().map(|wanted| tally.layout_at(wanted.layout)).collect();
    let Some(layouts) = layouts else { return };
    let pieces = || layouts.iter().zip(step);
    if plan.steps.iter().any(|known| known.covers(pieces().map(|(layout, w)| (*layout, w.until, w.is_beside)))) {
        return;
    }
    let lifetime = |(from, (layout, wanted)): (usize, (&&Layout, &Wanted))| {
        let bytes = layout.len_bytes().ok().and_then(piece_bytes).filter(|_| !wanted.is_beside)?;
        Some(Lifetime { bytes, from, until: wanted.until })
    };
    let lifetimes: Vec<Lifetime> = pieces().enumerate().filter_map(lifetime).collect();
    let alike = |known: &Step| known.shared(pieces().map(|(layout, w)| (*layout, w.until, w.is_beside)));
    let first = plan.steps.iter().map(|known| (alike(known), known)).max_by_key(|(n, _)| *n);
    let first = first.map_or(&[][..], |(n, known)| &known.pieces[..n]);
    let first: Vec<usize> = first.iter().filter(|piece| !piece.is_beside).map(|piece| piece.offset).collect();
    let n_early = step[..n_shared].iter().filter(|wanted| !wanted.is_beside).count();
    let offsets = place(&lifetimes, &first, n_early);
    let ends = offsets.iter().zip(&lifetimes).map(|(offset, lifetime)| offset + lifetime.bytes);
    plan.size_bytes = plan.size_bytes.max(ends.max().unwrap_or(0));
    plan.lower_bound_bytes = plan.lower_bound_bytes.max(most_live(&lifetimes));
    let mut places = offsets.into_iter().zip(&lifetimes).map(|(offset, lifetime)| (offset, lifetime.bytes));
    let pieces = pieces().map(|(layout, wanted)| {
        let (offset, bytes) = if wanted.is_beside { (0, 0) } else { places.next().unwrap_or_default() };
        Piece { layout: (*layout).clone(), until: wanted.until, is_beside: wanted.is_beside, offset, bytes }
    });
    plan.steps.push(Step { pieces: pieces.collect() });
}

/// Maximum live bytes.
fn most_live(pieces: &[Lifetime]) -> usize {
    let mut ends: Vec<(usize, usize)> = pieces.iter().map(|piece| (piece.until, piece.bytes)).collect();
    ends.sort_unstable();
    let (mut ends, mut live, mut most) = (ends.into_iter().peekable(), 0, 0);
    for piece in pieces {
        while let Some((_, bytes)) = ends.next_if(|(until, _)| *until <= piece.from) {
            live -= bytes;
        }
        live += piece.bytes;
        most = most.max(live);
    }
    most
}

#[cfg(test)]
mod tests {
    use crate::{Device, DeviceOptions, Layout, Role, Simulation, TensorBuffer};

    fn device() -> Device {
        Device::cpu_with(&DeviceOptions { simulation: Some(Simulation::default()), ..DeviceOptions::default() })
    }

    /// A sequence that is joined anew in each step, from this length on, and what a step takes beside it.
    fn run(device: &Device, lens: std::ops::Range<usize>, has_marks: bool) {
        let take = |dims: Vec<usize>| device.take(&Layout::from(dims), Role::Activation).unwrap();
        let mut sequence = take(vec![lens.start, 32]);
        for len in lens {
            let x = take(vec![8, 64]);
            let scores = take(vec![8, len + 1]);
            drop(x);
            let next = take(vec![len + 1, 32]);
            drop((scores, std::mem::replace(&mut sequence, next)));
            drop(take(vec![8, 64]));
            if has_marks {
                device.end_step();
            }
        }
    }

    #[test]
    fn what_outlives_a_step_lies_beside_the_block() {
        let recording = device();
        recording.start_trace();
        run(&recording, 1..40, true);
        let trace = recording.stop_trace();
        let plan = trace.arena().unwrap();
        assert_eq!(plan.beside.to_string(), "up_to float16[40, 32] 2\n");
        assert_eq!((plan.size_bytes, plan.steps.len(), trace.longest_step()), (1024 + 640, 2, Some(5)));
        // It serves shorter runs, too.
        for lens in [1..40, 1..7, 20..39] {
            let served = device();
            let buffer = TensorBuffer::new(&served);
            plan.beside.reserve(&buffer).unwrap();
            buffer.reserve_arena(&plan).unwrap();
            served.set_tensor_buffer(buffer);
            served.seal();
            run(&served, lens, true);
            let stats = served.tensor_buffer_stats();
            assert_eq!((stats.fallback_count, stats.taken_count - stats.arena_taken_count > 5), (0, true), "{stats:?}");
        }
    }

    #[test]
    fn without_marks_that_repeat_a_step_lasts_while_anything_is_live() {
        let recording = device();
        recording.start_trace();
        run(&recording, 1..40, false);
        let trace = recording.stop_trace();
        assert_eq!((trace.longest_step(), trace.arena().unwrap().beside.count()), (Some(1 + 39 * 4), 0));
        // Marks between rounds that differ cut nothing.
        recording.start_trace();
        let held = recording.take(&Layout::from(vec![4]), Role::Activation).unwrap();
        recording.end_step();
        drop([3, 4].map(|n| recording.take(&Layout::from(vec![n]), Role::Activation).unwrap()));
        recording.end_step();
        drop(held);
        assert_eq!(recording.stop_trace().longest_step(), Some(3));
    }
}
