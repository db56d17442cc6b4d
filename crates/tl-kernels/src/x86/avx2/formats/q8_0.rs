//! Dot products of rows in Q8_0.

use crate::array::array;
use crate::quant::activations::Prepared;
use crate::quant::formats::q8_0::BYTES;
use crate::quant::rows::Rows;
use crate::x86::avx2::block_rows;
use crate::x86::avx2::block_rows::{Columns, add_scaled, both, columns, eight_halves, signed_products};

#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn dot(rows: Rows<'_>, x: Prepared<'_>, out: &mut [f32]) {
    block_rows::rows(rows, x, out, |bytes: &[u8; 8 * BYTES], position| {
        let pair = |i: usize| {
            position.prefetch(bytes, i, 4);
            let half = |at| both(array(&bytes[i * BYTES + at..][..16]), array(&bytes[(i + 4) * BYTES + at..][..16]));
            [half(2), half(18)]
        };
        let (values, scales) = (columns(pair), eight_halves::<BYTES, 0, _>(bytes));
        move |sum, x: &Columns| add_scaled(sum, x, signed_products(x, values), scales)
    });
}
