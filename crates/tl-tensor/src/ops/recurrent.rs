//! Layers that carry a state from token to token: the causal convolution and the gated delta rule.
//!
//! They are no rows of [`OPS`](super::OPS): beside their result they write a state, into memory that their caller keeps
//! ([`TensorMut`]). What is read and what is written are two memories, so that a step that fails leaves the state as it
//! was. States are `float32` whatever the activations are: errors of rounding would add up from token to token.

use smallvec::SmallVec;
use tl_device::{Binding, DType, Device, Layout, Role, Work};
use tl_kernels::{DeltaInputs, DeltaRule, MAX_STATE_KEY_DIM, MAX_TAPS};

use super::gpu::{self, Dispatch, Immediates, ShaderVariant, WORKGROUP, Wgsl};
use super::{Operand, Size, with_float};
use crate::tensor::{DynTensor, take};
use crate::{Error, OpError, Tensor, TensorMut};

const CONVOLUTION: &str = "causal_convolution";
const DELTA_RULE: &str = "gated_delta_rule";

/// What the gated delta rule gets beside keys and queries: see [`Tensor::gated_delta_rule`].
#[derive(Clone, Copy, Debug)]
pub struct DeltaStep<'a> {
    /// Keys `[n, key_heads, key_dim]`.
    pub k: &'a Tensor,
    /// Values `[n, heads, value_dim]`.
    pub v: &'a Tensor,
    /// Logarithms of what remains of the state, `[n, heads]`.
    pub gate: &'a Tensor,
    /// How much of the difference goes into the state, `[n, heads]`.
    pub beta: &'a Tensor,
    /// Whether head `h` reads the keys of head `h % key_heads`; else of head `h / (heads / key_heads)`.
    pub is_tiled: bool,
}

impl<T> Tensor<T> {
    /// A causal convolution with a filter for each channel:
    /// `result[t, c] = b[c] + sum over j of w[c, j] · x[t + j - (taps - 1), c]`, in `float32`.
    ///
    /// `x: [n, channels], w: [channels, taps], b: [channels], state and next: float32[taps - 1, channels] → [n, channels]`.
    /// The rows of `state` are the tokens before the first, zeros where there is none; `next` becomes what it is behind
    /// the last token.
    ///
    /// # Errors
    /// [`Error::Op`] where sizes or types differ, or there are more than 16 taps.
    pub fn causal_convolution<U, V>(
        &self,
        w: &Tensor<U>,
        b: Option<&Tensor<V>>,
        state: Option<&TensorMut>,
        next: &mut TensorMut,
    ) -> Result<Tensor<T>, Error> {
        let operands = [Some(self.raw()), Some(w.raw()), b.map(Tensor::raw)];
        convolution(operands, state, next).map(Tensor::from_raw)
    }

    /// The gated delta rule (Yang et al., 2024) with these queries. For each head and token, `S` being `[key_dim, value_dim]`:
    /// `S = e^gate · S`, then `S = S + k (beta · (v - Sᵀ k))ᵀ`, and the result is `Sᵀ q`.
    ///
    /// `q: [n, key_heads, key_dim], v: [n, heads, value_dim], state and next: [heads, key_dim, value_dim]
    /// → [n, heads, value_dim]`, all `float32`. `state` is `S` before the first token, zeros where there is none; `next`
    /// becomes what it is behind the last.
    ///
    /// # Errors
    /// [`Error::Op`] where sizes or types differ, or keys are wider than 256.
    pub fn gated_delta_rule(
        &self,
        step: &DeltaStep<'_>,
        state: Option<&TensorMut>,
        next: &mut TensorMut,
    ) -> Result<Tensor<T>, Error> {
        let operands = [self.raw(), step.k.raw(), step.v.raw(), step.gate.raw(), step.beta.raw()];
        delta_rule(operands, step.is_tiled, state, next).map(Tensor::from_raw)
    }
}

