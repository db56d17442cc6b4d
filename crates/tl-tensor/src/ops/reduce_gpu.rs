//! Reductions on a GPU. A dimension of `n` elements lies between `outer` slabs and `inner` neighbours: element `j`
//! of result `o` is number `(o / inner * n + j) * inner + o % inner`.
//!
//! Long rows (`inner` is 1) take a workgroup for four results. Otherwise the invocations of a workgroup lie side by
//! side along `inner`, and several of them share a long dimension in slices. Maxima and minima are computed on integer
//! keys in the order of the elements, with NaN above all, so that NaN is never lost.

use tl_device::DType;

use crate::OpError;
use crate::gpu::rows::{SPECIAL, read_rows};
use crate::gpu::workgroup::{
    ALL_SUM, Combine, WorkgroupReduction, declare_reductions, main_with_reductions, workgroup_for,
};
use crate::gpu::{Immediates, ShaderVariant, WORKGROUP, Wgsl, scalar_of};
use crate::op::{Call, Dispatch};
use crate::operand::Operand;

/// The reduction.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reduction {
    Sum,
    Mean,
    Norm,
    Max,
    Min,
    ArgMax,
    ArgMin,
}

use Reduction::{ArgMax, ArgMin, Max, Mean, Min, Norm, Sum};

/// The size of the reduced dimension, and of those inside it.
#[derive(Clone, Copy)]
pub(super) struct Axis {
    pub(super) n: usize,
    pub(super) inner: usize,
}

impl Axis {
    /// `None`: all dimensions, as one.
    pub(super) fn of(x: &Operand, axis: Option<usize>) -> Axis {
        axis.map_or(Axis { n: x.n_elems(), inner: 1 }, |axis| Axis {
            n: x.dims[axis],
            inner: x.dims[axis + 1..].iter().product(),
        })
    }
}

/// Rows of more elements than this have a workgroup.
const LONG_ROW: usize = 16;
/// A dimension of more elements than this is shared by several invocations.
const LONG_COLUMN: usize = 32;
/// Groups of four results of a workgroup whose invocations share dimensions.
pub(super) const SHARED_QUADS: u32 = 16;

impl Reduction {
    fn name(self) -> &'static str {
        match self {
            Sum => "sum",
            Mean => "mean",
            Norm => "norm",
            Max => "max",
            Min => "min",
            ArgMax => "argmax",
            ArgMin => "argmin",
        }
    }

    fn has_keys(self) -> bool {
        !matches!(self, Sum | Mean | Norm)
    }

    fn has_places(self) -> bool {
        matches!(self, ArgMax | ArgMin)
    }

    /// The neutral element.
    fn pad(self, dtype: DType) -> &'static str {
        match (self, dtype) {
            (Sum | Mean | Norm, _) => "0.0",
            (Max | ArgMax, DType::I32) => "bitcast<i32>(0x80000000u | p.zero)",
            (Min | ArgMin, DType::I32) => "bitcast<i32>(0x7fffffffu | p.zero)",
            (Max | ArgMax, _) => "-infinity()",
            (Min | ArgMin, _) => "infinity()",
        }
    }

    /// The type `Total` of four running results, `start()`, `step(total, x, j)` with element `j` of each of four
    /// results, `join(a, b)`, and `finish(total)`, the result.
    fn functions(self, dtype: DType) -> String {
        if !self.has_keys() {
            let step = if self == Norm { "x * x" } else { "x" };
            let finish = match self {
                Mean => "total.v / f32(p.n)",
                Norm => "sqrt(total.v)",
                _ => "total.v",
            };
            return format!(
                "struct Total {{ v: vec4<f32> }}
fn start() -> Total {{ return Total(vec4<f32>()); }}
fn step(total: Total, x: vec4<f32>, j: vec4<u32>) -> Total {{ return Total(total.v + {step}); }}
fn join(a: Total, b: Total) -> Total {{ return Total(a.v + b.v); }}
fn finish(total: Total) -> vec4<f32> {{ return {finish}; }}"
            );
        }
        let keys = keys(dtype, matches!(self, Min | ArgMin));
        if self.has_places() {
            return keys + PLACES;
        }
        let (kind, first) = if dtype == DType::I32 { ("i32", "0u") } else { ("f32", "0x007fffffu") };
        format!(
            "{keys}struct Total {{ v: vec4<u32> }}
fn start() -> Total {{ return Total(vec4<u32>({first})); }}
fn step(total: Total, x: vec4<{kind}>, j: vec4<u32>) -> Total {{ return Total(max(total.v, key(x))); }}
fn join(a: Total, b: Total) -> Total {{ return Total(max(a.v, b.v)); }}
fn finish(total: Total) -> vec4<{kind}> {{ return value(total.v); }}"
        )
    }
}

