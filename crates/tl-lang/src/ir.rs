//! The checked program, which the evaluator runs: names are slots and rows, arguments stand in the order of the
//! parameters, literals are values. The checker builds it, `liveness` marks in it where values end, `rewrite`
//! joins and recognizes operations, and nothing of the syntax is left but the places.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use smallvec::SmallVec;
use tl_device::DType;
use tl_model::ChildPlace;
use tl_syntax::Span;
use tl_syntax::ast::{BinaryOperator, TensorStorage};
use tl_tensor::ops::{Kind, Op, OpKernel, Param, Site};

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
    Tensor(DeclaredDtype, SmallVec<[DeclaredDim; 4]>),
    List(Box<Declared>),
    /// A tensor of this type or `none`.
    Optional(Box<Declared>),
    Handle(HandleKind),
    /// Was wrong, and has been reported.
    Unknown,
}

/// The dtype in a written tensor type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeclaredDtype {
    Exactly(DType),
    /// `float`: one of the float types, the same for all types that name it. The index is that of [`FLOAT`] among the
    /// signature's names; none where the function around has no such parameter.
    Float(Option<u32>),
}

/// Among a signature's size names, the one that stands for what `float` is in a call: [`float_code`] of it. No program can
/// write it.
pub(crate) const FLOAT: &str = " float";

/// A float type as a size.
pub(crate) fn float_code(dtype: DType) -> usize {
    usize::from(dtype == DType::F32)
}

/// The float type that a size stands for.
pub(crate) fn float_of_code(code: usize) -> DType {
    if code == float_code(DType::F32) { DType::F32 } else { DType::F16 }
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

// As an operation's arguments stand in a row, what is rare or large is in a box.
const _: () = assert!(size_of::<Expr>() <= 64);

#[derive(Debug)]
pub(crate) enum ExprKind {
    Constant(Box<Value>),
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
    Op(Box<OpCall>),
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
        /// Whether the receiver is a variable that is looked into where it lies, when the indices are there: none of them
        /// can put anything else into it meanwhile.
        in_place: bool,
    },
    Field {
        receiver: Box<Expr>,
        name: Arc<str>,
        /// Where among the parts of a model's node it was found last.
        place: Cell<ChildPlace>,
    },
    /// `path?`: the tensor that a path into a model leads to, or `none`.
    Optional(Box<Expr>),
    /// Whether a value is there: not `none`. A variable is looked at where it lies.
    IsPresent(Box<Expr>),
    /// Whether these are operands of attention: `rewrite` asks it where attention is written out.
    IsAttention(Box<WrittenAttention>),
    /// Another dtype or number type.
    Convert {
        operand: Box<Expr>,
        to: Box<Declared>,
    },
    /// A tensor made of a list of numbers.
    FromList {
        operand: Box<Expr>,
        dtype: DType,
    },
    /// Makes a value what a declaration says, or says why it is not.
    Expect {
        operand: Box<Expr>,
        ty: Box<Declared>,
        what: Expected,
    },
    If(Box<If>),
    Block(Block),
    /// Memory for a declared tensor.
    Declare {
        ty: Box<Declared>,
        storage: TensorStorage,
        value: Option<Box<Expr>>,
    },
}

/// A call of a row of the operations' table.
#[derive(Debug)]
pub(crate) struct OpCall {
    pub(crate) row: &'static Op,
    pub(crate) arguments: Box<[Argument]>,
    /// Whether evaluating the arguments leaves the function's variables as they are; false where that takes a closer look.
    pub(crate) changes_no_variable: bool,
    /// Whether it is elementwise and some of its operands are links.
    pub(crate) ends_chain: bool,
    /// Whether it is a link: elementwise, and read by such an operation alone, with which it is computed in one pass.
    pub(crate) is_link: bool,
    /// Variables that it reads where they lie, and whose values end with it: `liveness` finds them.
    pub(crate) ends: Drops,
    /// Which parameter takes a list of tensors.
    pub(crate) tensors: Option<usize>,
    /// What the call's last run found, for the next one.
    pub(crate) site: RefCell<Site>,
}

