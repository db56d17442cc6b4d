//! Expressions: precedence climbing over prefix, binary and postfix operators.

use crate::Diagnostic;
use crate::ast::{Argument, BinaryOperator, Block, Expr, ExprKind, Index, Name, UnaryOperator};
use crate::parser::cursor::Parser;
use crate::token::TokenKind;

/// Precedence of operators; a larger number binds tighter.
mod binding {
    pub(super) const OR: u8 = 1;
    pub(super) const AND: u8 = 2;
    pub(super) const NOT: u8 = 3;
    pub(super) const COMPARISON: u8 = 4;
    pub(super) const RANGE: u8 = 5;
    pub(super) const SUM: u8 = 6;
    pub(super) const PRODUCT: u8 = 7;
    pub(super) const MATMUL: u8 = 8;
    pub(super) const AS: u8 = 9;
    pub(super) const NEGATE: u8 = 10;
    pub(super) const POWER: u8 = 11;
}

fn binary_operator(kind: TokenKind) -> Option<(BinaryOperator, u8)> {
    Some(match kind {
        TokenKind::Or => (BinaryOperator::Or, binding::OR),
        TokenKind::And => (BinaryOperator::And, binding::AND),
        TokenKind::EqualEqual => (BinaryOperator::Equal, binding::COMPARISON),
        TokenKind::NotEqual => (BinaryOperator::NotEqual, binding::COMPARISON),
        TokenKind::Less => (BinaryOperator::Less, binding::COMPARISON),
        TokenKind::LessEqual => (BinaryOperator::LessEqual, binding::COMPARISON),
        TokenKind::Greater => (BinaryOperator::Greater, binding::COMPARISON),
        TokenKind::GreaterEqual => (BinaryOperator::GreaterEqual, binding::COMPARISON),
        TokenKind::In => (BinaryOperator::In, binding::COMPARISON),
        TokenKind::Plus => (BinaryOperator::Add, binding::SUM),
        TokenKind::Minus => (BinaryOperator::Subtract, binding::SUM),
        TokenKind::Star => (BinaryOperator::Multiply, binding::PRODUCT),
        TokenKind::Slash => (BinaryOperator::Divide, binding::PRODUCT),
        TokenKind::Percent => (BinaryOperator::Remainder, binding::PRODUCT),
        TokenKind::At => (BinaryOperator::MatMul, binding::MATMUL),
        TokenKind::StarStar => (BinaryOperator::Power, binding::POWER),
        _ => return None,
    })
}

/// Whether it is a comparison without parentheses, which would extend its span beyond its right side.
fn is_comparison(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Binary { operator, right, .. } => operator.is_comparison() && expr.span.end == right.span.end,
        _ => false,
    }
}

