//! Text to token ids and back, by the tokenizer that a model file carries.
//!
//! [`Tokenizer`] is one type over three kinds: SentencePiece, byte-level byte-pair encoding, and byte-pair encoding of
//! characters with byte tokens. Encoding goes through the files of this folder in this order: `special` cuts out the
//! tokens that have a text of their own, `normalize` respells the rest, `split` cuts it into pieces (by the expressions
//! of `pattern` and `matcher`), and `bpe` or `spm` (with `merge`) joins each piece to tokens of `vocab`. `gguf` and
//! `json` read the two kinds of files.

mod bpe;
mod bytes;
mod decode;
mod encoder;
mod gguf;
mod json;
mod matcher;
mod merge;
mod normalize;
mod pattern;
mod special;
mod split;
mod spm;
#[cfg(test)]
mod tests;
mod vocab;

pub use decode::DecodeStream;
pub use encoder::{EncodeOptions, Tokenizer};

use crate::error::ModelError;

fn bad(problem: impl Into<String>) -> ModelError {
    ModelError::TokenizerData { problem: problem.into() }
}
