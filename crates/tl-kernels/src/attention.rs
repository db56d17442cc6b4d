//! Attention in one pass over the keys and values, without the matrix of scores.
//!
//! A task takes some queries and some query heads that share a key-value head, so that a key is loaded once for all of
//! them. Keys come in blocks: scores of the block, a new running maximum, rescaled sums (the online softmax of Milakov and
//! Gimelshein, 2018; the tiling is that of Dao and others, "FlashAttention", 2022). For one query there may be fewer tasks
//! than threads want; then tasks take parts of the keys, and what they gather is joined in the end.
#![allow(unsafe_code)]

use crate::element::Element;
use crate::isa::{Isa, instantiate};
use crate::kept::{Kept, LANES, MAX_VECTORS, PerVector, Vectors};
use crate::math::exp;
use crate::matmul::PARALLEL_MIN;
use crate::reduce::{add, fold_values};
use crate::scratch::Scratch;
use crate::threads::{Threads, Tile, Tiling};
use crate::vector::Ahead;
use crate::workspace::Line;
use std::ops::Range;

/// The largest head.
pub const MAX_HEAD_DIM: usize = 1024;
/// Elements of queries, and of sums, that a task holds on the stack.
const TASK_ELEMS: usize = 2 * 1024;
/// The most rows (a query and a head) of a task.
const MAX_ROWS: usize = 16;
/// The most elements of keys, then of values, in a block.
const BLOCK_ELEMS: usize = 8 * 1024;
/// The fewest keys of a part.
const MIN_PART: usize = 128;

/// Vectors of heads in a slice: element `(token, head, i)` is `data[token * token_stride + head * head_stride + i]`, where `data` is
/// counted in elements. With blocks, strides and vectors are whole numbers of them.
#[derive(Debug)]
pub struct Heads<'a, T> {
    /// The elements, or blocks of them, from the first to at least the last.
    pub data: &'a [T],
    /// How many tokens.
    pub n_tokens: usize,
    /// How many heads.
    pub n_heads: usize,
    /// Distance between tokens, in elements.
    pub token_stride: usize,
    /// Distance between heads, in elements.
    pub head_stride: usize,
}

impl<T> Clone for Heads<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Heads<'_, T> {}

impl<'a, T: Kept> Heads<'a, T> {
    #[inline(always)]
    fn vector(&self, token: usize, head: usize, head_dim: usize) -> &'a [T] {
        self.vectors(token..token + 1, head, head_dim).vector(0)
    }

    /// Those of one head.
    #[inline(always)]
    fn vectors(&self, tokens: Range<usize>, head: usize, head_dim: usize) -> Vectors<'a, T> {
        let first = (tokens.start * self.token_stride + head * self.head_stride) / T::ELEMS;
        let data = self.data.get(first..).unwrap_or_default();
        Vectors { data, n: tokens.len(), stride: self.token_stride / T::ELEMS, len: head_dim / T::ELEMS }
    }
}

