//! Which pieces of a line have a blank between them.

use logos::Logos;

use crate::format::pieces::PieceKind::{CloseMap, Negation, OpenMap, Token};
use crate::format::pieces::{Piece, PieceKind};
use crate::token::TokenKind::{self, *};

/// Whether a blank stands between two pieces of one line. Between what no rule names, one does.
pub(super) fn has_blank(left: &Piece<'_>, right: &Piece<'_>) -> bool {
    wants_blank(left.kind, right.kind)
        || (!left.kind.is_comment() && !right.kind.is_comment() && would_join(left, right))
}

fn wants_blank(left: PieceKind, right: PieceKind) -> bool {
    match (left, right) {
        (OpenMap | Token(OpenParen | OpenBracket), _) => false,
        (_, CloseMap | Token(CloseParen | CloseBracket)) => false,
        (Token(OpenBrace), Token(CloseBrace)) => false,
        (Token(Comma), Token(DotDot | Question)) => true,
        (_, Token(Comma | Semicolon | Colon | Question | Dot | DotDot | ColonColon)) => false,
        (Negation | Token(Dot | DotDot | ColonColon), _) => false,
        (Token(Identifier | CloseParen | CloseBracket | Question), Token(OpenParen)) => false,
        (left, Token(OpenBracket)) => !left.ends_operand(),
        _ => true,
    }
}

/// Whether two tokens without a blank between them would be read as something else.
fn would_join(left: &Piece<'_>, right: &Piece<'_>) -> bool {
    let joined = [left.text, right.text].concat();
    let mut lexer = TokenKind::lexer(&joined);
    let first = lexer.next();
    let is_first = first.is_some() && lexer.span() == (0..left.text.len());
    !is_first || lexer.next().is_none() || lexer.span() != (left.text.len()..joined.len())
}
