//! A model on a device: its configuration, its tokenizer, its weights by name and as a tree.
//!
//! Weights lie as they do in the file, which is mapped or read, and are never rearranged. What is computed with them is in `arch/`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use tl_device::{DType, Device, Layout, Mapping, Purpose, Role};
use tl_tensor::Tensor;
use tl_tensor::quant::{FORMATS, format_by_gguf_id};

use crate::arch::llama::Llama;
use crate::config::LlamaConfig;
use crate::error::{ModelError, Result};
use crate::format::TensorType;
use crate::format::gguf::{Gguf, TensorInfo};
use crate::tokenizer::Tokenizer;
use crate::tree::{ChildPlace, Leaf, ROOT, Tree};

/// The type of what lies between the weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activations {
    /// Half precision.
    #[default]
    Float16,
    /// Single precision.
    Float32,
}

impl Activations {
    /// The data type of the tensors.
    pub fn dtype(self) -> DType {
        match self {
            Activations::Float16 => DType::F16,
            Activations::Float32 => DType::F32,
        }
    }
}

/// A model whose weights are on a device. Cloning gives another handle on the same model.
#[derive(Clone, Debug)]
pub struct Model {
    inner: Arc<Inner>,
    activations: Activations,
    /// That of the activations unless given.
    cache_dtype: Option<DType>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    mapping: Mapping,
    device: Device,
    config: LlamaConfig,
    names: Vec<String>,
    tree: Tree,
    llama: Llama,
    tokenizer: OnceLock<Arc<Tokenizer>>,
}

/// A place in a model's tree of tensors: `model.blk[3]`, or a tensor.
#[derive(Clone, Debug)]
pub struct ModelNode {
    inner: Arc<Inner>,
    node: u32,
}

/// A borrowed [`ModelNode`]: a walk over such places keeps no count of who holds the model.
#[derive(Clone, Copy, Debug)]
pub struct NodeRef<'a> {
    inner: &'a Arc<Inner>,
    node: u32,
}

impl Model {
    /// Maps a GGUF file and checks everything about it but the weights' values. Activations are `float16`.
    ///
    /// The file must not be truncated while the model exists.
    ///
    /// # Errors
    /// A file that cannot be read, is no GGUF file, is damaged, holds another architecture, lacks a tensor or has one
    /// of the wrong sizes or in a format that cannot be computed on. The message names the file.
    pub fn load(path: impl AsRef<Path>, device: &Device) -> Result<Model> {
        let path = path.as_ref();
        Model::load_from(path, device, Mapping::open(path))
    }

    /// As [`Model::load`], with the file read into memory of the process's own instead of mapped (see [`Mapping::read`]): a start
    /// that takes as long as copying does, and decoding that does not depend on how the file lies in the system's cache.
    ///
    /// # Errors
    /// As for [`Model::load`], and where there is no memory for the copy.
    pub fn load_copied(path: impl AsRef<Path>, device: &Device) -> Result<Model> {
        if device.is_gpu() {
            // It copies the weights from the mapped file.
            return Model::load(path, device);
        }
        let path = path.as_ref();
        Model::load_from(path, device, Mapping::read(path))
    }

    fn load_from(path: &Path, device: &Device, mapping: io::Result<Mapping>) -> Result<Model> {
        let mapping = mapping.map_err(|source| ModelError::Io { path: path.to_owned(), source })?;
        let inner = Inner::new(path, mapping, device);
        let inner = inner.map_err(|error| ModelError::File { path: path.to_owned(), error: Box::new(error) })?;
        Ok(Model { inner: Arc::new(inner), activations: Activations::default(), cache_dtype: None })
    }

    /// The same model with another type of activations.
    pub fn with_activations(&self, activations: Activations) -> Model {
        Model { activations, ..self.clone() }
    }

    /// The type of activations.
    pub fn activations(&self) -> Activations {
        self.activations
    }

    /// The same model with KV caches of this type (see [`KvCache::new`](crate::KvCache::new)); `None`: that of the activations.
    ///
    /// ```
    /// use tl_model::{KvCache, Model};
    /// let model = Model::load("../../models/demo-q8_0.gguf", &tl_device::Device::cpu())?;
    /// let model = model.with_cache_dtype(tl_device::DType::Q8_0);
    /// let cache = KvCache::for_model(&model, 128)?;
    /// // 22 layers, keys and values, 1 head of 32 elements: blocks of 34 bytes.
    /// assert_eq!(model.device().stats().cache_bytes, 22 * 2 * 128 * 34);
    /// # drop(cache);
    /// # Ok::<(), tl_model::ModelError>(())
    /// ```
    pub fn with_cache_dtype(&self, dtype: impl Into<Option<DType>>) -> Model {
        Model { cache_dtype: dtype.into(), ..self.clone() }
    }

