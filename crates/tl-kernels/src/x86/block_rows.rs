//! The loops over rows of blocks and the tokens that they are multiplied with, for all formats and both sets of instructions.
//!
//! A format brings three functions: `unpack` makes of a *piece* of a row, the blocks that are multiplied at a time, what multiplies a
//! token's group of activations; `total` makes a number of a sum, and `totals` of several. The sums of a row and a token are added up piece by piece
//! in their order, however many tokens there are: so a token has the bits that it has alone.

use crate::prefetch::prefetch_all;
use crate::quant::activations::{Groups, Prepared};
use crate::quant::gemv::BLOCK_TOKENS;
use crate::quant::prefetch::{Prefetch, STREAMS};
use crate::quant::rows::Rows;
use crate::scratch::Scratch;
use crate::workspace::Line;
use crate::x86::walk::{PrefetchPosition, side_by_side, walk};
use bytemuck::Pod;

/// Rows whose sums are kept at a time where there are several tokens.
const SUM_ROWS: usize = 4;
/// Bytes of activations that stay in the first cache while rows stream through it.
const NEAR_BYTES: usize = 20 * 1024;

/// `out[t * n + j] +=` the dot product of row `j` of `n` with token `t`. `BYTES` is what a piece has. Where `NON_TEMPORAL` is false, rows
/// are never read so.
#[inline(always)]
pub(crate) fn rows<
    const BYTES: usize,
    const NON_TEMPORAL: bool,
    const LANES: usize,
    P: Pod,
    T: Copy,
    Add: Fn(T, &P) -> T,
>(
    rows: Rows<'_>,
    x: Prepared<'_>,
    out: &mut [f32],
    zero: T,
    unpack: impl Fn(&[u8; BYTES], PrefetchPosition) -> Add,
    total: impl Fn(T) -> f32,
    totals: impl Fn(&[T; LANES]) -> [f32; LANES],
) {
    let x = x.groups::<P>(rows.length.div_ceil(BYTES));
    match (x.of_one_token(), rows.prefetch) {
        (Some(x), Prefetch::Interleaved) => {
            one_token::<STREAMS, false, _, _, _, _>(rows, x, out, zero, &unpack, &total);
        }
        (Some(x), Prefetch::NonTemporal) if NON_TEMPORAL => {
            one_token::<1, NON_TEMPORAL, _, _, _, _>(rows, x, out, zero, &unpack, &total);
        }
        (Some(x), _) => one_token::<1, false, _, _, _, _>(rows, x, out, zero, &unpack, &total),
        (None, _) => many_tokens(rows, &x, out, zero, &unpack, &totals),
    }
}

/// One token; there are `S` streams.
#[inline(always)]
fn one_token<const S: usize, const NON_TEMPORAL: bool, const BYTES: usize, P, T: Copy, Add: Fn(T, &P) -> T>(
    rows: Rows<'_>,
    x: &[P],
    out: &mut [f32],
    zero: T,
    unpack: &impl Fn(&[u8; BYTES], PrefetchPosition) -> Add,
    total: &impl Fn(T) -> f32,
) {
    let n_rows = out.len() / S;
    for i in 0..n_rows {
        let rows = side_by_side::<S>(&rows, i, rows.length);
        let mut pieces = [&[[0u8; BYTES]; 0][..]; S];
        for (pieces, row) in pieces.iter_mut().zip(rows) {
            *pieces = row.as_chunks::<BYTES>().0;
        }
        let mut sums = walk::<S, NON_TEMPORAL, _, _, _, _>(pieces, x, [zero; S], unpack);
        if let Some(x) = x.get(pieces[0].len()) {
            for (sum, row) in sums.iter_mut().zip(rows) {
                let position = PrefetchPosition::new::<S, NON_TEMPORAL>(0);
                *sum = with_last_piece(row, |piece| unpack(piece, position)(*sum, x));
            }
        }
        for (stream, sum) in sums.into_iter().enumerate() {
            out[stream * n_rows + i] += total(sum);
        }
    }
}

/// Some tokens: a piece is unpacked once for up to [`BLOCK_TOKENS`] of them.
#[inline(always)]
fn many_tokens<const BYTES: usize, const LANES: usize, P, T: Copy, Add: Fn(T, &P) -> T>(
    rows: Rows<'_>,
    x: &Groups<'_, P>,
    out: &mut [f32],
    zero: T,
    unpack: &impl Fn(&[u8; BYTES], PrefetchPosition) -> Add,
    totals: &impl Fn(&[T; LANES]) -> [f32; LANES],
) {
    let (n_rows, n_tokens) = (out.len() / x.n_tokens, x.n_tokens);
    let near_groups = (NEAR_BYTES / (n_tokens * size_of::<P>())).max(1);
    // As many places for sums as registers are added up at a time.
    let stride = n_tokens.next_multiple_of(LANES);
    let mut room = Scratch::<T, { SUM_ROWS * BLOCK_TOKENS }>::new();
    for first_row in (0..n_rows).step_by(SUM_ROWS) {
        let sums = room.filled(SUM_ROWS.min(n_rows - first_row) * stride, |_| zero);
        for first in (0..x.n_groups).step_by(near_groups) {
            for (r, sums) in sums.chunks_exact_mut(stride).enumerate() {
                let row = rows.row(0, first_row + r);
                let groups = first..x.n_groups.min(first + near_groups);
                // The same part of the row that comes so many rows later.
                let ahead = rows.row(0, n_rows.min(first_row + r + SUM_ROWS + 1) - 1);
                for g in groups {
                    prefetch_all(&ahead[g * BYTES..ahead.len().min((g + 1) * BYTES)]);
                    let add = match row[g * BYTES..].first_chunk() {
                        Some(piece) => unpack(piece, PrefetchPosition::NONE),
                        None => with_last_piece(row, |piece| unpack(piece, PrefetchPosition::NONE)),
                    };
                    for (t, sum) in sums[..n_tokens].iter_mut().enumerate() {
                        // SAFETY: `g` is below the number of groups, and `t` below that of tokens.
                        *sum = add(*sum, unsafe { x.at_unchecked(g, t) });
                    }
                }
            }
        }
        for (r, sums) in sums.chunks_exact(stride).enumerate() {
            for (i, sums) in sums.as_chunks::<LANES>().0.iter().enumerate() {
                let tokens = i * LANES..n_tokens.min((i + 1) * LANES);
                for (t, total) in tokens.zip(totals(sums)) {
                    out[t * n_rows + first_row + r] += total;
                }
            }
        }
    }
}

/// What is left at the end of a row: with what lies before it, as one whole piece that ends where the row does (the activations of
/// what was added already are zeros then), or with zeros behind it, where the row is shorter than a piece.
#[inline(always)]
fn with_last_piece<const BYTES: usize, R>(row: &[u8], then: impl FnOnce(&[u8; BYTES]) -> R) -> R {
    let mut padded = [0; BYTES];
    then(row.last_chunk().unwrap_or_else(|| {
        padded[..row.len()].copy_from_slice(row);
        &padded
    }))
}

/// The group that lines have room for.
#[inline(always)]
pub(crate) fn group<P: Pod>(lines: &mut [Line]) -> &mut P {
    bytemuck::from_bytes_mut(bytemuck::cast_slice_mut(lines))
}
