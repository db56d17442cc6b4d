//! Layouts: a data type and dimensions. The key of every reservation.
//!
//! Nothing here knows memory or operations. Dimensions are inline up to rank six, so that making, copying and hashing a
//! layout does not allocate.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

use smallvec::SmallVec;
use tl_kernels::BlockFormat;

/// Alignment of every buffer in bytes: a cache line, and the width of the widest vector registers.
pub(crate) const ALIGN: usize = 64;

/// A layout without a size in bytes.
///
/// ```
/// use tl_device::{DType, Layout, LayoutError};
/// let impossible = Layout::new(DType::F32, [usize::MAX, 2]);
/// assert!(matches!(impossible.len_bytes(), Err(LayoutError::TooLarge { .. })));
/// ```
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// The element count or byte count exceeds the address space.
    #[error("{layout} is too large: its size in bytes does not fit the address space")]
    TooLarge {
        /// The layout.
        layout: Layout,
    },
    /// A last dimension that is not a whole number of blocks of its format.
    #[error("{layout}: the last dimension must be a multiple of {block_elems}, the block size of this format")]
    PartialBlock {
        /// The layout.
        layout: Layout,
        /// Elements in a block.
        block_elems: usize,
    },
}

/// The data type of a tensor's elements, as stored.
///
/// ```
/// use tl_device::{DType, Layout};
/// let token_ids = Layout::new(DType::I32, [128]);
/// assert_eq!(token_ids.dtype(), DType::I32);
/// assert_eq!(token_ids.to_string(), "int32[128]");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum DType {
    /// IEEE half precision, two bytes.
    F16,
    /// IEEE single precision, four bytes.
    F32,
    /// Signed 32-bit integers.
    I32,
    /// Truth values, one byte each, 0 or 1.
    Bool,
    /// A stored weight format: whole blocks of elements along the last dimension.
    Block(&'static BlockFormat),
}

impl DType {
    /// Blocks of 32 elements, a half-precision scale and 8 bits for each: 34 bytes. The one block format that is also
    /// written: KV caches can be kept in it.
    ///
    /// ```
    /// use tl_device::{DType, Layout};
    /// let keys = Layout::new(DType::Q8_0, [1024, 4, 64]);
    /// assert_eq!(keys.len_bytes()?, 1024 * 4 * 2 * 34);
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    pub const Q8_0: DType = DType::Block(&tl_kernels::Q8_0.blocks);

    /// The types of tensors and caches that a program can create.
    pub(crate) const WRITTEN: [DType; 5] = [DType::F16, DType::F32, DType::I32, DType::Bool, DType::Q8_0];

