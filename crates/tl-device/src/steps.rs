//! The steps of a recording: what an arena is made from. A step is kept as the numbers of its layouts and the lifetimes
//! of its pieces, and a step like one that is known takes nothing.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};

use crate::arena::{Lifetime, Piece, Ranges, Step, place};
use crate::layout::LayoutHasher;
use crate::tally::{Room, Tally, list_bytes, map_bytes};
use crate::trace::ArenaPlan;

/// A request of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Request {
    /// The layout's number in the tally.
    layout: u32,
    /// Before which request of the step it was back; `u32::MAX`: before none.
    until: u32,
}

/// Steps in the order in which they were first seen. A step begins where nothing is live.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Steps {
    /// The requests of all steps, one step behind the other, that which runs last.
    requests: Vec<Request>,
    /// The first request of each step.
    starts: Vec<u32>,
    /// By the hash of the layouts, a known step. Of two with one hash the later has the next free number.
    known: HashMap<u64, u32, BuildHasherDefault<LayoutHasher>>,
    /// Where the running step begins, and how many of its requests are live.
    start: usize,
    live: usize,
    /// The most requests that a step had.
    longest: usize,
}

impl Steps {
    /// A request of this layout. Gives its number in the step; `None`: there is no room.
    pub(crate) fn take(&mut self, room: &mut Room, layout: u32) -> Option<u32> {
        let number = u32::try_from(self.requests.len() - self.start).ok()?;
        if !room.for_one_more(&mut self.requests) {
            return None;
        }
        self.requests.push(Request { layout, until: u32::MAX });
        self.live += 1;
        self.longest = self.longest.max(number as usize + 1);
        Some(number)
    }

    /// A request is back. Whether there was room for a step that this may end.
    pub(crate) fn give_back(&mut self, room: &mut Room, number: u32) -> bool {
        // Pieces requested from here on may have its place.
        let until = (self.requests.len() - self.start) as u32;
        if let Some(request) = self.requests.get_mut(self.start + number as usize) {
            request.until = until;
        }
        self.live -= 1;
        self.live > 0 || self.close(room)
    }

    /// The running step is over.
    fn close(&mut self, room: &mut Room) -> bool {
        let mut hasher = LayoutHasher::default();
        self.requests[self.start..].iter().for_each(|request| request.layout.hash(&mut hasher));
        let mut hash = hasher.finish();
        while let Some(&step) = self.known.get(&hash) {
            if self.is_running(step as usize) {
                self.keep_longest(step as usize);
                self.requests.truncate(self.start);
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

    /// Whether the running step asks for what a known one did.
    fn is_running(&self, step: usize) -> bool {
        let running = &self.requests[self.start..];
        let known = self.step(step);
        known.len() == running.len() && known.iter().zip(running).all(|(a, b)| a.layout == b.layout)
    }

    /// What the running step keeps longer than a known one like it, that one keeps as long.
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

    /// The recording is over: a step that runs counts as it is.
    pub(crate) fn end(&mut self) {
        if self.start < self.requests.len() {
            self.close(&mut Room { bytes: u64::MAX });
        }
    }

    pub(crate) fn longest(&self) -> usize {
        self.longest
    }

    pub(crate) fn bytes(&self) -> u64 {
        list_bytes(&self.requests) + list_bytes(&self.starts) + map_bytes(&self.known)
    }

    /// Each step placed on its own with its lifetimes known.
    pub(crate) fn arena(&self, tally: &Tally) -> ArenaPlan {
        let mut plan = ArenaPlan::default();
        for step in 0..self.starts.len() {
            add(&mut plan, self.step(step), tally);
        }
        plan
    }
}

/// Places the pieces of a step.
fn add(plan: &mut ArenaPlan, step: &[Request], tally: &Tally) {
    let piece = |(from, request): (usize, &Request)| {
        let layout = tally.layout_at(request.layout)?;
        let bytes = layout.len_bytes().ok().and_then(Ranges::piece_bytes)?;
        let until = if request.until == u32::MAX { usize::MAX } else { request.until as usize };
        Some((layout, Lifetime { bytes, from, until }))
    };
    let (layouts, lifetimes): (Vec<_>, Vec<_>) = step.iter().enumerate().filter_map(piece).unzip();
    let untils = || lifetimes.iter().map(|lifetime| lifetime.until);
    if plan.steps.iter().any(|known| known.covers(layouts.iter().copied().zip(untils()))) {
        return;
    }
    let offsets = place(&lifetimes);
    let ends = offsets.iter().zip(&lifetimes).map(|(offset, lifetime)| offset + lifetime.bytes);
    plan.size_bytes = plan.size_bytes.max(ends.max().unwrap_or(0));
    plan.lower_bound_bytes = plan.lower_bound_bytes.max(most_live(&lifetimes));
    let pieces = layouts.into_iter().zip(lifetimes.iter().zip(offsets));
    let pieces = pieces.map(|(layout, (lifetime, offset))| Piece {
        layout: layout.clone(),
        until: lifetime.until,
        offset,
        bytes: lifetime.bytes,
    });
    plan.steps.push(Step { pieces: pieces.collect() });
}

/// The most bytes that are live at once.
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
