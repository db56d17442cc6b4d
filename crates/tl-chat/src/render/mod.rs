//! Rendering: from a template's tree and a conversation to text.
//!
//! Owns the meaning of templates: it follows Jinja2 as Hugging Face's `transformers` sets it up. An undefined name
//! prints as nothing, and an attribute or a call of it is an error; nothing is escaped; lists and dicts cannot be changed.
//! All memory and work goes through the [`meter`]; recursion is bounded by [`MAX_RECURSION`]. Knows no files, clocks or models.

mod arguments;
mod arithmetic;
mod call;
mod expression;
mod filters;
mod format;
mod json;
mod meter;
mod methods;
mod predicates;
mod python;
mod value;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

pub use meter::Limits;

use crate::DateTime;
use crate::error::{ChatError, Result};
use crate::syntax::ast::{CallableId, Expression, Filter, For, NameId, Statement, StatementKind, Target, Template};
use meter::{Buffer, Meter};
use value::{Loop, Macro, Value};

/// Maximum nesting of bodies, expressions and calls during evaluation. It takes less than half of the 2 MiB of stack
/// that a thread has by default.
const MAX_RECURSION: usize = 400;

/// Maximum nesting of the JSON of messages and tools.
pub(crate) const MAX_INPUT_DEPTH: usize = 100;

