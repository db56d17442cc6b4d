//! The table of GGUF's tensor types by number: their names and block sizes.
//!
//! Types with kernels are rows of the tensor crate's table of formats; the others are listed here. A type in neither
//! table keeps its number, so that a file with it can still be listed.

use std::fmt;

use tl_device::BlockFormat;
use tl_tensor::quant::FORMATS;

/// Storage type of a tensor's elements, by its number in the file.
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

const fn other(id: u32, name: &'static str, block_elems: usize, block_bytes: usize) -> BlockFormat {
    BlockFormat { name, id, block_elems, block_bytes }
}

/// Types of weights without kernels. Numbers as the GGUF specification (ggml's `ggml_type`) assigns them; the gaps are
/// [`FORMATS`] and withdrawn types.
static OTHER_TYPES: &[BlockFormat] = &[
    other(9, "q8_1", 32, 36),
    other(15, "q8_k", 256, 292),
    other(16, "iq2_xxs", 256, 66),
    other(17, "iq2_xs", 256, 74),
    other(18, "iq3_xxs", 256, 98),
    other(19, "iq1_s", 256, 50),
    other(21, "iq3_s", 256, 110),
    other(22, "iq2_s", 256, 82),
    other(24, "i8", 1, 1),
    other(25, "i16", 1, 2),
    other(26, "i32", 1, 4),
    other(27, "i64", 1, 8),
    other(28, "f64", 1, 8),
    other(29, "iq1_m", 256, 56),
    other(34, "tq1_0", 256, 54),
    other(35, "tq2_0", 256, 66),
];

impl TensorType {
    /// The type with this number. Every number is accepted; [`TensorType::name`] tells whether it is known.
    pub const fn from_id(id: u32) -> TensorType {
        TensorType { id }
    }

    /// The number in the file.
    pub fn id(self) -> u32 {
        self.id
    }

    /// The type's name as GGUF has it (`Q8_0`), if the number is a known one.
    pub fn name(self) -> Option<String> {
        self.row().map(|row| row.name.to_uppercase())
    }

    /// Elements per block, if the type is known.
    pub fn block_elems(self) -> Option<usize> {
        self.row().map(|row| row.block_elems)
    }

    /// Bytes per block, if the type is known.
    pub fn block_bytes(self) -> Option<usize> {
        self.row().map(|row| row.block_bytes)
    }

    fn row(self) -> Option<&'static BlockFormat> {
        let rows = FORMATS.iter().map(|format| &format.kernels.blocks);
        rows.chain(OTHER_TYPES).find(|row| row.id == self.id)
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.pad(&name),
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
        let types: Vec<&BlockFormat> = FORMATS.iter().map(|format| &format.kernels.blocks).chain(OTHER_TYPES).collect();
        for (i, a) in types.iter().enumerate() {
            for b in &types[i + 1..] {
                assert!(a.id != b.id && a.name != b.name, "{} and {}", a.name, b.name);
            }
        }
    }
}
