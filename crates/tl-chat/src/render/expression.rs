//! Evaluation of expressions.

use super::Renderer;
use super::arguments::Given;
use super::meter::Buffer;
use super::value::{SequenceKind, Value};
use crate::error::Result;
use crate::syntax::ast::{Arguments, Comparison, Expression, NameId, Postfix};

impl<'a> Renderer<'a> {
    pub(super) fn expression(&mut self, expression: &'a Expression) -> Result<Value> {
        match expression {
            Expression::None => Ok(Value::None),
            Expression::Bool(value) => Ok(Value::Bool(*value)),
            Expression::Integer(value) => Ok(Value::Integer(*value)),
            Expression::Float(value) => Ok(Value::Float(*value)),
            Expression::String(text) => {
                self.meter.scan(text.len())?;
                self.meter.string(text.as_str())
            }
            Expression::Name(name) => Ok(self.lookup(*name)),
            Expression::List(items) => self.all(items).and_then(|items| self.meter.list(items)),
            Expression::Tuple(items) => {
                self.all(items).and_then(|items| self.meter.sequence(SequenceKind::Tuple, items))
            }
            Expression::Dict(entries) => self.dict_literal(entries),
            Expression::Conditional(parts) => {
                let (value, condition, otherwise) = &**parts;
                if self.evaluate(condition)?.is_true() {
                    return self.evaluate(value);
                }
                otherwise.as_ref().map_or(Ok(Value::Undefined(0)), |otherwise| self.evaluate(otherwise))
            }
            Expression::Or(operands) => self.first_where(operands, true),
            Expression::And(operands) => self.first_where(operands, false),
            Expression::Not(operand) => Ok(Value::Bool(!self.evaluate(operand)?.is_true())),
            Expression::Negative(operand) => match self.evaluate(operand)? {
                Value::Float(value) => Ok(Value::Float(-value)),
                value => match value.as_integer().and_then(i128::checked_neg) {
                    Some(value) => Ok(Value::Integer(value)),
                    None => self.meter.error(format!("`-` before a value of type {}", value.type_name())),
                },
            },
            Expression::Positive(operand) => {
                let value = self.evaluate(operand)?;
                match (value.as_integer(), &value) {
                    (Some(value), _) => Ok(Value::Integer(value)),
                    (None, Value::Float(_)) => Ok(value),
                    _ => self.meter.error(format!("`+` before a value of type {}", value.type_name())),
                }
            }
            Expression::Compare(first, rest) => self.comparisons(first, rest),
            Expression::Arithmetic(first, rest) => {
                let mut value = self.evaluate(first)?;
                for (operator, operand) in rest {
                    let operand = self.evaluate(operand)?;
                    self.require_defined(&value)?;
                    self.require_defined(&operand)?;
                    value = self.meter.operate(*operator, &value, &operand)?;
                }
                Ok(value)
            }
            Expression::Concat(operands) => {
                let mut out = Buffer::new(&self.meter)?;
                for operand in operands {
                    let value = self.evaluate(operand)?;
                    self.meter.write(&mut out, &value)?;
                }
                Ok(self.meter.buffer_string(out))
            }
            Expression::Postfix(operand, chain) => {
                let value = self.evaluate(operand)?;
                self.postfix(value, chain)
            }
        }
    }

    fn all(&mut self, items: &'a [Expression]) -> Result<Vec<Value>> {
        items.iter().map(|item| self.evaluate(item)).collect()
    }

