//! Programs and files that try to get past a limit of 64 MiB by every door there is. Each ends with one error and exit code 1, and
//! the process is never larger than the limit and what a process takes beside it.
#![cfg(unix)]
#![allow(unsafe_code)]

mod common;

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use common::{Folder, demo_with_template, text, tl};

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
fn ended(line: &str, rest: &[&str]) -> Ended {
    ended_with(tl(line, rest), Vec::new())
}

/// As [`ended`], with this on standard input.
#[allow(clippy::zombie_processes, reason = "it is waited for below, by a call that also tells how large it became")]
fn ended_with(mut command: Command, input: Vec<u8>) -> Ended {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A program that ends before it has read all of it is no failure of the writer.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
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
    writer.join().unwrap();
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

/// Success, or one error and exit code 1; and no more memory than was allowed.
fn bounded(name: &str, ended: &Ended) {
    let stderr: String = ended.stderr.chars().take(2000).collect();
    let n_errors = ended.stderr.lines().filter(|line| line.starts_with("error")).count();
    let expected = match ended.code {
        Some(0) => 0,
        _ => 1,
    };
    assert!(matches!(ended.code, Some(0 | 1)) && n_errors == expected, "{name}: {:?}: {stderr}", ended.code);
    assert!(!stderr.contains("panicked"), "{name}: {stderr}");
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
    (
        "a prompt that doubles",
        "let m = load_model(\"models/demo-q8_0.gguf\")\nlet s = \"ab c\"\nfor i in 0..21 { s = s + s }\nprint(generate(m, s, 5))",
        "encoding a text of 8.0 MiB",
    ),
    (
        "tokens of a text that doubles",
        "let t = load_tokenizer(\"models/demo-q8_0.gguf\")\nlet s = \"ab c\"\nwhile true { s = s + s\nlet n = len(tokenize(t, s)) }",
        "encoding a text of",
    ),
    (
        "special tokens of a text that doubles",
        "let t = load_tokenizer(\"models/demo-q8_0.gguf\")\nlet s = \"<s>\"\nwhile true { s = s + s\nlet n = len(tokenize(t, s, special: true)) }",
        "encoding a text of",
    ),
    (
        "texts of tokens",
        "let t = load_tokenizer(\"models/demo-q8_0.gguf\")\nlet s = \"ab c\"\nwhile true { s = s + detokenize(t, tokenize(t, s)) }",
        "over the memory limit",
    ),
    (
        "a tensor's name",
        "let m = load_model(\"models/demo-q8_0.gguf\")\nlet s = \"ab c\"\nfor i in 0..21 { s = s + s }\nprint(get_tensor(m, s))",
        "the file has no tensor",
    ),
    (
        "the text of a list",
        "let l = [1.5, 2.5]\nwhile true { l = l + l\nlet n = len(str(l)) }",
        "over the memory limit",
    ),
    ("the text of strings", "let s = \"ab c\"\nwhile true { s = s + s\nlet n = len(str([s, s, s])) }", "memory"),
    (
        "a recording of its own",
        "let p = buffer_trace { let l = [zeros([1])]\nwhile true { l = append(l, zeros([100])) } }",
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

/// Programs that do much of what a recording writes down: the same again and again, other sizes, more and more at once, outputs.
const RECORDED: &[(&str, &str)] = &[
    ("a loop", "let x = ones([8])\nfor i in 0..100000 { let y = softmax(x, 0) }"),
    ("sizes", "fn f(n: int) { let x = zeros([n]) }\nfor i in 0..6000 { f(1 + i % 600) }"),
    ("layouts", "fn f(n: int, m: int) { let x = zeros([n, 1, m]) }\nfor i in 0..4000 { f(1 + i % 60, 1 + i / 60) }"),
    ("tensors", "fn f() { let l = [zeros([1])]\nfor i in 0..20000 { l = append(l, zeros([1 + i % 7])) } }\nf()"),
    ("outputs", "for i in 0..5000 { let x = zeros([1 + i % 100])\nprint(i) }"),
    (
        "a trace in a trace",
        "for i in 0..100 { let p = buffer_trace { let q = buffer_trace { let x = zeros([1 + i]) } } }",
    ),
];

#[test]
fn recordings() {
    let folder = Folder::new("hostile-recordings");
    let (program, traced) = (folder.file("program.tl"), folder.file("traced.tl"));
    let (report, lock) = (folder.file("report"), folder.file("lock"));
    for (name, source) in RECORDED {
        std::fs::write(&program, source).unwrap();
        let commands: [(&str, &[&str]); 6] = [
            ("run --memory-report", &[&report, &program]),
            ("run --memory-trace", &[&report, &program]),
            ("run --tune=100", &[&program]),
            ("run --threads 64", &[&program]),
            ("plan", &[&program]),
            ("plan --lock", &[&lock, &program]),
        ];
        for (line, rest) in commands {
            let line = format!("{line} ");
            let (command, options) = line.split_once(' ').unwrap();
            bounded(&format!("{name}, {line}"), &ended(&format!("{command} --memory-limit 64MiB {options}"), rest));
        }
        // What stands at the top level of a file stays there.
        let (head, body) = source.split_once("}\n").filter(|_| source.starts_with("fn")).unwrap_or(("", source));
        let head = if head.is_empty() { String::new() } else { format!("{head}}}\n") };
        std::fs::write(&traced, format!("{head}let plan = buffer_trace {{\n{body}\n}}\nprint(len(str(plan)))"))
            .unwrap();
        bounded(&format!("{name}, buffer_trace"), &ended("run --memory-limit 64MiB", &[&traced]));
    }
}

/// Numbers and texts on the command line and on standard input.
#[test]
fn arguments() {
    let folder = Folder::new("hostile-arguments");
    let (demo, chat) = ("models/demo-q8_0.gguf", demo_with_template(&folder));
    let huge = "999999999999999999";
    refused(
        "a context",
        &format!("generate {demo} --memory-limit 64MiB -p a --context {huge}"),
        &[],
        "works for 1 to 256",
    );
    refused("a context", &format!("plan {demo} --memory-limit 64MiB --context {huge}"), &[], "works for 1 to 256");
    refused("a context", &format!("chat {demo} --memory-limit 64MiB --context {huge}"), &[], "works for 1 to 256");
    refused("a window", &format!("perplexity {demo} README.md --memory-limit 64MiB --context {huge}"), &[], "3 to 256");
    let prompt = "a b ".repeat(30_000);
    refused("a prompt", &format!("generate {demo} --memory-limit 64MiB -p"), &[&prompt], "the prompt has ");
    let line = format!("generate {demo} --memory-limit 64MiB --threads 64 -p a --max-tokens {huge}");
    bounded("tokens", &ended(&line, &[]));
    let line = format!("chat {chat} --memory-limit 64MiB --max-tokens 3");
    let said = ended_with(tl(&line, &[]), b"a b ".repeat(16 << 20));
    assert!(said.stderr.contains("a message of "), "{}", said.stderr);
    bounded("a line without end", &said);
    let said = ended_with(tl(&line, &[]), [b"a b ".repeat(1 << 16), b"\nand?\n".to_vec()].concat());
    assert!(said.code == Some(0) && said.stderr.starts_with("error: the prompt has"), "{}", said.stderr);
    let said = ended_with(tl(&line, &[]), b"what is \xff?\n".to_vec());
    assert!(said.code == Some(1) && said.stderr.contains("not UTF-8"), "{}", said.stderr);
}

/// Grammars that are small to write down and large when they are followed.
#[cfg(feature = "grammar")]
#[test]
fn grammars() {
    let folder = Folder::new("hostile-grammars");
    let line = "generate models/demo-q8_0.gguf --memory-limit 64MiB -p a --max-tokens 3";
    for expression in ["((a{100}){100}){100}", "(a|b|c){100000}", ".*a.{200}", "[a-z]{1,50000}b", "(((a*)*)*)*b"] {
        bounded(expression, &ended(&format!("{line} --regex"), &[expression]));
    }
    let schemas = [
        ("alternatives", format!("{{\"allOf\": [{}]}}", [ALTERNATIVES; 12].join(","))),
        ("nested", format!("{}{{}}{}", "{\"items\":".repeat(50_000), "}".repeat(50_000))),
        ("brackets", "[".repeat(900_000)),
        ("long", "{\"type\": \"string\", \"minLength\": 1000000, \"maxLength\": 100000000}".to_owned()),
        ("many", format!("{{\"enum\": [{}0]}}", (1..90_000).map(|i| format!("{i},")).collect::<String>())),
    ];
    let path = folder.file("schema.json");
    for (name, schema) in schemas {
        std::fs::write(&path, schema).unwrap();
        bounded(name, &ended(&format!("{line} --json-schema"), &[&path]));
    }
}

#[cfg(feature = "grammar")]
const ALTERNATIVES: &str = r#"{"anyOf": [{"properties": {"a": {"type": "integer"}}}, {"properties": {"b": {"type": "string"}}},
    {"properties": {"c": {"type": "array"}}}, {"properties": {"d": {"type": "null"}}}]}"#;

/// Under each limit of its address space every command succeeds, or ends with one error.
#[cfg(target_os = "linux")]
#[test]
fn address_space() {
    let folder = Folder::new("hostile-space");
    let (program, small, demo) = (folder.file("program.tl"), folder.file("small.gguf"), "models/demo-q8_0.gguf");
    std::fs::write(&program, format!("let m = load_model(\"{demo}\")\nprint(generate(m, \"A\", 3))")).unwrap();
    let chat = demo_with_template(&folder);
    let commands: [(&str, &[&str]); 14] = [
        ("info", &[demo]),
        ("plan", &[demo]),
        ("plan", &[&program]),
        ("generate --max-tokens 3 --prompt A", &[demo]),
        ("run", &[&program]),
        ("check", &[&program]),
        ("bench --decode 2 --prefill 8 --reps 1", &[demo]),
        ("perplexity --windows 1 --context 32", &[demo, "README.md"]),
        ("quantize models/demo-f16.gguf", &[&small, "q4_0"]),
        ("synth --shape tiny --format q8_0", &[&small]),
        ("logits --ids 1,300", &[demo]),
        ("chat --max-tokens 3", &[&chat]),
        ("list", &[]),
        ("arch llama", &[]),
    ];
    let under = |mib: usize, line: &str, rest: &[&str]| {
        let direct = tl(line, rest);
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -v {} && exec \"$@\"", mib * 1024), "sh"]).arg(direct.get_program());
        command.args(direct.get_args()).current_dir(common::root()).env_remove("TL_DEVICE");
        ended_with(command, b"a\n".to_vec())
    };
    let mut n_limits = 0;
    for mib in [20, 26, 30, 34, 40, 46, 52, 60, 68, 76, 100, 140, 200] {
        // Where the loader has no room for the program's code, the program has no say.
        let version = under(mib, "--version", &[]);
        if version.code != Some(0) && !version.stderr.starts_with("error: out of memory") {
            continue;
        }
        n_limits += 1;
        for (line, rest) in commands {
            let name = format!("{mib} MiB, {line}");
            bounded(&name, &Ended { resident_bytes: 0, ..under(mib, line, rest) });
        }
    }
    assert!(n_limits >= 8, "{n_limits}");
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
