//! Loops: a round is checked with the states that hold in every round. Where it is known which rounds there are, they are also
//! checked one after the other, which finds what is certain in one of them, and gives the states behind the loop.

use tl_tensor::ops::Size;

use crate::check::checker::{Checker, LoopState};
use crate::check::scope::{Snapshot, State, VariableId, join};
use crate::types::{Known, Type};

/// Loops nested deeper than this get no trial rounds: the states of all variables before them are forgotten.
const MAX_TRIAL_DEPTH: usize = 3;

/// The most rounds that are checked one after the other.
const MAX_ROUNDS: usize = 128;

/// As many of a loop that has more, or nobody knows how many.
const FIRST_ROUNDS: usize = 4;

/// A checked round.
pub(super) struct Round<T> {
    pub(super) result: T,
    /// Whether its end is never reached.
    pub(super) diverges: bool,
    /// The states if the loop ends before the round; `None` for `loop`.
    pub(super) before: Option<Snapshot>,
    /// Whether the round takes place, as far as its condition tells.
    pub(super) takes_place: Option<bool>,
}

/// What a loop goes over.
pub(super) enum LoopValues {
    /// Rounds as long as a condition holds.
    Conditional,
    /// The elements of a list or range of which this is known.
    Elements(Known),
}

impl LoopValues {
    /// The element of a round. `Some(None)`: there may be one, of which nothing is known; `None`: there is none.
    fn element(&self, round: usize) -> Option<Option<(Type, Known)>> {
        match self {
            LoopValues::Conditional => Some(None),
            LoopValues::Elements(Known::Range(start, end)) => {
                let at = start.plus(Size::Known(round as i64));
                let is_last = matches!(end.minus(at), Size::Known(left) if left <= 0);
                (!is_last).then_some(Some((Type::Int, Known::Int(at))))
            }
            LoopValues::Elements(known) => match known.element(round as i64) {
                Some(Ok(element)) => Some(Some(element)),
                Some(Err(_)) => None,
                None => Some(None),
            },
        }
    }

    /// How many rounds are checked one after the other, as long as each is certain.
    fn rounds(&self) -> usize {
        let count = match self {
            LoopValues::Conditional => return MAX_ROUNDS,
            LoopValues::Elements(Known::Range(start, end)) => match end.minus(*start) {
                Size::Known(count) => usize::try_from(count).unwrap_or(0),
                _ => return 1,
            },
            LoopValues::Elements(known) => match known.list_len() {
                Some(len) => len,
                None => return 1,
            },
        };
        if count <= MAX_ROUNDS { count } else { FIRST_ROUNDS }
    }
}

impl Checker {
    /// Checks a loop. `round` checks one round, for the element that it is given.
    pub(super) fn loop_rounds<T>(
        &mut self,
        values: &LoopValues,
        mut round: impl FnMut(&mut Self, Option<(Type, Known)>) -> Round<T>,
    ) -> T {
        let unrolled = self.unroll(values, &mut round);
        if self.frame.loops.len() >= MAX_TRIAL_DEPTH || self.frame.scopes.is_coarse() {
            self.scopes().forget_all();
        } else {
            // A second trial finds changes that follow from those of the first. If it finds any, all assigned variables are forgotten.
            let changed = unrolled.is_some() || (self.trial(&mut round, false) && self.trial(&mut round, false));
            if changed {
                self.trial(&mut round, true);
            }
        }
        self.frame.loops.push(LoopState::default());
        // Once all rounds are checked one by one, nothing is left to say about shapes.
        let Round { result, before, .. } = self.reached_unless(unrolled.is_some(), |checker| round(checker, None));
        let left = self.frame.loops.pop().unwrap_or_default();
        match (before, left.at_break) {
            (Some(before), Some(at_break)) => {
                self.scopes().restore(before);
                self.scopes().join(&at_break);
            }
            (Some(states), None) | (None, Some(states)) => self.scopes().restore(states),
            (None, None) => {}
        }
        if let Some(states) = unrolled {
            self.scopes().restore(states);
        }
        result
    }

