//! Dot products of rows in Q4_0.

use crate::quant::activations::Prepared;
use crate::quant::formats::q4_0::BYTES;
use crate::quant::rows::Rows;
use crate::x86::avx512::block_rows;
use crate::x86::avx512::columns::{Columns, add_scaled, four_columns};
use crate::x86::avx512::nibbles::{fours, halves_at, low_and_high};

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
pub(crate) fn dot(rows: Rows<'_>, x: Prepared<'_>, out: &mut [f32]) {
    block_rows::rows(rows, x, out, |bytes: &[u8; 16 * BYTES], position| {
        let levels = low_and_high(four_columns(fours::<BYTES, 2, _>(bytes, position)));
        let scales = halves_at::<BYTES, 0, _>(bytes);
        move |sum, x: &Columns| add_scaled(sum, x, levels, scales)
    });
}
