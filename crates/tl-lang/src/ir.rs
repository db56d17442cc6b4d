//! The checked program, which the evaluator runs: names are slots and rows, arguments stand in the order of the
//! parameters, literals are values. The checker builds it, `liveness` marks in it where values end, and nothing of the
//! syntax is left but the places.

use std::sync::Arc;

use smallvec::SmallVec;
use tl_device::DType;
use tl_syntax::Span;
use tl_syntax::ast::{BinaryOperator, TensorStorage};
use tl_tensor::ops::Op;

use crate::library::Builtin;
use crate::value::{HandleKind, Value};

/// A place in a function's frame.
pub(crate) type Slot = u32;

/// A checked program.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) functions: Vec<Function>,
    /// The top level and `main`, as a function without parameters.
    pub(crate) entry: Function,
    /// The names of the top-level variables that functions read.
    pub(crate) globals: Vec<Arc<str>>,
}

/// A function that the program declares.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) name: Arc<str>,
    /// They take the first slots.
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) result: Declared,
    /// The signature's size names; they take the slots behind the parameters.
    pub(crate) sizes: Vec<Arc<str>>,
    pub(crate) slots: u32,
    pub(crate) body: Block,
    /// For each slot, whether its value may hold memory that is worth giving back early.
    pub(crate) holds_memory: Vec<bool>,
}

#[derive(Debug)]
pub(crate) struct Parameter {
    pub(crate) name: Arc<str>,
    pub(crate) ty: Declared,
}

/// A written type, as the running program checks it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Declared {
    Int,
    Float,
    Bool,
    Str,
    Unit,
    Tensor(DType, SmallVec<[DeclaredDim; 4]>),
    List(Box<Declared>),
    Handle(HandleKind),
    /// Was wrong, and has been reported.
    Unknown,
}

/// A dimension in a written type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeclaredDim {
    Known(usize),
    Any,
    /// The index among the signature's names.
    Named(u32),
}

#[derive(Debug, Default)]
pub(crate) struct Block {
    pub(crate) statements: Vec<Statement>,
    pub(crate) value: Option<Box<Expr>>,
}

#[derive(Debug)]
pub(crate) enum Statement {
    /// Puts a value into a slot; `unread` where nobody reads it there.
    Set {
        slot: Slot,
        value: Expr,
        unread: bool,
    },
    SetGlobal {
        index: u32,
        value: Expr,
    },
    Expr(Expr),
    For {
        slot: Slot,
        unread: bool,
        iterable: Expr,
        body: Block,
        drops: Drops,
    },
    While {
        condition: Expr,
        body: Block,
        drops: Drops,
    },
    Loop {
        body: Block,
    },
    Break,
    Continue,
    Return(Option<Expr>),
}

/// Slots whose values end here.
pub(crate) type Drops = SmallVec<[Slot; 2]>;

#[derive(Debug)]
pub(crate) struct Expr {
    pub(crate) kind: ExprKind,
    pub(crate) span: Span,
}

#[derive(Debug)]
pub(crate) enum ExprKind {
    Constant(Value),
    /// `last` where the value is not read again: then it is moved out.
    Local {
        slot: Slot,
        last: bool,
        name: Arc<str>,
    },
    Global {
        index: u32,
    },
    Negate(Box<Expr>),
    Not(Box<Expr>),
    Binary {
        operator: BinaryOperator,
        left: Box<Expr>,
        right: Box<Expr>,
    },
    /// A row of the operations' table.
    Op {
        row: &'static Op,
        arguments: Box<[Argument]>,
    },
    /// A row of this crate's table.
    Builtin {
        row: &'static Builtin,
        arguments: Box<[Argument]>,
    },
    /// A function of the program.
    Call {
        function: u32,
        arguments: Box<[Expr]>,
    },
    /// Ends a variable's tensor: `buf.recycle(t)`.
    Recycle {
        buffer: Box<Expr>,
        target: Recycled,
    },
    /// Runs with another TensorBuffer: `with buf { … }` and `buf.zeros(…)`.
    With {
        buffer: Box<Expr>,
        body: Box<Expr>,
    },
    /// A copy in learnable memory.
    Learnable(Box<Expr>),
    /// Runs the block, recording what its memory does: `buffer_trace { … }`.
    Trace(Box<Expr>),
    List(Box<[Expr]>),
    Range {
        start: Box<Expr>,
        end: Box<Expr>,
    },
    Index {
        receiver: Box<Expr>,
        indices: Box<[Index]>,
    },
    Field {
        receiver: Box<Expr>,
        name: Arc<str>,
    },
    /// Another dtype or number type.
    Convert {
        operand: Box<Expr>,
        to: Declared,
    },
    /// A tensor made of a list of numbers.
    FromList {
        operand: Box<Expr>,
        dtype: DType,
    },
    /// Makes a value what a declaration says, or says why it is not.
    Expect {
        operand: Box<Expr>,
        ty: Declared,
        what: Expected,
    },
    If(Box<If>),
    Block(Block),
    /// Memory for a declared tensor.
    Declare {
        ty: Declared,
        storage: TensorStorage,
        value: Option<Box<Expr>>,
    },
}

/// What a checked declaration belongs to, for messages.
#[derive(Debug)]
pub(crate) enum Expected {
    Variable(Arc<str>),
    Result,
    Conversion,
}

#[derive(Debug)]
pub(crate) struct If {
    pub(crate) condition: Expr,
    pub(crate) then: Block,
    pub(crate) then_drops: Drops,
    pub(crate) otherwise: Block,
    pub(crate) otherwise_drops: Drops,
}

/// What stands for one parameter of a row.
#[derive(Debug)]
pub(crate) enum Argument {
    Missing,
    One(Expr),
    /// Several values for one parameter: variadic ones, or a list that is written out where tensors or numbers go.
    Several(Box<[Expr]>),
}

#[derive(Debug)]
pub(crate) enum Recycled {
    Local { slot: Slot, name: Arc<str> },
    Global { index: u32 },
    Temporary(Box<Expr>),
}

/// One axis of an index.
#[derive(Debug)]
pub(crate) enum Index {
    At(Expr),
    Slice { start: Option<Expr>, end: Option<Expr> },
}

impl Expr {
    pub(crate) fn new(kind: ExprKind, span: Span) -> Expr {
        Expr { kind, span }
    }

    pub(crate) fn unit(span: Span) -> Expr {
        Expr { kind: ExprKind::Constant(Value::Unit), span }
    }
}
