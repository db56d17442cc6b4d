//! An arena: one block of memory, where its next piece goes, and where pieces were given back.
//!
//! A step that was traced has a plan: each of its pieces a place, found with all lifetimes known, which packs to within a few
//! percent of what is live at once. A step begins when the arena is empty; as long as its requests are the planned ones, or
//! ask for no more, its pieces go to their planned places. Every other piece goes into the smallest free range that holds it,
//! the lowest of equals. Either way the free ranges are the truth: a planned place that is not free is not used.
//!
//! A tensor that outlives its step (the keys and values of a sequence that are joined anew in each) is planned beside
//! the arena: its request is part of the step, and its memory comes from a reservation by layout. So the arena is empty
//! between two steps also where tensors go from one to the next.
//!
//! The slots of planned places are made with the arena, each as large as the largest piece that is planned there. So a
//! shorter step finds the same slots, and nothing is allocated for it on the heap either.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;

use crate::cpu::{ALIGN, Block};
use crate::layout::{LayoutHasher, LayoutMap};
use crate::storage::{Home, Slot};
use crate::{Device, Layout};

/// Places that an arena remembers beyond the planned ones. A step makes far fewer.
const MAX_UNPLANNED: usize = 4096;

/// A block out of which pieces of any size are handed.
///
/// Pieces that are out at the same time never overlap, which is what makes writing to them sound: each has the range of its
/// whole slot for itself, from when [`Ranges`] gives it until it is back.
pub(crate) struct Arena {
    whole: Arc<Slot>,
    /// The reserve that it belongs to.
    reserve: u64,
    ranges: Ranges,
    guide: Guide,
    /// Places where pieces are planned or have been: they recur, and then nothing is allocated for them.
    cells: Vec<Cell>,
    by_place: LayoutMap<Place, u32>,
    max_cells: usize,
    n_out: usize,
    taken: u64,
    reused: u64,
    /// Whether it only waits for its pieces.
    is_given_up: bool,
}

/// Offset and bytes of a piece.
type Place = (usize, usize);

/// A place, and its slot while that is not out.
struct Cell {
    place: Place,
    slot: Option<Arc<Slot>>,
}

impl Arena {
    /// The block of `whole` with these steps planned in it, for the reserve of this id.
    pub(crate) fn new(device: &Device, reserve: u64, whole: Arc<Slot>, steps: &[Step]) -> Arena {
        let longest = steps.iter().map(|step| step.pieces.len()).max().unwrap_or(0);
        let mut arena = Arena {
            ranges: Ranges::new(whole.block.capacity(), longest),
            whole,
            reserve,
            guide: Guide::default(),
            cells: Vec::new(),
            by_place: LayoutMap::default(),
            max_cells: usize::MAX,
            n_out: 0,
            taken: 0,
            reused: 0,
            is_given_up: false,
        };
        let planned = |step: &Step| {
            let planned = step.pieces.iter().zip(step.empty()).map(|(piece, is_first)| Planned {
                layout: piece.layout.clone(),
                cell: (!piece.is_beside).then(|| arena.plan(device, piece)),
                is_first,
            });
            planned.collect()
        };
        let planned = steps.iter().map(planned).collect();
        arena.guide = Guide::new(planned);
        arena.max_cells = arena.cells.len() + MAX_UNPLANNED;
        arena
    }

    /// The cell of a planned piece, with its slot.
    fn plan(&mut self, device: &Device, piece: &Piece) -> u32 {
        let place = (piece.offset, piece.bytes);
        let cell = self.cell(place);
        if self.cells[cell as usize].slot.is_none() {
            self.cells[cell as usize].slot = Some(self.slot(device, place, cell));
        }
        cell
    }

    /// The index of a place's cell, or one that no cell has where no more are remembered.
    fn cell(&mut self, place: Place) -> u32 {
        if let Some(&cell) = self.by_place.get(&place) {
            return cell;
        }
        if self.cells.len() >= self.max_cells {
            return u32::MAX;
        }
        let cell = self.cells.len() as u32;
        self.cells.push(Cell { place, slot: None });
        self.by_place.insert(place, cell);
        cell
    }

