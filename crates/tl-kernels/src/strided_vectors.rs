//! Dot products of a few rows with many vectors, and weighted sums of these: attention's keys and values, the columns or rows of a
//! matrix. The vectors may be kept as floats of any type or in blocks, and are read where they lie.

use crate::element::Element;
use crate::isa::{Isa, Portable, dispatch};
use crate::prefetch::Prefetcher;
use crate::vector::VectorKernels;
use std::ops::Range;

/// The most vectors at a time, a whole number of [`LANES`].
pub(crate) const MAX_VECTORS: usize = 128;
/// Elements of an AVX-512 register.
pub(crate) const LANES: usize = 16;

/// A number for each vector: dot products, weights.
pub(crate) type PerVector = [f32; MAX_VECTORS];

/// What keys and values are stored as: a float type, or blocks of a weight format.
pub trait KvElement: bytemuck::Pod + Send + Sync + 'static {
    /// Elements in one of these.
    const ELEMS: usize;
    /// This type where it is a float type, else the type that it is loaded as.
    type Element: Element;
    /// The same slice, where this is a float type.
    fn as_elements(slice: &[Self]) -> Option<&[Self::Element]>;
    /// `dst` as `f32`, exactly. It has [`KvElement::ELEMS`] elements for each of `src`.
    fn load(isa: Isa, src: &[Self], dst: &mut [f32]);
}

impl<T: Element> KvElement for T {
    const ELEMS: usize = 1;
    type Element = T;

    #[inline(always)]
    fn as_elements(slice: &[T]) -> Option<&[T]> {
        Some(slice)
    }

    #[inline(always)]
    fn load(isa: Isa, src: &[T], dst: &mut [f32]) {
        <T as Element>::load(isa, src, dst);
    }
}

/// `n` vectors of `len` elements or blocks, which begin `stride` of them apart.
#[derive(Clone, Copy)]
pub(crate) struct Vectors<'a, T> {
    pub(crate) data: &'a [T],
    pub(crate) n: usize,
    pub(crate) stride: usize,
    pub(crate) len: usize,
}

