//! A checkpoint in the form of one GGUF file, as [`crate::Quantization`] writes it.
//!
//! Most of it is unchanged. Differences of a folder (see the module above) that GGUF can express are converted here:
//! rows of q and k are arranged as adjacent pairs, and the key for the other order, `A.rope.halves`, is left out. One
//! key unknown to GGUF stays: `A.rope.scaling.yarn_truncate`, which this project uses to compute as the folder says.
//! Other programs ignore it and round the bounds; where it is false, they compute a little differently, with or without
//! the key. Keys of split files are left out.

use std::path::Path;

use tl_device::{Device, Layout};

use super::contents::{CheckpointTensor, Vocabulary};
use super::convert;
use super::gguf::SPLIT_KEYS;
use super::opened::{Checkpoint, MetaValue};
use crate::error::{ModelError, Result};

const HALVES: &str = ".rope.halves";
const TRUNCATE: &str = ".rope.scaling.yarn_truncate";

/// Tensors with rows of rotated heads: names without the layer's prefix and the suffix for the kind.
const ROTATED: [(&str, &str); 2] = [("attn_q", ".attention.head_count"), ("attn_k", ".attention.head_count_kv")];

impl Checkpoint {
    /// The metadata of a GGUF file with the whole model, in the order of the file. For a folder, without the tokenizer.
    pub fn exported_metadata(&self) -> impl Iterator<Item = (&str, MetaValue<'_>)> {
        let halves = self.full_key(HALVES);
        self.contents.metadata.pairs_in_order().filter(move |(key, _)| !SPLIT_KEYS.contains(key) && *key != halves)
    }

    /// The tensors of a GGUF file, in the order of the files.
    ///
    /// # Errors
    /// Heads of q and k that contradict the metadata.
    pub fn exported_tensors(&self) -> Result<Vec<CheckpointTensor>> {
        let mut tensors = self.tensors().to_vec();
        if self.boolean(HALVES)? != Some(true) {
            return Ok(tensors);
        }
        let size = |key: &str| -> Result<usize> {
            let missing = || ModelError::MissingKey { key: self.full_key(key), meaning: "the heads that are rotated" };
            Ok(usize::try_from(self.integer(key)?.ok_or_else(missing)?).unwrap_or(usize::MAX))
        };
        let (head_rows, paired) = (size(".attention.key_length")?, size(".rope.dimension_count")?);
        for tensor in &mut tensors {
            let role = tensor.name.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
            let role = role.and_then(|(_, role)| role.strip_suffix(".weight").or(role.strip_suffix(".bias")));
            let Some((_, heads)) = ROTATED.iter().find(|(name, _)| Some(*name) == role) else { continue };
            let n_rows = size(heads)?.checked_mul(head_rows);
            let row_elems = tensor.dims.iter().skip(1).product();
            let is_right = n_rows.is_some() && tensor.dims.first().copied() == n_rows;
            let source = tensor.source.paired(tensor.tensor_type, head_rows, paired, row_elems);
            tensor.source = source.filter(|_| is_right).ok_or_else(|| ModelError::TensorSizes {
                name: tensor.name.clone(),
                offset: 0,
                dims: tensor.dims.iter().map(|&dim| dim as u64).collect(),
                format: tensor.tensor_type.to_string(),
                problem: "whose rows are not those of the heads in config.json",
            })?;
        }
        Ok(tensors)
    }

    /// Passes the bytes of an exported tensor from left to right, about `chunk_bytes` at a time: whole blocks of the
    /// tensor's type if `chunk_bytes` is, and whole rows if elements are gathered. No tensor is in memory as a whole.
    ///
    /// # Errors
    /// Errors of `take`; lack of memory for a chunk.
    pub fn read_exported(
        &self,
        tensor: &CheckpointTensor,
        device: &Device,
        chunk_bytes: usize,
        take: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let dtype = convert::format_of(tensor.tensor_type).map_or(tl_device::DType::F32, |format| format.dtype);
        let layout = Layout::new(dtype, tensor.dims.as_slice());
        tensor.source.read(&self.contents.files, &layout, device, chunk_bytes.max(4), take)
    }

    /// Whether the files are a folder's, with the tokenizer outside the metadata.
    pub fn is_folder(&self) -> bool {
        matches!(self.contents.vocabulary, Vocabulary::Folder { .. })
    }

    /// Whether a folder has a tokenizer.
    pub fn has_tokenizer_files(&self) -> bool {
        matches!(self.contents.vocabulary, Vocabulary::Folder { tokenizer: Some(_), .. })
    }

    /// Whether other programs compute a little differently, since they do not support unrounded bounds of yarn.
    pub fn has_unrounded_yarn(&self) -> bool {
        matches!(self.boolean(TRUNCATE), Ok(Some(false)))
    }

    /// A name for a folder's model: the folder's own, or in Hugging Face's cache that of its repository.
    #[expect(clippy::disallowed_methods, reason = "a folder may be given by another name than its own")]
    pub fn folder_name(&self) -> Option<String> {
        let path = if self.path.is_dir() { self.path.as_path() } else { self.path.parent()? };
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let name = |path: &Path| Some(path.file_name()?.to_str()?.to_owned());
        match path.parent().filter(|parent| parent.file_name().is_some_and(|name| name == "snapshots")) {
            // `models--org--name/snapshots/COMMIT`
            Some(snapshots) => name(snapshots.parent()?)?.rsplit("--").next().map(str::to_owned),
            None => name(&path),
        }
    }
}