/// The sizes of a causal convolution, `[n, channels, taps]`, by its operands.
///
/// # Errors
/// Those that do not fit each other.
fn convolution_sizes([x, w, b]: [Option<&DynTensor>; 3]) -> Result<[usize; 3], OpError> {
    let (x, w) = (x.ok_or(OpError::Unknown)?, w.ok_or(OpError::Unknown)?);
    let [n, channels] = dims(x, "x", "2 dimensions, [n, channels]")?;
    if !x.dtype().is_float() {
        return Err(OpError::DType { operand: "x", expected: "float16 or float32 (cast it first)", found: x.dtype() });
    }
    let [w_channels, taps] = dims(w, "w", "2 dimensions, [channels, taps]")?;
    same("there must be a filter for each channel of x", w_channels, channels)?;
    for (operand, raw) in [("w", Some(w)), ("b", b)] {
        // A filter is shorter than a block.
        if let Some(found) = raw.map(DynTensor::dtype).filter(|&dtype| !is_dense(dtype)) {
            return Err(OpError::DType { operand, expected: "a float type", found });
        }
    }
    if let Some(b) = b {
        let [b_channels] = dims(b, "b", "1 dimension, [channels]")?;
        same("there must be a bias for each channel of x", b_channels, channels)?;
    }
    if !(1..=MAX_TAPS).contains(&taps) {
        return Err(OpError::Value { operand: "the number of taps", expected: "1 to 16", found: taps as f64 });
    }
    Ok([n, channels, taps])
}

/// The sizes of a gated delta rule and its number of tokens, by its operands.
///
/// # Errors
/// Those that do not fit each other.
fn delta_sizes([q, k, v, gate, beta]: [&DynTensor; 5], is_tiled: bool) -> Result<(usize, DeltaRule), OpError> {
    for (operand, raw) in [("q", q), ("k", k), ("v", v), ("gate", gate), ("beta", beta)] {
        if raw.dtype() != DType::F32 {
            return Err(OpError::DType { operand, expected: "float32 (cast it first)", found: raw.dtype() });
        }
    }
    let [n, key_heads, key_dim] = dims(q, "q", "3 dimensions, [n, key_heads, key_dim]")?;
    let k_dims: [usize; 3] = dims(k, "k", "3 dimensions, [n, key_heads, key_dim]")?;
    for (k, q) in k_dims.into_iter().zip([n, key_heads, key_dim]) {
        same("queries and keys differ in size", q, k)?;
    }
    let [v_n, heads, value_dim] = dims(v, "v", "3 dimensions, [n, heads, value_dim]")?;
    same("keys and values have different lengths", n, v_n)?;
    for (operand, raw) in [("gate", gate), ("beta", beta)] {
        let [of_n, of_heads] = dims(raw, operand, "2 dimensions, [n, heads]")?;
        same("there must be a gate and a beta for each token", n, of_n)?;
        same("there must be a gate and a beta for each head of v", heads, of_heads)?;
    }
    if key_heads == 0 || !heads.is_multiple_of(key_heads) {
        let rule = "the heads of v are no multiple of the heads of k";
        return Err(OpError::Sizes { rule, left: known(heads), right: known(key_heads) });
    }
    if key_dim > MAX_STATE_KEY_DIM {
        let found = key_dim as f64;
        return Err(OpError::Value { operand: "the size of a head of keys", expected: "256 or less", found });
    }
    Ok((n, DeltaRule { heads, key_heads, key_dim, value_dim, is_tiled }))
}

fn dims<const N: usize>(raw: &DynTensor, operand: &'static str, expected: &'static str) -> Result<[usize; N], OpError> {
    let dims = raw.shape().dims();
    <[usize; N]>::try_from(dims).map_err(|_| OpError::Rank { operand, expected, found: dims.len() })
}

fn same(rule: &'static str, left: usize, right: usize) -> Result<(), OpError> {
    super::rule::same(rule, known(left), known(right)).map(drop)
}

fn known(size: usize) -> Size {
    Size::Known(i64::try_from(size).unwrap_or(i64::MAX))
}

fn is_dense(dtype: DType) -> bool {
    dtype.is_float() || matches!(dtype, DType::Block(format) if format.block_elems == 1)
}

/// The memories of a state, which have these dimensions.
struct States<'a> {
    state: Option<&'a TensorMut>,
    next: &'a mut TensorMut,
}

