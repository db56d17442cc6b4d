//! A model ready to run: weights on a device and the compiled script of their architecture, checked against each other.
//!
//! The memory and work of a step are written down nowhere: they are found by running the script on a simulated device.

use std::path::Path;
use std::sync::Arc;

use tl_device::{DType, Device, SessionPlan};
use tl_lang::{Architecture, ScriptedModel};
use tl_model::{Activations, KvCache, LanguageModel, ModelConfig, ModelError, Result, Tokenizer, Weights};
use tl_tensor::Tensor;

/// A loaded model. Cloning gives another handle on the same model.
///
/// ```
/// use tl_engine::Model;
/// let model = Model::load("../../models/demo-q4_0.gguf", &tl_device::Device::cpu())?;
/// let mut cache = model.new_cache(8)?;
/// let logits = model.forward(&[1, 300, 7], &mut cache)?;
/// assert_eq!((logits.dims(), cache.len()), (&[1, 1536][..], 3));
/// # Ok::<(), tl_engine::ModelError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Model {
    scripted: ScriptedModel,
    /// Shared by all handles on the model, whatever their types are.
    #[cfg(feature = "grammar")]
    pub(crate) compiler: std::sync::Arc<std::sync::OnceLock<std::sync::Arc<tl_grammar::GrammarCompiler>>>,
}

/// Options of loading a model.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct LoadOptions {
    /// Read the file into private memory instead of mapping it.
    pub is_copied: bool,
    /// The script to run the model with, instead of the bundled one.
    pub architecture: Option<Architecture>,
}

impl Model {
    /// Maps a model's file, and runs a step of its architecture's script on a simulated device, so that everything but
    /// the weights' values is checked. Activations are `float16`.
    ///
    /// The file must not be truncated while the model exists.
    ///
    /// # Errors
    /// An unreadable or damaged file; an architecture without a bundled script; a tensor that the script reads and the
    /// file lacks, has in other sizes or in a format that cannot be computed on; a tensor that the script does not
    /// read. The message names the file.
    pub fn load(path: impl AsRef<Path>, device: &Device) -> Result<Model> {
        Model::load_with(path, device, LoadOptions::default())
    }

    /// [`Model::load`] with the file read into private memory instead of mapped: the start takes as long as the copy,
    /// and decoding does not depend on the state of the system's file cache.
    ///
    /// # Errors
    /// As for [`Model::load`], and lack of memory for the copy.
    pub fn load_copied(path: impl AsRef<Path>, device: &Device) -> Result<Model> {
        Model::load_with(path, device, LoadOptions { is_copied: true, ..LoadOptions::default() })
    }

    /// [`Model::load`] with options.
    ///
    /// # Errors
    /// As for [`Model::load`].
    pub fn load_with(path: impl AsRef<Path>, device: &Device, options: LoadOptions) -> Result<Model> {
        let path = path.as_ref();
        let load = if options.is_copied { Weights::load_copied } else { Weights::load };
        let weights = load(path, device)?;
        Model::new(weights, options.architecture)
            .map_err(|error| ModelError::File { path: path.to_owned(), error: Box::new(error) })
    }

    /// A model of these weights, with the bundled script of their architecture unless another is given.
    ///
    /// # Errors
    /// As for [`Model::load`].
    pub fn new(weights: Weights, architecture: Option<Architecture>) -> Result<Model> {
        let architecture = architecture.map_or_else(|| Architecture::of(&weights), Ok)?;
        Ok(Model {
            scripted: ScriptedModel::with(&weights, architecture)?,
            #[cfg(feature = "grammar")]
            compiler: Default::default(),
        })
    }

    /// The same model with another [`ScriptedModel`].
    fn with(&self, scripted: ScriptedModel) -> Model {
        Model {
            scripted,
            #[cfg(feature = "grammar")]
            compiler: self.compiler.clone(),
        }
    }

