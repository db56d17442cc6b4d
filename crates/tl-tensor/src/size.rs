//! Sizes of dimensions as shape rules see them: known, named in a program, or unknown.

use std::fmt;

use smallvec::SmallVec;

/// A dimension or an integer argument.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Size {
    /// This number.
    Known(i64),
    /// A number that has a name in the program; the same name is the same number.
    Named(u32),
    /// Any number.
    Unknown,
}

impl Size {
    /// Whether the two are equal; `None`: unknown.
    pub fn equals(self, other: Size) -> Option<bool> {
        match (self, other) {
            (Size::Known(a), Size::Known(b)) => Some(a == b),
            (Size::Named(a), Size::Named(b)) if a == b => Some(true),
            _ => None,
        }
    }

    /// The number, where it is known.
    pub fn known(self) -> Option<i64> {
        match self {
            Size::Known(n) => Some(n),
            _ => None,
        }
    }

    /// The product, where both factors are known or one is 1. It saturates at the largest number, which no tensor's
    /// size is.
    pub fn times(self, other: Size) -> Size {
        match (self, other) {
            (Size::Known(a), Size::Known(b)) => Size::Known(a.saturating_mul(b)),
            (Size::Known(1), size) | (size, Size::Known(1)) => size,
            _ => Size::Unknown,
        }
    }

    /// The better known of two equal sizes.
    pub(crate) fn or(self, other: Size) -> Size {
        match (self, other) {
            (Size::Known(_), _) | (Size::Named(_), Size::Unknown | Size::Named(_)) => self,
            _ => other,
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Size::Known(n) => n.fmt(f),
            Size::Named(id) => write!(f, "size #{id}"),
            Size::Unknown => f.write_str("?"),
        }
    }
}

/// The dimensions of an operand, as far as they are known.
pub type Sizes = SmallVec<[Size; 6]>;
