//! Blocks and statements, and their ends.

use crate::ast::{Block, Expr, ExprKind, Statement, StatementKind, TensorDeclaration, TensorStorage};
use crate::parser::cursor::Parser;
use crate::token::TokenKind;
use crate::{Diagnostic, Span};

impl Parser<'_> {
    /// `{ … }`; `owner` says in messages whose block it is.
    pub(super) fn block(&mut self, owner: &str) -> Block {
        let start = self.token().span;
        if !self.at(TokenKind::OpenBrace) {
            let diagnostic = self.expected(&format!("`{{` and the block of {owner}"));
            self.report(diagnostic);
            // The error is between the head and its block; the block itself may be right.
            while !self.at(TokenKind::OpenBrace) {
                if matches!(
                    self.kind(),
                    TokenKind::Newline | TokenKind::Semicolon | TokenKind::CloseBrace | TokenKind::End
                ) {
                    return Block::new(Vec::new(), start);
                }
                self.advance();
            }
        }
        self.nested(|span| Block::new(Vec::new(), span), |parser| parser.block_body())
    }

    fn block_body(&mut self) -> Block {
        let start = self.advance().span;
        self.recovering = false;
        let mut statements: Vec<Statement> = Vec::new();
        loop {
            let mut newline = false;
            while matches!(self.kind(), TokenKind::Newline | TokenKind::Semicolon) {
                newline |= self.advance().kind == TokenKind::Newline;
            }
            if matches!(self.kind(), TokenKind::CloseBrace | TokenKind::End) {
                break;
            }
            if newline && self.at(TokenKind::Minus) && statements.last().is_some_and(has_unused_value) {
                let diagnostic = self.leading_minus();
                self.report_and_continue(diagnostic);
            }
            statements.push(self.statement());
            self.statement_end();
        }
        if !self.eat(TokenKind::CloseBrace) {
            self.report(Diagnostic::error(start, "this `{` is never closed"));
        }
        Block::new(statements, self.span_from(start))
    }

    pub(super) fn leading_minus(&self) -> Diagnostic {
        let message = "a line that begins with `-` is a statement of its own, and the value before it is not used";
        Diagnostic::error(self.token().span, message).hint("to subtract, put the `-` at the end of the line before")
    }

    /// After a statement: a newline, `;`, or the end of the block.
    pub(super) fn statement_end(&mut self) {
        let ended = match self.kind() {
            TokenKind::Newline | TokenKind::Semicolon | TokenKind::CloseBrace | TokenKind::End => true,
            // As in `if a { b } c()`.
            kind => self.previous().kind == TokenKind::CloseBrace && !self.recovering && begins_statement(kind),
        };
        if !ended {
            let diagnostic = self.expected("the end of the statement");
            self.report(diagnostic.hint("statements stand on lines of their own, or have `;` between them"));
            self.synchronize();
        }
        self.recovering = false;
    }

    pub(super) fn statement(&mut self) -> Statement {
        let start = self.token().span;
        let kind = self.statement_kind();
        Statement { kind, span: self.span_from(start) }
    }

    fn statement_kind(&mut self) -> StatementKind {
        let token = self.token();
        match token.kind {
            TokenKind::Let => self.let_statement(),
            TokenKind::Tensor => StatementKind::Tensor(self.tensor_declaration()),
            TokenKind::For => self.for_statement(),
            TokenKind::While => {
                self.advance();
                let condition = self.expression();
                StatementKind::While { condition, body: self.block("`while`") }
            }
            TokenKind::Loop => {
                self.advance();
                StatementKind::Loop { body: self.block("`loop`") }
            }
            TokenKind::Break => {
                self.advance();
                StatementKind::Break
            }
            TokenKind::Continue => {
                self.advance();
                StatementKind::Continue
            }
            TokenKind::Return => {
                self.advance();
                let ends = matches!(
                    self.kind(),
                    TokenKind::Newline | TokenKind::Semicolon | TokenKind::CloseBrace | TokenKind::End
                );
                StatementKind::Return((!ends).then(|| self.expression()))
            }
            TokenKind::Fn | TokenKind::Import | TokenKind::Main => {
                let message =
                    format!("`{}` stands at the top level of a file, not inside a block", self.slice(token.span));
                self.report(Diagnostic::error(token.span, message));
                self.synchronize();
                StatementKind::Expr(Expr::error(token.span))
            }
            TokenKind::Struct | TokenKind::Impl => {
                self.reserved_word();
                StatementKind::Expr(Expr::error(token.span))
            }
            _ => self.expression_statement(),
        }
    }

    fn let_statement(&mut self) -> StatementKind {
        self.advance();
        // Every variable is mutable; the word is allowed out of habit.
        self.eat(TokenKind::Mut);
        let name = self.name("the variable's name");
        let ty = self.eat(TokenKind::Colon).then(|| self.ty());
        if !self.eat(TokenKind::Equal) {
            let diagnostic = self.expected("`=` and the variable's value");
            self.report(diagnostic.hint("a variable begins with a value, as in `let x = 0`"));
            return StatementKind::Let { name, ty, value: Expr::error(self.token().span) };
        }
        StatementKind::Let { name, ty, value: self.expression() }
    }

    fn tensor_declaration(&mut self) -> TensorDeclaration {
        let start = self.advance().span;
        let name = self.name("the tensor's name");
        self.expect(TokenKind::Colon, " and the tensor's type");
        let ty = self.ty();
        let storage = match self.kind() {
            TokenKind::Learnable => TensorStorage::Learnable,
            TokenKind::Frozen => TensorStorage::Frozen,
            _ => TensorStorage::Ordinary,
        };
        if storage != TensorStorage::Ordinary {
            self.advance();
        }
        let value = self.eat(TokenKind::Equal).then(|| self.expression());
        TensorDeclaration { name, ty, storage, value, span: self.span_from(start) }
    }

    fn for_statement(&mut self) -> StatementKind {
        self.advance();
        let variable = self.name("the loop's variable");
        self.expect(TokenKind::In, " and what to go over");
        let iterable = self.expression();
        StatementKind::For { variable, iterable, body: self.block("`for`") }
    }

    fn expression_statement(&mut self) -> StatementKind {
        let target = self.expression();
        let declares = match self.kind() {
            TokenKind::Equal => false,
            TokenKind::ColonEqual => true,
            _ => return StatementKind::Expr(target),
        };
        let equal = self.advance().span;
        let value = self.expression();
        match target.kind {
            ExprKind::Name(text) => {
                let name = crate::ast::Name { text, span: target.span };
                StatementKind::Assign { name, declares, value }
            }
            _ => {
                self.report_and_continue(not_assignable(equal, &target));
                StatementKind::Expr(value)
            }
        }
    }
}

fn not_assignable(equal: Span, target: &Expr) -> Diagnostic {
    let diagnostic = Diagnostic::error(target.span, "only a variable can be assigned to");
    match target.kind {
        ExprKind::Index { .. } => diagnostic.hint("tensors and lists do not change: make a new one and assign that"),
        ExprKind::Binary { .. } | ExprKind::Unary { .. } => diagnostic.label(equal, "to compare, write `==`"),
        _ => diagnostic,
    }
}

fn begins_statement(kind: TokenKind) -> bool {
    use TokenKind::*;
    kind.begins_only_statements()
        || matches!(kind, Identifier | If | Break | Continue | With | BufferTrace | OpenBrace | CloseBrace)
}

/// Whether the statement is an expression whose value should have been used.
fn has_unused_value(statement: &Statement) -> bool {
    match &statement.kind {
        StatementKind::Expr(expr) => !matches!(
            expr.kind,
            ExprKind::If { .. } | ExprKind::Block(_) | ExprKind::With { .. } | ExprKind::Trace { .. } | ExprKind::Error
        ),
        _ => false,
    }
}
