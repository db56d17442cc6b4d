//! Errors of making and measuring model files.

use std::path::PathBuf;

use tl_model::ModelError;

/// The result of making or measuring something.
pub type Result<T> = std::result::Result<T, ToolError>;

/// A file that cannot be made or compared with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ToolError {
    /// A model that cannot be read, written or run.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// An unknown name.
    #[error("there is no {what} `{name}`; there are {known}")]
    UnknownName {
        /// The kind of name: `shape`, `format`.
        what: &'static str,
        /// The name given.
        name: String,
        /// The known names.
        known: String,
    },
    /// The file does not begin with the magic of a file of log-probabilities.
    #[error(
        "no file of log-probabilities: it begins with {found:02x?}, such a file with `_logits_`; \
         `tl perplexity --save` writes one, and llama-perplexity --kl-divergence-base"
    )]
    NotLogProbs {
        /// The first bytes of the file, at most eight.
        found: Vec<u8>,
    },
    /// Sizes that a file of log-probabilities cannot have.
    #[error(
        "{n_tokens} tokens in windows of {window}, from a vocabulary of {vocab_size}: a file of log-probabilities has windows of 3 \
         tokens or more and nothing left over, and counts windows, their tokens and the vocabulary from 1 to 2147483647"
    )]
    LogProbsSizes {
        /// Tokens of a window.
        window: usize,
        /// Tokens of the vocabulary.
        vocab_size: usize,
        /// Tokens of the text.
        n_tokens: usize,
    },
    /// A weight that the target format cannot hold, or that was not a finite number.
    #[error(
        "{}: tensor `{tensor}` has weights that are no finite numbers in {format}; \
         take a file whose weights are, or a format that reaches further, such as bf16", .path.display()
    )]
    NotFinite {
        /// The source file.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// The target format.
        format: String,
    },
}

impl From<tl_tensor::Error> for ToolError {
    fn from(error: tl_tensor::Error) -> ToolError {
        ToolError::Model(error.into())
    }
}

impl From<tl_device::Error> for ToolError {
    fn from(error: tl_device::Error) -> ToolError {
        ToolError::Model(error.into())
    }
}
