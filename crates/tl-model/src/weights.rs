//! A model's weights on a device, by name and as a tree, with its configuration, metadata and tokenizer.
//!
//! Weights lie as they do in the file, which is mapped or read, and are never rearranged. The architecture's script
//! computes with them; this module does not know it.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use tl_device::{DType, Device};
use tl_tensor::Tensor;
use tl_tensor::quant::{FORMATS, format_by_gguf_id};

use crate::checkpoint::Checkpoint;
use crate::config::ModelConfig;
use crate::error::{ModelError, Result};
use crate::format::TensorType;
use crate::metadata::{Metadata, MetadataValue};
use crate::tokenizer::Tokenizer;
use crate::tree::{ChildPlace, Leaf, ROOT, Tree};

/// Data type of activations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activations {
    /// Half precision.
    #[default]
    Float16,
    /// Single precision.
    Float32,
}

impl Activations {
    /// The tensors' data type.
    pub fn dtype(self) -> DType {
        match self {
            Activations::Float16 => DType::F16,
            Activations::Float32 => DType::F32,
        }
    }
}

/// The weights of a model on a device. Cloning gives another handle on the same weights.
#[derive(Clone, Debug)]
pub struct Weights {
    inner: Arc<Inner>,
    activations: Activations,
    /// `None`: the type of the activations.
    cache_dtype: Option<DType>,
}

#[derive(Debug)]
struct Inner {
    checkpoint: Arc<Checkpoint>,
    device: Device,
    config: ModelConfig,
    names: Vec<String>,
    tree: Tree,
    metadata: Metadata,
    /// On a device that only counts: for each node of the tree, whether its tensor was read.
    asked: Option<Box<[AtomicBool]>>,
    /// `None`: no usable tokenizer.
    tokenizer: OnceLock<Option<Arc<Tokenizer>>>,
}

/// A place in a model's tree of tensors: `model.blk[3]`, or a tensor.
#[derive(Clone, Debug)]
pub struct ModelNode {
    inner: Arc<Inner>,
    node: u32,
}

/// A borrowed [`ModelNode`]: walking over it does not touch the model's reference count.
#[derive(Clone, Copy, Debug)]
pub struct NodeRef<'a> {
    inner: &'a Arc<Inner>,
    node: u32,
}

impl Weights {
    /// Opens a model's files (see [`Checkpoint::open`]) and puts the weights on a device; a CPU uses them in place.
    /// Activations are `float16`.
    ///
    /// The files must not be truncated while the weights exist.
    ///
    /// # Errors
    /// Files that cannot be read, are damaged or contradict each other; an invalid configuration; lack of memory. The
    /// message names the file.
    pub fn load(path: impl AsRef<Path>, device: &Device) -> Result<Weights> {
        Weights::new(Arc::new(Checkpoint::open(path)?), device)
    }

    /// As [`Weights::load`], with the file read into the process's own memory instead of mapped (see
    /// [`Mapping::read`](tl_device::Mapping::read)): loading takes as long as a copy, and decoding does not depend on
    /// how the file lies in the system's cache.
    ///
    /// # Errors
    /// As for [`Weights::load`], and lack of memory for the copy.
    pub fn load_copied(path: impl AsRef<Path>, device: &Device) -> Result<Weights> {
        if device.is_gpu() {
            // The device copies the weights from the mapped file.
            return Weights::load(path, device);
        }
        let path = path.as_ref();
        let len = Checkpoint::open(path)?.len_bytes();
        let what = || format!("the copy of {}", path.display());
        device.check_heap(usize::try_from(len).unwrap_or(usize::MAX), what)?;
        Weights::new(Arc::new(Checkpoint::open_copied(path)?), device)
    }

    /// The weights of a checkpoint on a device.
    ///
    /// # Errors
    /// An invalid configuration, lack of memory.
    pub fn new(checkpoint: Arc<Checkpoint>, device: &Device) -> Result<Weights> {
        let inner = Inner::new(checkpoint.clone(), device)
            .map_err(|error| ModelError::File { path: checkpoint.path().to_owned(), error: Box::new(error) })?;
        Ok(Weights { inner: Arc::new(inner), activations: Activations::default(), cache_dtype: None })
    }

