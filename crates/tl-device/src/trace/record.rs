//! A stored event: 64 bytes, with its layout and operation by index.

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
    /// The id of a take or return, the number of a reservation or step, the bytes of a free.
    pub(super) value: u64,
    /// The site of a take, the layout of a reservation, the count of a free.
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
    /// The event in its public form.
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