/// The operands of attention that a program writes out. They are variables and constants.
#[derive(Debug)]
pub(crate) struct WrittenAttention {
    /// `[n, heads, d]`
    pub(crate) queries: Arranged,
    /// `[m, heads, d]`
    pub(crate) keys: Arranged,
    /// `[m, heads, d]`
    pub(crate) values: Arranged,
    /// What the scores are multiplied with or divided by.
    pub(crate) scale: Option<Expr>,
    /// The sizes of the causal mask, `n` and `m`.
    pub(crate) mask: Option<[Expr; 2]>,
}

/// A tensor, and which of its dimensions are those that an operation has in this order.
#[derive(Debug)]
pub(crate) struct Arranged {
    pub(crate) tensor: Expr,
    pub(crate) dims: [usize; 3],
}

impl WrittenAttention {
    pub(crate) fn exprs_mut(&mut self) -> impl Iterator<Item = &mut Expr> {
        let WrittenAttention { queries, keys, values, scale, mask } = self;
        [&mut queries.tensor, &mut keys.tensor, &mut values.tensor]
            .into_iter()
            .chain(scale)
            .chain(mask.iter_mut().flatten())
    }
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

impl OpCall {
    pub(crate) fn new(row: &'static Op, arguments: Box<[Argument]>) -> OpCall {
        let tensors = row.params.iter().position(|param| param.kind == Kind::Tensors);
        let site = RefCell::default();
        let (changes_no_variable, ends_chain, is_link) = (false, false, false);
        let ends = Drops::new();
        let mut call = OpCall { row, arguments, changes_no_variable, ends_chain, is_link, ends, tensors, site };
        call.mark();
        call
    }

    /// Finds anew what the arguments are to the call, and the call to them: whoever changes one of them asks for it.
    pub(crate) fn mark(&mut self) {
        for argument in &mut self.arguments {
            if let Argument::One(Expr { kind: ExprKind::Op(inner), .. }) = argument {
                inner.is_link = false;
            }
        }
        self.ends_chain = may_be_chained(self.row, &self.arguments) && OpCall::mark_links(&mut self.arguments);
        self.changes_no_variable = self.arguments.iter().all(Argument::changes_no_variable);
    }

    /// Whether variables among the arguments are read where they lie, when all arguments are there. In a chain they are
    /// not: others of its operands are evaluated while they wait, and may be the last to read them.
    pub(crate) fn reads_in_place(&self) -> bool {
        self.changes_no_variable && !self.ends_chain && !self.is_link
    }

    /// Makes links of the elementwise operations among the operands, and says whether there are any. None is made of one
    /// before an operand that takes memory while it is evaluated: what waits keeps its own operands, and so would need
    /// more at once than without chains.
    fn mark_links(arguments: &mut [Argument]) -> bool {
        let mut has_links = false;
        for argument in arguments.iter_mut().rev() {
            let Argument::One(expr) = argument else { continue };
            if let ExprKind::Op(call) = &mut expr.kind
                && may_be_chained(call.row, &call.arguments)
            {
                call.is_link = true;
                has_links = true;
            }
            if !expr.takes_no_memory() {
                break;
            }
        }
        has_links
    }
}

/// Whether an operation with these arguments may be part of a chain: it is elementwise, and what it makes of its operands
/// is written there.
fn may_be_chained(row: &Op, arguments: &[Argument]) -> bool {
    let is_written = |(argument, param): (&Argument, &Param)| {
        let is_constant = matches!(argument, Argument::One(expr) if matches!(expr.constant(), Some(Value::DType(_))));
        param.kind != Kind::DType || is_constant
    };
    row.map().is_some() && arguments.iter().zip(row.params).all(is_written)
}

impl Argument {
    fn exprs(&self) -> &[Expr] {
        match self {
            Argument::Missing => &[],
            Argument::One(expr) => std::slice::from_ref(expr),
            Argument::Several(exprs) => exprs,
        }
    }

