//! `x · wᵀ + b` on a GPU, straight from a weight's blocks.
//!
//! For a few tokens a workgroup takes four rows of the weight and its invocations stride along them, so that the
//! weight, whose bandwidth is the cost, is read once and in wide loads. For many tokens a workgroup computes a square
//! of the result from tiles in its shared memory, where every part of the weight is unpacked once. Results whose rows
//! are no multiple of four take a plain program, because results are stored four at a time.
//!
//! A weight larger than the largest binding is bound in parts of whole rows, each with its own launch.

use std::fmt::Write as _;

use smallvec::SmallVec;
use tl_device::{Binding, DType, Device, ShaderTarget};

use super::linear_matrix::{self, Matrix};
use crate::OpError;
use crate::gpu::tiles::{TILE, TILE_LANES, TILE_MEMORY, TILE_SUMS, eight_rows, tile_products};
use crate::gpu::weight_parts::weight_parts;
use crate::gpu::{ShaderVariant, WORKGROUP, Wgsl};
use crate::op::{Call, Dispatch};
use crate::operand::Operand;
use crate::quant::wgsl::WeightLoads;

/// The most tokens for which a workgroup computes whole sums of four rows.
const FEW_TOKENS: usize = 8;
/// Invocations of such a workgroup; twice as many where there are few rows, to keep enough loads in flight.
const FEW_LANES: u32 = 64;
/// Fewer rows of a weight than this are few.
const FEW_ROWS: usize = 4096;
/// A product: `x: [m, k]`, contiguous; `w: [n, k]`, whole rows one after the other; `bias: [n]`.
pub(super) struct Linear<'a> {
    pub(super) x: &'a Operand<'a>,
    pub(super) w: &'a Operand<'a>,
    pub(super) bias: Option<&'a Operand<'a>>,
    pub(super) m: usize,
    pub(super) k: usize,
    pub(super) n: usize,
}

/// How a program loads its operands.
pub(super) struct Loads {
    pub(super) x: DType,
    pub(super) out: DType,
    pub(super) w: WeightLoads,
    pub(super) bias: Option<WeightLoads>,
    pub(super) is_x_wide: bool,
}

/// The program of a product.
#[derive(Clone, Copy, PartialEq)]
enum Plan {
    /// A workgroup of `lanes` invocations computes the sums of at most `tokens` tokens and four rows.
    Few { tokens: usize, lanes: u32 },
    /// A workgroup computes a square of the result.
    Many,
    /// A workgroup computes a larger part of the result, with matrix instructions.
    Matrix(Matrix),
    /// An invocation computes four elements.
    Each,
}

const PARAMS: &str = "k: u32, m: u32, n: u32, n_rows: u32, first: u32, x_offset: u32, w_offset: u32, b_offset: u32";

/// Launches the product into the result of the call.
pub(super) fn run(call: &mut Call, linear: &Linear) -> Result<Dispatch, OpError> {
    let Linear { x, w, bias, m, k, n } = *linear;
    let (x_place, w_place) = (x.on_gpu()?, w.on_gpu()?);
    let bias_place = bias.map(Operand::on_gpu).transpose()?;
    let is_counted = |n_elems: usize| n_elems < u32::MAX as usize / 2;
    let fits = is_counted(m * k) && is_counted(m * n) && x.fits_u32();
    let is_wide = k.is_multiple_of(8) && w_place.offset.is_multiple_of(8);
    let (Some(w_loads), true) = (WeightLoads::new(w.dtype, is_wide), fits) else { return Ok(Dispatch::Unsupported) };
    let bias_loads = bias.and_then(|bias| WeightLoads::new(bias.dtype, false));
    if bias.is_some() && bias_loads.is_none() {
        return Ok(Dispatch::Unsupported);
    }
    let Some(target) = call.device.shader_target() else { return Ok(Dispatch::Unsupported) };
    let is_x_wide = k.is_multiple_of(4) && x_place.offset.is_multiple_of(4);
    let Some(parts) = weight_parts(target, w, k, n) else { return Ok(Dispatch::Unsupported) };
    let plan = Plan::new(call.device, target, linear, &w_loads);
    if plan == Plan::Each && parts.len() > 1 {
        return Ok(Dispatch::Unsupported);
    }
    let loads = Loads { x: x.dtype, out: call.dtype, w: w_loads, bias: bias_loads, is_x_wide };
    let source = |wgsl: Wgsl| loads.source(wgsl, plan);
    let dtypes = [x.dtype, w.dtype, bias.map_or(DType::Bool, |bias| bias.dtype), call.dtype];
    let (name, size) = plan.name();
    let flags = (size as u32) << 2 | u32::from(is_wide) << 1 | u32::from(is_x_wide);
    let shader = ShaderVariant { name, dtypes: &dtypes, flags, reports_faults: false, source: &source };
    for part in parts {
        let mut reads: SmallVec<[Binding; 3]> =
            SmallVec::from_slice(&[x_place.binding, part.binding(&w_place.binding)]);
        reads.extend(bias_place.as_ref().map(|place| place.binding));
        let numbers = [k, m, n, part.n_rows, part.first].map(|number| number as u32);
        let offsets = [x_place.offset, w_place.offset, bias_place.as_ref().map_or(0, |place| place.offset)];
        let words: SmallVec<[u32; 8]> = numbers.into_iter().chain(offsets).collect();
        call.launch(&shader, &reads, &words, plan.groups(m, part.n_rows))?;
    }
    Ok(Dispatch::Launched)
}

