//! The syntax tree: the program as written, with spans. Names are not resolved here.

use std::sync::Arc;

use crate::Span;

/// A name and its span.
#[derive(Clone, Debug)]
pub struct Name {
    /// The name; empty if it was missing.
    pub text: Arc<str>,
    /// Its span.
    pub span: Span,
}

/// One file.
#[derive(Clone, Debug, Default)]
pub struct File {
    /// In written order.
    pub items: Vec<Item>,
    /// Whether an item about relations is incomplete, because of an error that was reported: names may lack declarations.
    pub has_wrong_relations: bool,
}

/// An item at the top level of a file.
#[derive(Clone, Debug)]
pub enum Item {
    /// `fn …`
    Function(Function),
    /// `struct …`
    Struct(Struct),
    /// `impl …`
    Impl(Impl),
    /// `import "path"`
    Import(Import),
    /// `main { … }`
    Main(Main),
    /// `test "name" { … }`
    Test(Test),
    /// `entity …`
    Entity(Entity),
    /// `relation …`
    Relation(Relation),
    /// `fact …`
    Fact(Fact),
    /// `rule Head(…) <- …`
    Rule(Rule),
    /// `rule Head[…] <- …`
    SoftRule(SoftRule),
    /// A statement that runs before `main`.
    Statement(Statement),
}

/// `import "path"`, `import "path" as name`
#[derive(Clone, Debug)]
pub struct Import {
    /// The path as written, relative to the importing file.
    pub path: Arc<str>,
    /// The span of the string.
    pub span: Span,
    /// The name behind `as`, before which the file's names then stand.
    pub alias: Option<Name>,
}

/// `struct Name { field: type, … }`
#[derive(Clone, Debug)]
pub struct Struct {
    /// Its name.
    pub name: Name,
    /// Its fields, in order.
    pub fields: Vec<Parameter>,
    /// The span from `struct` to the closing brace.
    pub span: Span,
}

/// `impl Name { fn … }`
#[derive(Clone, Debug)]
pub struct Impl {
    /// The name of the struct.
    pub name: Name,
    /// Its functions. Those whose first parameter is `self` are methods.
    pub functions: Vec<Function>,
    /// The span from `impl` to the closing brace.
    pub span: Span,
}

/// `main { … }`
#[derive(Clone, Debug)]
pub struct Main {
    /// The span of the word `main`.
    pub span: Span,
    /// Its body.
    pub body: Block,
}

/// `test "name" { … }`
#[derive(Clone, Debug)]
pub struct Test {
    /// What it tests, in words.
    pub name: Name,
    /// Its body.
    pub body: Block,
}

/// `entity Person = {ann, bob}`, `entity Node = 10000`: a set that relations are over
#[derive(Clone, Debug)]
pub struct Entity {
    /// Its name.
    pub name: Name,
    /// Its elements.
    pub elements: Elements,
    /// The span of the item.
    pub span: Span,
}

/// The elements of an entity.
#[derive(Clone, Debug)]
pub enum Elements {
    /// `{ann, bob}`
    Named(Vec<Name>),
    /// How many there are: the numbers below.
    Numbered(Expr),
}

/// `relation Parent(Person, Person) [= value]`
#[derive(Clone, Debug)]
pub struct Relation {
    /// Its name.
    pub name: Name,
    /// The entity at each place.
    pub sets: Vec<Name>,
    /// A Boolean tensor with its first facts.
    pub value: Option<Expr>,
    /// The span of the item.
    pub span: Span,
}

/// `fact Parent(ann, bob)`
#[derive(Clone, Debug)]
pub struct Fact {
    /// What holds.
    pub atom: Atom,
    /// The span of the item.
    pub span: Span,
}

/// `Parent(x, ann)`
#[derive(Clone, Debug)]
pub struct Atom {
    /// The relation or entity.
    pub name: Name,
    /// What stands at its places.
    pub terms: Vec<Term>,
    /// Its span.
    pub span: Span,
}

/// What stands at a place of a relation.
#[derive(Clone, Debug)]
pub struct Term {
    /// Its kind.
    pub kind: TermKind,
    /// Its span.
    pub span: Span,
}

