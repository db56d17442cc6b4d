//! Rotary position embedding.

use tl_kernels::RopeStyle;

use super::rule::{Size, TensorType};
use super::{Arg, Default, Group, Kind, Op, Run, optional, required, with_float};
use crate::{Error, Fault, Tensor};

pub(super) static OPS: &[&Op] = &[&ROPE];

static ROPE: Op = Op {
    name: "rope",
    group: Group::Transformer,
    doc: "Rotates the pairs `(x[2i], x[2i + 1])` of each head by the angle `p · base^(-2i/dims)`, `p` being `pos` for the first \
          token and one more for each that follows (Su et al., 2021). `dims`, all of the head unless given, says how many \
          elements of a head are rotated; the others stay. `x: [n, heads, d] → [n, heads, d]`.",
    params: &[
        required("x", Kind::Tensor),
        optional("pos", Kind::Int, Default::Int(0)),
        optional("base", Kind::Number, Default::Number(10000.0)),
        optional("dims", Kind::Int, Default::Absent),
    ],
    rule: |args| {
        let (x, dtype) = args.ranked(0, 3, "x", "3 dimensions, [n, heads, d]")?;
        if let Some(found) = dtype.filter(|dtype| !dtype.is_float()) {
            return Err(Fault::DType { operand: "x", expected: "float16 or float32 (cast it first)", found });
        }
        if let Size::Known(pos) = args.int(1)
            && pos < 0
        {
            return Err(Fault::Value { operand: "pos", expected: "0 or more", found: pos as f64 });
        }
        let rotated = if args.is_given(3) { args.int(3) } else { x[2] };
        if let Size::Known(n) = rotated
            && (n < 0 || n % 2 != 0 || x[2].known().is_some_and(|d| n > d))
        {
            return Err(Fault::Value {
                operand: "dims",
                expected: "even and no more than the head's size",
                found: n as f64,
            });
        }
        Ok(TensorType::new(dtype, x))
    },
    run: Run::ContiguousKernel(|call| {
        let x = call.operand(0)?;
        let (n_tokens, n_heads, head_dim) = (x.dims[0], x.dims[1], x.dims[2]);
        let pos = call.int(1)? as usize;
        let base = call.number(2)?;
        if !(base > 0.0 && base.is_finite()) {
            return Err(Fault::Value { operand: "base", expected: "more than 0", found: base });
        }
        let rotary_dim = match call.arg(3) {
            Arg::None => head_dim,
            _ => call.int(3)? as usize,
        };
        let (threads, style) = (call.threads, RopeStyle::Interleaved);
        with_float!(x.dtype, "x", T => {
            let (x, out) = (x.slice::<T>()?, call.out()?);
            tl_kernels::rope(threads, x, n_tokens, n_heads, head_dim, rotary_dim, pos, base as f32, style, out);
            Ok(())
        })
    }),
    gpu: None,
};

impl<T> Tensor<T> {
    /// Rotary position embedding of `[n, heads, d]`, the first token being at `pos`: see the operation `rope`.
    ///
    /// # Errors
    /// [`Error::Op`] where the tensor has not three dimensions.
    pub fn rope(&self, pos: usize, base: f32) -> Result<Tensor<T>, Error> {
        self.apply(&ROPE, &[Arg::Int(pos as i64), Arg::Number(f64::from(base))])
    }

    /// As [`Tensor::rope`], rotating only the first `dims` elements of each head.
    ///
    /// # Errors
    /// [`Error::Op`] where `dims` is odd or larger than a head.
    pub fn rope_partial(&self, pos: usize, base: f32, dims: usize) -> Result<Tensor<T>, Error> {
        self.apply(&ROPE, &[Arg::Int(pos as i64), Arg::Number(f64::from(base)), Arg::Int(dims as i64)])
    }
}
