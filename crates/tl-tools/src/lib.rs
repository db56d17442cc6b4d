//! Making and measuring model files: files with random weights, files in other formats, a model's perplexity on a text
//! and its divergence from another model, its speed, and the limits of the machine.
//!
//! Running a model does not need this crate.

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
