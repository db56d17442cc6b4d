//! Inlining of variables: after `let y = relu(x)`, in `y * 2` with the only read of `y`, the operation replaces the variable.
//! So chains and recognized forms reach across statements.
//!
//! Only if nothing but variables and constants is evaluated between the two: the order of evaluation stays.

use crate::ir::{Argument, Block, Expr, ExprKind, RecycleTarget, Slot, Statement};
use crate::walk::Part;

/// Operations nested deeper than this stay in variables: evaluation of nested expressions takes the thread's stack.
const MAX_NESTED: usize = 24;

/// Inlines variables in a block and in all blocks inside it; true if there were any.
pub(super) fn inline(block: &mut Block) -> bool {
    let mut inlined = false;
    block.for_each_part(&mut |part| inlined |= inline_inside(part));
    // From the end, so that a statement with an inlined operation can itself be inlined into the next.
    for at in (0..block.statements.len()).rev() {
        inlined |= inline_statement(block, at);
    }
    inlined
}

fn inline_inside(part: Part<'_>) -> bool {
    match part {
        Part::Block(block) => inline(block),
        Part::Expr(expr) => {
            let mut inlined = false;
            expr.for_each_part(&mut |part| inlined |= inline_inside(part));
            inlined
        }
    }
}

/// Inlines the operation of statement `at` into the next one.
fn inline_statement(block: &mut Block, at: usize) -> bool {
    let Some((statement, rest)) = block.statements.get_mut(at..).and_then(<[_]>::split_first_mut) else { return false };
    let Statement::Set { slot, value, unread: false } = statement else { return false };
    let next = match rest.first_mut() {
        Some(
            Statement::Set { value, .. }
            | Statement::SetGlobal { value, .. }
            | Statement::Expr(value)
            | Statement::Return(Some(value)),
        ) => value,
        Some(_) => return false,
        None => match &mut block.value {
            Some(value) => value,
            None => return false,
        },
    };
    let may_move = matches!(&value.kind, ExprKind::Op(call) if call.assigns_nothing);
    if !may_move || count_reads(next, *slot) != 1 {
        return false;
    }
    let unit = Expr::unit(value.span);
    let depth = MAX_NESTED.saturating_sub(operation_depth(value));
    let mut moved = Some(std::mem::replace(value, unit));
    substitute(next, *slot, &mut moved, depth);
    match moved {
        Some(operation) => {
            // Nothing was replaced.
            *value = operation;
            false
        }
        None => {
            block.statements.remove(at);
            true
        }
    }
}

/// How often an expression reads the variable; recycling counts as two reads.
fn count_reads(expr: &mut Expr, slot: Slot) -> usize {
    match &expr.kind {
        ExprKind::Local { slot: read, .. } => return usize::from(*read == slot),
        ExprKind::Recycle { target: RecycleTarget::Local { slot: read, .. }, .. } if *read == slot => return 2,
        _ => {}
    }
    let mut count = 0;
    expr.for_each_part(&mut |part| count += count_reads_in(part, slot));
    count
}

fn count_reads_in(part: Part<'_>, slot: Slot) -> usize {
    match part {
        Part::Expr(expr) => count_reads(expr, slot),
        Part::Block(block) => {
            let mut count = 0;
            block.for_each_part(&mut |part| count += count_reads_in(part, slot));
            count
        }
    }
}

/// The depth of nested operations.
fn operation_depth(expr: &Expr) -> usize {
    let ExprKind::Op(call) = &expr.kind else { return 0 };
    let inner = call.arguments.iter().map(|argument| match argument {
        Argument::One(expr) => operation_depth(expr),
        Argument::Missing | Argument::Several(_) => 0,
    });
    1 + inner.max().unwrap_or(0)
}

/// The outcome of a search for the variable, in the order of evaluation.
enum Search {
    /// The operation stands in the variable's place.
    Replaced,
    /// Only variables and constants so far.
    Pure,
    /// Something else is evaluated before the variable.
    Blocked,
}

/// Replaces the variable's last read by the operation if nothing else is evaluated before it, at most `depth` operations deep.
fn substitute(expr: &mut Expr, slot: Slot, operation: &mut Option<Expr>, depth: usize) -> Search {
    match &mut expr.kind {
        ExprKind::Local { slot: read, last: true, .. } if *read == slot => match operation.take() {
            Some(operation) => {
                *expr = operation;
                Search::Replaced
            }
            None => Search::Blocked,
        },
        ExprKind::Constant(_) | ExprKind::Local { .. } => Search::Pure,
        ExprKind::Expect { operand, .. } => match substitute(operand, slot, operation, depth) {
            Search::Pure => Search::Blocked,
            search => search,
        },
        ExprKind::Op(call) if depth > 0 => {
            let search = substitute_in(&mut call.arguments, slot, operation, depth - 1);
            if matches!(search, Search::Replaced) {
                call.update_marks();
            }
            search
        }
        ExprKind::Builtin { arguments, .. } => substitute_in(arguments, slot, operation, depth),
        _ => Search::Blocked,
    }
}

/// As [`substitute`], for the arguments of a call.
fn substitute_in(arguments: &mut [Argument], slot: Slot, operation: &mut Option<Expr>, depth: usize) -> Search {
    for argument in arguments {
        let search = match argument {
            Argument::Missing => Search::Pure,
            Argument::One(expr) => substitute(expr, slot, operation, depth),
            Argument::Several(_) => Search::Blocked,
        };
        if !matches!(search, Search::Pure) {
            return search;
        }
    }
    // The call itself is evaluated before whatever follows.
    Search::Blocked
}