/// The first of equals. The largest number is the place of no element.
const PLACES: &str = "struct Total { v: vec4<u32>, place: vec4<u32> }
fn start() -> Total { return Total(vec4<u32>(), vec4<u32>(0xffffffffu)); }
fn better(a: Total, v: vec4<u32>, place: vec4<u32>) -> Total {
    let is_better = (v > a.v) | ((v == a.v) & (place < a.place));
    return Total(max(v, a.v), select(a.place, place, is_better));
}
fn step(total: Total, x: vec4<Kind>, j: vec4<u32>) -> Total { return better(total, key(x), j); }
fn join(a: Total, b: Total) -> Total { return better(a, b.v, b.place); }
fn finish(total: Total) -> vec4<i32> { return bitcast<vec4<i32>>(total.place); }";

/// `key(x)`: integers in the order of the elements, or in the opposite one; NaN is the largest, and both zeros are
/// equal. `value(key)`: the element. -inf, or inf in the opposite order, has the key 0x007fffff.
fn keys(dtype: DType, is_opposite: bool) -> String {
    let turn = if is_opposite { "~" } else { "" };
    if dtype == DType::I32 {
        return format!(
            "alias Kind = i32;
fn key(x: vec4<i32>) -> vec4<u32> {{ return {turn}(bitcast<vec4<u32>>(x) ^ vec4<u32>(0x80000000u)); }}
fn value(key: vec4<u32>) -> vec4<i32> {{ return bitcast<vec4<i32>>({turn}key ^ vec4<u32>(0x80000000u)); }}\n"
        );
    }
    format!(
        "alias Kind = f32;
fn key(x: vec4<f32>) -> vec4<u32> {{
    let top = vec4<u32>(0x80000000u);
    let all = vec4<u32>(0xffffffffu);
    let stored = bitcast<vec4<u32>>(x);
    let bits = select(stored, vec4<u32>(), stored == top);
    let up = bits ^ select(top, all, bits >= top);
    return select({turn}up, all, (stored & vec4<u32>(0x7fffffffu)) > vec4<u32>(0x7f800000u));
}}
fn value(key: vec4<u32>) -> vec4<f32> {{
    let top = vec4<u32>(0x80000000u);
    let all = vec4<u32>(0xffffffffu);
    let up = {turn}key;
    let bits = up ^ select(all, top, up >= top);
    return bitcast<vec4<f32>>(select(bits, vec4<u32>(0x7fc00000u | p.zero), key == all));
}}\n"
    )
}

/// Reduces dimension `axis` of operand 0, which is contiguous; `None`: all of it.
pub(super) fn reduce(call: &mut Call, axis: Option<usize>, reduction: Reduction) -> Result<Dispatch, OpError> {
    let x = call.operand(0)?;
    let is_served = x.dtype.is_float() || x.dtype == DType::I32 && reduction.has_keys();
    let axis = Axis::of(&x, axis);
    let n_out = call.n_out();
    if !is_served || !x.fits_u32() || n_out > u32::MAX as usize / 8 || axis.inner == 0 {
        return Ok(Dispatch::Unsupported);
    }
    if axis.inner == 1 && axis.n > LONG_ROW {
        reduce_rows(call, &x, axis.n, reduction)
    } else {
        reduce_columns(call, &x, axis, reduction)
    }
}

/// A workgroup reduces four rows, one after the other.
fn reduce_rows(call: &mut Call, x: &Operand, n: usize, reduction: Reduction) -> Result<Dispatch, OpError> {
    let (rows, lanes, dtype) = (call.n_out(), workgroup_for(n), call.dtype);
    let is_wide = n.is_multiple_of(4) && x.offset.is_multiple_of(4);
    let (all, across) = across(reduction);
    let pad = reduction.pad(x.dtype);
    let source = |wgsl: Wgsl| {
        let wgsl = read_rows(wgsl, x.dtype, is_wide)
            .write("out", dtype)
            .params("n: u32, rows: u32, offset: u32, zero: u32")
            .text(SPECIAL)
            .text(&reduction.functions(x.dtype));
        let body = format!(
            "if group * 4u >= p.rows {{ return; }}
    var result = start();
    for (var r = 0u; r < 4u; r++) {{
        let first = p.offset + min(group * 4u + r, p.rows - 1u) * p.n;
        var total = start();
        for (var j = lane; j * 4u < p.n; j += {lanes}u) {{
            total = step(total, row4(first, j, {pad}), vec4<u32>(j * 4u) + vec4<u32>(0u, 1u, 2u, 3u));
        }}
        {across}
    }}
    if lane == 0u {{ store4_out(group, finish(result)); }}"
        );
        main_with_reductions(declare_reductions(wgsl, lanes, all), lanes, &body)
    };
    let place = x.on_gpu()?;
    let flags = lanes << 2 | u32::from(is_wide) << 1;
    let (name, dtypes) = (reduction.name(), [x.dtype, dtype]);
    let shader = ShaderVariant { name, dtypes: &dtypes, flags, reports_faults: false, source: &source };
    let words = Immediates::from_slice(&[n as u32, rows as u32, place.offset, 0]);
    call.launch(&shader, &[place.binding], &words, rows.div_ceil(4))
}

