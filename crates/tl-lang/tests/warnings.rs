//! Warnings of `tl check`: what runs, but probably not as meant.

use tl_device::Device;
use tl_lang::Interpreter;
use tl_syntax::{Code, Explanation};

/// The warnings of a program without errors, as `line: message`.
fn warnings(source: &str) -> Vec<String> {
    let outcome = Interpreter::new(&Device::cpu()).check(source).expect("it has no errors");
    let line = |start: u32| source[..start as usize].matches('\n').count() + 1;
    outcome.warnings.iter().map(|warning| format!("{}: {}", line(warning.span().start), warning.message)).collect()
}

#[test]
fn what_is_probably_not_meant() {
    for (source, expected) in [
        ("main {\n    let x = 1\n}", &["2: nothing reads `x`"][..]),
        ("main {\n    let _x = 1\n}", &[]),
        ("main {\n    let x = 1\n    let x = x + 1\n    print(x)\n}", &[]),
        ("main {\n    let x = 1\n    x = 2\n}", &["2: nothing reads `x`"]),
        ("main {\n    let x = [1]\n    x[0] = 2\n    print(x)\n}", &[]),
        ("main {\n    tensor w: float16[2] learnable\n}", &["2: this tensor is learnable, and nothing reads `w`"]),
        ("main {\n    for i in 0..3 { print(\"a\") }\n}", &[]),
        ("main {\n    let n = 2\n    let x: float16[n] = ones([2])\n    print(x)\n}", &[]),
        ("let k = 3\nfn f() -> int { k }\nmain { print(f()) }", &[]),
        (
            "main {\n    let x = ones([2])\n    softmax(x)\n    x + 1.0\n    x[0]\n}",
            &["3: nothing uses this value", "4: nothing uses this value", "5: nothing uses this value"],
        ),
        ("fn f(x: int) {\n    x + 1\n}\nmain { f(1) }", &["2: nothing uses this value"]),
        ("fn f(x: int) -> int {\n    x + 1\n}\nmain { f(1) }", &[]),
        (
            "fn f(x: int) -> int {\n    return x\n    print(x)\n    x\n}\nmain { print(f(1)) }",
            &["3: this is never reached"],
        ),
        ("main {\n    for i in 0..3 {\n        break\n        print(i)\n    }\n}", &["4: this is never reached"]),
        ("main {\n    let x = 0\n    while x < 9 {\n        let y = x\n        x = y + 1\n    }\n}", &[]),
        (
            "fn f(n: int) -> int {\n    let unused = n\n    for i in 0..3 { let y = i }\n    n\n}\nmain { print(f(1), f(2)) }",
            &["2: nothing reads `unused`", "3: nothing reads `y`"],
        ),
        (
            "entity P = {anna, bob}\nrelation R(P, P)\nfact R(anna, bob)\nrule S(x) <- R(ana, x)\nrule T(boc) <- R(boc, _)\n\
             main { print(query S(x), query R(bop, x), query T(x)) }",
            &["4: `ana` is no element, and a variable here", "6: `bop` is no element, and a variable here"],
        ),
        ("entity P = 3\nrelation R(P)\nfact R(1)", &["2: nothing reads `R`"]),
    ] {
        assert_eq!(warnings(source), expected, "{source}");
    }
}

#[test]
fn running_programs_do_not_warn() {
    let outcome = Interpreter::new(&Device::cpu()).run("main {\n    let x = 1\n}").expect("it runs");
    assert!(outcome.warnings.is_empty());
}

/// Each code's wrong program has it, and its right one has no errors and warnings.
#[test]
fn examples_of_codes() {
    for code in Code::ALL {
        let Explanation { name, wrong, right, .. } = code.explanation();
        if wrong.is_empty() {
            continue;
        }
        let device = Device::cpu();
        let found = match Interpreter::new(&device).check(wrong) {
            Ok(outcome) => outcome.warnings,
            Err(error) => error.diagnostics,
        };
        assert!(found.iter().any(|diagnostic| diagnostic.code == Some(*code)), "{name}: {found:?}");
        let outcome = Interpreter::new(&device).check(right).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(outcome.warnings.is_empty(), "{name}: {:?}", outcome.warnings);
        Interpreter::new(&device).run(right).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}
