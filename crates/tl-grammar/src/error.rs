//! The crate's one error type. Variants carry data; the message of each says what is wrong, with the values and the place, and what
//! to do about it.

use tl_model::ModelError;

use crate::kind::GrammarKind;

/// A result with this crate's error.
pub type Result<T> = std::result::Result<T, GrammarError>;

/// Error of compiling a grammar.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GrammarError {
    /// A source that is too long.
    #[error("{kind} of {len_bytes} bytes is too long; at most {limit} are read")]
    TooLong {
        /// Kind of the source.
        kind: GrammarKind,
        /// Its length.
        len_bytes: usize,
        /// The limit.
        limit: usize,
    },

    /// More definitions than the limit.
    #[error("{kind} of {count} definitions is too large; at most {limit} are compiled")]
    TooManyDefinitions {
        /// Kind of the source.
        kind: GrammarKind,
        /// Number of definitions.
        count: usize,
        /// The limit.
        limit: usize,
    },

    /// A schema that is not JSON.
    #[error("the JSON schema is not JSON: {problem}")]
    NotJson {
        /// The problem, with its line and column.
        problem: String,
    },

    /// A schema that is JSON, but neither an object nor a boolean.
    #[error("the JSON schema is {found}; a schema is an object, such as {{\"type\": \"object\"}}, or true")]
    NotASchema {
        /// Kind of the JSON value.
        found: &'static str,
    },

    /// Unsupported keywords; ignoring them would violate the schema.
    #[error(
        "the JSON schema has {} at {place}, which cannot be followed; leave {} out", list(.keywords),
        if keywords.len() == 1 { "it" } else { "them" }
    )]
    Keywords {
        /// The keywords.
        keywords: Vec<String>,
        /// JSON pointer to their schema, from the root `#`.
        place: String,
    },

    /// A grammar that cannot be compiled.
    #[error("{kind}: {problem}")]
    Invalid {
        /// Kind of the source.
        kind: GrammarKind,
        /// The problem.
        problem: String,
    },

    /// A grammar that takes too long to compile. Its thread goes on in the background until it ends.
    #[error("{kind} is too complex: it is not compiled after {seconds} seconds; make it smaller")]
    TooSlow {
        /// Kind of the source.
        kind: GrammarKind,
        /// The time limit.
        seconds: u64,
    },

    /// A vocabulary that cannot form a prefix tree.
    #[error("a grammar cannot be followed with this model's tokenizer: {problem}")]
    Vocabulary {
        /// The problem.
        problem: String,
    },

    /// No thread, or no memory, to compile in.
    #[error("a grammar cannot be compiled: {0}")]
    System(#[from] std::io::Error),
}

fn list(keywords: &[String]) -> String {
    keywords.iter().map(|keyword| format!("`{keyword}`")).collect::<Vec<_>>().join(", ")
}

impl From<GrammarError> for ModelError {
    fn from(error: GrammarError) -> ModelError {
        ModelError::Constraint { problem: error.to_string() }
    }
}
