//! What the layers of a model keep of the tokens that it has seen: keys and values, a row for each token, or a state of
//! fixed size.
//!
//! The memory is taken when the cache is made. Keys and values are written a few rows at a time. The length grows when
//! the last layer of a step has been written, so that all layers of a step begin at the same position.
//!
//! A state is two memories: a step reads one and writes the other, and they change places when the step ends. So a step
//! that fails leaves the state as it was. Of a state nothing can be taken away again: a cache that has one goes back to no
//! token or stays.
//!
//! A layer whose queries see a window of the last tokens alone holds no more than these and room for one step: where a step's rows do
//! not fit behind the others, the last `window - 1` of these move to the front. So rows always lie one after the other, and attention
//! reads them as those of any other layer. A window of `w` with room for `s` tokens moves `w - 1` rows once in `s + 1` tokens or more
//! of decoding.

use std::ops::Range;

use tl_device::{DType, Device, Layout, Shape};
use tl_tensor::ops::{Attention, DeltaStep, convolution_state, delta_state};
use tl_tensor::{Tensor, TensorMut};

use crate::error::{ModelError, Result};

/// What layers keep of up to `capacity` tokens, and of which tokens of a step the logits are wanted.
#[derive(Default)]
pub struct KvCache {
    parts: Vec<Part>,
    capacity: usize,
    len: usize,
    /// The part whose turn it is; all parts before have what the unfinished step brings.
    next_part: usize,
    /// Tokens of the unfinished step.
    step: usize,
    /// Whether the last thing that happened is that a step was finished, of so many tokens.
    finished: Option<usize>,
    wanted: LogitsRows,
    /// Which of a state's two memories has what the tokens so far left.
    turn: usize,
    /// The type of keys and values of parts that come into being when a step first uses them.
    sketched: Option<DType>,
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

/// A part of a [`KvCache`]: what a layer keeps from token to token. A step uses the parts in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CachePart {
    /// The layer's number. A layer may have several parts.
    pub layer: usize,
    /// What it keeps.
    pub keeps: Keeps,
}

/// What a part of a [`KvCache`] keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeps {
    /// Keys and values: see [`KvCache::attend`].
    KeysAndValues(LayerSpec),
    /// The inputs of the last `taps - 1` tokens: see [`KvCache::convolve`].
    Convolution {
        /// Elements of a token.
        channels: usize,
        /// Tokens that a result is made of.
        taps: usize,
    },
    /// The state of a gated delta rule: see [`KvCache::update_delta_rule`].
    DeltaRule {
        /// Heads of values.
        heads: usize,
        /// Elements of a head of keys.
        key_dim: usize,
        /// Elements of a head of values.
        value_dim: usize,
    },
}

impl Keeps {
    /// What it is, for a message.
    fn name(&self) -> &'static str {
        match self {
            Keeps::KeysAndValues(_) => "keys and values",
            Keeps::Convolution { .. } => "the inputs of a convolution",
            Keeps::DeltaRule { .. } => "the state of a delta rule",
        }
    }
}

impl CachePart {
    /// The layouts of the part's two memories in a cache for so many tokens: of keys and values of `dtype`, or of the state
    /// that is read and the one that is written, which are `float32` always.
    ///
    /// # Errors
    /// Keys and values that cannot be kept in this type; a window of 0.
    pub fn layouts(&self, is_on_gpu: bool, max_len: usize, dtype: DType) -> Result<[Layout; 2]> {
        let twice = |layout: Layout| [layout.clone(), layout];
        Ok(match self.keeps {
            Keeps::KeysAndValues(spec) => {
                for head_dim in [spec.key_dim, spec.value_dim] {
                    check_dtype(is_on_gpu, head_dim, dtype)?;
                }
                if spec.window == Some(0) {
                    return Err(ModelError::CacheWindow { layer: self.layer, held: max_len, asked: 0 });
                }
                let rows = spec.rows(is_on_gpu, max_len);
                [spec.key_dim, spec.value_dim].map(|width| Layout::new(dtype, [rows, spec.kv_heads, width]))
            }
            Keeps::Convolution { channels, taps } => twice(convolution_state(channels, taps)),
            Keeps::DeltaRule { heads, key_dim, value_dim } => twice(delta_state(heads, key_dim, value_dim)),
        })
    }
}

/// What an attention layer of a [`KvCache`] holds of a token, and of how many tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerSpec {
    /// Heads of keys and of values.
    pub kv_heads: usize,
    /// Elements of a head of keys.
    pub key_dim: usize,
    /// Elements of a head of values.
    pub value_dim: usize,
    /// How many tokens a query sees, the last ones, its own among them; `None`: all.
    pub window: Option<usize>,
}

