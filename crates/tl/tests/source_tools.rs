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
