//! Linear layers of a few tokens: each row of the weight is multiplied as it lies, with up to [`BLOCK_TOKENS`] tokens at a time.

use super::activations::Prepared;
use super::expert_weights::Experts;
use super::prefetch::Prefetch;
use super::product::Product;
use super::quantize::{prepare_token, token_tiling};
use super::row_dot::{GemvTokens, RowDots};
use super::tokens::FloatTokens;
use super::{Dot, Rows, WeightKernels};
use crate::element::{Element, store};
use crate::isa::{Isa, dispatch};
use crate::scratch::Scratch;
use crate::task_size::PARALLEL_MIN;
use crate::threads::{Threads, Tiling};
use crate::workspace::{LENT_BYTES, Line};
use std::ops::Range;

/// The most tokens that are multiplied at a time.
pub(crate) const BLOCK_TOKENS: usize = 16;
/// The most rows of the weight in a tile.
const TILE_ROWS: usize = 512;
/// The most sums of a tile: rows of the weight times the tokens that are multiplied at a time.
const TILE_SUMS: usize = 128 * BLOCK_TOKENS;
/// Tiles of each thread, about: so many that the last ones of a product end together.
const THREAD_TILES: usize = 12;
/// Bytes of the weight of a tile, about, where a product is small or large: where a tile begins, memory is waited for and the
/// activations are prepared.
const TILE_BYTES: std::ops::RangeInclusive<usize> = 16 * 1024..=256 * 1024;
/// Rows of small integers shorter than this fill AVX-512's registers once at most, or little more: the unused lanes then cost more
/// than AVX2 does.
const SHORT_ROW: usize = 512;
/// Elements of activations worth waking the workers for when they are quantized.
const PARALLEL_ELEMS: usize = 64 * 1024;

/// Adds the dot products of rows with some tokens to sums, those of one token after those of the other.
type Dots<'a> = dyn Fn(Range<usize>, Rows<'_>, &mut [f32]) + Sync + 'a;

/// Which products go this way.
pub(crate) fn tokens(isa: Isa, format: &WeightKernels) -> GemvTokens {
    dispatch!(isa, set => set.gemv_tokens(format))
}

/// How many tokens of `k` elements the workspace holds.
pub(crate) fn capacity(isa: Isa, format: &WeightKernels, k: usize) -> usize {
    match format.dot {
        Dot::Float(_) => LENT_BYTES / size_of::<Line>() / float_lines(k).max(1),
        Dot::Integer(kernels) => {
            let lines = (kernels.group_size)(dot_isa(isa, k)).token_lines(k);
            let n_tokens = LENT_BYTES / size_of::<Line>() / lines.max(1);
            // Whole blocks, since a last one that is not full takes the room of a full one.
            if n_tokens > BLOCK_TOKENS { n_tokens / BLOCK_TOKENS * BLOCK_TOKENS } else { n_tokens }
        }
    }
}

/// The lines that a token of `k` elements takes as `f32`: not a multiple of the cache's sets, in which the same elements of several tokens
/// would compete for one set.
fn float_lines(k: usize) -> usize {
    const SETS: usize = 64;
    let lines = (k * size_of::<f32>()).div_ceil(size_of::<Line>());
    lines + (SETS + SETS / 3 - lines % SETS) % SETS
}

/// The instructions for rows of `k` elements of small integers.
fn dot_isa(isa: Isa, k: usize) -> Isa {
    if k < SHORT_ROW { isa.for_short_rows() } else { isa }
}

