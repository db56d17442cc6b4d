//! A tensor buffer's data structure: slots reserved by layout, and their usage counts.
//!
//! Changed under the lock of the books. The lowest free slot is handed out first, so that a step that starts from the
//! same state takes the same buffers.

use std::sync::Arc;

use super::arena::Arena;
use crate::layout::{Layout, LayoutMap};
use crate::purpose::{Purpose, Role};
use crate::slot::Slot;
use crate::stats::{LayoutStats, ReserveKind, TensorBufferStats};
use crate::trace::Source;

/// The parts of a request that its sources need.
#[derive(Clone, Copy)]
pub(crate) struct Request<'a> {
    pub(crate) layout: &'a Layout,
    pub(crate) len_bytes: usize,
    pub(crate) purpose: Purpose,
    /// The requesting place in the program; 0: none.
    pub(crate) location: u64,
}

/// Maximum number of layouts whose fallbacks are counted separately; further ones are counted together, so that sizes
/// that change with every step cannot grow the table.
const MAX_MISSED_LAYOUTS: usize = 256;

/// The state of a slot of an entry.
enum SlotState {
    /// Free.
    Free(Arc<Slot>),
    /// In use. The address distinguishes this slot from one that had its index before a `clear`.
    Out(usize),
    /// Returned to the system.
    Gone,
}

/// The slots of one layout.
struct Entry {
    layout: Layout,
    kind: ReserveKind,
    /// The bytes of each slot.
    capacity: usize,
    slots: Vec<SlotState>,
    /// A bit for each slot that is free.
    free: Vec<u64>,
    in_use: usize,
    most_in_use: usize,
    taken: u64,
    reused: u64,
}

impl Entry {
    fn new(layout: Layout, kind: ReserveKind) -> Entry {
        Entry {
            layout,
            kind,
            capacity: 0,
            slots: Vec::new(),
            free: Vec::new(),
            in_use: 0,
            most_in_use: 0,
            taken: 0,
            reused: 0,
        }
    }

    fn add(&mut self, slot: Arc<Slot>) {
        let index = self.slots.len();
        self.capacity = slot.block.capacity();
        self.slots.push(SlotState::Free(slot));
        if index / 64 == self.free.len() {
            self.free.push(0);
        }
        self.free[index / 64] |= 1 << (index % 64);
    }

    #[inline]
    fn take(&mut self) -> Option<Arc<Slot>> {
        let (word, bits) = self.free.iter_mut().enumerate().find(|(_, bits)| **bits != 0)?;
        let bit = bits.trailing_zeros();
        *bits &= !(1 << bit);
        let place = &mut self.slots[word * 64 + bit as usize];
        let SlotState::Free(slot) = std::mem::replace(place, SlotState::Gone) else { return None };
        *place = SlotState::Out(address(&slot));
        self.in_use += 1;
        self.most_in_use = self.most_in_use.max(self.in_use);
        self.taken += 1;
        self.reused += u64::from(slot.mark_used());
        Some(slot)
    }

    /// Whether the slot is still this entry's (it is not after a `clear`).
    fn owns(&self, slot: &Slot, index: usize) -> bool {
        matches!(self.slots.get(index), Some(SlotState::Out(own)) if *own == address(slot))
    }

    /// Gives up all slots: the free ones to the caller, the ones in use once they are dropped.
    fn clear(&mut self, freed: &mut Vec<Arc<Slot>>) {
        self.free.clear();
        for place in self.slots.drain(..) {
            if let SlotState::Free(slot) = place {
                freed.push(slot);
            }
        }
        self.in_use = 0;
    }

    fn count(&self) -> usize {
        self.slots.iter().filter(|place| !matches!(place, SlotState::Gone)).count()
    }
}

fn address(slot: &Slot) -> usize {
    std::ptr::from_ref(slot).addr()
}

pub(crate) struct Reserve {
    pub(crate) id: u64,
    /// Whether its tensor buffer is gone; it then only waits for pieces of its arenas.
    pub(crate) is_removed: bool,
    /// The last one serves; the earlier ones wait for their pieces.
    arenas: Vec<Arena>,
    entries: Vec<Entry>,
    exact: LayoutMap<Layout, u32>,
    learnable: LayoutMap<Layout, u32>,
    /// Entries that serve every smaller layout, the smallest first.
    bounds: Vec<u32>,
    taken: u64,
    fallbacks: u64,
    missed: LayoutMap<Layout, u64>,
}

impl Reserve {
    pub(crate) fn new(id: u64) -> Reserve {
        Reserve {
            id,
            is_removed: false,
            arenas: Vec::new(),
            entries: Vec::new(),
            exact: LayoutMap::default(),
            learnable: LayoutMap::default(),
            bounds: Vec::new(),
            taken: 0,
            fallbacks: 0,
            missed: LayoutMap::default(),
        }
    }