impl States<'_> {
    fn check(&self, shape: &[usize]) -> Result<(), OpError> {
        for memory in self.state.into_iter().chain([&*self.next]) {
            let layout = memory.layout();
            if layout.dtype() != DType::F32 {
                let expected = "float32";
                return Err(OpError::DType { operand: "the state", expected, found: layout.dtype() });
            }
            let found = layout.shape().dims();
            if found.len() != shape.len() {
                let expected = "as many dimensions as a step's";
                return Err(OpError::Rank { operand: "the state", expected, found: found.len() });
            }
            for (&found, &size) in found.iter().zip(shape) {
                same("the state has other sizes than the step", found, size)?;
            }
        }
        Ok(())
    }
}

#[cold]
fn with_operands(op: &'static str, operands: &[Option<&DynTensor>], error: OpError) -> Error {
    match error {
        OpError::Device(error) => Error::Memory { op, error: *error },
        error => {
            let describe = |raw: &&DynTensor| format!("{}{}", raw.dtype(), raw.shape());
            Error::Op { op, operands: operands.iter().flatten().map(describe).collect(), error }
        }
    }
}

/// The operands contiguous, those that are not as copies.
fn contiguous<const N: usize>(operands: [Option<&DynTensor>; N]) -> Result<[Option<DynTensor>; N], Error> {
    let mut copies = [const { None }; N];
    for (copy, raw) in copies.iter_mut().zip(operands) {
        *copy = raw.map(DynTensor::contiguous).transpose()?;
    }
    Ok(copies)
}

fn check_devices(device: &Device, operands: &[Option<&DynTensor>]) -> Result<(), OpError> {
    let is_elsewhere = |raw: &&DynTensor| !raw.device().is_same(device);
    if operands.iter().flatten().any(is_elsewhere) { Err(OpError::Devices) } else { Ok(()) }
}

fn convolution(
    operands: [Option<&DynTensor>; 3],
    state: Option<&TensorMut>,
    next: &mut TensorMut,
) -> Result<DynTensor, Error> {
    let fail = |error| with_operands(CONVOLUTION, &operands, error);
    let [n, channels, taps] = convolution_sizes(operands).map_err(fail)?;
    let device = next.device().clone();
    check_devices(&device, &operands).map_err(fail)?;
    let mut states = States { state, next };
    states.check(&[taps - 1, channels]).map_err(fail)?;
    let copies = contiguous(operands)?;
    let [Some(x), Some(w), b] = &copies else { return Err(fail(OpError::Unknown)) };
    let layout = Layout::new(x.dtype(), [n, channels]);
    let mut lease = take(&device, &layout, Role::Activation, CONVOLUTION)?;
    let (x, w, b) = (x.operand(), w.operand(), b.as_ref().map(DynTensor::operand));
    if device.is_simulated() {
        let weights = [Some(&w), b.as_ref()].into_iter().flatten().filter(|weight| weight.is_weight);
        device.count_work(Work {
            weight_bytes: weights.map(|weight| (weight.n_elems() * weight.dtype.block_bytes()) as u64).sum(),
            cache_bytes: ((taps - 1) * channels * size_of::<f32>()) as u64,
            operations: 2.0 * (n * channels * taps) as f64,
        });
    }
    if device.is_gpu() {
        let sizes = [n, channels, taps];
        let ran = convolution_gpu(&device, [Some(&x), Some(&w), b.as_ref()], sizes, &mut states, &mut lease);
        ran.and_then(needs_program).map_err(fail)?;
    } else if !device.is_simulated() {
        let mut run = || -> Result<(), OpError> {
            let weights = (w.weight()?, b.as_ref().map(Operand::weight).transpose()?);
            let state = states.state.map(floats).transpose()?;
            let next = bytemuck::try_cast_slice_mut(states.next.bytes_mut());
            let next = next.map_err(|_| OpError::Unaligned { dtype: DType::F32 })?;
            let next = next.get_mut(..(taps - 1) * channels).unwrap_or_default();
            with_float!(x.dtype, "x", T => {
                let out = bytemuck::try_cast_slice_mut(lease.bytes_mut());
                let out = out.map_err(|_| OpError::Unaligned { dtype: x.dtype })?;
                let (x, threads) = (x.slice::<T>()?, device.threads());
                tl_kernels::causal_convolution(threads, x, weights, [channels, taps], state, next, out);
                Ok(())
            })
        };
        run().map_err(fail)?;
    }
    Ok(DynTensor::new(lease.share(), &layout))
}

