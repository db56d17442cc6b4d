//! The kinds of errors in shapes, by their codes.

/// The kind of a diagnostic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Code {
    /// Two sizes of an operation's operands differ.
    SizesDiffer,
    /// An operand has the wrong number of dimensions.
    WrongRank,
    /// A tensor does not have this dimension.
    NoSuchDimension,
    /// An index or a part lies outside a tensor.
    OutOfRange,
    /// An index outside a list.
    NoSuchElement,
    /// A reshape would change the number of elements.
    ElementsDiffer,
    /// An argument of an operation is a number that it does not take.
    WrongNumber,
    /// A value does not fit the sizes of a written type.
    WrittenSizes,
    /// The lists in a list that becomes a tensor have different lengths.
    RaggedList,
    /// A specification of `einsum` that does not fit its operands.
    EinsumSpec,
    /// A model lacks a part that the program reads.
    MissingPart,
    /// A variable that nothing reads.
    UnusedVariable,
    /// A value that nothing uses.
    UnusedResult,
    /// A statement that is never reached.
    Unreachable,
}

impl Code {
    /// Whether it is about the shapes of tensors.
    pub fn is_shape(self) -> bool {
        !matches!(self, Code::UnusedVariable | Code::UnusedResult | Code::Unreachable)
    }
}
