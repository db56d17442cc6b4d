//! The product: all threads pack the activations, then share the tiles of the output.

use super::choice::{GemmLayouts, LayoutVisitor};
use super::layout::{GemmLayout, LANES, Lanes, MAX_TOKENS, TILE_PANELS, TILE_ROWS, panel_lines, stretch_range};
use super::tokens::Tokens;
use crate::element::{Element, store};
use crate::isa::{Isa, Portable, dispatch, instantiate};
use crate::prefetch::prefetch_all;
use crate::quant::product::Product;
use crate::scratch::Scratch;
use crate::threads::{Threads, Tile, Tiling};
use crate::workspace::Line;

/// As [`linear`](crate::linear), for no more tokens than [`capacity`](super::choice::capacity).
pub(crate) fn multiply<X: Element, Y: Element>(
    threads: &Threads,
    x: Tokens<'_, X>,
    product: &Product<'_>,
    y: &mut [Y],
) {
    let format = product.weight.format;
    dispatch!(threads.isa(), set => set.with_layout::<X, _>(format, Multiply { threads, x, product, y }));
}

struct Multiply<'a, X, Y> {
    threads: &'a Threads,
    x: Tokens<'a, X>,
    product: &'a Product<'a>,
    y: &'a mut [Y],
}

impl<X: Element, Y: Element> LayoutVisitor for Multiply<'_, X, Y> {
    type Output = ();

    fn visit<L: GemmLayout>(self, layout: L) {
        multiply_by(layout, self.threads, self.x, self.product, self.y);
    }
}

fn multiply_by<L: GemmLayout, X: Element, Y: Element>(
    layout: L,
    threads: &Threads,
    x: Tokens<'_, X>,
    product: &Product<'_>,
    y: &mut [Y],
) {
    let (isa, Product { k, n, .. }) = (threads.isa(), *product);
    let n_tokens = match x {
        Tokens::InOrder(_) => y.len() / n,
        Tokens::Listed { rows, .. } => rows.len(),
    };
    let n_panels = n_tokens.div_ceil(LANES);
    // The same stretch of all panels lies together, in the order in which a tile reads it.
    let n_lines = layout.stretch_lines(k.min(L::STRETCH));
    let mut workspace = threads.workspace();
    let panels = &mut workspace[..n_panels * panel_lines(layout, k)];
    let n_cols = n_panels * n_lines;
    let tiling = Tiling { n_cols, group_rows: panels.len() / n_cols, row_step: 1, tile_rows: 1, tile_cols: n_lines };
    threads.for_tiles_if(product.parallel, panels, tiling, &|mut tile| {
        let panel = tile.first_col() / n_lines;
        let range = stretch_range::<L>(tile.first_row(), k);
        let lines = &mut tile.row_mut(0)[..layout.stretch_lines(range.len())];
        x.pack(layout, isa, panel * LANES, (k, range), lines);
    });
    let panels = &*panels;
    // Each tile unpacks its rows for itself, so it takes all tokens unless there would be too few tiles.
    let n_threads = if product.parallel { threads.count() } else { 1 };
    let mut tile_rows = n_tokens.next_multiple_of(2 * LANES).min(MAX_TOKENS);
    while tile_rows > 8 * LANES && n.div_ceil(TILE_ROWS) * n_tokens.div_ceil(tile_rows) < 4 * n_threads {
        tile_rows = (tile_rows / 2).next_multiple_of(2 * LANES);
    }
    // Small enough tiles that no thread waits long for another's last.
    let has_few_tiles = n.div_ceil(TILE_ROWS) * n_tokens.div_ceil(tile_rows) < 12 * n_threads && n_threads > 1;
    let tile_cols = if has_few_tiles { (TILE_ROWS / 2).next_multiple_of(L::ROWS) } else { TILE_ROWS };
    let panels = Panels { lines: panels, n_panels, n_lines };
    let body = |mut tile: Tile<'_, Y>| multiply_tile(layout, isa, product, panels, &mut tile);
    match x {
        Tokens::InOrder(_) => {
            let tiling = Tiling { n_cols: n, group_rows: n_tokens, row_step: 1, tile_rows, tile_cols };
            threads.for_tiles_if(product.parallel, y, tiling, &body);
        }
        Tokens::Listed { rows, .. } => {
            let starts = [0, rows.len() as u32];
            threads.for_listed_tiles(product.parallel, y, n, rows, &starts, [tile_rows, tile_cols], &body);
        }
    }
}

