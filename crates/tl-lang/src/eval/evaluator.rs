//! The evaluator's state.

use tl_device::Device;
use tl_model::Sampler;
use tl_syntax::Span;
use tl_tensor::Random;
use tl_tensor::ops::Op;

use crate::eval::error::{Evaluated, raise};
use crate::host::Host;
use crate::ir::{Function, Program, Slot};
use crate::library::{BuiltinError, Context, OpenModel};
use crate::stack::StackBound;
use crate::value::Value;

/// Calls that may be open at once.
pub(super) const MAX_CALLS: usize = 10_000;

/// What a program runs with.
pub(crate) struct Environment<'a> {
    pub(crate) device: &'a Device,
    pub(crate) host: &'a mut dyn Host,
    pub(crate) open_model: OpenModel,
}

/// Runs a program.
pub(super) struct Evaluator<'a> {
    pub(super) program: &'a Program,
    pub(super) device: &'a Device,
    pub(super) host: &'a mut dyn Host,
    open_model: OpenModel,
    pub(super) random: Random,
    pub(super) sampler: Option<Sampler>,
    pub(super) seed: u64,
    pub(super) stack: Vec<Value>,
    pub(super) globals: Vec<Value>,
    /// Where the running function's frame begins in `stack`.
    pub(super) frame: usize,
    /// Where the values of its signature's sizes begin.
    pub(super) sizes: usize,
    /// The running function; none at the top level.
    pub(super) function: Option<&'a Function>,
    pub(super) returned: Value,
    pub(super) open_calls: usize,
    /// The most rounds of loops and calls, and how many are left.
    pub(super) max_steps: u64,
    pub(super) steps_left: u64,
    _stack_bound: StackBound,
    pub(super) select: Option<&'static Op>,
    pub(super) slice: Option<&'static Op>,
}

impl<'a> Evaluator<'a> {
    /// An evaluator with this stack of values and these global variables. `stack_bytes` of the thread's stack are left.
    pub(super) fn new(
        program: &'a Program,
        environment: Environment<'a>,
        stack_bytes: usize,
        stack: Vec<Value>,
        globals: Vec<Value>,
    ) -> Self {
        let Environment { device, host, open_model } = environment;
        let max_steps = host.max_steps().unwrap_or(u64::MAX);
        Evaluator {
            program,
            device,
            host,
            open_model,
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
            max_steps,
            steps_left: max_steps,
            _stack_bound: StackBound::new(stack_bytes),
            select: tl_tensor::ops::by_name("select"),
            slice: tl_tensor::ops::by_name("slice"),
        }
    }

    pub(super) fn slot(&mut self, slot: Slot) -> &mut Value {
        let index = self.frame + slot as usize;
        if index >= self.stack.len() {
            // Cannot happen, since the checker counts the slots; a wrong count must not end the process.
            self.stack.resize(index + 1, Value::Absent);
        }
        &mut self.stack[index]
    }

    /// Moves the value on top of the stack to a place below it, and drops the value there. One copy: the usual ways copy a value
    /// of this size two or three times.
    pub(super) fn move_top_to(&mut self, place: usize) {
        if let Some(below) = self.stack.get_mut(place) {
            *below = Value::Absent;
            // `Absent` owns nothing, so nothing leaks.
            std::mem::forget(self.stack.swap_remove(place));
        }
    }

    pub(super) fn drop_slots(&mut self, slots: &[Slot]) {
        for slot in slots {
            // With the place taken first, the value is written there directly instead of being moved.
            let place = self.slot(*slot);
            *place = Value::Absent;
        }
    }

    /// An error once the program's strings and lists have passed the limit.
    #[inline]
    pub(super) fn check_heap(&self, span: Span) -> Evaluated<()> {
        self.check_room(size_of::<Value>(), span, || "another string or list".to_owned())
    }

    /// An error if the heap has no room for `bytes`; `what` says for what.
    #[inline]
    pub(super) fn check_room(&self, bytes: usize, span: Span, what: impl Fn() -> String) -> Evaluated<()> {
        self.device.check_heap(bytes, what).map_err(|error| raise(BuiltinError::from(error), span))
    }

    pub(super) fn context(&mut self) -> Context<'_> {
        Context {
            device: self.device,
            host: &mut *self.host,
            random: &mut self.random,
            sampler: &mut self.sampler,
            seed: &mut self.seed,
            open_model: self.open_model,
        }
    }
}