    fn slot(&self, device: &Device, (offset, bytes): Place, cell: u32) -> Arc<Slot> {
        let home = Home::Arena { id: self.reserve, offset, cell };
        Slot::new(device, Block::part(&self.whole, offset, bytes), home, false)
    }

    /// The piece that is planned for this request, elsewhere in the block where its place is not free; `None` where another
    /// request is planned, or none, or this one beside the arena, or there is no room.
    #[inline]
    pub(crate) fn take_planned(&mut self, device: &Device, layout: &Layout, len_bytes: usize) -> Option<Arc<Slot>> {
        let cell = self.guide.next(layout, self.n_out == 0)??;
        self.take_cell(cell).or_else(|| self.take_fitting(device, len_bytes))
    }

    /// A piece for a request other than the planned one.
    pub(crate) fn take_unplanned(&mut self, device: &Device, len_bytes: usize) -> Option<Arc<Slot>> {
        self.guide.lose();
        self.take_fitting(device, len_bytes)
    }

    /// The piece of this cell, if all of its place is free.
    #[inline]
    fn take_cell(&mut self, cell: u32) -> Option<Arc<Slot>> {
        let cell = self.cells.get_mut(cell as usize)?;
        let slot = cell.slot.take_if(|_| self.ranges.take_at(cell.place.0, cell.place.1))?;
        self.count(&slot);
        Some(slot)
    }

    /// The piece that leaves the least room beside it.
    #[cold]
    fn take_fitting(&mut self, device: &Device, len_bytes: usize) -> Option<Arc<Slot>> {
        let bytes = Ranges::piece_bytes(len_bytes)?;
        let place = (self.ranges.take(bytes)?, bytes);
        let cell = self.cell(place);
        let known = self.cells.get_mut(cell as usize).and_then(|cell| cell.slot.take());
        let slot = known.unwrap_or_else(|| self.slot(device, place, cell));
        self.count(&slot);
        Some(slot)
    }

    #[inline]
    fn count(&mut self, slot: &Slot) {
        self.n_out += 1;
        self.taken += 1;
        self.reused += u64::from(slot.mark_used());
    }

    /// Takes back the piece of this cell at this offset.
    #[inline]
    pub(crate) fn give_back(&mut self, slot: Arc<Slot>, offset: usize, cell: u32) {
        self.n_out -= 1;
        self.ranges.give_back(offset, slot.block.capacity());
        if let Some(cell) = self.cells.get_mut(cell as usize) {
            cell.slot = Some(slot);
        }
    }

    pub(crate) fn owns(&self, slot: &Slot) -> bool {
        slot.block.is_part_of(&self.whole)
    }

    /// Serves no more from here on.
    pub(crate) fn give_up(&mut self) {
        self.is_given_up = true;
    }

    pub(crate) fn is_given_up(&self) -> bool {
        self.is_given_up
    }

    /// Whether it was given up and all of its pieces are back.
    pub(crate) fn is_done(&self) -> bool {
        self.is_given_up && self.n_out == 0
    }

    /// The block, to be freed.
    pub(crate) fn into_whole(self) -> Arc<Slot> {
        self.whole
    }

    pub(crate) fn ranges(&self) -> &Ranges {
        &self.ranges
    }

    /// Pieces that are out.
    pub(crate) fn n_out(&self) -> usize {
        self.n_out
    }

    /// Requests served.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    /// Those of them whose place had served before.
    pub(crate) fn reused(&self) -> u64 {
        self.reused
    }
}

/// The free ranges of a block.
#[derive(Debug, Clone)]
pub(crate) struct Ranges {
    /// Offset and length of each free range, in order; no two of them touch.
    free: Vec<(usize, usize)>,
    size: usize,
    /// The highest end that a piece has had.
    top: usize,
}

