//! Every builtin that computes, against what NumPy computes: `tests/data/numpy-values.json`, which `scripts/numpy_values.py`
//! writes. Each expression runs as a program, as a user would write it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use serde_json::Value;
use tl_device::Device;
use tl_lang::{CapturedHost, Interpreter, reference};

/// Chapters of the reference whose builtins compute nothing that NumPy has.
const OTHER_CHAPTERS: [&str; 7] = ["Maps", "Text", "Memory", "Models", "Sampling", "Assertions", "Outside"];

/// Random numbers, which no other program has.
const OTHER_BUILTINS: [&str; 3] = ["Tensors/rand", "Tensors/randn", "Tensors/seed"];

/// How far a result may be from NumPy's, relative to its size, and beside it.
///
/// `float16` results are rounded once, by half a unit in the last of 11 bits, and chains of operators once each.
/// `float32` results come from sums of up to 24 terms, each step rounded by 6e-8, and from approximations of
/// exponentials and the like to a few units in the last place.
fn tolerance(kind: &str) -> (f64, f64) {
    match kind {
        "float16" => (2e-3, 1e-3),
        "float32" => (4e-6, 4e-6),
        "float" => (1e-14, 0.0),
        _ => (0.0, 0.0),
    }
}

fn number(value: &Value) -> f64 {
    match value {
        Value::String(text) => text.parse().expect("a number"),
        value => value.as_f64().expect("a number"),
    }
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("an array").iter().map(number).collect()
}

/// The input as a declaration.
fn declaration(name: &str, input: &Value) -> String {
    let [dtype, shape, values] = &input.as_array().expect("an input")[..] else { panic!("{name}") };
    let dtype = dtype.as_str().expect("a dtype");
    let values: Vec<String> = numbers(values)
        .iter()
        .map(|x| match dtype {
            "bool" => (*x != 0.0).to_string(),
            "int32" => format!("{x}"),
            _ if x.is_finite() => format!("{x:?}"),
            _ => format!("float(\"{x}\")"),
        })
        .collect();
    if values.is_empty() {
        return format!("let {name} = zeros({shape}, {dtype})\n");
    }
    format!("let {name} = from_list([{}], {dtype}).reshape({shape})\n", values.join(", "))
}

/// The program of a case: what is computed must have the expected type.
fn program(inputs: &serde_json::Map<String, Value>, expression: &str, kind: &str, rank: usize) -> String {
    let mut text = String::new();
    let names: BTreeSet<&str> = expression.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    for name in names {
        text += &inputs.get(name).map_or(String::new(), |input| declaration(name, input));
    }
    if matches!(kind, "int" | "float" | "list") {
        return text + &format!("print({expression})\n");
    }
    let sizes = vec!["?"; rank].join(", ");
    text + &format!("let result: {kind}[{sizes}] = {expression}\nprint(shape(result), to_list(flatten(result)))\n")
}

/// The numbers in a printed list, or the one that is no list.
fn printed(text: &str) -> Vec<f64> {
    let inner = text.trim().trim_start_matches('[').trim_end_matches(']');
    let words = inner.split(", ").map(str::trim).filter(|word| !word.is_empty());
    words
        .map(|word| match word {
            "true" => 1.0,
            "false" => 0.0,
            word => word.parse().unwrap_or_else(|_| panic!("{word:?} of {text:?} is no number")),
        })
        .collect()
}

/// What is wrong with a case; `None` if nothing is.
fn problem(device: &Device, inputs: &serde_json::Map<String, Value>, case: &[Value]) -> Option<String> {
    let [_, expression, kind, shape, values] = case else { panic!("{case:?}") };
    let (expression, kind) = (expression.as_str().expect("an expression"), kind.as_str().expect("a kind"));
    let (shape, expected) = (numbers(shape), numbers(values));
    let text = program(inputs, expression, kind, shape.len());
    let mut interpreter = Interpreter::with_captured(device, CapturedHost::default());
    let output = match interpreter.run(&text) {
        Ok(outcome) => outcome.output,
        Err(error) => {
            let messages: Vec<&str> = error.diagnostics.iter().map(|diagnostic| &*diagnostic.message).collect();
            return Some(format!("{text}{}", messages.join("; ")));
        }
    };
    let (found_shape, found) = match kind {
        "int" | "float" | "list" => (shape.clone(), printed(&output)),
        _ => {
            let (shape, values) = output.split_once("] ").expect("a shape and a list");
            (printed(&format!("{shape}]")), printed(values))
        }
    };
    let (relative, absolute) = tolerance(kind);
    let is_near =
        |(a, b): (&f64, &f64)| a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= absolute + relative * b.abs();
    let agrees = found_shape == shape && found.len() == expected.len() && found.iter().zip(&expected).all(is_near);
    (!agrees).then(|| format!("{text}gave {kind}{found_shape:?} {found:?}\nnot {shape:?} {expected:?}"))
}

#[test]
fn every_builtin_agrees_with_numpy() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/numpy-values.json");
    let data: Value = serde_json::from_str(&std::fs::read_to_string(path).expect("the values")).expect("JSON");
    let inputs = data["inputs"].as_object().expect("inputs");
    let device = Device::cpu();
    let mut covered: BTreeMap<&str, usize> = BTreeMap::new();
    let mut report = String::new();
    for case in data["cases"].as_array().expect("cases") {
        let case = case.as_array().expect("a case");
        *covered.entry(case[0].as_str().expect("a builtin")).or_default() += 1;
        if let Some(problem) = problem(&device, inputs, case) {
            writeln!(report, "--- {}\n{problem}", case[0]).unwrap();
        }
    }
    for (builtin, count) in &covered {
        println!("{count:5} {builtin}");
    }
    for entry in reference() {
        let key = format!("{}/{}", entry.chapter, entry.name);
        let is_other = OTHER_CHAPTERS.contains(&entry.chapter) || OTHER_BUILTINS.contains(&&*key);
        if !is_other && !covered.contains_key(&*key) {
            writeln!(report, "--- {key} has no values: add some to scripts/numpy_values.py").unwrap();
        }
    }
    assert!(report.is_empty(), "\n{report}");
}
