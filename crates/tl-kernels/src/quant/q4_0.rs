//! Q4_0: blocks of an `f16` scale and 16 bytes (18 bytes); the low half of byte `j` is element `j`, the high half element
//! `16 + j`; value = scale * (half - 8). Source: the GGML formats of GGUF.
#![allow(unsafe_code)]

use super::activations::Activations;
use super::{Dot, Rows, WeightKernels, dot};
use crate::isa::{Isa, instantiate};
use half::f16;

const ELEMS: usize = 32;
const BYTES: usize = 18;

/// Q4_0, 4.5 bits per weight.
pub static Q4_0: WeightKernels = WeightKernels {
    block_elems: ELEMS,
    block_bytes: BYTES,
    dequantize,
    quantize: Some(quantize),
    dot: Dot::Integer(dot),
};

instantiate! {
    fn dequantize(isa: Isa, bytes: &[u8], out: &mut [f32]) {
        let (blocks, outputs) = (bytes.as_chunks::<BYTES>().0, out.as_chunks_mut::<ELEMS>().0);
        assert_eq!(blocks.len(), outputs.len());
        for (block, output) in blocks.iter().zip(outputs) {
            let scale = f16::from_le_bytes([block[0], block[1]]).to_f32();
            for (value, weight) in output.iter_mut().zip(unpack(block)) {
                *value = scale * f32::from(weight);
            }
        }
    }
}

/// The element of largest size becomes -8 exactly, so that the scale may be negative; the rest is rounded and stays below 8.
fn quantize(x: &[f32], bytes: &mut [u8]) {
    let (inputs, blocks) = (x.as_chunks::<ELEMS>().0, bytes.as_chunks_mut::<BYTES>().0);
    assert_eq!(inputs.len(), blocks.len());
    for (x, block) in inputs.iter().zip(blocks) {
        let largest = x.iter().fold(0.0, |max: f32, &x| if x.abs() > max.abs() { x } else { max });
        let scale = largest / -8.0;
        let inverse = if scale == 0.0 { 0.0 } else { scale.recip() };
        let half_byte = |x: f32| (x * inverse + 8.5).clamp(0.0, 15.0) as u8;
        block[..2].copy_from_slice(&f16::from_f32(scale).to_le_bytes());
        for j in 0..ELEMS / 2 {
            block[2 + j] = half_byte(x[j]) | half_byte(x[ELEMS / 2 + j]) << 4;
        }
    }
}

#[inline(always)]
fn unpack(block: &[u8; BYTES]) -> [i8; ELEMS] {
    let mut values = [0; ELEMS];
    for j in 0..ELEMS / 2 {
        values[j] = (block[2 + j] & 15) as i8 - 8;
        values[ELEMS / 2 + j] = (block[2 + j] >> 4) as i8 - 8;
    }
    values
}

fn dot(isa: Isa, rows: Rows<'_>, x: Activations<'_>, n_tokens: usize, out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if isa.has_avx2() {
        // SAFETY: this `Isa` proves avx2, fma and f16c.
        return unsafe { dot_avx2(rows, x, n_tokens, out) };
    }
    dot::integer(rows, x, n_tokens, out, unpack);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn dot_avx2(rows: Rows<'_>, x: Activations<'_>, n_tokens: usize, out: &mut [f32]) {
    use dot::avx2::load_half;
    use std::arch::x86_64::*;
    dot::avx2::integer(rows, x, n_tokens, out, |block: &[u8; BYTES]| {
        let [_, _, pairs @ ..] = block;
        let pairs = load_half(pairs);
        let both = _mm256_set_m128i(_mm_srli_epi16::<4>(pairs), pairs);
        let halves = _mm256_and_si256(both, _mm256_set1_epi8(15));
        _mm256_sub_epi8(halves, _mm256_set1_epi8(8))
    });
}
