//! A chain of elementwise operations gives the bits and the errors that the operations one by one give: each random
//! expression is run as it is, and with a variable for every operation, which leaves nothing to fuse.

use std::fmt::Write;

use proptest::prelude::*;
use tl_device::Device;
use tl_lang::Interpreter;

/// An expression over the variables of [`declarations`].
#[derive(Clone, Debug)]
enum Tree {
    Variable(usize),
    Number(i8),
    Unary(usize, Box<Tree>),
    Binary(usize, Box<Tree>, Box<Tree>),
    Cast(usize, Box<Tree>),
    /// An operation that is no link.
    Mean(Box<Tree>),
}

const VARIABLES: [&str; 10] = ["x", "row", "column", "one", "turned", "part", "scalar", "wide", "wide_row", "whole"];
const UNARY: [&str; 9] = ["sigmoid", "exp", "tanh", "silu", "gelu", "sqrt", "abs", "relu", "floor"];
const BINARY: [&str; 4] = ["+", "-", "*", "/"];
const FUNCTIONS: [&str; 2] = ["minimum", "maximum"];
const CASTS: [&str; 3] = ["float16", "float32", "int32"];

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
"
    )
}

fn trees() -> impl Strategy<Value = Tree> {
    let cast = |to, a| Tree::Cast(to, Box::new(a));
    let leaf = prop_oneof![
        60 => (0..7_usize).prop_map(Tree::Variable),
        20 => (7..VARIABLES.len()).prop_map(move |at| cast(0, Tree::Variable(at))),
        20 => any::<i8>().prop_map(Tree::Number),
        // Mixed types are an error.
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
            10 => of(tree).prop_map(Tree::Mean),
        ]
    })
}

/// Writes the tree's operation with these operands.
fn operation(tree: &Tree, operands: &[String]) -> String {
    match (tree, operands) {
        (Tree::Variable(at), _) => VARIABLES[*at].to_owned(),
        (Tree::Number(n), _) => format!("({})", f64::from(*n) / 8.0 + 0.03125),
        (Tree::Unary(f, _), [a]) => format!("{}({a})", UNARY[*f]),
        (Tree::Binary(f, ..), [a, b]) => match BINARY.get(*f) {
            Some(symbol) => format!("({a} {symbol} {b})"),
            None => format!("{}({a}, {b})", FUNCTIONS[*f - BINARY.len()]),
        },
        (Tree::Cast(to, _), [a]) => format!("({a} as {})", CASTS[*to]),
        (Tree::Mean(_), [a]) => format!("mean({a}, -1, keepdim: true)"),
        _ => unreachable!("an operation has its operands"),
    }
}

fn operands(tree: &Tree) -> Vec<&Tree> {
    match tree {
        Tree::Variable(_) | Tree::Number(_) => Vec::new(),
        Tree::Unary(_, a) | Tree::Cast(_, a) | Tree::Mean(a) => vec![a],
        Tree::Binary(_, a, b) => vec![a, b],
    }
}

fn nested(tree: &Tree) -> String {
    operation(tree, &operands(tree).into_iter().map(nested).collect::<Vec<_>>())
}

/// A statement for each operation; gives the name of its result.
fn one_by_one(tree: &Tree, text: &mut String, count: &mut usize) -> String {
    let operands: Vec<String> = operands(tree).into_iter().map(|tree| one_by_one(tree, text, count)).collect();
    if operands.is_empty() {
        return operation(tree, &[]);
    }
    *count += 1;
    writeln!(text, "let t{count} = {}", operation(tree, &operands)).unwrap();
    format!("t{count}")
}

/// What the program prints, or its first message.
fn run(program: &str) -> Result<String, String> {
    let outcome = Interpreter::new(&Device::cpu()).run(program);
    outcome.map(|outcome| outcome.output).map_err(|error| error.diagnostics[0].message.clone())
}

fn check(tree: &Tree, n: usize, m: usize) -> Result<(), TestCaseError> {
    // Unknown to the checker, so that rules are asked when the program runs.
    let types = ["16[?, ?]", "16[?]", "16[?, ?]", "16[?, ?]", "16[?, ?]", "16[?, ?]", "16[]", "32[?, ?]", "32[?]"];
    let parameters = VARIABLES.iter().zip(types).map(|(name, ty)| format!("{name}: float{ty}, "));
    let mut text = format!("fn all({}whole: int32[?, ?]) {{\n", parameters.collect::<String>());
    let mut fused = text.clone();
    let result = one_by_one(tree, &mut text, &mut 0);
    for (text, result) in [(&mut text, result), (&mut fused, nested(tree))] {
        writeln!(text, "let result = {result}\nprint(to_list(result), shape(result))\n}}").unwrap();
        writeln!(text, "{}all({})", declarations(n, m), VARIABLES.join(", ")).unwrap();
    }
    prop_assert_eq!(run(&fused), run(&text), "{}\n{}", fused, text);
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

/// A step that allocates nothing while it runs, which only a chain that takes one buffer does.
#[test]
fn one_buffer_for_a_chain() {
    let program = |body: &str| {
        format!("fn step(gate: float16[n], up: float16[n]) -> float16[n] {{ {body} }}\n")
            + "let a = ones([64]) * 0.5
let b = ones([64]) * 0.25
buffer_clear()
buffer_reserve([64], 1)
let before = buffer_stats().taken
let y = step(a, b)
print(buffer_stats().taken - before, buffer_stats().fallbacks)
print(sum(a) + sum(b))
"
    };
    let first_line = |body: &str| run(&program(body)).map(|output| output.lines().next().unwrap_or("").to_owned());
    assert_eq!(first_line("gate * sigmoid(gate) * up").as_deref(), Ok("1 0"));
    assert_eq!(first_line("-gate / (1.0 + exp(-gate) * up) + up * 2.0 - 1.0").as_deref(), Ok("1 0"));
    assert_eq!(first_line("((gate as float32) * (up as float32)) as float16").as_deref(), Ok("1 0"));
}
