//! The values of a template: Python's, as far as templates meet them.
//!
//! Containers are immutable, as in the sandbox of Hugging Face's `transformers`, and know how deeply they nest, so that
//! walking and dropping a value recurses at most [`MAX_DEPTH`] times. Assignable values (namespaces) and values that
//! refer to scopes (macros, loops) are kept out of containers: no value contains itself.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::meter::{Buffer, Charge, Meter};
use crate::error::{ChatError, Result};
use crate::syntax::ast::{CallableId, NameId};

/// Maximum nesting of lists and dicts.
pub(crate) const MAX_DEPTH: usize = 128;

#[derive(Clone)]
pub(super) enum Value {
    /// A missing name or attribute, with the name if it is known.
    Undefined(NameId),
    None,
    Bool(bool),
    Integer(i128),
    Float(f64),
    String(Rc<Text>),
    Sequence(Rc<Sequence>),
    Dict(Rc<Dict>),
    Namespace(Rc<Namespace>),
    Loop(Rc<Loop>),
    Macro(Rc<Macro>),
    /// A global function.
    Function(Function),
    /// A method of a value, not called yet.
    Method(Rc<(Value, String)>),
}

pub(super) struct Text {
    pub(super) text: String,
    /// Whether the filter `safe` or `escape` made it: `+` then escapes what it is joined to.
    pub(super) is_safe: bool,
    _charge: Charge,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SequenceKind {
    List,
    Tuple,
    /// `range(…)`
    Range,
    /// The result of `items()`, `keys()` or `values()`.
    View,
    /// The result of `map`, `select` and their like: it can be walked once.
    Generator,
}

pub(super) struct Sequence {
    pub(super) kind: SequenceKind,
    pub(super) items: Vec<Value>,
    /// Whether a generator has been walked.
    pub(super) is_spent: Cell<bool>,
    depth: usize,
    _charge: Charge,
}

pub(super) struct Dict {
    /// In the order of insertion; keys are texts, numbers, truth values or none, each once.
    pub(super) entries: Vec<(Value, Value)>,
    depth: usize,
    _charge: Charge,
}

/// The result of `namespace(…)`: the only value whose attributes can be set.
pub(super) struct Namespace {
    pub(super) attributes: RefCell<Vec<(String, Value)>>,
    pub(super) _charge: Charge,
}

/// The variable `loop`.
pub(super) struct Loop {
    pub(super) items: Rc<Sequence>,
    pub(super) index: Cell<usize>,
    /// The arguments of the last `loop.changed(…)`.
    pub(super) last_changed: RefCell<Option<Value>>,
}

pub(super) struct Macro {
    pub(super) callable: CallableId,
    /// The variables of the enclosing scopes, except the outermost one.
    pub(super) captured: Vec<(NameId, Value)>,
    pub(super) _charge: Charge,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Range,
    Namespace,
    Dict,
    RaiseException,
    StrftimeNow,
}

impl Function {
    pub(super) fn by_name(name: &str) -> Option<Self> {
        Some(match name {
            "range" => Self::Range,
            "namespace" => Self::Namespace,
            "dict" => Self::Dict,
            "raise_exception" => Self::RaiseException,
            "strftime_now" => Self::StrftimeNow,
            _ => return None,
        })
    }
}

impl Value {
    /// Python's name of the type.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Undefined(_) => "Undefined",
            Self::None => "NoneType",
            Self::Bool(_) => "bool",
            Self::Integer(_) => "int",
            Self::Float(_) => "float",
            Self::String(_) => "str",
            Self::Sequence(sequence) => match sequence.kind {
                SequenceKind::List => "list",
                SequenceKind::Tuple => "tuple",
                SequenceKind::Range => "range",
                SequenceKind::View => "dict view",
                SequenceKind::Generator => "generator",
            },
            Self::Dict(_) => "dict",
            Self::Namespace(_) => "Namespace",
            Self::Loop(_) => "LoopContext",
            Self::Macro(_) => "Macro",
            Self::Function(_) => "function",
            Self::Method(_) => "method",
        }
    }

    pub(super) fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(&text.text),
            _ => None,
        }
    }

    /// Integers, and truth values as 0 and 1.
    pub(super) fn as_integer(&self) -> Option<i128> {
        match self {
            Self::Bool(value) => Some(i128::from(*value)),
            Self::Integer(value) => Some(*value),
            _ => None,
        }
    }

    /// Any number.
    pub(super) fn as_float(&self) -> Option<f64> {
        match self {
            Self::Float(value) => Some(*value),
            _ => self.as_integer().map(|value| value as f64),
        }
    }

    pub(super) fn is_true(&self) -> bool {
        match self {
            Self::Undefined(_) | Self::None => false,
            Self::Bool(value) => *value,
            Self::Integer(value) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::String(text) => !text.text.is_empty(),
            Self::Sequence(sequence) => sequence.kind == SequenceKind::Generator || !sequence.items.is_empty(),
            Self::Dict(dict) => !dict.entries.is_empty(),
            Self::Namespace(_) | Self::Loop(_) | Self::Macro(_) | Self::Function(_) | Self::Method(_) => true,
        }
    }

    /// Levels of containers, or the type's name if the value may not be kept in a container.
    pub(super) fn depth(&self) -> std::result::Result<usize, &'static str> {
        match self {
            Self::Sequence(sequence) => Ok(sequence.depth),
            Self::Dict(dict) => Ok(dict.depth),
            Self::Method(bound) => bound.0.depth().map(|depth| depth + 1),
            Self::Namespace(_) => Err("namespace"),
            Self::Loop(_) => Err("loop"),
            Self::Macro(_) => Err("macro"),
            _ => Ok(0),
        }
    }
}

