//! Taking the memory of a result and running the kernel that fills it.

use tl_device::{Device, Layout, Lease, Role};

use super::{host_fallback, work};
use crate::Error;
use crate::op::{Arg, Call, CpuKernel, Dispatch, Op};
use crate::tensor::{DynTensor, take};

/// The layout of a result, and what its memory is for.
#[derive(Clone, Copy)]
pub(super) struct ResultMemory<'a> {
    pub(super) layout: &'a Layout,
    pub(super) role: Role,
}

impl ResultMemory<'_> {
    pub(super) fn of_activation(layout: &Layout) -> ResultMemory<'_> {
        ResultMemory { layout, role: Role::Activation }
    }
}

/// Runs a kernel on operands that it can read.
pub(super) fn run_kernel(
    op: &'static Op,
    kernel: CpuKernel,
    device: &Device,
    args: &[Arg<'_>],
    target: &ResultMemory<'_>,
) -> Result<DynTensor, Error> {
    if work::uses_workspace(op) {
        device.take_workspace().map_err(|error| Error::Memory { op: op.name, error })?;
    }
    let layout = target.layout;
    let mut lease = take(device, layout, target.role, op.name)?;
    if device.is_simulated() {
        device.count_work(work::work_of(op, args, layout));
    }
    if device.is_simulated() && !device.is_gpu() {
        // A simulated device has no bytes to compute: taking the memory is its whole effect.
        return Ok(DynTensor::new(lease.share(), layout));
    }
    if device.is_gpu() {
        return run_on_gpu(op, kernel, device, args, layout, lease);
    }
    let (dtype, dims) = (layout.dtype(), layout.shape().dims());
    let out = lease.bytes_mut();
    let mut call = Call { device, threads: device.threads(), args, dtype, dims, out, lease: None };
    kernel(&mut call).map_err(|error| op.error(args, error))?;
    Ok(DynTensor::new(lease.share(), layout))
}

/// Launches the operation's program; where there is none for these arguments, the CPU computes the result on copies.
fn run_on_gpu(
    op: &'static Op,
    kernel: CpuKernel,
    device: &Device,
    args: &[Arg<'_>],
    layout: &Layout,
    mut lease: Lease,
) -> Result<DynTensor, Error> {
    let (dtype, dims) = (layout.dtype(), layout.shape().dims());
    let dispatch = match op.gpu {
        Some(_) if layout.shape().contains(&0) => Dispatch::Launched,
        Some(gpu) => {
            let (threads, lease) = (device.threads(), Some(&mut lease));
            gpu(&mut Call { device, threads, args, dtype, dims, out: &mut [], lease })
                .map_err(|error| op.error(args, error))?
        }
        None => Dispatch::Unsupported,
    };
    if dispatch == Dispatch::Unsupported && !device.is_simulated() {
        device.count_host_fallback(op.name);
        host_fallback::run(op, kernel, device, args, layout, &mut lease)?;
    }
    Ok(DynTensor::new(lease.share(), layout))
}