    fn dict_literal(&mut self, entries: &'a [(Expression, Expression)]) -> Result<Value> {
        let mut values = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let key = self.evaluate(key)?;
            let is_key =
                matches!(key, Value::String(_) | Value::None | Value::Bool(_) | Value::Integer(_) | Value::Float(_));
            if !is_key {
                return self.meter.error(format!("a value of type {} cannot be a key", key.type_name()));
            }
            values.push((key, self.evaluate(value)?));
        }
        self.meter.dict(values)
    }

    /// The first operand whose truth is `wanted`, or the last one.
    fn first_where(&mut self, operands: &'a [Expression], wanted: bool) -> Result<Value> {
        let mut value = Value::None;
        for operand in operands {
            value = self.evaluate(operand)?;
            if value.is_true() == wanted {
                break;
            }
        }
        Ok(value)
    }

    fn comparisons(&mut self, first: &'a Expression, rest: &'a [(Comparison, Expression)]) -> Result<Value> {
        let mut left = self.evaluate(first)?;
        for (comparison, operand) in rest {
            let right = self.evaluate(operand)?;
            let meter = &self.meter;
            let holds = match comparison {
                Comparison::Equal => meter.equal(&left, &right)?,
                Comparison::NotEqual => !meter.equal(&left, &right)?,
                Comparison::In => meter.contains(&right, &left)?,
                Comparison::NotIn => !meter.contains(&right, &left)?,
                _ => {
                    self.require_defined(&left)?;
                    self.require_defined(&right)?;
                    let order = meter.compare(&left, &right)?;
                    match comparison {
                        Comparison::Less => order.is_lt(),
                        Comparison::LessEqual => order.is_le(),
                        Comparison::Greater => order.is_gt(),
                        _ => order.is_ge(),
                    }
                }
            };
            if !holds {
                return Ok(Value::Bool(false));
            }
            left = right;
        }
        Ok(Value::Bool(true))
    }

    /// Errors if the value is undefined, with its name if it is known.
    pub(super) fn require_defined(&self, value: &Value) -> Result<()> {
        match value {
            Value::Undefined(name) => self.undefined(*name),
            _ => Ok(()),
        }
    }

    fn undefined<T>(&self, name: NameId) -> Result<T> {
        match self.name(name) {
            "" => self.meter.error("a value that is needed is undefined"),
            name => self.meter.error(format!("`{name}` is undefined")),
        }
    }

    /// Applies the postfix operators of an operand, from the left.
    pub(super) fn postfix(&mut self, mut value: Value, chain: &'a [Postfix]) -> Result<Value> {
        for link in chain {
            self.meter.step(1)?;
            value = match link {
                Postfix::Attribute(name) => {
                    self.require_defined(&value)?;
                    self.meter.attribute(&value, self.name(*name), *name)?
                }
                Postfix::Index(key) => {
                    self.require_defined(&value)?;
                    let key = self.evaluate(key)?;
                    self.meter.index(&value, &key)?.unwrap_or(Value::Undefined(0))
                }
                Postfix::Slice(bounds) => {
                    let mut numbers = [None; 3];
                    for (number, bound) in numbers.iter_mut().zip(&**bounds) {
                        if let Some(bound) = bound {
                            *number = match self.evaluate(bound)? {
                                Value::None => None,
                                value => match value.as_integer() {
                                    Some(value) => Some(value),
                                    None => return self.meter.error("the bounds of a slice must be integers"),
                                },
                            };
                        }
                    }
                    self.require_defined(&value)?;
                    self.meter.slice(&value, numbers)?
                }
                Postfix::Call(arguments) => {
                    self.require_defined(&value)?;
                    self.call(value, arguments, None)?
                }
                Postfix::Filter(filter) => {
                    let name = self.name(filter.name);
                    let given = self.given(name, &filter.arguments)?;
                    self.filter(name, value, given)?
                }
                Postfix::Test { filter, negated } => {
                    let name = self.name(filter.name);
                    let given = self.given(name, &filter.arguments)?;
                    Value::Bool(self.meter.test(name, &value, given)? != *negated)
                }
            };
        }
        Ok(value)
    }

    /// The values of arguments.
    pub(super) fn given(&mut self, callee: &'a str, arguments: &'a Arguments) -> Result<Given<'a>> {
        let mut given = Given { callee, positional: Vec::new(), named: Vec::new() };
        for argument in &arguments.positional {
            given.positional.push(Some(self.evaluate(argument)?));
        }
        for (name, argument) in &arguments.named {
            given.named.push((self.name(*name).to_owned(), Some(self.evaluate(argument)?)));
        }
        Ok(given)
    }
}