impl Plan {
    fn new(device: &Device, target: &ShaderTarget, linear: &Linear, w: &WeightLoads) -> Plan {
        let Linear { x, m, k, n, .. } = *linear;
        if !n.is_multiple_of(4) && m > 1 {
            return Plan::Each;
        }
        if m > FEW_TOKENS {
            let matrix = Matrix::new(target, m, x.dtype, linear.w.dtype);
            let matrix = matrix.filter(|_| device.trusts_matrices(linear_matrix::agree));
            return matrix.map_or(Plan::Many, Plan::Matrix);
        }
        let is_busy = n >= FEW_ROWS || k < (2 * FEW_LANES * w.part()) as usize;
        Plan::Few { tokens: m.next_power_of_two(), lanes: if is_busy { FEW_LANES } else { 2 * FEW_LANES } }
    }

    /// The program's name, and a number for everything else that its text depends on.
    fn name(self) -> (&'static str, usize) {
        match self {
            Plan::Few { tokens, lanes } => ("linear of few", tokens + 16 * (lanes / FEW_LANES) as usize),
            Plan::Many => ("linear of many", 0),
            Plan::Matrix(matrix) => ("linear with matrices", matrix.size),
            Plan::Each => ("linear of each", 0),
        }
    }

    /// The number of workgroups for `m` tokens and `n_rows` rows of the weight.
    fn groups(self, m: usize, n_rows: usize) -> usize {
        match self {
            Plan::Few { .. } => n_rows.div_ceil(4),
            Plan::Many => n_rows.div_ceil(TILE) * m.div_ceil(TILE),
            Plan::Matrix(_) => n_rows.div_ceil(linear_matrix::ROWS) * m.div_ceil(linear_matrix::TOKENS),
            Plan::Each => (m * n_rows).div_ceil(4 * WORKGROUP as usize),
        }
    }
}

