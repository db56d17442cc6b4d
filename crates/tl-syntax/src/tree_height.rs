//! How high syntax trees grow, and nodes made with their height.
//!
//! The parser refuses nodes of [`MAX_TREE_HEIGHT`], so every pass behind it may recurse over a tree.

use crate::Span;
use crate::ast::{
    Block, Expr, ExprKind, FormatPiece, Index, Literal, PlaceStep, Statement, StatementKind, Term, TermKind,
};

/// How many levels an expression may have, nested blocks included.
pub const MAX_TREE_HEIGHT: u16 = 512;

impl Expr {
    pub(crate) fn new(kind: ExprKind, span: Span) -> Expr {
        let height = node_height(&kind);
        Expr { kind, span, height }
    }

    /// In the place of an expression that was wrong, and has been reported.
    pub(crate) fn error(span: Span) -> Expr {
        Expr::new(ExprKind::Error, span)
    }
}

impl Block {
    pub(crate) fn new(statements: Vec<Statement>, span: Span) -> Block {
        let height = statements.iter().map(statement_height).max().unwrap_or(0);
        Block { statements, span, height }
    }

    /// A block of one expression.
    pub(crate) fn of(value: Expr) -> Block {
        let span = value.span;
        Block::new(vec![Statement { kind: StatementKind::Expr(value), span }], span)
    }
}

/// The height of a node of this kind.
fn node_height(kind: &ExprKind) -> u16 {
    let all = |exprs: &mut dyn Iterator<Item = &Expr>| exprs.map(|expr| expr.height).max().unwrap_or(0);
    let below = match kind {
        ExprKind::Int(_) | ExprKind::Float(_) | ExprKind::Bool(_) | ExprKind::Str(_) => return 0,
        ExprKind::Unit | ExprKind::Name(_) | ExprKind::Error => return 0,
        ExprKind::List(elements) => all(&mut elements.iter()),
        ExprKind::Format(pieces) => all(&mut pieces.iter().filter_map(|piece| match piece {
            FormatPiece::Text(_) => None,
            FormatPiece::Value { value, .. } => Some(value),
        })),
        ExprKind::Map(entries) => all(&mut entries.iter().flat_map(|(key, value)| [key, value])),
        ExprKind::Struct { fields, .. } => all(&mut fields.iter().map(|(_, value)| value)),
        ExprKind::Unary { operand, .. } | ExprKind::As { operand, .. } => operand.height,
        ExprKind::Binary { left, right, .. } | ExprKind::Range { start: left, end: right } => {
            left.height.max(right.height)
        }
        ExprKind::Call { arguments, .. } => all(&mut arguments.iter().map(|argument| &argument.value)),
        ExprKind::Method { receiver, arguments, .. } => {
            all(&mut arguments.iter().map(|argument| &argument.value)).max(receiver.height)
        }
        ExprKind::Field { receiver, .. } | ExprKind::Optional(receiver) => receiver.height,
        ExprKind::IfLet { value, then, otherwise, .. } => {
            let blocks = then.height.max(otherwise.as_ref().map_or(0, |block| block.height));
            blocks.max(value.height)
        }
        ExprKind::Index { receiver, indices } => {
            let parts = indices.iter().flat_map(|index| match index {
                Index::At(at) => [Some(at), None],
                Index::Slice { start, end, .. } => [start.as_ref(), end.as_ref()],
            });
            all(&mut parts.flatten()).max(receiver.height)
        }
        ExprKind::If { branches, otherwise } => {
            let branches = branches.iter().map(|(condition, block)| condition.height.max(block.height)).max();
            branches.unwrap_or(0).max(otherwise.as_ref().map_or(0, |block| block.height))
        }
        ExprKind::Query(query) => all(&mut query.body.iter().flat_map(terms).filter_map(|term| match &term.kind {
            TermKind::Value(value) => Some(&**value),
            TermKind::Name(_) | TermKind::Any => None,
        })),
        ExprKind::Block(block) => block.height,
        ExprKind::With { buffer, body } => buffer.height.max(body.height),
        ExprKind::Trace { body } => body.height,
    };
    below.saturating_add(1)
}

fn terms(literal: &Literal) -> Vec<&Term> {
    match literal {
        Literal::Atom { atom, .. } => atom.terms.iter().collect(),
        Literal::Comparison { left, right, .. } => vec![left, right],
    }
}

fn statement_height(statement: &Statement) -> u16 {
    let below = match &statement.kind {
        StatementKind::Let { value, .. } | StatementKind::Expr(value) => value.height,
        StatementKind::Assign { target, value, .. } => {
            let steps = target.steps.iter().map(|step| match step {
                PlaceStep::Field(_) => 0,
                PlaceStep::Index(index) => index.height,
            });
            steps.max().unwrap_or(0).max(value.height)
        }
        StatementKind::Tensor(declaration) => declaration.value.as_ref().map_or(0, |value| value.height),
        StatementKind::For { iterable, body, .. } => iterable.height.max(body.height),
        StatementKind::While { condition, body } => condition.height.max(body.height),
        StatementKind::Loop { body } => body.height,
        StatementKind::Return(value) => value.as_ref().map_or(0, |value| value.height),
        StatementKind::Break | StatementKind::Continue => 0,
    };
    below.saturating_add(1)
}
