//! Scales that blocks keep as `f16`.

use crate::element::HalfConversions;
use crate::isa::{Isa, dispatch};
use half::f16;

/// The `f16` at byte `at` of a block.
#[inline(always)]
pub(crate) fn half_at(isa: Isa, block: &[u8], at: usize) -> f32 {
    let bytes = [block[at], block[at + 1]];
    dispatch!(isa, set => set.half_to_f32(bytes))
}

/// Stores an `f16` at byte `at` of a block; returns what it came to.
pub(crate) fn store_half(block: &mut [u8], at: usize, value: f32) -> f32 {
    let half = f16::from_f32(value);
    block[at..at + 2].copy_from_slice(&half.to_le_bytes());
    half.to_f32()
}
