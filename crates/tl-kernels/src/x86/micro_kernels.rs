//! What the micro-kernels of the blocked product share.

/// Calls the micro-kernel with as many rows as it can take until none is left: the numbers of rows fall, the last is 1. Beside
/// each stands in how many parts a row is summed.
macro_rules! for_rows {
    ($micro:ident, $a:expr, $b:expr, $sums:expr; $($rows:literal: $parts:literal),+) => {
        let (a, b, sums) = ($a, $b, $sums);
        $(let (tiles, sums) = sums.as_chunks_mut::<$rows>();
        let (tiles_a, a) = a.split_at(tiles.len() * $rows * b.len());
        for (a, sums) in tiles_a.chunks_exact($rows * b.len()).zip(tiles) {
            $micro::<$rows, $parts>(a, b, sums);
        })+
        debug_assert!(a.is_empty() && sums.is_empty());
    };
}

/// The rows of `a: [ROWS, depth]` in steps of `PARTS`, and what is left of each.
#[inline(always)]
pub(crate) fn in_steps<const ROWS: usize, const PARTS: usize>(
    a: &[f32],
    depth: usize,
) -> [(&[[f32; PARTS]], &[f32]); ROWS] {
    let mut rows: [(&[[f32; PARTS]], &[f32]); ROWS] = [(&[], &[]); ROWS];
    for (row, a) in rows.iter_mut().zip(a.chunks_exact(depth)) {
        *row = a.as_chunks();
    }
    rows
}
pub(crate) use for_rows;
