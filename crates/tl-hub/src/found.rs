//! A resolved model: its kind and its files.

use std::path::PathBuf;

/// How a model is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One GGUF file, or all parts of a split one.
    Gguf,
    /// A folder with `config.json` and safetensors.
    HuggingFace,
}

/// A resolved model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The name that the user wrote.
    pub name: String,
    /// The storage format.
    pub kind: Kind,
    /// The path to open: the GGUF file or its first part, or the folder.
    pub path: PathBuf,
    /// The files with the weights, in order.
    pub parts: Vec<PathBuf>,
    /// Total size of the parts in bytes.
    pub bytes: u64,
}
