//! `gated_delta_rule`: linear attention whose state is corrected from token to token.

use smallvec::SmallVec;
use tl_device::{Binding, DType, Device, Layout, Role, Work};
use tl_kernels::{DeltaInputs, DeltaRule, MAX_STATE_KEY_DIM};

use super::state::{States, check_devices, contiguous, dims, floats, known, needs_program, op_error, same};
use crate::gpu::{Immediates, ShaderVariant, Wgsl, launch};
use crate::op::Dispatch;
use crate::operand::Operand;
use crate::tensor::{DynTensor, Tensor, take};
use crate::{Error, OpError, TensorMut};

const NAME: &str = "gated_delta_rule";

/// The operands of the gated delta rule beside the queries: see [`Tensor::gated_delta_rule`].
#[derive(Clone, Copy, Debug)]
pub struct DeltaStep<'a> {
    /// Keys `[n, key_heads, key_dim]`.
    pub k: &'a Tensor,
    /// Values `[n, heads, value_dim]`.
    pub v: &'a Tensor,
    /// Logarithms of the state's decay, `[n, heads]`.
    pub gate: &'a Tensor,
    /// The share of the difference that is added to the state, `[n, heads]`.
    pub beta: &'a Tensor,
    /// Whether head `h` reads the keys of head `h % key_heads`; else of head `h / (heads / key_heads)`.
    pub is_tiled: bool,
}

impl<T> Tensor<T> {
    /// The gated delta rule (Yang et al., 2024) with these queries. For each head and token, `S` being `[key_dim,
    /// value_dim]`: `S = e^gate · S`, then `S = S + k (beta · (v - Sᵀ k))ᵀ`, and the result is `Sᵀ q`.
    ///
    /// `q: [n, key_heads, key_dim], v: [n, heads, value_dim], state and next: [heads, key_dim, value_dim] → [n, heads,
    /// value_dim]`, all `float32`. `state` is `S` before the first token, zeros where there is none; `next` receives
    /// `S` after the last.
    ///
    /// # Errors
    /// [`Error::Op`] where sizes or types differ, or keys are wider than 256.
    pub fn gated_delta_rule(
        &self,
        step: &DeltaStep<'_>,
        state: Option<&TensorMut>,
        next: &mut TensorMut,
    ) -> Result<Tensor<T>, Error> {
        let operands = [self.as_dyn(), step.k.as_dyn(), step.v.as_dyn(), step.gate.as_dyn(), step.beta.as_dyn()];
        delta_rule(operands, step.is_tiled, state, next).map(Tensor::from_dyn)
    }
}

/// The layout of the state of a gated delta rule.
pub fn delta_state(heads: usize, key_dim: usize, value_dim: usize) -> Layout {
    Layout::new(DType::F32, [heads, key_dim, value_dim])
}
/// The sizes of a gated delta rule and its number of tokens, by its operands.
///
/// # Errors
/// The first operand that does not fit the others.
fn delta_sizes([q, k, v, gate, beta]: [&DynTensor; 5], is_tiled: bool) -> Result<(usize, DeltaRule), OpError> {
    for (operand, tensor) in [("q", q), ("k", k), ("v", v), ("gate", gate), ("beta", beta)] {
        if tensor.dtype() != DType::F32 {
            return Err(OpError::DType { operand, expected: "float32 (cast it first)", found: tensor.dtype() });
        }
    }
    let [n, key_heads, key_dim] = dims(q, "q", "3 dimensions, [n, key_heads, key_dim]")?;
    let k_dims: [usize; 3] = dims(k, "k", "3 dimensions, [n, key_heads, key_dim]")?;
    for (k, q) in k_dims.into_iter().zip([n, key_heads, key_dim]) {
        same("queries and keys differ in size", q, k)?;
    }
    let [v_n, heads, value_dim] = dims(v, "v", "3 dimensions, [n, heads, value_dim]")?;
    same("keys and values have different lengths", n, v_n)?;
    for (operand, tensor) in [("gate", gate), ("beta", beta)] {
        let [of_n, of_heads] = dims(tensor, operand, "2 dimensions, [n, heads]")?;
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

fn delta_rule(
    operands: [&DynTensor; 5],
    is_tiled: bool,
    state: Option<&TensorMut>,
    next: &mut TensorMut,
) -> Result<DynTensor, Error> {
    let optional = operands.map(Some);
    let fail = |error| op_error(NAME, &optional, error);
    let (n, sizes) = delta_sizes(operands, is_tiled).map_err(fail)?;
    let device = next.device().clone();
    check_devices(&device, &optional).map_err(fail)?;
    let DeltaRule { heads, key_dim, value_dim, .. } = sizes;
    let mut states = States { state, next };
    states.check(&[heads, key_dim, value_dim]).map_err(fail)?;
    let copies = contiguous(optional)?;
    let [Some(q), Some(k), Some(v), Some(gate), Some(beta)] = &copies else { return Err(fail(OpError::Unknown)) };
    let layout = Layout::new(DType::F32, [n, heads, value_dim]);
    let mut lease = take(&device, &layout, Role::Activation, NAME)?;
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

/// Invocations of a workgroup, each with its own column of a head's state.
const COLUMNS: u32 = 64;

/// `KEY_DIM` stands for the number of elements of a key, `STATE` for an element of the column before the first token.
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
        // WGSL has no empty arrays.
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
    let shader = ShaderVariant { name: NAME, dtypes: &[DType::F32], flags, reports_faults: false, source: &source };
    let mut reads: SmallVec<[Binding; 6]> = SmallVec::new();
    let mut words: Immediates = [n, heads, key_heads, value_dim].iter().map(|&size| size as u32).collect();
    words.push(u32::from(is_tiled));
    for operand in inputs {
        let place = operand.on_gpu()?;
        reads.push(place.binding);
        words.push(place.offset);
    }
    reads.extend(states.state.map(TensorMut::binding));
    let writes = [Binding::write(lease), states.next.binding_mut()];
    launch(device, &shader, &reads, &writes, &words, groups)
}
