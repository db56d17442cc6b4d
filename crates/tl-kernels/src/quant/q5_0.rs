//! Q5_0: blocks of an `f16` scale, 4 bytes of fifth bits (bit `j` for element `j`) and 16 bytes of halves as in Q4_0 (22
//! bytes); value = scale * (level - 16). Source: the GGML formats of GGUF.
#![allow(unsafe_code)]

use super::block::{BlockFormat, array, integer};
use super::nibbles::{add_fifth_bits, pack_fifths, unpack_halves};
use super::search::{inverse, round_to_level, signed_scale};
#[cfg(target_arch = "x86_64")]
use super::{Rows, activations::Row, block::RowDot};
use super::{WeightKernels, half_at, store_half};
use crate::isa::Isa;

const ELEMS: usize = 32;
const BYTES: usize = 22;

/// Q5_0, 5.5 bits per weight.
pub static Q5_0: WeightKernels = integer::<Format>();

#[derive(Clone, Copy)]
struct Format;

impl BlockFormat for Format {
    const ELEMS: usize = ELEMS;
    const BYTES: usize = BYTES;
    const GROUP: usize = 32;
    const OFFSET: u8 = 16;
    const HAS_MINIMA: bool = false;
    #[cfg(target_arch = "x86_64")]
    const AVX512: RowDot = dot_avx512;
    #[cfg(target_arch = "x86_64")]
    const AVX2: RowDot = dot_avx2;

    #[inline(always)]
    fn unpack(isa: Isa, block: &[u8], values: &mut [u8], scales: &mut [f32], _minima: &mut [f32]) {
        scales[0] = half_at(isa, block, 0);
        unpack_halves(&block[6..], values);
        add_fifth_bits(u32::from_le_bytes(*array(&block[2..6])), values);
    }

    #[inline]
    fn quantize(x: &[f32], block: &mut [u8]) {
        let inverse = inverse(store_half(block, 0, signed_scale(x, 16)));
        pack_fifths(&mut block[2..], |j| round_to_level(x[j] * inverse, -16, 15) + 16);
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn dot_avx2(rows: Rows<'_>, x: Row<'_>, out: &mut [f32]) {
    use super::dot::pairs::{self, add_scaled, eight_halves, products};
    use super::nibbles::avx2::{add_fifths, pair};
    pairs::rows(rows, x, out, Format::OFFSET, |sums, bytes: &[u8; 8 * BYTES], x, place| {
        let products = products(x, |i| add_fifths::<BYTES, 2, _>(bytes, i, pair::<BYTES, 6, _>(bytes, i, place)));
        add_scaled(sums, x, products, eight_halves::<BYTES, 0, _>(bytes))
    });
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
fn dot_avx512(rows: Rows<'_>, x: Row<'_>, out: &mut [f32]) {
    use super::dot::avx512;
    use super::nibbles::avx512::{Halves, add_fifths, add_products, four_blocks, half_scales};
    avx512::rows(
        rows,
        x,
        out,
        |[x]| Halves::new(x, Format::OFFSET),
        |sums, bytes: &[u8; 8 * BYTES], x, place| {
            add_products(sums, x, |h| {
                place.ask_ahead(bytes, 2 * h, 4);
                let halves = four_blocks::<BYTES, 6, { 8 * BYTES }>(bytes, h);
                let levels = add_fifths::<BYTES, 2, { 8 * BYTES }>(bytes, h, halves);
                place.ask_ahead(bytes, 2 * h + 1, 4);
                (levels, half_scales::<BYTES, 0, { 8 * BYTES }>(bytes, h))
            })
        },
        |sums| avx512::total(sums),
    );
}
