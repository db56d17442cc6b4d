//! Container formats of model files, one file each; none of them knows the purpose of the tensors.

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
