//! Programs that go along rows: a workgroup takes a row, finds what the formula needs of all of it, and maps its elements.
//!
//! Rows of a multiple of four elements are read and written four at a time, one row to a workgroup. Others do not end where
//! a store ends, but four of them together do, so a workgroup takes four.
//!
//! This file knows how a workgroup makes one number of what its invocations have. It must not know any formula.

use std::fmt::Write as _;

use tl_device::{Binding, DType};

use super::gpu::{Immediates, ShaderVariant, WORKGROUP, Wgsl};
use super::{Call, Dispatch, Operand};
use crate::OpError;

/// How numbers of all invocations become one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Join {
    Add,
    Max,
    Min,
}

/// A function `name(own: kind) -> kind` that gives every invocation of the workgroup what the numbers of all make together.
/// All invocations call it.
pub(super) struct Together {
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    pub(super) join: Join,
}

pub(super) const ALL_SUM: Together = Together { name: "all_sum", kind: "f32", join: Join::Add };
pub(super) const ALL_MAX: Together = Together { name: "all_max", kind: "f32", join: Join::Max };

/// Invocations for rows of `n` elements, four to an invocation.
pub(super) fn workgroup_for(n: usize) -> u32 {
    u32::try_from(n.div_ceil(4).next_power_of_two()).map_or(WORKGROUP, |size| size.clamp(32, WORKGROUP))
}

/// Functions over all of a workgroup, through subgroups where the device has them, and through shared memory alone
/// elsewhere. `own_lane` is the invocation's number.
pub(super) fn together<'a>(wgsl: Wgsl<'a>, workgroup: u32, functions: &[Together]) -> Wgsl<'a> {
    let has_subgroups = wgsl.target().subgroup.is_some();
    let mut text = "var<private> own_lane: u32;\n".to_owned();
    if has_subgroups {
        text.push_str(
            "var<private> own_subgroup: u32;\nvar<private> n_subgroups: u32;\nvar<private> place_there: u32;\n",
        );
    }
    for Together { name, kind, join } in functions {
        let joined = match join {
            Join::Add => "a + b",
            Join::Max => "max(a, b)",
            Join::Min => "min(a, b)",
        };
        let _ = writeln!(text, "var<workgroup> of_{name}: array<{kind}, {workgroup}>;");
        let _ = writeln!(text, "fn join_{name}(a: {kind}, b: {kind}) -> {kind} {{ return {joined}; }}");
        let body = if has_subgroups {
            let operation = match join {
                Join::Add => "subgroupAdd",
                Join::Max => "subgroupMax",
                Join::Min => "subgroupMin",
            };
            format!(
                "// What was left there before has been read, and the subgroup's invocations have left their loops.
    workgroupBarrier();
    let value = {operation}(own);
    if place_there == 0u {{ of_{name}[own_subgroup] = value; }}
    workgroupBarrier();
    var all = of_{name}[0];
    for (var i = 1u; i < n_subgroups; i++) {{ all = join_{name}(all, of_{name}[i]); }}
    return all;"
            )
        } else {
            format!(
                "workgroupBarrier();
    of_{name}[own_lane] = own;
    for (var half = {half}u; half > 0u; half >>= 1u) {{
        workgroupBarrier();
        if own_lane < half {{ of_{name}[own_lane] = join_{name}(of_{name}[own_lane], of_{name}[own_lane + half]); }}
    }}
    workgroupBarrier();
    return of_{name}[0];",
                half = workgroup / 2
            )
        };
        let _ = writeln!(text, "fn {name}(own: {kind}) -> {kind} {{\n    {body}\n}}");
    }
    wgsl.text(&text)
}

/// The entry point of a program with functions of [`together`].
pub(super) fn main_together(wgsl: Wgsl, workgroup: u32, body: &str) -> String {
    if wgsl.target().subgroup.is_none() {
        return wgsl.main(workgroup, &format!("own_lane = lane;\n    {body}"));
    }
    let builtins = "@builtin(subgroup_id) subgroup: u32, @builtin(num_subgroups) subgroups: u32,
        @builtin(subgroup_invocation_id) subgroup_lane: u32, ";
    let begin = "own_lane = lane;
    own_subgroup = subgroup;
    n_subgroups = subgroups;
    place_there = subgroup_lane;";
    wgsl.main_with(builtins, workgroup, &format!("{begin}\n    {body}"))
}

/// The binding `x`, and `row4(start, j, pad)`: elements `4 j .. 4 j + 3` of the row of `p.n` elements that begins at element
/// `start`; `pad` stands for those behind its end.
pub(super) fn read_rows<'a>(wgsl: Wgsl<'a>, dtype: DType, is_wide: bool) -> Wgsl<'a> {
    let kind = super::gpu::scalar_of(dtype);
    if is_wide {
        return wgsl.read4("x", dtype).text(&format!(
            "fn row4(start: u32, j: u32, pad: {kind}) -> vec4<{kind}> {{ return load4_x((start >> 2u) + j); }}"
        ));
    }
    wgsl.read("x", dtype).text(&format!(
        "fn row4(start: u32, j: u32, pad: {kind}) -> vec4<{kind}> {{
    let i = j * 4u;
    let x = vec4<{kind}>(load_x(start + i), load_x(start + i + 1u), load_x(start + i + 2u), load_x(start + i + 3u));
    return select(vec4<{kind}>(pad), x, vec4<u32>(i, i + 1u, i + 2u, i + 3u) < vec4<u32>(p.n));
}}"
    ))
}

