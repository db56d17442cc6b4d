//! What a row of the table of operations is made of.
//!
//! [`argument`]: parameters and the arguments that callers give for them. [`rule`]: what a shape rule sees and gives.
//! [`kernel`]: what a kernel gets, on the CPU and on a GPU. [`row`]: the row itself. Knows no operation, and nothing of
//! how one is run.

pub(crate) mod argument;
pub(crate) mod kernel;
pub(crate) mod row;
pub(crate) mod rule;

pub use argument::{Arg, DefaultValue, Kind, Param};
pub use kernel::{Call, Dispatch, GpuKernel, Map, OpKernel};
pub use row::{Group, Op};
pub use rule::{ArgType, RuleArgs, TensorType};

pub(crate) use argument::{optional, required};
pub(crate) use kernel::CpuKernel;
