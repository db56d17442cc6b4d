//! Chat templates: they turn a conversation into the text that a model continues.
//!
//! A model's file carries a template in the language of Jinja2, written for Hugging Face's `transformers`.
//! [`ChatTemplate::new`] reads it, [`ChatTemplate::render`] writes a conversation with it.
//!
//! A template comes from a file of unknown origin, so everything is bounded ([`Limits`]): work, memory, the length of
//! its text, and nesting. Exceeding a bound is an error, as is an unknown feature. The crate reads no files and no
//! clock, and knows nothing of tokenizers and models.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::print_stdout, clippy::print_stderr))]

mod clock;
mod error;
mod message;
mod render;
mod syntax;
mod template;

pub use clock::DateTime;
pub use error::{ChatError, Result};
pub use message::{Message, json_kind};
pub use render::Limits;
pub use template::{ChatTemplate, Request};
