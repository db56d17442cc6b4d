//! Sizes of dimensions as shape rules see them: known, an expression over names, or unknown.

use std::fmt;

use smallvec::SmallVec;

use crate::term::{self, Mark, Number, Symbol, Term};

/// A dimension or an integer argument.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Size {
    /// This number.
    Known(i64),
    /// A number that is an expression over names; equal expressions are the same number.
    Term(Term),
    /// Any number.
    Unknown,
}

impl Size {
    /// A new number with a name. Two calls give different numbers, also for one name.
    pub fn symbol(name: &str, symbol: Symbol) -> Size {
        Size::of(term::symbol(name, symbol))
    }

    /// Whether the two are equal; `None`: it depends on what is not known. Terms over rigid symbols are equal only if they are
    /// for all values of the symbols.
    pub fn equals(self, other: Size) -> Option<bool> {
        match (self, other) {
            (Size::Known(a), Size::Known(b)) => Some(a == b),
            (Size::Unknown, _) | (_, Size::Unknown) => None,
            (a, b) if a == b => Some(true),
            (a, b) => match a.minus(b) {
                Size::Known(n) => Some(n == 0),
                Size::Term(difference) => term::is_other_than_0(difference).then_some(false),
                Size::Unknown => None,
            },
        }
    }

    /// The number, where it is known.
    pub fn known(self) -> Option<i64> {
        match self {
            Size::Known(n) => Some(n),
            _ => None,
        }
    }

    fn of(number: Option<Number>) -> Size {
        match number {
            Some(Number::Known(n)) => Size::Known(n),
            Some(Number::Term(term)) => Size::Term(term),
            None => Size::Unknown,
        }
    }

    fn number(self) -> Option<Number> {
        match self {
            Size::Known(n) => Some(Number::Known(n)),
            Size::Term(term) => Some(Number::Term(term)),
            Size::Unknown => None,
        }
    }

    #[cold]
    fn combined(self, other: Size, combine: fn(Number, Number) -> Option<Number>) -> Size {
        Size::of(self.number().zip(other.number()).and_then(|(a, b)| combine(a, b)))
    }

    /// The sum. Like the other results it saturates at the largest number, which no tensor's size is.
    pub fn plus(self, other: Size) -> Size {
        match (self, other) {
            (Size::Known(a), Size::Known(b)) => Size::Known(a.saturating_add(b)),
            (Size::Known(0), size) | (size, Size::Known(0)) => size,
            (a, b) => a.combined(b, |a, b| term::sum(a, b, 1)),
        }
    }

    /// The difference.
    pub fn minus(self, other: Size) -> Size {
        match (self, other) {
            (Size::Known(a), Size::Known(b)) => Size::Known(a.saturating_sub(b)),
            (size, Size::Known(0)) => size,
            (a, b) => a.combined(b, |a, b| term::sum(a, b, -1)),
        }
    }

    /// The product.
    pub fn times(self, other: Size) -> Size {
        match (self, other) {
            (Size::Known(a), Size::Known(b)) => Size::Known(a.saturating_mul(b)),
            (Size::Known(0), _) | (_, Size::Known(0)) => Size::Known(0),
            (Size::Known(1), size) | (size, Size::Known(1)) => size,
            (a, b) => a.combined(b, term::product),
        }
    }

    /// The quotient, truncated; unknown where the divisor is 0.
    pub fn quotient(self, other: Size) -> Size {
        match (self, other) {
            (Size::Known(a), Size::Known(b)) => a.checked_div(b).map_or(Size::Unknown, Size::Known),
            (size, Size::Known(1)) => size,
            (_, Size::Known(0)) => Size::Unknown,
            (a, b) => a.combined(b, term::quotient),
        }
    }

    /// What the quotient leaves.
    pub fn remainder(self, other: Size) -> Size {
        match (self, other) {
            (Size::Known(a), Size::Known(b)) => a.checked_rem(b).map_or(Size::Unknown, Size::Known),
            (_, Size::Known(1)) => Size::Known(0),
            (_, Size::Known(0)) => Size::Unknown,
            (a, b) => a.minus(a.quotient(b).times(b)),
        }
    }

    /// The size of the part from `start` up to `end`, each counted from the end where it is negative. `None`: the part certainly
    /// lies outside.
    pub fn part(self, start: Size, end: Size) -> Option<Size> {
        let (first, last) = (self.place(start), self.place(end));
        let is_negative = |size: Size| matches!(size, Size::Known(n) if n < 0);
        let is_outside = is_negative(first) || is_negative(self.minus(last)) || is_negative(self.minus(first));
        let length = last.minus(first);
        (!is_outside && !is_negative(last) && !is_negative(length)).then_some(length)
    }

    /// Whether the position certainly lies outside.
    pub fn excludes(self, index: Size) -> bool {
        match index {
            Size::Known(n) if n < 0 => matches!(self.plus(index), Size::Known(n) if n < 0),
            index => matches!(index.minus(self), Size::Known(n) if n >= 0) && self.place(index) == index,
        }
    }

    /// A position, counted from the end where it is negative.
    fn place(self, index: Size) -> Size {
        match index {
            Size::Known(n) if n < 0 => self.plus(index),
            // An expression over sizes counts as not negative.
            Size::Term(term) if !term::is_over_sizes(term) => Size::Unknown,
            index => index,
        }
    }

    /// The size as one of a shape, where -1 may mean what is left: unknown if it may be negative. An expression over sizes counts
    /// as not negative.
    pub(crate) fn in_shape(self) -> Size {
        match self {
            Size::Term(term) if !term::is_over_sizes(term) => Size::Unknown,
            size => size,
        }
    }

