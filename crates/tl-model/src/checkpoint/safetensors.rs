//! The header of a safetensors file: 8 bytes of length, then that many bytes of JSON, then the tensors' data
//! (<https://huggingface.co/docs/safetensors>, "Format").
//!
//! Everything is checked against the file's length before use. The JSON is read tensor by tensor, so that a header
//! takes memory in proportion to the tensors that it names, and their number is bounded.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::contents::MAX_TENSORS;
use crate::error::{ModelError, Result};
use crate::format::TensorType;

/// The longest header that the format allows.
const MAX_HEADER_BYTES: u64 = 100_000_000;
/// More dimensions than any weight has; GGUF allows 4.
pub(super) const MAX_DIMS: usize = 8;
/// The longest name of a tensor or a type.
pub(super) const MAX_NAME_BYTES: usize = 512;
/// The key of a file's metadata, which is no tensor's name.
pub(super) const METADATA: &str = "__metadata__";

/// A tensor as a header describes it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct StoredTensor {
    pub(super) name: String,
    pub(super) stored_type: StoredType,
    /// Outermost first.
    pub(super) dims: Vec<usize>,
    /// Byte range of its data in the file.
    pub(super) data: Range<usize>,
}

/// Storage type of a tensor's elements.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum StoredType {
    /// A type that GGUF has too.
    Known(TensorType),
    /// Another one, by its name in the header.
    Other(String),
}

/// Every tensor of the file, in the order of their data.
///
/// # Errors
/// A header that is cut off, too long, no JSON of the expected form, or contradicts itself or the file's length.
pub(super) fn parse(bytes: &[u8]) -> Result<Vec<StoredTensor>> {
    let (header, data_start) = header(bytes)?;
    let Header(described) = serde_json::from_slice(header)
        .map_err(|error| ModelError::Json { what: "the safetensors header", problem: error.to_string() })?;
    let mut tensors = Vec::new();
    for (name, description) in described {
        tensors.push(description.locate(name, data_start, bytes.len())?);
    }
    reject_duplicates(&mut tensors)?;
    reject_overlaps(&mut tensors)?;
    Ok(tensors)
}

/// The header's JSON, and the offset of the data.
fn header(bytes: &[u8]) -> Result<(&[u8], usize)> {
    const WHAT: &str = "the length of the safetensors header";
    let remaining = bytes.len() as u64;
    let Some((len, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(ModelError::Truncated { what: WHAT, offset: 0, needed: 8, remaining });
    };
    let value = u64::from_le_bytes(*len);
    let limit = MAX_HEADER_BYTES.min(rest.len() as u64);
    match usize::try_from(value).ok().and_then(|len| rest.get(..len)) {
        Some(header) if value <= limit => Ok((header, 8 + header.len())),
        _ => Err(ModelError::Length { what: WHAT, offset: 0, value, limit }),
    }
}

/// A tensor's description, before it is compared with the file.
struct Description {
    stored_type: StoredType,
    dims: Vec<u64>,
    offsets: (u64, u64),
}

impl Description {
    fn locate(self, name: String, data_start: usize, file_len: usize) -> Result<StoredTensor> {
        let Description { stored_type, dims, offsets: (begin, end) } = self;
        let range = |value: u64| usize::try_from(value).ok()?.checked_add(data_start);
        let len_bytes = end.saturating_sub(begin);
        let data = match (range(begin), range(end)) {
            (Some(start), Some(end)) if start <= end && end <= file_len => start..end,
            _ => {
                let start = begin.saturating_add(data_start as u64);
                return Err(ModelError::TensorRange { name, start, len_bytes, file_len: file_len as u64 });
            }
        };
        let format = stored_type.to_string();
        let wrong = |problem| ModelError::TensorSizes {
            name: name.clone(),
            offset: data_start as u64 + begin,
            dims: dims.clone(),
            format: format.clone(),
            problem,
        };
        let elems = dims.iter().try_fold(1u64, |n, &dim| n.checked_mul(dim));
        let elems = elems.ok_or_else(|| wrong("which is more elements than can be counted"))?;
        if let StoredType::Known(known) = &stored_type {
            let elem_bytes = known.block_bytes().unwrap_or(1) as u64;
            if elems.checked_mul(elem_bytes) != Some(len_bytes) {
                return Err(wrong("which is another number of bytes than its data has"));
            }
        }
        let sizes: std::result::Result<Vec<usize>, _> = dims.iter().map(|&dim| usize::try_from(dim)).collect();
        let dims = sizes.map_err(|_| wrong("which this machine cannot address"))?;
        Ok(StoredTensor { name, stored_type, dims, data })
    }
}

fn reject_duplicates(tensors: &mut [StoredTensor]) -> Result<()> {
    tensors.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    for pair in tensors.windows(2) {
        if let [first, second] = pair
            && first.name == second.name
        {
            let offset = second.data.start as u64;
            return Err(ModelError::Duplicate { what: "tensor", name: second.name.clone(), offset });
        }
    }
    Ok(())
}

/// Refuses overlapping tensors. Also sorts the tensors by the order of their data.
fn reject_overlaps(tensors: &mut [StoredTensor]) -> Result<()> {
    tensors.sort_by_key(|tensor| (tensor.data.start, tensor.data.end));
    let mut end = 0;
    let mut before = "";
    for tensor in tensors.iter() {
        if tensor.data.start < end && !tensor.data.is_empty() {
            let problem = format!("tensors `{before}` and `{}` share bytes of the file", tensor.name);
            return Err(ModelError::Json { what: "the safetensors header", problem });
        }
        if tensor.data.end > end {
            (end, before) = (tensor.data.end, &tensor.name);
        }
    }
    Ok(())
}

impl fmt::Display for StoredType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoredType::Known(known) => known.fmt(f),
            StoredType::Other(name) => f.write_str(name),
        }
    }
}

