//! Normalizations over the last dimension, and SwiGLU.

use super::gpu::{Immediates, ShaderVariant, WORKGROUP, Wgsl};
use super::rows_gpu::RowMap;
use super::rule::{RuleArgs, Size, TensorType, same, weight_rule};
use super::{Arg, Call, DefaultValue, Dispatch, Group, Kind, Op, OpKernel, optional, required, with_float};
use crate::{Error, OpError, Tensor};

pub(super) static OPS: &[&Op] = &[&RMS_NORM, &LAYER_NORM, &SWIGLU];

/// `x: [.., n]` of floats with parameters of size `[n]`, where they are given and known.
fn rule(args: &RuleArgs, parameters: &[(usize, &'static str)]) -> Result<TensorType, OpError> {
    let (x, dtype) = args.tensor(0)?;
    if let Some(found) = dtype.filter(|dtype| !dtype.is_float()) {
        return Err(OpError::DType { operand: "x", expected: "float16 or float32 (cast it first)", found });
    }
    let Some(&n) = x.last() else {
        return Err(OpError::Rank { operand: "x", expected: "1 dimension or more, [.., n]", found: 0 });
    };
    for &(index, operand) in parameters {
        match args.tensor(index) {
            Ok((&[size], dtype)) => {
                weight_rule(operand, dtype)?;
                same("the parameter has another size than the last dimension of x", size, n)?;
            }
            Ok((sizes, _)) => return Err(OpError::Rank { operand, expected: "1 dimension, [n]", found: sizes.len() }),
            Err(_) => {}
        }
    }
    Ok(TensorType::new(dtype, x))
}

fn eps(call: &Call, index: usize) -> Result<f32, OpError> {
    let eps = call.number(index)?;
    if !(eps >= 0.0 && eps.is_finite()) {
        return Err(OpError::Value { operand: "eps", expected: "0 or more", found: eps });
    }
    Ok(eps as f32)
}

static RMS_NORM: Op = Op {
    name: "rms_norm",
    group: Group::Transformer,
    doc: "`x / sqrt(mean(x²) + eps) · w` over the last dimension, in `float32` (Zhang, Sennrich, 2019). \
          `x: [.., n], w: [n] → [.., n]`.",
    params: &[
        required("x", Kind::Tensor),
        required("w", Kind::Weight),
        optional("eps", Kind::Number, DefaultValue::Number(1e-5)),
    ],
    rule: |args| rule(args, &[(1, "w")]),
    kernel: OpKernel::ContiguousKernel(|call| {
        let (x, weight, eps) = (call.operand(0)?, call.operand(1)?.weight()?, eps(call, 2)?);
        let (n, threads) = (x.dims[x.dims.len() - 1], call.threads);
        with_float!(x.dtype, "x", T => {
            tl_kernels::rms_norm::<T>(threads, x.slice()?, weight, n, eps, call.out()?);
            Ok(())
        })
    }),
    gpu: Some(|call| {
        let (w, eps) = (call.operand(1)?, eps(call, 2)?);
        let weights = [("w", w)];
        RowMap { name: "rms_norm", statistics: [ROOT_MEAN_SQUARE, ""], formula: "x * a * w", weights: &weights, eps }
            .launch(call)
    }),
};

static LAYER_NORM: Op = Op {
    name: "layer_norm",
    group: Group::Transformer,
    doc: "`(x - mean(x)) / sqrt(var(x) + eps) · w + b` over the last dimension, in `float32` (Ba et al., 2016). \
          `x: [.., n], w: [n], b: [n] → [.., n]`.",
    params: &[
        required("x", Kind::Tensor),
        required("w", Kind::Weight),
        optional("b", Kind::Weight, DefaultValue::Absent),
        optional("eps", Kind::Number, DefaultValue::Number(1e-5)),
    ],
    rule: |args| rule(args, &[(1, "w"), (2, "b")]),
    kernel: OpKernel::ContiguousKernel(|call| {
        let (x, weight, eps) = (call.operand(0)?, call.operand(1)?.weight()?, eps(call, 3)?);
        let bias = call.optional_operand(2).map(|bias| bias.weight()).transpose()?;
        let (n, threads) = (x.dims[x.dims.len() - 1], call.threads);
        with_float!(x.dtype, "x", T => {
            tl_kernels::layer_norm::<T>(threads, x.slice()?, weight, bias, n, eps, call.out()?);
            Ok(())
        })
    }),
    gpu: Some(|call| {
        let (w, b, eps) = (call.operand(1)?, call.optional_operand(2), eps(call, 3)?);
        let program =
            RowMap { name: "layer_norm", statistics: [MEAN_AND_VARIANCE, ""], formula: "", weights: &[], eps };
        match b {
            Some(b) => {
                let weights = [("w", w), ("bias", b)];
                RowMap { weights: &weights, formula: "(x - a) * b * w + bias", ..program }.launch(call)
            }
            None => RowMap { weights: &[("w", w)], formula: "(x - a) * b * w", ..program }.launch(call),
        }
    }),
};

static SWIGLU: Op = Op {
    name: "swiglu",
    group: Group::Transformer,
    doc: "`silu(gate) · up`, in one pass (Shazeer, 2020). `gate: [..], up: [..] → [..]`.",
    params: &[required("gate", Kind::Tensor), required("up", Kind::Tensor)],
    rule: |args| {
        let dtype = args.common_dtype(&[0, 1])?;
        if let Some(found) = dtype.filter(|dtype| !dtype.is_float()) {
            return Err(OpError::DType { operand: "gate", expected: "float16 or float32 (cast it first)", found });
        }
        let ((gate, _), (up, _)) = (args.tensor(0)?, args.tensor(1)?);
        if gate.len() != up.len() {
            return Err(OpError::Rank { operand: "up", expected: "as many dimensions as gate", found: up.len() });
        }
        let sizes: Result<super::Sizes, OpError> =
            gate.iter().zip(up).map(|(&a, &b): (&Size, &Size)| same("gate and up differ", a, b)).collect();
        Ok(TensorType::new(dtype, sizes?))
    },
    kernel: OpKernel::ContiguousKernel(|call| {
        let (gate, up, threads) = (call.operand(0)?, call.operand(1)?, call.threads);
        with_float!(gate.dtype, "gate", T => {
            tl_kernels::swiglu::<T>(threads, gate.slice()?, up.slice()?, call.out()?);
            Ok(())
        })
    }),
    gpu: Some(swiglu_gpu),
};

/// The factor of a row.
const ROOT_MEAN_SQUARE: &str = "
fn statistics(start: u32) -> vec2<f32> {
    var sum = 0.0;
    for (var j = own_lane; j * 4u < p.n; j += {lanes}u) {
        let x = row4(start, j, 0.0);
        sum += dot(x, x);
    }
    return vec2<f32>(1.0 / sqrt(all_sum(sum) / f32(p.n) + p.eps), 0.0);
}";

/// Mean and factor of a row. Deviations are squared after the mean is known: squares of large values would cancel. The mean
/// is taken of differences to the first element, so that of equal elements it is their value to the last bit.
const MEAN_AND_VARIANCE: &str = "
fn statistics(start: u32) -> vec2<f32> {
    var sum = vec4<f32>();
    let near = row4(start, 0u, 0.0).x;
    for (var j = own_lane; j * 4u < p.n; j += {lanes}u) { sum += row4(start, j, near) - near; }
    let mean = near + all_sum(dot(sum, vec4<f32>(1.0))) / f32(p.n);
    var squares = 0.0;
    for (var j = own_lane; j * 4u < p.n; j += {lanes}u) {
        let x = row4(start, j, mean) - mean;
        squares += dot(x, x);
    }
    return vec2<f32>(mean, 1.0 / sqrt(all_sum(squares) / f32(p.n) + p.eps));
}";

fn swiglu_gpu(call: &mut Call) -> Result<Dispatch, OpError> {
    let (gate, up) = (call.operand(0)?, call.operand(1)?);
    if !(gate.fits_u32() && up.fits_u32()) {
        return Ok(Dispatch::Unsupported);
    }
    let is_wide = gate.offset.is_multiple_of(4) && up.offset.is_multiple_of(4);
    let dtype = call.dtype;
    let source = |wgsl: Wgsl| {
        let (wgsl, load) = if is_wide {
            let load = "let g = load4_gate((p.gate >> 2u) + four); let u = load4_up((p.up >> 2u) + four);";
            (wgsl.read4("gate", dtype).read4("up", dtype), load)
        } else {
            let load = "let g_at = p.gate + four * 4u;
    let u_at = p.up + four * 4u;
    let g = vec4<f32>(load_gate(g_at), load_gate(g_at + 1u), load_gate(g_at + 2u), load_gate(g_at + 3u));
    let u = vec4<f32>(load_up(u_at), load_up(u_at + 1u), load_up(u_at + 2u), load_up(u_at + 3u));";
            (wgsl.read("gate", dtype).read("up", dtype), load)
        };
        wgsl.write("out", dtype).params("n: u32, gate: u32, up: u32").main(
            WORKGROUP,
            &format!(
                "let four = group * {WORKGROUP}u + lane;
    if four * 4u >= p.n {{ return; }}
    {load}
    store4_out(four, g / (1.0 + exp(-g)) * u);"
            ),
        )
    };
    let (gate, up, n) = (gate.place()?, up.place()?, call.n_out());
    let flags = u32::from(is_wide);
    let shader = ShaderVariant { name: "swiglu", dtypes: &[dtype], flags, reports_faults: false, source: &source };
    let words = Immediates::from_slice(&[n as u32, gate.offset, up.offset]);
    call.launch(&shader, &[gate.binding, up.binding], &words, n.div_ceil(4 * WORKGROUP as usize))
}

impl<T> Tensor<T> {
    /// Root-mean-square normalization over the last dimension: see the operation `rms_norm`.
    ///
    /// # Errors
    /// [`Error::Op`] where `w` has another size than the last dimension.
    pub fn rms_norm<U>(&self, w: &Tensor<U>, eps: f64) -> Result<Tensor<T>, Error> {
        self.apply(&RMS_NORM, &[w.into(), Arg::Number(eps)])
    }

    /// Layer normalization over the last dimension: see the operation `layer_norm`.
    ///
    /// # Errors
    /// [`Error::Op`] where `w` or `b` has another size than the last dimension.
    pub fn layer_norm<U>(&self, w: &Tensor<U>, b: Option<&Tensor<U>>, eps: f64) -> Result<Tensor<T>, Error> {
        self.apply(&LAYER_NORM, &[w.into(), b.map_or(Arg::None, Arg::from), Arg::Number(eps)])
    }

    /// `silu(self) · up`.
    ///
    /// # Errors
    /// [`Error::Op`] where the shapes or types differ.
    pub fn swiglu<U>(&self, up: &Tensor<U>) -> Result<Tensor<T>, Error> {
        self.apply(&SWIGLU, &[up.into()])
    }
}
