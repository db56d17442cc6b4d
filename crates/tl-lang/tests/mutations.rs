//! The checker takes any text: programs in which something was deleted, doubled, swapped or replaced at random are checked,
//! and, where they are still right, run, without a panic.

use std::path::Path;

use proptest::prelude::*;
use tl_device::{Device, DeviceOptions};
use tl_lang::{CapturedHost, Interpreter};

fn programs() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut texts = Vec::new();
    for folder in ["tests/lang", "examples"] {
        for entry in std::fs::read_dir(root.join(folder)).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "tl") {
                texts.push(std::fs::read_to_string(entry.path()).expect("the program can be read"));
            }
        }
    }
    texts.sort();
    assert!(texts.len() > 10);
    texts
}

/// Cuts a text into words, numbers, blanks and signs.
fn tokens(text: &str) -> Vec<&str> {
    let kind = |c: char| {
        if c.is_alphanumeric() || c == '_' {
            0
        } else if c.is_whitespace() {
            1
        } else {
            2
        }
    };
    let mut tokens = Vec::new();
    let mut start = 0;
    let mut last = None;
    for (at, c) in text.char_indices() {
        if last.is_some_and(|last| last != kind(c) || last == 2) {
            tokens.push(&text[start..at]);
            start = at;
        }
        last = Some(kind(c));
    }
    tokens.push(&text[start..]);
    tokens
}

#[derive(Clone, Debug)]
enum Change {
    Delete(prop::sample::Index),
    Double(prop::sample::Index),
    Swap(prop::sample::Index, prop::sample::Index),
    Replace(prop::sample::Index, &'static str),
}

fn change() -> impl Strategy<Value = Change> {
    let index = any::<prop::sample::Index>;
    let words = [
        "0",
        "-1",
        "9223372036854775807",
        "1.5",
        "\"s\"",
        "[]",
        "[1, \"a\"]",
        "x",
        "n",
        "shape",
        "float16",
        "ones([2])",
        "()",
        "..",
        "{",
        "}",
        "(",
        ")",
        "if",
        "else",
        "for",
        "while",
        "loop",
        "return",
        "break",
        "let",
        "fn",
        "@",
        "**",
        "as",
        "and",
        "not",
        "with",
        "tensor",
        "learnable",
        "import",
        "=",
        ":=",
        "?",
        "main",
        "continue",
        "model",
        "buf",
        "recycle",
        "true",
        "struct",
    ];
    prop_oneof![
        index().prop_map(Change::Delete),
        index().prop_map(Change::Double),
        (index(), index()).prop_map(|(a, b)| Change::Swap(a, b)),
        (index(), prop::sample::select(words.to_vec())).prop_map(|(at, word)| Change::Replace(at, word)),
    ]
}

fn apply(text: &str, changes: &[Change]) -> String {
    let mut tokens = tokens(text);
    for change in changes {
        let len = tokens.len();
        if len == 0 {
            break;
        }
        match change {
            Change::Delete(at) => drop(tokens.remove(at.index(len))),
            Change::Double(at) => tokens.insert(at.index(len), tokens[at.index(len)]),
            Change::Swap(a, b) => tokens.swap(a.index(len), b.index(len)),
            Change::Replace(at, word) => tokens[at.index(len)] = word,
        }
    }
    tokens.concat()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn mutated_programs_are_checked(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec(change(), 1..6),
    ) {
        let programs = programs();
        let text = apply(&programs[which.index(programs.len())], &changes);
        let host = CapturedHost::default();
        match Interpreter::with_captured(&Device::cpu(), host).check(&text) {
            Ok(outcome) => prop_assert!(outcome.warnings.iter().all(|warning| !warning.is_error())),
            Err(error) => {
                prop_assert!(error.diagnostics.iter().any(|diagnostic| diagnostic.is_error()));
                for diagnostic in &error.diagnostics {
                    for label in &diagnostic.labels {
                        let file = error.sources.file(label.span.file).expect("the place is in a file");
                        prop_assert!(file.text().get(label.span.start as usize..label.span.end as usize).is_some());
                    }
                }
            }
        }
    }

    /// Small programs run to their end or an error; mutations may loop for ever, so their steps are bounded.
    #[test]
    fn mutated_programs_run(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec(change(), 1..3),
    ) {
        let programs: Vec<String> = programs().into_iter().filter(|text| !text.contains("load_model")).collect();
        let text = apply(&programs[which.index(programs.len())], &changes);
        // Two sizes that have become one would be gigabytes.
        let mut options = DeviceOptions::default();
        options.memory.limit_bytes = Some(256 << 20);
        let mut host = CapturedHost::default();
        host.max_steps = Some(10_000);
        let _ = Interpreter::with_captured(&Device::cpu_with(&options), host).run(&text);
    }
}

#[test]
fn deep_programs() {
    let chain = |n: usize| "if a > 1 { 1 }".to_string() + &" else if a > 2 { 2 }".repeat(n) + " else { 3 }";
    let nested_chains = (0..60).fold("1".to_string(), |inner, _| {
        "if a > 1 { 1 }".to_string() + &" else if a > 2 { 2 }".repeat(150) + &format!(" else {{ {inner} }}")
    });
    for (text, is_right) in [
        (format!("let a = 1\nprint({}a{})", "(".repeat(90), ")".repeat(90)), true),
        (format!("let a = 1\nprint(a{})", "+a".repeat(500)), true),
        (format!("let a = 1\nprint(a{})", "+a".repeat(5000)), false),
        (format!("let a = 1\nlet b = {}", chain(150)), true),
        (format!("let a = 1\nlet b = {}", chain(5000)), false),
        (format!("let a = 1\nlet b = {nested_chains}\nprint(b)"), true),
        (format!("let a = 1\n{}a = a + 1{}", "for i in 0..1 { ".repeat(60), " }".repeat(60)), true),
        (format!("let a = 1\n{}let x = [1]{}", "while a < 2 { a = a + 1; ".repeat(60), " }".repeat(60)), true),
        ("let a = 1\n".to_string() + &"a = a + 1\n".repeat(20_000), true),
        // Many variables times many branches: what is known of each is followed only so far.
        (
            (0..4000).map(|n| format!("let v{n} = {n}\nif v{n} < 0 {{ v{n} = 1 }}\n")).collect::<String>()
                + "print(v7)",
            true,
        ),
    ] {
        let result = Interpreter::new(&Device::cpu()).run(&text);
        assert_eq!(result.is_ok(), is_right, "{}…: {:?}", &text[..40], result.err().map(|error| error.to_string()));
    }
}
