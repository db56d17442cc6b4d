//! Linear layers of a few tokens: the weight is read once, and each row of it is multiplied by one token after the other.

use super::activations::Row;
use super::expert_weights::Experts;
use super::product::{GEMV_MAX_TOKENS, Product};
use super::quantize::quantize_row;
use super::{Dot, Rows, WeightKernels};
use crate::element::{Element, store};
use crate::scratch::Scratch;
use crate::task_size::PARALLEL_MIN;
use crate::threads::{Threads, Tiling};
use crate::workspace::{LENT_BYTES, Line};

/// The most rows of the weight in a tile.
const TILE_ROWS: usize = 512;
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

/// How many tokens the workspace holds. Floats need none of it.
pub(crate) fn capacity(product: &Product<'_>) -> usize {
    match product.weight.format.dot {
        Dot::Float(_) => GEMV_MAX_TOKENS,
        Dot::Integer(_) => (LENT_BYTES / size_of::<Line>() / Row::n_lines(product.k).max(1)).min(GEMV_MAX_TOKENS),
    }
}

/// As [`linear`](super::linear()), for no more tokens than [`capacity`].
pub(crate) fn multiply<X: Element, Y: Element>(threads: &Threads, x: &[X], product: &Product<'_>, y: &mut [Y]) {
    let (isa, k, n_tokens) = (threads.isa(), product.k, y.len() / product.n);
    match product.weight.format.dot {
        Dot::Float(kernels) => multiply_rows(threads, product, y, &|t, rows, sums| {
            (kernels.dot)(isa, rows, X::as_floats(&x[t * k..][..k]), sums);
        }),
        Dot::Integer(kernels) => {
            let n_lines = Row::n_lines(k);
            let mut workspace = threads.workspace();
            let lines = &mut workspace[..n_tokens * n_lines];
            let tiling =
                Tiling { n_cols: n_lines, group_rows: n_tokens, row_step: 1, tile_rows: 1, tile_cols: n_lines };
            threads.for_tiles_if(product.parallel && x.len() >= PARALLEL_ELEMS, lines, tiling, &|mut tile| {
                quantize_row(isa, &x[tile.first_row() * k..][..k], tile.row_mut(0));
            });
            let lines = &*lines;
            let dot_isa = if k < SHORT_ROW { isa.for_short_rows() } else { isa };
            multiply_rows(threads, product, y, &|t, rows, sums| {
                (kernels.dot)(dot_isa, rows, Row::new(&lines[t * n_lines..][..n_lines]), sums);
            });
        }
    }
}

/// The rows of activations that the workspace holds.
pub(crate) fn row_capacity(format: &WeightKernels, k: usize) -> usize {
    match format.dot {
        Dot::Float(_) => usize::MAX,
        Dot::Integer(_) => LENT_BYTES / size_of::<Line>() / Row::n_lines(k).max(1),
    }
}

/// A few tokens for each of several experts. `x` gives the activations of a row of the output. Group `g` of these rows,
/// `rows[starts[g]..starts[g + 1]]`, belongs to the expert `expert(g)` and has at most [`GEMV_MAX_TOKENS`]; all groups together have at
/// most [`row_capacity`].
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
    let tile_cols = (tile_bytes / row_bytes.max(1)).clamp(1, TILE_ROWS);
    let prefetch = threads.best_prefetch().best_single_stream();
    // `dot(i, rows, sums)`: as in `multiply_rows`, of the `i`-th row here.
    let share_out = |y: &mut [Y], dot: &(dyn Fn(usize, Rows<'_>, &mut [f32]) + Sync)| {
        threads.for_listed_tiles(parallel, y, n, rows, starts, [GEMV_MAX_TOKENS, tile_cols], &|mut tile| {
            let (first_col, n_cols) = (tile.first_col(), tile.n_cols());
            let product = experts.product(expert(tile.group()), false);
            let bytes = &product.weight.bytes[first_col * row_bytes..];
            let rows = Rows { bytes, length: row_bytes, prefetch, stream_stride: n };
            let mut sums = Scratch::<f32, TILE_ROWS>::new();
            let sums = sums.zeroed(n_cols);
            let first_row = starts[tile.group()] as usize - first + tile.first_row();
            for t in 0..tile.n_rows() {
                product.init_accumulators(isa, first_col, sums);
                dot(first_row + t, rows, sums);
                store(isa, sums, tile.row_mut(t));
            }
        });
    };
    match experts.weight.format.dot {
        Dot::Float(kernels) => share_out(y, &|i, rows, sums| {
            (kernels.dot)(isa, rows, X::as_floats(x(rows_here[i])), sums);
        }),
        Dot::Integer(kernels) => {
            let n_lines = Row::n_lines(k);
            let mut workspace = threads.workspace();
            let lines = &mut workspace[..rows_here.len() * n_lines];
            let n_rows = rows_here.len();
            let tiling = Tiling { n_cols: n_lines, group_rows: n_rows, row_step: 1, tile_rows: 1, tile_cols: n_lines };
            threads.for_tiles_if(parallel && n_rows * k >= PARALLEL_ELEMS, lines, tiling, &|mut tile| {
                quantize_row(isa, x(rows_here[tile.first_row()]), tile.row_mut(0));
            });
            let lines = &*lines;
            let dot_isa = if k < SHORT_ROW { isa.for_short_rows() } else { isa };
            share_out(y, &|i, rows, sums| {
                (kernels.dot)(dot_isa, rows, Row::new(&lines[i * n_lines..][..n_lines]), sums);
            });
        }
    }
}

/// Shares the rows of the weight out; `dot(t, rows, sums)` adds the dot products of rows with token `t` to sums.
fn multiply_rows<Y: Element>(
    threads: &Threads,
    product: &Product<'_>,
    y: &mut [Y],
    dot: &(dyn Fn(usize, Rows<'_>, &mut [f32]) + Sync),
) {
    let (isa, Product { k, n, weight, .. }) = (threads.isa(), *product);
    let row_bytes = weight.format.row_bytes(k);
    threads.best_prefetch().read(isa, n, weight.bytes.len(), |prefetch| {
        let n_streams = prefetch.n_streams();
        // A tile has some rows of each stream, so that a thread reads all of its share in as many places.
        let (stream_stride, tile_rows) = (n / n_streams, y.len() / n * n_streams);
        let tile_bytes = weight.bytes.len() / (threads.count() * THREAD_TILES);
        let tile_bytes = tile_bytes.clamp(*TILE_BYTES.start(), *TILE_BYTES.end());
        let tile_cols = (tile_bytes / n_streams / row_bytes.max(1)).clamp(1, TILE_ROWS / n_streams);
        let tiling = Tiling { n_cols: stream_stride, group_rows: tile_rows, row_step: 1, tile_rows, tile_cols };
        threads.for_tiles_if(product.parallel, y, tiling, &|mut tile| {
            let (first, n_rows) = (tile.first_col(), tile.n_cols());
            let rows = Rows { bytes: &weight.bytes[first * row_bytes..], length: row_bytes, prefetch, stream_stride };
            let mut sums = Scratch::<f32, TILE_ROWS>::new();
            let sums = sums.zeroed(n_streams * n_rows);
            for t in 0..tile_rows / n_streams {
                for (stream, sums) in sums.chunks_mut(n_rows).enumerate() {
                    product.init_accumulators(isa, stream * stream_stride + first, sums);
                }
                dot(t, rows, sums);
                for (stream, sums) in sums.chunks(n_rows).enumerate() {
                    store(isa, sums, tile.row_mut(t * n_streams + stream));
                }
            }
        });
    });
}
