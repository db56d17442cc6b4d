//! Chains: elementwise operations of which nobody else reads the results in between, done in one pass.
//!
//! Whoever runs a program asks of each operation what its result would be ([`link_layout`]) before it computes anything, so
//! that what breaks a rule is found where it would be without chains. [`apply_chain`] then computes the last result
//! alone. It has the bits that the operations one by one give. Only a CPU has chains.

use smallvec::SmallVec;
use tl_device::{DType, Device, Layout, Role};
use tl_kernels::{Source, Step, View};

use super::{
    Arg, Map, Op, Operand, Site, broadcast_strides, check_devices, fault_of, operand_of, result_layout, run,
    with_float, with_plain,
};
use crate::tensor::{Raw, take};
use crate::{Error, Fault, Strides};

/// The most links of a chain. More than this are rare, and so much has room on the stack.
pub const MAX_LINKS: usize = 24;

/// The most results that may wait in a chain until the operation that reads them comes.
pub const MAX_WAITING: usize = tl_kernels::MAX_DEPTH;

/// A step of a chain, in the order in which operands stand before what reads them.
#[derive(Clone, Copy, Debug)]
pub enum Link {
    /// A tensor or a number: the next of the chain's operands.
    Operand,
    /// An elementwise operation, and the type of its result.
    Op(&'static Op, DType),
}

impl<'a> Operand<'a> {
    /// What a link of a chain will give: an argument for rules, without elements.
    pub fn planned(layout: &'a Layout) -> Operand<'a> {
        let dims = layout.shape().dims();
        Operand {
            dtype: layout.dtype(),
            bytes: &[],
            binding: None,
            offset: 0,
            is_weight: false,
            dims,
            strides: &[],
            repeat: None,
        }
    }
}

/// The layout of what the operation would give as a link of a chain, or `None` where it must be done by itself: on a GPU, and
/// where other types than `float16` and `float32` take part. Site and arguments are those of
/// [`apply_at`](super::apply_at); operands that are links themselves are [planned](Operand::planned).
///
/// # Errors
/// [`Error::Op`] where the arguments break the operation's rule.
pub fn link_layout(
    site: &mut Site,
    op: &'static Op,
    device: &Device,
    args: &[Arg<'_>],
) -> Result<Option<Layout>, Error> {
    if op.map().is_none() || device.is_gpu() || !args.iter().all(may_be_chained) {
        return Ok(None);
    }
    check_devices(device, args).map_err(|fault| fault_of(op, args, fault))?;
    if let Some(layout) = site.recall(op, args) {
        return Ok(is_chained(layout.dtype()).then(|| layout.clone()));
    }
    let layout = result_layout(op, device, args).map_err(|fault| fault_of(op, args, fault))?;
    site.remember(op, args, &layout);
    Ok(is_chained(layout.dtype()).then_some(layout))
}

fn may_be_chained(arg: &Arg<'_>) -> bool {
    operand_of(arg).is_none_or(|operand| is_chained(operand.dtype))
}

fn is_chained(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::F32)
}

/// Computes what the last of the links gives, which has this layout. All links' results have as many elements as it. The
/// memory is taken for the last link's operation.
///
/// # Errors
/// [`Error::Memory`] where the result finds no memory.
pub fn apply_chain(device: &Device, operands: &[Arg<'_>], links: &[Link], layout: &Layout) -> Result<Raw, Error> {
    let Some(&Link::Op(op, dtype)) = links.last() else {
        return Err(Error::Op { op: "chain", operands: Vec::new(), fault: Fault::Unknown });
    };
    if links.iter().filter(|link| matches!(link, Link::Op(..))).count() == 1 {
        // One operation has a kernel of its own.
        let mut args: SmallVec<[Arg<'_>; 4]> = operands.iter().cloned().collect();
        if let Some(Map::Store) = op.map() {
            args.push(Arg::DType(dtype));
        }
        return run(op, device, &args, layout);
    }
    with_plain(operands, |operands| run_chain(op, device, operands, links, layout))
}

fn run_chain(
    op: &'static Op,
    device: &Device,
    operands: &[Arg<'_>],
    links: &[Link],
    layout: &Layout,
) -> Result<Raw, Error> {
    let fault = |fault| fault_of(op, operands, fault);
    let mut lease = take(device, layout, Role::Activation, op.name)?;
    if !device.is_simulated() {
        compute(device, operands, links, layout, lease.bytes_mut()).map_err(fault)?;
    }
    Ok(Raw::new(lease.share(), layout))
}

fn compute(
    device: &Device,
    operands: &[Arg<'_>],
    links: &[Link],
    layout: &Layout,
    out: &mut [u8],
) -> Result<(), Fault> {
    let dims = layout.shape().dims();
    let strides: SmallVec<[Strides; MAX_LINKS]> = operands
        .iter()
        .map(|arg| operand_of(arg).map_or_else(Strides::new, |o| broadcast_strides(o.dims, o.strides, dims)))
        .collect();
    let mut sources: SmallVec<[Source<'_>; MAX_LINKS]> = SmallVec::new();
    for (arg, strides) in operands.iter().zip(&strides) {
        sources.push(match (arg, operand_of(arg)) {
            (_, Some(operand)) if operand.dtype == DType::F16 => {
                Source::F16(View { data: operand.data()?, dims, strides })
            }
            (_, Some(operand)) => Source::F32(View { data: operand.data()?, dims, strides }),
            // A number meets the elements in `f32`, not rounded to their type.
            (Arg::Number(x), None) => Source::Number(*x as f32),
            (Arg::Int(n), None) => Source::Number(*n as f64 as f32),
            _ => return Err(Fault::Unknown),
        });
    }
    let steps = steps(links);
    with_float!(layout.dtype(), "the result", T => {
        let dtype = layout.dtype();
        let out = bytemuck::try_cast_slice_mut::<u8, T>(out).map_err(|_| Fault::Unaligned { dtype })?;
        tl_kernels::chain(device.threads(), &sources, &steps, out);
        Ok(())
    })
}

/// What the links do with blocks of floats. The last result is rounded where it is stored.
fn steps(links: &[Link]) -> SmallVec<[Step; 2 * MAX_LINKS]> {
    let (mut steps, mut sources) = (SmallVec::new(), 0..);
    for (at, link) in links.iter().enumerate() {
        let Link::Op(op, dtype) = *link else {
            steps.extend(sources.next().map(Step::Load));
            continue;
        };
        match op.map() {
            Some(Map::Unary(map)) => steps.push(Step::Unary(map)),
            Some(Map::Binary(map)) => steps.push(Step::Binary(map)),
            Some(Map::Store) | None => {}
        }
        if dtype == DType::F16 && at + 1 < links.len() {
            steps.push(Step::Round);
        }
    }
    steps
}
