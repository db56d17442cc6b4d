//! Maps: their keys, values and entries.

use std::sync::Arc;

use super::args::Args;
use super::error::BuiltinError;
use super::param::{Param, ParamKind};
use super::row::{ArgTypes, Builtin};
use crate::types::{Known, Type};
use crate::value::{Key, KeyRef, Map, Value};

pub(super) static ROWS: &[Builtin] = &[
    Builtin {
        name: "keys",
        doc: "The keys of a map, in the order in which they came.",
        params: &[Param::required("map", ParamKind::Map)],
        result: |types| (Type::list(parts(types).0), Known::Nothing),
        run: |_, args| Ok(Value::list(map(args)?.keys().map(Value::from))),
        ..Builtin::BASE
    },
    Builtin {
        name: "values",
        doc: "The values of a map, in the order of its keys.",
        params: &[Param::required("map", ParamKind::Map)],
        result: |types| (Type::list(parts(types).1), Known::Nothing),
        run: |_, args| Ok(Value::list(map(args)?.values().cloned())),
        ..Builtin::BASE
    },
    Builtin {
        name: "get",
        doc: "The value of a key of a map, or `default` if the map lacks the key.",
        params: &[
            Param::required("map", ParamKind::Map),
            Param::required("key", ParamKind::Any),
            Param::required("default", ParamKind::Any),
        ],
        result: |types| {
            let value = parts(types).1;
            (types.ty(2).map_or(value.clone(), |default| value.join(default)), Known::Nothing)
        },
        run: |_, args| {
            let found = map(args)?.get(&key(args)?).cloned();
            Ok(found.unwrap_or_else(|| args.take(2)))
        },
        ..Builtin::BASE
    },
    Builtin {
        name: "remove",
        doc: "The map without this key. The variable that is given keeps its map: `m = remove(m, \"a\")`.",
        params: &[Param::required("map", ParamKind::Map), Param::required("key", ParamKind::Any)],
        result: |types| (types.ty(0).cloned().unwrap_or(Type::Unknown), Known::Nothing),
        run: |_, args| {
            let key = Key::from(&key(args)?);
            match args.take(0) {
                Value::Map(mut map) => {
                    Arc::make_mut(&mut map).shift_remove(&key);
                    Ok(Value::Map(map))
                }
                other => Err(BuiltinError::new(format!("`remove` takes a map, not {}", other.describe()))),
            }
        },
        ..Builtin::BASE
    },
];

/// The types of a map's keys and values.
fn parts(types: &ArgTypes<'_>) -> (Type, Type) {
    match types.ty(0) {
        Some(Type::Map(key, value)) => ((**key).clone(), (**value).clone()),
        _ => (Type::Unknown, Type::Unknown),
    }
}

fn map<'a>(args: &'a Args<'_>) -> Result<&'a Map, BuiltinError> {
    match args.value(0) {
        Value::Map(map) => Ok(map),
        other => Err(BuiltinError::new(format!("`{}` takes a map, not {}", args.name, other.describe()))),
    }
}

fn key<'a>(args: &'a Args<'_>) -> Result<KeyRef<'a>, BuiltinError> {
    let key = args.value(1);
    let message = || format!("a map's key must be a string or an int, and this is {}", key.describe());
    KeyRef::of(key).ok_or_else(|| BuiltinError::new(message()))
}
