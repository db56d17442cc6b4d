//! Linear layers of many tokens: panels of 16 tokens stand in the workspace, and each tile of the output unpacks its rows of
//! the weight stretch by stretch, each stretch once for all tokens of the tile.
//!
//! A lane of a register is a token, and the weights are broadcast, so that rows of the weight need no rearranging. What is in
//! the panels, what rows are unpacked to and how the two are multiplied is a [`Way`]: `integer` and `float`, `tiles`
//! where the CPU has AMX, or `pairs` where `bf16` was chosen.
#![allow(unsafe_code)]

mod float;
mod integer;
#[cfg(target_arch = "x86_64")]
mod pairs;
#[cfg(target_arch = "x86_64")]
mod tiles;

use super::linear::Product;
use super::{Dot, IntegerKernels, WeightKernels};
use crate::element::{Element, store};
use crate::isa::{Isa, instantiate};
use crate::limits::Arithmetic;
use crate::scratch::Scratch;
use crate::threads::{Threads, Tile, Tiling};
use crate::vector::prefetch_all;
use crate::workspace::{LENT_BYTES, Line};
use bytemuck::Zeroable;
use float::Floats;
use integer::Integers;
#[cfg(target_arch = "x86_64")]
use pairs::Pairs;
use std::ops::Range;
#[cfg(target_arch = "x86_64")]
use tiles::Tiles;

/// Tokens of a panel.
pub(crate) const LANES: usize = super::activations::LANES;
/// The most rows of the weight of a tile: a multiple of the rows that any kernel takes at once.
const TILE_ROWS: usize = 96;
/// The most elements of a row that any way unpacks at a time.
const MAX_STRETCH: usize = super::block::STRETCH;
/// The most panels of a tile.
const TILE_PANELS: usize = 32;
/// The most tokens that go at once.
const MAX_TOKENS: usize = TILE_PANELS * LANES;

/// One value of each token of a panel.
type Lanes = [f32; LANES];

/// How panels and rows are kept and multiplied.
trait Way: Copy + Sync {
    /// Elements of a row that are unpacked at a time.
    const STRETCH: usize;
    /// What a thread holds while it multiplies.
    type Session;
    /// A stretch of a row of the weight, unpacked.
    type Row: Copy + Zeroable;
    /// The rows that are multiplied at a time, a divisor of [`TILE_ROWS`].
    const ROWS: usize;

    /// Prepares the thread.
    fn session(&self) -> Self::Session;
    /// Lines that a stretch of a panel takes, of `n_elems` elements.
    fn stretch_lines(&self, n_elems: usize) -> usize;
    /// Lanes that each token of a last panel of so many tokens takes, of `k` elements each. With more than one, a line has as many
    /// elements of each token, one after the other, and fewer lines are multiplied for nothing.
    fn lanes(&self, _isa: Isa, _n_tokens: usize, _k: usize) -> usize {
        1
    }
    /// Makes a stretch of a panel: the elements `range` of up to 16 tokens of `k` elements each; missing tokens are zeros.
    fn pack<X: Element>(&self, isa: Isa, x: &[X], k: usize, range: Range<usize>, lines: &mut [Line]);
    /// Unpacks the elements that `bytes` has, at most a stretch.
    fn unpack(&self, isa: Isa, bytes: &[u8], row: &mut Self::Row);
    /// Adds the products of the rows, a multiple of [`ROWS`](Self::ROWS), with the same stretch of one or two panels to the sums, a
    /// list of rows for each panel.
    fn multiply(
        &self,
        isa: Isa,
        session: &Self::Session,
        rows: &[Self::Row],
        panels: &[&[Line]],
        sums: &mut [[Lanes; TILE_ROWS]],
    );
    /// As [`pack`](Self::pack), for a panel in which each token has `lanes`, more than one.
    fn pack_few<X: Element>(
        &self,
        _isa: Isa,
        _x: &[X],
        _k: usize,
        _range: Range<usize>,
        lanes: usize,
        _lines: &mut [Line],
    ) {
        unreachable!("{lanes} lanes");
    }
    /// As [`multiply`](Self::multiply), with a panel that [`pack_few`](Self::pack_few) made.
    fn multiply_few(&self, _rows: &[Self::Row], _panel: &[Line], lanes: usize, _sums: &mut [Lanes; TILE_ROWS]) {
        unreachable!("{lanes} lanes");
    }
}

