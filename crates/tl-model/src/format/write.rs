//! Writing GGUF, version 3, in two stages: a [`GgufHeader`] collects metadata and the list of tensors; a [`GgufWriter`]
//! then takes the tensors' data in that order, in parts of any size.
//!
//! It must not know the meaning of the metadata, and never holds a tensor in memory.

use std::io;
use std::path::Path;

use super::output_file::OutputFile;
use super::tensor_type::TensorType;
use super::value::{Value, ValueType};
use crate::error::{ModelError, Result};

const VERSION: u32 = 3;
/// Alignment of the tensors' data, the format's default.
const ALIGNMENT: u64 = 32;
const ALIGNMENT_KEY: &str = "general.alignment";

/// Metadata and tensors of a file to be written.
///
/// ```
/// use tl_model::{Gguf, GgufHeader, TensorType};
/// # let path = std::env::temp_dir().join(format!("tl-model-doc-{}.gguf", std::process::id()));
/// let mut header = GgufHeader::new();
/// header.string("general.architecture", "llama").u32("llama.block_count", 2);
/// header.tensor("output_norm.weight", &[3], TensorType::from_id(0))?;
/// let mut writer = header.create(&path)?;
/// writer.write(&[0; 12])?;
/// writer.finish()?;
/// let bytes = std::fs::read(&path).unwrap();
/// assert_eq!(Gguf::parse(&bytes)?.tensor("output_norm.weight").unwrap().dims, [3]);
/// # std::fs::remove_file(&path).unwrap();
/// # Ok::<(), tl_model::ModelError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct GgufHeader {
    pairs: Vec<u8>,
    n_pairs: u64,
    tensors: Vec<u8>,
    /// Bytes of each tensor's data.
    lengths: Vec<u64>,
    /// Offset of the next tensor's data from the first one's.
    next_offset: u64,
}

impl GgufHeader {
    /// An empty header.
    pub fn new() -> GgufHeader {
        GgufHeader::default()
    }

    fn begin(&mut self, key: &str, value_type: ValueType) -> &mut Vec<u8> {
        push_string(&mut self.pairs, key);
        self.pairs.extend(value_type.id().to_le_bytes());
        self.n_pairs += 1;
        &mut self.pairs
    }

    fn begin_array(&mut self, key: &str, element: ValueType, len: usize) -> &mut Vec<u8> {
        let bytes = self.begin(key, ValueType::Array);
        bytes.extend(element.id().to_le_bytes());
        bytes.extend((len as u64).to_le_bytes());
        bytes
    }

    /// Adds a string.
    pub fn string(&mut self, key: &str, value: &str) -> &mut Self {
        push_string(self.begin(key, ValueType::String), value);
        self
    }

    /// Adds a count.
    pub fn u32(&mut self, key: &str, value: u32) -> &mut Self {
        self.begin(key, ValueType::U32).extend(value.to_le_bytes());
        self
    }

    /// Adds a floating-point number.
    pub fn f32(&mut self, key: &str, value: f32) -> &mut Self {
        self.begin(key, ValueType::F32).extend(value.to_le_bytes());
        self
    }

    /// Adds a flag.
    pub fn bool(&mut self, key: &str, value: bool) -> &mut Self {
        self.begin(key, ValueType::Bool).push(value.into());
        self
    }

    /// Adds a list of strings.
    pub fn strings(&mut self, key: &str, values: &[impl AsRef<str>]) -> &mut Self {
        let bytes = self.begin_array(key, ValueType::String, values.len());
        values.iter().for_each(|value| push_string(bytes, value.as_ref()));
        self
    }

    /// Adds a list of flags.
    pub fn bools(&mut self, key: &str, values: &[bool]) -> &mut Self {
        self.begin_array(key, ValueType::Bool, values.len()).extend(values.iter().map(|&value| u8::from(value)));
        self
    }

    /// Adds a list of floating-point numbers.
    pub fn f32s(&mut self, key: &str, values: &[f32]) -> &mut Self {
        let bytes = self.begin_array(key, ValueType::F32, values.len());
        values.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
        self
    }

    /// Adds a list of integers.
    pub fn i32s(&mut self, key: &str, values: &[i32]) -> &mut Self {
        let bytes = self.begin_array(key, ValueType::I32, values.len());
        values.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
        self
    }