/// A variable of the conversation.
pub(crate) enum Variable<'a> {
    Json(&'a serde_json::Value),
    Objects(Vec<&'a serde_json::Map<String, serde_json::Value>>),
    Text(&'a str),
    Truth(bool),
}

/// Renders `template` with `variables`.
pub(crate) fn render(
    template: &Template,
    variables: &[(&str, Variable<'_>)],
    now: DateTime,
    limits: Limits,
) -> Result<String> {
    let mut input_bytes = 0;
    for (name, variable) in variables {
        input_bytes += match variable {
            Variable::Json(json) => json_bytes(json, MAX_INPUT_DEPTH),
            Variable::Objects(objects) => objects.iter().map(|object| object_bytes(object, MAX_INPUT_DEPTH)).sum(),
            Variable::Text(text) => Some(text.len() + 64),
            Variable::Truth(_) => Some(0),
        }
        .ok_or(ChatError::InputTooDeep {
            what: match *name {
                "messages" => "a message",
                "tools" => "the list of tools",
                _ => "a variable of the template",
            },
            limit: MAX_INPUT_DEPTH,
        })?;
    }
    let meter = Meter::new(limits, input_bytes);
    let mut globals = Vec::with_capacity(template.names.len());
    for name in &template.names {
        let variable = variables.iter().find(|(found, _)| found == name);
        globals.push(match variable.map(|(_, variable)| variable) {
            Some(Variable::Json(json)) => Some(meter.json(json)?),
            Some(Variable::Objects(objects)) => {
                Some(meter.list(objects.iter().map(|object| meter.object(object)).collect::<Result<_>>()?)?)
            }
            Some(Variable::Text(text)) => Some(meter.string(*text)?),
            Some(Variable::Truth(value)) => Some(Value::Bool(*value)),
            None => None,
        });
    }
    let out = vec![Buffer::new(&meter)?];
    let mut renderer = Renderer { template, meter, globals, frames: vec![Frame::default()], out, recursion: 0, now };
    renderer.body(&template.body)?;
    Ok(renderer.out.pop().map(|buffer| buffer.into_parts().0).unwrap_or_default())
}

/// Bytes of a JSON value as a template's value; `None` if it nests too deeply.
fn json_bytes(json: &serde_json::Value, levels: usize) -> Option<usize> {
    Some(match json {
        serde_json::Value::String(text) => text.len() + 64,
        serde_json::Value::Array(items) => {
            let levels = levels.checked_sub(1)?;
            items.iter().map(|item| json_bytes(item, levels)).sum::<Option<usize>>()? + 128 + 32 * items.len()
        }
        serde_json::Value::Object(object) => object_bytes(object, levels)?,
        _ => 0,
    })
}

fn object_bytes(object: &serde_json::Map<String, serde_json::Value>, levels: usize) -> Option<usize> {
    let levels = levels.checked_sub(1)?;
    object.iter().map(|(key, value)| Some(key.len() + 128 + json_bytes(value, levels)?)).sum::<Option<usize>>().map(
        // Plus the object's place in a list of them.
        |bytes| bytes + 256,
    )
}

/// Variables of one scope.
#[derive(Default)]
struct Frame {
    variables: Vec<(NameId, Value)>,
    /// The scope of a macro: it hides the scopes outside it, except the outermost one.
    is_macro: bool,
}

impl Frame {
    fn set(&mut self, name: NameId, value: Value) {
        match self.variables.iter_mut().find(|(found, _)| *found == name) {
            Some((_, slot)) => *slot = value,
            None => self.variables.push((name, value)),
        }
    }
}

/// How a body ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Normal,
    Break,
    Continue,
}

struct Renderer<'a> {
    template: &'a Template,
    meter: Rc<Meter>,
    /// The conversation's variables, by name.
    globals: Vec<Option<Value>>,
    /// Scopes, the outermost first.
    frames: Vec<Frame>,
    /// The text that is written, and the texts being captured.
    out: Vec<Buffer>,
    recursion: usize,
    now: DateTime,
}

impl<'a> Renderer<'a> {
    fn name(&self, id: NameId) -> &'a str {
        self.template.names.get(id as usize).map_or("", String::as_str)
    }

    fn nested<T>(&mut self, evaluate: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.recursion == MAX_RECURSION {
            return self.meter.exceeded("levels of nested bodies and calls", MAX_RECURSION as u64);
        }
        self.recursion += 1;
        let result = evaluate(self);
        self.recursion -= 1;
        result
    }

    fn write_text(&mut self, text: &str) -> Result<()> {
        let limit = if self.out.len() == 1 { self.meter.limits().output_bytes } else { usize::MAX };
        match self.out.last_mut() {
            Some(out) => out.push_within(text, limit),
            None => Ok(()),
        }
    }

    fn write_value(&mut self, value: &Value) -> Result<()> {
        let text = self.meter.text_of(value)?;
        self.write_text(text.as_str().unwrap_or(""))
    }

    /// The output of `write`, as a value.
    fn capture(&mut self, write: impl FnOnce(&mut Self) -> Result<()>) -> Result<Value> {
        self.out.push(Buffer::new(&self.meter)?);
        write(self)?;
        match self.out.pop() {
            Some(buffer) => Ok(self.meter.buffer_string(buffer)),
            None => self.meter.string(""),
        }
    }

    /// Evaluates in a scope of its own.
    fn scoped<T>(&mut self, frame: Frame, evaluate: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.frames.push(frame);
        let result = evaluate(self);
        self.frames.pop();
        result
    }

    fn set(&mut self, name: NameId, value: Value) {
        if let Some(frame) = self.frames.last_mut() {
            frame.set(name, value);
        }
    }

    fn lookup(&self, name: NameId) -> Value {
        let find = |frame: &Frame| frame.variables.iter().find(|(id, _)| *id == name).map(|(_, value)| value.clone());
        for frame in self.frames.iter().rev() {
            if let Some(value) = find(frame) {
                return value;
            }
            if frame.is_macro {
                break;
            }
        }
        // The scope of a macro ends the search above; the outermost scope is seen from everywhere.
        if let Some(value) = self.frames.first().and_then(find) {
            return value;
        }
        if let Some(value) = self.globals.get(name as usize).and_then(Clone::clone) {
            return value;
        }
        value::Function::by_name(self.name(name)).map_or(Value::Undefined(name), Value::Function)
    }

    fn assign(&mut self, target: &Target, value: Value) -> Result<()> {
        match target {
            Target::Name(name) => self.set(*name, value),
            Target::Attribute(name, attribute) => {
                let Value::Namespace(namespace) = self.lookup(*name) else {
                    return self.meter.error(format!(
                        "`{0}.{1}` is set, but `{0}` is no namespace",
                        self.name(*name),
                        self.name(*attribute)
                    ));
                };
                if let Err(kind) = value.depth() {
                    return self.meter.error(format!("a {kind} cannot be kept in a namespace"));
                }
                let attribute = self.name(*attribute);
                let mut attributes = namespace.attributes.borrow_mut();
                match attributes.iter_mut().find(|(found, _)| found == attribute) {
                    Some((_, slot)) => *slot = value,
                    None => attributes.push((attribute.to_owned(), value)),
                }
            }
            Target::Names(names) => {
                let items = self.meter.iterate(&value)?;
                if items.items.len() != names.len() {
                    return self.meter.error(format!(
                        "{} values are unpacked into {} names",
                        items.items.len(),
                        names.len()
                    ));
                }
                for (name, item) in names.iter().zip(&items.items) {
                    self.set(*name, item.clone());
                }
            }
        }
        Ok(())
    }

    fn body(&mut self, body: &'a [Statement]) -> Result<Flow> {
        self.nested(|renderer| {
            for statement in body {
                renderer.meter.set_line(statement.line);
                renderer.meter.step(1)?;
                let flow = renderer.statement(&statement.kind)?;
                if flow != Flow::Normal {
                    return Ok(flow);
                }
            }
            Ok(Flow::Normal)
        })
    }

    fn statement(&mut self, statement: &'a StatementKind) -> Result<Flow> {
        match statement {
            StatementKind::Text(text) => self.write_text(text)?,
            StatementKind::Print(value) => {
                let value = self.evaluate(value)?;
                self.write_value(&value)?;
            }
            StatementKind::If { branches, otherwise } => {
                for (condition, body) in branches {
                    if self.evaluate(condition)?.is_true() {
                        return self.body(body);
                    }
                }
                return self.body(otherwise);
            }
            StatementKind::For(statement) => self.for_loop(statement)?,
            StatementKind::Set { target, value } => {
                let value = self.evaluate(value)?;
                self.assign(target, value)?;
            }
            StatementKind::SetBlock { target, filters, body } => {
                let value = self.filtered(filters, body)?;
                self.assign(target, value)?;
            }
            StatementKind::FilterBlock { filters, body } => {
                let value = self.filtered(filters, body)?;
                self.write_value(&value)?;
            }
            StatementKind::Macro { name, callable } => {
                let value = self.make_macro(*callable)?;
                self.set(*name, value);
            }
            StatementKind::Call { call, caller } => {
                let caller = self.make_macro(*caller)?;
                let value = self.call_with(call, caller)?;
                self.write_value(&value)?;
            }
            StatementKind::With { bindings, body } => {
                let mut values = Vec::with_capacity(bindings.len());
                for (_, value) in bindings {
                    values.push(self.evaluate(value)?);
                }
                return self.scoped(Frame::default(), |renderer| {
                    for ((target, _), value) in bindings.iter().zip(values) {
                        renderer.assign(target, value)?;
                    }
                    renderer.body(body)
                });
            }
            StatementKind::Scope(body) => return self.scoped(Frame::default(), |renderer| renderer.body(body)),
            StatementKind::Break => return Ok(Flow::Break),
            StatementKind::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Normal)
    }

    /// The text of `body` in a scope of its own, through `filters`.
    fn filtered(&mut self, filters: &'a [Filter], body: &'a [Statement]) -> Result<Value> {
        let mut value =
            self.capture(|renderer| renderer.scoped(Frame::default(), |renderer| renderer.body(body)).map(|_| ()))?;
        for filter in filters {
            let given = self.given(self.name(filter.name), &filter.arguments)?;
            value = self.filter(self.name(filter.name), value, given)?;
        }
        Ok(value)
    }

    fn for_loop(&mut self, statement: &'a For) -> Result<()> {
        let iterable = self.evaluate(&statement.iterable)?;
        let mut items = self.meter.iterate(&iterable)?;
        if let Some(condition) = &statement.condition {
            let mut kept = Vec::new();
            for item in &items.items {
                self.meter.step(1)?;
                let keeps = self.scoped(Frame::default(), |renderer| {
                    renderer.assign(&statement.target, item.clone())?;
                    Ok(renderer.evaluate(condition)?.is_true())
                })?;
                if keeps {
                    kept.push(item.clone());
                }
            }
            items = self.meter.iterate(&self.meter.list(kept)?)?;
        }
        if items.items.is_empty() {
            self.body(&statement.otherwise)?;
            return Ok(());
        }
        let state = Rc::new(Loop { items: items.clone(), index: Cell::new(0), last_changed: RefCell::new(None) });
        self.scoped(Frame::default(), |renderer| {
            for (index, item) in items.items.iter().enumerate() {
                renderer.meter.step(1)?;
                state.index.set(index);
                if let Some(frame) = renderer.frames.last_mut() {
                    frame.variables.clear();
                }
                if let Some(name) = renderer.template.loop_name {
                    renderer.set(name, Value::Loop(state.clone()));
                }
                renderer.assign(&statement.target, item.clone())?;
                if renderer.body(&statement.body)? == Flow::Break {
                    break;
                }
            }
            Ok(())
        })
    }

    fn make_macro(&mut self, callable: CallableId) -> Result<Value> {
        let mut captured: Vec<(NameId, Value)> = Vec::new();
        // Inner scopes come last, so that their variables hide those further out.
        let from = self.frames.iter().rposition(|frame| frame.is_macro).unwrap_or(1);
        for (name, value) in self.frames.iter().skip(from).flat_map(|frame| &frame.variables) {
            match captured.iter_mut().find(|(found, _)| found == name) {
                Some((_, slot)) => *slot = value.clone(),
                None => captured.push((*name, value.clone())),
            }
        }
        let charge = self.meter.claim(captured.len() * size_of::<(NameId, Value)>() + size_of::<Macro>())?;
        Ok(Value::Macro(Rc::new(Macro { callable, captured, _charge: charge })))
    }

    fn evaluate(&mut self, expression: &'a Expression) -> Result<Value> {
        self.meter.step(1)?;
        self.nested(|renderer| renderer.expression(expression))
    }
}
