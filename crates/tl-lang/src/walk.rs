//! The parts of expressions and blocks, for walks over all of them.

use crate::ir::{Argument, Block, Expr, ExprKind, Index, PartStep, RecycleTarget, Statement};

/// A part of an expression or of a block.
pub(crate) enum Part<'e> {
    Expr(&'e mut Expr),
    Block(&'e mut Block),
}

impl Block {
    /// The block's own parts, in the order in which they run.
    pub(crate) fn for_each_part(&mut self, visit: &mut dyn FnMut(Part<'_>)) {
        for statement in &mut self.statements {
            match statement {
                Statement::Set { value, .. } | Statement::SetGlobal { value, .. } | Statement::Expr(value) => {
                    visit(Part::Expr(value));
                }
                Statement::SetPart(part) => {
                    for step in &mut part.steps {
                        if let PartStep::Index(index) = step {
                            visit(Part::Expr(index));
                        }
                    }
                    visit(Part::Expr(&mut part.value));
                }
                Statement::For { iterable: first, body, .. } | Statement::While { condition: first, body, .. } => {
                    visit(Part::Expr(first));
                    visit(Part::Block(body));
                }
                Statement::Loop { body, .. } => visit(Part::Block(body)),
                Statement::Return(value) => value.iter_mut().for_each(|value| visit(Part::Expr(value))),
                Statement::Break | Statement::Continue => {}
            }
        }
        self.value.iter_mut().for_each(|value| visit(Part::Expr(value)));
    }
}

impl Expr {
    /// The expression's own parts.
    pub(crate) fn for_each_part(&mut self, visit: &mut dyn FnMut(Part<'_>)) {
        match &mut self.kind {
            ExprKind::Constant(_) | ExprKind::Local { .. } | ExprKind::Global { .. } => {}
            ExprKind::Negate(operand)
            | ExprKind::Not(operand)
            | ExprKind::Learnable(operand)
            | ExprKind::Trace(operand)
            | ExprKind::Field { receiver: operand, .. }
            | ExprKind::Optional(operand)
            | ExprKind::IsPresent(operand)
            | ExprKind::Convert { operand, .. }
            | ExprKind::FromList { operand, .. }
            | ExprKind::Expect { operand, .. } => visit(Part::Expr(operand)),
            ExprKind::Binary { left: first, right: second, .. }
            | ExprKind::Range { start: first, end: second }
            | ExprKind::With { buffer: first, body: second } => {
                visit(Part::Expr(first));
                visit(Part::Expr(second));
            }
            ExprKind::Op(call) => for_each_argument(&mut call.arguments, visit),
            ExprKind::Builtin { arguments, .. } => for_each_argument(arguments, visit),
            ExprKind::Call { arguments: exprs, .. } | ExprKind::List(exprs) | ExprKind::Make { parts: exprs, .. } => {
                exprs.iter_mut().for_each(|expr| visit(Part::Expr(expr)));
            }
            ExprKind::IsAttention(written) => written.exprs_mut().for_each(|expr| visit(Part::Expr(expr))),
            ExprKind::Recycle { buffer, target } => {
                visit(Part::Expr(buffer));
                if let RecycleTarget::Temporary(value) = target {
                    visit(Part::Expr(value));
                }
            }
            ExprKind::Index { receiver, indices, .. } => {
                visit(Part::Expr(receiver));
                for index in indices {
                    let (first, second) = match index {
                        Index::At(at) => (Some(at), None),
                        Index::Slice { start, end } => (start.as_mut(), end.as_mut()),
                    };
                    first.into_iter().chain(second).for_each(|expr| visit(Part::Expr(expr)));
                }
            }
            ExprKind::If(node) => {
                visit(Part::Expr(&mut node.condition));
                visit(Part::Block(&mut node.then));
                visit(Part::Block(&mut node.otherwise));
            }
            ExprKind::Block(block) => visit(Part::Block(block)),
            ExprKind::Declare { value, .. } => value.iter_mut().for_each(|value| visit(Part::Expr(value))),
        }
    }
}

fn for_each_argument(arguments: &mut [Argument], visit: &mut dyn FnMut(Part<'_>)) {
    for argument in arguments {
        match argument {
            Argument::Missing => {}
            Argument::One(expr) => visit(Part::Expr(expr)),
            Argument::Several(exprs) => exprs.iter_mut().for_each(|expr| visit(Part::Expr(expr))),
        }
    }
}
