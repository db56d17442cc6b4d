//! Where values end. Marks in a checked function each read of a slot behind which nobody reads it again, so that the
//! evaluator moves the value out and its memory goes back there; a value that only one branch reads is dropped at the
//! beginning of the other; what a loop's next round reads stays, and is dropped when the loop ends.
//!
//! One walk against the direction of evaluation. Knows nothing of types but whether a slot may hold memory.

use crate::ir::{Argument, Block, Drops, Expr, ExprKind, Function, If, Index, Recycled, Slot, Statement};

/// Loops nested deeper than this keep whatever their bodies mention. Each level walks its body twice, and the walks of
/// nested loops multiply.
const EXACT_LOOP_DEPTH: u32 = 6;

/// Marks the ends of all values of a function.
pub(crate) fn mark(function: &mut Function) {
    let mut walk = Walk {
        live: SlotSet::new(function.slots),
        holds_memory: &function.holds_memory,
        loops: Vec::new(),
        depth: 0,
    };
    walk.block(&mut function.body);
}

#[derive(Clone, PartialEq)]
struct SlotSet(Vec<u64>);

impl SlotSet {
    fn new(slots: u32) -> Self {
        SlotSet(vec![0; (slots as usize).div_ceil(64)])
    }

    fn word(&mut self, slot: Slot) -> Option<(&mut u64, u64)> {
        self.0.get_mut(slot as usize / 64).map(|word| (word, 1 << (slot % 64)))
    }

    /// Whether it was not in the set before.
    fn insert(&mut self, slot: Slot) -> bool {
        self.word(slot).is_some_and(|(word, bit)| {
            let is_new = *word & bit == 0;
            *word |= bit;
            is_new
        })
    }

    /// Whether it was in the set.
    fn remove(&mut self, slot: Slot) -> bool {
        self.word(slot).is_some_and(|(word, bit)| {
            let was_in = *word & bit != 0;
            *word &= !bit;
            was_in
        })
    }

    fn union(&mut self, other: &SlotSet) {
        for (word, other) in self.0.iter_mut().zip(&other.0) {
            *word |= other;
        }
    }

    /// What is in this set and not in the other.
    fn without<'a>(&'a self, other: &'a SlotSet) -> impl Iterator<Item = Slot> + 'a {
        self.0.iter().zip(&other.0).enumerate().flat_map(|(at, (word, other))| {
            let rest = word & !other;
            (0..64).filter(move |bit| rest & (1 << bit) != 0).map(move |bit| at as Slot * 64 + bit)
        })
    }
}

struct LoopExits {
    /// What is live behind the loop.
    at_break: SlotSet,
    /// What is live where the next round begins.
    at_continue: SlotSet,
}

struct Walk<'a> {
    /// What is read later than the point that the walk has reached.
    live: SlotSet,
    holds_memory: &'a [bool],
    loops: Vec<LoopExits>,
    depth: u32,
}

