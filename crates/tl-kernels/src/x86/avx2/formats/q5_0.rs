//! Dot products of rows in Q5_0.

use crate::quant::activations::Row;
use crate::quant::codec::BlockCodec;
use crate::quant::formats::q5_0::{BYTES, Format};
use crate::quant::rows::Rows;
use crate::x86::avx2::block_rows;
use crate::x86::avx2::block_rows::{add_scaled, eight_halves, products};
use crate::x86::avx2::nibbles::{add_fifths, pair};

#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn dot(rows: Rows<'_>, x: Row<'_>, out: &mut [f32]) {
    block_rows::rows(rows, x, out, Format::OFFSET, |sums, bytes: &[u8; 8 * BYTES], x, position| {
        let products = products(x, |i| add_fifths::<BYTES, 2, _>(bytes, i, pair::<BYTES, 6, _>(bytes, i, position)));
        add_scaled(sums, x, products, eight_halves::<BYTES, 0, _>(bytes))
    });
}