    /// Adds a value of another file. An alignment is skipped: this file has its own.
    pub fn value(&mut self, key: &str, value: Value<'_>) -> &mut Self {
        if key == ALIGNMENT_KEY {
            return self;
        }
        let bytes = self.begin(key, value.value_type());
        match value {
            Value::U8(x) => bytes.push(x),
            Value::I8(x) => bytes.extend(x.to_le_bytes()),
            Value::U16(x) => bytes.extend(x.to_le_bytes()),
            Value::I16(x) => bytes.extend(x.to_le_bytes()),
            Value::U32(x) => bytes.extend(x.to_le_bytes()),
            Value::I32(x) => bytes.extend(x.to_le_bytes()),
            Value::U64(x) => bytes.extend(x.to_le_bytes()),
            Value::I64(x) => bytes.extend(x.to_le_bytes()),
            Value::F32(x) => bytes.extend(x.to_le_bytes()),
            Value::F64(x) => bytes.extend(x.to_le_bytes()),
            Value::Bool(x) => bytes.push(x.into()),
            Value::String(text) => push_string(bytes, text),
            Value::Array(array) => {
                bytes.extend(array.element.id().to_le_bytes());
                bytes.extend((array.len as u64).to_le_bytes());
                bytes.extend(array.bytes);
            }
        }
        self
    }

    /// Adds a tensor; `dims` outermost first. Data is written in the order in which tensors are added. Returns the size
    /// of its data in bytes.
    ///
    /// # Errors
    /// Rows that are not a whole number of the type's blocks, a type with unknown blocks, more than 4 dimensions, a
    /// size that overflows.
    pub fn tensor(&mut self, name: &str, dims: &[usize], tensor_type: TensorType) -> Result<u64> {
        let wrong = |problem: &'static str| ModelError::TensorSizes {
            name: name.to_owned(),
            offset: self.tensors.len() as u64,
            dims: dims.iter().map(|&dim| dim as u64).collect(),
            format: tensor_type.to_string(),
            problem,
        };
        let block = tensor_type.block_elems().zip(tensor_type.block_bytes());
        let (block_elems, block_bytes) = block.ok_or_else(|| wrong("whose blocks are not known"))?;
        if dims.len() > 4 {
            return Err(wrong("which is more than the 4 that a file can hold"));
        }
        if !dims.last().copied().unwrap_or(1).is_multiple_of(block_elems) {
            return Err(wrong("whose last size is no whole number of the format's blocks"));
        }
        let elems = dims.iter().try_fold(1u64, |n, &dim| n.checked_mul(dim as u64));
        let len = elems.and_then(|elems| (elems / block_elems as u64).checked_mul(block_bytes as u64));
        let next = len.and_then(|len| self.next_offset.checked_add(len)?.checked_next_multiple_of(ALIGNMENT));
        let (Some(len), Some(next)) = (len, next) else {
            return Err(wrong("which is more bytes than can be counted"));
        };
        push_string(&mut self.tensors, name);
        self.tensors.extend((dims.len() as u32).to_le_bytes());
        // The file lists the innermost size first.
        dims.iter().rev().for_each(|&dim| self.tensors.extend((dim as u64).to_le_bytes()));
        self.tensors.extend(tensor_type.id().to_le_bytes());
        self.tensors.extend(self.next_offset.to_le_bytes());
        self.next_offset = next;
        self.lengths.push(len);
        Ok(len)
    }

    /// The bytes before the data, including padding.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend((self.lengths.len() as u64).to_le_bytes());
        bytes.extend(self.n_pairs.to_le_bytes());
        bytes.extend(&self.pairs);
        bytes.extend(&self.tensors);
        bytes.resize(bytes.len().next_multiple_of(ALIGNMENT as usize), 0);
        bytes
    }

    /// Creates the file that will become `path`.
    ///
    /// # Errors
    /// [`ModelError::Write`]: a missing or read-only folder, a target that is not a regular file, a full disk.
    pub fn create(self, path: impl AsRef<Path>) -> Result<GgufWriter> {
        let path = path.as_ref();
        let header = self.bytes();
        let len_bytes = self.next_offset.saturating_add(header.len() as u64);
        let failed = |source| ModelError::Write { path: path.to_owned(), len_bytes, source };
        let file = OutputFile::create(path).map_err(failed)?;
        let mut writer = GgufWriter { file, lengths: self.lengths.into_iter(), left: 0, pad: 0, len_bytes };
        writer.put(&header)?;
        Ok(writer)
    }
}