impl Meter {
    /// An error at the current line.
    pub(super) fn error<T>(&self, message: impl Into<String>) -> Result<T> {
        Err(ChatError::Render { line: self.line(), message: message.into() })
    }

    /// The value of a text that is built already, and so at most a few times as long as those claimed.
    pub(super) fn string(&self, text: impl Into<String>) -> Result<Value> {
        let text = text.into();
        let charge = self.claim(text.len() + size_of::<Text>())?;
        Ok(Value::String(Rc::new(Text { text, is_safe: false, _charge: charge })))
    }

    pub(super) fn buffer_string(&self, buffer: Buffer) -> Value {
        let (text, charge) = buffer.into_parts();
        Value::String(Rc::new(Text { text, is_safe: false, _charge: charge }))
    }

    /// The text, marked as safe: it needs no escaping.
    pub(super) fn safe_string(&self, buffer: Buffer) -> Value {
        let (text, charge) = buffer.into_parts();
        Value::String(Rc::new(Text { text, is_safe: true, _charge: charge }))
    }

    /// Appends `text` with HTML's special characters escaped.
    pub(super) fn write_escaped(&self, out: &mut Buffer, text: &str) -> Result<()> {
        let mut plain_from = 0;
        for (at, found) in text.match_indices(['&', '<', '>', '\'', '"']) {
            out.push(&text[plain_from..at])?;
            out.push(match found {
                "&" => "&amp;",
                "<" => "&lt;",
                ">" => "&gt;",
                "'" => "&#39;",
                _ => "&#34;",
            })?;
            plain_from = at + 1;
        }
        out.push(&text[plain_from..])
    }

    pub(super) fn sequence(&self, kind: SequenceKind, items: Vec<Value>) -> Result<Value> {
        let charge = self.claim(items.len() * size_of::<Value>() + size_of::<Sequence>())?;
        let depth = self.depth_over(items.iter())?;
        let is_spent = Cell::new(false);
        Ok(Value::Sequence(Rc::new(Sequence { kind, items, is_spent, depth, _charge: charge })))
    }

    pub(super) fn list(&self, items: Vec<Value>) -> Result<Value> {
        self.sequence(SequenceKind::List, items)
    }

