//! Dot products and weighted sums with AVX-512, from the elements as they lie: an element becomes `f32` in a register, for eight rows
//! at a time.

use crate::element::{Element, FloatSlice};
use crate::prefetch::Prefetcher;
use crate::scratch::Scratch;
use crate::strided_vectors::{LANES, MAX_VECTORS, PerVector, StridedKernels, Vectors};
use crate::x86::avx512::registers::{load, pair, store};
use crate::x86::avx512::transpose::transpose;
use crate::x86::level::Avx512;
use std::arch::x86_64::*;
use std::ops::Range;
use std::slice::Chunks;

impl StridedKernels for Avx512 {
    #[inline(always)]
    fn takes_elements(self, n_elems: usize) -> bool {
        n_elems.is_multiple_of(LANES)
    }

    #[inline(always)]
    fn strided_dots<E: Element>(self, rows: &[f32], vectors: Vectors<'_, E>, ahead: Prefetcher, out: &mut [PerVector]) {
        // SAFETY: the set proves AVX-512.
        unsafe { dots(rows, vectors, ahead, out) }
    }

    #[inline(always)]
    fn add_strided<E: Element>(
        self,
        weights: &[PerVector],
        seen: impl Fn(usize) -> Range<usize>,
        vectors: Vectors<'_, E>,
        ahead: Prefetcher,
        sums: &mut [f32],
    ) {
        // SAFETY: the set proves AVX-512.
        unsafe { add_weighted(weights, seen, vectors, ahead, sums) }
    }
}

/// Words of a vector that become columns together: with those of 16 vectors, 4 KiB.
const WORDS: usize = 64;

/// The most rows for which it costs less to add up lanes than to make columns.
const MAX_ROWS_BY_LANES: usize = 2;

/// Words whose products are added up before the others.
const PART: usize = 8;

/// `out[r][j]` = the dot product of row `r` of `rows`, which lie one after the other, with vector `j`. A vector is a whole number of
/// [`LANES`]. `ahead`: memory to prefetch meanwhile.
#[inline]
#[target_feature(enable = "avx512f")]
fn dots<E: Element>(rows: &[f32], vectors: Vectors<'_, E>, ahead: Prefetcher, out: &mut [PerVector]) {
    if out.len() <= MAX_ROWS_BY_LANES {
        for first_vector in (0..vectors.n).step_by(LANES) {
            ahead.prefetch(first_vector..first_vector + LANES);
            for (row, out) in rows.chunks_exact(vectors.len).zip(&mut *out) {
                store(
                    &mut out[first_vector..].as_chunks_mut().0[0],
                    _mm512_castps_si512(dots_of_row(row, vectors, first_vector)),
                );
            }
        }
        return;
    }
    let mut room = Scratch::<[u32; LANES], WORDS>::new();
    let columns = room.zeroed(WORDS.min(vectors.len * size_of::<E>() / 4));
    let stretch = WORDS * 4 / size_of::<E>();
    for first_vector in (0..vectors.n).step_by(LANES) {
        ahead.prefetch(first_vector..first_vector + LANES);
        for first in (0..vectors.len).step_by(stretch) {
            let columns = &mut columns[..stretch.min(vectors.len - first) * size_of::<E>() / 4];
            fill_columns(vectors, first_vector, first, columns);
            let at = (first_vector, first > 0);
            let mut rows = rows[first..].chunks(vectors.len);
            let (eights, rest) = out.as_chunks_mut();
            for out in eights {
                dots_of::<E, 8>(&mut rows, columns, at, out);
            }
            let (fours, rest) = rest.as_chunks_mut();
            for out in fours {
                dots_of::<E, 4>(&mut rows, columns, at, out);
            }
            let (threes, rest) = rest.as_chunks_mut();
            for out in threes {
                dots_of::<E, 3>(&mut rows, columns, at, out);
            }
            let (twos, rest) = rest.as_chunks_mut();
            for out in twos {
                dots_of::<E, 2>(&mut rows, columns, at, out);
            }
            for out in rest {
                dots_of::<E, 1>(&mut rows, columns, at, std::array::from_mut(out));
            }
        }
    }
}

/// The dot products of a row with 16 vectors; those with vectors that are missing mean nothing.
#[inline]
#[target_feature(enable = "avx512f")]
fn dots_of_row<E: Element>(row: &[f32], vectors: Vectors<'_, E>, first_vector: usize) -> __m512 {
    let mut sums = [_mm512_setzero_ps(); LANES];
    let (registers, _) = row.as_chunks::<LANES>();
    let (fours, ones) = registers.as_chunks::<4>();
    for (i, four) in fours.iter().enumerate() {
        add_products(four, vectors, first_vector, i * 4 * LANES, &mut sums);
    }
    for (i, one) in ones.iter().enumerate() {
        add_products(std::array::from_ref(one), vectors, first_vector, (fours.len() * 4 + i) * LANES, &mut sums);
    }
    totals(sums)
}

