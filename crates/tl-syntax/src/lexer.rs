//! Text to tokens, with only those newlines that end a statement.
//!
//! A newline is dropped inside `(` and `[`, after a token that cannot end a statement, and before a token that cannot begin one.
//! So the parser needs no rule about lines except the one for `-`.

use std::ops::Range;

use logos::Logos;

use crate::token::{Token, TokenKind};
use crate::{Diagnostic, FileId, Span};

/// The tokens and comments of a text.
pub(crate) struct Lexed {
    /// The last one is `End`.
    pub(crate) tokens: Vec<Token>,
    /// In the order of the text; an unclosed one is not among them.
    pub(crate) comments: Vec<Span>,
}

/// Takes a text apart.
pub(crate) fn tokenize(file: FileId, text: &str, diagnostics: &mut Vec<Diagnostic>) -> Lexed {
    tokenize_at(file, 0, text, diagnostics)
}

/// Takes a part of a text apart, which begins at `offset`.
pub(crate) fn tokenize_at(file: FileId, offset: u32, text: &str, diagnostics: &mut Vec<Diagnostic>) -> Lexed {
    let span_of =
        |range: Range<usize>| Span { file, start: offset + range.start as u32, end: offset + range.end as u32 };
    let mut newlines = Newlines::default();
    let mut lexer = TokenKind::lexer(text);
    let mut has_hash_comments = false;
    while let Some(kind) = lexer.next() {
        let span = span_of(lexer.span());
        match kind {
            Ok(TokenKind::HashComment) => {
                if !std::mem::replace(&mut has_hash_comments, true) {
                    let sign = Span { end: span.start + 1, ..span };
                    let diagnostic = Diagnostic::error(sign, "`#` does not begin a comment");
                    diagnostics.push(diagnostic.hint("comments are written `// …` and `/* … */`"));
                }
            }
            Ok(foreign @ (TokenKind::AmpAmp | TokenKind::PipePipe | TokenKind::Bang)) => {
                let (kind, word) = match foreign {
                    TokenKind::AmpAmp => (TokenKind::And, "and"),
                    TokenKind::PipePipe => (TokenKind::Or, "or"),
                    _ => (TokenKind::Not, "not"),
                };
                let sign = lexer.slice();
                let diagnostic = Diagnostic::error(span, format!("`{sign}` is not an operator"));
                diagnostics.push(diagnostic.hint(format!("write `{word}`")));
                newlines.push(Token { kind, span });
            }
            Ok(TokenKind::OpenComment) => {
                let opening = Span { end: span.start + 2, ..span };
                diagnostics.push(Diagnostic::error(opening, "this comment is never closed").hint("close it with `*/`"));
            }
            Ok(kind) => newlines.push(Token { kind, span }),
            Err(()) => newlines.push(Token { kind: TokenKind::Unknown, span }),
        }
    }
    let end = offset + text.len() as u32;
    let tokens = newlines.finish(Token { kind: TokenKind::End, span: Span { file, start: end, end } });
    Lexed { tokens, comments: lexer.extras.drain(..).map(span_of).collect() }
}

/// Whether a text breaks off: a bracket or a comment is open, or its last line expects another one.
pub fn is_open(text: &str) -> bool {
    let Lexed { tokens, .. } = tokenize(FileId::default(), text, &mut Vec::new());
    let mut newlines = Newlines::default();
    tokens.iter().for_each(|token| newlines.track_brackets(token.kind));
    let last =
        tokens.iter().rev().map(|token| token.kind).find(|kind| !matches!(kind, TokenKind::End | TokenKind::Newline));
    let expects_more = last.is_some_and(|last| last != TokenKind::Semicolon && expects_more(last));
    has_open_comment(text) || !newlines.open.is_empty() || expects_more
}

fn has_open_comment(text: &str) -> bool {
    text.contains("/*") && TokenKind::lexer(text).any(|token| token == Ok(TokenKind::OpenComment))
}

#[derive(Default)]
struct Newlines {
    tokens: Vec<Token>,
    /// The open brackets around the next token.
    open: Vec<TokenKind>,
    /// A newline that ends the statement unless the next token continues it.
    pending: Option<Token>,
}

impl Newlines {
    fn push(&mut self, token: Token) {
        if token.kind == TokenKind::Newline {
            self.pending = self.pending.or(Some(token));
            return;
        }
        if let Some(newline) = self.pending.take()
            && self.ends_statement(token.kind)
        {
            self.tokens.push(newline);
        }
        self.track_brackets(token.kind);
        self.tokens.push(token);
    }

    fn ends_statement(&mut self, next: TokenKind) -> bool {
        if let Some(TokenKind::OpenParen | TokenKind::OpenBracket) = self.open.last() {
            // An unclosed bracket must not swallow the rest of the file.
            if !next.begins_only_statements() {
                return false;
            }
            while let Some(TokenKind::OpenParen | TokenKind::OpenBracket) = self.open.last() {
                self.open.pop();
            }
            return true;
        }
        let Some(last) = self.tokens.last() else { return false };
        let continues = continues_line(next) || (next == TokenKind::Else && last.kind == TokenKind::CloseBrace);
        !expects_more(last.kind) && !continues
    }

