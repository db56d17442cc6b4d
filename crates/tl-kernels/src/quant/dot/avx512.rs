//! Dot products with AVX-512 and its VNNI: 64 products of bytes an instruction, unsigned weights with signed activations.
//!
//! [`rows`] walks four rows at once, so that what is prepared of the activations (reordered, with the products of the
//! format's offset) serves four times and four chains of sums hide each other's latency.

use super::{BlockFormat, RowStretch, Stretch};
use crate::quant::activations::Row;
use std::arch::x86_64::*;

/// How far ahead of the bytes at hand memory is asked for, in each row that is long.
const PREFETCH_BYTES: usize = 1024;
/// Rows that are walked at once and are no longer than this together make way for the next ones: those are asked for.
const MAX_AHEAD: usize = 16 * 1024;
/// Rows that are walked at once.
const ROWS: usize = 4;

/// The sums of one row: of the products, and of what formats keep apart.
pub(crate) type Sums = [__m512; 2];

/// `out[j] +=` the dot product of row `j` with `x`, for a format whose stretches have `BYTES` bytes. `prepare` makes of
/// a stretch of activations what `add` needs; `add` adds a stretch of a row to sums; `total` makes a number of them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
pub(crate) fn rows<const BYTES: usize, P>(
    rows: super::Rows<'_>,
    x: Row<'_>,
    out: &mut [f32],
    prepare: impl Fn(&RowStretch) -> P,
    add: impl Fn(Sums, &[u8; BYTES], &P) -> Sums,
    total: impl Fn(Sums) -> f32,
) {
    let ahead = if ROWS * rows.stride <= MAX_AHEAD { ROWS * rows.stride } else { PREFETCH_BYTES };
    let (groups, rest) = out.as_chunks_mut::<ROWS>();
    for (g, out) in groups.iter_mut().enumerate() {
        let rows = std::array::from_fn(|r| rows.row(g * ROWS + r));
        let sums = some_rows::<BYTES, ROWS, P>(rows, ahead, x, &prepare, &add);
        for (out, sums) in out.iter_mut().zip(sums) {
            *out += total(sums);
        }
    }
    for (r, out) in rest.iter_mut().enumerate() {
        let [sums] = some_rows::<BYTES, 1, P>([rows.row(groups.len() * ROWS + r)], ahead, x, &prepare, &add);
        *out += total(sums);
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
fn some_rows<const BYTES: usize, const N: usize, P>(
    rows: [&[u8]; N],
    ahead: usize,
    x: Row<'_>,
    prepare: &impl Fn(&RowStretch) -> P,
    add: &impl Fn(Sums, &[u8; BYTES], &P) -> Sums,
) -> [Sums; N] {
    let n_whole = rows[0].len() / BYTES;
    let chunks: [&[[u8; BYTES]]; N] = rows.map(|row| &row.as_chunks::<BYTES>().0[..n_whole]);
    let stretches = x.stretches();
    let mut sums = [[_mm512_setzero_ps(); 2]; N];
    for (s, stretch) in stretches[..n_whole].iter().enumerate() {
        let prepared = prepare(stretch);
        for (sums, chunks) in sums.iter_mut().zip(&chunks) {
            prefetch(&chunks[s], ahead);
            *sums = add(*sums, &chunks[s], &prepared);
        }
    }
    if rows[0].len() > n_whole * BYTES {
        let prepared = prepare(&stretches[n_whole]);
        for (sums, row) in sums.iter_mut().zip(&rows) {
            // Zeros are blocks with a scale of zero.
            let mut padded = [0; BYTES];
            let rest = &row[n_whole * BYTES..];
            padded[..rest.len()].copy_from_slice(rest);
            *sums = add(*sums, &padded, &prepared);
        }
    }
    sums
}

/// Asks for the lines so far ahead. A hint: it reads nothing, wherever it points.
#[inline]
#[target_feature(enable = "avx512f")]
fn prefetch<const BYTES: usize>(at: &[u8; BYTES], ahead: usize) {
    let ahead = at.as_ptr().cast::<i8>().wrapping_add(ahead);
    for line in 0..BYTES.div_ceil(64) {
        _mm_prefetch::<_MM_HINT_T0>(ahead.wrapping_add(line * 64));
    }
}

/// As [`super::products`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
pub(crate) fn stretch<F: BlockFormat>(w: &Stretch, x: &RowStretch) -> f32 {
    let x_scales = _mm512_castps256_ps512(load_8(&x.scales));
    // With groups of 32 the upper eight lanes are not used.
    let x_scales = if F::GROUP == 32 { x_scales } else { _mm512_permutexvar_ps(indexes(&DOUBLED), x_scales) };
    let scales = _mm512_mul_ps(load_16(&w.scales), x_scales);
    let offset = _mm512_set1_epi8(F::OFFSET as i8);
    let mut sum = _mm512_setzero_ps();
    let quarters = w.values.as_chunks::<64>().0.iter().zip(x.values.as_chunks::<64>().0);
    for (q, (w, x)) in quarters.enumerate() {
        let x = load_64(x);
        let start = _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_dpbusd_epi32(_mm512_setzero_si512(), offset, x));
        let products = _mm512_dpbusd_epi32(start, load_64(w), x);
        let spread = if F::GROUP == 32 { &PAIRS[q] } else { &FOURS[q] };
        let scale = _mm512_permutexvar_ps(indexes(spread), scales);
        sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products), scale, sum);
    }
    _mm512_reduce_add_ps(sum)
}

