//! Names in scope, and what is known of each variable at the point that the checker has reached.

use std::collections::HashMap;
use std::sync::Arc;

use crate::declared::Declared;
use crate::ir::Slot;
use crate::types::{Known, Type};
use tl_syntax::Span;

/// A variable of the function being checked, or a global one.
#[derive(Clone, Debug)]
pub(crate) struct Variable {
    pub(crate) name: Arc<str>,
    pub(crate) span: Span,
    pub(crate) location: VariableLocation,
    /// The type written at its declaration: every value must fit it.
    pub(crate) declared: Option<Declared>,
}

/// Where a variable lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VariableLocation {
    Slot(Slot),
    Global(u32),
}

/// What is known of a variable here.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct State {
    pub(crate) ty: Type,
    pub(crate) known: Known,
    /// Where its tensor was recycled, if on every way here.
    pub(crate) recycled: Option<Span>,
}

impl State {
    pub(crate) fn of(ty: Type, known: Known) -> State {
        State { ty, known, recycled: None }
    }

    pub(crate) fn join(&self, other: &State) -> State {
        State {
            ty: self.ty.join(&other.ty),
            known: self.known.join(&other.known),
            recycled: self.recycled.filter(|_| other.recycled.is_some()),
        }
    }
}

/// The index of a variable.
pub(crate) type VariableId = usize;

/// What was known of all variables at some point.
pub(crate) type Snapshot = Vec<State>;

/// So many states are copied in one function at most. Behind that, which only programs far beyond what people write reach,
/// nothing but the kind of each variable is followed.
const MAX_COPIES: usize = 10_000_000;

/// The names of the innermost scopes and all variables of one function.
#[derive(Debug, Default)]
pub(crate) struct Scopes {
    pub(crate) variables: Vec<Variable>,
    /// As long as `variables`. Saved, restored and joined where ways part and meet.
    states: Vec<State>,
    /// The names of the open scopes, outermost first.
    names: Vec<(Arc<str>, VariableId)>,
    /// The variables of each name, innermost last.
    by_name: HashMap<Arc<str>, Vec<VariableId>>,
    /// Where each open scope begins in `names`.
    marks: Vec<usize>,
    copies: usize,
    /// Set when there were too many copies.
    is_coarse: bool,
}

impl Scopes {
    pub(crate) fn open(&mut self) {
        self.marks.push(self.names.len());
    }

    pub(crate) fn close(&mut self) {
        let mark = self.marks.pop().unwrap_or(0);
        for (name, _) in self.names.drain(mark..) {
            if let Some(ids) = self.by_name.get_mut(&name) {
                ids.pop();
            }
        }
    }

    pub(crate) fn declare(&mut self, variable: Variable, state: State) -> VariableId {
        let id = self.variables.len();
        self.names.push((variable.name.clone(), id));
        self.by_name.entry(variable.name.clone()).or_default().push(id);
        self.variables.push(variable);
        self.states.push(State::of(Type::Unknown, Known::Nothing));
        self.set(id, state);
        id
    }

    pub(crate) fn find(&self, name: &str) -> Option<VariableId> {
        self.by_name.get(name)?.last().copied()
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|(name, _)| &**name)
    }

    /// How many scopes are open.
    pub(crate) fn depth(&self) -> usize {
        self.marks.len()
    }

    pub(crate) fn state(&self, id: VariableId) -> Option<&State> {
        self.states.get(id)
    }

    /// What is known of the variable from here on.
    pub(crate) fn set(&mut self, id: VariableId, state: State) {
        let state = if self.is_coarse { State::of(state.ty.widened(), Known::Nothing) } else { state };
        if let Some(place) = self.states.get_mut(id) {
            *place = state;
        }
    }

    /// Whether so much has to be looked at that nothing can be found out by trying.
    pub(crate) fn is_coarse(&self) -> bool {
        self.is_coarse
    }

    /// What is known here. Empty where nothing is followed any more, which all that takes a snapshot bears.
    pub(crate) fn snapshot(&mut self) -> Snapshot {
        self.copies += self.states.len();
        if self.copies > MAX_COPIES && !self.is_coarse {
            self.forget_all();
            self.is_coarse = true;
        }
        if self.is_coarse { Snapshot::new() } else { self.states.clone() }
    }

    /// Forgets everything but the kinds of the variables: whether one was recycled, too, is left to run time.
    pub(crate) fn forget_all(&mut self) {
        self.copies += self.states.len();
        if !self.is_coarse {
            for state in &mut self.states {
                *state = State::of(state.ty.widened(), Known::Nothing);
            }
        }
    }

    /// Forgets the variables declared since there were so many.
    pub(crate) fn truncate(&mut self, count: usize) {
        self.variables.truncate(count);
        self.states.truncate(count);
    }

    /// Goes back to what was known of the variables that there were; the ones declared since are out of scope.
    pub(crate) fn restore(&mut self, snapshot: Snapshot) {
        if !self.is_coarse {
            for (state, known) in self.states.iter_mut().zip(snapshot) {
                *state = known;
            }
        }
    }

    /// The states after one of two ways was taken. Variables that only one of them knows are out of scope.
    pub(crate) fn join(&mut self, other: &Snapshot) {
        if !self.is_coarse {
            join(&mut self.states, other);
        }
    }

    /// Joins what is known here to what was known where another way ended.
    pub(crate) fn join_into(&mut self, known: &mut Option<Snapshot>) {
        match known {
            Some(known) => {
                self.copies += self.states.len();
                join(known, &self.states);
            }
            None => *known = Some(self.snapshot()),
        }
    }
}

/// Joins the states of the variables that both know.
pub(crate) fn join(states: &mut [State], other: &[State]) {
    for (state, other) in states.iter_mut().zip(other) {
        if state != other {
            *state = state.join(other);
        }
    }
}
