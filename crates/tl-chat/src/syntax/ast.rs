//! The tree of a template.
//!
//! Chains of one precedence (`a + b - c`, `a ~ b ~ c`, `x.y[0]|f is t`) are flat lists, so that walking or dropping a
//! tree recurses no deeper than the parser's nesting limit.

/// Index into [`Template::names`].
pub(crate) type NameId = u32;

/// Index into [`Template::callables`].
pub(crate) type CallableId = usize;

/// A parsed template.
#[derive(Debug)]
pub(crate) struct Template {
    pub(crate) body: Vec<Statement>,
    /// Every identifier once. Index 0 is the empty name, for an unknown name.
    pub(crate) names: Vec<String>,
    /// The bodies of macros and `call` blocks.
    pub(crate) callables: Vec<Callable>,
    /// `loop`, if the template uses it.
    pub(crate) loop_name: Option<NameId>,
    /// `caller`, if the template uses it.
    pub(crate) caller_name: Option<NameId>,
}

/// A statement and the line that it begins in.
#[derive(Debug)]
pub(crate) struct Statement {
    pub(crate) line: u32,
    pub(crate) kind: StatementKind,
}

#[derive(Debug)]
pub(crate) enum StatementKind {
    /// Text between tags.
    Text(String),
    /// `{{ … }}`
    Print(Expression),
    /// Conditions with their bodies, then the body of `else`.
    If {
        branches: Vec<(Expression, Vec<Statement>)>,
        otherwise: Vec<Statement>,
    },
    For(Box<For>),
    /// `{% set target = value %}`
    Set {
        target: Target,
        value: Expression,
    },
    /// `{% set target | filters %}body{% endset %}`
    SetBlock {
        target: Target,
        filters: Vec<Filter>,
        body: Vec<Statement>,
    },
    /// `{% filter filters %}body{% endfilter %}`
    FilterBlock {
        filters: Vec<Filter>,
        body: Vec<Statement>,
    },
    /// `{% macro name(parameters) %}body{% endmacro %}`
    Macro {
        name: NameId,
        callable: CallableId,
    },
    /// `{% call(parameters) call %}body{% endcall %}`
    Call {
        call: Expression,
        caller: CallableId,
    },
    /// `{% with a = 1 %}body{% endwith %}`
    With {
        bindings: Vec<(Target, Expression)>,
        body: Vec<Statement>,
    },
    /// `{% generation %}body{% endgeneration %}`: marks what a model wrote, for training; a scope here.
    Scope(Vec<Statement>),
    Break,
    Continue,
}

#[derive(Debug)]
pub(crate) struct For {
    pub(crate) target: Target,
    pub(crate) iterable: Expression,
    pub(crate) condition: Option<Expression>,
    pub(crate) body: Vec<Statement>,
    pub(crate) otherwise: Vec<Statement>,
}

/// The parameters and the body of a macro, or of a `call` block.
#[derive(Debug)]
pub(crate) struct Callable {
    pub(crate) name: NameId,
    pub(crate) parameters: Vec<(NameId, Option<Expression>)>,
    pub(crate) body: Vec<Statement>,
}

/// Target of a binding.
#[derive(Debug)]
pub(crate) enum Target {
    Name(NameId),
    /// `namespace.attribute`
    Attribute(NameId, NameId),
    /// `a, b`
    Names(Vec<NameId>),
}

/// A filter with its arguments.
#[derive(Debug)]
pub(crate) struct Filter {
    pub(crate) name: NameId,
    pub(crate) arguments: Arguments,
}

#[derive(Debug, Default)]
pub(crate) struct Arguments {
    pub(crate) positional: Vec<Expression>,
    pub(crate) named: Vec<(NameId, Expression)>,
}

#[derive(Debug)]
pub(crate) enum Expression {
    None,
    Bool(bool),
    Integer(i128),
    Float(f64),
    String(String),
    Name(NameId),
    List(Vec<Expression>),
    Tuple(Vec<Expression>),
    Dict(Vec<(Expression, Expression)>),
    /// `value if condition else otherwise`
    Conditional(Box<(Expression, Expression, Option<Expression>)>),
    Or(Vec<Expression>),
    And(Vec<Expression>),
    Not(Box<Expression>),
    Negative(Box<Expression>),
    Positive(Box<Expression>),
    /// Comparisons, chained as Python chains them.
    Compare(Box<Expression>, Vec<(Comparison, Expression)>),
    /// Operators of one precedence, applied from the left.
    Arithmetic(Box<Expression>, Vec<(Operator, Expression)>),
    /// `a ~ b ~ c`
    Concat(Vec<Expression>),
    /// Postfix operators of an operand, applied from the left.
    Postfix(Box<Expression>, Vec<Postfix>),
}

#[derive(Debug)]
pub(crate) enum Postfix {
    /// `.name`
    Attribute(NameId),
    /// `[index]`
    Index(Expression),
    /// `[start:stop:step]`
    Slice(Box<[Option<Expression>; 3]>),
    Call(Arguments),
    Filter(Filter),
    /// `is name` or `is not name`
    Test {
        filter: Filter,
        negated: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    In,
    NotIn,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    FloorDivide,
    Remainder,
    Power,
}
