//! Reservations, and a tensor buffer's use of its reserve: the part of [`Memory`] that tensor buffers call.

use std::sync::Arc;

use super::allocator::{AllocError, Booking, Memory};
use super::arena::Arena;
use super::state::CurrentBuffer;
use crate::error::{Error, bytes};
use crate::heap;
use crate::layout::{ALIGN, DType, Layout, LayoutError};
use crate::purpose::{Purpose, Role};
use crate::slot::{Block, Slot, SlotOwner};
use crate::stats::{ReserveKind, TensorBufferStats};
use crate::trace::{Action, ArenaPlan, piece_bytes};

/// Heap bytes of a reserved buffer: its block, its slot, its entries in lists.
const SLOT_BYTES: usize = 320;

/// Minimum heap bytes that an error mentions.
const NOTABLE_BYTES: usize = 1 << 20;

impl Memory {
    /// Sets the buffer of the thread's context. The caller drops the old one outside the lock: it may be the last
    /// handle and remove its reserve.
    pub(crate) fn set_current(&self, buffer: Option<CurrentBuffer>) -> Option<CurrentBuffer> {
        std::mem::replace(&mut self.lock().context(self.entered()).current, buffer)
    }

    pub(crate) fn current(&self) -> Option<CurrentBuffer> {
        self.lock().context(self.entered()).current.clone()
    }

    /// Adds `count` buffers to a reserve, all or none. A session's booking is used first.
    pub(crate) fn reserve<'a>(
        &'a self,
        id: u64,
        layout: &Layout,
        count: usize,
        kind: ReserveKind,
        mut session: Option<&mut Booking<'a>>,
    ) -> Result<(), Error> {
        let too_large = || LayoutError::TooLarge { layout: layout.clone() };
        let role = if kind == ReserveKind::Learnable { Role::Learnable } else { Role::Activation };
        let request = self.request(layout, Purpose { role, op: "reserve" })?;
        let capacity = request.len_bytes.max(1).checked_next_multiple_of(ALIGN).ok_or_else(too_large)?;
        let total = capacity.checked_mul(count).ok_or_else(too_large)?;
        if count > 0 && self.is_sealed() {
            return Err(self.sealed(request));
        }
        let bookkeeping = count.saturating_mul(SLOT_BYTES);
        let what = || match bookkeeping {
            0..NOTABLE_BYTES => format!("a reservation of {count} × {layout}"),
            _ => {
                format!("a reservation of {count} × {layout} (and {} to keep account of it)", bytes(bookkeeping as u64))
            }
        };
        let (blocks, booking) = self.or_after_trim(total, what, || {
            let booking = self.book_within(total, session.as_deref_mut())?;
            self.allocate_all(capacity, count, total, booking)
        })?;
        let mut state = self.lock();
        // Without a reserve the blocks are dropped, and the booking with them.
        let Some(reserve) = state.reserve(id) else { return Err(Error::DeviceGone) };
        let entry = reserve.entry(layout, kind);
        for block in blocks {
            let owner = SlotOwner::Reserve { id, entry, index: reserve.next_index(entry) };
            reserve.add(entry, Slot::new(block, owner, kind == ReserveKind::Learnable));
        }
        booking.settle(&mut state);
        state.ledger.allocated(count as u64, total as u64);
        state.ledger.reserved_free += total as u64;
        state.record(Action::Reserve { layout: layout.clone(), count, kind });
        Ok(())
    }

    /// Sets a reserve's arena; a former one is freed when its pieces are back.
    pub(crate) fn reserve_arena<'a>(
        &'a self,
        id: u64,
        plan: &ArenaPlan,
        mut session: Option<&mut Booking<'a>>,
    ) -> Result<(), Error> {
        if self.is_gpu() {
            return Err(Error::NoArena);
        }
        let bytes = plan.size_bytes;
        let layout = Layout::new(DType::Bool, [bytes]);
        let request = self.request(&layout, Purpose { role: Role::Activation, op: "reserve_arena" })?;
        let size = piece_bytes(bytes).ok_or_else(|| LayoutError::TooLarge { layout: layout.clone() })?;
        if self.is_sealed() {
            return Err(self.sealed(request));
        }
        let what = || format!("an arena of {bytes} bytes");
        let (block, booking) = self.or_after_trim(size, what, || {
            let booking = self.book_within(size, session.as_deref_mut())?;
            Ok((self.allocate(size)?, booking))
        })?;
        let whole = Slot::new(block, SlotOwner::System, false);
        let arena = Arena::new(id, whole, &plan.steps);
        let mut freed = Vec::new();
        let mut state = self.lock();
        let Some(reserve) = state.reserve(id) else { return Err(Error::DeviceGone) };
        freed.extend(reserve.set_arena(arena));
        let old: u64 = freed.iter().map(|slot| slot.block.capacity() as u64).sum();
        booking.settle(&mut state);
        state.ledger.allocated(1, size as u64);
        state.ledger.reserved_free += size as u64;
        state.ledger.reserved_free -= old;
        state.book_freed(&freed);
        state.record(Action::Reserve { layout, count: 1, kind: ReserveKind::UpTo });
        drop(state);
        Ok(())
    }

    /// `count` blocks with their pages touched, or none at all.
    fn allocate_all<'a>(
        &'a self,
        capacity: usize,
        count: usize,
        total: usize,
        // All blocks are booked first, so that a reservation that cannot finish does not start.
        booking: Booking<'a>,
    ) -> Result<(Vec<Block>, Booking<'a>), AllocError> {
        // Each buffer's bookkeeping is extra; it is counted as heap.
        let bookkeeping = count.saturating_mul(SLOT_BYTES);
        let is_within = |limit: usize| self.promised().saturating_add(bookkeeping as u64) <= limit as u64;
        if heap::is_counted() && !self.is_simulated() && !self.limit_bytes().is_none_or(is_within) {
            return Err(AllocError::Limit);
        }
        if !self.is_available(total.saturating_add(bookkeeping)) {
            return Err(AllocError::System);
        }
        let mut blocks = Vec::new();
        heap::refusable(|| blocks.try_reserve_exact(count)).map_err(|_| AllocError::System)?;
        for _ in 0..count {
            blocks.push(self.allocate(capacity)?);
        }
        Ok((blocks, booking))
    }

    /// A free buffer of this reserve for the layout, or `None`.
    pub(crate) fn take_from(
        &self,
        id: u64,
        layout: &Layout,
        purpose: Purpose,
    ) -> Result<Option<(Arc<Slot>, usize)>, Error> {
        let request = self.request(layout, purpose)?;
        let slot = self.lock().take_reserved(id, request);
        Ok(slot.map(|slot| (self.hand_out(slot), request.len_bytes)))
    }

    pub(crate) fn clear(&self, id: u64, with_arena: bool, which: impl Fn(&Layout, ReserveKind) -> bool) {
        let freed = self.lock().clear(id, with_arena, which);
        drop(freed);
    }

    pub(crate) fn remove_reserve(&self, id: u64) {
        let freed = self.lock().remove_reserve(id);
        drop(freed);
    }

    pub(crate) fn current_reserve_stats(&self) -> TensorBufferStats {
        self.lock().current_reserve(self.entered()).map(|reserve| reserve.stats()).unwrap_or_default()
    }
}