impl Ranges {
    /// One free range of `size` bytes, which `n_pieces` can be taken out of without an allocation on the heap.
    pub(crate) fn new(size: usize, n_pieces: usize) -> Ranges {
        let mut free = Vec::with_capacity(n_pieces.max(63) + 1);
        if size > 0 {
            free.push((0, size));
        }
        Ranges { free, size, top: 0 }
    }

    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// The widest free range.
    pub(crate) fn largest_free(&self) -> usize {
        self.free.iter().map(|(_, len)| *len).max().unwrap_or(0)
    }

    /// The highest end that a piece has had: the size that would have been enough.
    pub(crate) fn top(&self) -> usize {
        self.top
    }

    /// The bytes that a piece for `len_bytes` takes, or `None` where they do not fit an address.
    pub(crate) fn piece_bytes(len_bytes: usize) -> Option<usize> {
        len_bytes.max(1).checked_next_multiple_of(ALIGN)
    }

    /// The offset of a piece of `bytes` (from [`Ranges::piece_bytes`]), or `None` where no free range holds it.
    pub(crate) fn take(&mut self, bytes: usize) -> Option<usize> {
        let fitting = self.free.iter().enumerate().filter(|(_, (_, len))| *len >= bytes);
        let (at, &(offset, len)) = fitting.min_by_key(|(_, (_, len))| *len)?;
        if len == bytes {
            self.free.remove(at);
        } else {
            self.free[at] = (offset + bytes, len - bytes);
        }
        self.top = self.top.max(offset + bytes);
        Some(offset)
    }

    /// Takes the piece at this offset, if all of it is free.
    pub(crate) fn take_at(&mut self, offset: usize, bytes: usize) -> bool {
        let after = self.free.partition_point(|&(start, _)| start <= offset);
        let Some(at) = after.checked_sub(1) else { return false };
        let (start, len) = self.free[at];
        if offset + bytes > start + len {
            return false;
        }
        let behind = (offset + bytes, start + len - offset - bytes);
        match (offset > start, behind.1 > 0) {
            (false, false) => drop(self.free.remove(at)),
            (false, true) => self.free[at] = behind,
            (true, false) => self.free[at].1 = offset - start,
            (true, true) => {
                self.free[at].1 = offset - start;
                self.free.insert(at + 1, behind);
            }
        }
        self.top = self.top.max(offset + bytes);
        true
    }

    /// Takes a piece back and joins it with its neighbours.
    pub(crate) fn give_back(&mut self, offset: usize, bytes: usize) {
        let at = self.free.partition_point(|&(start, _)| start < offset);
        debug_assert!(at == 0 || self.free[at - 1].0 + self.free[at - 1].1 <= offset, "given back twice");
        debug_assert!(at == self.free.len() || offset + bytes <= self.free[at].0, "given back twice");
        let joins_next = at < self.free.len() && offset + bytes == self.free[at].0;
        let joins_previous = at > 0 && self.free[at - 1].0 + self.free[at - 1].1 == offset;
        match (joins_previous, joins_next) {
            (true, true) => {
                self.free[at - 1].1 += bytes + self.free[at].1;
                self.free.remove(at);
            }
            (true, false) => self.free[at - 1].1 += bytes,
            (false, true) => self.free[at] = (offset, bytes + self.free[at].1),
            (false, false) => self.free.insert(at, (offset, bytes)),
        }
    }
}

/// A step's pieces in the order of their requests, each with its planned place.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Step {
    pub(crate) pieces: Vec<Piece>,
}

/// A piece of a step: piece `i` is out from request number `i` until before request number `until`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Piece {
    pub(crate) layout: Layout,
    pub(crate) until: usize,
    /// Whether it outlives the step and has no place in the block.
    pub(crate) is_beside: bool,
    pub(crate) offset: usize,
    pub(crate) bytes: usize,
}

