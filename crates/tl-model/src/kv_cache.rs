//! The keys and values of the tokens that a model has seen, one pair of tensors for each layer.
//!
//! The memory is taken when the cache is made and written a few rows at a time. The length grows when the last layer of a
//! step has been written, so that all layers of a step begin at the same position.

use tl_device::{DType, Device, Layout, Shape};
use tl_tensor::{Tensor, TensorMut};

use crate::error::{ModelError, Result};

/// Keys and values of up to `capacity` tokens, and of which tokens of a step the logits are wanted.
#[derive(Default)]
pub struct KvCache {
    layers: Vec<LayerCache>,
    capacity: usize,
    len: usize,
    /// The layer whose turn it is; all layers before have the rows of the unfinished step.
    next_layer: usize,
    /// Tokens of the unfinished step.
    step: usize,
    wanted: LogitsRows,
}

/// Of which tokens of a step the logits are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogitsRows {
    /// Of the last.
    #[default]
    Last,
    /// Of each.
    All,
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
        Ok(KvCache { layers, capacity: max_len, ..KvCache::default() })
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

    /// Of which tokens of the next steps the logits are wanted.
    pub fn logits_rows(&self) -> LogitsRows {
        self.wanted
    }

    /// Says of which tokens of the next steps the logits are wanted.
    pub fn set_logits_rows(&mut self, rows: LogitsRows) {
        self.wanted = rows;
    }

    /// Of a step's hidden states `x: [n, ..]`, one row for each token, those whose logits are wanted.
    ///
    /// # Errors
    /// A tensor without dimensions or rows.
    pub fn rows_for_logits(&self, x: &Tensor) -> Result<Tensor> {
        let n = x.dims().first().copied().unwrap_or(0);
        Ok(match self.wanted {
            LogitsRows::Last => x.slice(0, n.saturating_sub(1), n)?,
            LogitsRows::All => x.clone(),
        })
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
    ///
    /// # Errors
    /// There is less room.
    pub fn check_room(&self, adding: usize) -> Result<()> {
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
        let attended = q.attention_over(keys, cache.values.rows(held, &mut value_dims), true)?;
        self.next_layer += 1;
        if self.next_layer == n_layers {
            self.next_layer = 0;
            self.len = held;
        }
        Ok(attended)
    }
}

/// Refuses types that keys and values cannot be kept in.
///
/// # Errors
/// As for [`KvCache::new`].
pub fn check_dtype(is_on_gpu: bool, head_dim: usize, dtype: DType) -> Result<()> {
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

    #[test]
    fn the_layers_of_a_step_come_in_order() {
        let device = Device::cpu();
        let mut cache = KvCache::new(&device, 2, 1, 4, 8, DType::F16).unwrap();
        let ones = |n: usize| Tensor::<f32>::ones(&device, [n, 1, 4]).unwrap();
        let mut attend = |layer: usize, n: usize| {
            let result = cache.attend(layer, &ones(n), &ones(n), &ones(n)).map(|out| out.dims().to_vec());
            (result.map_err(|error| error.to_string()), cache.len())
        };
        let ok = |n: usize| Ok(vec![n, 1, 4]);
        assert_eq!(attend(0, 3), (ok(3), 0));
        assert!(attend(0, 3).0.unwrap_err().contains("got layer 0, but layer 1 of 2 is next"));
        assert!(
            attend(1, 2).0.unwrap_err().contains("layer 1 brings 2 tokens to the KV cache, but this step began with 3")
        );
        assert_eq!(attend(1, 3), (ok(3), 3));
        assert!(attend(2, 1).0.unwrap_err().contains("got layer 2"));
        assert!(attend(0, 6).0.unwrap_err().contains("it holds 3 of at most 8 tokens, 6 more do not fit"));
        assert_eq!(attend(0, 5), (ok(5), 3));
        assert_eq!(attend(1, 5), (ok(5), 8));
        assert!(
            KvCache::new(&device, 0, 1, 4, 8, DType::F16).unwrap().attend(0, &ones(1), &ones(1), &ones(1)).is_err()
        );
    }
}
