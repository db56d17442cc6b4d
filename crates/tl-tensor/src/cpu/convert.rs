//! Copies of operands into contiguous memory, in their own or another type.

use half::f16;
use tl_device::DType;
use tl_kernels::{Element, Isa};

use super::elements::{Reader, for_each_index, write};
use crate::OpError;
use crate::op::kernel::with_float;
use crate::operand::Operand;

/// Stores `src` as float elements of `dtype`.
pub(crate) fn store_f32(isa: Isa, src: &[f32], dtype: DType, out: &mut [u8]) {
    match dtype {
        DType::F16 => {
            if let Ok(out) = bytemuck::try_cast_slice_mut::<u8, f16>(out) {
                f16::store(isa, src, out);
            }
        }
        DType::F32 => {
            for (out, x) in out.as_chunks_mut().0.iter_mut().zip(src) {
                *out = x.to_le_bytes();
            }
        }
        _ => {
            for (i, &x) in src.iter().enumerate() {
                write(dtype, out, i, f64::from(x));
            }
        }
    }
}

/// Copies an operand into contiguous bytes of its own or another type.
pub(crate) fn copy_into(isa: Isa, source: &Operand<'_>, dtype: DType, out: &mut [u8]) -> Result<(), OpError> {
    if source.dtype == dtype && source.is_contiguous() {
        let len = out.len();
        out.copy_from_slice(source.bytes.get(..len).unwrap_or_default());
        return Ok(());
    }
    match (source.dtype, dtype) {
        (DType::Block(_), DType::Block(_)) => return copy_rows(source, out),
        (DType::Block(_), _) => return dequantize(isa, source, dtype, out),
        (_, DType::Block(_)) => return quantize(isa, source, dtype, out),
        _ => {}
    }
    if source.is_contiguous() && source.dtype.is_float() && dtype.is_float() {
        return with_float!(source.dtype, "x", T => {
            let mut block = [0f32; 256];
            let bytes = block.len() * dtype.block_bytes();
            for (src, out) in source.slice::<T>()?.chunks(block.len()).zip(out.chunks_mut(bytes)) {
                T::load(isa, src, &mut block[..src.len()]);
                store_f32(isa, &block[..src.len()], dtype, out);
            }
            Ok(())
        });
    }
    let reader = Reader::new(source)?;
    for_each_index(source.dims, [source.strides], |i, [offset]| write(dtype, out, i, reader.at(offset)));
    Ok(())
}

/// The rows of a weight in a stored format: the dimensions before the last, their strides, and the elements of a row. A
/// row is the last dimension; formats without blocks can also be read element by element.
fn rows_of<'a>(source: &Operand<'a>) -> Result<(&'a [usize], &'a [usize], usize), OpError> {
    match (source.dims.split_last(), source.strides.split_last()) {
        (Some((&n, outer)), Some((&stride, outer_strides))) if stride == 1 || n == 1 || source.dims.contains(&0) => {
            Ok((outer, outer_strides, n))
        }
        _ if source.dtype.block_elems() == 1 => Ok((source.dims, source.strides, 1)),
        _ => {
            let expected = "a weight that is not transposed";
            Err(OpError::DType { operand: "x", expected, found: source.dtype })
        }
    }
}

/// Copies rows of blocks unchanged, one after the other.
fn copy_rows(source: &Operand<'_>, out: &mut [u8]) -> Result<(), OpError> {
    let (outer, strides, n) = rows_of(source)?;
    let format = source.weight_format()?;
    let row_bytes = n / format.blocks.block_elems * format.blocks.block_bytes;
    for_each_index(outer, [strides], |row, [offset]| {
        let start = offset / format.blocks.block_elems * format.blocks.block_bytes;
        if let Some(bytes) = source.bytes.get(start..start + row_bytes)
            && let Some(out) = out.get_mut(row * row_bytes..(row + 1) * row_bytes)
        {
            out.copy_from_slice(bytes);
        }
    });
    Ok(())
}

/// Floats to rows of blocks; the last dimension must be whole blocks.
fn quantize(isa: Isa, source: &Operand<'_>, dtype: DType, out: &mut [u8]) -> Result<(), OpError> {
    let error = || OpError::DType { operand: "the result", expected: "a type that can be written", found: dtype };
    let quantize = crate::quant::format_of(dtype).and_then(|format| format.kernels.quantize).ok_or_else(error)?;
    let found = source.dims.last().map_or(1, |&n| n);
    if !found.is_multiple_of(dtype.block_elems()) {
        let expected = "a whole number of the format's blocks";
        return Err(OpError::Value { operand: "the last dimension", expected, found: found as f64 });
    }
    const TILE: usize = 1024;
    let mut tile = [0f32; TILE];
    let tile_bytes = TILE / dtype.block_elems() * dtype.block_bytes();
    let mut store = |index: usize, tile: &[f32]| {
        let start = index / TILE * tile_bytes;
        let len = tile.len() / dtype.block_elems() * dtype.block_bytes();
        if let Some(out) = out.get_mut(start..start + len) {
            quantize(tile, out);
        }
    };
    let n = source.n_elems();
    if source.is_contiguous() && source.dtype.is_float() {
        return with_float!(source.dtype, "x", T => {
            for (i, src) in source.slice::<T>()?.chunks(TILE).enumerate() {
                T::load(isa, src, &mut tile[..src.len()]);
                store(i * TILE, &tile[..src.len()]);
            }
            Ok(())
        });
    }
    let reader = Reader::new(source)?;
    for_each_index(source.dims, [source.strides], |i, [offset]| {
        tile[i % TILE] = reader.at(offset) as f32;
        if i % TILE == TILE - 1 || i == n - 1 {
            store(i / TILE * TILE, &tile[..i % TILE + 1]);
        }
    });
    Ok(())
}

/// Rows of blocks to floats.
fn dequantize(isa: Isa, source: &Operand<'_>, dtype: DType, out: &mut [u8]) -> Result<(), OpError> {
    let (outer, outer_strides, n) = rows_of(source)?;
    let format = source.weight_format()?;
    let (block_elems, block_bytes) = (format.blocks.block_elems, format.blocks.block_bytes);
    const TILE: usize = 1024;
    let mut tile = [0f32; TILE];
    for_each_index(outer, [outer_strides], |row, [offset]| {
        let start = offset / block_elems * block_bytes;
        for column in (0..n).step_by(TILE) {
            let len = TILE.min(n - column);
            let from = start + column / block_elems * block_bytes;
            let bytes = source.bytes.get(from..from + len / block_elems * block_bytes).unwrap_or_default();
            (format.dequantize)(isa, bytes, &mut tile[..len]);
            let at = (row * n + column) * dtype.block_bytes();
            if let Some(out) = out.get_mut(at..at + len * dtype.block_bytes()) {
                store_f32(isa, &tile[..len], dtype, out);
            }
        }
    });
    Ok(())
}
