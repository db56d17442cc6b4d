//! Formats without blocks: `f32`, `f16` and `bf16`, little endian, each element a block of its own.

use crate::element::{Element, FloatSlice, load};
use crate::isa::{Isa, dispatch, instantiate};
use crate::quant::block_format::BlockFormat;
use crate::quant::row_dot::RowDots;
use crate::quant::rows::Rows;
use crate::quant::tokens::FloatTokens;
use crate::quant::weight::{Dot, FloatKernels, WeightKernels};
use half::{bf16, f16};

/// `f32`, 32 bits per weight.
pub static F32: WeightKernels = dense::<f32>("f32", 0, 0);
/// `f16`, 16 bits per weight.
pub static F16: WeightKernels = dense::<f16>("f16", 1, 1);
/// `bf16`, 16 bits per weight.
pub static BF16: WeightKernels = dense::<bf16>("bf16", 30, 32);

const fn dense<T: Element>(name: &'static str, id: u32, file_type: u32) -> WeightKernels {
    WeightKernels {
        blocks: BlockFormat { name, id, block_elems: 1, block_bytes: size_of::<T>() },
        file_type,
        dequantize: dequantize::<T>,
        quantize: Some(quantize::<T>),
        dot: Dot::Float(FloatKernels { dot: dot::<T>, dots: dots::<T>, bf16_parts: T::BF16_PARTS }),
    }
}

/// Elements that are brought into alignment at a time.
const CHUNK: usize = 64;

instantiate! {
    fn dequantize_through[T: Element](isa: Isa, bytes: &[u8], out: &mut [f32], aligned: &mut [T; CHUNK]) {
        assert_eq!(bytes.len(), out.len() * size_of::<T>());
        for (bytes, out) in bytes.chunks(CHUNK * size_of::<T>()).zip(out.chunks_mut(CHUNK)) {
            let aligned = &mut aligned[..out.len()];
            bytemuck::cast_slice_mut(aligned).copy_from_slice(bytes);
            T::load(isa, aligned, out);
        }
    }

    /// Dot products in eight sums.
    fn dot_through[T: Element, X: Element](
        isa: Isa, rows: Rows<'_>, x: &[X], out: &mut [f32], aligned: &mut [T; CHUNK],
    ) {
        let (mut weights, mut activations) = ([0.0; CHUNK], [0.0; CHUNK]);
        for (row, out) in rows.all(out.len()).zip(out) {
            let mut sums = [0.0; 8];
            for (bytes, x) in row.chunks(CHUNK * size_of::<T>()).zip(x.chunks(CHUNK)) {
                let (weights, activations) = (&mut weights[..x.len()], &mut activations[..x.len()]);
                dequantize_through(isa, bytes, weights, aligned);
                X::load(isa, x, activations);
                let (groups, rest) = activations.as_chunks::<8>();
                let (groups_w, rest_w) = weights.as_chunks::<8>();
                for (w, x) in groups_w.iter().zip(groups) {
                    for i in 0..8 {
                        sums[i] = isa.mul_add(w[i], x[i], sums[i]);
                    }
                }
                for (w, x) in rest_w.iter().zip(rest) {
                    sums[0] = isa.mul_add(*w, *x, sums[0]);
                }
            }
            *out += sums.iter().sum::<f32>();
        }
    }
}

/// The instruction set's own dot product; where it has none, one that is right for any row.
fn dot<T: Element>(isa: Isa, rows: Rows<'_>, x: FloatSlice<'_>, out: &mut [f32]) {
    if dispatch!(isa, set => set.float_dot::<T>(rows, x, out)) {
        return;
    }
    let mut aligned = [T::zeroed(); CHUNK];
    match x {
        FloatSlice::F32(x) => dot_through(isa, rows, x, out, &mut aligned),
        FloatSlice::F16(x) => dot_through(isa, rows, x, out, &mut aligned),
        FloatSlice::Bf16(x) => dot_through(isa, rows, x, out, &mut aligned),
    }
}

/// The instruction set's own dot products of several tokens; where it has none, those of one token after the other.
fn dots<T: Element>(isa: Isa, rows: Rows<'_>, x: FloatTokens<'_>, out: &mut [f32]) {
    if dispatch!(isa, set => set.float_dots::<T>(rows, x, out)) {
        return;
    }
    let n_rows = out.len() / x.count();
    for (t, out) in out.chunks_exact_mut(n_rows).enumerate() {
        dot::<T>(isa, rows, FloatSlice::F32(x.token(t)), out);
    }
}

fn dequantize<T: Element>(isa: Isa, bytes: &[u8], out: &mut [f32]) {
    // What a file maps is aligned, as a rule.
    match bytemuck::try_cast_slice(bytes) {
        Ok(aligned) => load::<T>(isa, aligned, out),
        Err(_) => dequantize_through(isa, bytes, out, &mut [T::zeroed(); CHUNK]),
    }
}

fn quantize<T: Element>(x: &[f32], bytes: &mut [u8]) {
    assert_eq!(bytes.len(), x.len() * size_of::<T>());
    for (x, bytes) in x.iter().zip(bytes.chunks_exact_mut(size_of::<T>())) {
        bytes.copy_from_slice(bytemuck::bytes_of(&T::from_f32(*x)));
    }
}
