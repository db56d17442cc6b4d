//! Attention in one pass on a GPU: no score leaves a workgroup.
//!
//! A workgroup takes some rows, a row being one query of one head, of heads that share keys and values. It goes through
//! the keys in stretches of one key for each invocation, which computes the products of its key with all rows, so that
//! a key is read once. Then each invocation accumulates elements of the values, and several groups of invocations split
//! the positions. Maxima and sums are kept as in the online softmax (Milakov, Gimelshein, 2018).

use std::fmt::Write as _;

use smallvec::SmallVec;
use tl_device::{Binding, DType};

use crate::OpError;
use crate::gpu::math::TANH_WGSL;
use crate::gpu::{ShaderVariant, Wgsl};
use crate::op::{Call, Dispatch};
use crate::operand::Operand;

/// The largest head that has a program: one row of it fits into a workgroup's memory with its sums.
const MAX_HEAD_DIM: usize = 1024;
/// Bytes of workgroup memory that every device has.
const MEMORY_BYTES: usize = 16 << 10;
/// Workgroups that keep a device busy. Rows share workgroups only where as many remain.
const ENOUGH_GROUPS: usize = 128;

const PARAMS: &str = "n_rows: u32, n_queries: u32, n_keys: u32, heads: u32, shared_by: u32, head_dim: u32, causal: u32,
    scale: f32, q_offset: u32, q_token: u32, q_head: u32, k_offset: u32, k_token: u32, k_head: u32, v_offset: u32,
    v_token: u32, v_head: u32, value_dim: u32, window: u32, softcap: f32, sinks_offset: u32";

/// The options of the scores.
pub(super) struct Scores<'a> {
    pub(super) scale: f32,
    pub(super) is_causal: bool,
    pub(super) window: usize,
    pub(super) softcap: f32,
    pub(super) sinks: Option<Operand<'a>>,
}

/// Launches the attention of a call whose operands have whole heads.
pub(super) fn run(call: &mut Call, [q, k, v]: [&Operand; 3], scores: &Scores) -> Result<Dispatch, OpError> {
    if !is_served(call, [q, k, v], scores) {
        return Ok(Dispatch::Unsupported);
    }
    let (n_queries, heads, head_dim, value_dim) = (q.dims[0], q.dims[1], q.dims[2], v.dims[2]);
    let (n_keys, kv_heads) = (k.dims[0], k.dims[1]);
    let shared_by = heads / kv_heads;
    // Rows of one key-value head: its queries, and for each of them the heads that share it.
    let n_rows = n_queries * shared_by;
    let rows = rows_of_workgroup(n_rows, kv_heads, head_dim, value_dim);
    let (sinks, has_cap) = (scores.sinks.as_ref(), scores.softcap > 0.0);
    let (q_place, k_place, v_place) = (q.on_gpu()?, k.on_gpu()?, v.on_gpu()?);
    let is_wide = is_quartered(k, k_place.offset) && is_quartered(v, v_place.offset);
    let (sinks_dtype, sinks_place) = (sinks.map(|sinks| sinks.dtype), sinks.map(Operand::on_gpu).transpose()?);
    let (kv, out) = (k.dtype, call.dtype);
    let text = Text { rows, head_dim, value_dim, is_wide, has_cap, q: q.dtype, kv, out, sinks: sinks_dtype };
    let source = |wgsl: Wgsl| text.source(wgsl);
    let dtypes = [q.dtype, k.dtype, call.dtype, sinks_dtype.unwrap_or(DType::Bool)];
    let widths = (value_dim as u32) << 17 | (head_dim as u32) << 6;
    let flags = widths | (rows as u32) << 2 | u32::from(has_cap) << 1 | u32::from(is_wide);
    let shader = ShaderVariant { name: "attention", dtypes: &dtypes, flags, reports_faults: false, source: &source };
    let stride = |operand: &Operand, axis: usize| operand.strides[axis] as u32;
    let words = [
        n_rows as u32,
        n_queries as u32,
        n_keys as u32,
        heads as u32,
        shared_by as u32,
        head_dim as u32,
        u32::from(scores.is_causal),
        scores.scale.to_bits(),
        q_place.offset,
        stride(q, 0),
        stride(q, 1),
        k_place.offset,
        stride(k, 0),
        stride(k, 1),
        v_place.offset,
        stride(v, 0),
        stride(v, 1),
        value_dim as u32,
        // A window of all keys hides none.
        if scores.window < n_keys { scores.window as u32 } else { 0 },
        scores.softcap.to_bits(),
        sinks_place.as_ref().map_or(0, |sinks| sinks.offset),
    ];
    let groups = n_rows.div_ceil(rows) * kv_heads;
    let mut reads: SmallVec<[Binding; 4]> = SmallVec::from_slice(&[q_place.binding, k_place.binding, v_place.binding]);
    reads.extend(sinks_place.map(|sinks| sinks.binding));
    call.launch(&shader, &reads, &words, groups)
}