    fn changes_no_variable(&self) -> bool {
        self.exprs().iter().all(Expr::changes_no_variable)
    }
}

impl Index {
    fn exprs(&self) -> impl Iterator<Item = &Expr> {
        let (first, second) = match self {
            Index::At(at) => (Some(at), None),
            Index::Slice { start, end } => (start.as_ref(), end.as_ref()),
        };
        first.into_iter().chain(second)
    }
}

impl Expr {
    /// Whether evaluating it, as an operand of a chain, makes no tensor; false where that takes a closer look.
    fn takes_no_memory(&self) -> bool {
        match &self.kind {
            ExprKind::Constant(_) | ExprKind::Local { .. } | ExprKind::Global { .. } => true,
            ExprKind::Field { receiver, .. } | ExprKind::Optional(receiver) => receiver.takes_no_memory(),
            // Views take none, but for the rare ones that strides cannot express.
            ExprKind::Index { receiver, indices, .. } => {
                receiver.takes_no_memory() && indices.iter().flat_map(Index::exprs).all(Expr::takes_no_memory)
            }
            ExprKind::Op(call) => {
                (call.is_link || matches!(call.row.kernel, OpKernel::View(_)))
                    && call.arguments.iter().flat_map(Argument::exprs).all(Expr::takes_no_memory)
            }
            // Of numbers: where the checker knows of tensors, it is an operation.
            ExprKind::Binary { left, right, .. } => left.takes_no_memory() && right.takes_no_memory(),
            _ => false,
        }
    }

    /// Whether an operation may read it where it lies: a variable, or a field of one.
    pub(crate) fn lies_somewhere(&self) -> bool {
        match &self.kind {
            ExprKind::Local { .. } => true,
            ExprKind::Field { receiver, .. } | ExprKind::Optional(receiver) => receiver.lies_somewhere(),
            _ => false,
        }
    }

    /// The variable that it or its fields' path begins with, where this is its last read.
    pub(crate) fn ending_variable(&self) -> Option<Slot> {
        match &self.kind {
            ExprKind::Local { slot, last: true, .. } => Some(*slot),
            ExprKind::Field { receiver, .. } | ExprKind::Optional(receiver) | ExprKind::Index { receiver, .. } => {
                receiver.ending_variable()
            }
            _ => None,
        }
    }

    /// The variable that it or its fields' path begins with.
    pub(crate) fn first_variable(&self) -> Option<Slot> {
        match &self.kind {
            ExprKind::Local { slot, .. } => Some(*slot),
            ExprKind::Field { receiver, .. } | ExprKind::Optional(receiver) => receiver.first_variable(),
            _ => None,
        }
    }

    /// Whether evaluating it leaves the function's variables as they are; false where that takes a closer look.
    pub(crate) fn changes_no_variable(&self) -> bool {
        match &self.kind {
            // A function that is called has variables of its own.
            ExprKind::Constant(_) | ExprKind::Local { .. } | ExprKind::Global { .. } => true,
            ExprKind::Negate(operand)
            | ExprKind::Not(operand)
            | ExprKind::Field { receiver: operand, .. }
            | ExprKind::Optional(operand)
            | ExprKind::IsPresent(operand)
            | ExprKind::Convert { operand, .. }
            | ExprKind::FromList { operand, .. }
            | ExprKind::Expect { operand, .. } => operand.changes_no_variable(),
            ExprKind::Binary { left, right, .. } => left.changes_no_variable() && right.changes_no_variable(),
            ExprKind::IsAttention(_) => true,
            ExprKind::Op(call) => call.changes_no_variable,
            ExprKind::Call { arguments, .. } | ExprKind::List(arguments) => {
                arguments.iter().all(Expr::changes_no_variable)
            }
            ExprKind::Index { receiver, indices, .. } => {
                receiver.changes_no_variable() && indices.iter().flat_map(Index::exprs).all(Expr::changes_no_variable)
            }
            ExprKind::Builtin { arguments, .. } => arguments.iter().all(Argument::changes_no_variable),
            _ => false,
        }
    }

    pub(crate) fn index(receiver: Expr, indices: Box<[Index]>, span: Span) -> Expr {
        let in_place = matches!(receiver.kind, ExprKind::Local { .. } | ExprKind::Global { .. })
            && indices.iter().flat_map(Index::exprs).all(Expr::changes_no_variable);
        Expr::new(ExprKind::Index { receiver: Box::new(receiver), indices, in_place }, span)
    }

    pub(crate) fn new(kind: ExprKind, span: Span) -> Expr {
        Expr { kind, span }
    }

    /// A constant.
    pub(crate) fn of(value: Value, span: Span) -> Expr {
        Expr { kind: ExprKind::Constant(Box::new(value)), span }
    }

    /// The value of a constant.
    pub(crate) fn constant(&self) -> Option<&Value> {
        match &self.kind {
            ExprKind::Constant(value) => Some(value),
            _ => None,
        }
    }

    pub(crate) fn unit(span: Span) -> Expr {
        Expr::of(Value::Unit, span)
    }
}
