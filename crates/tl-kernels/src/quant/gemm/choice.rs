//! Which layout a product gets: of the integers or floats that are portable, or one of the instruction set's own.

use super::float::FloatLayout;
use super::integer::IntegerLayout;
use super::layout::{GemmLayout, LANES, MAX_TOKENS, panel_lines};
use crate::element::Element;
use crate::isa::{Isa, Portable, dispatch};
use crate::quant::arithmetic::Arithmetic;
use crate::quant::product::Product;
use crate::quant::weight::{Dot, WeightKernels};
use crate::workspace::{LENT_BYTES, Line};

/// What is done with the layout of a product, whatever its type is.
pub(crate) trait LayoutVisitor {
    /// What comes of it.
    type Output;
    /// Does it.
    fn visit<L: GemmLayout>(self, layout: L) -> Self::Output;
}

/// The layouts of an instruction set.
pub(crate) trait GemmLayouts: Copy {
    /// Hands the layout for products of activations `X` with weights of a format to the visitor.
    fn with_layout<X: Element, V: LayoutVisitor>(self, format: &WeightKernels, visitor: V) -> V::Output {
        with_portable_layout(format, visitor)
    }
}

impl GemmLayouts for Portable {}

/// Hands one of the layouts that every instruction set has to the visitor.
pub(crate) fn with_portable_layout<V: LayoutVisitor>(format: &WeightKernels, visitor: V) -> V::Output {
    match format.dot {
        Dot::Integer(kernels) => visitor.visit(IntegerLayout { kernels }),
        Dot::Float(_) => visitor.visit(FloatLayout { format }),
    }
}

/// What products of many tokens of `X` with a weight of this format are computed in.
pub(crate) fn arithmetic<X: Element>(isa: Isa, format: &WeightKernels) -> Arithmetic {
    dispatch!(isa, set => set.with_layout::<X, _>(format, ArithmeticOf))
}

struct ArithmeticOf;

impl LayoutVisitor for ArithmeticOf {
    type Output = Arithmetic;

    fn visit<L: GemmLayout>(self, layout: L) -> Arithmetic {
        layout.arithmetic()
    }
}

/// The tokens that the workspace holds.
pub(crate) fn capacity<X: Element>(isa: Isa, product: &Product<'_>) -> usize {
    dispatch!(isa, set => set.with_layout::<X, _>(product.weight.format, Capacity { k: product.k }))
}

struct Capacity {
    k: usize,
}

impl LayoutVisitor for Capacity {
    type Output = usize;

    fn visit<L: GemmLayout>(self, layout: L) -> usize {
        let lines = panel_lines(layout, self.k);
        (LENT_BYTES / size_of::<Line>() / lines.max(1) * LANES).min(MAX_TOKENS)
    }
}
