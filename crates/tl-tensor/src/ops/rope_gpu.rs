//! Rotary position embedding on a GPU.

use smallvec::SmallVec;
use tl_device::{Binding, DType};

use crate::OpError;
use crate::gpu::workgroup::workgroup_for;
use crate::gpu::{Immediates, ShaderVariant, WORKGROUP, Wgsl};
use crate::op::{Call, Dispatch};
use crate::operand::Operand;

/// The most pairs of a head whose frequencies fit into the immediates of a launch.
const MAX_PAIRS: usize = 256;

/// Frequencies of pairs `d`, `4 d`, `16 d` and `64 d`, for the digits `d` from 0 to 3 of a pair's number in base 4:
/// fractions of 64 bits, the upper half first. The product of four of them is the pair's frequency in turns per token;
/// the first four entries include the division by a turn. The first entry of each later digit is 1 and left out.
fn frequencies(base: f32, scale: f64, n_pairs: usize) -> [u32; 26] {
    let fraction = |x: f64| (x * 2f64.powi(64)) as u64;
    let of_pair = |pair: usize| f64::from(base).powf(-(pair as f64) / n_pairs.max(1) as f64);
    let mut words = [0; 26];
    for (entry, words) in words.chunks_exact_mut(2).enumerate() {
        let frequency = match entry {
            0..4 => of_pair(entry) / std::f64::consts::TAU / scale,
            _ => of_pair(((entry - 4) % 3 + 1) << (2 * ((entry - 4) / 3 + 1))),
        };
        let bits = fraction(frequency);
        words.copy_from_slice(&[(bits >> 32) as u32, bits as u32]);
    }
    words
}

/// `turn(pair)`: sine and cosine of a pair's angle at a position.
///
/// A position times a frequency in `f32` would lose the fraction of a turn after a few thousand positions. So angles
/// are integers, 2^32 to a turn, whose multiplication wraps around with the turns and is exact on every device.
const TURN: &str = "
fn high(a: u32, b: u32) -> u32 {
    let low = (a & 0xffffu) * (b & 0xffffu);
    let middle = (a >> 16u) * (b & 0xffffu) + (low >> 16u);
    let other = (a & 0xffffu) * (b >> 16u) + (middle & 0xffffu);
    return (a >> 16u) * (b >> 16u) + (middle >> 16u) + (other >> 16u);
}
// The product of two fractions, to a few units of the last of 64 bits.
fn product(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    let low = a.x * b.x;
    let second = low + high(a.x, b.y);
    let third = second + high(a.y, b.x);
    return vec2<u32>(high(a.x, b.x) + u32(second < low) + u32(third < second), third);
}
// Two numbers share a word where the launch has no room for two.
fn n_tokens() -> u32 { return p.frequencies[6].z & 0x3fffffu; }
fn n_pairs() -> u32 { return p.frequencies[6].z >> 22u; }
fn magnitude() -> f32 { return bitcast<f32>(p.frequencies[6].w); }
fn head_dim() -> u32 { return p.sizes & 0xffffu; }
// Elements of a token.
fn token_size() -> u32 { return head_dim() * (p.sizes >> 16u); }
fn frequency(entry: u32) -> vec2<u32> {
    let two = p.frequencies[entry >> 1u];
    return select(two.xy, two.zw, (entry & 1u) == 1u);
}
fn turn(pair: u32, position: u32) -> vec2<f32> {
    var f = frequency(pair & 3u);
    for (var digit = 1u; digit < 4u; digit++) {
        let d = (pair >> (2u * digit)) & 3u;
        if d > 0u { f = product(f, frequency(digit * 3u + d)); }
    }
    FACTOR
    let angle = position * f.x + high(position, f.y);
    let quarter = (angle + 0x20000000u) >> 30u;
    // Between -1/8 and 1/8 of a turn: by the power series.
    let t = f32(bitcast<i32>(angle - (quarter << 30u))) * (6.283185307179586 / 4294967296.0);
    let s = t * t;
    let sin = t * (1.0 + s * (-1.0 / 6.0 + s * (1.0 / 120.0 + s * (-1.0 / 5040.0 + s * (1.0 / 362880.0)))));
    let cos = 1.0 + s * (-0.5 + s * (1.0 / 24.0 + s * (-1.0 / 720.0 + s * (1.0 / 40320.0 - s * (1.0 / 3628800.0)))));
    let swapped = select(vec2<f32>(sin, cos), vec2<f32>(cos, -sin), (quarter & 1u) == 1u);
    let result = select(swapped, -swapped, quarter >= 2u) * magnitude();
    RESULT
}
fn rotated(x: vec2<f32>, turn: vec2<f32>) -> vec2<f32> {
    return vec2<f32>(x.x * turn.y - x.y * turn.x, x.x * turn.x + x.y * turn.y);
}";

