//! What editors ask of a text alone: the classes of its tokens, and the comments above a place.

use crate::lexer::tokenize;
use crate::token::TokenKind;
use crate::{FileId, Span};

/// The class of a token, for colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenClass {
    /// A word that cannot be a name.
    Keyword,
    /// A name.
    Name,
    /// A number.
    Number,
    /// A string.
    Text,
    /// A comment.
    Comment,
    /// An operator, a bracket or another sign.
    Sign,
}

/// The tokens and comments of a text with their classes, in the order of the text. What is no token is left out.
pub fn classify(file: FileId, text: &str) -> Vec<(Span, TokenClass)> {
    let lexed = tokenize(file, text, &mut Vec::new());
    let tokens = lexed.tokens.iter().filter_map(|token| {
        let class = match token.kind {
            TokenKind::Newline | TokenKind::End | TokenKind::Unknown | TokenKind::OpenComment => return None,
            TokenKind::Identifier => TokenClass::Name,
            TokenKind::Int | TokenKind::Float | TokenKind::BadNumber => TokenClass::Number,
            TokenKind::Str | TokenKind::FormatStr => TokenClass::Text,
            kind if kind.is_keyword() => TokenClass::Keyword,
            _ => TokenClass::Sign,
        };
        Some((token.span, class))
    });
    let comments = lexed.comments.iter().map(|span| (*span, TokenClass::Comment));
    let mut classes: Vec<(Span, TokenClass)> = tokens.chain(comments).collect();
    classes.sort_by_key(|(span, _)| span.start);
    classes
}

/// The text of the comments of the form `// …` that stand on the lines directly above a place.
pub fn comment_above(text: &str, offset: u32) -> String {
    let before = text.get(..offset as usize).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let above = before.get(..line_start).unwrap_or("");
    let comment = |line: &'_ str| {
        line.trim().strip_prefix("//").map(|comment| comment.strip_prefix(' ').unwrap_or(comment).to_owned())
    };
    let mut lines: Vec<String> = above.lines().rev().map_while(comment).collect();
    lines.reverse();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes() {
        let text = "let x = f(\"a\") // c\n1.5 /* d */ $";
        let shown = classify(FileId(0), text)
            .into_iter()
            .map(|(span, class)| format!("{class:?} {}", text.get(span.start as usize..span.end as usize).unwrap()));
        assert_eq!(
            shown.collect::<Vec<_>>(),
            [
                "Keyword let",
                "Name x",
                "Sign =",
                "Name f",
                "Sign (",
                "Text \"a\"",
                "Sign )",
                "Comment // c",
                "Number 1.5",
                "Comment /* d */"
            ]
        );
    }

    #[test]
    fn comments_above() {
        for (text, expected) in [
            ("fn f", ""),
            ("// a\n//b\nfn f", "a\nb"),
            ("// a\n\n// b\nfn f", "b"),
            ("let x = 1 // a\nfn f", ""),
            ("//  a\r\nfn f", " a"),
        ] {
            assert_eq!(comment_above(text, text.find("fn").unwrap() as u32), expected, "{text:?}");
        }
    }
}
