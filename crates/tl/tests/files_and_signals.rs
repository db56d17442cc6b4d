//! What the program does with the files and streams that its user names, and with signals.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use common::{Folder, run, text, tl};

const GENERATE: &str = "generate models/demo-q8_0.gguf --prompt A --temperature 0 --threads 1";

/// As [`run`], with this on standard input.
fn run_with_input(line: &str, rest: &[&str], input: &str) -> Output {
    let mut command = tl(line, rest);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn a_prompt_from_a_file_or_standard_input() {
    let folder = Folder::new("prompt");
    let file = folder.file("prompt.txt");
    std::fs::write(&file, "fn main() {").unwrap();
    let line = "generate models/demo-q8_0.gguf -n 8 --temperature 0 --threads 1";
    let expected = run(line, &["--prompt", "fn main() {"]);
    assert!(expected.status.success(), "{expected:?}");
    let others = [
        run(line, &["--file", &file]),
        run_with_input(line, &["--file", "-"], "fn main() {"),
        run_with_input(line, &[], "fn main() {"),
    ];
    others.iter().for_each(|other| assert_eq!(text(&other.stdout), text(&expected.stdout)));
    assert_eq!(run(line, &["--file", &file, "--prompt", "both"]).status.code(), Some(2));
    let missing = run(line, &["--file", "no-such-file.txt"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing.stderr).contains("no-such-file.txt: ") && text(&missing.stderr).contains("searched in /"));
}

#[test]
fn a_program_from_standard_input() {
    let output = run_with_input("run -", &[], "print(6 * 7)");
    assert_eq!((text(&output.stdout).as_str(), output.status.code()), ("42\n", Some(0)));
    let wrong = run_with_input("run -", &[], "print(6 *)");
    assert!(text(&wrong.stderr).contains("standard input:1:"), "{wrong:?}");
}

#[test]
fn a_text_says_why_it_ended() {
    let check = |rest: &[&str], expected: &str, reason: &str| {
        let output = run(GENERATE, rest);
        assert_eq!(text(&output.stderr), format!("{expected}\n"), "{rest:?}");
        let json = run(GENERATE, &[rest, &["--json"]].concat());
        let object: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
        assert_eq!(object["finish_reason"], reason, "{object}");
        // The text alone, where the other output begins with the prompt.
        assert_eq!(format!("A{}\n", object["text"].as_str().unwrap()), text(&output.stdout));
    };
    check(&["-n", "5"], "(cut off: --max-tokens allows 5 tokens)", "max_tokens");
    let full = "(cut off: the context of 6 tokens is full; --context gives more)";
    check(&["-n", "50", "--context", "6"], full, "context_full");
}

#[test]
fn info_for_programs_and_with_tensors() {
    let output = run("info models/demo-q4_0.gguf --json --tensors", &[]);
    let object: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&object["architecture"], &object["runs"]), (&"llama".into(), &true.into()));
    assert_eq!(object["tensors"].as_array().unwrap().len() as u64, object["tensor_count"].as_u64().unwrap());
    assert_eq!(object["metadata"]["llama.block_count"], 22);
    let count = |line| text(&run(line, &[]).stdout).matches("blk.").count();
    assert_eq!(count("info models/demo-q4_0.gguf"), 0);
    assert!(count("info models/demo-q4_0.gguf --tensors") > 100);
    let missing = text(&run("info none.gguf", &[]).stderr);
    assert!(missing.starts_with("error: none.gguf: ") && missing.contains("searched in /"), "{missing}");
}

#[test]
fn completions_and_man_pages() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        assert!(text(&run("completions", &[shell]).stdout).contains("generate"), "{shell}");
    }
    let folder = Folder::new("man");
    assert!(run("man", &[folder.0.to_str().unwrap()]).status.success());
    let names = folder.names();
    assert!(names.contains(&"tl.1".to_owned()) && names.contains(&"tl-generate.1".to_owned()), "{names:?}");
}

#[test]
fn a_perplexity_that_is_no_number_is_a_failure() {
    let folder = Folder::new("nan");
    let (model, corpus) = (folder.file("nan.gguf"), folder.file("text.txt"));
    assert!(run("synth --shape tiny --format f32", &[&model]).status.success());
    let mut bytes = std::fs::read(&model).unwrap();
    let len = bytes.len();
    bytes[len - 64..].as_chunks_mut::<4>().0.iter_mut().for_each(|word| *word = f32::NAN.to_le_bytes());
    std::fs::write(&model, bytes).unwrap();
    std::fs::write(&corpus, "some words and others ".repeat(200)).unwrap();
    let output = run("perplexity --context 16 --windows 2 --threads 1", &[&model, &corpus]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stderr).contains("not a number"), "{output:?}");
}

