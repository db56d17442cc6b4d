//! Metadata that stays in the bytes of a GGUF header and is decoded on each access.
//!
//! The header is that of a mapped file, or one made from a folder's configuration. This module must not know the
//! meaning of the keys.

use std::ops::Range;

use tl_device::Mapping;

use crate::error::Result;
use crate::format::gguf::{Gguf, Value, ValueType};
use crate::format::write::GgufHeader;

/// The metadata of one header, by key.
#[derive(Debug)]
pub(super) struct Metadata {
    bytes: Bytes,
    /// Sorted by key.
    entries: Vec<Entry>,
}

#[derive(Debug)]
enum Bytes {
    Mapped(Mapping),
    Owned(Vec<u8>),
}

#[derive(Debug)]
struct Entry {
    /// The key's byte range.
    key: Range<usize>,
    value_type: ValueType,
    /// Offset of the value.
    offset: usize,
}

impl Metadata {
    /// The metadata of a file; `gguf` was parsed from the bytes of `mapping`.
    pub(super) fn of_file(mapping: &Mapping, gguf: &Gguf<'_>) -> Metadata {
        Metadata { entries: entries(gguf), bytes: Bytes::Mapped(mapping.clone()) }
    }

    /// The metadata of a header without a file.
    ///
    /// # Errors
    /// A key that occurs twice.
    pub(super) fn of_header(header: &GgufHeader) -> Result<Metadata> {
        let bytes = header.bytes();
        let entries = entries(&Gguf::parse(&bytes)?);
        Ok(Metadata { entries, bytes: Bytes::Owned(bytes) })
    }

    fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Mapped(mapping) => mapping.bytes(),
            Bytes::Owned(bytes) => bytes,
        }
    }

    fn key(&self, entry: &Entry) -> &str {
        let key = self.bytes().get(entry.key.clone()).unwrap_or_default();
        std::str::from_utf8(key).unwrap_or_default()
    }

    fn decode(&self, entry: &Entry) -> Option<Value<'_>> {
        Value::read(self.bytes(), entry.value_type, entry.offset)
    }

    /// The value of a key.
    pub(super) fn value(&self, key: &str) -> Option<Value<'_>> {
        let found = self.entries.binary_search_by(|entry| self.key(entry).cmp(key)).ok()?;
        self.decode(self.entries.get(found)?)
    }

    /// Every key and its value, in the order of the header.
    pub(super) fn pairs_in_order(&self) -> impl Iterator<Item = (&str, Value<'_>)> {
        let mut entries: Vec<&Entry> = self.entries.iter().collect();
        entries.sort_unstable_by_key(|entry| entry.offset);
        entries.into_iter().filter_map(|entry| Some((self.key(entry), self.decode(entry)?)))
    }

    /// Every key and its value, sorted by key.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&str, Value<'_>)> {
        self.entries.iter().filter_map(|entry| Some((self.key(entry), self.decode(entry)?)))
    }
}

fn entries(gguf: &Gguf<'_>) -> Vec<Entry> {
    let mut sorted: Vec<_> = gguf.pairs().iter().collect();
    sorted.sort_unstable_by_key(|pair| pair.key);
    let entry = |pair: &&crate::format::gguf::Pair<'_>| {
        // The number of the value's type lies between a key and its value.
        let end = pair.offset - size_of::<u32>();
        Entry { key: end - pair.key.len()..end, value_type: pair.value.value_type(), offset: pair.offset }
    };
    sorted.iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tl_testing::project_file;

    #[test]
    fn every_pair_is_found_again() {
        let mapping = Mapping::open(project_file("models/demo-q4_0.gguf")).unwrap();
        let gguf = Gguf::parse(mapping.bytes()).unwrap();
        let metadata = Metadata::of_file(&mapping, &gguf);
        assert_eq!(metadata.pairs().count(), gguf.metadata().len());
        for (key, value) in gguf.metadata() {
            assert_eq!(metadata.value(key), Some(value), "{key}");
        }
        assert!(metadata.pairs_in_order().eq(gguf.metadata()));
        for absent in ["", "general", "general.architectur", "general.architecture ", "zzz"] {
            assert_eq!(metadata.value(absent), None, "{absent}");
        }
    }

    #[test]
    fn of_a_header() {
        let mut header = GgufHeader::new();
        header.u32("b", 2).string("a", "x").bools("c", &[true, false]);
        let metadata = Metadata::of_header(&header).unwrap();
        assert_eq!(metadata.pairs().map(|(key, _)| key).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!((metadata.value("a"), metadata.value("b")), (Some(Value::String("x")), Some(Value::U32(2))));
        let bools = metadata.value("c").and_then(|value| value.as_array(ValueType::Bool)).unwrap();
        assert!(bools.iter().eq([Value::Bool(true), Value::Bool(false)]));
        assert!(Metadata::of_header(header.u32("b", 3)).is_err());
    }
}