/// The kinds of terms.
#[derive(Clone, Debug)]
pub enum TermKind {
    /// An element, or a variable.
    Name(Arc<str>),
    /// `3`, `(n + 1)`: the number of an element.
    Value(Box<Expr>),
    /// `_`: any element.
    Any,
}

/// `rule Head(x, z) <- Body(x, y), not Other(y, z), x != z`
#[derive(Clone, Debug)]
pub struct Rule {
    /// What follows.
    pub head: Atom,
    /// What it follows from.
    pub body: Vec<Literal>,
    /// The span of the item.
    pub span: Span,
}

/// A condition of a rule or a query.
#[derive(Clone, Debug)]
pub enum Literal {
    /// `Parent(x, y)`, `not Parent(x, y)`
    Atom {
        /// The relation and its terms.
        atom: Atom,
        /// Whether `not` stands before it.
        is_negated: bool,
    },
    /// `x != y`
    Comparison {
        /// One of `== != < <= > >=`.
        operator: BinaryOperator,
        /// The left side.
        left: Term,
        /// The right side.
        right: Term,
    },
}

/// `rule Near[x, y.] <- Embed[x, d] * Embed[y, d] / 0.5`: numbers instead of truth
#[derive(Clone, Debug)]
pub struct SoftRule {
    /// The tensor that it defines.
    pub name: Name,
    /// The indices of that tensor.
    pub indices: Vec<SoftIndex>,
    /// What is multiplied, and summed over the indices that the head lacks.
    pub factors: Vec<Factor>,
    /// What the sum is divided by.
    pub temperature: Option<Expr>,
    /// The span of the item.
    pub span: Span,
}

/// An index of a soft rule's head.
#[derive(Clone, Debug)]
pub struct SoftIndex {
    /// The index.
    pub name: Name,
    /// Whether a dot stands behind it: softmax is taken over it.
    pub is_normalized: bool,
}

/// A factor of a soft rule.
#[derive(Clone, Debug)]
pub struct Factor {
    /// The tensor and its indices.
    pub atom: Atom,
    /// Whether its indices stand in parentheses: it is a relation, and counts as 1 where it holds.
    pub is_relation: bool,
}

/// `query Parent(ann, x)`
#[derive(Clone, Debug)]
pub struct Query {
    /// What must hold.
    pub body: Vec<Literal>,
}

/// `fn name(parameters) -> result { body }`
#[derive(Clone, Debug)]
pub struct Function {
    /// Its name.
    pub name: Name,
    /// Its parameters, in order.
    pub parameters: Vec<Parameter>,
    /// The type after `->`; `None`: nothing is returned.
    pub result: Option<Type>,
    /// Its body.
    pub body: Block,
    /// The span from `fn` to the end of the signature.
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
    /// Its value; zeros if absent.
    pub value: Option<Expr>,
    /// The span of the declaration.
    pub span: Span,
}

/// The memory of a declared tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorStorage {
    /// That of any other value.
    Ordinary,
    /// The learnable reserve; training moves it.
    Learnable,
    /// The learnable reserve; training leaves it alone.
    Frozen,
}

/// A written type.
#[derive(Clone, Debug)]
pub struct Type {
    /// Its kind.
    pub kind: TypeKind,
    /// Its span.
    pub span: Span,
}

/// The kinds of written types.
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
        /// The dtype before the bracket.
        dtype: TensorDtype,
        /// One for each axis.
        dims: Vec<Dim>,
    },
    /// A tensor's dtype without brackets, allowed only after `as`.
    Dtype(TensorDtype),
    /// `[T]`
    List(Box<Type>),
    /// `{K: V}`
    Map(Box<Type>, Box<Type>),
    /// `float32[n]?`: such a tensor or `none`
    Optional(Box<Type>),
    /// A struct, or a handle: `Model`, `KvCache`, …
    Named(Name),
    /// A struct of a file that was imported with a name: `nn.Linear`
    Imported {
        /// The name of the import.
        module: Name,
        /// The struct's name.
        name: Name,
    },
    /// An error that was reported.
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
    /// `float`, only in a tensor's type: `float16` or `float32`, the same one for every such type of a signature.
    Float,
}

