//! Reductions of lists of numbers: ints exactly, floats as 64-bit floats. Those of tensors are operations.

use std::cmp::Ordering;

use super::args::Args;
use super::error::BuiltinError;
use super::param::{Param, ParamKind};
use super::row::{ArgTypes, Builtin, Context, always};
use crate::stack::has_room;
use crate::types::{Known, Type};
use crate::value::{Number, Value};

/// A reduction of the numbers in a list.
macro_rules! reduction {
    ($name:literal, $doc:literal, $result:expr, $reduce:expr) => {
        Builtin {
            name: $name,
            doc: $doc,
            params: &[Param::required("list", ParamKind::List)],
            result: $result,
            run: |context, args| reduce(context, args, $reduce),
            ..Builtin::BASE
        }
    };
}

pub(super) static ROWS: &[Builtin] = &[
    reduction!(
        "sum",
        "The sum of the numbers in a list, an int where all are; lists in the list are summed too. Of truth values, how \
         many are true.",
        element_type,
        sum
    ),
    reduction!("mean", "The mean of the numbers in a list, a float.", always!(Float), mean),
    reduction!("max", "The largest number in a list, NaN if one is.", element_type, |numbers| {
        Ok(best(&numbers, "max", Ordering::Greater)?.1.into())
    }),
    reduction!("min", "The smallest number in a list, NaN if one is.", element_type, |numbers| {
        Ok(best(&numbers, "min", Ordering::Less)?.1.into())
    }),
    reduction!(
        "argmax",
        "The position of the largest number in a list, the first of equal ones.",
        always!(Int),
        |numbers| { Ok(Value::Int(best(&numbers, "argmax", Ordering::Greater)?.0 as i64)) }
    ),
    reduction!(
        "argmin",
        "The position of the smallest number in a list, the first of equal ones.",
        always!(Int),
        |numbers| { Ok(Value::Int(best(&numbers, "argmin", Ordering::Less)?.0 as i64)) }
    ),
];

fn element_type(types: &ArgTypes<'_>) -> (Type, Known) {
    let mut ty = types.ty(0);
    while let Some(Type::List(element)) = ty {
        ty = Some(element);
    }
    let ty = match ty {
        Some(Type::Int | Type::Bool) => Type::Int,
        Some(Type::Float) => Type::Float,
        _ => Type::Unknown,
    };
    (ty, Known::Nothing)
}

fn reduce(
    context: &Context<'_>,
    args: &Args<'_>,
    reduce: fn(Vec<Number>) -> Result<Value, BuiltinError>,
) -> Result<Value, BuiltinError> {
    if let Some(reduced) = args.tensor_operation(context.device) {
        return reduced;
    }
    let len = args.value(0).list_len().unwrap_or(0);
    context.device.check_heap(len.saturating_mul(size_of::<Number>()), || "the numbers of a list".to_owned())?;
    let mut numbers = Vec::with_capacity(len);
    collect(context, args.name, args.value(0), &mut numbers)?;
    reduce(numbers)
}

fn collect(context: &Context<'_>, name: &str, value: &Value, numbers: &mut Vec<Number>) -> Result<(), BuiltinError> {
    if !has_room() {
        return Err(BuiltinError::too_deep());
    }
    // Lists that share their elements have more numbers than they take memory.
    if numbers.len() == numbers.capacity() {
        let bytes = 2 * size_of_val(&**numbers);
        context.device.check_heap(bytes, || "the numbers of a list".to_owned())?;
    }
    match value {
        Value::Int(n) => numbers.push(Number::Int(*n)),
        Value::Float(x) => numbers.push(Number::Float(*x)),
        Value::Bool(truth) => numbers.push(Number::Int(i64::from(*truth))),
        Value::Ints(ints) => numbers.extend(ints.as_slice().iter().map(|n| Number::Int(*n))),
        Value::List(values) => {
            for value in values.iter() {
                collect(context, name, value, numbers)?;
            }
        }
        other => {
            let message = format!("`{name}` takes a list of numbers or a tensor, and finds {}", other.describe());
            return Err(BuiltinError::new(message));
        }
    }
    Ok(())
}

fn ints(numbers: &[Number]) -> Option<impl Iterator<Item = i64> + '_> {
    let int = |number: &Number| if let Number::Int(n) = number { Some(*n) } else { None };
    numbers.iter().all(|number| int(number).is_some()).then(|| numbers.iter().filter_map(int))
}

fn sum(numbers: Vec<Number>) -> Result<Value, BuiltinError> {
    if let Some(mut ints) = ints(&numbers) {
        let sum = ints.try_fold(0_i64, i64::checked_add);
        return sum.map(Value::Int).ok_or_else(|| BuiltinError::new("sum: the result is too large for an int"));
    }
    Ok(Value::Float(float_sum(&numbers)))
}

/// The sum with the rounding error of each addition added at the end (Neumaier).
fn float_sum(numbers: &[Number]) -> f64 {
    let (mut sum, mut error) = (0.0_f64, 0.0_f64);
    for x in numbers.iter().map(|number| number.to_f64()) {
        let next = sum + x;
        error += if sum.abs() >= x.abs() { (sum - next) + x } else { (x - next) + sum };
        sum = next;
    }
    // An infinite sum has no error.
    if error.is_finite() { sum + error } else { sum }
}

fn mean(numbers: Vec<Number>) -> Result<Value, BuiltinError> {
    if numbers.is_empty() {
        return Err(BuiltinError::new("mean: the list is empty"));
    }
    Ok(Value::Float(float_sum(&numbers) / numbers.len() as f64))
}

/// The first number that stands on this side of all others, and its position.
fn best(numbers: &[Number], name: &str, side: Ordering) -> Result<(usize, Number), BuiltinError> {
    let mut best: Option<(usize, Number)> = None;
    for (at, &number) in numbers.iter().enumerate() {
        let is_better = match best {
            None => true,
            Some((_, known)) => match (number, known) {
                (Number::Int(a), Number::Int(b)) => a.cmp(&b) == side,
                (a, b) => {
                    let (a, b) = (a.to_f64(), b.to_f64());
                    !b.is_nan() && (a.is_nan() || a.partial_cmp(&b) == Some(side))
                }
            },
        };
        if is_better {
            best = Some((at, number));
        }
    }
    best.ok_or_else(|| BuiltinError::new(format!("{name}: the list is empty")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_summed_exactly() {
        let numbers = |values: &[f64]| values.iter().map(|x| Number::Float(*x)).collect::<Vec<_>>();
        assert_eq!(float_sum(&numbers(&[0.1; 10])), 1.0);
        assert_eq!(float_sum(&numbers(&[1e100, 1.0, -1e100])), 1.0);
        assert_eq!(float_sum(&numbers(&[f64::INFINITY, 1.0])), f64::INFINITY);
        assert!(float_sum(&numbers(&[f64::NAN, 1.0])).is_nan());
    }
}
