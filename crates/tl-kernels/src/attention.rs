//! Attention in one pass over the keys and values, without the matrix of scores.
//!
//! A task takes some queries and some query heads that share a key-value head, so that a key is loaded once for all of
//! them. Keys come in blocks: scores of the block, a new running maximum, rescaled sums (the online softmax of Milakov and
//! Gimelshein, 2018; the tiling is that of Dao and others, "FlashAttention", 2022). For one query there may be fewer tasks
//! than threads want; then tasks take parts of the keys, and what they gather is joined in the end.
#![allow(unsafe_code)]

use crate::element::Element;
use crate::isa::{Isa, instantiate};
use crate::math::{exp, tanh};
use crate::prefetch::Prefetcher;
use crate::quant::Weight;
use crate::reduce::{add, fold_values};
use crate::scratch::Scratch;
use crate::strided_vectors::{KvElement, LANES, MAX_VECTORS, PerVector, Vectors};
use crate::task_size::PARALLEL_MIN;
use crate::threads::{Threads, Tile, Tiling};
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

impl<'a, T: KvElement> Heads<'a, T> {
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

/// Which keys a query sees, and what becomes of its scores.
#[derive(Clone, Copy, Debug)]
pub struct Scores<'a> {
    /// The factor of the products of queries and keys.
    pub scale: f32,
    /// Whether query `i` of `n` sees only the keys `j <= i + (m - n)` of `m`, so that the last query sees them all.
    pub causal: bool,
    /// How many of these keys it sees, the last ones; 0: all. Only where attention is causal.
    pub window: usize,
    /// Where this is above 0, a score `s` becomes `softcap * tanh(s / softcap)`.
    pub softcap: f32,
    /// A score for each query head that counts among the others, and has no value: a row of as many elements as there are heads.
    pub sinks: Option<Weight<'a>>,
}

impl Scores<'_> {
    /// All keys, or those up to the query's own, with the products times `scale` as scores.
    pub fn new(scale: f32, causal: bool) -> Self {
        Scores { scale, causal, window: 0, softcap: 0.0, sinks: None }
    }
}

/// The places of a sequence's keys and values among those of other sequences. Page `p` is the tokens of `k` and of `v` from
/// `p * page_len` on.
#[derive(Clone, Copy, Debug)]
pub struct Pages<'a> {
    /// The sequence's pages, in order: the first holds its first `page_len` tokens.
    pub table: &'a [u32],
    /// Tokens of a page.
    pub page_len: usize,
    /// The tokens of the sequence.
    pub n_tokens: usize,
}

impl Pages<'_> {
    /// The place of a token among those of all sequences.
    #[inline(always)]
    fn place(&self, token: usize) -> usize {
        self.table.get(token / self.page_len).map_or(0, |page| *page as usize) * self.page_len + token % self.page_len
    }

    /// The first token behind the page of this one.
    #[inline(always)]
    fn page_end(&self, token: usize) -> usize {
        (token / self.page_len + 1) * self.page_len
    }
}

/// `out[i, h] = sum over j of softmax over j of (scale * q[i, h] . k[j, g]) * v[j, g]`, `g = h / (heads / kv_heads)`, `j` being the
/// keys that the query sees; see [`Scores`].
///
/// `q: [n, heads, d]`, `k: [m, kv_heads, d]`, `v: [m, kv_heads, e]` with any strides but the last, `out: [n, heads, e]` contiguous;
/// `k` and `v` may be kept in another type. A query that sees no key gives zeros. All in `f32`. Keys that no query of a task sees are
/// not read. What a query gives depends on the keys that it sees, not on how many lie before them.
///
/// # Panics
/// If `d` or `e` is larger than [`MAX_HEAD_DIM`], the heads are not a multiple of the key-value heads, or a size is wrong; with a
/// window without `causal`; with blocks, also where `d`, `e` or a stride of `k` or `v` is no whole number of them.
#[expect(clippy::too_many_arguments, reason = "three operands and their sizes")]
pub fn attention<T: Element, C: KvElement>(
    threads: &Threads,
    q: Heads<'_, T>,
    k: Heads<'_, C>,
    v: Heads<'_, C>,
    head_dim: usize,
    value_dim: usize,
    scores: Scores<'_>,
    out: &mut [T],
) {
    attend(threads, Operands { q, k, v, head_dim, value_dim, pages: None, scores }, out);
}

