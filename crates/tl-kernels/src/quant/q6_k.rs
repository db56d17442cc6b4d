//! Q6_K: blocks of 256 elements (210 bytes): 128 bytes of low halves, 64 bytes of upper two bits, 16 signed bytes of scales for 16
//! elements each, and an `f16` for the scales. In each 128 elements, the low halves of 64 bytes are elements 0 to 63, the high ones 64
//! to 127; bits `2i` and `2i + 1` of byte `j` of 32 belong to element `32i + j`. value = scale * (level - 32). Source: the GGML
//! formats of GGUF.
#![allow(unsafe_code)]

use super::block::{BlockFormat, integer};
use super::search::{inverse, round_to_level, signed_scale};
#[cfg(target_arch = "x86_64")]
use super::{Rows, activations::Row, block::RowDot};
use super::{WeightKernels, half_at, store_half};
use crate::isa::Isa;

const ELEMS: usize = 256;
const BYTES: usize = 210;
/// Where the upper bits, the scales and their scale are.
const UPPER: usize = 128;
const SCALES: usize = 192;
const SCALE: usize = 208;

/// Q6_K, 6.6 bits per weight.
pub static Q6_K: WeightKernels = integer::<Format>();

#[derive(Clone, Copy)]
struct Format;

impl BlockFormat for Format {
    const ELEMS: usize = ELEMS;
    const BYTES: usize = BYTES;
    const GROUP: usize = 16;
    const OFFSET: u8 = 32;
    const HAS_MINIMA: bool = false;
    #[cfg(target_arch = "x86_64")]
    const AVX512: RowDot = dot_avx512;
    #[cfg(target_arch = "x86_64")]
    const AVX2: RowDot = dot_avx2;

    #[inline(always)]
    fn unpack(isa: Isa, block: &[u8], values: &mut [u8], scales: &mut [f32], _minima: &mut [f32]) {
        let scale = half_at(isa, block, SCALE);
        for (out, byte) in scales.iter_mut().zip(&block[SCALES..SCALE]) {
            *out = scale * f32::from(*byte as i8);
        }
        let parts = block[..UPPER].chunks_exact(64).zip(block[UPPER..SCALES].chunks_exact(32));
        for (values, (halves, upper)) in values.chunks_exact_mut(128).zip(parts) {
            for (i, values) in values.chunks_exact_mut(32).enumerate() {
                for (j, value) in values.iter_mut().enumerate() {
                    let half = halves[i % 2 * 32 + j] >> (i / 2 * 4) & 15;
                    *value = half | (upper[j] >> (2 * i) & 3) << 4;
                }
            }
        }
    }

