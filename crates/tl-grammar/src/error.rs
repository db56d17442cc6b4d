//! The crate's one error type. Variants carry data; the message of each says what is wrong, with the values and the place, and what
//! to do about it.

use tl_model::ModelError;

use crate::kind::GrammarKind;

/// A result with this crate's error.
pub type Result<T> = std::result::Result<T, GrammarError>;

/// Why a grammar cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GrammarError {
    /// A source that is too long.
    #[error("{kind} of {len_bytes} bytes is too long; at most {limit} are read")]
    TooLong {
        /// What it is.
        kind: GrammarKind,
        /// Its length.
        len_bytes: usize,
        /// The most.
        limit: usize,
    },

    /// More definitions than are compiled.
    #[error("{kind} of {count} definitions is too large; at most {limit} are compiled")]
    TooManyDefinitions {
        /// What it is.
        kind: GrammarKind,
        /// How many.
        count: usize,
        /// The most.
        limit: usize,
    },

    /// A schema that is no JSON.
    #[error("the JSON schema is not JSON: {problem}")]
    NotJson {
        /// What is wrong, and in which line and column.
        problem: String,
    },

    /// A schema that is JSON, but neither an object nor a boolean.
    #[error("the JSON schema is {found}; a schema is an object, such as {{\"type\": \"object\"}}, or true")]
    NotASchema {
        /// What it is.
        found: &'static str,
    },

    /// Keywords that are not understood. To ignore them would be to break what they say.
    #[error(
        "the JSON schema has {} at {place}, which cannot be followed; leave {} out", list(.keywords),
        if keywords.len() == 1 { "it" } else { "them" }
    )]
    Keywords {
        /// The keywords.
        keywords: Vec<String>,
        /// The schema that has them, as a JSON pointer from the root, `#`.
        place: String,
    },

    /// A grammar that cannot be compiled.
    #[error("{kind}: {problem}")]
    Invalid {
        /// What it is.
        kind: GrammarKind,
        /// What is wrong.
        problem: String,
    },

    /// A grammar that takes too long to compile. What compiles it goes on until it ends, behind the back of the program.
    #[error("{kind} is too complex: it is not compiled after {seconds} seconds; make it smaller")]
    TooSlow {
        /// What it is.
        kind: GrammarKind,
        /// How long it may take.
        seconds: u64,
    },

    /// A vocabulary that makes no tree.
    #[error("a grammar cannot be followed with this model's tokenizer: {problem}")]
    Vocabulary {
        /// What is wrong with it.
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