    /// The name in programs: `float16`, `int32`, `q4_0`.
    ///
    /// ```
    /// use tl_device::DType;
    /// assert_eq!(DType::F16.name(), "float16");
    /// assert_eq!(DType::I32.name(), "int32");
    /// ```
    pub fn name(self) -> &'static str {
        match self {
            DType::F16 => "float16",
            DType::F32 => "float32",
            DType::I32 => "int32",
            DType::Bool => "bool",
            DType::Block(format) => format.name,
        }
    }

    /// Whether this is `float16` or `float32`, the types of activations.
    ///
    /// ```
    /// use tl_device::DType;
    /// assert!(DType::F16.is_float());
    /// assert!(!DType::I32.is_float());
    /// ```
    pub fn is_float(self) -> bool {
        matches!(self, DType::F16 | DType::F32)
    }

    /// Elements in a block; 1 for types other than block formats.
    ///
    /// ```
    /// use tl_device::DType;
    /// assert_eq!(DType::Q8_0.block_elems(), 32);
    /// assert_eq!(DType::F32.block_elems(), 1);
    /// ```
    pub fn block_elems(self) -> usize {
        match self {
            DType::Block(format) => format.block_elems,
            _ => 1,
        }
    }

    /// Bytes of a block; the element size for types other than block formats.
    ///
    /// ```
    /// use tl_device::DType;
    /// assert_eq!(DType::Q8_0.block_bytes(), 34);
    /// assert_eq!(DType::F32.block_bytes(), 4);
    /// ```
    pub fn block_bytes(self) -> usize {
        match self {
            DType::F16 => 2,
            DType::F32 | DType::I32 => 4,
            DType::Bool => 1,
            DType::Block(format) => format.block_bytes,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
impl fmt::Debug for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The dimensions of a tensor, outermost first. Prints as `[512, 128]`.
///
/// ```
/// use tl_device::Shape;
/// let shape = Shape::from([512, 128]);
/// assert_eq!((shape.len(), shape[0]), (2, 512));
/// assert_eq!(shape.to_string(), "[512, 128]");
/// ```
#[derive(Default, Eq)]
pub struct Shape(SmallVec<[usize; 6]>);

impl Clone for Shape {
    fn clone(&self) -> Self {
        // `SmallVec::clone` copies element by element, with a capacity check for each.
        Shape(SmallVec::from_slice(&self.0))
    }
}

impl PartialEq for Shape {
    fn eq(&self, other: &Self) -> bool {
        // A loop: for so few numbers the call of a slice comparison would cost more.
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(|(a, b)| a == b)
    }
}

impl Shape {
    /// A shape with these dimensions.
    ///
    /// ```
    /// use tl_device::Shape;
    /// let scalar = Shape::new(&[]);
    /// assert_eq!(scalar.len(), 0);
    /// assert_eq!(Shape::new(&[8, 512]).to_string(), "[8, 512]");
    /// ```
    pub fn new(dims: &[usize]) -> Self {
        Shape(SmallVec::from_slice(dims))
    }

    /// The dimensions, outermost first.
    ///
    /// ```
    /// use tl_device::Shape;
    /// let shape = Shape::from([32, 8, 512]);
    /// let [heads, rows, head_dim] = shape.dims() else { panic!("not of rank 3") };
    /// assert_eq!((*heads, *rows, *head_dim), (32, 8, 512));
    /// ```
    pub fn dims(&self) -> &[usize] {
        &self.0
    }

    /// The number of elements, or `None` if it does not fit a `usize`, or if the product of the nonzero dimensions does
    /// not, so that no product of some of the dimensions can overflow.
    ///
    /// ```
    /// use tl_device::Shape;
    /// assert_eq!(Shape::from([512, 128]).checked_elems(), Some(65_536));
    /// assert_eq!(Shape::from([512, 0]).checked_elems(), Some(0));
    /// assert_eq!(Shape::from([usize::MAX, 2]).checked_elems(), None);
    /// ```
    pub fn checked_elems(&self) -> Option<usize> {
        let (mut product, mut is_empty) = (1usize, false);
        for &dim in &self.0 {
            product = product.checked_mul(dim.max(1))?;
            is_empty |= dim == 0;
        }
        Some(if is_empty { 0 } else { product })
    }
}

impl Deref for Shape {
    type Target = [usize];
    fn deref(&self) -> &[usize] {
        &self.0
    }
}
impl FromIterator<usize> for Shape {
    fn from_iter<I: IntoIterator<Item = usize>>(dims: I) -> Self {
        Shape(dims.into_iter().collect())
    }
}
impl Hash for Shape {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // The products of the dimensions are independent, unlike in a chained hash.
        let mut sum = self.0.len() as u64;
        let mut factor = 0x9e37_79b9_7f4a_7c15_u64;
        for &dim in &self.0 {
            sum = sum.wrapping_add((dim as u64).wrapping_mul(factor));
            factor = factor.rotate_left(23);
        }
        state.write_u64(sum);
    }
}
impl From<Vec<usize>> for Shape {
    fn from(dims: Vec<usize>) -> Self {
        Shape::new(&dims)
    }
}
impl From<&[usize]> for Shape {
    fn from(dims: &[usize]) -> Self {
        Shape::new(dims)
    }
}
impl<const N: usize> From<[usize; N]> for Shape {
    fn from(dims: [usize; N]) -> Self {
        Shape::new(&dims)
    }
}
impl From<&Shape> for Shape {
    fn from(shape: &Shape) -> Self {
        shape.clone()
    }
}
impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.0).finish()
    }
}
impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A data type and dimensions. Prints as `float16[512, 128]`.
///
/// ```
/// use tl_device::{DType, Layout};
/// assert_eq!(Layout::from(vec![512, 128]), Layout::new(DType::F16, [512, 128]));
/// assert_eq!(Layout::new(DType::F32, [3, 5]).len_bytes().unwrap(), 60);
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Layout {
    dtype: DType,
    shape: Shape,
}

impl Layout {
    /// A layout with this type and these dimensions.
    ///
    /// ```
    /// use tl_device::{DType, Layout};
    /// let scores = Layout::new(DType::F32, [32, 10, 10]);
    /// assert_eq!(scores.to_string(), "float32[32, 10, 10]");
    /// ```
    pub fn new(dtype: DType, shape: impl Into<Shape>) -> Self {
        Layout { dtype, shape: shape.into() }
    }

