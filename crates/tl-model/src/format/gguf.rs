//! Reading GGUF, versions 2 and 3 (the specification lies in ggml's repository, `docs/gguf.md`).
//!
//! The parser owns no bytes and copies none: it works over `&[u8]`, checks everything once, and hands out strings,
//! arrays and tensor data that point into it. It must not know the meaning of the metadata. Every count and length is
//! checked against the remaining bytes before use, so that a file of n bytes costs time and memory in proportion to n,
//! whatever its fields contain.

use std::collections::HashMap;
use std::ops::Range;

use super::reader::Reader;
use super::tensor_type::TensorType;
pub use super::value::{Array, Value, ValueType};
use crate::error::{ModelError, Result};

/// The most dimensions that the format gives a tensor.
const MAX_DIMS: u32 = 4;

/// The longest name of a tensor; other programs allow 64 bytes.
const MAX_NAME_BYTES: usize = 512;
/// Alignment of the tensor data if the file has none.
const DEFAULT_ALIGNMENT: u64 = 32;
/// The fewest bytes of a metadata pair: a key's length, a value's type, a value.
const MIN_PAIR_BYTES: u64 = 8 + 4 + 1;
/// The fewest bytes of a tensor's description: name length, dimension count, type, offset.
const MIN_TENSOR_BYTES: u64 = 8 + 4 + 4 + 8;

/// A parsed file: metadata and the list of tensors, pointing into the file's bytes.
#[derive(Debug)]
pub struct Gguf<'a> {
    version: u32,
    alignment: u64,
    metadata: Vec<Pair<'a>>,
    metadata_by_name: HashMap<&'a str, usize>,
    tensors: Vec<TensorInfo<'a>>,
    tensor_by_name: HashMap<&'a str, usize>,
}

/// A key, its value, and the value's offset in the file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair<'a> {
    pub(crate) key: &'a str,
    pub(crate) value: Value<'a>,
    pub(crate) offset: usize,
}

/// The description of one tensor; its data lies inside the file.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TensorInfo<'a> {
    /// The tensor's name, such as `blk.0.attn_q.weight`.
    pub name: &'a str,
    /// Sizes, outermost first: a weight is `[out, in]`.
    pub dims: Vec<usize>,
    /// Storage type of the elements.
    pub tensor_type: TensorType,
    /// Byte range of the data, from the start of the file. For a type with an unknown block size only the start is
    /// known, and the range is empty.
    pub data: Range<usize>,
}

impl<'a> Gguf<'a> {
    /// Parses and checks the whole file except the tensors' contents.
    ///
    /// # Errors
    /// Anything that contradicts the format or the file's length, with the byte offset of the field at fault.
    pub fn parse(bytes: &'a [u8]) -> Result<Gguf<'a>> {
        let mut reader = Reader { bytes, pos: 0 };
        let version = read_magic_and_version(&mut reader)?;
        let n_tensors = reader.count("the number of tensors", MIN_TENSOR_BYTES)?;
        let n_pairs = reader.count("the number of metadata pairs", MIN_PAIR_BYTES)?;
        let (metadata, metadata_by_name) = read_metadata(&mut reader, n_pairs)?;
        let mut gguf = Gguf {
            version,
            alignment: DEFAULT_ALIGNMENT,
            metadata,
            metadata_by_name,
            tensors: Vec::new(),
            tensor_by_name: HashMap::new(),
        };
        gguf.alignment = gguf.read_alignment()?;
        gguf.read_tensors(&mut reader, n_tensors)?;
        Ok(gguf)
    }

    /// Version of the container: 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Alignment of the tensors' data in the file, in bytes.
    pub fn alignment(&self) -> u64 {
        self.alignment
    }

    /// Every metadata pair, in the file's order.
    pub fn metadata(&self) -> impl ExactSizeIterator<Item = (&'a str, Value<'a>)> + '_ {
        self.metadata.iter().map(|pair| (pair.key, pair.value))
    }

    /// Every metadata pair with its place in the file, in the file's order.
    pub(crate) fn pairs(&self) -> &[Pair<'a>] {
        &self.metadata
    }

