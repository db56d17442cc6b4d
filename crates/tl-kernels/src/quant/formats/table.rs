//! Every format that weights can be computed on in.

use super::{BF16, F16, F32, IQ4_NL, IQ4_XS, MXFP4, Q2_K, Q3_K, Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0};
use crate::quant::weight::WeightKernels;

/// The formats: floats first.
pub static FORMATS: [&WeightKernels; 16] =
    [&F32, &F16, &BF16, &Q8_0, &Q4_0, &Q4_1, &Q5_0, &Q5_1, &IQ4_NL, &MXFP4, &Q2_K, &Q3_K, &Q4_K, &Q5_K, &Q6_K, &IQ4_XS];
