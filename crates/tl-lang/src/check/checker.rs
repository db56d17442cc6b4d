//! The checker's state: the program's declarations, and the function that is being checked.

use std::sync::Arc;

use tl_model::Weights;
use tl_syntax::{Code, Diagnostic, Span};
use tl_tensor::ops::Size;

use crate::check::declarations::{Namespace, StructInfo};
use crate::check::instances::{Instances, Problem};
use crate::check::lint_state::Lints;
use crate::check::mention::Mention;
use crate::check::scope::{Scopes, Snapshot, State, VariableId};
use crate::check::typed::Typed;
use crate::declared::Declared;
use crate::ir::{Block, Expr, Function, Parameter, Slot};
use crate::relations::{Relations, Role};
use crate::types::{Known, Type, show};

/// The most diagnostics that are reported.
const MAX_DIAGNOSTICS: usize = 100;

/// A function's signature, which calls are checked against.
#[derive(Clone)]
pub(super) struct Signature {
    pub(super) name: Arc<str>,
    pub(super) span: Span,
    pub(super) parameters: Vec<Parameter>,
    pub(super) result: Declared,
    pub(super) sizes: Vec<Arc<str>>,
    /// The number of its file's namespace.
    pub(super) namespace: usize,
}

/// The function whose body is being checked.
#[derive(Default)]
pub(super) struct Frame {
    pub(super) scopes: Scopes,
    /// For each slot, whether it may hold memory.
    pub(super) holds_memory: Vec<bool>,
    /// The names of the signature's sizes.
    pub(super) sizes: Vec<Arc<str>>,
    /// What these names stand for.
    pub(super) size_values: Vec<Size>,
    /// The result's type; `None` at the top level, which returns nothing.
    pub(super) result: Option<Declared>,
    /// Whether the checker is at the top level, where variables may be global.
    pub(super) is_top_level: bool,
    /// The loops around this point, outermost first.
    pub(super) loops: Vec<LoopState>,
    /// The variables assigned so far, in order; a loop's trial round uses those that it added.
    pub(super) assigned: Vec<VariableId>,
    /// The joined type of all results so far, and what is known of them.
    pub(super) returned: Option<(Type, Known)>,
    /// Above 0 in trial rounds of loops, where no condition counts as known.
    pub(super) trials: u32,
    /// How many `return`s were checked.
    pub(super) returns: usize,
}

/// A loop around the point that the checker has reached.
#[derive(Default)]
pub(super) struct LoopState {
    /// The joined states at its `break`s; `None` without any.
    pub(super) at_break: Option<Snapshot>,
    /// The joined states at its `continue`s.
    pub(super) at_continue: Option<Snapshot>,
}

impl Frame {
    /// What a size name of the signature stands for.
    pub(super) fn size(&self, name: u32) -> Size {
        self.size_values.get(name as usize).copied().unwrap_or(Size::Unknown)
    }

    pub(super) fn new_slot(&mut self, ty: &Type) -> Slot {
        self.holds_memory.push(ty.holds_memory());
        self.holds_memory.len() as Slot - 1
    }
}

/// A top-level variable that functions read.
pub(super) struct Global {
    pub(super) name: Arc<str>,
    /// The number of its file's namespace.
    pub(super) namespace: usize,
    /// Where it is first declared.
    pub(super) span: Span,
    /// The joined type of all values assigned to it; `None` before the first.
    pub(super) state: Option<Type>,
    /// What is known of all these values.
    pub(super) known: Known,
    pub(super) is_used: bool,
    /// Whether functions assign to it, so that a call may change it.
    pub(super) is_assigned: bool,
}

impl Global {
    pub(super) fn new(name: Arc<str>, namespace: usize, span: Span) -> Global {
        Global { name, namespace, span, state: None, known: Known::Nothing, is_used: false, is_assigned: false }
    }
}

/// Which blocks of a program are checked and compiled, besides its top level and its functions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Part {
    /// `main`.
    #[default]
    Main,
    /// The main file's test of this index, instead of `main`.
    Test(usize),
    /// `main` and all tests, to find errors. What comes of it cannot run.
    Whole,
    /// Nothing else: an entry of a session. All its variables are global, and an expression at its end is its value.
    Entry,
}

