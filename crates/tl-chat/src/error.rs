//! The crate's one error type.

/// A result with this crate's error.
pub type Result<T> = std::result::Result<T, ChatError>;

/// Error of reading or rendering a chat template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChatError {
    /// The model's file has no template.
    #[error(
        "the model has no chat template: it is a base model, which continues text; give it a plain prompt, or a template \
         of your own"
    )]
    NoTemplate,

    /// Several templates, none of them with the wanted name.
    #[error("the model has no chat template named {wanted:?}; it has {names:?}")]
    NoTemplateNamed {
        /// The requested name.
        wanted: String,
        /// The available names.
        names: Vec<String>,
    },

    /// A `chat_template` that is neither a text nor a list of named texts.
    #[error("`chat_template` is {found}; it must be a text, or a list of objects with `name` and `template`")]
    NotATemplate {
        /// Kind of the JSON value found.
        found: &'static str,
    },

    /// A template that is too long.
    #[error("the chat template has {len} bytes, more than the {limit} that are read")]
    SourceTooLong {
        /// Bytes of the template.
        len: usize,
        /// The limit.
        limit: usize,
    },

    /// A template that is malformed, or uses unsupported features.
    #[error("chat template, line {line}: {message}")]
    Syntax {
        /// Line, counted from 1.
        line: u32,
        /// The problem.
        message: String,
    },

    /// An error while a template was rendered.
    #[error("chat template, line {line}: {message}")]
    Render {
        /// Line, counted from 1.
        line: u32,
        /// The problem.
        message: String,
    },

    /// The template called `raise_exception`: it refuses this conversation.
    #[error("the chat template refuses this conversation: {message}")]
    Refused {
        /// The template's message.
        message: String,
    },

    /// The template ran into one of the [`Limits`](crate::Limits).
    #[error(
        "chat template, line {line}: it needs more than {limit} {what}; the template does not end, or builds too much"
    )]
    Limit {
        /// Line, counted from 1.
        line: u32,
        /// Which limit: a plural noun.
        what: &'static str,
        /// The limit.
        limit: u64,
    },

    /// JSON that is nested too deeply for a template.
    #[error("{what} nests deeper than {limit} levels")]
    InputTooDeep {
        /// Which input.
        what: &'static str,
        /// The limit.
        limit: usize,
    },

    /// A message without a role.
    #[error("a message must have a `role` that is a text; this one has {found}")]
    NoRole {
        /// The value found instead.
        found: &'static str,
    },
}
