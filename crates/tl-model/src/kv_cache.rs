//! The state that a model's layers keep of past tokens: keys and values, a row for each token, or a state of fixed
//! size.
//!
//! The memory is taken when the cache is made. Keys and values are written a few rows at a time. The length grows when
//! the last layer of a step has been written, so that all layers of a step begin at the same position.
//!
//! A state is two memories: a step reads one and writes the other, and they swap when the step ends. So a failed step
//! leaves the state as it was. Tokens cannot be removed from a state: a cache that has one is either cleared or left as
//! it is.
//!
//! A layer whose queries see a window of the last tokens holds only these and room for one step. Where a step's rows do
//! not fit behind the others, the last `window - 1` of these move to the front. So rows always lie one after the other,
//! and attention reads them as in any other layer. A window of `w` with room for `s` tokens moves `w - 1` rows once in
//! `s + 1` or more decoded tokens.

use std::ops::Range;

mod pages;

use tl_device::{DType, Device, Layout, Shape};
use tl_tensor::ops::{Attention, DeltaStep, convolution_state, delta_state};
use tl_tensor::{Tensor, TensorMut};

use crate::error::{ModelError, Result};

use pages::PagedStep;
pub use pages::{PAGE_LEN, StepSequence};

/// Per-layer state of up to `capacity` tokens, and the choice of the tokens of a step whose logits are computed.
#[derive(Default)]
pub struct KvCache {
    parts: Vec<Part>,
    capacity: usize,
    len: usize,
    /// The next part in order; all parts before it already have the unfinished step's data.
    next_part: usize,
    /// Tokens of the unfinished step.
    step: usize,
    /// Token count of the step that has just finished; `None` after anything else.
    finished: Option<usize>,
    wanted: LogitsRows,
    /// Which of a state's two memories holds the state of the tokens so far.
    turn: usize,
    /// Type of the keys and values of parts that a step creates on first use.
    sketched: Option<DType>,
    /// The position of the first token of the call that is running: see [`KvCache::begin_call`].
    call_start: Option<usize>,
    /// The number of pages, if the rows of all layers are pages that many sequences share.
    n_pages: Option<usize>,
    /// The sequences of the step then.
    step_sequences: PagedStep,
}

/// The tokens of a step whose logits are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogitsRows {
    /// The last.
    #[default]
    Last,
    /// Each.
    All,
}

/// A part of a [`KvCache`]: per-layer state. A step uses the parts in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CachePart {
    /// The layer's number. A layer may have several parts.
    pub layer: usize,
    /// Kind of state.
    pub keeps: Keeps,
}

/// The kind of state of a part of a [`KvCache`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeps {
    /// Keys and values: see [`KvCache::attend`].
    KeysAndValues(LayerSpec),
    /// The inputs of the last `taps - 1` tokens: see [`KvCache::convolve`].
    Convolution {
        /// Elements of a token.
        channels: usize,
        /// Number of taps: tokens that contribute to one result.
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
    /// The kind in words, for messages.
    fn name(&self) -> &'static str {
        match self {
            Keeps::KeysAndValues(_) => "keys and values",
            Keeps::Convolution { .. } => "the inputs of a convolution",
            Keeps::DeltaRule { .. } => "the state of a delta rule",
        }
    }
}

impl CachePart {
    /// As [`CachePart::layouts`], in a cache of `n_pages` pages.
    ///
    /// # Errors
    /// As for [`CachePart::layouts`]; a part that keeps a state.
    pub fn layouts_in_pages(&self, is_on_gpu: bool, n_pages: usize, dtype: DType) -> Result<[Layout; 2]> {
        self.in_pages()?.layouts(is_on_gpu, n_pages.saturating_mul(PAGE_LEN), dtype)
    }

    /// The part with rows for all tokens: in pages, a window only bounds what is seen.
    fn in_pages(&self) -> Result<CachePart> {
        match self.keeps {
            Keeps::KeysAndValues(spec) => {
                Ok(CachePart { keeps: Keeps::KeysAndValues(LayerSpec { window: None, ..spec }), ..*self })
            }
            kept => Err(ModelError::CachePages { layer: self.layer, kept: kept.name() }),
        }
    }

