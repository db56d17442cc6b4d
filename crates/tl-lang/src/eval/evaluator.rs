//! The evaluator's state, and the errors that end it.

use std::sync::Arc;

use tl_device::Device;
use tl_model::Sampler;
use tl_syntax::{Diagnostic, Span};
use tl_tensor::Random;
use tl_tensor::ops::Op;

use crate::eval::RunError;
use crate::host::Host;
use crate::ir::{Function, Program, Slot};
use crate::library::{Context, Failure};
use crate::value::Value;

/// Values that there is room for before the stack grows.
pub(super) const STACK_CAPACITY: usize = 1024;

/// Calls that may be open at once.
pub(super) const MAX_CALLS: usize = 10_000;

/// Calls that an error lists; of more, the ones in the middle are left out.
pub(super) const MAX_CALL_LINES: usize = 16;

/// Why evaluation does not go on to the next thing.
#[derive(Debug)]
pub(super) enum Interrupt {
    Break,
    Continue,
    /// The value is in `Evaluator::returned`.
    Return,
    Exit(i32),
    Error(Box<RunError>),
}

pub(super) type Evaluated<T> = Result<T, Interrupt>;

/// What runs a program.
pub(super) struct Evaluator<'a> {
    pub(super) program: &'a Program,
    pub(super) device: &'a Device,
    pub(super) host: &'a mut dyn Host,
    pub(super) random: Random,
    pub(super) sampler: Option<Sampler>,
    pub(super) seed: u64,
    pub(super) stack: Vec<Value>,
    pub(super) globals: Vec<Value>,
    /// Where the running function's frame begins in the stack.
    pub(super) frame: usize,
    /// Where its signature's sizes begin.
    pub(super) sizes: usize,
    /// The running function; none at the top level.
    pub(super) function: Option<&'a Function>,
    pub(super) returned: Value,
    pub(super) open_calls: usize,
    /// An address that the machine's stack must not pass.
    pub(super) stack_end: usize,
    pub(super) select: Option<&'static Op>,
    pub(super) slice: Option<&'static Op>,
}

/// Where the machine's stack has got to, as a number to compare with others.
#[inline(never)]
pub(super) fn address_here() -> usize {
    let here = 0_u8;
    std::ptr::from_ref(&here).addr()
}

impl<'a> Evaluator<'a> {
    /// An evaluator on a thread whose stack has `stack_bytes`, of which this is the bottom.
    pub(super) fn new(program: &'a Program, device: &'a Device, host: &'a mut dyn Host, stack_bytes: usize) -> Self {
        let mut stack = Vec::with_capacity(STACK_CAPACITY);
        stack.resize(program.entry.slots as usize, Value::Absent);
        let globals = vec![Value::Absent; program.globals.len()];
        Evaluator::with_remains(program, device, host, stack_bytes, (stack, globals))
    }

    /// As [`Evaluator::new`], with the stack of values and the global variables of an earlier one.
    pub(super) fn with_remains(
        program: &'a Program,
        device: &'a Device,
        host: &'a mut dyn Host,
        stack_bytes: usize,
        (stack, globals): (Vec<Value>, Vec<Value>),
    ) -> Self {
        Evaluator {
            program,
            device,
            host,
            random: Random::new(0),
            sampler: None,
            seed: 0,
            stack,
            globals,
            frame: 0,
            sizes: 0,
            function: None,
            returned: Value::Absent,
            open_calls: 0,
            stack_end: address_here().saturating_sub(stack_bytes / 4 * 3),
            select: tl_tensor::ops::by_name("select"),
            slice: tl_tensor::ops::by_name("slice"),
        }
    }

    pub(super) fn slot(&mut self, slot: Slot) -> &mut Value {
        let index = self.frame + slot as usize;
        if index >= self.stack.len() {
            // The checker counts the slots, so this does not happen; if it did, the program would go on.
            self.stack.resize(index + 1, Value::Absent);
        }
        &mut self.stack[index]
    }

    /// Moves the value on top of the stack to a place below it, and drops what was there: in one copy, where the usual ways
    /// make two or three of a value that is not small.
    pub(super) fn move_top_to(&mut self, place: usize) {
        if let Some(below) = self.stack.get_mut(place) {
            *below = Value::Absent;
            // It owns nothing, so there is nothing to drop.
            std::mem::forget(self.stack.swap_remove(place));
        }
    }

    pub(super) fn drop_slots(&mut self, slots: &[Slot]) {
        for slot in slots {
            // In this order the value is written where it belongs, and not moved there.
            let place = self.slot(*slot);
            *place = Value::Absent;
        }
    }

    /// Ends a program whose strings and lists have passed a limit.
    #[inline]
    pub(super) fn check_heap(&self, span: Span) -> Evaluated<()> {
        self.check_room(size_of::<Value>(), span, || "another string or list".to_owned())
    }

    /// Whether there is room on the heap for `bytes`, for whatever `what` says.
    #[inline]
    pub(super) fn check_room(&self, bytes: usize, span: Span, what: impl Fn() -> String) -> Evaluated<()> {
        self.device.check_heap(bytes, what).map_err(|error| failed(Failure::from(error), span))
    }

    pub(super) fn context(&mut self) -> Context<'_> {
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
pub(super) fn error_at(span: Span, message: impl Into<String>) -> Interrupt {
    Interrupt::Error(Box::new(RunError { diagnostic: Diagnostic::error(span, message), calls: Vec::new() }))
}

#[cold]
pub(super) fn failed(failure: Failure, span: Span) -> Interrupt {
    if let Some(code) = failure.exit {
        return Interrupt::Exit(code);
    }
    let mut diagnostic = Diagnostic::error(span, failure.message);
    diagnostic.hints.extend(failure.hint);
    Interrupt::Error(Box::new(RunError { diagnostic, calls: Vec::new() }))
}

/// Adds a call that the error passes on its way out.
#[cold]
pub(super) fn called_from(interrupt: Interrupt, function: &Arc<str>, span: Span) -> Interrupt {
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