/// The tokens that the workspace holds.
pub(crate) fn capacity<X: Element>(isa: Isa, product: &Product<'_>) -> usize {
    let lines = match way::<X>(isa, product) {
        AnyWay::Integer(way) => panel_lines(way, product.k),
        AnyWay::Float(way) => panel_lines(way, product.k),
        #[cfg(target_arch = "x86_64")]
        AnyWay::Pairs(way) => panel_lines(way, product.k),
        #[cfg(target_arch = "x86_64")]
        AnyWay::Tiles(way) => panel_lines(way, product.k),
        #[cfg(target_arch = "x86_64")]
        AnyWay::SplitTiles(way) => panel_lines(way, product.k),
    };
    (LENT_BYTES / size_of::<Line>() / lines.max(1) * LANES).min(MAX_TOKENS)
}

/// Lines of a panel; a last stretch that is shorter takes as many as the others.
fn panel_lines<W: Way>(way: W, k: usize) -> usize {
    k.div_ceil(W::STRETCH) * way.stretch_lines(k.min(W::STRETCH))
}

enum AnyWay<'a> {
    Integer(Integers),
    Float(Floats<'a>),
    #[cfg(target_arch = "x86_64")]
    Pairs(Pairs<'a>),
    #[cfg(target_arch = "x86_64")]
    Tiles(Tiles<'a, 1>),
    #[cfg(target_arch = "x86_64")]
    SplitTiles(Tiles<'a, 2>),
}

/// What products of many tokens of `X` with a weight of this format are computed in.
pub(crate) fn arithmetic<X: Element>(isa: Isa, format: &WeightKernels) -> Arithmetic {
    #[cfg(target_arch = "x86_64")]
    if let Some(parts) = tiles::parts::<X>(isa, format) {
        return Arithmetic::Tiles { products: parts.iter().product() };
    }
    #[cfg(target_arch = "x86_64")]
    if pairs::is_way(isa, format) {
        return Arithmetic::Bfloat16;
    }
    match format.dot {
        Dot::Integer(_) => Arithmetic::Integer,
        Dot::Float(_) => Arithmetic::Float32,
    }
}

fn way<'a, X: Element>(isa: Isa, product: &Product<'a>) -> AnyWay<'a> {
    #[cfg(target_arch = "x86_64")]
    if let Some(way) = tiles::way::<X>(isa, product) {
        return way;
    }
    #[cfg(target_arch = "x86_64")]
    if let Some(way) = pairs::way(isa, product) {
        return AnyWay::Pairs(way);
    }
    match product.weight.format.dot {
        Dot::Integer(kernels) => AnyWay::Integer(Integers { kernels }),
        Dot::Float(_) => AnyWay::Float(Floats { format: product.weight.format }),
    }
}

/// Where tokens lie, and where their results go.
#[derive(Clone, Copy)]
pub(crate) enum Tokens<'a, X> {
    /// One after the other, in the output as in the input.
    InOrder(&'a [X]),
    /// Token `t` gives row `rows[t]` of the output. It is row `(first + rows[t]) / shared_by` of `x`.
    Listed {
        /// Activations.
        x: &'a [X],
        /// Rows of the output, none of them twice.
        rows: &'a [u32],
        /// Rows that the activations give before the output at hand.
        first: usize,
        /// Rows that each row of the activations gives.
        shared_by: usize,
    },
}

impl<X: Element> Tokens<'_, X> {
    /// Packs a stretch of the 16 tokens from `first_token` on, or of those that there are; see [`Way::pack`].
    fn pack<W: Way>(&self, way: W, isa: Isa, first_token: usize, (k, range): (usize, Range<usize>), to: PanelPart) {
        match *self {
            Tokens::InOrder(x) => {
                to.pack(way, isa, &x[first_token * k..x.len().min((first_token + LANES) * k)], k, range)
            }
            Tokens::Listed { x, rows, first, shared_by } => {
                let rows = &rows[first_token..rows.len().min(first_token + LANES)];
                let mut room = Scratch::<X, { LANES * MAX_STRETCH }>::new();
                let len = range.len();
                let gathered = room.zeroed(rows.len() * len);
                for (&row, values) in rows.iter().zip(gathered.chunks_exact_mut(len)) {
                    let token = (first + row as usize) / shared_by;
                    values.copy_from_slice(&x[token * k..][range.clone()]);
                }
                to.pack(way, isa, gathered, len, 0..len);
            }
        }
    }
}