impl Step {
    /// Whether another step finds all of its pieces in this one: no larger, no longer out, and those that outlive it
    /// the same.
    pub(crate) fn covers<'a>(&self, mut others: impl ExactSizeIterator<Item = (&'a Layout, usize, bool)>) -> bool {
        self.pieces.len() == others.len()
            && self.pieces.iter().all(|piece| {
                others.next().is_some_and(|(layout, until, is_beside)| {
                    piece.layout.covers(layout) && until <= piece.until && is_beside == piece.is_beside
                })
            })
    }

    /// How many of its first requests another step has too, each with as long a life as far as these go: in both steps they
    /// then lie in the same places, and which of the two it is may show later.
    pub(crate) fn shared<'a>(&self, others: impl Iterator<Item = (&'a Layout, usize, bool)>) -> usize {
        let mut n = 0;
        // The first request before which a piece of one step is back, and its like in the other is not.
        let mut parted = usize::MAX;
        for (piece, (layout, until, is_beside)) in self.pieces.iter().zip(others) {
            if piece.layout != *layout || piece.is_beside != is_beside || parted <= n {
                break;
            }
            if piece.until != until {
                parted = parted.min(piece.until.min(until));
            }
            n += 1;
        }
        n
    }

    /// For each piece whether the block is empty when it is asked for.
    fn empty(&self) -> Vec<bool> {
        let mut live_until = 0;
        let is_first = |(at, piece): (usize, &Piece)| {
            let is_empty = live_until <= at;
            live_until = live_until.max(if piece.is_beside { 0 } else { piece.until });
            is_empty
        };
        self.pieces.iter().enumerate().map(is_first).collect()
    }
}

/// Follows a program through the steps that were planned for it.
#[derive(Debug, Default)]
struct Guide {
    steps: Vec<PlannedStep>,
    /// The step that the present requests agree with so far, and how many there were; `None`: none does.
    at: Option<(usize, usize)>,
}

/// The requests of a step in order.
#[derive(Debug)]
struct PlannedStep {
    requests: Vec<Planned>,
    /// How many of the first ones another step asks for too. Steps have these in the same places.
    shared: usize,
}

/// A request of a step.
#[derive(Debug)]
struct Planned {
    layout: Layout,
    /// Where it is served; `None`: beside the arena.
    cell: Option<u32>,
    /// Whether the arena is empty when it comes.
    is_first: bool,
}

impl Guide {
    /// A guide through these steps.
    fn new(steps: Vec<Vec<Planned>>) -> Guide {
        let layouts = |step: &Vec<Planned>| step.iter().map(|planned| planned.layout.clone()).collect();
        let shared = shared_beginnings(&steps.iter().map(layouts).collect::<Vec<Vec<Layout>>>());
        let steps = steps.into_iter().zip(shared).map(|(requests, shared)| PlannedStep { requests, shared });
        Guide { steps: steps.collect(), at: None }
    }

    /// The cell that is planned for this request, or that it has none, if it is the next of the plan. Where the arena
    /// is empty and is not planned to be, it begins a step.
    #[inline]
    fn next(&mut self, layout: &Layout, is_empty: bool) -> Option<Option<u32>> {
        if is_empty && !self.is_within(layout) {
            self.at = self.fitting(&[], layout).map(|step| (step, 0));
        }
        let (step, position) = self.at?;
        let present = self.steps.get(step)?;
        let is_planned = present.requests.get(position).is_some_and(|planned| planned.layout == *layout);
        if !is_planned && position <= present.shared && position > 0 {
            self.part_ways(layout);
        }
        let (step, position) = self.at.as_mut()?;
        let planned = self.steps.get(*step)?.requests.get(*position)?;
        if !planned.layout.covers(layout) {
            return None;
        }
        *position += 1;
        Some(planned.cell)
    }

    /// Whether the step goes on with this request where the arena is empty.
    fn is_within(&self, layout: &Layout) -> bool {
        let next = self.at.filter(|(_, position)| *position > 0);
        let next = next.and_then(|(step, position)| self.steps.get(step)?.requests.get(position));
        next.is_some_and(|planned| planned.is_first && planned.layout.covers(layout))
    }

