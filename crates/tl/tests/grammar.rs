//! `--json-schema`, `--grammar` and `--regex` as the program's users give them.

mod common;

use std::io::Write;
use std::process::Stdio;

use common::{Folder, demo_with_template, run, text, tl};

const GENERATE: &str = "generate models/demo-q8_0.gguf --prompt A";

const SCHEMA: &str = r#"{"type": "object", "properties": {"safe": {"type": "boolean"}, "size": {"type": "integer", "minimum": 0, "maximum": 99}}, "required": ["safe", "size"], "additionalProperties": false}"#;

#[test]
fn the_text_follows_what_is_given() {
    let folder = Folder::new("grammar");
    let schema = folder.file("schema.json");
    std::fs::write(&schema, SCHEMA).unwrap();
    let lark = folder.file("colors.lark");
    std::fs::write(&lark, "start: COLOR (\", \" COLOR)~1..2\nCOLOR: \"red\" | \"blue\"\n").unwrap();
    let check = |rest: &[&str], is_right: &dyn Fn(&str) -> bool| {
        for temperature in ["0", "1.5"] {
            let output = run(GENERATE, &[rest, &["--temperature", temperature]].concat());
            assert!(output.status.success(), "{rest:?}: {}", text(&output.stderr));
            let stdout = text(&output.stdout);
            let line = stdout.strip_suffix('\n').unwrap_or_default();
            assert!(is_right(line), "{rest:?}: {stdout}");
        }
    };
    let is_json = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        value["safe"].is_boolean() && value["size"].as_u64().is_some_and(|n| n < 100)
    };
    check(&["--json-schema", &schema], &is_json);
    check(&["--json-schema", SCHEMA], &is_json);
    check(&["--json-schema", &format!(" \n{SCHEMA}")], &is_json);
    let is_colors = |line: &str| {
        let colors: Vec<&str> = line.split(", ").collect();
        (2..=3).contains(&colors.len()) && colors.iter().all(|color| ["red", "blue"].contains(color))
    };
    check(&["--grammar", &lark], &is_colors);
    check(&["--regex", "-?[0-9]{3}"], &|line| line.trim_start_matches('-').len() == 3 && line.parse::<i32>().is_ok());
}

#[test]
fn what_is_wrong_is_one_message_and_exit_code_1() {
    let folder = Folder::new("grammar-errors");
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.file(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let check = |rest: &[&str], expected: &[&str]| {
        let output = run(GENERATE, rest);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{rest:?}: {stderr}");
        assert!(stderr.starts_with("error: ") && stderr.trim_end().lines().count() == 1, "{rest:?}: {stderr}");
        assert!(expected.iter().all(|part| stderr.contains(part)), "{rest:?}: {stderr}");
    };
    check(&["--json-schema", "none.json"], &["none.json: No such file"]);
    check(&["--json-schema", ""], &["No such file"]);
    check(&["--grammar", "models"], &["models: "]);
    let broken = file("broken.json", b"{\n\"type\": }");
    check(&["--json-schema", &broken], &["broken.json: the JSON schema is not JSON", "line 2 column 9"]);
    check(&["--json-schema", "{\"type\""], &["error: the JSON schema is not JSON", "line 1 column 7"]);
    let keyword = r#"{"properties": {"a": {"not": {"type": "null"}}}}"#;
    check(&["--json-schema", keyword], &["`not` at #/properties/a, which cannot be followed"]);
    check(&["--grammar", &file("latin.lark", b"start: \"\xE9\"")], &["latin.lark: byte 8 is not UTF-8"]);
    check(&["--grammar", &file("two.lark", b"start: \"a\"\nb: $\n")], &["two.lark: the grammar: line 2, column 4: "]);
    check(
        &["--grammar", &file("long.lark", &vec![b' '; 9 << 20])],
        &["long.lark: it has 9437184 bytes, and at most 8388608 are read"],
    );
    check(&["--regex", "(a"], &["the regular expression: ", "unclosed group"]);
    let cut = &["the text is not complete by the grammar: it has the 5 tokens that --max-tokens allows"];
    check(&["--regex", "[a-z]{500}", "-n", "5"], cut);
    let full = &["the text is not complete by the grammar: it fills the context of 8 tokens (--context)"];
    check(&["--regex", "[a-z]{500}", "--context", "8"], full);
}

#[test]
fn what_makes_no_sense_together_is_wrong_usage() {
    let check = |rest: &[&str]| {
        let output = run(GENERATE, rest);
        assert_eq!(output.status.code(), Some(2), "{rest:?}");
        assert!(output.stdout.is_empty() && text(&output.stderr).contains("cannot be used"), "{rest:?}");
    };
    check(&["--regex", "a", "--grammar", "b.lark"]);
    check(&["--regex", "a", "--json-schema", "{}"]);
    check(&["--json-schema", "{}", "--grammar", "b.lark"]);
    check(&["--regex", "a", "--regex", "b"]);
    for grammar in [["--regex", "a"], ["--grammar", "b.lark"], ["--json-schema", "{}"]] {
        check(&[&grammar[..], &["--stop", "x"]].concat());
    }
}

#[test]
fn every_answer_of_a_conversation_follows_it() {
    let folder = Folder::new("grammar-chat");
    let mut child = tl("chat -n 40 --regex (yes|no)\\.", &[&demo_with_template(&folder)])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"Is it?\nAnd that?\n/reset\nReally?\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{stderr}");
    let answers: Vec<&str> = stdout.lines().collect();
    assert_eq!(answers.len(), 3, "{stdout}{stderr}");
    assert!(answers.iter().all(|answer| ["yes.", "no."].contains(answer)), "{stdout}");
}
