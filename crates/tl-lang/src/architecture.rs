//! Architectures: TL scripts with a function `forward` that turns tokens into logits, compiled once and called from Rust.
//!
//! A script is text; whose it is does not matter. Those that come with the program are files of the standard library,
//! `std/arch/<name>.tl`, by the name that model files give the architecture.

use std::sync::Arc;

use parking_lot::Mutex;
use tl_device::{DType, Device, SessionPlan, Simulation};
use tl_model::{Activations, CachePart, KvCache, LogitsRows, ModelError, Result, Weights};
use tl_syntax::{Diagnostic, SourceMap, Span};
use tl_tensor::Tensor;

use crate::check::{Checked, check};
use crate::eval::{self, Remains};
use crate::host::{CapturedHost, Host};
use crate::interpreter::{ProgramError, SMALL_STACK_BYTES, on_stack};
use crate::ir::{Declared, Program};
use crate::standard;
use crate::value::{Handle, HandleKind, Ints, Value};

/// The most tokens that go through a model at once. Longer prompts go in parts: it bounds the memory of activations,
/// and costs nothing, since the weights are read from cache by then.
pub const PREFILL_CHUNK: usize = KvCache::MAX_STEP;

/// The function that a script must have.
const FORWARD: &str = "forward";

/// What the function looks like.
const SIGNATURE: &str = "fn forward(model: Model, cache: KvCache, ids: [int]) -> float[?, ?]";

/// How much of the caller's stack a call may use. Scripts of architectures are shallow.
const STACK_BYTES: usize = 1 << 20;

/// A compiled script.
///
/// ```
/// use tl_lang::Architecture;
/// let llama = Architecture::source("llama").unwrap();
/// assert!(llama.contains("fn forward("));
/// let error = Architecture::compile("mine.tl", "fn forward(x: int) { print(x) }").unwrap_err();
/// assert!(error.to_string().contains("fn forward(model: Model, cache: KvCache, ids: [int])"));
/// ```
pub struct Architecture {
    program: Program,
    sources: SourceMap,
    forward: u32,
    remains: Option<Remains>,
    /// The cache of the call that runs; in between an empty one.
    cache: Arc<Mutex<KvCache>>,
    host: Box<dyn Host>,
}

impl std::fmt::Debug for Architecture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Architecture").finish_non_exhaustive()
    }
}

impl Architecture {
    /// The stack of the thread that a script is checked on, once.
    pub const CHECK_STACK_BYTES: usize = SMALL_STACK_BYTES;