/// The JSON object of a header: tensors by name. Metadata of the file as a whole is skipped.
struct Header(Vec<(String, Description)>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Header, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Header, A::Error> {
        let mut tensors = Vec::new();
        while let Some(Name(name)) = map.next_key()? {
            if name == METADATA {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            if tensors.len() == MAX_TENSORS {
                return Err(A::Error::custom(format_args!("it names more than {MAX_TENSORS} tensors")));
            }
            tensors.push((name.into_owned(), map.next_value()?));
        }
        Ok(Header(tensors))
    }
}

impl<'de> Deserialize<'de> for Description {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Description, D::Error> {
        deserializer.deserialize_map(DescriptionVisitor)
    }
}

struct DescriptionVisitor;

impl<'de> Visitor<'de> for DescriptionVisitor {
    type Value = Description;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `dtype`, `shape` and `data_offsets`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Description, A::Error> {
        let (mut dtype, mut dims, mut offsets) = (None, None, None);
        while let Some(Name(key)) = map.next_key()? {
            let is_new = match &*key {
                "dtype" => dtype.replace(map.next_value::<Name<'de>>()?).is_none(),
                "shape" => dims.replace(map.next_value::<Integers<MAX_DIMS>>()?).is_none(),
                "data_offsets" => offsets.replace(map.next_value::<Integers<2>>()?).is_none(),
                _ => map.next_value::<IgnoredAny>().map(|_| true)?,
            };
            if !is_new {
                return Err(A::Error::custom(format_args!("`{key}` occurs twice")));
            }
        }
        let Name(dtype) = dtype.ok_or_else(|| A::Error::missing_field("dtype"))?;
        let Integers(dims) = dims.ok_or_else(|| A::Error::missing_field("shape"))?;
        let Integers(offsets) = offsets.ok_or_else(|| A::Error::missing_field("data_offsets"))?;
        let &[begin, end] = offsets.as_slice() else {
            return Err(A::Error::invalid_length(offsets.len(), &"two offsets"));
        };
        let stored_type = match &*dtype {
            "F32" => StoredType::Known(TensorType::F32),
            "F16" => StoredType::Known(TensorType::F16),
            "BF16" => StoredType::Known(TensorType::BF16),
            other => StoredType::Other(other.to_owned()),
        };
        Ok(Description { stored_type, dims, offsets: (begin, end) })
    }
}

/// A short text, borrowed from the JSON if it has no escapes.
pub(super) struct Name<'a>(pub(super) Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Name<'de>, D::Error> {
        deserializer.deserialize_str(NameVisitor)
    }
}

struct NameVisitor;

impl<'de> Visitor<'de> for NameVisitor {
    type Value = Name<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a string of at most {MAX_NAME_BYTES} bytes")
    }

    fn visit_borrowed_str<E: serde::de::Error>(self, text: &'de str) -> std::result::Result<Name<'de>, E> {
        match text.len() {
            0..=MAX_NAME_BYTES => Ok(Name(Cow::Borrowed(text))),
            len => Err(E::invalid_length(len, &self)),
        }
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> std::result::Result<Name<'de>, E> {
        match text.len() {
            0..=MAX_NAME_BYTES => Ok(Name(Cow::Owned(text.to_owned()))),
            len => Err(E::invalid_length(len, &self)),
        }
    }
}

/// At most N non-negative integers.
struct Integers<const N: usize>(Vec<u64>);

impl<'de, const N: usize> Deserialize<'de> for Integers<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Integers<N>, D::Error> {
        deserializer.deserialize_seq(IntegersVisitor)
    }
}

struct IntegersVisitor<const N: usize>;

