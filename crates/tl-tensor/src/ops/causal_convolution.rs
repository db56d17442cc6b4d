//! `causal_convolution`: a short filter for each channel, over the tokens so far.

use smallvec::SmallVec;
use tl_device::{Binding, DType, Device, Layout, Role, Work};
use tl_kernels::MAX_TAPS;

use super::state::{States, check_devices, contiguous, dims, floats, is_dense, needs_program, op_error, same};
use crate::gpu::{Immediates, ShaderVariant, WORKGROUP, Wgsl, launch};
use crate::op::Dispatch;
use crate::op::kernel::with_float;
use crate::operand::Operand;
use crate::tensor::{DynTensor, Tensor, take};
use crate::{Error, OpError, TensorMut};

const NAME: &str = "causal_convolution";

impl<T> Tensor<T> {
    /// A causal convolution with a filter for each channel:
    /// `result[t, c] = b[c] + sum over j of w[c, j] · x[t + j - (taps - 1), c]`, in `float32`.
    ///
    /// `x: [n, channels], w: [channels, taps], b: [channels], state and next: float32[taps - 1, channels] → [n,
    /// channels]`. The rows of `state` are the tokens before the first, zeros where there is none; `next` receives the
    /// state after the last token.
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
        let operands = [Some(self.as_dyn()), Some(w.as_dyn()), b.map(Tensor::as_dyn)];
        convolution(operands, state, next).map(Tensor::from_dyn)
    }
}

/// The layout of the state of a convolution.
pub fn convolution_state(channels: usize, taps: usize) -> Layout {
    Layout::new(DType::F32, [taps.saturating_sub(1), channels])
}

/// The sizes of a causal convolution, `[n, channels, taps]`, by its operands.
///
/// # Errors
/// The first operand that does not fit the others.
fn convolution_sizes([x, w, b]: [Option<&DynTensor>; 3]) -> Result<[usize; 3], OpError> {
    let (x, w) = (x.ok_or(OpError::Unknown)?, w.ok_or(OpError::Unknown)?);
    let [n, channels] = dims(x, "x", "2 dimensions, [n, channels]")?;
    if !x.dtype().is_float() {
        return Err(OpError::DType { operand: "x", expected: "float16 or float32 (cast it first)", found: x.dtype() });
    }
    let [w_channels, taps] = dims(w, "w", "2 dimensions, [channels, taps]")?;
    same("there must be a filter for each channel of x", w_channels, channels)?;
    for (operand, tensor) in [("w", Some(w)), ("b", b)] {
        // A filter is shorter than a block.
        if let Some(found) = tensor.map(DynTensor::dtype).filter(|&dtype| !is_dense(dtype)) {
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

fn convolution(
    operands: [Option<&DynTensor>; 3],
    state: Option<&TensorMut>,
    next: &mut TensorMut,
) -> Result<DynTensor, Error> {
    let fail = |error| op_error(NAME, &operands, error);
    let [n, channels, taps] = convolution_sizes(operands).map_err(fail)?;
    let device = next.device().clone();
    check_devices(&device, &operands).map_err(fail)?;
    let mut states = States { state, next };
    states.check(&[taps - 1, channels]).map_err(fail)?;
    let copies = contiguous(operands)?;
    let [Some(x), Some(w), b] = &copies else { return Err(fail(OpError::Unknown)) };
    let layout = Layout::new(x.dtype(), [n, channels]);
    let mut lease = take(&device, &layout, Role::Activation, NAME)?;
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

/// The first invocations compute four results each, the others copy an element of the state each.
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
    let (x_place, w_place, b_place) = (x.on_gpu()?, w.on_gpu()?, b.map(Operand::on_gpu).transpose()?);
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
    let shader = ShaderVariant { name: NAME, dtypes: &dtypes, flags, reports_faults: false, source: &source };
    let mut reads: SmallVec<[Binding; 4]> = SmallVec::from_slice(&[x_place.binding, w_place.binding]);
    reads.extend(b_place.as_ref().map(|place| place.binding));
    reads.extend(states.state.map(TensorMut::binding));
    let mut words: Immediates = [n, channels, taps].iter().map(|&size| size as u32).collect();
    words.extend([x_place.offset, w_place.offset, b_place.as_ref().map_or(0, |place| place.offset)]);
    let writes = [Binding::write(lease), states.next.binding_mut()];
    launch(device, &shader, &reads, &writes, &words, n_invocations.div_ceil(WORKGROUP as usize))
}
