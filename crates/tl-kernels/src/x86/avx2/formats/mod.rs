//! The formats, each a file: its own instructions and no more; loops and sums are those of `block_rows`.

pub(super) mod iq4_nl;
pub(super) mod iq4_xs;
pub(super) mod mxfp4;
pub(super) mod q2_k;
pub(in crate::x86) mod q3_k;
pub(super) mod q4_0;
pub(super) mod q4_1;
pub(super) mod q4_k;
pub(super) mod q5_0;
pub(super) mod q5_1;
pub(super) mod q5_k;
pub(super) mod q6_k;
pub(super) mod q8_0;
