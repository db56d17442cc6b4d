//! Models ready to run: weights with the script of their architecture.

use std::sync::Arc;

use parking_lot::Mutex;
use tl_device::{DType, Device, SessionPlan, Simulation};
use tl_model::{Activations, CachePart, KvCache, LogitsRows, ModelError, Result, StepSequence, Weights};
use tl_tensor::Tensor;

use crate::architecture::Architecture;
use crate::library::RunnableModel;

/// The most tokens that go through a model at once. Longer prompts go in parts: that bounds the memory of activations,
/// and costs nothing, since the weights are read from cache by then.
pub const PREFILL_CHUNK: usize = KvCache::MAX_STEP;

/// The most names that a message lists.
const MAX_NAMES: usize = 8;

/// Weights and the script of their architecture, checked against each other. A clone is the same model.
#[derive(Clone, Debug)]
pub struct ScriptedModel {
    weights: Weights,
    /// The same weights on a device that only counts.
    counting: Weights,
    architecture: Arc<Mutex<Architecture>>,
    /// What the layers of a KV cache keep.
    parts: Arc<[CachePart]>,
    /// The plan of a session, for the last context that one was made for.
    pub(crate) planned: Arc<Mutex<Option<(usize, SessionPlan)>>>,
}

impl ScriptedModel {
    /// The weights with the script that ships with the program.
    ///
    /// # Errors
    /// There is none for their architecture, or as for [`ScriptedModel::with`].
    pub fn new(weights: &Weights) -> Result<ScriptedModel> {
        ScriptedModel::with(weights, Architecture::of(weights)?)
    }

    /// The weights with this script. One step of it runs on a device that only counts: that checks the weights' sizes and finds
    /// what the script's KV cache has to hold.
    ///
    /// # Errors
    /// The script's errors; weights that the script does not read.
    pub fn with(weights: &Weights, mut architecture: Architecture) -> Result<ScriptedModel> {
        let counting = weights.on_device(&Device::simulated(Simulation::of(weights.device())))?;
        let mut sketch = KvCache::sketch(0, 1, DType::F16);
        let logits = architecture.forward(&counting, &[0], &mut sketch, open_model)?;
        check_logits(&logits, 1, &counting)?;
        let unused = counting.unasked();
        if !unused.is_empty() {
            let mut names: Vec<String> = unused.iter().take(MAX_NAMES).map(|name| format!("`{name}`")).collect();
            if unused.len() > MAX_NAMES {
                names.push(format!("{} more", unused.len() - MAX_NAMES));
            }
            let architecture = weights.config().architecture.clone();
            return Err(ModelError::UnusedTensors { names: names.join(", "), architecture });
        }
        let architecture = Arc::new(Mutex::new(architecture));
        let parts = sketch.parts().collect();
        Ok(ScriptedModel { weights: weights.clone(), counting, architecture, parts, planned: Arc::default() })
    }

    /// The same script with the same weights, other activations and caches of another type.
    pub fn with_types(&self, activations: Activations, cache: Option<DType>) -> ScriptedModel {
        let typed = |weights: &Weights| weights.with_activations(activations).with_cache_dtype(cache);
        let (weights, counting) = (typed(&self.weights), typed(&self.counting));
        ScriptedModel { weights, counting, planned: Arc::default(), ..self.clone() }
    }

    /// The same model on a device that only counts.
    pub fn counting(&self) -> ScriptedModel {
        ScriptedModel { weights: self.counting.clone(), ..self.clone() }
    }

    /// The weights.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// What the layers of a KV cache keep.
    pub fn cache_parts(&self) -> &[CachePart] {
        &self.parts
    }

    /// The logits after the last of `tokens`, which continue the cache's and are added to it: `[1, vocab_size]` of the dtype of
    /// activations. Runs [`PREFILL_CHUNK`] tokens at a time.
    ///
    /// # Errors
    /// No tokens, an id outside the vocabulary, a full cache or one for another model, memory that cannot be had.
    /// Nothing is added to the cache then, unless memory runs out after the first part of a long prompt.
    pub fn forward(&self, tokens: &[u32], cache: &mut KvCache) -> Result<Tensor> {
        self.check(tokens, cache)?;
        let mut logits = Err(ModelError::EmptyPrompt);
        for part in tokens.chunks(PREFILL_CHUNK) {
            // The logits of earlier parts go unused; they are computed for one token each, which costs next to nothing.
            drop(logits);
            logits = Ok(self.run(part, cache, LogitsRows::Last)?);
        }
        logits
    }

    /// As [`ScriptedModel::forward`], the logits after each of the tokens: `[n, vocab_size]`.
    ///
    /// # Errors
    /// As for [`ScriptedModel::forward`].
    pub fn forward_all(&self, tokens: &[u32], cache: &mut KvCache) -> Result<Tensor> {
        self.check(tokens, cache)?;
        if tokens.len() <= PREFILL_CHUNK {
            return self.run(tokens, cache, LogitsRows::All);
        }
        let parts = tokens.chunks(PREFILL_CHUNK).map(|part| self.run(part, cache, LogitsRows::All));
        Ok(Tensor::concat(&parts.collect::<Result<Vec<_>>>()?, 0)?)
    }

