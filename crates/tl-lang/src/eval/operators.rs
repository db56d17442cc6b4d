//! Operators on values, whether or not the checker knew their types.

use tl_syntax::Span;
use tl_syntax::ast::BinaryOperator;
use tl_tensor::ops::{Arg, apply, by_name};

use crate::arithmetic::{self, ArithmeticError};
use crate::eval::error::{ControlFlow, Evaluated, error_at, raise};
use crate::eval::evaluator::Evaluator;
use crate::ir::{Expr, ExprKind};
use crate::library::BuiltinError;
use crate::text::Text;
use crate::value::{Number, Value, equal};

impl Evaluator<'_> {
    /// The value of a comparison of numbers, without the stack of values; `None` for other conditions.
    pub(super) fn truth_at(&self, expr: &Expr) -> Option<bool> {
        let (operator, left, right) = match &expr.kind {
            ExprKind::Binary { operator, left, right } => (operator, left, right),
            ExprKind::IsAttention(written) => return Some(self.is_attention(written)),
            _ => return None,
        };
        match (self.number_at(left)?, self.number_at(right)?) {
            (Number::Int(a), Number::Int(b)) => compare(*operator, a, b),
            (a, b) => compare(*operator, a.to_f64(), b.to_f64()),
        }
    }

    pub(super) fn negate(&mut self, operand: Value, span: Span) -> Evaluated<Value> {
        match operand {
            Value::Int(n) => match n.checked_neg() {
                Some(n) => Ok(Value::Int(n)),
                None => Err(error_at(span, format!("-({n}) is too large for an int"))),
            },
            Value::Float(x) => Ok(Value::Float(-x)),
            other => self.tensor_operator("neg", &[other], "-", span),
        }
    }

    pub(super) fn not(&mut self, operand: Value, span: Span) -> Evaluated<Value> {
        match operand {
            Value::Bool(truth) => Ok(Value::Bool(!truth)),
            other => self.tensor_operator("logical_not", &[other], "not", span),
        }
    }

    pub(super) fn binary(
        &mut self,
        operator: BinaryOperator,
        left: Value,
        right: Value,
        span: Span,
    ) -> Evaluated<Value> {
        match (&left, &right) {
            (Value::Int(a), Value::Int(b)) => return ints(operator, *a, *b, span),
            (Value::Float(a), Value::Float(b)) => return floats(operator, *a, *b, span),
            (Value::Int(a), Value::Float(b)) => return floats(operator, *a as f64, *b, span),
            (Value::Float(a), Value::Int(b)) => return floats(operator, *a, *b as f64, span),
            _ => {}
        }
        self.other_binary(operator, left, right, span)
    }

    #[inline(never)]
    fn other_binary(&mut self, operator: BinaryOperator, left: Value, right: Value, span: Span) -> Evaluated<Value> {
        if let (Value::Str(a), Value::Str(b)) = (&left, &right) {
            if operator == BinaryOperator::Add {
                let len = a.len().saturating_add(b.len());
                // The string is built, and copied into its shared form.
                self.check_room(len.saturating_mul(2), span, || format!("a string of {len} bytes"))?;
                return Ok(Value::Str(Text::joined(a, b)));
            }
            if let Some(truth) = compare(operator, &**a, &**b) {
                return Ok(Value::Bool(truth));
            }
        }
        match (operator, &left, &right) {
            (_, Value::Tensor(_) | Value::Handle(_), _) | (_, _, Value::Tensor(_) | Value::Handle(_)) => {}
            (BinaryOperator::Equal | BinaryOperator::NotEqual, a, b) => {
                if let Some(is_equal) = equal(a, b) {
                    return Ok(Value::Bool(is_equal == (operator == BinaryOperator::Equal)));
                }
            }
            (BinaryOperator::Add, a, b) => {
                if let (Some(n), Some(m)) = (a.list_len(), b.list_len()) {
                    let len = n.saturating_add(m);
                    self.check_room(Value::list_bytes(len), span, || format!("a list of {len} elements"))?;
                    let first = (0..n).filter_map(|index| a.element(index));
                    return Ok(Value::list(first.chain((0..m).filter_map(|index| b.element(index)))));
                }
            }
            _ => {}
        }
        self.tensor_operator(arithmetic::operation_name(operator), &[left, right], operator.symbol(), span)
    }

    /// An operator on tensors whose type the checker did not know.
    fn tensor_operator(&mut self, row: &str, operands: &[Value], symbol: &str, span: Span) -> Evaluated<Value> {
        let has_tensor = operands.iter().any(|operand| matches!(operand, Value::Tensor(_) | Value::Handle(_)));
        let arguments: Option<smallvec::SmallVec<[Arg<'_>; 2]>> = operands
            .iter()
            .map(|operand| match operand {
                Value::Tensor(tensor) => Some(Arg::from(tensor)),
                Value::Int(n) => Some(Arg::Int(*n)),
                Value::Float(x) => Some(Arg::Number(*x)),
                _ => None,
            })
            .collect();
        match (by_name(row), arguments) {
            (Some(row), Some(arguments)) if has_tensor => {
                self.device.set_location(crate::location::location(span));
                match apply(row, self.device, &arguments) {
                    Ok(raw) => Ok(Value::Tensor(raw.into())),
                    Err(error) => Err(raise(BuiltinError::from(error), span)),
                }
            }
            _ => {
                let kinds: Vec<String> = operands.iter().map(Value::describe).collect();
                Err(error_at(span, format!("`{symbol}` cannot be applied to {}", kinds.join(" and "))))
            }
        }
    }
}

fn ints(operator: BinaryOperator, a: i64, b: i64, span: Span) -> Evaluated<Value> {
    if let Some(truth) = compare(operator, a, b) {
        return Ok(Value::Bool(truth));
    }
    arithmetic::int(operator, a, b).map(Value::Int).map_err(|problem| no_result(problem, operator, a, b, span))
}

/// Whether `a operator b`, if the operator compares.
fn compare<T: PartialOrd>(operator: BinaryOperator, a: T, b: T) -> Option<bool> {
    Some(match operator {
        BinaryOperator::Equal => a == b,
        BinaryOperator::NotEqual => a != b,
        BinaryOperator::Less => a < b,
        BinaryOperator::LessEqual => a <= b,
        BinaryOperator::Greater => a > b,
        BinaryOperator::GreaterEqual => a >= b,
        _ => return None,
    })
}

#[cold]
fn no_result(problem: ArithmeticError, operator: BinaryOperator, a: i64, b: i64, span: Span) -> ControlFlow {
    let expression = format!("{a} {} {b}", operator.symbol());
    let error = match problem {
        ArithmeticError::Overflow => BuiltinError::new(format!("{expression} is too large for an int")),
        ArithmeticError::DivisionByZero => BuiltinError::new(format!("division by zero: {expression}")),
        ArithmeticError::NegativeExponent => BuiltinError::new(format!("{expression}: the exponent is negative"))
            .hint("make the base a float: its power is one too"),
        ArithmeticError::NotArithmetic => {
            BuiltinError::new(format!("`{}` cannot be applied to int and int", operator.symbol()))
        }
    };
    raise(error, span)
}

fn floats(operator: BinaryOperator, a: f64, b: f64, span: Span) -> Evaluated<Value> {
    if let Some(truth) = compare(operator, a, b) {
        return Ok(Value::Bool(truth));
    }
    let message = || format!("`{}` cannot be applied to float and float", operator.symbol());
    arithmetic::float(operator, a, b).map(Value::Float).ok_or_else(|| error_at(span, message()))
}
