//! Syntax trees to a checked program: names are resolved, arguments bound, types and sizes inferred as far as they can be
//! known, and everything that is wrong is reported. Nothing runs here.
//!
//! A wrong part becomes an expression of unknown type, and checking goes on: one mistake, one message.

mod calls;
mod conversions;
mod expressions;
mod files;
mod functions;
mod indexing;
mod operations;
mod scope;
mod statements;
mod types;

use std::collections::HashMap;
use std::sync::Arc;

use tl_syntax::{Diagnostic, SourceMap, Span};

use crate::check::scope::{Scopes, State, VariableId};
use crate::host::Host;
use crate::ir::{Declared, Expr, Function, Parameter, Program, Slot};

pub(crate) use operations::operator_row;
pub(crate) use types::{Known, Type, Typed, dtype_fits, show_declared};

/// Behind this many nobody reads on.
const MAX_DIAGNOSTICS: usize = 100;

/// What checking gives.
pub(crate) struct Checked {
    /// Absent where there are errors.
    pub(crate) program: Option<Program>,
    pub(crate) diagnostics: Vec<Diagnostic>,
}

/// Parses and checks the file with this name and text, and what it imports.
pub(crate) fn check(name: &str, text: &str, host: &mut dyn Host, sources: &mut SourceMap) -> Checked {
    let mut files = files::Files::new(host, sources);
    files.load_main(name, text);
    let files::Files { loaded, mut diagnostics, .. } = files;
    let mut checker = Checker::default();
    let program = checker.program(&loaded);
    diagnostics.append(&mut checker.diagnostics);
    diagnostics.sort_by_key(|diagnostic| (diagnostic.span().file, diagnostic.span().start));
    diagnostics.dedup();
    let has_errors = diagnostics.iter().any(Diagnostic::is_error);
    Checked { program: (!has_errors).then_some(program), diagnostics }
}

/// A function's head, which calls are checked against.
struct Signature {
    name: Arc<str>,
    span: Span,
    parameters: Vec<Parameter>,
    result: Declared,
    sizes: Vec<Arc<str>>,
}

/// The function whose body is being checked.
#[derive(Default)]
struct Frame {
    scopes: Scopes,
    /// For each slot given out, whether it may hold memory.
    holds_memory: Vec<bool>,
    /// The names of the signature's sizes.
    sizes: Vec<Arc<str>>,
    /// The result's type; `None` at the top level, where nothing is returned.
    result: Option<Declared>,
    /// Whether statements stand at the top level itself, where variables may be global.
    is_top_level: bool,
    /// The loops around this point, outermost first.
    loops: Vec<Loop>,
    /// The variables assigned so far, in order; trial rounds of loops look at what they added.
    assigned: Vec<VariableId>,
}

/// A loop around the point that the checker has reached.
#[derive(Default)]
struct Loop {
    /// What is known at its `break`s, joined; `None` where there is none.
    at_break: Option<Vec<State>>,
    /// What is known at its `continue`s.
    at_continue: Option<Vec<State>>,
}

impl Frame {
    fn new_slot(&mut self, ty: &Type) -> Slot {
        self.holds_memory.push(ty.holds_memory());
        self.holds_memory.len() as Slot - 1
    }
}

/// A top-level variable that functions read.
struct Global {
    name: Arc<str>,
    /// The type of all values that it is given; `None` before the first.
    state: Option<Type>,
    is_used: bool,
    /// Whether functions assign to it, so that a call may change it.
    is_assigned: bool,
}

#[derive(Default)]
struct Checker {
    diagnostics: Vec<Diagnostic>,
    functions: Vec<Signature>,
    function_names: HashMap<Arc<str>, u32>,
    globals: Vec<Global>,
    global_names: HashMap<Arc<str>, u32>,
    /// Names that imported files give values to, which are not taken over.
    left_out: HashMap<Arc<str>, String>,
    frame: Frame,
    /// In a trial round of a loop nothing is reported.
    quiet: u32,
}

impl Checker {
    fn report(&mut self, diagnostic: Diagnostic) {
        if self.quiet == 0 && self.diagnostics.len() < MAX_DIAGNOSTICS {
            self.diagnostics.push(diagnostic);
        }
    }

    fn error(&mut self, span: Span, message: impl Into<String>) {
        self.report(Diagnostic::error(span, message));
    }

    fn scopes(&mut self) -> &mut Scopes {
        &mut self.frame.scopes
    }

    fn state(&self, id: VariableId) -> Option<&State> {
        self.frame.scopes.states.get(id)
    }

    /// A type as a message shows it, with the names of this function's sizes.
    fn show(&self, ty: &Type) -> String {
        types::show(ty, &self.frame.sizes)
    }

    /// Takes the finished frame apart.
    fn finish(&mut self, head: Signature, body: crate::ir::Block) -> Function {
        let frame = std::mem::take(&mut self.frame);
        let mut function = Function {
            name: head.name,
            parameters: head.parameters,
            result: head.result,
            sizes: head.sizes,
            slots: frame.holds_memory.len() as u32,
            body,
            holds_memory: frame.holds_memory,
        };
        crate::liveness::mark(&mut function);
        function
    }
}

/// Something wrong that has been reported.
fn wrong(span: Span) -> types::Typed {
    types::Typed::new(Expr::unit(span), Type::Unknown)
}
