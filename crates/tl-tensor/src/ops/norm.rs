//! Normalizations over the last dimension, and SwiGLU.

use super::rule::{RuleArgs, Size, TensorType, same, weight_rule};
use super::{Arg, Call, Default, Group, Kind, Op, Run, optional, required, with_float};
use crate::{Error, Fault, Tensor};

pub(super) static OPS: &[&Op] = &[&RMS_NORM, &LAYER_NORM, &SWIGLU];

/// `x: [.., n]` of floats with parameters of size `[n]`, where they are given and known.
fn rule(args: &RuleArgs, parameters: &[(usize, &'static str)]) -> Result<TensorType, Fault> {
    let (x, dtype) = args.tensor(0)?;
    if let Some(found) = dtype.filter(|dtype| !dtype.is_float()) {
        return Err(Fault::DType { operand: "x", expected: "float16 or float32 (cast it first)", found });
    }
    let Some(&n) = x.last() else {
        return Err(Fault::Rank { operand: "x", expected: "1 dimension or more, [.., n]", found: 0 });
    };
    for &(index, operand) in parameters {
        match args.tensor(index) {
            Ok((&[size], dtype)) => {
                weight_rule(operand, dtype)?;
                same("the parameter has another size than the last dimension of x", size, n)?;
            }
            Ok((sizes, _)) => return Err(Fault::Rank { operand, expected: "1 dimension, [n]", found: sizes.len() }),
            Err(_) => {}
        }
    }
    Ok(TensorType::new(dtype, x))
}

fn eps(call: &Call, index: usize) -> Result<f32, Fault> {
    let eps = call.number(index)?;
    if !(eps >= 0.0 && eps.is_finite()) {
        return Err(Fault::Value { operand: "eps", expected: "0 or more", found: eps });
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
        optional("eps", Kind::Number, Default::Number(1e-5)),
    ],
    rule: |args| rule(args, &[(1, "w")]),
    run: Run::ContiguousKernel(|call| {
        let (x, weight, eps) = (call.operand(0)?, call.operand(1)?.weight()?, eps(call, 2)?);
        let (n, threads) = (x.dims[x.dims.len() - 1], call.threads);
        with_float!(x.dtype, "x", T => {
            tl_kernels::rms_norm::<T>(threads, x.slice()?, weight, n, eps, call.out()?);
            Ok(())
        })
    }),
    gpu: None,
};

static LAYER_NORM: Op = Op {
    name: "layer_norm",
    group: Group::Transformer,
    doc: "`(x - mean(x)) / sqrt(var(x) + eps) · w + b` over the last dimension, in `float32` (Ba et al., 2016). \
          `x: [.., n], w: [n], b: [n] → [.., n]`.",
    params: &[
        required("x", Kind::Tensor),
        required("w", Kind::Weight),
        optional("b", Kind::Weight, Default::Absent),
        optional("eps", Kind::Number, Default::Number(1e-5)),
    ],
    rule: |args| rule(args, &[(1, "w"), (2, "b")]),
    run: Run::ContiguousKernel(|call| {
        let (x, weight, eps) = (call.operand(0)?, call.operand(1)?.weight()?, eps(call, 3)?);
        let bias = call.optional_operand(2).map(|bias| bias.weight()).transpose()?;
        let (n, threads) = (x.dims[x.dims.len() - 1], call.threads);
        with_float!(x.dtype, "x", T => {
            tl_kernels::layer_norm::<T>(threads, x.slice()?, weight, bias, n, eps, call.out()?);
            Ok(())
        })
    }),
    gpu: None,
};

static SWIGLU: Op = Op {
    name: "swiglu",
    group: Group::Transformer,
    doc: "`silu(gate) · up`, in one pass (Shazeer, 2020). `gate: [..], up: [..] → [..]`.",
    params: &[required("gate", Kind::Tensor), required("up", Kind::Tensor)],
    rule: |args| {
        let dtype = args.common_dtype(&[0, 1])?;
        if let Some(found) = dtype.filter(|dtype| !dtype.is_float()) {
            return Err(Fault::DType { operand: "gate", expected: "float16 or float32 (cast it first)", found });
        }
        let ((gate, _), (up, _)) = (args.tensor(0)?, args.tensor(1)?);
        if gate.len() != up.len() {
            return Err(Fault::Rank { operand: "up", expected: "as many dimensions as gate", found: up.len() });
        }
        let sizes: Result<super::Sizes, Fault> =
            gate.iter().zip(up).map(|(&a, &b): (&Size, &Size)| same("gate and up differ", a, b)).collect();
        Ok(TensorType::new(dtype, sizes?))
    },
    run: Run::ContiguousKernel(|call| {
        let (gate, up, threads) = (call.operand(0)?, call.operand(1)?, call.threads);
        with_float!(gate.dtype, "gate", T => {
            tl_kernels::swiglu::<T>(threads, gate.slice()?, up.slice()?, call.out()?);
            Ok(())
        })
    }),
    gpu: None,
};

impl<T> Tensor<T> {
    /// Root-mean-square normalization over the last dimension: see the operation `rms_norm`.
    ///
    /// # Errors
    /// [`Error::Op`] where `w` has another size than the last dimension.
    pub fn rms_norm<U>(&self, w: &Tensor<U>, eps: f32) -> Result<Tensor<T>, Error> {
        self.apply(&RMS_NORM, &[w.into(), Arg::Number(f64::from(eps))])
    }

    /// Layer normalization over the last dimension: see the operation `layer_norm`.
    ///
    /// # Errors
    /// [`Error::Op`] where `w` or `b` has another size than the last dimension.
    pub fn layer_norm<U>(&self, w: &Tensor<U>, b: Option<&Tensor<U>>, eps: f32) -> Result<Tensor<T>, Error> {
        self.apply(&LAYER_NORM, &[w.into(), b.map_or(Arg::None, Arg::from), Arg::Number(f64::from(eps))])
    }

    /// `silu(self) · up`.
    ///
    /// # Errors
    /// [`Error::Op`] where the shapes or types differ.
    pub fn swiglu<U>(&self, up: &Tensor<U>) -> Result<Tensor<T>, Error> {
        self.apply(&SWIGLU, &[up.into()])
    }
}
