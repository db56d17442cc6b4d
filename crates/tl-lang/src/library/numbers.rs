//! Elementwise operations on plain numbers, and conversions of numbers and text.

use tl_syntax::ast::BinaryOperator;

use super::args::Args;
use super::error::BuiltinError;
use super::param::{DefaultValue, Param, ParamKind};
use super::row::{ArgTypes, Builtin, always};
use super::tensors::item;
use crate::arithmetic::{self, ArithmeticError};
use crate::types::{Known, Type};
use crate::value::Value;

/// A function of one number that gives a `float`.
macro_rules! function {
    ($name:literal, $doc:literal, $f:expr) => {
        Builtin {
            name: $name,
            doc: $doc,
            params: &[Param::required("x", ParamKind::Number)],
            result: always!(Float),
            run: |_, args| {
                let f: fn(f64) -> f64 = $f;
                Ok(Value::Float(f(args.number(0)?)))
            },
            of_number: Some($f),
            ..Builtin::BASE
        }
    };
}

pub(super) static ROWS: &[Builtin] = &[
    function!("exp", "`e^x` of a number.", f64::exp),
    function!("log", "The natural logarithm of a number.", f64::ln),
    function!("sqrt", "The square root of a number.", f64::sqrt),
    function!("sin", "The sine of a number, in radians.", f64::sin),
    function!("cos", "The cosine of a number, in radians.", f64::cos),
    function!("tan", "The tangent of a number, in radians.", f64::tan),
    function!("tanh", "The hyperbolic tangent of a number.", f64::tanh),
    function!("sigmoid", "`1 / (1 + e^-x)` of a number.", |x| 1.0 / (1.0 + (-x).exp())),
    function!("floor", "The largest whole number no larger, as a float.", f64::floor),
    function!("ceil", "The smallest whole number no smaller, as a float.", f64::ceil),
    function!("round", "The nearest whole number, ties to even, as a float.", f64::round_ties_even),
    Builtin {
        name: "abs",
        doc: "The absolute value of a number, of the number's type.",
        params: &[Param::required("x", ParamKind::Number)],
        result: same_type,
        run: |_, args| match args.value(0) {
            Value::Int(n) => n
                .checked_abs()
                .map(Value::Int)
                .ok_or_else(|| BuiltinError::new("abs: the result is too large for an int")),
            _ => Ok(Value::Float(args.number(0)?.abs())),
        },
        ..Builtin::BASE
    },
    Builtin {
        name: "is_nan",
        doc: "Whether a number is not a number.",
        params: &[Param::required("x", ParamKind::Number)],
        result: always!(Bool),
        run: |_, args| Ok(Value::Bool(args.number(0)?.is_nan())),
        ..Builtin::BASE
    },
    Builtin {
        name: "pow",
        doc: "`a ** b` of two numbers; an int where both are.",
        params: &[Param::required("a", ParamKind::Number), Param::required("b", ParamKind::Number)],
        result: same_type,
        run: |_, args| match (args.value(0), args.value(1)) {
            (Value::Int(a), Value::Int(b)) => {
                let power = arithmetic::int(BinaryOperator::Power, *a, *b);
                power.map(Value::Int).map_err(|problem| problem.describe(BinaryOperator::Power, *a, *b))
            }
            _ => Ok(Value::Float(args.number(0)?.powf(args.number(1)?))),
        },
        ..Builtin::BASE
    },
    Builtin {
        name: "minimum",
        doc: "The smaller of two numbers; an int where both are.",
        params: &[Param::required("a", ParamKind::Number), Param::required("b", ParamKind::Number)],
        result: same_type,
        run: |_, args| choose(args, |a, b| a <= b),
        ..Builtin::BASE
    },
    Builtin {
        name: "maximum",
        doc: "The larger of two numbers; an int where both are.",
        params: &[Param::required("a", ParamKind::Number), Param::required("b", ParamKind::Number)],
        result: same_type,
        run: |_, args| choose(args, |a, b| a >= b),
        ..Builtin::BASE
    },
    Builtin {
        name: "int",
        doc: "A number without its fraction, the number that a string spells, or the value of a tensor with one element.",
        params: &[Param::required("x", ParamKind::Any)],
        result: always!(Int),
        run: |_, args| to_int(args),
        ..Builtin::BASE
    },
    Builtin {
        name: "float",
        doc: "A number as a float, the number that a string spells, or the value of a tensor with one element.",
        params: &[Param::required("x", ParamKind::Any)],
        result: always!(Float),
        run: |_, args| to_float(args),
        ..Builtin::BASE
    },
    Builtin {
        name: "range",
        doc: "The whole numbers from `start` up to but not including `end`; `range(n)` begins at 0.",
        params: &[
            Param::required("start", ParamKind::Int),
            Param::optional("end", ParamKind::Int, DefaultValue::Absent),
        ],
        result: always!(Range),
        run: |_, args| match args.value(1) {
            Value::Absent => Ok(Value::Range(0, args.int(0)?)),
            _ => Ok(Value::Range(args.int(0)?, args.int(1)?)),
        },
        ..Builtin::BASE
    },
];

