//! Runs a checked program by walking it.
//!
//! One stack of values holds the variables of all active functions and the arguments of calls. It only grows, so after warm-up
//! evaluation allocates nothing. A value is moved out of its slot at the last read that `liveness` marked. Errors carry their
//! place; the calls that they pass on the way out add theirs.

mod attention;
mod binding;
mod calls;
mod chains;
mod error;
mod evaluator;
mod expressions;
mod indexing;
mod make;
mod operators;
mod parts;
mod run;
mod statements;

pub(crate) use evaluator::Environment;
pub(crate) use run::{CallState, EntryEnd, SessionState, call, run, run_entry};
