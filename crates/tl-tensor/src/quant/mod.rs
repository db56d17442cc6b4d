//! The formats that weights are stored in: the table [`FORMATS`].
//!
//! A format is a row here and its block codec and dot products in `tl-kernels`. Everything else reads the row.

pub(crate) mod wgsl;

use tl_device::{BlockFormat, DType};
use tl_kernels::WeightKernels;

/// A row of [`FORMATS`].
pub struct Format {
    /// The data type that tensors in this format have.
    pub dtype: DType,
    /// The type number in GGUF files.
    pub gguf_id: u32,
    /// Loads, stores and dot products.
    pub kernels: &'static WeightKernels,
}

static BF16: BlockFormat = BlockFormat { name: "bf16", id: 30, block_elems: 1, block_bytes: 2 };
static Q4_0: BlockFormat = BlockFormat { name: "q4_0", id: 2, block_elems: 32, block_bytes: 18 };
static Q8_0: BlockFormat = BlockFormat { name: "q8_0", id: 8, block_elems: 32, block_bytes: 34 };

/// Every format that weights can be computed on in.
pub static FORMATS: &[Format] = &[
    Format { dtype: DType::F32, gguf_id: 0, kernels: &tl_kernels::F32 },
    Format { dtype: DType::F16, gguf_id: 1, kernels: &tl_kernels::F16 },
    Format { dtype: DType::Block(&BF16), gguf_id: 30, kernels: &tl_kernels::BF16 },
    Format { dtype: DType::Block(&Q8_0), gguf_id: 8, kernels: &tl_kernels::Q8_0 },
    Format { dtype: DType::Block(&Q4_0), gguf_id: 2, kernels: &tl_kernels::Q4_0 },
];

/// The row with this type number in GGUF files.
pub fn format_by_gguf_id(id: u32) -> Option<&'static Format> {
    FORMATS.iter().find(|format| format.gguf_id == id)
}

/// The row of this data type; `None` for types that are not weights' (`int32`, `bool`).
pub fn format_of(dtype: DType) -> Option<&'static Format> {
    FORMATS.iter().find(|format| format.dtype == dtype)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_agree_with_their_kernels() {
        for format in FORMATS {
            assert_eq!(format.dtype.block_elems(), format.kernels.block_elems, "{}", format.dtype);
            assert_eq!(format.dtype.block_bytes(), format.kernels.block_bytes, "{}", format.dtype);
            assert!(format_by_gguf_id(format.gguf_id).is_some_and(|found| found.dtype == format.dtype));
        }
    }
}
