//! What can go wrong with an operation.

use std::fmt;

use tl_device::{DType, Shape};

use crate::size::Size;

/// An operation that cannot be done, or memory that cannot be had.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An operation refused its operands.
    #[error("{}", describe(op, operands, error))]
    Op {
        /// The operation's name.
        op: &'static str,
        /// Its operands, as `float16[8, 512]`.
        operands: Vec<String>,
        /// The rule that they break.
        error: OpError,
    },
    /// The result of an operation found no memory, or the device failed.
    #[error("{op}: {error}")]
    Memory {
        /// The operation's name.
        op: &'static str,
        /// Why.
        error: tl_device::Error,
    },
    /// Data whose length differs from the shape's number of elements.
    #[error("{given} values do not fill the shape {shape}, which takes {expected}")]
    DataLength {
        /// Values given.
        given: usize,
        /// The shape.
        shape: Shape,
        /// Values it takes.
        expected: usize,
    },
    /// A tensor read as another type than it has.
    #[error("this tensor is {found}, not {expected}; convert it first with `cast`")]
    ElementType {
        /// The type asked for.
        expected: DType,
        /// The tensor's.
        found: DType,
    },
    /// Writing outside a tensor's rows.
    #[error("rows {start}..{end} are outside a tensor of {rows} rows")]
    Rows {
        /// First row.
        start: usize,
        /// Row after the last.
        end: usize,
        /// Rows that there are.
        rows: usize,
    },
}

/// The rule that the operands of an operation break. [`crate::ops::apply`] adds the operation and the operands.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum OpError {
    /// Undecided before the program runs. Only the checker, which knows less than the running program, gets it.
    Unknown,
    /// Two sizes that must be equal are not.
    Sizes {
        /// What must be equal, "the inner sizes differ".
        rule: &'static str,
        /// The first size.
        left: Size,
        /// The second size.
        right: Size,
    },
    /// An argument that is missing, or of another kind than its parameter takes.
    Argument {
        /// The parameter.
        parameter: &'static str,
        /// What it takes, "a tensor".
        expected: &'static str,
    },
    /// More arguments than parameters.
    Arguments {
        /// How many there may be.
        most: usize,
        /// How many there are.
        found: usize,
    },
    /// An operand with the wrong number of dimensions.
    Rank {
        /// The parameter.
        operand: &'static str,
        /// What it must have, "3 dimensions, [n, heads, head_dim]".
        expected: &'static str,
        /// How many it has.
        found: usize,
    },
    /// A dimension's number that the tensor does not have.
    Axis {
        /// The number given.
        axis: i64,
        /// How many dimensions there are.
        rank: usize,
    },
    /// An index or range outside a dimension.
    Index {
        /// The index.
        index: Size,
        /// The dimension's size.
        size: Size,
    },
    /// A part of a dimension that lies outside it.
    Part {
        /// Its first position.
        start: Size,
        /// The position after its last.
        end: Size,
        /// The dimension's size.
        size: Size,
    },
    /// An operand of a type that the operation refuses.
    DType {
        /// The parameter.
        operand: &'static str,
        /// What it takes.
        expected: &'static str,
        /// What it was given.
        found: DType,
    },
    /// Two float types in one operation.
    Mixed {
        /// The first operand's.
        left: DType,
        /// The second operand's.
        right: DType,
    },
    /// A number out of its range.
    Value {
        /// The parameter.
        operand: &'static str,
        /// What it must be.
        expected: &'static str,
        /// What it is.
        found: f64,
    },
    /// A reshape that would change the number of elements.
    Elements {
        /// Elements there are.
        from: Size,
        /// Elements asked for.
        to: Size,
    },
    /// A text (an einsum specification) that cannot be parsed.
    Spec {
        /// The text.
        spec: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A letter of an einsum specification that stands for two sizes.
    Letter {
        /// The letter.
        letter: char,
        /// The operands that have it, counted from 1.
        operands: [usize; 2],
        /// Its size in the first of them.
        left: Size,
        /// Its size in the second.
        right: Size,
    },
    /// Operands that lie on different devices.
    Devices,
    /// The device refused, or has failed.
    Device(Box<tl_device::Error>),
    /// Bytes of a mapped file that are not aligned for their type.
    Unaligned {
        /// The type.
        dtype: DType,
    },
    /// A GPU without a program for these operands, for an operation that has no fallback to the CPU.
    UnsupportedOnGpu,
}

