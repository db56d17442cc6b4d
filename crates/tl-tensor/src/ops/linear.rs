//! `linear`: `x · wᵀ + b` with a weight in any stored format.

use smallvec::SmallVec;

use super::linear_gpu::{self, Linear};
use crate::op::kernel::with_float;
use crate::op::rule::{product_dtype, same, weight_rule, whole_rows};
use crate::op::{Arg, DefaultValue, Group, Kind, Op, OpKernel, RuleArgs, TensorType, optional, required};
use crate::size::{Size, Sizes};
use crate::tensor::Tensor;
use crate::{Error, OpError};

pub(super) static OPS: &[&Op] = &[&LINEAR];

static LINEAR: Op = Op {
    name: "linear",
    group: Group::Linear,
    doc: "`x · wᵀ + b`, straight from the blocks of a weight in a stored format. The result has the type of `x`; sums in \
          `float32`, or in integers of 32 bits within a block where the format has integer blocks, whose counterpart in `x` \
          is then rounded to 8 bits. `x: [.., k], w: [n, k], b: [n] → [.., n]`.",
    params: &[
        required("x", Kind::Tensor),
        required("w", Kind::Weight),
        optional("b", Kind::Weight, DefaultValue::Absent),
    ],
    rule: linear_rule,
    kernel: OpKernel::Contiguous(|call| {
        let (x, w) = (call.operand(0)?, call.operand(1)?);
        let (n, k) = (w.dims[0], w.dims[1]);
        let m: usize = x.dims[..x.dims.len() - 1].iter().product();
        let bias = call.optional_operand(2).map(|bias| bias.weight()).transpose()?;
        let (weight, threads) = (w.weight()?, call.threads);
        with_float!(x.dtype, "x", T => {
            tl_kernels::linear::<T, T>(threads, x.slice()?, m, k, weight, bias, n, call.out()?);
            Ok(())
        })
    }),
    gpu: Some(|call| {
        let (x, w, bias) = (call.operand(0)?, call.operand(1)?, call.optional_operand(2));
        let (n, k) = (w.dims[0], w.dims[1]);
        let m = x.dims[..x.dims.len() - 1].iter().product();
        linear_gpu::run(call, &Linear { x: &x, w: &w, bias: bias.as_ref(), m, k, n })
    }),
};

fn linear_rule(args: &RuleArgs) -> Result<TensorType, OpError> {
    let (x, dtype) = args.tensor(0)?;
    let Some((&inner, outer)) = x.split_last() else {
        return Err(OpError::Rank { operand: "x", expected: "1 dimension or more, [.., k]", found: 0 });
    };
    let mut sizes = Sizes::from_slice(outer);
    let (w, w_dtype) = match args.ranked(1, 2, "w", "2 dimensions, [n, k]") {
        Ok(weight) => weight,
        // Nothing is known of a weight from a file before the program runs.
        Err(OpError::Unknown) => {
            sizes.push(Size::Unknown);
            return Ok(TensorType::new(product_dtype(("x", dtype), ("w", None))?, sizes));
        }
        Err(error) => return Err(error),
    };
    same("the inner sizes differ", inner, w[1])?;
    whole_rows("w", w_dtype, w[1])?;
    if args.is_tensor(2)
        && let Ok((b, b_dtype)) = args.tensor(2)
    {
        weight_rule("b", b_dtype)?;
        let [b] = b else { return Err(OpError::Rank { operand: "b", expected: "1 dimension, [n]", found: b.len() }) };
        same("the bias has another size than the rows of w", w[0], *b)?;
    }
    sizes.push(w[0]);
    Ok(TensorType::new(product_dtype(("x", dtype), ("w", w_dtype))?, sizes))
}

impl<T> Tensor<T> {
    /// `self · wᵀ`: see the operation `linear`. `self: [.., k], w: [n, k] → [.., n]`.
    ///
    /// # Errors
    /// [`Error::Op`] where the inner sizes differ.
    pub fn linear<U>(&self, w: &Tensor<U>) -> Result<Tensor<T>, Error> {
        self.apply(&LINEAR, &[w.into()])
    }

    /// `self · wᵀ + b`. `self: [.., k], w: [n, k], b: [n] → [.., n]`.
    ///
    /// # Errors
    /// [`Error::Op`] where sizes differ.
    pub fn linear_with_bias<U, V>(&self, w: &Tensor<U>, b: &Tensor<V>) -> Result<Tensor<T>, Error> {
        let args: SmallVec<[Arg<'_>; 2]> = SmallVec::from([w.into(), b.into()]);
        self.apply(&LINEAR, &args)
    }
}