/// `out[i, h] = sum over j of softmax over j of (scale * q[i, h] . k[j, g]) * v[j, g]`, `g = h / (heads / kv_heads)`.
///
/// `q: [n, heads, d]`, `k`, `v: [m, kv_heads, d]` with any strides but the last, `out: [n, heads, d]` contiguous; `k` and `v` may be
/// kept in another type. `causal`: query `i` sees the keys `j <= i + (m - n)`, so that the last query sees them all. A query that
/// sees no key gives zeros. All in `f32`.
///
/// # Panics
/// If `d` is larger than [`MAX_HEAD_DIM`], the heads are not a multiple of the key-value heads, or a size is wrong; with blocks, also
/// where `d` or a stride of `k` or `v` is no whole number of them.
#[expect(clippy::too_many_arguments, reason = "three operands and the parameters of the formula")]
pub fn attention<T: Element, C: Kept>(
    threads: &Threads,
    q: Heads<'_, T>,
    k: Heads<'_, C>,
    v: Heads<'_, C>,
    head_dim: usize,
    scale: f32,
    causal: bool,
    out: &mut [T],
) {
    assert!(head_dim <= MAX_HEAD_DIM, "attention: a head of {head_dim}");
    assert_eq!(out.len(), q.n_tokens * q.n_heads * head_dim, "attention: length of the output");
    assert!(k.n_tokens == v.n_tokens && k.n_heads == v.n_heads, "attention: keys and values");
    let in_blocks = [head_dim, k.token_stride, k.head_stride, v.token_stride, v.head_stride];
    assert!(
        in_blocks.iter().all(|len| len.is_multiple_of(C::ELEMS)),
        "attention: {in_blocks:?} in blocks of {}",
        C::ELEMS
    );
    if out.is_empty() {
        return;
    }
    assert!(k.n_heads > 0 && q.n_heads.is_multiple_of(k.n_heads), "attention: {} heads, {}", q.n_heads, k.n_heads);
    let work = out.len().saturating_mul(k.n_tokens);
    let parallel = work >= PARALLEL_MIN;
    let group = q.n_heads / k.n_heads;
    let max_rows = (TASK_ELEMS / head_dim).min(MAX_ROWS);
    // The heads of a task: as many of a group as fit, but with several threads not so many that one has nothing to do.
    let enough_tasks = |heads: &usize| !parallel || q.n_tokens * q.n_heads / heads >= threads.count();
    let divisors = (1..=group.min(max_rows)).rev().filter(|heads| group.is_multiple_of(*heads));
    let heads = divisors.into_iter().find(enough_tasks).unwrap_or(1);
    let operands = Operands { q, k, v, head_dim, group, scale, causal };
    if parallel && q.n_tokens == 1 {
        let n_tasks = q.n_heads / heads;
        let n_parts = (4 * threads.count()).div_ceil(n_tasks).min(k.n_tokens / MIN_PART);
        if n_tasks < 4 * threads.count() && n_parts > 1 && attention_in_parts(threads, operands, heads, n_parts, out) {
            return;
        }
    }
    let queries = (max_rows / heads).max(1);
    let n_cols = q.n_heads * head_dim;
    let tiling =
        Tiling { n_cols, group_rows: q.n_tokens, row_step: 1, tile_rows: queries, tile_cols: heads * head_dim };
    threads.for_tiles_if(parallel, out, tiling, &|mut tile| attention_tile(threads.isa(), operands, &mut tile));
}

/// One query: each task takes some heads and a part of the keys. Does nothing, and says so, where the workspace is too small
/// for what the tasks gather.
fn attention_in_parts<T: Element, C: Kept>(
    threads: &Threads,
    operands: Operands<'_, T, C>,
    heads: usize,
    n_parts: usize,
    out: &mut [T],
) -> bool {
    let Operands { q, k, head_dim, .. } = operands;
    let isa = threads.isa();
    // Of each head its sums, and behind them its row.
    let head_lines = (head_dim * size_of::<f32>()).div_ceil(size_of::<Line>()) + 1;
    let task_lines = heads * head_lines;
    let mut workspace = threads.workspace();
    let Some(gathered) = workspace.get_mut(..q.n_heads * n_parts * head_lines) else { return false };
    let part_keys = k.n_tokens.div_ceil(n_parts).next_multiple_of(MAX_VECTORS);
    let part = |task: usize| {
        let first_key = task % n_parts * part_keys;
        (task / n_parts * heads, first_key..(first_key + part_keys).min(k.n_tokens))
    };
    threads.for_chunks(gathered, task_lines, &|task, lines| {
        let (first_head, keys) = part(task);
        let (next_head, next_keys) = part(task + 1);
        gather_part(isa, operands, first_head, keys, operands.first_keys(next_head, next_keys), lines);
    });
    for (h, out) in out.chunks_exact_mut(head_dim).enumerate() {
        let (task, head) = (h / heads, h % heads);
        let part = |part: usize| &gathered[(task * n_parts + part) * task_lines + head * head_lines..][..head_lines];
        join_parts(isa, (0..n_parts).map(part), out);
    }
    true
}

struct Operands<'a, T, C> {
    q: Heads<'a, T>,
    k: Heads<'a, C>,
    v: Heads<'a, C>,
    head_dim: usize,
    group: usize,
    scale: f32,
    causal: bool,
}

impl<T, C> Clone for Operands<'_, T, C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, C> Copy for Operands<'_, T, C> {}

