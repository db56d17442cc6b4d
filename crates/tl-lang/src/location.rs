//! Places in a program as the numbers that a device writes into traces and errors.

use tl_syntax::{FileId, Span};

/// A place in a program as the number that a device writes into traces and errors: the file in the high half, the byte in
/// the low one.
pub(crate) fn location(span: Span) -> u64 {
    u64::from(span.file.0) << 32 | u64::from(span.start)
}

/// The place that a number in a trace or an error means: the reverse of what the interpreter gives the device.
pub fn span_of_location(location: u64) -> Span {
    let start = location as u32;
    Span { file: FileId((location >> 32) as u32), start, end: start }
}