impl Loads {
    /// Declares activations, weight and bias, and before the bias the bindings of `between`.
    pub(super) fn declare_operands<'a>(&self, wgsl: Wgsl<'a>, between: impl Fn(Wgsl<'a>) -> Wgsl<'a>) -> Wgsl<'a> {
        let mut wgsl = if self.is_x_wide { wgsl.read4("x", self.x) } else { wgsl.read("x", self.x) };
        wgsl = wgsl.text(WeightLoads::shared());
        wgsl = between(self.w.declare(wgsl, "w"));
        match self.bias {
            Some(bias) => bias.declare(wgsl, "b"),
            None => wgsl,
        }
    }

    /// `x4(i, end)`: four activations from `i` on, zeros from `end` on.
    pub(super) fn x4(&self) -> String {
        let load = if self.is_x_wide {
            "return load4_x(i >> 2u);"
        } else {
            "var v = vec4<f32>();
    for (var k = 0u; k < 4u; k++) { if i + k < end { v[k] = load_x(i + k); } }
    return v;"
        };
        format!("fn x4(i: u32, end: u32) -> vec4<f32> {{ {load} }}")
    }

    fn source(&self, wgsl: Wgsl, plan: Plan) -> String {
        let wgsl = self.declare_operands(wgsl, |wgsl| wgsl);
        let bias =
            if self.bias.is_some() { "element_b(p.b_offset + p.first + min(row, p.n_rows - 1u))" } else { "0.0" };
        let wgsl = wgsl.write("out", self.out).params(PARAMS).text(&self.x4()).text(&format!(
            "fn bias(row: u32) -> f32 {{ return {bias}; }}
fn bias4(row: u32) -> vec4<f32> {{ return vec4<f32>(bias(row), bias(row + 1u), bias(row + 2u), bias(row + 3u)); }}"
        ));
        match plan {
            Plan::Few { tokens, lanes } => self.few(wgsl, tokens, lanes),
            Plan::Many => self.many(wgsl),
            Plan::Matrix(matrix) => matrix.source(wgsl, self.w),
            Plan::Each => self.each(wgsl),
        }
    }

    /// The elements of a part of `x` from `at` on, as an array of at most eight vectors.
    fn x_part(&self, at: &str, end: &str) -> String {
        let quarters = self.w.part() / 4;
        let all: Vec<String> = (0..quarters).map(|j| format!("x4({at} + {}u, {end})", 4 * j)).collect();
        format!("array<vec4<f32>, {quarters}>({})", all.join(", "))
    }

    /// The program of [`Plan::Few`]: the lanes of a workgroup stride over the parts of the rows.
    fn few(&self, wgsl: Wgsl, tokens: usize, lanes: u32) -> String {
        let (part, subgroup) = (self.w.part(), wgsl.target().subgroup);
        let n_shared = subgroup.map_or(lanes, |(least, _)| lanes.div_ceil(least.max(1))) * tokens as u32;
        let mut body = String::from("let row = group * 4u;\n    if row >= p.n_rows { return; }\n");
        for j in 0..4 {
            let _ = writeln!(body, "    let w_at{j} = p.w_offset + min(row + {j}u, p.n_rows - 1u) * p.k;");
        }
        for t in 0..tokens {
            let _ = writeln!(body, "    let x_at{t} = p.x_offset + min({t}u, p.m - 1u) * p.k;");
            let _ = writeln!(body, "    var s{t} = vec4<f32>();");
        }
        let _ = writeln!(body, "    for (var i = lane * {part}u; i < p.k; i += {}u) {{", part * lanes);
        body.push_str(&if tokens == 1 { self.one_token() } else { self.some_tokens(tokens) });
        body.push_str("    }\n");
        body.push_str(&total(tokens, lanes, subgroup.is_some()));
        let _ =
            write!(body, "    if lane < p.m {{ store4_out((lane * p.n + p.first + row) / 4u, total + bias4(row)); }}");
        let wgsl = wgsl.text(&format!("var<workgroup> shared_sums: array<vec4<f32>, {n_shared}>;"));
        wgsl.main_with(if subgroup.is_some() { SUBGROUP } else { "" }, lanes, &body)
    }

    pub(super) fn one_token(&self) -> String {
        let x = self.x_part("x_at0 + i", "x_at0 + p.k");
        let sums = if self.w.reads_sums() {
            "dot(x[0] + x[1] + x[2] + x[3], vec4<f32>(1.0)), dot(x[4] + x[5] + x[6] + x[7], vec4<f32>(1.0))"
        } else {
            ""
        };
        let dot = |j| format!("dot_w(w_at{j} + i, w_at{j} + p.k, x, sums)");
        format!(
            "        let x = {x};
        let sums = vec2<f32>({sums});
        s0 += vec4<f32>({}, {}, {}, {});\n",
            dot(0),
            dot(1),
            dot(2),
            dot(3)
        )
    }

    /// Unpacks the parts of the four rows once, then loads the tokens four elements at a time.
    fn some_tokens(&self, tokens: usize) -> String {
        let mut text = String::new();
        for j in 0..4 {
            let _ = writeln!(text, "        let w{j} = part_w(w_at{j} + i, w_at{j} + p.k);");
        }
        for t in 0..tokens {
            for q in 0..self.w.part() / 4 {
                let _ = writeln!(
                    text,
                    "        {{ let x = x4(x_at{t} + i + {at}u, x_at{t} + p.k);
          s{t} += vec4<f32>(dot(w0[{q}], x), dot(w1[{q}], x), dot(w2[{q}], x), dot(w3[{q}], x)); }}",
                    at = 4 * q
                );
            }
        }
        text
    }

    /// The program of [`Plan::Many`].
    fn many(&self, wgsl: Wgsl) -> String {
        let part = self.w.part();
        let n_parts = TILE as u32 * 32 / part;
        let mut store = String::new();
        for c in 0..part / 4 {
            let _ = writeln!(store, "            right[place(row, part * {}u + {c}u)] = v[{c}];", part / 4);
        }
        let body = format!(
            "let n_down = (p.m + 63u) / 64u;
    let across = group / n_down;
    let top = (group - across * n_down) * 64u;
    let start = across * 64u;
    if start >= p.n_rows {{ return; }}
    {TILE_SUMS}
    for (var base = 0u; base < p.k; base += 32u) {{
        workgroupBarrier();
        for (var q = lane; q < 512u; q += {TILE_LANES}u) {{
            let row = q >> 3u;
            let i = base + (q & 7u) * 4u;
            var v = vec4<f32>();
            let at = p.x_offset + (top + row) * p.k;
            if top + row < p.m && i < p.k {{ v = x4(at + i, at + p.k); }}
            left[place(row, q & 7u)] = v;
        }}
        for (var q = lane; q < {n_parts}u; q += {TILE_LANES}u) {{
            let row = q & 63u;
            let part = q >> 6u;
            let i = base + part * {part}u;
            var v = array<vec4<f32>, {quarters}>();
            let at = p.w_offset + (start + row) * p.k;
            if start + row < p.n_rows && i < p.k {{ v = part_w(at + i, at + p.k); }}
{store}        }}
        workgroupBarrier();
        {products}
    }}
    let row = start + columns;
    if row >= p.n_rows {{ return; }}
    let shift = bias4(row);
    {stores}",
            stores = eight_rows(|r| format!(
                "if top + rows + {r}u < p.m {{ store4_out(((top + rows + {r}u) * p.n + p.first + row) / 4u, s{r} + shift); }}"
            )),
            products = tile_products(),
            quarters = part / 4,
        );
        wgsl.text(TILE_MEMORY).main(TILE_LANES, &body)
    }

    /// The sum of the products of a part of a row of the weight, `w`, with the part of `x` at `x_at + i`.
    pub(super) fn dot_products(&self) -> String {
        let mut products = String::from("0.0");
        for q in 0..self.w.part() / 4 {
            let _ = write!(products, " + dot(w[{q}], x4(x_at + i + {}u, x_at + p.k))", 4 * q);
        }
        products
    }

    /// The program of [`Plan::Each`]: an invocation computes four neighbouring elements.
    fn each(&self, wgsl: Wgsl) -> String {
        let part = self.w.part();
        let products = self.dot_products();
        let body = format!(
            "let four = group * {WORKGROUP}u + lane;
    if four * 4u >= p.m * p.n {{ return; }}
    var v = vec4<f32>();
    for (var e = 0u; e < 4u; e++) {{
        let at = four * 4u + e;
        let token = at / p.n;
        let row = at - token * p.n;
        let x_at = p.x_offset + token * p.k;
        let w_at = p.w_offset + row * p.k;
        if token < p.m {{
            var sum = bias(row);
            for (var i = 0u; i < p.k; i += {part}u) {{
                let w = part_w(w_at + i, w_at + p.k);
                sum += {products};
            }}
            v[e] = sum;
        }}
    }}
    store4_out(four, v);"
        );
        wgsl.main(WORKGROUP, &body)
    }
}

