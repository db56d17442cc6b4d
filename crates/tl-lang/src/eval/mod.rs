//! Runs a checked program by walking it.
//!
//! All variables of all active functions lie in one stack of values, which also holds the arguments of calls while they are
//! evaluated; it only grows, so that after warm-up evaluating allocates nothing. A value is moved out of its slot where
//! `liveness` marked its last read. Errors carry the place; calls add where they were called from on the way out.

mod binding;
mod calls;
mod expressions;
mod indexing;
mod operators;
mod statements;

use std::sync::Arc;

use tl_device::Device;
use tl_model::Sampler;
use tl_syntax::{Diagnostic, Span};
use tl_tensor::Random;
use tl_tensor::ops::Op;

use crate::host::Host;
use crate::ir::{Function, Program, Slot};
use crate::library::{Context, Failure};
use crate::value::Value;

/// Values that there is room for before the stack grows.
const STACK_CAPACITY: usize = 1024;

/// Calls that may be open at once.
const MAX_CALLS: usize = 10_000;

/// Calls that an error lists; of more, the ones in the middle are left out.
const MAX_CALL_LINES: usize = 16;

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

/// Why evaluation does not go on to the next thing.
#[derive(Debug)]
enum Interrupt {
    Break,
    Continue,
    /// The value is in `Evaluator::returned`.
    Return,
    Exit(i32),
    Error(Box<RunError>),
}

type Evaluated<T> = Result<T, Interrupt>;

/// What runs a program.
struct Evaluator<'a> {
    program: &'a Program,
    device: &'a Device,
    host: &'a mut dyn Host,
    random: Random,
    sampler: Option<Sampler>,
    seed: u64,
    stack: Vec<Value>,
    globals: Vec<Value>,
    /// Where the running function's frame begins in the stack.
    frame: usize,
    /// Where its signature's sizes begin.
    sizes: usize,
    /// The running function; none at the top level.
    function: Option<&'a Function>,
    returned: Value,
    open_calls: usize,
    /// An address that the machine's stack must not pass.
    stack_end: usize,
    select: Option<&'static Op>,
    slice: Option<&'static Op>,
}

/// Runs the program on a thread whose stack has `stack_bytes`, of which this is the bottom.
pub(crate) fn run(program: &Program, device: &Device, host: &mut dyn Host, stack_bytes: usize) -> End {
    let mut evaluator = Evaluator {
        program,
        device,
        host,
        random: Random::new(0),
        sampler: None,
        seed: 0,
        stack: Vec::with_capacity(STACK_CAPACITY),
        globals: vec![Value::Absent; program.globals.len()],
        frame: 0,
        sizes: 0,
        function: None,
        returned: Value::Absent,
        open_calls: 0,
        stack_end: address_here().saturating_sub(stack_bytes / 4 * 3),
        select: tl_tensor::ops::by_name("select"),
        slice: tl_tensor::ops::by_name("slice"),
    };
    evaluator.stack.resize(program.entry.slots as usize, Value::Absent);
    match evaluator.block(&program.entry.body) {
        Ok(_) | Err(Interrupt::Return | Interrupt::Break | Interrupt::Continue) => End::Done,
        Err(Interrupt::Exit(code)) => End::Exit(code),
        Err(Interrupt::Error(error)) => End::Failed(error),
    }
}

/// Where the machine's stack has got to, as a number to compare with others.
#[inline(never)]
fn address_here() -> usize {
    let here = 0_u8;
    std::ptr::from_ref(&here).addr()
}

impl<'a> Evaluator<'a> {
    fn slot(&mut self, slot: Slot) -> &mut Value {
        let index = self.frame + slot as usize;
        if index >= self.stack.len() {
            // The checker counts the slots, so this does not happen; if it did, the program would go on.
            self.stack.resize(index + 1, Value::Absent);
        }
        &mut self.stack[index]
    }

    fn drop_slots(&mut self, slots: &[Slot]) {
        for slot in slots {
            *self.slot(*slot) = Value::Absent;
        }
    }

    fn context(&mut self) -> Context<'_> {
        Context {
            device: self.device,
            host: &mut *self.host,
            random: &mut self.random,
            sampler: &mut self.sampler,
            seed: &mut self.seed,
        }
    }
}

#[cold]
fn error_at(span: Span, message: impl Into<String>) -> Interrupt {
    Interrupt::Error(Box::new(RunError { diagnostic: Diagnostic::error(span, message), calls: Vec::new() }))
}

#[cold]
fn failed(failure: Failure, span: Span) -> Interrupt {
    if let Some(code) = failure.exit {
        return Interrupt::Exit(code);
    }
    let mut diagnostic = Diagnostic::error(span, failure.message);
    diagnostic.hints.extend(failure.hint);
    Interrupt::Error(Box::new(RunError { diagnostic, calls: Vec::new() }))
}

/// Adds a call that the error passes on its way out.
#[cold]
fn called_from(interrupt: Interrupt, function: &Arc<str>, span: Span) -> Interrupt {
    match interrupt {
        Interrupt::Error(mut error) => {
            if error.calls.len() >= MAX_CALL_LINES {
                error.calls.remove(MAX_CALL_LINES / 2);
            }
            error.calls.push((function.clone(), span));
            Interrupt::Error(error)
        }
        other => other,
    }
}
