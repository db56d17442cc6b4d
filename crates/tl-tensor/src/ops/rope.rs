//! `rope`: rotary position embedding.

use tl_device::DType;
use tl_kernels::{RopeStyle, Rotation};

use super::rope_gpu;
use crate::op::kernel::with_float;
use crate::op::rule::{same, weight_rule};
use crate::op::{
    Arg, Call, DefaultValue, Dispatch, Group, Kind, Op, OpKernel, RuleArgs, TensorType, optional, required,
};
use crate::size::Size;
use crate::tensor::Tensor;
use crate::{Error, OpError};

pub(super) static OPS: &[&Op] = &[&ROPE];

static ROPE: Op = Op {
    name: "rope",
    group: Group::Transformer,
    doc: "Rotates the pairs `(x[2i], x[2i + 1])` of each head by the angle `p · base^(-2i/dims) / scale / factors[i]`, `p` being \
          `pos` for the first token and one more for each that follows, or of token `t` `pos[t]` where `pos` is a tensor (Su et al., 2021). `dims`, all of the head unless given, says how \
          many elements of a head are rotated, the first ones; the others stay. With `halves` the pairs are `(x[i], x[i + dims/2])`. \
          Sines and cosines are multiplied by `magnitude`. `x: [n, heads, d], pos: int or int32[n], factors: [dims/2] → [n, heads, d]`.",
    params: &[
        required("x", Kind::Tensor),
        optional("pos", Kind::IntOrIds, DefaultValue::Int(0)),
        optional("base", Kind::Number, DefaultValue::Number(10000.0)),
        optional("dims", Kind::Int, DefaultValue::Absent),
        optional("halves", Kind::Bool, DefaultValue::Bool(false)),
        optional("scale", Kind::Number, DefaultValue::Number(1.0)),
        optional("factors", Kind::Weight, DefaultValue::Absent),
        optional("magnitude", Kind::Number, DefaultValue::Number(1.0)),
    ],
    rule,
    kernel: OpKernel::Contiguous(|call| {
        let x = call.operand(0)?;
        let (n_tokens, n_heads, head_dim, threads) = (x.dims[0], x.dims[1], x.dims[2], call.threads);
        let (factors, positions) = (call.optional_operand(FACTORS), call.optional_operand(POS));
        let positions = positions.as_ref().map(|positions| positions.slice::<i32>()).transpose()?;
        if let Some(found) = positions.and_then(|positions| positions.iter().find(|pos| **pos < 0)) {
            return Err(OpError::Value { operand: "pos", expected: "0 or more", found: f64::from(*found) });
        }
        let rotation = Rotation {
            rotary_dim: rotary_dim(call, head_dim)?,
            pos: if positions.is_none() { call.int(POS)? as usize } else { 0 },
            positions,
            base: base(call)?,
            style: style(call),
            scale: scale(call)?,
            factors: factors.map(|factors| factors.weight()).transpose()?,
            magnitude: magnitude(call)?,
        };
        with_float!(x.dtype, "x", T => {
            tl_kernels::rope::<T>(threads, x.slice()?, n_tokens, n_heads, head_dim, rotation, call.out()?);
            Ok(())
        })
    }),
    gpu: Some(|call| {
        let x = call.operand(0)?;
        if call.optional_operand(POS).is_some() {
            return Ok(Dispatch::Unsupported);
        }
        let angles = rope_gpu::Angles {
            position: call.int(POS)?,
            base: base(call)?,
            rotary_dim: rotary_dim(call, x.dims[2])?,
            has_halves: call.bool(4),
            scale: scale(call)?,
            factors: call.optional_operand(FACTORS),
            magnitude: magnitude(call)?,
        };
        rope_gpu::run(call, &x, &angles)
    }),
};

/// The position of the argument `pos`.
const POS: usize = 1;

/// The position of the argument `factors`.
const FACTORS: usize = 6;

