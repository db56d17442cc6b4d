//! From sources to grammars, for one vocabulary.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use llguidance::Matcher;
use llguidance::ParserFactory;
use llguidance::api::TopLevelGrammar;
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::InferenceCapabilities;
use serde_json::Value;
use tl_model::Tokenizer;

use crate::error::{GrammarError, Result};
use crate::grammar::Grammar;
use crate::kind::GrammarKind;
use crate::limits::{COMPILER_STACK_BYTES, MAX_COMPILE_TIME, parser_limits};
use crate::message::{clean, without_place};
use crate::source::{GrammarSource, find_keywords};
use crate::vocabulary::Vocabulary;

/// Start of llguidance's message for unknown keywords; a list of texts follows.
const UNKNOWN_KEYWORDS: &str = "Unimplemented keys: ";

/// Makes grammars for the tokens of one model. Construction reads the whole vocabulary, about a second for a large one:
/// make one compiler for each model.
pub struct GrammarCompiler {
    vocabulary: Arc<Vocabulary>,
    factory: Arc<ParserFactory>,
}

impl GrammarCompiler {
    /// A compiler for the tokens of `tokenizer`; `is_end` says which of them end a text.
    ///
    /// # Errors
    /// A vocabulary that is too large for a tree of its tokens, or none of whose tokens is text.
    pub fn new(tokenizer: &Tokenizer, is_end: impl Fn(u32) -> bool) -> Result<GrammarCompiler> {
        let vocabulary = Arc::new(Vocabulary::new(tokenizer, is_end)?);
        let slices = SlicedBiasComputer::general_slices();
        let mut factory = ParserFactory::new(&vocabulary.env, InferenceCapabilities::default(), &slices)
            .map_err(|error| GrammarError::Vocabulary { problem: clean(&error.to_string()) })?;
        factory.quiet();
        *factory.limits_mut() = parser_limits();
        Ok(GrammarCompiler { vocabulary, factory: Arc::new(factory) })
    }

    /// Compiles a source to a grammar at its beginning, in a thread whose stack is large enough for all sources within
    /// the [limits](crate::limits).
    ///
    /// # Errors
    /// A source that is no JSON schema, no grammar or no regular expression; one that uses unsupported features, that
    /// no text of this vocabulary can follow, or that exceeds the limits.
    pub fn compile(&self, source: &GrammarSource) -> Result<Grammar> {
        self.compile_within(source, MAX_COMPILE_TIME)
    }

    /// [`GrammarCompiler::compile`] that gives up after this time, at most [`MAX_COMPILE_TIME`].
    ///
    /// # Errors
    /// As for [`GrammarCompiler::compile`].
    pub fn compile_within(&self, source: &GrammarSource, time: Duration) -> Result<Grammar> {
        let time = time.min(MAX_COMPILE_TIME);
        let (kind, (grammar, schema)) = (source.kind(), source.prepare()?);
        let (sender, receiver) = mpsc::sync_channel(1);
        let (factory, vocabulary) = (self.factory.clone(), self.vocabulary.clone());
        thread::Builder::new().name("grammar".to_owned()).stack_size(COMPILER_STACK_BYTES).spawn(move || {
            // The receiver may have given up.
            let _ = sender.send(compile(&factory, vocabulary, grammar));
        })?;
        match receiver.recv_timeout(time) {
            Ok(Ok(grammar)) => Ok(grammar),
            Ok(Err(problem)) => Err(invalid(kind, &problem, schema.as_ref())),
            Err(RecvTimeoutError::Timeout) => Err(GrammarError::TooSlow { kind, seconds: time.as_secs() }),
            // Panics are caught where they happen, and become errors.
            Err(RecvTimeoutError::Disconnected) => Err(invalid(kind, "panic: the compiler of grammars", None)),
        }
    }
}

/// Compiles a grammar and checks that some text can follow it.
fn compile(
    factory: &ParserFactory,
    vocabulary: Arc<Vocabulary>,
    grammar: TopLevelGrammar,
) -> std::result::Result<Grammar, String> {
    let matcher = Matcher::new(factory.create_parser(grammar));
    if let Some(problem) = matcher.get_error() {
        return Err(problem);
    }
    let grammar = Grammar::new(vocabulary, matcher).map_err(|error| error.to_string())?;
    grammar.check_beginning().map_err(|error| error.to_string())?;
    Ok(grammar)
}

impl fmt::Debug for GrammarCompiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrammarCompiler").finish_non_exhaustive()
    }
}

/// The error for a message of llguidance.
fn invalid(kind: GrammarKind, problem: &str, schema: Option<&Value>) -> GrammarError {
    let problem = clean(problem);
    let keywords = problem.find(UNKNOWN_KEYWORDS).and_then(|at| {
        let list = problem.get(at + UNKNOWN_KEYWORDS.len()..)?.lines().next()?;
        serde_json::from_str::<Vec<String>>(list).ok()
    });
    if let (Some(keywords), Some(schema)) = (keywords, schema)
        && let Some((place, keywords)) = find_keywords(schema, &keywords)
    {
        return GrammarError::Keywords { keywords, place };
    }
    let problem = if kind == GrammarKind::Regex { without_place(&problem).to_owned() } else { problem };
    GrammarError::Invalid { kind, problem }
}
