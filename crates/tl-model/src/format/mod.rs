//! Files that hold models. One file per container format; none of them knows what the tensors are for.

mod beside;
pub mod gguf;
pub mod log_probs;
mod reader;
pub mod tensor_type;
mod value;
pub mod write;

pub use tensor_type::TensorType;