    /// Whether it is certainly not negative.
    pub fn is_natural(self) -> bool {
        match self {
            Size::Known(n) => n >= 0,
            Size::Term(term) => term::is_natural(term),
            Size::Unknown => false,
        }
    }

    /// From here on its symbols may turn out equal to anything.
    pub fn loosen(self) {
        if let Size::Term(term) = self {
            term::loosen(term);
        }
    }

    /// Whether none of its symbols is newer than the mark.
    pub fn is_older_than(self, mark: Mark) -> bool {
        match self {
            Size::Term(term) => term::is_older_than(term, mark),
            _ => true,
        }
    }

    /// The better known of two equal sizes.
    pub(crate) fn or(self, other: Size) -> Size {
        match (self, other) {
            (Size::Known(_), _) | (Size::Term(_), Size::Unknown | Size::Term(_)) => self,
            _ => other,
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Size::Known(n) => n.fmt(f),
            Size::Term(term) => term.fmt(f),
            Size::Unknown => f.write_str("?"),
        }
    }
}

/// The dimensions of an operand, as far as they are known.
pub type Sizes = SmallVec<[Size; 6]>;

#[cfg(test)]
mod tests {
    use super::*;
    use Size::{Known, Unknown};

    #[test]
    fn equality() {
        let (n, m) = (Size::symbol("n", Symbol::Rigid), Size::symbol("m", Symbol::Rigid));
        let (k, l) = (Size::symbol("k", Symbol::Int), Size::symbol("l", Symbol::Dimension));
        let two = Known(2);
        for (a, b, expected) in [
            (n, n, Some(true)),
            (n, m, Some(false)),
            (n, Known(4), Some(false)),
            (n.plus(Known(1)), n, Some(false)),
            (n.plus(m), m.plus(n), Some(true)),
            (n.plus(m).times(n.minus(m)), n.times(n).minus(m.times(m)), Some(true)),
            (n.times(m).quotient(m), n, Some(true)),
            (n.plus(n).quotient(two), n, Some(true)),
            (n.quotient(two).times(two).plus(n.remainder(two)), n, Some(true)),
            // Right for even numbers.
            (n.quotient(two).times(two), n, None),
            (n.minus(n.quotient(two)), n.quotient(two), None),
            (n.quotient(two), n.quotient(two), Some(true)),
            (k, n, None),
            (k, l, None),
            (k, Known(3), None),
            (l.times(Known(96)), l.times(Known(64)), Some(false)),
            (l.times(Known(96)), l.times(k), None),
            (l.plus(m), m.plus(k), None),
            (k.plus(Known(1)), k, Some(false)),
            (n, Unknown, None),
        ] {
            assert_eq!(a.equals(b), expected, "{a} and {b}");
            assert_eq!(b.equals(a), expected, "{b} and {a}");
        }
        n.loosen();
        assert_eq!((n.equals(m), m.equals(Known(1)), n.equals(Known(1))), (None, Some(false), None));
    }

    #[test]
    fn text() {
        let (n, m) = (Size::symbol("n", Symbol::Rigid), Size::symbol("m", Symbol::Rigid));
        for (size, expected) in [
            (n.plus(m), "m + n"),
            (n.minus(m).plus(Known(3)), "n - m + 3"),
            (n.times(m).times(Known(2)).minus(Known(1)), "2 * n * m - 1"),
            (Known(1).minus(n), "1 - n"),
            (n.plus(Known(1)).quotient(Known(2)), "(n + 1) / 2"),
            (n.quotient(m.times(Known(2))), "n / (2 * m)"),
            (n.times(n), "n * n"),
            (Unknown, "?"),
        ] {
            let sorted = |text: &str| {
                let mut parts: Vec<char> = text.chars().collect();
                parts.sort_unstable();
                parts
            };
            assert_eq!(sorted(&size.to_string()), sorted(expected), "{size} for {expected}");
        }
        assert_eq!(n.plus(Known(1)).to_string(), "n + 1");
        assert_eq!(n.minus(Known(1)).to_string(), "n - 1");
    }

    #[test]
    fn parts() {
        let (n, k) = (Size::symbol("n", Symbol::Rigid), Size::symbol("k", Symbol::Int));
        let one = Known(1);
        for (size, start, end, expected) in [
            (Known(8), Known(2), Known(5), Some(Known(3))),
            (Known(8), Known(2), Known(-1), Some(Known(5))),
            (Known(8), Known(2), Known(9), None),
            (Known(8), Known(5), Known(2), None),
            (Known(8), Known(-9), Known(2), None),
            (n, Known(0), n, Some(n)),
            (n, Known(0), n.minus(one), Some(n.minus(one))),
            (n, one, Known(-1), Some(n.minus(Known(2)))),
            (n, Known(0), n.plus(one), None),
            (n, n.plus(one), n, None),
            // A number that may be negative counts from the end then.
            (n, Known(0), k, Some(Unknown)),
            (Unknown, Known(1), Known(3), Some(Known(2))),
            (Unknown, Known(3), Known(1), None),
            (Unknown, Known(0), Known(-1), Some(Unknown)),
        ] {
            assert_eq!(size.part(start, end), expected, "{size}[{start}..{end}]");
        }
        for (size, index, expected) in [
            (Known(8), Known(8), true),
            (Known(8), Known(-8), false),
            (Known(8), Known(-9), true),
            (n, n, true),
            (n, n.minus(one), false),
            (n, Known(100), false),
            (n, Known(-1), false),
            (Unknown, Known(7), false),
        ] {
            assert_eq!(size.excludes(index), expected, "{size}[{index}]");
        }
    }
}
