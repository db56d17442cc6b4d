//! Batches of matrix products of operands with any strides, for `matmul` and `einsum`.
//!
//! A workgroup computes a square of one product from tiles in its shared memory, as `linear` does for many tokens.
//! Elements are loaded along the dimension in which they are neighbours in memory.

use tl_device::DType;

use super::tiles::TILE_SUMS;
use crate::OpError;
use crate::gpu::indexing::{INDEX, collapse};
use crate::gpu::tiles::{TILE, TILE_LANES, TILE_MEMORY, eight_rows, tile_products};
use crate::gpu::{Immediates, ShaderVariant, WORKGROUP, Wgsl};
use crate::op::{Call, Dispatch};
use crate::operand::Operand;

/// One side of the products: strides along the batch, along the rows (left) or columns (right), and along the sum.
pub(crate) struct Side<'a> {
    pub(crate) operand: &'a Operand<'a>,
    pub(crate) batch: &'a [usize],
    pub(crate) outer: usize,
    pub(crate) inner: usize,
}

/// The sizes of one product, `[m, k] · [k, n]`, and how many neighbouring products of the batch are interleaved in each
/// row of the result: `[.., m, n_inner, n]`.
pub(crate) struct Sizes {
    pub(crate) m: usize,
    pub(crate) k: usize,
    pub(crate) n: usize,
    pub(crate) n_inner: usize,
}

const PARAMS: &str =
    "dims: vec4<u32>, a_strides: vec4<u32>, b_strides: vec4<u32>, m: u32, k: u32, n: u32, n_batch: u32, n_inner: u32,
    a_offset: u32, b_offset: u32, a_outer: u32, a_inner: u32, b_outer: u32, b_inner: u32";

/// Launches a product for every index of the batch into the result of the call, in the order batch, row, interleaved
/// batch, column.
pub(crate) fn run(
    call: &mut Call,
    batch_dims: &[usize],
    a: &Side,
    b: &Side,
    sizes: &Sizes,
) -> Result<Dispatch, OpError> {
    let Sizes { m, k, n, n_inner } = *sizes;
    let is_served = |side: &Side| side.operand.dtype.is_float() && side.operand.fits_u32();
    let collapsed = collapse(batch_dims, [a.batch, b.batch]).filter(|_| is_served(a) && is_served(b));
    let fits = call.n_out() < u32::MAX as usize / 2;
    let (Some((dims, strides)), true) = (collapsed, fits) else { return Ok(Dispatch::Unsupported) };
    let n_batch: usize = batch_dims.iter().product();
    let (dtypes, out) = ([a.operand.dtype, b.operand.dtype, call.dtype], call.dtype);
    let has_f16 = call.device.shader_target().is_some_and(|target| target.has_f16);
    let stores = if n.is_multiple_of(4) {
        Stores::Four
    } else if out == DType::F32 || has_f16 {
        Stores::One
    } else {
        Stores::Flat
    };
    // Elements are loaded along the dimension of stride 1. The stride of a single index is meaningless.
    let is_along_sum = [a.inner == 1 || a.outer != 1, b.inner == 1 || b.outer != 1];
    let source = |wgsl: Wgsl| source(wgsl, dtypes, stores, is_along_sum);
    let flags = (stores as u32) << 2 | u32::from(is_along_sum[0]) << 1 | u32::from(is_along_sum[1]);
    let shader = ShaderVariant { name: "products", dtypes: &dtypes, flags, reports_faults: false, source: &source };
    let (a_place, b_place) = (a.operand.on_gpu()?, b.operand.on_gpu()?);
    let mut words = Immediates::new();
    words.extend_from_slice(&dims);
    strides.iter().for_each(|strides| words.extend_from_slice(strides));
    words.extend([m, k, n, n_batch, n_inner].map(|number| number as u32));
    words.extend([a_place.offset, b_place.offset]);
    words.extend([a.outer, a.inner, b.outer, b.inner].map(|stride| stride as u32));
    let groups = match stores {
        Stores::Flat => call.n_out().div_ceil(4 * WORKGROUP as usize),
        _ => n_batch * m.div_ceil(TILE) * n.div_ceil(TILE),
    };
    call.launch(&shader, &[a_place.binding, b_place.binding], &words, groups)
}

/// How results are stored.
#[derive(Clone, Copy, PartialEq)]
enum Stores {
    /// Four neighbours of a row at once.
    Four,
    /// One by one: rows are no multiple of four, and no two elements share a word.
    One,
    /// Four neighbours of any rows: elements share words.
    Flat,
}

