//! Sixteen blocks of 32 elements in halves of bytes, as columns in the order of [`OF_FOURS`](super::columns::OF_FOURS).

use crate::array::array;
use crate::x86::avx2::registers::load_half;
use crate::x86::avx512::registers::{load_64, load_opaque};
use crate::x86::walk::PrefetchPosition;
use std::arch::x86_64::*;

/// Of blocks of `BLOCK` bytes, the 16 bytes at `AT` of each, those of four blocks to a register.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub(crate) fn fours<const BLOCK: usize, const AT: usize, const BYTES: usize>(
    bytes: &[u8; BYTES],
    position: PrefetchPosition,
) -> [__m512i; 4] {
    let places = load_64(const { &first_three(BLOCK) });
    let four = |q: usize| {
        position.prefetch(bytes, q, 4);
        let window = load_opaque(array(&bytes[4 * q * BLOCK + AT..][..64]));
        let last = _mm512_broadcast_i32x4(load_half(array(&bytes[(4 * q + 3) * BLOCK + AT..][..16])));
        _mm512_mask_permutexvar_epi8(last, FIRST_THREE, places, window)
    };
    [four(0), four(1), four(2), four(3)]
}

/// The bytes of the first three of four times 16.
const FIRST_THREE: u64 = 0x0000_FFFF_FFFF_FFFF;

/// Where to find 16 bytes of each of three blocks of `block` bytes, the first of which begin the register.
const fn first_three(block: usize) -> [u8; 64] {
    assert!(2 * block + 16 <= 64, "in one register");
    let mut table = [0; 64];
    let mut i = 0;
    while i < 48 {
        table[i] = (i / 16 * block + i % 16) as u8;
        i += 1;
    }
    table
}

/// The lower halves of the bytes, then the upper ones.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(crate) fn low_and_high([a, b, c, d]: [__m512i; 4]) -> [__m512i; 8] {
    let mask = _mm512_set1_epi8(15);
    let low = |x| _mm512_and_si512(x, mask);
    let high = |x| _mm512_and_si512(_mm512_srli_epi16::<4>(x), mask);
    [low(a), low(b), low(c), low(d), high(a), high(b), high(c), high(d)]
}

/// What a table has at each place.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(crate) fn looked_up(table: &[u8; 16], mut places: [__m512i; 8]) -> [__m512i; 8] {
    let table = _mm512_broadcast_i32x4(load_half(table));
    for places in &mut places {
        *places = _mm512_shuffle_epi8(table, *places);
    }
    places
}

/// The four bytes at `AT` of each block, as lanes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub(crate) fn four_bytes<const BLOCK: usize, const AT: usize, const BYTES: usize>(bytes: &[u8; BYTES]) -> __m512i {
    gathered::<4, BLOCK, AT, BYTES>(bytes)
}

/// The `f16` at `AT` of each block.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub(crate) fn halves_at<const BLOCK: usize, const AT: usize, const BYTES: usize>(bytes: &[u8; BYTES]) -> __m512 {
    _mm512_cvtph_ps(_mm512_castsi512_si256(gathered::<2, BLOCK, AT, BYTES>(bytes)))
}

/// The first `N` bytes from `AT` on of each block, one after the other.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn gathered<const N: usize, const BLOCK: usize, const AT: usize, const BYTES: usize>(bytes: &[u8; BYTES]) -> __m512i {
    let tables =
        const { &[places(N, BLOCK, AT, 0), places(N, BLOCK, AT, 1), places(N, BLOCK, AT, 2), places(N, BLOCK, AT, 3)] };
    let mut gathered = _mm512_setzero_si512();
    for (q, table) in tables.iter().enumerate() {
        let of_four = const { of_four(N) } << (N * q);
        let first = load_opaque(array(&bytes[4 * q * BLOCK..][..64]));
        if 3 * BLOCK + AT + N <= 64 {
            gathered = _mm512_mask_permutexvar_epi8(gathered, of_four, load_64(table), first);
        } else {
            let last = load_opaque(array(&bytes[4 * (q + 1) * BLOCK - 64..][..64]));
            let of_four = _mm512_maskz_permutex2var_epi8(of_four, first, load_64(table), last);
            gathered = _mm512_or_si512(gathered, of_four);
        }
    }
    gathered
}

/// The `n` bytes of the first of four in turn, four times.
const fn of_four(n: usize) -> u64 {
    let mut mask = 0;
    let mut b = 0;
    while b < 4 {
        mask |= ((1 << n) - 1) << (4 * n * b);
        b += 1;
    }
    mask
}

/// Where to find, for place `4 b + q` of `n` bytes, those at `at` of block `b` of four: in their first 64 bytes, or (64 more) in their last
/// 64.
const fn places(n: usize, block: usize, at: usize, q: usize) -> [u8; 64] {
    let mut table = [0; 64];
    let mut i = 0;
    while i < 4 * n {
        let (b, byte) = (i / n, i % n);
        let place = b * block + at + byte;
        table[n * (4 * b + q) + byte] = (if place < 64 { place } else { place - (4 * block - 64) + 64 }) as u8;
        i += 1;
    }
    table
}

/// The `f16` in the lower half of each lane.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn lower_halves(lanes: __m512i) -> __m512 {
    _mm512_cvtph_ps(_mm512_cvtepi32_epi16(lanes))
}

/// The `f16` in the upper half of each lane.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn upper_halves(lanes: __m512i) -> __m512 {
    lower_halves(_mm512_srli_epi32::<16>(lanes))
}

/// Adds 16 to the elements whose bit says so: bit `e` of a lane is that of element `e` of its block.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(crate) fn add_fifths(mut levels: [__m512i; 8], bits: __m512i) -> [__m512i; 8] {
    let sixteen = _mm512_set1_epi8(16);
    for (column, level) in levels.iter_mut().enumerate() {
        // The byte that has the four bits, four times in each lane.
        let byte = column as i32 / 2;
        let first = 0x0101_0101 * byte;
        let four_times = _mm_setr_epi32(first, first + 0x0404_0404, first + 0x0808_0808, first + 0x0C0C_0C0C);
        let four_times = _mm512_broadcast_i32x4(four_times);
        let bit = if column % 2 == 0 { 0x0804_0201 } else { 0x8040_2010_u32 as i32 };
        let is_set = _mm512_test_epi8_mask(_mm512_shuffle_epi8(bits, four_times), _mm512_set1_epi32(bit));
        *level = _mm512_mask_add_epi8(*level, is_set, *level, sixteen);
    }
    levels
}