impl TensorDtype {
    /// Its spelling.
    pub fn name(self) -> &'static str {
        match self {
            TensorDtype::Float16 => "float16",
            TensorDtype::Float32 => "float32",
            TensorDtype::Int32 => "int32",
            TensorDtype::Bool => "bool",
            TensorDtype::Float => "float",
        }
    }

    /// The dtype of that name, except `float`, which without brackets is a number's type.
    pub fn from_name(name: &str) -> Option<TensorDtype> {
        [TensorDtype::Float16, TensorDtype::Float32, TensorDtype::Int32, TensorDtype::Bool]
            .into_iter()
            .find(|dtype| dtype.name() == name)
    }
}

/// One axis in a tensor's type.
#[derive(Clone, Debug)]
pub struct Dim {
    /// Its size.
    pub kind: DimKind,
    /// Its span.
    pub span: Span,
}

/// The size of an axis in a type.
#[derive(Clone, Debug)]
pub enum DimKind {
    /// A number.
    Known(u64),
    /// `?`: any size.
    Any,
    /// A name: the same size everywhere in the signature.
    Named(Arc<str>),
}

/// `{ … }`
#[derive(Clone, Debug)]
pub struct Block {
    /// Its statements. If the last is an expression, it is the block's value.
    pub statements: Vec<Statement>,
    /// Its span, braces included.
    pub span: Span,
    /// The height of the tree below.
    pub height: u16,
}

/// A statement and its span.
#[derive(Clone, Debug)]
pub struct Statement {
    /// Its kind.
    pub kind: StatementKind,
    /// Its span.
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
    /// `name = value`, `name := value`, `name += value`, `name[index].field = value`
    Assign {
        /// The variable, or the part of it.
        target: Place,
        /// Whether the variable is declared here if it does not exist (`:=`).
        declares: bool,
        /// The operator of `+=` and its kind.
        operator: Option<BinaryOperator>,
        /// Its new value, or the operator's right side.
        value: Expr,
    },
    /// `tensor …`
    Tensor(TensorDeclaration),
    /// `for variable in iterable { … }`
    For {
        /// The variable, new in each round.
        variable: Name,
        /// A range or a list.
        iterable: Expr,
        /// The body.
        body: Block,
    },
    /// `while condition { … }`
    While {
        /// The condition, evaluated before each round.
        condition: Expr,
        /// The body.
        body: Block,
    },
    /// `loop { … }`
    Loop {
        /// The body.
        body: Block,
    },
    /// `break`
    Break,
    /// `continue`
    Continue,
    /// `return value`
    Return(Option<Expr>),
    /// An expression as a statement.
    Expr(Expr),
}

/// What is assigned to: a variable, or a part of its value.
#[derive(Clone, Debug)]
pub struct Place {
    /// The variable.
    pub name: Name,
    /// The way to the part, outermost first; empty for the variable itself.
    pub steps: Vec<PlaceStep>,
    /// Its span.
    pub span: Span,
}

/// A step from a value to a part of it.
#[derive(Clone, Debug)]
pub enum PlaceStep {
    /// `.field`
    Field(Name),
    /// `[index]`
    Index(Expr),
}

