//! Bytes read and operations computed by a step of a model, found by running it on a simulated device: the reference
//! for measured times.

use tl_device::Work;
use tl_lang::PREFILL_CHUNK;
use tl_model::{KvCache, Result};

use crate::model::Model;

impl Model {
    /// Work of decoding one token when the cache holds `held` tokens, the new one included.
    ///
    /// ```
    /// use tl_engine::Model;
    /// let model = Model::load("../../models/demo-f16.gguf", &tl_device::Device::cpu())?;
    /// // 22 layers, keys and values, 1 head of 32, 2 bytes each.
    /// assert_eq!(model.decode_work(10)?.cache_bytes, 22 * 2 * 10 * 32 * 2);
    /// # Ok::<(), tl_engine::ModelError>(())
    /// ```
    ///
    /// # Errors
    /// The errors of the architecture's script.
    pub fn decode_work(&self, held: usize) -> Result<Work> {
        self.work(held.saturating_sub(1), 1)
    }

    /// Work of a prefill of `n` tokens into an empty cache.
    ///
    /// # Errors
    /// As for [`Model::decode_work`].
    pub fn prefill_work(&self, n: usize) -> Result<Work> {
        let mut sum = Work::default();
        for begin in (0..n).step_by(PREFILL_CHUNK) {
            sum += self.work(begin, PREFILL_CHUNK.min(n - begin))?;
        }
        Ok(sum)
    }

    /// Work of a step of `n` tokens after `held` others.
    fn work(&self, held: usize, n: usize) -> Result<Work> {
        let counting = self.counting();
        let device = counting.device();
        let mut cache = KvCache::sketch(held, n, self.cache_dtype());
        device.take_work();
        let result = counting.forward_sketch(&vec![0; n], &mut cache);
        let work = device.take_work();
        result.map(|_| work)
    }
}

#[cfg(test)]
mod tests {
    use tl_device::{DType, Device};
    use tl_model::Activations;

    use super::*;
    use tl_testing::project_file;

    #[test]
    fn a_small_model_by_hand() {
        // 22 layers of 96 wide, 3 heads of 32, 1 for keys and values, feed-forward 256, 1536 tokens.
        let layer = 96 * 96 + 2 * 32 * 96 + 96 * 96 + 3 * 96 * 256;
        let norms = 22 * 2 * 96 + 96;
        let check = |file: &str, blocks: fn(usize) -> usize| {
            let model = Model::load(project_file(file), &Device::cpu()).unwrap();
            // All of the output's table, and a row of the embedding's.
            let expected = blocks(22 * layer + 1536 * 96 + 96) + 4 * norms;
            assert_eq!(model.decode_work(1).unwrap().weight_bytes, expected as u64, "{file}");
            assert_eq!(model.decode_work(7).unwrap().cache_bytes, 2 * 22 * 7 * 32 * 2);
            let wide = model.with_activations(Activations::Float32);
            assert_eq!(wide.decode_work(7).unwrap().cache_bytes, 2 * 22 * 7 * 32 * 4);
            assert_eq!(wide.with_cache_dtype(DType::Q8_0).decode_work(7).unwrap().cache_bytes, 2 * 22 * 7 * 34);
            let operations = |n| model.prefill_work(n).unwrap().operations;
            let attended = |pairs: usize| (4 * 22 * 96 * pairs) as f64;
            let output = (2 * 1536 * 96) as f64;
            assert_eq!(operations(1), (2 * 22 * layer) as f64 + output + attended(1), "{file}");
            assert_eq!(operations(2), (4 * 22 * layer) as f64 + output + attended(3), "{file}");
        };
        check("models/demo-f16.gguf", |n| 2 * n);
        check("models/demo-q8_0.gguf", |n| n / 32 * 34);
    }
}