impl<'a, T: KvElement> Vectors<'a, T> {
    #[inline(always)]
    pub(crate) fn vector(&self, index: usize) -> &'a [T] {
        &self.data[index * self.stride..][..self.len]
    }

    /// Without the first ones.
    #[inline(always)]
    pub(crate) fn skip(self, n: usize) -> Vectors<'a, T> {
        let n = n.min(self.n);
        Vectors { data: self.data.get(n * self.stride..).unwrap_or_default(), n: self.n - n, ..self }
    }

    /// Their memory.
    #[inline(always)]
    pub(crate) fn ahead(self) -> Prefetcher {
        let bytes = size_of::<T>();
        Prefetcher::new(bytemuck::cast_slice(self.data), self.n, self.stride * bytes, self.len * bytes)
    }

    /// Whether vectors of `n_elems` elements are first loaded into a block; others are multiplied in place.
    #[inline(always)]
    pub(crate) fn need_block(isa: Isa, n_elems: usize) -> bool {
        T::as_elements(&[]).is_none() || !takes_elements(isa, n_elems)
    }

    /// `out[r][j]` = the dot product of row `r` of `rows`, which lie one after the other, with vector `j`. At most [`MAX_VECTORS`]
    /// vectors. `ahead`: memory to prefetch meanwhile; `block`: room for the elements of the vectors, if they are loaded first.
    #[inline(always)]
    pub(crate) fn dots(self, isa: Isa, rows: &[f32], ahead: Prefetcher, block: &mut [f32], out: &mut [PerVector]) {
        let n_elems = self.len * T::ELEMS;
        if takes_elements(isa, n_elems) {
            return match self.elements() {
                Some(vectors) => dispatch!(isa, set => set.strided_dots(rows, vectors, ahead, out)),
                None => {
                    let vectors = self.load(isa, ahead, block);
                    dispatch!(isa, set => set.strided_dots(rows, vectors, Prefetcher::NOTHING, out));
                }
            };
        }
        let vectors = self.load(isa, ahead, block);
        for (row, out) in rows.chunks_exact(n_elems).zip(out) {
            dispatch!(isa, set => set.dots(row, vectors.data, &mut out[..vectors.n]));
        }
    }

    /// `sums[r] +=` the sum over the vectors `v[j]` of `seen(r)` of `weights[r][j] * v[j]`. What a later row sees begins and ends no
    /// earlier. `ahead`, `block`: as for [`Vectors::dots`].
    #[inline(always)]
    pub(crate) fn add_weighted(
        self,
        isa: Isa,
        weights: &[PerVector],
        seen: impl Fn(usize) -> Range<usize>,
        ahead: Prefetcher,
        block: &mut [f32],
        sums: &mut [f32],
    ) {
        let n_elems = self.len * T::ELEMS;
        if takes_elements(isa, n_elems) {
            return match self.elements() {
                Some(vectors) => dispatch!(isa, set => set.add_strided(weights, seen, vectors, ahead, sums)),
                None => {
                    let vectors = self.load(isa, ahead, block);
                    dispatch!(isa, set => set.add_strided(weights, seen, vectors, Prefetcher::NOTHING, sums));
                }
            };
        }
        let vectors = self.load(isa, ahead, block);
        for (r, (weights, sums)) in weights.iter().zip(sums.chunks_exact_mut(n_elems)).enumerate() {
            let seen = seen(r);
            let data = &vectors.data[seen.start * n_elems..seen.end * n_elems];
            dispatch!(isa, set => set.add_weighted(&weights[seen], data, sums));
        }
    }

    /// As elements, if they are some.
    #[inline(always)]
    fn elements(self) -> Option<Vectors<'a, T::Element>> {
        let Vectors { data, n, stride, len } = self;
        T::as_elements(data).map(|data| Vectors { data, n, stride, len })
    }

    /// The vectors as `f32`, contiguous; prefetches meanwhile.
    #[inline(always)]
    fn load(self, isa: Isa, ahead: Prefetcher, block: &mut [f32]) -> Vectors<'_, f32> {
        let len = self.len * T::ELEMS;
        for (index, values) in block.chunks_exact_mut(len).take(self.n).enumerate() {
            ahead.prefetch(index..index + 1);
            T::load(isa, self.vector(index), values);
        }
        Vectors { data: &block[..self.n * len], n: self.n, stride: len, len }
    }
}

/// Whether vectors of `n_elems` elements are multiplied in place, if they are floats.
#[inline(always)]
fn takes_elements(isa: Isa, n_elems: usize) -> bool {
    dispatch!(isa, set => set.takes_elements(n_elems))
}

/// How an instruction set multiplies vectors in place, without loading them into a block first.
pub(crate) trait StridedKernels: Copy {
    /// Whether it multiplies vectors of `n_elems` elements in place.
    #[inline(always)]
    fn takes_elements(self, _n_elems: usize) -> bool {
        false
    }

    /// `out[r][j]` = the dot product of row `r` of `rows` with vector `j`; see [`Vectors::dots`].
    #[inline(always)]
    fn strided_dots<E: Element>(
        self,
        _rows: &[f32],
        _vectors: Vectors<'_, E>,
        _ahead: Prefetcher,
        _out: &mut [PerVector],
    ) {
        unreachable!("no set takes elements without a loop for them");
    }

    /// `sums[r] +=` the weighted sum of the vectors of `seen(r)`; see [`Vectors::add_weighted`].
    #[inline(always)]
    fn add_strided<E: Element>(
        self,
        _weights: &[PerVector],
        _seen: impl Fn(usize) -> Range<usize>,
        _vectors: Vectors<'_, E>,
        _ahead: Prefetcher,
        _sums: &mut [f32],
    ) {
        unreachable!("no set takes elements without a loop for them");
    }
}

impl StridedKernels for Portable {}
