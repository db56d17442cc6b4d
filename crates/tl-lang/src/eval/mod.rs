//! Runs a checked program by walking it.
//!
//! All variables of all active functions lie in one stack of values, which also holds the arguments of calls while they are
//! evaluated; it only grows, so that after warm-up evaluating allocates nothing. A value is moved out of its slot where
//! `liveness` marked its last read. Errors carry the place; calls add where they were called from on the way out.

mod attention;
mod binding;
mod calls;
mod chains;
mod error;
mod evaluator;
mod expressions;
mod indexing;
mod operators;
mod run;
mod statements;

pub(crate) use evaluator::Environment;
pub(crate) use run::{CallState, call, run};
