//! Blocks and statements, and their ends.

use crate::ast::{
    BinaryOperator, Block, Expr, ExprKind, Index, Name, Place, PlaceStep, Statement, StatementKind, TensorDeclaration,
    TensorStorage,
};
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
        let body = |parser: &mut Self| parser.with_list(false, Self::block_body);
        self.nested(|span| Block::new(Vec::new(), span), body)
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
            if matches!(self.kind(), TokenKind::CloseBrace | TokenKind::End) || self.at_item_line() {
                break;
            }
            if newline && self.at(TokenKind::Minus) && statements.last().is_some_and(has_unused_value) {
                let diagnostic = self.leading_minus();
                self.report_and_continue(diagnostic);
            }
            statements.push(self.statement());
            self.statement_end();
        }
        if !self.eat(TokenKind::CloseBrace) && self.unclosed_at.replace(self.position) != Some(self.position) {
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
            _ if self.at_item_line() => true,
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
            TokenKind::Fn | TokenKind::Import | TokenKind::Main | TokenKind::Struct | TokenKind::Impl => {
                let message =
                    format!("`{}` stands at the top level of a file, not inside a block", self.slice(token.span));
                self.report(Diagnostic::error(token.span, message));
                self.synchronize();
                StatementKind::Expr(Expr::error(token.span))
            }
            TokenKind::Identifier if self.ahead(1).kind == TokenKind::Identifier => self.foreign_word(),
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

    /// Two names in a row, the first as in other languages: `def f`, `const x`.
    fn foreign_word(&mut self) -> StatementKind {
        let word = self.token();
        let hint = match self.slice(word.span) {
            "def" | "func" | "function" | "fun" => "functions are declared with `fn name(x: int) -> int { … }`",
            "const" | "var" | "val" | "auto" | "int" | "float" | "string" | "bool" => {
                "variables are declared with `let name = …`"
            }
            "class" => "records are declared with `struct Name { field: type }`",
            "elif" | "elsif" => "write `else if`, on the line of the `}`",
            "from" | "use" | "include" => "files are imported with `import \"path.tl\"`",
            "entity" | "relation" | "fact" | "rule" => {
                let message =
                    format!("`{}` stands at the top level of a file, not inside a block", self.slice(word.span));
                self.report(Diagnostic::error(word.span, message));
                self.synchronize();
                return StatementKind::Expr(Expr::error(word.span));
            }
            _ => return self.expression_statement(),
        };
        let message = format!("`{}` is not a keyword", self.slice(word.span));
        self.report(Diagnostic::error(word.span, message).hint(hint));
        self.synchronize();
        StatementKind::Expr(Expr::error(word.span))
    }

    fn expression_statement(&mut self) -> StatementKind {
        let target = self.expression();
        let kind = self.kind();
        let operator = compound_operator(kind);
        if operator.is_none() && !matches!(kind, TokenKind::Equal | TokenKind::ColonEqual) {
            return StatementKind::Expr(target);
        }
        let equal = self.advance().span;
        let value = self.expression();
        let declares = kind == TokenKind::ColonEqual;
        let (span, diagnostic) = (target.span, not_assignable(equal, &target, operator.is_some()));
        match place(target) {
            Some(target) if !declares || target.steps.is_empty() => {
                StatementKind::Assign { target, declares, operator, value }
            }
            Some(_) => {
                let diagnostic = Diagnostic::error(span, "`:=` declares a variable, and this is a part of one");
                self.report_and_continue(diagnostic.hint("write `=`"));
                StatementKind::Expr(value)
            }
            None => {
                self.report_and_continue(diagnostic);
                StatementKind::Expr(value)
            }
        }
    }
}

/// The operator of an assignment such as `+=`.
fn compound_operator(kind: TokenKind) -> Option<BinaryOperator> {
    Some(match kind {
        TokenKind::PlusEqual => BinaryOperator::Add,
        TokenKind::MinusEqual => BinaryOperator::Subtract,
        TokenKind::StarEqual => BinaryOperator::Multiply,
        TokenKind::SlashEqual => BinaryOperator::Divide,
        TokenKind::PercentEqual => BinaryOperator::Remainder,
        TokenKind::StarStarEqual => BinaryOperator::Power,
        TokenKind::AtEqual => BinaryOperator::MatMul,
        _ => return None,
    })
}

/// What an expression names, if it can be assigned to.
fn place(target: Expr) -> Option<Place> {
    let span = target.span;
    let mut steps = Vec::new();
    let mut base = target;
    loop {
        base = match base.kind {
            ExprKind::Name(text) => {
                steps.reverse();
                return Some(Place { name: Name { text, span: base.span }, steps, span });
            }
            ExprKind::Field { receiver, name } => {
                steps.push(PlaceStep::Field(name));
                *receiver
            }
            ExprKind::Index { receiver, indices } => {
                for index in indices.into_iter().rev() {
                    let Index::At(at) = index else { return None };
                    steps.push(PlaceStep::Index(at));
                }
                *receiver
            }
            _ => return None,
        };
    }
}

fn not_assignable(equal: Span, target: &Expr, is_compound: bool) -> Diagnostic {
    let diagnostic = Diagnostic::error(target.span, "only a variable or a part of one can be assigned to");
    match target.kind {
        ExprKind::Index { .. } => diagnostic.hint("a slice does not change: make a new value and assign that"),
        ExprKind::Binary { .. } | ExprKind::Unary { .. } if !is_compound => {
            diagnostic.label(equal, "to compare, write `==`")
        }
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