impl Walk<'_> {
    fn drops(&self, before: &SlotSet, after: &SlotSet) -> Drops {
        let holds = |slot: &Slot| self.holds_memory.get(*slot as usize).copied().unwrap_or(false);
        before.without(after).filter(holds).collect()
    }

    fn block(&mut self, block: &mut Block) {
        if let Some(value) = &mut block.value {
            self.expr(value);
        }
        for statement in block.statements.iter_mut().rev() {
            self.statement(statement);
        }
    }

    fn statement(&mut self, statement: &mut Statement) {
        match statement {
            Statement::Set { slot, value, unread } => {
                *unread = !self.live.remove(*slot);
                self.expr(value);
            }
            Statement::SetGlobal { value, .. } | Statement::Expr(value) => self.expr(value),
            Statement::For { slot, unread, iterable, body, drops } => {
                let exit = self.live.clone();
                let slot = *slot;
                self.loop_body(&exit, true, |walk| {
                    walk.block(body);
                    *unread = !walk.live.remove(slot);
                });
                *drops = self.drops(&self.live, &exit);
                self.expr(iterable);
            }
            Statement::While { condition, body, drops } => {
                let exit = self.live.clone();
                self.loop_body(&exit, true, |walk| {
                    walk.block(body);
                    *drops = walk.drops(&walk.live, &exit);
                    walk.live.union(&exit);
                    walk.expr(condition);
                });
            }
            Statement::Loop { body } => {
                let exit = self.live.clone();
                self.loop_body(&exit, false, |walk| walk.block(body));
            }
            Statement::Break => {
                if let Some(exits) = self.loops.last() {
                    self.live.clone_from(&exits.at_break);
                }
            }
            Statement::Continue => {
                if let Some(exits) = self.loops.last() {
                    self.live.clone_from(&exits.at_continue);
                }
            }
            Statement::Return(value) => {
                self.live.0.fill(0);
                if let Some(value) = value {
                    self.expr(value);
                }
            }
        }
    }

    /// Walks a loop's round until what is live at its beginning no longer changes, which it does at most once: a round
    /// adds what it reads before it writes, whatever follows it. `may_end` says that the loop may end where a round begins.
    fn loop_body(&mut self, exit: &SlotSet, may_end: bool, mut round: impl FnMut(&mut Self)) {
        let mut begin = if may_end { exit.clone() } else { SlotSet::new(exit.0.len() as u32 * 64) };
        if self.depth >= EXACT_LOOP_DEPTH {
            // Everything stays until the loop ends.
            begin.0.fill(u64::MAX);
        }
        loop {
            self.live.clone_from(&begin);
            self.loops.push(LoopExits { at_break: exit.clone(), at_continue: begin.clone() });
            self.depth += 1;
            round(self);
            self.depth -= 1;
            self.loops.pop();
            if may_end {
                self.live.union(exit);
            }
            self.live.union(&begin);
            if self.live == begin {
                return;
            }
            begin.clone_from(&self.live);
        }
    }

    fn exprs(&mut self, exprs: &mut [Expr]) {
        for expr in exprs.iter_mut().rev() {
            self.expr(expr);
        }
    }

    fn arguments(&mut self, arguments: &mut [Argument]) {
        for argument in arguments.iter_mut().rev() {
            match argument {
                Argument::Missing => {}
                Argument::One(expr) => self.expr(expr),
                Argument::Several(exprs) => self.exprs(exprs),
            }
        }
    }

    fn expr(&mut self, expr: &mut Expr) {
        match &mut expr.kind {
            ExprKind::Constant(_) | ExprKind::Global { .. } => {}
            ExprKind::Local { slot, last, .. } => {
                let is_last = self.live.insert(*slot);
                *last = is_last && self.holds_memory.get(*slot as usize).copied().unwrap_or(false);
            }
            ExprKind::Negate(operand)
            | ExprKind::Not(operand)
            | ExprKind::Learnable(operand)
            | ExprKind::Field { receiver: operand, .. }
            | ExprKind::Convert { operand, .. }
            | ExprKind::FromList { operand, .. }
            | ExprKind::Expect { operand, .. } => self.expr(operand),
            ExprKind::Binary { left, right, .. } | ExprKind::Range { start: left, end: right } => {
                self.expr(right);
                self.expr(left);
            }
            ExprKind::Op { arguments, .. } | ExprKind::Builtin { arguments, .. } => self.arguments(arguments),
            ExprKind::Call { arguments, .. } | ExprKind::List(arguments) => self.exprs(arguments),
            ExprKind::Recycle { buffer, target } => {
                match target {
                    Recycled::Local { slot, .. } => drop(self.live.insert(*slot)),
                    Recycled::Global { .. } => {}
                    Recycled::Temporary(value) => self.expr(value),
                }
                self.expr(buffer);
            }
            ExprKind::With { buffer, body } => {
                self.expr(body);
                self.expr(buffer);
            }
            ExprKind::Index { receiver, indices } => {
                self.indices(indices);
                self.expr(receiver);
            }
            ExprKind::If(node) => self.branches(node),
            ExprKind::Block(block) => self.block(block),
            ExprKind::Declare { value, .. } => {
                if let Some(value) = value {
                    self.expr(value);
                }
            }
        }
    }

    fn indices(&mut self, indices: &mut [Index]) {
        for index in indices.iter_mut().rev() {
            match index {
                Index::At(at) => self.expr(at),
                Index::Slice { start, end } => {
                    end.iter_mut().for_each(|end| self.expr(end));
                    start.iter_mut().for_each(|start| self.expr(start));
                }
            }
        }
    }

    fn branches(&mut self, node: &mut If) {
        let after = self.live.clone();
        self.block(&mut node.then);
        let then = std::mem::replace(&mut self.live, after);
        self.block(&mut node.otherwise);
        let otherwise = self.live.clone();
        self.live.union(&then);
        node.then_drops = self.drops(&self.live, &then);
        node.otherwise_drops = self.drops(&self.live, &otherwise);
        self.expr(&mut node.condition);
    }
}