    /// All memory of a text of up to `context` tokens, prompt and answer together: for
    /// [`Device::admit`](tl_device::Device::admit). [`ReserveFor`](crate::ReserveFor) reserves the same for a whole
    /// device.
    ///
    /// ```
    /// use tl_engine::{Model, SamplingOptions, Session, Step};
    /// let device = tl_device::Device::cpu();
    /// let model = Model::load("../../models/demo-q8_0.gguf", &device)?;
    /// let admission = device.admit(model.session_plan(64)?)?;
    /// let _entered = admission.enter(); // this thread's steps take from the admission alone
    /// let mut session = Session::new(&model, 64, SamplingOptions::default())?;
    /// session.set_text(&model.tokenizer()?.encode("A trait object"))?;
    /// assert!(matches!(session.step()?, Step::Token(_)));
    /// assert_eq!(admission.stats().fallback_count, 0);
    /// # Ok::<(), tl_engine::ModelError>(())
    /// ```
    ///
    /// # Errors
    /// A context beyond the model's trained length, types that the model's cache cannot have.
    pub fn session_plan(&self, context: usize) -> Result<SessionPlan> {
        self.scripted.session_plan(context)
    }

    /// The same model on a simulated device.
    pub(crate) fn counting(&self) -> Model {
        self.with(self.scripted.counting())
    }

    /// The weights and the compiled script.
    pub fn scripted(&self) -> &ScriptedModel {
        &self.scripted
    }

    /// A step into a cache that gets its layers on the way.
    pub(crate) fn forward_sketch(&self, tokens: &[u32], cache: &mut KvCache) -> Result<Tensor> {
        self.scripted.forward_sketch(tokens, cache)
    }

    /// The weights.
    pub fn weights(&self) -> &Weights {
        self.scripted.weights()
    }

    /// The same model with another type of activations.
    pub fn with_activations(&self, activations: Activations) -> Model {
        self.with(self.scripted.with_types(activations, self.weights().own_cache_dtype()))
    }

    /// The type of activations.
    pub fn activations(&self) -> Activations {
        self.weights().activations()
    }

    /// The same model with KV caches of this type (see [`KvCache::new`]); `None`: that of the activations.
    ///
    /// ```
    /// use tl_engine::Model;
    /// let model = Model::load("../../models/demo-q8_0.gguf", &tl_device::Device::cpu())?;
    /// let model = model.with_cache_dtype(tl_device::DType::Q8_0);
    /// let cache = model.new_cache(128)?;
    /// // 22 layers, keys and values, 1 head of 32 elements: blocks of 34 bytes.
    /// assert_eq!(model.device().stats().cache_bytes, 22 * 2 * 128 * 34);
    /// # drop(cache);
    /// # Ok::<(), tl_engine::ModelError>(())
    /// ```
    pub fn with_cache_dtype(&self, dtype: impl Into<Option<DType>>) -> Model {
        self.with(self.scripted.with_types(self.activations(), dtype.into()))
    }

    /// The type of the KV caches made for the model: that of the activations unless [`Model::with_cache_dtype`] set
    /// another.
    pub fn cache_dtype(&self) -> DType {
        self.weights().cache_dtype()
    }

    /// Sizes and constants.
    pub fn config(&self) -> &ModelConfig {
        self.weights().config()
    }

    /// The device that the weights are on.
    pub fn device(&self) -> &Device {
        self.weights().device()
    }

    /// The file that the model was loaded from.
    pub fn path(&self) -> &Path {
        self.weights().path()
    }

    /// The tokenizer in the file, read at the first call.
    ///
    /// # Errors
    /// A file without a tokenizer, or with one of an unknown kind, an inconsistent one, or one of another size than the
    /// model.
    pub fn tokenizer(&self) -> Result<Arc<Tokenizer>> {
        self.weights().tokenizer()
    }

    /// The tensor with this full name, such as `blk.0.attn_q.weight`.
    ///
    /// # Errors
    /// The file lacks it, or has it in a format that cannot be computed on.
    pub fn tensor(&self, name: &str) -> Result<&Tensor> {
        self.weights().tensor(name)
    }

    /// An empty KV cache of `context` tokens, of [`Model::cache_dtype`].
    ///
    /// # Errors
    /// A context beyond the model's trained length, or lack of memory.
    pub fn new_cache(&self, context: usize) -> Result<KvCache> {
        self.scripted.new_cache(context)
    }

