//! Dot products with AVX-512 and its VNNI: 64 products of bytes an instruction, unsigned weights with signed activations.
//!
//! A weight is read from memory once for each token, and reading it is nearly all the time there is. So each row is walked as it lies,
//! alone or interleaved with rows from elsewhere in memory (see `quant/prefetch.rs`), and memory is prefetched some way ahead. Activations
//! are reordered, and multiplied with the format's offset, beforehand.

use crate::quant::activations::{BLOCK, Row, RowStretch};
use crate::quant::prefetch::{Prefetch, STREAMS};
use crate::quant::rows::Rows;
use crate::quant::stretch::STRETCH;
use crate::scratch::Scratch;
use crate::x86::avx512::registers::{indexes, load_8, load_16, load_64};
use crate::x86::walk::{PrefetchPosition, side_by_side, walk};
use bytemuck::Zeroable;
use std::arch::x86_64::*;

/// Stretches of activations that are prepared at a time: 32,768 elements.
const PREPARED: usize = 128;

/// No activations.
const ZERO: RowStretch = RowStretch {
    values: [0; STRETCH],
    scales: [0.0; STRETCH / BLOCK],
    totals: [0.0; STRETCH / BLOCK],
    sums: [0; STRETCH / 16],
};

/// The sums of one row: of the products, and of what a format sums separately.
pub(crate) type Sums = [__m512; 2];

/// `out[j] +=` the dot product of row `j` with `x`, for a format of which `N` stretches have `BYTES` bytes. `prepare` makes of
/// `N` stretches of activations what `add` needs; `add` adds as many of a row to sums; `total` makes a number of them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
pub(crate) fn rows<const N: usize, const BYTES: usize, P: Copy + Zeroable>(
    rows: Rows<'_>,
    x: Row<'_>,
    out: &mut [f32],
    prepare: impl Fn([&RowStretch; N]) -> P,
    add: impl Fn(Sums, &[u8; BYTES], &P, PrefetchPosition) -> Sums,
    total: impl Fn(Sums) -> f32,
) {
    const { assert!(PREPARED.is_multiple_of(N)) };
    let mut room = Scratch::<P, PREPARED>::new();
    for (part, stretches) in x.stretches().chunks(PREPARED).enumerate() {
        let part_bytes = PREPARED / N * BYTES;
        let first = part * part_bytes;
        let length = (rows.length - first).min(part_bytes);
        let n_groups = stretches.len().div_ceil(N);
        let prepared = room.filled(n_groups, |index| {
            let mut group = [&ZERO; N];
            group.iter_mut().zip(&stretches[index * N..]).for_each(|(slot, stretch)| *slot = stretch);
            match length % BYTES {
                rest if rest > 0 && index + 1 == n_groups && is_read_back(length, BYTES) => {
                    prepare(at_the_end(group, rest * (N * STRETCH / BLOCK) / BYTES).each_ref())
                }
                _ => prepare(group),
            }
        });
        match rows.prefetch {
            Prefetch::Sequential => {
                part_rows::<1, false, _, _>(rows, first..first + length, prepared, out, &add, &total)
            }
            Prefetch::NonTemporal => {
                part_rows::<1, true, _, _>(rows, first..first + length, prepared, out, &add, &total)
            }
            Prefetch::Interleaved => {
                part_rows::<STREAMS, false, _, _>(rows, first..first + length, prepared, out, &add, &total);
            }
        }
    }
}

/// Adds the products of those bytes of each row; there are `S` streams.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
fn part_rows<const S: usize, const NON_TEMPORAL: bool, const BYTES: usize, P>(
    rows: Rows<'_>,
    bytes: std::ops::Range<usize>,
    prepared: &[P],
    out: &mut [f32],
    add: &impl Fn(Sums, &[u8; BYTES], &P, PrefetchPosition) -> Sums,
    total: &impl Fn(Sums) -> f32,
) {
    let n_rows = out.len() / S;
    for i in 0..n_rows {
        let parts = side_by_side::<S>(&rows, i, bytes.start);
        for (stream, sums) in
            row_sums::<S, NON_TEMPORAL, _, _>(parts, bytes.len(), prepared, add).into_iter().enumerate()
        {
            out[stream * n_rows + i] += total(sums);
        }
    }
}

/// The first `n_blocks` blocks of some stretches moved to their end, behind zeros.
fn at_the_end<const N: usize>(stretches: [&RowStretch; N], n_blocks: usize) -> [RowStretch; N] {
    const BLOCKS: usize = STRETCH / BLOCK;
    let mut moved = [ZERO; N];
    for from in 0..n_blocks {
        let to = N * BLOCKS - n_blocks + from;
        let (source, target) = (stretches[from / BLOCKS], &mut moved[to / BLOCKS]);
        let (from, to) = (from % BLOCKS, to % BLOCKS);
        target.values[to * BLOCK..][..BLOCK].copy_from_slice(&source.values[from * BLOCK..][..BLOCK]);
        target.scales[to] = source.scales[from];
        target.totals[to] = source.totals[from];
        target.sums[2 * to..][..2].copy_from_slice(&source.sums[2 * from..][..2]);
    }
    moved
}

