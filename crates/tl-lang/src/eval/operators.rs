//! Operators on values, whether or not the checker knew their types.

use std::sync::Arc;

use tl_syntax::Span;
use tl_syntax::ast::BinaryOperator;
use tl_tensor::ops::{Arg, apply, by_name};

use crate::arithmetic;
use crate::eval::error::{Evaluated, error_at, raise};
use crate::eval::evaluator::Evaluator;
use crate::ints::Ints;
use crate::ir::{Expr, ExprKind};
use crate::library::{self, BuiltinError};
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

    /// The value of an operator between two expressions.
    pub(super) fn binary_of(
        &mut self,
        operator: BinaryOperator,
        left: &Expr,
        right: &Expr,
        span: Span,
    ) -> Evaluated<Value> {
        let left = self.expr(left)?;
        let right = self.expr(right)?;
        self.binary(operator, left, right, span)
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
        if operator == BinaryOperator::Add {
            return match (left, right) {
                (Value::Str(mut text), Value::Str(more)) => {
                    self.check_room(text.bytes_to_join(&more), span, || {
                        format!("a string of {} bytes", text.len() + more.len())
                    })?;
                    text.push(&more);
                    Ok(Value::Str(text))
                }
                (left, right) if left.list_len().is_some() && right.list_len().is_some() => {
                    self.joined_lists(left, right, span)
                }
                (left, right) => self.tensor_operator(arithmetic::operation_name(operator), &[left, right], "+", span),
            };
        }
        if operator == BinaryOperator::In {
            return library::contains(&left, &right).map(Value::Bool).map_err(|error| raise(error, span));
        }
        if let (Value::Str(a), Value::Str(b)) = (&left, &right)
            && let Some(truth) = compare(operator, &**a, &**b)
        {
            return Ok(Value::Bool(truth));
        }
        match (operator, &left, &right) {
            (_, Value::Tensor(_) | Value::Handle(_), _) | (_, _, Value::Tensor(_) | Value::Handle(_)) => {}
            (BinaryOperator::Equal | BinaryOperator::NotEqual, a, b) => {
                if let Some(is_equal) = equal(a, b) {
                    return Ok(Value::Bool(is_equal == (operator == BinaryOperator::Equal)));
                }
            }
            _ => {}
        }
        self.tensor_operator(arithmetic::operation_name(operator), &[left, right], operator.symbol(), span)
    }

    /// Two lists joined, in place if no other value shares the first one.
    fn joined_lists(&mut self, left: Value, right: Value, span: Span) -> Evaluated<Value> {
        let (n, m) = (left.list_len().unwrap_or(0), right.list_len().unwrap_or(0));
        let len = n.saturating_add(m);
        let has_room = match &left {
            Value::Ints(Ints::Shared(values)) => Arc::strong_count(values) == 1 && len <= values.capacity(),
            Value::List(values) => Arc::strong_count(values) == 1 && len <= values.capacity(),
            _ => false,
        };
        if !has_room {
            // A list that grows has room for twice its length afterwards.
            self.check_room(Value::list_bytes(2 * len), span, || format!("a list of {len} elements"))?;
        }
        Ok(match (left, right) {
            (Value::Ints(mut ints), Value::Ints(more)) => {
                ints.extend(more.as_slice());
                Value::Ints(ints)
            }
            (Value::List(mut values), right) => {
                Arc::make_mut(&mut values).extend((0..m).filter_map(|index| right.element(index)));
                Value::List(values)
            }
            (left, right) => {
                let first = (0..n).filter_map(|index| left.element(index));
                Value::list(first.chain((0..m).filter_map(|index| right.element(index))))
            }
        })
    }

    /// An operator on tensors whose type the checker did not know.
    fn tensor_operator(&mut self, row: &str, operands: &[Value], symbol: &str, span: Span) -> Evaluated<Value> {
        let has_tensor = operands.iter().any(|operand| matches!(operand, Value::Tensor(_) | Value::Handle(_)));
        let arguments: Option<smallvec::SmallVec<[Arg<'_>; 2]>> = operands
            .iter()
            .map(|operand| match operand {
                Value::Tensor(tensor) => Some(Arg::from(&**tensor)),
                Value::Int(n) => Some(Arg::Int(*n)),
                Value::Float(x) => Some(Arg::Number(*x)),
                _ => None,
            })
            .collect();
        match (by_name(row), arguments) {
            (Some(row), Some(arguments)) if has_tensor => {
                self.device.set_location(crate::location::location(span));
                match apply(row, self.device, &arguments) {
                    Ok(raw) => Ok(Value::tensor(raw.into())),
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
    arithmetic::int(operator, a, b).map(Value::Int).map_err(|problem| raise(problem.describe(operator, a, b), span))
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

fn floats(operator: BinaryOperator, a: f64, b: f64, span: Span) -> Evaluated<Value> {
    if let Some(truth) = compare(operator, a, b) {
        return Ok(Value::Bool(truth));
    }
    let message = || format!("`{}` cannot be applied to float and float", operator.symbol());
    arithmetic::float(operator, a, b).map(Value::Float).ok_or_else(|| error_at(span, message()))
}
