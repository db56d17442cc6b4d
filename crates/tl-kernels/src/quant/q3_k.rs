//! Q3_K: blocks of 256 elements (110 bytes): 32 bytes of third bits (bit `s` of byte `j` is that of element `j` of sub-block `s` of
//! 32), 64 bytes of pairs of bits, 12 bytes with 16 scales of six bits for 16 elements each, and an `f16` for the scales.
//! value = scale * (six bits - 32) * (level - 4). Source: the GGML formats of GGUF.
#![allow(unsafe_code)]

use super::block::{BlockFormat, array, array_mut, integer};
use super::search::{inverse, round_to_level, signed_scale};
use super::two_bits::{pack_pairs, unpack_pairs};
#[cfg(target_arch = "x86_64")]
use super::{Rows, activations::Row, block::RowDot, dot::avx2::load_half};
use super::{WeightKernels, half_at, store_half};
use crate::isa::Isa;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

const ELEMS: usize = 256;
const BYTES: usize = 110;
/// Where the pairs of bits, the scales and their scale are.
const PAIRS: usize = 32;
const SCALES: usize = 96;
const SCALE: usize = 108;

/// Q3_K, 3.4 bits per weight.
pub static Q3_K: WeightKernels = integer::<Format>();

#[derive(Clone, Copy)]
struct Format;

/// The scales, from -32 to 31: the lower four bits of `i` and `i + 8` share byte `i`, the upper two of `i`, `i + 4`, `i + 8` and
/// `i + 12` byte `8 + i`.
#[inline(always)]
fn six_bits(bytes: &[u8; 12]) -> [i8; 16] {
    let mut scales = [0; 16];
    for (i, scale) in scales.iter_mut().enumerate() {
        let low = bytes[i % 8] >> (i / 8 * 4) & 15;
        let high = bytes[8 + i % 4] >> (i / 4 * 2) & 3;
        *scale = (low | high << 4) as i8 - 32;
    }
    scales
}

fn pack_six_bits(scales: &[i8; 16], bytes: &mut [u8; 12]) {
    bytes.fill(0);
    for (i, scale) in scales.iter().enumerate() {
        let six = (scale + 32) as u8;
        bytes[i % 8] |= (six & 15) << (i / 8 * 4);
        bytes[8 + i % 4] |= six >> 4 << (i / 4 * 2);
    }
}

impl BlockFormat for Format {
    const ELEMS: usize = ELEMS;
    const BYTES: usize = BYTES;
    const GROUP: usize = 16;
    const OFFSET: u8 = 4;
    const HAS_MINIMA: bool = false;
    #[cfg(target_arch = "x86_64")]
    const AVX512: RowDot = dot_avx512;
    #[cfg(target_arch = "x86_64")]
    const AVX2: RowDot = dot_avx2;

    #[inline(always)]
    fn unpack(isa: Isa, block: &[u8], values: &mut [u8], scales: &mut [f32], _minima: &mut [f32]) {
        let scale = half_at(isa, block, SCALE);
        for (out, six) in scales.iter_mut().zip(six_bits(array(&block[SCALES..SCALE]))) {
            *out = scale * f32::from(six);
        }
        unpack_pairs(&block[PAIRS..SCALES], values);
        for (sub, values) in values.chunks_exact_mut(32).enumerate() {
            for (value, bits) in values.iter_mut().zip(&block[..PAIRS]) {
                *value |= (bits >> sub & 1) << 2;
            }
        }
    }

