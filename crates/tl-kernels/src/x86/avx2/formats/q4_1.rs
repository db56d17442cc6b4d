//! Dot products of rows in Q4_1.

use crate::quant::activations::Row;
use crate::quant::codec::BlockCodec;
use crate::quant::formats::q4_1::{BYTES, Format};
use crate::quant::rows::Rows;
use crate::x86::avx2::block_rows;
use crate::x86::avx2::block_rows::{add_minima, add_scaled, eight_halves, products};
use crate::x86::avx2::nibbles::pair;

#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn dot(rows: Rows<'_>, x: Row<'_>, out: &mut [f32]) {
    block_rows::rows(rows, x, out, Format::OFFSET, |sums, bytes: &[u8; 8 * BYTES], x, position| {
        let products = products(x, |i| pair::<BYTES, 4, _>(bytes, i, position));
        let sums = add_scaled(sums, x, products, eight_halves::<BYTES, 0, _>(bytes));
        add_minima(sums, x, eight_halves::<BYTES, 2, _>(bytes))
    });
}