/// Numbers that WGSL has no word for.
pub(super) const SPECIAL: &str = "
fn infinity() -> f32 { return bitcast<f32>(0x7f800000u | p.zero); }
fn nan() -> f32 { return bitcast<f32>(0x7fc00000u | p.zero); }";

/// A program that maps the elements of each row of the last dimension by a formula that looks at the whole row.
pub(super) struct RowMap<'a> {
    pub(super) name: &'static str,
    /// The function `statistics(start: u32) -> vec2<f32>` of the row that begins at element `start`. `{lanes}` stands for the
    /// number of invocations, which go along the row `lanes` groups of four apart. And what it uses.
    pub(super) statistics: [&'static str; 2],
    /// The result for an element `x`, with the statistics `a` and `b` and the weights.
    pub(super) formula: &'static str,
    /// Vectors as long as a row, by their names in the formula.
    pub(super) weights: &'a [(&'static str, Operand<'a>)],
    /// The number `p.eps`.
    pub(super) eps: f32,
}

impl RowMap<'_> {
    /// Launches the program over operand 0, which is contiguous, in rows of its last dimension.
    pub(super) fn launch(&self, call: &mut Call) -> Result<Dispatch, OpError> {
        let n = call.operand(0)?.dims.last().copied().unwrap_or(1);
        self.launch_rows(call, n)
    }

    /// As [`RowMap::launch`], in rows of `n` elements.
    pub(super) fn launch_rows(&self, call: &mut Call, n: usize) -> Result<Dispatch, OpError> {
        let x = call.operand(0)?;
        let is_dense =
            |dtype: DType| dtype.is_float() || matches!(dtype, DType::Block(format) if format.block_elems == 1);
        let operands = || std::iter::once(&x).chain(self.weights.iter().map(|(_, weight)| weight));
        if n == 0 || !operands().all(|operand| operand.fits_u32() && is_dense(operand.dtype)) {
            return Ok(Dispatch::Unsupported);
        }
        let is_wide = n.is_multiple_of(4) && operands().all(|operand| operand.offset.is_multiple_of(4));
        let (rows, lanes) = (x.n_elems() / n, workgroup_for(n));
        let mut dtypes = smallvec::SmallVec::<[DType; 4]>::new();
        let mut reads = smallvec::SmallVec::<[Binding; 4]>::new();
        let mut words = Immediates::new();
        words.extend_from_slice(&[n as u32, rows as u32, self.eps.to_bits(), 0]);
        for operand in operands() {
            let place = operand.place()?;
            dtypes.push(operand.dtype);
            reads.push(place.binding);
            words.push(place.offset);
        }
        let source = |wgsl: Wgsl| self.source(wgsl, x.dtype, is_wide, lanes);
        let flags = lanes << 1 | u32::from(is_wide);
        let shader = ShaderVariant { name: self.name, dtypes: &dtypes, flags, reports_faults: false, source: &source };
        call.launch(&shader, &reads, &words, if is_wide { rows } else { rows.div_ceil(4) })
    }

    fn source(&self, wgsl: Wgsl, dtype: DType, is_wide: bool, lanes: u32) -> String {
        let mut wgsl = read_rows(wgsl, dtype, is_wide);
        let (mut fields, mut loads) = ("n: u32, rows: u32, eps: f32, zero: u32, offset: u32".to_owned(), String::new());
        for (name, weight) in self.weights {
            wgsl = if is_wide { wgsl.read4(name, weight.dtype) } else { wgsl.read(name, weight.dtype) };
            let _ = write!(fields, ", {name}_offset: u32");
            let load = if is_wide { "load4_NAME((p.NAME_offset >> 2u) + i)" } else { "load_NAME(p.NAME_offset + i)" };
            let _ = write!(loads, "let {name} = {}; ", load.replace("NAME", name));
        }
        let kind = if is_wide { "vec4<f32>" } else { "f32" };
        let formula = self.formula;
        let wgsl = together(wgsl.write("out", dtype).params(&fields), lanes, &[ALL_SUM, ALL_MAX])
            .text(SPECIAL)
            .text(&self.statistics.concat().replace("{lanes}", &lanes.to_string()))
            .text(&format!("fn result(x: {kind}, i: u32, a: f32, b: f32) -> {kind} {{ {loads}return {formula}; }}"));
        main_together(wgsl, lanes, &if is_wide { ONE_ROW } else { FOUR_ROWS }.replace("{lanes}", &lanes.to_string()))
    }
}

const ONE_ROW: &str = "if group >= p.rows { return; }
    let start = p.offset + group * p.n;
    let s = statistics(start);
    let quads = p.n >> 2u;
    for (var j = lane; j < quads; j += {lanes}u) {
        store4_out(group * quads + j, result(row4(start, j, 0.0), j, s.x, s.y));
    }";

const FOUR_ROWS: &str = "if group * 4u >= p.rows { return; }
    var a: vec4<f32>;
    var b: vec4<f32>;
    for (var r = 0u; r < 4u; r++) {
        let s = statistics(p.offset + min(group * 4u + r, p.rows - 1u) * p.n);
        a[r] = s.x;
        b[r] = s.y;
    }
    let end = min(4u, p.rows - group * 4u) * p.n;
    for (var j = lane; j * 4u < end; j += {lanes}u) {
        var v: vec4<f32>;
        for (var k = 0u; k < 4u; k++) {
            let e = j * 4u + k;
            let r = u32(e >= p.n) + u32(e >= 2u * p.n) + u32(e >= 3u * p.n);
            let x = load_x(p.offset + group * 4u * p.n + e);
            v[k] = result(x, e - r * p.n, a[r], b[r]);
        }
        store4_out(group * p.n + j, v);
    }";