/// The packed activations: stretch after stretch, each of all panels.
#[derive(Clone, Copy)]
struct Panels<'a> {
    lines: &'a [Line],
    n_panels: usize,
    /// Lines of a stretch of one panel.
    n_lines: usize,
}

/// Computes a tile. Its rows are tokens, from a multiple of 16 on; its columns are rows of the weight.
fn multiply_tile<L: GemmLayout, Y: Element>(
    layout: L,
    isa: Isa,
    product: &Product<'_>,
    panels: Panels<'_>,
    tile: &mut Tile<'_, Y>,
) {
    let (k, format) = (product.k, product.weight.format);
    let (first_row, n_rows) = (tile.first_col(), tile.n_cols());
    let (first_panel, n_panels) = (tile.first_row() / LANES, tile.n_rows().div_ceil(LANES));
    let row_bytes = format.row_bytes(k);
    let session = layout.session();
    let mut sums = Scratch::<[Lanes; TILE_ROWS], TILE_PANELS>::new();
    let sums = sums.zeroed(n_panels);
    let mut rows = Scratch::<L::Row, TILE_ROWS>::new();
    let rows = rows.zeroed(n_rows.next_multiple_of(L::ROWS));
    for (stretch, lines) in panels.lines.chunks_exact(panels.n_panels * panels.n_lines).enumerate() {
        let range = stretch_range::<L>(stretch, k);
        let bytes = format.row_bytes(range.start)..format.row_bytes(range.end);
        for (r, row) in rows[..n_rows].iter_mut().enumerate() {
            let stored = &product.weight.bytes[(first_row + r) * row_bytes..][..row_bytes];
            // The rows are walked side by side, which the hardware's prefetching does not follow.
            prefetch_all(&stored[bytes.end..(bytes.end + bytes.len()).min(row_bytes)]);
            layout.unpack(isa, &stored[bytes.clone()], row);
        }
        // Where the last stretch is shorter, its lines are the first of each panel's.
        let used = layout.stretch_lines(range.len());
        let lines = &lines[first_panel * panels.n_lines..][..n_panels * panels.n_lines];
        for (sums, lines) in sums.chunks_mut(2).zip(lines.chunks(2 * panels.n_lines)) {
            let mut pair = lines.chunks_exact(panels.n_lines).map(|panel| &panel[..used]);
            let pair = [pair.next().unwrap_or_default(), pair.next().unwrap_or_default()];
            layout.multiply(isa, &session, rows, &pair[..sums.len()], sums);
        }
    }
    let mut start = [0.0; TILE_ROWS];
    product.init_accumulators(isa, first_row, &mut start[..n_rows]);
    for (p, sums) in sums.iter().enumerate() {
        let mut tokens = [[0.0; TILE_ROWS]; LANES];
        add_transposed(isa, sums, &start, &mut tokens);
        for (t, values) in tokens.iter().enumerate().take(tile.n_rows() - p * LANES) {
            store(isa, &values[..n_rows], tile.row_mut(p * LANES + t));
        }
    }
}

instantiate! {
    /// `tokens[t][r] = sums[r][t] + start[r]`.
    fn add_transposed(
        isa: Isa, sums: &[Lanes; TILE_ROWS], start: &[f32; TILE_ROWS], tokens: &mut [[f32; TILE_ROWS]; LANES],
    ) {
        dispatch!(isa, set => set.add_transposed(sums, start, tokens));
    }
}

/// What an instruction set brings to the end of a tile.
pub(crate) trait TileSums: Copy {
    /// `tokens[t][r] = sums[r][t] + start[r]`.
    #[inline(always)]
    fn add_transposed(
        self,
        sums: &[Lanes; TILE_ROWS],
        start: &[f32; TILE_ROWS],
        tokens: &mut [[f32; TILE_ROWS]; LANES],
    ) {
        for (t, values) in tokens.iter_mut().enumerate() {
            for ((value, sums), start) in values.iter_mut().zip(sums).zip(start) {
                *value = sums[t] + start;
            }
        }
    }
}

impl TileSums for Portable {}
