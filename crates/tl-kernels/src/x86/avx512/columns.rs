//! Sixteen blocks of 32 elements at a time, in *columns*: a register has four elements in a row of each block, those of a block in one lane.
//!
//! So the products of the eight columns are added up by the instruction that makes them, and the sums have a lane for each of the
//! sixteen blocks; the scales are multiplied with sixteen at a time. In which order a format's blocks come to the lanes is the
//! format's: an order that few instructions bring about. Activations are put in it before.

use crate::quant::activations::RowStretch;
use crate::x86::avx512::registers::{load, load_16};
use std::arch::x86_64::*;

/// The block that each lane has.
pub(crate) type Order = [u8; 16];

/// One after the other.
pub(crate) const IN_ORDER: Order = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
/// Of four registers that have four blocks each in their quarters: lane `4 b + q` has block `b` of register `q`.
pub(crate) const OF_FOURS: Order = [0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15];

/// Two stretches of activations, in columns.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Columns {
    values: [[i32; 16]; 8],
    /// Minus the format's offset times the sum of each block's values.
    offsets: [i32; 16],
    scales: [f32; 16],
    totals: [f32; 16],
}

// SAFETY: arrays of numbers, of which zeros are values.
unsafe impl bytemuck::Zeroable for Columns {}
// SAFETY: arrays of which every pattern is a value, eleven times 64 bytes without padding.
unsafe impl bytemuck::Pod for Columns {}

impl Columns {
    pub(crate) fn new(stretches: &[RowStretch; 2], offset: u8, order: &Order) -> Columns {
        let mut x =
            Columns { values: values(stretches, order), offsets: [0; 16], scales: [0.0; 16], totals: [0.0; 16] };
        for (lane, &block) in order.iter().enumerate() {
            let (stretch, b) = (&stretches[usize::from(block / 8)], usize::from(block % 8));
            x.offsets[lane] = -i32::from(offset) * (stretch.sums[2 * b] + stretch.sums[2 * b + 1]);
            (x.scales[lane], x.totals[lane]) = (stretch.scales[b], stretch.totals[b]);
        }
        x
    }
}

/// As [`Columns`], for formats with scales for 16 elements.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct SplitColumns {
    values: [[i32; 16]; 8],
    /// Minus the format's offset times the sums of the first 16 values of each block, and of the last.
    offsets: [[i32; 16]; 2],
    scales: [f32; 16],
}

// SAFETY: arrays of numbers, of which zeros are values.
unsafe impl bytemuck::Zeroable for SplitColumns {}
// SAFETY: arrays of which every pattern is a value, eleven times 64 bytes without padding.
unsafe impl bytemuck::Pod for SplitColumns {}

impl SplitColumns {
    pub(crate) fn new(stretches: &[RowStretch; 2], offset: u8, order: &Order) -> SplitColumns {
        let mut x = SplitColumns { values: values(stretches, order), offsets: [[0; 16]; 2], scales: [0.0; 16] };
        for (lane, &block) in order.iter().enumerate() {
            let (stretch, b) = (&stretches[usize::from(block / 8)], usize::from(block % 8));
            for half in 0..2 {
                x.offsets[half][lane] = -i32::from(offset) * stretch.sums[2 * b + half];
            }
            x.scales[lane] = stretch.scales[b];
        }
        x
    }

    /// The scale of each block.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(crate) fn scales(&self) -> __m512 {
        load_16(&self.scales)
    }

    /// The sums of the products of the first 16 elements of each block, and of the last.
    #[inline]
    #[target_feature(enable = "avx512f,avx512vnni")]
    pub(crate) fn products(&self, levels: [__m512i; 8]) -> [__m512i; 2] {
        self.products_from([load(&self.offsets[0]), load(&self.offsets[1])], levels)
    }

    /// The same as words, which hold them where levels are at most 7; without the offset unless `WITH_OFFSET`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    pub(crate) fn words<const WITH_OFFSET: bool>(&self, levels: [__m512i; 8]) -> __m512i {
        let zeros = [_mm512_setzero_si512(); 2];
        let [first, last] = if WITH_OFFSET { self.products(levels) } else { self.products_from(zeros, levels) };
        words_of_16(first, last)
    }

    /// What stands for the offset, as words.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(crate) fn words_of_offsets(&self) -> __m512i {
        words_of_16(load(&self.offsets[0]), load(&self.offsets[1]))
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512vnni")]
    fn products_from(&self, [first, last]: [__m512i; 2], levels: [__m512i; 8]) -> [__m512i; 2] {
        let [a, b, c, d, e, f, g, h] = levels;
        let [p, q, r, s, t, u, v, w] = &self.values;
        [dot(first, [a, b, c, d], [p, q, r, s]), dot(last, [e, f, g, h], [t, u, v, w])]
    }
}

