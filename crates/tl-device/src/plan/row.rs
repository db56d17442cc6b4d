//! One reservation whose dimensions and count are formulas, and its line in a plan's file.

use super::formula::{Formula, Polynomial};
use crate::layout::{DType, Layout, Shape};
use crate::stats::ReserveKind;

const KINDS: [ReserveKind; 3] = [ReserveKind::Exact, ReserveKind::UpTo, ReserveKind::Learnable];

/// The first word of a plan's line.
pub(crate) fn word(kind: ReserveKind) -> &'static str {
    match kind {
        ReserveKind::Exact => "exact",
        ReserveKind::UpTo => "up_to",
        ReserveKind::Learnable => "learnable",
    }
}

/// A reservation whose dimensions and count are formulas.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SymbolicRow {
    pub(crate) dtype: DType,
    pub(crate) dims: Vec<Formula>,
    pub(crate) kind: ReserveKind,
    pub(crate) count: Formula,
}

impl SymbolicRow {
    pub(crate) fn layout_at(&self, values: &[usize]) -> Layout {
        Layout::new(self.dtype, self.dims.iter().map(|dim| dim.at(values)).collect::<Shape>())
    }

    pub(crate) fn shape(&self, names: &[&str]) -> String {
        let dims: Vec<String> = self.dims.iter().map(|dim| dim.text(names)).collect();
        format!("[{}]", dims.join(", "))
    }

    /// Bytes without rounding.
    pub(crate) fn bytes(&self) -> Polynomial {
        let product = |dims: &[Formula]| {
            dims.iter().map(Polynomial::of).fold(Polynomial::of(&self.count), |product, dim| product.times(&dim))
        };
        let bytes_of = |shape: Shape| Layout::new(self.dtype, shape).len_bytes().ok();
        match (self.dtype, self.dims.split_last()) {
            (DType::Block(_), Some((last, others))) => {
                // A row is a whole number of blocks. A row of variable length has at most two bytes for each element.
                let row = bytes_of(Shape::from([last.at(&[])])).filter(|_| last.is_constant());
                row.map_or_else(
                    || product(&self.dims).times(&Polynomial::constant(2)),
                    |bytes| product(others).times(&Polynomial::constant(bytes)),
                )
            }
            _ => product(&self.dims).times(&Polynomial::constant(bytes_of(Shape::from([])).unwrap_or(1))),
        }
    }

    /// Parses a line of a plan. The error states the reason.
    pub(crate) fn parse(line: &str, names: &[&str]) -> Result<SymbolicRow, String> {
        let (kind, rest) = line.split_once(' ').ok_or("there is no layout")?;
        let kind = KINDS.into_iter().find(|known| word(*known) == kind);
        let kind = kind.ok_or("it does not begin with exact, up_to or learnable")?;
        let (dtype, rest) = rest.trim().split_once('[').ok_or("the layout has no dimensions")?;
        let (dims, count) = rest.split_once(']').ok_or("the dimensions do not end with `]`")?;
        if count.trim().is_empty() {
            return Err("there is no count".to_owned());
        }
        let count = Formula::parse(count, names).map_err(|problem| format!("the count {problem}"))?;
        let dtype = DType::WRITTEN.into_iter().find(|known| known.name() == dtype);
        let dtype = dtype.ok_or("the data type is none of float16, float32, int32, bool, q8_0")?;
        let dims = dims.split(',').map(str::trim).filter(|dim| !dim.is_empty());
        let dims = dims.map(|dim| Formula::parse(dim, names).map_err(|problem| format!("a dimension {problem}")));
        Ok(SymbolicRow { dtype, dims: dims.collect::<Result<_, _>>()?, kind, count })
    }
}
