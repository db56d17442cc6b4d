//! Softmax and its logarithm on a GPU.

use super::reduce_gpu::{Axis, LOAD_EACH, LOAD_WIDE, SHARED_QUADS};
use crate::OpError;
use crate::gpu::rows::{RowMap, SPECIAL};
use crate::gpu::{Immediates, ShaderVariant, WORKGROUP, Wgsl};
use crate::op::{Call, Dispatch};
use crate::operand::Operand;

/// The largest element, and the inverse or the logarithm of the sum of exponentials, in one pass: the sum is rescaled
/// whenever a larger element appears. A row of -inf alone is NaN, as is one with NaN or inf. The running maximum starts
/// from a finite number, so that -inf alone makes no NaN.
const EXPONENTIALS: &str = "
const LOWEST = -0x1.fffffep+127f;
fn statistics(start: u32) -> vec2<f32> {
    var largest = LOWEST;
    var sum = 0.0;
    for (var j = own_lane; j * 4u < p.n; j += {lanes}u) {
        let x = row4(start, j, -infinity());
        let top = max(largest, max(max(x.x, x.y), max(x.z, x.w)));
        sum = sum * exp(largest - top) + dot(exp(x - top), vec4<f32>(1.0));
        largest = top;
    }
    let top = all_max(largest);
    return vec2<f32>(top, of_sum(all_sum(sum * exp(largest - top))));
}";

/// Softmax along dimension `axis` of operand 0, which is contiguous, or its logarithm.
pub(super) fn run(call: &mut Call, axis: usize, is_log: bool) -> Result<Dispatch, OpError> {
    let x = call.operand(0)?;
    let axis = Axis::of(&x, Some(axis));
    let (name, formula) = if is_log { ("log_softmax", "(x - a) - b") } else { ("softmax", "exp(x - a) * b") };
    if axis.inner != 1 {
        return softmax_columns(call, &x, axis, is_log);
    }
    let statistics = [EXPONENTIALS, OF_SUM[usize::from(is_log)]];
    RowMap { name, statistics, formula, weights: &[], eps: 0.0 }.launch_rows(call, axis.n)
}

/// The statistic of the sum of exponentials, without and with logarithm.
const OF_SUM: [&str; 2] = [
    "fn of_sum(sum: f32) -> f32 { return select(1.0 / sum, nan(), sum == 0.0); }",
    "fn of_sum(sum: f32) -> f32 { return select(log(sum), nan(), sum == 0.0); }",
];

/// The longest column that each of its elements reads on its own, where columns are no multiple of four.
const LONGEST_LONE_COLUMN: usize = 1024;

fn softmax_columns(call: &mut Call, x: &Operand, axis: Axis, is_log: bool) -> Result<Dispatch, OpError> {
    let is_wide = axis.inner.is_multiple_of(4) && x.offset.is_multiple_of(4);
    let n_out = call.n_out();
    if !x.dtype.is_float() || !x.fits_u32() || axis.inner == 0 || axis.n == 0 || n_out > u32::MAX as usize / 8 {
        return Ok(Dispatch::Unsupported);
    }
    let in_fours = axis.inner.is_multiple_of(4);
    if !in_fours && axis.n > LONGEST_LONE_COLUMN {
        return Ok(Dispatch::Unsupported);
    }
    let (dtype, quads) = (call.dtype, if in_fours { SHARED_QUADS } else { WORKGROUP });
    let formula = if is_log { "(x - largest) - b" } else { "exp(x - largest) * b" };
    let source = |wgsl: Wgsl| {
        let wgsl = if is_wide { wgsl.read4("x", x.dtype) } else { wgsl.read("x", x.dtype) };
        let wgsl = wgsl
            .write("out", dtype)
            .params("n: u32, inner: u32, n_out: u32, offset: u32, zero: u32")
            .text(SPECIAL)
            .text(OF_SUM[usize::from(is_log)])
            .text(&if is_wide { LOAD_WIDE } else { LOAD_EACH }.replace("KIND", "f32"))
            .text(&format!("const QUADS = {quads}u;\nconst SLICES = {}u;", WORKGROUP / quads))
            .text(RUNNING);
        let body = if in_fours { COLUMNS_IN_FOURS } else { LONE_COLUMNS };
        wgsl.main(WORKGROUP, &body.replace("FORMULA", formula))
    };
    let place = x.on_gpu()?;
    let flags = u32::from(in_fours) << 2 | u32::from(is_wide) << 1 | 1;
    let name = if is_log { "log_softmax of columns" } else { "softmax of columns" };
    let shader = ShaderVariant { name, dtypes: &[x.dtype, dtype], flags, reports_faults: false, source: &source };
    let words = Immediates::from_slice(&[axis.n as u32, axis.inner as u32, n_out as u32, place.offset, 0]);
    let columns = if in_fours { n_out / axis.n } else { n_out };
    call.launch(&shader, &[place.binding], &words, columns.div_ceil(4 * quads as usize))
}

