//! `apply_attention_mask`: scores of hidden keys at minus infinity.

use tl_device::DType;

use super::elementwise::{binary_float, float_rule};
use crate::gpu::map::map_binary;
use crate::op::kernel::with_float;
use crate::op::rule::broadcast;
use crate::op::{Group, Kind, Op, OpKernel, TensorType, required};
use crate::strides::broadcast_strides;
use crate::tensor::Tensor;
use crate::{Error, OpError};

pub(super) static OPS: &[&Op] = &[&APPLY_ATTENTION_MASK];

static APPLY_ATTENTION_MASK: Op = Op {
    name: "apply_attention_mask",
    group: Group::Transformer,
    doc: "Scores with what may not be seen at minus infinity. A `bool` mask is true where a key may be seen; a float mask is \
          added. The mask broadcasts. `scores: [.., n, m], mask: [n, m] → [.., n, m]`.",
    params: &[required("scores", Kind::Tensor), required("mask", Kind::Tensor)],
    rule: |args| {
        let (scores, dtype) = args.tensor(0)?;
        float_rule(args)?;
        let (mask, mask_dtype) = args.tensor(1)?;
        if mask_dtype.is_some_and(|mask| mask != DType::Bool) {
            args.common_dtype(&[0, 1])?;
        }
        let sizes = broadcast(scores, mask)?;
        if sizes.len() != scores.len() {
            let expected = "no more dimensions than the scores";
            return Err(OpError::Rank { operand: "mask", expected, found: mask.len() });
        }
        Ok(TensorType::new(dtype, sizes))
    },
    kernel: OpKernel::Strided(|call| {
        let (scores, mask) = (call.operand(0)?, call.operand(1)?);
        if mask.dtype == DType::Bool {
            let dims = call.dims;
            let strides = [&scores, &mask].map(|x| broadcast_strides(x.dims, x.strides, dims));
            let shown = tl_kernels::View { data: mask.bytes, dims, strides: &strides[1] };
            with_float!(call.dtype, "scores", T => {
                let scores = tl_kernels::View { data: scores.data::<T>()?, dims, strides: &strides[0] };
                tl_kernels::mask(call.threads, scores, shown, f32::NEG_INFINITY, call.out()?);
                Ok(())
            })
        } else {
            binary_float(call, |score, mask| score + mask)
        }
    }),
    gpu: Some(|call| {
        if call.operand(1)?.dtype == DType::Bool {
            map_binary(call, "visible", "select(-infinity(), a, b != 0.0)")
        } else {
            map_binary(call, "mask", "a + b")
        }
    }),
};

impl<T> Tensor<T> {
    /// Scores with what may not be seen at minus infinity: see the operation `apply_attention_mask`.
    ///
    /// # Errors
    /// [`Error::Op`] where the mask does not broadcast to the scores.
    pub fn apply_attention_mask<U>(&self, mask: &Tensor<U>) -> Result<Tensor<T>, Error> {
        self.apply(&APPLY_ATTENTION_MASK, &[mask.into()])
    }
}