/// As [`Columns`], for blocks whose 32 bytes stay together while they are brought into columns: four registers have, in their quarters,
/// the first and the last 16 elements of blocks 0 to 3, then those of blocks 4 to 7; four more those of the other eight blocks.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct HalvedColumns {
    values: [[[i32; 16]; 4]; 2],
    /// Minus the format's offset times the sum of each block's values, in their order.
    offsets: [i32; 16],
    scales: [f32; 16],
}

// SAFETY: arrays of numbers, of which zeros are values.
unsafe impl bytemuck::Zeroable for HalvedColumns {}
// SAFETY: arrays of which every pattern is a value, ten times 64 bytes without padding.
unsafe impl bytemuck::Pod for HalvedColumns {}

impl HalvedColumns {
    pub(crate) fn new(stretches: &[RowStretch; 2], offset: u8) -> HalvedColumns {
        let Columns { values: columns, offsets, scales, .. } = Columns::new(stretches, offset, &IN_ORDER);
        let mut values = [[[0; 16]; 4]; 2];
        for (block, lane) in (0..16).map(|block| (block, block / 4 % 2 * 8 + block % 4)) {
            for r in 0..4 {
                values[block / 8][r][lane] = columns[r][block];
                values[block / 8][r][lane + 4] = columns[4 + r][block];
            }
        }
        HalvedColumns { values, offsets, scales }
    }

    /// Adds the products of blocks times their scales.
    #[inline]
    #[target_feature(enable = "avx512f,avx512vnni")]
    pub(crate) fn add_scaled(&self, sum: __m512, [first, last]: [[__m512i; 4]; 2], scales: __m512) -> __m512 {
        let ([p, q, r, s], [t, u, v, w]) = (&self.values[0], &self.values[1]);
        let first = dot(_mm512_setzero_si512(), first, [p, q, r, s]);
        let last = dot(_mm512_setzero_si512(), last, [t, u, v, w]);
        let halves = _mm512_add_epi32(
            _mm512_shuffle_i64x2::<0b10_00_10_00>(first, last),
            _mm512_shuffle_i64x2::<0b11_01_11_01>(first, last),
        );
        let products = _mm512_cvtepi32_ps(_mm512_add_epi32(halves, load(&self.offsets)));
        _mm512_fmadd_ps(products, _mm512_mul_ps(scales, load_16(&self.scales)), sum)
    }
}

/// The values of sixteen blocks in columns.
fn values(stretches: &[RowStretch; 2], order: &Order) -> [[i32; 16]; 8] {
    let mut columns = [[0; 16]; 8];
    for (lane, &block) in order.iter().enumerate() {
        let values = &stretches[usize::from(block / 8)].values[usize::from(block % 8) * 32..][..32];
        for (column, four) in columns.iter_mut().zip(values.as_chunks().0) {
            column[lane] = bytemuck::cast::<[i8; 4], i32>(*four);
        }
    }
    columns
}

/// In each quarter of the registers, the four words of each become one of each of the four.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn four_columns([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    let (ab, next_ab) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let (cd, next_cd) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    [
        _mm512_unpacklo_epi64(ab, cd),
        _mm512_unpackhi_epi64(ab, cd),
        _mm512_unpacklo_epi64(next_ab, next_cd),
        _mm512_unpackhi_epi64(next_ab, next_cd),
    ]
}

/// Adds the products of blocks times their scales.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
pub(crate) fn add_scaled(sum: __m512, x: &Columns, levels: [__m512i; 8], scales: __m512) -> __m512 {
    let [a, b, c, d, e, f, g, h] = levels;
    let [p, q, r, s, t, u, v, w] = &x.values;
    let first = dot(load(&x.offsets), [a, b, c, d], [p, q, r, s]);
    let products = _mm512_add_epi32(first, dot(_mm512_setzero_si512(), [e, f, g, h], [t, u, v, w]));
    _mm512_fmadd_ps(_mm512_cvtepi32_ps(products), _mm512_mul_ps(scales, load_16(&x.scales)), sum)
}

/// Two numbers for each lane, as words.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(crate) fn words_of_16(first: __m512i, last: __m512i) -> __m512i {
    _mm512_mask_blend_epi16(0xAAAA_AAAA, first, _mm512_slli_epi32::<16>(last))
}

/// Adds minima.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn add_minima(sum: __m512, x: &Columns, of_blocks: __m512) -> __m512 {
    _mm512_fmadd_ps(of_blocks, load_16(&x.totals), sum)
}

/// Adds the products of four columns.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn dot(sums: __m512i, [a, b, c, d]: [__m512i; 4], [p, q, r, s]: [&[i32; 16]; 4]) -> __m512i {
    let sums = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(sums, a, load(p)), b, load(q));
    _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(sums, c, load(r)), d, load(s))
}