/// Running maxima and sums of exponentials.
const RUNNING: &str = "
const LOWEST = -0x1.fffffep+127f;
struct Running { largest: vec4<f32>, sum: vec4<f32> }
fn begin() -> Running { return Running(vec4<f32>(LOWEST), vec4<f32>()); }
fn grown(a: Running, x: vec4<f32>) -> Running {
    let top = max(a.largest, x);
    return Running(top, a.sum * exp(a.largest - top) + exp(x - top));
}
fn joined(a: Running, b: Running) -> Running {
    let top = max(a.largest, b.largest);
    return Running(top, a.sum * exp(a.largest - top) + b.sum * exp(b.largest - top));
}
fn of_sums(sum: vec4<f32>) -> vec4<f32> { return vec4<f32>(of_sum(sum.x), of_sum(sum.y), of_sum(sum.z), of_sum(sum.w)); }
var<workgroup> parts: array<Running, 256>;";

/// Invocations share columns in slices, for the sums and for the results.
const COLUMNS_IN_FOURS: &str = "let slice = lane / QUADS;
    let own = lane - slice * QUADS;
    let four = group * QUADS + own;
    let is_inside = four * 4u < p.n_out / p.n;
    let slab = four * 4u / p.inner;
    let at = slab * (p.n * p.inner) + (four * 4u - slab * p.inner);
    let first = vec4<u32>(p.offset + at) + vec4<u32>(0u, 1u, 2u, 3u);
    var part = begin();
    if is_inside {
        for (var j = slice; j < p.n; j += SLICES) { part = grown(part, load_at(first, j)); }
    }
    parts[lane] = part;
    workgroupBarrier();
    part = parts[own];
    for (var s = 1u; s < SLICES; s++) { part = joined(part, parts[s * QUADS + own]); }
    let largest = part.largest;
    let b = of_sums(part.sum);
    if is_inside {
        for (var j = slice; j < p.n; j += SLICES) {
            let x = load_at(first, j);
            store4_out((at + j * p.inner) >> 2u, FORMULA);
        }
    }";

/// Each element reads its whole column.
const LONE_COLUMNS: &str = "let four = group * QUADS + lane;
    if four * 4u >= p.n_out { return; }
    let i = min(vec4<u32>(four * 4u) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(p.n_out - 1u));
    let row = i / vec4<u32>(p.inner);
    let slab = row / vec4<u32>(p.n);
    let first = vec4<u32>(p.offset) + slab * (p.n * p.inner) + (i - row * p.inner);
    var part = begin();
    for (var j = 0u; j < p.n; j++) { part = grown(part, load_at(first, j)); }
    let largest = part.largest;
    let b = of_sums(part.sum);
    let x_at = vec4<u32>(p.offset) + i;
    let x = vec4<f32>(load_x(x_at.x), load_x(x_at.y), load_x(x_at.z), load_x(x_at.w));
    store4_out(four, FORMULA);";