/// Whether there is a program for the operands.
fn is_served(call: &Call, [q, k, v]: [&Operand; 3], scores: &Scores) -> bool {
    let sinks = scores.sinks.as_ref();
    let fits = [q, k, v].into_iter().chain(sinks).all(|operand| operand.fits_u32());
    let fits = fits && call.n_out() < u32::MAX as usize / 2 && k.dims[0] < u32::MAX as usize / 2;
    let has_program = |dim: usize| dim > 0 && dim <= MAX_HEAD_DIM && dim.is_multiple_of(4);
    let are_sinks_floats = sinks.is_none_or(|sinks| sinks.dtype.is_float());
    fits && has_program(q.dims[2]) && has_program(v.dims[2]) && k.dims[1] > 0 && are_sinks_floats
}

/// Rows that share a workgroup, of `n_rows` for each key-value head: as many as fit while enough workgroups remain.
fn rows_of_workgroup(n_rows: usize, kv_heads: usize, head_dim: usize, value_dim: usize) -> usize {
    let are_served = |rows: usize| {
        fits_memory(rows, head_dim) && value_dim <= 4 * lanes(rows) && n_rows.div_ceil(rows) * kv_heads >= ENOUGH_GROUPS
    };
    [8, 4, 2].into_iter().find(|&rows| are_served(rows)).unwrap_or(1)
}

/// Whether all heads of an operand begin at multiples of four elements.
fn is_quartered(operand: &Operand, offset: u32) -> bool {
    offset.is_multiple_of(4) && operand.strides[..2].iter().all(|stride| stride.is_multiple_of(4))
}

/// What the text depends on.
struct Text {
    /// Rows of a workgroup: 1, 2, 4 or 8.
    rows: usize,
    head_dim: usize,
    value_dim: usize,
    /// Whether keys and values can be loaded four elements at a time.
    is_wide: bool,
    has_cap: bool,
    q: DType,
    kv: DType,
    out: DType,
    sinks: Option<DType>,
}

/// Invocations of a workgroup, and keys of a stretch.
fn lanes(rows: usize) -> usize {
    if rows == 8 { 128 } else { 256 }
}

/// Whether queries, weights, maxima and sums of so many rows fit into a workgroup's memory, whatever size subgroups
/// have.
fn fits_memory(rows: usize, head_dim: usize) -> bool {
    let (lanes, least_subgroup) = (lanes(rows), 4);
    let n_numbers = rows * head_dim + rows * lanes + rows * (lanes / least_subgroup + 1) + 4 * lanes;
    n_numbers * size_of::<f32>() <= MEMORY_BYTES
}

impl Text {
    fn lanes(&self) -> usize {
        lanes(self.rows)
    }

    /// Quarters of a head of queries and keys: groups of four elements.
    fn quarters(&self) -> usize {
        self.head_dim / 4
    }

    /// Quarters of a head of values.
    fn value_quarters(&self) -> usize {
        self.value_dim / 4
    }

    /// A statement for each row.
    fn each_row(&self, statement: impl Fn(usize) -> String) -> String {
        (0..self.rows).map(|r| statement(r) + "\n    ").collect()
    }

