//! Some elements of a row of a weight, unpacked: what the integer products multiply where they do not multiply blocks as they lie.
#![allow(unsafe_code)]

use bytemuck::Zeroable;

/// Elements that are unpacked at a time: one block of the large formats, several of the small ones.
pub(crate) const STRETCH: usize = 256;
/// The smallest group of elements with a scale of its own.
pub(crate) const MIN_GROUP: usize = 16;

/// Up to [`STRETCH`] elements of a row, unpacked.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Stretch {
    pub(crate) values: [u8; STRETCH],
    /// By groups of the format; the rest is zero.
    pub(crate) scales: [f32; STRETCH / MIN_GROUP],
    pub(crate) minima: [f32; STRETCH / MIN_GROUP],
}

// SAFETY: bytes and floats, of which zeros are values.
unsafe impl Zeroable for Stretch {}

impl Stretch {
    pub(crate) const ZERO: Stretch =
        Stretch { values: [0; STRETCH], scales: [0.0; STRETCH / MIN_GROUP], minima: [0.0; STRETCH / MIN_GROUP] };
}
