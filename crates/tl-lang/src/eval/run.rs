//! The ways into the evaluator: running a program, and calling one of its functions.

use tl_model::Sampler;
use tl_syntax::{Diagnostic, Span};
use tl_tensor::Random;

use crate::error::RuntimeError;
use crate::eval::error::{ControlFlow, error_at};
use crate::eval::evaluator::{Environment, Evaluator};
use crate::ir::Program;
use crate::value::Value;

/// Values that the stack has room for before it grows.
const STACK_CAPACITY: usize = 1024;

/// What a program keeps between calls of its functions: its global variables, and room for the next call's variables.
#[derive(Default)]
pub(crate) struct CallState {
    stack: Vec<Value>,
    globals: Vec<Value>,
}

/// Runs a program, and gives its exit code if it ended itself. `stack_bytes` of the thread's stack are left.
pub(crate) fn run<'a>(
    program: &'a Program,
    environment: Environment<'a>,
    stack_bytes: usize,
) -> Result<Option<i32>, Box<RuntimeError>> {
    let mut evaluator = at_entry(program, environment, stack_bytes);
    match evaluator.block(&program.entry.body) {
        Ok(_) | Err(ControlFlow::Return | ControlFlow::Break | ControlFlow::Continue) => Ok(None),
        Err(ControlFlow::Exit(code)) => Ok(Some(code)),
        Err(ControlFlow::Error(error)) => Err(error),
    }
}

/// Calls a function of a program. The first call, without a state, runs the program's top level before.
pub(crate) fn call<const N: usize>(
    program: &Program,
    function: u32,
    arguments: [Value; N],
    environment: Environment<'_>,
    stack_bytes: usize,
    state: &mut Option<CallState>,
) -> Result<Value, Box<RuntimeError>> {
    let Environment { device, host, open_model } = environment;
    if state.is_none() {
        *state = Some(run_top_level(program, Environment { device, host: &mut *host, open_model }, stack_bytes)?);
    }
    let CallState { stack, globals } = state.take().unwrap_or_default();
    let mut evaluator = Evaluator::new(program, Environment { device, host, open_model }, stack_bytes, stack, globals);
    evaluator.stack.extend(arguments);
    let result = match program.functions.get(function as usize) {
        Some(function) => evaluator.call_on_stack(function, 0, Span::default()),
        None => Err(error_at(Span::default(), "this function does not exist")),
    };
    let value = evaluator.stack.pop().unwrap_or_default();
    evaluator.stack.clear();
    *state = Some(CallState { stack: evaluator.stack, globals: evaluator.globals });
    match result {
        Ok(()) => Ok(value),
        Err(ControlFlow::Error(error)) => Err(error),
        Err(ControlFlow::Exit(code)) => {
            let message = format!("a script that is called cannot end the program with `exit({code})`");
            Err(Box::new(Diagnostic::error(Span::default(), message).into()))
        }
        Err(_) => Ok(Value::Unit),
    }
}

/// What an entry of a session leaves to the next one, besides its variables.
#[derive(Default)]
pub(crate) struct SessionState {
    sampling: Option<(Random, Option<Sampler>, u64)>,
}

/// How an entry of a session ended.
pub(crate) enum EntryEnd {
    /// With this value.
    Value(Value),
    /// With `exit`, or where its host asked for that.
    Exit(i32),
}

/// Runs an entry of a session. `globals` has the values of the program's global variables, before and after.
pub(crate) fn run_entry<'a>(
    program: &'a Program,
    environment: Environment<'a>,
    stack_bytes: usize,
    globals: &mut Vec<Value>,
    state: &mut SessionState,
) -> Result<EntryEnd, Box<RuntimeError>> {
    let mut evaluator = at_entry(program, environment, stack_bytes);
    std::mem::swap(&mut evaluator.globals, globals);
    if let Some((random, sampler, seed)) = state.sampling.take() {
        (evaluator.random, evaluator.sampler, evaluator.seed) = (random, sampler, seed);
    }
    let result = evaluator.block(&program.entry.body);
    std::mem::swap(&mut evaluator.globals, globals);
    state.sampling = Some((evaluator.random, evaluator.sampler, evaluator.seed));
    match result {
        Ok(value) => Ok(EntryEnd::Value(value)),
        Err(ControlFlow::Return | ControlFlow::Break | ControlFlow::Continue) => Ok(EntryEnd::Value(Value::Unit)),
        Err(ControlFlow::Exit(code)) => Ok(EntryEnd::Exit(code)),
        Err(ControlFlow::Error(error)) => Err(error),
    }
}

fn run_top_level<'a>(
    program: &'a Program,
    environment: Environment<'a>,
    stack_bytes: usize,
) -> Result<CallState, Box<RuntimeError>> {
    let mut evaluator = at_entry(program, environment, stack_bytes);
    if let Err(ControlFlow::Error(error)) = evaluator.block(&program.entry.body) {
        return Err(error);
    }
    evaluator.stack.clear();
    Ok(CallState { stack: evaluator.stack, globals: evaluator.globals })
}

/// An evaluator with the variables of the program's top level.
fn at_entry<'a>(program: &'a Program, environment: Environment<'a>, stack_bytes: usize) -> Evaluator<'a> {
    let mut stack = Vec::with_capacity(STACK_CAPACITY);
    stack.resize(program.entry.slots as usize, Value::Absent);
    let globals = vec![Value::Absent; program.globals.len()];
    Evaluator::new(program, environment, stack_bytes, stack, globals)
}
