//! Chat templates: a conversation to the text that a model continues.
//!
//! A model's file carries a template in the language of Jinja2, written for Hugging Face's `transformers`.
//! [`ChatTemplate::new`] reads it, [`ChatTemplate::render`] writes a conversation with it.
//!
//! A template comes from a file of unknown origin, so it is bounded in everything ([`Limits`]): work, memory, the
//! length of its text, and how deeply it nests. What exceeds a bound is an error, as is what the template does not
//! know. The crate reads no files and no clock, and knows nothing of tokenizers and models.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::print_stdout, clippy::print_stderr))]

mod clock;
mod error;
mod message;
mod render;
mod syntax;
mod template;

pub use clock::DateTime;
pub use error::{ChatError, Result};
pub use message::Message;
pub use render::Limits;
pub use template::{ChatTemplate, Request};
