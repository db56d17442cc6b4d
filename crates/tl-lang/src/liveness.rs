//! Liveness of variables. Marks in a checked function the last read of each slot, where the evaluator moves the value out
//! and its memory is freed. A value that only one branch reads is dropped at the beginning of the other; a value that a
//! loop's next round reads is dropped when the loop ends.
//!
//! One walk against the order of evaluation. Of types it knows only whether a slot may hold memory.

use crate::ir::{
    Argument, Block, Drops, Expr, ExprKind, Function, If, Index, PartRoot, PartStep, RecycleTarget, Slot, Statement,
};
use crate::walk::Part;

/// Loops nested deeper than this keep every value that their bodies mention: each level walks its body twice, and the walks
/// of nested loops multiply.
const EXACT_LOOP_DEPTH: u32 = 6;

/// Marks the ends of all values of a function. `moves_globals`: global variables need not keep their values after an error.
pub(crate) fn mark(function: &mut Function, moves_globals: bool) {
    let mut marker = Marker {
        live: SlotSet::new(function.slots),
        holds_memory: &function.holds_memory,
        loops: Vec::new(),
        depth: 0,
        moves_globals,
    };
    marker.block(&mut function.body);
}

/// In `g = append(g, x)` the value that `g` has is moved out: it is replaced before anything else can read it.
fn mark_only_read(global: u32, value: &mut Expr) {
    let mut reads = 0;
    if count_reads(global, value, &mut reads) && reads == 1 {
        mark_reads(global, value);
    }
}

/// Counts the reads of a global variable. False if there may be others: those of a called function, or of a block, which may
/// run more than once.
fn count_reads(global: u32, expr: &mut Expr, reads: &mut u32) -> bool {
    use ExprKind::{Block, Call, If, Recycle, Trace, With};
    if matches!(expr.kind, Call { .. } | Block(_) | If(_) | With { .. } | Trace(_) | Recycle { .. }) {
        return false;
    }
    *reads += u32::from(matches!(expr.kind, ExprKind::Global { index, .. } if index == global));
    let mut are_all = true;
    expr.for_each_part(&mut |part| match part {
        Part::Expr(part) => are_all &= count_reads(global, part, reads),
        Part::Block(_) => are_all = false,
    });
    are_all
}

fn mark_reads(global: u32, expr: &mut Expr) {
    if let ExprKind::Global { index, last } = &mut expr.kind {
        *last |= *index == global;
    }
    expr.for_each_part(&mut |part| {
        if let Part::Expr(part) = part {
            mark_reads(global, part);
        }
    });
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

    /// True if it was not in the set before.
    fn insert(&mut self, slot: Slot) -> bool {
        self.word(slot).is_some_and(|(word, bit)| {
            let is_new = *word & bit == 0;
            *word |= bit;
            is_new
        })
    }

    /// True if it was in the set.
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

    /// The slots of this set that the other does not have.
    fn without<'a>(&'a self, other: &'a SlotSet) -> impl Iterator<Item = Slot> + 'a {
        self.0.iter().zip(&other.0).enumerate().flat_map(|(at, (word, other))| {
            let rest = word & !other;
            (0..64).filter(move |bit| rest & (1 << bit) != 0).map(move |bit| at as Slot * 64 + bit)
        })
    }
}

struct LoopExits {
    /// What is live after the loop.
    at_break: SlotSet,
    /// What is live where the next round begins.
    at_continue: SlotSet,
}

struct Marker<'a> {
    /// Slots that are read after the point that the walk has reached.
    live: SlotSet,
    holds_memory: &'a [bool],
    loops: Vec<LoopExits>,
    depth: u32,
    moves_globals: bool,
}

