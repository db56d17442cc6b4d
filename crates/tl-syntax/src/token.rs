//! The kinds of tokens. Blanks are dropped here, and comments set aside; `lexer` drops newlines that end no statement.

use std::ops::Range;

use logos::{Lexer, Logos};

use crate::Span;

/// The kind of a token.
#[derive(Logos, Clone, Copy, Debug, PartialEq, Eq)]
#[logos(extras = Vec<Range<usize>>)]
#[logos(skip r"[ \t\r\x0C\u{feff}]+")]
pub(crate) enum TokenKind {
    #[regex(r"[\p{XID_Start}_]\p{XID_Continue}*")]
    Identifier,
    #[regex(r"[0-9][0-9_]*|0x[0-9a-fA-F_]+", priority = 20)]
    Int,
    #[regex(r"[0-9][0-9_]*\.[0-9][0-9_]*([eE][+-]?[0-9]+)?|[0-9][0-9_]*[eE][+-]?[0-9]+", priority = 20)]
    Float,
    /// Digits followed by letters that form no number.
    #[regex(r"[0-9][0-9_]*(\.[0-9][0-9_]*)?\p{XID_Start}\p{XID_Continue}*", priority = 10)]
    BadNumber,
    /// A string, closed or not; it ends at the end of its line at the latest.
    #[regex(r#""([^"\\\n]|\\[^\n])*"?"#)]
    Str,
    /// A string with values in braces, closed or not; it ends at the end of its line at the latest.
    #[token("f\"", format_string)]
    FormatStr,
    #[regex(r"\n")]
    Newline,
    /// An unclosed `/*`; other comments are no tokens, but collected in the lexer's extras.
    #[regex(r"//[^\n]*", line_comment, allow_greedy = true)]
    #[token("/*", block_comment)]
    OpenComment,

    #[token("and")]
    And,
    #[token("as")]
    As,
    #[token("break")]
    Break,
    #[token("buffer_trace")]
    BufferTrace,
    #[token("continue")]
    Continue,
    #[token("else")]
    Else,
    #[token("false")]
    False,
    #[token("fn")]
    Fn,
    #[token("for")]
    For,
    #[token("frozen")]
    Frozen,
    #[token("if")]
    If,
    #[token("impl")]
    Impl,
    #[token("import")]
    Import,
    #[token("in")]
    In,
    #[token("learn")]
    Learn,
    #[token("learnable")]
    Learnable,
    #[token("let")]
    Let,
    #[token("loop")]
    Loop,
    #[token("main")]
    Main,
    #[token("mut")]
    Mut,
    #[token("not")]
    Not,
    #[token("or")]
    Or,
    #[token("return")]
    Return,
    #[token("struct")]
    Struct,
    #[token("tensor")]
    Tensor,
    #[token("true")]
    True,
    #[token("while")]
    While,
    #[token("with")]
    With,

    #[token("(")]
    OpenParen,
    #[token(")")]
    CloseParen,
    #[token("[")]
    OpenBracket,
    #[token("]")]
    CloseBracket,
    #[token("{")]
    OpenBrace,
    #[token("}")]
    CloseBrace,
    #[token(",")]
    Comma,
    #[token(";")]
    Semicolon,
    #[token(":")]
    Colon,
    #[token("::")]
    ColonColon,
    #[token(":=")]
    ColonEqual,
    #[token("=")]
    Equal,
    #[token("+=")]
    PlusEqual,
    #[token("-=")]
    MinusEqual,
    #[token("*=")]
    StarEqual,
    #[token("/=")]
    SlashEqual,
    #[token("%=")]
    PercentEqual,
    #[token("**=")]
    StarStarEqual,
    #[token("@=")]
    AtEqual,
    #[token("->")]
    Arrow,
    #[token(".")]
    Dot,
    #[token("..")]
    DotDot,
    #[token("?")]
    Question,
    #[token("+")]
    Plus,
    #[token("-")]
    Minus,
    #[token("*")]
    Star,
    #[token("**")]
    StarStar,
    #[token("/")]
    Slash,
    #[token("%")]
    Percent,
    #[token("@")]
    At,
    #[token("==")]
    EqualEqual,
    #[token("!=")]
    NotEqual,
    #[token("<")]
    Less,
    #[token("<=")]
    LessEqual,
    #[token(">")]
    Greater,
    #[token(">=")]
    GreaterEqual,