    fn source(&self, wgsl: Wgsl) -> String {
        let wgsl = wgsl.read("q", self.q);
        let wgsl = if self.is_wide {
            let load = |name: &str| format!("fn {name}4(i: u32) -> vec4<f32> {{ return load4_{name}(i >> 2u); }}");
            wgsl.read4("k", self.kv).read4("v", self.kv).text(&load("k")).text(&load("v"))
        } else {
            let load = |name: &str| {
                let each: Vec<String> = (0..4).map(|j| format!("load_{name}(i + {j}u)")).collect();
                format!("fn {name}4(i: u32) -> vec4<f32> {{ return vec4<f32>({}); }}", each.join(", "))
            };
            wgsl.read("k", self.kv).read("v", self.kv).text(&load("k")).text(&load("v"))
        };
        let mut wgsl = wgsl;
        if let Some(dtype) = self.sinks {
            wgsl = wgsl.read("sinks", dtype);
        }
        if self.has_cap {
            wgsl = wgsl
                .text(TANH_WGSL)
                .text("fn capped(s: f32) -> f32 { return p.softcap * tanh_(clamp(s / p.softcap, -20.0, 20.0)); }");
        }
        let (lanes, rows) = (self.lanes(), self.rows);
        let has_subgroups = wgsl.target().subgroup.is_some();
        let n_parts = wgsl.target().subgroup.map_or(16, |(least, _)| lanes.div_ceil(least.max(1) as usize)) * rows;
        let memory = format!(
            "
var<workgroup> queries: array<vec4<f32>, {n_queries}>;
var<workgroup> weights: array<f32, {n_weights}>;
var<workgroup> parts: array<f32, {n_parts}>;
var<workgroup> maxima: array<f32, {rows}>;
var<workgroup> sums: array<vec4<f32>, {lanes}>;
const LEAST = -3.0e38;
fn q4(i: u32) -> vec4<f32> {{ return vec4<f32>(load_q(i), load_q(i + 1u), load_q(i + 2u), load_q(i + 3u)); }}
fn seen(row: u32) -> u32 {{
    if p.causal == 0u {{ return p.n_keys; }}
    let last = row / p.shared_by + 1u + p.n_keys;
    return select(0u, last - p.n_queries, last > p.n_queries);
}}
// The first key of those that a row sees.
fn first_seen(row: u32) -> u32 {{
    let end = seen(row);
    return select(0u, end - p.window, p.window > 0u && end > p.window);
}}",
            n_queries = rows * self.quarters(),
            n_weights = lanes * rows,
        );
        let body = self.body(has_subgroups);
        let wgsl = wgsl.write("out", self.out).params(PARAMS).text(&memory);
        wgsl.main_with(if has_subgroups { SUBGROUP } else { "" }, lanes as u32, &body)
    }

