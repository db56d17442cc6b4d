//! Relations beside other programs: a Datalog engine's answers, Warshall's algorithm, breadth-first search; and the memory that
//! they take.

use std::fmt::Write;

use tl_device::{Device, DeviceOptions};
use tl_lang::Interpreter;

fn run(device: &Device, text: &str) -> String {
    match Interpreter::new(device).run(text) {
        Ok(outcome) => outcome.output,
        Err(error) => panic!("{error}\n{text}"),
    }
}

/// Random programs with the answers of clingo, written by `scripts/datalog_values.py`.
#[test]
fn datalog_programs() {
    let text = include_str!("../../../tests/data/datalog.txt");
    let device = Device::cpu();
    let mut programs = 0;
    for program in text.split("// program ").skip(1) {
        let program = format!("// program {program}");
        let answers = program.lines().filter_map(|line| line.strip_prefix("//> "));
        let expected: String = answers.map(|line| format!("{line}\n")).collect();
        assert_eq!(run(&device, &program), expected, "{program}");
        programs += 1;
    }
    assert_eq!(programs, 300);
}

/// A random graph by its edges, the same each time.
fn edges(n_nodes: usize, n_edges: usize) -> Vec<(usize, usize)> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % n_nodes
    };
    (0..n_edges).map(|_| (next(), next())).collect()
}

fn facts(edges: &[(usize, usize)]) -> String {
    edges.iter().fold(String::new(), |mut text, (a, b)| {
        writeln!(text, "fact Edge({a}, {b})").unwrap();
        text
    })
}

#[test]
fn all_pairs_of_500_nodes() {
    const N: usize = 500;
    let edges = edges(N, 700);
    let mut reached = vec![[false; N]; N];
    edges.iter().for_each(|&(a, b)| reached[a][b] = true);
    for k in 0..N {
        let through = reached[k];
        for row in reached.iter_mut().filter(|row| row[k]) {
            row.iter_mut().zip(&through).for_each(|(own, through)| *own |= through);
        }
    }
    let expected: Vec<String> = (0..N)
        .flat_map(|a| (0..N).map(move |b| (a, b)))
        .filter(|&(a, b)| reached[a][b])
        .map(|(a, b)| format!("[{a}, {b}]"))
        .collect();
    assert!(expected.len() > 10_000, "{} pairs", expected.len());
    let expected = format!("[{}]\n", expected.join(", "));
    let facts = facts(&edges);
    // The same closure from the left, from the right, and by halves.
    for rule in ["Edge(x, y), Path(y, z)", "Path(x, y), Edge(y, z)", "Path(x, y), Path(y, z)"] {
        let text = format!(
            "entity Node = {N}\nrelation Edge(Node, Node)\n{facts}rule Path(x, y) <- Edge(x, y)\nrule Path(x, z) <- {rule}\n\
             print(query Path(x, y))\n"
        );
        assert!(run(&Device::cpu(), &text) == expected, "{rule}");
    }
}

/// What a program that computes reachability prints: how many nodes are reached, and the peak of its memory in bytes.
fn reached(graph: &str, device: &Device) -> [u64; 2] {
    let text = format!(
        "{graph}relation Reached(Node)\nfact Reached(0)\nrule Reached(y) <- Reached(x), Edge(x, y)\n\
         print(sum(Reached), buffer_stats().peak_bytes)\n"
    );
    let output = run(device, &text);
    let mut numbers = output.split_whitespace().map(|number| number.parse().expect("a number"));
    [numbers.next().unwrap(), numbers.next().unwrap()]
}

#[test]
fn reachability_of_10_000_nodes() {
    const N: usize = 10_000;
    let edges = edges(N, 2 * N);
    let mut next = vec![Vec::new(); N];
    edges.iter().for_each(|&(a, b)| next[a].push(b));
    let (mut seen, mut open) = (vec![false; N], vec![0]);
    seen[0] = true;
    while let Some(at) = open.pop() {
        for &to in &next[at] {
            if !std::mem::replace(&mut seen[to], true) {
                open.push(to);
            }
        }
    }
    let expected = seen.iter().filter(|seen| **seen).count() as u64;
    assert!(expected > 5_000);
    let graph = format!("entity Node = {N}\nrelation Edge(Node, Node)\n{}", facts(&edges));
    let [n_reached, peak_bytes] = reached(&graph, &Device::cpu());
    assert_eq!(n_reached, expected);
    // The edges are 100 MB; all the rest is four tensors of a byte for each node, and a number.
    let all_edges = (N * N) as u64;
    assert!((all_edges..all_edges + 100_000).contains(&peak_bytes), "{peak_bytes} bytes");
}