    #[inline]
    fn quantize(x: &[f32], block: &mut [u8]) {
        let (groups, _) = x.as_chunks::<16>();
        let wanted: [f32; 16] = std::array::from_fn(|g| signed_scale(&groups[g], 4));
        let largest = wanted.iter().fold(0.0, |max: f32, &s| if s.abs() > max.abs() { s } else { max });
        let scale = store_half(block, SCALE, largest / -32.0);
        let (mut sixes, mut levels) = ([0; 16], [0; ELEMS]);
        for (g, (x, levels)) in groups.iter().zip(levels.as_chunks_mut::<16>().0).enumerate() {
            sixes[g] = round_to_level(wanted[g] * inverse(scale), -32, 31) as i8;
            let inverse = inverse(scale * f32::from(sixes[g]));
            for (x, level) in x.iter().zip(levels) {
                *level = (round_to_level(x * inverse, -4, 3) + 4) as u8;
            }
        }
        pack_six_bits(&sixes, array_mut(&mut block[SCALES..SCALE]));
        pack_pairs(&levels, &mut block[PAIRS..SCALES]);
        block[..PAIRS].fill(0);
        for (sub, levels) in levels.as_chunks::<32>().0.iter().enumerate() {
            for (bits, level) in block[..PAIRS].iter_mut().zip(levels) {
                *bits |= (level >> 2) << sub;
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn dot_avx2(rows: Rows<'_>, x: Row<'_>, out: &mut [f32]) {
    use super::dot::avx2::half_to_f32;
    use super::dot::pairs::{self, products_of_16};
    use super::two_bits::avx2::{pair, scaled};
    pairs::rows(rows, x, out, Format::OFFSET, |[sum, other], bytes: &[u8; BYTES], x, place| {
        let (first, last) = (thirds(array(&bytes[..16])), thirds(array(&bytes[16..PAIRS])));
        let with_third = |i: usize| {
            let levels = pair::<PAIRS, _>(bytes, i, place);
            [add_third(levels[0], first, i), add_third(levels[1], last, i)]
        };
        // The lower four bits of 16 scales from bytes 0 to 7, the upper two from bytes 8 to 11.
        let header = load_half(array(&bytes[SCALES - 4..SCALE]));
        let words = _mm_srli_si128::<4>(header);
        let mask = _mm_set1_epi8(15);
        let low = _mm_unpacklo_epi64(_mm_and_si128(words, mask), _mm_and_si128(_mm_srli_epi16::<4>(words), mask));
        let high = _mm_srlv_epi32(_mm_shuffle_epi32::<0b11_11_11_11>(header), _mm_setr_epi32(0, 2, 4, 6));
        let high = _mm_slli_epi16::<4>(_mm_and_si128(high, _mm_set1_epi8(3)));
        let sixes = _mm_sub_epi8(_mm_or_si128(low, high), _mm_set1_epi8(32));
        let products = scaled(products_of_16(x, with_third), _mm256_cvtepi8_epi16(sixes));
        let scale = _mm256_set1_ps(half_to_f32([bytes[SCALE], bytes[SCALE + 1]]));
        [_mm256_fmadd_ps(_mm256_cvtepi32_ps(products), _mm256_mul_ps(scale, x.scales), sum), other]
    });
}

/// The third bits of 16 elements: bit `i` of a byte of the lower half, and bit `i + 4` of one of the upper half, at place `i`.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
fn thirds(bytes: &[u8; 16]) -> __m256i {
    let bits = _mm256_broadcastsi128_si256(load_half(bytes));
    _mm256_blend_epi32::<0b1111_0000>(bits, _mm256_srli_epi16::<4>(bits))
}

/// Adds 4 where bit `i` of [`thirds`] says so.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
fn add_third(levels: __m256i, thirds: __m256i, i: usize) -> __m256i {
    let bits = match i {
        0 => _mm256_slli_epi16::<2>(thirds),
        1 => _mm256_slli_epi16::<1>(thirds),
        2 => thirds,
        _ => _mm256_srli_epi16::<1>(thirds),
    };
    _mm256_or_si256(levels, _mm256_and_si256(bits, _mm256_set1_epi8(4)))
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
fn dot_avx512(rows: Rows<'_>, x: Row<'_>, out: &mut [f32]) {
    use super::dot::avx2::{half_to_f32, load_bytes};
    use super::dot::avx512::{self, load_64};
    use super::two_bits::avx512::{Quarters, add_products, subtract_sums, words_of_lanes};
    avx512::rows(
        rows,
        x,
        out,
        |[x]| Quarters::new(x, Format::OFFSET),
        |[sum, below], bytes: &[u8; BYTES], x, place| {
            let bits = load_64(array(&bytes[PAIRS..SCALES]));
            let high = _mm512_srli_epi16::<4>(bits);
            // Bit `i` of a byte of the lower half, and bit `i + 4` of one of the upper half, are at place `i`.
            let thirds = _mm512_broadcast_i64x4(load_bytes(array(&bytes[..PAIRS])));
            let thirds = _mm512_mask_srli_epi16::<4>(thirds, 0xFFFF_0000, thirds);
            let with_third = |[pairs, pair]: [__m512i; 2], [thirds, third]: [__m512i; 2]| {
                _mm512_or_si512(_mm512_and_si512(pairs, pair), _mm512_and_si512(thirds, third))
            };
            let (pair, third) = (_mm512_set1_epi8(0b0_0011), _mm512_set1_epi8(0b0_0100));
            let (next_pair, next_third) = (_mm512_set1_epi8(0b0_1100), _mm512_set1_epi8(0b1_0000));
            let levels = [
                with_third([bits, pair], [_mm512_slli_epi16::<2>(thirds), third]),
                with_third([bits, next_pair], [_mm512_slli_epi16::<3>(thirds), next_third]),
                with_third([high, pair], [thirds, third]),
                with_third([high, next_pair], [_mm512_slli_epi16::<1>(thirds), next_third]),
            ];
            // In both halves the first eight bytes of the scales, and the last four twice.
            let header = load_half(array(&bytes[SCALES - 4..SCALE]));
            let first = _mm_shuffle_epi8(header, _mm_setr_epi8(4, 5, 6, 7, 8, 9, 10, 11, 4, 5, 6, 7, 8, 9, 10, 11));
            let last = _mm_shuffle_epi32::<0b11_11_11_11>(header);
            let low = _mm_multishift_epi64_epi8(load_half(&LOW_BITS), first);
            let upper = _mm_multishift_epi64_epi8(load_half(&UPPER_BITS), last);
            let low = _mm_and_si128(low, _mm_set1_epi8(15));
            let sixes = _mm_or_si128(low, _mm_and_si128(upper, _mm_set1_epi8(0x30)));
            let scales = _mm512_sub_epi16(words_of_lanes(sixes), _mm512_set1_epi16(32));
            let sixes = _mm256_sub_epi16(_mm256_cvtepu8_epi16(sixes), _mm256_set1_epi16(32));
            let scale = half_to_f32([bytes[SCALE], bytes[SCALE + 1]]);
            [add_products(sum, bytes, levels, (scales, scale), x, place), subtract_sums(below, (sixes, scale), x)]
        },
        |sums| avx512::total(sums),
    );
}

/// For each scale, the bit where its lower four begin among the first eight bytes.
#[cfg(target_arch = "x86_64")]
const LOW_BITS: [u8; 16] = [0, 8, 16, 24, 32, 40, 48, 56, 4, 12, 20, 28, 36, 44, 52, 60];
/// The bit four before the one where its upper two begin, among the last four bytes, which are there twice.
#[cfg(target_arch = "x86_64")]
const UPPER_BITS: [u8; 16] = [28, 4, 12, 20, 30, 6, 14, 22, 0, 8, 16, 24, 2, 10, 18, 26];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn six_bits_come_back() {
        for seed in 0..64u8 {
            let scales = std::array::from_fn(|i| ((usize::from(seed) + 9 * i) % 64) as i8 - 32);
            let mut bytes = [0xFF; 12];
            pack_six_bits(&scales, &mut bytes);
            assert_eq!(six_bits(&bytes), scales);
        }
    }
}
