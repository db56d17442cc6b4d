//! Weights larger than a binding may show, bound in parts of whole rows.

use smallvec::SmallVec;
use tl_device::{Binding, ShaderTarget};

use crate::operand::Operand;

/// Rows of a weight that one binding shows.
pub(crate) struct Part {
    pub(crate) first: usize,
    pub(crate) n_rows: usize,
    /// Where the binding begins and how long it is; `None`: it is the whole weight.
    bytes: Option<(u64, u64)>,
}

impl Part {
    pub(crate) fn binding<'a>(&self, whole: &Binding<'a>) -> Binding<'a> {
        self.bytes.map_or(*whole, |(start, len)| whole.part(start, len))
    }
}

/// The parts that a weight is bound in: as many rows as a binding may show, so many that each part begins where a binding
/// may, and at a multiple of four. `None` where a few rows are too much, or a part has elements beyond what can be counted.
pub(crate) fn parts(target: &ShaderTarget, w: &Operand, k: usize, n: usize) -> Option<SmallVec<[Part; 4]>> {
    let (elems, bytes) = (w.dtype.block_elems(), w.dtype.block_bytes());
    let whole = w.binding.map_or(0, |binding| binding.len_bytes() as u64);
    let is_counted = |n_elems: usize| n_elems < u32::MAX as usize;
    if whole <= target.max_binding_bytes && is_counted(w.offset + n * k) {
        return Some(SmallVec::from_iter([Part { first: 0, n_rows: n, bytes: None }]));
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
        Part { first, n_rows, bytes: Some((first as u64 * row, before + n_rows as u64 * row)) }
    };
    Some((0..n).step_by(n_rows).map(part).collect())
}
