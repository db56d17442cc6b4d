//! Which kind of mistake an operation's error is.

use tl_syntax::Code;
use tl_tensor::OpError;

/// The code of an operation's error, if that is about shapes.
pub(crate) fn code_of(error: &OpError) -> Option<Code> {
    Some(match error {
        OpError::Sizes { .. } | OpError::Letter { .. } => Code::SizesDiffer,
        OpError::Rank { .. } => Code::WrongRank,
        OpError::Axis { .. } => Code::NoSuchDimension,
        OpError::Index { .. } | OpError::Part { .. } => Code::OutOfRange,
        OpError::Elements { .. } => Code::ElementsDiffer,
        OpError::Value { .. } => Code::WrongNumber,
        OpError::Spec { .. } => Code::EinsumSpec,
        // Kinds and types of arguments, devices, memory.
        _ => return None,
    })
}