/// The memory of a part.
struct Part {
    of: CachePart,
    memory: Memory,
}

enum Memory {
    Rows(Rows),
    /// They take turns: see [`KvCache::turn`].
    States([TensorMut; 2]),
}

/// Keys `[rows, kv_heads, key_dim]` and values `[rows, kv_heads, value_dim]`: those of the tokens from `base` on.
struct Rows {
    spec: LayerSpec,
    keys: TensorMut,
    values: TensorMut,
    /// The position of the token whose rows are the first.
    base: usize,
    rows: usize,
}

impl Rows {
    /// The least length other than 0 for which the layer has what the next query sees.
    fn earliest_len(&self) -> usize {
        match self.spec.window {
            Some(window) if self.base > 0 => self.base + window - 1,
            _ => 0,
        }
    }

    /// Makes room behind the `len` tokens of the cache for `n` more.
    fn make_room(&mut self, len: usize, n: usize) -> Result<()> {
        let held = len - self.base;
        if held + n <= self.rows {
            return Ok(());
        }
        let kept = self.spec.window.map_or(held, |window| held.min(window - 1));
        self.keys.move_to_front(held - kept, kept)?;
        self.values.move_to_front(held - kept, kept)?;
        self.base = len - kept;
        Ok(())
    }
}

impl Part {
    /// The memory of a part in a cache for so many tokens.
    fn new(device: &Device, of: CachePart, max_len: usize, dtype: DType) -> Result<Part> {
        let [first, second] = of.layouts(device.is_gpu(), max_len, dtype)?;
        let rows = first.shape().first().copied().unwrap_or(0);
        let (first, second) = (TensorMut::new(device, &first)?, TensorMut::new(device, &second)?);
        let memory = match of.keeps {
            Keeps::KeysAndValues(spec) => {
                let (mut keys, mut values) = (first, second);
                if device.is_gpu() && rows < max_len {
                    // What moves rows is made now, and not in the midst of a text.
                    keys.move_to_front(0, 0)?;
                    values.move_to_front(0, 0)?;
                }
                Memory::Rows(Rows { spec, keys, values, base: 0, rows })
            }
            Keeps::Convolution { .. } | Keeps::DeltaRule { .. } => Memory::States([first, second]),
        };
        Ok(Part { of, memory })
    }
}

impl std::fmt::Debug for KvCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KvCache({} of {} tokens, {} layers)", self.len, self.capacity, self.n_layers())
    }
}

