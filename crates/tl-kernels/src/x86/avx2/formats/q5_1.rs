//! Dot products of rows in Q5_1.

use crate::quant::activations::Prepared;
use crate::quant::formats::q5_1::BYTES;
use crate::quant::rows::Rows;
use crate::x86::avx2::block_rows;
use crate::x86::avx2::block_rows::{Columns, add_minima, add_scaled, columns, eight_halves, products};
use crate::x86::avx2::nibbles::{add_fifths, pair};

#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn dot(rows: Rows<'_>, x: Prepared<'_>, out: &mut [f32]) {
    block_rows::rows(rows, x, out, |bytes: &[u8; 8 * BYTES], position| {
        let levels = columns(|i| add_fifths::<BYTES, 4, _>(bytes, i, pair::<BYTES, 8, _>(bytes, i, position)));
        let scales = eight_halves::<BYTES, 0, _>(bytes);
        let minima = eight_halves::<BYTES, 2, _>(bytes);
        move |sum, x: &Columns| add_minima(add_scaled(sum, x, products::<31>(x, levels), scales), x, minima)
    });
}