    /// As [`ScriptedModel::forward`], into a cache that learns its layers from the script: see [`KvCache::sketch`]. All tokens
    /// go at once.
    ///
    /// # Errors
    /// The script's errors.
    pub fn forward_sketch(&self, tokens: &[u32], cache: &mut KvCache) -> Result<Tensor> {
        self.run(tokens, cache, LogitsRows::Last)
    }

    /// A step of several sequences, whose tokens follow one another: the logits after the last of all tokens, or after
    /// each.
    ///
    /// # Errors
    /// As for [`ScriptedModel::forward`] and [`KvCache::begin_step`].
    pub fn forward_step<'a>(
        &self,
        tokens: &[u32],
        sequences: impl IntoIterator<Item = StepSequence<'a>>,
        rows: LogitsRows,
        cache: &mut KvCache,
    ) -> Result<Tensor> {
        self.check_tokens(tokens, cache)?;
        cache.begin_step(sequences)?;
        if cache.step_len() != tokens.len() {
            return Err(ModelError::CacheSequence { reason: "the sequences add another number of tokens" });
        }
        let logits = self.run(tokens, cache, rows);
        cache.end_step();
        logits
    }

    fn run(&self, tokens: &[u32], cache: &mut KvCache, rows: LogitsRows) -> Result<Tensor> {
        let before = cache.logits_rows();
        cache.set_logits_rows(rows);
        let logits = self.architecture.lock().forward(&self.weights, tokens, cache, open_model);
        cache.set_logits_rows(before);
        let logits = logits?;
        let n_rows = if rows == LogitsRows::All { tokens.len() } else { 1 };
        check_logits(&logits, n_rows, &self.weights)?;
        Ok(logits)
    }

    fn check(&self, tokens: &[u32], cache: &KvCache) -> Result<()> {
        self.check_tokens(tokens, cache)?;
        if cache.n_pages().is_some() {
            return Err(ModelError::CacheSequence { reason: "it has pages, and no sequence is named" });
        }
        cache.check_room(tokens.len())
    }

    fn check_tokens(&self, tokens: &[u32], cache: &KvCache) -> Result<()> {
        let config = self.weights.config();
        if tokens.is_empty() {
            return Err(ModelError::EmptyPrompt);
        }
        if let Some(&id) = tokens.iter().find(|&&id| id as usize >= config.vocab_size) {
            return Err(ModelError::TokenId { id, vocab_size: config.vocab_size });
        }
        if !self.parts.iter().copied().eq(cache.parts()) {
            let expected = self.parts.last().map_or(0, |part| part.layer + 1);
            return Err(ModelError::CacheModel { expected, found: cache.n_layers() });
        }
        Ok(())
    }

    pub(crate) fn check_context(&self, context: usize) -> Result<()> {
        let limit = self.weights.config().context_length;
        if context == 0 || context > limit {
            return Err(ModelError::ContextLength { asked: context, limit });
        }
        Ok(())
    }

    /// An empty KV cache for `context` tokens, of [`Weights::cache_dtype`].
    ///
    /// # Errors
    /// A context that the model was not trained for, or as for [`KvCache::new`].
    pub fn new_cache(&self, context: usize) -> Result<KvCache> {
        self.check_context(context)?;
        KvCache::with_parts(self.weights.device(), &self.parts, context, self.weights.cache_dtype())
    }

    /// A KV cache of `n_pages` pages for sequences of up to `context` tokens: see [`KvCache::with_pages`].
    ///
    /// # Errors
    /// As for [`ScriptedModel::new_cache`] and [`KvCache::with_pages`].
    pub fn new_pages(&self, n_pages: usize, context: usize) -> Result<KvCache> {
        self.check_context(context)?;
        KvCache::with_pages(self.weights.device(), &self.parts, n_pages, context, self.weights.cache_dtype())
    }
}

/// Makes weights runnable for the builtin `generate`.
pub(crate) fn open_model(weights: &Weights) -> Result<Box<dyn RunnableModel>> {
    Ok(Box::new(ScriptedModel::new(weights)?))
}

fn check_logits(logits: &Tensor, n_rows: usize, weights: &Weights) -> Result<()> {
    let vocab_size = weights.config().vocab_size;
    if *logits.dims() == [n_rows, vocab_size] {
        return Ok(());
    }
    let message = format!("`forward` gives {}, not [{n_rows}, {vocab_size}]", logits.layout());
    Err(ModelError::Script { message })
}

impl tl_model::LanguageModel for ScriptedModel {
    fn vocab_size(&self) -> usize {
        self.weights.config().vocab_size
    }

    fn context_length(&self) -> usize {
        self.weights.config().context_length
    }

    fn is_end(&self, token: u32) -> bool {
        // Without a usable tokenizer a model generates too, but never ends by itself.
        self.weights.is_end(token)
    }

    fn new_cache(&self, context: usize) -> Result<KvCache> {
        ScriptedModel::new_cache(self, context)
    }

    fn forward(&self, tokens: &[u32], cache: &mut KvCache) -> Result<Tensor> {
        ScriptedModel::forward(self, tokens, cache)
    }
}
