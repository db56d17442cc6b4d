//! A tensor runtime and a small language in which memory is reserved before it is used.
//!
//! The crate for Rust programs: it re-exports the items of the crates below it.
//!
//! # Memory
//!
//! A [`Device`] serves every tensor from the reservations, else from its pool, else from the system:
//!
//! ```
//! use tensorlogic::{Device, Tensor, TensorBuffer, f16};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let device = Device::cpu();
//! let buffer = TensorBuffer::new(&device);
//! buffer.reserve(vec![512, 128], 10)?;
//! device.set_tensor_buffer(buffer);
//! let t = Tensor::<f16>::zeros(&device, vec![512, 128])?;
//! assert_eq!(device.tensor_buffer().unwrap().stats().taken_count, 1);
//! # assert_eq!(t.dims(), [512, 128]);
//! # Ok(())
//! # }
//! ```
//!
//! Without `set_tensor_buffer` the same call uses the [`BufferPool`], and the result is the same:
//!
//! ```
//! use tensorlogic::{Device, Tensor, f16};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let device = Device::cpu();
//! for _ in 0..3 {
//!     let t = Tensor::<f16>::ones(&device, vec![512, 128])?;
//!     assert_eq!(t.to_vec()?[0], f16::ONE);
//! }
//! let stats = device.buffer_pool().stats();
//! assert_eq!((stats.allocation_count, stats.reuse_count), (1, 2));
//! # Ok(())
//! # }
//! ```
//!
//! # Models
//!
//! [`Model::load`] maps a GGUF file; [`Planner`] computes the memory that it takes; [`ReserveFor::reserve_for`]
//! reserves exactly what generating takes; [`Generator`] is an iterator of tokens:
//!
//! ```
//! use tensorlogic::{DecodeStream, Device, GenerateOptions, Generator, Model, Planner, ReserveFor, TensorBuffer};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let device = Device::cpu();
//! let model = Model::load("../../models/demo-q8_0.gguf", &device)?;
//! println!("{}", Planner::of(&model).plan(64)?);
//! let buffer = TensorBuffer::new(&device);
//! buffer.reserve_for(&model, 64)?;
//! device.set_tensor_buffer(buffer);
//! device.seal(); // from here on a new allocation is an error
//!
//! let tokenizer = model.tokenizer()?;
//! let options = GenerateOptions::default().with_max_tokens(20).with_context(64);
//! let mut stream = DecodeStream::new();
//! let mut text = String::new();
//! for token in Generator::new(model, &tokenizer.encode("A trait object"), &options)? {
//!     text.push_str(stream.next(&tokenizer, token?)?);
//! }
//! assert!(!text.is_empty());
//! assert_eq!(device.tensor_buffer_stats().fallback_count, 0);
//! # Ok(())
//! # }
//! ```
//!
//! `examples/generate.rs` has a whole decode loop, with the transformer written out in tensor operations.
//!
//! # Programs in TL
//!
//! ```
//! use tensorlogic::{Device, Interpreter};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let device = Device::cpu();
//! let outcome = Interpreter::new(&device).run(
//!     r#"
//!     buffer_reserve([8, 4], 2)
//!     let x = ones([8, 4])
//!     print(sum(x), buffer_stats().taken)
//!     "#,
//! )?;
//! # let _ = outcome;
//! # Ok(())
//! # }
//! ```

pub use half::f16;
pub use tl_device::{
    Action, Admission, ArenaPlan, Available, BufferPool, BufferPoolStats, DType, Device, DeviceOptions, Entered, Event,
    GpuChoice, GpuInfo, GpuKind, GpuOptions, GpuProblem, GpuStats, HoldsMemory, Isa, Layout, LayoutError, LayoutStats,
    Lease, Mapping, MemoryBound, MemoryOptions, MemoryStats, PlanError, PlanRow, Purpose, ReservationPlan, ReserveKind,
    Role, Scope, SessionPlan, Shape, Simulation, Source, StillShared, Storage, SymbolicReservation, TensorBuffer,
    TensorBufferStats, Trace, TraceTotals, TracedLayout, TracedSite, Work, bytes, heap,
};
pub use tl_engine::{
    Activations, Answer, AnswerEnd, Architecture, CancelToken, Chat, ChatForm, ChatOptions, ChatTemplate, Constraint,
    ConstraintState, DateTime, DecodeStream, Finish, GenerateOptions, Generator, KvCache, LanguageModel, LoadOptions,
    MemoryPlan, Message, Model, ModelConfig, ModelError, Planner, ReserveFor, SamplingOptions, Session, Step,
    StopStrings, Timings, Tokenizer, Weights, Workload,
};
#[cfg(feature = "grammar")]
pub use tl_engine::{Grammar, GrammarCompiler, GrammarError, GrammarKind, GrammarSource};
pub use tl_model::{
    CachePart, ChildPlace, ConfigValue, EncodeOptions, Keeps, LayerSpec, LogitsRows, MetadataValue, ModelNode, NodeRef,
    Sampler,
};
pub use tl_tensor::{CreateTensors, Dyn, DynTensor, Element, Random, Tensor, TensorMut};
pub use tl_tools::{
    Divergence, LogProbs, LogProbsRow, LogProbsWriter, Perplexity, Predictions, Quantization, QuantizeProgress,
    QuantizeReport, SyntheticModel, SyntheticShape, ToolError, WINDOWS, weight_formats,
};

/// Operations as data: the table that methods, language and documentation share.
pub use tl_tensor::ops;
/// Formats that weights are stored in.
pub use tl_tensor::quant;

/// Errors of memory.
pub use tl_device::Error as MemoryError;
/// Results of models.
pub use tl_model::Result as ModelResult;
/// Errors of operations.
pub use tl_tensor::{Error as TensorError, OpError};
/// Results of tools.
pub use tl_tools::Result as ToolResult;

/// Model files: GGUF files, whether their tensors can be computed on or not, and checkpoints, in files of any kind.
pub mod format {
    pub use tl_model::{
        Array, Checkpoint, CheckpointTensor, Gguf, TensorInfo, TensorType, TokenizerSource, Value, ValueType,
    };
}

/// Chat templates: what one is rendered with, its limits and its errors.
pub mod chat {
    pub use tl_chat::{ChatError, Limits, Request, Result};
}

/// What programs that run on a device are launched with. Operations do this; a simulated device tells of it.
pub mod launch {
    pub use tl_device::{Binding, Launch, LaunchListener, ShaderTarget};
}

/// What the tables of operations and formats say about inner loops, and the threads that run them.
pub mod kernels {
    pub use tl_kernels::{
        BinaryMap, BlockFormat, Dot, FloatKernels, IntegerKernels, Prefetch, Quantize, Threads, Tile, Tiling, UnaryMap,
        WeightKernels,
    };
}

/// TL: syntax, diagnostics, interpreter.
pub mod lang {
    pub use tl_lang::*;
    pub use tl_syntax as syntax;
}
pub use tl_lang::Interpreter;