    /// The same files' weights on another device.
    ///
    /// # Errors
    /// Lack of memory on that device.
    pub fn on_device(&self, device: &Device) -> Result<Weights> {
        let inner = Inner::new(self.inner.checkpoint.clone(), device)?;
        Ok(Weights { inner: Arc::new(inner), ..self.clone() })
    }

    /// The same model with another type of activations.
    pub fn with_activations(&self, activations: Activations) -> Weights {
        Weights { activations, ..self.clone() }
    }

    /// The type of activations.
    pub fn activations(&self) -> Activations {
        self.activations
    }

    /// The same model with KV caches of this type (see [`KvCache::new`](crate::KvCache::new)); `None`: the activations'
    /// type.
    pub fn with_cache_dtype(&self, dtype: impl Into<Option<DType>>) -> Weights {
        Weights { cache_dtype: dtype.into(), ..self.clone() }
    }

    /// Type of the model's KV caches: that of the activations unless [`Weights::with_cache_dtype`] set another.
    pub fn cache_dtype(&self) -> DType {
        self.cache_dtype.unwrap_or(self.activations.dtype())
    }

    /// Type of the KV caches as set by [`Weights::with_cache_dtype`].
    pub fn own_cache_dtype(&self) -> Option<DType> {
        self.cache_dtype
    }

    /// Sizes and constants.
    pub fn config(&self) -> &ModelConfig {
        &self.inner.config
    }

    /// The device that the weights are on.
    pub fn device(&self) -> &Device {
        &self.inner.device
    }

    /// The file or folder that the model was loaded from.
    pub fn path(&self) -> &Path {
        self.inner.checkpoint.path()
    }

    /// The model's files.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.inner.checkpoint
    }

    /// The file's tokenizer, read on first use.
    ///
    /// # Errors
    /// The file has no tokenizer, one of another kind, one that contradicts itself, or one whose size differs from the
    /// model's.
    pub fn tokenizer(&self) -> Result<Arc<Tokenizer>> {
        if let Some(Some(tokenizer)) = self.inner.tokenizer.get() {
            return Ok(tokenizer.clone());
        }
        let tokenizer = Arc::new(self.read_tokenizer()?);
        let kept = self.inner.tokenizer.get_or_init(|| Some(tokenizer.clone()));
        Ok(kept.clone().unwrap_or(tokenizer))
    }

    /// Whether the token ends a text, by the tokenizer or a folder's configuration. The tokenizer is read once; without
    /// a usable one, the configuration alone decides.
    pub fn is_end(&self, token: u32) -> bool {
        let tokenizer = self.inner.tokenizer.get_or_init(|| self.read_tokenizer().ok().map(Arc::new));
        // A folder's configuration may name more end tokens.
        tokenizer.as_ref().is_some_and(|tokenizer| tokenizer.is_end(token))
            || self.inner.checkpoint.stop_token_ids().contains(&token)
    }

    fn read_tokenizer(&self) -> Result<Tokenizer> {
        let mut tokenizer = Tokenizer::of(&self.inner.checkpoint)?;
        // A model may have rows without a token, but no token without a row.
        tokenizer.keep_first(self.config().vocab_size)?;
        Ok(tokenizer)
    }

    /// The tensor with this full name, such as `blk.0.attn_q.weight`.
    ///
    /// # Errors
    /// The file lacks it, or has it in a format without kernels.
    pub fn tensor(&self, name: &str) -> Result<&Tensor> {
        self.inner.tensor(name)
    }

    /// All tensors in supported formats, with their full names, in the order of the file.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &Tensor)> + Clone {
        let leaf = |name: &str| self.inner.tree.find(name).and_then(|node| self.inner.tree.leaf(node));
        self.inner.names.iter().filter_map(move |name| match leaf(name)? {
            Leaf::Tensor(tensor) => Some((name.as_str(), tensor)),
            Leaf::Unsupported(_) => None,
        })
    }

    /// The root of the tree of tensors.
    pub fn root(&self) -> ModelNode {
        ModelNode { inner: self.inner.clone(), node: ROOT }
    }

    /// The root of the tree of tensors, borrowed.
    pub fn root_ref(&self) -> NodeRef<'_> {
        NodeRef { inner: &self.inner, node: ROOT }
    }

    /// Names of the tensors not read since the weights were loaded on a device that only counts. Other devices do not
    /// record reads: the list is empty. A tensor named as a part of another, such as its scale, counts on its own.
    pub fn unasked(&self) -> Vec<&str> {
        let Some(asked) = &self.inner.asked else { return Vec::new() };
        let is_unasked = |name: &&String| {
            let node = self.inner.tree.find(name);
            node.and_then(|node| asked.get(node as usize)).is_some_and(|asked| !asked.load(Ordering::Relaxed))
        };
        self.inner.names.iter().filter(is_unasked).map(String::as_str).collect()
    }

    /// The file's metadata under this key; a key that begins with a dot gets the architecture's name as prefix.
    /// Allocates nothing.
    pub fn metadata(&self, key: &str) -> Option<&MetadataValue> {
        self.inner.metadata.value(key)
    }

    /// Whether a tensor with this full name exists.
    pub fn has(&self, name: &str) -> bool {
        self.inner.tree.find(name).is_some_and(|node| self.inner.tree.leaf(node).is_some())
    }
}