/// A file being written. Dropping it before [`GgufWriter::finish`] leaves nothing behind.
#[derive(Debug)]
pub struct GgufWriter {
    file: OutputFile,
    /// Sizes of the tensors that have not begun.
    lengths: std::vec::IntoIter<u64>,
    /// Bytes that the current tensor still needs.
    left: u64,
    /// Bytes of padding after it.
    pad: u64,
    len_bytes: u64,
}

impl GgufWriter {
    fn failed(&self, source: io::Error) -> ModelError {
        ModelError::Write { path: self.file.path().to_owned(), len_bytes: self.len_bytes, source }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.put(bytes).map_err(|source| self.failed(source))
    }

    /// Writes the next bytes of the tensors' data, in the order in which the tensors were added. The parts need not
    /// match the tensors.
    ///
    /// # Errors
    /// [`ModelError::Write`]: a full disk, a failing medium, more bytes than all tensors have.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            while self.left == 0 {
                self.begin_next()?;
            }
            // At most the length of a slice, so it fits.
            let n = self.left.min(bytes.len() as u64) as usize;
            let (now, rest) = bytes.split_at(n);
            self.put(now)?;
            self.left -= n as u64;
            bytes = rest;
            if self.left == 0 {
                self.put_padding()?;
            }
        }
        Ok(())
    }

    fn begin_next(&mut self) -> Result<()> {
        let Some(len) = self.lengths.next() else {
            return Err(self.failed(io::Error::new(io::ErrorKind::InvalidInput, "more data than the tensors have")));
        };
        self.left = len;
        self.pad = len.next_multiple_of(ALIGNMENT) - len;
        Ok(())
    }

    fn put_padding(&mut self) -> Result<()> {
        let zeros = [0; ALIGNMENT as usize];
        let pad = zeros.get(..self.pad as usize).unwrap_or_default();
        self.put(pad)
    }

    /// Completes the file, syncs it to disk, and renames it to its target. Returns its length in bytes.
    ///
    /// # Errors
    /// [`ModelError::Write`]: missing data, a full disk, a failing medium.
    pub fn finish(mut self) -> Result<u64> {
        while self.left == 0 && self.lengths.len() > 0 {
            self.begin_next()?;
        }
        if self.left > 0 {
            let missing = io::Error::new(io::ErrorKind::InvalidInput, "less data than the tensors have");
            return Err(self.failed(missing));
        }
        let GgufWriter { file, len_bytes, .. } = self;
        let path = file.path().to_owned();
        file.finish().map_err(|source| ModelError::Write { path, len_bytes, source })?;
        Ok(len_bytes)
    }
}

