//! Plots.

use super::args::Args;
use super::elements::elements;
use super::error::BuiltinError;
use super::param::{DefaultValue, Param, ParamKind};
use super::row::{Builtin, Context};
use crate::svg::{PlotKind, plot};
use crate::value::Value;

/// The most numbers in one plot.
const MAX_NUMBERS: usize = 1 << 16;

pub(super) static ROWS: &[Builtin] = &[Builtin {
    name: "plot",
    doc: "Draws numbers as a picture, which `tl run --plots FOLDER` writes as SVG: `\"lines\"` (a line for each row of a list or \
          tensor of one or two dimensions), `\"bars\"` (one dimension) or `\"heat\"` (a rectangle for each number). What is not \
          finite is left out. A plot has at most 65,536 numbers.",
    params: &[
        Param::required("x", ParamKind::Any),
        Param::optional("kind", ParamKind::Text, DefaultValue::Text("lines")),
        Param::optional("title", ParamKind::Text, DefaultValue::Text("")),
    ],
    run: draw,
    ..Builtin::BASE
}];

fn draw(context: &mut Context<'_>, args: &mut Args<'_>) -> Result<Value, BuiltinError> {
    let name = args.text(1)?;
    let kind = PlotKind::from_name(name).ok_or_else(|| {
        BuiltinError::new(format!("plot: there is no kind {name:?}"))
            .hint("the kinds are \"lines\", \"bars\" and \"heat\"")
    })?;
    let rows = rows(args.value(0))?;
    if kind == PlotKind::Bars && rows.len() != 1 {
        return Err(BuiltinError::new(format!("plot: bars are of one row of numbers, and there are {}", rows.len())));
    }
    let count: usize = rows.iter().map(Vec::len).sum();
    let picture = plot(kind, &rows, args.text(2)?).ok_or_else(|| {
        BuiltinError::new(format!(
            "plot: there is nothing to draw: {count} numbers, none of them finite, or too far apart"
        ))
    })?;
    context.host.plot(&picture).map_err(BuiltinError::new)?;
    Ok(Value::Unit)
}

/// The rows of numbers in a tensor or a list.
fn rows(value: &Value) -> Result<Vec<Vec<f64>>, BuiltinError> {
    let too_many =
        |count: usize| BuiltinError::new(format!("plot: at most {MAX_NUMBERS} numbers are drawn, not {count}"));
    if let Value::Tensor(tensor) = value {
        let dims = tensor.dims().to_vec();
        let count = dims.iter().product();
        if !(1..=2).contains(&dims.len()) {
            let message = format!("plot: a tensor of one or two dimensions is drawn, and this is {}", tensor.layout());
            return Err(BuiltinError::new(message).hint("choose a part of it with an index: `x[0]`"));
        }
        if count > MAX_NUMBERS {
            return Err(too_many(count));
        }
        let columns = dims.last().copied().unwrap_or(1).max(1);
        return Ok(elements(tensor)?.chunks(columns).map(<[f64]>::to_vec).collect());
    }
    let elements =
        |list: &Value| (0..list.list_len().unwrap_or(0)).filter_map(|at| list.element(at)).collect::<Vec<_>>();
    let Some(len) = value.list_len() else {
        return Err(BuiltinError::new(format!("plot: a tensor or a list is drawn, not {}", value.describe())));
    };
    if len > MAX_NUMBERS {
        return Err(too_many(len));
    }
    let values = elements(value);
    if values.first().is_some_and(|first| first.list_len().is_none()) {
        return Ok(vec![numbers(&values)?]);
    }
    let mut rows = Vec::with_capacity(values.len());
    let mut count = 0;
    for row in &values {
        count += row.list_len().unwrap_or(1);
        if count > MAX_NUMBERS {
            return Err(too_many(count));
        }
        rows.push(numbers(&elements(row))?);
    }
    Ok(rows)
}

fn numbers(values: &[Value]) -> Result<Vec<f64>, BuiltinError> {
    let number = |value: &Value| {
        let number = value.number().map(|number| number.to_f64());
        number.ok_or_else(|| BuiltinError::new(format!("plot: numbers are drawn, not {}", value.describe())))
    };
    values.iter().map(number).collect()
}