    /// The entry for this layout, created if missing.
    pub(crate) fn entry(&mut self, layout: &Layout, kind: ReserveKind) -> u32 {
        let found = match kind {
            ReserveKind::Exact => self.exact.get(layout).copied(),
            ReserveKind::Learnable => self.learnable.get(layout).copied(),
            ReserveKind::UpTo => self.bounds.iter().copied().find(|&at| self.entries[at as usize].layout == *layout),
        };
        if let Some(at) = found {
            return at;
        }
        let at = self.entries.len() as u32;
        self.entries.push(Entry::new(layout.clone(), kind));
        match kind {
            ReserveKind::Exact => drop(self.exact.insert(layout.clone(), at)),
            ReserveKind::Learnable => drop(self.learnable.insert(layout.clone(), at)),
            ReserveKind::UpTo => {
                self.bounds.push(at);
                let entries = &self.entries;
                self.bounds.sort_by_key(|&at| entries[at as usize].layout.len_bytes().unwrap_or(usize::MAX));
            }
        }
        at
    }

    /// The index of the next slot added to `entry`.
    pub(crate) fn next_index(&self, entry: u32) -> u32 {
        self.entries[entry as usize].slots.len() as u32
    }

    pub(crate) fn add(&mut self, entry: u32, slot: Arc<Slot>) {
        self.entries[entry as usize].add(slot);
    }

    /// A free slot for an activation: the arena piece planned for it, else a slot of exactly this layout, else of the
    /// smallest bound that covers it, else any piece of the arena. The arena never serves a cache: memory that stays
    /// from step to step would keep the next step from beginning.
    #[inline]
    pub(crate) fn take(&mut self, request: Request) -> Option<(Arc<Slot>, Source)> {
        let Request { layout, len_bytes, purpose, .. } = request;
        let is_for_arena = purpose.role == Role::Activation;
        let planned = self.arena(is_for_arena).and_then(|arena| arena.take_planned(layout, len_bytes));
        if let Some(slot) = planned {
            self.taken += 1;
            return Some((slot, Source::Arena));
        }
        let exact = self.exact.get(layout).and_then(|&at| self.entries[at as usize].take());
        if let Some(slot) = exact {
            self.taken += 1;
            return Some((slot, Source::Reserve));
        }
        let entries = &mut self.entries;
        let bound = self.bounds.iter().find_map(|&at| {
            let entry = &mut entries[at as usize];
            if entry.layout.covers(layout) { entry.take() } else { None }
        });
        let slot = match bound {
            Some(slot) => Some((slot, Source::Reserve)),
            None => {
                let arena = self.arena(is_for_arena);
                let piece = arena.and_then(|arena| arena.take_unplanned(len_bytes));
                piece.map(|slot| (slot, Source::Arena))
            }
        };
        match slot {
            Some(_) => self.taken += 1,
            None => self.count_fallback(layout),
        }
        slot
    }

    /// The serving arena, if `is_wanted`.
    #[inline]
    fn arena(&mut self, is_wanted: bool) -> Option<&mut Arena> {
        self.arenas.last_mut().filter(|arena| is_wanted && !arena.is_given_up())
    }

    /// A free slot of the learnable reserve. Weights are taken once, so that they count neither as hits nor as
    /// fallbacks.
    pub(crate) fn take_learnable(&mut self, layout: &Layout) -> Option<(Arc<Slot>, Source)> {
        let at = *self.learnable.get(layout)?;
        let slot = self.entries[at as usize].take()?;
        Some((slot, Source::Reserve))
    }

    /// Takes back a piece. Returns the arena's whole block if the arena was given up and this was its last piece.
    #[inline]
    pub(crate) fn give_back_piece(&mut self, slot: Arc<Slot>, offset: usize, cell: u32) -> Option<Arc<Slot>> {
        let at = self.arenas.iter().position(|arena| arena.owns(&slot))?;
        let arena = &mut self.arenas[at];
        arena.give_back(slot, offset, cell);
        if arena.is_done() { Some(self.arenas.remove(at).into_whole()) } else { None }
    }

    /// Sets the arena. Returns the former arena's block, unless that still has pieces out.
    pub(crate) fn set_arena(&mut self, arena: Arena) -> Option<Arc<Slot>> {
        let former = self.give_up_arena();
        self.arenas.push(arena);
        former
    }

    fn give_up_arena(&mut self) -> Option<Arc<Slot>> {
        let arena = self.arenas.last_mut()?;
        arena.give_up();
        if arena.is_done() { self.arenas.pop().map(Arena::into_whole) } else { None }
    }

    /// Whether a removed reserve has no arena left.
    pub(crate) fn is_done(&self) -> bool {
        self.is_removed && self.arenas.is_empty()
    }