impl Inner {
    fn new(checkpoint: Arc<Checkpoint>, device: &Device) -> Result<Inner> {
        let config = ModelConfig::of(&checkpoint)?;
        let n_next = checkpoint.integer(".nextn_predict_layers")?.unwrap_or(0) as usize;
        // Layers that predict further tokens are not loaded.
        let is_used =
            |name: &str| !layer_of(name).is_some_and(|n| n >= config.n_layers && n - config.n_layers < n_next);
        let used = || checkpoint.tensors().iter().enumerate().filter(|(_, tensor)| is_used(&tensor.name));
        let mut leaves = Vec::new();
        for (index, tensor) in used() {
            let leaf = match checkpoint.load_tensor(index, device)? {
                Some(loaded) => Leaf::Tensor(loaded),
                None => Leaf::Unsupported(tensor.tensor_type),
            };
            leaves.push((tensor.name.as_str(), leaf));
        }
        let tree = Tree::new(leaves.into_iter());
        let metadata = Metadata::new(checkpoint.architecture(), checkpoint.metadata());
        let asked = device.is_simulated().then(|| (0..tree.len()).map(|_| AtomicBool::new(false)).collect());
        let names = used().map(|(_, tensor)| tensor.name.clone()).collect();
        let device = device.clone();
        Ok(Inner { checkpoint, device, config, names, tree, metadata, asked, tokenizer: OnceLock::new() })
    }

    fn tensor(&self, name: &str) -> Result<&Tensor> {
        let tensor = self.tree.find(name).map(|node| self.tensor_at(node)).transpose()?.flatten();
        tensor.ok_or_else(|| ModelError::MissingTensor { name: name.to_owned() })
    }

    /// The tensor at a node of the tree.
    fn tensor_at(&self, node: u32) -> Result<Option<&Tensor>> {
        if let Some(asked) = self.asked.as_ref().and_then(|asked| asked.get(node as usize)) {
            asked.store(true, Ordering::Relaxed);
        }
        self.tree.leaf(node).map(|leaf| computable(leaf, || self.tree.path(node))).transpose()
    }
}

/// The number of the layer that a tensor of this name belongs to.
fn layer_of(name: &str) -> Option<usize> {
    name.strip_prefix("blk.")?.split('.').next()?.parse().ok()
}

fn computable(leaf: &Leaf, name: impl FnOnce() -> String) -> Result<&Tensor> {
    match leaf {
        Leaf::Tensor(tensor) => Ok(tensor),
        Leaf::Unsupported(tensor_type) => Err(ModelError::unsupported_format(&name(), *tensor_type)),
    }
}

impl ModelError {
    /// The error for a tensor in a format without kernels.
    pub fn unsupported_format(name: &str, tensor_type: TensorType) -> ModelError {
        let supported: Vec<String> = FORMATS.iter().map(|row| TensorType::from_id(row.gguf_id).to_string()).collect();
        ModelError::TensorFormat {
            name: name.to_owned(),
            format: tensor_type.to_string(),
            supported: supported.join(", "),
        }
    }
}

/// Whether tensors of this type are supported.
pub fn is_supported_type(tensor_type: TensorType) -> bool {
    format_by_gguf_id(tensor_type.id()).is_some()
}