/// `divided(f, factor)`: the fraction divided by a positive number, without the whole turns.
///
/// The number is an integer of 24 bits, `m`, times a power of two. So the quotient by `m` is computed byte by byte, 24
/// bits beyond those of the fraction, and then shifted.
const DIVIDED: &str = "
fn divided(f: vec2<u32>, factor: f32) -> vec2<u32> {
    let bits = bitcast<u32>(factor);
    let m = (bits & 0x7fffffu) | 0x800000u;
    var rest = 0u;
    // Three words of quotient. The first has a bit at most, since m is no less than 2^23.
    var q = vec3<u32>();
    for (var i = 0u; i < 11u; i++) {
        let word = select(select(0u, f.y, i < 8u), f.x, i < 4u);
        rest = (rest << 8u) | ((word >> (24u - 8u * (i & 3u))) & 0xffu);
        let digit = rest / m;
        rest -= digit * m;
        q = vec3<u32>((q.x << 8u) | (q.y >> 24u), (q.y << 8u) | (q.z >> 24u), (q.z << 8u) | digit);
    }
    // Where nothing is shifted, the factor is between 1/2 and 1.
    var right = max(bits >> 23u, 126u) - 126u;
    var left = 126u - min(bits >> 23u, 126u);
    for (; right > 0u; right--) { q = vec3<u32>(q.x >> 1u, (q.y >> 1u) | (q.x << 31u), (q.z >> 1u) | (q.y << 31u)); }
    for (; left > 0u; left--) { q = vec3<u32>(0u, (q.y << 1u) | (q.z >> 31u), q.z << 1u); }
    return q.yz;
}";

/// A workgroup takes a token: it computes the angles once, then rotates all heads. Four elements span neither heads nor
/// halves.
const TOKEN: &str = "if group >= n_tokens() { return; }
    for (var pair = lane; pair < n_pairs(); pair += {lanes}u) { turns[pair] = turn(pair, p.position + group); }
    workgroupBarrier();
    let quads = token_size() >> 2u;
    let in_head = head_dim() >> 2u;
    for (var j = lane; j < quads; j += {lanes}u) {
        var x = four(group * quads + j);
        ROTATE
        store4_out(group * quads + j, x);
    }";

/// Two interleaved pairs.
const ROTATE_INTERLEAVED: &str = "let pair = (j % in_head) * 2u;
        if pair < n_pairs() { x = vec4<f32>(rotated(x.xy, turns[pair]), x.zw); }
        if pair + 1u < n_pairs() { x = vec4<f32>(x.xy, rotated(x.zw, turns[pair + 1u])); }";

/// The first or second elements of four pairs, whose partners lie half a head before or after.
const ROTATE_HALVES: &str = "let at = (j % in_head) * 4u;
        if at < n_pairs() {
            let y = four(group * quads + j + (n_pairs() >> 2u));
            for (var k = 0u; k < 4u; k++) { x[k] = rotated(vec2<f32>(x[k], y[k]), turns[at + k]).x; }
        } else if at < 2u * n_pairs() {
            let y = four(group * quads + j - (n_pairs() >> 2u));
            for (var k = 0u; k < 4u; k++) { x[k] = rotated(vec2<f32>(y[k], x[k]), turns[at + k - n_pairs()]).y; }
        }";

/// Each element on its own, for heads whose size is no multiple of four.
const EACH: &str = "let four = group * {lanes}u + lane;
    let n = n_tokens() * token_size();
    if four * 4u >= n { return; }
    var v: vec4<f32>;
    for (var k = 0u; k < 4u; k++) {
        let i = min(four * 4u + k, n - 1u);
        let token = i / token_size();
        let in_head = (i - token * token_size()) % head_dim();
        let x = load_x(p.offset + i);
        if in_head < 2u * n_pairs() {
            PAIR
            let both = rotated(vec2<f32>(load_x(first), load_x(first + apart)), turn(pair, p.position + token));
            v[k] = select(both.y, both.x, is_first);
        } else {
            v[k] = x;
        }
    }
    store4_out(four, v);";

const PAIR_INTERLEAVED: &str = "let pair = in_head >> 1u;
            let apart = 1u;
            let is_first = (in_head & 1u) == 0u;
            let first = p.offset + i - (in_head & 1u);";

const PAIR_HALVES: &str = "let apart = n_pairs();
            let is_first = in_head < apart;
            let pair = select(in_head - apart, in_head, is_first);
            let first = p.offset + i - select(apart, 0u, is_first);";

/// How heads are rotated.
pub(super) struct Angles<'a> {
    /// The position of the first token.
    pub(super) position: i64,
    pub(super) base: f32,
    pub(super) rotary_dim: usize,
    /// Whether pairs are `(x[i], x[i + dims/2])`.
    pub(super) has_halves: bool,
    pub(super) scale: f64,
    pub(super) factors: Option<Operand<'a>>,
    pub(super) magnitude: f32,
}

