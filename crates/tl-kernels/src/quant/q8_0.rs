//! Q8_0: blocks of an `f16` scale and 32 signed bytes (34 bytes); value = scale * byte. Source: the GGML formats of GGUF.
#![allow(unsafe_code)]

use super::activations::quantize_block;
use super::block::{BlockFormat, array, integer};
#[cfg(target_arch = "x86_64")]
use super::{Rows, activations::Row, block::RowDot};
use super::{WeightKernels, half_at, store_half};
use crate::isa::Isa;

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

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn dot_avx2(rows: Rows<'_>, x: Row<'_>, out: &mut [f32]) {
    use super::dot::pairs::{self, add_scaled, ask_ahead, both, eight_halves, signed_products};
    pairs::rows(rows, x, out, 0, |sums, bytes: &[u8; 8 * BYTES], x| {
        let pair = |i: usize| {
            ask_ahead(bytes, i);
            [2, 18].map(|at| both(array(&bytes[i * BYTES + at..][..16]), array(&bytes[(i + 4) * BYTES + at..][..16])))
        };
        add_scaled(sums, x, signed_products(x, pair), eight_halves::<BYTES, 0, _>(bytes))
    });
}

/// Two blocks to a register.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
fn dot_avx512(rows: Rows<'_>, x: Row<'_>, out: &mut [f32]) {
    use super::dot::avx2::load_bytes;
    use super::dot::avx512::{self, Quarters, load_64};
    use std::arch::x86_64::*;
    avx512::rows(
        rows,
        x,
        out,
        |[x]| Quarters::new(x, Format::OFFSET),
        |mut sums, bytes: &[u8; 8 * BYTES], x| {
            for q in 0..4 {
                avx512::ask_ahead(bytes, q, 4);
                let pair: &[u8; 2 * BYTES] = array(&bytes[q * 2 * BYTES..][..2 * BYTES]);
                let first = _mm512_castsi256_si512(load_bytes(array(&pair[2..34])));
                let both = _mm512_inserti64x4::<1>(first, load_bytes(array(&pair[36..])));
                let weights = _mm512_xor_si512(both, _mm512_set1_epi8(-128));
                let scales = _mm512_permutexvar_epi8(load_64(&SCALES), load_64(array(&pair[..64])));
                let scales = _mm512_cvtph_ps(_mm512_castsi512_si256(scales));
                let products = _mm512_dpbusd_epi32(x.start[q], weights, x.values[q]);
                let scales = _mm512_mul_ps(scales, x.scales[q]);
                sums[q % 2] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products), scales, sums[q % 2]);
            }
            sums
        },
        |sums| avx512::total(sums),
    );
}

/// Where the two bytes of the scale of each of two blocks are, eight times each.
#[cfg(target_arch = "x86_64")]
const SCALES: [u8; 64] = {
    let mut table = [0; 64];
    let mut i = 0;
    while i < 32 {
        table[i] = (i / 16 * BYTES + i % 2) as u8;
        i += 1;
    }
    table
};
