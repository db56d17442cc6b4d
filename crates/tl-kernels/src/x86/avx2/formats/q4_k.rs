//! Dot products of rows in Q4_K.

use crate::quant::activations::Prepared;
use crate::quant::formats::q4_k::BYTES;
use crate::quant::rows::Rows;
use crate::x86::avx2::block_rows;
use crate::x86::avx2::block_rows::{Columns, columns, products};
use crate::x86::avx2::k_scales::Scales;
use crate::x86::avx2::nibbles::pair_of_groups;

#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn dot(rows: Rows<'_>, x: Prepared<'_>, out: &mut [f32]) {
    block_rows::rows(rows, x, out, |bytes: &[u8; BYTES], position| {
        let levels = columns(|i| pair_of_groups::<16, _>(bytes, i, position));
        let scales = Scales::of(bytes);
        move |sum, x: &Columns| scales.add(sum, products::<15>(x, levels), x)
    });
}
