//! Shape rules: what a rule gets (sizes and types of operands, known or not, and the values of other arguments), its
//! result, and the checks that rules share.
//!
//! One rule serves the running program, where every size is known, and the checker, where a size may be named or
//! unknown.

use smallvec::SmallVec;
use tl_device::{DType, Layout, Shape};

use super::argument::Arg;
use crate::OpError;
use crate::size::{Size, Sizes};

/// The type of a tensor, as far as it is known.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct TensorType {
    /// The type of the elements.
    pub dtype: Option<DType>,
    /// The dimensions; `None` where not even their number is known.
    pub sizes: Option<Sizes>,
}

impl TensorType {
    /// A type with these dimensions.
    pub fn new(dtype: Option<DType>, sizes: impl Into<Sizes>) -> TensorType {
        TensorType { dtype, sizes: Some(sizes.into()) }
    }

    /// The layout, where everything is known.
    pub fn layout(&self) -> Option<Layout> {
        let sizes = self.sizes.as_ref()?;
        let shape: Option<Shape> =
            sizes.iter().map(|size| size.known().and_then(|n| usize::try_from(n).ok())).collect();
        Some(Layout::new(self.dtype?, shape?))
    }
}

/// An argument as a rule sees it.
#[derive(Clone, Debug)]
pub enum ArgType<'a> {
    /// Left out.
    None,
    /// A tensor.
    Tensor(TensorType),
    /// An int32 tensor with one dimension, and its elements.
    Ids(TensorType, &'a [Size]),
    /// A list of tensors.
    Tensors(SmallVec<[TensorType; 2]>),
    /// A number with a fraction, whose value no rule reads.
    Number,
    /// An integer.
    Int(Size),
    /// A list of integers.
    Ints(Sizes),
    /// A truth value.
    Bool(Option<bool>),
    /// A text.
    Text(Option<&'a str>),
    /// A data type.
    DType(Option<DType>),
}

/// The arguments of one call, by the position of their parameters.
pub struct RuleArgs<'a>(pub &'a [ArgType<'a>]);

impl<'a> RuleArgs<'a> {
    fn at(&self, index: usize) -> &'a ArgType<'a> {
        self.0.get(index).unwrap_or(&ArgType::None)
    }

    /// Whether the argument was given.
    pub(crate) fn is_given(&self, index: usize) -> bool {
        !matches!(self.at(index), ArgType::None)
    }

    /// Whether the argument is a tensor.
    pub(crate) fn is_tensor(&self, index: usize) -> bool {
        matches!(self.at(index), ArgType::Tensor(_) | ArgType::Ids(..))
    }

    /// A tensor whose rank is known.
    pub(crate) fn tensor(&self, index: usize) -> Result<(&'a [Size], Option<DType>), OpError> {
        match self.at(index) {
            ArgType::Tensor(ty) | ArgType::Ids(ty, _) => {
                ty.sizes.as_deref().map(|sizes| (sizes, ty.dtype)).ok_or(OpError::Unknown)
            }
            _ => Err(OpError::Unknown),
        }
    }

    /// Checks that elements that are known are positions of a dimension; with `from_end` negative ones count from its end.
    pub(crate) fn ids_are_within(&self, index: usize, size: Size, from_end: bool) -> Result<(), OpError> {
        let (ArgType::Ids(_, ids), Size::Known(size)) = (self.at(index), size) else { return Ok(()) };
        let first = if from_end { -size } else { 0 };
        let outside = ids.iter().filter_map(|id| id.known()).find(|id| !(first..size).contains(id));
        outside.map_or(Ok(()), |id| Err(OpError::index(id, size as usize)))
    }

    /// A tensor of exactly this rank.
    pub(crate) fn ranked(
        &self,
        index: usize,
        rank: usize,
        operand: &'static str,
        expected: &'static str,
    ) -> Result<(&'a [Size], Option<DType>), OpError> {
        let (sizes, dtype) = self.tensor(index)?;
        if sizes.len() != rank {
            return Err(OpError::Rank { operand, expected, found: sizes.len() });
        }
        Ok((sizes, dtype))
    }

    /// A list of tensors.
    pub(crate) fn tensors(&self, index: usize) -> Result<&'a [TensorType], OpError> {
        match self.at(index) {
            ArgType::Tensors(types) => Ok(types),
            _ => Err(OpError::Unknown),
        }
    }

    /// An integer.
    pub(crate) fn int(&self, index: usize) -> Size {
        match self.at(index) {
            ArgType::Int(size) => *size,
            _ => Size::Unknown,
        }
    }

    /// A list of integers.
    pub(crate) fn ints(&self, index: usize) -> Result<&'a [Size], OpError> {
        match self.at(index) {
            ArgType::Ints(sizes) => Ok(sizes),
            _ => Err(OpError::Unknown),
        }
    }

    /// A truth value.
    pub(crate) fn bool(&self, index: usize) -> Result<bool, OpError> {
        match self.at(index) {
            ArgType::Bool(Some(value)) => Ok(*value),
            _ => Err(OpError::Unknown),
        }
    }

    /// A text.
    pub(crate) fn text(&self, index: usize) -> Result<&'a str, OpError> {
        match self.at(index) {
            ArgType::Text(Some(text)) => Ok(text),
            _ => Err(OpError::Unknown),
        }
    }

    /// A data type, `float16` where it was left out.
    pub(crate) fn dtype(&self, index: usize) -> Option<DType> {
        match self.at(index) {
            ArgType::DType(dtype) => *dtype,
            ArgType::None => Some(DType::F16),
            _ => None,
        }
    }

    /// A dimension's number, counted from the end where it is negative.
    pub(crate) fn axis(&self, index: usize, rank: usize) -> Result<usize, OpError> {
        normalize_axis(self.int(index).known().ok_or(OpError::Unknown)?, rank)
    }

    /// The common type of elementwise operands: all tensors have one type, and numbers take it.
    pub(crate) fn common_dtype(&self, indices: &[usize]) -> Result<Option<DType>, OpError> {
        let mut common: Option<DType> = None;
        for &index in indices {
            let (ArgType::Tensor(ty) | ArgType::Ids(ty, _)) = self.at(index) else { continue };
            let Some(dtype) = &ty.dtype else { continue };
            match common {
                Some(first) if first != *dtype => return Err(OpError::Mixed { left: first, right: *dtype }),
                _ => common = Some(*dtype),
            }
        }
        let has_number = indices.iter().any(|&index| matches!(self.at(index), ArgType::Number));
        match common {
            Some(dtype @ (DType::I32 | DType::Bool)) if has_number => Err(OpError::DType {
                operand: "a tensor that meets a fraction",
                expected: "a float type",
                found: dtype,
            }),
            _ => Ok(common),
        }
    }
}

