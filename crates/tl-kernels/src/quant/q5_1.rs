//! Q5_1: blocks of an `f16` scale, an `f16` minimum, 4 bytes of fifth bits (bit `j` for element `j`) and 16 bytes of halves
//! as in Q4_1 (24 bytes); value = scale * level + minimum. Source: the GGML formats of GGUF.
#![allow(unsafe_code)]

use super::block::{BlockFormat, array, integer};
use super::nibbles::{add_fifth_bits, pack_fifths, unpack_halves};
use super::search::{inverse, round_to_level, scale_and_minimum};
#[cfg(target_arch = "x86_64")]
use super::{Rows, activations::Row, block::RowDot};
use super::{WeightKernels, half_at, store_half};
use crate::isa::Isa;

const ELEMS: usize = 32;
const BYTES: usize = 24;

/// Q5_1, 6 bits per weight.
pub static Q5_1: WeightKernels = integer::<Format>();

#[derive(Clone, Copy)]
struct Format;

impl BlockFormat for Format {
    const ELEMS: usize = ELEMS;
    const BYTES: usize = BYTES;
    const GROUP: usize = 32;
    const OFFSET: u8 = 0;
    const HAS_MINIMA: bool = true;
    #[cfg(target_arch = "x86_64")]
    const AVX512: RowDot = dot_avx512;
    #[cfg(target_arch = "x86_64")]
    const AVX2: RowDot = dot_avx2;

    #[inline(always)]
    fn unpack(isa: Isa, block: &[u8], values: &mut [u8], scales: &mut [f32], minima: &mut [f32]) {
        scales[0] = half_at(isa, block, 0);
        minima[0] = half_at(isa, block, 2);
        unpack_halves(&block[8..], values);
        add_fifth_bits(u32::from_le_bytes(*array(&block[4..8])), values);
    }

    #[inline]
    fn quantize(x: &[f32], block: &mut [u8]) {
        let (scale, minimum) = scale_and_minimum(x, 31, false);
        let inverse = inverse(store_half(block, 0, scale));
        let minimum = store_half(block, 2, minimum);
        pack_fifths(&mut block[4..], |j| round_to_level((x[j] - minimum) * inverse, 0, 31));
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn dot_avx2(rows: Rows<'_>, x: Row<'_>, out: &mut [f32]) {
    use super::dot::pairs::{self, add_minima, add_scaled, eight_halves, products};
    use super::nibbles::avx2::{add_fifths, pair};
    pairs::rows(rows, x, out, Format::OFFSET, |sums, bytes: &[u8; 8 * BYTES], x, place| {
        let products = products(x, |i| add_fifths::<BYTES, 4, _>(bytes, i, pair::<BYTES, 8, _>(bytes, i, place)));
        let sums = add_scaled(sums, x, products, eight_halves::<BYTES, 0, _>(bytes));
        add_minima(sums, x, eight_halves::<BYTES, 2, _>(bytes))
    });
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
fn dot_avx512(rows: Rows<'_>, x: Row<'_>, out: &mut [f32]) {
    use super::dot::avx512;
    use super::nibbles::avx512::{Halves, add_fifths, add_minima, add_products, four_blocks, half_scales};
    avx512::rows(
        rows,
        x,
        out,
        |[x]| Halves::new(x, Format::OFFSET),
        |sums, bytes: &[u8; 8 * BYTES], x, place| {
            let sums = add_products(sums, x, |h| {
                place.ask_ahead(bytes, 2 * h, 4);
                let halves = four_blocks::<BYTES, 8, { 8 * BYTES }>(bytes, h);
                let levels = add_fifths::<BYTES, 4, { 8 * BYTES }>(bytes, h, halves);
                place.ask_ahead(bytes, 2 * h + 1, 4);
                (levels, half_scales::<BYTES, 0, { 8 * BYTES }>(bytes, h))
            });
            add_minima(sums, x, |h| half_scales::<BYTES, 2, { 8 * BYTES }>(bytes, h))
        },
        |sums| avx512::total(sums),
    );
}
