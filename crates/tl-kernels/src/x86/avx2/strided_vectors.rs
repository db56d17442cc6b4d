//! Strided vectors: all are loaded into a block first.

use crate::strided_vectors::StridedKernels;
use crate::x86::level::Avx2;

impl StridedKernels for Avx2 {}