/// Adds the products of elements from `first` on of 16 vectors with those of a row.
#[inline]
#[target_feature(enable = "avx512f")]
fn add_products<E: Element, const N: usize>(
    row: &[[f32; LANES]; N],
    vectors: Vectors<'_, E>,
    first_vector: usize,
    first: usize,
    sums: &mut [__m512; LANES],
) {
    let mut x = [_mm512_setzero_ps(); N];
    for (x, row) in x.iter_mut().zip(row) {
        *x = _mm512_castsi512_ps(load(row));
    }
    for (i, sum) in sums.iter_mut().enumerate() {
        let index = (first_vector + i).min(vectors.n - 1);
        // Nothing here may panic: the compiler would then keep the sums in memory.
        let Some(vector) = vectors.data.get(index * vectors.stride + first..) else { break };
        let Some(parts) = vector.as_chunks::<LANES>().0.first_chunk::<N>() else { break };
        for (part, x) in parts.iter().zip(x) {
            *sum = _mm512_fmadd_ps(widen(part), x, *sum);
        }
    }
}

/// Lane `i` is the total of register `i`.
#[inline]
#[target_feature(enable = "avx512f")]
fn totals(sums: [__m512; LANES]) -> __m512 {
    // Lanes 0 and 2 of each, and 1 and 3, in two lanes of every four.
    let mut pairs = [_mm512_setzero_pd(); 8];
    for (pair, two) in pairs.iter_mut().zip(sums.as_chunks::<2>().0) {
        let [a, b] = *two;
        *pair = _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b)));
    }
    // In every four lanes, the totals of those four of four registers.
    let mut fours = [_mm512_setzero_ps(); 4];
    for (four, two) in fours.iter_mut().zip(pairs.as_chunks::<2>().0) {
        let [a, b] = *two;
        let (low, high) = (_mm512_unpacklo_pd(a, b), _mm512_unpackhi_pd(a, b));
        *four = _mm512_add_ps(_mm512_castpd_ps(low), _mm512_castpd_ps(high));
    }
    let [a, b, c, d] = fours;
    add_fours(add_fours(a, b), add_fours(c, d))
}

/// The sums of the first and second four lanes, and of the third and last four, of `a`, then of `b`.
#[inline]
#[target_feature(enable = "avx512f")]
fn add_fours(a: __m512, b: __m512) -> __m512 {
    let even = _mm512_shuffle_f32x4::<0b10_00_10_00>(a, b);
    let odd = _mm512_shuffle_f32x4::<0b11_01_11_01>(a, b);
    _mm512_add_ps(even, odd)
}

/// Words of 16 vectors, each from element `first` on, become columns. Vectors that are missing are zeros.
#[inline]
#[target_feature(enable = "avx512f")]
fn fill_columns<E: Element>(vectors: Vectors<'_, E>, first_vector: usize, first: usize, columns: &mut [[u32; LANES]]) {
    for (part, columns) in columns.chunks_mut(LANES).enumerate() {
        let n_elems = columns.len() * 4 / size_of::<E>();
        let first = first + part * (LANES * 4 / size_of::<E>());
        let mut words = [_mm512_setzero_si512(); LANES];
        if first_vector + LANES <= vectors.n {
            for (index, words) in words.iter_mut().enumerate() {
                *words = load_words(&vectors.vector(first_vector + index)[first..][..n_elems]);
            }
        } else {
            for (index, words) in (first_vector..vectors.n).zip(&mut words) {
                *words = load_words(&vectors.vector(index)[first..][..n_elems]);
            }
        }
        for (column, words) in columns.iter_mut().zip(transpose(words)) {
            store(column, words);
        }
    }
}

/// As many words as there are elements for, then zeros.
#[inline]
#[target_feature(enable = "avx512f")]
fn load_words<E: Element>(elements: &[E]) -> __m512i {
    let there = (1_u32 << (size_of_val(elements) / 4)) - 1;
    // SAFETY: the words that are not masked lie in the slice, and the others are not read.
    unsafe { _mm512_maskz_loadu_epi32(there as __mmask16, elements.as_ptr().cast()) }
}

