//! [`Checkpoint`]: a model's files, opened.

use std::path::{Path, PathBuf};

use tl_device::{Device, Layout, Mapping};
use tl_tensor::Tensor;

use super::contents::{Access, CheckpointTensor, Contents, Vocabulary, in_file};
use super::{convert, folder, gguf};
use crate::error::{ModelError, Result};
pub use crate::format::gguf::Value as MetaValue;
use crate::format::gguf::{Array, Gguf, Value, ValueType};

const ARCHITECTURE_KEY: &str = "general.architecture";

/// A model's files: the metadata and the location of the tensors.
///
/// ```
/// use tl_model::Checkpoint;
/// let checkpoint = Checkpoint::open("../../models/demo-q8_0.gguf")?;
/// assert_eq!(checkpoint.architecture(), "llama");
/// assert_eq!(checkpoint.integer(".block_count")?, Some(22));
/// assert_eq!(checkpoint.integer("llama.block_count")?, Some(22));
/// let device = tl_device::Device::cpu();
/// let index = checkpoint.tensor_index("output_norm.weight").unwrap();
/// assert_eq!(checkpoint.load_tensor(index, &device)?.unwrap().dims(), [96]);
/// # Ok::<(), tl_model::ModelError>(())
/// ```
#[derive(Debug)]
pub struct Checkpoint {
    pub(super) path: PathBuf,
    architecture: String,
    pub(super) contents: Contents,
}

/// The source of a tokenizer.
#[derive(Debug)]
pub enum TokenizerSource<'a> {
    /// Keys `tokenizer.ggml.*` of a GGUF file.
    Gguf(Gguf<'a>),
    /// The bytes of files of a folder.
    Files {
        /// `tokenizer.json`.
        tokenizer: &'a [u8],
        /// `tokenizer_config.json`, if present.
        config: Option<&'a [u8]>,
    },
}

impl Checkpoint {
    /// Opens a GGUF file, a split one by any of its parts, or a Hugging Face folder by its path or that of its
    /// `config.json` or one of its `.safetensors`. Weights are mapped, not read.
    ///
    /// The files must not be truncated while the checkpoint or a tensor of it exists.
    ///
    /// # Errors
    /// Files that cannot be read, are damaged or contradict each other; in a folder, an unknown kind of model. Messages
    /// name the file.
    pub fn open(path: impl AsRef<Path>) -> Result<Checkpoint> {
        Checkpoint::open_with(path.as_ref(), Access::Mapped)
    }

    /// As [`Checkpoint::open`], with weights files read into the process's own memory: see [`Mapping::read`].
    ///
    /// # Errors
    /// As for [`Checkpoint::open`], and lack of memory for the copy.
    pub fn open_copied(path: impl AsRef<Path>) -> Result<Checkpoint> {
        Checkpoint::open_with(path.as_ref(), Access::Copied)
    }

    fn open_with(path: &Path, access: Access) -> Result<Checkpoint> {
        let contents = match folder::folder_of(path) {
            Some(folder) => folder::open(&folder, path, access)?,
            None => gguf::open(path, access)?,
        };
        let architecture = in_file(path, || {
            let found =
                Value::typed(contents.metadata.value(ARCHITECTURE_KEY), ARCHITECTURE_KEY, "a string", Value::as_str);
            let missing =
                || ModelError::MissingKey { key: ARCHITECTURE_KEY.to_owned(), meaning: "what kind of model it is" };
            found?.map(str::to_owned).ok_or_else(missing)
        })?;
        Ok(Checkpoint { path: path.to_owned(), architecture, contents })
    }

    /// The path that was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// GGUF's name of the architecture, the prefix of its keys.
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// Every metadata key and its value, sorted by key.
    pub fn metadata(&self) -> impl Iterator<Item = (&str, MetaValue<'_>)> {
        self.contents.metadata.pairs()
    }

