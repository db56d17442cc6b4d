//! Model files of any architecture, and the parts of text generation that do not depend on the architecture: GGUF,
//! tokenizers, configuration, weights on a device, KV cache, sampling, stop strings, generation.
//!
//! This crate knows tensors and devices, never the language, and no architecture: a [`LanguageModel`] computes with the
//! weights. It reads no environment variable, prints nothing, and treats every byte of a file as hostile: a bad file
//! gives a [`ModelError`], never a panic.
//!
//! ```
//! use tl_device::Device;
//! use tl_model::Weights;
//!
//! let weights = Weights::load("../../models/demo-q4_0.gguf", &Device::cpu())?;
//! let tokenizer = weights.tokenizer()?;
//! assert_eq!(weights.config().architecture, "llama");
//! assert_eq!(tokenizer.decode(&tokenizer.encode("A trait object"))?, "A trait object");
//! assert_eq!(weights.tensor("blk.0.attn_q.weight")?.dims(), [96, 96]);
//! # Ok::<(), tl_model::ModelError>(())
//! ```

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::print_stdout, clippy::print_stderr))]

mod chat_form;
pub mod checkpoint;
pub mod config;
pub mod constraint;
pub mod error;
pub mod format;
pub mod generate;
pub mod kv_cache;
mod metadata;
pub mod sampling;
pub mod stop;
pub mod tokenizer;
mod tree;
pub mod weights;

pub use chat_form::ChatForm;
pub use checkpoint::{Checkpoint, CheckpointTensor, MetaValue, TensorFile, TokenizerSource, load_tensors};
pub use config::{ConfigValue, ModelConfig};
pub use constraint::{Constraint, ConstraintState};
pub use error::{ModelError, Result};
pub use format::TensorType;
pub use format::gguf::{Array, Gguf, TensorInfo, Value, ValueType};
pub use format::write::{GgufHeader, GgufWriter};
pub use generate::{CancelToken, Finish, GenerateOptions, Generator, LanguageModel, Timings};
pub use kv_cache::{CachePart, Keeps, KvCache, LayerSpec, LogitsRows, PAGE_LEN, StepSequence};
pub use metadata::MetadataValue;
pub use sampling::{Sampler, SamplerState, SamplingOptions};
pub use stop::StopStrings;
pub use tokenizer::{DecodeStream, EncodeOptions, Tokenizer, TokenizerExport};
pub use tree::ChildPlace;
pub use weights::{Activations, ModelNode, NodeRef, Weights, is_supported_type};
