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
use crate::value::Value;

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

/// What is left of an evaluator when a call from outside has ended: its variables, and room for the next call's.
pub(crate) type Remains = (Vec<Value>, Vec<Value>);

/// Runs a program's top level, and keeps its global variables for calls of its functions.
pub(crate) fn begin(
    program: &Program,
    device: &Device,
    host: &mut dyn Host,
    stack_bytes: usize,
) -> Result<Remains, Box<RunError>> {
    let mut evaluator = Evaluator::new(program, device, host, stack_bytes);
    match evaluator.block(&program.entry.body) {
        Err(Interrupt::Error(error)) => Err(error),
        _ => {
            evaluator.stack.clear();
            Ok((evaluator.stack, evaluator.globals))
        }
    }
}

/// Calls a function of a program with these arguments, on a thread whose stack has `stack_bytes` left.
pub(crate) fn call<const N: usize>(
    program: &Program,
    function: u32,
    arguments: [Value; N],
    (device, host): (&Device, &mut (dyn Host + '_)),
    stack_bytes: usize,
    remains: &mut Remains,
) -> Result<Value, Box<RunError>> {
    let kept = (std::mem::take(&mut remains.0), std::mem::take(&mut remains.1));
    let mut evaluator = Evaluator::with_remains(program, device, host, stack_bytes, kept);
    evaluator.stack.clear();
    evaluator.stack.extend(arguments);
    let result = match program.functions.get(function as usize) {
        Some(function) => evaluator.call_on_stack(function, 0, Span::default()),
        None => Err(evaluator::error_at(Span::default(), "this function does not exist")),
    };
    let value = evaluator.stack.pop().unwrap_or_default();
    evaluator.stack.clear();
    *remains = (evaluator.stack, evaluator.globals);
    match result {
        Ok(()) => Ok(value),
        Err(Interrupt::Error(error)) => Err(error),
        Err(Interrupt::Exit(code)) => {
            let message = format!("a script that is called cannot end the program with `exit({code})`");
            Err(Box::new(RunError { diagnostic: Diagnostic::error(Span::default(), message), calls: Vec::new() }))
        }
        Err(_) => Ok(Value::Unit),
    }
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
