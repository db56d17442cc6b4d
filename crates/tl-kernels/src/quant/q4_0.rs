//! Q4_0: blocks of an `f16` scale and 16 bytes (18 bytes); the low half of byte `j` is element `j`, the high half element
//! `16 + j`; value = scale * (half - 8). Source: the GGML formats of GGUF.
#![allow(unsafe_code)]

use super::block::{BlockFormat, integer};
use super::nibbles::{pack_halves, unpack_halves};
use super::search::{inverse, round_to_level, signed_scale};
#[cfg(target_arch = "x86_64")]
use super::{Rows, activations::Row, block::RowDot};
use super::{WeightKernels, half_at, store_half};
use crate::isa::Isa;

const ELEMS: usize = 32;
const BYTES: usize = 18;

/// Q4_0, 4.5 bits per weight.
pub static Q4_0: WeightKernels = integer::<Format>();

#[derive(Clone, Copy)]
struct Format;

impl BlockFormat for Format {
    const ELEMS: usize = ELEMS;
    const BYTES: usize = BYTES;
    const GROUP: usize = 32;
    const OFFSET: u8 = 8;
    const HAS_MINIMA: bool = false;
    #[cfg(target_arch = "x86_64")]
    const AVX512: RowDot = dot_avx512;
    #[cfg(target_arch = "x86_64")]
    const AVX2: RowDot = dot_avx2;

    #[inline(always)]
    fn unpack(isa: Isa, block: &[u8], values: &mut [u8], scales: &mut [f32], _minima: &mut [f32]) {
        scales[0] = half_at(isa, block, 0);
        unpack_halves(&block[2..], values);
    }

    #[inline]
    fn quantize(x: &[f32], block: &mut [u8]) {
        let scale = store_half(block, 0, signed_scale(x, 8));
        let inverse = inverse(scale);
        pack_halves(&mut block[2..], |j| round_to_level(x[j] * inverse, -8, 7) + 8);
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn dot_avx2(rows: Rows<'_>, x: Row<'_>, out: &mut [f32]) {
    use super::dot::pairs::{self, add_scaled, eight_halves, products};
    use super::nibbles::avx2::pair;
    pairs::rows(rows, x, out, Format::OFFSET, |sums, bytes: &[u8; 8 * BYTES], x, place| {
        let products = products(x, |i| pair::<BYTES, 2, _>(bytes, i, place));
        add_scaled(sums, x, products, eight_halves::<BYTES, 0, _>(bytes))
    });
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
fn dot_avx512(rows: Rows<'_>, x: Row<'_>, out: &mut [f32]) {
    use super::dot::avx512;
    use wide::{Pair, add};
    avx512::rows(
        rows,
        x,
        out,
        |x: [&_; 2]| Pair::new(x),
        |sums, bytes, x, place| add(sums, bytes, x, place),
        |sums| avx512::total(sums),
    );
}

/// 16 blocks at a time. The products of a block's elements stay below 2^15 when they are added up in eights, and in sixteens, so
/// that four registers of sums, of four blocks each, shrink to one with a lane for each block. Only then come the scales, one
/// for each lane: to spread each over the lanes of its block's sums, four times, takes longer.
#[cfg(target_arch = "x86_64")]
mod wide {
    use super::{BYTES, BlockFormat, Format};
    use crate::quant::activations::RowStretch;
    use crate::quant::block::array;
    use crate::quant::dot::Place;
    use crate::quant::dot::avx512::{Sums, corrections, indexes, load_8, load_64, load_opaque};
    use crate::quant::nibbles::avx512::{four_of_window, halves_of_four};
    use std::arch::x86_64::*;

    /// Two stretches of activations.
    #[derive(Clone, Copy)]
    pub(super) struct Pair {
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
        pub(super) fn new([a, b]: [&RowStretch; 2]) -> Pair {
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
    pub(super) fn add([sum, corrected]: Sums, bytes: &[u8; 16 * BYTES], x: &Pair, place: Place) -> Sums {
        let window = |q: usize| load_opaque(array(&bytes[4 * q * BYTES..][..64]));
        let windows = [window(0), window(1), window(2), window(3)];
        let four = |q: usize| {
            place.ask_ahead(bytes, q, 5);
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
        place.ask_ahead(bytes, 4, 5);
        let scales = _mm512_mul_ps(_mm512_cvtph_ps(_mm512_castsi512_si256(scales)), x.scales);
        let sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products), scales, sum);
        [sum, _mm512_fmadd_ps(x.corrections, scales, corrected)]
    }
}
