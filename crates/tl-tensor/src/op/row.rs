//! A row of the table of operations.

use std::fmt;

use tl_device::Layout;

use super::argument::{Arg, Param};
use super::kernel::{GpuKernel, Map, OpKernel};
use super::rule::{RuleArgs, TensorType};
use crate::{Error, OpError};

/// A row of [`OPS`](crate::ops::OPS).
pub struct Op {
    /// The name in programs.
    pub name: &'static str,
    /// Its chapter in the documentation.
    pub group: Group,
    /// One sentence, the formula, shapes, dtypes.
    pub doc: &'static str,
    /// The parameters, in order.
    pub params: &'static [Param],
    /// The type of the result, or the rule that the operands break.
    pub rule: fn(&RuleArgs) -> Result<TensorType, OpError>,
    /// How the CPU computes it.
    pub kernel: OpKernel,
    /// How a GPU computes it; `None`: the CPU does so on copies. Views need no program.
    pub gpu: Option<GpuKernel>,
}

impl Op {
    /// Whether the result is a view of the first operand.
    pub fn is_view(&self) -> bool {
        matches!(self.kernel, OpKernel::View(_))
    }

    /// What the operation does with a block of floats, where it is elementwise.
    pub fn map(&self) -> Option<Map> {
        match self.kernel {
            OpKernel::Elementwise(map, _) => Some(map),
            _ => None,
        }
    }

    /// The error with the operation's name and its operands.
    #[cold]
    pub(crate) fn error(&'static self, args: &[Arg<'_>], error: OpError) -> Error {
        if let OpError::Device(error) = error {
            return Error::Memory { op: self.name, error: *error };
        }
        let mut operands = Vec::new();
        for arg in args {
            match arg {
                Arg::Tensors(tensors) => operands.extend(tensors.iter().map(|tensor| tensor.layout().to_string())),
                Arg::Planned(layout) => operands.push(layout.to_string()),
                arg => operands.extend(arg.operand().map(|o| Layout::new(o.dtype, o.dims).to_string())),
            }
        }
        Error::Op { op: self.name, operands, error }
    }
}

impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Op({})", self.name)
    }
}

/// The chapters of the documentation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Group {
    /// Tensors from nothing.
    Create,
    /// The same elements in another arrangement.
    Shape,
    /// Each element on its own.
    Elementwise,
    /// Many elements to one.
    Reduce,
    /// Matrix products.
    Linear,
    /// What transformers are made of.
    Transformer,
}
