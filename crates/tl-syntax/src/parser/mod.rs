//! Tokens to syntax tree, by recursive descent; operators by precedence climbing.
//!
//! Whatever the text, parsing ends and gives a tree: what cannot be read becomes an `Error` node. After an error nothing more
//! is reported until the statement's end. Depth is bounded twice: how far the parser recurses, and how high a tree may grow,
//! which a long chain such as `a + b + …` does without recursion. Passes behind this one may therefore recurse freely.

mod cursor;
mod expressions;
mod items;
mod literals;
mod statements;
mod types;

use crate::ast::File;
use crate::parser::cursor::Parser;
use crate::{Diagnostic, FileId, Span, lexer};

/// How many levels an expression may have, nested blocks included.
pub const MAX_TREE_HEIGHT: u16 = 512;

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