    fn count_fallback(&mut self, layout: &Layout) {
        self.fallbacks += 1;
        if let Some(count) = self.missed.get_mut(layout) {
            *count += 1;
        } else if self.missed.len() < MAX_MISSED_LAYOUTS {
            self.missed.insert(layout.clone(), 1);
        }
    }

    /// Takes back a slot whose last handle is gone. Returns it if the reserve does not keep it: learnable memory that
    /// was not recycled, and slots whose entry was cleared.
    #[inline]
    pub(crate) fn give_back(&mut self, slot: Arc<Slot>, entry: u32, index: u32, recycled: bool) -> Option<Arc<Slot>> {
        let index = index as usize;
        let Some(entry) = self.entries.get_mut(entry as usize).filter(|entry| entry.owns(&slot, index)) else {
            return Some(slot);
        };
        entry.in_use = entry.in_use.saturating_sub(1);
        if entry.kind == ReserveKind::Learnable && !recycled {
            entry.slots[index] = SlotState::Gone;
            // Keeps the list from growing when parameters are reserved, used and freed repeatedly.
            while matches!(entry.slots.last(), Some(SlotState::Gone)) {
                entry.slots.pop();
            }
            return Some(slot);
        }
        entry.free[index / 64] |= 1 << (index % 64);
        entry.slots[index] = SlotState::Free(slot);
        None
    }

    /// Gives up the slots of the entries that `which` selects, and the arena if `with_arena`.
    pub(crate) fn clear(&mut self, with_arena: bool, which: impl Fn(&Layout, ReserveKind) -> bool) -> Vec<Arc<Slot>> {
        let mut freed = Vec::new();
        if with_arena {
            freed.extend(self.give_up_arena());
        }
        for entry in &mut self.entries {
            if which(&entry.layout, entry.kind) {
                entry.clear(&mut freed);
            }
        }
        freed
    }

    /// The largest free buffer, or the widest gap of the arena.
    pub(crate) fn largest_free_bytes(&self) -> usize {
        let entries = self.entries.iter().filter(|entry| entry.free.iter().any(|bits| *bits != 0));
        let arenas = self.arenas.iter().filter(|arena| !arena.is_given_up());
        entries.map(|entry| entry.capacity).chain(arenas.map(|arena| arena.ranges().largest_free())).max().unwrap_or(0)
    }

    pub(crate) fn stats(&self) -> TensorBufferStats {
        let mut stats = TensorBufferStats {
            taken_count: self.taken,
            reused_count: self
                .entries
                .iter()
                .filter(|entry| entry.kind != ReserveKind::Learnable)
                .map(|entry| entry.reused)
                .sum(),
            fallback_count: self.fallbacks,
            ..TensorBufferStats::default()
        };
        if let Some(arena) = self.arenas.last().filter(|arena| !arena.is_given_up()) {
            stats.arena_bytes = arena.ranges().size() as u64;
            stats.arena_taken_count = arena.taken();
            stats.arena_most_bytes = arena.ranges().top() as u64;
            stats.reserved_count += 1;
            stats.reserved_bytes += arena.ranges().size() as u64;
            stats.reused_count += arena.reused();
            stats.in_use_count += arena.n_out();
        }
        for entry in &self.entries {
            let count = entry.count();
            let bytes = count * entry.capacity;
            stats.reserved_count += count;
            stats.in_use_count += entry.in_use;
            stats.reserved_bytes += bytes as u64;
            stats.by_layout.push(LayoutStats {
                kind: entry.kind,
                reserved_count: count,
                reserved_bytes: bytes as u64,
                in_use_count: entry.in_use,
                most_in_use: entry.most_in_use,
                taken_count: entry.taken,
                reused_count: entry.reused,
                ..LayoutStats::of(entry.layout.clone())
            });
        }
        let mut missed: Vec<(&Layout, u64)> = self.missed.iter().map(|(layout, &count)| (layout, count)).collect();
        missed.sort_by_key(|(layout, _)| (layout.dtype().name(), layout.shape().to_vec()));
        for (layout, count) in missed {
            let own = stats.by_layout.iter_mut().find(|row| row.kind == ReserveKind::Exact && row.layout == *layout);
            match own {
                Some(row) => row.fallback_count = count,
                None => stats.by_layout.push(LayoutStats { fallback_count: count, ..LayoutStats::of(layout.clone()) }),
            }
        }
        stats
    }
}

impl LayoutStats {
    fn of(layout: Layout) -> LayoutStats {
        LayoutStats {
            layout,
            kind: ReserveKind::Exact,
            reserved_count: 0,
            reserved_bytes: 0,
            in_use_count: 0,
            most_in_use: 0,
            taken_count: 0,
            reused_count: 0,
            fallback_count: 0,
        }
    }
}