    fn track_brackets(&mut self, kind: TokenKind) {
        use TokenKind::*;
        match kind {
            OpenParen | OpenBracket | OpenBrace => self.open.push(kind),
            CloseParen if self.open.last() == Some(&OpenParen) => drop(self.open.pop()),
            CloseBracket if self.open.last() == Some(&OpenBracket) => drop(self.open.pop()),
            CloseBrace => {
                // A brace closes the brackets left open inside it.
                if let Some(at) = self.open.iter().rposition(|open| *open == OpenBrace) {
                    self.open.truncate(at);
                }
            }
            _ => {}
        }
    }

    fn finish(mut self, end: Token) -> Vec<Token> {
        self.tokens.extend(self.pending.take());
        self.tokens.push(end);
        self.tokens
    }
}

/// Whether a line that ends with this token continues.
fn expects_more(last: TokenKind) -> bool {
    use TokenKind::*;
    continues_line(last) && last != Dot
        || matches!(last, Minus | Comma | ColonEqual | Arrow | OpenBrace | Semicolon | In)
}

/// Whether a line that begins with this token continues the line before.
fn continues_line(next: TokenKind) -> bool {
    use TokenKind::*;
    matches!(
        next,
        Dot | DotDot
            | Plus
            | At
            | Star
            | Slash
            | Percent
            | StarStar
            | EqualEqual
            | NotEqual
            | Less
            | LessEqual
            | Greater
            | GreaterEqual
            | Equal
            | PlusEqual
            | MinusEqual
            | StarEqual
            | SlashEqual
            | PercentEqual
            | StarStarEqual
            | AtEqual
            | And
            | Or
            | As
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kinds of the tokens, a newline as `|`.
    fn check(text: &str, expected: &str) {
        let mut diagnostics = Vec::new();
        let Lexed { tokens, .. } = tokenize(FileId(0), text, &mut diagnostics);
        let shown: Vec<&str> = tokens
            .iter()
            .filter(|token| token.kind != TokenKind::End)
            .map(|token| match token.kind {
                TokenKind::Newline => "|",
                _ => &text[token.span.start as usize..token.span.end as usize],
            })
            .collect();
        assert_eq!(shown.join(" "), expected, "{text:?}");
    }

    #[test]
    fn texts_that_break_off() {
        for (text, expected) in [
            ("", false),
            ("f(1)", false),
            ("f(1", true),
            ("fn f() {\n1", true),
            ("fn f() {\n1\n}", false),
            ("1 +", true),
            ("let x =\n\n", true),
            ("/* x", true),
            ("x; ", false),
            ("a && b", false),
            ("!a", false),
            ("# x", false),
            ("/* x */ a", false),
            ("f(1))", false),
            ("\"{", false),
        ] {
            assert_eq!(is_open(text), expected, "{text:?}");
        }
    }

    #[test]
    fn newlines_that_count() {
        for (text, expected) in [
            ("a\nb", "a | b"),
            ("\n\na\n\n\nb\n", "a | b |"),
            ("a;\nb", "a ; b"),
            ("f(\na,\nb\n)\nc", "f ( a , b ) | c"),
            ("f(if c {\na\nb\n}\n)", "f ( if c { a | b | } )"),
            ("x = [\n1\n]", "x = [ 1 ]"),
            ("a +\nb", "a + b"),
            ("a -\nb", "a - b"),
            ("a\n+ b", "a + b"),
            ("a\n- b", "a | - b"),
            ("a\n// said\n\n  /* and \n done */ .b", "a . b"),
            ("a\n@ b\nand c\nas int", "a @ b and c as int"),
            ("a\n(b)", "a | ( b )"),
            ("a\n[b]", "a | [ b ]"),
            ("if a { b }\nelse { c }", "if a { b } else { c }"),
            ("a\nelse", "a | else"),
            ("x =\n1\ny :=\n2", "x = 1 | y := 2"),
            ("x\n= 1", "x = 1"),
            ("fn f() ->\nint", "fn f ( ) -> int"),
            ("f(a\nlet b", "f ( a | let b"),
            ("{ ( }\na\nb", "{ ( } | a | b"),
            ("0..4 1.5.x 1..2", "0 .. 4 1.5 . x 1 .. 2"),
            ("1e5 1_0 0xFF 3x 1.5e 1e-5", "1e5 1_0 0xFF 3x 1.5e 1e-5"),
            ("/* a /* b */ c */ d", "d"),
            ("αβ _x9 π2", "αβ _x9 π2"),
            (r#""a\"b" "open"#, r#""a\"b" "open"#),
            ("a /* x", "a"),
            ("a \u{feff}\r\nb", "a | b"),
        ] {
            check(text, expected);
        }
    }
}
