//! The parser's state: its position in the tokens, its diagnostics, its nesting.

use std::sync::Arc;

use crate::ast::{Expr, ExprKind, Name};
use crate::token::{Token, TokenKind};
use crate::tree_height::MAX_TREE_HEIGHT;
use crate::{Diagnostic, Span};

/// The deepest nesting of brackets, blocks and prefixes.
pub(super) const MAX_NESTING: u32 = 200;

/// The most diagnostics that are reported.
pub(super) const MAX_DIAGNOSTICS: usize = 50;

pub(super) struct Parser<'a> {
    pub(super) text: &'a str,
    /// Ends with an `End`.
    pub(super) tokens: Vec<Token>,
    pub(super) position: usize,
    pub(super) nesting: u32,
    /// Set by an error, cleared at the end of the statement; meanwhile nothing is reported.
    pub(super) recovering: bool,
    /// Set when parsing was abandoned; nothing is reported any more.
    pub(super) gave_up: bool,
    pub(super) diagnostics: Vec<Diagnostic>,
    /// Whether a `,` separates elements of a list around this point, so that it continues no query.
    pub(super) in_list: bool,
    /// The token at which a block was found to be unclosed: the blocks around it are not reported too.
    pub(super) unclosed_at: Option<usize>,
}

impl<'a> Parser<'a> {
    pub(super) fn new(text: &'a str, tokens: Vec<Token>, diagnostics: Vec<Diagnostic>) -> Parser<'a> {
        Parser {
            text,
            tokens,
            position: 0,
            nesting: 0,
            recovering: false,
            gave_up: false,
            diagnostics,
            in_list: false,
            unclosed_at: None,
        }
    }

    pub(super) fn token(&self) -> Token {
        self.ahead(0)
    }

    pub(super) fn kind(&self) -> TokenKind {
        self.token().kind
    }

    pub(super) fn ahead(&self, by: usize) -> Token {
        let end = Token { kind: TokenKind::End, span: Span::default() };
        self.tokens.get(self.position + by).or(self.tokens.last()).copied().unwrap_or(end)
    }

    /// The token before the current one.
    pub(super) fn previous(&self) -> Token {
        match self.position.checked_sub(1) {
            Some(at) => self.tokens.get(at).copied().unwrap_or(self.token()),
            None => self.token(),
        }
    }

    pub(super) fn advance(&mut self) -> Token {
        let token = self.token();
        if token.kind != TokenKind::End {
            self.position += 1;
        }
        token
    }

    pub(super) fn at(&self, kind: TokenKind) -> bool {
        self.kind() == kind
    }

    pub(super) fn eat(&mut self, kind: TokenKind) -> bool {
        let found = self.at(kind);
        if found {
            self.advance();
        }
        found
    }

    pub(super) fn slice(&self, span: Span) -> &str {
        self.text.get(span.start as usize..span.end as usize).unwrap_or("")
    }

    /// From `start` to the end of the last token that was read.
    pub(super) fn span_from(&self, start: Span) -> Span {
        let previous = self.previous().span;
        if previous.end <= start.start { start } else { start.to(previous) }
    }

    pub(super) fn report(&mut self, diagnostic: Diagnostic) {
        if self.recovering || self.gave_up {
            return;
        }
        self.recovering = true;
        self.report_and_continue(diagnostic);
    }

    /// Reports an error after which parsing continues as if there were none.
    pub(super) fn report_and_continue(&mut self, diagnostic: Diagnostic) {
        if self.gave_up {
            return;
        }
        let span = diagnostic.span();
        self.diagnostics.push(diagnostic);
        if self.diagnostics.len() >= MAX_DIAGNOSTICS {
            self.diagnostics.push(Diagnostic::error(span, "too many errors: what follows was not looked at"));
            self.give_up();
        }
    }

    pub(super) fn give_up(&mut self) {
        self.gave_up = true;
        self.position = self.tokens.len().saturating_sub(1);
    }

    /// The current token, for messages.
    pub(super) fn found(&self) -> String {
        let token = self.token();
        match token.kind {
            TokenKind::Identifier | TokenKind::Int | TokenKind::Float | TokenKind::Unknown => {
                format!("`{}`", self.slice(token.span))
            }
            kind if kind.is_keyword() => format!("the keyword `{}`", self.slice(token.span)),
            kind if kind.describe() == "this" => format!("`{}`", self.slice(token.span)),
            kind => kind.describe().to_string(),
        }
    }

    pub(super) fn expected(&mut self, what: &str) -> Diagnostic {
        Diagnostic::error(self.token().span, format!("expected {what}, found {}", self.found()))
    }

    pub(super) fn expect(&mut self, kind: TokenKind, context: &str) -> bool {
        let found = self.eat(kind);
        if !found {
            let what = format!("{}{context}", kind.describe());
            let diagnostic = self.expected(&what);
            self.report(diagnostic);
        }
        found
    }

    /// A name; an empty one, with a report, if there is none.
    pub(super) fn name(&mut self, what: &str) -> Name {
        let token = self.token();
        if token.kind == TokenKind::Identifier {
            self.advance();
            return Name { text: self.slice(token.span).into(), span: token.span };
        }
        let mut diagnostic = self.expected(what);
        if token.kind.is_keyword() {
            diagnostic = diagnostic.hint("a keyword cannot be a name; choose another");
        }
        self.report(diagnostic);
        Name { text: Arc::from(""), span: token.span }
    }

    /// Runs a recursive part of the parser. Beyond the bound on nesting, gives `fallback` and abandons parsing.
    pub(super) fn nested<T>(&mut self, fallback: impl FnOnce(Span) -> T, part: impl FnOnce(&mut Self) -> T) -> T {
        if self.nesting >= MAX_NESTING {
            let span = self.token().span;
            let message = format!("this is nested more than {MAX_NESTING} levels deep");
            self.recovering = false;
            self.report(Diagnostic::error(span, message).hint("give the inner parts names with `let`"));
            self.give_up();
            return fallback(span);
        }
        self.nesting += 1;
        let result = part(self);
        self.nesting -= 1;
        result
    }

    /// Runs a part of the parser inside or outside of a list.
    pub(super) fn with_list<T>(&mut self, in_list: bool, part: impl FnOnce(&mut Self) -> T) -> T {
        let before = std::mem::replace(&mut self.in_list, in_list);
        let result = part(self);
        self.in_list = before;
        result
    }

    /// Whether the current token is this word, which is a name elsewhere.
    pub(super) fn at_word(&self, word: &str) -> bool {
        self.at(TokenKind::Identifier) && self.slice(self.token().span) == word
    }

    /// Makes an expression; an error if the tree grows too high.
    pub(super) fn node(&mut self, kind: ExprKind, span: Span) -> Expr {
        let expr = Expr::new(kind, span);
        if expr.height >= MAX_TREE_HEIGHT {
            let message = format!("this expression has more than {MAX_TREE_HEIGHT} levels");
            self.report(Diagnostic::error(span, message).hint("split it with `let`"));
            return Expr::error(span);
        }
        expr
    }

    /// Whether the current token begins an item at the start of a line, which no block contains: one above is not closed.
    pub(super) fn at_item_line(&self) -> bool {
        use TokenKind::{Fn, Impl, Import, Main, Struct};
        let start = self.token().span.start as usize;
        matches!(self.kind(), Fn | Import | Main | Struct | Impl)
            && self.text.get(..start).is_some_and(|before| before.ends_with('\n'))
    }

    /// Skips `{ … }` with its contents; the current token is the `{`.
    pub(super) fn skip_braces(&mut self) {
        let mut depth = 0_usize;
        loop {
            match self.advance().kind {
                TokenKind::OpenBrace => depth += 1,
                TokenKind::CloseBrace => depth = depth.saturating_sub(1),
                TokenKind::End => return,
                _ => {}
            }
            if depth == 0 {
                return;
            }
        }
    }

    /// After an error: skips to where the next statement may begin.
    pub(super) fn synchronize(&mut self) {
        loop {
            match self.kind() {
                TokenKind::Newline | TokenKind::Semicolon | TokenKind::CloseBrace | TokenKind::End => return,
                TokenKind::OpenBrace => self.skip_braces(),
                _ => drop(self.advance()),
            }
        }
    }
}
