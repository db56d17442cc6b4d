//! Places: bytes of a text as the protocol's lines and columns, and files as URIs.

use std::str::FromStr;

use lsp_types::{Position, PositionEncodingKind, Range, Uri};
use tl_syntax::Span;

/// How columns are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Utf8,
    Utf16,
}

impl Encoding {
    /// UTF-8 where the client can, otherwise what every client must.
    pub(crate) fn choose(offered: Option<&[PositionEncodingKind]>) -> Encoding {
        match offered.is_some_and(|offered| offered.contains(&PositionEncodingKind::UTF8)) {
            true => Encoding::Utf8,
            false => Encoding::Utf16,
        }
    }

    pub(crate) fn kind(self) -> PositionEncodingKind {
        match self {
            Encoding::Utf8 => PositionEncodingKind::UTF8,
            Encoding::Utf16 => PositionEncodingKind::UTF16,
        }
    }

    /// The columns that a text takes.
    pub(crate) fn width(self, text: &str) -> u32 {
        match self {
            Encoding::Utf8 => text.len() as u32,
            Encoding::Utf16 => text.chars().map(|c| c.len_utf16() as u32).sum(),
        }
    }

    /// The byte at a position; past a line's end, its end.
    pub(crate) fn offset(self, text: &str, position: Position) -> u32 {
        let mut start = 0;
        for _ in 0..position.line {
            match text.get(start..).and_then(|rest| rest.find('\n')) {
                Some(newline) => start += newline + 1,
                None => return text.len() as u32,
            }
        }
        let line = text.get(start..).and_then(|rest| rest.split('\n').next()).unwrap_or("");
        let mut columns = 0;
        for (at, c) in line.char_indices() {
            if columns >= position.character {
                return (start + at) as u32;
            }
            columns += match self {
                Encoding::Utf8 => c.len_utf8() as u32,
                Encoding::Utf16 => c.len_utf16() as u32,
            };
        }
        (start + line.len()) as u32
    }
}

/// The lines of a text.
pub(crate) struct Lines<'t> {
    text: &'t str,
    /// The first byte of each.
    starts: Vec<usize>,
    encoding: Encoding,
}

impl<'t> Lines<'t> {
    pub(crate) fn of(text: &'t str, encoding: Encoding) -> Lines<'t> {
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Lines { text, starts: std::iter::once(0).chain(newlines.map(|(at, _)| at + 1)).collect(), encoding }
    }

    /// The position of a byte; past the end, the end.
    pub(crate) fn position(&self, offset: u32) -> Position {
        let mut end = (offset as usize).min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        let line = self.starts.partition_point(|start| *start <= end).saturating_sub(1);
        let start = self.starts.get(line).copied().unwrap_or(0);
        let character = self.encoding.width(self.text.get(start..end).unwrap_or(""));
        Position { line: line as u32, character }
    }

    pub(crate) fn range(&self, span: Span) -> Range {
        Range { start: self.position(span.start), end: self.position(span.end) }
    }
}

/// The path of a file's URI; the text of any other URI.
pub(crate) fn path_of(uri: &Uri) -> String {
    let text = uri.as_str();
    let Some(path) = text.strip_prefix("file://") else { return text.to_owned() };
    // A host may stand before the path.
    let path = path.find('/').and_then(|slash| path.get(slash..)).unwrap_or(path);
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        let decoded = (byte == b'%').then(|| {
            let mut digits = rest.clone();
            let value = hex(digits.next()?)? * 16 + hex(digits.next()?)?;
            rest = digits;
            Some(value)
        });
        bytes.push(decoded.flatten().unwrap_or(byte));
    }
    let path = String::from_utf8_lossy(&bytes).into_owned();
    // `/C:/…` is a path of Windows.
    match path.as_bytes() {
        [b'/', drive, b':', ..] if drive.is_ascii_alphabetic() => path.get(1..).unwrap_or("").to_owned(),
        _ => path,
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

/// The URI of a file; `None` for a name that is no absolute path, such as one of the standard library.
pub(crate) fn uri_of(path: &str) -> Option<Uri> {
    let path = path.replace('\\', "/");
    let is_drive = matches!(path.as_bytes(), [drive, b':', ..] if drive.is_ascii_alphabetic());
    if !path.starts_with('/') && !is_drive {
        return None;
    }
    let mut uri = String::from(if is_drive { "file:///" } else { "file://" });
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b':' => uri.push(byte.into()),
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    Uri::from_str(&uri).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions() {
        let text = "aπ𝔸b\n\nc";
        for (offset, line, utf8, utf16) in
            [(0, 0, 0, 0), (1, 0, 1, 1), (3, 0, 3, 2), (7, 0, 7, 4), (9, 1, 0, 0), (10, 2, 0, 0), (11, 2, 1, 1)]
        {
            for (encoding, character) in [(Encoding::Utf8, utf8), (Encoding::Utf16, utf16)] {
                let position = Position { line, character };
                assert_eq!(Lines::of(text, encoding).position(offset), position, "{offset}");
                assert_eq!(encoding.offset(text, position), offset, "{position:?}");
            }
        }
        assert_eq!(Encoding::Utf16.offset(text, Position { line: 0, character: 99 }), 8);
        assert_eq!(Encoding::Utf16.offset(text, Position { line: 9, character: 0 }), 11);
        assert_eq!(Lines::of(text, Encoding::Utf8).position(99), Position { line: 2, character: 1 });
    }

    #[test]
    fn paths() {
        for (path, uri) in [("/a b/π.tl", "file:///a%20b/%CF%80.tl"), ("C:/x.tl", "file:///C:/x.tl")] {
            assert_eq!(uri_of(path).unwrap().as_str(), uri);
            assert_eq!(path_of(&Uri::from_str(uri).unwrap()), path);
        }
        assert_eq!(path_of(&Uri::from_str("untitled:one").unwrap()), "untitled:one");
        assert!(uri_of("std/transformer").is_none());
    }
}
