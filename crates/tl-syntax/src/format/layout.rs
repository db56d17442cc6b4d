//! Pieces to lines: indentation, blank lines, comments behind lines.

use crate::format::pieces::{Piece, PieceKind};
use crate::format::spacing::has_blank;
use crate::token::TokenKind;

/// Blanks of one level.
const INDENT: usize = 4;
/// Blanks before a comment behind a line's longest neighbour.
const COMMENT_GAP: usize = 2;

/// An open bracket.
#[derive(Default)]
struct Frame {
    /// `None` at the top level.
    open: Option<PieceKind>,
    /// The indentation of the line that the closing bracket begins.
    outside: usize,
    inside: usize,
    /// The indentation of the line with the word, such as `if`, whose block is still to come.
    head: Option<usize>,
}

/// A line of the result.
struct Line<'a> {
    is_after_blank: bool,
    indent: usize,
    text: String,
    /// A comment behind it that ends with the line.
    comment: Option<&'a str>,
}

/// The formatted text.
pub(super) fn layout(pieces: &[Piece<'_>]) -> String {
    let mut lines: Vec<Line<'_>> = Vec::new();
    let mut frames = vec![Frame::default()];
    let mut last: Option<&Piece<'_>> = None;
    let mut last_token = None;
    for piece in pieces {
        let begins_line = piece.newlines > 0 || lines.is_empty();
        if begins_line {
            let is_after_blank =
                piece.newlines > 1 && !piece.kind.closes() && last.is_some_and(|last| !last.kind.opens());
            let indent = frames.last().map_or(0, |frame| indent_of(frame, piece, last_token));
            lines.push(Line { is_after_blank, indent, text: String::new(), comment: None });
        }
        let Some(line) = lines.last_mut() else { continue };
        if !begins_line && piece.kind == PieceKind::LineComment {
            line.comment = Some(piece.text.trim_end());
        } else {
            if !begins_line && last.is_some_and(|last| has_blank(last, piece)) {
                line.text.push(' ');
            }
            push_text(&mut line.text, piece);
        }
        track(&mut frames, piece, line.indent);
        if !piece.kind.is_comment() {
            last_token = Some(piece.kind);
        }
        last = Some(piece);
    }
    joined(&lines)
}

/// The indentation of a line that begins with this piece.
fn indent_of(frame: &Frame, piece: &Piece<'_>, last_token: Option<PieceKind>) -> usize {
    if piece.kind.closes() {
        return frame.outside;
    }
    let is_after_comma = last_token == Some(PieceKind::Token(TokenKind::Comma));
    let continues = match frame.open {
        Some(PieceKind::Token(TokenKind::OpenParen | TokenKind::OpenBracket) | PieceKind::OpenMap) => {
            !piece.kind.is_comment() && !is_after_comma && last_token.is_some_and(|last| !last.opens())
        }
        Some(_) => !piece.begins_statement && !is_after_comma,
        None => !piece.begins_statement,
    };
    let is_else = piece.kind == PieceKind::Token(TokenKind::Else);
    frame.inside + if continues && !is_else { INDENT } else { 0 }
}

/// Opens and closes frames.
fn track(frames: &mut Vec<Frame>, piece: &Piece<'_>, line_indent: usize) {
    use TokenKind::*;
    let Some(frame) = frames.last_mut() else { return };
    if piece.begins_statement {
        frame.head = None;
    }
    if piece.kind.opens() {
        let head = if piece.kind == PieceKind::Token(OpenBrace) { frame.head.take() } else { None };
        let outside = head.unwrap_or(line_indent);
        frames.push(Frame { open: Some(piece.kind), outside, inside: outside + INDENT, head: None });
    } else if piece.kind.closes() {
        if frames.len() > 1 {
            frames.pop();
        }
    } else if let PieceKind::Token(Fn | For | If | With | While) = piece.kind {
        frame.head = Some(line_indent);
    }
}

/// A piece's text; the lines of a comment lose the blanks at their ends.
fn push_text(line: &mut String, piece: &Piece<'_>) {
    if !piece.kind.is_comment() {
        line.push_str(piece.text);
        return;
    }
    for (number, part) in piece.text.split('\n').enumerate() {
        if number > 0 {
            line.push('\n');
        }
        line.push_str(part.trim_end());
    }
}

/// The lines as one text. Comments behind lines that follow each other stand below each other.
fn joined(lines: &[Line<'_>]) -> String {
    let mut text = String::new();
    let mut column = 0;
    for (index, line) in lines.iter().enumerate() {
        if line.is_after_blank {
            text.push('\n');
        }
        text.extend(std::iter::repeat_n(' ', line.indent));
        text.push_str(&line.text);
        if let Some(comment) = line.comment {
            let is_first = index == 0 || !lines.get(index - 1).is_some_and(|before| are_aligned(before, line));
            if is_first {
                column = comment_column(lines.get(index..).unwrap_or(&[]));
            }
            text.extend(std::iter::repeat_n(' ', column.saturating_sub(width(line))));
            text.push_str(comment);
        }
        text.push('\n');
    }
    text
}

/// Whether the comments behind two neighbouring lines stand in one column.
fn are_aligned(before: &Line<'_>, line: &Line<'_>) -> bool {
    before.comment.is_some() && line.comment.is_some() && !line.is_after_blank && before.indent == line.indent
}

/// The column of the comments behind the first of these lines and those that follow it.
fn comment_column(lines: &[Line<'_>]) -> usize {
    let follow =
        lines.windows(2).take_while(|pair| matches!(pair, [before, line] if are_aligned(before, line))).count();
    lines.iter().take(follow + 1).map(width).max().unwrap_or(0) + COMMENT_GAP
}

/// The characters of a line before its comment.
fn width(line: &Line<'_>) -> usize {
    match line.text.rsplit_once('\n') {
        Some((_, last)) => last.chars().count(),
        None => line.indent + line.text.chars().count(),
    }
}
