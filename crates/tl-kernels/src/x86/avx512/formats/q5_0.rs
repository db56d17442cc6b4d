//! Dot products of rows in Q5_0.

use crate::quant::activations::Row;
use crate::quant::codec::BlockCodec;
use crate::quant::formats::q5_0::{BYTES, Format};
use crate::quant::rows::Rows;
use crate::x86::avx512::block_rows;
use crate::x86::avx512::nibbles::{Halves, add_fifths, add_products, four_blocks, half_scales};

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
pub(crate) fn dot(rows: Rows<'_>, x: Row<'_>, out: &mut [f32]) {
    block_rows::rows(
        rows,
        x,
        out,
        |[x]| Halves::new(x, Format::OFFSET),
        |sums, bytes: &[u8; 8 * BYTES], x, position| {
            add_products(sums, x, |h| {
                position.prefetch(bytes, 2 * h, 4);
                let halves = four_blocks::<BYTES, 6, { 8 * BYTES }>(bytes, h);
                let levels = add_fifths::<BYTES, 2, { 8 * BYTES }>(bytes, h, halves);
                position.prefetch(bytes, 2 * h + 1, 4);
                (levels, half_scales::<BYTES, 0, { 8 * BYTES }>(bytes, h))
            })
        },
        |sums| block_rows::total(sums),
    );
}