    /// The value of a metadata key. A key that begins with a dot gets the architecture's name as prefix.
    pub fn value(&self, key: &str) -> Option<MetaValue<'_>> {
        match key.starts_with('.') {
            true => self.contents.metadata.value(&self.full_key(key)),
            false => self.contents.metadata.value(key),
        }
    }

    pub(super) fn full_key(&self, key: &str) -> String {
        let prefix = if key.starts_with('.') { &self.architecture } else { "" };
        format!("{prefix}{key}")
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &'static str,
        convert: impl FnOnce(&Value<'a>) -> Option<T>,
    ) -> Result<Option<T>> {
        Value::typed(self.value(key), &self.full_key(key), expected, convert)
    }

    /// A key's value as a count: any integer type, not negative. Keys as for [`Checkpoint::value`].
    ///
    /// # Errors
    /// The key holds another type, or a negative number.
    pub fn integer(&self, key: &str) -> Result<Option<u64>> {
        self.typed(key, "an integer that is not negative", Value::as_integer)
    }

    /// A key's value as a floating-point number.
    ///
    /// # Errors
    /// The key holds another type than float32 or float64.
    pub fn float(&self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a float", Value::as_float)
    }

    /// A key's value as a flag.
    ///
    /// # Errors
    /// The key holds another type.
    pub fn boolean(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "a bool", Value::as_bool)
    }

    /// A key's value as text.
    ///
    /// # Errors
    /// The key holds another type.
    pub fn string(&self, key: &str) -> Result<Option<&str>> {
        self.typed(key, "a string", Value::as_str)
    }

    /// A key's value as an array whose elements have the type `element`.
    ///
    /// # Errors
    /// The key holds no array, or one of another type.
    pub fn array(&self, key: &str, element: ValueType, expected: &'static str) -> Result<Option<Array<'_>>> {
        self.typed(key, expected, |value| value.as_array(element))
    }

    /// Size of the weights files in bytes.
    pub fn len_bytes(&self) -> u64 {
        self.contents.files.iter().map(|file| file.bytes().len() as u64).sum()
    }

    /// Every tensor, in the order of the files.
    pub fn tensors(&self) -> &[CheckpointTensor] {
        &self.contents.tensors
    }

    /// The index of the tensor with this name in [`Checkpoint::tensors`]; a linear search.
    pub fn tensor_index(&self, name: &str) -> Option<usize> {
        self.contents.tensors.iter().position(|tensor| tensor.name == name)
    }

    /// Size of the weights files in bytes.
    pub fn file_bytes(&self) -> u64 {
        self.contents.files.iter().map(|file| file.bytes().len() as u64).sum()
    }

    /// The files that the checkpoint was read from.
    pub fn files(&self) -> &[PathBuf] {
        &self.contents.paths
    }

    /// The tensor at this index of [`Checkpoint::tensors`], on `device`: `None` if its type is not supported.
    ///
    /// On a CPU it uses the mapped bytes themselves if [`CheckpointTensor::is_stored`]; else it takes learnable memory,
    /// which is filled from the files. On a device that only counts, no weights are read.
    ///
    /// # Errors
    /// Lack of memory; data whose offset in the file is not aligned for its type.
    ///
    /// # Panics
    /// If there is no such tensor.
    pub fn load_tensor(&self, index: usize, device: &Device) -> Result<Option<Tensor>> {
        let tensor = &self.contents.tensors[index];
        let Some(format) = convert::format_of(tensor.tensor_type) else {
            return Ok(None);
        };
        let layout = Layout::new(format.dtype, tensor.dims.as_slice());
        let lease = tensor.source.load(&self.contents.files, &layout, device)?;
        Ok(Some(Tensor::from_lease(lease, &layout)?))
    }

    /// The source of the tokenizer.
    ///
    /// # Errors
    /// A folder without `tokenizer.json`.
    pub fn tokenizer_source(&self) -> Result<TokenizerSource<'_>> {
        match (&self.contents.vocabulary, self.contents.files.first()) {
            (Vocabulary::Gguf, first) => {
                let bytes = first.map(Mapping::bytes).unwrap_or_default();
                in_file(&self.path, || Ok(TokenizerSource::Gguf(Gguf::parse(bytes)?)))
            }
            (Vocabulary::Folder { tokenizer: Some(tokenizer), config }, _) => {
                Ok(TokenizerSource::Files { tokenizer: tokenizer.bytes(), config: config.as_ref().map(Mapping::bytes) })
            }
            (Vocabulary::Folder { tokenizer: None, .. }, _) => {
                Err(ModelError::NoModel { path: self.path.clone(), missing: "tokenizer.json".to_owned() })
            }
        }
    }

    /// The chat template, if the files have one: `tokenizer.chat_template` of a GGUF file; `chat_template.jinja`,
    /// `chat_template.json` or `tokenizer_config.json` of a folder.
    pub fn chat_template(&self) -> Option<&str> {
        match self.contents.vocabulary {
            Vocabulary::Gguf => self.value("tokenizer.chat_template")?.as_str(),
            Vocabulary::Folder { .. } => self.contents.chat_template.as_deref(),
        }
    }

    /// The tokens that end a text by a folder's `generation_config.json` and `config.json`. A GGUF file has them in its
    /// tokenizer.
    pub fn stop_token_ids(&self) -> &[u32] {
        &self.contents.stop_token_ids
    }
}
