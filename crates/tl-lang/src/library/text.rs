//! Printing and strings.

use super::param::{DefaultValue, Param, ParamKind};
use super::row::{Builtin, always};
use crate::display::{show, write_value};
use crate::value::Value;

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
];