/// Launches the rotation of `x`, which is contiguous.
pub(super) fn run(call: &mut Call, x: &Operand, angles: &Angles) -> Result<Dispatch, OpError> {
    let Angles { position, base, rotary_dim, has_halves, scale, factors, magnitude } = *angles;
    let (n_tokens, n_heads, head_dim) = (x.dims[0], x.dims[1], x.dims[2]);
    let n_pairs = rotary_dim / 2;
    let Some(position) = u32::try_from(position).ok().filter(|first| first.checked_add(n_tokens as u32).is_some())
    else {
        return Ok(Dispatch::Unsupported);
    };
    // All frequencies are below 1: the first one is, and they fall from pair to pair.
    let are_fractions = base > 1.0 && scale * std::f64::consts::TAU > 1.0;
    let fits = n_pairs <= MAX_PAIRS && n_heads <= 0xffff && head_dim <= 0xffff && n_tokens <= 0x3f_ffff;
    let are_factors_floats = factors.is_none_or(|factors| factors.dtype.is_float() && factors.fits_u32());
    if !are_fractions || !fits || !are_factors_floats || !x.fits_u32() {
        return Ok(Dispatch::Unsupported);
    }
    let in_fours = head_dim.is_multiple_of(4) && (!has_halves || n_pairs.is_multiple_of(4));
    let is_wide = in_fours && x.offset.is_multiple_of(4);
    let (dtype, factor_dtype) = (call.dtype, factors.map(|factors| factors.dtype));
    let lanes = if in_fours { workgroup_for(n_heads * head_dim) } else { WORKGROUP };
    let source = |wgsl: Wgsl| {
        let (mut wgsl, four) = if is_wide {
            (wgsl.read4("x", dtype), "fn four(i: u32) -> vec4<f32> { return load4_x((p.offset >> 2u) + i); }")
        } else {
            (wgsl.read("x", dtype), LOAD_FOUR)
        };
        let (mut factor, mut result) = ("", "return result;");
        if let Some(dtype) = factor_dtype {
            wgsl = wgsl.read("factors", dtype).text(DIVIDED);
            factor = "let factor = load_factors(p.factors_offset + pair); f = divided(f, abs(factor));";
            // A negative factor gives a negative angle; 0 and NaN give none.
            result = "let bits = bitcast<u32>(factor) & 0x7fffffffu;
    if bits < 0x800000u || bits > 0x7f800000u { return vec2<f32>(bitcast<f32>(0x7fc00000u | (position & 0u))); }
    return select(result, vec2<f32>(-result.x, result.y), factor < 0.0);";
        }
        let body = if in_fours { TOKEN } else { EACH };
        let (rotate, pair) =
            if has_halves { (ROTATE_HALVES, PAIR_HALVES) } else { (ROTATE_INTERLEAVED, PAIR_INTERLEAVED) };
        let body = body.replace("ROTATE", rotate).replace("PAIR", pair).replace("{lanes}", &lanes.to_string());
        wgsl.write("out", dtype)
            .params("frequencies: array<vec4<u32>, 7>, sizes: u32, position: u32, offset: u32, factors_offset: u32")
            .text(four)
            .text(&TURN.replace("FACTOR", factor).replace("RESULT", result))
            .text(&format!("var<workgroup> turns: array<vec2<f32>, {MAX_PAIRS}>;"))
            .main(lanes, &body)
    };
    let place = x.on_gpu()?;
    let factors = factors.map(|factors| factors.on_gpu()).transpose()?;
    let flags = lanes << 3 | u32::from(has_halves) << 2 | u32::from(is_wide) << 1 | u32::from(in_fours);
    let dtypes = [dtype, factor_dtype.unwrap_or(DType::Bool)];
    let shader = ShaderVariant { name: "rope", dtypes: &dtypes, flags, reports_faults: false, source: &source };
    let mut words = Immediates::from_slice(&frequencies(base, scale, n_pairs));
    // Two numbers share the last vector with the last frequencies.
    words.extend_from_slice(&[(n_pairs as u32) << 22 | n_tokens as u32, magnitude.to_bits()]);
    words.extend_from_slice(&[(n_heads as u32) << 16 | head_dim as u32, position, place.offset]);
    words.push(factors.as_ref().map_or(0, |factors| factors.offset));
    let groups = if in_fours { n_tokens } else { call.n_out().div_ceil(4 * WORKGROUP as usize) };
    let mut reads: SmallVec<[Binding; 2]> = SmallVec::from_slice(&[place.binding]);
    reads.extend(factors.map(|factors| factors.binding));
    call.launch(&shader, &reads, &words, groups)
}

const LOAD_FOUR: &str = "fn four(i: u32) -> vec4<f32> {
    let at = p.offset + 4u * i;
    return vec4<f32>(load_x(at), load_x(at + 1u), load_x(at + 2u), load_x(at + 3u));
}";
