//! Weights larger than the largest binding, bound in parts of whole rows.

use smallvec::SmallVec;
use tl_device::{Binding, ShaderTarget};

use crate::operand::Operand;

/// Rows of a weight in one binding.
pub(crate) struct WeightPart {
    pub(crate) first: usize,
    pub(crate) n_rows: usize,
    /// Start and length of the binding; `None`: the whole weight.
    bytes: Option<(u64, u64)>,
}

impl WeightPart {
    pub(crate) fn binding<'a>(&self, whole: &Binding<'a>) -> Binding<'a> {
        self.bytes.map_or(*whole, |(start, len)| whole.part(start, len))
    }
}

/// The parts that a weight is bound in: as many rows as a binding may have, a multiple of four such that each part
/// begins at an allowed offset. `None` where so few rows exceed a binding, or 32 bits cannot count the elements of a
/// part.
pub(crate) fn weight_parts(
    target: &ShaderTarget,
    w: &Operand,
    k: usize,
    n: usize,
) -> Option<SmallVec<[WeightPart; 4]>> {
    let (elems, bytes) = (w.dtype.block_elems(), w.dtype.block_bytes());
    let whole = w.binding.map_or(0, |binding| binding.len_bytes() as u64);
    let is_counted = |n_elems: usize| n_elems < u32::MAX as usize;
    if whole <= target.max_binding_bytes && is_counted(w.offset + n * k) {
        return Some(SmallVec::from_iter([WeightPart { first: 0, n_rows: n, bytes: None }]));
    }
    let (row, before) = ((k / elems * bytes) as u64, (w.offset / elems * bytes) as u64);
    let alignment = u64::from(target.binding_alignment);
    // The least number of rows whose bytes are a multiple of the alignment, which is a power of two.
    let rows_apart = (alignment >> row.trailing_zeros().min(alignment.trailing_zeros())).max(4);
    let most =
        target.max_binding_bytes.checked_sub(before)?.checked_div(row)?.min(u64::from(u32::MAX / 2) / k.max(1) as u64);
    let n_rows = (most / rows_apart * rows_apart) as usize;
    if n_rows == 0 || !is_counted(w.offset) {
        return None;
    }
    let part = |first: usize| {
        let n_rows = n_rows.min(n - first);
        WeightPart { first, n_rows, bytes: Some((first as u64 * row, before + n_rows as u64 * row)) }
    };
    Some((0..n).step_by(n_rows).map(part).collect())
}