    /// A dict; of entries with the same key, the first gives the place and the last the value.
    pub(super) fn dict(&self, entries: Vec<(Value, Value)>) -> Result<Value> {
        let charge = self.claim(entries.len() * size_of::<(Value, Value)>() + size_of::<Dict>())?;
        let depth = self.depth_over(entries.iter().map(|(_, value)| value))?;
        let mut unique: Vec<(Value, Value)> = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            match self.position(&unique, &key)? {
                Some(at) => unique[at].1 = value,
                None => unique.push((key, value)),
            }
        }
        Ok(Value::Dict(Rc::new(Dict { entries: unique, depth, _charge: charge })))
    }

    fn depth_over<'a>(&self, items: impl Iterator<Item = &'a Value>) -> Result<usize> {
        let mut depth = 0;
        for item in items {
            match item.depth() {
                Ok(inner) => depth = depth.max(inner),
                Err(kind) => return self.error(format!("a {kind} cannot be kept in a list or a dict")),
            }
        }
        if depth >= MAX_DEPTH {
            return self.exceeded("levels of lists and dicts", MAX_DEPTH as u64);
        }
        Ok(depth + 1)
    }

    /// Index of `key` in `entries`.
    pub(super) fn position(&self, entries: &[(Value, Value)], key: &Value) -> Result<Option<usize>> {
        self.step(1 + entries.len() / 8)?;
        let found = match key {
            Value::String(wanted) => entries.iter().position(|(key, _)| key.as_str() == Some(&wanted.text)),
            Value::None => entries.iter().position(|(key, _)| matches!(key, Value::None)),
            Value::Bool(_) | Value::Integer(_) | Value::Float(_) => {
                entries.iter().position(|(found, _)| numbers_equal(found, key))
            }
            // Python allows these as keys, but no dict here has one.
            Value::Undefined(_) => None,
            Value::Sequence(sequence) if matches!(sequence.kind, SequenceKind::Tuple | SequenceKind::Range) => None,
            _ => return self.error(format!("a value of type {} cannot be a key", key.type_name())),
        };
        Ok(found)
    }

    pub(super) fn entry(&self, dict: &Dict, key: &Value) -> Result<Option<Value>> {
        Ok(self.position(&dict.entries, key)?.map(|at| dict.entries[at].1.clone()))
    }

    pub(super) fn entry_named(&self, dict: &Dict, key: &str) -> Result<Option<Value>> {
        self.step(1 + dict.entries.len() / 8)?;
        Ok(dict.entries.iter().find(|(found, _)| found.as_str() == Some(key)).map(|(_, value)| value.clone()))
    }

    /// The value of a JSON value, whose nesting must be within bounds.
    pub(super) fn json(&self, json: &serde_json::Value) -> Result<Value> {
        Ok(match json {
            serde_json::Value::Null => Value::None,
            serde_json::Value::Bool(value) => Value::Bool(*value),
            serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(value), _) => Value::Integer(value.into()),
                (None, Some(value)) => Value::Integer(value.into()),
                (None, None) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            serde_json::Value::String(text) => self.string(text.as_str())?,
            serde_json::Value::Array(items) => {
                self.list(items.iter().map(|item| self.json(item)).collect::<Result<_>>()?)?
            }
            serde_json::Value::Object(object) => self.object(object)?,
        })
    }

    pub(super) fn object(&self, object: &serde_json::Map<String, serde_json::Value>) -> Result<Value> {
        let charge = self.claim(object.len() * size_of::<(Value, Value)>() + size_of::<Dict>())?;
        let entries = object
            .iter()
            .map(|(key, value)| Ok((self.string(key.as_str())?, self.json(value)?)))
            .collect::<Result<Vec<_>>>()?;
        let depth = self.depth_over(entries.iter().map(|(_, value)| value))?;
        // Keys of a JSON object are distinct, so none is looked up.
        Ok(Value::Dict(Rc::new(Dict { entries, depth, _charge: charge })))
    }
}

/// Whether both are numbers, and equal.
pub(super) fn numbers_equal(a: &Value, b: &Value) -> bool {
    match (a.as_integer(), b.as_integer()) {
        (Some(a), Some(b)) => a == b,
        _ => a.as_float().zip(b.as_float()).is_some_and(|(a, b)| a == b),
    }
}
