//! The llama architecture (Touvron et al., 2023): tokens to logits, by the tensor crate's operations alone.
//!
//! Every intermediate is dropped at its last use. `reserve.rs` knows the order of takes and drops here, to reserve exactly
//! what they need; its test fails when the two no longer agree.

use tl_tensor::Tensor;

use crate::config::LlamaConfig;
use crate::error::{ModelError, Result};
use crate::kv_cache::KvCache;
use crate::model::{Model, tensor_of};
use crate::tree::Tree;

/// The most tokens that go through the model at once. Longer prompts go in parts: it bounds the memory of activations,
/// and costs nothing, since the weights are read from cache by then.
pub const PREFILL_CHUNK: usize = 512;

/// The weights by their roles; tensors of one layer together.
#[derive(Debug)]
pub(crate) struct Llama {
    token_embd: Tensor,
    layers: Vec<Layer>,
    output_norm: Tensor,
    /// The embedding's table where the file has no own.
    output: Tensor,
}

#[derive(Debug)]
struct Layer {
    attn_norm: Tensor,
    attn_q: Tensor,
    attn_k: Tensor,
    attn_v: Tensor,
    attn_output: Tensor,
    ffn_norm: Tensor,
    ffn_gate: Tensor,
    ffn_up: Tensor,
    ffn_down: Tensor,
}

/// Names of a layer's tensors, between `blk.N.` and `.weight`.
const LAYER_TENSORS: [&str; 9] =
    ["attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down"];

impl Llama {
    /// Finds the weights and compares their sizes with the configuration.
    pub(crate) fn new<'a>(config: &LlamaConfig, names: impl Iterator<Item = &'a str>, tree: &Tree) -> Result<Llama> {
        for name in names {
            if !is_known(name, config.n_layers) {
                return Err(ModelError::UnknownTensor { name: name.to_owned() });
            }
        }
        let table = [config.vocab_size, config.dim];
        let token_embd = sized(tree, "token_embd.weight", &table)?;
        let output = match tree.find("output.weight") {
            Some(_) => sized(tree, "output.weight", &table)?,
            None => token_embd.clone(),
        };
        let output_norm = sized(tree, "output_norm.weight", &[config.dim])?;
        let mut layers = Vec::new();
        for index in 0..config.n_layers {
            layers.push(Layer::new(config, index, tree)?);
        }
        Ok(Llama { token_embd, layers, output_norm, output })
    }
}

/// Whether the tensor has a role. One that has none would change the results, so it is not left out in silence.
fn is_known(name: &str, n_layers: usize) -> bool {
    if matches!(name, "token_embd.weight" | "output.weight" | "output_norm.weight") {
        return true;
    }
    let Some((layer, rest)) = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) else { return false };
    let is_layer = layer.parse::<usize>().is_ok_and(|layer| layer < n_layers);
    is_layer && rest.strip_suffix(".weight").is_some_and(|role| LAYER_TENSORS.contains(&role))
}

/// The tensor of that name, which must have these sizes.
fn sized(tree: &Tree, name: &str, expected: &[usize]) -> Result<Tensor> {
    let tensor = tensor_of(tree, name)?;
    if tensor.dims() != expected {
        return Err(ModelError::TensorShape {
            name: name.to_owned(),
            expected: expected.to_vec(),
            found: tensor.dims().to_vec(),
        });
    }
    Ok(tensor.clone())
}

impl Layer {
    fn new(config: &LlamaConfig, index: usize, tree: &Tree) -> Result<Layer> {
        let LlamaConfig { dim, n_heads, n_kv_heads, head_dim, ffn_dim, .. } = *config;
        let (q, kv) = (n_heads * head_dim, n_kv_heads * head_dim);
        let weight = |role: &str, dims: &[usize]| sized(tree, &format!("blk.{index}.{role}.weight"), dims);
        Ok(Layer {
            attn_norm: weight("attn_norm", &[dim])?,
            attn_q: weight("attn_q", &[q, dim])?,
            attn_k: weight("attn_k", &[kv, dim])?,
            attn_v: weight("attn_v", &[kv, dim])?,
            attn_output: weight("attn_output", &[dim, q])?,
            ffn_norm: weight("ffn_norm", &[dim])?,
            ffn_gate: weight("ffn_gate", &[ffn_dim, dim])?,
            ffn_up: weight("ffn_up", &[ffn_dim, dim])?,
            ffn_down: weight("ffn_down", &[dim, ffn_dim])?,
        })
    }

    /// `x: [n, dim] → [n, dim]`; the layer's keys and values go to the cache.
    fn forward(&self, config: &LlamaConfig, x: Tensor, cache: &mut KvCache, index: usize) -> Result<Tensor> {
        let attended = self.attend(config, &x, cache, index)?;
        let out = attended.linear(&self.attn_output)?;
        drop(attended);
        let sum = x.add(&out)?;
        drop((x, out));
        let fed = self.feed_forward(config, &sum)?;
        Ok(sum.add(&fed)?)
    }