/// A stretch of activations as it lies, 64 elements to a register.
pub(crate) struct Quarters {
    pub(crate) values: [__m512i; 4],
    /// Minus the offset times the sums of the values.
    pub(crate) start: [__m512i; 4],
    /// The scale of each block over its eight lanes.
    pub(crate) scales: [__m512; 4],
}

impl Quarters {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
    pub(crate) fn new(x: &RowStretch, offset: u8) -> Quarters {
        let zero = _mm512_setzero_si512();
        let offset = _mm512_set1_epi8(offset as i8);
        let quarters = x.values.as_chunks::<64>().0;
        let scales = _mm512_castps256_ps512(load_8(&x.scales));
        let values = [0, 1, 2, 3].map(|q| load_64(&quarters[q]));
        Quarters {
            values,
            start: values.map(|values| _mm512_sub_epi32(zero, _mm512_dpbusd_epi32(zero, offset, values))),
            scales: [0, 1, 2, 3].map(|q| _mm512_permutexvar_ps(indexes(&PAIRS[q]), scales)),
        }
    }
}

/// A stretch of activations as it lies, for formats with scales for 16 elements.
pub(crate) struct Sixteens {
    pub(crate) values: [__m512i; 4],
    /// Minus the offset times the sums of the values.
    pub(crate) start: [__m512i; 4],
    /// The scale of each 16 elements.
    pub(crate) scales: __m512,
}

impl Sixteens {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
    pub(crate) fn new(x: &RowStretch, offset: u8) -> Sixteens {
        let Quarters { values, start, .. } = Quarters::new(x, offset);
        let scales = _mm512_castps256_ps512(load_8(&x.scales));
        Sixteens { values, start, scales: _mm512_permutexvar_ps(indexes(&DOUBLED), scales) }
    }
}

/// The total of both sums.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn total(sums: Sums) -> f32 {
    _mm512_reduce_add_ps(_mm512_add_ps(sums[0], sums[1]))
}

/// Lane indexes: each of eight, twice.
pub(crate) const DOUBLED: [i32; 16] = [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7];
/// Of eight scales, those of quarter `q` of a stretch: two, over eight lanes each.
pub(crate) const PAIRS: [[i32; 16]; 4] = spread([[0, 1], [2, 3], [4, 5], [6, 7]]);
/// Of sixteen scales, those of quarter `q` of a stretch: four, over four lanes each.
pub(crate) const FOURS: [[i32; 16]; 4] = spread([[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15]]);

/// Indexes that spread `N` lanes evenly over 16.
pub(crate) const fn spread<const N: usize, const Q: usize>(from: [[i32; N]; Q]) -> [[i32; 16]; Q] {
    let mut lanes = [[0; 16]; Q];
    let mut at = 0;
    while at < Q * 16 {
        lanes[at / 16][at % 16] = from[at / 16][at % 16 / (16 / N)];
        at += 1;
    }
    lanes
}

/// 64 bytes at any alignment.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn load_64<T: bytemuck::Pod>(bytes: &[T; 64]) -> __m512i {
    const { assert!(size_of::<T>() == 1) };
    // SAFETY: the reference covers the 64 bytes, and the instruction asks for no alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

/// 16 floats at any alignment.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn load_16(values: &[f32; 16]) -> __m512 {
    // SAFETY: the reference covers the 64 bytes, and the instruction asks for no alignment.
    unsafe { _mm512_loadu_ps(values.as_ptr()) }
}

/// 8 floats at any alignment.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn load_8(values: &[f32; 8]) -> __m256 {
    // SAFETY: the reference covers the 32 bytes, and the instruction asks for no alignment.
    unsafe { _mm256_loadu_ps(values.as_ptr()) }
}

/// Lane numbers as a register.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn indexes(values: &[i32; 16]) -> __m512i {
    // SAFETY: the reference covers the 64 bytes, and the instruction asks for no alignment.
    unsafe { _mm512_loadu_si512(values.as_ptr().cast()) }
}
