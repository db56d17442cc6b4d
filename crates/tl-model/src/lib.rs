//! Model files and what it takes to generate text from them: GGUF, tokenizer, configuration, KV cache, the llama
//! architecture, sampling, generation.
//!
//! This crate knows tensors and devices, never the language. It reads no environment variable, prints nothing,
//! and treats every byte of a file as hostile: a bad file gives a [`ModelError`], never a panic.
//!
//! ```
//! use tl_device::{Device, TensorBuffer};
//! use tl_model::{GenerateOptions, Generator, Model, ReserveFor};
//!
//! let device = Device::cpu();
//! let model = Model::load("../../models/demo-q4_0.gguf", &device)?;
//! let tokenizer = model.tokenizer()?;
//! let buffer = TensorBuffer::new(&device);
//! buffer.reserve_for(model.config(), 128)?;
//! device.set_tensor_buffer(buffer);
//!
//! let prompt = tokenizer.encode("A trait object");
//! let options = GenerateOptions { max_tokens: 20, context: Some(128), ..GenerateOptions::default() };
//! let tokens = Generator::new(&model, &prompt, &options)?.collect::<tl_model::Result<Vec<u32>>>()?;
//! println!("{}", tokenizer.decode(&tokens)?);
//! assert_eq!(device.tensor_buffer_stats().fallback_count, 0);
//! # Ok::<(), tl_model::ModelError>(())
//! ```

pub mod arch;
pub mod config;
pub mod cost;
pub mod error;
pub mod format;
pub mod generate;
pub mod kv_cache;
pub mod model;
pub mod perplexity;
pub mod plan;
pub mod quantize;
mod recipe;
pub mod reserve;
pub mod sampling;
pub mod synth;
#[cfg(test)]
mod testing;
pub mod tokenizer;
mod tree;

pub use config::{ConfigValue, LlamaConfig};
pub use cost::DecodeBytes;
pub use error::{ModelError, Result};
pub use format::TensorType;
pub use format::gguf::{Gguf, TensorInfo, Value};
pub use format::log_probs::{LogProbs, LogProbsRow, LogProbsWriter};
pub use format::write::{GgufHeader, GgufWriter};
pub use generate::{Finish, GenerateOptions, Generator, Timings};
pub use kv_cache::KvCache;
pub use model::{Activations, Model, ModelNode, NodeRef, is_supported_type};
pub use perplexity::{Divergence, Perplexity, Predictions};
pub use plan::{MemoryPlan, Planner};
pub use quantize::{Quantization, QuantizeProgress, QuantizeReport};
pub use recipe::weight_formats;
pub use reserve::ReserveFor;
pub use sampling::{Sampler, SamplingOptions};
pub use synth::{SyntheticModel, SyntheticShape};
pub use tokenizer::{DecodeStream, EncodeOptions, Tokenizer};
pub use tree::ChildPlace;
