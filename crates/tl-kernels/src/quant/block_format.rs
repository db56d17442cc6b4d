//! What a block format is called, and how large its blocks are.

use std::hash::{Hash, Hasher};

/// A storage format of weights: `block_elems` elements in `block_bytes` bytes. Identified by its number in GGUF files.
#[derive(Debug)]
pub struct BlockFormat {
    /// The name that users see, `q4_0`.
    pub name: &'static str,
    /// The type number of a tensor in GGUF files (ggml's `ggml_type`); two formats are equal when it is.
    pub id: u32,
    /// Elements in a block, at most 256 and a power of two; a row of a weight is a whole number of blocks.
    pub block_elems: usize,
    /// Bytes of a block, at any alignment.
    pub block_bytes: usize,
}

impl PartialEq for BlockFormat {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for BlockFormat {}

impl Hash for BlockFormat {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}