    /// Goes over to the step that begins as the present one did and fits this request better.
    #[cold]
    fn part_ways(&mut self, layout: &Layout) {
        let Some((step, position)) = self.at else { return };
        let present = self.steps.get(step).map_or(&[][..], |step| &step.requests);
        let covering = present.get(position).filter(|planned| planned.layout.covers(layout));
        let Some(other) = self.fitting(&present[..position.min(present.len())], layout) else { return };
        let bytes = |planned: &Planned| planned.layout.len_bytes().unwrap_or(usize::MAX);
        let there = self.steps.get(other).and_then(|step| step.requests.get(position)).map(bytes);
        if covering.is_none_or(|here| there < Some(bytes(here))) {
            self.at = Some((other, position));
        }
    }

    /// The step that begins with these requests and goes on with the smallest that covers this layout.
    fn fitting(&self, done: &[Planned], layout: &Layout) -> Option<usize> {
        let next = |step: &PlannedStep| {
            let planned = step.requests.get(done.len()).filter(|planned| planned.layout.covers(layout))?;
            let is_alike = step.requests.iter().zip(done).all(|(a, b)| a.layout == b.layout && a.cell == b.cell);
            is_alike.then(|| planned.layout.len_bytes().unwrap_or(usize::MAX))
        };
        let fitting = self.steps.iter().enumerate().filter_map(|(at, step)| Some((at, next(step)?)));
        fitting.min_by_key(|(_, bytes)| *bytes).map(|(at, _)| at)
    }

    /// The program does something else than what was planned, until the arena is empty again.
    fn lose(&mut self) {
        self.at = None;
    }
}

/// Of each step how many of its first requests another step begins with too.
pub(crate) fn shared_beginnings<K: Hash>(steps: &[Vec<K>]) -> Vec<usize> {
    let hashes = |step: &Vec<K>| {
        let mut hasher = LayoutHasher::default();
        let hash = |key: &K| {
            key.hash(&mut hasher);
            hasher.finish()
        };
        step.iter().map(hash).collect()
    };
    let hashes: Vec<Vec<u64>> = steps.iter().map(hashes).collect();
    let mut counts: HashMap<u64, u32, BuildHasherDefault<LayoutHasher>> = HashMap::default();
    hashes.iter().flatten().for_each(|hash| *counts.entry(*hash).or_default() += 1);
    let is_shared = |hash: &&u64| counts.get(*hash).is_some_and(|count| *count > 1);
    hashes.iter().map(|hashes| hashes.iter().take_while(is_shared).count()).collect()
}

/// Requests and their lifetimes: piece `i` is out from request number `from` until before request number `until`.
pub(crate) struct Lifetime {
    pub(crate) bytes: usize,
    pub(crate) from: usize,
    pub(crate) until: usize,
}

/// Places for pieces whose lifetimes are known: the largest first, each as low as those placed before it that live at the
/// same time allow, in the gap that it fills best. `first` is where the first pieces lie already. The first `n_early`
/// ones are placed before all others: other steps have them, too, and room for what follows there is above them.
///
/// The time grows with the number of pairs that live at the same time, which for a transformer's step is a few for each piece.
pub(crate) fn place(pieces: &[Lifetime], first: &[usize], n_early: usize) -> Vec<usize> {
    let met = live_together(pieces);
    let mut order: Vec<usize> = (first.len()..pieces.len()).collect();
    order.sort_by_key(|&i| (i >= n_early, std::cmp::Reverse(pieces[i].bytes), pieces[i].from));
    let mut offsets: Vec<Option<usize>> = first.iter().map(|&offset| Some(offset)).collect();
    offsets.resize(pieces.len(), None);
    let mut taken: Vec<(usize, usize)> = Vec::new();
    for &i in &order {
        let bytes = pieces[i].bytes;
        taken.clear();
        taken.extend(met[i].iter().filter_map(|&j| offsets[j].map(|offset| (offset, offset + pieces[j].bytes))));
        taken.sort_unstable();
        let (mut end, mut best) = (0, None);
        for &(start, stop) in &taken {
            let gap = start.saturating_sub(end);
            if gap >= bytes && best.is_none_or(|(size, _)| gap < size) {
                best = Some((gap, end));
            }
            end = end.max(stop);
        }
        offsets[i] = Some(best.map_or(end, |(_, offset)| offset));
    }
    offsets.into_iter().map(Option::unwrap_or_default).collect()
}

