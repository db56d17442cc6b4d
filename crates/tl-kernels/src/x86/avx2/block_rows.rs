//! Dot products with AVX2, eight blocks at a time.
//!
//! A register, a *column*, has four elements in a row of each of the eight blocks, those of block `b` in lane `b`. So the products of
//! columns are added up as they are, in 16 bits as long as these hold them, and the sums have a lane for each of the eight blocks, in
//! their order; the scales are multiplied with eight at a time. Activations are put in that order before; see [`Columns`]. A format brings
//! its few instructions as closures: how two times 16 elements come from its bytes, and where the scales are.

use crate::array::array;
use crate::quant::activations::{Prepared, RowStretch};
use crate::quant::rows::Rows;
use crate::x86::avx2::registers::{horizontal_sum, load, load_half};
use crate::x86::block_rows;
use crate::x86::walk::PrefetchPosition;
use bytemuck::{Pod, Zeroable};
use std::arch::x86_64::*;

/// A stretch of activations, eight blocks of 32 elements, in columns.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Columns {
    pub(crate) values: [__m256i; 8],
    /// The format's offset times the sum of each block's values.
    pub(crate) offsets: __m256i,
    /// The part of it that the last 16 values make.
    pub(crate) offsets_of_last: __m256i,
    pub(crate) scales: __m256,
    pub(crate) totals: __m256,
}

// SAFETY: registers, of which zeros are values.
unsafe impl Zeroable for Columns {}
// SAFETY: registers, of which every pattern is a value: 12 of 32 bytes without padding.
unsafe impl Pod for Columns {}

impl Columns {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(crate) fn new(x: &RowStretch, offset: u8) -> Columns {
        let sixteens: &[[u8; 16]] = bytemuck::cast_slice(&x.values);
        let pair = |i: usize| {
            let first = both(&sixteens[2 * i], &sixteens[2 * i + 8]);
            [first, both(&sixteens[2 * i + 1], &sixteens[2 * i + 9])]
        };
        let mut offsets = [[0; 8]; 2];
        for (b, [first, last]) in x.sums.as_chunks::<2>().0.iter().enumerate() {
            offsets[0][b] = i32::from(offset) * (first + last);
            offsets[1][b] = i32::from(offset) * last;
        }
        Columns {
            values: columns(pair),
            offsets: bytemuck::cast(offsets[0]),
            offsets_of_last: bytemuck::cast(offsets[1]),
            scales: load(&x.scales),
            totals: load(&x.totals),
        }
    }

    /// The format's offset times the sums of the first 16 values of each block, and of the last 16.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(crate) fn offsets_of_16(&self) -> [__m256i; 2] {
        [_mm256_sub_epi32(self.offsets, self.offsets_of_last), self.offsets_of_last]
    }
}

/// As [`block_rows::rows`]: `unpack` makes of a piece what adds its products to sums.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn rows<const BYTES: usize, Add: Fn(__m256, &Columns) -> __m256>(
    rows: Rows<'_>,
    x: Prepared<'_>,
    out: &mut [f32],
    unpack: impl Fn(&[u8; BYTES], PrefetchPosition) -> Add,
) {
    let (zero, total) = (_mm256_setzero_ps(), |sum| horizontal_sum(sum));
    block_rows::rows::<BYTES, false, 8, _, _, _>(rows, x, out, zero, unpack, total, |sums| totals(sums));
}

/// The totals of the lanes of each register, with the bits that they have alone.
#[inline]
#[target_feature(enable = "avx2")]
fn totals(sums: &[__m256; 8]) -> [f32; 8] {
    // Lanes four apart are added first, then those two apart, then one: as one register's are.
    let by_four = |i: usize| {
        let (a, b) = (sums[i], sums[i + 4]);
        _mm256_add_ps(_mm256_permute2f128_ps::<0x20>(a, b), _mm256_permute2f128_ps::<0x31>(a, b))
    };
    let by_two = |i: usize| {
        let (a, b) = (by_four(i), by_four(i + 2));
        _mm256_add_ps(_mm256_shuffle_ps::<0b01_00_01_00>(a, b), _mm256_shuffle_ps::<0b11_10_11_10>(a, b))
    };
    let (a, b) = (by_two(0), by_two(1));
    let (even, odd) = (_mm256_shuffle_ps::<0b10_00_10_00>(a, b), _mm256_shuffle_ps::<0b11_01_11_01>(a, b));
    let mut lanes = [0.0; 8];
    // SAFETY: the reference covers the 32 bytes, and the instruction asks for no alignment.
    unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), _mm256_add_ps(even, odd)) };
    PLACES.map(|lane| lanes[lane])
}

/// The lane in which the total of each register ends up.
const PLACES: [usize; 8] = [0, 2, 1, 3, 4, 6, 5, 7];

