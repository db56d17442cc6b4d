//! Dot products of rows in Q5_K.

use crate::array::array;
use crate::quant::activations::Prepared;
use crate::quant::formats::q5_k::{BYTES, FIFTHS, HALVES};
use crate::quant::rows::Rows;
use crate::x86::avx2::block_rows;
use crate::x86::avx2::block_rows::{Columns, columns, products};
use crate::x86::avx2::k_scales::Scales;
use crate::x86::avx2::nibbles::pair_of_groups;
use crate::x86::avx2::registers::load_half;
use std::arch::x86_64::*;

#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn dot(rows: Rows<'_>, x: Prepared<'_>, out: &mut [f32]) {
    block_rows::rows(rows, x, out, |bytes: &[u8; BYTES], position| {
        // Bit `i` of a byte of the lower half, and bit `i + 4` of one of the upper half, are at place `i + 4`.
        let fifths = [FIFTHS, FIFTHS + 16].map(|at| {
            let bits = _mm256_broadcastsi128_si256(load_half(array(&bytes[at..][..16])));
            _mm256_blend_epi32::<0b1111_0000>(_mm256_slli_epi16::<4>(bits), bits)
        });
        let pair = |i: usize| {
            let halves = pair_of_groups::<HALVES, _>(bytes, i, position);
            [0, 1].map(|last| {
                let bits = _mm256_srl_epi16(fifths[last], _mm_cvtsi32_si128(i as i32));
                _mm256_or_si256(halves[last], _mm256_and_si256(bits, _mm256_set1_epi8(16)))
            })
        };
        let (levels, scales) = (columns(pair), Scales::of(bytes));
        move |sum, x: &Columns| scales.add(sum, products::<31>(x, levels), x)
    });
}