    /// The value of a metadata key, if the file has it.
    pub fn value(&self, key: &str) -> Option<Value<'a>> {
        self.metadata_by_name.get(key).and_then(|&i| self.metadata.get(i)).map(|pair| pair.value)
    }

    /// Every tensor, in the file's order.
    pub fn tensors(&self) -> &[TensorInfo<'a>] {
        &self.tensors
    }

    /// The tensor with this name, if the file has it.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo<'a>> {
        self.tensor_by_name.get(name).and_then(|&i| self.tensors.get(i))
    }

    /// A key's value as a count: any integer type, not negative.
    ///
    /// # Errors
    /// The key holds another type, or a negative number.
    pub fn integer(&self, key: &str) -> Result<Option<u64>> {
        Value::typed(self.value(key), key, "an integer that is not negative", Value::as_integer)
    }

    /// A key's value as a floating-point number.
    ///
    /// # Errors
    /// The key holds another type than float32 or float64.
    pub fn float(&self, key: &str) -> Result<Option<f64>> {
        Value::typed(self.value(key), key, "a float", Value::as_float)
    }

    /// A key's value as a flag.
    ///
    /// # Errors
    /// The key holds another type.
    pub fn boolean(&self, key: &str) -> Result<Option<bool>> {
        Value::typed(self.value(key), key, "a bool", Value::as_bool)
    }

    /// A key's value as text.
    ///
    /// # Errors
    /// The key holds another type.
    pub fn string(&self, key: &str) -> Result<Option<&'a str>> {
        Value::typed(self.value(key), key, "a string", Value::as_str)
    }

    /// A key's value as an array whose elements have the type `element`.
    ///
    /// # Errors
    /// The key holds no array, or one of another type.
    pub fn array(&self, key: &str, element: ValueType, expected: &'static str) -> Result<Option<Array<'a>>> {
        Value::typed(self.value(key), key, expected, |value| value.as_array(element))
    }

    fn read_alignment(&self) -> Result<u64> {
        const KEY: &str = "general.alignment";
        let alignment = self.integer(KEY)?.unwrap_or(DEFAULT_ALIGNMENT);
        // The data begins at a multiple of the alignment, and float32 is read in place.
        if alignment < 8 || !alignment.is_power_of_two() || alignment > 1 << 30 {
            return Err(ModelError::KeyValue {
                key: KEY.to_owned(),
                value: alignment.to_string(),
                problem: "expected a power of two from 8 to 2^30".to_owned(),
            });
        }
        Ok(alignment)
    }

    fn read_tensors(&mut self, reader: &mut Reader<'a>, n_tensors: usize) -> Result<()> {
        let mut descriptions = Vec::new();
        for _ in 0..n_tensors {
            descriptions.push(read_description(reader)?);
        }
        let data_start = (reader.pos as u64).next_multiple_of(self.alignment);
        for (i, description) in descriptions.into_iter().enumerate() {
            let info = description.locate(data_start, self.alignment, reader.bytes.len())?;
            if self.tensor_by_name.insert(info.name, i).is_some() {
                return Err(ModelError::Duplicate {
                    what: "tensor",
                    name: info.name.to_owned(),
                    offset: description.at,
                });
            }
            self.tensors.push(info);
        }
        Ok(())
    }
}

/// A tensor as the file describes it, before its data has been located.
struct Description<'a> {
    at: u64,
    name: &'a str,
    dims: Vec<u64>,
    tensor_type: TensorType,
    offset: u64,
    offset_at: u64,
}

impl<'a> Description<'a> {
    fn sizes_error(&self, problem: &'static str) -> ModelError {
        ModelError::TensorSizes {
            name: self.name.to_owned(),
            offset: self.at,
            dims: self.dims.clone(),
            format: self.tensor_type.to_string(),
            problem,
        }
    }

    /// Bytes of data; `None` where the type's block size is unknown.
    fn len_bytes(&self) -> Result<Option<u64>> {
        let elems = self.dims.iter().try_fold(1u64, |n, &dim| n.checked_mul(dim));
        let elems = elems.ok_or_else(|| self.sizes_error("which is more elements than can be counted"))?;
        let block = self.tensor_type.block_elems().zip(self.tensor_type.block_bytes());
        let Some((block_elems, block_bytes)) = block else {
            return Ok(None);
        };
        let row = self.dims.last().copied().unwrap_or(1);
        if !row.is_multiple_of(block_elems as u64) {
            return Err(self.sizes_error("whose last size is no whole number of the format's blocks"));
        }
        let len = (elems / block_elems as u64).checked_mul(block_bytes as u64);
        len.map(Some).ok_or_else(|| self.sizes_error("which is more bytes than can be counted"))
    }