    /// Checks rounds one after the other, and reports what is wrong with shapes in one of them. The states behind the loop, if
    /// all rounds were checked and the loop ends.
    fn unroll<T>(
        &mut self,
        values: &LoopValues,
        round: &mut impl FnMut(&mut Self, Option<(Type, Known)>) -> Round<T>,
    ) -> Option<Snapshot> {
        if self.quiet > 0 || self.frame.scopes.is_coarse() || !self.instances.has_room() {
            return None;
        }
        let before = self.scopes().snapshot();
        let variables = self.frame.scopes.variables.len();
        let (slots, assigned) = (self.frame.holds_memory.len(), self.frame.assigned.len());
        self.only_shapes += 1;
        let mut exits: Option<Snapshot> = None;
        let mut is_complete = false;
        for number in 0.. {
            let Some(element) = values.element(number) else {
                self.frame.scopes.join_into(&mut exits);
                is_complete = true;
                break;
            };
            if number >= values.rounds() || !self.instances.has_room() || self.frame.scopes.is_coarse() {
                break;
            }
            let is_known = element.is_some();
            let returns = self.frame.returns;
            self.frame.loops.push(LoopState::default());
            let checked = round(self, element);
            let left = self.frame.loops.pop().unwrap_or_default();
            self.frame.holds_memory.truncate(slots);
            self.scopes().truncate(variables);
            let takes_place = match values {
                LoopValues::Conditional => checked.takes_place,
                LoopValues::Elements(_) => is_known.then_some(true),
            };
            if takes_place != Some(true)
                && let Some(states) = &checked.before
            {
                join_exit(&mut exits, states);
            }
            if takes_place == Some(false) {
                is_complete = true;
                break;
            }
            if let Some(states) = &left.at_break {
                join_exit(&mut exits, states);
            }
            let end = (!checked.diverges).then(|| self.scopes().snapshot());
            let end = match (end, left.at_continue) {
                (Some(mut end), Some(at_continue)) => {
                    join(&mut end, &at_continue);
                    Some(end)
                }
                (end, at_continue) => end.or(at_continue),
            };
            let Some(end) = end else {
                is_complete = takes_place == Some(true);
                break;
            };
            self.scopes().restore(end);
            // The next round is certain only if this one goes on to it.
            if takes_place.is_none() || left.at_break.is_some() || self.frame.returns != returns {
                break;
            }
        }
        self.only_shapes -= 1;
        self.frame.assigned.truncate(assigned);
        self.scopes().restore(before);
        exits.filter(|_| is_complete && !self.frame.scopes.is_coarse())
    }

    /// Checks a round without reports, and widens the states before it that it changes; with `forget_all`, those of all variables
    /// that it assigns. True if any state was widened.
    fn trial<T>(
        &mut self,
        round: &mut impl FnMut(&mut Self, Option<(Type, Known)>) -> Round<T>,
        forget_all: bool,
    ) -> bool {
        let before = self.scopes().snapshot();
        let variables = self.frame.scopes.variables.len();
        let (slots, assigned) = (self.frame.holds_memory.len(), self.frame.assigned.len());
        let globals: Vec<_> = self.globals.iter().map(|global| (global.state.clone(), global.known.clone())).collect();
        let returned = self.frame.returned.clone();
        self.quiet += 1;
        self.frame.trials += 1;
        self.frame.loops.push(LoopState::default());
        let diverges = round(self, None).diverges;
        let left = self.frame.loops.pop().unwrap_or_default();
        self.frame.trials -= 1;
        self.quiet -= 1;
        let mut end = (!diverges).then(|| self.scopes().snapshot());
        if let Some(at_continue) = left.at_continue {
            match &mut end {
                Some(end) => join(end, &at_continue),
                None => end = Some(at_continue),
            }
        }
        let assigned: Vec<VariableId> = self.frame.assigned.drain(assigned..).collect();
        self.frame.holds_memory.truncate(slots);
        self.scopes().truncate(variables);
        self.scopes().restore(before.clone());
        self.frame.returned = returned;
        for (global, (state, known)) in self.globals.iter_mut().zip(globals) {
            (global.state, global.known) = (state, known);
        }
        let mut changed = false;
        for (id, (before, end)) in before.iter().zip(end.unwrap_or_default()).enumerate() {
            let joined = before.join(&end);
            if joined != *before || (forget_all && assigned.contains(&id)) {
                self.scopes().set(id, State::of(joined.ty.widened(), Known::Nothing));
                changed = true;
            }
        }
        // Enclosing loops need the assigned variables too.
        self.frame.assigned.extend(assigned);
        changed
    }
}

fn join_exit(exits: &mut Option<Snapshot>, states: &Snapshot) {
    match exits {
        Some(exits) => join(exits, states),
        None => *exits = Some(states.clone()),
    }
}
