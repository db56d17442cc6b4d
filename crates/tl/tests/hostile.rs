//! Programs and files that try to get past a limit of 64 MiB by every door there is. Each ends with one error and exit code 1, and
//! the process is never larger than the limit and what a process takes beside it.
#![cfg(unix)]
#![allow(unsafe_code)]

mod common;

use std::io::Read;
use std::process::Stdio;

use common::{Folder, text, tl};

/// Code, stacks and what the C library's allocator does not hand on, beside the limit.
const OVERHEAD_BYTES: u64 = 48 << 20;
const LIMIT_BYTES: u64 = 64 << 20;

struct Ended {
    stdout: String,
    stderr: String,
    code: Option<i32>,
    resident_bytes: u64,
}

/// Runs the program to its end and looks at how large it became.
#[allow(clippy::zombie_processes, reason = "it is waited for below, by a call that also tells how large it became")]
fn ended(line: &str, rest: &[&str]) -> Ended {
    let mut child = tl(line, rest).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // A hostile program may print without end: the beginning is enough.
        let _ = pipe.by_ref().take(1 << 20).read_to_end(&mut bytes);
        let _ = std::io::copy(&mut pipe, &mut std::io::sink());
        bytes
    });
    let mut stderr = Vec::new();
    child.stderr.take().unwrap().read_to_end(&mut stderr).unwrap();
    let (mut status, mut usage) = (0, std::mem::MaybeUninit::<libc::rusage>::zeroed());
    // SAFETY: the child is this process's own and not waited for yet; both places are valid for writing.
    let waited = unsafe { libc::wait4(child.id() as i32, &mut status, 0, usage.as_mut_ptr()) };
    assert_eq!(waited, child.id() as i32);
    // SAFETY: zeroed, which is a value of it, and written by the call.
    let usage = unsafe { usage.assume_init() };
    // Apple's kernel counts bytes, others count KiB.
    let unit = if cfg!(target_vendor = "apple") { 1 } else { 1024 };
    Ended {
        stdout: text(&reader.join().unwrap()),
        stderr: text(&stderr),
        code: libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)),
        resident_bytes: usage.ru_maxrss as u64 * unit,
    }
}

/// One error that says this, exit code 1, and no more memory than was allowed.
fn refused(name: &str, line: &str, rest: &[&str], says: &str) {
    let ended = ended(line, rest);
    let stderr: String = ended.stderr.chars().take(2000).collect();
    assert_eq!(ended.code, Some(1), "{name}: {stderr}");
    assert_eq!(ended.stderr.lines().filter(|line| line.starts_with("error")).count(), 1, "{name}: {stderr}");
    assert!(stderr.contains(says), "{name}: {stderr}");
    assert!(ended.resident_bytes <= LIMIT_BYTES + OVERHEAD_BYTES, "{name}: resident {}", ended.resident_bytes);
}

/// Programs, each with a part of what it is told.
const PROGRAMS: &[(&str, &str, &str)] = &[
    ("a string that doubles", "let s = \"0123456789\"\nwhile true { s = s + s }", "a string of"),
    ("a list that doubles", "let l = [1, 2]\nwhile true { l = l + l }", "a list of"),
    ("lists in lists", "let l = [1.5]\nwhile true { l = [l, 1] }", "another string or list"),
    (
        "a list that grows",
        "fn grow() { let l = [1.5]\nwhile true { l = append(l, \"a\") } }\ngrow()",
        "over the memory limit: a list of",
    ),
    (
        "tensors",
        "fn grow() { let l = [zeros([1])]\nwhile true { l = append(l, zeros([100])) } }\ngrow()",
        "over the memory limit",
    ),
    (
        "tensor buffers",
        "fn grow() { let l = [TensorBuffer::new()]\nwhile true { l = append(l, TensorBuffer::new()) } }\ngrow()",
        "raise",
    ),
    (
        "caches",
        "fn grow() { let l = [kv_cache(1, 1, 32, 1)]\nwhile true { l = append(l, kv_cache(1, 1, 32, 1)) } }\ngrow()",
        "over the memory limit",
    ),
    ("a large tensor", "let x = zeros([40000000])", "over the memory limit: float16[40000000] needs 76.3 MiB"),
    ("many buffers", "buffer_reserve([1], 100000000)", "a reservation of 100000000 × float16[1] (and 29.8 GiB"),
    ("more buffers than an address", "buffer_reserve([1], 9223372036854775807)", "too large"),
    ("a list of a tensor", "let x = zeros([10000000])\nprint(len(to_list(x)))", "a list of 10000000 elements"),
    ("parts of a tensor", "let x = zeros([10000000])\nprint(len(split(x, 1)))", "a list of 10000000 tensors"),
    ("a tensor's text", "let x = zeros([10000000])\nprint(x)", "the text of float16[10000000]"),
    ("layers without end", "let c = kv_cache(9223372036854775807, 0, 0, 0)", "a KV cache of so many layers"),
    (
        "a list of itself",
        "let a = [1]\nfor i in 0..60 { a = [a, a] }\nprint(a)",
        "the text of this value is longer than",
    ),
    (
        "numbers of lists of itself",
        "let a = [1]\nfor i in 0..60 { a = [a, a] }\nlet t: float32[2] = a",
        "a tensor from a list of",
    ),
    ("recursion", "fn f(n: int) -> int { let x = zeros([100000])\nreturn f(n + 1) + len(x) }\nprint(f(0))", "error"),
    (
        "recursion with strings",
        "fn f(s: string) -> string { return f(s + s) + s }\nprint(f(\"0123456789\"))",
        "a string of",
    ),
    (
        "generated text",
        "let m = load_model(\"models/demo-q8_0.gguf\")\nlet s = \"a\"\nwhile true { s = s + generate(m, \"a\", 5) + s }",
        "over the memory limit",
    ),
];