/// What must be launched, since nobody else does it.
fn needs_program(ran: Dispatch) -> Result<(), OpError> {
    match ran {
        Dispatch::Launched => Ok(()),
        Dispatch::Unsupported => Err(OpError::UnsupportedOnGpu),
    }
}

/// All elements of a memory of `float32`.
fn floats(memory: &TensorMut) -> Result<&[f32], OpError> {
    let n_elems = memory.layout().shape().iter().product();
    let floats = bytemuck::try_cast_slice(memory.bytes()).map_err(|_| OpError::Unaligned { dtype: DType::F32 })?;
    Ok(floats.get(..n_elems).unwrap_or_default())
}

/// The results first, four to an invocation, then the state, an element to an invocation.
const CONVOLVE: &str = "let i = group * 256u + lane;
    let n_out = p.n * p.channels;
    let quads = (n_out + 3u) >> 2u;
    if i < quads {
        var v = vec4<f32>();
        for (var e = 0u; e < 4u; e++) {
            let at = min(i * 4u + e, n_out - 1u);
            let token = at / p.channels;
            let channel = at - token * p.channels;
            var sum = bias(channel);
            for (var j = 0u; j < p.taps; j++) {
                sum += load_w(p.w_offset + channel * p.taps + j) * input(token + j, channel);
            }
            v[e] = sum;
        }
        store4_out(i, v);
    } else if i - quads < (p.taps - 1u) * p.channels {
        let row = (i - quads) / p.channels;
        store_next(i - quads, input(p.n + row, i - quads - row * p.channels));
    }";

fn convolution_gpu(
    device: &Device,
    [x, w, b]: [Option<&Operand>; 3],
    [n, channels, taps]: [usize; 3],
    states: &mut States<'_>,
    lease: &mut tl_device::Lease,
) -> Result<Dispatch, OpError> {
    let (x, w) = (x.ok_or(OpError::Unknown)?, w.ok_or(OpError::Unknown)?);
    let n_invocations = (n * channels).div_ceil(4) + (taps - 1) * channels;
    let fits = [Some(x), Some(w), b].into_iter().flatten().all(Operand::fits_u32);
    if !fits || n_invocations > u32::MAX as usize / 8 {
        return Ok(Dispatch::Unsupported);
    }
    if n_invocations == 0 {
        return Ok(Dispatch::Launched);
    }
    let has_state = states.state.is_some();
    let (x_place, w_place, b_place) = (x.place()?, w.place()?, b.map(Operand::place).transpose()?);
    let source = |wgsl: Wgsl| {
        let mut wgsl = wgsl.read("x", x.dtype).read("w", w.dtype);
        if let Some(b) = b {
            wgsl = wgsl.read("b", b.dtype);
        }
        if has_state {
            wgsl = wgsl.read("state", DType::F32);
        }
        let bias = if b.is_some() { "load_b(p.b_offset + channel)" } else { "0.0" };
        let before = if has_state { "load_state(row * p.channels + channel)" } else { "0.0" };
        wgsl.write("out", x.dtype)
            .write_each("next", DType::F32)
            .params("n: u32, channels: u32, taps: u32, x_offset: u32, w_offset: u32, b_offset: u32")
            .text(&format!(
                "fn bias(channel: u32) -> f32 {{ return {bias}; }}
fn input(row: u32, channel: u32) -> f32 {{
    if row + 1u >= p.taps {{ return load_x(p.x_offset + (row + 1u - p.taps) * p.channels + channel); }}
    return {before};
}}"
            ))
            .main(WORKGROUP, CONVOLVE)
    };
    let dtypes = [x.dtype, w.dtype, b.map_or(DType::Bool, |b| b.dtype)];
    let flags = u32::from(has_state);
    let shader = ShaderVariant { name: CONVOLUTION, dtypes: &dtypes, flags, reports_faults: false, source: &source };
    let mut reads: SmallVec<[Binding; 4]> = SmallVec::from_slice(&[x_place.binding, w_place.binding]);
    reads.extend(b_place.as_ref().map(|place| place.binding));
    reads.extend(states.state.map(TensorMut::binding));
    let mut words: Immediates = [n, channels, taps].iter().map(|&size| size as u32).collect();
    words.extend([x_place.offset, w_place.offset, b_place.as_ref().map_or(0, |place| place.offset)]);
    let writes = [Binding::write(lease), states.next.binding_mut()];
    gpu::launch(device, &shader, &reads, &writes, &words, n_invocations.div_ceil(WORKGROUP as usize))
}

