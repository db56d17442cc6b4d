//! Dot products of rows in IQ4_NL.

use crate::quant::activations::Prepared;
use crate::quant::formats::iq4_nl::{BYTES, LEVELS};
use crate::quant::rows::Rows;
use crate::x86::avx2::block_rows;
use crate::x86::avx2::block_rows::{Columns, add_scaled, columns, eight_halves, signed_products};
use crate::x86::avx2::nibbles::pair;
use crate::x86::avx2::registers::load_half;
use std::arch::x86_64::*;

#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn dot(rows: Rows<'_>, x: Prepared<'_>, out: &mut [f32]) {
    let levels = _mm256_broadcastsi128_si256(load_half(&LEVELS.map(|level| level as u8)));
    block_rows::rows(rows, x, out, |bytes: &[u8; 8 * BYTES], position| {
        let values = columns(|i| {
            let [first, last] = pair::<BYTES, 2, _>(bytes, i, position);
            [_mm256_shuffle_epi8(levels, first), _mm256_shuffle_epi8(levels, last)]
        });
        let scales = eight_halves::<BYTES, 0, _>(bytes);
        move |sum, x: &Columns| add_scaled(sum, x, signed_products(x, values), scales)
    });
}
