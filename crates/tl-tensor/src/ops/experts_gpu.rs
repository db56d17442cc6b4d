//! `linear_experts` on a GPU.
//!
//! As for `linear` of a single token, a workgroup takes four rows of an expert's weight, and its invocations stride
//! along them. Rows of the result with the same expert read its weight again, from a cache where it fits. Results whose
//! rows are no multiple of four take a plain program. A weight larger than the largest binding is bound in parts, each
//! with its own launch, which skips rows of other parts.

use std::fmt::Write as _;

use smallvec::SmallVec;
use tl_device::{Binding, DType};

use super::linear_gpu::{Loads, SUBGROUP, total};
use crate::OpError;
use crate::gpu::weight_parts::weight_parts;
use crate::gpu::{ShaderVariant, WORKGROUP, Wgsl};
use crate::op::{Call, Dispatch};
use crate::operand::Operand;
use crate::quant::wgsl::WeightLoads;

/// Invocations of a workgroup.
const LANES: u32 = 64;

const PARAMS: &str =
    "k: u32, n: u32, n_places: u32, shared_by: u32, n_experts: u32, n_rows: u32, first: u32, x_offset: u32,
    w_offset: u32, chosen_offset: u32, b_offset: u32";

/// The first row of the weight of the expert at a place; `NONE` where there is no such expert, which is reported.
const EXPERT: &str = "
const NONE = 0xffffffffu;
fn expert_row(place: u32) -> u32 {
    let id = load_chosen(p.chosen_offset + place);
    if id < 0 || u32(id) >= p.n_experts {
        report(id, p.n_experts);
        return NONE;
    }
    return u32(id) * p.n;
}";

pub(super) fn run(call: &mut Call) -> Result<Dispatch, OpError> {
    let (x, w, chosen, bias) = (call.operand(0)?, call.operand(1)?, call.operand(2)?, call.optional_operand(3));
    let [n_experts, n, k] = [w.dims[0], w.dims[1], w.dims[2]];
    let (n_places, shared_by) = (chosen.n_elems(), if x.dims.len() == 2 { chosen.dims[1] } else { 1 });
    let (x_place, w_place, chosen_place) = (x.on_gpu()?, w.on_gpu()?, chosen.on_gpu()?);
    let bias_place = bias.as_ref().map(Operand::on_gpu).transpose()?;
    let is_wide = k.is_multiple_of(8) && w_place.offset.is_multiple_of(8);
    let bias_loads = bias.as_ref().and_then(|bias| WeightLoads::new(bias.dtype, false));
    let (Some(w_loads), Some(target)) = (WeightLoads::new(w.dtype, is_wide), call.device.shader_target()) else {
        return Ok(Dispatch::Unsupported);
    };
    let is_counted = call.n_out() < u32::MAX as usize / 8 && n_experts * n <= i32::MAX as usize;
    let fits = [&x, &chosen].into_iter().chain(bias.as_ref()).all(Operand::fits_u32) && is_counted;
    let in_fours = n.is_multiple_of(4);
    let parts = weight_parts(target, &w, k, n_experts * n).filter(|parts| in_fours || parts.len() == 1);
    let Some(parts) = parts.filter(|_| fits && bias.is_some() == bias_loads.is_some()) else {
        return Ok(Dispatch::Unsupported);
    };
    let is_x_wide = k.is_multiple_of(4) && x_place.offset.is_multiple_of(4);
    let loads = Loads { x: x.dtype, out: call.dtype, w: w_loads, bias: bias_loads, is_x_wide };
    let source = |wgsl: Wgsl| source(&loads, wgsl, in_fours);
    let dtypes = [x.dtype, w.dtype, bias.as_ref().map_or(DType::Bool, |bias| bias.dtype), call.dtype];
    let flags = u32::from(in_fours) << 2 | u32::from(is_wide) << 1 | u32::from(is_x_wide);
    let shader = ShaderVariant { name: "experts", dtypes: &dtypes, flags, reports_faults: true, source: &source };
    let groups = if in_fours { n_places * (n / 4) } else { call.n_out().div_ceil(4 * WORKGROUP as usize) };
    for part in parts {
        let mut reads: SmallVec<[Binding; 4]> =
            SmallVec::from_slice(&[x_place.binding, part.binding(&w_place.binding), chosen_place.binding]);
        reads.extend(bias_place.as_ref().map(|place| place.binding));
        let numbers = [k, n, n_places, shared_by, n_experts, part.n_rows, part.first].map(|number| number as u32);
        let offsets = [x_place.offset, w_place.offset, chosen_place.offset];
        let mut words: SmallVec<[u32; 12]> = numbers.into_iter().chain(offsets).collect();
        words.push(bias_place.as_ref().map_or(0, |place| place.offset));
        call.launch(&shader, &reads, &words, groups)?;
    }
    Ok(Dispatch::Launched)
}

