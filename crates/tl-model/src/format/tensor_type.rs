//! The table of tensor types that GGUF names by number: what they are called and how large their blocks are.
//!
//! It says nothing about which of them can be computed on; that is the tensor crate's table of formats. A type
//! that is not in the table keeps its number, so that a file with it can still be listed.

use std::fmt;

/// How a tensor's elements are stored, as the file's number names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TensorType {
    id: u32,
}

impl TensorType {
    /// Single precision.
    pub const F32: TensorType = TensorType::from_id(0);
    /// Half precision.
    pub const F16: TensorType = TensorType::from_id(1);
    /// The upper half of single precision.
    pub const BF16: TensorType = TensorType::from_id(30);
}

/// One known type.
struct Row {
    id: u32,
    name: &'static str,
    /// Elements per block; a row of a tensor is a whole number of blocks.
    block_elems: u32,
    /// Bytes per block.
    block_bytes: u32,
}

const fn row(id: u32, name: &'static str, block_elems: u32, block_bytes: u32) -> Row {
    Row { id, name, block_elems, block_bytes }
}

/// Numbers as the GGUF specification (ggml's `ggml_type`) assigns them; the gaps are types that were withdrawn.
static TYPES: &[Row] = &[
    row(0, "F32", 1, 4),
    row(1, "F16", 1, 2),
    row(2, "Q4_0", 32, 18),
    row(3, "Q4_1", 32, 20),
    row(6, "Q5_0", 32, 22),
    row(7, "Q5_1", 32, 24),
    row(8, "Q8_0", 32, 34),
    row(9, "Q8_1", 32, 36),
    row(10, "Q2_K", 256, 84),
    row(11, "Q3_K", 256, 110),
    row(12, "Q4_K", 256, 144),
    row(13, "Q5_K", 256, 176),
    row(14, "Q6_K", 256, 210),
    row(15, "Q8_K", 256, 292),
    row(16, "IQ2_XXS", 256, 66),
    row(17, "IQ2_XS", 256, 74),
    row(18, "IQ3_XXS", 256, 98),
    row(19, "IQ1_S", 256, 50),
    row(20, "IQ4_NL", 32, 18),
    row(21, "IQ3_S", 256, 110),
    row(22, "IQ2_S", 256, 82),
    row(23, "IQ4_XS", 256, 136),
    row(24, "I8", 1, 1),
    row(25, "I16", 1, 2),
    row(26, "I32", 1, 4),
    row(27, "I64", 1, 8),
    row(28, "F64", 1, 8),
    row(29, "IQ1_M", 256, 56),
    row(30, "BF16", 1, 2),
    row(34, "TQ1_0", 256, 54),
    row(35, "TQ2_0", 256, 66),
    row(39, "MXFP4", 32, 17),
];

impl TensorType {
    /// The type that a file calls `id`. Every number is accepted; [`TensorType::name`] tells whether it is known.
    pub const fn from_id(id: u32) -> TensorType {
        TensorType { id }
    }

    /// The number in the file.
    pub fn id(self) -> u32 {
        self.id
    }

    /// The type's name (`Q8_0`), if the number is a known one.
    pub fn name(self) -> Option<&'static str> {
        self.row().map(|row| row.name)
    }

    /// Elements per block, if the type is known.
    pub fn block_elems(self) -> Option<usize> {
        self.row().map(|row| row.block_elems as usize)
    }

    /// Bytes per block, if the type is known.
    pub fn block_bytes(self) -> Option<usize> {
        self.row().map(|row| row.block_bytes as usize)
    }

    fn row(self) -> Option<&'static Row> {
        TYPES.iter().find(|row| row.id == self.id)
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.pad(name),
            None => f.pad(&format!("type {}", self.id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_blocks() {
        let check = |id: u32, name: &str, block: Option<(usize, usize)>| {
            let ty = TensorType::from_id(id);
            assert_eq!(ty.to_string(), name);
            assert_eq!(ty.block_elems().zip(ty.block_bytes()), block);
        };
        check(0, "F32", Some((1, 4)));
        check(2, "Q4_0", Some((32, 18)));
        check(14, "Q6_K", Some((256, 210)));
        check(4, "type 4", None);
        check(u32::MAX, "type 4294967295", None);
    }

    /// Every weight of the files in `tests/data`, against what another program made of them: one row element by element, and the
    /// sums of all tensors.
    #[test]
    fn weights_mean_what_the_reference_says() {
        let data = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data");
        let reference = std::fs::read(data.join("random-reference.json")).unwrap();
        let reference: serde_json::Value = serde_json::from_slice(&reference).unwrap();
        let mut formats = std::collections::BTreeSet::new();
        for (file, case) in reference["files"].as_object().unwrap() {
            let Ok(bytes) = std::fs::read(data.join(file)) else { continue };
            let gguf = crate::format::gguf::Gguf::parse(&bytes).unwrap();
            for (name, sum) in case["sum_of_all_weights"].as_object().unwrap() {
                let tensor = gguf.tensor(&format!("{name}.weight")).unwrap();
                let id = tensor.tensor_type.id();
                let format = tl_tensor::quant::format_by_gguf_id(id).unwrap();
                let mut values = vec![0.0; tensor.dims.iter().product()];
                let isa = tl_device::Device::cpu().threads().isa();
                (format.kernels.dequantize)(isa, &bytes[tensor.data.clone()], &mut values);
                let (found, expected): (f64, _) = (values.iter().map(|&v| f64::from(v)).sum(), sum.as_f64().unwrap());
                assert!((found - expected).abs() < 2e-4 * (1.0 + expected.abs()), "{file} {name}: {found} {expected}");
                if name == "blk.0.ffn_down" {
                    formats.insert(tensor.tensor_type.to_string());
                    let row = case["blk.0.ffn_down row 5"].as_array().unwrap();
                    for (found, expected) in values[5 * row.len()..].iter().zip(row) {
                        let (found, expected) = (f64::from(*found), expected.as_f64().unwrap());
                        assert!((found - expected).abs() < 1e-6, "{file}: {found} {expected}");
                    }
                }
            }
        }
        // All but F32, of which there is no file.
        assert_eq!(formats.len(), tl_tensor::quant::FORMATS.len() - 1, "{formats:?}");
    }

    #[test]
    fn numbers_and_names_are_unique() {
        for (i, a) in TYPES.iter().enumerate() {
            for b in &TYPES[i + 1..] {
                assert!(a.id != b.id && a.name != b.name, "{} and {}", a.name, b.name);
            }
        }
    }
}