    /// The type of the KV caches that are made for the model: that of the activations unless [`Model::with_cache_dtype`] says another.
    pub fn cache_dtype(&self) -> DType {
        self.cache_dtype.unwrap_or(self.activations.dtype())
    }

    /// Sizes and constants.
    pub fn config(&self) -> &LlamaConfig {
        &self.inner.config
    }

    /// The device that the weights are on.
    pub fn device(&self) -> &Device {
        &self.inner.device
    }

    /// The file that the model was loaded from.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// The tokenizer that the file carries; read when it is first asked for.
    ///
    /// # Errors
    /// The file carries none, one of another kind, one that contradicts itself, or one of another size than the model.
    pub fn tokenizer(&self) -> Result<Arc<Tokenizer>> {
        if let Some(tokenizer) = self.inner.tokenizer.get() {
            return Ok(tokenizer.clone());
        }
        let read = self.read_tokenizer();
        let tokenizer =
            read.map_err(|error| ModelError::File { path: self.inner.path.clone(), error: Box::new(error) })?;
        Ok(self.inner.tokenizer.get_or_init(|| Arc::new(tokenizer)).clone())
    }

    fn read_tokenizer(&self) -> Result<Tokenizer> {
        let tokenizer = Tokenizer::from_gguf(&Gguf::parse(self.inner.mapping.bytes())?)?;
        // A model may have rows that no token uses, but not tokens without a row.
        if tokenizer.vocab_size() > self.config().vocab_size {
            let (tokens, rows) = (tokenizer.vocab_size(), self.config().vocab_size);
            let problem = format!("it has {tokens} tokens, but the model has room for {rows}");
            return Err(ModelError::TokenizerData { problem });
        }
        Ok(tokenizer)
    }

    /// The tensor of that full name, such as `blk.0.attn_q.weight`.
    ///
    /// # Errors
    /// The file has none, or has it in a format that cannot be computed on.
    pub fn tensor(&self, name: &str) -> Result<&Tensor> {
        self.inner.tensor(name)
    }

    /// All tensors that can be computed on, with their full names, in the order of the file.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &Tensor)> + Clone {
        self.inner.names.iter().filter_map(|name| Some((name.as_str(), self.tensor(name).ok()?)))
    }

    /// The root of the tree of tensors.
    pub fn root(&self) -> ModelNode {
        ModelNode { inner: self.inner.clone(), node: ROOT }
    }

    /// The root of the tree of tensors, borrowed.
    pub fn root_ref(&self) -> NodeRef<'_> {
        NodeRef { inner: &self.inner, node: ROOT }
    }

    pub(crate) fn llama(&self) -> &Llama {
        &self.inner.llama
    }
}

impl Inner {
    fn new(path: &Path, mapping: Mapping, device: &Device) -> Result<Inner> {
        let gguf = Gguf::parse(mapping.bytes())?;
        let config = LlamaConfig::from_gguf(&gguf)?;
        let mut leaves = Vec::new();
        for info in gguf.tensors() {
            leaves.push((info.name, load_tensor(info, &mapping, device)?));
        }
        let tree = Tree::new(leaves.into_iter());
        let llama = Llama::new(&config, gguf.tensors().iter().map(|info| info.name), &tree)?;
        let names = gguf.tensors().iter().map(|info| info.name.to_owned()).collect();
        drop(gguf);
        let (path, device) = (path.to_owned(), device.clone());
        Ok(Inner { path, mapping, device, config, names, tree, llama, tokenizer: OnceLock::new() })
    }

    fn tensor(&self, name: &str) -> Result<&Tensor> {
        tensor_of(&self.tree, name)
    }
}

/// The tensor of that full name.
pub(crate) fn tensor_of<'a>(tree: &'a Tree, name: &str) -> Result<&'a Tensor> {
    match tree.find(name).and_then(|node| tree.leaf(node)) {
        Some(leaf) => computable(leaf, || name.to_owned()),
        None => Err(ModelError::MissingTensor { name: name.to_owned() }),
    }
}

