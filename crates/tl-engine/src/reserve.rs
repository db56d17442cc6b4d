//! Reservations for a model. `tl_lang` finds the sizes by running the architecture's script on a simulated device.

use tl_device::TensorBuffer;
use tl_model::Result;

use crate::model::Model;

/// Reservations for a model.
pub trait ReserveFor {
    /// Reserves all memory of a generation, for prompt and text of up to `context` tokens together: the KV cache, the
    /// activations of prefill and decoding, in the model's types of both, and the kernels' workspace. No step of any
    /// length then needs other memory, whichever tokens the cache holds.
    ///
    /// On the CPU the activations lie in one block, an arena ([`TensorBuffer::reserve_arena`]), as large as the maximum
    /// of the live activations; the logits, which outlive their step, have a buffer of their own. On a GPU there are
    /// buffers by layout.
    ///
    /// # Errors
    /// A context beyond the model's trained length, types that the model's cache cannot have, or lack of memory.
    fn reserve_for(&self, model: &Model, context: usize) -> Result<()>;
}

impl ReserveFor for TensorBuffer {
    fn reserve_for(&self, model: &Model, context: usize) -> Result<()> {
        model.scripted().reserve(self, context)
    }
}