/// An expression and its span.
#[derive(Clone, Debug)]
pub struct Expr {
    /// Its kind.
    pub kind: ExprKind,
    /// Its span.
    pub span: Span,
    /// The height of the tree below; less than [`crate::MAX_TREE_HEIGHT`], so that passes may recurse.
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
    /// The name of a variable or a dtype.
    Name(Arc<str>),
    /// `f"{a} and {b:.2}"`
    Format(Vec<FormatPiece>),
    /// `[a, b]`
    List(Vec<Expr>),
    /// `{"a": 1}`: keys and values
    Map(Vec<(Expr, Expr)>),
    /// `Name { field: value, … }`
    Struct {
        /// The name that the struct's file was imported with.
        module: Option<Name>,
        /// The struct.
        name: Name,
        /// Fields and their values, in written order.
        fields: Vec<(Name, Expr)>,
    },
    /// `-a`, `not a`
    Unary {
        /// The operator.
        operator: UnaryOperator,
        /// The operand.
        operand: Box<Expr>,
    },
    /// `a + b`
    Binary {
        /// The operator.
        operator: BinaryOperator,
        /// The operator's span.
        operator_span: Span,
        /// The left side.
        left: Box<Expr>,
        /// The right side.
        right: Box<Expr>,
    },
    /// `a as type`
    As {
        /// The converted value.
        operand: Box<Expr>,
        /// The target type.
        ty: Type,
    },
    /// `a..b`
    Range {
        /// The first number.
        start: Box<Expr>,
        /// The number after the last.
        end: Box<Expr>,
    },
    /// `name(arguments)`, `Type::name(arguments)`, `module.Type::name(arguments)`
    Call {
        /// The name of the import before the type.
        module: Option<Name>,
        /// The type before `::`.
        qualifier: Option<Name>,
        /// The callee.
        name: Name,
        /// The arguments, positional ones first.
        arguments: Vec<Argument>,
    },
    /// `receiver.name(arguments)`
    Method {
        /// The value before the dot.
        receiver: Box<Expr>,
        /// The callee.
        name: Name,
        /// The arguments, positional ones first.
        arguments: Vec<Argument>,
    },
    /// `receiver.name`
    Field {
        /// The value before the dot.
        receiver: Box<Expr>,
        /// The field.
        name: Name,
    },
    /// `path?`: the part of a model, or `none`
    Optional(Box<Expr>),
    /// `receiver[indices]`
    Index {
        /// The value before the bracket.
        receiver: Box<Expr>,
        /// The indices, at least one, one for each axis.
        indices: Vec<Index>,
    },
    /// `if a {…} else if b {…} else {…}`
    If {
        /// The conditions and their blocks; the first whose condition is true runs.
        branches: Vec<(Expr, Block)>,
        /// The last `else`.
        otherwise: Option<Block>,
    },
    /// `if let name = value {…} else {…}`: the first block runs with the value unless it is `none`
    IfLet {
        /// The variable of the first block.
        name: Name,
        /// The value, which may be `none`.
        value: Box<Expr>,
        /// The block for a value.
        then: Block,
        /// The block for `none`; an `else if` is the one expression of a block.
        otherwise: Option<Block>,
    },
    /// `query Parent(ann, x), Parent(x, y)`
    Query(Query),
    /// `{ … }`
    Block(Block),
    /// `with buffer { … }`
    With {
        /// The TensorBuffer.
        buffer: Box<Expr>,
        /// The block.
        body: Block,
    },
    /// `buffer_trace { … }`
    Trace {
        /// The recorded block.
        body: Block,
    },
    /// An error that was reported.
    Error,
}

/// A piece of an f-string.
#[derive(Clone, Debug)]
pub enum FormatPiece {
    /// Text as it is.
    Text(Arc<str>),
    /// `{value}`, `{value:>8.3}`
    Value {
        /// The value.
        value: Expr,
        /// How it is written.
        format: Format,
    },
}

/// How a value stands in an f-string: `<` (left), `>` (right, as numbers do by themselves) or `^` (in the middle), the least
/// number of characters, and, for a number, the digits behind the point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Format {
    /// Where the value stands if it is shorter than `width`.
    pub align: Option<Align>,
    /// The least number of characters.
    pub width: u16,
    /// Digits behind the point.
    pub precision: Option<u16>,
}

/// Where a value stands among blanks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// `<`
    Left,
    /// `>`
    Right,
    /// `^`
    Middle,
}

/// An argument of a call.
#[derive(Clone, Debug)]
pub struct Argument {
    /// The name before the colon.
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
        /// The start; 0 if absent.
        start: Option<Expr>,
        /// The end; the size of the axis if absent.
        end: Option<Expr>,
        /// Its span.
        span: Span,
    },
}

/// Prefix operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnaryOperator {
    /// `-`
    Negate,
    /// `not`
    Not,
}

/// Binary operators.
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
    /// `in`
    In,
    /// `and`
    And,
    /// `or`
    Or,
}

impl UnaryOperator {
    /// Its spelling.
    pub fn symbol(self) -> &'static str {
        match self {
            UnaryOperator::Negate => "-",
            UnaryOperator::Not => "not",
        }
    }
}

impl BinaryOperator {
    /// Its spelling.
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
            BinaryOperator::In => "in",
            BinaryOperator::And => "and",
            BinaryOperator::Or => "or",
        }
    }

    /// `== != < <= > >= in`
    pub fn is_comparison(self) -> bool {
        use BinaryOperator::*;
        matches!(self, Equal | NotEqual | Less | LessEqual | Greater | GreaterEqual | In)
    }
}