    /// The logits after the last of `tokens`, which continue the cache and are added to it:
    /// `[1, vocab_size]` of the model's type of activations. Long prompts run in parts.
    ///
    /// # Errors
    /// No tokens, an id outside the vocabulary, a full cache or one for another model, lack of memory.
    /// Nothing is added to the cache then, except when memory runs out after the first part of a long prompt.
    pub fn forward(&self, tokens: &[u32], cache: &mut KvCache) -> Result<Tensor> {
        self.scripted.forward(tokens, cache)
    }

    /// [`Model::forward`] with the logits after each of the tokens: `[n, vocab_size]`.
    ///
    /// # Errors
    /// As for [`Model::forward`].
    pub fn forward_all(&self, tokens: &[u32], cache: &mut KvCache) -> Result<Tensor> {
        self.scripted.forward_all(tokens, cache)
    }
}

impl LanguageModel for Model {
    fn vocab_size(&self) -> usize {
        self.config().vocab_size
    }

    fn context_length(&self) -> usize {
        self.config().context_length
    }

    fn is_end(&self, token: u32) -> bool {
        self.scripted.is_end(token)
    }

    fn new_cache(&self, context: usize) -> Result<KvCache> {
        self.scripted.new_cache(context)
    }

    fn forward(&self, tokens: &[u32], cache: &mut KvCache) -> Result<Tensor> {
        self.scripted.forward(tokens, cache)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tl_testing::{GgufWriter, TempFile};

    const F32_ID: u32 = 0;
    const IQ2_XXS_ID: u32 = 16;

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
            let mut cache = model.new_cache(4).unwrap();
            model.forward(&[1, 2, 4], &mut cache).unwrap().cast::<f32>().unwrap().to_vec().unwrap()
        };
        assert_eq!(logits(&tied), logits(&untied));
        assert!(logits(&tied).iter().all(|x| x.is_finite()));
        assert!(!tied.weights().has("output.weight") && untied.weights().has("output.weight"));
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
        check("missing", file(|_| None, "blk.1.ffn_up.weight"), "`blk.1` has no part `ffn_up`");
        check("no-embedding", file(|_| None, "token_embd.weight"), "this model has no part `token_embd`");
        check("wrong", resized("blk.0.attn_k.weight", &[6, 8]), "the number of elements must stay the same");
        check("rank", resized("output_norm.weight", &[1, 8]), "rms_norm: w must have 1 dimension, [n]");
        check("vocabulary", resized("token_embd.weight", &[6, 8]), "`forward` gives float16[1, 6], not [1, 5]");
        for unknown in ["blk.0.attn_x.bias", "blk.2.attn_q.weight", "blk.x", "blk.-1.attn_q.weight"] {
            let writer = file(|_| None, "").tensor(unknown, &[1], F32_ID, &[0; 4]);
            check(
                "unknown",
                writer,
                &format!("the file has `{unknown}`, which the script of the architecture `llama`"),
            );
        }
        let writer = file(|_| None, "output_norm.weight").tensor("output_norm.weight", &[256], IQ2_XXS_ID, &[0; 66]);
        check(
            "format",
            writer,
            "`output_norm.weight` is stored as IQ2_XXS, which cannot be computed on; use a file in one of",
        );
        check("other", file(|_| None, "").string("general.architecture", "bert"), "occurs twice");
    }

    #[test]
    fn what_cannot_be_forwarded() {
        let model = load("forward", &file(|_| None, "")).unwrap();
        let mut cache = model.new_cache(4).unwrap();
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
        assert!(model.new_cache(17).unwrap_err().to_string().contains("this model works for 1 to 16"));
        assert!(model.new_cache(0).is_err());
        let mut other = KvCache::new(model.device(), 3, 1, 4, 4, DType::F16).unwrap();
        assert!(model.forward(&[0], &mut other).unwrap_err().to_string().contains("has 3 layers, but the model has 2"));
        // More than the machine has.
        let huge = KvCache::new(model.device(), 2, 1 << 20, 1 << 10, 1 << 20, DType::F16).unwrap_err();
        assert!(huge.to_string().contains("out of memory"), "{huge}");
    }

    #[test]
    fn prompts_of_several_parts() {
        use tl_lang::PREFILL_CHUNK;
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
}
