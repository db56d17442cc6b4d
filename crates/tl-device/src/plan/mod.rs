//! Reservations as data: made from traces, kept in files, as numbers or as formulas of sizes.

mod fit;
mod formula;
mod reservations;
mod row;
mod symbolic;

pub use fit::{FitError, FittedPlan};
pub use reservations::{PlanError, PlanRow, ReservationPlan};
pub use symbolic::{SizeRange, SymbolicPlan, SymbolicReservation};
