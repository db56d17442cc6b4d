//! How much memory a model's steps need: exactly the buffers that prefill and decoding have live at once.
//!
//! A step is played through with layouts in place of tensors, in the order of `arch/llama.rs`, and the most of each layout
//! that were live at once is what is reserved.

use tl_device::{DType, Layout, TensorBuffer};

use crate::arch::llama::PREFILL_CHUNK;
use crate::config::LlamaConfig;
use crate::error::{ModelError, Result};
use crate::kv_cache::check_dtype;
use crate::model::Model;

/// Reserving for a model.
pub trait ReserveFor {
    /// Reserves all that generating with `float16` activations takes, for prompt and text of up to `context` tokens
    /// together: the KV cache, and the activations of prefill and decoding. No step then needs other memory.
    ///
    /// # Errors
    /// A context that the model was not trained for, or memory that cannot be had.
    fn reserve_for(&self, config: &LlamaConfig, context: usize) -> Result<()>;

    /// As [`ReserveFor::reserve_for`], for this model's types of activations and KV caches.
    ///
    /// # Errors
    /// As for [`ReserveFor::reserve_for`], and types that the model's cache cannot have.
    fn reserve_for_model(&self, model: &Model, context: usize) -> Result<()>;
}

impl ReserveFor for TensorBuffer {
    fn reserve_for(&self, config: &LlamaConfig, context: usize) -> Result<()> {
        reserve(self, config, context, DType::F16, DType::F16)
    }

    fn reserve_for_model(&self, model: &Model, context: usize) -> Result<()> {
        reserve(self, model.config(), context, model.activations().dtype(), model.cache_dtype())
    }
}

fn reserve(
    buffer: &TensorBuffer,
    config: &LlamaConfig,
    context: usize,
    activations: DType,
    cache: DType,
) -> Result<()> {
    if context == 0 || context > config.context_length {
        return Err(ModelError::ContextLength { asked: context, limit: config.context_length });
    }
    check_dtype(buffer.is_on_gpu(), config.head_dim, cache)?;
    let cache = Layout::new(cache, [context, config.n_kv_heads, config.head_dim]);
    buffer.reserve(cache, 2 * config.n_layers)?;
    buffer.reserve(Layout::new(activations, [1, config.vocab_size]), 1)?;
    if buffer.is_on_gpu() {
        // The token that the device chose.
        buffer.reserve(Layout::new(DType::I32, []), 1)?;
    }
    for row in Plan::of_step(config, context.min(PREFILL_CHUNK), activations).rows {
        buffer.reserve_up_to(row.layout, row.most)?;
    }
    Ok(())
}

/// The layouts of a step, sizes that depend on the number of tokens at their largest.
#[derive(Default)]
struct Plan {
    rows: Vec<Row>,
}

struct Row {
    layout: Layout,
    live: usize,
    most: usize,
}

impl Plan {
    /// Plays a step of `n` tokens. All layers are alike, so that one is enough.
    fn of_step(config: &LlamaConfig, n: usize, dtype: DType) -> Plan {
        let LlamaConfig { dim, n_heads, n_kv_heads, head_dim, ffn_dim, .. } = *config;
        let mut plan = Plan::default();
        let ids = Layout::new(DType::I32, [n]);
        let hidden = Layout::new(dtype, [n, dim]);
        let q = Layout::new(dtype, [n, n_heads * head_dim]);
        let kv = Layout::new(dtype, [n, n_kv_heads * head_dim]);
        let q_heads = Layout::new(dtype, [n, n_heads, head_dim]);
        let kv_heads = Layout::new(dtype, [n, n_kv_heads, head_dim]);
        let ffn = Layout::new(dtype, [n, ffn_dim]);
        // Each line takes the buffer of one operation's result and then lets go what has had its last use.
        plan.step(&ids, &[]);
        plan.step(&hidden, &[&ids]); // x
        plan.step(&hidden, &[]); // normalized
        plan.step(&q, &[]);
        plan.step(&kv, &[]); // k
        plan.step(&kv, &[&hidden]); // v; normalized goes
        plan.step(&q_heads, &[&q]);
        plan.step(&kv_heads, &[&kv]);
        plan.step(&q_heads, &[&q_heads, &kv_heads, &kv]); // attended; q, k and v go
        plan.step(&hidden, &[&q_heads]); // out; attended goes
        plan.step(&hidden, &[&hidden, &hidden]); // the sum; x and out go
        plan.step(&hidden, &[]); // normalized
        plan.step(&ffn, &[]); // gate
        plan.step(&ffn, &[&hidden]); // up; normalized goes
        plan.step(&ffn, &[&ffn, &ffn]); // gated; gate and up go
        plan.step(&hidden, &[&ffn]); // fed; gated goes
        plan.step(&hidden, &[&hidden, &hidden]); // x of the next layer
        plan.step(&hidden, &[&hidden]); // normalized, of one row; x goes. The logits have their own reservation.
        plan.step(&ids, &[&hidden, &ids]);
        plan
    }

    fn step(&mut self, taken: &Layout, dropped: &[&Layout]) {
        let row = self.row(taken);
        row.live += 1;
        row.most = row.most.max(row.live);
        for layout in dropped {
            self.row(layout).live -= 1;
        }
    }

    fn row(&mut self, layout: &Layout) -> &mut Row {
        let index = self.rows.iter().position(|row| row.layout == *layout).unwrap_or_else(|| {
            self.rows.push(Row { layout: layout.clone(), live: 0, most: 0 });
            self.rows.len() - 1
        });
        &mut self.rows[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tl_device::Device;

    #[test]
    fn what_cannot_be_reserved() {
        let config = LlamaConfig {
            architecture: "llama".to_owned(),
            n_layers: 1000,
            dim: 1 << 20,
            n_heads: 1 << 10,
            n_kv_heads: 1 << 10,
            head_dim: 1 << 10,
            ffn_dim: 1 << 22,
            vocab_size: 1 << 20,
            context_length: 1 << 28,
            rope_base: 1e4,
            rope_dim: 1 << 10,
            rms_eps: 1e-5,
        };
        let check = |config: &LlamaConfig, context: usize, expected: &str| {
            let device = Device::cpu();
            let error = TensorBuffer::new(&device).reserve_for(config, context).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert_eq!(device.stats().driver_bytes, 0);
        };
        check(&config, 0, "works for 1 to 268435456");
        check(&config, (1 << 28) + 1, "works for 1 to 268435456");
        check(&config, 1 << 28, "out of memory");
        let huge = LlamaConfig { n_kv_heads: 1 << 28, head_dim: 1 << 28, ..config };
        check(&huge, 1 << 28, "too large");
    }
}