impl<T, C: Kept> Operands<'_, T, C> {
    /// The memory of the first of the keys for a query head, if there is such a head.
    #[inline(always)]
    fn first_keys(&self, head: usize, keys: Range<usize>) -> Ahead {
        if head >= self.q.n_heads {
            return Ahead::NOTHING;
        }
        let first = keys.start..keys.end.min(keys.start + MAX_VECTORS);
        self.k.vectors(first, head / self.group, self.head_dim).ahead()
    }

    /// How many keys query `i` sees.
    #[inline(always)]
    fn n_seen(&self, i: usize) -> usize {
        let (n, m) = (self.q.n_tokens, self.k.n_tokens);
        if self.causal { (i + 1 + m).saturating_sub(n) } else { m }
    }
}

/// What a row (a query and a head) has gathered so far: its largest score, and the sum of its weights.
#[derive(Clone, Copy)]
struct Row {
    largest: f32,
    sum: f32,
    n_seen: usize,
}

impl Row {
    const NEW: Row = Row { largest: f32::NEG_INFINITY, sum: 0.0, n_seen: 0 };

    /// How many keys of the block from `first_key` on the row sees.
    #[inline(always)]
    fn n_seen_of(&self, first_key: usize, block_keys: usize) -> usize {
        self.n_seen.saturating_sub(first_key).min(block_keys)
    }
}

/// What a task gathers: of each row, the weighted sum of the values, not yet divided by the sum of the weights.
struct Gathered {
    rows: [Row; MAX_ROWS],
    sums: Scratch<f32, TASK_ELEMS>,
}

instantiate! {
    fn attention_tile[T: Element, C: Kept](isa: Isa, operands: Operands<'_, T, C>, tile: &mut Tile<'_, T>) {
        let head_dim = operands.head_dim;
        let (first_query, n_queries) = (tile.first_row(), tile.n_rows());
        let (first_head, n_heads) = (tile.first_col() / head_dim, tile.n_cols() / head_dim);
        let n_rows = n_queries * n_heads;
        let mut gathered = Gathered { rows: [Row::NEW; MAX_ROWS], sums: Scratch::new() };
        let sums = gathered.sums.zeroed(n_rows * head_dim);
        let rows = &mut gathered.rows[..n_rows];
        // With one query, a thread's next tile is likely to be that of the next heads; with more, the same keys again.
        let keys = 0..operands.k.n_tokens;
        let next_head = if operands.q.n_tokens == 1 { first_head + n_heads } else { usize::MAX };
        let following = operands.first_keys(next_head, keys.clone());
        gather(isa, operands, (first_query, first_head, n_heads), keys, following, rows, sums);
        for (r, row) in rows.iter().enumerate() {
            let sums = &mut sums[r * head_dim..][..head_dim];
            let scale = if row.n_seen == 0 { 0.0 } else { 1.0 / row.sum };
            for sum in sums.iter_mut() {
                *sum *= scale;
            }
            T::store(isa, sums, &mut tile.row_mut(r / n_heads)[r % n_heads * head_dim..][..head_dim]);
        }
    }

    /// Gathers over some of the keys for some heads of the only query.
    fn gather_part[T: Element, C: Kept](
        isa: Isa, operands: Operands<'_, T, C>, first_head: usize, keys: Range<usize>, following: Ahead, lines: &mut [Line],
    ) {
        let head_dim = operands.head_dim;
        let head_lines = (head_dim * size_of::<f32>()).div_ceil(size_of::<Line>()) + 1;
        let n_rows = lines.len() / head_lines;
        let mut gathered = Gathered { rows: [Row::NEW; MAX_ROWS], sums: Scratch::new() };
        let sums = gathered.sums.zeroed(n_rows * head_dim);
        let rows = &mut gathered.rows[..n_rows];
        gather(isa, operands, (0, first_head, n_rows), keys, following, rows, sums);
        for (r, row) in rows.iter().enumerate() {
            let (values, last) = lines[r * head_lines..][..head_lines].split_at_mut(head_lines - 1);
            bytemuck::cast_slice_mut(values)[..head_dim].copy_from_slice(&sums[r * head_dim..][..head_dim]);
            bytemuck::cast_slice_mut(last)[..2].copy_from_slice(&[row.largest, row.sum]);
        }
    }

    /// Joins what the parts of a head gathered.
    fn join_parts['a, T: Element, I: Iterator<Item = &'a [Line]> + Clone](isa: Isa, parts: I, out: &mut [T]) {
        let row = |lines: &[Line]| -> [f32; 2] {
            let last: &[f32] = bytemuck::cast_slice(&lines[lines.len() - 1..]);
            [last[0], last[1]]
        };
        let largest = parts.clone().map(|lines| row(lines)[0]).fold(f32::NEG_INFINITY, |a, b| if b > a { b } else { a });
        let shift = if largest == f32::NEG_INFINITY { 0.0 } else { largest };
        let mut sums = [0.0; MAX_HEAD_DIM];
        let sums = &mut sums[..out.len()];
        let mut total = 0.0;
        for lines in parts {
            let [largest, sum] = row(lines);
            let rescale = exp(largest - shift);
            total += sum * rescale;
            for (sum, value) in sums.iter_mut().zip(bytemuck::cast_slice::<_, f32>(lines)) {
                *sum += value * rescale;
            }
        }
        for sum in sums.iter_mut() {
            *sum /= total;
        }
        T::store(isa, sums, out);
    }
}

