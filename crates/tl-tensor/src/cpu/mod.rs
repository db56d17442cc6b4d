//! What CPU kernels of several operations share: elements one by one, and copies with conversion.

pub(crate) mod convert;
pub(crate) mod elements;
