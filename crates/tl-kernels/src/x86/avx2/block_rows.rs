//! Dot products with AVX2, eight blocks at a time.
//!
//! A register has 16 elements of block `i` and 16 of block `i + 4`: a *pair*. So the sums of four pairs, each in a half of a
//! register, shrink together to one register with a lane for each of the eight blocks, in their order, and the scales are
//! multiplied with eight at a time. Activations are put in that order before; see [`Pairs`]. A format brings its few instructions
//! as closures: how a pair comes from its bytes, and where the scales are.

use crate::array::array;
use crate::quant::activations::{Row, RowStretch};
use crate::quant::prefetch::{Prefetch, STREAMS};
use crate::quant::rows::Rows;
use crate::scratch::Scratch;
use crate::x86::avx2::registers::{horizontal_sum, load, load_half};
use crate::x86::walk::{PrefetchPosition, side_by_side, walk};
use bytemuck::Zeroable;
use std::arch::x86_64::*;

/// Stretches of activations that are prepared at a time: 32,768 elements.
const PREPARED: usize = 128;

/// The sums of one row: of the products, and of the minima; a lane for each block of a stretch.
pub(crate) type Sums = [__m256; 2];

/// A stretch of activations, eight blocks of 32 elements, in the order of pairs.
#[derive(Clone, Copy)]
pub(crate) struct Pairs {
    /// Of blocks `i` and `i + 4`, the first 16 elements of each and the last 16 of each.
    pub(crate) values: [[__m256i; 2]; 4],
    /// The format's offset times the sums of the first 16 values of each block, and of the last 16.
    pub(crate) offsets: [__m256i; 2],
    pub(crate) scales: __m256,
    pub(crate) totals: __m256,
}

// SAFETY: registers, of which zeros are values.
unsafe impl Zeroable for Pairs {}

impl Pairs {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn new(x: &RowStretch, offset: u8) -> Pairs {
        let sixteens: &[[u8; 16]] = bytemuck::cast_slice(&x.values);
        // Loops and no closures, of which the compiler now and then makes functions without these instructions.
        let mut values = [[_mm256_setzero_si256(); 2]; 4];
        for (i, [first, last]) in values.iter_mut().enumerate() {
            *first = both(&sixteens[2 * i], &sixteens[2 * i + 8]);
            *last = both(&sixteens[2 * i + 1], &sixteens[2 * i + 9]);
        }
        let mut offsets = [[0; 8]; 2];
        for (b, [first, last]) in x.sums.as_chunks::<2>().0.iter().enumerate() {
            offsets[0][b] = i32::from(offset) * first;
            offsets[1][b] = i32::from(offset) * last;
        }
        let offsets = [bytemuck::cast(offsets[0]), bytemuck::cast(offsets[1])];
        Pairs { values, offsets, scales: load(&x.scales), totals: load(&x.totals) }
    }
}

/// `out[j] +=` the dot product of row `j` with `x`, for a format of which a stretch has `BYTES` bytes; `add` adds a stretch of a row
/// to sums.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn rows<const BYTES: usize>(
    rows: Rows<'_>,
    x: Row<'_>,
    out: &mut [f32],
    offset: u8,
    add: impl Fn(Sums, &[u8; BYTES], &Pairs, PrefetchPosition) -> Sums,
) {
    let mut room = Scratch::<Pairs, PREPARED>::new();
    for (part, stretches) in x.stretches().chunks(PREPARED).enumerate() {
        let prepared = room.filled(stretches.len(), |index| Pairs::new(&stretches[index], offset));
        let first = part * PREPARED * BYTES;
        let length = (rows.length - first).min(PREPARED * BYTES);
        match rows.prefetch {
            Prefetch::Sequential | Prefetch::NonTemporal => {
                part_rows::<1, _>(rows, first..first + length, prepared, out, &add);
            }
            Prefetch::Interleaved => part_rows::<STREAMS, _>(rows, first..first + length, prepared, out, &add),
        }
    }
}

/// Adds the products of those bytes of each row; there are `S` streams.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn part_rows<const S: usize, const BYTES: usize>(
    rows: Rows<'_>,
    bytes: std::ops::Range<usize>,
    prepared: &[Pairs],
    out: &mut [f32],
    add: &impl Fn(Sums, &[u8; BYTES], &Pairs, PrefetchPosition) -> Sums,
) {
    let n_rows = out.len() / S;
    for i in 0..n_rows {
        let parts = side_by_side::<S>(&rows, i, bytes.start);
        let sums = row_sums(parts, bytes.len(), prepared, add);
        for (stream, [products, minima]) in sums.into_iter().enumerate() {
            out[stream * n_rows + i] += horizontal_sum(_mm256_add_ps(products, minima));
        }
    }
}

