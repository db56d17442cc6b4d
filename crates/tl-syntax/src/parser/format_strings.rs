//! f-strings: text with values in braces.

use std::sync::Arc;

use crate::ast::{Align, ExprKind, Format, FormatPiece};
use crate::lexer::tokenize_at;
use crate::parser::cursor::Parser;
use crate::token::TokenKind;
use crate::{Diagnostic, Span};

impl Parser<'_> {
    /// The pieces of the f-string with this span.
    pub(super) fn format_string(&mut self, span: Span) -> ExprKind {
        let token = self.slice(span).to_string();
        let body = token.get(2..).unwrap_or("");
        let base = span.start + 2;
        let mut pieces = Vec::new();
        // Where the text that is not in a piece yet begins.
        let mut at = 0;
        loop {
            let (text, end) = plain_text(body.get(at..).unwrap_or(""));
            let range = Span { start: base + at as u32, end: base + (at + end) as u32, ..span };
            let text = self.unescape(&text, range);
            if !text.is_empty() {
                pieces.push(FormatPiece::Text(text));
            }
            at += end;
            match body.as_bytes().get(at) {
                Some(b'{') => {
                    let inner = body.get(at + 1..).unwrap_or("");
                    let Some(len) = braces_end(inner) else {
                        let open = Span { start: base + at as u32, end: base + at as u32 + 1, ..span };
                        let diagnostic = Diagnostic::error(open, "this `{` is never closed");
                        self.report(diagnostic.hint("a brace that is text is written twice: `{{`"));
                        return ExprKind::Error;
                    };
                    let value = self.format_value(inner.get(..len).unwrap_or(""), base + at as u32 + 1, span);
                    pieces.extend(value);
                    at += len + 2;
                }
                Some(b'}') => {
                    let close = Span { start: base + at as u32, end: base + at as u32 + 1, ..span };
                    let diagnostic = Diagnostic::error(close, "this `}` closes nothing");
                    self.report(diagnostic.hint("a brace that is text is written twice: `}}`"));
                    return ExprKind::Error;
                }
                Some(b'"') => return ExprKind::Format(pieces),
                _ => {
                    let diagnostic = Diagnostic::error(span, "this string is not closed on its line");
                    self.report(diagnostic.hint("a newline inside a string is written `\\n`"));
                    return ExprKind::Error;
                }
            }
        }
    }

    /// What stands between two braces, which begins at `start`.
    fn format_value(&mut self, inner: &str, start: u32, string: Span) -> Option<FormatPiece> {
        let (expression, format) = split_format(inner);
        let span = Span { start, end: start + expression.len() as u32, ..string };
        if expression.trim().is_empty() {
            let braces = Span { start: start - 1, end: span.end + 1, ..string };
            let diagnostic = Diagnostic::error(braces, "an expression is missing between these braces");
            self.report(diagnostic.hint("braces that are text are written twice: `{{}}`"));
            return None;
        }
        let format = match format.map_or(Some(Format::default()), parse_format) {
            Some(format) => format,
            None => {
                let span = Span { start: span.end, end: start + inner.len() as u32, ..string };
                let diagnostic = Diagnostic::error(span, "this format means nothing");
                self.report(diagnostic.hint("`{x:.3}` gives 3 decimals, `{x:8}` 8 characters, `{x:<8}` begins at the left, `{x:^8}` is centered"));
                return None;
            }
        };
        let mut diagnostics = Vec::new();
        let tokens = tokenize_at(string.file, start, expression, &mut diagnostics).tokens;
        diagnostics.into_iter().for_each(|diagnostic| self.report(diagnostic));
        let outer = (std::mem::replace(&mut self.tokens, tokens), std::mem::take(&mut self.position));
        let value = self.expression();
        if !self.at(TokenKind::End) {
            let diagnostic = self.expected("the `}` behind the value");
            self.report(diagnostic);
        }
        (self.tokens, self.position) = outer;
        if self.gave_up {
            self.give_up();
        }
        Some(FormatPiece::Value { value, format })
    }

    /// The text that a piece with escapes means.
    fn unescape(&mut self, text: &str, span: Span) -> Arc<str> {
        if !text.contains('\\') {
            return text.into();
        }
        match super::literals::unescape(text) {
            Ok(text) => text.into(),
            Err(()) => {
                let diagnostic = Diagnostic::error(span, "an escape in this text means nothing");
                self.report_and_continue(diagnostic.hint(super::literals::ESCAPES));
                "".into()
            }
        }
    }
}

