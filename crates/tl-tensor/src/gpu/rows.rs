//! Programs over rows: a workgroup takes a row, computes statistics of it, and maps its elements.
//!
//! Rows of a multiple of four elements are read and written four at a time, one row to a workgroup. Other rows do not
//! end where a store ends, but four of them together do, so a workgroup takes four.

use std::fmt::Write as _;

use tl_device::{Binding, DType};

use super::launch::{Immediates, ShaderVariant};
use super::wgsl::{Wgsl, scalar_of};
use super::workgroup::{ALL_MAX, ALL_SUM, declare_reductions, main_with_reductions, workgroup_for};
use crate::OpError;
use crate::op::kernel::{Call, Dispatch};
use crate::operand::Operand;

/// The binding `x`, and `row4(start, j, pad)`: elements `4 j .. 4 j + 3` of the row of `p.n` elements that begins at
/// element `start`, with `pad` beyond its end.
pub(crate) fn read_rows<'a>(wgsl: Wgsl<'a>, dtype: DType, is_wide: bool) -> Wgsl<'a> {
    let kind = scalar_of(dtype);
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

/// Numbers that WGSL has no literals for.
pub(crate) const SPECIAL: &str = "
fn infinity() -> f32 { return bitcast<f32>(0x7f800000u | p.zero); }
fn nan() -> f32 { return bitcast<f32>(0x7fc00000u | p.zero); }";

/// A program that maps the elements of each row of the last dimension by a formula with statistics of the whole row.
pub(crate) struct RowMap<'a> {
    pub(crate) name: &'static str,
    /// The function `statistics(start: u32) -> vec2<f32>` of the row that begins at element `start`, and what it uses.
    /// `{lanes}` stands for the number of invocations; each takes every `lanes`-th group of four.
    pub(crate) statistics: [&'static str; 2],
    /// The result for an element `x`, with the statistics `a` and `b` and the weights.
    pub(crate) formula: &'static str,
    /// Vectors as long as a row, by their names in the formula.
    pub(crate) weights: &'a [(&'static str, Operand<'a>)],
    /// The number `p.eps`.
    pub(crate) eps: f32,
}

impl RowMap<'_> {
    /// Launches the program over operand 0, which is contiguous, in rows of its last dimension.
    pub(crate) fn launch(&self, call: &mut Call) -> Result<Dispatch, OpError> {
        let n = call.operand(0)?.dims.last().copied().unwrap_or(1);
        self.launch_rows(call, n)
    }

    /// As [`RowMap::launch`], in rows of `n` elements.
    pub(crate) fn launch_rows(&self, call: &mut Call, n: usize) -> Result<Dispatch, OpError> {
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
            let place = operand.on_gpu()?;
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
        let wgsl = declare_reductions(wgsl.write("out", dtype).params(&fields), lanes, &[ALL_SUM, ALL_MAX])
            .text(SPECIAL)
            .text(&self.statistics.concat().replace("{lanes}", &lanes.to_string()))
            .text(&format!("fn result(x: {kind}, i: u32, a: f32, b: f32) -> {kind} {{ {loads}return {formula}; }}"));
        main_with_reductions(
            wgsl,
            lanes,
            &if is_wide { ONE_ROW } else { FOUR_ROWS }.replace("{lanes}", &lanes.to_string()),
        )
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