/// As [`linear`](super::linear()), for no more tokens than [`capacity`].
pub(crate) fn multiply<X: Element, Y: Element>(threads: &Threads, x: &[X], product: &Product<'_>, y: &mut [Y]) {
    let (isa, k, n_tokens) = (threads.isa(), product.k, y.len() / product.n);
    match product.weight.format.dot {
        Dot::Float(kernels) if n_tokens == 1 => multiply_rows(threads, product, y, 1, &|_, rows, sums| {
            (kernels.dot)(isa, rows, X::as_floats(x), sums);
        }),
        Dot::Float(kernels) => {
            let block = n_tokens.div_ceil(n_tokens.div_ceil(BLOCK_TOKENS));
            let stride = float_lines(k) * (size_of::<Line>() / size_of::<f32>());
            let mut workspace = threads.workspace();
            let values: &mut [f32] = bytemuck::cast_slice_mut(&mut workspace[..n_tokens * float_lines(k)]);
            threads.for_chunks_if(product.parallel && x.len() >= PARALLEL_ELEMS, values, stride, &|token, values| {
                X::load(isa, &x[token * k..][..k], &mut values[..k]);
            });
            let values = &*values;
            multiply_rows(threads, product, y, block, &|tokens, rows, sums| {
                let x = FloatTokens::new(&values[tokens.start * stride..tokens.end * stride], k, stride);
                (kernels.dots)(isa, rows, x, sums);
            });
        }
        Dot::Integer(kernels) => {
            let isa = dot_isa(isa, k);
            // Blocks of equal size.
            let block = n_tokens.div_ceil(n_tokens.div_ceil(BLOCK_TOKENS));
            let group = (kernels.group_size)(isa);
            let (n_groups, n_cols) = (group.n_groups(k), block * group.lines);
            let mut workspace = threads.workspace();
            let lines = &mut workspace[..n_tokens.div_ceil(block) * n_groups * n_cols];
            let tiling = token_tiling(group, k, block);
            threads.for_tiles_if(product.parallel && x.len() >= PARALLEL_ELEMS, lines, tiling, &|mut tile| {
                let token = tile.group() * block + tile.first_col() / group.lines;
                if let Some(x) = x.get(token * k..(token + 1) * k) {
                    prepare_token(isa, &kernels, x, &mut tile);
                }
            });
            let lines = &*lines;
            multiply_rows(threads, product, y, block, &|tokens, rows, sums| {
                let lines = &lines[tokens.start / block * n_groups * n_cols..][..n_groups * n_cols];
                let x = Prepared { lines, n_tokens: tokens.len(), token_stride: 1, group_stride: block };
                (kernels.dot)(isa, rows, x, sums);
            });
        }
    }
}

/// A few tokens for each of several experts. `x` gives the activations of a row of the output. Group `g` of these rows,
/// `rows[starts[g]..starts[g + 1]]`, belongs to the expert `expert(g)` and has at most [`BLOCK_TOKENS`]; all groups together have at most
/// [`capacity`].
pub(crate) fn multiply_groups<'x, X: Element, Y: Element>(
    threads: &Threads,
    x: &(dyn Fn(u32) -> &'x [X] + Sync),
    experts: &Experts<'_>,
    expert: &(dyn Fn(usize) -> usize + Sync),
    (rows, starts): (&[u32], &[u32]),
    y: &mut [Y],
) {
    let (isa, k, n, first) = (threads.isa(), experts.k, experts.n, starts[0] as usize);
    let rows_here = &rows[first..starts[starts.len() - 1] as usize];
    let parallel = rows_here.len().saturating_mul(n).saturating_mul(k) >= PARALLEL_MIN;
    let row_bytes = experts.weight.format.row_bytes(k);
    let tile_bytes = n * row_bytes * (starts.len() - 1) / (threads.count() * THREAD_TILES);
    let tile_bytes = tile_bytes.clamp(*TILE_BYTES.start(), *TILE_BYTES.end());
    let most_rows = starts.array_windows().map(|[start, end]| end - start).max().unwrap_or_default() as usize;
    let tile_cols = (tile_bytes / row_bytes.max(1)).clamp(1, TILE_ROWS.min(TILE_SUMS / most_rows.max(1)));
    let prefetch = threads.best_prefetch().best_single_stream();
    // `dot(i, rows, sums)`: as in `multiply_rows`, of those of the rows here.
    let share_out = |y: &mut [Y], dot: &Dots<'_>| {
        threads.for_listed_tiles(parallel, y, n, rows, starts, [BLOCK_TOKENS, tile_cols], &|mut tile| {
            let (first_col, n_cols, n_tokens) = (tile.first_col(), tile.n_cols(), tile.n_rows());
            let product = experts.product(expert(tile.group()), false);
            let bytes = &product.weight.bytes[first_col * row_bytes..];
            let rows = Rows { bytes, length: row_bytes, prefetch, stream_stride: n };
            let mut room = Scratch::<f32, TILE_SUMS>::new();
            let sums = room.zeroed(n_tokens * n_cols);
            for sums in sums.chunks_exact_mut(n_cols) {
                product.init_accumulators(isa, first_col, sums);
            }
            let first_row = starts[tile.group()] as usize - first + tile.first_row();
            dot(first_row..first_row + n_tokens, rows, sums);
            for (t, sums) in sums.chunks_exact(n_cols).enumerate() {
                store(isa, sums, tile.row_mut(t));
            }
        });
    };
    match experts.weight.format.dot {
        Dot::Float(kernels) => share_out(y, &|tokens, rows, sums| {
            let n_rows = sums.len() / tokens.len();
            for (i, sums) in tokens.zip(sums.chunks_exact_mut(n_rows)) {
                (kernels.dot)(isa, rows, X::as_floats(x(rows_here[i])), sums);
            }
        }),
        Dot::Integer(kernels) => {
            let isa = dot_isa(isa, k);
            let group = (kernels.group_size)(isa);
            let n_groups = group.n_groups(k);
            let mut workspace = threads.workspace();
            let n_rows = rows_here.len();
            let lines = &mut workspace[..n_rows * group.token_lines(k)];
            let tiling = token_tiling(group, k, 1);
            threads.for_tiles_if(parallel && n_rows * k >= PARALLEL_ELEMS, lines, tiling, &|mut tile| {
                prepare_token(isa, &kernels, x(rows_here[tile.group()]), &mut tile);
            });
            let lines = &*lines;
            share_out(y, &|tokens, rows, sums| {
                let lines = &lines[tokens.start * group.token_lines(k)..];
                let x = Prepared { lines, n_tokens: tokens.len(), token_stride: n_groups, group_stride: 1 };
                (kernels.dot)(isa, rows, x, sums);
            });
        }
    }
}