fn computable(leaf: &Leaf, name: impl FnOnce() -> String) -> Result<&Tensor> {
    match leaf {
        Leaf::Tensor(tensor) => Ok(tensor),
        Leaf::Unsupported(tensor_type) => Err(unsupported(&name(), *tensor_type)),
    }
}

/// That the tensor of that name cannot be computed on.
pub(crate) fn unsupported(name: &str, tensor_type: TensorType) -> ModelError {
    let supported: Vec<String> = FORMATS.iter().map(|row| TensorType::from_id(row.gguf_id).to_string()).collect();
    ModelError::TensorFormat { name: name.to_owned(), format: tensor_type.to_string(), supported: supported.join(", ") }
}

/// Whether tensors of this type can be computed on.
pub fn is_supported_type(tensor_type: TensorType) -> bool {
    format_by_gguf_id(tensor_type.id()).is_some()
}

/// A tensor over the part of the mapping where its data lies, or a copy of it on a GPU.
fn load_tensor(info: &TensorInfo<'_>, mapping: &Mapping, device: &Device) -> Result<Leaf> {
    let Some(format) = format_by_gguf_id(info.tensor_type.id()) else {
        return Ok(Leaf::Unsupported(info.tensor_type));
    };
    let layout = Layout::new(format.dtype, info.dims.as_slice());
    let lease = if device.is_gpu() {
        // The device cannot read the file, so the bytes go there once.
        let mut lease = device.take(&layout, Purpose { role: Role::Learnable, op: "load_model" })?;
        lease.write(0, mapping.bytes().get(info.data.clone()).unwrap_or_default())?;
        lease
    } else {
        device.adopt(mapping, info.data.start, info.data.len())?
    };
    Ok(Leaf::Tensor(Tensor::from_lease(lease, &layout)?))
}

impl ModelNode {
    /// The child of that name. Allocates nothing.
    pub fn child(&self, name: &str) -> Option<ModelNode> {
        let node = self.inner.tree.child(self.node, name)?;
        Some(ModelNode { inner: self.inner.clone(), node })
    }

    /// The same place, borrowed.
    pub fn by_ref(&self) -> NodeRef<'_> {
        NodeRef { inner: &self.inner, node: self.node }
    }

    /// The child whose name is this number, counted from 0 without a gap: `blk[3]`. Allocates nothing.
    pub fn index(&self, index: usize) -> Option<ModelNode> {
        self.by_ref().index(index).map(NodeRef::to_node)
    }

    /// How many children have a number for a name, counted from 0 without a gap.
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
    /// The tensor's format cannot be computed on.
    pub fn tensor(&self) -> Result<Option<&Tensor>> {
        self.by_ref().tensor()
    }
}

impl<'a> NodeRef<'a> {
    /// The child of that name. `place` is for one name, and makes the next walk shorter.
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