/// Room for a stretch of a panel.
struct PanelPart<'a> {
    lines: &'a mut [Line],
    /// Lanes of each token.
    lanes: usize,
}

impl PanelPart<'_> {
    fn pack<W: Way, X: Element>(self, way: W, isa: Isa, tokens: &[X], k: usize, range: Range<usize>) {
        let PanelPart { lines, lanes } = self;
        if lanes > 1 {
            let n_lines = lines.len() / lanes;
            way.pack_few(isa, tokens, k, range, lanes, &mut lines[..n_lines]);
        } else {
            way.pack(isa, tokens, k, range, lines);
        }
    }
}

/// As [`linear`](super::linear()), for no more tokens than [`capacity`].
pub(crate) fn multiply<X: Element, Y: Element>(
    threads: &Threads,
    x: Tokens<'_, X>,
    product: &Product<'_>,
    y: &mut [Y],
) {
    match way::<X>(threads.isa(), product) {
        AnyWay::Integer(way) => multiply_by(way, threads, x, product, y),
        AnyWay::Float(way) => multiply_by(way, threads, x, product, y),
        #[cfg(target_arch = "x86_64")]
        AnyWay::Pairs(way) => multiply_by(way, threads, x, product, y),
        #[cfg(target_arch = "x86_64")]
        AnyWay::Tiles(way) => multiply_by(way, threads, x, product, y),
        #[cfg(target_arch = "x86_64")]
        AnyWay::SplitTiles(way) => multiply_by(way, threads, x, product, y),
    }
}

fn multiply_by<W: Way, X: Element, Y: Element>(
    way: W,
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
    let last_lanes = way.lanes(isa, n_tokens - (n_panels - 1) * LANES, k);
    // The same stretch of all panels lies together, in the order in which a tile reads it.
    let n_lines = way.stretch_lines(k.min(W::STRETCH));
    let mut workspace = threads.workspace();
    let panels = &mut workspace[..n_panels * panel_lines(way, k)];
    let n_cols = n_panels * n_lines;
    let tiling = Tiling { n_cols, group_rows: panels.len() / n_cols, row_step: 1, tile_rows: 1, tile_cols: n_lines };
    threads.for_tiles_if(product.parallel, panels, tiling, &|mut tile| {
        let panel = tile.first_col() / n_lines;
        let range = stretch_range::<W>(tile.first_row(), k);
        let lines = &mut tile.row_mut(0)[..way.stretch_lines(range.len())];
        let lanes = if panel + 1 == n_panels { last_lanes } else { 1 };
        x.pack(way, isa, panel * LANES, (k, range), PanelPart { lines, lanes });
    });
    let panels = &*panels;
    // Each tile unpacks its rows for itself, so it takes all tokens unless there would be too few tiles.
    let n_threads = if product.parallel { threads.count() } else { 1 };
    let mut tile_rows = n_tokens.next_multiple_of(2 * LANES).min(MAX_TOKENS);
    while tile_rows > 8 * LANES && n.div_ceil(TILE_ROWS) * n_tokens.div_ceil(tile_rows) < 4 * n_threads {
        tile_rows = (tile_rows / 2).next_multiple_of(2 * LANES);
    }
    // Small enough tiles that no thread waits long for another's last.
    let few = n.div_ceil(TILE_ROWS) * n_tokens.div_ceil(tile_rows) < 12 * n_threads && n_threads > 1;
    let tile_cols = if few { (TILE_ROWS / 2).next_multiple_of(W::ROWS) } else { TILE_ROWS };
    let panels = Panels { lines: panels, n_panels, n_lines, last_lanes };
    let body = |mut tile: Tile<'_, Y>| multiply_tile(way, isa, product, panels, &mut tile);
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

/// The elements of a stretch.
fn stretch_range<W: Way>(stretch: usize, k: usize) -> Range<usize> {
    stretch * W::STRETCH..k.min((stretch + 1) * W::STRETCH)
}

/// The packed activations: stretch after stretch, each of all panels.
#[derive(Clone, Copy)]
struct Panels<'a> {
    lines: &'a [Line],
    n_panels: usize,
    /// Lines of a stretch of one panel.
    n_lines: usize,
    /// Lanes of each token of the last panel.
    last_lanes: usize,
}