impl KvCache {
    /// The most tokens that go at once through a cache with windows that are smaller than its capacity.
    pub const MAX_STEP: usize = 512;

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
        let spec = LayerSpec { kv_heads, key_dim: head_dim, value_dim: head_dim, window: None };
        KvCache::of_parts(device, attention_parts(std::iter::repeat_n(spec, layers)), max_len, dtype)
    }

    /// As [`KvCache::new`], with layers that differ. A layer with a window has `window + MAX_STEP` rows where these are
    /// fewer than `max_len`.
    ///
    /// # Errors
    /// As for [`KvCache::new`], and a window of 0.
    pub fn with_layers(device: &Device, layers: &[LayerSpec], max_len: usize, dtype: DType) -> Result<KvCache> {
        KvCache::of_parts(device, attention_parts(layers.iter().copied()), max_len, dtype)
    }

    /// As [`KvCache::with_layers`], with parts of any kind. `dtype` is the type of keys and values; states are `float32`.
    ///
    /// # Errors
    /// As for [`KvCache::with_layers`], and parts that are not in the order of their layers.
    pub fn with_parts(device: &Device, parts: &[CachePart], max_len: usize, dtype: DType) -> Result<KvCache> {
        KvCache::of_parts(device, parts.iter().copied(), max_len, dtype)
    }

    fn of_parts(
        device: &Device,
        parts: impl Iterator<Item = CachePart>,
        max_len: usize,
        dtype: DType,
    ) -> Result<KvCache> {
        let mut cache = KvCache { capacity: max_len, ..KvCache::default() };
        for part in parts {
            let (layer, n_layers) = (part.layer, cache.n_layers());
            if layer != n_layers && layer + 1 != n_layers {
                return Err(ModelError::CacheLayer { layer, expected: n_layers, n_layers });
            }
            cache.parts.push(Part::new(device, part, max_len, dtype)?);
        }
        Ok(cache)
    }

    /// Tokens that every layer has seen: the position of the next one.
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
        self.parts.last().map_or(0, |part| part.of.layer + 1)
    }

    /// A cache for one step of a model whose layers are not known yet: it gets each part when the step first uses it, as
    /// that part is. What came of it says [`KvCache::parts`].
    ///
    /// It pretends to hold `held` tokens, and has room for `n` more, in this type.
    pub fn sketch(held: usize, n: usize, dtype: DType) -> KvCache {
        KvCache { capacity: held.saturating_add(n), len: held, sketched: Some(dtype), ..KvCache::default() }
    }

    /// What all layers keep.
    pub fn parts(&self) -> impl Iterator<Item = CachePart> {
        self.parts.iter().map(|part| part.of)
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

    /// The layouts of a layer's keys and values: `[rows, kv_heads, key_dim]` and `[rows, kv_heads, value_dim]`.
    pub fn layouts(&self, layer: usize) -> Option<[&Layout; 2]> {
        self.rows(layer).map(|rows| [rows.keys.layout(), rows.values.layout()])
    }

    /// The positions of the tokens whose keys and values a layer holds.
    pub fn positions(&self, layer: usize) -> Option<Range<usize>> {
        self.rows(layer).map(|rows| rows.base.min(self.len)..self.len)
    }

    fn rows(&self, layer: usize) -> Option<&Rows> {
        self.parts.iter().filter(|part| part.of.layer == layer).find_map(|part| match &part.memory {
            Memory::Rows(rows) => Some(rows),
            Memory::States(_) => None,
        })
    }

    /// Forgets all tokens; the memory stays.
    pub fn clear(&mut self) {
        self.len = 0;
        self.abandon_step();
        for part in &mut self.parts {
            if let Memory::Rows(rows) = &mut part.memory {
                rows.base = 0;
            }
        }
    }

    /// The least length other than 0 that [`KvCache::truncate`] can go back to: where a window has given up tokens, the first length
    /// for which it still holds all that the next query sees; with a state, the length as it is.
    pub fn earliest_len(&self) -> usize {
        let earliest = |part: &Part| match &part.memory {
            Memory::Rows(rows) => rows.earliest_len(),
            Memory::States(_) => self.len,
        };
        self.parts.iter().map(earliest).max().unwrap_or(0)
    }

    /// Forgets the tokens from `len` on, and a step that was not finished.
    ///
    /// # Errors
    /// [`ModelError::CacheTruncate`] where the window of a layer has given up what the next query would see, or a layer has a
    /// state that all tokens went into: for a `len` below [`KvCache::earliest_len`] other than 0. The cache is then
    /// unchanged.
    pub fn truncate(&mut self, len: usize) -> Result<()> {
        if len == 0 {
            self.clear();
            return Ok(());
        }
        let earliest = self.earliest_len();
        if len < self.len && len < earliest {
            return Err(ModelError::CacheTruncate { len: self.len, asked: len, earliest });
        }
        self.len = self.len.min(len);
        self.abandon_step();
        Ok(())
    }

    /// Forgets a step that was not finished. What comes next is another step.
    pub fn abandon_step(&mut self) {
        self.next_part = 0;
        self.finished = None;
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
    /// `q: [n, heads, key_dim], k: [n, kv_heads, key_dim], v: [n, kv_heads, value_dim] → [n, heads, value_dim]`. Keys and values are
    /// converted to the cache's type.
    ///
    /// # Errors
    /// A layer out of turn, no room, shapes that do not fit. The cache then holds what it held before.
    pub fn attend<Q, K, V>(&mut self, layer: usize, q: &Tensor<Q>, k: &Tensor<K>, v: &Tensor<V>) -> Result<Tensor<Q>> {
        self.attend_by(layer, q, k, v, &Attention::default())
    }

    /// As [`KvCache::attend`], with all that the operation `attention` knows. A layer with a window has it unless `options` have a
    /// smaller one.
    ///
    /// # Errors
    /// As for [`KvCache::attend`], a window larger than the layer's, and for a layer with a window that is smaller than the cache more
    /// than [`KvCache::MAX_STEP`] tokens.
    pub fn attend_by<Q, K, V>(
        &mut self,
        layer: usize,
        q: &Tensor<Q>,
        k: &Tensor<K>,
        v: &Tensor<V>,
        options: &Attention,
    ) -> Result<Tensor<Q>> {
        let width = |dims: &[usize], axis: usize| dims.get(axis).copied().unwrap_or(0);
        let spec = LayerSpec {
            kv_heads: width(k.dims(), 1),
            key_dim: width(k.dims(), 2),
            value_dim: width(v.dims(), 2),
            window: (options.window > 0).then_some(options.window),
        };
        let n = width(k.dims(), 0);
        let (len, capacity) = (self.len, self.capacity);
        let wanted = Keeps::KeysAndValues(spec);
        let Memory::Rows(cache) = self.begin_part(k.device(), CachePart { layer, keeps: wanted }, n)? else {
            return Err(self.wrong_part(layer, wanted));
        };
        let mut options = *options;
        if let Some(window) = cache.spec.window {
            if options.window > window {
                return Err(ModelError::CacheWindow { layer, held: window, asked: options.window });
            }
            if cache.rows < capacity && n > Self::MAX_STEP {
                return Err(ModelError::CacheStep { adding: n, limit: Self::MAX_STEP });
            }
            if options.window == 0 {
                options.window = window;
            }
        }
        cache.make_room(len, n)?;
        let first = len - cache.base;
        cache.keys.write_rows(first, k)?;
        cache.values.write_rows(first, v)?;
        let (mut key_dims, mut value_dims) = (Shape::new(&[]), Shape::new(&[]));
        let keys = cache.keys.rows(first + n, &mut key_dims);
        let attended = q.attention_over(keys, cache.values.rows(first + n, &mut value_dims), &options)?;
        self.end_part(n);
        Ok(attended)
    }

    /// Lets the queries of this step's tokens look at what a layer holds to which this step has added its keys and values: for layers
    /// that have none of their own. `q: [n, heads, key_dim] → [n, heads, value_dim]`. Such layers come before or behind the step's end.
    ///
    /// # Errors
    /// A layer without keys and values or whose turn was not yet, another number of tokens, shapes that do not fit, a window larger than
    /// the layer's.
    pub fn attend_again<Q>(&self, layer: usize, q: &Tensor<Q>, options: &Attention) -> Result<Tensor<Q>> {
        let n_layers = self.n_layers();
        let place = self.parts.iter().position(|part| part.of.layer == layer && matches!(part.memory, Memory::Rows(_)));
        let Some((place, Memory::Rows(cache))) = place.and_then(|place| Some((place, &self.parts.get(place)?.memory)))
        else {
            return Err(ModelError::CacheLayer { layer, expected: 0, n_layers });
        };
        let (n, held) = match self.finished {
            Some(n) => (n, self.len),
            None if place < self.next_part => (self.step, self.len + self.step),
            None => return Err(ModelError::CacheLayer { layer, expected: self.next_part, n_layers }),
        };
        let found = q.dims().first().copied().unwrap_or(0);
        if found != n {
            return Err(ModelError::CacheTokens { layer, expected: n, found });
        }
        let mut options = *options;
        if let Some(window) = cache.spec.window {
            if options.window > window {
                return Err(ModelError::CacheWindow { layer, held: window, asked: options.window });
            }
            if options.window == 0 {
                options.window = window;
            }
        }
        let held = held - cache.base;
        let (mut key_dims, mut value_dims) = (Shape::new(&[]), Shape::new(&[]));
        let keys = cache.keys.rows(held, &mut key_dims);
        Ok(q.attention_over(keys, cache.values.rows(held, &mut value_dims), &options)?)
    }

    /// A causal convolution of `x` behind the inputs that the layer keeps, of which it then keeps the last ones: see
    /// [`Tensor::causal_convolution`]. `x: [n, channels], w: [channels, taps], b: [channels] → [n, channels]`.
    ///
    /// # Errors
    /// A layer out of turn or of another kind, no room, shapes that do not fit. The cache then holds what it held before.
    pub fn convolve<T, U, V>(
        &mut self,
        layer: usize,
        x: &Tensor<T>,
        w: &Tensor<U>,
        b: Option<&Tensor<V>>,
    ) -> Result<Tensor<T>> {
        let width = |dims: &[usize], axis: usize| dims.get(axis).copied().unwrap_or(0);
        let (n, wanted) =
            (width(x.dims(), 0), Keeps::Convolution { channels: width(x.dims(), 1), taps: width(w.dims(), 1) });
        let (turn, is_first) = (self.turn, self.len == 0);
        let part = CachePart { layer, keeps: wanted };
        let Memory::States(states) = self.begin_part(x.device(), part, n)? else {
            return Err(self.wrong_part(layer, wanted));
        };
        let (state, next) = in_turn(states, turn);
        let convolved = x.causal_convolution(w, b, (!is_first).then_some(state), next)?;
        self.end_part(n);
        Ok(convolved)
    }

    /// The gated delta rule from the state that the layer keeps, which it then changes: see [`Tensor::gated_delta_rule`].
    ///
    /// # Errors
    /// As for [`KvCache::convolve`].
    pub fn update_delta_rule<T>(&mut self, layer: usize, q: &Tensor<T>, step: &DeltaStep<'_>) -> Result<Tensor<T>> {
        let width = |dims: &[usize], axis: usize| dims.get(axis).copied().unwrap_or(0);
        let (n, key_dim) = (width(q.dims(), 0), width(q.dims(), 2));
        let wanted = Keeps::DeltaRule { heads: width(step.v.dims(), 1), key_dim, value_dim: width(step.v.dims(), 2) };
        let (turn, is_first) = (self.turn, self.len == 0);
        let part = CachePart { layer, keeps: wanted };
        let Memory::States(states) = self.begin_part(q.device(), part, n)? else {
            return Err(self.wrong_part(layer, wanted));
        };
        let (state, next) = in_turn(states, turn);
        let result = q.gated_delta_rule(step, (!is_first).then_some(state), next)?;
        self.end_part(n);
        Ok(result)
    }

    /// The memory of the part whose turn it is, for `n` tokens. A sketch gets the part here.
    fn begin_part(&mut self, device: &Device, wanted: CachePart, n: usize) -> Result<&mut Memory> {
        let (layer, n_layers) = (wanted.layer, self.n_layers());
        if let Some(dtype) = self.sketched.filter(|_| self.next_part == self.parts.len()) {
            // Attention comes once in a layer, states as often as the layer likes.
            let is_attention = matches!(wanted.keeps, Keeps::KeysAndValues(_));
            let is_same_layer = layer + 1 == n_layers && !(is_attention && self.rows(layer).is_some());
            if layer == n_layers || is_same_layer {
                self.check_room(n)?;
                // A window's rows are not what a sketch is about: it has those of all tokens.
                let keeps = match wanted.keeps {
                    Keeps::KeysAndValues(spec) => Keeps::KeysAndValues(LayerSpec { window: None, ..spec }),
                    other => other,
                };
                let mut part = Part::new(device, CachePart { layer, keeps }, self.capacity, dtype)?;
                part.of = wanted;
                self.parts.push(part);
            }
        }
        let Some(part) = self.parts.get(self.next_part).filter(|part| part.of.layer == layer) else {
            let expected = self.parts.get(self.next_part).map_or(n_layers, |part| part.of.layer);
            return Err(ModelError::CacheLayer { layer, expected, n_layers });
        };
        if std::mem::discriminant(&part.of.keeps) != std::mem::discriminant(&wanted.keeps) {
            return Err(self.wrong_part(layer, wanted.keeps));
        }
        if self.next_part == 0 {
            self.check_room(n)?;
            self.step = n;
            self.finished = None;
        } else if n != self.step {
            return Err(ModelError::CacheTokens { layer, expected: self.step, found: n });
        }
        match self.parts.get_mut(self.next_part) {
            Some(part) => Ok(&mut part.memory),
            None => Err(ModelError::CacheLayer { layer, expected: 0, n_layers }),
        }
    }

    /// The next part's turn; the last one's ends the step.
    fn end_part(&mut self, n: usize) {
        self.next_part += 1;
        if self.next_part == self.parts.len() && self.sketched.is_none() {
            self.next_part = 0;
            self.len += n;
            self.finished = Some(n);
            self.turn = 1 - self.turn;
        }
    }

    #[cold]
    fn wrong_part(&self, layer: usize, wanted: Keeps) -> ModelError {
        let found = self.parts.get(self.next_part).map_or("nothing", |part| part.of.keeps.name());
        ModelError::CachePart { layer, kept: found, asked: wanted.name() }
    }
}

/// Keys and values for each layer.
fn attention_parts(specs: impl Iterator<Item = LayerSpec>) -> impl Iterator<Item = CachePart> {
    specs.enumerate().map(|(layer, spec)| CachePart { layer, keeps: Keeps::KeysAndValues(spec) })
}

/// The memory to read and the one to write.
fn in_turn([first, second]: &mut [TensorMut; 2], turn: usize) -> (&TensorMut, &mut TensorMut) {
    if turn == 0 { (first, second) } else { (second, first) }
}

impl LayerSpec {
    /// The rows that such a layer has in a cache for so many tokens. On a GPU, which moves words of 4 bytes, a layer whose rows have an
    /// odd number of elements has them all.
    pub fn rows(&self, is_on_gpu: bool, max_len: usize) -> usize {
        let is_even = |width: usize| (self.kv_heads * width).is_multiple_of(2);
        match self.window {
            Some(window) if !is_on_gpu || is_even(self.key_dim) && is_even(self.value_dim) => {
                max_len.min(window.saturating_add(KvCache::MAX_STEP))
            }
            _ => max_len,
        }
    }
}

/// Refuses types that keys and values cannot be kept in.
///
/// # Errors
/// As for [`KvCache::new`].
fn check_dtype(is_on_gpu: bool, head_dim: usize, dtype: DType) -> Result<()> {
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

    /// Every layer of a cache gives the bits of the same layer with room for all tokens: whatever the steps, and wherever the cache goes
    /// back to.
    #[test]
    fn windows_give_the_bits_of_the_whole_context() {
        let device = Device::cpu();
        let spec = |key_dim, value_dim, window| LayerSpec { kv_heads: 2, key_dim, value_dim, window };
        let specs = [spec(32, 32, Some(1)), spec(32, 64, None), spec(64, 32, Some(5)), spec(32, 32, Some(700))];
        let mut random = Random::new(11);
        let sinks = random.normal_tensor(&device, &Layout::new(DType::F32, [4])).unwrap();
        for dtype in [DType::F32, DType::F16, DType::Q8_0] {
            let max_len = 3000;
            let mut windowed = KvCache::with_layers(&device, &specs, max_len, dtype).unwrap();
            assert_eq!(windowed.layouts(2).unwrap()[0].shape().dims(), [517, 2, 64]);
            assert_eq!(windowed.layouts(3).unwrap()[1].shape().dims(), [1212, 2, 32]);
            let whole = specs.map(|spec| LayerSpec { window: None, ..spec });
            let mut whole = KvCache::with_layers(&device, &whole, max_len, dtype).unwrap();
            let mut n_refused = 0;
            for step in 0..80 {
                let pick = random.uniform();
                let n = [1, 1, 1, 2, 7, 64, 511, 512][(pick * 8.0) as usize];
                if pick.fract() > 0.8 || whole.len() + n > max_len {
                    let len = (random.uniform() * windowed.len() as f32) as usize;
                    let earliest = windowed.earliest_len();
                    let truncated = windowed.truncate(len);
                    assert_eq!(truncated.is_ok(), len == 0 || len >= earliest.min(windowed.len()), "{len} {earliest}");
                    let len = if truncated.is_ok() { len } else { earliest };
                    n_refused += usize::from(truncated.is_err());
                    windowed.truncate(len).unwrap();
                    whole.truncate(len).unwrap();
                    assert_eq!(windowed.len(), whole.len());
                }
                if whole.len() + n > max_len {
                    windowed.clear();
                    whole.clear();
                }
                for (layer, spec) in specs.iter().enumerate() {
                    let mut tensor = |heads: usize, width: usize| {
                        let layout = Layout::new(DType::F32, [n, heads, width]);
                        random.normal_tensor(&device, &layout).unwrap().into_typed::<f32>().unwrap()
                    };
                    let (q, k, v) = (tensor(4, spec.key_dim), tensor(2, spec.key_dim), tensor(2, spec.value_dim));
                    let options = Attention { softcap: 20.0, sinks: Some(&sinks), ..Attention::default() };
                    let found = windowed.attend_by(layer, &q, &k, &v, &options).unwrap();
                    let options = Attention { window: spec.window.unwrap_or(0), ..options };
                    let expected = whole.attend_by(layer, &q, &k, &v, &options).unwrap();
                    assert!(found.to_vec().unwrap() == expected.to_vec().unwrap(), "{step}: {n} tokens, layer {layer}");
                }
                let held = windowed.positions(2).unwrap();
                assert!(held.end == windowed.len() && (held.len() >= 5.min(held.end)), "{held:?}");
            }
            assert!(n_refused > 0 && windowed.earliest_len() < windowed.len());
        }
    }

    #[test]
    fn windows_that_cannot_be() {
        let device = Device::cpu();
        let spec = LayerSpec { kv_heads: 1, key_dim: 4, value_dim: 4, window: Some(8) };
        let new = |window, max_len| KvCache::with_layers(&device, &[LayerSpec { window, ..spec }], max_len, DType::F16);
        let zeros = |n: usize| Tensor::<f32>::zeros(&device, [n, 1, 4]).unwrap();
        let attend = |cache: &mut KvCache, n, window| {
            let options = Attention { window, ..Attention::default() };
            cache.attend_by(0, &zeros(n), &zeros(n), &zeros(n), &options).map(drop)
        };
        let check = |found: Result<()>, expected: &str| {
            let error = found.unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(new(Some(0), 9).map(drop), "a window of 0 was asked for");
        let mut cache = new(Some(8), 2000).unwrap();
        check(attend(&mut cache, 1, 9), "layer 0 of the KV cache holds a window of 8 tokens, and a window of 9");
        check(attend(&mut cache, 513, 0), "513 tokens at once are too many");
        attend(&mut cache, 512, 3).unwrap();
        attend(&mut cache, 512, 8).unwrap();
        assert_eq!((cache.positions(0), cache.earliest_len()), (Some(505..1024), 512));
        check(cache.truncate(511), "cannot go back from 1024 tokens to 511");
        assert_eq!(cache.len(), 1024);
        cache.truncate(512).unwrap();
        attend(&mut cache, 1, 0).unwrap();
        cache.truncate(0).unwrap();
        assert_eq!((cache.positions(0), cache.earliest_len()), (Some(0..0), 0));
        // Where all tokens have room, nothing is given up, and no step is too long.
        let mut small = new(Some(8), 520).unwrap();
        attend(&mut small, 519, 0).unwrap();
        small.truncate(1).unwrap();
        attend(&mut small, 519, 0).unwrap();
        assert_eq!(small.len(), 520);
    }

    /// A layer of attention, one that convolves, and one that does both a convolution and a delta rule, in steps of any
    /// length, some of them broken off, with texts that begin anew: the bits of one step.
    #[test]
    fn states_are_those_of_one_step() {
        let device = Device::cpu();
        let part = |layer, keeps| CachePart { layer, keeps };
        let parts = [
            part(0, Keeps::KeysAndValues(LayerSpec { kv_heads: 1, key_dim: 4, value_dim: 4, window: None })),
            part(1, Keeps::Convolution { channels: 6, taps: 4 }),
            part(2, Keeps::Convolution { channels: 3, taps: 1 }),
            part(2, Keeps::DeltaRule { heads: 2, key_dim: 5, value_dim: 3 }),
        ];
        let new = || KvCache::with_parts(&device, &parts, 40, DType::F16).unwrap();
        assert_eq!((new().n_layers(), new().parts().count()), (3, 4));
        let mut random = Random::new(17);
        let n = 40;
        let mut tensor = |dims: &[usize]| {
            random.normal_tensor(&device, &Layout::new(DType::F32, dims)).unwrap().into_typed::<f32>().unwrap()
        };
        let [q, x, narrow] = [tensor(&[n, 1, 4]), tensor(&[n, 6]), tensor(&[n, 3])];
        let [filter, short] = [tensor(&[6, 4]), tensor(&[3, 1])];
        let [keys, values, gate] = [tensor(&[n, 1, 5]), tensor(&[n, 2, 3]), tensor(&[n, 2])];
        let gate = gate.abs().unwrap().neg().unwrap();
        let none = None::<&Tensor<f32>>;
        // The first `until` parts of a step.
        let step = |cache: &mut KvCache, tokens: Range<usize>, until: usize| -> Vec<f32> {
            let cut = |x: &Tensor<f32>| x.slice(0, tokens.start, tokens.end).unwrap();
            let mut all = Vec::new();
            for (index, part) in parts.iter().enumerate().take(until) {
                let found = match index {
                    0 => cache.attend(part.layer, &cut(&q), &cut(&q), &cut(&q)),
                    1 => cache.convolve(part.layer, &cut(&x), &filter, none),
                    2 => cache.convolve(part.layer, &cut(&narrow), &short, none),
                    _ => {
                        let [k, v, gate] = [cut(&keys), cut(&values), cut(&gate)].map(Tensor::into_dyn);
                        let step = DeltaStep { k: &k, v: &v, gate: &gate, beta: &gate, is_tiled: false };
                        cache.update_delta_rule(part.layer, &cut(&keys), &step)
                    }
                };
                all.extend(found.unwrap().to_vec().unwrap());
            }
            all
        };
        for (begin, lens) in [(0, &[1, 1, 2, 3, 5, 28][..]), (7, &[9, 1, 1, 1, 1]), (3, &[1; 20])] {
            let mut cache = new();
            // Another text before.
            step(&mut cache, 20..29, 4);
            assert_eq!((cache.len(), cache.earliest_len()), (9, 9));
            let error = cache.truncate(8).unwrap_err().to_string();
            assert!(error.contains("cannot go back from 9 tokens to 8"), "{error}");
            cache.truncate(9).unwrap();
            cache.truncate(0).unwrap();
            let mut at = begin;
            for &len in lens {
                // Steps that are broken off at every part leave nothing behind.
                for until in 0..4 {
                    step(&mut cache, 30..30 + len.min(10), until);
                    cache.abandon_step();
                }
                let found = step(&mut cache, at..at + len, 4);
                at += len;
                let mut whole = new();
                let width = 4 + 6 + 3 + 6;
                let expected = step(&mut whole, begin..at, 4);
                assert_eq!((found.len(), cache.len()), (len * width, at - begin));
                // The last rows of each part's results.
                let (mut from, mut to) = (0, 0);
                for width in [4, 6, 3, 6] {
                    let (all, last) = ((at - begin) * width, len * width);
                    let expected = &expected[from + all - last..from + all];
                    assert!(found[to..to + last] == *expected, "{begin}, {len} tokens behind {}", at - len);
                    (from, to) = (from + all, to + last);
                }
            }
        }
    }

    /// Queries see through another layer's keys and values what they see through their own.
    #[test]
    fn layers_that_read_the_keys_of_others() {
        let device = Device::cpu();
        let spec = |window| LayerSpec { kv_heads: 1, key_dim: 4, value_dim: 4, window };
        let specs = [spec(Some(3)), spec(None)];
        let mut cache = KvCache::with_layers(&device, &specs, 2000, DType::F32).unwrap();
        let mut random = Random::new(23);
        let mut tensor = |n: usize| {
            random.normal_tensor(&device, &Layout::new(DType::F32, [n, 1, 4])).unwrap().into_typed::<f32>().unwrap()
        };
        let options = Attention::default();
        for n in [3, 500, 1, 512, 1, 2, 40] {
            let mut own = Vec::new();
            for layer in 0..2 {
                let (q, k) = (tensor(n), tensor(n));
                let early = cache.attend_again(layer, &q, &options).unwrap_err().to_string();
                assert!(early.contains(&format!("got layer {layer}")), "{early}");
                let seen = cache.attend(layer, &q, &k, &k).unwrap().to_vec().unwrap();
                // In the step, and behind its end.
                assert_eq!(cache.attend_again(layer, &q, &options).unwrap().to_vec().unwrap(), seen);
                own.push((q, seen));
            }
            for (layer, (q, seen)) in own.iter().enumerate() {
                assert_eq!(cache.attend_again(layer, q, &options).unwrap().to_vec().unwrap(), *seen, "{n}, {layer}");
            }
            let check = |found: Result<Tensor<f32>>, expected: &str| {
                let error = found.unwrap_err().to_string();
                assert!(error.contains(expected), "{error}");
            };
            check(cache.attend_again(0, &tensor(n + 1), &options), &format!("brings {} tokens", n + 1));
            check(cache.attend_again(2, &tensor(n), &options), "got layer 2");
            let wide = Attention { window: 4, ..options };
            check(cache.attend_again(0, &tensor(n), &wide), "holds a window of 3 tokens, and a window of 4");
            cache.abandon_step();
        }
    }

    #[test]
    fn parts_that_are_not_asked_for() {
        let device = Device::cpu();
        let part = |layer, keeps| CachePart { layer, keeps };
        let spec = LayerSpec { kv_heads: 1, key_dim: 4, value_dim: 4, window: None };
        let convolution = Keeps::Convolution { channels: 4, taps: 3 };
        let mut cache =
            KvCache::with_parts(&device, &[part(0, convolution), part(1, Keeps::KeysAndValues(spec))], 8, DType::F16)
                .unwrap();
        let heads = Tensor::<f32>::ones(&device, [2, 1, 4]).unwrap();
        let (x, w) = (heads.reshape([2, 4]).unwrap(), Tensor::<f32>::ones(&device, [4, 3]).unwrap());
        let none = None::<&Tensor<f32>>;
        let check = |found: Result<Tensor<f32>>, expected: &str| {
            let error = found.unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(cache.attend(0, &heads, &heads, &heads), "keeps the inputs of a convolution where the step wants keys");
        check(cache.convolve(1, &x, &w, none), "got layer 1, but layer 0 of 2 is next");
        let wide = Tensor::<f32>::ones(&device, [4, 17]).unwrap();
        check(cache.convolve(0, &x, &wide, none), "the number of taps must be 1 to 16");
        let short = Tensor::<f32>::ones(&device, [4, 2]).unwrap();
        check(cache.convolve(0, &x, &short, none), "the state has other sizes than the step");
        cache.convolve(0, &x, &w, none).unwrap();
        check(
            cache.convolve(1, &x, &w, none),
            "keeps keys and values where the step wants the inputs of a convolution",
        );
        cache.attend(1, &heads, &heads, &heads).unwrap();
        assert_eq!(cache.len(), 2);
        let skipped = KvCache::with_parts(&device, &[part(1, convolution)], 8, DType::F16);
        assert!(skipped.unwrap_err().to_string().contains("got layer 1, but layer 0"));
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