/// A dimension's number as an index, counted from the end where it is negative.
pub(crate) fn normalize_axis(axis: i64, rank: usize) -> Result<usize, OpError> {
    let from_start = if axis < 0 { axis.checked_add(rank as i64) } else { Some(axis) };
    from_start.and_then(|n| usize::try_from(n).ok()).filter(|&n| n < rank).ok_or(OpError::Axis { axis, rank })
}

/// Checks that the rows of a weight are whole blocks of its format. Those of a transposed view may not be.
pub(crate) fn whole_rows(operand: &'static str, dtype: Option<DType>, row: Size) -> Result<(), OpError> {
    match (dtype, row) {
        (Some(found), Size::Known(n)) if !(n as usize).is_multiple_of(found.block_elems()) => {
            Err(OpError::DType { operand, expected: "a weight that is not transposed", found })
        }
        _ => Ok(()),
    }
}

/// Checks that the type is one of weights: a float or a stored format.
pub(crate) fn weight_rule(operand: &'static str, dtype: Option<DType>) -> Result<(), OpError> {
    match dtype {
        Some(found @ (DType::I32 | DType::Bool)) => {
            Err(OpError::DType { operand, expected: "float16, float32 or a weight format", found })
        }
        _ => Ok(()),
    }
}

/// The type of a product: the activation's. The other operand may be a weight, which keeps its stored type, so its type
/// never counts as mixing.
pub(crate) fn product_dtype(
    (operand, x): (&'static str, Option<DType>),
    (weight, weight_dtype): (&'static str, Option<DType>),
) -> Result<Option<DType>, OpError> {
    if let Some(found) = x.filter(|dtype| !dtype.is_float()) {
        let expected = "float16 or float32 (cast it first with `as float32`)";
        return Err(OpError::DType { operand, expected, found });
    }
    weight_rule(weight, weight_dtype)?;
    Ok(x)
}

/// The size, which must not be negative.
pub(crate) fn dimension(size: Size) -> Result<Size, OpError> {
    match size {
        Size::Known(n) if n < 0 => {
            Err(OpError::Value { operand: "a dimension", expected: "0 or more", found: n as f64 })
        }
        size => Ok(size),
    }
}

/// The one size that both are, or the error that they differ.
pub(crate) fn same(rule: &'static str, left: Size, right: Size) -> Result<Size, OpError> {
    match left.equals(right) {
        Some(false) => Err(OpError::Sizes { rule, left, right }),
        _ => Ok(left.or(right)),
    }
}

/// NumPy's broadcasting: dimensions align at the end, and a size of 1 repeats.
pub(crate) fn broadcast(left: &[Size], right: &[Size]) -> Result<Sizes, OpError> {
    let rank = left.len().max(right.len());
    let at = |sizes: &[Size], i: usize| {
        let missing = rank - sizes.len();
        if i < missing { Size::Known(1) } else { sizes[i - missing] }
    };
    (0..rank)
        .map(|i| match (at(left, i), at(right, i)) {
            (Size::Known(1), size) | (size, Size::Known(1)) => Ok(size),
            (a, b) if a.equals(b) == Some(true) => Ok(a.or(b)),
            // A size that may turn out to be 1 repeats then, so that the other one decides.
            (a, b) => match (a.equals(Size::Known(1)), b.equals(Size::Known(1))) {
                (Some(false), Some(false)) => same("the shapes do not broadcast", a, b),
                (Some(false), None) => Ok(a),
                (None, Some(false)) => Ok(b),
                _ => Ok(Size::Unknown),
            },
        })
        .collect()
}

impl<'a> From<&'a Arg<'a>> for ArgType<'a> {
    fn from(arg: &'a Arg<'a>) -> Self {
        match arg {
            Arg::None => ArgType::None,
            Arg::Tensor(tensor) => ArgType::Tensor(known(tensor.dtype(), tensor.shape())),
            Arg::Operand(operand) => ArgType::Tensor(known(operand.dtype, operand.dims)),
            Arg::Planned(layout) => ArgType::Tensor(known(layout.dtype(), layout.shape())),
            Arg::Tensors(tensors) => {
                ArgType::Tensors(tensors.iter().map(|tensor| known(tensor.dtype(), tensor.dims())).collect())
            }
            Arg::Number(_) => ArgType::Number,
            Arg::Int(n) => ArgType::Int(Size::Known(*n)),
            Arg::Ints(ints) => ArgType::Ints(ints.iter().map(|&n| Size::Known(n)).collect()),
            Arg::Bool(value) => ArgType::Bool(Some(*value)),
            Arg::Text(text) => ArgType::Text(Some(text)),
            Arg::DType(dtype) => ArgType::DType(Some(*dtype)),
        }
    }
}

fn known(dtype: DType, dims: &[usize]) -> TensorType {
    TensorType::new(Some(dtype), dims.iter().map(|&n| Size::Known(n as i64)).collect::<Sizes>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::term::Symbol;
    use Size::{Known, Unknown};

    #[test]
    fn broadcasting() {
        let check = |left: &[Size], right: &[Size], expected: Option<&[Size]>| {
            assert_eq!(broadcast(left, right).ok().as_deref(), expected, "{left:?} {right:?}");
            assert_eq!(broadcast(right, left).ok().as_deref(), expected, "{right:?} {left:?}");
        };
        check(&[Known(8), Known(1)], &[Known(5)], Some(&[Known(8), Known(5)]));
        check(&[Known(8)], &[Known(5)], None);
        let (n, m) = (Size::symbol("n", Symbol::Rigid), Size::symbol("m", Symbol::Rigid));
        let (k, l) = (Size::symbol("k", Symbol::Dimension), Size::symbol("l", Symbol::Dimension));
        check(&[], &[n], Some(&[n]));
        check(&[n], &[n], Some(&[n]));
        check(&[n], &[m], None);
        check(&[n], &[Known(4)], None);
        check(&[n], &[Known(1)], Some(&[n]));
        check(&[n], &[k], Some(&[n]));
        check(&[k], &[Known(4)], Some(&[Known(4)]));
        check(&[k], &[l], Some(&[Unknown]));
        // A size with a name is not taken for 0, so that `k + 1` is not 1.
        check(&[k], &[k.plus(Known(1))], Some(&[k.plus(Known(1))]));
        check(&[Unknown], &[Known(4)], Some(&[Known(4)]));
        check(&[Known(0)], &[Known(1)], Some(&[Known(0)]));
        check(&[Known(0)], &[Known(2)], None);
    }

    #[test]
    fn axes() {
        let check = |axis, rank, expected: Option<usize>| assert_eq!(normalize_axis(axis, rank).ok(), expected);
        check(0, 2, Some(0));
        check(-1, 2, Some(1));
        check(2, 2, None);
        check(-3, 2, None);
        check(0, 0, None);
        check(i64::MIN, 2, None);
    }
}