/// Shares the rows of the weight out; `dot(tokens, rows, sums)` adds the dot products of rows with at most `block` tokens to
/// sums, those of one token after those of the other.
fn multiply_rows<Y: Element>(threads: &Threads, product: &Product<'_>, y: &mut [Y], block: usize, dot: &Dots<'_>) {
    let (isa, Product { k, n, weight, .. }) = (threads.isa(), *product);
    let (row_bytes, n_tokens) = (weight.format.row_bytes(k), y.len() / n);
    let mut read = |prefetch: Prefetch| {
        let n_streams = prefetch.n_streams();
        // A tile has some rows of each stream, so that a thread reads all of its share in as many places.
        let (stream_stride, tile_rows) = (n / n_streams, n_tokens * n_streams);
        let tile_bytes = weight.bytes.len() / (threads.count() * THREAD_TILES);
        let tile_bytes = tile_bytes.clamp(*TILE_BYTES.start(), *TILE_BYTES.end());
        let most_rows = TILE_ROWS.min(TILE_SUMS / block);
        let tile_cols = (tile_bytes / n_streams / row_bytes.max(1)).clamp(1, most_rows / n_streams);
        let tiling = Tiling { n_cols: stream_stride, group_rows: tile_rows, row_step: 1, tile_rows, tile_cols };
        threads.for_tiles_if(product.parallel, y, tiling, &|mut tile| {
            let (first, n_rows) = (tile.first_col(), tile.n_cols());
            let rows = Rows { bytes: &weight.bytes[first * row_bytes..], length: row_bytes, prefetch, stream_stride };
            let mut room = Scratch::<f32, TILE_SUMS>::new();
            for first_token in (0..n_tokens).step_by(block) {
                let tokens = first_token..n_tokens.min(first_token + block);
                // Row `i` of the tile is row `i % n_streams` of token `i / n_streams`.
                let first_row = first_token * n_streams;
                let sums = room.zeroed(tokens.len() * n_streams * n_rows);
                for (i, sums) in sums.chunks_exact_mut(n_rows).enumerate() {
                    product.init_accumulators(isa, i % n_streams * stream_stride + first, sums);
                }
                dot(tokens, rows, sums);
                for (i, sums) in sums.chunks_exact(n_rows).enumerate() {
                    store(isa, sums, tile.row_mut(first_row + i));
                }
            }
        });
    };
    match block {
        1 => threads.best_prefetch().read(isa, n, weight.bytes.len(), read),
        _ => read(Prefetch::Sequential),
    }
}