#[cfg(unix)]
mod unix {
    use super::*;
    use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};

    #[test]
    fn reports_do_not_replace_what_is_no_file() {
        let folder = Folder::new("devices");
        for option in ["--memory-report", "--memory-trace"] {
            assert!(run(GENERATE, &["-n", "2", option, "/dev/null"]).status.success());
        }
        assert!(std::fs::metadata("/dev/null").unwrap().file_type().is_char_device());
        let (page, link) = (folder.file("page.html"), folder.file("link.html"));
        std::fs::write(&page, "old").unwrap();
        std::fs::set_permissions(&page, std::fs::Permissions::from_mode(0o600)).unwrap();
        symlink("page.html", &link).unwrap();
        assert!(run(GENERATE, &["-n", "2", "--memory-report", &link]).status.success());
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        let metadata = std::fs::metadata(&page).unwrap();
        assert!(metadata.len() > 1000 && metadata.permissions().mode() & 0o777 == 0o600, "{metadata:?}");
        assert_eq!(folder.names(), ["link.html", "page.html"]);
    }

    #[test]
    fn no_input_is_overwritten() {
        let folder = Folder::new("inputs");
        let (model, script) = (folder.file("model.gguf"), folder.file("script.tl"));
        std::fs::copy(common::root().join("models/demo-q4_0.gguf"), &model).unwrap();
        std::fs::write(&script, "print(ones([2]))").unwrap();
        let check = |line: &str, rest: &[&str]| {
            let output = run(line, rest);
            assert_eq!(output.status.code(), Some(1), "{line} {rest:?}: {output:?}");
            assert!(text(&output.stderr).contains("is the file that is read"), "{output:?}");
        };
        check("generate --prompt A -n 1", &[&model, "--memory-report", &model]);
        check("run", &[&script, "--memory-trace", &script]);
        check("plan", &[&script, "-o", &script]);
        check("plan --context 16", &[&model, "--lock", &model]);
        check("quantize", &[&model, &model, "q8_0"]);
        check("perplexity", &[&model, &script, "--save", &script]);
        assert_eq!(std::fs::read_to_string(&script).unwrap(), "print(ones([2]))");
        assert!(run("info", &[&model]).status.success());
    }

    #[test]
    fn a_target_that_cannot_be_written_is_said_before_the_work() {
        let folder = Folder::new("targets");
        for rest in [["--memory-report", "/none/a.html"], ["--memory-trace", folder.0.to_str().unwrap()]] {
            let output = run(GENERATE, &rest);
            assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{output:?}");
        }
    }

    #[test]
    fn pipes_and_devices_are_no_models() {
        let folder = Folder::new("pipes");
        let pipe = folder.file("model.gguf");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for path in [pipe.as_str(), "/dev/zero"] {
            for (line, rest) in [("info", vec![path]), ("run", vec![path]), ("generate --prompt A", vec![path])] {
                let output = run(line, &rest);
                assert_eq!(output.status.code(), Some(1), "{line} {path}: {output:?}");
            }
            let output = run("perplexity models/demo-q4_0.gguf", &[path]);
            assert_eq!(output.status.code(), Some(1), "{path}: {output:?}");
        }
    }

    /// Sends a signal to a program.
    fn signal(child: &Child, name: &str) {
        assert!(Command::new("kill").args(["-s", name, &child.id().to_string()]).status().unwrap().success());
    }

    #[test]
    fn an_interrupted_text_ends_in_order() {
        let folder = Folder::new("interrupted");
        let (report, script) = (folder.file("page.html"), folder.file("endless.tl"));
        std::fs::write(&script, "let i = 0\nwhile true { i = i + 1; if i % 1000 == 1 { print(ones([2]) * i) } }")
            .unwrap();
        for (name, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
            let line = "run --threads 1 --memory-stats --memory-report";
            let mut command = tl(line, &[&report, &script]);
            let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            let mut first = [0];
            std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut first).unwrap();
            signal(&child, name);
            let output = child.wait_with_output().unwrap();
            assert_eq!(output.status.code(), Some(code), "{name}: {output:?}");
            assert!(text(&output.stderr).contains("memory of the device"), "{name}: {output:?}");
            assert!(output.stdout.ends_with(b"\n"), "{name}: {output:?}");
            assert_eq!(folder.names(), ["endless.tl", "page.html"], "{name}");
            std::fs::remove_file(&report).unwrap();
        }
    }

    #[test]
    fn an_interrupted_file_leaves_nothing() {
        let folder = Folder::new("unfinished");
        let target = folder.file("model.gguf");
        let mut child = tl("synth --shape tinyllama-1.1b --format f16 --threads 1", &[&target]).spawn().unwrap();
        while folder.names().is_empty() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        signal(&child, "TERM");
        assert_eq!(child.wait().unwrap().code(), Some(143));
        assert_eq!(folder.names(), [""; 0]);
    }

    #[test]
    fn a_model_that_is_truncated_is_an_error() {
        let folder = Folder::new("truncated");
        let mut command = tl("chat --threads 1 --temperature 0", &[&common::demo_with_template(&folder)]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        writeln!(stdin, "/memory").unwrap();
        // The model is loaded when this is answered.
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut String::new()).unwrap();
        std::fs::File::options().write(true).open(Path::new(&folder.file("chat.gguf"))).unwrap().set_len(0).unwrap();
        writeln!(stdin, "hello").unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(text(&output.stderr).contains("became shorter"), "{output:?}");
    }
}
