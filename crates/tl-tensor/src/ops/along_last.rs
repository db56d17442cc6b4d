//! Operations along one dimension whose kernels take the last one: for another dimension, the last one takes its place in
//! views of operand and result.

use tl_device::Role;

use crate::op::kernel::Again;
use crate::op::rule::normalize_axis;
use crate::op::{Arg, Call};
use crate::tensor::DynTensor;
use crate::{Error, OpError};

/// The result of a call of an operation on `x`, the first argument, along the dimension that argument `AT` names; `None`
/// where that is the last one.
pub(super) fn by_last<const AT: usize>(args: &[Arg<'_>], role: Role, again: Again) -> Option<Result<DynTensor, Error>> {
    let (Some(Arg::Tensor(x)), Some(Arg::Int(dim))) = (args.first(), args.get(AT)) else { return None };
    let rank = x.shape().len();
    let axis = normalize_axis(*dim, rank).ok().filter(|axis| axis + 1 != rank)?;
    let swapped = || {
        let x = swapped(x, axis)?;
        let mut args: smallvec::SmallVec<[Arg<'_>; 4]> = args.into();
        (args[0], args[AT]) = (Arg::Tensor(&x), Arg::Int(-1));
        again(&args, role)
    };
    Some(swapped().and_then(|result| self::swapped(&result, axis)))
}

/// The size of the last dimension of `x`, which argument `at` must name.
pub(super) fn last_size(call: &Call, at: usize) -> Result<usize, OpError> {
    let dims = call.operand(0)?.dims;
    match normalize_axis(call.int(at)?, dims.len())? {
        axis if axis + 1 == dims.len() => Ok(dims[axis]),
        _ => Err(OpError::Argument { parameter: "x", expected: "a tensor" }),
    }
}

/// A view with the dimension and the last one exchanged.
fn swapped(x: &DynTensor, axis: usize) -> Result<DynTensor, Error> {
    let x = if x.has_repeat() { x.contiguous()? } else { x.clone() };
    let last = x.shape().len() - 1;
    let mut dims: smallvec::SmallVec<[usize; 6]> = x.shape().iter().copied().collect();
    let mut strides = crate::Strides::from_slice(x.strides());
    dims.swap(axis, last);
    strides.swap(axis, last);
    Ok(x.view(dims.into_iter().collect(), strides, 0))
}