#[derive(Default)]
pub(super) struct Checker {
    pub(super) part: Part,
    /// Variables that the program has from before, with the types of their values: those of a session.
    pub(super) variables: Vec<(Arc<str>, Type)>,
    /// The type of an entry's value, as messages show it.
    pub(super) value_type: Option<String>,
    pub(super) diagnostics: Vec<Diagnostic>,
    pub(super) namespaces: Vec<Namespace>,
    /// For each file, the number of its namespace.
    pub(super) file_namespaces: Vec<usize>,
    /// The number of the namespace of the code that is being checked.
    pub(super) namespace: usize,
    pub(super) functions: Vec<Signature>,
    pub(super) structs: Vec<StructInfo>,
    /// What the main file declares of entities and relations.
    pub(super) relations: Relations,
    pub(super) globals: Vec<Global>,
    pub(super) frame: Frame,
    /// The names in the text, if an editor asks for them.
    pub(super) mentions: Option<Vec<Mention>>,
    /// Those in queries that are of relations.
    pub(super) names_of_queries: Vec<(Span, Span, Role)>,
    /// Above 0, nothing is reported: in trial rounds of loops.
    pub(super) quiet: u32,
    /// Above 0, only errors in shapes are reported: the rest is found where the code is checked in general.
    pub(super) only_shapes: u32,
    /// Above 0, the code is never reached, so that its shapes do not matter.
    pub(super) dead: u32,
    /// The model that the program is checked with.
    pub(super) model: Option<Weights>,
    /// Above 0 inside `path?`, whose parts may be missing.
    pub(super) optional_paths: u32,
    pub(super) lints: Lints,
    pub(super) instances: Instances,
    /// Errors that calls have with their sizes.
    pub(super) problems: Vec<Problem>,
}

impl Checker {
    pub(super) fn report(&mut self, diagnostic: Diagnostic) {
        let is_shape = diagnostic.code.is_some_and(Code::is_shape);
        let is_wanted = self.quiet == 0 && (if is_shape { self.dead == 0 } else { self.only_shapes == 0 });
        if is_wanted && self.diagnostics.len() < MAX_DIAGNOSTICS {
            self.diagnostics.push(diagnostic);
        }
    }

    pub(super) fn error(&mut self, span: Span, message: impl Into<String>) {
        self.report(Diagnostic::error(span, message));
    }

    /// Checks a part that is never reached if `is_dead`: it leaves no states behind then.
    pub(super) fn reached_unless<T>(&mut self, is_dead: bool, part: impl FnOnce(&mut Self) -> T) -> T {
        if !is_dead {
            return part(self);
        }
        let round = self.frame.loops.last_mut().map(std::mem::take);
        let (returned, returns) = (self.frame.returned.clone(), self.frame.returns);
        self.dead += 1;
        let result = part(self);
        self.dead -= 1;
        (self.frame.returned, self.frame.returns) = (returned, returns);
        if let (Some(place), Some(round)) = (self.frame.loops.last_mut(), round) {
            *place = round;
        }
        result
    }

    pub(super) fn scopes(&mut self) -> &mut Scopes {
        &mut self.frame.scopes
    }

    pub(super) fn state(&self, id: VariableId) -> Option<&State> {
        self.frame.scopes.state(id)
    }

    /// A type as a message shows it.
    pub(super) fn show(&self, ty: &Type) -> String {
        show(ty)
    }

    /// The finished function.
    pub(super) fn finish(&mut self, head: Signature, body: Block) -> Function {
        let frame = std::mem::take(&mut self.frame);
        Function {
            name: head.name,
            has_plain_parameters: head.parameters.iter().all(|parameter| is_plain(&parameter.ty)),
            parameters: head.parameters,
            result: head.result,
            sizes: head.sizes,
            slots: frame.holds_memory.len() as u32,
            body,
            holds_memory: frame.holds_memory,
        }
    }
}

fn is_plain(ty: &Declared) -> bool {
    matches!(ty, Declared::Int | Declared::Float | Declared::Bool | Declared::Str)
}

/// In the place of an expression whose error was reported.
pub(super) fn error_value(span: Span) -> Typed {
    Typed::new(Expr::unit(span), Type::Unknown)
}
