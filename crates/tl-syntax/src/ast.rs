//! The syntax tree: what was written, with places. It says nothing about meaning: names are not looked up here.

use std::sync::Arc;

use crate::Span;

/// A name and where it stands.
#[derive(Clone, Debug)]
pub struct Name {
    /// The name; empty where one was missing.
    pub text: Arc<str>,
    /// Where.
    pub span: Span,
}

/// One file.
#[derive(Clone, Debug, Default)]
pub struct File {
    /// In the order in which they are written.
    pub items: Vec<Item>,
}

/// What stands at the top level of a file.
#[derive(Clone, Debug)]
pub enum Item {
    /// `fn …`
    Function(Function),
    /// `import "path"`
    Import(Import),
    /// `main { … }`
    Main(Main),
    /// A statement that runs before `main`.
    Statement(Statement),
}

/// `import "path"`
#[derive(Clone, Debug)]
pub struct Import {
    /// As written, relative to the importing file.
    pub path: Arc<str>,
    /// Of the string.
    pub span: Span,
}

/// `main { … }`
#[derive(Clone, Debug)]
pub struct Main {
    /// Of the word `main`.
    pub span: Span,
    /// What runs.
    pub body: Block,
}

/// `fn name(parameters) -> result { body }`
#[derive(Clone, Debug)]
pub struct Function {
    /// Its name.
    pub name: Name,
    /// In order.
    pub parameters: Vec<Parameter>,
    /// Behind `->`; none means that nothing is returned.
    pub result: Option<Type>,
    /// What runs.
    pub body: Block,
    /// From `fn` to the end of the signature.
    pub span: Span,
}

/// `name: type`
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Its name.
    pub name: Name,
    /// Its type.
    pub ty: Type,
}

/// `tensor NAME: TYPE [learnable | frozen] [= value]`
#[derive(Clone, Debug)]
pub struct TensorDeclaration {
    /// Its name.
    pub name: Name,
    /// Its type.
    pub ty: Type,
    /// Which reserve its memory comes from, and whether training moves it.
    pub storage: TensorStorage,
    /// Zeros if absent.
    pub value: Option<Expr>,
    /// The whole declaration.
    pub span: Span,
}

/// Which memory a declared tensor takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorStorage {
    /// As any other value.
    Ordinary,
    /// The learnable reserve; training moves it.
    Learnable,
    /// The learnable reserve; training leaves it alone.
    Frozen,
}

/// A written type.
#[derive(Clone, Debug)]
pub struct Type {
    /// Which.
    pub kind: TypeKind,
    /// Where.
    pub span: Span,
}

/// The types that can be written.
#[derive(Clone, Debug)]
pub enum TypeKind {
    /// `int`
    Int,
    /// `float`
    Float,
    /// `bool`
    Bool,
    /// `string`
    String,
    /// `()`
    Unit,
    /// `float16[n, 128, ?]`
    Tensor {
        /// The word before the bracket.
        dtype: TensorDtype,
        /// One for each axis.
        dims: Vec<Dim>,
    },
    /// A tensor's dtype without brackets, allowed behind `as` only.
    Dtype(TensorDtype),
    /// `[T]`
    List(Box<Type>),
    /// `float32[n]?`: such a tensor or `none`
    Optional(Box<Type>),
    /// A handle: `Model`, `KvCache`, …
    Named(Name),
    /// Already reported.
    Error,
}

/// The dtypes that can be written in a tensor's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorDtype {
    /// `float16`
    Float16,
    /// `float32`
    Float32,
    /// `int32`
    Int32,
    /// `bool`
    Bool,
    /// `float`, in a tensor's type alone: `float16` or `float32`, the same one for every such type of a signature.
    Float,
}

