//! The served model as the API needs it: its name, its tokenizer, its template.

use std::sync::Arc;

#[cfg(feature = "grammar")]
use tl_engine::Grammar;
use tl_engine::{ChatForm, Model, Tokenizer};

use super::tools::ToolForm;
use crate::clock;
use crate::error::Result;

/// What is known of the served model.
#[derive(Debug)]
pub(crate) struct Served {
    /// The model, for its grammars.
    #[cfg(feature = "grammar")]
    model: Model,
    /// The name by which clients ask for it.
    pub(crate) name: String,
    pub(crate) tokenizer: Arc<Tokenizer>,
    /// The form of conversations; an error's text where the model has none.
    pub(crate) chat: std::result::Result<ChatForm, String>,
    /// How the model writes calls of tools.
    pub(crate) tools: Option<ToolForm>,
    /// Maximum tokens of a sequence.
    pub(crate) context: usize,
    /// Maximum tokens of an answer whose request sets none.
    pub(crate) max_tokens: usize,
    /// Seconds since 1970 at which it was loaded.
    pub(crate) created: u64,
}

impl Served {
    pub(crate) fn new(model: &Model, name: String, context: usize, max_tokens: usize) -> Result<Served> {
        let chat = ChatForm::of(model.weights()).map_err(|error| error.to_string());
        let tools = chat.as_ref().ok().and_then(ToolForm::of);
        Ok(Served {
            #[cfg(feature = "grammar")]
            model: model.clone(),
            name,
            tokenizer: model.tokenizer()?,
            chat,
            tools,
            context,
            max_tokens,
            created: clock::unix_seconds(),
        })
    }

    /// Compiles a grammar, within a bound on its time.
    #[cfg(feature = "grammar")]
    pub(crate) fn grammar(&self, source: &tl_engine::GrammarSource) -> tl_engine::Result<Grammar> {
        /// A client waits no longer, nor do the other requests behind it.
        const MAX_TIME: std::time::Duration = std::time::Duration::from_secs(5);
        Ok(self.model.grammar_compiler()?.compile_within(source, MAX_TIME)?)
    }
}
