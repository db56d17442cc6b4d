//! The commands for people who write programs: `tl fmt`, `tl check`.

mod common;

use std::fs;
use std::io::Write;
use std::process::{Output, Stdio};

use common::{Folder, run, text, tl};

/// Runs with this text as standard input.
fn with_input(line: &str, rest: &[&str], input: &str) -> Output {
    let mut child = tl(line, rest).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// Compares the exit code, and what stands on standard output; the text occurs on standard error.
fn check(output: &Output, code: i32, stdout: &str, stderr: &str) {
    let (printed, told) = (text(&output.stdout), text(&output.stderr));
    assert_eq!((output.status.code(), &*printed), (Some(code), stdout), "{told}");
    assert!(told.contains(stderr) && told.is_empty() == stderr.is_empty(), "{stderr:?}: {told}");
}

#[test]
fn formats() {
    let folder = Folder::new("fmt");
    let (good, bad) = (folder.file("good.tl"), folder.file("bad.tl"));
    fs::write(&good, "let  x=1\nprint( x )").unwrap();
    fs::write(&bad, "let = 1 ").unwrap();
    let output = run("fmt --check", &[&good]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(1), String::new()));
    assert!(text(&output.stdout).ends_with("/good.tl\n"));
    // A file with errors is left alone, and keeps no other from being formatted.
    check(&run("fmt", &[&bad, &good]), 1, "", "expected the variable's name");
    assert_eq!(fs::read_to_string(&good).unwrap(), "let x = 1\nprint(x)\n");
    assert_eq!(fs::read_to_string(&bad).unwrap(), "let = 1 ");
    check(&run("fmt", &[&good]), 0, "", "");
    check(&run("fmt --check", &[&good]), 0, "", "");
    assert_eq!(folder.names(), ["bad.tl", "good.tl"]);
    // A folder stands for its programs.
    let inner = folder.0.join("inner");
    fs::create_dir(&inner).unwrap();
    check(&run("fmt", &[inner.to_str().unwrap()]), 1, "", "there are no .tl files in this folder");
    fs::write(inner.join("a.tl"), "x:=1").unwrap();
    fs::remove_file(&bad).unwrap();
    check(&run("fmt", &[folder.0.to_str().unwrap()]), 0, "", "");
    assert_eq!(fs::read_to_string(inner.join("a.tl")).unwrap(), "x := 1\n");
}

#[test]
fn formats_standard_input() {
    check(&with_input("fmt -", &[], "x:=[1 ,2]"), 0, "x := [1, 2]\n", "");
    check(&with_input("fmt -", &[], "x:=["), 1, "", "expected an expression");
    check(&with_input("fmt --check -", &[], "x:=1"), 1, "standard input\n", "");
    check(&run("fmt none.tl", &[]), 1, "", "none.tl: No such file");
    check(&run("fmt", &[]), 2, "", "required");
}

#[test]
fn checks_several_programs() {
    let folder = Folder::new("check");
    let (good, bad) = (folder.file("good.tl"), folder.file("bad.tl"));
    fs::write(&good, "print(1)").unwrap();
    fs::write(&bad, "print(2)\nlet buf = TensorBuffer::new()\nlet x = ones([2])\nbuf.recycle(x)\nprint(x, valeu)")
        .unwrap();
    check(&run("check", &[&good, &good]), 0, "", "");
    check(&run("check", &[&bad, "none.tl", &good]), 1, "", "none.tl: No such file");
    check(&with_input("check -", &[], "print(x)"), 1, "", "standard input:1:7");
    let output = run("check --format json", &[&bad, "none.tl", &good]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(1), String::new()));
    let objects: Vec<serde_json::Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [recycled, unknown, missing] = &objects[..] else { panic!("{objects:?}") };
    assert!(recycled["file"].as_str().unwrap().ends_with("bad.tl"));
    assert_eq!(recycled["severity"], "error");
    assert_eq!(recycled["start"], serde_json::json!({ "line": 5, "column": 7 }));
    assert_eq!(recycled["end"], serde_json::json!({ "line": 5, "column": 8 }));
    assert_eq!(recycled["labels"][0]["message"], "recycled here");
    assert_eq!(recycled["labels"][0]["start"]["line"], 4);
    assert_eq!(unknown["message"], "unknown name `valeu`");
    assert_eq!(missing["file"], "none.tl");
    assert!(missing["message"].as_str().unwrap().contains("No such file"), "{missing}");
}

/// Two tests that pass, one of them only in a fresh interpreter, and three that fail.
const TESTS: &str = r#"fn double(x: int) -> int { x * 2 }
let count = 1
let test = 2
fn counted() -> int { count }
main { print("never") }
test "double & <more>" {
    print("quiet")
    count = count + 1
    assert_eq(double(counted()), 4)
}
test "fresh" { assert_eq(counted() + test, 3) }
test "wrong" {
    print("before")
    assert_eq(double(2), 5)
}
test "ends" { exit(3) }
test "ends well" { exit(0) }
"#;

