//! Operations that a GPU has no program for: the CPU computes them on copies of the operands and uploads the result.
//! This is slow, counted, and reported to the user once for each operation. Nothing on a model's path comes here.

use smallvec::SmallVec;
use tl_device::{Device, Layout, Lease, Purpose, Role};

use crate::Error;
use crate::op::{Arg, Call, CpuKernel, Op};
use crate::operand::Operand;
use crate::tensor::{DynTensor, Tensor};

/// Bytes of an operand on the host, aligned for every element type.
struct Copy {
    words: Vec<u64>,
    len: usize,
}

impl Copy {
    fn zeroed(len: usize) -> Copy {
        Copy { words: vec![0; len.div_ceil(8)], len }
    }

    fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.words).get(..self.len).unwrap_or_default()
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        bytemuck::cast_slice_mut(&mut self.words).get_mut(..self.len).unwrap_or_default()
    }

    /// The bytes of an operand from its first element to the end of its memory.
    fn of(operand: &Operand) -> Result<Copy, tl_device::Error> {
        let Some(binding) = operand.binding else { return Ok(Copy::zeroed(0)) };
        let start = operand.offset / operand.dtype.block_elems() * operand.dtype.block_bytes();
        let mut copy = Copy::zeroed(binding.len_bytes().saturating_sub(start));
        let mut at = 0;
        let len = copy.len;
        let bytes = copy.bytes_mut();
        binding.download(start, len, &mut |part| {
            bytes[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        })?;
        Ok(copy)
    }
}

/// A tensor on the host with the same elements, dimensions and strides.
fn on_host(tensor: &Tensor, host: &Device) -> Result<Tensor, tl_device::Error> {
    let operand = tensor.as_dyn().operand();
    let (dtype, copy) = (operand.dtype, Copy::of(&operand)?);
    let layout = Layout::new(dtype, [copy.len / dtype.block_bytes() * dtype.block_elems()]);
    let mut lease = host.take(&layout, Purpose { role: Role::Activation, op: "to_device" })?;
    lease.write(0, &copy.bytes()[..copy.len / dtype.block_bytes() * dtype.block_bytes()])?;
    let all = DynTensor::new(lease.share(), &layout);
    Ok(all.view(tensor.shape().clone(), operand.strides.into(), 0).into())
}

/// Runs the CPU kernel on copies and writes the result to `lease`.
pub(super) fn run(
    op: &'static Op,
    kernel: CpuKernel,
    device: &Device,
    args: &[Arg<'_>],
    layout: &Layout,
    lease: &mut Lease,
) -> Result<(), Error> {
    let memory = |error| Error::Memory { op: op.name, error };
    let operands: SmallVec<[Option<Operand<'_>>; 8]> = args.iter().map(Arg::operand).collect();
    let copies: Result<SmallVec<[Copy; 8]>, tl_device::Error> =
        operands.iter().map(|operand| operand.as_ref().map_or(Ok(Copy::zeroed(0)), Copy::of)).collect();
    let copies = copies.map_err(memory)?;
    let mut lists: SmallVec<[Vec<Tensor>; 1]> = SmallVec::new();
    for arg in args {
        if let Arg::Tensors(tensors) = arg {
            let host = Device::cpu();
            let copies: Result<_, _> = tensors.iter().map(|tensor| on_host(tensor, &host)).collect();
            lists.push(copies.map_err(memory)?);
        }
    }
    let copied: SmallVec<[Option<Operand<'_>>; 8]> = operands
        .iter()
        .zip(&copies)
        .map(|(operand, copy)| {
            operand.map(|operand| Operand { bytes: copy.bytes(), binding: None, offset: 0, ..operand })
        })
        .collect();
    let mut lists = lists.iter();
    let host_args: SmallVec<[Arg<'_>; 8]> = args
        .iter()
        .zip(&copied)
        .map(|(arg, operand)| match (arg, operand) {
            (_, Some(operand)) => Arg::Operand(operand),
            (Arg::Tensors(_), None) => Arg::Tensors(lists.next().map_or(&[], Vec::as_slice)),
            (arg, None) => *arg,
        })
        .collect();
    let mut out = Copy::zeroed(lease.len_bytes());
    let (dtype, dims, threads) = (layout.dtype(), layout.shape().dims(), device.threads());
    let mut call = Call { device, threads, args: &host_args, dtype, dims, out: out.bytes_mut(), lease: None };
    kernel(&mut call).map_err(|error| op.error(args, error))?;
    lease.write(0, out.bytes()).map_err(memory)
}
