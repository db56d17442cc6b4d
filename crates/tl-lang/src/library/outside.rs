//! The outside: arguments, environment, clock, exit.

use super::error::BuiltinError;
use super::param::{DefaultValue, Param, ParamKind};
use super::row::{Builtin, always};
use crate::types::{Known, Type};
use crate::value::Value;

pub(super) static ROWS: &[Builtin] = &[
    Builtin {
        name: "args",
        doc: "The program's arguments, a list of strings.",
        result: |_| (Type::list(Type::Str), Known::Nothing),
        run: |context, _| Ok(Value::list(context.host.args().into_iter().map(Value::text))),
        ..Builtin::BASE
    },
    Builtin {
        name: "size",
        doc: "A size that varies from run to run: what `--with NAME=VALUE` says, else `default`. `tl plan --with NAME=1..512` makes a plan for all its values.",
        params: &[Param::required("name", ParamKind::Text), Param::required("default", ParamKind::Int)],
        result: always!(Int),
        run: |context, args| {
            let default = args.int(1)?;
            Ok(Value::Int(context.host.size(args.text(0)?, default).unwrap_or(default)))
        },
        ..Builtin::BASE
    },
    Builtin {
        name: "env",
        doc: "A variable of the environment, or `default` where there is none.",
        params: &[
            Param::required("name", ParamKind::Text),
            Param::optional("default", ParamKind::Text, DefaultValue::Text("")),
        ],
        result: always!(Str),
        run: |context, args| match context.host.env(args.text(0)?) {
            Some(value) => Ok(Value::text(value)),
            None => Ok(args.take(1)),
        },
        ..Builtin::BASE
    },
    Builtin {
        name: "time_ms",
        doc: "Milliseconds on a clock that never goes back, with a fraction; where it begins does not matter.",
        result: always!(Float),
        run: |context, _| Ok(Value::Float(context.host.time_ms())),
        ..Builtin::BASE
    },
    Builtin {
        name: "exit",
        doc: "Ends the program with this code, from 0 to 255; 0 is success.",
        params: &[Param::optional("code", ParamKind::Int, DefaultValue::Int(0))],
        result: always!(Never),
        run: |_, args| {
            let code = args.int(0)?;
            let code = u8::try_from(code)
                .map_err(|_| BuiltinError::new(format!("exit: {code} is no exit code; one is from 0 to 255")))?;
            Err(BuiltinError { exit: Some(code.into()), ..BuiltinError::new("the program ended itself") })
        },
        ..Builtin::BASE
    },
];