impl ArithmeticError {
    /// The error of `a operator b`.
    #[cold]
    pub(crate) fn describe(self, operator: BinaryOperator, a: i64, b: i64) -> BuiltinError {
        let expression = format!("{a} {} {b}", operator.symbol());
        match self {
            ArithmeticError::Overflow => BuiltinError::new(format!("{expression} is too large for an int")),
            ArithmeticError::DivisionByZero => BuiltinError::new(format!("division by zero: {expression}")),
            ArithmeticError::NegativeExponent => BuiltinError::new(format!("{expression}: the exponent is negative"))
                .hint("make the base a float: its power is one too"),
            ArithmeticError::NotArithmetic => {
                BuiltinError::new(format!("`{}` cannot be applied to int and int", operator.symbol()))
            }
        }
    }
}

fn same_type(types: &ArgTypes<'_>) -> (Type, Known) {
    let is_int = |index| matches!(types.ty(index), None | Some(Type::Int));
    (if is_int(0) && is_int(1) { Type::Int } else { Type::Float }, Known::Nothing)
}

/// The first number if the comparison holds, else the second; NaN if one is NaN.
fn choose(args: &Args<'_>, first: fn(f64, f64) -> bool) -> Result<Value, BuiltinError> {
    if let (Value::Int(a), Value::Int(b)) = (args.value(0), args.value(1)) {
        // Different ints may be equal as floats.
        let smaller = first(0.0, 1.0);
        return Ok(Value::Int(if smaller { *a.min(b) } else { *a.max(b) }));
    }
    let (a, b) = (args.number(0)?, args.number(1)?);
    Ok(Value::Float(if a.is_nan() || first(a, b) { a } else { b }))
}

/// 2^63: the smallest float above all ints.
const INT_BOUND: f64 = 9_223_372_036_854_775_808.0;

/// A float without its fraction.
pub(crate) fn truncate(x: f64) -> Result<i64, BuiltinError> {
    if (-INT_BOUND..INT_BOUND).contains(&x) {
        return Ok(x.trunc() as i64);
    }
    Err(BuiltinError::new(format!("{x:?} cannot be an int")))
}

fn to_int(args: &Args<'_>) -> Result<Value, BuiltinError> {
    let n = match args.value(0) {
        Value::Int(n) => *n,
        Value::Float(x) => truncate(*x)?,
        Value::Bool(b) => i64::from(*b),
        Value::Str(text) => {
            text.trim().parse().map_err(|_| BuiltinError::new(format!("{text:?} is not a whole number")))?
        }
        Value::Tensor(tensor) => match item(tensor)? {
            Value::Int(n) => n,
            Value::Bool(b) => i64::from(b),
            Value::Float(x) => truncate(x)?,
            _ => return Err(BuiltinError::new("`int`: this tensor has no number")),
        },
        other => return Err(BuiltinError::new(format!("`int` cannot make a number of {}", other.describe()))),
    };
    Ok(Value::Int(n))
}

fn to_float(args: &Args<'_>) -> Result<Value, BuiltinError> {
    let x = match args.value(0) {
        Value::Int(n) => *n as f64,
        Value::Float(x) => *x,
        Value::Bool(b) => f64::from(u8::from(*b)),
        Value::Str(text) => text.trim().parse().map_err(|_| BuiltinError::new(format!("{text:?} is not a number")))?,
        Value::Tensor(tensor) => match item(tensor)? {
            Value::Int(n) => n as f64,
            Value::Float(x) => x,
            Value::Bool(b) => f64::from(u8::from(b)),
            _ => return Err(BuiltinError::new("`float`: this tensor has no number")),
        },
        other => return Err(BuiltinError::new(format!("`float` cannot make a number of {}", other.describe()))),
    };
    Ok(Value::Float(x))
}
