//! Tokens and comments in one sequence, with what the layout reads of the text between them.

use crate::Span;
use crate::lexer::Lexed;
use crate::token::{Token, TokenKind};

/// A token or a comment.
pub(super) struct Piece<'a> {
    pub(super) kind: PieceKind,
    pub(super) text: &'a str,
    /// The line ends between the last piece and this one.
    pub(super) newlines: usize,
    /// Whether a statement begins here; of a comment, whether what follows is no rest of a statement.
    pub(super) begins_statement: bool,
}

/// What a piece is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PieceKind {
    Token(TokenKind),
    /// A `-` with one operand.
    Negation,
    /// The brackets of a map: `{"a": 1}`.
    OpenMap,
    CloseMap,
    LineComment,
    BlockComment,
}

impl PieceKind {
    pub(super) fn is_comment(self) -> bool {
        matches!(self, PieceKind::LineComment | PieceKind::BlockComment)
    }

    pub(super) fn opens(self) -> bool {
        use TokenKind::*;
        matches!(self, PieceKind::OpenMap | PieceKind::Token(OpenParen | OpenBracket | OpenBrace))
    }

    pub(super) fn closes(self) -> bool {
        use TokenKind::*;
        matches!(self, PieceKind::CloseMap | PieceKind::Token(CloseParen | CloseBracket | CloseBrace))
    }

    pub(super) fn ends_operand(self) -> bool {
        match self {
            PieceKind::CloseMap => true,
            PieceKind::Token(kind) => ends_operand(kind),
            _ => false,
        }
    }
}

/// The pieces of a text without errors.
pub(super) fn pieces<'a>(text: &'a str, lexed: &Lexed) -> Vec<Piece<'a>> {
    let mut maps = Vec::new();
    let mut found: Vec<(Span, PieceKind, bool)> = Vec::new();
    let mut comments = lexed.comments.iter().copied().peekable();
    let mut last = TokenKind::Newline;
    let mut word = None;
    let mut joined = None;
    for (index, token) in lexed.tokens.iter().enumerate() {
        if joined == Some(index) {
            continue;
        }
        if token.kind == TokenKind::Newline {
            last = TokenKind::Newline;
            continue;
        }
        let mut token = *token;
        let begins = matches!(last, TokenKind::Newline | TokenKind::Semicolon | TokenKind::OpenBrace);
        if begins {
            word = relational_word(text, lexed.tokens.get(index..).unwrap_or(&[]));
        }
        if word == Some("rule")
            && let Some(arrow) = rule_arrow(lexed.tokens.get(index..).unwrap_or(&[]))
        {
            (token, word, joined) = (arrow, None, Some(index + 1));
        }
        let kind = match token.kind {
            TokenKind::Minus if begins || !ends_operand(last) => PieceKind::Negation,
            TokenKind::OpenBrace => {
                let inside = lexed.tokens.get(index + 1..).unwrap_or(&[]);
                maps.push(!begins && (word.take() == Some("entity") || opens_map(last, inside)));
                if maps.last() == Some(&true) { PieceKind::OpenMap } else { PieceKind::Token(token.kind) }
            }
            TokenKind::CloseBrace if maps.pop() == Some(true) => PieceKind::CloseMap,
            kind => PieceKind::Token(kind),
        };
        while let Some(comment) = comments.next_if(|comment| comment.start < token.span.start) {
            let is_line = text.get(comment.start as usize..).is_some_and(|text| text.starts_with("//"));
            let of_comment = if is_line { PieceKind::LineComment } else { PieceKind::BlockComment };
            let stands_alone = begins || kind.closes() || matches!(token.kind, TokenKind::Else | TokenKind::End);
            found.push((comment, of_comment, stands_alone));
        }
        if token.kind != TokenKind::End {
            found.push((token.span, kind, begins));
        }
        last = token.kind;
    }
    let mut end = 0;
    found
        .into_iter()
        .map(|(span, kind, begins_statement)| {
            let between = text.get(end..span.start as usize).unwrap_or("");
            end = span.end as usize;
            let text = text.get(span.start as usize..end).unwrap_or("");
            Piece { kind, text, newlines: between.matches('\n').count(), begins_statement }
        })
        .collect()
}

/// The word of an item of relations that begins here.
fn relational_word<'a>(text: &'a str, tokens: &[Token]) -> Option<&'a str> {
    let [first, second, ..] = tokens else { return None };
    let are_names = first.kind == TokenKind::Identifier && second.kind == TokenKind::Identifier;
    text.get(first.span.start as usize..first.span.end as usize).filter(|_| are_names)
}

/// The `<-` of a rule, which is two tokens.
fn rule_arrow(tokens: &[Token]) -> Option<Token> {
    let [less, minus, ..] = tokens else { return None };
    let is_arrow = less.kind == TokenKind::Less && minus.kind == TokenKind::Minus && less.span.end == minus.span.start;
    is_arrow.then(|| Token { kind: TokenKind::Arrow, span: less.span.to(minus.span) })
}

/// Whether a `-` behind this token has two operands.
fn ends_operand(kind: TokenKind) -> bool {
    use TokenKind::*;
    matches!(
        kind,
        Identifier | Int | Float | Str | FormatStr | True | False | CloseParen | CloseBracket | CloseBrace | Question
    )
}

/// Whether a `{` between these tokens opens a map and no block: where a value begins, with a `:` or `,` behind its first key.
fn opens_map(before: TokenKind, inside: &[Token]) -> bool {
    use TokenKind::*;
    if matches!(
        before,
        Identifier | Str | FormatStr | CloseParen | CloseBracket | CloseBrace | Question | Else | Main | Loop
    ) {
        return false;
    }
    let mut depth = 0_usize;
    for token in inside {
        match token.kind {
            Colon | Comma if depth == 0 => return true,
            OpenParen | OpenBracket | OpenBrace => depth += 1,
            CloseParen | CloseBracket | CloseBrace if depth > 0 => depth -= 1,
            CloseParen | CloseBracket | CloseBrace | Newline | Semicolon => return false,
            kind if depth == 0 && kind.begins_only_statements() => return false,
            _ => {}
        }
    }
    false
}