    /// The names of the architectures whose scripts come with the program.
    pub fn names() -> impl Iterator<Item = &'static str> {
        standard::names().filter_map(|name| name.strip_prefix(standard::ARCHITECTURES))
    }

    /// The script of an architecture that comes with the program.
    pub fn source(name: &str) -> Option<&'static str> {
        Architecture::names().find(|known| *known == name)?;
        standard::source(&format!("{}{name}", standard::ARCHITECTURES))
    }

    /// The text of a file of the standard library, `transformer` or `arch/llama`.
    pub fn library(name: &str) -> Option<&'static str> {
        standard::source(&format!("{}{name}", standard::PREFIX))
    }

    /// The script for these weights, by the architecture that their file names.
    ///
    /// # Errors
    /// None comes with the program.
    pub fn of(weights: &Weights) -> Result<Architecture> {
        let name = &weights.config().architecture;
        let Some(source) = Architecture::source(name) else {
            let known = Architecture::names().collect::<Vec<_>>().join(", ");
            return Err(ModelError::Architecture { found: name.clone(), known });
        };
        Architecture::compile(&format!("{}{name}.tl", standard::ARCHITECTURES), source).map_err(script_error)
    }

    /// Compiles a script that imports from the standard library alone.
    ///
    /// # Errors
    /// What the checker finds, and a script without a function `forward` of the right kind.
    pub fn compile(name: &str, source: &str) -> std::result::Result<Architecture, ProgramError> {
        Architecture::compile_with(name, source, Box::new(CapturedHost::default()))
    }

    /// As [`Architecture::compile`], for a script that imports, and prints, by way of `host`.
    ///
    /// # Errors
    /// As for [`Architecture::compile`].
    pub fn compile_with(
        name: &str,
        source: &str,
        mut host: Box<dyn Host>,
    ) -> std::result::Result<Architecture, ProgramError> {
        let mut sources = SourceMap::new();
        let checked = on_stack(&[SMALL_STACK_BYTES], &mut |_| Ok(check(name, source, &mut *host, &mut sources)))?;
        let Checked { program, diagnostics } = checked;
        let fail =
            |diagnostics, sources| ProgramError { diagnostics, calls: Vec::new(), sources, output: String::new() };
        let Some(program) = program else { return Err(fail(diagnostics, sources)) };
        let found = program.functions.iter().position(|function| &*function.name == FORWARD);
        let forward = found.filter(|&index| {
            let [model, cache, ids] = &*program.functions[index].parameters else { return false };
            model.ty == Declared::Handle(HandleKind::Model)
                && cache.ty == Declared::Handle(HandleKind::KvCache)
                && ids.ty == Declared::List(Box::new(Declared::Int))
                && matches!(program.functions[index].result, Declared::Tensor(..))
        });
        let Some(forward) = forward else {
            let message = match found {
                None => "this script has no function `forward`, so it is no architecture",
                Some(_) => "`forward` is not what the script of an architecture has",
            };
            let diagnostic = Diagnostic::error(Span::default(), message).hint(format!("it is `{SIGNATURE}`"));
            return Err(fail(vec![diagnostic], sources));
        };
        let cache = Arc::new(Mutex::new(KvCache::default()));
        Ok(Architecture { program, sources, forward: forward as u32, remains: None, cache, host })
    }

    /// Calls `forward` with all of the tokens at once. The cache's [`LogitsRows`] say which rows there are: `[rows, vocab_size]`.
    ///
    /// # Errors
    /// Where the script runs into one: the message names the place in it.
    pub fn forward(&mut self, weights: &Weights, tokens: &[u32], cache: &mut KvCache) -> Result<Tensor> {
        let device = weights.device();
        // What an earlier error left unfinished is forgotten.
        cache.abandon_step();
        std::mem::swap(&mut *self.cache.lock(), cache);
        let ids = Ints::of_tokens(tokens);
        let arguments = [
            Value::Handle(Handle::Model(weights.clone(), None)),
            Value::Handle(Handle::KvCache(self.cache.clone())),
            Value::Ints(ids),
        ];
        let result = self.begin(device).and_then(|()| {
            let mut remains = self.remains.take().unwrap_or_default();
            let host = (device, &mut *self.host);
            let result = eval::call(&self.program, self.forward, arguments, host, STACK_BYTES, &mut remains);
            self.remains = Some(remains);
            result
        });
        std::mem::swap(&mut *self.cache.lock(), cache);
        match result {
            Ok(Value::Tensor(logits)) => Ok(logits),
            Ok(other) => Err(ModelError::Script { message: format!("`forward` gives {}", other.describe()) }),
            Err(error) => Err(script_error(ProgramError {
                diagnostics: vec![error.diagnostic],
                calls: error.calls,
                sources: self.sources.clone(),
                output: String::new(),
            })),
        }
    }

    /// Runs the script's top level before the first call.
    fn begin(&mut self, device: &Device) -> std::result::Result<(), Box<eval::RunError>> {
        if self.remains.is_none() {
            self.remains = Some(eval::begin(&self.program, device, &mut *self.host, STACK_BYTES)?);
        }
        Ok(())
    }
}

fn script_error(error: ProgramError) -> ModelError {
    ModelError::Script { message: error.to_string() }
}

/// The most names that a message lists.
const MAX_NAMES: usize = 8;

/// Weights and the script of their architecture, checked against each other. Cloning gives another handle on the same model.
#[derive(Clone, Debug)]
pub struct ScriptedModel {
    weights: Weights,
    /// The same weights on a device that only counts.
    counting: Weights,
    architecture: Arc<Mutex<Architecture>>,
    /// What the layers of a KV cache keep.
    parts: Arc<[CachePart]>,
    /// What a session takes, for the context that was asked for last.
    pub(crate) planned: Arc<Mutex<Option<(usize, SessionPlan)>>>,
}

