//! Making and measuring model files: files with random weights, files in other formats, how well a model predicts a text and
//! how far it is from another one, how fast it runs and what the machine could do.
//!
//! Nothing that runs a model needs this crate.

pub mod bench;
mod error;
pub mod limits;
pub mod log_probs;
mod perplexity;
mod quantize;
mod recipe;
mod synth;

pub use error::{Result, ToolError};
pub use log_probs::{LogProbs, LogProbsRow, LogProbsWriter};
pub use perplexity::{Divergence, Perplexity, Predictions, WINDOWS};
pub use quantize::{Quantization, QuantizeProgress, QuantizeReport};
pub use recipe::weight_formats;
pub use synth::{SyntheticModel, SyntheticShape};
