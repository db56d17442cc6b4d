//! Assertions.

use tl_device::DType;
use tl_tensor::Tensor;

use super::row::{Args, Builtin, Default, Failure, Kind, Param};
use crate::display::show;
use crate::value::{Value, equal};

pub(super) static ROWS: &[Builtin] = &[
    Builtin {
        name: "assert",
        doc: "Ends the program with an error where the condition is false.",
        params: &[Param::required("condition", Kind::Bool), Param::optional("message", Kind::Text, Default::Text(""))],
        run: |_, args| {
            if args.bool(0)? {
                return Ok(Value::Unit);
            }
            let message = args.text(1)?;
            let separator = if message.is_empty() { "" } else { ": " };
            Err(Failure::new(format!("assertion failed{separator}{message}")))
        },
        ..Builtin::BASE
    },
    Builtin {
        name: "assert_eq",
        doc: "Ends the program with an error where the two values differ. Tensors are equal where dtype, shape and all \
              elements are.",
        params: &[Param::required("a", Kind::Any), Param::required("b", Kind::Any)],
        run: |_, args| assert_eq(args),
        ..Builtin::BASE
    },
    Builtin {
        name: "assert_close",
        doc: "Ends the program with an error where two numbers, or two tensors of the same shape anywhere, differ by more than \
              `tol` plus `tol` times the second one's size.",
        params: &[
            Param::required("a", Kind::Any),
            Param::required("b", Kind::Any),
            Param::optional("tol", Kind::Number, Default::Number(1e-5)),
        ],
        run: |_, args| assert_close(args),
        ..Builtin::BASE
    },
];

fn assert_eq(args: &Args<'_>) -> Result<Value, Failure> {
    let (a, b) = (args.value(0), args.value(1));
    let equal = match (a, b) {
        (Value::Tensor(a), Value::Tensor(b)) => a.layout() == b.layout() && numbers(a)? == numbers(b)?,
        _ => equal(a, b).unwrap_or(false),
    };
    if equal {
        return Ok(Value::Unit);
    }
    Err(Failure::new(format!("assertion failed: {} is not equal to {}", show(a)?, show(b)?)))
}

fn assert_close(args: &Args<'_>) -> Result<Value, Failure> {
    let tolerance = args.number(2)?;
    if let (Value::Tensor(a), Value::Tensor(b)) = (args.value(0), args.value(1)) {
        if a.dims() != b.dims() {
            let message = format!("assertion failed: the shapes {} and {} differ", a.shape(), b.shape());
            return Err(Failure::new(message));
        }
        let (a, b) = (numbers(a)?, numbers(b)?);
        return match a.iter().zip(&b).position(|(a, b)| !is_close(*a, *b, tolerance)) {
            None => Ok(Value::Unit),
            Some(at) => {
                let (a, b) = (a.get(at).copied().unwrap_or_default(), b.get(at).copied().unwrap_or_default());
                Err(Failure::new(format!(
                    "assertion failed: element {at} is {a:?}, not close to {b:?} (tolerance {tolerance:?})"
                )))
            }
        };
    }
    let (a, b) = (args.number(0)?, args.number(1)?);
    if is_close(a, b, tolerance) {
        return Ok(Value::Unit);
    }
    Err(Failure::new(format!("assertion failed: {a:?} is not close to {b:?} (tolerance {tolerance:?})")))
}

fn is_close(a: f64, b: f64, tolerance: f64) -> bool {
    a == b || (a - b).abs() <= tolerance + tolerance * b.abs() || (a.is_nan() && b.is_nan())
}

/// All elements, in the order of their indices.
pub(super) fn numbers(tensor: &Tensor) -> Result<Vec<f64>, Failure> {
    let tensor = tensor.clone();
    Ok(match tensor.dtype() {
        DType::F16 => tensor.into_typed::<half::f16>()?.to_vec()?.into_iter().map(f64::from).collect(),
        DType::F32 => tensor.into_typed::<f32>()?.to_vec()?.into_iter().map(f64::from).collect(),
        DType::I32 => tensor.into_typed::<i32>()?.to_vec()?.into_iter().map(f64::from).collect(),
        DType::Bool => tensor.into_typed::<bool>()?.to_vec()?.into_iter().map(|b| f64::from(u8::from(b))).collect(),
        DType::Block(format) => {
            let message = format!("the elements of a {} weight cannot be read", format.name);
            return Err(Failure::new(message).hint("convert it first, `w as float16`"));
        }
    })
}
