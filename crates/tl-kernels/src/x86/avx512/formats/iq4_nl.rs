//! Dot products of rows in IQ4_NL.

use crate::quant::activations::Row;
use crate::quant::codec::BlockCodec;
use crate::quant::formats::iq4_nl::{BYTES, Format, UNSIGNED};
use crate::quant::rows::Rows;
use crate::x86::avx2::registers::load_half;
use crate::x86::avx512::block_rows;
use crate::x86::avx512::nibbles::{Halves, add_products, four_blocks, half_scales};
use std::arch::x86_64::*;

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
pub(crate) fn dot(rows: Rows<'_>, x: Row<'_>, out: &mut [f32]) {
    let levels = _mm512_broadcast_i32x4(load_half(&UNSIGNED));
    block_rows::rows(
        rows,
        x,
        out,
        |[x]| Halves::new(x, Format::OFFSET),
        |sums, bytes: &[u8; 8 * BYTES], x, position| {
            add_products(sums, x, |h| {
                position.prefetch(bytes, 2 * h, 4);
                let numbers = four_blocks::<BYTES, 2, { 8 * BYTES }>(bytes, h);
                let values = numbers.map(|numbers| _mm512_shuffle_epi8(levels, numbers));
                position.prefetch(bytes, 2 * h + 1, 4);
                (values, half_scales::<BYTES, 0, { 8 * BYTES }>(bytes, h))
            })
        },
        |sums| block_rows::total(sums),
    );
}
