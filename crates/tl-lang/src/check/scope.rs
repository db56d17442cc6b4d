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
    /// Where its tensor was recycled, if on every path to this point.
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

/// The states of all variables at some point.
pub(crate) type Snapshot = Vec<State>;

/// The most states that are copied in one function. After that, which no program written by hand reaches, only the kind of each
/// variable is tracked.
const MAX_COPIES: usize = 10_000_000;

/// The names of the innermost scopes and all variables of one function.
#[derive(Debug, Default)]
pub(crate) struct Scopes {
    pub(crate) variables: Vec<Variable>,
    /// One for each of `variables`. Saved, restored and joined where control flow splits and merges.
    states: Vec<State>,
    /// The names of the open scopes, outermost first.
    names: Vec<(Arc<str>, VariableId)>,
    /// The variables of each name, innermost last.
    by_name: HashMap<Arc<str>, Vec<VariableId>>,
    /// Where each open scope begins in `names`.
    marks: Vec<usize>,
    copies: usize,
    /// Set after too many copies: only kinds are tracked.
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

    /// Takes the names of the innermost scope out of it, and puts others in their place. The variables stay.
    pub(crate) fn replace_names(&mut self, names: Vec<(Arc<str>, VariableId)>) -> Vec<(Arc<str>, VariableId)> {
        let mark = self.marks.last().copied().unwrap_or(0);
        let hidden: Vec<(Arc<str>, VariableId)> = self.names.get(mark..).unwrap_or_default().to_vec();
        self.close();
        self.open();
        for (name, id) in names {
            self.by_name.entry(name.clone()).or_default().push(id);
            self.names.push((name, id));
        }
        hidden
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

    /// Sets the variable's state from here on.
    pub(crate) fn set(&mut self, id: VariableId, state: State) {
        let state = if self.is_coarse { State::of(state.ty.widened(), Known::Nothing) } else { state };
        if let Some(place) = self.states.get_mut(id) {
            *place = state;
        }
    }

    /// Whether only kinds are tracked, so that trial rounds find nothing.
    pub(crate) fn is_coarse(&self) -> bool {
        self.is_coarse
    }

    /// The states here. Empty once only kinds are tracked, which every user of snapshots accepts.
    pub(crate) fn snapshot(&mut self) -> Snapshot {
        self.copies += self.states.len();
        if self.copies > MAX_COPIES && !self.is_coarse {
            self.forget_all();
            self.is_coarse = true;
        }
        if self.is_coarse { Snapshot::new() } else { self.states.clone() }
    }

    /// Forgets everything except the kinds of the variables; recycled ones are then found at run time.
    pub(crate) fn forget_all(&mut self) {
        self.copies += self.states.len();
        if !self.is_coarse {
            for state in &mut self.states {
                *state = State::of(state.ty.widened(), Known::Nothing);
            }
        }
    }

    /// Forgets all variables after the first `count`.
    pub(crate) fn truncate(&mut self, count: usize) {
        self.variables.truncate(count);
        self.states.truncate(count);
    }

    /// Restores the states of a snapshot; variables declared since then are out of scope.
    pub(crate) fn restore(&mut self, snapshot: Snapshot) {
        if !self.is_coarse {
            for (state, known) in self.states.iter_mut().zip(snapshot) {
                *state = known;
            }
        }
    }

    /// Joins the states here with those at the end of another path. Variables that only one path has are out of scope.
    pub(crate) fn join(&mut self, other: &Snapshot) {
        if !self.is_coarse {
            join(&mut self.states, other);
        }
    }

    /// Joins the states here into those of other paths.
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

/// Joins the states of the variables that both have.
pub(crate) fn join(states: &mut [State], other: &[State]) {
    for (state, other) in states.iter_mut().zip(other) {
        if state != other {
            *state = state.join(other);
        }
    }
}
