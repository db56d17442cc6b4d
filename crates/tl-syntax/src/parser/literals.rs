//! The values of numbers and strings.

use std::sync::Arc;

use crate::ast::{Expr, ExprKind};
use crate::parser::cursor::Parser;
use crate::token::TokenKind;
use crate::{Diagnostic, Span};

/// For messages.
pub(super) const ESCAPES: &str = "the escapes are \\n \\t \\r \\0 \\\\ \\\" \\' and \\u{1F600}";

/// The absolute value of the smallest `int`, one more than the largest.
const MIN_INT_SIZE: u64 = 1 << 63;

impl Parser<'_> {
    /// A number as an expression; `negative`: a `-` stands directly before it.
    pub(super) fn number(&mut self, negative: bool) -> Expr {
        let token = self.advance();
        let kind = match token.kind {
            TokenKind::Float => ExprKind::Float(self.float(token.span)),
            TokenKind::Int => {
                let value = self.integer(token.span);
                match i64::try_from(value) {
                    Ok(value) => ExprKind::Int(value),
                    Err(_) if negative && value == MIN_INT_SIZE => ExprKind::Int(i64::MIN),
                    Err(_) => {
                        self.report_and_continue(too_large(token.span));
                        return Expr::error(token.span);
                    }
                }
            }
            _ => {
                let message = format!("`{}` is not a number", self.slice(token.span));
                let hint =
                    "a name does not begin with a digit; numbers are written `42`, `1_000`, `0xff`, `3.14`, `1e-5`";
                self.report_and_continue(Diagnostic::error(token.span, message).hint(hint));
                return Expr::error(token.span);
            }
        };
        Expr::new(kind, token.span)
    }

    /// Whether the current token is [`MIN_INT_SIZE`], which is valid only after a `-`.
    pub(super) fn at_min_int_size(&self) -> bool {
        self.at(TokenKind::Int) && integer_value(self.slice(self.token().span)) == Some(MIN_INT_SIZE)
    }

    pub(super) fn integer(&mut self, span: Span) -> u64 {
        match integer_value(self.slice(span)) {
            Some(value) => value,
            None if self.slice(span).trim_start_matches("0x").trim_matches('_').is_empty() => {
                self.report_and_continue(Diagnostic::error(span, "there are no digits behind `0x`"));
                0
            }
            None => {
                self.report_and_continue(too_large(span));
                0
            }
        }
    }

    fn float(&mut self, span: Span) -> f64 {
        let digits: String = self.slice(span).chars().filter(|c| *c != '_').collect();
        let value = digits.parse::<f64>().unwrap_or(f64::INFINITY);
        if value.is_infinite() {
            self.report_and_continue(Diagnostic::error(
                span,
                "this number is too large for a `float` (at most 1.8e308)",
            ));
            return 0.0;
        }
        value
    }

    /// The text that a string token means.
    pub(super) fn string(&mut self, span: Span) -> Arc<str> {
        let token = self.slice(span);
        let inner = token.strip_prefix('"').unwrap_or(token);
        let (inner, closed) = split_closing_quote(inner);
        let mut problem = None;
        let base = span.start + 1;
        let mut text = String::with_capacity(inner.len());
        let mut chars = inner.char_indices();
        while let Some((at, c)) = chars.next() {
            if c != '\\' {
                text.push(c);
                continue;
            }
            match escape(&mut chars) {
                Some(c) => text.push(c),
                None => {
                    let end = chars.as_str().len();
                    let escape = Span { start: base + at as u32, end: base + (inner.len() - end) as u32, ..span };
                    let diagnostic = Diagnostic::error(escape, "this escape means nothing");
                    problem = problem.or(Some(diagnostic.hint(ESCAPES)));
                }
            }
        }
        if !closed {
            // Errors in the rest of the statement would follow from this one, so this report suppresses them.
            let diagnostic = Diagnostic::error(span, "this string is not closed on its line");
            self.report(diagnostic.hint("a newline inside a string is written `\\n`"));
        } else if let Some(problem) = problem {
            self.report_and_continue(problem);
        }
        text.into()
    }
}

/// The text that a text with escapes means; `Err` if one of them means nothing.
pub(super) fn unescape(text: &str) -> Result<String, ()> {
    let mut result = String::with_capacity(text.len());
    let mut chars = text.char_indices();
    while let Some((_, c)) = chars.next() {
        result.push(if c == '\\' { escape(&mut chars).ok_or(())? } else { c });
    }
    Ok(result)
}

fn too_large(span: Span) -> Diagnostic {
    Diagnostic::error(span, "this number is too large for an `int` (at most 9223372036854775807)")
        .hint("write it with a decimal point to have a `float`")
}

fn integer_value(text: &str) -> Option<u64> {
    let digits: String = text.chars().filter(|c| *c != '_').collect();
    match digits.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => digits.parse().ok(),
    }
}

/// Removes the closing quote, unless it belongs to an escape.
fn split_closing_quote(inner: &str) -> (&str, bool) {
    match inner.strip_suffix('"') {
        Some(text) if text.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 0 => (text, true),
        _ => (inner, false),
    }
}

/// The character of the escape after a backslash.
fn escape(chars: &mut std::str::CharIndices<'_>) -> Option<char> {
    match chars.next()?.1 {
        'n' => Some('\n'),
        't' => Some('\t'),
        'r' => Some('\r'),
        '0' => Some('\0'),
        c @ ('\\' | '"' | '\'') => Some(c),
        'u' => {
            let rest = chars.as_str().strip_prefix('{')?;
            let digits = rest.get(..rest.find('}')?)?;
            for _ in 0..digits.chars().count() + 2 {
                chars.next();
            }
            u32::from_str_radix(digits, 16).ok().and_then(char::from_u32)
        }
        _ => None,
    }
}
