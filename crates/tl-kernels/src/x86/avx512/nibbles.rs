//! Elements in halves of bytes, as registers.

use crate::array::array;
use crate::quant::activations::RowStretch;
use crate::x86::avx2::registers::load_half;
use crate::x86::avx512::block_rows::{Sums, spread};
use crate::x86::avx512::registers::{indexes, load_8, load_64, load_opaque};
use std::arch::x86_64::*;

/// Of eight scales, those of half `h` of a stretch: four, over four lanes each.
const HALVES: [[i32; 16]; 2] = spread([[0, 1, 2, 3], [4, 5, 6, 7]]);

/// A stretch of activations in the order of the halves of four blocks: for half `h` of the stretch, the first 16
/// elements of its four blocks, and the last 16.
#[derive(Clone, Copy)]
pub(crate) struct Halves {
    low: [__m512i; 2],
    high: [__m512i; 2],
    /// Minus the offset times the sums of the values.
    start: [__m512i; 2],
    /// The scale of each block over its four lanes.
    scales: [__m512; 2],
    /// The total of each block in the first of its four lanes.
    totals: [__m512; 2],
}

// SAFETY: registers, of which zeros are values.
unsafe impl bytemuck::Zeroable for Halves {}

impl Halves {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
    pub(crate) fn new(x: &RowStretch, offset: u8) -> Halves {
        let zero = _mm512_setzero_si512();
        let offset = _mm512_set1_epi8(offset as i8);
        let [[low_a, high_a], [low_b, high_b]] = [halves_of_four(x, 0), halves_of_four(x, 1)];
        let (low, high) = ([low_a, low_b], [high_a, high_b]);
        let start = [0, 1].map(|h| {
            let sums = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(zero, offset, low[h]), offset, high[h]);
            _mm512_sub_epi32(zero, sums)
        });
        let scales = _mm512_castps256_ps512(load_8(&x.scales));
        let totals = _mm512_castps256_ps512(load_8(&x.totals));
        Halves {
            low,
            high,
            start,
            scales: [0, 1].map(|h| _mm512_permutexvar_ps(indexes(&HALVES[h]), scales)),
            totals: [0, 1].map(|h| _mm512_maskz_permutexvar_ps(0x1111, indexes(&HALVES[h]), totals)),
        }
    }
}

/// Of the four blocks of half `h` of a stretch, the first 16 elements, and the last 16.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn halves_of_four(x: &RowStretch, h: usize) -> [__m512i; 2] {
    let quarters = x.values.as_chunks::<64>().0;
    let (a, b) = (load_64(&quarters[2 * h]), load_64(&quarters[2 * h + 1]));
    [_mm512_shuffle_i64x2::<0b10_00_10_00>(a, b), _mm512_shuffle_i64x2::<0b11_01_11_01>(a, b)]
}

/// The products of four blocks, those of half `h` of a stretch, whose values [`four_blocks`] gives: of each, four lanes with the
/// sum of eight products.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
pub(crate) fn four_products(x: &Halves, h: usize, [low, high]: [__m512i; 2]) -> __m512i {
    _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(x.start[h], low, x.low[h]), high, x.high[h])
}

/// Of the scales of eight blocks, those of half `h` of a stretch, over four lanes each.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn over_four(scales: __m256, h: usize) -> __m512 {
    _mm512_permutexvar_ps(indexes(&HALVES[h]), _mm512_castps256_ps512(scales))
}

/// Adds the products of a stretch: `half(h)` gives the values of half `h`, as [`four_blocks`] orders them, and the scales of its
/// blocks over four lanes each.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
pub(crate) fn add_products(sums: Sums, x: &Halves, half: impl Fn(usize) -> ([__m512i; 2], __m512)) -> Sums {
    let mut sums = sums;
    for (h, sum) in sums.iter_mut().enumerate() {
        let (halves, scales) = half(h);
        let products = four_products(x, h, halves);
        *sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products), _mm512_mul_ps(scales, x.scales[h]), *sum);
    }
    sums
}

/// Adds the minima, which `half(h)` gives over four lanes each.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
pub(crate) fn add_minima(sums: Sums, x: &Halves, half: impl Fn(usize) -> __m512) -> Sums {
    let mut sums = sums;
    for (h, sum) in sums.iter_mut().enumerate() {
        *sum = _mm512_fmadd_ps(half(h), x.totals[h], *sum);
    }
    sums
}

/// The bytes of the first three of four times 16.
const FIRST_THREE: u64 = 0x0000_FFFF_FFFF_FFFF;