impl Marker<'_> {
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
            Statement::SetGlobal { index, value } => {
                if self.moves_globals {
                    mark_only_read(*index, value);
                }
                self.expr(value);
            }
            Statement::Expr(value) => self.expr(value),
            Statement::SetPart(part) => {
                if let PartRoot::Local { slot, .. } = part.root {
                    self.live.insert(slot);
                }
                self.expr(&mut part.value);
                for step in part.steps.iter_mut().rev() {
                    if let PartStep::Index(index) = step {
                        self.expr(index);
                    }
                }
            }
            Statement::For { slot, unread, iterable, body, drops } => {
                let exit = self.live.clone();
                let slot = *slot;
                self.loop_body(&exit, true, |marker| {
                    marker.block(body);
                    *unread = !marker.live.remove(slot);
                });
                *drops = self.drops(&self.live, &exit);
                self.expr(iterable);
            }
            Statement::While { condition, body, drops } => {
                let exit = self.live.clone();
                self.loop_body(&exit, true, |marker| {
                    marker.block(body);
                    *drops = marker.drops(&marker.live, &exit);
                    marker.live.union(&exit);
                    marker.expr(condition);
                });
            }
            Statement::Loop { body, .. } => {
                let exit = self.live.clone();
                self.loop_body(&exit, false, |marker| marker.block(body));
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

    /// Walks a loop's round until the live set at its beginning is stable, which takes two walks at most: a round adds the slots
    /// that it reads before it writes, whatever follows. `may_end`: the loop may end where a round begins.
    fn loop_body(&mut self, exit: &SlotSet, may_end: bool, mut round: impl FnMut(&mut Self)) {
        let mut begin = if may_end { exit.clone() } else { SlotSet::new(exit.0.len() as u32 * 64) };
        if self.depth >= EXACT_LOOP_DEPTH {
            // Every value stays until the loop ends.
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
            self.argument(argument);
        }
    }

    fn argument(&mut self, argument: &mut Argument) {
        match argument {
            Argument::Missing => {}
            Argument::One(expr) => self.expr(expr),
            Argument::Several(exprs) => self.exprs(exprs),
        }
    }

    /// The arguments of an operation: places are read after the other arguments are evaluated.
    fn read_in_place(&mut self, arguments: &mut [Argument]) {
        let is_place_expr = |argument: &Argument| matches!(argument, Argument::One(expr) if expr.is_place_expr());
        for is_in_place in [true, false] {
            for argument in arguments.iter_mut().rev() {
                if is_place_expr(argument) == is_in_place {
                    self.argument(argument);
                }
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
            // The test does not move the value out.
            ExprKind::IsPresent(operand) => match &mut operand.kind {
                ExprKind::Local { slot, last, .. } => {
                    self.live.insert(*slot);
                    *last = false;
                }
                _ => self.expr(operand),
            },
            ExprKind::Negate(operand)
            | ExprKind::Not(operand)
            | ExprKind::Learnable(operand)
            | ExprKind::Field { receiver: operand, .. }
            | ExprKind::Optional(operand)
            | ExprKind::Convert { operand, .. }
            | ExprKind::FromList { operand, .. }
            | ExprKind::Expect { operand, .. } => self.expr(operand),
            ExprKind::Binary { left, right, .. } | ExprKind::Range { start: left, end: right } => {
                self.expr(right);
                self.expr(left);
            }
            ExprKind::Op(call) if call.reads_in_place() => {
                self.read_in_place(&mut call.arguments);
                let in_place = call.arguments.iter().filter_map(|argument| match argument {
                    Argument::One(expr) if expr.is_place_expr() => expr.last_read_slot(),
                    _ => None,
                });
                call.ends = in_place.collect();
            }
            ExprKind::Op(call) => self.arguments(&mut call.arguments),
            ExprKind::Builtin { arguments, .. } => self.arguments(arguments),
            ExprKind::Call { arguments, .. } | ExprKind::List(arguments) | ExprKind::Make { parts: arguments, .. } => {
                self.exprs(arguments)
            }
            ExprKind::IsAttention(written) => written.exprs_mut().for_each(|expr| self.expr(expr)),
            ExprKind::Recycle { buffer, target } => {
                match target {
                    RecycleTarget::Local { slot, .. } => drop(self.live.insert(*slot)),
                    RecycleTarget::Global { .. } => {}
                    RecycleTarget::Temporary(value) => self.expr(value),
                }
                self.expr(buffer);
            }
            ExprKind::With { buffer, body } => {
                self.expr(body);
                self.expr(buffer);
            }
            ExprKind::Trace(body) => self.expr(body),
            ExprKind::Index { receiver, indices, in_place: true } => {
                self.expr(receiver);
                self.indices(indices);
            }
            ExprKind::Index { receiver, indices, in_place: false } => {
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

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use proptest::prelude::*;
    use tl_device::Device;
    use tl_syntax::SourceMap;

    use crate::check::{CheckOptions, Checked, check};
    use crate::compile::compile;
    use crate::eval::{self, Environment};
    use crate::host::{CapturedHost, Host};
    use crate::model::open_model;

    type Check = fn(&str, &str, &CheckOptions, &mut dyn Host, &mut SourceMap) -> Checked;

    /// The program's output, and its error if it has one.
    fn run(text: &str, check: Check) -> (String, Option<String>) {
        let (mut host, mut sources) = (CapturedHost::default(), SourceMap::new());
        let options = CheckOptions::default();
        let checked = check("t", text, &options, &mut host, &mut sources);
        let Some(program) = checked.program else { panic!("{text}\n{:?}", checked.diagnostics) };
        let environment = Environment { device: &Device::cpu(), host: &mut host, open_model };
        let error = eval::run(&program, environment, 1 << 20).err().map(|error| error.diagnostic.message);
        (host.output, error)
    }

    /// A statement over the variables `a` to `d`, which hold tensors; `i` counts down where loops end.
    #[derive(Clone, Debug)]
    enum Step {
        Set(u8, u8, u8),
        Shadow(u8, u8),
        Print(u8),
        Call(u8, u8),
        If(u8, Vec<Step>, Vec<Step>),
        Loop(u8, Vec<Step>),
        While(Vec<Step>),
        For(u8, Vec<Step>),
        Break,
        Continue,
        Return(u8),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let variable = || 0..4_u8;
        let leaf = prop_oneof![
            4 => (variable(), variable(), variable()).prop_map(|(a, b, c)| Step::Set(a, b, c)),
            1 => (variable(), variable()).prop_map(|(a, b)| Step::Shadow(a, b)),
            2 => variable().prop_map(Step::Print),
            1 => (variable(), variable()).prop_map(|(a, b)| Step::Call(a, b)),
            1 => Just(Step::Break),
            1 => Just(Step::Continue),
            1 => variable().prop_map(Step::Return),
        ];
        let step = leaf.prop_recursive(4, 40, 5, move |step| {
            let block = || prop::collection::vec(step.clone(), 0..5);
            prop_oneof![
                2 => (0..4_u8, block(), block()).prop_map(|(a, then, other)| Step::If(a, then, other)),
                1 => (0..4_u8, block()).prop_map(|(a, body)| Step::Loop(a, body)),
                1 => block().prop_map(Step::While),
                1 => (0..4_u8, block()).prop_map(|(a, body)| Step::For(a, body)),
            ]
        });
        prop::collection::vec(step, 1..8)
    }

    fn name(variable: u8) -> char {
        char::from(b'a' + variable % 4)
    }

    fn write_steps(text: &mut String, steps: &[Step], in_loop: bool) {
        for step in steps {
            match step {
                Step::Set(a, b, c) => writeln!(text, "{} = {} * 0.5 + {}", name(*a), name(*b), name(*c)),
                Step::Shadow(a, b) => writeln!(text, "let {} = {} + 1", name(*a), name(*b)),
                Step::Print(a) => writeln!(text, "print(sum({}))", name(*a)),
                Step::Call(a, b) => writeln!(text, "{} = both({}, {})", name(*a), name(*b), name(*a)),
                Step::Break | Step::Continue if !in_loop => Ok(()),
                // The fuel ends loops that would go on for ever.
                Step::Break => writeln!(text, "break"),
                Step::Continue => writeln!(text, "continue"),
                Step::Return(a) => writeln!(text, "return {}", name(*a)),
                Step::If(a, then, other) => {
                    writeln!(text, "if item(sum({})) > 3.0 or fuel % 2 == 0 {{", name(*a)).unwrap();
                    write_steps(text, then, in_loop);
                    writeln!(text, "}} else {{").unwrap();
                    write_steps(text, other, in_loop);
                    writeln!(text, "}}")
                }
                Step::Loop(a, body) => {
                    writeln!(text, "loop {{\nfuel = fuel - 1\nif fuel < 0 {{ break }}\n{0} = {0} * 0.5", name(*a))
                        .unwrap();
                    write_steps(text, body, true);
                    writeln!(text, "}}")
                }
                Step::While(body) => {
                    writeln!(text, "while fuel > 0 {{\nfuel = fuel - 1").unwrap();
                    write_steps(text, body, true);
                    writeln!(text, "}}")
                }
                Step::For(a, body) => {
                    writeln!(text, "for t in [{}, b] {{\nfuel = fuel - 1\nd = t + d", name(*a)).unwrap();
                    write_steps(text, body, true);
                    writeln!(text, "}}")
                }
            }
            .unwrap();
        }
    }

    proptest! {
        #[test]
        fn ending_values_early_changes_nothing(steps in steps(), shared in any::<bool>()) {
            let mut text = String::from("fn both(x: float32[n], y: float32[n]) -> float32[n] { let z = x - y\n z * 0.5 }\n");
            text.push_str("fn all(fuel: int, a: float32[2], b: float32[2]) -> float32[2] {\nlet c = a + b\nlet d = [1, 2] as float32\n");
            write_steps(&mut text, &steps, false);
            text.push_str("print(sum(a))\nprint(sum(b))\nc + d\n}\nlet x = [3, 4] as float32\nlet y = [0, 1] as float32\n");
            text.push_str(if shared { "print(all(12, x, x), x)\n" } else { "print(all(13, x, y))\n" });
            let expected = run(&text, check);
            prop_assert!(expected.1.is_none(), "{}\n{:?}", text, expected);
            prop_assert_eq!(run(&text, compile), expected, "{}", text);
        }
    }
}
