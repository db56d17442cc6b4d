//! A chain of elementwise operations gives the bits and the errors that the operations one by one give: each random
//! expression is run as it is, with a variable for every operation, and with each operation's result in a list, which leaves
//! nothing to fuse.

use proptest::prelude::*;
use tl_device::{Device, Simulation};
use tl_lang::Interpreter;

/// An expression over the variables of [`declarations`].
#[derive(Clone, Debug)]
enum Tree {
    Variable(usize),
    /// A view of a variable, which the expression may be the last to read.
    View(usize),
    Number(i8),
    Unary(usize, Box<Tree>),
    Binary(usize, Box<Tree>, Box<Tree>),
    Cast(usize, Box<Tree>),
    /// A cast to a type that is known when the program runs.
    CastTo(usize, Box<Tree>),
    /// An operation that is no link.
    Mean(Box<Tree>),
}

const VARIABLES: [&str; 11] =
    ["x", "row", "column", "one", "turned", "part", "scalar", "wide", "wide_row", "whole", "larger"];
const UNARY: [&str; 9] = ["sigmoid", "exp", "tanh", "silu", "gelu", "sqrt", "abs", "relu", "floor"];
const BINARY: [&str; 4] = ["+", "-", "*", "/"];
const FUNCTIONS: [&str; 2] = ["minimum", "maximum"];
const CASTS: [&str; 3] = ["float16", "float32", "int32"];
/// Variables that hold these types.
const TYPES: [&str; 3] = ["half", "single", "integer"];

/// Contiguous and broadcast tensors, views, other types.
fn declarations(n: usize, m: usize) -> String {
    let (m1, m3) = (m + 1, m + 3);
    format!(
        "seed(3)
let x = randn([{n}, {m}])
let row = randn([{m}])
let column = randn([{n}, 1]) * 100.0
let one = randn([1, 1])
let turned = randn([{m}, {n}]).transpose(0, 1)
let part = randn([{n}, {m3}])[.., 1..{m1}]
let scalar = full([], -1.5)
let wide = (randn([{n}, {m}]) as float32) * 1000.0
let wide_row = randn([{m}]) as float32
let whole = (randn([{n}, {m}]) * 3.0) as int32
let larger = randn([{m3}, {m1}])
"
    )
}

fn trees() -> impl Strategy<Value = Tree> {
    let cast = |to, a| Tree::Cast(to, Box::new(a));
    let leaf = prop_oneof![
        60 => (0..7_usize).prop_map(Tree::Variable),
        10 => (0..6_usize).prop_map(Tree::View),
        20 => (7..10_usize).prop_map(move |at| cast(0, Tree::Variable(at))),
        20 => any::<i8>().prop_map(Tree::Number),
        // Mixed types are an error, which is found before the program runs; sizes that do not fit, when it does.
        1 => (7..VARIABLES.len()).prop_map(Tree::Variable),
    ];
    leaf.prop_recursive(6, 60, 2, move |tree| {
        let of = |tree: BoxedStrategy<Tree>| tree.prop_map(Box::new);
        let tree = tree.boxed();
        prop_oneof![
            30 => (0..UNARY.len(), of(tree.clone())).prop_map(|(f, a)| Tree::Unary(f, a)),
            60 => (0..BINARY.len() + FUNCTIONS.len(), of(tree.clone()), of(tree.clone()))
                .prop_map(|(f, a, b)| Tree::Binary(f, a, b)),
            20 => (0..UNARY.len(), tree.clone()).prop_map(move |(f, a)| cast(0, Tree::Unary(f, Box::new(cast(1, a))))),
            5 => tree.clone().prop_map(move |a| cast(0, cast(2, a))),
            1 => (0..CASTS.len(), of(tree.clone())).prop_map(|(to, a)| Tree::Cast(to, a)),
            5 => of(tree.clone()).prop_map(|a| Tree::CastTo(0, a)),
            1 => (0..TYPES.len(), of(tree.clone())).prop_map(|(to, a)| Tree::CastTo(to, a)),
            10 => of(tree).prop_map(Tree::Mean),
        ]
    })
}

/// Writes the tree's operation with these operands.
fn operation(tree: &Tree, operands: &[String]) -> String {
    match (tree, operands) {
        (Tree::Variable(at), _) => VARIABLES[*at].to_owned(),
        (Tree::View(at), _) => format!("{}[0..]", VARIABLES[*at]),
        (Tree::Number(n), _) => format!("({})", f64::from(*n) / 8.0 + 0.03125),
        (Tree::Unary(f, _), [a]) => format!("{}({a})", UNARY[*f]),
        (Tree::Binary(f, ..), [a, b]) => match BINARY.get(*f) {
            Some(symbol) => format!("({a} {symbol} {b})"),
            None => format!("{}({a}, {b})", FUNCTIONS[*f - BINARY.len()]),
        },
        (Tree::Cast(to, _), [a]) => format!("({a} as {})", CASTS[*to]),
        (Tree::CastTo(to, _), [a]) => format!("cast({a}, {})", TYPES[*to]),
        (Tree::Mean(_), [a]) => format!("mean({a}, -1, keepdim: true)"),
        _ => unreachable!("an operation has its operands"),
    }
}

