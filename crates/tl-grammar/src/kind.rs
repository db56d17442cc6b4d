//! The kinds of grammars.

use std::fmt;

/// Notation of a grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GrammarKind {
    /// A JSON schema.
    JsonSchema,
    /// A Lark grammar.
    Lark,
    /// A regular expression.
    Regex,
}

impl fmt::Display for GrammarKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            GrammarKind::JsonSchema => "the JSON schema",
            GrammarKind::Lark => "the grammar",
            GrammarKind::Regex => "the regular expression",
        })
    }
}
