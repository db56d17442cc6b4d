//! Traces of a device's memory events, and the plans made from them.

mod arena_plan;
mod event;
mod record;
mod recorded;
mod recorder;
mod steps;
mod tally;

pub use arena_plan::ArenaPlan;
pub(crate) use arena_plan::{Piece, Step, piece_bytes, shared_beginnings};
pub(crate) use event::Held;
pub use event::{Action, Event, Source, TraceTotals};
pub use recorded::{Trace, TracedLayout, TracedSite};
pub(crate) use recorder::Recorder;
