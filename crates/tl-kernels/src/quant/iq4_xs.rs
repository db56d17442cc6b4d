//! IQ4_XS: blocks of 256 elements (136 bytes): an `f16` for the scales, 16 bits with the upper two of the scales of eight
//! sub-blocks of 32 elements, four bytes with their lower four, and for each sub-block 16 bytes of halves as in IQ4_NL, each the
//! number of one of its levels. value = scale * (six bits - 32) * level. Source: the GGML formats of GGUF.
#![allow(unsafe_code)]

use super::block::{BlockFormat, integer};
use super::iq4_nl::{LEVELS, OFFSET, look_up, nearest};
use super::nibbles::{pack_halves, unpack_halves};
use super::search::{inverse, round_to_level, table_scale};
#[cfg(target_arch = "x86_64")]
use super::{Rows, activations::Row, block::RowDot};
use super::{WeightKernels, half_at, store_half};
use crate::isa::Isa;

const ELEMS: usize = 256;
const BYTES: usize = 136;
/// Sub-blocks of 32 elements.
const SUBS: usize = 8;
/// Where the upper and the lower bits of the scales, and the numbers are.
const UPPER: usize = 2;
const LOWER: usize = 4;
const NUMBERS: usize = 8;

/// IQ4_XS, 4.3 bits per weight.
pub static IQ4_XS: WeightKernels = integer::<Format>();

#[derive(Clone, Copy)]
struct Format;

/// The scales, from -32 to 31.
#[inline(always)]
fn six_bits(block: &[u8]) -> [i8; SUBS] {
    let upper = u16::from_le_bytes([block[UPPER], block[UPPER + 1]]);
    let mut scales = [0; SUBS];
    for (i, scale) in scales.iter_mut().enumerate() {
        let low = block[LOWER + i / 2] >> (i % 2 * 4) & 15;
        *scale = (low | ((upper >> (2 * i) & 3) as u8) << 4) as i8 - 32;
    }
    scales
}

