//! The formats that weights are stored in: the table [`FORMATS`].
//!
//! A format is a row in `tl-kernels`, with its block codec and dot products; here it gets the data type of its tensors.
//! Everything else reads the row.

pub(crate) mod wgsl;

use tl_device::DType;
use tl_kernels::WeightKernels;

/// A row of [`FORMATS`].
#[derive(Clone, Copy)]
pub struct Format {
    /// The data type that tensors in this format have.
    pub dtype: DType,
    /// The type number in GGUF files.
    pub gguf_id: u32,
    /// Loads, stores and dot products.
    pub kernels: &'static WeightKernels,
}

/// The row of a format. `float32` and `float16` are data types by themselves.
const fn row(kernels: &'static WeightKernels) -> Format {
    let gguf_id = kernels.blocks.id;
    let dtype = if gguf_id == tl_kernels::F32.blocks.id {
        DType::F32
    } else if gguf_id == tl_kernels::F16.blocks.id {
        DType::F16
    } else {
        DType::Block(&kernels.blocks)
    };
    Format { dtype, gguf_id, kernels }
}

/// Every format that weights can be computed on in.
pub static FORMATS: &[Format] = &{
    let mut rows = [row(&tl_kernels::F32); tl_kernels::FORMATS.len()];
    let mut i = 0;
    while i < rows.len() {
        rows[i] = row(tl_kernels::FORMATS[i]);
        i += 1;
    }
    rows
};

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
            let blocks = &format.kernels.blocks;
            assert_eq!(format.dtype.block_elems(), blocks.block_elems, "{}", format.dtype);
            assert_eq!(format.dtype.block_bytes(), blocks.block_bytes, "{}", format.dtype);
            assert!(format_by_gguf_id(format.gguf_id).is_some_and(|found| found.dtype == format.dtype));
        }
    }
}
