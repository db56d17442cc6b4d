//! Printing and strings.

use super::error::BuiltinError;
use super::param::{DefaultValue, Param, ParamKind};
use super::row::{Builtin, always};
use crate::display::{show, write_value};
use crate::types::{Known, Type};
use crate::value::Value;

/// A function of one string.
macro_rules! function {
    ($name:literal, $doc:literal, $f:expr) => {
        Builtin {
            name: $name,
            doc: $doc,
            params: &[Param::required("text", ParamKind::Text)],
            result: always!(Str),
            run: |_, args| Ok(Value::text($f(args.text(0)?))),
            ..Builtin::BASE
        }
    };
}

pub(super) static ROWS: &[Builtin] = &[
    Builtin {
        name: "print",
        doc: "Shows the values with a space between them and `end` behind them, a newline unless given.",
        params: &[Param::rest(), Param::optional("end", ParamKind::Text, DefaultValue::Text("\n"))],
        run: |context, args| {
            let end = args.text(0)?;
            // A single string, the usual output of decoding, is printed without a copy.
            if let [Value::Str(text)] = args.rest(1) {
                context.host.print(text);
                if !end.is_empty() {
                    context.host.print(end);
                }
                return Ok(Value::Unit);
            }
            let mut text = String::new();
            for (index, value) in args.rest(1).iter().enumerate() {
                if index > 0 {
                    text.push(' ');
                }
                write_value(&mut text, value, false)?;
            }
            text.push_str(end);
            context.host.print(&text);
            Ok(Value::Unit)
        },
        ..Builtin::BASE
    },
    Builtin {
        name: "str",
        doc: "The text that `print` shows for a value.",
        params: &[Param::required("x", ParamKind::Any)],
        result: always!(Str),
        run: |_, args| match args.value(0) {
            text @ Value::Str(_) => Ok(text.clone()),
            other => Ok(Value::text(show(other)?)),
        },
        ..Builtin::BASE
    },
    Builtin {
        name: "split",
        doc: "The parts of a string between occurrences of `by`; without `by`, its words, which blanks separate.",
        params: &[
            Param::required("text", ParamKind::Text),
            Param::optional("by", ParamKind::Text, DefaultValue::Absent),
        ],
        result: |_| (Type::list(Type::Str), Known::Nothing),
        run: |context, args| {
            let text = args.text(0)?;
            context.device.check_heap(Value::list_bytes(text.len() / 2), || "the parts of a string".to_owned())?;
            if !args.is_given(1) {
                return Ok(Value::list(text.split_whitespace().map(Value::text)));
            }
            match args.text(1)? {
                "" => Err(BuiltinError::new("split: `by` is empty").hint("`for c in text` goes over the characters")),
                by => Ok(Value::list(text.split(by).map(Value::text))),
            }
        },
        ..Builtin::BASE
    },
    Builtin {
        name: "join",
        doc: "The strings of a list in one string, with `by` between them.",
        params: &[
            Param::required("list", ParamKind::Texts),
            Param::optional("by", ParamKind::Text, DefaultValue::Text("")),
        ],
        result: always!(Str),
        run: |context, args| {
            let (parts, by) = (args.texts(0)?, args.text(1)?);
            let len = parts.iter().map(|part| part.len() + by.len()).sum();
            context.device.check_heap(len, || format!("a string of {len} bytes"))?;
            let parts: Vec<&str> = parts.iter().map(|part| &**part).collect();
            Ok(Value::text(parts.join(by)))
        },
        ..Builtin::BASE
    },
    Builtin {
        name: "replace",
        doc: "The string with every occurrence of `old` replaced by `new`.",
        params: &[
            Param::required("text", ParamKind::Text),
            Param::required("old", ParamKind::Text),
            Param::required("new", ParamKind::Text),
        ],
        result: always!(Str),
        run: |context, args| {
            let (text, old, new) = (args.text(0)?, args.text(1)?, args.text(2)?);
            let len = text.len().saturating_add(text.matches(old).count().saturating_mul(new.len()));
            context.device.check_heap(len, || format!("a string of {len} bytes"))?;
            Ok(Value::text(text.replace(old, new)))
        },
        ..Builtin::BASE
    },
    function!("trim", "The string without blanks at its ends.", str::trim),
    function!("lower", "The string in lower case.", str::to_lowercase),
    function!("upper", "The string in upper case.", str::to_uppercase),
    Builtin {
        name: "starts_with",
        doc: "Whether the string begins with `part`.",
        params: &[Param::required("text", ParamKind::Text), Param::required("part", ParamKind::Text)],
        result: always!(Bool),
        run: |_, args| Ok(Value::Bool(args.text(0)?.starts_with(args.text(1)?))),
        ..Builtin::BASE
    },
    Builtin {
        name: "ends_with",
        doc: "Whether the string ends with `part`.",
        params: &[Param::required("text", ParamKind::Text), Param::required("part", ParamKind::Text)],
        result: always!(Bool),
        run: |_, args| Ok(Value::Bool(args.text(0)?.ends_with(args.text(1)?))),
        ..Builtin::BASE
    },
];