impl Parser<'_> {
    pub(super) fn expression(&mut self) -> Expr {
        self.operation(0)
    }

    /// An expression whose operators bind at least as tightly as `minimum`.
    fn operation(&mut self, minimum: u8) -> Expr {
        self.nested(Expr::error, |parser| {
            let left = parser.prefix(minimum);
            parser.continued(left, minimum)
        })
    }

    /// The expression that begins with `left`, whose further operators bind at least as tightly as `minimum`.
    fn continued(&mut self, mut left: Expr, minimum: u8) -> Expr {
        while let Some(next) = self.next_operator(&left, minimum) {
            left = self.apply_operator(left, next);
        }
        left
    }

    fn next_operator(&mut self, left: &Expr, minimum: u8) -> Option<TokenKind> {
        let kind = self.kind();
        let tightness = match kind {
            TokenKind::As => binding::AS,
            TokenKind::DotDot => binding::RANGE,
            // `a not in b`
            TokenKind::Not if self.ahead(1).kind == TokenKind::In => binding::COMPARISON,
            _ => binary_operator(kind)?.1,
        };
        if tightness == binding::COMPARISON && tightness >= minimum && is_comparison(left) {
            let diagnostic = Diagnostic::error(self.token().span, "comparisons cannot be chained");
            self.report(diagnostic.hint("write `a < b and b < c`"));
        }
        (tightness >= minimum).then_some(kind)
    }

    fn apply_operator(&mut self, left: Expr, kind: TokenKind) -> Expr {
        let operator_span = self.advance().span;
        let start = left.span;
        let is_chained = is_comparison(&left);
        let left = Box::new(left);
        let node = match (kind, binary_operator(kind)) {
            (TokenKind::Not, _) => {
                let operator_span = operator_span.to(self.advance().span);
                let right = Box::new(self.operation(binding::COMPARISON + 1));
                let operator = BinaryOperator::In;
                let contains =
                    self.node(ExprKind::Binary { operator, operator_span, left, right }, self.span_from(start));
                ExprKind::Unary { operator: UnaryOperator::Not, operand: Box::new(contains) }
            }
            (TokenKind::As, _) => ExprKind::As { operand: left, ty: self.ty_or_dtype() },
            (TokenKind::DotDot, _) => {
                if !self.begins_expression() {
                    let diagnostic = Diagnostic::error(operator_span, "this range has no end");
                    self.report(diagnostic.hint("write `a..b`; `b` itself does not belong to the range"));
                    return Expr::error(operator_span);
                }
                ExprKind::Range { start: left, end: Box::new(self.operation(binding::RANGE + 1)) }
            }
            (_, Some((operator @ BinaryOperator::Power, tightness))) => {
                // `**` is right-associative, and its right side may begin with `-`.
                let right = Box::new(self.operation(tightness));
                ExprKind::Binary { operator, operator_span, left, right }
            }
            (_, Some((operator, tightness))) => {
                let right = Box::new(self.operation(tightness + 1));
                if is_chained && tightness == binding::COMPARISON {
                    return Expr::error(self.span_from(start));
                }
                ExprKind::Binary { operator, operator_span, left, right }
            }
            (_, None) => ExprKind::Error,
        };
        let span = self.span_from(start);
        self.node(node, span)
    }

    fn begins_expression(&self) -> bool {
        use TokenKind::*;
        matches!(
            self.kind(),
            Identifier
                | Int
                | Float
                | BadNumber
                | Str
                | FormatStr
                | True
                | False
                | OpenParen
                | OpenBracket
                | Minus
                | Not
                | If
                | With
                | BufferTrace
        )
    }

    fn prefix(&mut self, minimum: u8) -> Expr {
        let start = self.token().span;
        let (operator, tightness) = match self.kind() {
            TokenKind::Minus => (UnaryOperator::Negate, binding::NEGATE),
            TokenKind::Not => (UnaryOperator::Not, binding::NOT),
            _ => return self.postfix(),
        };
        self.advance();
        if operator == UnaryOperator::Not && minimum > binding::NOT {
            let diagnostic = Diagnostic::error(start, "`not` cannot stand behind this operator");
            self.report(diagnostic.hint("put it in parentheses: `(not x)`"));
        }
        if operator == UnaryOperator::Negate && self.at_min_int_size() {
            let number = self.number(true);
            return Expr { span: start.to(number.span), ..number };
        }
        let operand = Box::new(self.operation(tightness));
        let span = self.span_from(start);
        self.node(ExprKind::Unary { operator, operand }, span)
    }

    /// An operand with its fields, indices and method calls.
    fn postfix(&mut self) -> Expr {
        let mut expr = self.primary();
        loop {
            let start = expr.span;
            let kind = match self.kind() {
                TokenKind::Dot => self.member(expr),
                TokenKind::OpenBracket => self.index(expr),
                TokenKind::Question => self.optional(expr),
                TokenKind::OpenParen if !matches!(expr.kind, ExprKind::Error) => {
                    let diagnostic = Diagnostic::error(expr.span, "only a function's name can be called");
                    self.report(diagnostic);
                    self.arguments();
                    ExprKind::Error
                }
                _ => return expr,
            };
            let span = self.span_from(start);
            expr = self.node(kind, span);
        }
    }

    fn member(&mut self, receiver: Expr) -> ExprKind {
        self.advance();
        if let (ExprKind::Float(_) | ExprKind::Int(_), TokenKind::Int | TokenKind::Float) =
            (&receiver.kind, self.kind())
        {
            let span = receiver.span.to(self.advance().span);
            let message = format!("`{}` is not a number", self.slice(span));
            self.report(Diagnostic::error(span, message).hint("a number has one decimal point"));
            return ExprKind::Error;
        }
        let receiver = Box::new(receiver);
        let name = self.name("the name of a field or method");
        if name.text.is_empty() {
            return ExprKind::Error;
        }
        if let ExprKind::Name(module) = &receiver.kind
            && self.at_struct_literal()
        {
            let module = Name { text: module.clone(), span: receiver.span };
            return self.struct_literal(Some(module), name);
        }
        if let ExprKind::Name(module) = &receiver.kind
            && self.at(TokenKind::ColonColon)
        {
            self.advance();
            let module = Some(Name { text: module.clone(), span: receiver.span });
            let (qualifier, name) = (Some(name), self.name("the function's name"));
            if !self.at(TokenKind::OpenParen) {
                let diagnostic = self.expected("`(` and the arguments");
                self.report(diagnostic);
                return ExprKind::Error;
            }
            return ExprKind::Call { module, qualifier, name, arguments: self.arguments() };
        }
        if self.at(TokenKind::OpenParen) {
            return ExprKind::Method { receiver, name, arguments: self.arguments() };
        }
        ExprKind::Field { receiver, name }
    }

    /// `path?`; the current token is the `?`.
    fn optional(&mut self, path: Expr) -> ExprKind {
        let question = self.advance().span;
        if !matches!(path.kind, ExprKind::Field { .. } | ExprKind::Error) {
            let diagnostic = Diagnostic::error(question, "`?` stands behind a part of a model only");
            self.report_and_continue(diagnostic.hint("as in `model.output.weight?`, which is that tensor or `none`"));
            return ExprKind::Error;
        }
        ExprKind::Optional(Box::new(path))
    }

    /// `(a, name: b)`; the current token is the `(`.
    fn arguments(&mut self) -> Vec<Argument> {
        self.advance();
        let mut arguments: Vec<Argument> = Vec::new();
        self.comma_list(TokenKind::CloseParen, |parser| {
            let name = parser.argument_name();
            let value = parser.expression();
            if name.is_none() && arguments.last().is_some_and(|last| last.name.is_some()) {
                let diagnostic =
                    Diagnostic::error(value.span, "an argument without a name stands behind one with a name");
                parser.report_and_continue(diagnostic.hint("put the arguments without names first"));
            }
            arguments.push(Argument { name, value });
        });
        arguments
    }

    /// The name before an argument, if one stands there.
    fn argument_name(&mut self) -> Option<Name> {
        let sign = self.ahead(1);
        if !self.at(TokenKind::Identifier) || !matches!(sign.kind, TokenKind::Colon | TokenKind::Equal) {
            return None;
        }
        let name = self.name("an argument's name");
        self.advance();
        if sign.kind == TokenKind::Equal {
            let diagnostic = Diagnostic::error(sign.span, "an argument's name stands before a `:`, not before a `=`");
            self.report_and_continue(diagnostic.hint(format!("write `{}: …`", name.text)));
        }
        Some(name)
    }

    fn index(&mut self, receiver: Expr) -> ExprKind {
        let open = self.advance().span;
        let mut indices = Vec::new();
        self.comma_list(TokenKind::CloseBracket, |parser| {
            let index = parser.one_index();
            indices.push(index);
        });
        if indices.is_empty() {
            self.report(Diagnostic::error(open, "an index is missing").hint("as in `x[0]`, `x[1..4]`, `x[.., 3]`"));
        }
        ExprKind::Index { receiver: Box::new(receiver), indices }
    }

    fn one_index(&mut self) -> Index {
        let first = self.token().span;
        let ends = |parser: &Self| matches!(parser.kind(), TokenKind::Comma | TokenKind::CloseBracket);
        let start = (!self.at(TokenKind::DotDot)).then(|| self.operation(binding::RANGE + 1));
        if !self.at(TokenKind::DotDot) {
            return match start {
                Some(at) => Index::At(self.continued(at, 0)),
                None => Index::At(Expr::error(first)),
            };
        }
        self.advance();
        let end = (!ends(self)).then(|| self.operation(binding::RANGE + 1));
        Index::Slice { start, end, span: self.span_from(first) }
    }

    pub(super) fn primary(&mut self) -> Expr {
        let token = self.token();
        let kind = match token.kind {
            TokenKind::Int | TokenKind::Float | TokenKind::BadNumber => return self.number(false),
            TokenKind::Str => {
                self.advance();
                ExprKind::Str(self.string(token.span))
            }
            TokenKind::FormatStr => {
                self.advance();
                self.format_string(token.span)
            }
            TokenKind::True | TokenKind::False => {
                self.advance();
                ExprKind::Bool(token.kind == TokenKind::True)
            }
            TokenKind::Identifier if self.at_query() => self.query(),
            TokenKind::Identifier => self.name_or_call(),
            TokenKind::OpenParen => return self.parenthesized(),
            TokenKind::OpenBracket => {
                self.advance();
                let mut elements = Vec::new();
                self.comma_list(TokenKind::CloseBracket, |parser| {
                    let element = parser.expression();
                    elements.push(element);
                });
                ExprKind::List(elements)
            }
            TokenKind::OpenBrace if self.at_map() => self.map(),
            TokenKind::OpenBrace => ExprKind::Block(self.block("this expression")),
            TokenKind::If => self.if_expression(),
            TokenKind::With => {
                self.advance();
                let buffer = Box::new(self.expression());
                ExprKind::With { buffer, body: self.block("`with`") }
            }
            TokenKind::BufferTrace => {
                self.advance();
                ExprKind::Trace { body: self.block("`buffer_trace`") }
            }
            TokenKind::Learn => {
                self.reserved_word();
                ExprKind::Error
            }
            _ => {
                let diagnostic = self.expected("an expression");
                self.report(diagnostic);
                return Expr::error(token.span);
            }
        };
        let span = self.span_from(token.span);
        self.node(kind, span)
    }

    fn name_or_call(&mut self) -> ExprKind {
        let mut name = self.name("a name");
        let mut qualifier = None;
        if self.eat(TokenKind::ColonColon) {
            qualifier = Some(name);
            name = self.name("the function's name");
        }
        if self.at(TokenKind::OpenParen) {
            return ExprKind::Call { module: None, qualifier, name, arguments: self.arguments() };
        }
        if self.at_struct_literal() && qualifier.is_none() {
            return self.struct_literal(None, name);
        }
        if let Some(qualifier) = qualifier {
            let message = format!("`{}::{}` is a function: call it with `(…)`", qualifier.text, name.text);
            self.report_and_continue(Diagnostic::error(qualifier.span.to(name.span), message));
            return ExprKind::Error;
        }
        ExprKind::Name(name.text)
    }

    /// Whether the current `{` begins the fields of a struct literal, and not a block.
    fn at_struct_literal(&self) -> bool {
        self.at(TokenKind::OpenBrace)
            && self.ahead(1).kind == TokenKind::Identifier
            && self.ahead(2).kind == TokenKind::Colon
    }

    /// `Name { field: value, … }`; the current token is the `{`.
    fn struct_literal(&mut self, module: Option<Name>, name: Name) -> ExprKind {
        self.advance();
        let mut fields = Vec::new();
        self.comma_list(TokenKind::CloseBrace, |parser| {
            let field = parser.name("a field's name");
            parser.expect(TokenKind::Colon, " behind the field's name");
            let value = parser.expression();
            fields.push((field, value));
        });
        ExprKind::Struct { module, name, fields }
    }

    /// Whether the current `{` begins a map, and not a block.
    fn at_map(&self) -> bool {
        use TokenKind::*;
        match self.ahead(1).kind {
            CloseBrace => true,
            Identifier | Int | Str | FormatStr => self.ahead(2).kind == Colon,
            Minus => self.ahead(2).kind == Int && self.ahead(3).kind == Colon,
            _ => false,
        }
    }

    /// `{key: value, …}`; the current token is the `{`.
    fn map(&mut self) -> ExprKind {
        self.advance();
        let mut entries = Vec::new();
        self.comma_list(TokenKind::CloseBrace, |parser| {
            let key = parser.expression();
            parser.expect(TokenKind::Colon, " and the key's value");
            let value = parser.expression();
            entries.push((key, value));
        });
        ExprKind::Map(entries)
    }

    /// `()` or `(expression)`.
    fn parenthesized(&mut self) -> Expr {
        let open = self.advance().span;
        if self.eat(TokenKind::CloseParen) {
            return Expr::new(ExprKind::Unit, self.span_from(open));
        }
        let inner = self.with_list(false, Self::expression);
        if self.at(TokenKind::Comma) {
            let diagnostic = Diagnostic::error(self.token().span, "there are no tuples");
            self.report(diagnostic.hint("a list is written with brackets: `[a, b]`"));
        }
        if !self.eat(TokenKind::CloseParen) {
            self.report(Diagnostic::error(open, "this `(` is never closed"));
        }
        Expr { span: self.span_from(open), ..inner }
    }

    fn if_expression(&mut self) -> ExprKind {
        let mut branches: Vec<(Expr, Block)> = Vec::new();
        let mut otherwise = None;
        loop {
            let start = self.advance().span;
            if self.at(TokenKind::Let) {
                let kind = self.if_let();
                if branches.is_empty() {
                    return kind;
                }
                otherwise = Some(Block::of(self.node(kind, self.span_from(start))));
                break;
            }
            let condition = self.expression();
            branches.push((condition, self.block("`if`")));
            if !self.eat(TokenKind::Else) {
                break;
            }
            if !self.at(TokenKind::If) {
                otherwise = Some(self.block("`else`"));
                break;
            }
        }
        ExprKind::If { branches, otherwise }
    }

    /// `if let name = value {…} else {…}`; the current token is the `let`.
    fn if_let(&mut self) -> ExprKind {
        self.advance();
        let name = self.name("a name");
        self.expect(TokenKind::Equal, " behind the name");
        let value = Box::new(self.expression());
        let then = self.block("`if`");
        let mut otherwise = None;
        if self.eat(TokenKind::Else) {
            otherwise = Some(match self.at(TokenKind::If) {
                false => self.block("`else`"),
                true => {
                    let start = self.token().span;
                    let kind = self.nested(|_| ExprKind::Error, |parser| parser.if_expression());
                    Block::of(self.node(kind, self.span_from(start)))
                }
            });
        }
        ExprKind::IfLet { name, value, then, otherwise }
    }
}