/// For each piece those that live at the same time at some moment.
fn live_together(pieces: &[Lifetime]) -> Vec<Vec<usize>> {
    let mut met = vec![Vec::new(); pieces.len()];
    let mut order: Vec<usize> = (0..pieces.len()).collect();
    order.sort_by_key(|&i| pieces[i].from);
    let mut live: Vec<usize> = Vec::new();
    for i in order {
        live.retain(|&j| pieces[j].until > pieces[i].from);
        for &j in &live {
            met[i].push(j);
            met[j].push(i);
        }
        live.push(i);
    }
    met
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_smallest_range_that_fits_and_the_lowest_of_equals() {
        let mut ranges = Ranges::new(1024, 0);
        let places: Vec<_> = [256, 64, 128, 64, 512].iter().map(|&bytes| ranges.take(bytes)).collect();
        assert_eq!(places, [Some(0), Some(256), Some(320), Some(448), Some(512)]);
        assert_eq!(ranges.take(64), None);
        ranges.give_back(256, 64);
        ranges.give_back(448, 64);
        assert_eq!(ranges.take(64), Some(256));
        ranges.give_back(256, 64);
        ranges.give_back(320, 128);
        assert_eq!(ranges.take(256), Some(256), "neighbours were joined");
        assert_eq!((ranges.largest_free(), ranges.top()), (0, 1024));
    }

    proptest! {
        #[test]
        fn pieces_that_live_together_do_not_overlap(lives in prop::collection::vec((1usize..50, 0usize..30, 1usize..10), 0..60)) {
            let pieces: Vec<Lifetime> =
                lives.iter().map(|&(n, from, len)| Lifetime { bytes: n * ALIGN, from, until: from + len }).collect();
            let offsets = place(&pieces, &[], 0);
            for (i, a) in pieces.iter().enumerate() {
                for (j, b) in pieces.iter().enumerate().skip(i + 1) {
                    let live_together = a.from < b.until && b.from < a.until;
                    let overlap = offsets[i] < offsets[j] + b.bytes && offsets[j] < offsets[i] + a.bytes;
                    prop_assert!(!(live_together && overlap));
                }
            }
        }

        #[test]
        fn pieces_never_overlap_and_all_comes_back(requests in prop::collection::vec((any::<bool>(), 0usize..40), 1..200)) {
            let mut ranges = Ranges::new(64 * 64, 0);
            let mut out: Vec<(usize, usize)> = Vec::new();
            for (is_take, n) in requests {
                if is_take || out.is_empty() {
                    let bytes = (n + 1) * ALIGN;
                    if let Some(offset) = ranges.take(bytes) {
                        prop_assert!(offset + bytes <= ranges.size());
                        prop_assert!(out.iter().all(|&(o, b)| o + b <= offset || offset + bytes <= o));
                        out.push((offset, bytes));
                    }
                } else {
                    let (offset, bytes) = out.swap_remove(n % out.len());
                    ranges.give_back(offset, bytes);
                }
                let free: usize = ranges.free.iter().map(|(_, len)| len).sum();
                prop_assert_eq!(free + out.iter().map(|(_, bytes)| bytes).sum::<usize>(), ranges.size());
            }
            for (offset, bytes) in out {
                ranges.give_back(offset, bytes);
            }
            prop_assert_eq!(ranges.take(64 * 64), Some(0));
        }
    }
}
