//! What the block formats of small integers have in common: a block is unpacked into unsigned bytes and the scale and
//! minimum of each group of them, and everything that is not worth instructions of its own works from there.
#![allow(unsafe_code)]

use super::activations::Row;
use super::{Dot, Rows, WeightKernels, dot};
use crate::isa::{Isa, instantiate};
use bytemuck::Zeroable;

/// Elements that are unpacked at a time: one block of the large formats, several of the small ones.
pub(crate) const STRETCH: usize = 256;
/// The smallest group of elements with a scale of its own.
pub(crate) const MIN_GROUP: usize = 16;

/// A format whose elements are `scale * (byte - OFFSET) + minimum`, scale and minimum by groups of [`GROUP`](Self::GROUP).
pub(crate) trait BlockFormat: Copy + Send + Sync + 'static {
    /// Elements of a block; a divisor of [`STRETCH`].
    const ELEMS: usize;
    /// Bytes of a block.
    const BYTES: usize;
    /// Elements that share a scale: 16 or 32.
    const GROUP: usize;
    /// What stands for zero. Formats with minima have none.
    const OFFSET: u8;
    /// Whether groups have a minimum.
    const HAS_MINIMA: bool;

    /// The dot product with AVX-512.
    #[cfg(target_arch = "x86_64")]
    const AVX512: RowDot;
    /// The dot product with AVX2.
    #[cfg(target_arch = "x86_64")]
    const AVX2: RowDot;

    /// Unpacks one block: its bytes, and the scale (and minimum) of each group.
    fn unpack(isa: Isa, block: &[u8], values: &mut [u8], scales: &mut [f32], minima: &mut [f32]);

    /// Writes the values of one block as near as the format can.
    fn quantize(x: &[f32], block: &mut [u8]);
}

/// `out[j] +=` the dot product of row `j` with the activations. To be called where its instructions exist.
#[cfg(target_arch = "x86_64")]
pub(crate) type RowDot = unsafe fn(Rows<'_>, Row<'_>, &mut [f32]);

/// Up to [`STRETCH`] elements of a row, unpacked.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Stretch {
    pub(crate) values: [u8; STRETCH],
    /// By groups of the format; the rest is zero.
    pub(crate) scales: [f32; STRETCH / MIN_GROUP],
    pub(crate) minima: [f32; STRETCH / MIN_GROUP],
}

// SAFETY: bytes and floats, of which zeros are values.
unsafe impl Zeroable for Stretch {}

impl Stretch {
    pub(crate) const ZERO: Stretch =
        Stretch { values: [0; STRETCH], scales: [0.0; STRETCH / MIN_GROUP], minima: [0.0; STRETCH / MIN_GROUP] };
}

/// What the products need to know of a format of small integers.
#[derive(Clone, Copy)]
pub struct IntegerKernels {
    pub(crate) group: usize,
    pub(crate) offset: u8,
    pub(crate) has_minima: bool,
    /// Unpacks whole blocks, at most a stretch of them.
    pub(crate) unpack: fn(Isa, &[u8], &mut Stretch),
    /// `out[j] +=` the dot product of row `j` with the activations, the rows of one stream after those of the other.
    pub(crate) dot: fn(Isa, Rows<'_>, Row<'_>, &mut [f32]),
}

impl std::fmt::Debug for IntegerKernels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IntegerKernels").field("group", &self.group).field("offset", &self.offset).finish()
    }
}

/// A format as a marker value, so that functions can be generic over it.
#[derive(Clone, Copy)]
struct Marker<F>(std::marker::PhantomData<F>);

impl<F: BlockFormat> Marker<F> {
    const NEW: Marker<F> = Marker(std::marker::PhantomData);
}

/// The row of a format.
pub(crate) const fn integer<F: BlockFormat>() -> WeightKernels {
    const { assert!(F::GROUP == 32 || F::GROUP == 16, "what the products know") };
    WeightKernels {
        block_elems: F::ELEMS,
        block_bytes: F::BYTES,
        dequantize: dequantize::<F>,
        quantize: Some(quantize::<F>),
        dot: Dot::Integer(IntegerKernels {
            group: F::GROUP,
            offset: F::OFFSET,
            has_minima: F::HAS_MINIMA,
            unpack: unpack::<F>,
            dot: dot::<F>,
        }),
    }
}

fn dequantize<F: BlockFormat>(isa: Isa, bytes: &[u8], out: &mut [f32]) {
    dequantize_format(isa, Marker::<F>::NEW, bytes, out);
}