fn push_string(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::gguf::Gguf;
    use std::fs;
    use std::path::PathBuf;
    use tl_testing::project_bytes;

    /// A folder of its own, removed at the end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let path = std::env::temp_dir().join(format!("tl-write-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Folder(path)
        }

        fn names(&self) -> Vec<String> {
            let names = fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
            names.collect()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// What a file holds is written again, value by value, in parts of `part` bytes.
    fn check_copy(original: &[u8], part: usize) {
        let folder = Folder::new(&format!("copy-{part}"));
        let path = folder.0.join("copy.gguf");
        let gguf = Gguf::parse(original).unwrap();
        let mut header = GgufHeader::new();
        for (key, value) in gguf.metadata() {
            header.value(key, value);
        }
        for tensor in gguf.tensors() {
            let len = header.tensor(tensor.name, &tensor.dims, tensor.tensor_type).unwrap();
            assert_eq!(len, tensor.data.len() as u64);
        }
        let mut writer = header.create(&path).unwrap();
        for tensor in gguf.tensors() {
            original[tensor.data.clone()].chunks(part).for_each(|bytes| writer.write(bytes).unwrap());
        }
        let len = writer.finish().unwrap();
        assert_eq!(folder.names(), ["copy.gguf"]);
        let bytes = fs::read(&path).unwrap();
        assert_eq!(bytes.len() as u64, len);
        let copy = Gguf::parse(&bytes).unwrap();
        let pairs = |gguf: &Gguf<'_>| gguf.metadata().map(|pair| format!("{pair:?}")).collect::<Vec<_>>();
        assert_eq!(pairs(&copy), pairs(&gguf));
        for (a, b) in copy.tensors().iter().zip(gguf.tensors()) {
            assert_eq!((a.name, &a.dims, a.tensor_type), (b.name, &b.dims, b.tensor_type));
            assert_eq!(bytes[a.data.clone()], original[b.data.clone()], "{}", a.name);
        }
    }

    #[test]
    fn copies_files() {
        let demo = project_bytes("models/demo-q4_0.gguf");
        check_copy(&demo, 1 << 20);
        check_copy(&demo, 1001);
        let tensors = |dims: &[u64]| {
            let n: u64 = dims.iter().product();
            tl_testing::GgufWriter::default()
                .nested("nested", 3)
                .strings("strings", &["", "a"])
                .tensor("empty", &[0, 3], 0, &[])
                .tensor("one", dims, 0, &vec![7; n as usize * 4])
                .tensor("scalar", &[], 24, &[1])
                .finish()
        };
        check_copy(&tensors(&[3]), 5);
        check_copy(&tensors(&[2, 2, 2, 2]), 64);
    }

    #[test]
    fn what_cannot_be_described() {
        let check = |dims: &[usize], id: u32, expected: &str| {
            let error = GgufHeader::new().tensor("x", dims, TensorType::from_id(id)).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(&[2, 33], 2, "no whole number of the format's blocks");
        check(&[32], 1000, "blocks are not known");
        check(&[1; 5], 0, "more than the 4");
        check(&[usize::MAX, usize::MAX], 0, "more bytes than can be counted");
        check(&[usize::MAX / 4], 0, "more bytes than can be counted");
    }

    fn small() -> GgufHeader {
        let mut header = GgufHeader::new();
        header.tensor("x", &[3], TensorType::from_id(0)).unwrap();
        header
    }

    #[test]
    fn failures_leave_the_target_as_it_was() {
        let folder = Folder::new("failures");
        let path = folder.0.join("a.gguf");
        fs::write(&path, "before").unwrap();
        let check = |data: &[usize], expected: &str| {
            let mut writer = small().create(&path).unwrap();
            let written = data.iter().try_for_each(|&n| writer.write(&vec![1; n]));
            let error = written.and_then(|()| writer.finish().map(drop)).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("a.gguf"), "{error}");
            assert_eq!(folder.names(), ["a.gguf"]);
            assert_eq!(fs::read(&path).unwrap(), b"before");
        };
        check(&[], "less data");
        check(&[11], "less data");
        check(&[12, 1], "more data");
        // Two writers at once do not meet: each has a file of its own until it is whole.
        let (first, mut second) = (small().create(&path).unwrap(), small().create(&path).unwrap());
        second.write(&[1; 12]).unwrap();
        second.finish().unwrap();
        drop(first);
        assert_eq!(folder.names(), ["a.gguf"]);
        assert_ne!(fs::read(&path).unwrap(), b"before");
    }

    #[test]
    fn what_is_no_target() {
        let folder = Folder::new("targets");
        let check = |path: &Path, expected: &str| {
            let error = small().create(path).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains(&*path.to_string_lossy()), "{error}");
        };
        check(&folder.0, "is a directory");
        check(&folder.0.join("none/a.gguf"), "No such file");
        assert!(folder.names().is_empty());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_full_disk_is_an_error() {
        let folder = Folder::new("full");
        let mut writer = small().create(folder.0.join("a.gguf")).unwrap();
        // Nothing has been written yet but into the buffer, which goes where every byte is one too many.
        writer.file.redirect(fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
        writer.write(&[0; 12]).unwrap();
        let error = writer.finish().unwrap_err().to_string();
        assert!(error.contains("No space left"), "{error}");
        assert!(folder.names().is_empty());
    }
}
