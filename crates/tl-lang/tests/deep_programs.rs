//! Programs that nest as deeply as the parser allows are checked on the smallest stack that any program gets.

use tl_device::Device;
use tl_lang::{Architecture, Interpreter};

/// Programs of every kind of nesting, each deeper than anybody writes.
fn programs() -> Vec<(&'static str, String)> {
    let around = |open: &str, middle: &str, close: &str, n: usize| open.repeat(n) + middle + &close.repeat(n);
    let chain = |n: usize| {
        let calls: String =
            (1..n).map(|i| format!("fn f{i}(x: float[n]) -> float[n] {{ f{}(x) + x }}\n", i - 1)).collect();
        format!("fn f0(x: float[n]) -> float[n] {{ x }}\n{calls}print(f{}(ones([2])))", n - 1)
    };
    vec![
        ("brackets", format!("let x = {}", around("(", "1", ")", 190))),
        ("lists", format!("let x = {}", around("[", "1", "]", 190))),
        ("blocks", around("if true { ", "print(1)", " }", 190)),
        ("calls", format!("let x = {}", around("abs(", "1", ")", 190))),
        ("chain of operators", format!("let x = 1{}", " + 1".repeat(510))),
        ("chain of methods", format!("let x = ones([2]){}", ".abs()".repeat(250))),
        ("operators on tensors", format!("let x = ones([2]){}", " * 2 + 1".repeat(250))),
        ("brackets in blocks", around("if true { ", &format!("print({})", around("(", "1", ")", 90)), " }", 90)),
        ("functions that call each other", chain(3000)),
    ]
}

#[test]
fn deep_programs_are_checked() {
    for (what, source) in programs() {
        // Some are refused, for their depth or for what they say; none ends the process.
        let _ = Interpreter::new(&Device::cpu()).check(&source);
        let error = Architecture::compile("deep.tl", &source).err();
        assert!(error.is_some(), "{what}: it has no function `forward`");
    }
}