/// Never inlined: what it is inlined into does not become vector instructions.
#[inline(never)]
fn unpack<F: BlockFormat>(isa: Isa, bytes: &[u8], stretch: &mut Stretch) {
    unpack_format(isa, Marker::<F>::NEW, bytes, stretch);
}

/// Panics unless the bytes are whole blocks of so many elements.
fn assert_blocks<F: BlockFormat>(bytes: &[u8], n_elems: usize) {
    let is_whole = bytes.len().is_multiple_of(F::BYTES) && bytes.len() / F::BYTES * F::ELEMS == n_elems;
    assert!(is_whole, "{} bytes and {n_elems} elements in blocks of {} and {}", bytes.len(), F::BYTES, F::ELEMS);
}

fn quantize<F: BlockFormat>(x: &[f32], bytes: &mut [u8]) {
    assert_blocks::<F>(bytes, x.len());
    for (x, block) in x.chunks_exact(F::ELEMS).zip(bytes.chunks_exact_mut(F::BYTES)) {
        F::quantize(x, block);
    }
}

/// The format's own dot product; without these instructions, that of [`Stretch`]es, which is right for all.
fn dot<F: BlockFormat>(isa: Isa, rows: Rows<'_>, x: Row<'_>, out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if isa.has_avx512() {
        // SAFETY: this `Isa` proves AVX-512.
        return unsafe { F::AVX512(rows, x, out) };
    }
    #[cfg(target_arch = "x86_64")]
    if isa.has_avx2() {
        // SAFETY: this `Isa` proves avx2, fma and f16c.
        return unsafe { F::AVX2(rows, x, out) };
    }
    let mut stretch = Stretch::ZERO;
    for (row, out) in rows.with_sums(out) {
        for (bytes, x) in row.chunks(STRETCH / F::ELEMS * F::BYTES).zip(x.stretches()) {
            unpack::<F>(isa, bytes, &mut stretch);
            *out += dot::stretch::<F>(&stretch, x);
        }
    }
}

instantiate! {
    fn unpack_format[F: BlockFormat](isa: Isa, format: Marker<F>, bytes: &[u8], stretch: &mut Stretch) {
        unpack_blocks::<F>(isa, bytes, stretch);
    }

    fn dequantize_format[F: BlockFormat](isa: Isa, format: Marker<F>, bytes: &[u8], out: &mut [f32]) {
        assert_blocks::<F>(bytes, out.len());
        let mut stretch = Stretch::ZERO;
        for (bytes, out) in bytes.chunks(STRETCH / F::ELEMS * F::BYTES).zip(out.chunks_mut(STRETCH)) {
            unpack::<F>(isa, bytes, &mut stretch);
            let groups = stretch.values.chunks_exact(F::GROUP).zip(out.chunks_exact_mut(F::GROUP));
            for ((values, out), (scale, minimum)) in groups.zip(stretch.scales.iter().zip(&stretch.minima)) {
                for (out, value) in out.iter_mut().zip(values) {
                    let value = f32::from(i16::from(*value) - i16::from(F::OFFSET));
                    *out = if F::HAS_MINIMA { scale * value + minimum } else { scale * value };
                }
            }
        }
    }
}

/// Unpacks at most a stretch of blocks; the scales of what a short one leaves of the stretch are zero.
#[inline(always)]
fn unpack_blocks<F: BlockFormat>(isa: Isa, bytes: &[u8], stretch: &mut Stretch) {
    let n_groups = F::ELEMS / F::GROUP;
    let values = stretch.values.chunks_exact_mut(F::ELEMS);
    let scales = stretch.scales.chunks_exact_mut(n_groups).zip(stretch.minima.chunks_exact_mut(n_groups));
    for ((block, values), (scales, minima)) in bytes.chunks_exact(F::BYTES).zip(values).zip(scales) {
        F::unpack(isa, block, values, scales, minima);
    }
    let used = bytes.len() / F::BYTES * n_groups;
    if used < stretch.scales.len() {
        stretch.scales[used..].fill(0.0);
        stretch.minima[used..].fill(0.0);
    }
}

/// The array that the slice is. Panics where its length is another.
#[inline(always)]
pub(crate) fn array<T, const N: usize>(slice: &[T]) -> &[T; N] {
    match slice.first_chunk() {
        Some(array) if slice.len() == N => array,
        _ => panic!("{} values instead of {N}", slice.len()),
    }
}

/// As [`array`], to be written.
#[inline(always)]
pub(crate) fn array_mut<T, const N: usize>(slice: &mut [T]) -> &mut [T; N] {
    let len = slice.len();
    match slice.first_chunk_mut() {
        Some(array) if len == N => array,
        _ => panic!("{len} values instead of {N}"),
    }
}
