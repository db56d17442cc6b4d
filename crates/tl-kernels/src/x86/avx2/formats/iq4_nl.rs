//! Dot products of rows in IQ4_NL.

use crate::quant::activations::Row;
use crate::quant::formats::iq4_nl::{BYTES, LEVELS};
use crate::quant::rows::Rows;
use crate::x86::avx2::block_rows;
use crate::x86::avx2::block_rows::{add_scaled, eight_halves, signed_products};
use crate::x86::avx2::nibbles::pair;
use crate::x86::avx2::registers::load_half;
use std::arch::x86_64::*;

#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn dot(rows: Rows<'_>, x: Row<'_>, out: &mut [f32]) {
    let levels = _mm256_broadcastsi128_si256(load_half(&LEVELS.map(|level| level as u8)));
    block_rows::rows(rows, x, out, 0, |sums, bytes: &[u8; 8 * BYTES], x, position| {
        let products = signed_products(x, |i| {
            pair::<BYTES, 2, _>(bytes, i, position).map(|numbers| _mm256_shuffle_epi8(levels, numbers))
        });
        add_scaled(sums, x, products, eight_halves::<BYTES, 0, _>(bytes))
    });
}