    #[inline]
    fn quantize(x: &[f32], block: &mut [u8]) {
        let (groups, _) = x.as_chunks::<16>();
        let wanted: [f32; 16] = std::array::from_fn(|g| signed_scale(&groups[g], 32));
        let largest = wanted.iter().fold(0.0, |max: f32, &s| if s.abs() > max.abs() { s } else { max });
        let scale = store_half(block, SCALE, largest / -128.0);
        let mut levels = [0u8; ELEMS];
        for (g, (x, levels)) in groups.iter().zip(levels.as_chunks_mut::<16>().0).enumerate() {
            let byte = round_to_level(wanted[g] * inverse(scale), -128, 127) as i8;
            block[SCALES + g] = byte as u8;
            let inverse = inverse(scale * f32::from(byte));
            for (x, level) in x.iter().zip(levels) {
                *level = (round_to_level(x * inverse, -32, 31) + 32) as u8;
            }
        }
        for (part, levels) in levels.as_chunks::<128>().0.iter().enumerate() {
            for j in 0..64 {
                block[part * 64 + j] = levels[j] & 15 | (levels[64 + j] & 15) << 4;
            }
            for j in 0..32 {
                block[UPPER + part * 32 + j] = (0..4).fold(0, |bits, i| bits | levels[32 * i + j] >> 4 << (2 * i));
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn dot_avx2(rows: Rows<'_>, x: Row<'_>, out: &mut [f32]) {
    use super::block::array;
    use super::dot::avx2::{half_to_f32, load_half};
    use super::dot::pairs::{self, both, products_of_16};
    use std::arch::x86_64::*;
    pairs::rows(rows, x, out, Format::OFFSET, |[sum, other], bytes: &[u8; BYTES], x, place| {
        let (mask, bits) = (_mm256_set1_epi8(15), _mm256_set1_epi8(0x30));
        // Block `i` is in the first 128 elements, block `i + 4` in the last.
        let pair = |i: usize| {
            place.ask_ahead(bytes, i, 4);
            let half = |last: usize| {
                let at = i % 2 * 32 + last * 16;
                let halves = both(array(&bytes[at..][..16]), array(&bytes[at + 64..][..16]));
                let halves = if i < 2 { halves } else { _mm256_srli_epi16::<4>(halves) };
                let at = UPPER + last * 16;
                let upper = both(array(&bytes[at..][..16]), array(&bytes[at + 32..][..16]));
                let upper = match i {
                    0 => _mm256_slli_epi16::<4>(upper),
                    1 => _mm256_slli_epi16::<2>(upper),
                    2 => upper,
                    _ => _mm256_srli_epi16::<2>(upper),
                };
                _mm256_or_si256(_mm256_and_si256(halves, mask), _mm256_and_si256(upper, bits))
            };
            [half(0), half(1)]
        };
        let [first, last] = products_of_16(x, pair).map(|products| _mm256_cvtepi32_ps(products));
        // The scales of each block's first 16 elements and of its last are the low and the high byte of a word.
        let scales = _mm256_cvtepi16_epi32(load_half(array(&bytes[SCALES..SCALE])));
        let of_first = _mm256_cvtepi32_ps(_mm256_srai_epi32::<24>(_mm256_slli_epi32::<24>(scales)));
        let of_last = _mm256_cvtepi32_ps(_mm256_srai_epi32::<8>(scales));
        let products = _mm256_fmadd_ps(first, of_first, _mm256_mul_ps(last, of_last));
        let scale = _mm256_set1_ps(half_to_f32([bytes[SCALE], bytes[SCALE + 1]]));
        [_mm256_fmadd_ps(products, _mm256_mul_ps(scale, x.scales), sum), other]
    });
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
fn dot_avx512(rows: Rows<'_>, x: Row<'_>, out: &mut [f32]) {
    use super::block::array;
    use super::dot::avx2::{half_to_f32, load_bytes, load_half};
    use super::dot::avx512::{self, FOURS, SixteenScales, indexes, load_64};
    use std::arch::x86_64::*;
    // The two bits of each half of a register come to places 4 and 5.
    let shifts = |low: i16, high: i16| {
        _mm512_inserti64x4::<1>(_mm512_castsi256_si512(_mm256_set1_epi16(low)), _mm256_set1_epi16(high))
    };
    let (left, right) = (shifts(4, 2), shifts(0, 2));
    avx512::rows(
        rows,
        x,
        out,
        |[x]| SixteenScales::new(x, Format::OFFSET),
        |mut sums, bytes: &[u8; BYTES], x, place| {
            let bytes_of_scales = _mm512_cvtepi8_epi32(load_half(array(&bytes[SCALES..SCALE])));
            let scale = _mm512_set1_ps(half_to_f32([bytes[SCALE], bytes[SCALE + 1]]));
            let scales = _mm512_mul_ps(_mm512_cvtepi32_ps(bytes_of_scales), _mm512_mul_ps(scale, x.scales));
            sums[1] = _mm512_fmadd_ps(scales, x.corrections, sums[1]);
            let (mask, bits) = (_mm512_set1_epi8(15), _mm512_set1_epi8(0x30));
            for part in 0..2 {
                let halves = load_64(array(&bytes[part * 64..][..64]));
                let upper = _mm512_broadcast_i64x4(load_bytes(array(&bytes[UPPER + part * 32..][..32])));
                let with_upper = |halves: __m512i, upper: __m512i| {
                    _mm512_or_si512(_mm512_and_si512(halves, mask), _mm512_and_si512(upper, bits))
                };
                let levels = [
                    with_upper(halves, _mm512_sllv_epi16(upper, left)),
                    with_upper(_mm512_srli_epi16::<4>(halves), _mm512_srlv_epi16(upper, right)),
                ];
                for (i, levels) in levels.into_iter().enumerate() {
                    let q = 2 * part + i;
                    place.ask_ahead(bytes, q, 4);
                    let products = _mm512_dpbusd_epi32(_mm512_setzero_si512(), levels, x.values[q]);
                    let scale = _mm512_permutexvar_ps(indexes(&FOURS[q]), scales);
                    sums[i] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products), scale, sums[i]);
                }
            }
            sums
        },
        |sums| avx512::total(sums),
    );
}
