//! Models ready to run: weights and the script of their architecture, with the memory of their steps known in advance.
//!
//! There is one definition of each architecture, a TL script. The model's computation, its memory, and whether its file
//! is complete are all found by running that script, the last two on a simulated device.
//!
//! ```
//! use tl_device::{Device, TensorBuffer};
//! use tl_engine::{GenerateOptions, Generator, Model, ReserveFor};
//!
//! let device = Device::cpu();
//! let model = Model::load("../../models/demo-q4_0.gguf", &device)?;
//! let tokenizer = model.tokenizer()?;
//! let buffer = TensorBuffer::new(&device);
//! buffer.reserve_for(&model, 128)?;
//! device.set_tensor_buffer(buffer);
//!
//! let prompt = tokenizer.encode("A trait object");
//! let options = GenerateOptions::default().with_max_tokens(20).with_context(128);
//! let tokens = Generator::new(model, &prompt, &options)?.collect::<tl_engine::Result<Vec<u32>>>()?;
//! println!("{}", tokenizer.decode(&tokens)?);
//! assert_eq!(device.tensor_buffer_stats().fallback_count, 0);
//! # Ok::<(), tl_engine::ModelError>(())
//! ```

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::print_stdout, clippy::print_stderr))]

mod chat;
mod cost;
#[cfg(feature = "grammar")]
mod grammar;
mod model;
mod plan;
mod reserve;
mod session;

pub use chat::{Answer, AnswerEnd, Chat, ChatOptions};
pub use model::{LoadOptions, Model};
pub use plan::{MemoryPlan, Planner, Workload};
pub use reserve::ReserveFor;
pub use session::{Session, Step};
pub use tl_chat::{ChatTemplate, DateTime, Message};
#[cfg(feature = "grammar")]
pub use tl_grammar::{Grammar, GrammarCompiler, GrammarError, GrammarKind, GrammarSource};
pub use tl_lang::{Architecture, BatchSizes};
pub use tl_model::{
    Activations, CancelToken, ChatForm, Constraint, ConstraintState, DecodeStream, Finish, GenerateOptions, Generator,
    KvCache, LanguageModel, ModelConfig, ModelError, Result, SamplingOptions, StopStrings, Timings, Tokenizer, Weights,
};
