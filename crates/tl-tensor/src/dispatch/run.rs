//! Preparing the arguments of a call for its kernel: views, and copies of operands that the kernel cannot read by
//! strides.

use smallvec::SmallVec;
use tl_device::Device;

use super::contiguous::CONTIGUOUS;
use super::kernel::{ResultMemory, run_kernel};
use super::rules::result_layout;
use crate::op::{Arg, CpuKernel, Op, OpKernel};
use crate::tensor::{DynTensor, Tensor};
use crate::{Error, OpError};

/// Runs an operation whose rule gave the layout of the result.
pub(super) fn run(
    op: &'static Op,
    device: &Device,
    args: &[Arg<'_>],
    target: &ResultMemory<'_>,
) -> Result<DynTensor, Error> {
    if args.iter().any(|arg| matches!(arg, Arg::Planned(_))) {
        let error = OpError::Argument { parameter: "an operand", expected: "computed before it is read" };
        return Err(op.error(args, error));
    }
    match op.kernel {
        OpKernel::Composed { compose, must_copy, kernel } => {
            let again = |args: &[Arg<'_>], role| {
                let layout = &result_layout(op, device, args).map_err(|error| op.error(args, error))?;
                run(op, device, args, &ResultMemory { layout, role })
            };
            match compose(args, target.role, &again) {
                Some(result) => result,
                None => run_prepared(op, must_copy, kernel, device, args, target),
            }
        }
        OpKernel::Repeated { must_copy, kernel } => run_prepared(op, must_copy, kernel, device, args, target),
        // Its copy is already the result, so the argument is not copied before.
        _ if std::ptr::eq(op, &CONTIGUOUS)
            && let Some(Arg::Tensor(tensor)) = args.first()
            && tensor.has_repeat() =>
        {
            tensor.contiguous()
        }
        _ => with_plain(args, |args| run_plain(op, device, args, target)),
    }
}

/// Calls `body` with the arguments, those that repeat elements along a dimension replaced by copies.
pub(super) fn with_plain<T>(args: &[Arg<'_>], body: impl FnOnce(&[Arg<'_>]) -> Result<T, Error>) -> Result<T, Error> {
    let is_plain = |arg: &Arg<'_>| match arg {
        Arg::Tensor(tensor) => !tensor.has_repeat(),
        Arg::Tensors(tensors) => !tensors.iter().any(|tensor| tensor.as_dyn().has_repeat()),
        _ => true,
    };
    if args.iter().all(is_plain) {
        return body(args);
    }
    // For each argument the tensors that replace it.
    let mut copies: SmallVec<[SmallVec<[Tensor; 1]>; 8]> = SmallVec::new();
    for arg in args {
        copies.push(match arg {
            arg if is_plain(arg) => SmallVec::new(),
            Arg::Tensor(tensor) => SmallVec::from_elem(tensor.contiguous()?.into(), 1),
            Arg::Tensors(tensors) => {
                let plain = |tensor: &Tensor| {
                    if tensor.as_dyn().has_repeat() { tensor.contiguous() } else { Ok(tensor.clone()) }
                };
                tensors.iter().map(plain).collect::<Result<_, _>>()?
            }
            _ => SmallVec::new(),
        });
    }
    let plain: SmallVec<[Arg<'_>; 8]> = args
        .iter()
        .zip(&copies)
        .map(|(arg, copies)| match (arg, copies.as_slice()) {
            (_, []) => *arg,
            (Arg::Tensors(_), copies) => Arg::Tensors(copies),
            (_, [copy, ..]) => Arg::Tensor(copy.as_dyn()),
        })
        .collect();
    body(&plain)
}

/// As [`run`], with arguments without repeating dimensions.
fn run_plain(
    op: &'static Op,
    device: &Device,
    args: &[Arg<'_>],
    target: &ResultMemory<'_>,
) -> Result<DynTensor, Error> {
    let layout = target.layout;
    match op.kernel {
        OpKernel::View(view) => {
            let Some(Arg::Tensor(source)) = args.first() else {
                return Err(op.error(args, OpError::Unknown));
            };
            if layout.shape().checked_elems().is_none() {
                return Err(Error::Memory {
                    op: op.name,
                    error: tl_device::LayoutError::TooLarge { layout: layout.clone() }.into(),
                });
            }
            match view(source, args, layout) {
                Some(tensor) => Ok(tensor),
                None => {
                    let source = source.contiguous()?;
                    view(&source, args, layout).ok_or_else(|| op.error(args, OpError::Unknown))
                }
            }
        }
        OpKernel::Strided(kernel) | OpKernel::Elementwise(_, kernel) => run_kernel(op, kernel, device, args, target),
        OpKernel::Contiguous(kernel) => run_prepared(op, |_, _| true, kernel, device, args, target),
        OpKernel::Prepared { must_copy, kernel }
        | OpKernel::Repeated { must_copy, kernel }
        | OpKernel::Composed { must_copy, kernel, .. } => run_prepared(op, must_copy, kernel, device, args, target),
    }
}

/// Runs a kernel after copying the operands that it cannot read by their strides.
fn run_prepared(
    op: &'static Op,
    must_copy: fn(&[Arg], usize) -> bool,
    kernel: CpuKernel,
    device: &Device,
    args: &[Arg<'_>],
    target: &ResultMemory<'_>,
) -> Result<DynTensor, Error> {
    let copied = |i: usize| match &args[i] {
        Arg::Tensor(tensor) if !tensor.is_contiguous() && must_copy(args, i) => Some(*tensor),
        _ => None,
    };
    if (0..args.len()).all(|i| copied(i).is_none()) {
        return run_kernel(op, kernel, device, args, target);
    }
    let copies: Result<SmallVec<[Option<DynTensor>; 8]>, Error> =
        (0..args.len()).map(|i| copied(i).map(DynTensor::contiguous).transpose()).collect();
    let copies = copies?;
    let ready: SmallVec<[Arg<'_>; 8]> =
        args.iter().zip(&copies).map(|(arg, copy)| copy.as_ref().map_or(*arg, Arg::Tensor)).collect();
    run_kernel(op, kernel, device, &ready, target)
}