    /// The type of the elements.
    ///
    /// ```
    /// use tl_device::{DType, Layout};
    /// assert_eq!(Layout::new(DType::Bool, [10, 10]).dtype(), DType::Bool);
    /// assert_eq!(Layout::from(vec![10, 10]).dtype(), DType::F16);
    /// ```
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The dimensions.
    ///
    /// ```
    /// use tl_device::Layout;
    /// let layout = Layout::from(vec![512, 128]);
    /// assert_eq!(layout.shape().dims(), [512, 128]);
    /// ```
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Bytes of a contiguous tensor of this layout.
    ///
    /// ```
    /// use tl_device::{DType, Layout, LayoutError};
    /// assert_eq!(Layout::from(vec![512, 128]).len_bytes()?, 512 * 128 * 2);
    /// let impossible = Layout::new(DType::F32, [usize::MAX, 2]);
    /// assert!(matches!(impossible.len_bytes(), Err(LayoutError::TooLarge { .. })));
    /// # Ok::<(), LayoutError>(())
    /// ```
    ///
    /// # Errors
    /// [`LayoutError::TooLarge`] if the count exceeds the address space, [`LayoutError::PartialBlock`] if the last
    /// dimension is not a whole number of blocks of the format.
    #[inline]
    pub fn len_bytes(&self) -> Result<usize, LayoutError> {
        let elems = match self.dtype {
            DType::Block(format) => {
                let last = self.shape.last().copied().unwrap_or(1);
                if last % format.block_elems != 0 {
                    return Err(LayoutError::PartialBlock { layout: self.clone(), block_elems: format.block_elems });
                }
                self.shape.checked_elems().map(|n| n / format.block_elems)
            }
            _ => self.shape.checked_elems(),
        };
        elems
            .and_then(|n| n.checked_mul(self.dtype.block_bytes()))
            .filter(|&n| n <= isize::MAX as usize)
            .ok_or_else(|| LayoutError::TooLarge { layout: self.clone() })
    }

    /// Whether a buffer reserved for `self` can hold `other`: same type and rank, no dimension larger.
    pub(crate) fn covers(&self, other: &Layout) -> bool {
        self.dtype == other.dtype
            && self.shape.len() == other.shape.len()
            && self.shape.iter().zip(other.shape.iter()).all(|(bound, dim)| dim <= bound)
    }
}

impl From<Vec<usize>> for Layout {
    /// `float16` with these dimensions.
    fn from(dims: Vec<usize>) -> Self {
        Layout::new(DType::F16, dims)
    }
}
impl From<&Layout> for Layout {
    fn from(layout: &Layout) -> Self {
        layout.clone()
    }
}
impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.dtype, self.shape)
    }
}
impl fmt::Debug for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A multiplicative hasher for layouts and sizes: a few instructions, no seed, sufficient for keys that no attacker
/// chooses.
#[derive(Default, Clone, Copy)]
pub(crate) struct LayoutHasher(u64);

impl Hasher for LayoutHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }
    fn write_u32(&mut self, n: u32) {
        self.write_u64(u64::from(n));
    }
    fn write_usize(&mut self, n: usize) {
        self.write_u64(n as u64);
    }
    fn write_isize(&mut self, n: isize) {
        self.write_u64(n as u64);
    }
    fn write_u64(&mut self, n: u64) {
        // The high bits of the product are folded down because hash tables index with the low ones.
        let product = (self.0.rotate_left(5) ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = product ^ (product >> 32);
    }
}

pub(crate) type LayoutMap<K, V> = std::collections::HashMap<K, V, std::hash::BuildHasherDefault<LayoutHasher>>;

#[cfg(test)]
mod tests {
    use super::*;

    static HALF_BLOCK: BlockFormat = BlockFormat { name: "b32", id: 900, block_elems: 32, block_bytes: 18 };

    #[test]
    fn bytes_of_layouts() {
        let check = |layout: Layout, expected: Option<usize>| assert_eq!(layout.len_bytes().ok(), expected, "{layout}");
        check(Layout::from(vec![512, 128]), Some(512 * 128 * 2));
        check(Layout::new(DType::F32, []), Some(4));
        check(Layout::new(DType::F32, [0, usize::MAX]), Some(0));
        check(Layout::new(DType::F32, [usize::MAX, 2, 0]), None);
        check(Layout::new(DType::F32, [usize::MAX, 2, 0]), None);
        check(Layout::new(DType::F32, [usize::MAX, 2]), None);
        check(Layout::new(DType::F16, [usize::MAX / 2]), None);
        check(Layout::new(DType::Block(&HALF_BLOCK), [3, 64]), Some(3 * 2 * 18));
        check(Layout::new(DType::Block(&HALF_BLOCK), [3, 65]), None);
    }

    #[test]
    fn a_bound_covers_what_is_no_larger() {
        let bound = Layout::from(vec![32, 2048]);
        let check = |layout: Layout, expected| assert_eq!(bound.covers(&layout), expected, "{layout}");
        check(Layout::from(vec![32, 2048]), true);
        check(Layout::from(vec![1, 0]), true);
        check(Layout::from(vec![33, 1]), false);
        check(Layout::from(vec![2048]), false);
        check(Layout::new(DType::F32, [1, 1]), false);
    }
}
