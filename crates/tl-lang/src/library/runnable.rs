//! A model that runs, as `generate` needs it.
//!
//! Running a model takes the checker and the evaluator, which stand above the builtins. So the evaluator's caller passes the way
//! in, and this file says what comes out.

use tl_device::TensorBuffer;
use tl_model::{GenerateOptions, Result, Weights};

/// Weights with the script of their architecture.
pub(crate) trait RunnableModel {
    /// Reserves in `buffer` what generating takes, for prompt and text of up to `context` tokens together.
    fn reserve(&self, buffer: &TensorBuffer, context: usize) -> Result<()>;

    /// Whether the free buffers of `buffer`, its arena aside, serve a prompt of `prompt_len` tokens and the steps after it, from
    /// an empty KV cache for `context` tokens on.
    fn is_served_by(&self, buffer: &TensorBuffer, context: usize, prompt_len: usize) -> Result<bool>;

    /// The tokens that the model continues the prompt with.
    fn generate(&self, prompt: &[u32], options: &GenerateOptions) -> Result<Box<dyn Iterator<Item = Result<u32>>>>;
}

/// Makes weights runnable, by the script that ships for their architecture.
pub(crate) type OpenModel = fn(&Weights) -> Result<Box<dyn RunnableModel>>;
