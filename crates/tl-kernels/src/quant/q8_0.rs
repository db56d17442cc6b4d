//! Q8_0: blocks of an `f16` scale and 32 signed bytes (34 bytes); value = scale * byte. Source: the GGML formats of GGUF.
#![allow(unsafe_code)]

use super::activations::quantize_block;
use super::block::{BlockFormat, array, integer};
#[cfg(target_arch = "x86_64")]
use super::{Rows, activations::Row, block::RowDot};
use super::{WeightKernels, half_at, store_half};
use crate::isa::Isa;
use crate::kept::Kept;
use bytemuck::{Pod, Zeroable};

const ELEMS: usize = 32;
const BYTES: usize = 34;

/// Q8_0, 8.5 bits per weight.
pub static Q8_0: WeightKernels = integer::<Format>();

#[derive(Clone, Copy)]
struct Format;

impl BlockFormat for Format {
    const ELEMS: usize = ELEMS;
    const BYTES: usize = BYTES;
    const GROUP: usize = 32;
    const OFFSET: u8 = 128;
    const HAS_MINIMA: bool = false;
    #[cfg(target_arch = "x86_64")]
    const AVX512: RowDot = dot_avx512;
    #[cfg(target_arch = "x86_64")]
    const AVX2: RowDot = dot_avx2;

    #[inline(always)]
    fn unpack(isa: Isa, block: &[u8], values: &mut [u8], scales: &mut [f32], _minima: &mut [f32]) {
        scales[0] = half_at(isa, block, 0);
        for (value, byte) in values.iter_mut().zip(&block[2..]) {
            *value = byte ^ 128;
        }
    }

    #[inline]
    fn quantize(x: &[f32], block: &mut [u8]) {
        let mut values = [0; ELEMS];
        store_half(block, 0, quantize_block(array(x), &mut values));
        block[2..].copy_from_slice(bytemuck::cast_slice(&values));
    }
}

/// A block as attention reads keys and values.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Q8Block {
    scale: [u8; 2],
    values: [i8; ELEMS],
}

// SAFETY: arrays of 2 and 32 bytes: 34 bytes without padding, and every pattern is a value.
unsafe impl Zeroable for Q8Block {}
// SAFETY: as above.
unsafe impl Pod for Q8Block {}

impl Kept for Q8Block {
    const ELEMS: usize = ELEMS;
    type Element = f32;

    #[inline(always)]
    fn as_elements(_slice: &[Q8Block]) -> Option<&[f32]> {
        None
    }

    #[inline(always)]
    fn load(isa: Isa, src: &[Q8Block], dst: &mut [f32]) {
        assert_eq!(src.len() * ELEMS, dst.len());
        for (block, dst) in src.iter().zip(dst.as_chunks_mut::<ELEMS>().0) {
            let scale = half_at(isa, &block.scale, 0);
            // The values are copied: through references this does not become vector instructions.
            for (x, value) in dst.iter_mut().zip(block.values) {
                *x = scale * f32::from(value);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn dot_avx2(rows: Rows<'_>, x: Row<'_>, out: &mut [f32]) {
    use super::dot::pairs::{self, add_scaled, both, eight_halves, signed_products};
    pairs::rows(rows, x, out, 0, |sums, bytes: &[u8; 8 * BYTES], x, place| {
        let pair = |i: usize| {
            place.ask_ahead(bytes, i, 4);
            let half = |at| both(array(&bytes[i * BYTES + at..][..16]), array(&bytes[(i + 4) * BYTES + at..][..16]));
            [half(2), half(18)]
        };
        add_scaled(sums, x, signed_products(x, pair), eight_halves::<BYTES, 0, _>(bytes))
    });
}

/// Two blocks to a register. The scales of eight blocks are brought together, multiplied with the activations', and spread over the
/// lanes of their blocks again: that takes less than a register of the activations' scales for each two blocks, and what
/// is kept of the activations stays in the first cache beside the weights that stream through it.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
fn dot_avx512(rows: Rows<'_>, x: Row<'_>, out: &mut [f32]) {
    use super::dot::avx2::load_bytes;
    use super::dot::avx512::{self, EightScales, PAIRS, indexes, load_opaque, load_words};
    use std::arch::x86_64::*;
    avx512::rows(
        rows,
        x,
        out,
        |[x]| EightScales::new(x, Format::OFFSET),
        |mut sums, bytes: &[u8; 8 * BYTES], x, place| {
            let pair = |q: usize| -> &[u8; 2 * BYTES] { array(&bytes[q * 2 * BYTES..][..2 * BYTES]) };
            let mut scales = _mm512_setzero_si512();
            for (q, places) in SCALES.iter().enumerate() {
                let first = load_opaque(array(&pair(q)[..64]));
                scales = _mm512_mask_permutexvar_epi16(scales, 3 << (2 * q), load_words(places), first);
            }
            let scales = _mm256_mul_ps(_mm256_cvtph_ps(_mm512_castsi512_si128(scales)), x.scales);
            let scales = _mm512_zextps256_ps512(scales);
            sums[0] = _mm512_fmadd_ps(scales, _mm512_zextps256_ps512(x.corrections), sums[0]);
            for q in 0..4 {
                place.ask_ahead(bytes, q, 4);
                let first = _mm512_castsi256_si512(load_bytes(array(&pair(q)[2..34])));
                let both = _mm512_inserti64x4::<1>(first, load_bytes(array(&pair(q)[36..])));
                let weights = _mm512_xor_si512(both, _mm512_set1_epi8(-128));
                let products = _mm512_dpbusd_epi32(_mm512_setzero_si512(), weights, x.values[q]);
                let scales = _mm512_permutexvar_ps(indexes(&PAIRS[q]), scales);
                sums[q % 2] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products), scales, sums[q % 2]);
            }
            sums
        },
        |sums| avx512::total(sums),
    );
}

/// In words `2 q` and `2 q + 1`, where the scales of two blocks are.
#[cfg(target_arch = "x86_64")]
const SCALES: [[u16; 32]; 4] = {
    let mut tables = [[0; 32]; 4];
    let mut q = 0;
    while q < 4 {
        tables[q][2 * q + 1] = BYTES as u16 / 2;
        q += 1;
    }
    tables
};
