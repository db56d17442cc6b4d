//! The keys and values of the tokens that a model has seen, one pair of tensors for each layer.
//!
//! The memory is taken when the cache is made and written a few rows at a time. The length grows when the last layer of a
//! step has been written, so that all layers of a step begin at the same position.

use tl_device::{DType, Device, Layout, Shape};
use tl_tensor::ops::Attention;
use tl_tensor::{Tensor, TensorMut};

use crate::error::{ModelError, Result};
use crate::model::Model;

/// Keys and values of up to `capacity` tokens.
pub struct KvCache {
    layers: Vec<LayerCache>,
    capacity: usize,
    len: usize,
    /// The layer whose turn it is; all layers before have the rows of the unfinished step.
    next_layer: usize,
    /// Tokens of the unfinished step.
    step: usize,
}

/// `[capacity, kv_heads, head_dim]` each.
struct LayerCache {
    keys: TensorMut,
    values: TensorMut,
}

impl std::fmt::Debug for KvCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KvCache({} of {} tokens, {} layers)", self.len, self.capacity, self.layers.len())
    }
}

impl KvCache {
    /// An empty cache in the device's memory: `2 · layers` tensors `[max_len, kv_heads, head_dim]` of `dtype`, which is `float16`,
    /// `float32` or, on the CPU, [`DType::Q8_0`]: about half of what `float16` takes.
    ///
    /// # Errors
    /// Another type, heads that are no whole number of its blocks, memory that cannot be had.
    pub fn new(
        device: &Device,
        layers: usize,
        kv_heads: usize,
        head_dim: usize,
        max_len: usize,
        dtype: DType,
    ) -> Result<KvCache> {
        check_dtype(device.is_gpu(), head_dim, dtype)?;
        let layout = Layout::new(dtype, [max_len, kv_heads, head_dim]);
        let layer = |_| -> Result<LayerCache> {
            Ok(LayerCache { keys: TensorMut::new(device, &layout)?, values: TensorMut::new(device, &layout)? })
        };
        let layers = (0..layers).map(layer).collect::<Result<Vec<_>>>()?;
        Ok(KvCache { layers, capacity: max_len, len: 0, next_layer: 0, step: 0 })
    }

    /// An empty cache for a model, of [`Model::cache_dtype`].
    ///
    /// # Errors
    /// More tokens than the model was trained for, or as for [`KvCache::new`].
    pub fn for_model(model: &Model, max_len: usize) -> Result<KvCache> {
        let config = model.config();
        if max_len == 0 || max_len > config.context_length {
            return Err(ModelError::ContextLength { asked: max_len, limit: config.context_length });
        }
        let dtype = model.cache_dtype();
        KvCache::new(model.device(), config.n_layers, config.n_kv_heads, config.head_dim, max_len, dtype)
    }

    /// Tokens that every layer holds: the position of the next one.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no token is held.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Tokens that there is room for.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Number of layers.
    pub fn n_layers(&self) -> usize {
        self.layers.len()
    }

    /// Forgets all tokens; the memory stays.
    pub fn clear(&mut self) {
        self.truncate(0);
    }

    /// Forgets the tokens from `len` on, and a step that was not finished.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        self.next_layer = 0;
    }

    /// Room for `adding` more tokens, or an error.
    pub(crate) fn check_room(&self, adding: usize) -> Result<()> {
        if adding > self.capacity - self.len {
            return Err(ModelError::CacheFull { len: self.len, adding, capacity: self.capacity });
        }
        Ok(())
    }

    /// Adds `k` and `v` to a layer at position [`KvCache::len`], and lets the queries look at all that the layer then
    /// holds, each at its own position and before. The last layer's turn ends the step: `len` grows.
    ///
    /// `q: [n, heads, head_dim], k, v: [n, kv_heads, head_dim] → [n, heads, head_dim]`. Keys and values are converted to
    /// the cache's type.
    ///
    /// # Errors
    /// A layer out of turn, no room, shapes that do not fit. The cache then holds what it held before.
    pub fn attend<Q, K, V>(&mut self, layer: usize, q: &Tensor<Q>, k: &Tensor<K>, v: &Tensor<V>) -> Result<Tensor<Q>> {
        let n_layers = self.layers.len();
        let n = k.dims().first().copied().unwrap_or(0);
        if layer != self.next_layer {
            return Err(ModelError::CacheLayer { layer, expected: self.next_layer, n_layers });
        }
        if layer == 0 {
            self.check_room(n)?;
            self.step = n;
        } else if n != self.step {
            return Err(ModelError::CacheTokens { layer, expected: self.step, found: n });
        }
        let Some(cache) = self.layers.get_mut(layer) else {
            return Err(ModelError::CacheLayer { layer, expected: 0, n_layers });
        };
        cache.keys.write_rows(self.len, k)?;
        cache.values.write_rows(self.len, v)?;
        let held = self.len + n;
        let (mut key_dims, mut value_dims) = (Shape::new(&[]), Shape::new(&[]));
        let keys = cache.keys.rows(held, &mut key_dims);
        let attended = q.attention_over(keys, cache.values.rows(held, &mut value_dims), &Attention::default())?;
        self.next_layer += 1;
        if self.next_layer == n_layers {
            self.next_layer = 0;
            self.len = held;
        }
        Ok(attended)
    }
}

