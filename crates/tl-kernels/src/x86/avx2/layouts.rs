//! The layouts of products of many tokens: the portable ones.

use crate::quant::gemm::choice::GemmLayouts;
use crate::quant::gemm::integer::IntegerPanelKernels;
use crate::quant::gemm::multiply::TileSums;
use crate::x86::level::Avx2;

impl GemmLayouts for Avx2 {}

/// Products of small integers multiply rows as they lie, however many tokens there are.
impl IntegerPanelKernels for Avx2 {}

impl TileSums for Avx2 {}
