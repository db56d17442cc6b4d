//! Layers that carry a state of fixed size from token to token: the causal convolution and the gated delta rule.
//!
//! Both read the state that the tokens before left, nothing at the beginning of a text, and write the state behind the last token
//! to other memory. Nothing is known here of layers, caches or texts.

use crate::element::Element;
use crate::isa::{Isa, instantiate};
use crate::quant::Weight;
use crate::scratch::Scratch;
use crate::threads::{Threads, Tile, Tiling};

/// The most taps of a convolution.
pub const MAX_TAPS: usize = 16;

/// The most elements of a key whose products with a value a state of the delta rule holds.
pub const MAX_STATE_KEY_DIM: usize = 256;

/// Channels of a task's part.
const CHANNELS: usize = 64;
/// Tokens of a task's part.
const TOKENS: usize = 64;

/// `out[t, c] = b[c] + sum over j of w[c, j] * x[t + j - (taps - 1), c]`, a filter of its own for each channel.
///
/// `x`, `out`: `[n, channels]`, `w`: `[channels, taps]` and `b`: `[channels]` in any format. The tokens before the first are the rows of
/// `state: [taps - 1, channels]`, zeros where there is none; `next` becomes what the state is behind the last token. Sums are in `f32`.
///
/// # Panics
/// If a length is wrong, or there are no taps or more than [`MAX_TAPS`].
pub fn causal_convolution<T: Element>(
    threads: &Threads,
    x: &[T],
    (w, b): (Weight<'_>, Option<Weight<'_>>),
    [channels, taps]: [usize; 2],
    state: Option<&[f32]>,
    next: &mut [f32],
    out: &mut [T],
) {
    assert!((1..=MAX_TAPS).contains(&taps), "convolution: {taps} taps");
    let state_len = (taps - 1) * channels;
    let is_state_whole = state.is_none_or(|state| state.len() == state_len) && next.len() == state_len;
    assert!(x.len() == out.len() && is_state_whole, "convolution: lengths");
    assert_eq!(w.bytes.len(), w.format.row_bytes(channels * taps), "convolution: bytes of the weight");
    if let Some(b) = b {
        assert_eq!(b.bytes.len(), b.format.row_bytes(channels), "convolution: bytes of the bias");
    }
    if channels == 0 {
        return;
    }
    assert!(x.len().is_multiple_of(channels), "{} elements in rows of {channels}", x.len());
    let (n, isa) = (x.len() / channels, threads.isa());
    let inputs = Inputs { x, state, channels, before: taps - 1 };
    let tiling = Tiling { n_cols: channels, group_rows: n, row_step: 1, tile_rows: TOKENS, tile_cols: CHANNELS };
    // A single token is not worth waking the workers, unless it is a wide one.
    threads.for_tiles_if(out.len() * taps > 16 * 1024, out, tiling, &|tile| convolve(isa, inputs, (w, b), tile));
    for (row, next) in next.chunks_exact_mut(channels).enumerate() {
        inputs.load(isa, n + row, 0, next);
    }
}

/// The rows of a state and behind them those of a step.
#[derive(Clone, Copy)]
struct Inputs<'a, T> {
    x: &'a [T],
    state: Option<&'a [f32]>,
    channels: usize,
    /// Rows of the state.
    before: usize,
}

impl<T: Element> Inputs<'_, T> {
    /// Channels from `first` on of a row, the state's rows counted too.
    #[inline(always)]
    fn load(&self, isa: Isa, row: usize, first: usize, values: &mut [f32]) {
        match (row.checked_sub(self.before), self.state) {
            (Some(row), _) => T::load(isa, &self.x[row * self.channels + first..][..values.len()], values),
            (None, Some(state)) => values.copy_from_slice(&state[row * self.channels + first..][..values.len()]),
            (None, None) => values.fill(0.0),
        }
    }
}