fn delta_rule(
    operands: [&DynTensor; 5],
    is_tiled: bool,
    state: Option<&TensorMut>,
    next: &mut TensorMut,
) -> Result<DynTensor, Error> {
    let optional = operands.map(Some);
    let fail = |error| with_operands(DELTA_RULE, &optional, error);
    let (n, sizes) = delta_sizes(operands, is_tiled).map_err(fail)?;
    let device = next.device().clone();
    check_devices(&device, &optional).map_err(fail)?;
    let DeltaRule { heads, key_dim, value_dim, .. } = sizes;
    let mut states = States { state, next };
    states.check(&[heads, key_dim, value_dim]).map_err(fail)?;
    let copies = contiguous(optional)?;
    let [Some(q), Some(k), Some(v), Some(gate), Some(beta)] = &copies else { return Err(fail(OpError::Unknown)) };
    let layout = Layout::new(DType::F32, [n, heads, value_dim]);
    let mut lease = take(&device, &layout, Role::Activation, DELTA_RULE)?;
    let inputs = [q.operand(), k.operand(), v.operand(), gate.operand(), beta.operand()];
    let state_len = heads * key_dim * value_dim;
    if device.is_simulated() {
        device.count_work(Work {
            weight_bytes: 0,
            cache_bytes: (state_len * size_of::<f32>()) as u64,
            // Products with k, with the difference, with q.
            operations: 6.0 * (n * state_len) as f64,
        });
    }
    if device.is_gpu() {
        let ran = delta_rule_gpu(&device, &inputs, (n, sizes), &mut states, &mut lease);
        ran.and_then(needs_program).map_err(fail)?;
    } else if !device.is_simulated() {
        let mut run = || -> Result<(), OpError> {
            let [q, k, v, gate, beta] = &inputs;
            let (q, k, v, gate, beta) = (q.slice()?, k.slice()?, v.slice()?, gate.slice()?, beta.slice()?);
            let state = states.state.map(floats).transpose()?;
            let unaligned = OpError::Unaligned { dtype: DType::F32 };
            let next = bytemuck::try_cast_slice_mut(states.next.bytes_mut()).map_err(|_| unaligned.clone())?;
            let next = next.get_mut(..state_len).unwrap_or_default();
            let out = bytemuck::try_cast_slice_mut(lease.bytes_mut()).map_err(|_| unaligned)?;
            let inputs = DeltaInputs { q, k, v, gate, beta };
            tl_kernels::gated_delta_rule(device.threads(), sizes, inputs, state, next, out);
            Ok(())
        };
        run().map_err(fail)?;
    }
    Ok(DynTensor::new(lease.share(), &layout))
}

/// Invocations of a workgroup of the delta rule, each with a column of a head's state of its own.
const COLUMNS: u32 = 64;

