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

const fn block(name: &'static str, id: u32, block_elems: usize, block_bytes: usize) -> BlockFormat {
    BlockFormat { name, id, block_elems, block_bytes }
}

static BF16: BlockFormat = block("bf16", 30, 1, 2);
static Q4_0: BlockFormat = block("q4_0", 2, 32, 18);
static Q4_1: BlockFormat = block("q4_1", 3, 32, 20);
static Q5_0: BlockFormat = block("q5_0", 6, 32, 22);
static Q5_1: BlockFormat = block("q5_1", 7, 32, 24);
static IQ4_NL: BlockFormat = block("iq4_nl", 20, 32, 18);
static MXFP4: BlockFormat = block("mxfp4", 39, 32, 17);
static Q2_K: BlockFormat = block("q2_k", 10, 256, 84);
static Q3_K: BlockFormat = block("q3_k", 11, 256, 110);
static Q4_K: BlockFormat = block("q4_k", 12, 256, 144);
static Q5_K: BlockFormat = block("q5_k", 13, 256, 176);
static Q6_K: BlockFormat = block("q6_k", 14, 256, 210);
static IQ4_XS: BlockFormat = block("iq4_xs", 23, 256, 136);

/// A format of blocks; those of files and of tensors have one number.
const fn blocks(format: &'static BlockFormat, kernels: &'static WeightKernels) -> Format {
    Format { dtype: DType::Block(format), gguf_id: format.id, kernels }
}

/// Every format that weights can be computed on in.
pub static FORMATS: &[Format] = &[
    Format { dtype: DType::F32, gguf_id: 0, kernels: &tl_kernels::F32 },
    Format { dtype: DType::F16, gguf_id: 1, kernels: &tl_kernels::F16 },
    blocks(&BF16, &tl_kernels::BF16),
    Format { dtype: DType::Q8_0, gguf_id: 8, kernels: &tl_kernels::Q8_0 },
    blocks(&Q4_0, &tl_kernels::Q4_0),
    blocks(&Q4_1, &tl_kernels::Q4_1),
    blocks(&Q5_0, &tl_kernels::Q5_0),
    blocks(&Q5_1, &tl_kernels::Q5_1),
    blocks(&IQ4_NL, &tl_kernels::IQ4_NL),
    blocks(&MXFP4, &tl_kernels::MXFP4),
    blocks(&Q2_K, &tl_kernels::Q2_K),
    blocks(&Q3_K, &tl_kernels::Q3_K),
    blocks(&Q4_K, &tl_kernels::Q4_K),
    blocks(&Q5_K, &tl_kernels::Q5_K),
    blocks(&Q6_K, &tl_kernels::Q6_K),
    blocks(&IQ4_XS, &tl_kernels::IQ4_XS),
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
