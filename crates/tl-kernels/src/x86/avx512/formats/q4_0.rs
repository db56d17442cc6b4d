//! Dot products of rows in Q4_0.

use crate::array::array;
use crate::quant::activations::{Row, RowStretch};
use crate::quant::codec::BlockCodec;
use crate::quant::formats::q4_0::{BYTES, Format};
use crate::quant::rows::Rows;
use crate::x86::avx512::block_rows;
use crate::x86::avx512::block_rows::{Sums, corrections};
use crate::x86::avx512::nibbles::{four_of_window, halves_of_four};
use crate::x86::avx512::registers::{indexes, load_8, load_64, load_opaque};
use crate::x86::walk::PrefetchPosition;
use std::arch::x86_64::*;

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
pub(crate) fn dot(rows: Rows<'_>, x: Row<'_>, out: &mut [f32]) {
    block_rows::rows(
        rows,
        x,
        out,
        |x: [&_; 2]| Pair::new(x),
        |sums, bytes, x, position| add(sums, bytes, x, position),
        |sums| block_rows::total(sums),
    );
}

/// Two stretches of activations.
#[derive(Clone, Copy)]
struct Pair {
    /// Of four blocks each, the low halves and the high ones.
    values: [[__m512i; 2]; 4],
    /// Of each block, in the order of the lanes.
    scales: __m512,
    /// Minus the offset times the sum of each block's values, in that order. Taken into account in the end, it takes the place of
    /// four registers that the sums would begin with.
    corrections: __m512,
}

// SAFETY: registers, of which zeros are values.
unsafe impl bytemuck::Zeroable for Pair {}

/// The block whose sum a lane ends up with: lane `4 b + q` has block `b` of four `q`.
const BLOCK_OF_LANE: [i32; 16] = [0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15];

/// Where the scales of four `q` are in its first 64 bytes, two bytes for each lane.
const SCALES: [[u8; 64]; 4] = {
    let mut tables = [[0; 64]; 4];
    let mut i = 0;
    while i < 4 * 4 * 2 {
        let (q, b, byte) = (i / 8, i / 2 % 4, i % 2);
        tables[q][2 * (4 * b + q) + byte] = (b * BYTES + byte) as u8;
        i += 1;
    }
    tables
};

/// The bytes that four `q` gives.
const OF_FOUR: [u64; 4] = [0x0303_0303, 0x0C0C_0C0C, 0x3030_3030, 0xC0C0_C0C0];

impl Pair {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
    fn new([a, b]: [&RowStretch; 2]) -> Pair {
        let in_order = |a, b| {
            let both = _mm512_insertf32x8::<1>(_mm512_castps256_ps512(a), b);
            _mm512_permutexvar_ps(indexes(&BLOCK_OF_LANE), both)
        };
        Pair {
            values: [halves_of_four(a, 0), halves_of_four(a, 1), halves_of_four(b, 0), halves_of_four(b, 1)],
            scales: in_order(load_8(&a.scales), load_8(&b.scales)),
            corrections: in_order(corrections(a, Format::OFFSET), corrections(b, Format::OFFSET)),
        }
    }
}

/// Adds the products of 16 blocks.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
fn add([sum, corrected]: Sums, bytes: &[u8; 16 * BYTES], x: &Pair, position: PrefetchPosition) -> Sums {
    let window = |q: usize| load_opaque(array(&bytes[4 * q * BYTES..][..64]));
    let windows = [window(0), window(1), window(2), window(3)];
    let four = |q: usize| {
        position.prefetch(bytes, q, 5);
        let last = array(&bytes[(4 * q + 3) * BYTES + 2..][..16]);
        let [low, high] = four_of_window::<BYTES, 2>(windows[q], last);
        let products = _mm512_dpbusd_epi32(_mm512_setzero_si512(), low, x.values[q][0]);
        _mm512_dpbusd_epi32(products, high, x.values[q][1])
    };
    let ones = _mm512_set1_epi16(1);
    let halve = |a: __m512i, b: __m512i| _mm512_madd_epi16(_mm512_packs_epi32(a, b), ones);
    let products = halve(halve(four(0), four(1)), halve(four(2), four(3)));
    let mut scales = _mm512_setzero_si512();
    for q in 0..4 {
        scales = _mm512_mask_permutexvar_epi8(scales, OF_FOUR[q], load_64(&SCALES[q]), windows[q]);
    }
    position.prefetch(bytes, 4, 5);
    let scales = _mm512_mul_ps(_mm512_cvtph_ps(_mm512_castsi512_si256(scales)), x.scales);
    let sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products), scales, sum);
    [sum, _mm512_fmadd_ps(x.corrections, scales, corrected)]
}