impl ModelNode {
    /// The child with this name. Allocates nothing.
    pub fn child(&self, name: &str) -> Option<ModelNode> {
        let node = self.inner.tree.child(self.node, name)?;
        Some(ModelNode { inner: self.inner.clone(), node })
    }

    /// The same place, borrowed.
    pub fn by_ref(&self) -> NodeRef<'_> {
        NodeRef { inner: &self.inner, node: self.node }
    }

    /// The child whose name is this number: `blk[3]`. Numbers start at 0 without a gap. Allocates nothing.
    pub fn index(&self, index: usize) -> Option<ModelNode> {
        self.by_ref().index(index).map(NodeRef::to_node)
    }

    /// Number of children with numbers for names, from 0 without a gap.
    pub fn n_indexed(&self) -> usize {
        self.inner.tree.indexed(self.node).len()
    }

    /// Names of the children, sorted.
    pub fn child_names(&self) -> impl Iterator<Item = &str> {
        self.inner.tree.child_names(self.node).iter().map(|name| &**name)
    }

    /// The full name of this place: `blk.3.attn_q.weight`; empty for the root.
    pub fn path(&self) -> String {
        self.inner.tree.path(self.node)
    }

    /// The tensor at this place; `None` where there are only children.
    ///
    /// # Errors
    /// The tensor's format is not supported.
    pub fn tensor(&self) -> Result<Option<&Tensor>> {
        self.by_ref().tensor()
    }
}

