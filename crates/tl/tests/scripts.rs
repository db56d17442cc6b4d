//! The scripts that compare with other programs, which are played here by small ones of the shell.
#![cfg(target_os = "linux")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use common::{Folder, root};

const TL: &str = env!("CARGO_BIN_EXE_tl");

/// A program in the folder with these lines.
fn program(folder: &Folder, name: &str, lines: &str) -> String {
    let path = folder.file(name);
    fs::write(&path, format!("#!/bin/sh\n{lines}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Whether a program is there that a script needs; says so where it is not.
fn has(program: &str) -> bool {
    let is_there = Command::new(program).arg("--version").output().is_ok();
    if !is_there {
        eprintln!("skipped: {program} is missing");
    }
    is_there
}

fn script(name: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(root().join("scripts").join(name));
    command.args(arguments).current_dir(root()).env("FEW", "8").env("MORE", "58").env("THREADS", "1");
    command.env_remove("TL_BUFFER_MAX_MB").env_remove("TL_DEVICE").env_remove("TL_CPU").output().unwrap()
}

/// The exit status is this one, and the texts occur in what is printed, in either stream.
fn check(output: &Output, status: i32, expected: &[&str]) {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    let both = String::from_utf8_lossy(&both);
    assert_eq!(output.status.code(), Some(status), "{both}");
    for text in expected {
        assert!(both.contains(text), "{text}: {both}");
    }
}

#[test]
fn compares_speed() {
    if !has("python3") {
        return;
    }
    let folder = Folder::new("compare");
    let bench = program(
        &folder,
        "llama-bench",
        r#"case "$*" in
*"-n 0"*) echo '{"n_prompt": 8, "n_gen": 0, "n_depth": 0, "samples_ts": [1e9, 3e9]}' ;;
*) echo '{"n_prompt": 0, "n_gen": 4, "n_depth": 5, "samples_ts": [0.5, 0.75]}' ;;
esac"#,
    );
    let candle = program(
        &folder,
        "candle",
        r#"echo "loading"; [ "$RAYON_NUM_THREADS" = 1 ] && [ "$3" = 8 ] && echo "RES pp8: min 1.0 median 9.0 max 2.0 tok/s"
[ "$5" = 4 ] && [ "$7" = 5 ] && echo "RES tg4: min 0.25 median 9.0 max 0.25 tok/s"; true"#,
    );
    let samples = folder.0.join("samples");
    let mut line = vec!["models/demo-q4_0.gguf", "--tl", TL, "--tests", "pp8,tg4d5", "--rounds", "1", "--threads", "1"];
    line.extend(["--candle", &candle, "--samples", samples.to_str().unwrap(), "--llama-bench"]);
    let output = script("compare.py", &[&line[..], &[&bench]].concat());
    let wanted = [
        "| file | threads | test | TensorLogic | llama.cpp | candle | TensorLogic / best other |\n",
        "| 2000000000.0 (1000000000.0 to 3000000000.0) | 1.5 (1.0 to 2.0) | 0.00 |\n",
        "| 0.6 (0.5 to 0.8) | 0.2 (0.2 to 0.2) | ",
        "\n| demo-q4_0.gguf | 1 | ",
    ];
    check(&output, 0, &wanted);
    let rows = fs::read_to_string(&samples).unwrap();
    assert_eq!(rows.lines().filter(|row| row.contains(r#""what": "speed""#)).count(), 6, "{rows}");

    let broken = program(&folder, "broken", "echo no such kernel >&2; exit 3");
    let output = script("compare.py", &[&line[..], &[&broken]].concat());
    check(
        &output,
        1,
        &["broken -m models/demo-q4_0.gguf", "ended with status 3", "no such kernel", "| – |", "llama.cpp failed on"],
    );
    // Lines that are no JSON, or lack what they should have, are that program's failure; the others' figures are printed.
    for odd in [r#"echo '{"n_prompt": 8,'"#, r#"echo '{"n_gen": 4}'"#] {
        let odd = program(&folder, "odd", odd);
        let output = script("compare.py", &[&line[..], &[&odd]].concat());
        check(&output, 1, &["llama.cpp failed on", "printed something else than expected", "| 0.2 (0.2 to 0.2) | "]);
    }
    // Asked to end in the last of three programs: what there is by then is printed and kept. (Not by an interrupt, which is ignored
    // where the tests run in the background of a shell.)
    fs::remove_file(&samples).unwrap();
    let waiting = program(&folder, "waiting", "kill -TERM $PPID; sleep 1");
    let output = script("compare.py", &[&line[..], &[&bench, "--llama-bench", &waiting]].concat());
    check(&output, 130, &["| file | threads | test |", "| – |"]);
    assert!(fs::read_to_string(&samples).unwrap().contains(r#""program": "TensorLogic""#));
    check(&script("compare.py", &[&line[..], &["none"]].concat()), 2, &["none: no such program"]);
    let output =
        script("compare.py", &["models/demo-q4_0.gguf", "--tl", TL, "--tl-no-mmap", "--tests", "pp8", "--rounds", "1"]);
    check(&output, 0, &["| TensorLogic | TensorLogic --no-mmap |", "\n| demo-q4_0.gguf | "]);
    check(&script("compare.py", &["none.gguf", "--tl", TL]), 2, &["none.gguf: no such file"]);
    check(&script("compare.py", &["models/demo-q4_0.gguf", "--tl", TL, "--tests", "pp0"]), 2, &["'pp0' is no test"]);
}

#[test]
fn compares_load() {
    if !has("python3") {
        return;
    }
    let folder = Folder::new("load");
    let completion = program(&folder, "llama-completion", "sleep 30 & kill $!; echo x");
    let line = ["models/demo-q4_0.gguf", "--tl", TL, "--measure", "load", "--rounds", "2", "--context", "64"];
    let output = script("compare.py", &[&line[..], &["--llama-completion", &completion]].concat());
    check(
        &output,
        0,
        &["Start to first token, seconds", "| TensorLogic | llama.cpp --repack | llama.cpp --no-repack |"],
    );
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(!stdout.contains('–'), "{stdout}");
}

/// `tl` itself plays the other program, on the same text.
#[test]
fn measures_divergence() {
    if !has("python3") {
        return;
    }
    let folder = Folder::new("divergence");
    // The options as the script gives them: -m MODEL -f TEXT -c N -b N -ub N --chunks K -t T --kl-divergence-base FILE
    let lines =
        format!(r#"{TL} perplexity "$2" "$4" --context "$6" --windows "${{12}}" --threads "${{14}}" --save "${{16}}""#);
    let other = program(&folder, "llama-perplexity", &lines);
    let line =
        ["models/demo-q8_0.gguf", "--tl", TL, "--context", "24", "--windows", "2", "--cpu", ",portable", "--exact"];
    let output = script("divergence.py", &[&line[..], &["--llama-perplexity", &other]].concat());
    let wanted = [
        "demo-q8_0.gguf: the reference is llama.cpp on this file, 22 tokens",
        "| llama.cpp, --no-repack | 0.00e+00 | 0.00e+00 | 0.00e+00 | 0.00e+00 | 100.00 % | ",
        "\n| TensorLogic, as it is, float16 | ",
        "\n| TensorLogic, TL_CPU=portable, float16 | ",
        "demo-q8_0.gguf: the reference is float32 throughout, 22 tokens",
        "\n| llama.cpp | ",
    ];
    check(&output, 0, &wanted);
    // Weights of 8 bits with activations of 8 bits are near the same weights with exact ones, and not the same.
    let stdout = String::from_utf8_lossy(&output.stdout);
    let exact = stdout.split("\n| llama.cpp | ").nth(1).and_then(|rest| rest.split(" | ").next()).unwrap();
    let mean: f64 = exact.parse().unwrap();
    assert!(1e-9 < mean && mean < 0.01, "{stdout}");

    let broken = program(&folder, "broken", "echo cannot >&2; exit 4");
    let output = script("divergence.py", &[&line[..], &["--llama-perplexity", &broken]].concat());
    check(&output, 1, &["divergence.py: ", "ended with status 4", "cannot"]);
    let silent = program(&folder, "silent", "touch \"${16}\"");
    let output = script("divergence.py", &[&line[..], &["--llama-perplexity", &silent]].concat());
    check(&output, 1, &["is no file of log-probabilities"]);
}

#[test]
fn counts_from_outside() {
    if !has("strace") || !has("cc") {
        return;
    }
    let traced = Command::new("strace").args(["-o", "/dev/null", "true"]).status().unwrap();
    if !traced.success() {
        eprintln!("skipped: nothing can be traced here");
        return;
    }
    let output = script("outside-counts.sh", &[TL, "models/demo-q4_0.gguf"]);
    let wanted = [
        "tl generate, 1 threads",
        "examples/generate.tl, 1 threads",
        "| 0.00 |",
        "Nothing on the heap",
        "more of a call in a whole run count as none",
    ];
    check(&output, 0, &wanted);
    check(&script("outside-counts.sh", &[TL, "none.gguf"]), 2, &["none.gguf: no such file"]);
    check(&script("outside-counts.sh", &[TL]), 2, &["scripts/outside-counts.sh TL MODEL.gguf"]);
}
