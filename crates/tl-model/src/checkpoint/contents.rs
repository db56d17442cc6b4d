//! The contents of a checkpoint, from a GGUF file or a folder.

use std::path::{Path, PathBuf};

use tl_device::Mapping;

use super::convert::Source;
use super::metadata::Metadata;
use crate::error::{ModelError, Result};
use crate::format::TensorType;

/// The most tensors of a model, several times the number in the largest.
pub(super) const MAX_TENSORS: usize = 1 << 18;

/// The contents of a source.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) files: Vec<Mapping>,
    /// All files that were read: the weights' files and, for a folder, the others.
    pub(super) paths: Vec<PathBuf>,
    pub(super) metadata: Metadata,
    pub(super) tensors: Vec<CheckpointTensor>,
    pub(super) vocabulary: Vocabulary,
    pub(super) chat_template: Option<String>,
    pub(super) stop_token_ids: Vec<u32>,
}

/// The location of the tokenizer.
#[derive(Debug)]
pub(super) enum Vocabulary {
    /// In the metadata of the first file.
    Gguf,
    /// In separate files.
    Folder { tokenizer: Option<Mapping>, config: Option<Mapping> },
}

/// A tensor of a checkpoint, before it is loaded.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CheckpointTensor {
    /// GGUF's name: `blk.0.attn_q.weight`.
    pub name: String,
    /// Storage type of the elements once the tensor is loaded.
    pub tensor_type: TensorType,
    /// Sizes, outermost first: a weight is `[out, in]`.
    pub dims: Vec<usize>,
    pub(super) source: Source,
}

/// Access to a file: mapped or copied.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Access {
    Mapped,
    Copied,
}

impl Access {
    pub(super) fn open(self, path: &Path) -> Result<Mapping> {
        let opened = match self {
            Access::Mapped => Mapping::open(path),
            Access::Copied => Mapping::read(path),
        };
        opened.map_err(|source| ModelError::Io { path: path.to_owned(), source })
    }
}

/// Adds a file's path to its error.
pub(super) fn in_file<T>(path: &Path, read: impl FnOnce() -> Result<T>) -> Result<T> {
    read().map_err(|error| ModelError::File { path: path.to_owned(), error: Box::new(error) })
}

impl CheckpointTensor {
    /// Whether a CPU uses the tensor's bytes in place in a file.
    pub fn is_stored(&self) -> bool {
        self.source.is_stored()
    }

    /// Bytes of the tensor once it is loaded; `None` for a type with unknown blocks.
    pub fn len_bytes(&self) -> Option<u64> {
        let elems = self.dims.iter().try_fold(1u64, |n, &dim| n.checked_mul(dim as u64))?;
        let (block_elems, block_bytes) = self.tensor_type.block_elems().zip(self.tensor_type.block_bytes())?;
        (elems / block_elems as u64).checked_mul(block_bytes as u64)
    }
}
