//! Lexer: from a template's text to tokens.
//!
//! Owns the delimiters and what happens to the whitespace around them: `trim_blocks` (the line break after a tag goes)
//! and `lstrip_blocks` (the blanks before a tag that begins its line go), as chat templates are written for, and the
//! marks `-` and `+` that override both. One line break at the end of the text goes.

use crate::error::{ChatError, Result};

/// A token and the line that it begins in.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) line: u32,
    pub(super) kind: TokenKind,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum TokenKind {
    /// Text outside of tags.
    Text(String),
    /// `{{`
    PrintBegin,
    /// `}}`
    PrintEnd,
    /// `{%`
    TagBegin,
    /// `%}`
    TagEnd,
    Name(String),
    String(String),
    Integer(i128),
    Float(f64),
    /// An operator or a bracket.
    Symbol(&'static str),
}

/// Operators and brackets, longer ones first.
const SYMBOLS: [&str; 27] = [
    "**", "//", "==", "!=", ">=", "<=", "+", "-", "*", "/", "%", "~", "(", ")", "[", "]", "{", "}", ">", "<", "=", ".",
    ",", ":", "|", ";", "!",
];

/// The sign next to a delimiter.
#[derive(Clone, Copy, PartialEq)]
enum Mark {
    None,
    /// `-`: all whitespace goes.
    Strip,
    /// `+`: none goes.
    Keep,
}

pub(super) fn tokenize(source: &str) -> Result<Vec<Token>> {
    let mut source = source.replace("\r\n", "\n").replace('\r', "\n");
    if source.ends_with('\n') {
        source.pop();
    }
    let mut lexer = Lexer { source: &source, position: 0, line: 1, line_starting: true, tokens: Vec::new() };
    lexer.run()?;
    Ok(lexer.tokens)
}

struct Lexer<'a> {
    source: &'a str,
    position: usize,
    line: u32,
    /// Whether the last tag took the line break after it, so that blanks may go before the next one.
    line_starting: bool,
    tokens: Vec<Token>,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.source[self.position..]
    }

    fn advance(&mut self, len: usize) {
        let passed = &self.rest()[..len];
        self.line += passed.bytes().filter(|&byte| byte == b'\n').count() as u32;
        if len > 0 {
            self.line_starting = passed.ends_with('\n');
        }
        self.position += len;
    }

    fn push(&mut self, kind: TokenKind) {
        self.tokens.push(Token { line: self.line, kind });
    }

    fn error<T>(&self, message: impl Into<String>) -> Result<T> {
        Err(ChatError::Syntax { line: self.line, message: message.into() })
    }

    fn run(&mut self) -> Result<()> {
        while self.position < self.source.len() {
            let Some((start, delimiter)) = next_delimiter(self.rest()) else {
                let text = self.rest();
                self.push(TokenKind::Text(text.to_owned()));
                self.advance(text.len());
                return Ok(());
            };
            let after = &self.rest()[start + 2..];
            let mark = match after.as_bytes().first() {
                Some(b'-') => Mark::Strip,
                Some(b'+') if delimiter != "{{" => Mark::Keep,
                _ => Mark::None,
            };
            let text = &self.rest()[..start];
            let kept = match mark {
                Mark::Strip => text.trim_end(),
                Mark::None if delimiter != "{{" => self.strip_blanks(text),
                _ => text,
            };
            if !kept.is_empty() {
                self.push(TokenKind::Text(kept.to_owned()));
            }
            self.advance(start);
            self.advance(2 + usize::from(mark != Mark::None));
            match delimiter {
                "{#" => self.comment()?,
                "{%" if starts_with_word(self.rest().trim_start(), "raw") => self.raw()?,
                "{%" => {
                    self.push(TokenKind::TagBegin);
                    self.inside("%}")?;
                }
                _ => {
                    self.push(TokenKind::PrintBegin);
                    self.inside("}}")?;
                }
            }
        }
        Ok(())
    }

    /// The text without the blanks of its last line, if that line has nothing else.
    fn strip_blanks(&self, text: &'a str) -> &'a str {
        let line_start = text.rfind('\n').map_or(0, |at| at + 1);
        if (line_start > 0 || self.line_starting) && text[line_start..].bytes().all(|b| matches!(b, b' ' | b'\t')) {
            &text[..line_start]
        } else {
            text
        }
    }

    /// Passes the delimiter that ends a tag, its mark, and the whitespace that goes with it.
    fn end(&mut self, mark: Mark, trims_line: bool) {
        self.advance(2 + usize::from(mark != Mark::None));
        let rest = self.rest();
        match mark {
            Mark::Strip => self.advance(rest.len() - rest.trim_start().len()),
            Mark::None if trims_line && rest.starts_with('\n') => self.advance(1),
            _ => {}
        }
    }

    fn comment(&mut self) -> Result<()> {
        let Some(end) = self.rest().find("#}") else {
            return self.error("a comment `{#` has no `#}`");
        };
        // The mark is the last character of the comment itself.
        let mark = match self.rest().as_bytes()[..end].last() {
            Some(b'-') => Mark::Strip,
            Some(b'+') => Mark::Keep,
            _ => Mark::None,
        };
        self.advance(end - usize::from(mark != Mark::None));
        self.end(mark, true);
        Ok(())
    }

    /// `{% raw %}…{% endraw %}`, after the opening delimiter: the text between is taken as it stands.
    fn raw(&mut self) -> Result<()> {
        let rest = self.rest();
        self.advance(rest.len() - rest.trim_start().len() + "raw".len());
        let rest = self.rest();
        self.advance(rest.len() - rest.trim_start().len());
        let Some(mark) = ending(self.rest(), "%}") else {
            return self.error("`raw` takes no arguments");
        };
        self.end(mark, true);
        let mut from = 0;
        let rest = self.rest();
        while let Some(at) = rest[from..].find("{%") {
            let begin = from + at;
            let inner = &rest[begin + 2..];
            let (open, inner) = match inner.as_bytes().first() {
                Some(b'-') => (Mark::Strip, &inner[1..]),
                Some(b'+') => (Mark::Keep, &inner[1..]),
                _ => (Mark::None, inner),
            };
            let tag = inner.trim_start();
            if starts_with_word(tag, "endraw")
                && let Some(close) = ending(tag["endraw".len()..].trim_start(), "%}")
            {
                let text = &rest[..begin];
                let text = match open {
                    Mark::Strip => text.trim_end(),
                    Mark::None => self.strip_blanks(text),
                    Mark::Keep => text,
                };
                self.push(TokenKind::Text(text.to_owned()));
                let close_at = rest.len() - tag["endraw".len()..].trim_start().len();
                self.advance(close_at);
                self.end(close, true);
                return Ok(());
            }
            from = begin + 2;
        }
        self.error("`{% raw %}` has no `{% endraw %}`")
    }

    /// Tokens up to the delimiter `end`, which counts only outside of brackets.
    fn inside(&mut self, end: &'static str) -> Result<()> {
        let mut brackets: Vec<&str> = Vec::new();
        loop {
            let rest = self.rest();
            self.advance(rest.len() - rest.trim_start().len());
            let rest = self.rest();
            if brackets.is_empty()
                && let Some(mark) = ending(rest, end)
                && (mark != Mark::Keep || end == "%}")
            {
                self.push(if end == "%}" { TokenKind::TagEnd } else { TokenKind::PrintEnd });
                self.end(mark, end == "%}");
                return Ok(());
            }
            let Some(first) = rest.chars().next() else {
                return self.error(format!("the text ends before `{end}`"));
            };
            if first == '"' || first == '\'' {
                self.string(first)?;
            } else if first.is_ascii_digit() {
                self.number()?;
            } else if first == '_' || first.is_alphabetic() {
                let len = rest.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(rest.len());
                self.push(TokenKind::Name(rest[..len].to_owned()));
                self.advance(len);
            } else if let Some(symbol) = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
                match *symbol {
                    "(" => brackets.push(")"),
                    "[" => brackets.push("]"),
                    "{" => brackets.push("}"),
                    ")" | "]" | "}" => match brackets.pop() {
                        Some(expected) if expected == *symbol => {}
                        Some(expected) => return self.error(format!("`{symbol}` where `{expected}` is expected")),
                        None => return self.error(format!("`{symbol}` closes nothing")),
                    },
                    _ => {}
                }
                self.push(TokenKind::Symbol(symbol));
                self.advance(symbol.len());
            } else {
                return self.error(format!("the character {first:?} begins nothing"));
            }
        }
    }

    fn string(&mut self, quote: char) -> Result<()> {
        let rest = self.rest();
        let mut value = String::new();
        let mut characters = rest.char_indices().skip(1);
        while let Some((at, character)) = characters.next() {
            if character == quote {
                self.push(TokenKind::String(value));
                self.advance(at + 1);
                return Ok(());
            }
            if character != '\\' {
                value.push(character);
                continue;
            }
            let Some((_, escaped)) = characters.next() else { break };
            let digits = match escaped {
                'x' => 2,
                'u' => 4,
                'U' => 8,
                _ => 0,
            };
            match escaped {
                'n' => value.push('\n'),
                't' => value.push('\t'),
                'r' => value.push('\r'),
                'b' => value.push('\u{8}'),
                'f' => value.push('\u{c}'),
                'v' => value.push('\u{b}'),
                'a' => value.push('\u{7}'),
                '0' => value.push('\0'),
                '\n' => {}
                '\\' | '\'' | '"' => value.push(escaped),
                'x' | 'u' | 'U' => {
                    let text: String = characters.by_ref().take(digits).map(|(_, c)| c).collect();
                    let code = (text.len() == digits).then(|| u32::from_str_radix(&text, 16).ok()).flatten();
                    match code.and_then(char::from_u32) {
                        Some(character) => value.push(character),
                        None => return self.error(format!("`\\{escaped}{text}` is no character")),
                    }
                }
                _ => {
                    value.push('\\');
                    value.push(escaped);
                }
            }
        }
        self.error("a text has no closing quote")
    }

    fn number(&mut self) -> Result<()> {
        let rest = self.rest();
        let radix = match rest.get(..2) {
            Some("0x" | "0X") => 16,
            Some("0o" | "0O") => 8,
            Some("0b" | "0B") => 2,
            _ => 10,
        };
        if radix != 10 {
            let digits = &rest[2..];
            let len = digits.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(digits.len());
            let Ok(value) = i128::from_str_radix(&digits[..len].replace('_', ""), radix) else {
                return self.error(format!("{:?} is no number", &rest[..2 + len]));
            };
            self.push(TokenKind::Integer(value));
            self.advance(2 + len);
            return Ok(());
        }
        let digits = |text: &str| text.bytes().take_while(|b| b.is_ascii_digit() || *b == b'_').count();
        let mut len = digits(rest);
        let mut is_float = false;
        if rest[len..].starts_with('.') && rest[len + 1..].starts_with(|c: char| c.is_ascii_digit()) {
            is_float = true;
            len += 1 + digits(&rest[len + 1..]);
        }
        if rest[len..].starts_with(['e', 'E']) {
            let sign = usize::from(rest[len + 1..].starts_with(['+', '-']));
            let exponent = digits(&rest[len + 1 + sign..]);
            if exponent > 0 {
                is_float = true;
                len += 1 + sign + exponent;
            }
        }
        let text = rest[..len].replace('_', "");
        let kind =
            if is_float { text.parse().ok().map(TokenKind::Float) } else { text.parse().ok().map(TokenKind::Integer) };
        let Some(kind) = kind else {
            return self.error(format!("{text} is too large a number"));
        };
        self.push(kind);
        self.advance(len);
        Ok(())
    }
}

/// The first of `{{`, `{%`, `{#` and where it begins.
fn next_delimiter(text: &str) -> Option<(usize, &'static str)> {
    let bytes = text.as_bytes();
    bytes.windows(2).enumerate().find_map(|(at, pair)| match pair {
        b"{{" => Some((at, "{{")),
        b"{%" => Some((at, "{%")),
        b"{#" => Some((at, "{#")),
        _ => None,
    })
}

/// Whether `text` begins with `end`, and with which mark.
fn ending(text: &str, end: &str) -> Option<Mark> {
    if text.starts_with(end) {
        Some(Mark::None)
    } else if text.strip_prefix('-').is_some_and(|rest| rest.starts_with(end)) {
        Some(Mark::Strip)
    } else if text.strip_prefix('+').is_some_and(|rest| rest.starts_with(end)) {
        Some(Mark::Keep)
    } else {
        None
    }
}

fn starts_with_word(text: &str, word: &str) -> bool {
    text.strip_prefix(word).is_some_and(|rest| !rest.starts_with(|c: char| c == '_' || c.is_alphanumeric()))
}