    fn locate(&self, data_start: u64, alignment: u64, file_len: usize) -> Result<TensorInfo<'a>> {
        let len_bytes = self.len_bytes()?.unwrap_or(0);
        if !self.offset.is_multiple_of(alignment) {
            return Err(ModelError::Field {
                what: "a tensor's data offset",
                offset: self.offset_at,
                value: self.offset,
                expected: "a multiple of the file's alignment",
            });
        }
        let start = data_start.checked_add(self.offset);
        let end = start.and_then(|start| start.checked_add(len_bytes));
        let (Some(start), Some(end)) = (start, end.filter(|&end| end <= file_len as u64)) else {
            return Err(ModelError::TensorRange {
                name: self.name.to_owned(),
                start: data_start.saturating_add(self.offset),
                len_bytes,
                file_len: file_len as u64,
            });
        };
        // Both fit: they are at most the length of a slice. A dimension may not (of an empty tensor).
        let dims = self.dims.iter().map(|&dim| usize::try_from(dim)).collect::<std::result::Result<Vec<_>, _>>();
        let dims = dims.map_err(|_| self.sizes_error("which this machine cannot address"))?;
        Ok(TensorInfo { name: self.name, dims, tensor_type: self.tensor_type, data: start as usize..end as usize })
    }
}

fn read_magic_and_version(reader: &mut Reader<'_>) -> Result<u32> {
    let found = reader.bytes.get(..4).unwrap_or(reader.bytes);
    if found != b"GGUF" {
        return Err(ModelError::NotGguf { found: found.to_vec() });
    }
    reader.pos = 4;
    let version = reader.u32("the version")?;
    match version {
        2 | 3 => Ok(version),
        // Small numbers have their set bits at the other end in a big-endian file.
        _ if version.swap_bytes() < 1 << 16 => {
            Err(ModelError::GgufVersion { version: version.swap_bytes(), big_endian: true })
        }
        _ => Err(ModelError::GgufVersion { version, big_endian: false }),
    }
}

type Metadata<'a> = (Vec<Pair<'a>>, HashMap<&'a str, usize>);

fn read_metadata<'a>(reader: &mut Reader<'a>, n_pairs: usize) -> Result<Metadata<'a>> {
    // Grown as pairs are found: in a long file, a false count could still ask for more memory than there is.
    let mut pairs = Vec::new();
    let mut by_name = HashMap::new();
    for i in 0..n_pairs {
        let at = reader.pos as u64;
        let key = reader.string("a metadata key")?;
        if by_name.insert(key, i).is_some() {
            return Err(ModelError::Duplicate { what: "metadata key", name: key.to_owned(), offset: at });
        }
        let value_type = reader.value_type("a metadata value's type")?;
        let offset = reader.pos;
        pairs.push(Pair { key, value: reader.value(value_type, 0)?, offset });
    }
    Ok((pairs, by_name))
}

