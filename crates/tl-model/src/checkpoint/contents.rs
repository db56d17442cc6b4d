//! The contents of a checkpoint, as a GGUF file or a folder gives them.

use std::path::{Path, PathBuf};

use tl_device::Mapping;

use super::convert::Source;
use super::metadata::Metadata;
use crate::error::{ModelError, Result};
use crate::format::TensorType;

/// The most tensors that a model may have, several times what the largest have.
pub(super) const MAX_TENSORS: usize = 1 << 18;

/// What a source gives.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) files: Vec<Mapping>,
    /// Where everything was read from: the weights' files and, of a folder, the others.
    pub(super) paths: Vec<PathBuf>,
    pub(super) metadata: Metadata,
    pub(super) tensors: Vec<CheckpointTensor>,
    pub(super) vocabulary: Vocabulary,
    pub(super) chat_template: Option<String>,
    pub(super) stop_token_ids: Vec<u32>,
}

/// Where the tokenizer is.
#[derive(Debug)]
pub(super) enum Vocabulary {
    /// In the metadata of the first file.
    Gguf,
    /// In files of its own.
    Folder { tokenizer: Option<Mapping>, config: Option<Mapping> },
}

/// A tensor of a checkpoint, before it is loaded.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CheckpointTensor {
    /// GGUF's name: `blk.0.attn_q.weight`.
    pub name: String,
    /// How the elements are stored once the tensor is loaded.
    pub tensor_type: TensorType,
    /// Sizes, outermost first: a weight is `[out, in]`.
    pub dims: Vec<usize>,
    pub(super) source: Source,
}

/// How files are read.
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

/// Adds a file's path to what is wrong with it.
pub(super) fn in_file<T>(path: &Path, read: impl FnOnce() -> Result<T>) -> Result<T> {
    read().map_err(|error| ModelError::File { path: path.to_owned(), error: Box::new(error) })
}

impl CheckpointTensor {
    /// Whether the tensor's bytes are used where they lie in a file, on a CPU.
    pub fn is_stored(&self) -> bool {
        self.source.is_stored()
    }

    /// Bytes of the tensor once it is loaded; `None` where the type's blocks are not known.
    pub fn len_bytes(&self) -> Option<u64> {
        let elems = self.dims.iter().try_fold(1u64, |n, &dim| n.checked_mul(dim as u64))?;
        let (block_elems, block_bytes) = self.tensor_type.block_elems().zip(self.tensor_type.block_bytes())?;
        (elems / block_elems as u64).checked_mul(block_bytes as u64)
    }
}