instantiate! {
    /// The results of a tile.
    fn convolve[T: Element](
        isa: Isa, inputs: Inputs<'_, T>, weights: (Weight<'_>, Option<Weight<'_>>), tile: Tile<'_, T>,
    ) {
        let (mut tile, (w, b)) = (tile, weights);
        let (taps, first, n_channels) = (inputs.before + 1, tile.first_col(), tile.n_cols());
        // The taps of neighbouring channels side by side, as the channels themselves lie.
        let (mut room, mut filters) = ([0.0; CHANNELS * MAX_TAPS], [[0.0; CHANNELS]; MAX_TAPS]);
        let stored = &mut room[..n_channels * taps];
        w.load(isa, first * taps, stored);
        for (channel, taps) in stored.chunks_exact(taps).enumerate() {
            filters.iter_mut().zip(taps).for_each(|(filter, tap)| filter[channel] = *tap);
        }
        let mut bias = [0.0; CHANNELS];
        if let Some(b) = b {
            b.load(isa, first, &mut bias[..n_channels]);
        }
        let mut values = [0.0; CHANNELS];
        for row in 0..tile.n_rows() {
            let mut sums = bias;
            for (tap, filter) in filters[..taps].iter().enumerate() {
                inputs.load(isa, tile.first_row() + row + tap, first, &mut values[..n_channels]);
                for ((sum, value), weight) in sums.iter_mut().zip(&values).zip(filter) {
                    *sum += value * weight;
                }
            }
            T::store(isa, &sums[..n_channels], tile.row_mut(row));
        }
    }
}

/// The sizes of a gated delta rule.
#[derive(Clone, Copy, Debug)]
pub struct DeltaRule {
    /// Heads of values, of gates and of the state.
    pub heads: usize,
    /// Heads of queries and keys, which divide `heads`.
    pub key_heads: usize,
    /// Elements of a head of queries or keys.
    pub key_dim: usize,
    /// Elements of a head of values.
    pub value_dim: usize,
    /// Whether head `h` reads the keys of head `h % key_heads`; else of head `h / (heads / key_heads)`.
    pub is_tiled: bool,
}

impl DeltaRule {
    /// The head of queries and keys that a head of values reads.
    fn key_head(&self, head: usize) -> usize {
        if self.is_tiled { head % self.key_heads } else { head / (self.heads / self.key_heads) }
    }
}

/// What the tokens of a step bring to the gated delta rule, all contiguous.
#[derive(Clone, Copy, Debug)]
pub struct DeltaInputs<'a> {
    /// Queries `[n, key_heads, key_dim]`.
    pub q: &'a [f32],
    /// Keys `[n, key_heads, key_dim]`.
    pub k: &'a [f32],
    /// Values `[n, heads, value_dim]`.
    pub v: &'a [f32],
    /// Logarithms of what remains of the state, `[n, heads]`.
    pub gate: &'a [f32],
    /// How much of the difference goes into the state, `[n, heads]`.
    pub beta: &'a [f32],
}

/// For each head and token, with `S: [key_dim, value_dim]`:
/// `S = e^gate S; S += k (beta (v - Sᵀ k))ᵀ; out = Sᵀ q`.
///
/// `state`, `next`: `[heads, key_dim, value_dim]`, `S` before the first token, zeros where there is none, and behind the last.
/// `out: [n, heads, value_dim]`. Source: Yang and others, "Gated Delta Networks", 2024.
///
/// # Panics
/// If a length is wrong, `key_heads` do not divide `heads`, or `key_dim` is more than [`MAX_STATE_KEY_DIM`].
pub fn gated_delta_rule(
    threads: &Threads,
    sizes: DeltaRule,
    inputs: DeltaInputs<'_>,
    state: Option<&[f32]>,
    next: &mut [f32],
    out: &mut [f32],
) {
    let DeltaRule { heads, key_heads, key_dim, value_dim, .. } = sizes;
    assert!(key_heads > 0 && heads.is_multiple_of(key_heads), "delta rule: {heads} heads, {key_heads} of keys");
    assert!(key_dim <= MAX_STATE_KEY_DIM, "delta rule: keys of {key_dim}");
    let n = inputs.v.len() / (heads * value_dim).max(1);
    let DeltaInputs { q, k, v, gate, beta } = inputs;
    let are_keys_whole = q.len() == n * key_heads * key_dim && k.len() == q.len();
    let are_values_whole = v.len() == n * heads * value_dim && out.len() == v.len();
    let are_gates_whole = gate.len() == n * heads && beta.len() == gate.len();
    assert!(are_keys_whole && are_values_whole && are_gates_whole, "delta rule: lengths");
    let state_len = heads * key_dim * value_dim;
    assert!(state.is_none_or(|state| state.len() == state_len) && next.len() == state_len, "delta rule: the state");
    if n == 0 || state_len == 0 {
        // Without keys nothing is remembered, and nothing is read.
        out.fill(0.0);
        if let Some(state) = state {
            next.copy_from_slice(state);
        } else {
            next.fill(0.0);
        }
        return;
    }
    let tiling = |group_rows, row_step| Tiling {
        n_cols: value_dim,
        group_rows,
        row_step,
        tile_rows: group_rows,
        tile_cols: COLUMNS,
    };
    let isa = threads.isa();
    threads.for_tile_pairs((out, tiling(n, heads)), (next, tiling(key_dim, 1)), &|out, next| {
        delta_columns(isa, sizes, inputs, state, out, next);
    });
}

