//! Tokens to syntax tree, by recursive descent; operators by precedence climbing.
//!
//! Whatever the text, parsing ends and gives a tree: what cannot be read becomes an `Error` node. After an error nothing more
//! is reported until the statement's end. Depth is bounded twice: how far the parser recurses, and how high a tree may grow,
//! which a long chain such as `a + b + …` does without recursion. Passes behind this one may therefore recurse freely.

mod expressions;
mod items;
mod literals;
mod statements;
mod types;

use std::sync::Arc;

use crate::ast::{Expr, ExprKind, File, Name};
use crate::token::{Token, TokenKind};
use crate::{Diagnostic, FileId, Span, lexer};

/// How many levels an expression may have, nested blocks included.
pub const MAX_TREE_HEIGHT: u16 = 512;

/// How deep brackets, blocks and prefixes may be nested.
const MAX_NESTING: u32 = 200;

/// Behind this many nobody reads on.
const MAX_DIAGNOSTICS: usize = 50;

/// What parsing gives.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// Everything that could be read.
    pub tree: File,
    /// What was wrong, in the order of the text. Empty means that the tree is what was written.
    pub diagnostics: Vec<Diagnostic>,
}

/// Parses one file. Never fails: see [`Parsed`].
pub fn parse(file: FileId, text: &str) -> Parsed {
    let mut diagnostics = Vec::new();
    if u32::try_from(text.len()).is_err() {
        let span = Span { file, start: 0, end: 0 };
        diagnostics.push(Diagnostic::error(span, "the file is larger than 4 GiB"));
        return Parsed { tree: File::default(), diagnostics };
    }
    let tokens = lexer::tokenize(file, text, &mut diagnostics);
    let mut parser = Parser { text, tokens, position: 0, nesting: 0, recovering: false, gave_up: false, diagnostics };
    let tree = parser.file();
    let mut diagnostics = parser.diagnostics;
    diagnostics.sort_by_key(|diagnostic| diagnostic.span().start);
    Parsed { tree, diagnostics }
}

struct Parser<'a> {
    text: &'a str,
    /// Ends with an `End`.
    tokens: Vec<Token>,
    position: usize,
    nesting: u32,
    /// Set by an error, cleared at the statement's end; meanwhile errors are kept quiet.
    recovering: bool,
    /// Set where reading on makes no sense; nothing is reported any more.
    gave_up: bool,
    diagnostics: Vec<Diagnostic>,
}

impl Parser<'_> {
    fn token(&self) -> Token {
        self.ahead(0)
    }

    fn kind(&self) -> TokenKind {
        self.token().kind
    }

    fn ahead(&self, by: usize) -> Token {
        let end = Token { kind: TokenKind::End, span: Span::default() };
        self.tokens.get(self.position + by).or(self.tokens.last()).copied().unwrap_or(end)
    }

    /// The token before the current one.
    fn previous(&self) -> Token {
        match self.position.checked_sub(1) {
            Some(at) => self.tokens.get(at).copied().unwrap_or(self.token()),
            None => self.token(),
        }
    }

    fn advance(&mut self) -> Token {
        let token = self.token();
        if token.kind != TokenKind::End {
            self.position += 1;
        }
        token
    }

    fn at(&self, kind: TokenKind) -> bool {
        self.kind() == kind
    }

    fn eat(&mut self, kind: TokenKind) -> bool {
        let found = self.at(kind);
        if found {
            self.advance();
        }
        found
    }

    fn slice(&self, span: Span) -> &str {
        self.text.get(span.start as usize..span.end as usize).unwrap_or("")
    }

    /// From `start` to the end of what was read last.
    fn span_from(&self, start: Span) -> Span {
        let previous = self.previous().span;
        if previous.end <= start.start { start } else { start.to(previous) }
    }

    fn report(&mut self, diagnostic: Diagnostic) {
        if self.recovering || self.gave_up {
            return;
        }
        self.recovering = true;
        self.report_and_go_on(diagnostic);
    }

    /// For what is wrong without upsetting the reading.
    fn report_and_go_on(&mut self, diagnostic: Diagnostic) {
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

    fn give_up(&mut self) {
        self.gave_up = true;
        self.position = self.tokens.len().saturating_sub(1);
    }

    /// How a message shows the current token.
    fn found(&self) -> String {
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

    fn expected(&mut self, what: &str) -> Diagnostic {
        Diagnostic::error(self.token().span, format!("expected {what}, found {}", self.found()))
    }

    fn expect(&mut self, kind: TokenKind, context: &str) -> bool {
        let found = self.eat(kind);
        if !found {
            let what = format!("{}{context}", kind.describe());
            let diagnostic = self.expected(&what);
            self.report(diagnostic);
        }
        found
    }

    /// A name; an empty one if there is none, which is reported.
    fn name(&mut self, what: &str) -> Name {
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

    /// Runs a part that may contain itself. Where that goes too deep, gives `fallback` and stops reading.
    fn nested<T>(&mut self, fallback: impl FnOnce(Span) -> T, part: impl FnOnce(&mut Self) -> T) -> T {
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

    /// Makes an expression, unless the tree would grow too high.
    fn node(&mut self, kind: ExprKind, span: Span) -> Expr {
        let height = expressions::height(&kind);
        if height >= MAX_TREE_HEIGHT {
            let message = format!("this expression has more than {MAX_TREE_HEIGHT} levels");
            self.report(Diagnostic::error(span, message).hint("split it with `let`"));
            return error_expr(span);
        }
        Expr { kind, span, height }
    }

    /// Reads over `{ … }` with everything inside; the current token is the `{`.
    fn skip_braces(&mut self) {
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

    /// After an error: reads on to where the next statement may begin.
    fn synchronize(&mut self) {
        loop {
            match self.kind() {
                TokenKind::Newline | TokenKind::Semicolon | TokenKind::CloseBrace | TokenKind::End => return,
                TokenKind::OpenBrace => self.skip_braces(),
                _ => drop(self.advance()),
            }
        }
    }
}

fn error_expr(span: Span) -> Expr {
    Expr { kind: ExprKind::Error, span, height: 0 }
}