    /// Layouts of the part's two memories in a cache of `max_len` tokens: keys and values of `dtype`, or the state to
    /// read and the one to write, always `float32`.
    ///
    /// # Errors
    /// Keys and values that do not support this type; a window of 0.
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

/// Sizes of an attention layer of a [`KvCache`], per token and in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerSpec {
    /// Heads of keys and of values.
    pub kv_heads: usize,
    /// Elements of a head of keys.
    pub key_dim: usize,
    /// Elements of a head of values.
    pub value_dim: usize,
    /// Number of tokens that a query sees: the last ones, including its own; `None`: all.
    pub window: Option<usize>,
}

/// The memory of a part.
struct Part {
    of: CachePart,
    memory: Memory,
}

enum Memory {
    Rows(Rows),
    /// They swap roles: see [`KvCache::turn`].
    States([TensorMut; 2]),
}

/// Keys `[rows, kv_heads, key_dim]` and values `[rows, kv_heads, value_dim]` of the tokens from `base` on.
struct Rows {
    spec: LayerSpec,
    keys: TensorMut,
    values: TensorMut,
    /// Position of the first row's token.
    base: usize,
    rows: usize,
}

impl Rows {
    /// The least length other than 0 for which the layer holds all rows that the next query sees.
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
    /// The memory of a part in a cache of `max_len` tokens.
    fn new(device: &Device, of: CachePart, max_len: usize, dtype: DType) -> Result<Part> {
        let [first, second] = of.layouts(device.is_gpu(), max_len, dtype)?;
        let rows = first.shape().first().copied().unwrap_or(0);
        let (first, second) = (TensorMut::new(device, &first)?, TensorMut::new(device, &second)?);
        let memory = match of.keeps {
            Keeps::KeysAndValues(spec) => {
                let (mut keys, mut values) = (first, second);
                if device.is_gpu() && rows < max_len {
                    // Prepares the kernel that moves rows now, rather than in the middle of a text.
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
    /// The largest step of a cache with windows that are smaller than its capacity.
    pub const MAX_STEP: usize = 512;

    /// An empty cache in the device's memory: `2 · layers` tensors `[max_len, kv_heads, head_dim]` of `dtype`:
    /// `float16`, `float32` or, on the CPU, [`DType::Q8_0`], which takes about half the memory of `float16`.
    ///
    /// # Errors
    /// Another type, heads that are not a whole number of its blocks, lack of memory.
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

    /// As [`KvCache::new`], with different layers. A layer with a window has `window + MAX_STEP` rows, or `max_len` if
    /// that is fewer.
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
        let n_bytes = parts.size_hint().0.saturating_mul(size_of::<Part>());
        device.check_heap(n_bytes, || "a KV cache of so many layers".to_owned())?;
        for part in parts {
            let (layer, n_layers) = (part.layer, cache.n_layers());
            if layer != n_layers && layer + 1 != n_layers {
                return Err(ModelError::CacheLayer { layer, expected: n_layers, n_layers });
            }
            cache.parts.push(Part::new(device, part, max_len, dtype)?);
        }
        Ok(cache)
    }

    /// Number of tokens that every layer has seen: the position of the next one. 0 in a cache of pages, whose sequences have
    /// lengths of their own.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the cache is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Capacity in tokens.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Number of layers.
    pub fn n_layers(&self) -> usize {
        self.parts.last().map_or(0, |part| part.of.layer + 1)
    }

    /// A cache for one step of a model with unknown layers: the step creates each part on first use. [`KvCache::parts`]
    /// then lists them.
    ///
    /// It pretends to hold `held` tokens, and has room for `n` more, in this type.
    pub fn sketch(held: usize, n: usize, dtype: DType) -> KvCache {
        KvCache { capacity: held.saturating_add(n), len: held, sketched: Some(dtype), ..KvCache::default() }
    }

    /// The parts, in order.
    pub fn parts(&self) -> impl Iterator<Item = CachePart> {
        self.parts.iter().map(|part| part.of)
    }

    /// The tokens of the next steps whose logits are computed.
    pub fn logits_rows(&self) -> LogitsRows {
        self.wanted
    }

    /// Sets the tokens of the next steps whose logits are computed.
    pub fn set_logits_rows(&mut self, rows: LogitsRows) {
        self.wanted = rows;
    }

    /// The rows of a step's hidden states `x: [n, ..]`, one for each token, whose logits are computed.
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

    /// Layouts of a layer's keys and values: `[rows, kv_heads, key_dim]` and `[rows, kv_heads, value_dim]`.
    pub fn layouts(&self, layer: usize) -> Option<[&Layout; 2]> {
        self.rows(layer).map(|rows| [rows.keys.layout(), rows.values.layout()])
    }

    /// Positions of the tokens whose keys and values a layer holds.
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

    /// The least length other than 0 for [`KvCache::truncate`]: where a window has dropped tokens, the first length for
    /// which it still holds all rows that the next query sees; with a state, the current length.
    pub fn earliest_len(&self) -> usize {
        let earliest = |part: &Part| match &part.memory {
            Memory::Rows(rows) => rows.earliest_len(),
            Memory::States(_) => self.len,
        };
        self.parts.iter().map(earliest).max().unwrap_or(0)
    }

    /// Forgets the tokens from `len` on, and an unfinished step.
    ///
    /// # Errors
    /// [`ModelError::CacheTruncate`] for a `len` other than 0 below [`KvCache::earliest_len`]: the window of a layer
    /// has dropped rows that the next query would see, or a layer has a state. The cache is then unchanged.
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

    /// Begins a call of a model's script, for one step: until [`KvCache::end_call`] the positions are those of its tokens,
    /// also behind the end of the step. An unfinished step is forgotten.
    pub fn begin_call(&mut self) {
        self.abandon_step();
        self.call_start = Some(self.len);
    }

    /// Ends a call.
    pub fn end_call(&mut self) {
        self.call_start = None;
    }

    /// The position of the first token of the step; `None` in a step of several sequences, which has
    /// [`KvCache::step_positions`].
    pub fn first_position(&self) -> Option<usize> {
        if self.n_pages.is_some() { None } else { Some(self.call_start.unwrap_or(self.len)) }
    }

    /// Forgets an unfinished step; the next use of a layer begins a new one.
    pub fn abandon_step(&mut self) {
        self.next_part = 0;
        self.finished = None;
    }

    /// Checks that there is room for `adding` more tokens.
    ///
    /// # Errors
    /// There is less room.
    pub fn check_room(&self, adding: usize) -> Result<()> {
        if adding > self.capacity - self.len {
            return Err(ModelError::CacheFull { len: self.len, adding, capacity: self.capacity });
        }
        Ok(())
    }

    /// Appends `k` and `v` to a layer at position [`KvCache::len`], then attends: each query sees the layer's rows up
    /// to its own position. The last layer ends the step: `len` grows.
    ///
    /// `q: [n, heads, key_dim], k: [n, kv_heads, key_dim], v: [n, kv_heads, value_dim] → [n, heads, value_dim]`. Keys and values are
    /// converted to the cache's type.
    ///
    /// # Errors
    /// A layer out of order, no room, shapes that do not fit. The cache then holds what it held before.
    pub fn attend<Q, K, V>(&mut self, layer: usize, q: &Tensor<Q>, k: &Tensor<K>, v: &Tensor<V>) -> Result<Tensor<Q>> {
        self.attend_by(layer, q, k, v, &Attention::default())
    }

    /// As [`KvCache::attend`], with all options of the operation `attention`. A layer's window applies unless `options`
    /// have a smaller one.
    ///
    /// # Errors
    /// As for [`KvCache::attend`]; a window larger than the layer's; more than [`KvCache::MAX_STEP`] tokens for a layer
    /// with a window that is smaller than the cache.
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
        if self.n_pages.is_some() {
            return self.attend_in_pages(CachePart { layer, keeps: wanted }, (q, k, v), n, *options);
        }
        let Memory::Rows(cache) = self.begin_part(k.device(), CachePart { layer, keeps: wanted }, n)? else {
            return Err(self.wrong_part(layer, wanted));
        };
        let options = windowed(cache, layer, *options)?;
        if cache.spec.window.is_some() && cache.rows < capacity && n > Self::MAX_STEP {
            return Err(ModelError::CacheStep { adding: n, limit: Self::MAX_STEP });
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

    /// [`KvCache::attend_by`] in a step of several sequences.
    fn attend_in_pages<Q, K, V>(
        &mut self,
        part: CachePart,
        (q, k, v): (&Tensor<Q>, &Tensor<K>, &Tensor<V>),
        n: usize,
        options: Attention,
    ) -> Result<Tensor<Q>> {
        let step = std::mem::take(&mut self.step_sequences);
        let attended = self.attend_to(&step, part, (q, k, v), n, options);
        self.step_sequences = step;
        attended
    }

    fn attend_to<Q, K, V>(
        &mut self,
        step: &PagedStep,
        part: CachePart,
        (q, k, v): (&Tensor<Q>, &Tensor<K>, &Tensor<V>),
        n: usize,
        options: Attention,
    ) -> Result<Tensor<Q>> {
        let layer = part.layer;
        if n != step.len() {
            return Err(ModelError::CacheTokens { layer, expected: step.len(), found: n });
        }
        let Memory::Rows(cache) = self.begin_part(k.device(), part, n)? else {
            return Err(self.wrong_part(layer, part.keeps));
        };
        let options = windowed(cache, layer, options)?;
        for run in step.runs() {
            let end = run.first_token + run.n_tokens;
            cache.keys.write_rows(run.first_row, &k.slice(0, run.first_token, end)?)?;
            cache.values.write_rows(run.first_row, &v.slice(0, run.first_token, end)?)?;
        }
        let attended = q.attention_in_pages((&cache.keys, &cache.values), PAGE_LEN, step.sequences(), &options)?;
        self.end_part(n);
        Ok(attended)
    }

    /// Attention over a layer's rows after this step has appended its own, for layers without keys and values. `q: [n,
    /// heads, key_dim] → [n, heads, value_dim]`. Such layers may come before or after the step's end.
    ///
    /// # Errors
    /// A layer without keys and values or not yet written in this step, another number of tokens, shapes that do not
    /// fit, a window larger than the layer's.
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
        let options = windowed(cache, layer, *options)?;
        if self.n_pages.is_some() {
            let sequences = self.step_sequences.sequences();
            return Ok(q.attention_in_pages((&cache.keys, &cache.values), PAGE_LEN, sequences, &options)?);
        }
        let held = held - cache.base;
        let (mut key_dims, mut value_dims) = (Shape::new(&[]), Shape::new(&[]));
        let keys = cache.keys.rows(held, &mut key_dims);
        Ok(q.attention_over(keys, cache.values.rows(held, &mut value_dims), &options)?)
    }

    /// A causal convolution of `x`, preceded by the inputs that the layer keeps; the layer then keeps the last ones:
    /// see [`Tensor::causal_convolution`]. `x: [n, channels], w: [channels, taps], b: [channels] → [n, channels]`.
    ///
    /// # Errors
    /// A layer out of order or of another kind, no room, shapes that do not fit. The cache then holds what it held
    /// before.
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

    /// The gated delta rule from the layer's state, which it updates: see [`Tensor::gated_delta_rule`].
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

    /// The memory of the next part in order, for `n` tokens. A sketch creates the part here.
    fn begin_part(&mut self, device: &Device, wanted: CachePart, n: usize) -> Result<&mut Memory> {
        let (layer, n_layers) = (wanted.layer, self.n_layers());
        if let Some(dtype) = self.sketched.filter(|_| self.next_part == self.parts.len()) {
            // Attention occurs once per layer, states any number of times.
            let is_attention = matches!(wanted.keeps, Keeps::KeysAndValues(_));
            let is_same_layer = layer + 1 == n_layers && !(is_attention && self.rows(layer).is_some());
            if layer == n_layers || is_same_layer {
                self.check_room(n)?;
                // A sketch ignores windows: it has rows for all tokens.
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
            if self.n_pages.is_none() {
                self.check_room(n)?;
            }
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

    /// Moves on to the next part; the last one ends the step.
    fn end_part(&mut self, n: usize) {
        self.next_part += 1;
        if self.next_part == self.parts.len() && self.sketched.is_none() {
            self.next_part = 0;
            if self.n_pages.is_none() {
                self.len += n;
            }
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

impl KvCache {
    /// A cache of `n_pages` pages, for steps of several sequences of up to `max_len` tokens each: see
    /// [`KvCache::begin_step`]. Layers with windows keep all tokens of a sequence.
    ///
    /// # Errors
    /// As for [`KvCache::with_parts`]; a part that keeps a state, which cannot lie in pages; more pages than there are
    /// numbers for.
    pub fn with_pages(
        device: &Device,
        parts: &[CachePart],
        n_pages: usize,
        max_len: usize,
        dtype: DType,
    ) -> Result<KvCache> {
        let rows = n_pages.saturating_mul(PAGE_LEN);
        let mut cache = KvCache { capacity: max_len, n_pages: Some(n_pages), ..KvCache::default() };
        if u32::try_from(rows).is_err() {
            return Err(ModelError::CacheFull { len: 0, adding: rows, capacity: u32::MAX as usize });
        }
        for part in parts {
            let mut made = Part::new(device, part.in_pages()?, rows, dtype)?;
            made.of = *part;
            if let (Memory::Rows(rows), Keeps::KeysAndValues(spec)) = (&mut made.memory, part.keeps) {
                rows.spec = spec;
            }
            cache.parts.push(made);
        }
        Ok(cache)
    }

    /// The number of pages; `None` if the cache is that of one sequence.
    pub fn n_pages(&self) -> Option<usize> {
        self.n_pages
    }

    /// Says which sequences the next step continues: its tokens are theirs, in this order. After the step their pages
    /// hold these tokens too.
    ///
    /// # Errors
    /// A cache without pages; a sequence that adds nothing, has too few pages, one that does not exist, or too many
    /// tokens.
    pub fn begin_step<'a>(&mut self, sequences: impl IntoIterator<Item = StepSequence<'a>>) -> Result<()> {
        self.abandon_step();
        self.step_sequences.clear();
        let Some(n_pages) = self.n_pages else {
            return Err(ModelError::CacheSequence { reason: "it has no pages" });
        };
        let mut sequences = sequences.into_iter();
        let added = sequences.try_for_each(|sequence| self.step_sequences.add(sequence, n_pages, self.capacity));
        if added.is_err() {
            self.step_sequences.clear();
        }
        added
    }

    /// Tokens of the step that was begun.
    pub fn step_len(&self) -> usize {
        self.step_sequences.len()
    }

    /// Ends a step of several sequences: the next one has to be said.
    pub fn end_step(&mut self) {
        self.step_sequences.clear();
    }

    /// The positions of a step's tokens, `[n]`; `None` where they follow [`KvCache::len`].
    ///
    /// # Errors
    /// Lack of memory.
    pub fn step_positions(&mut self) -> Result<Option<Tensor<i32>>> {
        let memory = self.parts.iter().find_map(|part| match &part.memory {
            Memory::Rows(rows) => Some(rows.keys.device()),
            Memory::States(_) => None,
        });
        match memory.cloned().filter(|_| self.n_pages.is_some()) {
            Some(device) => self.step_sequences.positions(&device).map(Some),
            None => Ok(None),
        }
    }
}

/// The options with the layer's window, unless they have a smaller one.
fn windowed<'a>(rows: &Rows, layer: usize, options: Attention<'a>) -> Result<Attention<'a>> {
    let Some(window) = rows.spec.window else { return Ok(options) };
    if options.window > window {
        return Err(ModelError::CacheWindow { layer, held: window, asked: options.window });
    }
    Ok(Attention { window: if options.window == 0 { window } else { options.window }, ..options })
}

/// Keys and values for each layer.
fn attention_parts(specs: impl Iterator<Item = LayerSpec>) -> impl Iterator<Item = CachePart> {
    specs.enumerate().map(|(layer, spec)| CachePart { layer, keeps: Keeps::KeysAndValues(spec) })
}

/// The memory to read and the memory to write.
fn in_turn([first, second]: &mut [TensorMut; 2], turn: usize) -> (&TensorMut, &mut TensorMut) {
    if turn == 0 { (first, second) } else { (second, first) }
}

impl LayerSpec {
    /// Rows of such a layer in a cache of `max_len` tokens. A GPU moves words of 4 bytes: there, a layer whose rows
    /// have an odd number of elements has rows for all tokens.
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

/// Refuses types that a cache does not support.
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
mod tests;
