//! Applying an operation: its rule, then its kernel.

use smallvec::SmallVec;
use tl_device::{Device, Role};

use super::kernel::ResultMemory;
use super::rules::{check_devices, result_layout};
use super::run::run;
use super::site::Site;
use crate::Error;
use crate::op::{Arg, DefaultValue, Op, Param};
use crate::tensor::{DynTensor, Tensor};

/// Applies an operation: checks the arguments by its rule, takes the memory of the result, runs the kernel.
///
/// `args` are in the order of `op.params`; arguments left out, at the end or as [`Arg::None`], have their defaults.
///
/// # Errors
/// [`Error::Op`] where the arguments break the operation's rule, [`Error::Memory`] where the result finds no memory.
pub fn apply(op: &'static Op, device: &Device, args: &[Arg<'_>]) -> Result<DynTensor, Error> {
    let is_default_needed = |(i, param): (usize, &Param)| {
        matches!(args.get(i), None | Some(Arg::None)) && !matches!(param.default, None | Some(DefaultValue::Absent))
    };
    let all: SmallVec<[Arg<'_>; 8]>;
    let args = if args.len() < op.params.len() || op.params.iter().enumerate().any(is_default_needed) {
        all = (0..op.params.len().max(args.len()))
            .map(|i| match (args.get(i), op.params.get(i)) {
                (None | Some(Arg::None), Some(param)) => param.default.map_or(Arg::None, DefaultValue::arg),
                (arg, _) => arg.copied().unwrap_or(Arg::None),
            })
            .collect();
        &all
    } else {
        args
    };
    let layout = result_layout(op, device, args).map_err(|error| op.error(args, error))?;
    run(op, device, args, &ResultMemory::of_activation(&layout))
}

/// As [`apply`], for a call that runs again and again: `site` is the memory of that one call site. There must be an
/// argument for each parameter, defaults included.
///
/// # Errors
/// As for [`apply`].
pub fn apply_at(site: &mut Site, op: &'static Op, device: &Device, args: &[Arg<'_>]) -> Result<DynTensor, Error> {
    apply_as(Role::Activation, site, op, device, args)
}

/// As [`apply_at`], with the result in memory of this role, so that a weight is written where it stays. A view stays in
/// its operand's memory, whatever the role.
///
/// # Errors
/// As for [`apply`].
pub fn apply_as(
    role: Role,
    site: &mut Site,
    op: &'static Op,
    device: &Device,
    args: &[Arg<'_>],
) -> Result<DynTensor, Error> {
    debug_assert_eq!(args.len(), op.params.len(), "`{}`: an argument for each parameter", op.name);
    if let Some(layout) = site.recall(op, args) {
        check_devices(device, args).map_err(|error| op.error(args, error))?;
        return run(op, device, args, &ResultMemory { layout, role });
    }
    let layout = result_layout(op, device, args).map_err(|error| op.error(args, error))?;
    site.remember(op, args, &layout);
    run(op, device, args, &ResultMemory { layout: &layout, role })
}

impl<T> Tensor<T> {
    /// Applies a row of [`OPS`](crate::ops::OPS) to this tensor and the other arguments.
    ///
    /// # Errors
    /// As for [`apply`].
    pub fn apply<U>(&self, op: &'static Op, rest: &[Arg<'_>]) -> Result<Tensor<U>, Error> {
        let args: SmallVec<[Arg<'_>; 8]> =
            std::iter::once(Arg::Tensor(self.as_dyn())).chain(rest.iter().copied()).collect();
        apply(op, self.device(), &args).map(Tensor::from_dyn)
    }
}
