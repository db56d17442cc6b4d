//! Dot products of rows in Q4_K.

use crate::quant::activations::Row;
use crate::quant::codec::BlockCodec;
use crate::quant::formats::q4_k::{BYTES, Format};
use crate::quant::rows::Rows;
use crate::x86::avx2::block_rows;
use crate::x86::avx2::block_rows::products;
use crate::x86::avx2::k_scales::add;
use crate::x86::avx2::nibbles::pair_of_groups;

#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn dot(rows: Rows<'_>, x: Row<'_>, out: &mut [f32]) {
    block_rows::rows(rows, x, out, Format::OFFSET, |sums, bytes: &[u8; BYTES], x, position| {
        add(sums, bytes, products(x, |i| pair_of_groups::<16, _>(bytes, i, position)), x)
    });
}
