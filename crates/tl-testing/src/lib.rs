//! What the tests of several crates share: a writer of small GGUF files, files that are removed again, and the files that come
//! with the project. Nothing here is for programs.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A file of the project by its path from the root.
pub fn project_file(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// The bytes of a file of the project.
///
/// # Panics
/// Where it cannot be read.
pub fn project_bytes(path: &str) -> Vec<u8> {
    std::fs::read(project_file(path)).unwrap()
}

/// The path of a file that no other test has, in the system's folder for such; what is written there is removed at the end.
pub struct TempFile(
    /// Where it is.
    pub PathBuf,
);

impl TempFile {
    /// A path with this name at its end.
    pub fn new(name: &str) -> TempFile {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let index = COUNT.fetch_add(1, Ordering::Relaxed);
        TempFile(std::env::temp_dir().join(format!("tl-model-{}-{index}-{name}", std::process::id())))
    }

    /// The file with these bytes in it.
    pub fn with(name: &str, bytes: &[u8]) -> TempFile {
        let file = TempFile::new(name);
        std::fs::write(&file.0, bytes).unwrap();
        file
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Writes a GGUF file into memory, pair by pair; what it is told it writes, true or not.
#[derive(Clone, Default)]
pub struct GgufWriter {
    pairs: Vec<u8>,
    n_pairs: u64,
    tensors: Vec<u8>,
    n_tensors: u64,
    data: Vec<u8>,
}

impl GgufWriter {
    fn pair(mut self, key: &str, value_type: u32, value: &[u8]) -> GgufWriter {
        push_string(&mut self.pairs, key);
        self.pairs.extend(value_type.to_le_bytes());
        self.pairs.extend(value);
        self.n_pairs += 1;
        self
    }

    /// A text.
    pub fn string(self, key: &str, value: &str) -> GgufWriter {
        let mut bytes = Vec::new();
        push_string(&mut bytes, value);
        self.pair(key, 8, &bytes)
    }

    /// A whole number of 32 bits.
    pub fn u32(self, key: &str, value: u32) -> GgufWriter {
        self.pair(key, 4, &value.to_le_bytes())
    }

    /// A whole number of 64 bits.
    pub fn i64(self, key: &str, value: i64) -> GgufWriter {
        self.pair(key, 11, &value.to_le_bytes())
    }

    /// A number of 32 bits.
    pub fn f32(self, key: &str, value: f32) -> GgufWriter {
        self.pair(key, 6, &value.to_le_bytes())
    }

    /// A truth value, as the byte that is given.
    pub fn bool(self, key: &str, value: u8) -> GgufWriter {
        self.pair(key, 7, &[value])
    }

    /// An array of texts.
    pub fn strings(self, key: &str, values: &[&str]) -> GgufWriter {
        let mut bytes = array_header(8, values.len());
        values.iter().for_each(|value| push_string(&mut bytes, value));
        self.pair(key, 9, &bytes)
    }

    /// An array of numbers of 32 bits.
    pub fn f32s(self, key: &str, values: &[f32]) -> GgufWriter {
        let mut bytes = array_header(6, values.len());
        values.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
        self.pair(key, 9, &bytes)
    }

    /// An array of whole numbers of 32 bits.
    pub fn i32s(self, key: &str, values: &[i32]) -> GgufWriter {
        let mut bytes = array_header(5, values.len());
        values.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
        self.pair(key, 9, &bytes)
    }

    /// An array of arrays of arrays … `depth` deep, the innermost empty.
    pub fn nested(self, key: &str, depth: usize) -> GgufWriter {
        let mut bytes = Vec::new();
        (1..depth).for_each(|_| bytes.extend(array_header(9, 1)));
        bytes.extend(array_header(0, 0));
        self.pair(key, 9, &bytes)
    }

    /// Describes a tensor (sizes outermost first) and puts its data behind the ones before.
    pub fn tensor(mut self, name: &str, dims: &[u64], type_id: u32, data: &[u8]) -> GgufWriter {
        self.data.resize(self.data.len().next_multiple_of(32), 0);
        let offset = self.data.len() as u64;
        self.data.extend(data);
        self.tensor_at(name, dims, type_id, offset)
    }

    /// Describes a tensor whose data lies at `offset`, without adding any.
    pub fn tensor_at(mut self, name: &str, dims: &[u64], type_id: u32, offset: u64) -> GgufWriter {
        push_string(&mut self.tensors, name);
        self.tensors.extend((dims.len() as u32).to_le_bytes());
        dims.iter().rev().for_each(|dim| self.tensors.extend(dim.to_le_bytes()));
        self.tensors.extend(type_id.to_le_bytes());
        self.tensors.extend(offset.to_le_bytes());
        self.n_tensors += 1;
        self
    }

    /// The file's bytes.
    pub fn finish(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3u32.to_le_bytes());
        bytes.extend(self.n_tensors.to_le_bytes());
        bytes.extend(self.n_pairs.to_le_bytes());
        bytes.extend(&self.pairs);
        bytes.extend(&self.tensors);
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        bytes.extend(&self.data);
        bytes
    }
}

fn push_string(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

fn array_header(element: u32, len: usize) -> Vec<u8> {
    let mut bytes = element.to_le_bytes().to_vec();
    bytes.extend((len as u64).to_le_bytes());
    bytes
}
