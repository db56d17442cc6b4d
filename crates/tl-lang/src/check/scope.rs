//! Names in scope, and what is known of each variable at the point that the checker has reached.

use std::sync::Arc;

use tl_syntax::Span;

use crate::check::types::{Known, Type};
use crate::ir::Slot;

/// A variable of the function being checked, or a global one.
#[derive(Clone, Debug)]
pub(crate) struct Variable {
    pub(crate) name: Arc<str>,
    pub(crate) span: Span,
    pub(crate) place: Place,
    /// The type written at its declaration: every value must fit it.
    pub(crate) declared: Option<crate::ir::Declared>,
}

/// Where a variable lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
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

/// The names of the innermost scopes and all variables of one function.
#[derive(Debug, Default)]
pub(crate) struct Scopes {
    pub(crate) variables: Vec<Variable>,
    /// As long as `variables`. Saved, replaced and joined where ways part and meet.
    pub(crate) states: Vec<State>,
    /// The names of the open scopes, outermost first.
    names: Vec<(Arc<str>, VariableId)>,
    /// Where each open scope begins in `names`.
    marks: Vec<usize>,
}

impl Scopes {
    pub(crate) fn open(&mut self) {
        self.marks.push(self.names.len());
    }

    pub(crate) fn close(&mut self) {
        if let Some(mark) = self.marks.pop() {
            self.names.truncate(mark);
        }
    }

    pub(crate) fn declare(&mut self, variable: Variable, state: State) -> VariableId {
        let id = self.variables.len();
        self.names.push((variable.name.clone(), id));
        self.variables.push(variable);
        self.states.push(state);
        id
    }

    pub(crate) fn find(&self, name: &str) -> Option<VariableId> {
        self.names.iter().rev().find(|(known, _)| **known == *name).map(|(_, id)| *id)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|(name, _)| &**name)
    }

    /// How many scopes are open.
    pub(crate) fn depth(&self) -> usize {
        self.marks.len()
    }

    /// Goes back to what was known, and forgets the variables declared since.
    pub(crate) fn truncate(&mut self, states: Vec<State>) {
        self.variables.truncate(states.len());
        self.states = states;
    }

    /// Goes back to what was known of the variables that there were; the ones declared since are out of scope.
    pub(crate) fn restore(&mut self, states: Vec<State>) {
        for (state, known) in self.states.iter_mut().zip(states) {
            *state = known;
        }
    }

    /// The states after one of two ways was taken. Variables that only one of them knows are out of scope.
    pub(crate) fn join(&mut self, other: &[State]) {
        for (state, other) in self.states.iter_mut().zip(other) {
            if state != other {
                *state = state.join(other);
            }
        }
    }
}