impl ScriptedModel {
    /// The weights with the script that comes with the program.
    ///
    /// # Errors
    /// There is none for their architecture, or as for [`ScriptedModel::with`].
    pub fn new(weights: &Weights) -> Result<ScriptedModel> {
        ScriptedModel::with(weights, Architecture::of(weights)?)
    }

    /// The weights with this script. A step of it is run on a device that only counts: that shows whether the weights have the
    /// sizes that the script wants, and what its KV cache has to hold.
    ///
    /// # Errors
    /// What the script runs into; weights that it does not ask for.
    pub fn with(weights: &Weights, mut architecture: Architecture) -> Result<ScriptedModel> {
        let counting = weights.on_device(&Device::simulated(Simulation::of(weights.device())))?;
        let mut sketch = KvCache::sketch(0, 1, DType::F16);
        let logits = architecture.forward(&counting, &[0], &mut sketch)?;
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

    /// The logits after the last of `tokens`, which go on from what the cache holds and are added to it:
    /// `[1, vocab_size]` of the model's type of activations. Goes through [`PREFILL_CHUNK`] tokens at a time.
    ///
    /// # Errors
    /// No tokens, an id outside the vocabulary, a full cache or one for another model, memory that cannot be had.
    /// Nothing is added to the cache then, except by an error of memory behind the first part of a long prompt.
    pub fn forward(&self, tokens: &[u32], cache: &mut KvCache) -> Result<Tensor> {
        self.check(tokens, cache)?;
        let mut logits = Err(ModelError::EmptyPrompt);
        for part in tokens.chunks(PREFILL_CHUNK) {
            // Those of the part before are not looked at: of one token in so many they cost nothing.
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

    /// As [`ScriptedModel::forward`], into a cache that gets its layers by the way: see [`KvCache::sketch`]. All tokens go at once.
    ///
    /// # Errors
    /// What the script runs into.
    pub fn forward_sketch(&self, tokens: &[u32], cache: &mut KvCache) -> Result<Tensor> {
        self.run(tokens, cache, LogitsRows::Last)
    }

    fn run(&self, tokens: &[u32], cache: &mut KvCache, rows: LogitsRows) -> Result<Tensor> {
        let before = cache.logits_rows();
        cache.set_logits_rows(rows);
        let logits = self.architecture.lock().forward(&self.weights, tokens, cache);
        cache.set_logits_rows(before);
        let logits = logits?;
        let n_rows = if rows == LogitsRows::All { tokens.len() } else { 1 };
        check_logits(&logits, n_rows, &self.weights)?;
        Ok(logits)
    }

    fn check(&self, tokens: &[u32], cache: &mut KvCache) -> Result<()> {
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
        cache.check_room(tokens.len())
    }

    pub(crate) fn check_context(&self, context: usize) -> Result<()> {
        let limit = self.weights.config().context_length;
        if context == 0 || context > limit {
            return Err(ModelError::ContextLength { asked: context, limit });
        }
        Ok(())
    }

    /// An empty KV cache for so many tokens, of [`Weights::cache_dtype`].
    ///
    /// # Errors
    /// A context that the model was not trained for, or as for [`KvCache::new`].
    pub fn new_cache(&self, context: usize) -> Result<KvCache> {
        self.check_context(context)?;
        KvCache::with_parts(self.weights.device(), &self.parts, context, self.weights.cache_dtype())
    }
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
        // A model without a usable tokenizer generates too; it then never ends by itself.
        self.weights.is_end(token)
    }

    fn new_cache(&self, context: usize) -> Result<KvCache> {
        ScriptedModel::new_cache(self, context)
    }

    fn forward(&self, tokens: &[u32], cache: &mut KvCache) -> Result<Tensor> {
        ScriptedModel::forward(self, tokens, cache)
    }
}
