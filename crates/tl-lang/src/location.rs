//! Places in a program as the numbers that a device writes into traces and errors.

use tl_syntax::{FileId, Span};

/// A place in a program as a number: the file in the high half, the byte in the low half.
pub(crate) fn location(span: Span) -> u64 {
    u64::from(span.file.0) << 32 | u64::from(span.start)
}

/// The place of a number in a trace or an error of a device.
pub fn span_of_location(location: u64) -> Span {
    let start = location as u32;
    Span { file: FileId((location >> 32) as u32), start, end: start }
}