/// A round costs what the round before has found: a chain takes as many rounds as it has nodes.
#[test]
fn a_chain_of_10_000_nodes() {
    let graph =
        "entity Node = 10000\nrelation Edge(Node, Node) = arange(0, 10000).unsqueeze(1) + 1 == arange(0, 10000)\n";
    let [n_reached, _] = reached(graph, &Device::cpu());
    assert_eq!(n_reached, 10_000);
}

#[test]
fn a_round_allocates_nothing() {
    let text = "entity Node = 300\nrelation Edge(Node, Node) = arange(0, 300).unsqueeze(1) + 1 == arange(0, 300)\n\
                rule Path(x, y) <- Edge(x, y)\nrule Path(x, z) <- Path(x, y), Edge(y, z)\n\
                print(sum(Path), buffer_stats().allocations)\n";
    let output = run(&Device::cpu(), text);
    let numbers: Vec<u64> = output.split_whitespace().map(|number| number.parse().unwrap()).collect();
    // 299 rounds of five operations.
    assert_eq!(numbers[0], 300 * 299 / 2);
    assert!(numbers[1] < 20, "{} allocations", numbers[1]);
}

#[test]
fn limits_hold() {
    let mut options = DeviceOptions::default();
    options.memory.limit_bytes = Some(64 << 20);
    let device = Device::cpu_with(&options);
    let error = |text: &str| Interpreter::new(&device).run(text).expect_err(text).to_string();
    for text in [
        "entity Node = 1000000\nrelation Edge(Node, Node)\nfact Edge(1, 2)\nprint(query Edge(1, x))",
        "entity Node = 9223372036854775807\nrelation Edge(Node, Node)\nprint(query Edge(1, x))",
        "entity Node = 10000\nrelation A(Node)\nrule B(x, y) <- A(x), A(y)\nprint(query B(1, x))",
        "entity Node = 20000\nrelation E(Node, Node)\nrelation P(Node, Node)\nrule P(x, z) <- E(x, y), P(y, z)\nprint(query P(1, x))",
    ] {
        let message = error(text);
        assert!(message.contains("limit") || message.contains("too large"), "{message}");
    }
}

/// Long chains of rules take neither the stack nor quadratic time, in whatever order they are written.
#[test]
fn many_rules() {
    const N: usize = 2_000;
    let rule = |k: usize| format!("rule R{k}(x) <- R{}(x)\n", k - 1);
    let head = "entity Node = 3\nrelation R0(Node)\nfact R0(1)\n";
    let tail = format!("print(query R{N}(x))\n");
    let backwards = (1..=N).rev().map(rule).collect::<String>();
    assert_eq!(run(&Device::cpu(), &format!("{head}{backwards}{tail}")), "[1]\n");
    let forwards = (1..=200).map(rule).collect::<String>();
    let cycle = format!("{head}{forwards}rule R1(x) <- R200(x)\nprint(query R200(x))\n");
    assert_eq!(run(&Device::cpu(), &cycle), "[1]\n");
    let negations: String = (1..=N).map(|k| format!("rule R{k}(x) <- Node(x), not R{}(x)\n", k % N + 1)).collect();
    let error = Interpreter::new(&Device::cpu()).run(&format!("{head}{negations}")).expect_err("it is not stratified");
    assert!(error.diagnostics.len() == 10, "{}", error.diagnostics.len());
}

#[test]
fn a_session_adds_facts_and_rules() {
    let mut session = tl_lang::Session::new(&Device::cpu());
    let mut host = tl_lang::CapturedHost::default();
    let mut value = |text: &str| match session.run("entry", text, &mut host) {
        Ok(entry) => entry.value.unwrap_or_default(),
        Err(error) => format!("{error}"),
    };
    assert_eq!(value("entity Person = {ann, bob, cal}\nrelation Parent(Person, Person)"), "");
    assert_eq!(value("fact Parent(ann, bob)"), "");
    assert_eq!(value("query Parent(x, y)"), "[[\"ann\", \"bob\"]]");
    assert_eq!(value("rule Ancestor(x, y) <- Parent(x, y)\nrule Ancestor(x, z) <- Parent(x, y), Ancestor(y, z)"), "");
    assert_eq!(value("fact Parent(bob, cal)"), "");
    assert_eq!(value("query Ancestor(ann, x)"), "[\"bob\", \"cal\"]");
    assert_eq!(value("let n = 2\nentity Node = n + 1\nrelation Edge(Node, Node) = eye(3) as bool"), "");
    assert_eq!(value("n = 5\nfact Edge(0, 2)"), "");
    assert_eq!(value("query Edge(x, y)"), "[[0, 0], [0, 2], [1, 1], [2, 2]]");
    assert_eq!(value("relation Parent(Person, Person)\nquery Parent(x, y)"), "[]");
}
