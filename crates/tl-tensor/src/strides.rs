//! Where the elements of a tensor lie: strides, contiguity, broadcasting, and the one dimension that may repeat its
//! elements.

use std::num::NonZeroU32;

use smallvec::SmallVec;

/// Distances between neighbours in each dimension, in elements.
pub type Strides = SmallVec<[usize; 6]>;

/// A dimension that repeats each of its elements: element `i` lies `i / times` strides from the first. `reshape` makes
/// one of two dimensions of which the second has stride 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Repeat {
    axis: u32,
    /// A divisor of the dimension's size.
    times: NonZeroU32,
}

impl Repeat {
    /// `None` where a number exceeds 32 bits.
    pub(crate) fn new(axis: usize, times: usize) -> Option<Repeat> {
        Some(Repeat { axis: u32::try_from(axis).ok()?, times: NonZeroU32::new(u32::try_from(times).ok()?)? })
    }

    pub(crate) fn axis(self) -> usize {
        self.axis as usize
    }

    pub(crate) fn times(self) -> usize {
        self.times.get() as usize
    }
}

/// Strides of a contiguous tensor; all 0 for one without elements, so that no kernel steps out of its empty memory.
pub(crate) fn contiguous_strides(dims: &[usize]) -> Strides {
    if dims.contains(&0) {
        return SmallVec::from_elem(0, dims.len());
    }
    let mut strides: Strides = SmallVec::from_elem(1, dims.len());
    for i in (1..dims.len()).rev() {
        strides[i - 1] = strides[i].saturating_mul(dims[i]);
    }
    strides
}

pub(crate) fn is_contiguous(dims: &[usize], strides: &[usize]) -> bool {
    if dims.contains(&0) {
        return true;
    }
    let mut expected = 1;
    for (&dim, &stride) in dims.iter().zip(strides).rev() {
        if dim != 1 && stride != expected {
            return false;
        }
        expected *= dim;
    }
    true
}

/// Strides with which a tensor is read as if it had the dimensions of `dims`.
pub(crate) fn broadcast_strides(own: &[usize], strides: &[usize], dims: &[usize]) -> crate::Strides {
    let missing = dims.len() - own.len();
    (0..dims.len())
        .map(|i| if i < missing || (own[i - missing] == 1 && dims[i] != 1) { 0 } else { strides[i - missing] })
        .collect()
}