fn rule(args: &RuleArgs) -> Result<TensorType, OpError> {
    let (x, dtype) = args.ranked(0, 3, "x", "3 dimensions, [n, heads, d]")?;
    if let Some(found) = dtype.filter(|dtype| !dtype.is_float()) {
        return Err(OpError::DType { operand: "x", expected: "float16 or float32 (cast it first)", found });
    }
    if let Size::Known(pos) = args.int(POS)
        && pos < 0
    {
        return Err(OpError::Value { operand: "pos", expected: "0 or more", found: pos as f64 });
    }
    if args.is_tensor(POS)
        && let Ok((positions, dtype)) = args.tensor(POS)
    {
        if let Some(found) = dtype.filter(|&dtype| dtype != DType::I32) {
            return Err(OpError::DType { operand: "pos", expected: "an int or int32", found });
        }
        let &[n] = positions else {
            return Err(OpError::Rank { operand: "pos", expected: "1 dimension, [n]", found: positions.len() });
        };
        same("there must be a position for each token", n, x[0])?;
    }
    let rotated = if args.is_given(3) { args.int(3) } else { x[2] };
    if let Size::Known(n) = rotated
        && (n < 0 || n % 2 != 0 || x[2].known().is_some_and(|d| n > d))
    {
        return Err(OpError::Value {
            operand: "dims",
            expected: "even and no more than the head's size",
            found: n as f64,
        });
    }
    if args.is_tensor(FACTORS)
        && let Ok((factors, dtype)) = args.tensor(FACTORS)
    {
        weight_rule("factors", dtype)?;
        let &[n] = factors else {
            return Err(OpError::Rank { operand: "factors", expected: "1 dimension, [dims/2]", found: factors.len() });
        };
        same("there must be a factor for each pair", n, rotated.quotient(Size::Known(2)))?;
    }
    Ok(TensorType::new(dtype, x))
}

fn base(call: &Call) -> Result<f32, OpError> {
    let base = call.number(2)?;
    if !(base > 0.0 && base.is_finite()) {
        return Err(OpError::Value { operand: "base", expected: "more than 0", found: base });
    }
    Ok(base as f32)
}

fn rotary_dim(call: &Call, head_dim: usize) -> Result<usize, OpError> {
    match call.arg(3) {
        Arg::None => Ok(head_dim),
        _ => Ok(call.int(3)? as usize),
    }
}

fn style(call: &Call) -> RopeStyle {
    if call.bool(4) { RopeStyle::Halves } else { RopeStyle::Interleaved }
}

fn scale(call: &Call) -> Result<f64, OpError> {
    let scale = call.number(5)?;
    if !(scale > 0.0 && scale.is_finite()) {
        return Err(OpError::Value { operand: "scale", expected: "more than 0", found: scale });
    }
    Ok(scale)
}

fn magnitude(call: &Call) -> Result<f32, OpError> {
    let magnitude = call.number(7)?;
    if !magnitude.is_finite() {
        return Err(OpError::Value { operand: "magnitude", expected: "a finite number", found: magnitude });
    }
    Ok(magnitude as f32)
}

/// How [`Tensor::rope_by`] rotates heads: see the operation `rope`.
#[derive(Clone, Copy, Debug)]
pub struct Rope<'a> {
    /// The position of the first token.
    pub pos: usize,
    /// The base of the frequencies.
    pub base: f64,
    /// How many elements of a head are rotated, the first ones; `None`: all.
    pub dims: Option<usize>,
    /// Whether pairs are `(x[i], x[i + dims/2])` instead of `(x[2i], x[2i + 1])`.
    pub halves: bool,
    /// The divisor of every angle.
    pub scale: f64,
    /// A further divisor for the angle of each pair: `[dims/2]`.
    pub factors: Option<&'a Tensor>,
    /// The factor of sines and cosines.
    pub magnitude: f64,
}

impl std::default::Default for Rope<'_> {
    fn default() -> Self {
        Rope { pos: 0, base: 10000.0, dims: None, halves: false, scale: 1.0, factors: None, magnitude: 1.0 }
    }
}

impl<T> Tensor<T> {
    /// Rotary position embedding of `[n, heads, d]`, the first token being at `pos`: see the operation `rope`.
    ///
    /// # Errors
    /// [`Error::Op`] where the tensor has not three dimensions.
    pub fn rope(&self, pos: usize, base: f64) -> Result<Tensor<T>, Error> {
        self.apply(&ROPE, &[Arg::Int(pos as i64), Arg::Number(base)])
    }

    /// As [`Tensor::rope`], with all options.
    ///
    /// # Errors
    /// [`Error::Op`] where the tensor has not three dimensions, or a number or the factors do not fit.
    pub fn rope_by(&self, rope: &Rope) -> Result<Tensor<T>, Error> {
        let Rope { pos, base, dims, halves, scale, factors, magnitude } = *rope;
        self.apply(
            &ROPE,
            &[
                Arg::Int(pos as i64),
                Arg::Number(base),
                dims.map_or(Arg::None, |dims| Arg::Int(dims as i64)),
                Arg::Bool(halves),
                Arg::Number(scale),
                factors.map_or(Arg::None, Arg::from),
                Arg::Number(magnitude),
            ],
        )
    }
}
