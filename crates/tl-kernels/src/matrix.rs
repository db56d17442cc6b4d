//! A strided matrix.

use crate::element::Element;
use crate::isa::Isa;

/// A matrix in a slice: element `(i, j)` is `data[i * row_stride + j * col_stride]`. Any strides: a transposed matrix
/// has them exchanged, 0 repeats.
#[derive(Debug)]
pub struct Matrix<'a, T> {
    /// The elements, from the first to at least the last.
    pub data: &'a [T],
    /// Distance between rows, in elements.
    pub row_stride: usize,
    /// Distance between columns, in elements.
    pub col_stride: usize,
}

impl<T> Clone for Matrix<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Matrix<'_, T> {}

/// `dst[i] = src[i * stride]`.
#[inline(always)]
pub(crate) fn load_strided<T: Element>(isa: Isa, src: &[T], stride: usize, dst: &mut [f32]) {
    if stride == 1 {
        return T::load(isa, &src[..dst.len()], dst);
    }
    for (i, dst) in dst.iter_mut().enumerate() {
        *dst = src[i * stride].to_f32();
    }
}