fn read_description<'a>(reader: &mut Reader<'a>) -> Result<Description<'a>> {
    let at = reader.pos as u64;
    let name = reader.string("a tensor's name")?;
    if name.len() > MAX_NAME_BYTES {
        return Err(ModelError::Field {
            what: "the length of a tensor's name",
            offset: at,
            value: name.len() as u64,
            expected: "at most 512 bytes",
        });
    }
    let n_dims_at = reader.pos as u64;
    let n_dims = reader.u32("a tensor's number of dimensions")?;
    if n_dims > MAX_DIMS {
        return Err(ModelError::Field {
            what: "a tensor's number of dimensions",
            offset: n_dims_at,
            value: n_dims.into(),
            expected: "0 to 4",
        });
    }
    let mut dims = Vec::with_capacity(n_dims as usize);
    for _ in 0..n_dims {
        dims.push(reader.u64("a tensor's sizes")?);
    }
    // The file lists the innermost size first.
    dims.reverse();
    let tensor_type = TensorType::from_id(reader.u32("a tensor's type")?);
    let offset_at = reader.pos as u64;
    let offset = reader.u64("a tensor's data offset")?;
    Ok(Description { at, name, dims, tensor_type, offset, offset_at })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tl_testing::{GgufWriter, project_bytes};

    fn random_q8_0() -> Vec<u8> {
        project_bytes("tests/data/random-q8_0.gguf")
    }

    #[test]
    fn reads_a_real_file() {
        let bytes = random_q8_0();
        let gguf = Gguf::parse(&bytes).unwrap();
        assert_eq!((gguf.version(), gguf.alignment(), gguf.tensors().len()), (3, 32, 12));
        assert_eq!(gguf.string("general.name").unwrap(), Some("random-formats"));
        assert_eq!(gguf.integer("llama.embedding_length").unwrap(), Some(256));
        assert_eq!(gguf.float("llama.rope.freq_base").unwrap(), Some(500000.0));
        let tokens = gguf.array("tokenizer.ggml.tokens", ValueType::String, "").unwrap().unwrap();
        assert_eq!((tokens.len(), tokens.iter().count()), (320, 320));
        assert_eq!(tokens.iter().nth(259), Some(Value::String("▁e")));
        let down = gguf.tensor("blk.0.ffn_down.weight").unwrap();
        assert_eq!((down.dims.as_slice(), down.data.len()), (&[256, 512][..], 256 * 512 / 32 * 34));
        assert_eq!(down.tensor_type.name().as_deref(), Some("Q8_0"));
        // The last tensor ends where the file ends.
        assert_eq!(gguf.tensors().iter().map(|tensor| tensor.data.end).max(), Some(bytes.len()));
    }

    #[test]
    fn what_a_file_may_say() {
        let check = |writer: GgufWriter, expected: &str| {
            let bytes = writer.finish();
            match Gguf::parse(&bytes) {
                Ok(_) => assert_eq!(expected, "", "accepted"),
                Err(error) => assert!(!expected.is_empty() && error.to_string().contains(expected), "{error}"),
            }
        };
        let file = GgufWriter::default;
        check(file(), "");
        check(file().u32("a", 1).u32("b", 1).nested("c", 3), "");
        check(file().u32("a", 1).u32("a", 1), "the metadata key `a` occurs twice, the second time at byte 41");
        check(file().nested("a", 4), "");
        check(file().nested("a", 5), "the depth of nested metadata arrays");
        check(file().nested("a", 100_000), "the depth of nested metadata arrays");
        check(file().bool("a", 2), "a metadata bool at byte 37 is 2, expected 0 or 1");
        check(file().u32("general.alignment", 64), "");
        check(file().u32("general.alignment", 0), "is 0, expected a power of two");
        check(file().u32("general.alignment", 48), "is 48, expected a power of two");
        check(file().string("general.alignment", "32"), "holds a string, expected an integer");
        let tensor = |dims: &[u64], type_id, len| file().tensor("t", dims, type_id, &vec![0; len]);
        check(tensor(&[2, 3], 0, 24), "");
        check(tensor(&[2, 3], 0, 23), "outside the file of 119 bytes");
        check(tensor(&[], 0, 4), "");
        check(tensor(&[0], 0, 0), "");
        check(tensor(&[3, 2, 2, 32], 8, 12 * 34), "");
        check(tensor(&[3, 31], 8, 200), "no whole number of the format's blocks");
        check(tensor(&[1, 1, 1, 1, 1], 0, 4), "a tensor's number of dimensions at byte 33 is 5");
        check(tensor(&[u64::MAX, 2], 0, 4), "more elements than can be counted");
        check(tensor(&[1 << 62], 0, 4), "more bytes than can be counted");
        check(tensor(&[1 << 40, 1 << 10], 0, 4), "outside the file");
        check(tensor(&[5], 77, 5), "");
        check(file().tensor_at("t", &[1], 0, 0), "outside the file");
        check(file().tensor_at("t", &[1], 0, 33), "a multiple of the file's alignment");
        check(file().tensor_at("t", &[1], 0, u64::MAX - 31), "outside the file");
        check(file().tensor_at("t", &[1], 77, 1 << 40), "outside the file");
        let two = |name: &str| tensor(&[1], 0, 4).tensor_at(name, &[1], 0, 0);
        check(two("u"), "");
        check(two("t"), "the tensor `t` occurs twice");
    }

    #[test]
    fn what_is_not_gguf() {
        let check = |bytes: &[u8], expected: &str| {
            let error = Gguf::parse(bytes).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(b"", "not a GGUF file");
        check(b"GG", "not a GGUF file");
        check(b"PK\x03\x04 more", "begins with [50, 4b, 03, 04]");
        check(b"GGUF", "ends inside the version at byte 4: 4 bytes are needed, 0 are left");
        check(b"GGUF\x01\0\0\0", "GGUF version 1 is not supported");
        check(b"GGUF\0\0\0\x03", "GGUF version 3 of a big-endian file");
        let mut bytes = GgufWriter::default().u32("a", 1).finish();
        bytes[32] = 0xff;
        check(&bytes, "a metadata key at byte 32 is not UTF-8");
    }

    #[test]
    fn unknown_types_can_be_listed() {
        let bytes = GgufWriter::default().tensor_at("t", &[7, 5], 77, 0).finish();
        let gguf = Gguf::parse(&bytes).unwrap();
        assert_eq!(gguf.tensor("t").unwrap().tensor_type.to_string(), "type 77");
        assert_eq!(gguf.tensor("t").unwrap().dims, [7, 5]);
    }
}
