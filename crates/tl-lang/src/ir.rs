//! The checked program, which the evaluator runs: names are slots and rows, arguments stand in the order of the
//! parameters, literals are values. The checker builds it, `liveness` marks where values end, `rewrite` joins and
//! recognizes operations. Of the syntax only the spans are left.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use smallvec::SmallVec;
use tl_device::DType;
use tl_model::ChildPlace;
use tl_syntax::Span;
use tl_syntax::ast::{BinaryOperator, Format, TensorStorage};
use tl_tensor::ops::{Kind, Op, OpKernel, Param, Site};

use crate::declared::Declared;
use crate::library::Builtin;
use crate::types::StructType;
use crate::value::Value;

/// The index of a variable in a function's frame.
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
    /// Whether they are all numbers, truth values and strings.
    pub(crate) has_plain_parameters: bool,
    pub(crate) result: Declared,
    /// The signature's size names; they take the slots after the parameters.
    pub(crate) sizes: Vec<Arc<str>>,
    pub(crate) slots: u32,
    pub(crate) body: Block,
    /// For each slot, whether its value may hold memory that should be freed early.
    pub(crate) holds_memory: Vec<bool>,
}

#[derive(Clone, Debug)]
pub(crate) struct Parameter {
    pub(crate) name: Arc<str>,
    pub(crate) ty: Declared,
}

#[derive(Debug, Default)]
pub(crate) struct Block {
    pub(crate) statements: Vec<Statement>,
    pub(crate) value: Option<Box<Expr>>,
}

#[derive(Debug)]
pub(crate) enum Statement {
    /// Assigns to a slot; `unread` if nothing reads the value there.
    Set {
        slot: Slot,
        value: Expr,
        unread: bool,
    },
    SetGlobal {
        index: u32,
        value: Expr,
    },
    /// Assigns to a part of a variable's value.
    SetPart(Box<SetPart>),
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
        span: Span,
    },
    Break,
    Continue,
    Return(Option<Expr>),
}

/// An assignment to a part of a variable's value: the indices are evaluated, then the new value, and then the part is changed
/// in place.
#[derive(Debug)]
pub(crate) struct SetPart {
    pub(crate) root: PartRoot,
    /// The way to the part, outermost first; at least one step.
    pub(crate) steps: Box<[PartStep]>,
    /// The operator between the old and the given value, if any.
    pub(crate) operator: Option<BinaryOperator>,
    pub(crate) value: Expr,
    pub(crate) span: Span,
}

/// The variable whose value is changed.
#[derive(Debug)]
pub(crate) enum PartRoot {
    Local { slot: Slot, name: Arc<str> },
    Global { index: u32 },
}

/// A step from a value to a part of it.
#[derive(Debug)]
pub(crate) enum PartStep {
    Field(Arc<str>),
    Index(Expr),
}

/// What [`ExprKind::Make`] makes.
#[derive(Debug)]
pub(crate) enum Maker {
    /// A struct of its fields' values, in the order of the fields.
    Struct(Arc<StructFields>),
    /// A map; its parts are keys and values in turns.
    Map,
    /// A string; its parts are the values of its pieces.
    Format(Box<[FormatPiece]>),
}

/// A struct and the types of its fields.
#[derive(Debug)]
pub(crate) struct StructFields {
    pub(crate) ty: Arc<StructType>,
    pub(crate) types: Box<[Declared]>,
    /// The names of sizes in these types.
    pub(crate) sizes: Box<[Arc<str>]>,
}

/// A piece of an f-string.
#[derive(Debug)]
pub(crate) enum FormatPiece {
    Text(Arc<str>),
    /// The next part.
    Value(Format),
}

/// Slots whose values end here.
pub(crate) type Drops = SmallVec<[Slot; 2]>;

#[derive(Debug)]
pub(crate) struct Expr {
    pub(crate) kind: ExprKind,
    pub(crate) span: Span,
}

// Arguments of operations lie in arrays, so rare and large variants are boxed.
const _: () = assert!(size_of::<Expr>() <= 64);

