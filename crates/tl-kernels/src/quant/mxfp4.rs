//! MXFP4: blocks of a byte and 16 bytes of halves as in Q4_0 (17 bytes). The byte is an exponent of two (E8M0), each half a float
//! of four bits (E2M1): a sign and one of eight sizes. value = 2^(byte - 128) * twice the float, a whole number. Source: OCP
//! Microscaling Formats 1.0, and the GGML formats of GGUF, in which a byte of 255 is a power of two like the others.
#![allow(unsafe_code)]

use super::WeightKernels;
use super::block::{BlockFormat, integer};
use super::nibbles::{pack_halves, unpack_halves};
#[cfg(target_arch = "x86_64")]
use super::{Rows, activations::Row, block::RowDot};
use crate::isa::Isa;

const ELEMS: usize = 32;
const BYTES: usize = 17;

/// Twice the sizes; half 8 and those behind it are the same below zero.
const SIZES: [u8; 8] = [0, 1, 2, 3, 4, 6, 8, 12];
/// What is added to the levels to make them unsigned.
const OFFSET: u8 = 16;
/// The levels with the offset.
const UNSIGNED: [u8; 16] = {
    let mut unsigned = [0; 16];
    let mut i = 0;
    while i < 8 {
        unsigned[i] = OFFSET + SIZES[i];
        unsigned[8 + i] = OFFSET - SIZES[i];
        i += 1;
    }
    unsigned
};
/// The first exponent whose power of two is a normal number; the bits of the power of exponent 0.
const FIRST_NORMAL: u8 = 2;
const BITS_OF_ZERO: u32 = 1 << 21;

/// MXFP4, 4.25 bits per weight.
pub static MXFP4: WeightKernels = integer::<Format>();

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
    fn unpack(_isa: Isa, block: &[u8], values: &mut [u8], scales: &mut [f32], _minima: &mut [f32]) {
        scales[0] = power(block[0]);
        unpack_halves(&block[1..], values);
        for value in values {
            *value = UNSIGNED[usize::from(*value & 15)];
        }
    }

    /// The format's own rule: the exponent of the largest size is that of the largest value.
    #[inline]
    fn quantize(x: &[f32], block: &mut [u8]) {
        let largest = x.iter().fold(0.0, |max: f32, x| max.max(x.abs()));
        // The largest size is 1.5 * 2^2. An infinity has no exponent.
        let exponent = (largest.to_bits() >> 23) as u8;
        block[0] = if largest.is_finite() { exponent.saturating_sub(2) } else { 0 };
        let scale = power(block[0]);
        pack_halves(&mut block[1..], |j| nearest(x[j] / scale));
    }
}

/// 2^(exponent - 128).
#[inline(always)]
fn power(exponent: u8) -> f32 {
    let bits = match exponent < FIRST_NORMAL {
        true => BITS_OF_ZERO << exponent,
        false => (u32::from(exponent) - 1) << 23,
    };
    f32::from_bits(bits)
}

/// The number of the level next to `x`, of two that are as near the smaller one.
fn nearest(x: f32) -> i32 {
    let size = x.abs();
    let number =
        SIZES.windows(2).take_while(|pair| f32::from(pair[0]) + f32::from(pair[1]) < 2.0 * size).count() as i32;
    if x < 0.0 && number > 0 { 8 + number } else { number }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn dot_avx2(rows: Rows<'_>, x: Row<'_>, out: &mut [f32]) {
    use super::dot::avx2::load_half;
    use super::dot::pairs::{self, add_scaled, products};
    use super::nibbles::avx2::pair;
    use std::arch::x86_64::{_mm256_broadcastsi128_si256, _mm256_shuffle_epi8};
    let levels = _mm256_broadcastsi128_si256(load_half(&UNSIGNED));
    pairs::rows(rows, x, out, Format::OFFSET, |sums, bytes: &[u8; 8 * BYTES], x, place| {
        let products = products(x, |i| {
            let [first, last] = pair::<BYTES, 1, _>(bytes, i, place);
            [_mm256_shuffle_epi8(levels, first), _mm256_shuffle_epi8(levels, last)]
        });
        add_scaled(sums, x, products, vectors::eight_scales(bytes))
    });
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
fn dot_avx512(rows: Rows<'_>, x: Row<'_>, out: &mut [f32]) {
    use super::block::array;
    use super::dot::avx2::load_half;
    use super::dot::avx512::{self, load_opaque};
    use super::nibbles::avx512::{Halves, add_products, four_of_window};
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
                let window = load_opaque(array(&bytes[4 * h * BYTES..][..64]));
                let last = array(&bytes[(4 * h + 3) * BYTES + 1..][..16]);
                let numbers = four_of_window::<BYTES, 1>(window, last);
                let values = [_mm512_shuffle_epi8(levels, numbers[0]), _mm512_shuffle_epi8(levels, numbers[1])];
                place.ask_ahead(bytes, 2 * h + 1, 4);
                (values, vectors::four_scales(window))
            })
        },
        |sums| avx512::total(sums),
    );
}

