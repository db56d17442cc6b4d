//! `linear_experts`: linear layers of a mixture of experts.

use tl_device::DType;
use tl_kernels::Experts;

use super::experts_gpu;
use crate::op::kernel::with_float;
use crate::op::rule::{product_dtype, same, weight_rule, whole_rows};
use crate::op::{Arg, DefaultValue, Group, Kind, Op, OpKernel, RuleArgs, TensorType, optional, required};
use crate::size::Size;
use crate::tensor::Tensor;
use crate::{Error, OpError};

pub(super) static OPS: &[&Op] = &[&LINEAR_EXPERTS];

static LINEAR_EXPERTS: Op = Op {
    name: "linear_experts",
    group: Group::Linear,
    doc: "`linear` with a weight for each of several experts, of which `experts` names those of a token (Shazeer et al., 2017): \
          `result[t, j] = w[e] · x[t] + b[e]`, or `· x[t, j]` where `x` has a row for each of them, `e` being `experts[t, j]`. Only the \
          weights of experts that are named are read. Types and sums as for `linear`. \
          `x: [n, in] or [n, k, in], w: [E, out, in], experts: int32[n, k], b: [E, out] → [n, k, out]`.",
    params: &[
        required("x", Kind::Tensor),
        required("w", Kind::Weight),
        required("experts", Kind::Ids),
        optional("b", Kind::Weight, DefaultValue::Absent),
    ],
    rule,
    kernel: OpKernel::Contiguous(|call| {
        let (x, w, chosen) = (call.operand(0)?, call.operand(1)?, call.operand(2)?);
        let bias = call.optional_operand(3).map(|bias| bias.weight()).transpose()?;
        let experts = Experts { weight: w.weight()?, bias, n_experts: w.dims[0], n: w.dims[1], k: w.dims[2] };
        let shared_by = if x.dims.len() == 2 { chosen.dims[1] } else { 1 };
        let (chosen, threads) = (chosen.slice::<i32>()?, call.threads);
        with_float!(x.dtype, "x", T => {
            tl_kernels::linear_experts::<T, T>(threads, x.slice()?, shared_by, experts, chosen, call.out()?).map_err(
                |out_of_range| {
                    OpError::index(i64::from(out_of_range.id), out_of_range.n_rows)
                },
            )
        })
    }),
    gpu: Some(experts_gpu::run),
};

fn rule(args: &RuleArgs) -> Result<TensorType, OpError> {
    let (x, dtype) = args.tensor(0)?;
    let expected = "2 dimensions, [n, k]";
    let (chosen, chosen_dtype) = args.ranked(2, 2, "experts", expected)?;
    if let Some(found) = chosen_dtype.filter(|&dtype| dtype != DType::I32) {
        return Err(OpError::DType { operand: "experts", expected: "int32", found });
    }
    let inner = match *x {
        [n, inner] => {
            same("x and experts have different numbers of tokens", n, chosen[0])?;
            inner
        }
        [n, k, inner] => {
            same("x and experts have different numbers of tokens", n, chosen[0])?;
            same("x has not a row for each expert of a token", k, chosen[1])?;
            inner
        }
        _ => {
            let expected = "2 dimensions, [n, in], or 3, [n, k, in]";
            return Err(OpError::Rank { operand: "x", expected, found: x.len() });
        }
    };
    let result = |w_dtype, out| {
        Ok(TensorType::new(product_dtype(("x", dtype), ("w", w_dtype))?, [chosen[0], chosen[1], out].as_slice()))
    };
    let (w, w_dtype) = match args.ranked(1, 3, "w", "3 dimensions, [E, out, in]") {
        Ok(weight) => weight,
        // Nothing is known of a weight from a file before the program runs.
        Err(OpError::Unknown) => return result(None, Size::Unknown),
        Err(error) => return Err(error),
    };
    same("the inner sizes differ", inner, w[2])?;
    whole_rows("w", w_dtype, w[2])?;
    if args.is_tensor(3)
        && let Ok((b, b_dtype)) = args.tensor(3)
    {
        weight_rule("b", b_dtype)?;
        let &[b_experts, b_out] = b else {
            return Err(OpError::Rank { operand: "b", expected: "2 dimensions, [E, out]", found: b.len() });
        };
        whole_rows("b", b_dtype, b_out)?;
        same("the bias has another number of experts than w", w[0], b_experts)?;
        same("the bias has another size than the rows of w", w[1], b_out)?;
    }
    result(w_dtype, w[1])
}

impl<T> Tensor<T> {
    /// The products of rows with the weights of their experts: see the operation `linear_experts`.
    ///
    /// # Errors
    /// [`Error::Op`] where sizes differ, or an index names no expert.
    pub fn linear_experts<U, V>(
        &self,
        w: &Tensor<U>,
        experts: &Tensor<i32>,
        b: Option<&Tensor<V>>,
    ) -> Result<Tensor<T>, Error> {
        self.apply(&LINEAR_EXPERTS, &[w.into(), experts.into(), b.map_or(Arg::None, Arg::from)])
    }
}
