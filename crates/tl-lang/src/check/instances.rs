//! What is remembered of the bodies that were checked for the arguments of a call, and how much of that is done.

use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;

use tl_syntax::Diagnostic;
use tl_syntax::ast;

use crate::types::{Known, Type};

/// The most expressions that are checked once more, in instances and in rounds of loops.
const MAX_WORK: usize = 100_000;

/// The instances so far.
#[derive(Default)]
pub(super) struct Instances {
    pub(super) bodies: Vec<Arc<ast::Function>>,
    pub(super) known: Vec<Vec<Rc<Instance>>>,
    /// The index of the main file's first function.
    pub(super) first_of_main: usize,
    /// The functions that are called.
    pub(super) called: HashSet<u32>,
    /// The functions whose instances are being checked, outermost first.
    pub(super) active: Vec<u32>,
    /// Whether the outermost of these is called by a function that is checked for all calls.
    pub(super) is_in_function: bool,
    /// The levels of syntax of these.
    pub(super) height: usize,
    /// The expressions checked once more.
    work: usize,
}

/// A function's body, checked for some arguments.
pub(super) struct Instance {
    pub(super) arguments: Vec<(Type, Known)>,
    /// The result; `None` if the body never ends.
    pub(super) result: Option<(Type, Known)>,
    pub(super) problem: Option<Problem>,
}

/// The first certain error of a call.
#[derive(Clone)]
pub(super) struct Problem {
    pub(super) diagnostic: Diagnostic,
    /// How many calls lie between it and the mistake.
    pub(super) depth: usize,
}

impl Instances {
    pub(super) fn add_body(&mut self, body: &ast::Function) {
        self.bodies.push(Arc::new(body.clone()));
        self.known.push(Vec::new());
    }

    /// Forgets what depends on the types of global variables.
    pub(super) fn clear(&mut self) {
        self.known.iter_mut().for_each(Vec::clear);
    }

    /// Counts an expression that is checked once more.
    pub(super) fn count(&mut self) {
        self.work += 1;
    }

    pub(super) fn has_room(&self) -> bool {
        self.work < MAX_WORK
    }
}