fn source(loads: &Loads, wgsl: Wgsl, in_fours: bool) -> String {
    let wgsl = loads.declare_operands(wgsl, |wgsl| wgsl.read("chosen", DType::I32));
    let bias = if loads.bias.is_some() { "element_b(p.b_offset + row)" } else { "0.0" };
    let wgsl = wgsl.write("out", loads.out).faults().params(PARAMS).text(&loads.x4()).text(EXPERT).text(&format!(
        "fn bias(row: u32) -> f32 {{ return {bias}; }}
fn bias4(row: u32) -> vec4<f32> {{ return vec4<f32>(bias(row), bias(row + 1u), bias(row + 2u), bias(row + 3u)); }}"
    ));
    if in_fours { rows_of_four(loads, wgsl) } else { each(loads, wgsl) }
}

fn rows_of_four(loads: &Loads, wgsl: Wgsl) -> String {
    let (part, has_subgroups) = (loads.w.part(), wgsl.target().subgroup.is_some());
    let n_shared = wgsl.target().subgroup.map_or(LANES, |(least, _)| LANES.div_ceil(least.max(1)));
    let mut body = String::from(
        "let quads = p.n >> 2u;
    let place = group / quads;
    if place >= p.n_places { return; }
    let quad = group - place * quads;
    let start = expert_row(place);
    let row = start + quad * 4u;
    if start == NONE || row < p.first || row - p.first >= p.n_rows { return; }
    let x_at0 = p.x_offset + place / p.shared_by * p.k;
    var s0 = vec4<f32>();
",
    );
    for j in 0..4 {
        let _ = writeln!(body, "    let w_at{j} = p.w_offset + (row - p.first + {j}u) * p.k;");
    }
    let _ = writeln!(body, "    for (var i = lane * {part}u; i < p.k; i += {}u) {{", part * LANES);
    body.push_str(&loads.one_token());
    body.push_str("    }\n");
    body.push_str(&total(1, LANES, has_subgroups));
    body.push_str("    if lane == 0u { store4_out(place * quads + quad, total + bias4(row)); }");
    let wgsl = wgsl.text(&format!("var<workgroup> shared_sums: array<vec4<f32>, {n_shared}>;"));
    wgsl.main_with(if has_subgroups { SUBGROUP } else { "" }, LANES, &body)
}

/// Each invocation computes four neighbouring elements.
fn each(loads: &Loads, wgsl: Wgsl) -> String {
    let part = loads.w.part();
    let products = loads.dot_products();
    let body = format!(
        "let four = group * {WORKGROUP}u + lane;
    if four * 4u >= p.n_places * p.n {{ return; }}
    var v = vec4<f32>();
    for (var e = 0u; e < 4u; e++) {{
        let at = four * 4u + e;
        let place = at / p.n;
        if place >= p.n_places {{ break; }}
        let start = expert_row(place);
        if start == NONE {{ continue; }}
        let row = start + at - place * p.n;
        let x_at = p.x_offset + place / p.shared_by * p.k;
        let w_at = p.w_offset + row * p.k;
        var sum = bias(row);
        for (var i = 0u; i < p.k; i += {part}u) {{
            let w = part_w(w_at + i, w_at + p.k);
            sum += {products};
        }}
        v[e] = sum;
    }}
    store4_out(four, v);"
    );
    wgsl.main(WORKGROUP, &body)
}
