//! How values are printed: numbers so that they read back the same, records and handles with their fields.
//!
//! Tensors are written in `tensor_text`.

use std::fmt::Write;

use crate::library::{BuiltinError, field, field_names};
use crate::reserve_statement::reserve_statement;
use crate::stack::has_room;
use crate::tensor_text::{MAX_LINE, column, new_line, write_tensor};
use crate::types::Shown;
use crate::value::{Handle, Record, Value};

/// The longest text of a value other than a string: nested lists that share their elements print exponentially long.
const MAX_TEXT_BYTES: usize = 16 << 20;

/// A value as `print` and `str` show it.
pub(crate) fn show(value: &Value) -> Result<String, BuiltinError> {
    let mut text = String::new();
    write_value(&mut text, value, false)?;
    Ok(text)
}

/// Appends what [`show`] gives; strings inside lists are quoted.
pub(crate) fn write_value(text: &mut String, value: &Value, quoted: bool) -> Result<(), BuiltinError> {
    if text.len() > MAX_TEXT_BYTES && !matches!(value, Value::Str(_)) {
        let limit = tl_device::bytes(MAX_TEXT_BYTES as u64);
        return Err(BuiltinError::new(format!("the text of this value is longer than {limit}; print its parts")));
    }
    if !has_room() {
        return Err(BuiltinError::too_deep());
    }
    // Writing to a string cannot fail.
    let _ = match value {
        Value::Absent | Value::Unit => write!(text, "()"),
        Value::None => write!(text, "none"),
        Value::Int(n) => write!(text, "{n}"),
        Value::Float(x) => write!(text, "{x:?}"),
        Value::Bool(b) => write!(text, "{b}"),
        Value::Str(s) if quoted => write!(text, "{:?}", &**s),
        Value::Str(s) => write!(text, "{}", &**s),
        Value::DType(dtype) => write!(text, "{dtype}"),
        Value::Range(start, end) => write!(text, "{start}..{end}"),
        Value::Ints(ints) => write!(text, "{:?}", ints.as_slice()),
        Value::List(values) => {
            text.push('[');
            for (index, value) in values.iter().enumerate() {
                if index > 0 {
                    text.push_str(", ");
                }
                write_value(text, value, true)?;
            }
            write!(text, "]")
        }
        Value::Map(map) => {
            text.push('{');
            for (index, (key, value)) in map.iter().enumerate() {
                if index > 0 {
                    text.push_str(", ");
                }
                write_value(text, &Value::from(key), true)?;
                text.push_str(": ");
                write_value(text, value, true)?;
            }
            write!(text, "}}")
        }
        Value::Struct(value) => {
            let _ = write!(text, "{} {{", value.ty.name);
            let mut separator = "";
            for (name, value) in value.ty.fields.iter().zip(&value.values) {
                let _ = write!(text, "{separator} {name}: ");
                separator = ",";
                write_value(text, value, true)?;
            }
            write!(text, " }}")
        }
        Value::Record(record) => {
            write_record(text, record)?;
            Ok(())
        }
        Value::Tensor(tensor) => {
            write_tensor(text, tensor)?;
            Ok(())
        }
        Value::Handle(Handle::Model(model)) => write!(text, "Model({})", model.weights.path().display()),
        Value::Handle(Handle::Node(node)) => write!(text, "ModelNode({})", node.path()),
        Value::Handle(Handle::Plan(plan)) => {
            let statements: Vec<String> = plan.rows.iter().map(reserve_statement).collect();
            text.push_str(&statements.join("\n"));
            Ok(())
        }
        Value::Handle(handle) => {
            write_handle(text, handle)?;
            Ok(())
        }
        Value::Recycled(_) => write!(text, "recycled"),
    };
    Ok(())
}

fn write_record(text: &mut String, record: &Record) -> Result<(), BuiltinError> {
    let fields = record.ty.fields.iter().map(|(name, _)| *name).zip(&record.values);
    write_fields(text, fields, |text, name, value| match (record.ty.shown(name), value) {
        (Shown::Percent, Value::Float(x)) => {
            let _ = write!(text, "{:.1}%", x * 100.0);
            Ok(())
        }
        (_, value) => write_value(text, value, true),
    })
}

/// The name of the kind and the fields that every such handle has.
fn write_handle(text: &mut String, handle: &Handle) -> Result<(), BuiltinError> {
    text.push_str(handle.kind().name());
    let names = field_names(handle.kind());
    if names.is_empty() {
        return Ok(());
    }
    text.push(' ');
    let value = Value::Handle(handle.clone());
    let fields = names.into_iter().filter_map(|name| Some((name, field(&value, name).ok()?)));
    write_fields(text, fields, |text, _, value| write_value(text, &value, true))
}

/// Fields in braces, on as many lines as they take.
fn write_fields<V>(
    text: &mut String,
    fields: impl Iterator<Item = (&'static str, V)>,
    write_field: impl Fn(&mut String, &'static str, V) -> Result<(), BuiltinError>,
) -> Result<(), BuiltinError> {
    let indent = column(text) + 1;
    text.push('{');
    for (index, (name, value)) in fields.enumerate() {
        if index > 0 {
            text.push(',');
        }
        let start = text.len();
        let _ = write!(text, " {name}: ");
        write_field(text, name, value)?;
        // Behind it stands a comma or the brace.
        if index > 0 && column(text) + 2 > MAX_LINE {
            let field = text.split_off(start);
            new_line(text, indent);
            text.push_str(&field);
        }
    }
    text.push_str(" }");
    Ok(())
}

#[cfg(test)]
mod tests {

    use tl_device::DType;

    use crate::value::List;

    use super::*;

    fn check(value: Value, expected: &str) {
        assert_eq!(show(&value).unwrap(), expected);
    }

    #[test]
    fn plain_values() {
        check(Value::Float(1.0), "1.0");
        check(Value::Float(0.1), "0.1");
        check(Value::Float(1e300), "1e300");
        check(Value::ints(&[1, -2]), "[1, -2]");
        check(Value::ints(&[]), "[]");
        check(Value::text("a\"b"), "a\"b");
        check(Value::list([Value::text("a\"b"), Value::Unit]), "[\"a\\\"b\", ()]");
        check(Value::List(List::new(vec![Value::Float(2.5), Value::Bool(true)])), "[2.5, true]");
        check(Value::Range(0, 3), "0..3");
        check(Value::DType(DType::F16), "float16");
    }
}
