//! An event as it is kept: in 64 bytes, its layout and operation by number.

use super::event::{Action, Event, Held, Source};
use super::tally::Tally;
use crate::purpose::Role;
use crate::stats::ReserveKind;

/// An event in 64 bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Record {
    pub(super) number: u64,
    pub(super) time_ns: u64,
    pub(super) held: Held,
    /// Of a take or return the id, of a reservation or step a number, of a free the bytes.
    pub(super) value: u64,
    /// Of a take the site, of a reservation the layout, of a free the count.
    pub(super) at: u32,
    pub(super) what: What,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum What {
    Take(Role, Source),
    Return,
    Reserve(ReserveKind),
    Free,
    Step,
}

impl Record {
    /// The event in full.
    pub(crate) fn event(&self, tally: &Tally) -> Option<Event> {
        let action = match self.what {
            What::Take(role, source) => {
                let (layout, site) = tally.site(self.at)?;
                let (layout, op, location) = (layout.clone(), site.op, site.location);
                Action::Take { id: self.value, layout, role, op, location, source }
            }
            What::Return => Action::Return { id: self.value },
            What::Reserve(kind) => {
                Action::Reserve { layout: tally.layout_at(self.at)?.clone(), count: self.value as usize, kind }
            }
            What::Free => Action::Free { count: self.at as usize, bytes: self.value },
            What::Step => Action::Step { number: self.value },
        };
        Some(Event {
            number: self.number,
            time_ns: self.time_ns,
            action,
            live_bytes: self.held.live,
            reserved_free_bytes: self.held.reserved_free,
            pooled_bytes: self.held.pooled,
            driver_bytes: self.held.driver,
        })
    }
}
