//! Calls of macros and of the built-in functions.

use std::cell::RefCell;
use std::rc::Rc;

use super::arguments::Given;
use super::value::{Function, Macro, Namespace, SequenceKind, Value};
use super::{Frame, Renderer};
use crate::error::{ChatError, Result};
use crate::syntax::ast::{Arguments, Expression, Postfix};

/// Maximum length of a `range`.
const MAX_RANGE: usize = 100_000;

/// Maximum length of a date format, in bytes.
const MAX_DATE_FORMAT: usize = 256;

impl<'a> Renderer<'a> {
    /// Calls `callee`; `caller` is the variable of that name in a macro.
    pub(super) fn call(&mut self, callee: Value, arguments: &'a Arguments, caller: Option<Value>) -> Result<Value> {
        match &callee {
            Value::Macro(found) => {
                let given = self.given(self.name(self.template.callables[found.callable].name), arguments)?;
                self.call_macro(found, given, caller)
            }
            Value::Method(bound) => {
                let (value, name) = &**bound;
                let given = self.given("", arguments)?;
                let given = Given { callee: name, positional: given.positional, named: given.named };
                self.meter.call_method(value, name, given)
            }
            Value::Function(function) => {
                let given = self.given("", arguments)?;
                self.call_function(*function, given)
            }
            _ => self.meter.error(format!("a value of type {} cannot be called", callee.type_name())),
        }
    }

    /// `{% call %}`: the call with `caller`.
    pub(super) fn call_with(&mut self, call: &'a Expression, caller: Value) -> Result<Value> {
        let Expression::Postfix(operand, chain) = call else {
            return self.meter.error("`call` must be followed by a call");
        };
        let Some((Postfix::Call(arguments), chain)) = chain.split_last() else {
            return self.meter.error("`call` must be followed by a call");
        };
        let callee = self.evaluate(operand)?;
        let callee = self.postfix(callee, chain)?;
        self.require_defined(&callee)?;
        self.call(callee, arguments, Some(caller))
    }

    fn call_macro(&mut self, found: &Rc<Macro>, given: Given<'_>, caller: Option<Value>) -> Result<Value> {
        let callable = &self.template.callables[found.callable];
        let _claim = self.meter.claim(found.captured.len() * size_of::<Value>())?;
        let frame = Frame { variables: found.captured.clone(), is_macro: true };
        let name = self.name(callable.name);
        let mut given = Given { callee: name, positional: given.positional, named: given.named };
        let line = self.meter.line();
        self.nested(|renderer| {
            renderer.scoped(frame, |renderer| {
                renderer.set(callable.name, Value::Macro(found.clone()));
                if let (Some(caller), Some(name)) = (caller, renderer.template.caller_name) {
                    renderer.set(name, caller);
                }
                for (index, (parameter, default)) in callable.parameters.iter().enumerate() {
                    let value = match given.take(index, renderer.name(*parameter)) {
                        Some(value) => value,
                        None => match default {
                            Some(default) => renderer.evaluate(default)?,
                            None => Value::Undefined(*parameter),
                        },
                    };
                    renderer.set(*parameter, value);
                }
                given.finish(&renderer.meter)?;
                let text = renderer.capture(|renderer| renderer.body(&callable.body).map(|_| ()))?;
                renderer.meter.set_line(line);
                Ok(text)
            })
        })
    }

    fn call_function(&mut self, function: Function, mut given: Given<'_>) -> Result<Value> {
        let meter = self.meter.clone();
        match function {
            Function::Range => {
                given.callee = "range";
                let first = given.integer(&meter, 0, "start")?;
                let second = given.integer(&meter, 1, "stop")?;
                let step = given.integer(&meter, 2, "step")?.unwrap_or(1);
                given.finish(&meter)?;
                let Some(first) = first else { return meter.error("`range` needs a number") };
                let (start, stop) = second.map_or((0, first), |stop| (first, stop));
                if step == 0 {
                    return meter.error("the step of `range` is 0");
                }
                let mut numbers = Vec::new();
                let mut at = start;
                while if step > 0 { at < stop } else { at > stop } {
                    if numbers.len() == MAX_RANGE {
                        return meter.exceeded("numbers in a `range`", MAX_RANGE as u64);
                    }
                    numbers.push(Value::Integer(at));
                    at = at.saturating_add(step);
                }
                meter.sequence(SequenceKind::Range, numbers)
            }
            Function::Dict => {
                given.callee = "dict";
                let entries = self.entries(&mut given)?;
                given.finish(&meter)?;
                let entries =
                    entries.into_iter().map(|(key, value)| Ok((meter.string(key)?, value))).collect::<Result<_>>()?;
                meter.dict(entries)
            }
            Function::Namespace => {
                given.callee = "namespace";
                let entries = self.entries(&mut given)?;
                given.finish(&meter)?;
                let mut attributes: Vec<(String, Value)> = Vec::new();
                for (name, value) in entries {
                    meter.step(1 + attributes.len() / 8)?;
                    if let Err(kind) = value.depth() {
                        return meter.error(format!("a {kind} cannot be kept in a namespace"));
                    }
                    match attributes.iter_mut().find(|(found, _)| *found == name) {
                        Some((_, slot)) => *slot = value,
                        None => attributes.push((name, value)),
                    }
                }
                let bytes = attributes.iter().map(|(name, _)| name.len() + size_of::<(String, Value)>()).sum::<usize>();
                let charge = meter.claim(bytes + size_of::<Namespace>())?;
                Ok(Value::Namespace(Rc::new(Namespace { attributes: RefCell::new(attributes), _charge: charge })))
            }
            Function::RaiseException => {
                let message =
                    given.take(0, "message").map_or_else(|| meter.string(""), |value| meter.text_of(&value))?;
                // A template that quotes a whole conversation must not make an error of that length.
                let message: String = message.as_str().unwrap_or("").chars().take(1000).collect();
                Err(ChatError::Refused { message })
            }
            Function::StrftimeNow => {
                given.callee = "strftime_now";
                let format = given.require_text(&meter, 0, "format")?;
                given.finish(&meter)?;
                let format = format.as_str().unwrap_or("");
                if format.len() > MAX_DATE_FORMAT {
                    return meter.exceeded("bytes in the format of a date", MAX_DATE_FORMAT as u64);
                }
                match self.now.format(format) {
                    Ok(text) => meter.string(text),
                    Err(directive) => {
                        meter.error(format!("`strftime_now`: {directive:?} is no directive that is known"))
                    }
                }
            }
        }
    }

    /// The entries of `dict(…)` or `namespace(…)`: a dict, then named arguments.
    fn entries(&self, given: &mut Given<'_>) -> Result<Vec<(String, Value)>> {
        let mut entries = Vec::new();
        match given.positional.first_mut().and_then(Option::take) {
            None => {}
            Some(Value::Dict(dict)) => {
                for (key, value) in &dict.entries {
                    match key.as_str() {
                        Some(key) => {
                            self.meter.scan(key.len())?;
                            entries.push((key.to_owned(), value.clone()));
                        }
                        None => return self.meter.error(format!("`{}` takes keys that are texts", given.callee)),
                    }
                }
            }
            Some(value) => {
                return self.meter.error(format!(
                    "`{}` takes a dict and named values, not a value of type {}",
                    given.callee,
                    value.type_name()
                ));
            }
        }
        for (name, value) in &mut given.named {
            if let Some(value) = value.take() {
                entries.push((name.clone(), value));
            }
        }
        Ok(entries)
    }
}
