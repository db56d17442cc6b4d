//! Text to token ids and back, by the tokenizer that a model file carries.

mod decode;
mod merge;
mod spm;

pub use decode::DecodeStream;
pub use spm::Tokenizer;