/// The sums of the first `length` bytes of each.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn row_sums<const S: usize, const BYTES: usize>(
    rows: [&[u8]; S],
    length: usize,
    prepared: &[Pairs],
    add: &impl Fn(Sums, &[u8; BYTES], &Pairs, PrefetchPosition) -> Sums,
) -> [Sums; S] {
    let zero = [_mm256_setzero_ps(); 2];
    let mut stretches = [&[[0u8; BYTES]; 0][..]; S];
    for (stretches, row) in stretches.iter_mut().zip(rows) {
        *stretches = row[..length].as_chunks::<BYTES>().0;
    }
    let mut sums = walk::<S, false, _, _, _>(stretches, prepared, [zero; S], add);
    if let Some(prepared) = prepared.get(length / BYTES) {
        let rest = length % BYTES;
        let n_blocks = _mm256_set1_epi32((rest * 8 / BYTES) as i32);
        let of_row = _mm256_cmpgt_epi32(n_blocks, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
        for (sums, row) in sums.iter_mut().zip(rows) {
            // What follows the rest is another row, and stays out of the sums: each lane is a block's.
            let mut padded = [0; BYTES];
            let stretch = row[length - rest..].first_chunk().unwrap_or_else(|| {
                padded[..rest].copy_from_slice(&row[length - rest..length]);
                &padded
            });
            let of_rest = add(zero, stretch, prepared, PrefetchPosition::new::<S, false>(0));
            for (sum, of_rest) in sums.iter_mut().zip(of_rest) {
                *sum = _mm256_add_ps(*sum, _mm256_and_ps(of_rest, _mm256_castsi256_ps(of_row)));
            }
        }
    }
    sums
}

/// The sums of the products of the first 16 elements of each block and of the last 16, of values that `pair(i)` gives in the order of
/// [`Pairs`]: unsigned, at most 63.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn products_of_16(x: &Pairs, pair: impl Fn(usize) -> [__m256i; 2]) -> [__m256i; 2] {
    let [first, last] = sums_of_16(x, pair);
    [_mm256_sub_epi32(first, x.offsets[0]), _mm256_sub_epi32(last, x.offsets[1])]
}

/// As [`products_of_16`], without taking the offset off.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn sums_of_16(x: &Pairs, pair: impl Fn(usize) -> [__m256i; 2]) -> [__m256i; 2] {
    let ones = _mm256_set1_epi16(1);
    let pairs = [pair(0), pair(1), pair(2), pair(3)];
    // Four products are at most 4 * 63 * 127 < 2^15.
    let products = |last: usize| {
        shrink([0, 1, 2, 3].map(|i| _mm256_madd_epi16(_mm256_maddubs_epi16(pairs[i][last], x.values[i][last]), ones)))
    };
    [products(0), products(1)]
}

/// The sums of the products of each block, of values that `pair(i)` gives in the order of [`Pairs`]: unsigned, at most 31.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn products(x: &Pairs, pair: impl Fn(usize) -> [__m256i; 2]) -> __m256i {
    let ones = _mm256_set1_epi16(1);
    // Eight products are at most 8 * 31 * 127 < 2^15.
    let eights = |i: usize| {
        let [first, last] = pair(i);
        let [x_first, x_last] = x.values[i];
        let sums = _mm256_add_epi16(_mm256_maddubs_epi16(first, x_first), _mm256_maddubs_epi16(last, x_last));
        _mm256_madd_epi16(sums, ones)
    };
    let products = shrink([eights(0), eights(1), eights(2), eights(3)]);
    _mm256_sub_epi32(_mm256_sub_epi32(products, x.offsets[0]), x.offsets[1])
}

/// As [`products`], of signed values, whose offset is nothing.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn signed_products(x: &Pairs, pair: impl Fn(usize) -> [__m256i; 2]) -> __m256i {
    let ones = _mm256_set1_epi16(1);
    // One factor must be unsigned: |w| times x with the sign of w. Two products are at most 2 * 128 * 127 < 2^15.
    let fours = |values: __m256i, x: __m256i| {
        _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_abs_epi8(values), _mm256_sign_epi8(x, values)), ones)
    };
    let eights = |i: usize| {
        let [first, last] = pair(i);
        _mm256_add_epi32(fours(first, x.values[i][0]), fours(last, x.values[i][1]))
    };
    let sixteens = [_mm256_hadd_epi32(eights(0), eights(1)), _mm256_hadd_epi32(eights(2), eights(3))];
    _mm256_hadd_epi32(sixteens[0], sixteens[1])
}

/// The sums of the four lanes in each half of each register: those of the lower halves, then those of the upper. No lane exceeds 16
/// bits.
#[inline]
#[target_feature(enable = "avx2")]
fn shrink([a, b, c, d]: [__m256i; 4]) -> __m256i {
    let ones = _mm256_set1_epi16(1);
    let halve = |a: __m256i, b: __m256i| _mm256_madd_epi16(_mm256_packs_epi32(a, b), ones);
    _mm256_hadd_epi32(halve(a, b), halve(c, d))
}

/// Adds products of blocks times their scales.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(crate) fn add_scaled([sum, minima]: Sums, x: &Pairs, products: __m256i, scales: __m256) -> Sums {
    [_mm256_fmadd_ps(_mm256_cvtepi32_ps(products), _mm256_mul_ps(scales, x.scales), sum), minima]
}

/// Adds minima.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(crate) fn add_minima([sum, minima]: Sums, x: &Pairs, of_blocks: __m256) -> Sums {
    [sum, _mm256_fmadd_ps(of_blocks, x.totals, minima)]
}

/// The `f16` at byte `AT` of each of eight blocks of `BLOCK` bytes, as `f32`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn eight_halves<const BLOCK: usize, const AT: usize, const BYTES: usize>(bytes: &[u8; BYTES]) -> __m256 {
    // 16 bytes from such a place that word `b` is that of block `b`.
    let around = |b: usize| load_half(array(&bytes[b * BLOCK + AT - 2 * b..][..16]));
    let two = |b: usize| _mm_blend_epi16::<0b1010_1010>(around(b), around(b + 1));
    let low = _mm_blend_epi32::<0b0010>(two(0), two(2));
    let high = _mm_blend_epi32::<0b1000>(two(4), two(6));
    _mm256_cvtph_ps(_mm_blend_epi32::<0b1100>(low, high))
}

/// Two times 16 bytes.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn both(low: &[u8; 16], high: &[u8; 16]) -> __m256i {
    _mm256_set_m128i(load_half(high), load_half(low))
}