/// As [`attention`], over the keys and values of one sequence, which lie in pages among those of others. What it gives
/// depends on the length of a page, and not on which pages they are.
///
/// # Panics
/// As [`attention`]; if `k` and `v` do not hold the pages, or there are too few of them.
#[expect(clippy::too_many_arguments, reason = "three operands, their sizes and places")]
pub fn attention_in_pages<T: Element, C: KvElement>(
    threads: &Threads,
    q: Heads<'_, T>,
    k: Heads<'_, C>,
    v: Heads<'_, C>,
    head_dim: usize,
    value_dim: usize,
    pages: Pages<'_>,
    scores: Scores<'_>,
    out: &mut [T],
) {
    let Pages { table, page_len, n_tokens } = pages;
    assert!(
        page_len > 0 && n_tokens <= table.len() * page_len,
        "attention: {n_tokens} tokens in {} pages",
        table.len()
    );
    let n_held = k.n_tokens / page_len;
    assert!(table.iter().all(|page| (*page as usize) < n_held), "attention: a page beyond the {n_held} that there are");
    attend(threads, Operands { q, k, v, head_dim, value_dim, pages: Some(pages), scores }, out);
}

fn attend<T: Element, C: KvElement>(threads: &Threads, operands: Operands<'_, T, C>, out: &mut [T]) {
    let Operands { q, k, v, head_dim, value_dim, scores, .. } = operands;
    let widest = head_dim.max(value_dim);
    assert!(widest <= MAX_HEAD_DIM, "attention: a head of {widest}");
    assert_eq!(out.len(), q.n_tokens * q.n_heads * value_dim, "attention: length of the output");
    assert!(k.n_tokens == v.n_tokens && k.n_heads == v.n_heads, "attention: keys and values");
    assert!(scores.causal || scores.window == 0, "attention: a window of {} that is not causal", scores.window);
    let in_blocks = [head_dim, k.token_stride, k.head_stride, value_dim, v.token_stride, v.head_stride];
    assert!(
        in_blocks.iter().all(|len| len.is_multiple_of(C::ELEMS)),
        "attention: {in_blocks:?} in blocks of {}",
        C::ELEMS
    );
    if let Some(Weight { bytes, format }) = scores.sinks {
        assert_eq!(bytes.len(), format.row_bytes(q.n_heads), "attention: bytes of the sinks");
    }
    if out.is_empty() {
        return;
    }
    assert!(k.n_heads > 0 && q.n_heads.is_multiple_of(k.n_heads), "attention: {} heads, {}", q.n_heads, k.n_heads);
    let group = operands.group();
    let n_seen = operands.seen(q.n_tokens - 1).end - operands.seen(0).start;
    let parallel = out.len().saturating_mul(n_seen) >= PARALLEL_MIN;
    let max_rows = (TASK_ELEMS / widest).min(MAX_ROWS);
    // The heads of a task: as many of a group as fit, but with several threads not so many that one has nothing to do.
    let enough_tasks = |heads: &usize| !parallel || q.n_tokens * q.n_heads / heads >= threads.count();
    let divisors = (1..=group.min(max_rows)).rev().filter(|heads| group.is_multiple_of(*heads));
    let heads = divisors.into_iter().find(enough_tasks).unwrap_or(1);
    if parallel && q.n_tokens == 1 {
        let n_tasks = q.n_heads / heads;
        let n_parts = (4 * threads.count()).div_ceil(n_tasks).min(n_seen / MIN_PART);
        if n_tasks < 4 * threads.count() && n_parts > 1 && attention_in_parts(threads, operands, heads, n_parts, out) {
            return;
        }
    }
    let queries = (max_rows / heads).max(1);
    let n_cols = q.n_heads * value_dim;
    let tiling =
        Tiling { n_cols, group_rows: q.n_tokens, row_step: 1, tile_rows: queries, tile_cols: heads * value_dim };
    threads.for_tiles_if(parallel, out, tiling, &|mut tile| attention_tile(threads.isa(), operands, &mut tile));
}

