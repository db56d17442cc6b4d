//! Dot products of rows in IQ4_XS.

use crate::array::array;
use crate::quant::activations::Prepared;
use crate::quant::formats::iq4_nl::UNSIGNED;
use crate::quant::formats::iq4_xs::{BYTES, NUMBERS};
use crate::quant::rows::Rows;
use crate::x86::avx2::registers::{half_to_f32, load_half};
use crate::x86::avx512::block_rows;
use crate::x86::avx512::columns::{Columns, OF_FOURS, add_scaled, four_columns};
use crate::x86::avx512::nibbles::{looked_up, low_and_high};
use crate::x86::avx512::registers::{load_64, pair};
use std::arch::x86_64::*;

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
pub(crate) fn dot(rows: Rows<'_>, x: Prepared<'_>, out: &mut [f32]) {
    block_rows::rows(rows, x, out, |bytes: &[u8; 2 * BYTES], position| {
        let quarter = |q: usize| {
            position.prefetch(bytes, q, 4);
            load_64(array(&bytes[q / 2 * BYTES + NUMBERS + q % 2 * 64..][..64]))
        };
        let numbers = low_and_high(four_columns([quarter(0), quarter(1), quarter(2), quarter(3)]));
        let (values, scales) = (looked_up(&UNSIGNED, numbers), scales(bytes));
        move |sum, x: &Columns| add_scaled(sum, x, values, scales)
    });
}

/// The scales of two blocks' groups, in the order of [`OF_FOURS`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,f16c")]
fn scales(bytes: &[u8; 2 * BYTES]) -> __m512 {
    let header = |block: usize| i64::from_le_bytes(*array(&bytes[block * BYTES..][..NUMBERS]));
    // For each of the eight scales of a block, the bit where its lower four begin, and the one four before its upper two.
    let headers = _mm_set_epi64x(header(1), header(0));
    let lower = _mm_set1_epi64x(i64::from_le_bytes([32, 36, 40, 44, 48, 52, 56, 60]));
    let upper = _mm_set1_epi64x(i64::from_le_bytes([12, 14, 16, 18, 20, 22, 24, 26]));
    let lower = _mm_and_si128(_mm_multishift_epi64_epi8(lower, headers), _mm_set1_epi8(15));
    let upper = _mm_and_si128(_mm_multishift_epi64_epi8(upper, headers), _mm_set1_epi8(0x30));
    let sixes = _mm_sub_epi8(_mm_or_si128(lower, upper), _mm_set1_epi8(32));
    let sixes = _mm_shuffle_epi8(sixes, load_half(&OF_FOURS));
    let scale = |block: usize| half_to_f32([bytes[block * BYTES], bytes[block * BYTES + 1]]);
    // Of four lanes, the first two have groups of the first block.
    let scales = _mm512_unpacklo_ps(pair(&[scale(0), scale(1)]), pair(&[scale(0), scale(1)]));
    _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(sixes)), scales)
}