/// Where to find 16 bytes of each of three blocks of `block` bytes, from byte `at` of each.
const fn first_three(block: usize, at: usize) -> [u8; 64] {
    assert!(2 * block + at + 16 <= 64, "in one register");
    let mut table = [0; 64];
    let mut i = 0;
    while i < 48 {
        table[i] = (i / 16 * block + at + i % 16) as u8;
        i += 1;
    }
    table
}

/// The low and the high halves of the four blocks from `4 h` on, of `BLOCK` bytes each, whose 16 bytes begin at `AT`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
pub(crate) fn four_blocks<const BLOCK: usize, const AT: usize, const BYTES: usize>(
    bytes: &[u8; BYTES],
    h: usize,
) -> [__m512i; 2] {
    let window = load_opaque(array(&bytes[4 * h * BLOCK + AT..][..64]));
    four_of_window::<BLOCK, 0>(window, array(&bytes[(4 * h + 3) * BLOCK + AT..][..16]))
}

/// As [`four_blocks`], from 64 bytes in which the 16 of the first block begin at `AT`, and the 16 of the last one.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
pub(crate) fn four_of_window<const BLOCK: usize, const AT: usize>(window: __m512i, last: &[u8; 16]) -> [__m512i; 2] {
    let last = _mm512_broadcast_i32x4(load_half(last));
    let places = load_64(const { &first_three(BLOCK, AT) });
    let four = _mm512_mask_permutexvar_epi8(last, FIRST_THREE, places, window);
    let mask = _mm512_set1_epi8(15);
    [_mm512_and_si512(four, mask), _mm512_and_si512(_mm512_srli_epi16::<4>(four), mask)]
}

/// Adds 16 where the fifth bits, four bytes at `AT` of each block, say so.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
pub(crate) fn add_fifths<const BLOCK: usize, const AT: usize, const BYTES: usize>(
    bytes: &[u8; BYTES],
    h: usize,
    halves: [__m512i; 2],
) -> [__m512i; 2] {
    let tables = const { &[bytes_of_bits(BLOCK, AT), bytes_of_bits(BLOCK, AT + 2)] };
    let first = load_opaque(array(&bytes[4 * h * BLOCK..][..64]));
    let last = load_opaque(array(&bytes[4 * (h + 1) * BLOCK - 64..][..64]));
    let bit = _mm512_set1_epi64(i64::from_le_bytes([1, 2, 4, 8, 16, 32, 64, 128]));
    let sixteen = _mm512_set1_epi8(16);
    [0, 1].map(|half| {
        let bits = _mm512_permutex2var_epi8(first, load_64(&tables[half]), last);
        let set = _mm512_test_epi8_mask(bits, bit);
        _mm512_mask_add_epi8(halves[half], set, halves[half], sixteen)
    })
}

/// Where to find the two bytes at `at` of each of four blocks, eight times each, as [`pairs_of_bytes`] counts places.
const fn bytes_of_bits(block: usize, at: usize) -> [u8; 64] {
    let mut table = [0; 64];
    let mut i = 0;
    while i < 64 {
        table[i] = place(block, i / 16, at + i % 16 / 8);
        i += 1;
    }
    table
}

/// The `f16` at `AT` of each of the four blocks of half `h`, as `f32` over four lanes each.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
pub(crate) fn half_scales<const BLOCK: usize, const AT: usize, const BYTES: usize>(
    bytes: &[u8; BYTES],
    h: usize,
) -> __m512 {
    let table = const { &pairs_of_bytes(BLOCK, AT) };
    // The first 64 bytes of the half have all that is wanted, or the last 64 have the rest.
    let first = load_opaque(array(&bytes[4 * h * BLOCK..][..64]));
    let picked = if 3 * BLOCK + AT + 2 <= 64 {
        _mm512_permutexvar_epi8(load_64(table), first)
    } else {
        let last = load_opaque(array(&bytes[4 * (h + 1) * BLOCK - 64..][..64]));
        _mm512_permutex2var_epi8(first, load_64(table), last)
    };
    _mm512_cvtph_ps(_mm512_castsi512_si256(picked))
}

/// Where to find the two bytes at `at` of each of four blocks, four times each.
const fn pairs_of_bytes(block: usize, at: usize) -> [u8; 64] {
    let mut table = [0; 64];
    let mut i = 0;
    while i < 32 {
        table[i] = place(block, i / 8, at + i % 2);
        i += 1;
    }
    table
}

/// Byte `at` of block `b` of four: in their first 64 bytes, or (64 more) in their last 64.
const fn place(block: usize, b: usize, at: usize) -> u8 {
    let place = b * block + at;
    (if place < 64 { place } else { place - (4 * block - 64) + 64 }) as u8
}
