//! What the block formats of small integers have in common: a block is unpacked into unsigned bytes and the scale and
//! minimum of each group of them, and everything that is not worth instructions of its own works from there.

use super::activations::{BLOCK, MAX_GROUP, Prepared, RowStretch};
use super::block_format::BlockFormat;
use super::formats::integer_format::IntegerFormat;
use super::row_dot::RowDots;
use super::rows::Rows;
use super::stretch::{STRETCH, Stretch};
use super::weight::{Dot, IntegerKernels, WeightKernels};
use crate::isa::{Isa, dispatch, instantiate};
use crate::workspace::Line;

/// A format whose elements are `scale * (byte - OFFSET) + minimum`, scale and minimum by groups of [`GROUP`](Self::GROUP).
pub(crate) trait BlockCodec: Copy + Send + Sync + 'static {
    /// Which one it is.
    const FORMAT: IntegerFormat;
    /// What users call it.
    const NAME: &'static str;
    /// What GGUF files call it: see [`BlockFormat::id`].
    const ID: u32;
    /// What GGUF files call themselves that are in it: see [`WeightKernels::file_type`].
    const FILE_TYPE: u32;
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

    /// Unpacks one block: its bytes, and the scale (and minimum) of each group.
    fn unpack(isa: Isa, block: &[u8], values: &mut [u8], scales: &mut [f32], minima: &mut [f32]);

    /// Writes the values of one block as near as the format can.
    fn quantize(x: &[f32], block: &mut [u8]);
}

/// A format as a marker value, so that functions can be generic over it.
#[derive(Clone, Copy)]
struct Marker<F>(std::marker::PhantomData<F>);

impl<F: BlockCodec> Marker<F> {
    const NEW: Marker<F> = Marker(std::marker::PhantomData);
}

/// The row of a format.
pub(crate) const fn integer<F: BlockCodec>() -> WeightKernels {
    const { assert!(F::GROUP == 32 || F::GROUP == 16, "what the products know") };
    WeightKernels {
        blocks: BlockFormat { name: F::NAME, id: F::ID, block_elems: F::ELEMS, block_bytes: F::BYTES },
        file_type: F::FILE_TYPE,
        dequantize: dequantize::<F>,
        quantize: Some(quantize::<F>),
        dot: Dot::Integer(IntegerKernels {
            group: F::GROUP,
            offset: F::OFFSET,
            has_minima: F::HAS_MINIMA,
            unpack: unpack::<F>,
            group_size: |isa| dispatch!(isa, set => set.group(F::FORMAT)),
            prepare: prepare::<F>,
            dot: dot::<F>,
        }),
    }
}

fn dequantize<F: BlockCodec>(isa: Isa, bytes: &[u8], out: &mut [f32]) {
    dequantize_format(isa, Marker::<F>::NEW, bytes, out);
}

/// Never inlined: a caller that it is inlined into is not vectorized.
#[inline(never)]
fn unpack<F: BlockCodec>(isa: Isa, bytes: &[u8], stretch: &mut Stretch) {
    unpack_format(isa, Marker::<F>::NEW, bytes, stretch);
}

/// Panics unless the bytes are whole blocks of so many elements.
fn assert_blocks<F: BlockCodec>(bytes: &[u8], n_elems: usize) {
    let is_whole = bytes.len().is_multiple_of(F::BYTES) && bytes.len() / F::BYTES * F::ELEMS == n_elems;
    assert!(is_whole, "{} bytes and {n_elems} elements in blocks of {} and {}", bytes.len(), F::BYTES, F::ELEMS);
}

fn quantize<F: BlockCodec>(x: &[f32], bytes: &mut [u8]) {
    assert_blocks::<F>(bytes, x.len());
    for (x, block) in x.chunks_exact(F::ELEMS).zip(bytes.chunks_exact_mut(F::BYTES)) {
        F::quantize(x, block);
    }
}

fn prepare<F: BlockCodec>(isa: Isa, stretches: &[RowStretch; MAX_GROUP], lines: &mut [Line]) {
    dispatch!(isa, set => set.prepare(F::FORMAT, F::OFFSET, stretches, lines));
}

/// The format's own dot products; without these instructions, those of [`Stretch`]es, which are right for all.
fn dot<F: BlockCodec>(isa: Isa, rows: Rows<'_>, x: Prepared<'_>, out: &mut [f32]) {
    if dispatch!(isa, set => set.block_dot(F::FORMAT, rows, x, out)) {
        return;
    }
    let piece_bytes = STRETCH / F::ELEMS * F::BYTES;
    let x = x.groups::<RowStretch>(rows.length.div_ceil(piece_bytes));
    let n_rows = out.len() / x.n_tokens;
    let mut stretch = Stretch::ZERO;
    for (j, row) in rows.all(n_rows).enumerate() {
        for g in 0..x.n_groups {
            let rest = &row[g * piece_bytes..];
            let is_last = g > 0 && rest.len() < piece_bytes;
            let piece = if is_last { &row[row.len() - piece_bytes..] } else { &rest[..rest.len().min(piece_bytes)] };
            unpack::<F>(isa, piece, &mut stretch);
            for t in 0..x.n_tokens {
                out[t * n_rows + j] += stretch_dot::<F>(&stretch, x.at(g, t));
            }
        }
    }
}

/// The dot product of a stretch of a row with a stretch of activations.
#[inline(always)]
fn stretch_dot<F: BlockCodec>(w: &Stretch, x: &RowStretch) -> f32 {
    let groups = w.values.chunks_exact(F::GROUP).zip(x.values.chunks_exact(F::GROUP));
    let mut total = 0.0;
    for (g, (w_values, x_values)) in groups.enumerate() {
        let products =
            w_values.iter().zip(x_values).map(|(&w, &x)| (i32::from(w) - i32::from(F::OFFSET)) * i32::from(x));
        total += w.scales[g] * x.scales[g * F::GROUP / BLOCK] * products.sum::<i32>() as f32;
    }
    // A minimum stands for 32 elements, as a total does, or for 16.
    let minima = || match F::GROUP {
        BLOCK => w.minima.iter().zip(&x.totals).map(|(minimum, total)| minimum * total).sum::<f32>(),
        _ => {
            let pairs = w.minima.as_chunks::<2>().0.iter().zip(x.sums.as_chunks::<2>().0);
            let blocks = pairs.zip(&x.scales);
            blocks.map(|((low, sums), scale)| scale * (low[0] * sums[0] as f32 + low[1] * sums[1] as f32)).sum()
        }
    };
    if F::HAS_MINIMA { total + minima() } else { total }
}

instantiate! {
    fn unpack_format[F: BlockCodec](isa: Isa, format: Marker<F>, bytes: &[u8], stretch: &mut Stretch) {
        unpack_blocks::<F>(isa, bytes, stretch);
    }

    fn dequantize_format[F: BlockCodec](isa: Isa, format: Marker<F>, bytes: &[u8], out: &mut [f32]) {
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
fn unpack_blocks<F: BlockCodec>(isa: Isa, bytes: &[u8], stretch: &mut Stretch) {
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
