//! IQ4_NL: blocks of an `f16` scale and 16 bytes of halves as in Q4_0 (18 bytes), each the number of one of 16 levels that lie
//! closer together near zero; value = scale * level. Source: the GGML formats of GGUF.
#![allow(unsafe_code)]

use super::block::{BlockFormat, integer};
use super::nibbles::{pack_halves, unpack_halves};
use super::search::{inverse, table_scale};
#[cfg(target_arch = "x86_64")]
use super::{Rows, activations::Row, block::RowDot};
use super::{WeightKernels, half_at, store_half};
use crate::isa::Isa;

const ELEMS: usize = 32;
const BYTES: usize = 18;

/// The levels.
pub(crate) const LEVELS: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
/// What is added to the levels to make them unsigned.
pub(crate) const OFFSET: u8 = 128;
/// The levels with the offset.
pub(crate) const UNSIGNED: [u8; 16] = {
    let mut unsigned = [0; 16];
    let mut i = 0;
    while i < 16 {
        unsigned[i] = LEVELS[i] as u8 ^ OFFSET;
        i += 1;
    }
    unsigned
};

/// IQ4_NL, 4.5 bits per weight.
pub static IQ4_NL: WeightKernels = integer::<Format>();

#[derive(Clone, Copy)]
struct Format;

impl BlockFormat for Format {
    const ELEMS: usize = ELEMS;
    const BYTES: usize = BYTES;
    const GROUP: usize = 32;
    const OFFSET: u8 = OFFSET;
    const HAS_MINIMA: bool = false;
    #[cfg(target_arch = "x86_64")]
    const AVX512: RowDot = dot_avx512;
    #[cfg(target_arch = "x86_64")]
    const AVX2: RowDot = dot_avx2;

    #[inline(always)]
    fn unpack(isa: Isa, block: &[u8], values: &mut [u8], scales: &mut [f32], _minima: &mut [f32]) {
        scales[0] = half_at(isa, block, 0);
        unpack_halves(&block[2..], values);
        look_up(values);
    }

    #[inline]
    fn quantize(x: &[f32], block: &mut [u8]) {
        let inverse = inverse(store_half(block, 0, table_scale(x, &LEVELS, nearest)));
        pack_halves(&mut block[2..], |j| nearest(x[j] * inverse));
    }
}

/// Replaces numbers of levels by the levels.
#[inline(always)]
pub(crate) fn look_up(values: &mut [u8]) {
    for value in values {
        *value = UNSIGNED[usize::from(*value & 15)];
    }
}

/// The number of the level next to `x`.
pub(crate) fn nearest(x: f32) -> i32 {
    let above = LEVELS.partition_point(|&level| f32::from(level) < x).clamp(1, LEVELS.len() - 1);
    let (low, high) = (f32::from(LEVELS[above - 1]), f32::from(LEVELS[above]));
    (if x - low <= high - x { above - 1 } else { above }) as i32
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn dot_avx2(rows: Rows<'_>, x: Row<'_>, out: &mut [f32]) {
    use super::dot::avx2::load_half;
    use super::dot::pairs::{self, add_scaled, eight_halves, signed_products};
    use super::nibbles::avx2::pair;
    use std::arch::x86_64::{_mm256_broadcastsi128_si256, _mm256_shuffle_epi8};
    let levels = _mm256_broadcastsi128_si256(load_half(&LEVELS.map(|level| level as u8)));
    pairs::rows(rows, x, out, 0, |sums, bytes: &[u8; 8 * BYTES], x, place| {
        let products = signed_products(x, |i| {
            pair::<BYTES, 2, _>(bytes, i, place).map(|numbers| _mm256_shuffle_epi8(levels, numbers))
        });
        add_scaled(sums, x, products, eight_halves::<BYTES, 0, _>(bytes))
    });
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
fn dot_avx512(rows: Rows<'_>, x: Row<'_>, out: &mut [f32]) {
    use super::dot::avx2::load_half;
    use super::dot::avx512;
    use super::nibbles::avx512::{Halves, add_products, four_blocks, half_scales};
    use std::arch::x86_64::*;
    let levels = _mm512_broadcast_i32x4(load_half(&UNSIGNED));
    avx512::rows(
        rows,
        x,
        out,
        |[x]| Halves::new(x, Format::OFFSET),
        |sums, bytes: &[u8; 8 * BYTES], x, place| {
            add_products(sums, x, |h| {
                place.ask_ahead(bytes, 2 * h, 4);
                let numbers = four_blocks::<BYTES, 2, { 8 * BYTES }>(bytes, h);
                let values = numbers.map(|numbers| _mm512_shuffle_epi8(levels, numbers));
                place.ask_ahead(bytes, 2 * h + 1, 4);
                (values, half_scales::<BYTES, 0, { 8 * BYTES }>(bytes, h))
            })
        },
        |sums| avx512::total(sums),
    );
}