/// `KEY_DIM` and `STATE` stand for the number of elements of a key and for what the column is before the first token.
const DELTA: &str = "let across = (p.value_dim + 63u) / 64u;
    let head = group / across;
    if head >= p.heads { return; }
    let column = (group - head * across) * 64u + lane;
    let is_inside = column < p.value_dim;
    let key_head = select(head / (p.heads / p.key_heads), head % p.key_heads, p.is_tiled != 0u);
    let first = head * KEY_DIMu * p.value_dim + column;
    if is_inside {
        for (var i = 0u; i < KEY_DIMu; i++) { s[i] = STATE; }
    }
    for (var token = 0u; token < p.n; token++) {
        let key_at = (token * p.key_heads + key_head) * KEY_DIMu;
        for (var i = lane; i < KEY_DIMu; i += 64u) {
            keys[i] = load_k(p.k_offset + key_at + i);
            queries[i] = load_q(p.q_offset + key_at + i);
        }
        workgroupBarrier();
        if is_inside {
            let at = token * p.heads + head;
            let decay = exp(load_gate(p.gate_offset + at));
            var known = 0.0;
            for (var i = 0u; i < KEY_DIMu; i++) {
                let element = s[i] * decay;
                s[i] = element;
                known += element * keys[i];
            }
            let value = load_v(p.v_offset + at * p.value_dim + column);
            let change = (value - known) * load_beta(p.beta_offset + at);
            var sum = 0.0;
            for (var i = 0u; i < KEY_DIMu; i++) {
                let element = s[i] + keys[i] * change;
                s[i] = element;
                sum += element * queries[i];
            }
            store_out(at * p.value_dim + column, sum);
        }
        workgroupBarrier();
    }
    if is_inside {
        for (var i = 0u; i < KEY_DIMu; i++) { store_next(first + i * p.value_dim, s[i]); }
    }";

fn delta_rule_gpu(
    device: &Device,
    inputs: &[Operand; 5],
    (n, sizes): (usize, DeltaRule),
    states: &mut States<'_>,
    lease: &mut tl_device::Lease,
) -> Result<Dispatch, OpError> {
    let DeltaRule { heads, key_heads, key_dim, value_dim, is_tiled } = sizes;
    let most = (heads * key_dim * value_dim).max(n * heads * value_dim);
    if !inputs.iter().all(Operand::fits_u32) || most > u32::MAX as usize / 8 {
        return Ok(Dispatch::Unsupported);
    }
    let groups = heads * value_dim.div_ceil(COLUMNS as usize);
    if groups == 0 {
        return Ok(Dispatch::Launched);
    }
    let has_state = states.state.is_some();
    const NAMES: [&str; 5] = ["q", "k", "v", "gate", "beta"];
    let source = |wgsl: Wgsl| {
        let mut wgsl = NAMES.iter().fold(wgsl, |wgsl, name| wgsl.read(name, DType::F32));
        if has_state {
            wgsl = wgsl.read("state", DType::F32);
        }
        let state = if has_state { "load_state(first + i * p.value_dim)" } else { "0.0" };
        // An array has an element or more.
        let room = key_dim.max(1);
        wgsl.write_each("out", DType::F32)
            .write_each("next", DType::F32)
            .params(
                "n: u32, heads: u32, key_heads: u32, value_dim: u32, is_tiled: u32, q_offset: u32, k_offset: u32,
    v_offset: u32, gate_offset: u32, beta_offset: u32",
            )
            .text(&format!(
                "var<private> s: array<f32, {room}>;
var<workgroup> keys: array<f32, {room}>;
var<workgroup> queries: array<f32, {room}>;"
            ))
            .main(COLUMNS, &DELTA.replace("KEY_DIM", &key_dim.to_string()).replace("STATE", state))
    };
    let flags = (key_dim as u32) << 1 | u32::from(has_state);
    let shader =
        ShaderVariant { name: DELTA_RULE, dtypes: &[DType::F32], flags, reports_faults: false, source: &source };
    let mut reads: SmallVec<[Binding; 6]> = SmallVec::new();
    let mut words: Immediates = [n, heads, key_heads, value_dim].iter().map(|&size| size as u32).collect();
    words.push(u32::from(is_tiled));
    for operand in inputs {
        let place = operand.place()?;
        reads.push(place.binding);
        words.push(place.offset);
    }
    reads.extend(states.state.map(TensorMut::binding));
    let writes = [Binding::write(lease), states.next.binding_mut()];
    gpu::launch(device, &shader, &reads, &writes, &words, groups)
}

/// The dimensions of the state of a convolution.
pub fn convolution_state(channels: usize, taps: usize) -> Layout {
    Layout::new(DType::F32, [taps.saturating_sub(1), channels])
}

/// The dimensions of the state of a gated delta rule.
pub fn delta_state(heads: usize, key_dim: usize, value_dim: usize) -> Layout {
    Layout::new(DType::F32, [heads, key_dim, value_dim])
}
