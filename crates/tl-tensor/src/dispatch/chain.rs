//! Chains: elementwise operations computed in one pass, where no other code reads the results in between.
//!
//! The caller first gets the layout of each operation's result ([`link_layout`]), so that rules are checked in the
//! order in which they would be without chains. [`apply_chain`] then computes the last result alone, with the bits that
//! the operations give one by one. Only a CPU has chains.

use smallvec::SmallVec;
use tl_device::{DType, Device, Layout, Role};
use tl_kernels::{Source, Step, View};

use super::kernel::ResultMemory;
use super::rules::{check_devices, result_layout};
use super::run::{run, with_plain};
use super::site::Site;
use crate::op::kernel::with_float;
use crate::op::{Arg, Map, Op};
use crate::strides::{Strides, broadcast_strides};
use crate::tensor::{DynTensor, take};
use crate::{Error, OpError};

/// The most links of a chain. Longer chains are rare, and this many fit on the stack.
pub const MAX_LINKS: usize = 24;

/// The most intermediate results that a chain may hold at once.
pub const MAX_WAITING: usize = tl_kernels::MAX_DEPTH;

/// A step of a chain, in postfix order: operands before the operation that reads them.
#[derive(Clone, Copy, Debug)]
pub enum Link {
    /// A tensor or a number: the next of the chain's operands.
    Operand,
    /// An elementwise operation, and the type of its result.
    Op(&'static Op, DType),
}

/// The layout of the operation's result as a link of a chain, or `None` where it must run by itself: on a GPU, and for
/// types other than `float16` and `float32`. Site and arguments are those of [`apply_at`](super::apply_at); operands
/// that are links themselves are [`Arg::Planned`].
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
    check_devices(device, args).map_err(|error| op.error(args, error))?;
    if let Some(layout) = site.recall(op, args) {
        return Ok(is_chained(layout.dtype()).then(|| layout.clone()));
    }
    let layout = result_layout(op, device, args).map_err(|error| op.error(args, error))?;
    site.remember(op, args, &layout);
    Ok(is_chained(layout.dtype()).then_some(layout))
}

fn may_be_chained(arg: &Arg<'_>) -> bool {
    match arg {
        Arg::Planned(layout) => is_chained(layout.dtype()),
        arg => arg.operand().is_none_or(|operand| is_chained(operand.dtype)),
    }
}

fn is_chained(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::F32)
}