/// Goes through the keys for the rows: the heads from `first_head` on of each query from `first_query` on. `following`: what keys the
/// thread comes to then.
#[inline(always)]
fn gather<T: Element, C: Kept>(
    isa: Isa,
    operands: Operands<'_, T, C>,
    (first_query, first_head, n_heads): (usize, usize, usize),
    keys: Range<usize>,
    following: Ahead,
    rows: &mut [Row],
    sums: &mut [f32],
) {
    let Operands { q, k, v, head_dim, group, scale, .. } = operands;
    let kv_head = first_head / group;
    let mut queries = Scratch::<f32, TASK_ELEMS>::new();
    let queries = queries.zeroed(rows.len() * head_dim);
    let mut scores = Scratch::<PerVector, MAX_ROWS>::new();
    let scores = scores.zeroed(rows.len());
    let mut block = Scratch::<f32, BLOCK_ELEMS>::new();
    for (r, row) in rows.iter_mut().enumerate() {
        let (query, head) = (first_query + r / n_heads, first_head + r % n_heads);
        row.n_seen = operands.n_seen(query).min(keys.end);
        let query_values = &mut queries[r * head_dim..][..head_dim];
        T::load(isa, q.vector(query, head, head_dim), query_values);
        for value in query_values {
            *value *= scale;
        }
    }
    // Later queries see more keys.
    let n_keys = rows.last().map_or(0, |row| row.n_seen);
    let needs_block = Vectors::<C>::need_block(isa, head_dim);
    let block_keys = (BLOCK_ELEMS / head_dim).min(MAX_VECTORS);
    let block = block.zeroed(if needs_block { block_keys.min(n_keys) * head_dim } else { 0 });
    for first_key in (keys.start..n_keys).step_by(block_keys) {
        let these = first_key..(first_key + block_keys).min(n_keys);
        let next = these.end..(these.end + block_keys).min(n_keys);
        let keys = k.vectors(these.clone(), kv_head, head_dim);
        let values = v.vectors(these, kv_head, head_dim);
        let next_keys = if next.is_empty() { following } else { k.vectors(next, kv_head, head_dim).ahead() };
        keys.dots(isa, queries, values.ahead(), block, scores);
        for (r, (row, scores)) in rows.iter_mut().zip(scores.iter_mut()).enumerate() {
            let scores = &mut scores[..row.n_seen_of(first_key, block_keys)];
            weigh(row, scores, &mut sums[r * head_dim..][..head_dim]);
        }
        let n_seen = |r: usize| rows[r].n_seen_of(first_key, block_keys);
        values.add_weighted(isa, scores, n_seen, next_keys, block, sums);
    }
}

/// e^x for `x <= 0`, and 0 where that is too small to count beside the 1 of the largest score: products with subnormal
/// numbers take the CPU a hundred times longer than others.
#[inline(always)]
fn weight(x: f32) -> f32 {
    let value = exp(x);
    if x < -80.0 { 0.0 } else { value }
}