    /// The place of that number in the same model.
    pub fn at(self, number: u32) -> NodeRef<'a> {
        NodeRef { node: number, ..self }
    }

    /// As [`ModelNode::tensor`].
    ///
    /// # Errors
    /// As for [`ModelNode::tensor`].
    pub fn tensor(self) -> Result<Option<&'a Tensor>> {
        let tree = &self.inner.tree;
        tree.leaf(self.node).map(|leaf| computable(leaf, || tree.path(self.node))).transpose()
    }

    /// The same place, for keeping.
    pub fn to_node(self) -> ModelNode {
        ModelNode { inner: self.inner.clone(), node: self.node }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv_cache::KvCache;
    use crate::testing::{GgufWriter, TempFile, project_file};

    const F32_ID: u32 = 0;
    const Q2_K_ID: u32 = 10;

    /// A model of two layers, 8 wide, 2 heads, 1 for keys and values, 5 tokens; `change` may replace sizes or leave a
    /// tensor out.
    fn file(change: impl Fn(&str) -> Option<Vec<u64>>, skip: &str) -> GgufWriter {
        let mut writer = GgufWriter::default()
            .string("general.architecture", "llama")
            .u32("llama.embedding_length", 8)
            .u32("llama.block_count", 2)
            .u32("llama.feed_forward_length", 12)
            .u32("llama.attention.head_count", 2)
            .u32("llama.attention.head_count_kv", 1)
            .u32("llama.context_length", 16)
            .u32("llama.vocab_size", 5)
            .f32("llama.attention.layer_norm_rms_epsilon", 1e-5);
        let mut tensors =
            vec![("token_embd.weight".to_owned(), vec![5, 8]), ("output_norm.weight".to_owned(), vec![8])];
        for layer in 0..2 {
            for (role, dims) in [
                ("attn_norm", vec![8]),
                ("attn_q", vec![8, 8]),
                ("attn_k", vec![4, 8]),
                ("attn_v", vec![4, 8]),
                ("attn_output", vec![8, 8]),
                ("ffn_norm", vec![8]),
                ("ffn_gate", vec![12, 8]),
                ("ffn_up", vec![12, 8]),
                ("ffn_down", vec![8, 12]),
            ] {
                tensors.push((format!("blk.{layer}.{role}.weight"), dims));
            }
        }
        for (name, dims) in tensors {
            if name != skip {
                let dims = change(&name).unwrap_or(dims);
                let n: u64 = dims.iter().product();
                let data: Vec<u8> = (0..n).flat_map(|i| ((i % 7) as f32 / 10.0 - 0.3).to_le_bytes()).collect();
                writer = writer.tensor(&name, &dims, F32_ID, &data);
            }
        }
        writer
    }

    fn load(name: &str, writer: &GgufWriter) -> Result<Model> {
        let file = TempFile::with(name, &writer.finish());
        Model::load(&file.0, &Device::cpu())
    }

    #[test]
    fn output_may_be_tied_to_the_embedding() {
        let table: Vec<u8> = (0..40).flat_map(|i| ((i % 7) as f32 / 10.0 - 0.3).to_le_bytes()).collect();
        let tied = load("tied", &file(|_| None, "")).unwrap();
        let untied = load("untied", &file(|_| None, "").tensor("output.weight", &[5, 8], F32_ID, &table)).unwrap();
        let logits = |model: &Model| {
            let mut cache = KvCache::for_model(model, 4).unwrap();
            model.forward(&[1, 2, 4], &mut cache).unwrap().cast::<f32>().unwrap().to_vec().unwrap()
        };
        assert_eq!(logits(&tied), logits(&untied));
        assert!(logits(&tied).iter().all(|x| x.is_finite()));
        assert!(tied.root().child("output").is_none() && untied.root().child("output").is_some());
        // Without a tokenizer a model computes, and says what it lacks when it is asked.
        assert!(tied.tokenizer().unwrap_err().to_string().contains("tokenizer.ggml.model"));
    }

    #[test]
    fn what_is_no_model() {
        let check = |name: &str, writer: GgufWriter, expected: &str| {
            let error = load(name, &writer).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains(name), "{error}");
        };
        let resized = |name: &'static str, dims: &'static [u64]| file(move |n| (n == name).then(|| dims.to_vec()), "");
        check("missing", file(|_| None, "blk.1.ffn_up.weight"), "no tensor `blk.1.ffn_up.weight`");
        check("no-embedding", file(|_| None, "token_embd.weight"), "no tensor `token_embd.weight`");
        let wrong =
            "tensor `blk.0.attn_k.weight` has the sizes [8, 8], but by the file's configuration they are [4, 8]";
        check("wrong", resized("blk.0.attn_k.weight", &[8, 8]), wrong);
        check("rank", resized("output_norm.weight", &[1, 8]), "has the sizes [1, 8]");
        check("vocabulary", resized("token_embd.weight", &[6, 8]), "they are [5, 8]");
        for unknown in
            ["blk.0.attn_q.bias", "blk.2.attn_q.weight", "rope_freqs.weight", "blk.x", "blk.-1.attn_q.weight"]
        {
            let writer = file(|_| None, "").tensor(unknown, &[1], F32_ID, &[0; 4]);
            check("unknown", writer, &format!("`{unknown}`, which is no part"));
        }
        let writer = file(|_| None, "output_norm.weight").tensor("output_norm.weight", &[256], Q2_K_ID, &[0; 84]);
        check(
            "format",
            writer,
            "`output_norm.weight` is stored as Q2_K, which cannot be computed on; use a file in one of: F32",
        );
        check("other", GgufWriter::default().string("general.architecture", "bert"), "architecture is `bert`");
    }

    #[test]
    fn what_is_no_file() {
        let check = |path: &str, expected: &str| {
            let error = Model::load(project_file(path), &Device::cpu()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("models/none.gguf", "none.gguf: No such file");
        check("models", "models: ");
        check("Cargo.toml", "Cargo.toml: not a GGUF file");
        assert!(Model::load(TempFile::with("empty", b"").0.clone(), &Device::cpu()).is_err());
    }

    #[test]
    fn walks_the_tree() {
        let model = Model::load(project_file("models/demo-q4_0.gguf"), &Device::cpu()).unwrap();
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

    #[test]
    fn what_cannot_be_forwarded() {
        let model = load("forward", &file(|_| None, "")).unwrap();
        let mut cache = KvCache::for_model(&model, 4).unwrap();
        let mut check = |tokens: &[u32], expected: &str| match model.forward(tokens, &mut cache) {
            Ok(logits) => assert_eq!((expected, logits.dims()), ("", &[1, 5][..])),
            Err(error) => assert!(!expected.is_empty() && error.to_string().contains(expected), "{error}"),
        };
        check(&[], "nothing to start from");
        check(&[5], "token id 5 is outside the vocabulary of 5 tokens");
        check(&[u32::MAX], "outside the vocabulary");
        check(&[0; 5], "it holds 0 of at most 4 tokens, 5 more do not fit");
        check(&[0; 3], "");
        check(&[0; 2], "it holds 3 of at most 4 tokens, 2 more do not fit");
        check(&[4], "");
        check(&[4], "it holds 4 of at most 4 tokens, 1 more do not fit");
        cache.clear();
        assert!(model.forward(&[0; 4], &mut cache).is_ok());
        assert!(KvCache::for_model(&model, 17).unwrap_err().to_string().contains("this model works for 1 to 16"));
        assert!(KvCache::for_model(&model, 0).is_err());
        let mut other = KvCache::new(model.device(), 3, 1, 4, 4, DType::F16).unwrap();
        assert!(model.forward(&[0], &mut other).unwrap_err().to_string().contains("has 3 layers, but the model has 2"));
        // More than the machine has.
        let huge = KvCache::new(model.device(), 2, 1 << 20, 1 << 10, 1 << 20, DType::F16).unwrap_err();
        assert!(huge.to_string().contains("out of memory"), "{huge}");
    }

    #[test]
    fn prompts_of_several_parts() {
        use crate::arch::llama::PREFILL_CHUNK;
        let model = load("parts", &file(|_| None, "")).unwrap().with_activations(Activations::Float32);
        for len in [PREFILL_CHUNK, PREFILL_CHUNK + 1, 2 * PREFILL_CHUNK + 77] {
            let ids: Vec<u32> = (0..len as u32).map(|i| i * i % 5).collect();
            let mut caches = [(); 2].map(|()| KvCache::new(model.device(), 2, 1, 4, len, DType::F32).unwrap());
            let [parts, whole] = &mut caches;
            let logits = |tensor: Tensor| tensor.into_typed::<f32>().unwrap().to_vec().unwrap();
            let last = logits(model.forward(&ids, parts).unwrap());
            let all = logits(model.forward_all(&ids, whole).unwrap());
            assert_eq!((parts.len(), all.len()), (len, len * 5));
            for (a, b) in last.iter().zip(&all[(len - 1) * 5..]) {
                assert!((a - b).abs() < 1e-4, "{len}: {a} and {b}");
            }
        }
    }

    #[test]
    fn the_layers_of_a_step_come_in_order() {
        let device = Device::cpu();
        let mut cache = KvCache::new(&device, 2, 1, 4, 8, DType::F16).unwrap();
        let ones = |n: usize| Tensor::<f32>::ones(&device, [n, 1, 4]).unwrap();
        let mut attend = |layer: usize, n: usize| {
            let result = cache.attend(layer, &ones(n), &ones(n), &ones(n)).map(|out| out.dims().to_vec());
            (result.map_err(|error| error.to_string()), cache.len())
        };
        let ok = |n: usize| Ok(vec![n, 1, 4]);
        assert_eq!(attend(0, 3), (ok(3), 0));
        assert!(attend(0, 3).0.unwrap_err().contains("got layer 0, but layer 1 of 2 is next"));
        assert!(
            attend(1, 2).0.unwrap_err().contains("layer 1 brings 2 tokens to the KV cache, but this step began with 3")
        );
        assert_eq!(attend(1, 3), (ok(3), 3));
        assert!(attend(2, 1).0.unwrap_err().contains("got layer 2"));
        assert!(attend(0, 6).0.unwrap_err().contains("it holds 3 of at most 8 tokens, 6 more do not fit"));
        assert_eq!(attend(0, 5), (ok(5), 3));
        assert_eq!(attend(1, 5), (ok(5), 8));
        assert!(
            KvCache::new(&device, 0, 1, 4, 8, DType::F16).unwrap().attend(0, &ones(1), &ones(1), &ones(1)).is_err()
        );
    }
}