/// Computes the result of the last link, which has this layout. The results of all links have as many elements. The
/// memory is taken for the last link's operation.
///
/// # Errors
/// [`Error::Op`] where the links are no chain with one result, or [`link_layout`] would refuse an operand;
/// [`Error::Memory`] where the result finds no memory.
pub fn apply_chain(device: &Device, operands: &[Arg<'_>], links: &[Link], layout: &Layout) -> Result<DynTensor, Error> {
    let Some(&Link::Op(op, dtype)) = links.last() else {
        return Err(Error::Op { op: "chain", operands: Vec::new(), error: NO_CHAIN });
    };
    let error = |error| op.error(operands, error);
    check_devices(device, operands).map_err(error)?;
    check_links(links, operands.len()).map_err(error)?;
    operands.iter().try_for_each(|operand| check_operand(operand, layout)).map_err(error)?;
    if links.iter().filter(|link| matches!(link, Link::Op(..))).count() == 1 {
        // A single operation runs its own kernel, which takes whatever its rule allows.
        let mut args: SmallVec<[Arg<'_>; 4]> = operands.iter().cloned().collect();
        if let Some(Map::Store) = op.map() {
            args.push(Arg::DType(dtype));
        }
        let by_rule = result_layout(op, device, &args).map_err(error)?;
        if by_rule != *layout {
            return Err(error(NOT_THE_RESULT));
        }
        return run(op, device, &args, &ResultMemory::of_activation(layout));
    }
    with_plain(operands, |operands| run_chain(op, device, operands, links, layout))
}

fn run_chain(
    op: &'static Op,
    device: &Device,
    operands: &[Arg<'_>],
    links: &[Link],
    layout: &Layout,
) -> Result<DynTensor, Error> {
    let error = |error| op.error(operands, error);
    let mut lease = take(device, layout, Role::Activation, op.name)?;
    if !device.is_simulated() {
        compute(device, operands, links, layout, lease.bytes_mut()).map_err(error)?;
    }
    Ok(DynTensor::new(lease.share(), layout))
}

const NO_CHAIN: OpError =
    OpError::Argument { parameter: "the links", expected: "a chain: operands before what reads them, and one result" };

const NOT_THE_RESULT: OpError =
    OpError::Argument { parameter: "the layout", expected: "that of the last operation's result" };

/// Checks that the links leave one result, and that intermediate results fit.
fn check_links(links: &[Link], n_operands: usize) -> Result<(), OpError> {
    let (mut waiting, mut loaded) = (0, 0);
    for link in links {
        match link {
            Link::Operand => (waiting, loaded) = (waiting + 1, loaded + 1),
            Link::Op(op, _) => match op.map() {
                Some(Map::Unary(_) | Map::Store) if waiting >= 1 => {}
                Some(Map::Binary(_)) if waiting >= 2 => waiting -= 1,
                _ => return Err(NO_CHAIN),
            },
        }
        if waiting > MAX_WAITING {
            return Err(NO_CHAIN);
        }
    }
    if waiting == 1 && loaded == n_operands { Ok(()) } else { Err(NO_CHAIN) }
}

/// Checks that the operand is a number, or floats that broadcast to the result.
fn check_operand(operand: &Arg<'_>, result: &Layout) -> Result<(), OpError> {
    let expected = "a number, or floats that broadcast to the result";
    let dims = result.shape().dims();
    let fits = match operand.operand() {
        Some(own) => {
            let mut pairs = own.dims.iter().rev().zip(dims.iter().rev());
            is_chained(own.dtype) && own.dims.len() <= dims.len() && pairs.all(|(own, n)| own == n || *own == 1)
        }
        None => matches!(operand, Arg::Number(_) | Arg::Int(_)),
    };
    if fits { Ok(()) } else { Err(OpError::Argument { parameter: "an operand", expected }) }
}

fn compute(
    device: &Device,
    operands: &[Arg<'_>],
    links: &[Link],
    layout: &Layout,
    out: &mut [u8],
) -> Result<(), OpError> {
    let dims = layout.shape().dims();
    let strides: SmallVec<[Strides; MAX_LINKS]> = operands
        .iter()
        .map(|arg| arg.operand().map_or_else(Strides::new, |o| broadcast_strides(o.dims, o.strides, dims)))
        .collect();
    let mut sources: SmallVec<[Source<'_>; MAX_LINKS]> = SmallVec::new();
    for (arg, strides) in operands.iter().zip(&strides) {
        sources.push(match (arg, arg.operand()) {
            (_, Some(operand)) if operand.dtype == DType::F16 => {
                Source::F16(View { data: operand.data()?, dims, strides })
            }
            (_, Some(operand)) => Source::F32(View { data: operand.data()?, dims, strides }),
            // A number meets the elements in `f32`, not rounded to their type.
            (Arg::Number(x), None) => Source::Number(*x as f32),
            (Arg::Int(n), None) => Source::Number(*n as f64 as f32),
            _ => return Err(OpError::Unknown),
        });
    }
    let steps = steps(links);
    with_float!(layout.dtype(), "the result", T => {
        let dtype = layout.dtype();
        let out = bytemuck::try_cast_slice_mut::<u8, T>(out).map_err(|_| OpError::Unaligned { dtype })?;
        tl_kernels::chain(device.threads(), &sources, &steps, out);
        Ok(())
    })
}

/// The links as steps over blocks of floats. The last result is rounded when it is stored.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{apply, by_name};
    use crate::{CreateTensors, Tensor};

    fn link(name: &str) -> Link {
        Link::Op(by_name(name).unwrap(), DType::F32)
    }

    fn check(device: &Device, operands: &[Arg<'_>], links: &[Link], dtype: DType, expected: Option<&str>) {
        let found = apply_chain(device, operands, links, &Layout::new(dtype, [2, 3]));
        let found = found.err().map(|error| error.to_string());
        let is_expected = match (&found, expected) {
            (Some(found), Some(expected)) => found.contains(expected),
            (found, expected) => found.is_none() && expected.is_none(),
        };
        assert!(is_expected, "{found:?}, not {expected:?}: {links:?}");
    }

    #[test]
    fn what_is_no_chain_is_an_error() {
        let device = Device::cpu();
        let tensor = |dtype, dims: &[usize]| -> Tensor { device.ones(Layout::new(dtype, dims)).unwrap() };
        let (x, row) = (tensor(DType::F32, &[2, 3]), tensor(DType::F32, &[3]));
        let (half, ints) = (tensor(DType::F16, &[2, 3]), tensor(DType::I32, &[2, 3]));
        let [x, row, half, ints]: [Arg<'_>; 4] = [&x, &row, &half, &ints].map(Arg::from);
        let (n, add, exp) = (Link::Operand, link("add"), link("exp"));
        let check = |operands: &[&Arg<'_>], links: &[Link], expected| {
            let operands: Vec<Arg<'_>> = operands.iter().map(|&operand| *operand).collect();
            check(&device, &operands, links, DType::F32, expected);
        };
        check(&[&x, &row], &[n, n, add, exp], None);
        check(&[&half, &Arg::Number(2.0)], &[n, n, add, exp], None);
        check(&[&row], &[n, exp], Some("exp: the layout must be that of the last operation's result"));
        for (operands, links) in [
            (&[][..], &[][..]),
            (&[&x], &[n]),
            (&[], &[exp]),
            (&[&x], &[n, add, exp]),
            (&[&x, &x], &[n, n, exp, exp]),
            (&[&x], &[n, n, add, exp]),
            (&[&x, &x, &x], &[n, n, add, exp]),
            (&[&x], &[n, link("softmax"), exp]),
            (&[&x; 9], &[[n; 9], [add; 9]].concat()[..17]),
        ] {
            check(operands, links, Some("the links must be a chain"));
        }
        let (wide, deep) = (tensor(DType::F32, &[4]), tensor(DType::F32, &[1, 2, 3]));
        let layout = Layout::new(DType::F32, [2, 3]);
        let planned = Arg::Planned(&layout);
        for operand in [&ints, &Arg::from(&wide), &Arg::from(&deep), &planned, &Arg::None, &Arg::Bool(true)] {
            check(&[&x, operand], &[n, n, add, exp], Some("floats that broadcast to the result"));
            check(&[&x, operand], &[n, n, add], Some("floats that broadcast to the result"));
        }
        check(&[&x, &half], &[n, n, add], Some("float32 and float16 do not mix"));
        let other = Device::cpu();
        let elsewhere: Tensor = other.ones(layout.clone()).unwrap();
        check(&[&x, &Arg::from(&elsewhere)], &[n, n, add, exp], Some("different devices"));
        let refused = apply(by_name("add").unwrap(), &device, &[x, planned]).err();
        assert!(refused.is_some_and(|error| error.to_string().contains("computed before it is read")));
    }

    #[test]
    fn results_of_other_types_are_an_error() {
        let device = Device::cpu();
        let x: Tensor = device.ones(Layout::new(DType::F32, [2, 3])).unwrap();
        let links = [Link::Operand, link("exp"), link("exp")];
        for links in [&links[..], &links[..2]] {
            check(&device, &[Arg::from(&x)], links, DType::I32, Some("must be"));
        }
    }
}