/// Scales of several blocks at once.
#[cfg(target_arch = "x86_64")]
mod vectors {
    use super::{BITS_OF_ZERO, BYTES, FIRST_NORMAL};
    use crate::quant::block::array;
    use crate::quant::dot::avx2::load_half;
    use crate::quant::dot::avx512::load_64;
    use std::arch::x86_64::*;

    /// The powers of eight blocks.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn eight_scales(bytes: &[u8; 8 * BYTES]) -> __m256 {
        // 16 bytes from such a place that byte `b` is the first of block `b`.
        let around = |b: usize| load_half(array(&bytes[b * (BYTES - 1)..][..16]));
        // Of four blocks that lie two apart, each in a word.
        let four = |first: usize| {
            let low = _mm_blend_epi16::<0b0010>(around(first), around(first + 2));
            let high = _mm_blend_epi16::<0b1000>(around(first + 4), around(first + 6));
            _mm_blend_epi16::<0b1100>(low, high)
        };
        let exponents = _mm_blendv_epi8(four(0), four(1), _mm_set1_epi16(0xFF00_u16 as i16));
        let exponents = _mm256_cvtepu8_epi32(exponents);
        let normal = _mm256_slli_epi32::<23>(_mm256_sub_epi32(exponents, _mm256_set1_epi32(1)));
        let small = _mm256_sllv_epi32(_mm256_set1_epi32(BITS_OF_ZERO as i32), exponents);
        let is_small = _mm256_cmpgt_epi32(_mm256_set1_epi32(i32::from(FIRST_NORMAL)), exponents);
        _mm256_castsi256_ps(_mm256_blendv_epi8(normal, small, is_small))
    }

    /// Where the exponent of each of four blocks is, at the first byte of each of its four lanes.
    const EXPONENTS: [u8; 64] = {
        let mut places = [0; 64];
        let mut i = 0;
        while i < 64 {
            places[i] = (i / 16 * BYTES) as u8;
            i += 1;
        }
        places
    };

    /// The powers of the four blocks that begin in 64 bytes, over four lanes each.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi")]
    pub(super) fn four_scales(window: __m512i) -> __m512 {
        let exponents = _mm512_maskz_permutexvar_epi8(0x1111_1111_1111_1111, load_64(&EXPONENTS), window);
        let normal = _mm512_slli_epi32::<23>(_mm512_sub_epi32(exponents, _mm512_set1_epi32(1)));
        let is_small = _mm512_cmplt_epi32_mask(exponents, _mm512_set1_epi32(i32::from(FIRST_NORMAL)));
        let zero = _mm512_set1_epi32(BITS_OF_ZERO as i32);
        _mm512_castsi512_ps(_mm512_mask_sllv_epi32(normal, is_small, zero, exponents))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Random, all_threads};
    use crate::{Weight, linear};

    /// From the smallest scale, below the normal numbers, to the largest.
    #[test]
    fn every_exponent() {
        let levels: [f64; ELEMS] = std::array::from_fn(|j| f64::from(UNSIGNED[j * 5 % 16]) - f64::from(OFFSET));
        for exponent in 0..=255 {
            let scale = (f64::from(exponent) - 128.0).exp2();
            let mut block = [exponent; BYTES];
            pack_halves(&mut block[1..], |j| (j * 5 % 16) as i32);
            let mut values = [0.0; ELEMS];
            (MXFP4.dequantize)(Isa::detect(), &block, &mut values);
            assert_eq!(values, levels.map(|level| (scale * level) as f32), "{exponent}");
            // Activations that are not rounded, and bring the weights near one: all sums are exact.
            let near_one = scale.recip().clamp((-100f64).exp2(), 100f64.exp2());
            let whole = |j: usize| if j == 0 { 127.0 } else { (j * 37 % 251) as f64 - 125.0 };
            let x: [f32; ELEMS] = std::array::from_fn(|j| (whole(j) * near_one) as f32);
            let sum: f64 = levels.iter().enumerate().map(|(j, level)| level * whole(j)).sum();
            for threads in all_threads() {
                let mut y = [f32::NAN];
                linear(&threads, &x, 1, ELEMS, Weight { bytes: &block, format: &MXFP4 }, None, 1, &mut y);
                assert_eq!(f64::from(y[0]), sum * scale * near_one, "{exponent} {threads:?}");
            }
        }
    }

    #[test]
    fn the_nearest_level() {
        let level = |number: i32| i32::from(UNSIGNED[number as usize]) - i32::from(OFFSET);
        let mut random = Random::new(3);
        for x in (0..2000).map(|_| random.unit() * 16.0).chain([0.0, -0.0, 5.0, -5.0, 12.0, -13.0, 0.5, f32::MIN]) {
            let found = (level(nearest(x)) as f32 - x).abs();
            let least = (0..16).map(|number| (level(number) as f32 - x).abs()).fold(f32::INFINITY, f32::min);
            assert_eq!(found, least, "{x}");
        }
        assert_eq!([5.0, -5.0, 0.5, -0.25].map(nearest), [4, 12, 0, 0]);
    }
}
