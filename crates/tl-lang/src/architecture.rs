//! Architectures: TL scripts with a function `forward` that turns tokens into logits, compiled once and called from Rust.
//!
//! A script is text from any source. The scripts that ship with the program are files of the standard library,
//! `std/arch/<name>.tl`, named as model files name the architecture.

use std::sync::Arc;

use parking_lot::Mutex;
use tl_model::{KvCache, ModelError, Result, Weights};
use tl_syntax::{Diagnostic, SourceMap, Span};
use tl_tensor::Tensor;

use crate::check::{CheckOptions, Checked};
use crate::compile::compile;
use crate::declared::Declared;
use crate::error::ProgramError;
use crate::eval::{self, CallState, Environment};
use crate::host::{CapturedHost, Host};
use crate::ints::Ints;
use crate::ir::Program;
use crate::library::OpenModel;
use crate::stack::{SMALL_STACK_BYTES, run_on_stack};
use crate::standard;
use crate::types::HandleKind;
use crate::value::{Handle, Value};

/// The function that a script must have.
const FORWARD: &str = "forward";

/// Its signature.
const SIGNATURE: &str = "fn forward(model: Model, cache: KvCache, ids: [int]) -> float[?, ?]";

/// How much of the caller's stack a call may use. Architectures' scripts nest little.
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
    /// Absent until the script's top level has run.
    state: Option<CallState>,
    /// The cache of the running call; empty between calls.
    cache: Arc<Mutex<KvCache>>,
    host: Box<dyn Host>,
}

impl std::fmt::Debug for Architecture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Architecture").finish_non_exhaustive()
    }
}

impl Architecture {
    /// The stack of the thread on which a script is checked.
    pub const CHECK_STACK_BYTES: usize = SMALL_STACK_BYTES;

    /// The names of the architectures whose scripts ship with the program.
    pub fn names() -> impl Iterator<Item = &'static str> {
        standard::names().filter_map(|name| name.strip_prefix(standard::ARCHITECTURES))
    }

    /// The script of an architecture, if it ships with the program.
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
    /// None ships with the program.
    pub fn of(weights: &Weights) -> Result<Architecture> {
        let name = &weights.config().architecture;
        let Some(source) = Architecture::source(name) else {
            let known = Architecture::names().collect::<Vec<_>>().join(", ");
            return Err(ModelError::Architecture { found: name.clone(), known });
        };
        Architecture::compile(&format!("{}{name}.tl", standard::ARCHITECTURES), source).map_err(script_error)
    }

    /// Compiles a script that imports from the standard library only.
    ///
    /// # Errors
    /// The checker's errors, and a script without a function `forward` of the right signature.
    pub fn compile(name: &str, source: &str) -> std::result::Result<Architecture, ProgramError> {
        Architecture::compile_with(name, source, Box::new(CapturedHost::default()))
    }

    /// As [`Architecture::compile`], for a script that imports and prints through `host`.
    ///
    /// # Errors
    /// As for [`Architecture::compile`].
    pub fn compile_with(
        name: &str,
        source: &str,
        mut host: Box<dyn Host>,
    ) -> std::result::Result<Architecture, ProgramError> {
        let mut sources = SourceMap::new();
        let checked = run_on_stack(&[SMALL_STACK_BYTES], &mut |_| {
            Ok(compile(name, source, &CheckOptions::default(), &mut *host, &mut sources))
        })?;
        let Checked { program, diagnostics } = checked;
        let Some(program) = program else { return Err(ProgramError::before_run(diagnostics, sources)) };
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
            return Err(ProgramError::before_run(vec![diagnostic], sources));
        };
        let cache = Arc::new(Mutex::new(KvCache::default()));
        Ok(Architecture { program, sources, forward: forward as u32, state: None, cache, host })
    }

    /// Calls `forward` with all of the tokens at once. The cache's [`LogitsRows`](tl_model::LogitsRows) select the rows of the
    /// result: `[rows, vocab_size]`. `open_model` is for scripts that generate text with another model.
    ///
    /// # Errors
    /// The script's errors, with the place in it.
    pub(crate) fn forward(
        &mut self,
        weights: &Weights,
        tokens: &[u32],
        cache: &mut KvCache,
        open_model: OpenModel,
    ) -> Result<Tensor> {
        cache.begin_call();
        std::mem::swap(&mut *self.cache.lock(), cache);
        let arguments = [
            Value::Handle(Handle::model(weights.clone(), None)),
            Value::Handle(Handle::KvCache(self.cache.clone())),
            Value::Ints(Ints::of_tokens(tokens)),
        ];
        let environment = Environment { device: weights.device(), host: &mut *self.host, open_model };
        let result = eval::call(&self.program, self.forward, arguments, environment, STACK_BYTES, &mut self.state);
        std::mem::swap(&mut *self.cache.lock(), cache);
        cache.end_call();
        match result {
            Ok(Value::Tensor(logits)) => Ok(logits.into_inner()),
            Ok(other) => Err(ModelError::Script { message: format!("`forward` gives {}", other.describe()) }),
            Err(error) => Err(script_error(ProgramError::while_running(*error, self.sources.clone()))),
        }
    }
}

fn script_error(error: ProgramError) -> ModelError {
    ModelError::Script { message: error.to_string() }
}
