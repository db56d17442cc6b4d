//! Errors of the engine, and the reasons why it refuses a request.

use std::time::Duration;

use tl_model::ModelError;

/// An error of the engine or of a running sequence.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The model, or its memory.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The device's memory.
    #[error(transparent)]
    Device(#[from] tl_device::Error),
    /// An option outside its range.
    #[error("{option} is {value}, expected {expected}")]
    Option {
        /// Its name.
        option: &'static str,
        /// Its value.
        value: usize,
        /// Its range, in words.
        expected: String,
    },
    /// The server's threads could not be started, or its socket not be used.
    #[error("the server cannot start: {0}")]
    System(#[from] std::io::Error),
    /// The engine ended while the sequence was waiting or running.
    #[error("the engine has ended")]
    Ended,
}

/// Result of the engine.
pub type Result<T> = std::result::Result<T, Error>;

/// The reason why the engine does not take a request.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// A prompt without tokens.
    #[error("the prompt has no tokens")]
    EmptyPrompt,
    /// A maximum of no tokens.
    #[error("the maximum of tokens is 0, expected at least 1")]
    NoTokens,
    /// Prompt and answer exceed the memory of a sequence.
    #[error(
        "the prompt has {prompt} tokens, and with at most {max_tokens} of an answer it needs {needed}; a sequence has \
         memory for {limit}"
    )]
    TooLong {
        /// Tokens of the prompt.
        prompt: usize,
        /// Maximum tokens of the answer.
        max_tokens: usize,
        /// Their sum.
        needed: usize,
        /// Maximum tokens of a sequence.
        limit: usize,
    },
    /// A token that the model does not have.
    #[error("token {id} is outside the vocabulary of {vocab_size} tokens")]
    Token {
        /// The token.
        id: u32,
        /// Tokens of the model.
        vocab_size: usize,
    },
    /// A sampling option outside its range.
    #[error(transparent)]
    Sampling(ModelError),
    /// More log-probabilities for each token than the engine gives.
    #[error("{asked} log-probabilities for each token are more than the {limit} that there can be")]
    TooManyLogprobs {
        /// Number in the request.
        asked: usize,
        /// Maximum.
        limit: usize,
    },
    /// As many requests are waiting as may wait.
    #[error("{waiting} requests are waiting, of at most {limit}; try again in {} s", retry_after.as_secs().max(1))]
    QueueFull {
        /// Requests that are waiting.
        waiting: usize,
        /// Maximum.
        limit: usize,
        /// When a place is likely to be free.
        retry_after: Duration,
    },
    /// The engine takes no more requests: it is being stopped, or has failed.
    #[error("the server is stopping and takes no more requests")]
    Stopping,
}