impl TensorDtype {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            TensorDtype::Float16 => "float16",
            TensorDtype::Float32 => "float32",
            TensorDtype::Int32 => "int32",
            TensorDtype::Bool => "bool",
            TensorDtype::Float => "float",
        }
    }

    /// The dtype of that name. `float` alone is a number's type, and so none of them.
    pub fn from_name(name: &str) -> Option<TensorDtype> {
        [TensorDtype::Float16, TensorDtype::Float32, TensorDtype::Int32, TensorDtype::Bool]
            .into_iter()
            .find(|dtype| dtype.name() == name)
    }
}

/// One axis in a tensor's type.
#[derive(Clone, Debug)]
pub struct Dim {
    /// What is said about its size.
    pub kind: DimKind,
    /// Where.
    pub span: Span,
}

/// What a type says about an axis' size.
#[derive(Clone, Debug)]
pub enum DimKind {
    /// Exactly this.
    Known(u64),
    /// `?`: anything.
    Any,
    /// The same as everywhere in the signature.
    Named(Arc<str>),
}

/// `{ … }`
#[derive(Clone, Debug)]
pub struct Block {
    /// In order. If the last is an expression, it is the block's value.
    pub statements: Vec<Statement>,
    /// With its braces.
    pub span: Span,
    /// How many levels of expressions hang below.
    pub height: u16,
}

/// A statement and where it stands.
#[derive(Clone, Debug)]
pub struct Statement {
    /// Which.
    pub kind: StatementKind,
    /// Where.
    pub span: Span,
}

/// The statements.
#[derive(Clone, Debug)]
pub enum StatementKind {
    /// `let name: type = value`
    Let {
        /// The new variable.
        name: Name,
        /// Its type, if written.
        ty: Option<Type>,
        /// Its value.
        value: Expr,
    },
    /// `name = value` and `name := value`
    Assign {
        /// The variable.
        name: Name,
        /// Whether the variable comes into being here if it is not there (`:=`).
        declares: bool,
        /// Its new value.
        value: Expr,
    },
    /// `tensor …`
    Tensor(TensorDeclaration),
    /// `for variable in iterable { … }`
    For {
        /// New in each round.
        variable: Name,
        /// A range or a list.
        iterable: Expr,
        /// What is repeated.
        body: Block,
    },
    /// `while condition { … }`
    While {
        /// Read before each round.
        condition: Expr,
        /// What is repeated.
        body: Block,
    },
    /// `loop { … }`
    Loop {
        /// What is repeated.
        body: Block,
    },
    /// `break`
    Break,
    /// `continue`
    Continue,
    /// `return value`
    Return(Option<Expr>),
    /// An expression alone.
    Expr(Expr),
}

/// An expression and where it stands.
#[derive(Clone, Debug)]
pub struct Expr {
    /// Which.
    pub kind: ExprKind,
    /// Where.
    pub span: Span,
    /// How many levels of expressions hang below; at most [`crate::MAX_TREE_HEIGHT`], so that a walk by recursion ends well.
    pub height: u16,
}

