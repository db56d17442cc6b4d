//! The entry to the parser.

use crate::ast::File;
use crate::lexer::{Lexed, tokenize};
use crate::parser::cursor::Parser;
use crate::{Diagnostic, FileId, Span};

/// The result of parsing.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Parsed {
    /// The tree, as far as the text could be read.
    pub tree: File,
    /// The errors, in the order of the text. Empty: the tree is complete.
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
    let Lexed { tokens, .. } = tokenize(file, text, &mut diagnostics);
    let mut parser = Parser::new(text, tokens, diagnostics);
    let tree = parser.file();
    let mut diagnostics = parser.diagnostics;
    diagnostics.sort_by_key(|diagnostic| diagnostic.span().start);
    Parsed { tree, diagnostics }
}