#[derive(Debug)]
pub(crate) enum ExprKind {
    Constant(Box<Value>),
    /// `last`: the value is not read again, and is moved out.
    Local {
        slot: Slot,
        last: bool,
        name: Arc<str>,
    },
    /// `last`: the value is replaced before it is read again, and is moved out.
    Global {
        index: u32,
        last: bool,
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
        target: RecycleTarget,
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
    /// A value made of the values of its parts.
    Make {
        maker: Box<Maker>,
        parts: Box<[Expr]>,
    },
    Range {
        start: Box<Expr>,
        end: Box<Expr>,
    },
    Index {
        receiver: Box<Expr>,
        indices: Box<[Index]>,
        /// Whether the receiver is a variable that is indexed without a copy, after the indices are evaluated: none of them
        /// can assign to it.
        in_place: bool,
    },
    Field {
        receiver: Box<Expr>,
        name: Arc<str>,
        /// Where the part was found last, if the receiver is a model's node.
        place: Cell<ChildPlace>,
    },
    /// `path?`: the tensor that a path into a model leads to, or `none`.
    Optional(Box<Expr>),
    /// Whether a value is not `none`. A variable is tested without a copy.
    IsPresent(Box<Expr>),
    /// Whether the operation `attention` takes these operands: `rewrite` puts the question where attention is written out.
    IsAttention(Box<WrittenAttention>),
    /// Conversion to another dtype or number type.
    Convert {
        operand: Box<Expr>,
        to: Box<Declared>,
    },
    /// A tensor made of a list of numbers.
    FromList {
        operand: Box<Expr>,
        dtype: DType,
    },
    /// Coerces a value to a written type, or fails.
    Expect {
        operand: Box<Expr>,
        ty: Box<Declared>,
        what: TypeSource,
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
    /// Whether evaluating the arguments assigns to no variable of the function; conservative.
    pub(crate) assigns_nothing: bool,
    /// Whether it is elementwise and some of its operands are links.
    pub(crate) ends_chain: bool,
    /// Whether it is a link: elementwise, and read only by another elementwise operation, which computes both in one pass.
    pub(crate) is_link: bool,
    /// Variables that it reads without a copy and whose values end with it; set by `liveness`.
    pub(crate) ends: Drops,
    /// The index of the argument that is a list of tensors.
    pub(crate) tensors: Option<usize>,
    /// Results of the last run's checks, reused by the next.
    pub(crate) site: RefCell<Site>,
}

/// The operands of attention that a program writes out. They are variables and constants.
#[derive(Debug)]
pub(crate) struct WrittenAttention {
    /// `[n, heads, d]`
    pub(crate) queries: PermutedTensor,
    /// `[m, heads, d]`
    pub(crate) keys: PermutedTensor,
    /// `[m, heads, d]`
    pub(crate) values: PermutedTensor,
    /// The factor or divisor of the scores.
    pub(crate) scale: Option<Expr>,
    /// The sizes of the causal mask, `n` and `m`.
    pub(crate) mask: Option<[Expr; 2]>,
}

/// A tensor, and which of its dimensions are an operation's first, second and third.
#[derive(Debug)]
pub(crate) struct PermutedTensor {
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

/// Where a written type comes from, for messages.
#[derive(Debug)]
pub(crate) enum TypeSource {
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

/// The argument for one parameter of a row.
#[derive(Debug)]
pub(crate) enum Argument {
    Missing,
    One(Expr),
    /// Several values for one parameter: variadic arguments, or a literal list of tensors or numbers.
    Several(Box<[Expr]>),
}

#[derive(Debug)]
pub(crate) enum RecycleTarget {
    Local { slot: Slot, name: Arc<str> },
    Global { index: u32 },
    Temporary(Box<Expr>),
}

/// One axis of an index.
#[derive(Debug)]
pub(crate) enum Index {
    /// An int, a range, or several positions.
    At(Expr),
    Slice {
        start: Option<Expr>,
        end: Option<Expr>,
    },
}

/// Why a mask is no index, and what to write instead.
pub(crate) const BOOL_INDEX: &str =
    "a tensor of bool cannot be an index: the size of the result would depend on its elements";
pub(crate) const BOOL_INDEX_HINT: &str = "`where(mask, x, 0)` keeps the shape, and `sum(mask)` counts";

impl OpCall {
    pub(crate) fn new(row: &'static Op, arguments: Box<[Argument]>) -> OpCall {
        let is_list = |(argument, param): (&Argument, &tl_tensor::ops::Param)| {
            param.kind == Kind::Tensors && !matches!(argument, Argument::Missing)
        };
        let tensors = arguments.iter().zip(row.params).position(is_list);
        let site = RefCell::default();
        let (assigns_nothing, ends_chain, is_link) = (false, false, false);
        let ends = Drops::new();
        let mut call = OpCall { row, arguments, assigns_nothing, ends_chain, is_link, ends, tensors, site };
        call.update_marks();
        call
    }

    /// Recomputes the flags of the call and of its arguments. Needed after a change of an argument.
    pub(crate) fn update_marks(&mut self) {
        for argument in &mut self.arguments {
            if let Argument::One(Expr { kind: ExprKind::Op(inner), .. }) = argument {
                inner.is_link = false;
            }
        }
        self.ends_chain = may_be_chained(self.row, &self.arguments) && OpCall::mark_links(&mut self.arguments);
        self.assigns_nothing = self.arguments.iter().all(Argument::assigns_nothing);
    }

    /// Whether variables among the arguments are read without a copy, after all arguments are evaluated. Not in a chain: later
    /// operands of the chain are evaluated first, and may hold a variable's last read.
    pub(crate) fn reads_in_place(&self) -> bool {
        self.assigns_nothing && !self.ends_chain && !self.is_link
    }

    /// Makes links of the elementwise operations among the operands; true if there are any. Only of those after the last operand
    /// that allocates when evaluated: a waiting link keeps its own operands alive, which would raise the peak.
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
            if !expr.allocates_nothing() {
                break;
            }
        }
        has_links
    }
}

/// Whether an operation with these arguments may be part of a chain: it is elementwise, and its dtype argument, if any, is a
/// constant.
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

    fn assigns_nothing(&self) -> bool {
        self.exprs().iter().all(Expr::assigns_nothing)
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
    /// Whether evaluating it as an operand of a chain makes no tensor; conservative.
    fn allocates_nothing(&self) -> bool {
        match &self.kind {
            ExprKind::Constant(_) | ExprKind::Local { .. } | ExprKind::Global { .. } => true,
            ExprKind::Field { receiver, .. } | ExprKind::Optional(receiver) => receiver.allocates_nothing(),
            // Views allocate only in the rare cases that strides cannot express.
            ExprKind::Index { receiver, indices, .. } => {
                receiver.allocates_nothing() && indices.iter().flat_map(Index::exprs).all(Expr::allocates_nothing)
            }
            ExprKind::Op(call) => {
                (call.is_link || matches!(call.row.kernel, OpKernel::View(_)))
                    && call.arguments.iter().flat_map(Argument::exprs).all(Expr::allocates_nothing)
            }
            // On numbers: with tensors the checker makes it an operation.
            ExprKind::Binary { left, right, .. } => left.allocates_nothing() && right.allocates_nothing(),
            _ => false,
        }
    }

    /// Whether it names a place that can be read without a copy: a variable, or a field of one.
    pub(crate) fn is_place_expr(&self) -> bool {
        match &self.kind {
            ExprKind::Local { .. } => true,
            ExprKind::Field { receiver, .. } | ExprKind::Optional(receiver) => receiver.is_place_expr(),
            _ => false,
        }
    }

    /// The variable at the base of this path, if this is its last read.
    pub(crate) fn last_read_slot(&self) -> Option<Slot> {
        match &self.kind {
            ExprKind::Local { slot, last: true, .. } => Some(*slot),
            ExprKind::Field { receiver, .. } | ExprKind::Optional(receiver) | ExprKind::Index { receiver, .. } => {
                receiver.last_read_slot()
            }
            _ => None,
        }
    }

    /// The variable at the base of this path.
    pub(crate) fn base_slot(&self) -> Option<Slot> {
        match &self.kind {
            ExprKind::Local { slot, .. } => Some(*slot),
            ExprKind::Field { receiver, .. } | ExprKind::Optional(receiver) => receiver.base_slot(),
            _ => None,
        }
    }

    /// Whether evaluating it assigns to no variable of the function; conservative.
    pub(crate) fn assigns_nothing(&self) -> bool {
        match &self.kind {
            // A called function has its own variables.
            ExprKind::Constant(_) | ExprKind::Local { .. } | ExprKind::Global { .. } => true,
            ExprKind::Negate(operand)
            | ExprKind::Not(operand)
            | ExprKind::Field { receiver: operand, .. }
            | ExprKind::Optional(operand)
            | ExprKind::IsPresent(operand)
            | ExprKind::Convert { operand, .. }
            | ExprKind::FromList { operand, .. }
            | ExprKind::Expect { operand, .. } => operand.assigns_nothing(),
            ExprKind::Binary { left, right, .. } => left.assigns_nothing() && right.assigns_nothing(),
            ExprKind::IsAttention(_) => true,
            ExprKind::Op(call) => call.assigns_nothing,
            ExprKind::Call { arguments, .. } | ExprKind::List(arguments) | ExprKind::Make { parts: arguments, .. } => {
                arguments.iter().all(Expr::assigns_nothing)
            }
            ExprKind::Index { receiver, indices, .. } => {
                receiver.assigns_nothing() && indices.iter().flat_map(Index::exprs).all(Expr::assigns_nothing)
            }
            ExprKind::Builtin { arguments, .. } => arguments.iter().all(Argument::assigns_nothing),
            _ => false,
        }
    }

    pub(crate) fn index(receiver: Expr, indices: Box<[Index]>, span: Span) -> Expr {
        let in_place = matches!(receiver.kind, ExprKind::Local { .. } | ExprKind::Global { .. })
            && indices.iter().flat_map(Index::exprs).all(Expr::assigns_nothing);
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
