//! Dot products of rows in Q4_0.

use crate::quant::activations::Prepared;
use crate::quant::formats::q4_0::BYTES;
use crate::quant::rows::Rows;
use crate::x86::avx2::block_rows;
use crate::x86::avx2::block_rows::{Columns, add_scaled, columns, eight_halves, products};
use crate::x86::avx2::nibbles::pair;

#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn dot(rows: Rows<'_>, x: Prepared<'_>, out: &mut [f32]) {
    block_rows::rows(rows, x, out, |bytes: &[u8; 8 * BYTES], position| {
        let levels = columns(|i| pair::<BYTES, 2, _>(bytes, i, position));
        let scales = eight_halves::<BYTES, 0, _>(bytes);
        move |sum, x: &Columns| add_scaled(sum, x, products::<15>(x, levels), scales)
    });
}
