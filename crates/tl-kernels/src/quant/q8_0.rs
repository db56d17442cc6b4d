//! Q8_0: blocks of an `f16` scale and 32 signed bytes (34 bytes); value = scale * byte. Source: the GGML formats of GGUF.
#![allow(unsafe_code)]

use super::activations::{Activations, quantize_block};
use super::{Dot, Rows, WeightKernels, dot};
use crate::isa::{Isa, instantiate};
use half::f16;

const ELEMS: usize = 32;
const BYTES: usize = 34;

/// Q8_0, 8.5 bits per weight.
pub static Q8_0: WeightKernels = WeightKernels {
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
            for (value, byte) in output.iter_mut().zip(unpack(block)) {
                *value = scale * f32::from(byte);
            }
        }
    }
}

fn quantize(x: &[f32], bytes: &mut [u8]) {
    let (inputs, blocks) = (x.as_chunks::<ELEMS>().0, bytes.as_chunks_mut::<BYTES>().0);
    assert_eq!(inputs.len(), blocks.len());
    for (x, block) in inputs.iter().zip(blocks) {
        let mut values = [0; ELEMS];
        let scale = f16::from_f32(quantize_block(x, &mut values));
        block[..2].copy_from_slice(&scale.to_le_bytes());
        block[2..].copy_from_slice(bytemuck::cast_slice(&values));
    }
}

#[inline(always)]
fn unpack(block: &[u8; BYTES]) -> [i8; ELEMS] {
    std::array::from_fn(|i| block[2 + i] as i8)
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
    use dot::avx2::load_bytes;
    dot::avx2::integer(rows, x, n_tokens, out, |block: &[u8; BYTES]| {
        let [_, _, values @ ..] = block;
        load_bytes(values)
    });
}
