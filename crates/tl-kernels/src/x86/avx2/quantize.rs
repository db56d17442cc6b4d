//! Activations as 8-bit blocks: the portable loops, compiled for AVX2, leave nothing to be gained.

use crate::quant::quantize::QuantizeKernels;
use crate::x86::level::Avx2;

impl QuantizeKernels for Avx2 {}