/// The dot products of the next `R` rows with the 16 vectors whose words the columns have; `add`: to what is there.
#[inline]
#[target_feature(enable = "avx512f")]
fn dots_of<E: Element, const R: usize>(
    rows: &mut Chunks<'_, f32>,
    columns: &[[u32; LANES]],
    (first_vector, add): (usize, bool),
    out: &mut [PerVector; R],
) {
    let per_word = 4 / size_of::<E>();
    // Loops and no closures: a closure would not be inlined.
    let mut row_of: [&[f32]; R] = [&[]; R];
    for (row_of, row) in row_of.iter_mut().zip(rows) {
        *row_of = &row[..columns.len() * per_word];
    }
    // Sums of parts keep the rounding of long sums small.
    let mut totals = [[_mm512_setzero_ps(); 2]; R];
    for (part, columns) in columns.chunks(PART).enumerate() {
        let mut sums = [[_mm512_setzero_ps(); 2]; R];
        for (i, words) in (part * PART..).zip(columns) {
            if per_word == 1 {
                let vectors = _mm512_castsi512_ps(load(words));
                for (sums, row) in sums.iter_mut().zip(row_of) {
                    sums[0] = _mm512_fmadd_ps(_mm512_set1_ps(row[i]), vectors, sums[0]);
                }
            } else {
                // Two elements of eight vectors, and of the other eight.
                let elements: &[E] = bytemuck::cast_slice(words);
                let (halves, _) = elements.as_chunks::<LANES>();
                let vectors = [widen(&halves[0]), widen(&halves[1])];
                for (sums, row) in sums.iter_mut().zip(row_of) {
                    let two = pair(&row.as_chunks::<2>().0[i]);
                    sums[0] = _mm512_fmadd_ps(two, vectors[0], sums[0]);
                    sums[1] = _mm512_fmadd_ps(two, vectors[1], sums[1]);
                }
            }
        }
        for (totals, sums) in totals.iter_mut().zip(sums) {
            totals[0] = _mm512_add_ps(totals[0], sums[0]);
            totals[1] = _mm512_add_ps(totals[1], sums[1]);
        }
    }
    for (out, [a, b]) in out.iter_mut().zip(totals) {
        let found = match per_word {
            1 => a,
            _ => add_neighbours(a, b),
        };
        let out = &mut out[first_vector..].as_chunks_mut::<LANES>().0[0];
        let found = if add { _mm512_add_ps(found, _mm512_castsi512_ps(load(out))) } else { found };
        store(out, _mm512_castps_si512(found));
    }
}

/// The sums of lanes 0 and 1, 2 and 3, ... of `a`, then of `b`.
#[inline]
#[target_feature(enable = "avx512f")]
fn add_neighbours(a: __m512, b: __m512) -> __m512 {
    let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    let odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
    _mm512_add_ps(_mm512_permutex2var_ps(a, even, b), _mm512_permutex2var_ps(a, odd, b))
}

/// 16 elements as `f32`.
#[inline]
#[target_feature(enable = "avx512f")]
fn widen<E: Element>(elements: &[E; LANES]) -> __m512 {
    match E::as_floats(elements) {
        // SAFETY: the reference covers the 64 bytes, and the instruction asks for no alignment.
        FloatSlice::F32(values) => unsafe { _mm512_loadu_ps(values.as_ptr()) },
        FloatSlice::F16(values) => _mm512_cvtph_ps(load_halves(values)),
        FloatSlice::Bf16(values) => {
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(load_halves(values))))
        }
    }
}

/// 16 elements of 16 bits, at any alignment.
#[inline]
#[target_feature(enable = "avx512f")]
fn load_halves<E: Element>(elements: &[E]) -> __m256i {
    assert_eq!(size_of_val(elements), 32);
    // SAFETY: the slice covers the 32 bytes, and the instruction asks for no alignment.
    unsafe { _mm256_loadu_si256(elements.as_ptr().cast()) }
}