impl<'de, const N: usize> Visitor<'de> for IntegersVisitor<N> {
    type Value = Integers<N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {N} integers that are not negative")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Integers<N>, A::Error> {
        let mut integers = Vec::new();
        while let Some(integer) = seq.next_element::<u64>()? {
            if integers.len() == N {
                return Err(A::Error::invalid_length(N + 1, &self));
            }
            integers.push(integer);
        }
        Ok(Integers(integers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data_bytes: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.resize(bytes.len() + data_bytes, 0);
        bytes
    }

    #[test]
    fn reads_a_header() {
        let header = r#"{"__metadata__":{"format":"pt"},
            "b":{"dtype":"BF16","shape":[2,3],"data_offsets":[4,16]},
            "a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},
            "e":{"shape":[0,7],"data_offsets":[16,16],"dtype":"F16","more":{"x":[1]}},
            "\u0063":{"dtype":"F8_E4M3","shape":[3],"data_offsets":[16,19]}}   "#;
        let tensors = parse(&file(header, 19)).unwrap();
        let start = 8 + header.len();
        let found: Vec<_> = tensors
            .iter()
            .map(|t| (t.name.as_str(), t.stored_type.to_string(), t.dims.clone(), t.data.start - start, t.data.len()))
            .collect();
        let expected = [
            ("a", "F32".to_owned(), vec![], 0, 4),
            ("b", "BF16".to_owned(), vec![2, 3], 4, 12),
            ("e", "F16".to_owned(), vec![0, 7], 16, 0),
            ("c", "F8_E4M3".to_owned(), vec![3], 16, 3),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_a_header_may_say() {
        let check = |bytes: &[u8], expected: &str| match parse(bytes) {
            Ok(_) => assert_eq!(expected, "", "accepted"),
            Err(error) => assert!(!expected.is_empty() && error.to_string().contains(expected), "{error}"),
        };
        check(b"", "ends inside the length of the safetensors header at byte 0: 8 bytes are needed, 0 are left");
        check(&7u64.to_le_bytes()[..7], "7 are left");
        check(&[0xff; 16], "at byte 0 is 18446744073709551615, but the rest of the file holds at most 8");
        check(&file("", 0), "the safetensors header cannot be read: EOF");
        check(&file("{}", 0), "");
        check(&file("{}   ", 0), "");
        check(&file("{} x", 0), "trailing characters");
        check(&file("[]", 0), "expected an object of tensors by name");
        check(&file("\u{7f}", 0), "expected value");
        let tensor = |dtype: &str, shape: &str, offsets: &str| {
            format!(r#"{{"t":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
        };
        let one = |dtype: &str, shape: &str, offsets: &str, expected: &str| {
            check(&file(&tensor(dtype, shape, offsets), 24), expected);
        };
        one("F32", "[2,3]", "[0,24]", "");
        one("F32", "[2,3]", "[0,25]", "outside the file");
        one(
            "F32",
            "[2,3]",
            "[0,20]",
            "has the sizes [2, 3] in F32, which is another number of bytes than its data has",
        );
        one("BF16", "[2,3]", "[0,24]", "which is another number of bytes");
        one("F32", "[2,3]", "[24,0]", "outside the file");
        one("F32", "[0]", "[18446744073709551615,18446744073709551615]", "outside the file");
        one("F32", "[4294967296,4294967296]", "[0,24]", "more elements than can be counted");
        one("F32", "[4611686018427387904]", "[0,0]", "which is another number of bytes");
        one("F32", "[-1]", "[0,24]", "invalid value: integer `-1`");
        one("F32", "[1.5]", "[0,24]", "invalid type: floating point");
        one("F32", "[1,1,1,1,1,1,1,1,6]", "[0,24]", "at most 8 integers");
        one("F32", "[6]", "[0]", "two offsets");
        one("F32", "[6]", "[0,24,24]", "at most 2 integers");
        one("I64", "[7]", "[0,24]", "");
        one(&"x".repeat(513), "[6]", "[0,24]", "a string of at most 512 bytes");
        check(&file(r#"{"t":{"dtype":"F32","shape":[6]}}"#, 24), "missing field `data_offsets`");
        check(&file(r#"{"t":{"dtype":"F32","shape":[6],"shape":[6]}}"#, 24), "`shape` occurs twice");
        check(&file(r#"{"t":3}"#, 24), "an object with `dtype`");
        let two = |second: &str, offsets: &str| {
            let second = format!(r#""{second}":{{"dtype":"F32","shape":[2],"data_offsets":{offsets}}}"#);
            let header = format!(r#"{{"t":{{"dtype":"F32","shape":[2],"data_offsets":[0,8]}},{second}}}"#);
            file(&header, 24)
        };
        check(&two("u", "[8,16]"), "");
        check(&two("u", "[16,24]"), "");
        check(&two("t", "[8,16]"), "the tensor `t` occurs twice");
        check(&two("u", "[4,12]"), "tensors `t` and `u` share bytes of the file");
        check(&two("u", "[0,8]"), "share bytes of the file");
    }
}