#[test]
fn tests_programs() {
    let folder = Folder::new("test");
    let (path, junit) = (folder.file("tests.tl"), folder.file("junit.xml"));
    fs::write(&path, TESTS).unwrap();
    fs::write(folder.file("plain.tl"), "exit(9)").unwrap();
    let output = run("test --junit", &[&junit, folder.0.to_str().unwrap()]);
    let (printed, told) = (text(&output.stdout), text(&output.stderr));
    assert_eq!((output.status.code(), &*told), (Some(1), ""), "{printed}");
    for expected in [
        "tests.tl: double & <more>  (",
        "FAIL  ",
        "error: assertion failed: 4 is not equal to 5\n",
        "tests.tl:14:5\n",
        "14 │     assert_eq(double(2), 5)\n",
        "printed:\nbefore\n",
        "error: the test ended the program with exit code 3\n",
        "error: the test ended the program with exit code 0\n",
        "\n2 passed, 3 failed, in ",
    ] {
        assert!(printed.contains(expected), "{expected}: {printed}");
    }
    assert!(!printed.contains("quiet") && !printed.contains("never"), "{printed}");
    assert_eq!(printed.matches("ok  ").count(), 2, "{printed}");
    let document = fs::read_to_string(&junit).unwrap();
    for expected in
        ["tests=\"5\" failures=\"3\"", "name=\"double &amp; &lt;more&gt;\"", "assertion failed: 4 is not equal to 5"]
    {
        assert!(document.contains(expected), "{expected}: {document}");
    }

    let output = run("test --filter re", &[&path]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    assert!(text(&output.stdout).contains("\n2 passed, 0 failed, 3 filtered out, in "), "{}", text(&output.stdout));
    check(&run("test --filter nothing", &[&path]), 1, "", "none of the 5 tests has \"nothing\" in its name");
    check(&run("test", &[&folder.file("plain.tl")]), 1, "", "there are no tests");
    // `tl run` knows nothing of tests, not even of wrong ones; `tl check` does.
    check(&with_input("run -", &[], "print(1)\ntest \"a\" { nothing }\n"), 0, "1\n", "");
    check(&with_input("check -", &[], "test \"a\" { nothing }\n"), 1, "", "unknown name `nothing`");
    check(&with_input("check -", &[], "test \"a\" {}\ntest \"a\" {}"), 1, "", "there is more than one test \"a\"");
    let output = with_input("test -", &[], "test \"a\" { nothing }\n");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("FAIL  standard input: (check)"), "{}", text(&output.stdout));
}

#[test]
fn documents() {
    let output = run("doc softmax", &[]);
    let printed = text(&output.stdout);
    assert!(printed.starts_with("softmax(x, dim: -1)\n\n") && printed.lines().count() == 3, "{printed}");
    let printed = text(&run("doc clear", &[]).stdout);
    assert!(printed.contains("KvCache.clear()\n") && printed.contains("TensorBuffer.clear(shape)\n"), "{printed}");
    assert!(text(&run("doc KvCache.clear", &[]).stdout).starts_with("KvCache.clear()\n\n"));
    assert!(text(&run("doc", &[]).stdout).contains("\n  softmax(x, dim: -1)\n"));
    check(&run("doc sofmax", &[]), 1, "", "there is no builtin `sofmax`: did you mean `softmax`?");
    let folder = Folder::new("doc");
    let path = folder.file("a.tl");
    let source = "// All of it.\n\n// Doubles\n// a number.\nfn double(\n    x: int,\n) -> int { 2 * x }\n\nfn plain() {}\n\n\
                  // Two.\nstruct Pair { a: int, b: [int] }\nimpl Pair {\n    // First.\n    fn first(self) -> int { self.a }\n}\n";
    fs::write(&path, source).unwrap();
    let printed = text(&run("doc", &[&path]).stdout);
    let (title, body) = printed.split_once('\n').unwrap();
    assert!(title.starts_with("# ") && title.ends_with("a.tl"), "{title}");
    let expected = "\nAll of it.\n\n## `fn double( x: int, ) -> int`\n\nDoubles\na number.\n\n## `fn plain()`\n\n\
                    ## `struct Pair { a: int, b: [int] }`\n\nTwo.\n\n### `Pair`: `fn first(self) -> int`\n\nFirst.\n";
    assert_eq!(body, expected);
    fs::write(&path, "fn f(").unwrap();
    check(&run("doc", &[&path]), 1, "", "a.tl:1:");
    check(&run("doc none.tl", &[]), 1, "", "none.tl: No such file");
    assert!(text(&run("doc std/transformer", &[]).stdout).starts_with("# std/transformer\n"));
}
