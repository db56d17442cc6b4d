//! An arena: one block of memory, the placement of its pieces, and its free ranges.
//!
//! A traced step has a plan: a place for each of its pieces, found with all lifetimes known, which packs to within a
//! few percent of the maximum live bytes. A step begins when the arena is empty; while its requests are the planned
//! ones, or smaller, its pieces go to their planned places. Every other piece goes into the smallest free range that
//! holds it, the lowest of equals. The free ranges decide in both cases: a planned place that is not free is not used.
//!
//! A tensor that outlives its step (the keys and values of a sequence that are concatenated anew in each) is planned
//! beside the arena: its request is part of the step, and its memory comes from a reservation by layout. So the arena
//! is empty between two steps even where tensors pass from one to the next.
//!
//! The slots of planned places are made with the arena, each as large as the largest piece planned there. So a shorter
//! step finds the same slots, without a heap allocation.

use std::sync::Arc;

use super::guide::{Guide, Planned};
use super::ranges::Ranges;
use crate::layout::{Layout, LayoutMap};
use crate::slot::{Block, Slot, SlotOwner};
use crate::trace::{Piece, Step, piece_bytes};

/// Maximum number of places remembered beyond the planned ones. A step makes far fewer.
const MAX_UNPLANNED: usize = 4096;

/// A block that is handed out in pieces of any size.
///
/// Pieces that are out at the same time never overlap, which makes writing to them sound: each has the range of its
/// whole slot exclusively, from when [`Ranges`] gives it until it is back.
pub(crate) struct Arena {
    whole: Arc<Slot>,
    /// The id of its reserve.
    reserve: u64,
    ranges: Ranges,
    guide: Guide,
    /// Places of planned and past pieces: they recur, and then need no allocation.
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
    /// The block of `whole` with these steps planned in it, for the reserve with id `reserve`.
    pub(crate) fn new(reserve: u64, whole: Arc<Slot>, steps: &[Step]) -> Arena {
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
                cell: (!piece.is_beside).then(|| arena.plan(piece)),
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
    fn plan(&mut self, piece: &Piece) -> u32 {
        let place = (piece.offset, piece.bytes);
        let cell = self.cell(place);
        if self.cells[cell as usize].slot.is_none() {
            self.cells[cell as usize].slot = Some(self.slot(place, cell));
        }
        cell
    }

    /// The index of a place's cell; `u32::MAX` for a new place beyond the maximum.
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

    fn slot(&self, (offset, bytes): Place, cell: u32) -> Arc<Slot> {
        let owner = SlotOwner::Arena { id: self.reserve, offset, cell };
        Slot::new(Block::part(&self.whole, offset, bytes), owner, false)
    }

    /// The piece planned for this request, or any other piece if its place is not free; `None` if another request or
    /// none is planned, if this one is planned beside the arena, or if there is no room.
    #[inline]
    pub(crate) fn take_planned(&mut self, layout: &Layout, len_bytes: usize) -> Option<Arc<Slot>> {
        let cell = self.guide.next(layout, self.n_out == 0)??;
        self.take_cell(cell).or_else(|| self.take_fitting(len_bytes))
    }

    /// A piece for a request other than the planned one.
    pub(crate) fn take_unplanned(&mut self, len_bytes: usize) -> Option<Arc<Slot>> {
        self.guide.lose();
        self.take_fitting(len_bytes)
    }

    /// The piece of this cell, if all of its place is free.
    #[inline]
    fn take_cell(&mut self, cell: u32) -> Option<Arc<Slot>> {
        let cell = self.cells.get_mut(cell as usize)?;
        let slot = cell.slot.take_if(|_| self.ranges.take_at(cell.place.0, cell.place.1))?;
        self.count(&slot);
        Some(slot)
    }

    /// The piece in the free range that leaves the least room.
    #[cold]
    fn take_fitting(&mut self, len_bytes: usize) -> Option<Arc<Slot>> {
        let bytes = piece_bytes(len_bytes)?;
        let place = (self.ranges.take(bytes)?, bytes);
        let cell = self.cell(place);
        let known = self.cells.get_mut(cell as usize).and_then(|cell| cell.slot.take());
        let slot = known.unwrap_or_else(|| self.slot(place, cell));
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

    /// Stops serving.
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

    /// The block, for freeing.
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

    /// Of these, requests whose place had been used before.
    pub(crate) fn reused(&self) -> u64 {
        self.reused
    }
}