/// The built-in values of programs that sum across subgroups.
pub(super) const SUBGROUP: &str = "@builtin(subgroup_id) subgroup: u32, @builtin(num_subgroups) n_subgroups: u32,
        @builtin(subgroup_invocation_id) within: u32, ";

/// Sums `s0, s1, ..` of all lanes: `total` of lane `t` is the sum of `s{t}`.
pub(super) fn total(tokens: usize, lanes: u32, has_subgroups: bool) -> String {
    let mut text = String::new();
    if has_subgroups {
        for t in 0..tokens {
            let _ = writeln!(text, "    let sum{t} = subgroupAdd(s{t});");
        }
        text.push_str("    if within == 0u {\n");
        for t in 0..tokens {
            let _ = writeln!(text, "        shared_sums[subgroup * {tokens}u + {t}u] = sum{t};");
        }
        let _ = write!(
            text,
            "    }}
    workgroupBarrier();
    var total = vec4<f32>();
    if lane < {tokens}u {{
        for (var i = 0u; i < n_subgroups; i++) {{ total += shared_sums[i * {tokens}u + lane]; }}
    }}\n"
        );
        return text;
    }
    for t in 0..tokens {
        let _ = writeln!(text, "    shared_sums[{t}u * {lanes}u + lane] = s{t};");
    }
    let _ = writeln!(text, "    for (var apart = {}u; apart > 0u; apart = apart >> 1u) {{", lanes / 2);
    text.push_str("        workgroupBarrier();\n        if lane < apart {\n");
    for t in 0..tokens {
        let at = t as u32 * lanes;
        let _ = writeln!(text, "            shared_sums[{at}u + lane] += shared_sums[{at}u + lane + apart];");
    }
    text.push_str("        }\n    }\n    workgroupBarrier();\n");
    let _ = writeln!(text, "    let total = shared_sums[min(lane, {}u) * {lanes}u];", tokens - 1);
    text
}

/// The text of a program with matrix instructions, with a bias, for activations of `float16`.
#[cfg(test)]
pub(super) fn matrix_program(target: &ShaderTarget, w: DType, matrix: Matrix) -> String {
    let loads = |dtype, is_wide| WeightLoads::new(dtype, is_wide).expect("a weight's type");
    let (w, bias) = (loads(w, true), Some(loads(DType::F32, false)));
    let loads = Loads { x: DType::F16, out: DType::F16, w, bias, is_x_wide: true };
    loads.source(Wgsl::new(target), Plan::Matrix(matrix))
}