    /// `x: [n, dim] → [n, heads · head_dim]`.
    fn attend(&self, config: &LlamaConfig, x: &Tensor, cache: &mut KvCache, index: usize) -> Result<Tensor> {
        let LlamaConfig { n_heads, n_kv_heads, head_dim, rope_base, rope_dim, rms_eps, .. } = *config;
        let n = x.dims().first().copied().unwrap_or(0);
        let pos = cache.len();
        let h = x.rms_norm(&self.attn_norm, rms_eps)?;
        let q = h.linear(&self.attn_q)?;
        let k = h.linear(&self.attn_k)?;
        let v = h.linear(&self.attn_v)?.reshape([n, n_kv_heads, head_dim])?;
        drop(h);
        let rotated_q = q.reshape([n, n_heads, head_dim])?.rope_partial(pos, rope_base, rope_dim)?;
        drop(q);
        let rotated_k = k.reshape([n, n_kv_heads, head_dim])?.rope_partial(pos, rope_base, rope_dim)?;
        drop(k);
        Ok(cache.attend(index, &rotated_q, &rotated_k, &v)?.reshape([n, n_heads * head_dim])?)
    }

    /// `x: [n, dim] → [n, dim]`.
    fn feed_forward(&self, config: &LlamaConfig, x: &Tensor) -> Result<Tensor> {
        let h = x.rms_norm(&self.ffn_norm, config.rms_eps)?;
        let gate = h.linear(&self.ffn_gate)?;
        let up = h.linear(&self.ffn_up)?;
        drop(h);
        let gated = gate.swiglu(&up)?;
        drop((gate, up));
        Ok(gated.linear(&self.ffn_down)?)
    }
}

impl Model {
    /// The logits after the last of `tokens`, which go on from what the cache holds and are added to it:
    /// `[1, vocab_size]` of the model's type of activations. Goes through [`PREFILL_CHUNK`] tokens at a time.
    ///
    /// # Errors
    /// No tokens, an id outside the vocabulary, a full cache or one for another model, memory that cannot be had.
    /// Nothing is added to the cache then, except by an error of memory behind the first part of a long prompt.
    pub fn forward(&self, tokens: &[u32], cache: &mut KvCache) -> Result<Tensor> {
        self.check(tokens, cache)?;
        let mut logits = None;
        let mut parts = tokens.chunks(PREFILL_CHUNK).peekable();
        while let Some(part) = parts.next() {
            let x = self.hidden(part, cache)?;
            // Only the last part's last token is asked for its logits.
            if parts.peek().is_none() {
                let last = x.slice(0, part.len() - 1, part.len())?;
                drop(x);
                logits = Some(self.logits(last)?);
            }
        }
        logits.ok_or(ModelError::EmptyPrompt)
    }

    /// As [`Model::forward`], the logits after each of the tokens: `[n, vocab_size]`. All tokens go at once.
    ///
    /// # Errors
    /// As for [`Model::forward`].
    pub fn forward_all(&self, tokens: &[u32], cache: &mut KvCache) -> Result<Tensor> {
        self.check(tokens, cache)?;
        let x = self.hidden(tokens, cache)?;
        self.logits(x)
    }

    fn check(&self, tokens: &[u32], cache: &mut KvCache) -> Result<()> {
        let config = self.config();
        if tokens.is_empty() {
            return Err(ModelError::EmptyPrompt);
        }
        if let Some(&id) = tokens.iter().find(|&&id| id as usize >= config.vocab_size) {
            return Err(ModelError::TokenId { id, vocab_size: config.vocab_size });
        }
        if cache.n_layers() != config.n_layers {
            return Err(ModelError::CacheModel { expected: config.n_layers, found: cache.n_layers() });
        }
        // What an earlier error left unfinished is forgotten.
        cache.abandon_step();
        cache.check_room(tokens.len())
    }

    /// Embedding and layers: `[n, dim]`.
    fn hidden(&self, tokens: &[u32], cache: &mut KvCache) -> Result<Tensor> {
        let (config, llama) = (self.config(), self.llama());
        let ids = self.ids(tokens)?;
        let mut x = llama.token_embd.embedding_as(&ids, self.activations().dtype())?;
        drop(ids);
        for (index, layer) in llama.layers.iter().enumerate() {
            x = layer.forward(config, x, cache, index)?;
        }
        Ok(x)
    }

    fn logits(&self, x: Tensor) -> Result<Tensor> {
        let llama = self.llama();
        let h = x.rms_norm(&llama.output_norm, self.config().rms_eps)?;
        drop(x);
        Ok(h.linear(&llama.output)?)
    }

    /// The ids as a tensor; those of one part without a list on the heap.
    fn ids(&self, tokens: &[u32]) -> Result<Tensor<i32>> {
        let mut inline = [0i32; PREFILL_CHUNK];
        match inline.get_mut(..tokens.len()) {
            Some(ids) => {
                // Smaller than the vocabulary, as was checked, and that than 2^28.
                ids.iter_mut().zip(tokens).for_each(|(id, &token)| *id = token as i32);
                Ok(Tensor::from_slice(self.device(), ids, [ids.len()])?)
            }
            None => {
                let ids = tokens.iter().map(|&token| token as i32).collect();
                Ok(Tensor::from_vec(self.device(), ids, [tokens.len()])?)
            }
        }
    }
}
