//! Looking up rows of a table: the embedding.

use super::Weight;
use crate::element::{Element, store};
use crate::isa::Isa;
use crate::map::BLOCK;
use crate::scratch::Scratch;
use crate::threads::{Threads, Tiling};

/// An id that is not a row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowOutOfRange {
    /// Where it stands among the ids.
    pub position: usize,
    /// The id.
    pub id: i32,
    /// How many rows the table has.
    pub n_rows: usize,
}

impl std::fmt::Display for RowOutOfRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "id {} at position {} is not a row of a table of {}", self.id, self.position, self.n_rows)
    }
}

impl std::error::Error for RowOutOfRange {}

/// `out[i] = table[ids[i]]`. `table: [n_rows, k]` in any format, `out: [ids.len(), k]` contiguous.
///
/// # Errors
/// The first id that is negative or not below `n_rows`; `out` is then unchanged.
pub fn gather_rows<Y: Element>(
    threads: &Threads,
    table: Weight<'_>,
    k: usize,
    n_rows: usize,
    ids: &[i32],
    out: &mut [Y],
) -> Result<(), RowOutOfRange> {
    assert_eq!(out.len(), ids.len() * k, "gather_rows: length of the output");
    assert_eq!(table.bytes.len(), n_rows * table.format.row_bytes(k), "gather_rows: bytes of the table");
    let outside = |&id: &i32| usize::try_from(id).map_or(true, |id| id >= n_rows);
    if let Some(position) = ids.iter().position(outside) {
        return Err(RowOutOfRange { position, id: ids[position], n_rows });
    }
    // About 32 thousand elements are worth a task.
    let tile_rows = (32 * 1024 / k.max(1)).max(1);
    let tiling = Tiling { n_cols: k, group_rows: ids.len(), row_step: 1, tile_rows, tile_cols: k.max(1) };
    threads.for_tiles(out, tiling, &|mut tile| {
        for row in 0..tile.n_rows() {
            let id = ids[tile.first_row() + row] as usize;
            gather_row(threads.isa(), table, id * k, tile.row_mut(row));
        }
    });
    Ok(())
}

/// `out[i]` = element `first + i` of the table.
fn gather_row<Y: Element>(isa: Isa, table: Weight<'_>, first: usize, out: &mut [Y]) {
    let mut room = Scratch::<f32, BLOCK>::new();
    let values = room.zeroed(BLOCK.min(out.len()));
    for (block, out) in out.chunks_mut(BLOCK).enumerate() {
        let values = &mut values[..out.len()];
        table.load(isa, first + block * BLOCK, values);
        store(isa, values, out);
    }
}
