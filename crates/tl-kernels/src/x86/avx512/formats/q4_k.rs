//! Dot products of rows in Q4_K.

use crate::quant::activations::Row;
use crate::quant::formats::q4_k::BYTES;
use crate::quant::rows::Rows;
use crate::x86::avx512::block_rows;
use crate::x86::avx512::k_scales::{Subs, add, total};
use crate::x86::avx512::registers::load_64;
use std::arch::x86_64::*;

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
pub(crate) fn dot(rows: Rows<'_>, x: Row<'_>, out: &mut [f32]) {
    block_rows::rows(
        rows,
        x,
        out,
        // The high halves stay where they are in their bytes.
        |[x]| Subs::new(x, 16.0),
        |sums, bytes: &[u8; BYTES], x, position| {
            let (halves, _) = bytes[16..].as_chunks::<64>();
            let mask = _mm512_set1_epi8(15);
            let [a, b] = [load_64(&halves[0]), load_64(&halves[1])];
            let low = [a, b].map(|x| _mm512_and_si512(x, mask));
            let high = [a, b].map(|x| _mm512_andnot_si512(mask, x));
            add(sums, bytes, [low[0], high[0], low[1], high[1]], x, position)
        },
        |sums| total(sums),
    );
}
