//! Files that hold models. One file per container format; none of them knows what the tensors are for.

pub mod gguf;
#[expect(clippy::disallowed_methods, reason = "writes the file that it is given")]
mod output_file;
mod reader;
pub mod tensor_type;
mod value;
pub mod write;

pub use output_file::OutputFile;
pub use reader::Reader;
pub use tensor_type::TensorType;