impl<'a> NodeRef<'a> {
    /// The child with this name. `place` belongs to one name and shortens the next walk.
    pub fn child(self, name: &str, place: &mut ChildPlace) -> Option<NodeRef<'a>> {
        self.inner.tree.child_at(self.node, name, place).map(|node| NodeRef { node, ..self })
    }

    /// As [`ModelNode::index`].
    pub fn index(self, index: usize) -> Option<NodeRef<'a>> {
        self.inner.tree.indexed(self.node).get(index).map(|&node| NodeRef { node, ..self })
    }

    /// The place's number, for [`NodeRef::at`].
    pub fn number(self) -> u32 {
        self.node
    }

    /// The place with this number in the same model.
    pub fn at(self, number: u32) -> NodeRef<'a> {
        NodeRef { node: number, ..self }
    }

    /// As [`ModelNode::tensor`].
    ///
    /// # Errors
    /// As for [`ModelNode::tensor`].
    pub fn tensor(self) -> Result<Option<&'a Tensor>> {
        self.inner.tensor_at(self.node)
    }

    /// The same place as an owned [`ModelNode`].
    pub fn to_node(self) -> ModelNode {
        ModelNode { inner: self.inner.clone(), node: self.node }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tl_testing::{GgufWriter, TempFile, project_file};

    const F32_ID: u32 = 0;
    const IQ2_XXS_ID: u32 = 16;

    fn load(name: &str, writer: &GgufWriter) -> Result<Weights> {
        let file = TempFile::with(name, &writer.finish());
        Weights::load(&file.0, &Device::cpu())
    }

    fn file() -> GgufWriter {
        GgufWriter::default()
            .string("general.architecture", "some")
            .u32("some.embedding_length", 8)
            .u32("some.block_count", 2)
            .u32("some.attention.head_count", 2)
            .u32("some.context_length", 16)
            .u32("some.vocab_size", 5)
            .f32("some.attention.layer_norm_rms_epsilon", 1e-5)
            .i32s("some.list", &[1, 2])
    }

    #[test]
    fn metadata_by_key() {
        let weights = load("metadata", &file()).unwrap();
        let check = |key: &str, expected: Option<MetadataValue>| assert_eq!(weights.metadata(key).cloned(), expected);
        check("some.block_count", Some(MetadataValue::Int(2)));
        check(".block_count", Some(MetadataValue::Int(2)));
        check("block_count", None);
        check(".attention.layer_norm_rms_epsilon", Some(MetadataValue::Float(1e-5)));
        check("general.architecture", Some(MetadataValue::Text("some".into())));
        check(".list", Some(MetadataValue::List([1, 2].map(MetadataValue::Int).into())));
        // Without a tokenizer there are weights, and they say what is lacking when it is asked for.
        assert!(weights.tokenizer().unwrap_err().to_string().contains("tokenizer.ggml.model"));
    }

    /// They are neither loaded nor missed; layers behind them are not among them.
    #[test]
    fn layers_that_predict_further_tokens() {
        let names = ["blk.0.a", "blk.1.b", "blk.1", "blk.2.c", "blk.x.d", "output.blk.1"];
        let with = |n: u32| {
            let writer = file().u32("some.nextn_predict_layers", n);
            names.iter().fold(writer, |writer, name| writer.tensor(name, &[1], F32_ID, &[0; 4]))
        };
        let check = |n: u32, expected: &[&str]| {
            let weights = load("next", &with(n)).unwrap();
            let found: Vec<&str> = weights.tensors().map(|(name, _)| name).collect();
            assert_eq!((found.as_slice(), weights.config().n_layers), (expected, 2 - n as usize));
            assert_eq!(weights.checkpoint().tensors().len(), names.len());
        };
        check(0, &names);
        check(1, &["blk.0.a", "blk.2.c", "blk.x.d", "output.blk.1"]);
    }

    #[test]
    fn formats_that_cannot_be_computed_on() {
        let writer = file().tensor("a.weight", &[256], IQ2_XXS_ID, &[0; 66]).tensor("b", &[1], F32_ID, &[0; 4]);
        let weights = load("format", &writer).unwrap();
        assert!(weights.tensor("b").is_ok() && weights.has("a.weight") && !weights.has("a"));
        let error = weights.tensor("a.weight").unwrap_err().to_string();
        let expected = "`a.weight` is stored as IQ2_XXS, which cannot be computed on; use a file in one of: F32";
        assert!(error.contains(expected), "{error}");
        assert!(weights.tensors().map(|(name, _)| name).eq(["b"]));
    }

    #[test]
    fn what_nobody_asked_for() {
        let writer = file().tensor("a.weight", &[1], F32_ID, &[0; 4]).tensor("b", &[1], F32_ID, &[0; 4]);
        let file = TempFile::with("asked", &writer.finish());
        let counting = Weights::load(&file.0, &Device::simulated(tl_device::Simulation::default())).unwrap();
        assert_eq!(counting.unasked(), ["a.weight", "b"]);
        counting.tensor("b").unwrap();
        assert_eq!(counting.unasked(), ["a.weight"]);
        counting.root().child("a").unwrap().child("weight").unwrap().tensor().unwrap();
        assert!(counting.unasked().is_empty());
        assert!(Weights::load(&file.0, &Device::cpu()).unwrap().unasked().is_empty());
    }

    #[test]
    fn what_is_no_file() {
        let check = |path: &str, expected: &str| {
            let error = Weights::load(project_file(path), &Device::cpu()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("models/none.gguf", "none.gguf: No such file");
        check("models", "models: ");
        check("Cargo.toml", "Cargo.toml: not a GGUF file");
        assert!(Weights::load(TempFile::with("empty", b"").0.clone(), &Device::cpu()).is_err());
    }

    #[test]
    fn walks_the_tree() {
        let model = Weights::load(project_file("models/demo-q4_0.gguf"), &Device::cpu()).unwrap();
        let blk = model.root().child("blk").unwrap();
        assert_eq!(blk.n_indexed(), 22);
        assert!(blk.tensor().unwrap().is_none() && blk.index(22).is_none());
        let weight = blk.index(21).unwrap().child("attn_q").unwrap().child("weight").unwrap();
        assert_eq!(weight.path(), "blk.21.attn_q.weight");
        let tensor = weight.tensor().unwrap().unwrap();
        assert_eq!((tensor.dims(), tensor.dtype().name(), tensor.is_learnable()), (&[96, 96][..], "q4_0", true));
        assert_eq!(model.tensor("blk.21.attn_q.weight").unwrap().layout(), tensor.layout());
        assert!(model.tensor("blk.22.attn_q.weight").is_err());
        assert!(model.root().child_names().eq(["blk", "output", "output_norm", "token_embd"]));
        // Weights are read where the file is mapped: nothing was allocated for them.
        let stats = model.device().stats();
        assert!(stats.mapped_bytes > 1 << 20 && stats.allocation_count == 0, "{stats:?}");
    }
}