/// Turns a block's scores into weights under the new running maximum, and rescales what the row has gathered. The loops go over
/// whole arrays, so that they become vector instructions.
#[inline(always)]
fn weigh(row: &mut Row, scores: &mut [f32], sums: &mut [f32]) {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let largest = fold_values(scores, row.largest, larger, larger);
    // While nothing but -inf has been seen, any finite shift will do: the weights are zero.
    let shift = if largest == f32::NEG_INFINITY { 0.0 } else { largest };
    if largest > row.largest {
        let rescale = exp(row.largest - shift);
        row.sum *= rescale;
        for sum in sums.iter_mut() {
            *sum *= rescale;
        }
        row.largest = largest;
    }
    let (groups, rest) = scores.as_chunks_mut::<LANES>();
    for group in groups {
        for score in group {
            *score = weight(*score - shift);
        }
    }
    for score in rest {
        *score = weight(*score - shift);
    }
    row.sum += fold_values(scores, 0.0, add, add);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::{Q8_0, Q8Block};
    use crate::testing::{Random, all_threads, assert_close, rounding};
    use bytemuck::Zeroable;
    use half::{bf16, f16};

    fn vector<T: Kept>(x: &Heads<'_, T>, token: usize, head: usize, d: usize) -> Vec<f64> {
        let mut values = vec![0.0; d];
        T::load(Isa::portable(), x.vector(token, head, d), &mut values);
        values.into_iter().map(f64::from).collect()
    }

    /// Random keys or values.
    trait RandomKept: Kept {
        fn random(random: &mut Random, n_elems: usize) -> Vec<Self>;
    }

    impl<T: Element> RandomKept for T {
        fn random(random: &mut Random, n_elems: usize) -> Vec<T> {
            random.vec(n_elems)
        }
    }

    impl RandomKept for Q8Block {
        fn random(random: &mut Random, n_elems: usize) -> Vec<Q8Block> {
            let mut blocks = vec![Q8Block::zeroed(); n_elems / Q8Block::ELEMS];
            (Q8_0.quantize.unwrap())(&random.vec::<f32>(n_elems), bytemuck::cast_slice_mut(&mut blocks));
            blocks
        }
    }

    /// Attention over random operands; keys and values lie head by head, as in a cache with room for more tokens.
    fn check<T: Element, C: RandomKept>([n, m, heads, kv_heads, d]: [usize; 5], causal: bool) {
        let mut random = Random::new((n * 3 + m * 5 + d) as u64);
        let room = m + 3;
        let q = random.vec::<T>(n * heads * (d + 1));
        let [k, v] = [(); 2].map(|()| C::random(&mut random, kv_heads * room * d));
        let q = Heads { data: &q[..], n_tokens: n, n_heads: heads, token_stride: heads * (d + 1), head_stride: d + 1 };
        let cache = |data| Heads { data, n_tokens: m, n_heads: kv_heads, token_stride: d, head_stride: room * d };
        let (k, v) = (cache(&k[..]), cache(&v[..]));
        let scale = 3.0 / (d as f32).sqrt();
        let mut expected = Vec::new();
        for (i, h) in (0..n).flat_map(|i| (0..heads).map(move |h| (i, h))) {
            let (query, g) = (vector(&q, i, h, d), h / (heads / kv_heads));
            let seen = (0..m).filter(|j| !causal || j + n <= i + m);
            let weights: Vec<(usize, f64)> = seen
                .map(|j| {
                    let score: f64 = query.iter().zip(vector(&k, j, g, d)).map(|(q, k)| q * k).sum();
                    (j, (score * f64::from(scale)).exp())
                })
                .collect();
            let total: f64 = weights.iter().map(|(_, w)| w).sum();
            let mut row = vec![0.0; d];
            for (j, weight) in weights {
                row.iter_mut().zip(vector(&v, j, g, d)).for_each(|(row, v)| *row += weight / total * v);
            }
            expected.extend(row);
        }
        for threads in all_threads() {
            let mut out = vec![T::from_f32(f32::NAN); n * heads * d];
            attention(&threads, q, k, v, d, scale, causal, &mut out);
            let what = format!("{n} {m} {heads}/{kv_heads} {d} {causal} {threads:?}");
            assert_close(&what, &out, &expected, 3e-6, rounding::<T>());
        }
    }

    #[test]
    fn grouped_heads_and_awkward_sizes() {
        for causal in [false, true] {
            for n in [0, 1, 2, 31, 33] {
                for m in [0, 1, 31, 33, 257] {
                    check::<f32, f32>([n, m, 3, 1, 32], causal);
                    check::<f16, f16>([n, m, 4, 2, 33], causal);
                }
            }
            check::<f32, f16>([1, 300, 32, 4, 64], causal);
            check::<f32, f16>([1, 1337, 8, 2, 64], causal);
            check::<f16, f16>([1, 2000, 3, 1, 80], causal);
            check::<f32, f32>([1, 600, 5, 5, 33], causal);
            for m in [1, 16, 31, 257] {
                check::<f16, f16>([1, m, 3, 3, 80], causal);
                check::<f32, bf16>([1, m, 4, 2, 144], causal);
            }
            check::<f16, f16>([50, 200, 4, 1, 48], causal);
            check::<f32, f16>([3, 200, 4, 1, 128], causal);
            check::<f16, f32>([7, 100, 11, 1, 128], causal);
            check::<f32, bf16>([20, 70, 2, 2, 1024], causal);
            check::<f32, f32>([5, 40, 48, 2, 1], causal);
            check::<f16, f16>([300, 300, 8, 2, 64], causal);
        }
    }

    #[test]
    fn keys_and_values_in_blocks() {
        for causal in [false, true] {
            for m in [0, 1, 31, 65, 600] {
                check::<f32, Q8Block>([1, m, 8, 2, 64], causal);
                check::<f16, Q8Block>([3, m, 3, 1, 32], causal);
                check::<f32, Q8Block>([40, m, 4, 4, 96], causal);
            }
            check::<f32, Q8Block>([2, 300, 2, 2, 1024], causal);
        }
    }

    /// Vectors that overlap, or are all the same one, as those of a view may be.
    #[test]
    fn vectors_at_any_distance() {
        let mut random = Random::new(8);
        let (d, m) = (64, 70);
        let q = random.vec::<f32>(8 * d);
        let q = Heads { data: &q[..], n_tokens: 1, n_heads: 8, token_stride: 0, head_stride: d };
        for token_stride in [0, 1, 16, 63] {
            let values = random.vec::<f16>(m * token_stride + d);
            let copies: Vec<f16> = (0..m).flat_map(|j| values[j * token_stride..][..d].to_vec()).collect();
            let heads = |data, token_stride| Heads { data, n_tokens: m, n_heads: 1, token_stride, head_stride: 0 };
            for threads in all_threads() {
                let [mut out, mut expected] = [(); 2].map(|()| vec![f32::NAN; 8 * d]);
                let (view, copy) = (heads(&values[..], token_stride), heads(&copies[..], d));
                attention(&threads, q, view, view, d, 0.1, true, &mut out);
                attention(&threads, q, copy, copy, d, 0.1, true, &mut expected);
                assert_eq!(out, expected, "{token_stride} {threads:?}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "[48, 96, 48, 96, 48] in blocks of 32")]
    fn heads_are_whole_blocks() {
        let heads = |data| Heads { data, n_tokens: 1, n_heads: 2, token_stride: 96, head_stride: 48 };
        let q = Heads { data: &[1.0f32; 96][..], n_tokens: 1, n_heads: 2, token_stride: 96, head_stride: 48 };
        let blocks = [Q8Block::zeroed(); 3];
        attention(&Threads::new(1), q, heads(&blocks), heads(&blocks), 48, 1.0, true, &mut [0.0; 96]);
    }

    #[test]
    fn scores_far_apart_and_keys_unseen() {
        for threads in all_threads() {
            let q = [1.0f32; 4];
            let k = [-1e4, 3e3, 1e30, f32::NAN];
            let v = [7.0, 5.0, 3.0, f32::NAN];
            let heads = |data, n_tokens| Heads { data, n_tokens, n_heads: 1, token_stride: 1, head_stride: 1 };
            let mut out = [0.0; 4];
            attention(&threads, heads(&q, 4), heads(&k, 4), heads(&v, 4), 1, 1.0, true, &mut out);
            assert_eq!(out[..3], [7.0, 5.0, 3.0]);
            assert!(out[3].is_nan());
            attention(&threads, heads(&q, 4), heads(&k, 2), heads(&v, 2), 1, 1.0, true, &mut out);
            assert_eq!(out, [0.0, 0.0, 7.0, 5.0]);
        }
    }
}