/// The text before the next brace or quote, with doubled braces as one, and the bytes that it takes.
fn plain_text(body: &str) -> (String, usize) {
    let mut text = String::new();
    let mut chars = body.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let next = chars.peek().map(|(_, next)| *next);
        match c {
            '\\' => {
                text.push(c);
                text.extend(next);
                // The braces of `\u{…}` are part of the escape.
                if next == Some('u') && body.get(at + 2..).is_some_and(|rest| rest.starts_with('{')) {
                    chars.next();
                    for (_, digit) in chars.by_ref() {
                        text.push(digit);
                        if digit == '}' {
                            break;
                        }
                    }
                } else {
                    chars.next();
                }
            }
            '{' | '}' if next == Some(c) => {
                text.push(c);
                chars.next();
            }
            '{' | '}' | '"' => return (text, at),
            c => text.push(c),
        }
    }
    (text, body.len())
}

/// The length of the text up to the `}` that closes the brace before it.
fn braces_end(inner: &str) -> Option<usize> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for (at, byte) in inner.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' if !in_string => depth += 1,
            b'}' if !in_string && depth == 0 => return Some(at),
            b'}' if !in_string => depth -= 1,
            _ => {}
        }
    }
    None
}

/// The expression, and the format behind the first `:` outside brackets and strings.
fn split_format(inner: &str) -> (&str, Option<&str>) {
    let bytes = inner.as_bytes();
    let (mut depth, mut in_string, mut at) = (0_usize, false, 0);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' if in_string => at += 1,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b':' if bytes.get(at + 1) == Some(&b':') => at += 1,
            b':' if depth == 0 => {
                return (inner.get(..at).unwrap_or(""), inner.get(at + 1..));
            }
            _ => {}
        }
        at += 1;
    }
    (inner, None)
}

fn parse_format(text: &str) -> Option<Format> {
    let text = text.trim();
    let (align, rest) = match text.chars().next() {
        Some('<') => (Some(Align::Left), text.get(1..)?),
        Some('>') => (Some(Align::Right), text.get(1..)?),
        Some('^') => (Some(Align::Middle), text.get(1..)?),
        _ => (None, text),
    };
    // `f`, as in Python's `.3f`, is allowed out of habit.
    let rest = rest.strip_suffix('f').unwrap_or(rest);
    let (width, precision) = match rest.split_once('.') {
        Some((width, precision)) => (width, Some(small(precision)?)),
        None => (rest, None),
    };
    let width = if width.is_empty() { 0 } else { small(width)? };
    Some(Format { align, width, precision })
}

/// A number of at most three digits.
fn small(text: &str) -> Option<u16> {
    (text.len() <= 3 && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats() {
        let format = |align, width, precision| Some(Format { align, width, precision });
        for (text, expected) in [
            ("", format(None, 0, None)),
            (".3", format(None, 0, Some(3))),
            (".3f", format(None, 0, Some(3))),
            ("8", format(None, 8, None)),
            ("<8.2", format(Some(Align::Left), 8, Some(2))),
            ("^10", format(Some(Align::Middle), 10, None)),
            ("x", None),
            ("8.", None),
            ("1000", None),
            ("-3", None),
        ] {
            assert_eq!(parse_format(text), expected, "{text:?}");
        }
    }

    #[test]
    fn expressions_and_formats() {
        for (inner, expected) in [
            ("x", ("x", None)),
            ("x:.3", ("x", Some(".3"))),
            ("f(a: 1)", ("f(a: 1)", None)),
            ("m[\"a:b\"]:8", ("m[\"a:b\"]", Some("8"))),
            ("A::b():<4", ("A::b()", Some("<4"))),
        ] {
            assert_eq!(split_format(inner), expected);
        }
    }
}