fn source(wgsl: Wgsl, [a, b, out]: [DType; 3], stores: Stores, is_along_sum: [bool; 2]) -> String {
    let wgsl = wgsl.read("a", a).read("b", b);
    let wgsl = if stores == Stores::One { wgsl.write_each("out", out) } else { wgsl.write("out", out) };
    let wgsl = wgsl.params(PARAMS).text(INDEX);
    if stores == Stores::Flat {
        return wgsl.main(WORKGROUP, FLAT);
    }
    let store = if stores == Stores::Four {
        "store4_out((at + r * step + column) / 4u, s);"
    } else {
        "for (var c = 0u; c < 4u; c++) { if column + c < p.n { store_out(at + r * step + column + c, s[c]); } }"
    };
    let store_rows = eight_rows(|r| {
        format!("{{ let r = top + rows + {r}u; let s = s{r}; if r < p.m && column < p.n {{ {store} }} }}")
    });
    let body = format!(
        "let n_down = (p.m + 63u) / 64u;
    let n_across = (p.n + 63u) / 64u;
    let number = group / n_down;
    let batch = number / n_across;
    let top = (group - number * n_down) * 64u;
    let start = (number - batch * n_across) * 64u;
    if batch >= p.n_batch {{ return; }}
    let a_at = p.a_offset + index(batch, p.dims, p.a_strides);
    let b_at = p.b_offset + index(batch, p.dims, p.b_strides);
    {TILE_SUMS}
    for (var base = 0u; base < p.k; base += 32u) {{
        workgroupBarrier();
        {left}
        {right}
        workgroupBarrier();
        {products}
    }}
    let step = p.n_inner * p.n;
    let at = (batch / p.n_inner * p.m * p.n_inner + batch % p.n_inner) * p.n;
    let column = start + columns;
    {store_rows}",
        left = tile("a", "left", "top", "m", is_along_sum[0]),
        right = tile("b", "right", "start", "n", is_along_sum[1]),
        products = tile_products(),
    );
    wgsl.text(TILE_MEMORY).main(TILE_LANES, &body)
}

/// Loads a tile: 64 rows of 32 elements, four by an invocation. Neighbouring invocations load along the sum, or along
/// the rows.
fn tile(name: &str, tile: &str, first: &str, size: &str, is_along_sum: bool) -> String {
    let (row, quarter) = if is_along_sum { ("q >> 3u", "q & 7u") } else { ("q & 63u", "q >> 6u") };
    format!(
        "for (var q = lane; q < 512u; q += {TILE_LANES}u) {{
            let row = {row};
            let i = base + ({quarter}) * 4u;
            var v = vec4<f32>();
            if {first} + row < p.{size} {{
                let at = {name}_at + ({first} + row) * p.{name}_outer;
                if i < p.k {{ v.x = load_{name}(at + i * p.{name}_inner); }}
                if i + 1u < p.k {{ v.y = load_{name}(at + (i + 1u) * p.{name}_inner); }}
                if i + 2u < p.k {{ v.z = load_{name}(at + (i + 2u) * p.{name}_inner); }}
                if i + 3u < p.k {{ v.w = load_{name}(at + (i + 3u) * p.{name}_inner); }}
            }}
            {tile}[place(row, {quarter})] = v;
        }}"
    )
}

/// Each invocation sums four neighbouring elements, one after the other.
const FLAT: &str = "let four = group * 256u + lane;
    let n_out = p.n_batch * p.m * p.n;
    if four * 4u >= n_out { return; }
    var v = vec4<f32>();
    for (var e = 0u; e < 4u; e++) {
        let at = four * 4u + e;
        let whole = at / p.n;
        let column = at - whole * p.n;
        let turn = whole / p.n_inner;
        let outer = turn / p.m;
        let row = turn - outer * p.m;
        let batch = outer * p.n_inner + whole - turn * p.n_inner;
        if at < n_out {
            let a_at = p.a_offset + index(batch, p.dims, p.a_strides) + row * p.a_outer;
            let b_at = p.b_offset + index(batch, p.dims, p.b_strides) + column * p.b_outer;
            var sum = 0.0;
            for (var i = 0u; i < p.k; i++) { sum += load_a(a_at + i * p.a_inner) * load_b(b_at + i * p.b_inner); }
            v[e] = sum;
        }
    }
    store4_out(four, v);";
