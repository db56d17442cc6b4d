//! `tl repl`, driven through a pipe.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Stdio};

use common::{Folder, text, tl};

fn start(rest: &[&str]) -> Child {
    let mut command = tl("repl", rest);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// The exit code for this input, what is printed, and what is told on standard error.
fn run(rest: &[&str], input: &str) -> (i32, String, String) {
    let mut child = start(rest);
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn entries() {
    let check = |input: &str, expected: &str| {
        assert_eq!(run(&[], input), (0, expected.to_owned(), String::new()), "{input}");
    };
    check("", "");
    check("1 + 1", "2\n");
    check("\"a\\n\"\nnone\n()\n[1.5, 2]\n", "\"a\\n\"\nnone\n[1.5, 2.0]\n");
    check("let x = ones([2, 3])\nx = x * 2.0\nitem(sum(x))\n:type x @ transpose(x)\n", "12.0\nfloat16[2, 2]\n");
    check(
        "fn f(n: int) -> int {\n  n + 1\n}\nf(1)\nfn g() -> int { f(1) }\nfn f(n: int) -> int { n }\ng()\n",
        "2\n1\n",
    );
    check("let a = 1\nfn f() -> int { a = a + 1\na }\nf()\na\nlet a = 7\nf()\n", "2\n2\n8\n");
    check("[1,\n2\n]\n1 +\n2\n/* x\n*/ 3\n", "[1, 2]\n3\n3\n");
    check("for i in 0..2 { print(i, end: \",\") }\nif true { 1 } else { 2 }\n", "0,1,\n1\n");
    let pair = "struct A { x: int }\nimpl A { fn get(self) -> int { self.x } }\nlet a = A { x: 2 }\n";
    check(&format!("{pair}a.get()\nimpl A {{ fn get(self) -> int {{ 9 }} }}\na.get()\na.x = 5\na.x"), "2\n9\n5\n");
    check(&format!("{pair}struct A {{ y: int }}\nA {{ y: 1 }}.y"), "1\n");
    // The same seed for the whole session, and not for each entry.
    check("let a = rand([2])\nlet b = rand([2])\nitem(sum(abs(a - b))) > 0.01\n", "true\n");
    check("import \"std/transformer\"\n:quit\nnever", "");
    check("main { print(1) }\ntest \"a\" { print(2) }\n3", "3\n");
    let (code, printed, _) = run(&[], "print(1)\nexit(3)\nprint(2)");
    assert_eq!((code, &*printed), (3, "1\n"));
}

#[test]
fn errors_keep_the_session() {
    let check = |input: &str, printed: &str, expected: &[&str]| {
        let (code, stdout, stderr) = run(&[], input);
        assert_eq!((code, &*stdout), (1, printed), "{input}: {stderr}");
        assert!(expected.iter().all(|part| stderr.contains(part)), "{input}: {stderr}");
    };
    check("let x = 1\ny\nx\n", "1\n", &["unknown name `y`", "entry 2:1:1"]);
    check("let x = 1\nx = \"a\"\nx\n", "1\n", &["`x` is int, and is given string"]);
    check("{ let x = 1 / len([]) }\n2", "2\n", &["division by zero"]);
    check("let a = 1; let b = 1 / 0\na\nb\n", "1\n", &["division by zero", "unknown name `b`"]);
    check("let x = ones([2])\nTensorBuffer::new().recycle(x)\nx\n", "", &["unknown name `x`"]);
    check("fn f() -> int { nothing }\nf()\n1", "1\n", &["unknown name `nothing`", "unknown function `f`"]);
    check("f(\n", "", &["expected an expression"]);
    check(
        ":nope\n:load\n:load none.tl\n:type\n:type y",
        "",
        &["there is no :nope", ":load FILE", "No such file", ":type EXPR", "`y`"],
    );
}

#[test]
fn functions_that_fit_no_more_are_forgotten() {
    let uses = "let a = 1\nfn f() -> int { a + 1 }\nfn g() -> int { 3 }\nlet a = \"b\"\n";
    let (code, printed, told) = run(&[], &format!("{uses}g()\nf()"));
    assert_eq!((code, &*printed), (1, "3\n"), "{told}");
    let expected = [
        "warning: `+` cannot stand between string and int",
        "entry 2:1:",
        "`f` does not fit any more",
        "unknown function `f`",
    ];
    assert!(expected.iter().all(|part| told.contains(part)), "{told}");
    assert_eq!(told.matches("cannot stand").count(), 1, "{told}");
}

#[test]
fn commands() {
    let folder = Folder::new("repl");
    let path = folder.file("a.tl");
    std::fs::write(&path, "fn twice(n: int) -> int { 2 * n }\nlet base = 4\nmain { print(\"never\") }").unwrap();
    for (rest, before) in [(&[][..], format!(":load {path}\n")), (&[&*path][..], String::new())] {
        assert_eq!(run(rest, &format!("{before}twice(base)")), (0, "8\n".to_owned(), String::new()));
    }
    let layers = folder.file("layers.tl");
    std::fs::write(&layers, "tensor bias: int32[2] = [3, 4]\nfn first() -> int { item(bias[0]) }\n").unwrap();
    let plain = format!("import \"{layers}\"\nfirst()\nlet x = 1\nbias = bias + 1\nfirst() + item(bias[1])\n");
    let named = format!("import \"{layers}\" as m\nm.first()\nlet bias = 1\nbias + m.first()\nitem(m.bias[1])\n");
    for (input, expected) in [(plain, "3\n9\n"), (named, "3\n4\n4\n")] {
        assert_eq!(run(&[], &input), (0, expected.to_owned(), String::new()), "{input}");
    }
    let (_, printed, _) = run(&[], "let x = ones([1000])\n:memory\n:help\n");
    assert!(printed.contains("2000") || printed.contains("2.0 KiB"), "{printed}");
    assert!(printed.contains(":load FILE"), "{printed}");
    let (code, _, told) = run(&["--memory-limit", "100MB"], "zeros([100000000])\n1");
    assert!(code == 1 && told.contains("limit"), "{told}");
}

#[cfg(unix)]
#[test]
fn an_interrupt_ends_the_entry_alone() {
    let mut child = start(&[]);
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    writeln!(input, "let x = 5\nfor i in 0..1 {{ print(\"runs\")\nloop {{}}\n}}").unwrap();
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "runs\n");
    let sent = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    writeln!(input, "x").unwrap();
    drop(input);
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "5\n");
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(1));
}
