//! A model that was found: its kind and its files.

use std::path::PathBuf;

/// How a model is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One GGUF file, or all parts of a split one.
    Gguf,
    /// A folder with `config.json` and safetensors.
    HuggingFace,
}

/// A model that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// What the user wrote.
    pub name: String,
    /// How it is stored.
    pub kind: Kind,
    /// What to open: the GGUF file or its first part, or the folder.
    pub path: PathBuf,
    /// The files with the weights, in order.
    pub parts: Vec<PathBuf>,
    /// Their size together, in bytes.
    pub bytes: u64,
}