#[test]
fn programs() {
    let folder = Folder::new("hostile");
    for (name, source, says) in PROGRAMS {
        let path = folder.file("program.tl");
        std::fs::write(&path, source).unwrap();
        refused(name, "run --memory-limit 64MiB", &[&path], says);
    }
}

#[test]
fn sources() {
    let folder = Folder::new("hostile-sources");
    let many: String = (0..400_000).map(|i| format!("let v{i} = {i}\n")).collect();
    let sources = [
        ("a long list", format!("let l = [{}1]", "1.5,".repeat(1_900_000)), "out of memory"),
        ("many variables", many, "out of memory"),
        ("too long", "//".repeat(5 << 20), "too long for a program"),
        ("nested", format!("let x = {}", "[".repeat(300_000)), "nested more than"),
    ];
    for (name, source, says) in sources {
        let path = folder.file("program.tl");
        std::fs::write(&path, source).unwrap();
        refused(name, "run --memory-limit 64MiB", &[&path], says);
    }
}

#[test]
fn plans_and_recordings() {
    let folder = Folder::new("hostile-plans");
    let (plan, program) = (folder.file("plan"), folder.file("program.tl"));
    std::fs::write(&plan, "exact float16[1] 99999999\n").unwrap();
    std::fs::write(&program, "print(\"x\")").unwrap();
    refused("a plan", "run --memory-limit 64MiB --plan", &[&plan, &program], "a reservation of 99999999 × float16[1]");
}

/// A model file with one tensor of this name.
fn gguf(name: &[u8]) -> Vec<u8> {
    let mut file = b"GGUF".to_vec();
    file.extend(3u32.to_le_bytes());
    file.extend(1u64.to_le_bytes());
    file.extend(0u64.to_le_bytes());
    file.extend((name.len() as u64).to_le_bytes());
    file.extend(name);
    file.extend(1u32.to_le_bytes());
    file.extend(32u64.to_le_bytes());
    file.extend(0u32.to_le_bytes());
    file.extend(0u64.to_le_bytes());
    file.resize(file.len().next_multiple_of(32) + 128, 0);
    file
}

#[test]
fn files() {
    let folder = Folder::new("hostile-files");
    let path = folder.file("model.gguf");
    std::fs::write(&path, gguf(&b".".repeat(3_000_000))).unwrap();
    refused(
        "a name of dots",
        "generate --memory-limit 64MiB",
        &[&path, "--prompt", "a"],
        "the length of a tensor's name",
    );
    // A file that is read takes its whole length.
    let sparse = folder.file("long.txt");
    std::fs::File::create(&sparse).unwrap().set_len(1 << 30).unwrap();
    let line = "perplexity --memory-limit 64MiB models/demo-q8_0.gguf";
    refused("a long text", line, &[&sparse], "encoding a text of 1.0 GiB");
    let line = "generate models/demo-f16.gguf --memory-limit 4MiB --no-mmap --prompt a";
    refused("a model that is read", line, &[], "the limit of 4.0 MiB");
    let program = folder.file("program.tl");
    std::fs::write(&program, "let m = load_model(\"models/demo-f16.gguf\", mapped: false)").unwrap();
    refused("a model that a program reads", "run --memory-limit 4MiB", &[&program], "over the memory limit");
}

/// What fits is not refused.
#[test]
fn what_fits() {
    let folder = Folder::new("hostile-fits");
    let program = folder.file("program.tl");
    std::fs::write(&program, "let s = \"0123456789\"\nfor i in 0..20 { s = s + s }\nprint(len(s))").unwrap();
    let ended = ended("run --memory-limit 64MiB", &[&program]);
    assert_eq!((ended.stdout.as_str(), ended.code), ("10485760\n", Some(0)), "{}", ended.stderr);
}
