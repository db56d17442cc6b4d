//! Call sites: the layout of a result, remembered for as long as the arguments look the same to the operation's rule.
//!
//! A program applies the same operations to the same shapes again and again, and the rule is most of what an operation
//! on small tensors costs beside its kernel. A site compares exactly what a rule gets: see
//! [`ArgType`](crate::ops::ArgType).

use smallvec::SmallVec;
use tl_device::{DType, Layout};

use crate::op::{Arg, Op};

/// What a call site in a program remembers of its last call.
#[derive(Default)]
pub struct Site {
    /// The arguments of the last call as the rule saw them, in words; empty before the first call.
    seen: SmallVec<[u64; 24]>,
    result: Option<Layout>,
}

impl std::fmt::Debug for Site {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Site({:?})", self.result)
    }
}

impl Site {
    /// The layout of the result, where operation and arguments look to the rule as in the last call.
    pub(super) fn recall(&self, op: &'static Op, args: &[Arg<'_>]) -> Option<&Layout> {
        let mut compare = Compare { rest: &self.seen };
        (self.result.is_some() && write_call(op, args, &mut compare) && compare.rest.is_empty())
            .then_some(self.result.as_ref())
            .flatten()
    }

    /// Remembers the layout that the rule gave for these arguments.
    pub(super) fn remember(&mut self, op: &'static Op, args: &[Arg<'_>], result: &Layout) {
        self.result = None;
        self.seen.clear();
        if write_call(op, args, &mut Record { words: &mut self.seen }) {
            self.result = Some(result.clone());
        }
    }
}

/// Receives the words of a call one after the other; `false` stops.
trait Words {
    fn word(&mut self, word: u64) -> bool;
}

struct Record<'a> {
    words: &'a mut SmallVec<[u64; 24]>,
}

impl Words for Record<'_> {
    fn word(&mut self, word: u64) -> bool {
        self.words.push(word);
        true
    }
}

struct Compare<'a> {
    rest: &'a [u64],
}

impl Words for Compare<'_> {
    #[inline]
    fn word(&mut self, word: u64) -> bool {
        match self.rest.split_first() {
            Some((first, rest)) => {
                self.rest = rest;
                *first == word
            }
            None => false,
        }
    }
}

/// Everything that a rule may read of the arguments: values of integers, not of numbers with a fraction.
#[inline]
fn write_call(op: &'static Op, args: &[Arg<'_>], words: &mut impl Words) -> bool {
    words.word(std::ptr::from_ref(op).addr() as u64) && args.iter().all(|arg| write_arg(arg, words))
}

#[inline]
fn write_arg(arg: &Arg<'_>, words: &mut impl Words) -> bool {
    // The kind stands in the lowest bits, beside a length where there is one.
    let head = |kind: u64, len: usize| kind | (len as u64) << 8;
    match arg {
        Arg::None => words.word(0),
        Arg::Tensor(tensor) => write_tensor(tensor.dtype(), tensor.shape(), words),
        Arg::Operand(operand) => write_tensor(operand.dtype, operand.dims, words),
        Arg::Planned(layout) => write_tensor(layout.dtype(), layout.shape(), words),
        Arg::Tensors(tensors) => {
            words.word(head(2, tensors.len()))
                && tensors.iter().all(|tensor| write_tensor(tensor.dtype(), tensor.dims(), words))
        }
        Arg::Number(_) => words.word(3),
        Arg::Int(n) => words.word(4) && words.word(*n as u64),
        Arg::Ints(ints) => words.word(head(5, ints.len())) && ints.iter().all(|&n| words.word(n as u64)),
        Arg::Bool(value) => words.word(head(6, usize::from(*value))),
        Arg::Text(text) => {
            words.word(head(7, text.len()))
                && text.as_bytes().chunks(8).all(|chunk| {
                    let mut bytes = [0; 8];
                    bytes[..chunk.len()].copy_from_slice(chunk);
                    words.word(u64::from_le_bytes(bytes))
                })
        }
        Arg::DType(dtype) => words.word(8) && words.word(dtype_word(*dtype)),
    }
}

#[inline]
fn write_tensor(dtype: DType, dims: &[usize], words: &mut impl Words) -> bool {
    // The rank has few bits, the number of a type at most 34.
    words.word(1 | (dims.len() as u64) << 8 | dtype_word(dtype) << 24) && dims.iter().all(|&n| words.word(n as u64))
}

#[inline]
fn dtype_word(dtype: DType) -> u64 {
    match dtype {
        DType::F16 => 0,
        DType::F32 => 1,
        DType::I32 => 2,
        DType::Bool => 3,
        DType::Block(format) => 4 + u64::from(format.id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::by_name;
    use crate::{CreateTensors, Tensor};
    use tl_device::Device;

    /// Whether a site that saw `first` takes `second` for the same.
    fn check(first: &[Arg<'_>], second: &[Arg<'_>], expected: bool) {
        let op = by_name("where").unwrap();
        let mut site = Site::default();
        assert!(site.recall(op, first).is_none(), "nothing is known before the first call");
        let layout = Layout::new(DType::F32, [7]);
        site.remember(op, first, &layout);
        assert_eq!(site.recall(op, first), Some(&layout));
        assert_eq!(site.recall(op, second).is_some(), expected, "{:?}", site.seen);
        assert!(site.recall(by_name("rope").unwrap(), first).is_none(), "another operation");
    }

    #[test]
    fn what_a_rule_sees() {
        let device = Device::cpu();
        let tensor = |dtype, dims: &[usize]| -> Tensor { device.zeros(Layout::new(dtype, dims)).unwrap() };
        let (a, b) = (tensor(DType::F16, &[2, 3]), tensor(DType::F16, &[2, 3]));
        let (c, d) = (tensor(DType::F32, &[2, 3]), tensor(DType::F16, &[3, 2]));
        let e = tensor(DType::F16, &[2, 3, 1]);
        check(&[(&a).into()], &[(&b).into()], true);
        for other in [&c, &d, &e] {
            check(&[(&a).into()], &[other.into()], false);
            check(&[Arg::Tensors(&[a.clone(), b.clone()])], &[Arg::Tensors(&[a.clone(), other.clone()])], false);
        }
        check(&[(&a).into()], &[(&a).into(), (&a).into()], false);
        check(&[(&a).into(), (&a).into()], &[(&a).into()], false);
        check(&[Arg::Tensors(std::slice::from_ref(&a))], &[(&a).into()], false);
        check(&[Arg::Number(1.0)], &[Arg::Number(2.0)], true);
        check(&[Arg::Int(1)], &[Arg::Int(2)], false);
        check(&[Arg::Int(3)], &[Arg::Number(3.0)], false);
        check(&[Arg::Ints(&[1, 2])], &[Arg::Ints(&[1, 3])], false);
        check(&[Arg::Ints(&[1, 2])], &[Arg::Ints(&[1, 2])], true);
        check(&[Arg::Ints(&[1, 2])], &[Arg::Ints(&[1]), Arg::Ints(&[2])], false);
        check(&[Arg::Bool(true)], &[Arg::Bool(false)], false);
        check(&[Arg::Text("ij,jk->ik")], &[Arg::Text("ij,jk->ki")], false);
        check(&[Arg::Text("ij")], &[Arg::Text("ij\0")], false);
        check(&[Arg::DType(DType::F16)], &[Arg::DType(DType::F32)], false);
        check(&[Arg::None], &[], false);
    }
}