/// The expressions.
#[derive(Clone, Debug)]
pub enum ExprKind {
    /// `42`
    Int(i64),
    /// `3.14`
    Float(f64),
    /// `true`
    Bool(bool),
    /// `"text"`, escapes resolved
    Str(Arc<str>),
    /// `()`
    Unit,
    /// A variable, or a dtype as an argument.
    Name(Arc<str>),
    /// `[a, b]`
    List(Vec<Expr>),
    /// `-a`, `not a`
    Unary {
        /// Which.
        operator: UnaryOperator,
        /// Its operand.
        operand: Box<Expr>,
    },
    /// `a + b`
    Binary {
        /// Which.
        operator: BinaryOperator,
        /// Where the operator stands.
        operator_span: Span,
        /// The left side.
        left: Box<Expr>,
        /// The right side.
        right: Box<Expr>,
    },
    /// `a as type`
    As {
        /// What is converted.
        operand: Box<Expr>,
        /// To what.
        ty: Type,
    },
    /// `a..b`
    Range {
        /// The first.
        start: Box<Expr>,
        /// Behind the last.
        end: Box<Expr>,
    },
    /// `name(arguments)`, `Type::name(arguments)`
    Call {
        /// Before `::`.
        qualifier: Option<Name>,
        /// What is called.
        name: Name,
        /// Positional ones first.
        arguments: Vec<Argument>,
    },
    /// `receiver.name(arguments)`
    Method {
        /// Before the dot.
        receiver: Box<Expr>,
        /// What is called.
        name: Name,
        /// Positional ones first.
        arguments: Vec<Argument>,
    },
    /// `receiver.name`
    Field {
        /// Before the dot.
        receiver: Box<Expr>,
        /// Which field.
        name: Name,
    },
    /// `path?`: what a path into a model leads to, or `none`
    Optional(Box<Expr>),
    /// `receiver[indices]`
    Index {
        /// Before the bracket.
        receiver: Box<Expr>,
        /// One for each axis, at least one.
        indices: Vec<Index>,
    },
    /// `if a {…} else if b {…} else {…}`
    If {
        /// Conditions and what runs where the first true one stands.
        branches: Vec<(Expr, Block)>,
        /// The last `else`.
        otherwise: Option<Block>,
    },
    /// `if let name = value {…} else {…}`: the first block runs with the value where there is one
    IfLet {
        /// The variable of the first block.
        name: Name,
        /// Something that may be `none`.
        value: Box<Expr>,
        /// What runs where it is not.
        then: Block,
        /// What runs where it is; an `else if` is the one expression of a block.
        otherwise: Option<Block>,
    },
    /// `{ … }`
    Block(Block),
    /// `with buffer { … }`
    With {
        /// The TensorBuffer.
        buffer: Box<Expr>,
        /// What runs with it.
        body: Block,
    },
    /// `buffer_trace { … }`
    Trace {
        /// What is recorded.
        body: Block,
    },
    /// Already reported.
    Error,
}

/// An argument of a call.
#[derive(Clone, Debug)]
pub struct Argument {
    /// Before the colon.
    pub name: Option<Name>,
    /// The value.
    pub value: Expr,
}

/// One axis in `x[…]`.
#[derive(Clone, Debug)]
pub enum Index {
    /// `x[i]`
    At(Expr),
    /// `x[a..b]`, `x[a..]`, `x[..b]`, `x[..]`
    Slice {
        /// 0 if absent.
        start: Option<Expr>,
        /// The axis' size if absent.
        end: Option<Expr>,
        /// Where.
        span: Span,
    },
}

/// Operators before their operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnaryOperator {
    /// `-`
    Negate,
    /// `not`
    Not,
}

/// Operators between their operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BinaryOperator {
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`
    Divide,
    /// `%`
    Remainder,
    /// `**`
    Power,
    /// `@`
    MatMul,
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterEqual,
    /// `and`
    And,
    /// `or`
    Or,
}

impl UnaryOperator {
    /// As it is written.
    pub fn symbol(self) -> &'static str {
        match self {
            UnaryOperator::Negate => "-",
            UnaryOperator::Not => "not",
        }
    }
}

impl BinaryOperator {
    /// As it is written.
    pub fn symbol(self) -> &'static str {
        match self {
            BinaryOperator::Add => "+",
            BinaryOperator::Subtract => "-",
            BinaryOperator::Multiply => "*",
            BinaryOperator::Divide => "/",
            BinaryOperator::Remainder => "%",
            BinaryOperator::Power => "**",
            BinaryOperator::MatMul => "@",
            BinaryOperator::Equal => "==",
            BinaryOperator::NotEqual => "!=",
            BinaryOperator::Less => "<",
            BinaryOperator::LessEqual => "<=",
            BinaryOperator::Greater => ">",
            BinaryOperator::GreaterEqual => ">=",
            BinaryOperator::And => "and",
            BinaryOperator::Or => "or",
        }
    }

    /// `== != < <= > >=`
    pub fn is_comparison(self) -> bool {
        use BinaryOperator::*;
        matches!(self, Equal | NotEqual | Less | LessEqual | Greater | GreaterEqual)
    }
}
