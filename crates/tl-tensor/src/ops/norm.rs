//! `rms_norm` and `layer_norm`: normalizations over the last dimension.

use crate::gpu::rows::RowMap;
use crate::op::kernel::with_float;
use crate::op::rule::{same, weight_rule};
use crate::op::{Arg, Call, DefaultValue, Group, Kind, Op, OpKernel, RuleArgs, TensorType, optional, required};
use crate::tensor::Tensor;
use crate::{Error, OpError};

pub(super) static OPS: &[&Op] = &[&RMS_NORM, &LAYER_NORM];

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
    kernel: OpKernel::Contiguous(|call| {
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
    kernel: OpKernel::Contiguous(|call| {
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

/// Mean and factor of a row. Deviations are squared after the mean is known: squares of large values would cancel. The
/// mean is computed from differences to the first element, so that the mean of equal elements is exactly their value.
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
}