impl OpError {
    /// An index outside a dimension.
    pub(crate) fn index(index: i64, size: usize) -> OpError {
        OpError::Index { index: Size::Known(index), size: Size::Known(size as i64) }
    }

    /// The rule in words, and the values that break it.
    fn parts(&self) -> (String, Option<String>) {
        match self {
            OpError::Unknown => ("cannot be decided before the program runs".into(), None),
            OpError::Sizes { rule, left, right } => ((*rule).into(), Some(format!("{left} and {right}"))),
            OpError::Argument { parameter, expected } => (format!("{parameter} must be {expected}"), None),
            OpError::Arguments { most, found } => (format!("there are {found} arguments for {most} parameters"), None),
            OpError::Rank { operand, expected, found } => {
                (format!("{operand} must have {expected}"), Some(format!("it has {found}")))
            }
            OpError::Axis { axis, rank: 0 } => {
                (format!("there is no dimension {axis}: the tensor is a single number"), None)
            }
            OpError::Axis { axis, rank } => {
                let last = *rank as i64 - 1;
                (format!("there is no dimension {axis}"), Some(format!("0 to {last}, or -{rank} to -1 from the end")))
            }
            OpError::Index { index, size } => (format!("index {index} is out of range for size {size}"), None),
            OpError::Part { start, end, size } => (format!("{start}..{end} is out of range for size {size}"), None),
            OpError::DType { operand, expected, found } => (format!("{operand} must be {expected}, not {found}"), None),
            OpError::Mixed { left, right } => {
                (format!("{left} and {right} do not mix; {}", conversion(*left, *right)), None)
            }
            OpError::Value { operand, expected, found } => (format!("{operand} must be {expected}, not {found}"), None),
            OpError::Elements { from, to } => {
                ("the number of elements must stay the same".into(), Some(format!("{from} and {to}")))
            }
            OpError::Spec { spec, problem } => (format!("{spec:?}: {problem}"), None),
            OpError::Letter { letter, operands: [a, b], left, right } if a == b => {
                (format!("`{letter}` stands for two sizes in operand {a}"), Some(format!("{left} and {right}")))
            }
            OpError::Letter { letter, operands: [a, b], left, right } => {
                let rule = format!("`{letter}` stands for two sizes, in operand {a} and in operand {b}");
                (rule, Some(format!("{left} and {right}")))
            }
            OpError::Device(error) => (error.to_string(), None),
            OpError::Devices => ("the operands lie on different devices".into(), None),
            OpError::Unaligned { dtype } => (format!("the file's data is not aligned for {dtype}"), None),
            OpError::UnsupportedOnGpu => (
                "there is no GPU program for operands of these sizes and types; use the CPU for this model".into(),
                None,
            ),
        }
    }

    /// Whether the operands' types matter to the reader of the message.
    fn is_about_types(&self) -> bool {
        matches!(self, OpError::DType { .. } | OpError::Mixed { .. })
    }
}

/// What makes two types one. Nothing converts to a weight format, and a weight converts to floats only.
fn conversion(left: DType, right: DType) -> String {
    let is_weight = |dtype: DType| matches!(dtype, DType::Block(_));
    match (left, right) {
        (x, w) | (w, x) if is_weight(w) && x.is_float() => format!("convert the weight, `w as {x}`"),
        (x, w) if is_weight(x) || is_weight(w) => "convert both, `x as float32`".to_owned(),
        (left, right) => format!("convert one of them, `x as {left}` or `x as {right}`"),
    }
}

impl fmt::Display for OpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rule, values) = self.parts();
        f.write_str(&rule)?;
        values.map_or(Ok(()), |values| write!(f, " ({values})"))
    }
}

/// An operation, the rule that was broken and the operands as one line:
/// `matmul: the inner sizes differ: [8, 512] @ [256, 128] (512 and 256)`.
pub fn describe(op: &str, operands: &[String], error: &OpError) -> String {
    let (rule, values) = error.parts();
    let mut text = format!("{op}: {rule}");
    if !operands.is_empty() {
        let separator = if op == "matmul" { " @ " } else { ", " };
        let shown: Vec<&str> = operands.iter().map(|operand| shown(operand, error)).collect();
        text += &format!(": {}", shown.join(separator));
    }
    if let Some(values) = values {
        text += &format!(" ({values})");
    }
    text
}

/// An operand without its type where only sizes are at fault.
fn shown<'a>(operand: &'a str, error: &OpError) -> &'a str {
    match operand.find('[') {
        Some(at) if !error.is_about_types() => &operand[at..],
        _ => operand,
    }
}
