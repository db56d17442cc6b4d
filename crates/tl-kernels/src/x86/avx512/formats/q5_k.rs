//! Dot products of rows in Q5_K.

use crate::array::array;
use crate::quant::activations::Row;
use crate::quant::formats::q5_k::{BYTES, FIFTHS, HALVES};
use crate::quant::rows::Rows;
use crate::x86::avx2::registers::load_bytes;
use crate::x86::avx512::block_rows;
use crate::x86::avx512::k_scales::{Subs, add, total};
use crate::x86::avx512::registers::load_64;
use std::arch::x86_64::*;

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
pub(crate) fn dot(rows: Rows<'_>, x: Row<'_>, out: &mut [f32]) {
    // The bit of each half of a register comes to place 4: sub-blocks 0 and 2, 1 and 3 to the left, 4 and 6, 5 and 7 to the right.
    let shifts = |low: i16, high: i16| {
        _mm512_inserti64x4::<1>(_mm512_castsi256_si512(_mm256_set1_epi16(low)), _mm256_set1_epi16(high))
    };
    let shifts = [shifts(4, 2), shifts(3, 1), shifts(0, 2), shifts(1, 3)];
    block_rows::rows(
        rows,
        x,
        out,
        |[x]| Subs::new(x, 1.0),
        |sums, bytes: &[u8; BYTES], x, position| {
            let (halves, _) = bytes[HALVES..].as_chunks::<64>();
            let fifths = _mm512_broadcast_i64x4(load_bytes(array(&bytes[FIFTHS..HALVES])));
            let (mask, bit) = (_mm512_set1_epi8(15), _mm512_set1_epi8(16));
            let [a, b] = [load_64(&halves[0]), load_64(&halves[1])];
            let with_fifth = |halves: __m512i, bits: __m512i| {
                _mm512_or_si512(_mm512_and_si512(halves, mask), _mm512_and_si512(bits, bit))
            };
            let levels = [
                with_fifth(a, _mm512_sllv_epi16(fifths, shifts[0])),
                with_fifth(_mm512_srli_epi16::<4>(a), _mm512_sllv_epi16(fifths, shifts[1])),
                with_fifth(b, _mm512_srlv_epi16(fifths, shifts[2])),
                with_fifth(_mm512_srli_epi16::<4>(b), _mm512_srlv_epi16(fifths, shifts[3])),
            ];
            add(sums, bytes, levels, x, position)
        },
        |sums| total(sums),
    );
}