/// One query: each task takes some heads and a part of the keys. Does nothing, and says so, where the workspace is too small
/// for what the tasks gather.
fn attention_in_parts<T: Element, C: KvElement>(
    threads: &Threads,
    operands: Operands<'_, T, C>,
    heads: usize,
    n_parts: usize,
    out: &mut [T],
) -> bool {
    let Operands { q, value_dim, .. } = operands;
    let isa = threads.isa();
    // Of each head its sums, and behind them its row.
    let head_lines = (value_dim * size_of::<f32>()).div_ceil(size_of::<Line>()) + 1;
    let task_lines = heads * head_lines;
    let mut workspace = threads.workspace();
    let Some(gathered) = workspace.get_mut(..q.n_heads * n_parts * head_lines) else { return false };
    let seen = operands.seen(0);
    let part_keys = seen.len().div_ceil(n_parts).next_multiple_of(MAX_VECTORS);
    let part = |task: usize| {
        let first_key = seen.start + task % n_parts * part_keys;
        (task / n_parts * heads, first_key..(first_key + part_keys).min(seen.end))
    };
    threads.for_chunks(gathered, task_lines, &|task, lines| {
        let (first_head, keys) = part(task);
        let (next_head, next_keys) = part(task + 1);
        gather_part(isa, operands, first_head, keys, operands.first_keys(next_head, next_keys), lines);
    });
    for (h, out) in out.chunks_exact_mut(value_dim).enumerate() {
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
    value_dim: usize,
    pages: Option<Pages<'a>>,
    scores: Scores<'a>,
}

impl<T, C> Clone for Operands<'_, T, C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, C> Copy for Operands<'_, T, C> {}

impl<T, C: KvElement> Operands<'_, T, C> {
    /// The query heads that share a head of keys and values.
    #[inline(always)]
    fn group(&self) -> usize {
        self.q.n_heads / self.k.n_heads
    }

    /// The memory of the first of the keys for a query head, if there is such a head.
    #[inline(always)]
    fn first_keys(&self, head: usize, keys: Range<usize>) -> Prefetcher {
        if head >= self.q.n_heads {
            return Prefetcher::NOTHING;
        }
        self.keys(self.stretch(keys.start, MAX_VECTORS.min(keys.len())), head / self.group()).ahead()
    }

    /// The number of keys.
    #[inline(always)]
    fn n_keys(&self) -> usize {
        self.pages.map_or(self.k.n_tokens, |pages| pages.n_tokens)
    }

    /// Keys that lie one after the other: at most `n` from `first` on.
    #[inline(always)]
    fn stretch(&self, first: usize, n: usize) -> Range<usize> {
        let end = first + n;
        first..self.pages.map_or(end, |pages| end.min(pages.page_end(first)))
    }

    /// The keys of one head of a stretch.
    #[inline(always)]
    fn keys(&self, stretch: Range<usize>, kv_head: usize) -> Vectors<'_, C> {
        self.k.vectors(self.places(stretch), kv_head, self.head_dim)
    }

    /// As [`Operands::keys`], the values.
    #[inline(always)]
    fn values(&self, stretch: Range<usize>, kv_head: usize) -> Vectors<'_, C> {
        self.v.vectors(self.places(stretch), kv_head, self.value_dim)
    }

    #[inline(always)]
    fn places(&self, stretch: Range<usize>) -> Range<usize> {
        match self.pages {
            None => stretch,
            Some(_) if stretch.is_empty() => 0..0,
            Some(pages) => {
                let first = pages.place(stretch.start);
                first..first + stretch.len()
            }
        }
    }

    /// The keys that query `i` sees.
    #[inline(always)]
    fn seen(&self, i: usize) -> Range<usize> {
        let (n, m) = (self.q.n_tokens, self.n_keys());
        if !self.scores.causal {
            return 0..m;
        }
        let end = (i + 1 + m).saturating_sub(n);
        let start = if self.scores.window == 0 { 0 } else { end.saturating_sub(self.scores.window) };
        start..end
    }

    /// What a row has gathered that has seen no key yet.
    #[inline(always)]
    fn new_row(&self, isa: Isa, head: usize, seen: Range<usize>, has_sink: bool) -> Row {
        let mut row = Row { seen, ..Row::NEW };
        if let Some(sinks) = self.scores.sinks.filter(|_| has_sink) {
            let mut sink = [0.0];
            sinks.load(isa, head, &mut sink);
            // The weight that it has beside itself alone.
            row.sum = if sink[0] == f32::NEG_INFINITY { 0.0 } else { 1.0 };
            row.largest = sink[0];
        }
        row
    }
}

