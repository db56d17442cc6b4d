//! Text to token ids and back, by the tokenizer that a model file carries.
//!
//! [`Tokenizer`] is one type over three kinds: SentencePiece, byte-level byte-pair encoding, and byte-pair encoding of
//! characters with byte tokens. Encoding goes through the files of this folder in this order: `special` cuts out the
//! tokens that have a text of their own, `normalize` respells the rest, `split` cuts it into pieces (by the expressions
//! of `pattern` and `matcher`), and `bpe` or `spm` (with `merge`) joins each piece to tokens of `vocab`. `gguf` and
//! `json` read the two kinds of files, and `merges` finds the tokens of their merges; `export` writes what `gguf` reads.
//! `vocab` and `pairs` are tables over `hash`.

mod bpe;
mod bytes;
mod decode;
mod encoder;
mod export;
mod gguf;
mod hash;
mod json;
mod matcher;
mod merge;
mod merges;
mod normalize;
mod pairs;
mod pattern;
mod special;
mod split;
mod spm;
#[cfg(test)]
mod tests;
mod vocab;

pub use decode::DecodeStream;
pub use encoder::{EncodeOptions, Tokenizer};
pub use export::TokenizerExport;

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
            TokenizerSource::Files { tokenizer, config } => Tokenizer::from_json(tokenizer, config),
        };
        read.map_err(|error| ModelError::File { path: checkpoint.path().to_owned(), error: Box::new(error) })
    }
}
