//! Runs a checked program by walking it.
//!
//! All variables of all active functions lie in one stack of values, which also holds the arguments of calls while they are
//! evaluated; it only grows, so that after warm-up evaluating allocates nothing. A value is moved out of its slot where
//! `liveness` marked its last read. Errors carry the place; calls add where they were called from on the way out.

mod attention;
mod binding;
mod calls;
mod chains;
mod evaluator;
mod expressions;
mod indexing;
mod operators;
mod statements;

use std::sync::Arc;

use tl_device::Device;
use tl_syntax::{Diagnostic, Span};

use crate::eval::evaluator::{Evaluator, Interrupt};
use crate::host::Host;
use crate::ir::Program;

/// An error of the running program.
#[derive(Debug)]
pub(crate) struct RunError {
    pub(crate) diagnostic: Diagnostic,
    /// Which function was called where, innermost first.
    pub(crate) calls: Vec<(Arc<str>, Span)>,
}

/// How a program that was started ends.
pub(crate) enum End {
    Done,
    Exit(i32),
    Failed(Box<RunError>),
}

/// Runs the program on a thread whose stack has `stack_bytes`, of which this is the bottom.
pub(crate) fn run(program: &Program, device: &Device, host: &mut dyn Host, stack_bytes: usize) -> End {
    let mut evaluator = Evaluator::new(program, device, host, stack_bytes);
    match evaluator.block(&program.entry.body) {
        Ok(_) | Err(Interrupt::Return | Interrupt::Break | Interrupt::Continue) => End::Done,
        Err(Interrupt::Exit(code)) => End::Exit(code),
        Err(Interrupt::Error(error)) => End::Failed(error),
    }
}
