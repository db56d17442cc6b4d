//! Reserving for a model: what it takes is found in `tl_lang`, by running the architecture's script on a device that only counts.

use tl_device::TensorBuffer;
use tl_model::Result;

use crate::model::Model;

/// Reserving for a model.
pub trait ReserveFor {
    /// Reserves all that generating takes, for prompt and text of up to `context` tokens together: the KV cache, the
    /// activations of prefill and decoding, in the model's types of both, and the kernels' workspace. No step of any length
    /// then needs other memory, whichever tokens the cache holds.
    ///
    /// On the CPU the activations lie in one block, an arena ([`TensorBuffer::reserve_arena`]), which is as large as the most
    /// of them that are live at once; the logits, which outlive their step, have a buffer of their own. On a GPU there are
    /// buffers by layout.
    ///
    /// # Errors
    /// A context that the model was not trained for, types that the model's cache cannot have, or memory that cannot be had.
    fn reserve_for(&self, model: &Model, context: usize) -> Result<()>;
}

impl ReserveFor for TensorBuffer {
    fn reserve_for(&self, model: &Model, context: usize) -> Result<()> {
        model.scripted().reserve(self, context)
    }
}
