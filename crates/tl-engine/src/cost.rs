//! What a step of a model has to read and to compute, by its sizes alone: what a measured time is compared with.
//!
//! Activations are not counted: they stay in the caches.

use crate::model::Model;

/// Bytes that one decoded token has to read from memory.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DecodeBytes {
    /// Of the weights: all of them, but of the embedding's table one row (unless the output shares the table).
    pub weights: u64,
    /// Of the KV cache: keys and values of all tokens held, the new one included.
    pub cache: u64,
}

impl DecodeBytes {
    /// Weights and cache together.
    pub fn total(self) -> u64 {
        self.weights + self.cache
    }
}

impl Model {
    /// What a decoded token reads when the cache holds `held` tokens, the new one included.
    ///
    /// ```
    /// use tl_engine::Model;
    /// let model = Model::load("../../models/demo-f16.gguf", &tl_device::Device::cpu())?;
    /// // 22 layers, keys and values, 1 head of 32, 2 bytes each.
    /// assert_eq!(model.decode_bytes(10).cache, 22 * 2 * 10 * 32 * 2);
    /// # Ok::<(), tl_engine::ModelError>(())
    /// ```
    pub fn decode_bytes(&self, held: usize) -> DecodeBytes {
        let config = self.config();
        let is_shared = self.is_output_shared();
        let weights = self.weights().tensors().map(|(name, tensor)| {
            let n_elems = match name == EMBEDDING && !is_shared {
                true => tensor.dims().last().copied().unwrap_or(0),
                false => tensor.n_elems(),
            };
            let dtype = tensor.dtype();
            (n_elems / dtype.block_elems() * dtype.block_bytes()) as u64
        });
        let dtype = self.cache_dtype();
        let row = config.n_kv_heads * config.head_dim / dtype.block_elems() * dtype.block_bytes();
        let cache = (2 * config.n_layers * row) as u64;
        DecodeBytes { weights: weights.sum(), cache: cache.saturating_mul(held as u64) }
    }

    /// Additions and multiplications of a prefill of `n` tokens into an empty cache: twice the elements of each layer's
    /// weights for each token, the same of the output for the last token of all, and for each token and head the products with the
    /// keys and values up to it.
    pub fn prefill_operations(&self, n: usize) -> f64 {
        let config = self.config();
        let is_shared = self.is_output_shared();
        let mut each_token = 0.0;
        let mut last_token = 0.0;
        for (name, tensor) in self.weights().tensors().filter(|(_, tensor)| tensor.rank() == 2) {
            let operations = 2.0 * tensor.n_elems() as f64;
            match name {
                "output.weight" => last_token += operations,
                EMBEDDING if is_shared => last_token += operations,
                EMBEDDING => {}
                _ => each_token += operations,
            }
        }
        let width = (config.n_layers * config.n_heads * config.head_dim) as f64;
        let n = n as f64;
        let pairs = n * (n + 1.0) / 2.0;
        n * each_token + last_token + 4.0 * width * pairs
    }

    fn is_output_shared(&self) -> bool {
        self.weights().tensor("output.weight").is_err()
    }
}

const EMBEDDING: &str = "token_embd.weight";

#[cfg(test)]
mod tests {
    use super::*;
    use tl_device::{DType, Device};
    use tl_model::Activations;

    use crate::testing::project_file;

    #[test]
    fn a_small_model_by_hand() {
        // 22 layers of 96 wide, 3 heads of 32, 1 for keys and values, feed-forward 256, 1536 tokens.
        let layer = 96 * 96 + 2 * 32 * 96 + 96 * 96 + 3 * 96 * 256;
        let norms = 22 * 2 * 96 + 96;
        let check = |file: &str, blocks: fn(usize) -> usize| {
            let model = Model::load(project_file(file), &Device::cpu()).unwrap();
            let output = if model.is_output_shared() { 1536 * 96 } else { 1536 * 96 + 96 };
            let expected = blocks(22 * layer + output) + 4 * norms;
            assert_eq!(model.decode_bytes(0), DecodeBytes { weights: expected as u64, cache: 0 }, "{file}");
            assert_eq!(model.decode_bytes(7).cache, 2 * 22 * 7 * 32 * 2);
            let wide = model.with_activations(Activations::Float32);
            assert_eq!(wide.decode_bytes(7).cache, 2 * 22 * 7 * 32 * 4);
            assert_eq!(wide.with_cache_dtype(DType::Q8_0).decode_bytes(7).cache, 2 * 22 * 7 * 34);
            let (one, two) = (model.prefill_operations(1), model.prefill_operations(2));
            let attended = |pairs: usize| (4 * 22 * 96 * pairs) as f64;
            let shared = (2 * 1536 * 96) as f64;
            assert_eq!(one, (2 * 22 * layer) as f64 + shared + attended(1), "{file}");
            assert_eq!(two, (4 * 22 * layer) as f64 + shared + attended(3), "{file}");
        };
        check("models/demo-f16.gguf", |n| 2 * n);
        check("models/demo-q8_0.gguf", |n| n / 32 * 34);
    }
}