/// Columns of a state that a task takes: two registers, or four.
const COLUMNS: usize = 32;

instantiate! {
    /// All tokens of one head, a few columns of its state.
    fn delta_columns(
        isa: Isa, sizes: DeltaRule, inputs: DeltaInputs<'_>, state: Option<&[f32]>, out: Tile<'_, f32>,
        next: Tile<'_, f32>,
    ) {
        let (mut out, mut next) = (out, next);
        let DeltaRule { heads, key_heads, key_dim, value_dim, .. } = sizes;
        let (head, first, n_columns) = (out.group(), out.first_col(), out.n_cols());
        // Columns behind the last are zeros and stay so.
        let mut room = Scratch::<[f32; COLUMNS], MAX_STATE_KEY_DIM>::new();
        let rows = room.zeroed(key_dim);
        if let Some(state) = state {
            let own = &state[head * key_dim * value_dim..][..key_dim * value_dim];
            for (row, stored) in rows.iter_mut().zip(own.chunks_exact(value_dim)) {
                row[..n_columns].copy_from_slice(&stored[first..][..n_columns]);
            }
        }
        for token in 0..out.n_rows() {
            let at = token * heads + head;
            let key_at = (token * key_heads + sizes.key_head(head)) * key_dim;
            let (q, k) = (&inputs.q[key_at..][..key_dim], &inputs.k[key_at..][..key_dim]);
            let (decay, beta) = (inputs.gate[at].exp(), inputs.beta[at]);
            let mut values = [0.0; COLUMNS];
            values[..n_columns].copy_from_slice(&inputs.v[at * value_dim + first..][..n_columns]);
            let mut known = [0.0; COLUMNS];
            for (row, k) in rows.iter_mut().zip(k) {
                for (element, known) in row.iter_mut().zip(&mut known) {
                    *element *= decay;
                    *known += *element * k;
                }
            }
            for (value, known) in values.iter_mut().zip(&known) {
                *value = (*value - known) * beta;
            }
            let mut sums = [0.0; COLUMNS];
            for ((row, k), q) in rows.iter_mut().zip(k).zip(q) {
                for ((element, value), sum) in row.iter_mut().zip(&values).zip(&mut sums) {
                    *element += value * k;
                    *sum += *element * q;
                }
            }
            out.row_mut(token).copy_from_slice(&sums[..n_columns]);
        }
        for (index, row) in rows.iter().enumerate() {
            next.row_mut(index).copy_from_slice(&row[..n_columns]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::{BF16, F32};
    use crate::testing::{Random, all_threads, assert_close, rounding};
    use half::{bf16, f16};

    /// The formula, with `state` and `x` as rows one after the other. Gives the results and the next state.
    fn plain_convolution(
        [n, channels, taps]: [usize; 3],
        (rows, w, b): (&[f32], &[f32], &[f32]),
    ) -> (Vec<f64>, Vec<f64>) {
        let at = |row: usize, channel: usize| f64::from(rows[row * channels + channel]);
        let result = |i: usize| {
            let (t, c) = (i / channels, i % channels);
            f64::from(b[c]) + (0..taps).map(|j| f64::from(w[c * taps + j]) * at(t + j, c)).sum::<f64>()
        };
        let next = |i: usize| at(n + i / channels, i % channels);
        ((0..n * channels).map(result).collect(), (0..(taps - 1) * channels).map(next).collect())
    }

    fn check_convolution<T: Element>(threads: &Threads, sizes: [usize; 3], is_first: bool) {
        let [n, channels, taps] = sizes;
        let mut random = Random::new((n * 100 + channels) as u64);
        let x: Vec<T> = random.vec(n * channels);
        let state: Vec<f32> = match is_first {
            true => vec![0.0; (taps - 1) * channels],
            false => random.vec((taps - 1) * channels),
        };
        let (w, b): (Vec<f32>, Vec<bf16>) = (random.vec(channels * taps), random.vec(channels));
        let rows: Vec<f32> = state.iter().copied().chain(x.iter().map(|x| x.to_f32())).collect();
        let b_values: Vec<f32> = b.iter().map(|b| b.to_f32()).collect();
        let (expected, expected_next) = plain_convolution(sizes, (&rows, &w, &b_values));
        let weights = (
            Weight { bytes: bytemuck::cast_slice(&w), format: &F32 },
            Some(Weight { bytes: bytemuck::cast_slice(&b), format: &BF16 }),
        );
        let (mut out, mut next) = (vec![T::from_f32(f32::NAN); x.len()], vec![f32::NAN; state.len()]);
        let given = (!is_first).then_some(&*state);
        causal_convolution(threads, &x, weights, [channels, taps], given, &mut next, &mut out);
        let what = format!("{n} tokens, {channels} channels, {taps} taps");
        assert_close(&what, &out, &expected, 1e-6 * taps as f64, rounding::<T>());
        assert_close(&what, &next, &expected_next, 0.0, 0.0);
    }

    #[test]
    fn convolutions_are_their_formula() {
        for threads in all_threads() {
            for n in [1, 2, 3, 5, 65, 130] {
                for (channels, taps) in [(1, 1), (3, 4), (64, 3), (65, 2), (200, 16)] {
                    for is_first in [true, false] {
                        check_convolution::<f32>(&threads, [n, channels, taps], is_first);
                        check_convolution::<f16>(&threads, [n, channels, taps], is_first);
                    }
                }
            }
        }
    }

    /// The formula of a token after the other, in `f64`.
    fn plain_delta_rule(sizes: DeltaRule, inputs: &DeltaInputs<'_>, state: &mut [f64]) -> Vec<f64> {
        let DeltaRule { heads, key_heads, key_dim, value_dim, is_tiled } = sizes;
        let n = inputs.beta.len() / heads;
        let mut out = vec![0.0; n * heads * value_dim];
        for at in 0..n * heads {
            let (token, head) = (at / heads, at % heads);
            let key_head = if is_tiled { head % key_heads } else { head * key_heads / heads };
            let key = |of: &[f32], i: usize| f64::from(of[(token * key_heads + key_head) * key_dim + i]);
            let decay = f64::from(inputs.gate[at]).exp();
            for j in 0..value_dim {
                let place = |i: usize| (head * key_dim + i) * value_dim + j;
                (0..key_dim).for_each(|i| state[place(i)] *= decay);
                let known: f64 = (0..key_dim).map(|i| state[place(i)] * key(inputs.k, i)).sum();
                let new = (f64::from(inputs.v[at * value_dim + j]) - known) * f64::from(inputs.beta[at]);
                (0..key_dim).for_each(|i| state[place(i)] += key(inputs.k, i) * new);
                out[at * value_dim + j] = (0..key_dim).map(|i| state[place(i)] * key(inputs.q, i)).sum();
            }
        }
        out
    }

    #[test]
    fn the_delta_rule_is_its_formula() {
        for threads in all_threads() {
            for (heads, key_heads, key_dim, value_dim) in
                [(1, 1, 1, 1), (4, 2, 8, 5), (6, 3, 17, 33), (2, 1, 128, 64), (3, 1, 256, 31)]
            {
                for (n, is_tiled) in [(1, false), (2, true), (7, true), (40, false)] {
                    let sizes = DeltaRule { heads, key_heads, key_dim, value_dim, is_tiled };
                    let mut random = Random::new((n * 1000 + key_dim) as u64);
                    let keys = n * key_heads * key_dim;
                    // Keys are no longer than 1, as models have them: else the state grows.
                    let scaled = |values: Vec<f32>| -> Vec<f32> {
                        values.into_iter().map(|x| x / (key_dim as f32).sqrt()).collect()
                    };
                    let (q, k): (Vec<f32>, _) = (random.vec(keys), scaled(random.vec(keys)));
                    let v: Vec<f32> = random.vec(n * heads * value_dim);
                    let gate: Vec<f32> = random.vec::<f32>(n * heads).iter().map(|x| x - 1.0).collect();
                    let beta: Vec<f32> = random.vec::<f32>(n * heads).iter().map(|x| 0.5 * x + 0.5).collect();
                    let inputs = DeltaInputs { q: &q, k: &k, v: &v, gate: &gate, beta: &beta };
                    let state: Vec<f32> = random.vec(heads * key_dim * value_dim);
                    for given in [None, Some(&*state)] {
                        let mut expected_next: Vec<f64> =
                            given.map_or(vec![0.0; state.len()], |state| state.iter().map(|&x| x.into()).collect());
                        let expected = plain_delta_rule(sizes, &inputs, &mut expected_next);
                        let (mut out, mut next) = (vec![f32::NAN; v.len()], vec![f32::NAN; state.len()]);
                        gated_delta_rule(&threads, sizes, inputs, given, &mut next, &mut out);
                        let what = format!("{sizes:?}, {n} tokens");
                        assert_close(&what, &out, &expected, 1e-4, 1e-5);
                        assert_close(&what, &next, &expected_next, 1e-5, 1e-5);
                    }
                }
            }
        }
    }

    /// Whole, in parts, and token by token: the same bits.
    #[test]
    fn parts_are_the_whole() {
        let threads = Threads::new(2);
        let (n, channels, taps) = (11, 5, 4);
        let mut random = Random::new(3);
        let (x, w): (Vec<f32>, Vec<f32>) = (random.vec(n * channels), random.vec(channels * taps));
        let sizes = DeltaRule { heads: 2, key_heads: 1, key_dim: 6, value_dim: 5, is_tiled: false };
        let (q, k, v): (Vec<f32>, Vec<f32>, Vec<f32>) = (random.vec(n * 6), random.vec(n * 6), random.vec(n * 10));
        let (gate, beta): (Vec<f32>, Vec<f32>) = (vec![-0.5; n * 2], vec![0.5; n * 2]);
        let run = |step: usize| {
            let (mut convolved, mut attended) = (Vec::new(), Vec::new());
            let (mut rows, mut state): (Option<Vec<f32>>, Option<Vec<f32>>) = (None, None);
            for first in (0..n).step_by(step) {
                let end = n.min(first + step);
                let x = &x[first * channels..end * channels];
                let (mut out, mut next) = (vec![0.0; x.len()], vec![0.0; (taps - 1) * channels]);
                let w = Weight { bytes: bytemuck::cast_slice(&w), format: &F32 };
                causal_convolution(&threads, x, (w, None), [channels, taps], rows.as_deref(), &mut next, &mut out);
                (rows, _) = (Some(next), convolved.extend(out));
                let inputs = DeltaInputs {
                    q: &q[6 * first..6 * end],
                    k: &k[6 * first..6 * end],
                    v: &v[10 * first..10 * end],
                    gate: &gate[2 * first..2 * end],
                    beta: &beta[2 * first..2 * end],
                };
                let (mut out, mut next) = (vec![0.0; inputs.v.len()], vec![0.0; 60]);
                gated_delta_rule(&threads, sizes, inputs, state.as_deref(), &mut next, &mut out);
                (state, _) = (Some(next), attended.extend(out));
            }
            (convolved, attended, rows, state)
        };
        for step in [1, 2, 5] {
            assert!(run(step) == run(n), "steps of {step}");
        }
    }
}
