//! Checking the arguments of a call, and the layout of its result.

use smallvec::SmallVec;
use tl_device::{Device, Layout};

use crate::OpError;
use crate::op::argument::{self, Arg};
use crate::op::{ArgType, Op, RuleArgs};

/// The layout of the result, by the operation's rule.
pub(super) fn result_layout(op: &Op, device: &Device, args: &[Arg<'_>]) -> Result<Layout, OpError> {
    argument::check(op.params, args)?;
    check_devices(device, args)?;
    let types: SmallVec<[ArgType<'_>; 8]> = args.iter().map(ArgType::from).collect();
    // In a running program a rule is undecided only where every operand is a plain number.
    let no_tensor = || OpError::Argument { parameter: "one of the operands", expected: "a tensor" };
    match (op.rule)(&RuleArgs(&types)) {
        Ok(result) => result.layout().ok_or_else(no_tensor),
        Err(OpError::Unknown) => Err(no_tensor()),
        Err(error) => Err(error),
    }
}

/// Checks that all operands lie on the device that the operation runs on.
pub(super) fn check_devices(device: &Device, args: &[Arg<'_>]) -> Result<(), OpError> {
    let is_elsewhere = |arg: &Arg| match arg {
        Arg::Tensor(tensor) => !tensor.device().is_same(device),
        Arg::Tensors(tensors) => tensors.iter().any(|tensor| !tensor.device().is_same(device)),
        _ => false,
    };
    if args.iter().any(is_elsewhere) { Err(OpError::Devices) } else { Ok(()) }
}
