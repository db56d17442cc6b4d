//! Syntax trees of what relations become. Names that no program can write have a blank in them.

use std::sync::Arc;

use tl_syntax::Span;
use tl_syntax::ast::{
    Argument, BinaryOperator, Block, Expr, ExprKind, Index, Name, Place, Statement, StatementKind, UnaryOperator,
};

/// Before the name of a builtin, which is then meant whatever the program calls so.
pub(crate) const BUILTIN_PREFIX: char = ' ';

/// A call of this name gives its first argument the dtype of its second.
pub(crate) const CAST_LIKE: &str = " cast like";

/// Whether a program cannot write this name.
pub(crate) fn is_hidden(name: &str) -> bool {
    name.contains(BUILTIN_PREFIX)
}

pub(super) fn expr(kind: ExprKind, span: Span) -> Expr {
    Expr { kind, span, height: 0 }
}

pub(super) fn int(n: usize, span: Span) -> Expr {
    expr(ExprKind::Int(i64::try_from(n).unwrap_or(i64::MAX)), span)
}

/// The value of a variable.
pub(super) fn variable(name: &Name) -> Expr {
    expr(ExprKind::Name(name.text.clone()), name.span)
}

pub(super) fn list(elements: Vec<Expr>, span: Span) -> Expr {
    expr(ExprKind::List(elements), span)
}

/// A variable that no program can write; nothing of it is shown at the place.
pub(super) fn hidden(name: String, span: Span) -> Name {
    Name { text: name.into(), span: nowhere(span) }
}

/// The start of a place, without extent: no editor finds a name there.
fn nowhere(span: Span) -> Span {
    Span { end: span.start, ..span }
}

/// A call of a builtin.
pub(super) fn call(name: &str, arguments: Vec<Expr>, span: Span) -> Expr {
    let name = Name { text: format!("{BUILTIN_PREFIX}{name}").into(), span: nowhere(span) };
    called(name, arguments, span)
}

pub(super) fn cast_like(value: Expr, like: Expr) -> Expr {
    let span = value.span;
    called(Name { text: CAST_LIKE.into(), span: nowhere(span) }, vec![value, like], span)
}

fn called(name: Name, arguments: Vec<Expr>, span: Span) -> Expr {
    let arguments = arguments.into_iter().map(|value| Argument { name: None, value }).collect();
    expr(ExprKind::Call { module: None, qualifier: None, name, arguments }, span)
}

pub(super) fn text(text: String, span: Span) -> Expr {
    expr(ExprKind::Str(Arc::from(text)), span)
}

pub(super) fn not(operand: Expr) -> Expr {
    let span = operand.span;
    expr(ExprKind::Unary { operator: UnaryOperator::Not, operand: Box::new(operand) }, span)
}

pub(super) fn binary(operator: BinaryOperator, left: Expr, right: Expr) -> Expr {
    let span = left.span;
    let (left, right) = (Box::new(left), Box::new(right));
    expr(ExprKind::Binary { operator, operator_span: span, left, right }, span)
}

/// Operands joined by an operator, as a tree of little height.
pub(super) fn joined(operator: BinaryOperator, mut operands: Vec<Expr>) -> Option<Expr> {
    while operands.len() > 1 {
        let mut rest = operands.into_iter();
        operands = Vec::with_capacity(rest.len().div_ceil(2));
        while let Some(left) = rest.next() {
            operands.push(match rest.next() {
                Some(right) => binary(operator, left, right),
                None => left,
            });
        }
    }
    operands.pop()
}

/// The tensor at the given indices; `None` is a whole dimension.
pub(super) fn indexed(tensor: Expr, indices: Vec<Option<Expr>>) -> Expr {
    if indices.iter().all(Option::is_none) {
        return tensor;
    }
    let span = tensor.span;
    let index = |index: Option<Expr>| match index {
        Some(at) => Index::At(at),
        None => Index::Slice { start: None, end: None, span },
    };
    let indices = indices.into_iter().map(index).collect();
    expr(ExprKind::Index { receiver: Box::new(tensor), indices }, span)
}

pub(super) fn let_statement(name: Name, value: Expr) -> Statement {
    let span = name.span;
    Statement { kind: StatementKind::Let { name, ty: None, value }, span }
}

pub(super) fn assign(name: Name, value: Expr) -> Statement {
    let span = name.span;
    let target = Place { name, steps: Vec::new(), span };
    Statement { kind: StatementKind::Assign { target, declares: false, operator: None, value }, span }
}

pub(super) fn while_loop(condition: Expr, statements: Vec<Statement>) -> Statement {
    let span = condition.span;
    let body = Block { statements, span, height: 0 };
    Statement { kind: StatementKind::While { condition, body }, span }
}
