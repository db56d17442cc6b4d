//! Assertions.

use super::args::Args;
use super::elements::elements;
use super::error::BuiltinError;
use super::param::{DefaultValue, Param, ParamKind};
use super::row::Builtin;
use crate::display::show;
use crate::value::{Value, equal};

pub(super) static ROWS: &[Builtin] = &[
    Builtin {
        name: "assert",
        doc: "Ends the program with an error where the condition is false.",
        params: &[
            Param::required("condition", ParamKind::Bool),
            Param::optional("message", ParamKind::Text, DefaultValue::Text("")),
        ],
        run: |_, args| {
            if args.bool(0)? {
                return Ok(Value::Unit);
            }
            let message = args.text(1)?;
            let separator = if message.is_empty() { "" } else { ": " };
            Err(BuiltinError::new(format!("assertion failed{separator}{message}")))
        },
        ..Builtin::BASE
    },
    Builtin {
        name: "assert_eq",
        doc: "Ends the program with an error where the two values differ. Tensors are equal where dtype, shape and all \
              elements are.",
        params: &[Param::required("a", ParamKind::Any), Param::required("b", ParamKind::Any)],
        run: |_, args| assert_eq(args),
        ..Builtin::BASE
    },
    Builtin {
        name: "assert_close",
        doc: "Ends the program with an error where two numbers, or two tensors of the same shape anywhere, differ by more than \
              `tol` plus `tol` times the second one's size.",
        params: &[
            Param::required("a", ParamKind::Any),
            Param::required("b", ParamKind::Any),
            Param::optional("tol", ParamKind::Number, DefaultValue::Number(1e-5)),
        ],
        run: |_, args| assert_close(args),
        ..Builtin::BASE
    },
];

fn assert_eq(args: &Args<'_>) -> Result<Value, BuiltinError> {
    let (a, b) = (args.value(0), args.value(1));
    let equal = match (a, b) {
        (Value::Tensor(a), Value::Tensor(b)) => a.layout() == b.layout() && elements(a)? == elements(b)?,
        _ => equal(a, b).unwrap_or(false),
    };
    if equal {
        return Ok(Value::Unit);
    }
    Err(BuiltinError::new(format!("assertion failed: {} is not equal to {}", show(a)?, show(b)?)))
}

fn assert_close(args: &Args<'_>) -> Result<Value, BuiltinError> {
    let tolerance = args.number(2)?;
    if let (Value::Tensor(a), Value::Tensor(b)) = (args.value(0), args.value(1)) {
        if a.dims() != b.dims() {
            let message = format!("assertion failed: the shapes {} and {} differ", a.shape(), b.shape());
            return Err(BuiltinError::new(message));
        }
        let (a, b) = (elements(a)?, elements(b)?);
        return match a.iter().zip(&b).position(|(a, b)| !is_close(*a, *b, tolerance)) {
            None => Ok(Value::Unit),
            Some(at) => {
                let (a, b) = (a.get(at).copied().unwrap_or_default(), b.get(at).copied().unwrap_or_default());
                Err(BuiltinError::new(format!(
                    "assertion failed: element {at} is {a:?}, not close to {b:?} (tolerance {tolerance:?})"
                )))
            }
        };
    }
    let (a, b) = (args.number(0)?, args.number(1)?);
    if is_close(a, b, tolerance) {
        return Ok(Value::Unit);
    }
    Err(BuiltinError::new(format!("assertion failed: {a:?} is not close to {b:?} (tolerance {tolerance:?})")))
}

fn is_close(a: f64, b: f64, tolerance: f64) -> bool {
    a == b || (a - b).abs() <= tolerance + tolerance * b.abs() || (a.is_nan() && b.is_nan())
}