/// Computes a tile. Its rows are tokens, from a multiple of 16 on; its columns are rows of the weight.
fn multiply_tile<W: Way, Y: Element>(
    way: W,
    isa: Isa,
    product: &Product<'_>,
    panels: Panels<'_>,
    tile: &mut Tile<'_, Y>,
) {
    let (k, format) = (product.k, product.weight.format);
    let (first_row, n_rows) = (tile.first_col(), tile.n_cols());
    let (first_panel, n_panels) = (tile.first_row() / LANES, tile.n_rows().div_ceil(LANES));
    let has_few = panels.last_lanes > 1 && first_panel + n_panels == panels.n_panels;
    let n_full = n_panels - usize::from(has_few);
    let row_bytes = format.row_bytes(k);
    let session = way.session();
    let mut sums = Scratch::<[Lanes; TILE_ROWS], TILE_PANELS>::new();
    let sums = sums.zeroed(n_panels);
    let mut rows = Scratch::<W::Row, TILE_ROWS>::new();
    let rows = rows.zeroed(n_rows.next_multiple_of(W::ROWS));
    for (stretch, lines) in panels.lines.chunks_exact(panels.n_panels * panels.n_lines).enumerate() {
        let range = stretch_range::<W>(stretch, k);
        let bytes = format.row_bytes(range.start)..format.row_bytes(range.end);
        for (r, row) in rows[..n_rows].iter_mut().enumerate() {
            let stored = &product.weight.bytes[(first_row + r) * row_bytes..][..row_bytes];
            // The rows are walked side by side, which the hardware's prefetching does not follow.
            prefetch_all(&stored[bytes.end..(bytes.end + bytes.len()).min(row_bytes)]);
            way.unpack(isa, &stored[bytes.clone()], row);
        }
        // Where the last stretch is shorter, its lines are the first of each panel's.
        let used = way.stretch_lines(range.len());
        let lines = &lines[first_panel * panels.n_lines..][..n_panels * panels.n_lines];
        for (sums, lines) in sums[..n_full].chunks_mut(2).zip(lines.chunks(2 * panels.n_lines)) {
            let mut pair = lines.chunks_exact(panels.n_lines).map(|panel| &panel[..used]);
            let pair = [pair.next().unwrap_or_default(), pair.next().unwrap_or_default()];
            way.multiply(isa, &session, rows, &pair[..sums.len()], sums);
        }
        if let Some(sums) = sums.get_mut(n_full) {
            let panel = &lines[n_full * panels.n_lines..][..used / panels.last_lanes];
            way.multiply_few(rows, panel, panels.last_lanes, sums);
        }
    }
    if let Some(sums) = sums.get_mut(n_full) {
        for lanes in sums {
            let mut tokens = [0.0; LANES];
            for (token, lanes) in tokens.iter_mut().zip(lanes.chunks_exact(panels.last_lanes)) {
                *token = lanes.iter().sum();
            }
            *lanes = tokens;
        }
    }
    let mut start = [0.0; TILE_ROWS];
    product.load_start(isa, first_row, &mut start[..n_rows]);
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
        #[cfg(target_arch = "x86_64")]
        if isa.has_avx512() {
            // SAFETY: this `Isa` proves AVX-512.
            return unsafe { add_transposed_avx512(sums, start, tokens) };
        }
        for (t, values) in tokens.iter_mut().enumerate() {
            for ((value, sums), start) in values.iter_mut().zip(sums).zip(start) {
                *value = sums[t] + start;
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f")]
fn add_transposed_avx512(sums: &[Lanes; TILE_ROWS], start: &[f32; TILE_ROWS], tokens: &mut [[f32; TILE_ROWS]; LANES]) {
    use crate::vector::avx512::{load, store, transpose};
    use std::arch::x86_64::*;
    let columns = sums.as_chunks::<LANES>().0.iter().zip(start.as_chunks::<LANES>().0);
    for (c, (sums, start)) in columns.enumerate() {
        let start = _mm512_castsi512_ps(load(start));
        let columns = transpose(std::array::from_fn(|r| load(&sums[r])));
        for (values, column) in tokens.iter_mut().zip(columns) {
            let sum = _mm512_add_ps(_mm512_castsi512_ps(column), start);
            store(&mut values.as_chunks_mut().0[c], _mm512_castps_si512(sum));
        }
    }
}