/// Refuses types that keys and values cannot be kept in.
pub(crate) fn check_dtype(is_on_gpu: bool, head_dim: usize, dtype: DType) -> Result<()> {
    if !dtype.is_float() && dtype != DType::Q8_0 {
        return Err(ModelError::CacheType { dtype });
    }
    if !dtype.is_float() && is_on_gpu {
        return Err(ModelError::CacheOnGpu { dtype });
    }
    if !head_dim.is_multiple_of(dtype.block_elems()) {
        return Err(ModelError::CacheBlocks { dtype, head_dim });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tl_tensor::Random;
    use tl_tensor::quant::format_of;

    /// What the values become in a cache of Q8_0.
    fn rounded(values: &Tensor<f32>) -> Tensor<f32> {
        let kernels = format_of(DType::Q8_0).unwrap().kernels;
        let mut floats = values.to_vec().unwrap();
        let mut blocks = vec![0; kernels.row_bytes(floats.len())];
        (kernels.quantize.unwrap())(&floats, &mut blocks);
        (kernels.dequantize)(values.device().threads().isa(), &blocks, &mut floats);
        Tensor::from_slice(values.device(), &floats, values.dims()).unwrap()
    }

    #[test]
    fn blocks_keep_what_they_are_given() {
        let device = Device::cpu();
        let (kv_heads, head_dim) = (3, 64);
        let new = |dtype| KvCache::new(&device, 2, kv_heads, head_dim, 90, dtype).unwrap();
        let (mut blocks, mut floats) = (new(DType::Q8_0), new(DType::F32));
        let mut random = Random::new(5);
        let mut tensor = |n: usize, heads: usize| {
            let layout = Layout::new(DType::F32, [n, heads, head_dim]);
            random.normal_tensor(&device, &layout).unwrap().into_typed::<f32>().unwrap()
        };
        for n in [1, 70, 2, 17] {
            for layer in 0..2 {
                let (q, k, v) = (tensor(n, 6), tensor(n, kv_heads), tensor(n, kv_heads));
                let seen = blocks.attend(layer, &q, &k, &v).unwrap().to_vec().unwrap();
                let expected = floats.attend(layer, &q, &rounded(&k), &rounded(&v)).unwrap().to_vec().unwrap();
                for (i, (seen, expected)) in seen.iter().zip(expected).enumerate() {
                    assert!((seen - expected).abs() < 1e-5, "{n} tokens, layer {layer}, {i}: {seen} {expected}");
                }
            }
        }
        // Also what is not laid out head by head.
        blocks.clear();
        let (q, k) = (tensor(5, 6), tensor(kv_heads, 5));
        let turned = k.transpose(0, 1).unwrap();
        let seen = blocks.attend(0, &q, &turned, &turned).unwrap().to_vec().unwrap();
        blocks.clear();
        let copied = turned.contiguous().unwrap();
        assert_eq!(blocks.attend(0, &q, &copied, &copied).unwrap().to_vec().unwrap(), seen);
    }

    #[test]
    fn types_that_cannot_be() {
        let device = Device::cpu();
        let check = |head_dim: usize, dtype: DType, expected: &str| {
            let error = KvCache::new(&device, 1, 1, head_dim, 8, dtype).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(64, DType::I32, "a KV cache keeps float16, float32 or q8_0, not int32");
        check(48, DType::Q8_0, "blocks of 32, and heads of 48 are no whole number of them; keep it in float16");
        assert!(check_dtype(true, 64, DType::Q8_0).unwrap_err().to_string().contains("is for the CPU"));
    }
}