fn operands(tree: &Tree) -> Vec<&Tree> {
    match tree {
        Tree::Variable(_) | Tree::View(_) | Tree::Number(_) => Vec::new(),
        Tree::Unary(_, a) | Tree::Cast(_, a) | Tree::CastTo(_, a) | Tree::Mean(a) => vec![a],
        Tree::Binary(_, a, b) => vec![a, b],
    }
}

fn nested(tree: &Tree) -> String {
    operation(tree, &operands(tree).into_iter().map(nested).collect::<Vec<_>>())
}

/// Adds a line for each operation to `lines`, and what it is in the expression to `nested_as`; gives the name of its result.
fn one_by_one(tree: &Tree, lines: &mut Vec<(String, String)>, nested_as: &mut Vec<String>) -> String {
    let operands: Vec<String> = operands(tree).into_iter().map(|tree| one_by_one(tree, lines, nested_as)).collect();
    if operands.is_empty() {
        return operation(tree, &[]);
    }
    let name = format!("step{}", lines.len());
    lines.push((name.clone(), operation(tree, &operands)));
    nested_as.push(nested(tree));
    name
}

/// What the program prints, or its first message and the text that it is about.
fn run(program: &str) -> Result<String, (String, String)> {
    let outcome = Interpreter::new(&Device::cpu()).run(program);
    outcome.map(|outcome| outcome.output).map_err(|error| {
        let (diagnostic, span) = (&error.diagnostics[0], error.diagnostics[0].span());
        let text = &program[span.start as usize..span.end as usize];
        (diagnostic.message.clone(), text.to_owned())
    })
}

fn check(tree: &Tree, n: usize, m: usize) -> Result<(), TestCaseError> {
    // Unknown to the checker, so that rules are asked when the program runs.
    let types = ["16[?, ?]", "16[?]", "16[?, ?]", "16[?, ?]", "16[?, ?]", "16[?, ?]", "16[]", "32[?, ?]", "32[?]"];
    let parameters = VARIABLES.iter().zip(types).map(|(name, ty)| format!("{name}: float{ty}, "));
    let dtypes = TYPES.iter().zip(CASTS).map(|(name, dtype)| format!("let {name} = {dtype}; "));
    let first = format!(
        "fn all({}whole: int32[?, ?], larger: float16[?, ?]) {{ {}",
        parameters.collect::<String>(),
        dtypes.collect::<String>()
    );
    let program = |lines: &[String], result: &str| {
        let body = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        let end = "print(result, to_list(result), shape(result))";
        let call = format!("{}all({})", declarations(n, m), VARIABLES.join(", "));
        format!("{first}\n{body}let result = {result}\n{end}\n}}\n{call}\n")
    };
    let (mut lines, mut nested_as) = (Vec::new(), Vec::new());
    let result = one_by_one(tree, &mut lines, &mut nested_as);
    let in_variables: Vec<String> = lines.iter().map(|(name, operation)| format!("let {name} = {operation}")).collect();
    let in_lists: Vec<String> =
        lines.iter().map(|(name, operation)| format!("let {name} = [{operation}][0]")).collect();
    let (separate, joined, fused) =
        (program(&in_lists, &result), program(&in_variables, &result), program(&[], &nested(tree)));
    // The message is about the same part of the expression.
    let in_expression = |text: String| {
        let names = nested_as.iter().enumerate().rev();
        names.fold(text, |text, (at, nested)| text.replace(&format!("step{at}"), nested))
    };
    let named =
        |result: Result<String, (String, String)>| result.map_err(|(message, text)| (message, in_expression(text)));
    let expected = named(run(&separate));
    prop_assert_eq!(named(run(&joined)), expected.clone(), "{}\n{}", joined, separate);
    prop_assert_eq!(run(&fused), expected, "{}\n{}", fused, separate);
    Ok(())
}

proptest! {
    #[test]
    fn as_one_by_one(tree in trees(), size in prop::sample::select(vec![(3, 4), (1, 1), (0, 4), (2, 0), (3, 300)])) {
        check(&tree, size.0, size.1)?;
    }
}