/// What a row (a query and a head) has gathered so far: its largest score, and the sum of its weights.
#[derive(Clone)]
struct Row {
    largest: f32,
    sum: f32,
    seen: Range<usize>,
}

impl Row {
    const NEW: Row = Row { largest: f32::NEG_INFINITY, sum: 0.0, seen: 0..0 };

    /// Which keys of the block from `first_key` on the row sees.
    #[inline(always)]
    fn seen_of(&self, first_key: usize, block_keys: usize) -> Range<usize> {
        let within = |key: usize| key.saturating_sub(first_key).min(block_keys);
        within(self.seen.start)..within(self.seen.end)
    }
}

/// What a task gathers: of each row, the weighted sum of the values, not yet divided by the sum of the weights.
struct Gathered {
    rows: [Row; MAX_ROWS],
    sums: Scratch<f32, TASK_ELEMS>,
}

instantiate! {
    fn attention_tile[T: Element, C: KvElement](isa: Isa, operands: Operands<'_, T, C>, tile: &mut Tile<'_, T>) {
        let value_dim = operands.value_dim;
        let (first_query, n_queries) = (tile.first_row(), tile.n_rows());
        let (first_head, n_heads) = (tile.first_col() / value_dim, tile.n_cols() / value_dim);
        let n_rows = n_queries * n_heads;
        let mut gathered = Gathered { rows: [const { Row::NEW }; MAX_ROWS], sums: Scratch::new() };
        let sums = gathered.sums.zeroed(n_rows * value_dim);
        let rows = &mut gathered.rows[..n_rows];
        // With one query, a thread's next tile is likely to be that of the next heads; with more, the same keys again.
        let keys = operands.seen(first_query).start..operands.n_keys();
        let next_head = if operands.q.n_tokens == 1 { first_head + n_heads } else { usize::MAX };
        let following = operands.first_keys(next_head, keys.clone());
        gather(isa, operands, (first_query, first_head, n_heads), keys, true, following, rows, sums);
        for (r, row) in rows.iter().enumerate() {
            let sums = &mut sums[r * value_dim..][..value_dim];
            let scale = if row.seen.is_empty() { 0.0 } else { 1.0 / row.sum };
            for sum in sums.iter_mut() {
                *sum *= scale;
            }
            T::store(isa, sums, &mut tile.row_mut(r / n_heads)[r % n_heads * value_dim..][..value_dim]);
        }
    }

    /// Gathers over some of the keys for some heads of the only query.
    fn gather_part[T: Element, C: KvElement](
        isa: Isa, operands: Operands<'_, T, C>, first_head: usize, keys: Range<usize>, following: Prefetcher, lines: &mut [Line],
    ) {
        let value_dim = operands.value_dim;
        let head_lines = (value_dim * size_of::<f32>()).div_ceil(size_of::<Line>()) + 1;
        let n_rows = lines.len() / head_lines;
        let mut gathered = Gathered { rows: [const { Row::NEW }; MAX_ROWS], sums: Scratch::new() };
        let sums = gathered.sums.zeroed(n_rows * value_dim);
        let rows = &mut gathered.rows[..n_rows];
        // One part counts the sinks.
        let has_sinks = keys.start == operands.seen(0).start;
        gather(isa, operands, (0, first_head, n_rows), keys, has_sinks, following, rows, sums);
        for (r, row) in rows.iter().enumerate() {
            let (values, last) = lines[r * head_lines..][..head_lines].split_at_mut(head_lines - 1);
            bytemuck::cast_slice_mut(values)[..value_dim].copy_from_slice(&sums[r * value_dim..][..value_dim]);
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

/// Goes through the keys for the rows: the heads from `first_head` on of each query from `first_query` on. The first of the keys is
/// one that the first query sees. `following`: the keys that the thread reads next.
#[expect(clippy::too_many_arguments, reason = "what is gathered, for whom and whereto")]
#[inline(always)]
fn gather<T: Element, C: KvElement>(
    isa: Isa,
    operands: Operands<'_, T, C>,
    (first_query, first_head, n_heads): (usize, usize, usize),
    keys: Range<usize>,
    has_sinks: bool,
    following: Prefetcher,
    rows: &mut [Row],
    sums: &mut [f32],
) {
    let Operands { q, head_dim, value_dim, scores: Scores { scale, softcap, .. }, .. } = operands;
    let kv_head = first_head / operands.group();
    let mut queries = Scratch::<f32, TASK_ELEMS>::new();
    let queries = queries.zeroed(rows.len() * head_dim);
    let mut scores = Scratch::<PerVector, MAX_ROWS>::new();
    let scores = scores.zeroed(rows.len());
    let mut block = Scratch::<f32, BLOCK_ELEMS>::new();
    for (r, row) in rows.iter_mut().enumerate() {
        let (query, head) = (first_query + r / n_heads, first_head + r % n_heads);
        let seen = operands.seen(query);
        *row = operands.new_row(isa, head, seen.start..seen.end.min(keys.end), has_sinks);
        let query_values = &mut queries[r * head_dim..][..head_dim];
        T::load(isa, q.vector(query, head, head_dim), query_values);
        for value in query_values {
            *value *= scale;
        }
    }
    // Later queries see later keys.
    let n_keys = rows.last().map_or(0, |row| row.seen.end);
    let widest = head_dim.max(value_dim);
    let needs_block = Vectors::<C>::need_block(isa, head_dim) || Vectors::<C>::need_block(isa, value_dim);
    let block_keys = (BLOCK_ELEMS / widest).min(MAX_VECTORS);
    let block_room = block_keys.min(n_keys.saturating_sub(keys.start));
    let block = block.zeroed(if needs_block { block_room * widest } else { 0 });
    let stretch = |first: usize| operands.stretch(first, block_keys.min(n_keys.saturating_sub(first)));
    let mut these = stretch(keys.start);
    while !these.is_empty() {
        let (first_key, n_these, next) = (these.start, these.len(), stretch(these.end));
        let keys = operands.keys(these.clone(), kv_head);
        let values = operands.values(these, kv_head);
        let next_keys = if next.is_empty() { following } else { operands.keys(next.clone(), kv_head).ahead() };
        if head_dim > 0 {
            keys.dots(isa, queries, values.ahead(), block, scores);
        } else {
            scores.fill([0.0; MAX_VECTORS]);
        }
        for (r, (row, scores)) in rows.iter_mut().zip(scores.iter_mut()).enumerate() {
            let scores = &mut scores[row.seen_of(first_key, n_these)];
            if softcap > 0.0 {
                cap(scores, softcap);
            }
            weigh(row, scores, &mut sums[r * value_dim..][..value_dim]);
        }
        let seen = |r: usize| rows[r].seen_of(first_key, n_these);
        values.add_weighted(isa, scores, seen, next_keys, block, sums);
        these = next;
    }
}

/// Bends scores so that none is larger than `softcap`.
#[inline(always)]
fn cap(scores: &mut [f32], softcap: f32) {
    let inverse = 1.0 / softcap;
    for score in scores {
        *score = softcap * tanh(*score * inverse);
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
    use crate::quant::{F32, Q8_0, Q8Block};
    use crate::testing::{Random, all_threads, assert_close, rounding};
    use bytemuck::Zeroable;
    use half::{bf16, f16};

    fn vector<T: KvElement>(x: &Heads<'_, T>, token: usize, head: usize, d: usize) -> Vec<f64> {
        let mut values = vec![0.0; d];
        T::load(Isa::portable(), x.vector(token, head, d), &mut values);
        values.into_iter().map(f64::from).collect()
    }

    /// Random keys or values.
    trait RandomKept: KvElement {
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

    /// Attention over random operands; keys and values lie head by head, as in a cache with room for more tokens. Values are as wide as
    /// keys unless `value_dim` says otherwise.
    fn check_scores<T: Element, C: RandomKept>(
        [n, m, heads, kv_heads, d]: [usize; 5],
        value_dim: Option<usize>,
        scores: Scores<'_>,
    ) {
        let mut random = Random::new((n * 3 + m * 5 + d) as u64);
        let (room, e) = (m + 3, value_dim.unwrap_or(d));
        let q = random.vec::<T>(n * heads * (d + 1));
        let [k, v] = [d, e].map(|width| C::random(&mut random, kv_heads * room * width));
        let q = Heads { data: &q[..], n_tokens: n, n_heads: heads, token_stride: heads * (d + 1), head_stride: d + 1 };
        let cache = |data, width| Heads {
            data,
            n_tokens: m,
            n_heads: kv_heads,
            token_stride: width,
            head_stride: room * width,
        };
        let (k, v) = (cache(&k[..], d), cache(&v[..], e));
        let scores = Scores { scale: scores.scale / (d as f32).sqrt(), ..scores };
        let mut sinks = vec![0.0; heads];
        if let Some(weight) = scores.sinks {
            weight.load(Isa::portable(), 0, &mut sinks);
        }
        let (window, softcap) = (scores.window, f64::from(scores.softcap));
        let mut expected = Vec::new();
        for (i, h) in (0..n).flat_map(|i| (0..heads).map(move |h| (i, h))) {
            let (query, g) = (vector(&q, i, h, d), h / (heads / kv_heads));
            let is_shown = |j: usize| j + n <= i + m && (window == 0 || j + n + window > i + m);
            let seen = (0..m).filter(|&j| !scores.causal || is_shown(j));
            let weights: Vec<(usize, f64)> = seen
                .map(|j| {
                    let score: f64 = query.iter().zip(vector(&k, j, g, d)).map(|(q, k)| q * k).sum();
                    let score = score * f64::from(scores.scale);
                    (j, if softcap > 0.0 { softcap * (score / softcap).tanh() } else { score }.exp())
                })
                .collect();
            let sink = if scores.sinks.is_some() { f64::from(sinks[h]).exp() } else { 0.0 };
            let total = weights.iter().map(|(_, w)| w).sum::<f64>() + sink;
            let mut row = vec![0.0; e];
            for (j, weight) in weights {
                row.iter_mut().zip(vector(&v, j, g, e)).for_each(|(row, v)| *row += weight / total * v);
            }
            expected.extend(row);
        }
        for threads in all_threads() {
            let mut out = vec![T::from_f32(f32::NAN); n * heads * e];
            attention(&threads, q, k, v, d, e, scores, &mut out);
            let what = format!("{n} {m} {heads}/{kv_heads} {d} {e} {scores:?} {threads:?}");
            assert_close(&what, &out, &expected, 3e-6, rounding::<T>());
        }
    }

    fn check<T: Element, C: RandomKept>(sizes: [usize; 5], causal: bool) {
        check_scores::<T, C>(sizes, None, Scores::new(3.0, causal));
    }

    /// A sequence in scattered pages has the bits that it has in pages one after the other, and those of no pages where
    /// a page holds a whole number of blocks.
    #[test]
    fn pages_may_lie_anywhere() {
        let mut random = Random::new(5);
        let (d, heads, kv_heads) = (64, 4, 2);
        for (page_len, n, m) in
            [(32usize, 1usize, 1usize), (32, 1, 33), (32, 3, 500), (128, 1, 900), (128, 40, 300), (7, 2, 40), (1, 1, 5)]
        {
            let n_pages = m.div_ceil(page_len);
            let table: Vec<u32> = (0..n_pages as u32).map(|page| (page * 5 + 3) % (n_pages as u32 * 5 + 4)).collect();
            let n_held = n_pages * 5 + 4;
            let q = random.vec::<f16>(n * heads * d);
            let ordered = [0; 2].map(|_| random.vec::<f16>(n_pages * page_len * kv_heads * d));
            let page_elems = page_len * kv_heads * d;
            let scattered = ordered.each_ref().map(|ordered| {
                let mut all = vec![f16::NAN; n_held * page_elems];
                for (at, page) in table.iter().enumerate() {
                    all[*page as usize * page_elems..][..page_elems]
                        .copy_from_slice(&ordered[at * page_elems..][..page_elems]);
                }
                all
            });
            let q = Heads { data: &q[..], n_tokens: n, n_heads: heads, token_stride: heads * d, head_stride: d };
            let of = |data, n_tokens| Heads {
                data,
                n_tokens,
                n_heads: kv_heads,
                token_stride: kv_heads * d,
                head_stride: d,
            };
            for (threads, window) in all_threads().iter().flat_map(|threads| [(threads, 0), (threads, 45)]) {
                let scores = Scores { window, ..Scores::new(0.3, true) };
                let mut results = [0; 3].map(|_| vec![f16::NAN; n * heads * d]);
                let [in_order, anywhere, plain] = &mut results;
                let order: Vec<u32> = (0..n_pages as u32).collect();
                let pages = |table| Pages { table, page_len, n_tokens: m };
                let [k, v] = ordered.each_ref().map(|data| of(&data[..], n_pages * page_len));
                attention_in_pages(threads, q, k, v, d, d, pages(&order), scores, in_order);
                let [k, v] = ordered.each_ref().map(|data| of(&data[..], m));
                attention(threads, q, k, v, d, d, scores, plain);
                let [k, v] = scattered.each_ref().map(|data| of(&data[..], n_held * page_len));
                attention_in_pages(threads, q, k, v, d, d, pages(&table), scores, anywhere);
                let what = format!("{page_len} {n} {m} {window} {threads:?}");
                assert_eq!(in_order, anywhere, "{what}");
                if page_len.is_multiple_of(MAX_VECTORS) && window == 0 {
                    assert_eq!(plain, anywhere, "{what}");
                }
                let plain: Vec<f64> = plain.iter().map(|x| f64::from(x.to_f32())).collect();
                assert_close(&what, anywhere, &plain, 3e-6, rounding::<f16>() * 2.0);
            }
        }
    }

    #[test]
    fn windows_caps_and_sinks() {
        let sinks: Vec<u8> = (0..32).flat_map(|h: i32| ((h % 5) as f32 - 1.5).to_le_bytes()).collect();
        for (heads, kv_heads, d, e) in
            [(4, 2, 33, None), (3, 1, 32, Some(48)), (8, 2, 64, Some(17)), (2, 2, 16, Some(16))]
        {
            for (n, m) in [(1, 1), (1, 31), (1, 900), (2, 3), (5, 5), (33, 257), (140, 300), (7, 3)] {
                for (window, softcap, has_sinks) in
                    [(1, 0.0, false), (7, 0.0, true), (130, 2.0, true), (1000, 0.5, false)]
                {
                    // At any alignment.
                    let row = [&[7][..], &sinks[..4 * heads]].concat();
                    let sinks = has_sinks.then_some(Weight { bytes: &row[1..], format: &F32 });
                    let scores = Scores { window, softcap, sinks, ..Scores::new(3.0, true) };
                    check_scores::<f32, f32>([n, m, heads, kv_heads, d], e, scores);
                    check_scores::<f16, f16>([n, m, heads, kv_heads, d], e, scores);
                    check_scores::<f32, f16>(
                        [n, m, heads, kv_heads, d],
                        e,
                        Scores { window: 0, causal: false, ..scores },
                    );
                }
            }
        }
        let scores = Scores { window: 100, ..Scores::new(3.0, true) };
        check_scores::<f32, Q8Block>([1, 600, 4, 2, 64], Some(32), scores);
        check_scores::<f16, Q8Block>([40, 600, 4, 2, 32], Some(96), scores);
        check_scores::<f32, bf16>([1, 300, 2, 2, 1024], Some(16), scores);
        check_scores::<f32, bf16>([3, 300, 2, 2, 16], Some(1024), scores);
    }

    /// Whatever lies before the window: the same bits, and NaN is not met.
    #[test]
    fn what_lies_before_a_window_does_not_count() {
        let (heads, d, window, m) = (4, 32, 40, 300);
        let mut random = Random::new(3);
        let (mut k, mut v) = (random.vec::<f32>(m * d), random.vec::<f32>(m * d));
        // The fewer queries, the later their first key.
        for n in [50, 9, 2, 1] {
            let q = random.vec::<f32>(n * heads * d);
            let q = Heads { data: &q[..], n_tokens: n, n_heads: heads, token_stride: heads * d, head_stride: d };
            // The first key that the first query sees.
            let first = m - n + 1 - window;
            let scores = Scores { window, ..Scores::new(0.2, true) };
            for threads in all_threads() {
                let mut found = [(); 3].map(|()| vec![f32::NAN; n * heads * d]);
                for (start, out) in [0, first / 2, first].into_iter().zip(&mut found) {
                    k[..first * d].fill(f32::NAN);
                    v[..first * d].fill(f32::NAN);
                    let of = |data| Heads { data, n_tokens: m - start, n_heads: 1, token_stride: d, head_stride: 0 };
                    attention(&threads, q, of(&k[start * d..]), of(&v[start * d..]), d, d, scores, out);
                }
                assert!(found[0].iter().all(|value| value.is_finite()), "{n} {threads:?}");
                assert_eq!((&found[0], &found[0]), (&found[1], &found[2]), "{n} {threads:?}");
            }
        }
    }

    /// Within a tile too, no query meets a key that another one sees and it does not.
    #[test]
    fn a_query_meets_no_other_key() {
        let (n, m, d, window, bad) = (12, 20, 16, 5, 13);
        let mut random = Random::new(4);
        let q = random.vec::<f32>(n * d);
        let (mut k, mut v) = (random.vec::<f32>(m * d), random.vec::<f32>(m * d));
        k[bad * d..][..d].fill(f32::NAN);
        v[bad * d..][..d].fill(f32::NAN);
        let heads = |data, n_tokens| Heads { data, n_tokens, n_heads: 1, token_stride: d, head_stride: d };
        for threads in all_threads() {
            let mut out = vec![0.0; n * d];
            let scores = Scores { window, ..Scores::new(0.2, true) };
            attention(&threads, heads(&q[..], n), heads(&k[..], m), heads(&v[..], m), d, d, scores, &mut out);
            for (i, row) in out.chunks(d).enumerate() {
                let own = i + m - n;
                let is_seen = (bad..bad + window).contains(&own);
                assert!(row.iter().all(|value| value.is_nan() == is_seen), "{i} {threads:?}");
            }
        }
    }

    #[test]
    fn sinks_far_from_the_scores() {
        for threads in all_threads() {
            for (sink, expected) in
                [(f32::NEG_INFINITY, 2.0), (-1e4, 2.0), (0.0, 1.0), (1e4, 0.0), (f32::NAN, f32::NAN)]
            {
                let heads = |data| Heads { data, n_tokens: 1, n_heads: 1, token_stride: 1, head_stride: 1 };
                let bytes = sink.to_le_bytes();
                let sinks = Some(Weight { bytes: &bytes, format: &F32 });
                let scores = Scores { sinks, ..Scores::new(1.0, true) };
                let mut out = [f32::NAN];
                attention(&threads, heads(&[0.0f32]), heads(&[1.0f32]), heads(&[2.0]), 1, 1, scores, &mut out);
                assert!(out[0] == expected || out[0].is_nan() && expected.is_nan(), "{sink} {out:?}");
            }
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
                attention(&threads, q, view, view, d, d, Scores::new(0.1, true), &mut out);
                attention(&threads, q, copy, copy, d, d, Scores::new(0.1, true), &mut expected);
                assert_eq!(out, expected, "{token_stride} {threads:?}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "[48, 96, 48, 48, 96, 48] in blocks of 32")]
    fn heads_are_whole_blocks() {
        let heads = |data| Heads { data, n_tokens: 1, n_heads: 2, token_stride: 96, head_stride: 48 };
        let q = Heads { data: &[1.0f32; 96][..], n_tokens: 1, n_heads: 2, token_stride: 96, head_stride: 48 };
        let blocks = [Q8Block::zeroed(); 3];
        let scores = Scores::new(1.0, true);
        attention(&Threads::new(1), q, heads(&blocks), heads(&blocks), 48, 48, scores, &mut [0.0; 96]);
    }

    #[test]
    fn scores_far_apart_and_keys_unseen() {
        for threads in all_threads() {
            let q = [1.0f32; 4];
            let k = [-1e4, 3e3, 1e30, f32::NAN];
            let v = [7.0, 5.0, 3.0, f32::NAN];
            let heads = |data, n_tokens| Heads { data, n_tokens, n_heads: 1, token_stride: 1, head_stride: 1 };
            let (mut out, scores) = ([0.0; 4], Scores::new(1.0, true));
            attention(&threads, heads(&q, 4), heads(&k, 4), heads(&v, 4), 1, 1, scores, &mut out);
            assert_eq!(out[..3], [7.0, 5.0, 3.0]);
            assert!(out[3].is_nan());
            attention(&threads, heads(&q, 4), heads(&k, 2), heads(&v, 2), 1, 1, scores, &mut out);
            assert_eq!(out, [0.0, 0.0, 7.0, 5.0]);
        }
    }
}
