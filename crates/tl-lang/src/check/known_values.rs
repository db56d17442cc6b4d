//! Arithmetic on what is known of values before the program runs.

use std::cmp::Ordering;

use tl_syntax::ast::BinaryOperator;
use tl_tensor::ops::{Size, TensorType};

use crate::arithmetic;
use crate::types::{Known, Type};

/// What is known of an operator's result on plain values. Sizes that are compared may turn out equal behind the comparison.
pub(super) fn known_result(operator: BinaryOperator, a: &Known, b: &Known) -> Known {
    let known = match (a, b) {
        _ if operator.is_comparison() => {
            [a, b].into_iter().for_each(|known| loosen(&Type::Unknown, known));
            if operator == BinaryOperator::In {
                return match (a, b) {
                    (Known::Text(part), Known::Text(text)) => Known::Bool(text.contains(&**part)),
                    _ => Known::Nothing,
                };
            }
            return known_order(a, b).map_or(Known::Nothing, |order| Known::Bool(holds(operator, order)));
        }
        (Known::Int(a), Known::Int(b)) => Known::Int(size_result(operator, *a, *b)),
        // A list that doubles in a loop would fill the memory.
        _ if is_long(a, b) => Known::Nothing,
        (Known::Ints(a), Known::Ints(b)) if operator == BinaryOperator::Add => {
            Known::Ints(a.iter().chain(b).copied().collect())
        }
        (Known::Elements(a), Known::Elements(b)) if operator == BinaryOperator::Add => {
            Known::elements(a.iter().chain(&**b).cloned())
        }
        (a, b) => match (float_value(a), float_value(b)) {
            (Some(a), Some(b)) => arithmetic::float(operator, a, b).map_or(Known::Nothing, Known::Float),
            _ => Known::Nothing,
        },
    };
    if known == Known::Int(Size::Unknown) { Known::Nothing } else { known }
}

/// The longest list whose elements are known after it was put together.
const MAX_LIST_LEN: usize = 1 << 12;

/// Whether two lists are longer than that together.
fn is_long(a: &Known, b: &Known) -> bool {
    a.list_len().zip(b.list_len()).is_some_and(|(a, b)| a.saturating_add(b) > MAX_LIST_LEN)
}

fn size_result(operator: BinaryOperator, a: Size, b: Size) -> Size {
    if let (Size::Known(a), Size::Known(b)) = (a, b) {
        return arithmetic::int(operator, a, b).map_or(Size::Unknown, Size::Known);
    }
    match (operator, b) {
        (BinaryOperator::Add, b) => a.plus(b),
        (BinaryOperator::Subtract, b) => a.minus(b),
        (BinaryOperator::Multiply, b) => a.times(b),
        (BinaryOperator::Divide, b) => a.quotient(b),
        (BinaryOperator::Remainder, b) => a.remainder(b),
        (BinaryOperator::Power, Size::Known(n @ 0..=8)) => (0..n).fold(Size::Known(1), |power, _| power.times(a)),
        _ => Size::Unknown,
    }
}

/// How two values compare, if that is certain. `None` in the order: they are neither equal nor in an order.
fn known_order(a: &Known, b: &Known) -> Option<Option<Ordering>> {
    match (a, b) {
        (Known::Int(a), Known::Int(b)) => Some(Some(a.minus(*b).known()?.cmp(&0))),
        (Known::Text(a), Known::Text(b)) => Some(Some(a.cmp(b))),
        (Known::Bool(a), Known::Bool(b)) => Some((a == b).then_some(Ordering::Equal)),
        (Known::DType(a), Known::DType(b)) => Some((a == b).then_some(Ordering::Equal)),
        (Known::Ints(a), Known::Ints(b)) => {
            if a.len() != b.len() {
                return Some(None);
            }
            let differences: Vec<Option<i64>> = a.iter().zip(b).map(|(a, b)| a.minus(*b).known()).collect();
            match differences.iter().all(|difference| *difference == Some(0)) {
                true => Some(Some(Ordering::Equal)),
                false => differences.iter().flatten().any(|difference| *difference != 0).then_some(None),
            }
        }
        (a, b) => Some(float_value(a)?.partial_cmp(&float_value(b)?)),
    }
}

fn holds(operator: BinaryOperator, order: Option<Ordering>) -> bool {
    match operator {
        BinaryOperator::Equal => order == Some(Ordering::Equal),
        BinaryOperator::NotEqual => order != Some(Ordering::Equal),
        BinaryOperator::Less => order == Some(Ordering::Less),
        BinaryOperator::LessEqual => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        BinaryOperator::Greater => order == Some(Ordering::Greater),
        BinaryOperator::GreaterEqual => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
        _ => false,
    }
}

/// What is known of `a and b` and `a or b`.
pub(super) fn known_logic(operator: BinaryOperator, a: &Known, b: &Known) -> Known {
    let decides = operator == BinaryOperator::Or;
    match (a, b) {
        (Known::Bool(known), _) | (_, Known::Bool(known)) if *known == decides => Known::Bool(decides),
        (Known::Bool(_), Known::Bool(_)) => Known::Bool(!decides),
        _ => Known::Nothing,
    }
}

fn float_value(known: &Known) -> Option<f64> {
    match known {
        Known::Float(x) => Some(*x),
        Known::Int(Size::Known(n)) => Some(*n as f64),
        _ => None,
    }
}

/// From here on the sizes of a value may turn out equal to others: the program has looked at them.
pub(super) fn loosen(ty: &Type, known: &Known) {
    if let Type::Tensor(TensorType { sizes: Some(sizes), .. }) = ty {
        sizes.iter().for_each(|size| size.loosen());
    }
    match known {
        Known::Int(size) => size.loosen(),
        Known::Ints(sizes) | Known::Ids(sizes) => sizes.iter().for_each(|size| size.loosen()),
        Known::Range(start, end) => [start, end].into_iter().for_each(|size| size.loosen()),
        Known::Elements(elements) => elements.iter().for_each(|(ty, known)| loosen(ty, known)),
        _ => {}
    }
}