#[test]
fn long_chains() {
    let x = || Box::new(Tree::Variable(0));
    let (mut left, mut right) = (*x(), *x());
    for f in 0..80 {
        left = Tree::Binary(f % 4, Box::new(left), x());
        right = Tree::Binary((f + 1) % 4, x(), Box::new(right));
    }
    let both = Tree::Binary(2, Box::new(left.clone()), Box::new(right.clone()));
    for tree in [left, right, both] {
        check(&tree, 3, 5).unwrap();
    }
}

/// The buffers that a step takes and those that it has to allocate, beside what it is given and what is reserved for it.
fn check_buffers(device: &Device, dtype: &str, reserved: usize, body: &str, expected: &str) {
    let program = format!(
        "fn step(x: {dtype}[n], y: {dtype}[n]) -> {dtype}[n] {{ {body} }}
let a = ones([64], {dtype})
let b = ones([64], {dtype})
buffer_clear()
buffer_reserve([64], {reserved}, {dtype})
let before = buffer_stats()
let z = step(a, b)
let after = buffer_stats()
print(after.taken - before.taken, after.fallbacks - before.fallbacks)
let kept = a + b
"
    );
    let output =
        Interpreter::new(device).run(&program).map_or_else(|error| error.to_string(), |outcome| outcome.output);
    assert_eq!(output.trim_end(), expected, "on {}\n{program}", device.name());
}

#[test]
fn one_buffer_for_a_chain() {
    let check = |dtype, body| check_buffers(&Device::cpu(), dtype, 1, body, "1 0");
    check("float16", "x * sigmoid(x) * y");
    check("float16", "-x / (1.0 + exp(-x) * y) + y * 2.0 - 1.0");
    check("float16", "((x as float32) * (y as float32)) as float16");
    check("float32", "minimum(abs(x), y * 2.0 - x)");
    check("float32", "let a = x * 2.0\nlet b = y + 1.0\nlet c = a - b\nexp(c)");
}

/// What waits keeps its operands, so nothing waits for an operand that takes memory while it is evaluated.
#[test]
fn nothing_waits_for_memory() {
    let length = "len(to_list(softmax(exp(x), -1)))";
    for operand in [format!("x[0..{length}]"), format!("x.reshape([{length}])"), format!("x.reshape([1, {length}])[0]")]
    {
        // `a` and `b` end where they are multiplied. Their product, two for the operand, the result.
        let body = format!("let a = [x + 1][0]\nlet b = [x * 2][0]\na * b * {operand}");
        check_buffers(&Device::cpu(), "float16", 3, &body, "6 0");
        let body = format!("let a = x + 1\nlet b = x * 2\na * b * {operand}");
        check_buffers(&Device::cpu(), "float16", 3, &body, "4 0");
    }
}

/// Where operations are no links, and where a chain is too long for one pass, what was read is free again.
#[test]
fn as_few_buffers_as_one_by_one() {
    let mut simulation = Simulation::default();
    simulation.is_gpu = true;
    let gpu = Device::simulated(simulation);
    for (device, dtype) in [(&Device::cpu(), "int32"), (&gpu, "int32"), (&gpu, "float16")] {
        let check = |reserved, body, expected| check_buffers(device, dtype, reserved, body, expected);
        check(2, "(x + y * x - y) * x + y", "5 0");
        check(2, "-(x + (x * (y - x * (x + y))))", "6 0");
        check(3, "(x + y) * (x - y) - (x * x + y)", "6 0");
        // `a` and `b` end where they are added.
        check(3, "let a = x + 1\nlet b = x * 2\n(a + b) * y", "4 0");
        check(3, "let a = x + 1\nlet b = x * 2\ny - (a + b)", "4 0");
        // Here `a` does not, although it is no operand of the last operation.
        check(3, "let a = x + 1\n(a * x) + a.transpose(0, -1)", "3 0");
        check(4, "let a = x + 1\nlet b = x * 2\n(a + b) * a[0] * b[1..2]", "5 0");
    }
    let left = |n| (0..n).fold("x".to_string(), |text, at| format!("({text} {} y)", ["+", "-", "*", "/"][at % 4]));
    let right = |n| (0..n).fold("x".to_string(), |text, at| format!("(y {} {text})", ["+", "-", "*", "/"][at % 4]));
    for dtype in ["float16", "float32"] {
        for body in [left(40), right(40), left(80), right(80)] {
            check_buffers(&gpu, dtype, 2, &body, &format!("{} 0", body.matches('(').count()));
        }
        for (body, expected) in [(left(40), "4 0"), (right(40), "7 0"), (left(80), "8 0"), (right(80), "14 0")] {
            check_buffers(&Device::cpu(), dtype, 2, &body, expected);
        }
    }
}
