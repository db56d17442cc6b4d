//! Formats without blocks: `f32`, `f16` and `bf16`, little endian, each element a block of its own.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
use super::dot::{avx2, avx512};
use super::{Dot, FloatDot, FloatKernels, Rows, WeightKernels};
use crate::element::{Element, FloatSlice, load};
use crate::isa::{Isa, instantiate};
use half::{bf16, f16};

/// `f32`, 32 bits per weight.
pub static F32: WeightKernels = dense::<f32>(dot_f32);
/// `f16`, 16 bits per weight.
pub static F16: WeightKernels = dense::<f16>(dot_f16);
/// `bf16`, 16 bits per weight.
pub static BF16: WeightKernels = dense::<bf16>(dot_bf16);

const fn dense<T: Element>(dot: FloatDot) -> WeightKernels {
    WeightKernels {
        block_elems: 1,
        block_bytes: size_of::<T>(),
        dequantize: dequantize::<T>,
        quantize: Some(quantize::<T>),
        dot: Dot::Float(FloatKernels { dot, bf16_parts: T::BF16_PARTS }),
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
        for (row, out) in rows.with_sums(out) {
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

/// Defines the dot products of weights and activations of these types; `dot::avx512` and `dot::avx2` have an `unpack` of that name.
macro_rules! dense_dot {
    ($isa:ident, $rows:ident, $x:ident, $out:ident; $w_type:ty, $w_unpack:ident; $x_type:ty, $x_unpack:ident) => {{
        #[cfg(target_arch = "x86_64")]
        if $isa.has_avx512() && $x.len().is_multiple_of(avx512::LANES) {
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma,f16c")]
            fn dot_avx512(rows: Rows<'_>, x: &[$x_type], out: &mut [f32]) {
                avx512::float::<{ avx512::LANES * size_of::<$w_type>() }, $x_type>(
                    rows,
                    x,
                    out,
                    |weights| avx512::$w_unpack(weights),
                    |x| avx512::$x_unpack(bytemuck::cast_ref(x)),
                );
            }
            // SAFETY: this `Isa` proves AVX-512.
            return unsafe { dot_avx512($rows, $x, $out) };
        }
        #[cfg(target_arch = "x86_64")]
        if $isa.has_avx2() && $x.len().is_multiple_of(avx2::LANES) {
            #[target_feature(enable = "avx2,fma,f16c")]
            fn dot_avx2(rows: Rows<'_>, x: &[$x_type], out: &mut [f32]) {
                avx2::float::<{ avx2::LANES * size_of::<$w_type>() }, $x_type>(
                    rows,
                    x,
                    out,
                    |weights| avx2::$w_unpack(weights),
                    |x| avx2::$x_unpack(bytemuck::cast_ref(x)),
                );
            }
            // SAFETY: this `Isa` proves avx2, fma and f16c.
            return unsafe { dot_avx2($rows, $x, $out) };
        }
        dot_through($isa, $rows, $x, $out, &mut [<$w_type as bytemuck::Zeroable>::zeroed(); CHUNK]);
    }};
}

/// Defines the dot products of a weight's type with every type of activations.
macro_rules! dense_dots {
    ($name:ident, $type:ty, $unpack:ident) => {
        fn $name(isa: Isa, rows: Rows<'_>, x: FloatSlice<'_>, out: &mut [f32]) {
            match x {
                FloatSlice::F32(x) => dense_dot!(isa, rows, x, out; $type, $unpack; f32, unpack_f32),
                FloatSlice::F16(x) => dense_dot!(isa, rows, x, out; $type, $unpack; f16, unpack_f16),
                FloatSlice::Bf16(x) => dense_dot!(isa, rows, x, out; $type, $unpack; bf16, unpack_bf16),
            }
        }
    };
}

dense_dots!(dot_f32, f32, unpack_f32);
dense_dots!(dot_f16, f16, unpack_f16);
dense_dots!(dot_bf16, bf16, unpack_bf16);