/// Whether what is left at the end of a row is read with what lies before it, as one whole piece that ends where the row does. The
/// activations of what was added already are zeros then.
fn is_read_back(length: usize, piece_bytes: usize) -> bool {
    length > piece_bytes
}

/// The sums of the first `length` bytes of each.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
fn row_sums<const S: usize, const NON_TEMPORAL: bool, const BYTES: usize, P>(
    rows: [&[u8]; S],
    length: usize,
    prepared: &[P],
    add: &impl Fn(Sums, &[u8; BYTES], &P, PrefetchPosition) -> Sums,
) -> [Sums; S] {
    let mut pieces = [&[[0u8; BYTES]; 0][..]; S];
    for (pieces, row) in pieces.iter_mut().zip(rows) {
        *pieces = row[..length].as_chunks::<BYTES>().0;
    }
    let mut sums = walk::<S, NON_TEMPORAL, _, _, _>(pieces, prepared, [[_mm512_setzero_ps(); 2]; S], add);
    if let Some(last) = prepared.get(pieces[0].len()) {
        for (sums, row) in sums.iter_mut().zip(rows) {
            let padded;
            let piece = match row[..length].last_chunk() {
                Some(piece) if is_read_back(length, BYTES) => piece,
                _ => {
                    padded = padded_with_zeros(row[..length].as_chunks::<BYTES>().1);
                    &padded
                }
            };
            *sums = add(*sums, piece, last, PrefetchPosition::new::<S, NON_TEMPORAL>(0));
        }
    }
    sums
}

/// Blocks and, behind them, some with a scale of zero.
fn padded_with_zeros<const BYTES: usize>(blocks: &[u8]) -> [u8; BYTES] {
    let mut padded = [0; BYTES];
    padded[..blocks.len()].copy_from_slice(blocks);
    padded
}

/// A stretch of activations as it lies, 64 elements to a register, for formats with scales for 32 elements.
#[derive(Clone, Copy)]
pub(crate) struct EightScales {
    pub(crate) values: [__m512i; 4],
    /// The scale of each block.
    pub(crate) scales: __m256,
    /// Minus the offset times the sum of the values of each block.
    pub(crate) corrections: __m256,
}

// SAFETY: registers, of which zeros are values.
unsafe impl Zeroable for EightScales {}

impl EightScales {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
    pub(crate) fn new(x: &RowStretch, offset: u8) -> EightScales {
        EightScales { values: quarters(x), scales: load_8(&x.scales), corrections: corrections(x, offset) }
    }
}

/// Minus the offset times the sum of the values of each block.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn corrections(x: &RowStretch, offset: u8) -> __m256 {
    let mut corrections = [0.0; STRETCH / BLOCK];
    for (correction, sums) in corrections.iter_mut().zip(x.sums.as_chunks::<2>().0) {
        *correction = (-i32::from(offset) * (sums[0] + sums[1])) as f32;
    }
    load_8(&corrections)
}

/// A stretch of activations as it lies, for formats with scales for 16 elements.
#[derive(Clone, Copy)]
pub(crate) struct SixteenScales {
    pub(crate) values: [__m512i; 4],
    /// The scale of each 16 elements.
    pub(crate) scales: __m512,
    /// Minus the offset times the sum of each 16 values.
    pub(crate) corrections: __m512,
}

// SAFETY: registers, of which zeros are values.
unsafe impl Zeroable for SixteenScales {}

impl SixteenScales {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
    pub(crate) fn new(x: &RowStretch, offset: u8) -> SixteenScales {
        let scales = _mm512_castps256_ps512(load_8(&x.scales));
        let corrections = x.sums.map(|sum| (-i32::from(offset) * sum) as f32);
        SixteenScales {
            values: quarters(x),
            scales: _mm512_permutexvar_ps(indexes(&DOUBLED), scales),
            corrections: load_16(&corrections),
        }
    }
}

/// The values of a stretch as they lie.
#[inline]
#[target_feature(enable = "avx512f")]
fn quarters(x: &RowStretch) -> [__m512i; 4] {
    let quarters = x.values.as_chunks::<64>().0;
    [load_64(&quarters[0]), load_64(&quarters[1]), load_64(&quarters[2]), load_64(&quarters[3])]
}

/// The total of both sums.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn total(sums: Sums) -> f32 {
    _mm512_reduce_add_ps(_mm512_add_ps(sums[0], sums[1]))
}

/// Lane indexes: each of eight, twice.
pub(crate) const DOUBLED: [i32; 16] = [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7];
/// Of eight scales, those of quarter `q` of a stretch: two, over eight lanes each.
pub(crate) const PAIRS: [[i32; 16]; 4] = spread([[0, 1], [2, 3], [4, 5], [6, 7]]);
/// Of sixteen scales, those of quarter `q` of a stretch: four, over four lanes each.
pub(crate) const FOURS: [[i32; 16]; 4] = spread([[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15]]);

/// Indexes that spread `N` lanes evenly over 16.
pub(crate) const fn spread<const N: usize, const Q: usize>(from: [[i32; N]; Q]) -> [[i32; 16]; Q] {
    let mut lanes = [[0; 16]; Q];
    let mut at = 0;
    while at < Q * 16 {
        lanes[at / 16][at % 16] = from[at / 16][at % 16 / (16 / N)];
        at += 1;
    }
    lanes
}