    /// A comment as other languages write it.
    #[regex(r"#[^\n]*", allow_greedy = true)]
    HashComment,
    /// `&&`, `||`, `!`: operators as other languages write them.
    #[token("&&")]
    AmpAmp,
    #[token("||")]
    PipePipe,
    #[token("!")]
    Bang,

    /// A character that begins no token.
    Unknown,
    /// The end of the text.
    End,
}

/// Sets a comment aside that ends with its line.
fn line_comment(lexer: &mut Lexer<'_, TokenKind>) -> logos::Filter<()> {
    lexer.extras.push(lexer.span());
    logos::Filter::Skip
}

/// Sets a comment aside, which may nest. An unclosed one is a token that reaches to the end of the text.
fn block_comment(lexer: &mut Lexer<'_, TokenKind>) -> logos::Filter<()> {
    let rest = lexer.remainder().as_bytes();
    let (mut depth, mut at) = (1_usize, 0);
    while depth > 0 {
        match (rest.get(at), rest.get(at + 1)) {
            (None, _) => {
                lexer.bump(rest.len());
                return logos::Filter::Emit(());
            }
            (Some(b'*'), Some(b'/')) => (depth, at) = (depth - 1, at + 2),
            (Some(b'/'), Some(b'*')) => (depth, at) = (depth + 1, at + 2),
            _ => at += 1,
        }
    }
    lexer.bump(at);
    lexer.extras.push(lexer.span());
    logos::Filter::Skip
}

/// The rest of an f-string, whose braces may hold strings: true, a token in any case.
fn format_string(lexer: &mut Lexer<'_, TokenKind>) -> bool {
    let rest = lexer.remainder().as_bytes();
    let (mut at, mut depth, mut in_string) = (0, 0_usize, false);
    while let Some(byte) = rest.get(at) {
        let is_double = rest.get(at + 1) == Some(byte);
        match byte {
            b'\n' => break,
            b'\\' if depth == 0 || in_string => at += 1,
            b'"' if depth == 0 => {
                at += 1;
                break;
            }
            b'"' => in_string = !in_string,
            b'{' if depth == 0 && is_double => at += 1,
            b'{' if !in_string => depth += 1,
            b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    // An escape may reach past the end; the text is cut between characters.
    let len = at.min(rest.len());
    let len = (len..=rest.len()).find(|len| lexer.remainder().is_char_boundary(*len)).unwrap_or(rest.len());
    lexer.bump(len);
    true
}

/// A token and its span.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    pub(crate) span: Span,
}

/// The words that cannot be names.
pub const KEYWORDS: &[&str] = &[
    "and",
    "as",
    "break",
    "buffer_trace",
    "continue",
    "else",
    "false",
    "fn",
    "for",
    "frozen",
    "if",
    "impl",
    "import",
    "in",
    "learn",
    "learnable",
    "let",
    "loop",
    "main",
    "mut",
    "not",
    "or",
    "return",
    "struct",
    "tensor",
    "true",
    "while",
    "with",
];

/// Words that begin an item or an expression where another name or a string follows, and are names everywhere else.
pub const CONTEXTUAL_WORDS: &[&str] = &["entity", "fact", "query", "relation", "rule", "test"];

impl TokenKind {
    /// How a message names this kind.
    pub(crate) fn describe(self) -> &'static str {
        use TokenKind::*;
        match self {
            Identifier => "a name",
            Int | Float | BadNumber => "a number",
            Str | FormatStr => "a string",
            Newline => "the end of the line",
            OpenComment => "a comment",
            Unknown => "an unknown character",
            End => "the end of the file",
            OpenParen => "`(`",
            CloseParen => "`)`",
            OpenBracket => "`[`",
            CloseBracket => "`]`",
            OpenBrace => "`{`",
            CloseBrace => "`}`",
            Comma => "`,`",
            Semicolon => "`;`",
            Colon => "`:`",
            Equal => "`=`",
            In => "`in`",
            _ => "this",
        }
    }

    /// Whether the token only occurs at the beginning of a statement.
    pub(crate) fn begins_only_statements(self) -> bool {
        use TokenKind::*;
        matches!(self, Fn | Import | Let | Main | Tensor | Struct | Impl | For | While | Loop | Return)
    }

    pub(crate) fn is_keyword(self) -> bool {
        (TokenKind::And as u8..=TokenKind::With as u8).contains(&(self as u8))
    }
}
