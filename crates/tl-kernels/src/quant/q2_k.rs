//! Q2_K: blocks of 256 elements (84 bytes): 16 bytes, each with a scale (low half) and a minimum (high half) of four bits for 16
//! elements, 64 bytes of levels in pairs of bits, an `f16` for the scales and an `f16` for the minima. value = scale * level -
//! minimum. Source: the GGML formats of GGUF.
#![allow(unsafe_code)]

use super::block::{BlockFormat, integer};
use super::search::{inverse, nearest_fit, round_to_level, scale_and_minimum};
use super::two_bits::{pack_pairs, unpack_pairs};
#[cfg(target_arch = "x86_64")]
use super::{Rows, activations::Row, block::RowDot};
use super::{WeightKernels, half_at, store_half};
use crate::isa::Isa;

const ELEMS: usize = 256;
const BYTES: usize = 84;
/// Where the levels, the scale of the scales and that of the minima are.
const LEVELS: usize = 16;
const SCALE: usize = 80;
const MINIMUM: usize = 82;
/// The largest level.
const TOP: i32 = 3;

/// Q2_K, 2.6 bits per weight.
pub static Q2_K: WeightKernels = integer::<Format>();

#[derive(Clone, Copy)]
struct Format;

impl BlockFormat for Format {
    const ELEMS: usize = ELEMS;
    const BYTES: usize = BYTES;
    const GROUP: usize = 16;
    const OFFSET: u8 = 0;
    const HAS_MINIMA: bool = true;
    #[cfg(target_arch = "x86_64")]
    const AVX512: RowDot = dot_avx512;
    #[cfg(target_arch = "x86_64")]
    const AVX2: RowDot = dot_avx2;

    #[inline(always)]
    fn unpack(isa: Isa, block: &[u8], values: &mut [u8], scales: &mut [f32], minima: &mut [f32]) {
        let (scale, minimum) = (half_at(isa, block, SCALE), half_at(isa, block, MINIMUM));
        for ((byte, out), low) in block[..LEVELS].iter().zip(scales).zip(minima) {
            *out = scale * f32::from(byte & 15);
            *low = -(minimum * f32::from(byte >> 4));
        }
        unpack_pairs(&block[LEVELS..SCALE], values);
    }

    #[inline]
    fn quantize(x: &[f32], block: &mut [u8]) {
        let (groups, _) = x.as_chunks::<16>();
        let mut wanted = [(0.0, 0.0); 16];
        for (wanted, x) in wanted.iter_mut().zip(groups) {
            let (scale, minimum) = scale_and_minimum(x, TOP, true);
            *wanted = (scale, -minimum);
        }
        let largest = |part: fn(&(f32, f32)) -> f32| wanted.iter().map(part).fold(0.0, f32::max) / 15.0;
        let scale = store_half(block, SCALE, largest(|(scale, _)| *scale));
        let minimum = store_half(block, MINIMUM, largest(|(_, minimum)| *minimum));
        let mut levels = [0; ELEMS];
        for (g, (x, levels)) in groups.iter().zip(levels.as_chunks_mut::<16>().0).enumerate() {
            // Four bits round far: the neighbours of what is nearest to the one and the other may be nearer together.
            let near = |wanted: f32, of: f32| {
                let middle = round_to_level(wanted * inverse(of), 0, 15);
                [middle, (middle - 1).max(0), (middle + 1).min(15)]
            };
            let (scales, minima) = (near(wanted[g].0, scale), near(wanted[g].1, minimum));
            let fit = |i: usize| (scale * scales[i / 3] as f32, -(minimum * minima[i % 3] as f32));
            let best = nearest_fit(x, TOP, &std::array::from_fn::<_, 9, _>(fit));
            block[g] = (scales[best / 3] | minima[best % 3] << 4) as u8;
            let (scale, minimum) = fit(best);
            let inverse = inverse(scale);
            for (x, level) in x.iter().zip(levels) {
                *level = round_to_level((x - minimum) * inverse, 0, TOP) as u8;
            }
        }
        pack_pairs(&levels, &mut block[LEVELS..SCALE]);
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn dot_avx2(rows: Rows<'_>, x: Row<'_>, out: &mut [f32]) {
    use super::block::array;
    use super::dot::avx2::{half_to_f32, load_half};
    use super::dot::pairs::{self, sums_of_16};
    use super::two_bits::avx2::{pair, scaled};
    use std::arch::x86_64::*;
    // With an offset of one, what stands for it are the sums of the activations, which the minima are multiplied by.
    pairs::rows(rows, x, out, 1, |[sum, minima], bytes: &[u8; BYTES], x, place| {
        let header = _mm256_cvtepu8_epi16(load_half(array(&bytes[..LEVELS])));
        let of_scales = _mm256_and_si256(header, _mm256_set1_epi16(15));
        let products = scaled(sums_of_16(x, |i| pair::<LEVELS, _>(bytes, i, place)), of_scales);
        let below = scaled(x.offsets, _mm256_srli_epi16::<4>(header));
        let scale = _mm256_set1_ps(half_to_f32([bytes[SCALE], bytes[SCALE + 1]]));
        let minimum = _mm256_set1_ps(half_to_f32([bytes[MINIMUM], bytes[MINIMUM + 1]]));
        [
            _mm256_fmadd_ps(_mm256_cvtepi32_ps(products), _mm256_mul_ps(scale, x.scales), sum),
            _mm256_fnmadd_ps(_mm256_cvtepi32_ps(below), _mm256_mul_ps(minimum, x.scales), minima),
        ]
    });
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
fn dot_avx512(rows: Rows<'_>, x: Row<'_>, out: &mut [f32]) {
    use super::block::array;
    use super::dot::avx2::{half_to_f32, load_half};
    use super::dot::avx512::{self, load_64};
    use super::two_bits::avx512::{Quarters, add_products, subtract_sums, words_of_lanes};
    use std::arch::x86_64::*;
    avx512::rows(
        rows,
        x,
        out,
        |[x]| Quarters::new(x, 1),
        |[sum, below], bytes: &[u8; BYTES], x, place| {
            let bits = load_64(array(&bytes[LEVELS..SCALE]));
            let high = _mm512_srli_epi16::<4>(bits);
            let (first, second) = (_mm512_set1_epi8(0b0011), _mm512_set1_epi8(0b1100));
            let levels = [
                _mm512_and_si512(bits, first),
                _mm512_and_si512(bits, second),
                _mm512_and_si512(high, first),
                _mm512_and_si512(high, second),
            ];
            let header = load_half(array(&bytes[..LEVELS]));
            let scales = words_of_lanes(_mm_and_si128(header, _mm_set1_epi8(15)));
            let minima = _mm256_srli_epi16::<4>(_mm256_cvtepu8_epi16(header));
            let scale = half_to_f32([bytes[SCALE], bytes[SCALE + 1]]);
            let minimum = half_to_f32([bytes[MINIMUM], bytes[MINIMUM + 1]]);
            [add_products(sum, bytes, levels, (scales, scale), x, place), subtract_sums(below, (minima, minimum), x)]
        },
        |sums| avx512::total(sums),
    );
}
