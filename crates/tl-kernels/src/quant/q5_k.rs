//! Q5_K: blocks of 256 elements (176 bytes): scales and minima as in Q4_K, 32 bytes of fifth bits (bit `s` of byte `j` is that of
//! element `j` of sub-block `s`), and 128 bytes of halves as in Q4_K. value = scale * level - minimum. Source: the GGML formats
//! of GGUF.
#![allow(unsafe_code)]

use super::WeightKernels;
use super::block::{BlockFormat, array, integer};
use super::k_scales::{quantize_levels, unpack_scales};
use super::nibbles::{pack_groups, unpack_groups};
#[cfg(target_arch = "x86_64")]
use super::{Rows, activations::Row, block::RowDot};
use crate::isa::Isa;

const ELEMS: usize = 256;
const BYTES: usize = 176;
/// Where the fifth bits are, and where the halves.
const FIFTHS: usize = 16;
const HALVES: usize = 48;

/// Q5_K, 5.5 bits per weight.
pub static Q5_K: WeightKernels = integer::<Format>();

#[derive(Clone, Copy)]
struct Format;

impl BlockFormat for Format {
    const ELEMS: usize = ELEMS;
    const BYTES: usize = BYTES;
    const GROUP: usize = 32;
    const OFFSET: u8 = 0;
    const HAS_MINIMA: bool = true;
    #[cfg(target_arch = "x86_64")]
    const AVX512: RowDot = dot_avx512;
    #[cfg(target_arch = "x86_64")]
    const AVX2: RowDot = dot_avx2;

    #[inline(always)]
    fn unpack(isa: Isa, block: &[u8], values: &mut [u8], scales: &mut [f32], minima: &mut [f32]) {
        unpack_scales(isa, block, scales, minima);
        unpack_groups(&block[HALVES..], values);
        for (sub, values) in values.chunks_exact_mut(32).enumerate() {
            for (value, bits) in values.iter_mut().zip(&block[FIFTHS..HALVES]) {
                *value |= (bits >> sub & 1) << 4;
            }
        }
    }

    #[inline]
    fn quantize(x: &[f32], block: &mut [u8]) {
        let levels = quantize_levels(array(x), 31, block);
        block[FIFTHS..HALVES].fill(0);
        for (sub, levels) in levels.as_chunks::<32>().0.iter().enumerate() {
            for (bits, level) in block[FIFTHS..HALVES].iter_mut().zip(levels) {
                *bits |= (level >> 4) << sub;
            }
        }
        pack_groups(&levels.map(|level| level & 15), &mut block[HALVES..]);
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn dot_avx2(rows: Rows<'_>, x: Row<'_>, out: &mut [f32]) {
    use super::dot::avx2::load_half;
    use super::dot::pairs::{self, products};
    use super::k_scales::avx2::add;
    use super::nibbles::avx2::pair_of_groups;
    use std::arch::x86_64::*;
    pairs::rows(rows, x, out, Format::OFFSET, |sums, bytes: &[u8; BYTES], x, place| {
        // Bit `i` of a byte of the lower half, and bit `i + 4` of one of the upper half, are at place `i + 4`.
        let fifths = [FIFTHS, FIFTHS + 16].map(|at| {
            let bits = _mm256_broadcastsi128_si256(load_half(array(&bytes[at..][..16])));
            _mm256_blend_epi32::<0b1111_0000>(_mm256_slli_epi16::<4>(bits), bits)
        });
        let pair = |i: usize| {
            let halves = pair_of_groups::<HALVES, _>(bytes, i, place);
            [0, 1].map(|last| {
                let bits = _mm256_srl_epi16(fifths[last], _mm_cvtsi32_si128(i as i32));
                _mm256_or_si256(halves[last], _mm256_and_si256(bits, _mm256_set1_epi8(16)))
            })
        };
        add(sums, bytes, products(x, pair), x)
    });
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
fn dot_avx512(rows: Rows<'_>, x: Row<'_>, out: &mut [f32]) {
    use super::dot::avx2::load_bytes;
    use super::dot::avx512::{self, load_64};
    use super::k_scales::avx512::{Subs, add, total};
    use std::arch::x86_64::*;
    // The bit of each half of a register comes to place 4: sub-blocks 0 and 2, 1 and 3 to the left, 4 and 6, 5 and 7 to the right.
    let shifts = |low: i16, high: i16| {
        _mm512_inserti64x4::<1>(_mm512_castsi256_si512(_mm256_set1_epi16(low)), _mm256_set1_epi16(high))
    };
    let shifts = [shifts(4, 2), shifts(3, 1), shifts(0, 2), shifts(1, 3)];
    avx512::rows(
        rows,
        x,
        out,
        |[x]| Subs::new(x, 1.0),
        |sums, bytes: &[u8; BYTES], x, place| {
            let (halves, _) = bytes[HALVES..].as_chunks::<64>();
            let fifths = _mm512_broadcast_i64x4(load_bytes(array(&bytes[FIFTHS..HALVES])));
            let (mask, bit) = (_mm512_set1_epi8(15), _mm512_set1_epi8(16));
            let [a, b] = [load_64(&halves[0]), load_64(&halves[1])];
            let with_fifth = |halves: __m512i, bits: __m512i| {
                _mm512_or_si512(_mm512_and_si512(halves, mask), _mm512_and_si512(bits, bit))
            };
            let levels = [
                with_fifth(a, _mm512_sllv_epi16(fifths, shifts[0])),
                with_fifth(_mm512_srli_epi16::<4>(a), _mm512_sllv_epi16(fifths, shifts[1])),
                with_fifth(b, _mm512_srlv_epi16(fifths, shifts[2])),
                with_fifth(_mm512_srli_epi16::<4>(b), _mm512_srlv_epi16(fifths, shifts[3])),
            ];
            add(sums, bytes, levels, x, place)
        },
        |sums| total(sums),
    );
}