/// The columns of eight blocks, of which `pair(i)` gives the first 16 elements of block `i` and of block `i + 4`, and the last 16.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn columns(pair: impl Fn(usize) -> [__m256i; 2]) -> [__m256i; 8] {
    let [[first_0, last_0], [first_1, last_1], [first_2, last_2], [first_3, last_3]] =
        [pair(0), pair(1), pair(2), pair(3)];
    let [a, b, c, d] = four_columns([first_0, first_1, first_2, first_3]);
    let [e, f, g, h] = four_columns([last_0, last_1, last_2, last_3]);
    [a, b, c, d, e, f, g, h]
}

/// In each half of the registers, four words of each become one of each of the four.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn four_columns([a, b, c, d]: [__m256i; 4]) -> [__m256i; 4] {
    let (ab, next_ab) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    let (cd, next_cd) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
    [
        _mm256_unpacklo_epi64(ab, cd),
        _mm256_unpackhi_epi64(ab, cd),
        _mm256_unpacklo_epi64(next_ab, next_cd),
        _mm256_unpackhi_epi64(next_ab, next_cd),
    ]
}

/// The sums of the products of each block with levels of at most `MAX`, 15, 31 or 63.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn products<const MAX: usize>(x: &Columns, levels: [__m256i; 8]) -> __m256i {
    let [a, b, c, d, e, f, g, h] = levels;
    let [p, q, r, s, t, u, v, w] = x.values;
    let products = match MAX {
        // 16 products of a block in each half of its lane.
        0..=15 => {
            let (first, last) = (words([a, b, c, d], [p, q, r, s]), words([e, f, g, h], [t, u, v, w]));
            pairwise(_mm256_add_epi16(first, last))
        }
        _ => {
            let [first, last] = sums_of_16::<MAX>(x, levels);
            _mm256_add_epi32(first, last)
        }
    };
    _mm256_sub_epi32(products, x.offsets)
}

/// The sums of the products of the first 16 elements of each block and of the last 16, with levels of at most `MAX`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn products_of_16<const MAX: usize>(x: &Columns, levels: [__m256i; 8]) -> [__m256i; 2] {
    let ([first, last], [of_first, of_last]) = (sums_of_16::<MAX>(x, levels), x.offsets_of_16());
    [_mm256_sub_epi32(first, of_first), _mm256_sub_epi32(last, of_last)]
}

/// As [`products_of_16`], without taking the offset off.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn sums_of_16<const MAX: usize>(x: &Columns, levels: [__m256i; 8]) -> [__m256i; 2] {
    let [a, b, c, d, e, f, g, h] = levels;
    let [p, q, r, s, t, u, v, w] = x.values;
    match MAX {
        0..=31 => [pairwise(words([a, b, c, d], [p, q, r, s])), pairwise(words([e, f, g, h], [t, u, v, w]))],
        _ => {
            let add = |[a, b]: [__m256i; 2], [c, d]: [__m256i; 2]| {
                let products = _mm256_add_epi16(_mm256_maddubs_epi16(a, c), _mm256_maddubs_epi16(b, d));
                pairwise(products)
            };
            [
                _mm256_add_epi32(add([a, b], [p, q]), add([c, d], [r, s])),
                _mm256_add_epi32(add([e, f], [t, u]), add([g, h], [v, w])),
            ]
        }
    }
}

/// The sums of the products of each block, of signed values, whose offset is nothing.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn signed_products(x: &Columns, values: [__m256i; 8]) -> __m256i {
    let mut sums = [_mm256_setzero_si256(); 2];
    for (i, (&values, &x)) in values.iter().zip(&x.values).enumerate() {
        // One factor must be unsigned: |w| times x with the sign of w. Two products are at most 2 * 128 * 127 < 2^15.
        let products = _mm256_maddubs_epi16(_mm256_abs_epi8(values), _mm256_sign_epi8(x, values));
        sums[i % 2] = _mm256_add_epi32(sums[i % 2], pairwise(products));
    }
    _mm256_add_epi32(sums[0], sums[1])
}

/// The sums of the products of four columns, eight in each half of a lane: at most 8 * 31 * 127 < 2^15.
#[inline]
#[target_feature(enable = "avx2")]
fn words(levels: [__m256i; 4], x: [__m256i; 4]) -> __m256i {
    let [a, b, c, d] = levels;
    let [p, q, r, s] = x;
    let first = _mm256_add_epi16(_mm256_maddubs_epi16(a, p), _mm256_maddubs_epi16(b, q));
    _mm256_add_epi16(first, _mm256_add_epi16(_mm256_maddubs_epi16(c, r), _mm256_maddubs_epi16(d, s)))
}

/// The sum of both halves of each lane.
#[inline]
#[target_feature(enable = "avx2")]
fn pairwise(words: __m256i) -> __m256i {
    _mm256_madd_epi16(words, _mm256_set1_epi16(1))
}

/// Adds products of blocks times their scales.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(crate) fn add_scaled(sum: __m256, x: &Columns, products: __m256i, scales: __m256) -> __m256 {
    _mm256_fmadd_ps(_mm256_cvtepi32_ps(products), _mm256_mul_ps(scales, x.scales), sum)
}

/// Adds minima.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(crate) fn add_minima(sum: __m256, x: &Columns, of_blocks: __m256) -> __m256 {
    _mm256_fmadd_ps(of_blocks, x.totals, sum)
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