fn pack_six_bits(scales: &[i8; SUBS], block: &mut [u8]) {
    block[UPPER..NUMBERS].fill(0);
    for (i, scale) in scales.iter().enumerate() {
        let six = (scale + 32) as u8;
        block[UPPER + i / 4] |= six >> 4 << (i % 4 * 2);
        block[LOWER + i / 2] |= (six & 15) << (i % 2 * 4);
    }
}

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
        let scale = half_at(isa, block, 0);
        for (out, six) in scales.iter_mut().zip(six_bits(block)) {
            *out = scale * f32::from(six);
        }
        for (bytes, values) in block[NUMBERS..].chunks_exact(16).zip(values.chunks_exact_mut(32)) {
            unpack_halves(bytes, values);
        }
        look_up(values);
    }

    #[inline]
    fn quantize(x: &[f32], block: &mut [u8]) {
        let (subs, _) = x.as_chunks::<32>();
        let wanted: [f32; SUBS] = std::array::from_fn(|i| table_scale(&subs[i], &LEVELS, nearest));
        let largest = wanted.iter().fold(0.0, |max: f32, &s| if s.abs() > max.abs() { s } else { max });
        let scale = store_half(block, 0, largest / -32.0);
        let sixes = wanted.map(|wanted| round_to_level(wanted * inverse(scale), -32, 31) as i8);
        pack_six_bits(&sixes, block);
        for ((x, six), bytes) in subs.iter().zip(sixes).zip(block[NUMBERS..].chunks_exact_mut(16)) {
            let inverse = inverse(scale * f32::from(six));
            pack_halves(bytes, |j| nearest(x[j] * inverse));
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn dot_avx2(rows: Rows<'_>, x: Row<'_>, out: &mut [f32]) {
    use super::block::array;
    use super::dot::avx2::{half_to_f32, load_half};
    use super::dot::pairs::{self, add_scaled, signed_products};
    use super::nibbles::avx2::pair;
    use std::arch::x86_64::*;
    let levels = _mm256_broadcastsi128_si256(load_half(&LEVELS.map(|level| level as u8)));
    pairs::rows(rows, x, out, 0, |sums, bytes: &[u8; BYTES], x, place| {
        let products = signed_products(x, |i| {
            let [first, last] = pair::<16, NUMBERS, _>(bytes, i, place);
            [_mm256_shuffle_epi8(levels, first), _mm256_shuffle_epi8(levels, last)]
        });
        let lower = _mm256_set1_epi32(i32::from_le_bytes(*array(&bytes[LOWER..NUMBERS])));
        let upper = _mm256_set1_epi32(i32::from(u16::from_le_bytes([bytes[UPPER], bytes[UPPER + 1]])) << 4);
        let lower = _mm256_srlv_epi32(lower, _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28));
        let upper = _mm256_srlv_epi32(upper, _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14));
        let lower = _mm256_and_si256(lower, _mm256_set1_epi32(15));
        let sixes = _mm256_or_si256(lower, _mm256_and_si256(upper, _mm256_set1_epi32(0x30)));
        let sixes = _mm256_cvtepi32_ps(_mm256_sub_epi32(sixes, _mm256_set1_epi32(32)));
        let scale = _mm256_set1_ps(half_to_f32([bytes[0], bytes[1]]));
        add_scaled(sums, x, products, _mm256_mul_ps(sixes, scale))
    });
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
fn dot_avx512(rows: Rows<'_>, x: Row<'_>, out: &mut [f32]) {
    use super::block::array;
    use super::dot::avx2::{half_to_f32, load_half};
    use super::dot::avx512::{self, load_64};
    use super::iq4_nl::UNSIGNED;
    use super::nibbles::avx512::{Halves, add_products, over_four};
    use std::arch::x86_64::*;
    let levels = _mm512_broadcast_i32x4(load_half(&UNSIGNED));
    avx512::rows(
        rows,
        x,
        out,
        |[x]| Halves::new(x, Format::OFFSET),
        |sums, bytes: &[u8; BYTES], x, place| {
            // For each of the eight scales, the bit where its lower four begin, and the one four before its upper two.
            let header = _mm_set1_epi64x(i64::from_le_bytes(*array(&bytes[..NUMBERS])));
            let lower = _mm_set1_epi64x(i64::from_le_bytes([32, 36, 40, 44, 48, 52, 56, 60]));
            let upper = _mm_set1_epi64x(i64::from_le_bytes([12, 14, 16, 18, 20, 22, 24, 26]));
            let lower = _mm_and_si128(_mm_multishift_epi64_epi8(lower, header), _mm_set1_epi8(15));
            let upper = _mm_and_si128(_mm_multishift_epi64_epi8(upper, header), _mm_set1_epi8(0x30));
            let sixes = _mm_sub_epi8(_mm_or_si128(lower, upper), _mm_set1_epi8(32));
            let sixes = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(sixes));
            let scales = _mm256_mul_ps(sixes, _mm256_set1_ps(half_to_f32([bytes[0], bytes[1]])));
            add_products(sums, x, |h| {
                place.ask_ahead(bytes, 2 * h, 4);
                let numbers = load_64(array(&bytes[NUMBERS + 64 * h..][..64]));
                let mask = _mm512_set1_epi8(15);
                let numbers =
                    [_mm512_and_si512(numbers, mask), _mm512_and_si512(_mm512_srli_epi16::<4>(numbers), mask)];
                let values = [_mm512_shuffle_epi8(levels, numbers[0]), _mm512_shuffle_epi8(levels, numbers[1])];
                place.ask_ahead(bytes, 2 * h + 1, 4);
                (values, over_four(scales, h))
            })
        },
        |sums| avx512::total(sums),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn six_bits_come_back() {
        for seed in 0..64 {
            let scales = std::array::from_fn(|i| ((seed + 23 * i) % 64) as i8 - 32);
            let mut block = [0xFF; NUMBERS];
            pack_six_bits(&scales, &mut block);
            assert_eq!(six_bits(&block), scales);
        }
    }
}