/// `sums[r] +=` the sum over the values `v[j]` of `seen(r)` of `weights[r][j] * v[j]`. What a later row sees begins and ends no
/// earlier. A value, and a row of sums, is a whole number of [`LANES`].
#[inline]
#[target_feature(enable = "avx512f")]
fn add_weighted<E: Element>(
    weights: &[PerVector],
    seen: impl Fn(usize) -> Range<usize>,
    values: Vectors<'_, E>,
    mut ahead: Prefetcher,
    sums: &mut [f32],
) {
    let len = values.len;
    // What all rows see goes together; what a row does not see, it must not meet: it may be NaN.
    let (first, last) = (seen(0), seen(weights.len() - 1));
    let all_see = last.start.min(first.end)..first.end;
    for (r, (weights, sums)) in weights.iter().zip(sums.chunks_exact_mut(len)).enumerate() {
        let before = seen(r).start..all_see.start;
        if !before.is_empty() {
            add_rows::<E, 1, 4>(std::array::from_ref(weights), values, before, Prefetcher::NOTHING, sums);
        }
    }
    let (eights, rest) = weights.as_chunks();
    let (fours, rest) = rest.as_chunks();
    let (threes, rest) = rest.as_chunks();
    let (twos, ones) = rest.as_chunks();
    let mut rows = &mut *sums;
    for weights in eights {
        rows = add_rows::<E, 8, 2>(weights, values, all_see.clone(), ahead, rows);
        ahead = Prefetcher::NOTHING;
    }
    for weights in fours {
        rows = add_rows::<E, 4, 4>(weights, values, all_see.clone(), ahead, rows);
        ahead = Prefetcher::NOTHING;
    }
    for weights in threes {
        rows = add_rows::<E, 3, 4>(weights, values, all_see.clone(), ahead, rows);
        ahead = Prefetcher::NOTHING;
    }
    for weights in twos {
        rows = add_rows::<E, 2, 4>(weights, values, all_see.clone(), ahead, rows);
        ahead = Prefetcher::NOTHING;
    }
    for weights in ones {
        rows = add_rows::<E, 1, 4>(std::array::from_ref(weights), values, all_see.clone(), ahead, rows);
        ahead = Prefetcher::NOTHING;
    }
    for (r, (weights, sums)) in weights.iter().zip(sums.chunks_exact_mut(len)).enumerate() {
        let behind = all_see.end.max(seen(r).start)..seen(r).end;
        if !behind.is_empty() {
            add_rows::<E, 1, 4>(std::array::from_ref(weights), values, behind, Prefetcher::NOTHING, sums);
        }
    }
}

/// The first `R` rows of the sums, `N` registers of the columns at a time; gives the rows behind them.
#[inline]
#[target_feature(enable = "avx512f")]
fn add_rows<'a, E: Element, const R: usize, const N: usize>(
    weights: &[PerVector; R],
    values: Vectors<'_, E>,
    range: Range<usize>,
    ahead: Prefetcher,
    sums: &'a mut [f32],
) -> &'a mut [f32] {
    let (sums, others) = sums.split_at_mut(R * values.len);
    let mut column = 0;
    while column + N * LANES <= values.len {
        add_columns::<E, R, N>(weights, values, range.clone(), column, ahead, sums);
        column += N * LANES;
    }
    while column + 2 * LANES <= values.len {
        add_columns::<E, R, 2>(weights, values, range.clone(), column, ahead, sums);
        column += 2 * LANES;
    }
    while column < values.len {
        add_columns::<E, R, 1>(weights, values, range.clone(), column, ahead, sums);
        column += LANES;
    }
    others
}

/// The `16 N` columns from `column` on.
#[inline]
#[target_feature(enable = "avx512f")]
fn add_columns<E: Element, const R: usize, const N: usize>(
    weights: &[PerVector; R],
    values: Vectors<'_, E>,
    range: Range<usize>,
    column: usize,
    ahead: Prefetcher,
    sums: &mut [f32],
) {
    let Some(last) = range.clone().next_back() else { return };
    assert!(last < MAX_VECTORS && last * values.stride + column + N * LANES <= values.data.len(), "{last} {column}");
    let mut totals = [[_mm512_setzero_ps(); N]; R];
    for (totals, sums) in totals.iter_mut().zip(sums.chunks_exact(values.len)) {
        for (total, sums) in totals.iter_mut().zip(sums[column..].as_chunks::<LANES>().0) {
            *total = _mm512_castsi512_ps(load(sums));
        }
    }
    // Nothing in the loop may panic: the compiler would then keep the totals in memory.
    for j in range {
        let Some(vector) = values.data.get(j * values.stride + column..) else { break };
        let Some(parts) = vector.as_chunks::<LANES>().0.first_chunk::<N>() else { break };
        ahead.prefetch_part(j, column * size_of::<E>()..(column + N * LANES) * size_of::<E>());
        let mut value = [_mm512_setzero_ps(); N];
        for (value, part) in value.iter_mut().zip(parts) {
            *value = widen(part);
        }
        for (totals, weights) in totals.iter_mut().zip(weights) {
            let weight = _mm512_set1_ps(weights[j]);
            for (total, value) in totals.iter_mut().zip(value) {
                *total = _mm512_fmadd_ps(weight, value, *total);
            }
        }
    }
    for (sums, totals) in sums.chunks_exact_mut(values.len).zip(&totals) {
        for (sums, total) in sums[column..].as_chunks_mut::<LANES>().0.iter_mut().zip(totals) {
            store(sums, _mm512_castps_si512(*total));
        }
    }
}