    fn body(&self, has_subgroups: bool) -> String {
        let (rows, lanes, quarters, value_quarters) = (self.rows, self.lanes(), self.quarters(), self.value_quarters());
        // Positions that are accumulated at the same time.
        let n_together = lanes / value_quarters;
        let start = self.each_row(|r| {
            format!(
                "let seen{r} = select(0u, seen(first + {r}u), first + {r}u < p.n_rows); let from{r} = first_seen(first + {r}u); \
                 var top{r} = LEAST; var sum{r} = 0.0; var mean{r} = vec4<f32>();"
            )
        });
        let last = (1..rows).fold("seen0".to_owned(), |last, r| format!("max({last}, seen{r})"));
        let weigh = self.each_row(|r| {
            format!(
                "    {{ let weight = select(0.0, exp(s{r} - new{r}), j < seen{r} && j >= from{r}); let rescale = exp(top{r} - new{r});
            weights[lane * {rows}u + {r}u] = weight; sum{r} = sum{r} * rescale + weight; mean{r} *= rescale; top{r} = new{r}; }}"
            )
        });
        let scores = self.each_row(|r| {
            let score = if self.has_cap { format!("capped(s{r} * p.scale)") } else { format!("s{r} * p.scale") };
            format!("    s{r} = select(LEAST, {score}, j < seen{r} && j >= from{r});")
        });
        let dots = self.each_row(|r| format!("            s{r} += dot(queries[{}u + e], key);", r * quarters));
        let add = self.each_row(|r| format!("            mean{r} += weights[j * {rows}u + {r}u] * value;"));
        let zero = self.each_row(|r| format!("    var s{r} = 0.0;"));
        format!(
            "let n_groups = (p.n_rows + {rows}u - 1u) / {rows}u;
    let kv_head = group / n_groups;
    let first = (group - kv_head * n_groups) * {rows}u;
    if kv_head * p.shared_by >= p.heads {{ return; }}
    for (var i = lane; i < {rows}u * {quarters}u; i += {lanes}u) {{
        let row = min(first + i / {quarters}u, p.n_rows - 1u);
        let query = row / p.shared_by;
        let head = kv_head * p.shared_by + row - query * p.shared_by;
        queries[i] = q4(p.q_offset + query * p.q_token + head * p.q_head + (i % {quarters}u) * 4u);
    }}
    let k_at = p.k_offset + kv_head * p.k_head;
    let v_at = p.v_offset + kv_head * p.v_head + (lane % {value_quarters}u) * 4u;
    let together = lane / {value_quarters}u;
    {start}
    let n_seen = {last};
    workgroupBarrier();
    // Later rows see later keys.
    for (var base = from0; base < n_seen; base += {lanes}u) {{
        let j = base + lane;
        {zero}
        if j < n_seen {{
            let at = k_at + j * p.k_token;
            for (var e = 0u; e < {quarters}u; e++) {{
                let key = k4(at + e * 4u);
                {dots}
            }}
        }}
        {scores}
        {maxima}
        {weigh}
        workgroupBarrier();
        let n_here = min({lanes}u, n_seen - base);
        if together < {n_together}u {{
            for (var j = together; j < n_here; j += {n_together}u) {{
                let value = v4(v_at + (base + j) * p.v_token);
                {add}
            }}
        }}
        workgroupBarrier();
    }}
    {finish}",
            maxima = self.maxima(has_subgroups),
            finish = self.finish(n_together),
        )
    }

    /// Sets `new0, new1, ..` to the running maxima, the scores of the stretch included.
    fn maxima(&self, has_subgroups: bool) -> String {
        let (rows, lanes) = (self.rows, self.lanes());
        if has_subgroups {
            let own = self.each_row(|r| format!("    let own{r} = subgroupMax(s{r});"));
            let store = self.each_row(|r| format!("        parts[subgroup * {rows}u + {r}u] = own{r};"));
            let start = self.each_row(|r| format!("    var new{r} = top{r};"));
            let collect = self.each_row(|r| format!("        new{r} = max(new{r}, parts[i * {rows}u + {r}u]);"));
            return format!(
                "{own}
        if within == 0u {{
        {store}
        }}
        workgroupBarrier();
        {start}
        for (var i = 0u; i < n_subgroups; i++) {{
        {collect}
        }}"
            );
        }
        let store = self.each_row(|r| format!("    weights[lane * {rows}u + {r}u] = s{r};"));
        let read = self.each_row(|r| format!("    let new{r} = max(top{r}, maxima[{r}]);"));
        // Sixteen invocations for each row take the maximum of a sixteenth of the stretch each, then one takes the
        // maximum of those.
        format!(
            "{store}
        workgroupBarrier();
        if lane < {of_parts}u {{
            var largest = LEAST;
            for (var i = 0u; i < {each}u; i++) {{ largest = max(largest, weights[i * {of_parts}u + lane]); }}
            parts[lane] = largest;
        }}
        workgroupBarrier();
        if lane < {rows}u {{
            var largest = LEAST;
            for (var i = 0u; i < 16u; i++) {{ largest = max(largest, parts[i * {rows}u + lane]); }}
            maxima[lane] = largest;
        }}
        workgroupBarrier();
        {read}",
            of_parts = 16 * rows,
            each = lanes / 16,
        )
    }

    /// Sums the parts of all invocations for each row, and stores the quotients.
    fn finish(&self, n_together: usize) -> String {
        let (lanes, quarters) = (self.lanes(), self.value_quarters());
        let mut text = String::new();
        for r in 0..self.rows {
            // A sink adds to the sum of the weights, each under the larger of the maxima.
            let total = match self.sinks {
                None => "let rescale = 1.0; let total = weights[0];".to_owned(),
                Some(_) => format!(
                    "let sink = load_sinks(p.sinks_offset + head); let top = max(top{r}, sink); let rescale = exp(top{r} - top);
            let total = weights[0] * rescale + exp(sink - top);"
                ),
            };
            let _ = write!(
                text,
                "{{
        weights[lane] = sum{r};
        sums[lane] = mean{r};
        for (var apart = {half}u; apart > 0u; apart = apart >> 1u) {{
            workgroupBarrier();
            if lane < apart {{ weights[lane] += weights[lane + apart]; }}
        }}
        workgroupBarrier();
        let row = first + {r}u;
        if lane < {quarters}u && row < p.n_rows {{
            var mean = vec4<f32>();
            for (var i = 0u; i < {n_together}u; i++) {{ mean += sums[i * {quarters}u + lane]; }}
            let query = row / p.shared_by;
            let head = kv_head * p.shared_by + row - query * p.shared_by;
            {total}
            let result = select(vec4<f32>(), mean * rescale / total, weights[0] > 0.0);
            store4_out(((query * p.heads + head) * p.value_dim) / 4u + lane, result);
        }}
        workgroupBarrier();
    }}
    ",
                half = lanes / 2,
            );
        }
        text
    }
}

/// The built-in values of programs that compare across subgroups.
const SUBGROUP: &str = "@builtin(subgroup_id) subgroup: u32, @builtin(num_subgroups) n_subgroups: u32,
        @builtin(subgroup_invocation_id) within: u32, ";
