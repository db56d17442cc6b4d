//! Warnings: variables that nothing reads, values that nothing uses, statements that are never reached. They are made for the
//! main file of a program that is checked as a whole.

use std::collections::HashSet;
use std::sync::Arc;

use tl_syntax::ast::{self, ExprKind, StatementKind};
use tl_syntax::{Code, Diagnostic, FileId, Span};

use crate::check::checker::{Checker, Part};
use crate::check::lint_state::DeclaredVariable;
use crate::check::typed::Typed;
use crate::ir;
use crate::relations::is_hidden;

impl Checker {
    pub(super) fn makes_warnings(&self, span: Span) -> bool {
        self.part == Part::Whole && self.quiet == 0 && self.only_shapes == 0 && self.lints.main_file == Some(span.file)
    }

    /// A variable is declared here.
    pub(super) fn lint_declared(&mut self, name: &ast::Name, is_parameter: bool) {
        if self.makes_warnings(name.span) && !name.text.starts_with('_') && !is_hidden(&name.text) {
            let variable = DeclaredVariable { name: Arc::clone(&name.text), span: name.span, is_parameter };
            self.lints.declared.push(variable);
        }
    }

    /// The variable that is declared at this place is read.
    pub(super) fn lint_read(&mut self, declared_at: Span) {
        if self.part == Part::Whole {
            self.lints.read.insert(declared_at);
        }
    }

    /// A statement whose value is not used.
    pub(super) fn lint_result(&mut self, written: &ast::Expr, value: &Typed) {
        let computes = matches!(
            written.kind,
            ExprKind::Int(_)
                | ExprKind::Float(_)
                | ExprKind::Bool(_)
                | ExprKind::Str(_)
                | ExprKind::Name(_)
                | ExprKind::List(_)
                | ExprKind::Binary { .. }
                | ExprKind::As { .. }
                | ExprKind::Range { .. }
                | ExprKind::Field { .. }
                | ExprKind::Index { .. }
        );
        let computes = computes || matches!(value.expr.kind, ir::ExprKind::Op(_));
        if computes && !value.ty.is_open() && self.makes_warnings(written.span) {
            let diagnostic = Diagnostic::warning(written.span, "nothing uses this value").code(Code::UnusedResult);
            self.report(diagnostic.hint("give it a name with `let`, or leave it out"));
        }
    }

    /// The statements of a block: those behind one that leaves it are never reached.
    pub(super) fn lint_unreachable(&mut self, statements: &[ast::Statement]) {
        let leaves = |statement: &ast::Statement| {
            matches!(statement.kind, StatementKind::Return(_) | StatementKind::Break | StatementKind::Continue)
        };
        let pair = statements.windows(2).find_map(|pair| match pair {
            [first, second] if leaves(first) => Some((first.span, second.span)),
            _ => None,
        });
        if let Some((leaving, unreachable)) = pair
            && self.makes_warnings(unreachable)
        {
            let diagnostic = Diagnostic::warning(unreachable, "this is never reached").code(Code::Unreachable);
            self.report(diagnostic.label(leaving, "the block is left here"));
        }
    }

    /// Warnings of variables that nothing reads.
    pub(super) fn unread_variables(&self) -> Vec<Diagnostic> {
        let mut seen = HashSet::new();
        let unread = self
            .lints
            .declared
            .iter()
            .filter(|variable| !self.lints.read.contains(&variable.span) && seen.insert(variable.span));
        unread
            .map(|variable| {
                let what =
                    if variable.is_parameter { "this tensor is learnable, and nothing reads" } else { "nothing reads" };
                let message = format!("{what} `{}`", variable.name);
                let hint = format!("if it is meant, call it `_{}`", variable.name);
                Diagnostic::warning(variable.span, message).code(Code::UnusedVariable).hint(hint)
            })
            .collect()
    }

    /// The file whose warnings are made.
    pub(super) fn lint_file(&mut self, file: FileId) {
        self.lints.main_file = Some(file);
    }
}
