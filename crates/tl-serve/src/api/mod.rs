//! The OpenAI API over tokens: bodies to requests for the engine, tokens to answers. It knows nothing of connections.

mod answer;
mod error;
mod fields;
mod format;
mod json;
mod messages;
mod prepare;
mod prompts;
mod sampling;
mod served;
mod shape;
mod tools;

pub(crate) use answer::{Answer, Answers, End};
pub(crate) use error::{ApiError, ApiResult};
pub(crate) use fields::Fields;
pub(crate) use json::object;
pub(crate) use prepare::{Kind, Prepared};
pub(crate) use prompts::tokens;
pub(crate) use served::Served;
pub(crate) use shape::{Shape, Usage, Whole};