/// The reductions across a workgroup, and the statement that makes result `r` from the totals of all invocations.
fn across(reduction: Reduction) -> (&'static [WorkgroupReduction], &'static str) {
    const MAX_KEY: WorkgroupReduction = WorkgroupReduction { name: "all_max_key", kind: "u32", combine: Combine::Max };
    const MIN_PLACE: WorkgroupReduction =
        WorkgroupReduction { name: "all_min_place", kind: "u32", combine: Combine::Min };
    if reduction.has_places() {
        return (
            &[MAX_KEY, MIN_PLACE],
            "let two = max(total.v.xy, total.v.zw);
        let best = all_max_key(max(two.x, two.y));
        let places = select(vec4<u32>(0xffffffffu), total.place, total.v == vec4<u32>(best));
        let near = min(places.xy, places.zw);
        result.place[r] = all_min_place(min(near.x, near.y));",
        );
    }
    if reduction.has_keys() {
        return (
            &[MAX_KEY],
            "let two = max(total.v.xy, total.v.zw);
        result.v[r] = all_max_key(max(two.x, two.y));",
        );
    }
    (&[ALL_SUM], "result.v[r] = all_sum((total.v.x + total.v.y) + (total.v.z + total.v.w));")
}

/// An invocation, or several that share the dimension, computes four results.
fn reduce_columns(call: &mut Call, x: &Operand, axis: Axis, reduction: Reduction) -> Result<Dispatch, OpError> {
    let (n_out, dtype) = (call.n_out(), call.dtype);
    let is_wide = axis.inner.is_multiple_of(4) && x.offset.is_multiple_of(4);
    let is_shared = axis.n > LONG_COLUMN;
    let quads = if is_shared { SHARED_QUADS } else { WORKGROUP };
    let source = |wgsl: Wgsl| {
        let wgsl = if is_wide { wgsl.read4("x", x.dtype) } else { wgsl.read("x", x.dtype) };
        let load = if is_wide { LOAD_WIDE } else { LOAD_EACH }.replace("KIND", scalar_of(x.dtype));
        let (shared, end) = if is_shared {
            (format!("var<workgroup> shared_totals: array<Total, {WORKGROUP}>;"), JOIN_SLICES)
        } else {
            (String::new(), "if four * 4u < p.n_out { store4_out(four, finish(total)); }")
        };
        wgsl.write("out", dtype)
            .params("n: u32, inner: u32, n_out: u32, offset: u32, zero: u32")
            .text(SPECIAL)
            .text(&reduction.functions(x.dtype))
            .text(&format!("const QUADS = {quads}u;\nconst SLICES = {}u;\n{shared}", WORKGROUP / quads))
            .text(&load)
            .main(WORKGROUP, &COLUMNS.replace("END", end))
    };
    let place = x.on_gpu()?;
    let flags = u32::from(is_shared) << 2 | u32::from(is_wide) << 1 | 1;
    let (name, dtypes) = (reduction.name(), [x.dtype, dtype]);
    let shader = ShaderVariant { name, dtypes: &dtypes, flags, reports_faults: false, source: &source };
    let words = Immediates::from_slice(&[axis.n as u32, axis.inner as u32, n_out as u32, place.offset, 0]);
    call.launch(&shader, &[place.binding], &words, n_out.div_ceil(4 * quads as usize))
}

pub(super) const LOAD_WIDE: &str =
    "fn load_at(first: vec4<u32>, j: u32) -> vec4<KIND> { return load4_x((first.x + j * p.inner) >> 2u); }";
pub(super) const LOAD_EACH: &str = "fn load_at(first: vec4<u32>, j: u32) -> vec4<KIND> {
    let at = first + j * p.inner;
    return vec4<KIND>(load_x(at.x), load_x(at.y), load_x(at.z), load_x(at.w));
}";

const COLUMNS: &str = "let slice = lane / QUADS;
    let four = group * QUADS + (lane - slice * QUADS);
    var total = start();
    if four * 4u < p.n_out {
        let o = min(vec4<u32>(four * 4u) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(p.n_out - 1u));
        let slab = o / vec4<u32>(p.inner);
        let first = vec4<u32>(p.offset) + slab * (p.n * p.inner) + (o - slab * p.inner);
        for (var j = slice; j < p.n; j += SLICES) { total = step(total, load_at(first, j), vec4<u32>(j)); }
    }
    END";

const JOIN_SLICES: &str = "shared_totals[lane] = total;
    workgroupBarrier();
    if slice == 0u && four * 4u < p.n_out {
        for (var s = 1u; s < SLICES; s++) { total = join(total, shared_totals[s * QUADS + lane]); }
        store4_out(four, finish(total));
    }";
