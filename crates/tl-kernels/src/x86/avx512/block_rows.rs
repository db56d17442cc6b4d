//! Dot products with AVX-512 and its VNNI: 64 products of bytes an instruction, unsigned weights with signed activations.
//!
//! Sixteen blocks are multiplied at a time, each in a lane of its own; see [`columns`](super::columns).

use crate::quant::activations::Prepared;
use crate::quant::rows::Rows;
use crate::x86::block_rows;
use crate::x86::walk::PrefetchPosition;
use bytemuck::Pod;
use std::arch::x86_64::*;

/// As [`block_rows::rows`]: `unpack` makes of a piece what adds its products to sums.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
pub(crate) fn rows<const BYTES: usize, P: Pod, Add: Fn(__m512, &P) -> __m512>(
    rows: Rows<'_>,
    x: Prepared<'_>,
    out: &mut [f32],
    unpack: impl Fn(&[u8; BYTES], PrefetchPosition) -> Add,
) {
    let (zero, total) = (_mm512_setzero_ps(), |sum| _mm512_reduce_add_ps(sum));
    block_rows::rows::<BYTES, true, 16, _, _, _>(rows, x, out, zero, unpack, total, |sums| totals(sums));
}

/// The totals of the lanes of each register, with the bits that they have alone.
#[inline]
#[target_feature(enable = "avx512f")]
fn totals(sums: &[__m512; 16]) -> [f32; 16] {
    // Lanes eight apart are added first, then those four apart, then two, then one: as one register's are.
    let by_eight = |i: usize| {
        let (a, b) = (sums[i], sums[i + 8]);
        let (low, high) = (_mm512_shuffle_f32x4::<0b01_00_01_00>(a, b), _mm512_shuffle_f32x4::<0b11_10_11_10>(a, b));
        _mm512_add_ps(low, high)
    };
    let by_four = |i: usize| {
        let (a, b) = (by_eight(i), by_eight(i + 4));
        let (low, high) = (_mm512_shuffle_f32x4::<0b10_00_10_00>(a, b), _mm512_shuffle_f32x4::<0b11_01_11_01>(a, b));
        _mm512_add_ps(low, high)
    };
    let by_two = |i: usize| {
        let (a, b) = (by_four(i), by_four(i + 2));
        let (low, high) = (_mm512_shuffle_ps::<0b01_00_01_00>(a, b), _mm512_shuffle_ps::<0b11_10_11_10>(a, b));
        _mm512_add_ps(low, high)
    };
    let (a, b) = (by_two(0), by_two(1));
    let (even, odd) = (_mm512_shuffle_ps::<0b10_00_10_00>(a, b), _mm512_shuffle_ps::<0b11_01_11_01>(a, b));
    let mut lanes = [0.0; 16];
    // SAFETY: the reference covers the 64 bytes, and the instruction asks for no alignment.
    unsafe { _mm512_storeu_ps(lanes.as_mut_ptr(), _mm512_add_ps(even, odd)) };
    PLACES.map(|lane| lanes[lane])
}

/// The lane in which the total of each register ends up.
const PLACES: [usize; 16] = [0, 2, 1, 3, 8, 10, 9, 11, 4, 6, 5, 7, 12, 14, 13, 15];
