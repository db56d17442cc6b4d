//! Text to token ids and back, by the tokenizer that a model file carries.

mod decode;
mod merge;
mod spm;

pub use decode::DecodeStream;
pub use spm::Tokenizer;

use crate::checkpoint::{Checkpoint, TokenizerSource};
use crate::error::{ModelError, Result};

impl Tokenizer {
    /// The tokenizer of a model's files.
    ///
    /// # Errors
    /// None, one of a kind that is not known, or one that contradicts itself. The message names the file.
    pub fn of(checkpoint: &Checkpoint) -> Result<Tokenizer> {
        let read = match checkpoint.tokenizer_source()? {
            TokenizerSource::Gguf(gguf) => Tokenizer::from_gguf(&gguf),
            TokenizerSource::Files { .. } => Err(ModelError::TokenizerKind { found: "tokenizer.json".to_owned() }),
        };
        read.map_err(|error| ModelError::File { path: checkpoint.path().to_owned(), error: Box::new(error) })
    }

    /// What kind it is, in words.
    pub fn kind(&self) -> &'static str {
        "SentencePiece BPE"
    }
}
