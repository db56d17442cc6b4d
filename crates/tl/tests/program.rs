//! The program as its users run it: what it prints, where, and how it ends.

mod common;

use std::io::Read;
use std::path::PathBuf;
use std::process::{Output, Stdio};

use common::{Folder, root, run, text, tl};

/// A file of its own for bytes that are no model.
fn temp_file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn bad_input_is_one_message_and_exit_code_1() {
    let truncated =
        temp_file("truncated.gguf", &std::fs::read(root().join("models/demo-q4_0.gguf")).unwrap()[..60_000]);
    let truncated = truncated.to_str().unwrap();
    let check = |line: &str, rest: &[&str], expected: &str| {
        let output = run(line, rest);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{line}: {stderr}");
        assert!(stderr.starts_with("error: ") && stderr.trim_end().lines().count() == 1, "{line}: {stderr}");
        assert!(stderr.contains(expected), "{line}: {stderr}");
    };
    check("generate none.gguf --prompt a", &[], "none.gguf: No such file");
    check("generate models --prompt a", &[], "models: ");
    check("generate README.md --prompt a", &[], "README.md: ");
    check("generate --prompt a", &[truncated], "outside the file of 60000 bytes");
    check("info", &[truncated], "outside the file of 60000 bytes");
    check("info Cargo.toml", &[], "Cargo.toml: not a GGUF file");
    check("generate models/demo-q4_0.gguf --temperature=-1 --prompt a", &[], "temperature is -1, expected");
    check("generate models/demo-q4_0.gguf --top-p 0 --prompt a", &[], "top_p is 0, expected");
    check("generate models/demo-q4_0.gguf --context 257 --prompt a", &[], "this model works for 1 to 256");
    check("generate models/demo-q4_0.gguf --context 2 --prompt", &["one two three"], "the context has room for 2");
    check("generate models/demo-q4_0.gguf --prompt", &[&"long ".repeat(300)], "the context has room for 256");
}

#[test]
fn the_environment_names_the_instructions() {
    let folder = Folder::new("instructions");
    let target = folder.file("x.gguf");
    let run = |line: &str, value: &str| tl(line, &[]).env("TL_CPU", value).output().unwrap();
    let devices = text(&run("devices --json", "portable").stdout);
    assert!(devices.contains(r#""instructions":"portable""#), "{devices}");
    let demo = "models/demo-f16.gguf";
    for line in [
        "devices".to_owned(),
        format!("synth {target} --shape tiny --format f16"),
        format!("quantize {demo} {target} q8_0"),
        format!("plan {demo}"),
        format!("bench {demo}"),
        format!("generate {demo} --prompt a"),
        "run examples/tensor_buffer_demo.tl".to_owned(),
    ] {
        let output = run(&line, "none");
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{line}: {stderr}");
        assert!(stderr.starts_with(r#"error: TL_CPU is "none", and this CPU has portable"#), "{line}: {stderr}");
    }
    assert!(folder.names().is_empty());
}

#[test]
fn wrong_usage_is_exit_code_2() {
    let check = |line: &str| {
        let output = run(line, &[]);
        assert_eq!(output.status.code(), Some(2), "{line}");
        assert!(output.stdout.is_empty() && text(&output.stderr).contains("--help"), "{line}");
    };
    check("");
    check("nonsense");
    check("generate models/demo-q4_0.gguf");
    check("generate models/demo-q4_0.gguf --prompt a --max-tokens many");
    check("generate models/demo-q4_0.gguf --prompt a --nonsense");
    check("info");
}

#[test]
fn help_and_version() {
    let version = run("--version", &[]);
    assert_eq!(text(&version.stdout), format!("tl {}\n", env!("CARGO_PKG_VERSION")));
    for (line, expected) in
        [("--help", "generate"), ("generate --help", "--max-tokens"), ("run --help", "--memory-stats")]
    {
        let output = run(line, &[]);
        assert!(output.status.success() && text(&output.stdout).contains(expected), "{line}");
    }
}

#[test]
fn generates_the_same_text_for_the_same_seed() {
    let generate = |rest: &str| {
        let line = format!("generate models/demo-q8_0.gguf --max-tokens 30 {rest} --prompt");
        let output = run(&line, &["A trait object"]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let first = generate("--seed 7");
    assert!(first.starts_with("A trait object") && first.ends_with('\n') && first.len() > 40, "{first}");
    assert_eq!(generate("--seed 7 --threads 1"), first);
    assert_ne!(generate("--seed 8"), first);
    let greedy = "A trait objects are not allowed to implement the trait.\n";
    assert!(generate("--temperature 0").starts_with(greedy));
    assert!(generate("--temperature 0 --activations float32").starts_with(greedy));
    assert!(generate("--top-k 1").starts_with(greedy));
    assert!(generate("--temperature 0 --cache q8_0").starts_with(greedy));
    assert_eq!(generate("--seed 7 --no-mmap"), first);
    assert_eq!(run("generate models/demo-q8_0.gguf --max-tokens 0 --prompt", &["A trait"]).stdout, b"A trait\n");
}

#[test]
fn generates_what_the_script_generates() {
    let sampling = "--temperature 0.7 --top-p 0.9 --seed 7 --max-tokens 100";
    let ours = text(&run(&format!("generate models/demo-q8_0.gguf {sampling} --prompt"), &["A trait object"]).stdout);
    let script = text(&run("run examples/generate.tl", &[]).stdout);
    let (generated, report) = script.split_once("\n\nbuffers reserved:").unwrap();
    assert_eq!(ours.trim_end(), generated.trim_end());
    assert!(report.contains("allocations while decoding: 0\n"), "{report}");
}

#[test]
fn memory_statistics_are_the_last_line_as_json() {
    let line = "generate models/demo-q4_0.gguf --max-tokens 20 --memory-stats json --prompt";
    let output = run(line, &["fn main() {"]);
    let stderr = text(&output.stderr);
    let object: serde_json::Value = serde_json::from_str(stderr.lines().last().unwrap()).unwrap();
    assert_eq!((&object["fallbacks"], &object["hit_rate"]), (&0.into(), &1.0.into()), "{object}");
    assert_eq!(object["allocations_while_decoding"], 0, "{object}");
    assert_eq!((&object["decoded_tokens"], &object["evictions"]), (&19.into(), &0.into()), "{object}");
    // One allocation for each reserved buffer, and no other.
    assert_eq!(object["allocations"], object["reserved"], "{object}");
    let rows = object["by_shape"].as_array().unwrap();
    let taken: u64 = rows.iter().map(|row| row["taken"].as_u64().unwrap()).sum();
    let bytes = |key: &str| object[key].as_u64().unwrap();
    assert_eq!(bytes("taken"), taken + bytes("arena_taken"));
    let sum = bytes("live_bytes") + bytes("reserved_free_bytes") + bytes("pooled_bytes") + bytes("waste_bytes");
    assert_eq!(sum, bytes("driver_bytes"), "{object}");
    let people = text(&run("generate models/demo-q4_0.gguf --max-tokens 2 --memory-stats --prompt a", &[]).stderr);
    assert!(people.contains("hit rate 100.0%") && people.contains("allocations while decoding: 0"), "{people}");
}

#[test]
fn info_lists_what_can_and_cannot_be_computed() {
    let output = run("info models/demo-q4_0.gguf --tensors", &[]);
    let listed = text(&output.stdout);
    for expected in [
        "architecture  llama",
        "layers        22",
        "tensors (201)",
        "blk.21.ffn_down.weight",
        "Q4_0",
        "vocabulary    1536",
    ] {
        assert!(listed.contains(expected), "{expected}: {listed}");
    }
    // The number of the output table's type, in a copy of the file: one that nobody knows.
    let mut bytes = std::fs::read(root().join("tests/data/random-q8_0.gguf")).unwrap();
    let name = bytes.windows(13).position(|window| window == b"output.weight").unwrap();
    bytes[name + 13 + 4 + 16] = 99;
    let path = temp_file("unknown.gguf", &bytes);
    let listed = text(&run("info --tensors", &[path.to_str().unwrap()]).stdout);
    assert!(listed.contains("type 99") && listed.contains("cannot be computed on"), "{listed}");
    let output = run("generate --prompt a", &[path.to_str().unwrap()]);
    let stderr = text(&output.stderr);
    assert!(output.status.code() == Some(1) && stderr.contains("`output.weight` is stored as type 99"), "{stderr}");
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let mut child = tl("generate models/demo-q4_0.gguf --max-tokens 200 --prompt a", &[])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Reads a little, and closes.
    let mut first = [0; 1];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""));
}

#[test]
fn the_pool_cap_comes_from_the_environment() {
    let check = |value: &str, code: i32, expected: &str| {
        let output = tl("generate models/demo-q4_0.gguf --max-tokens 2 --memory-stats json --prompt a", &[])
            .env("TL_BUFFER_MAX_MB", value)
            .output()
            .unwrap();
        let stderr = text(&output.stderr);
        assert!(output.status.code() == Some(code) && stderr.contains(expected), "{value}: {stderr}");
    };
    check("64", 0, "\"pool_cap_bytes\":67108864");
    check("0", 0, "\"pool_cap_bytes\":0");
    check("much", 1, "TL_BUFFER_MAX_MB is \"much\", expected a whole number of mebibytes");
    check("-1", 1, "expected a whole number");
    check("18446744073709551615", 1, "expected a whole number");
}

#[test]
fn a_context_that_memory_cannot_hold_is_an_error() {
    let mut bytes = std::fs::read(root().join("models/demo-q4_0.gguf")).unwrap();
    let key = b"llama.context_length";
    let at = bytes.windows(key.len()).position(|window| window == key).unwrap() + key.len() + 4;
    bytes[at..at + 4].copy_from_slice(&(1u32 << 28).to_le_bytes());
    let path = temp_file("huge.gguf", &bytes);
    let output = run("generate --context 268435456 --prompt a", &[path.to_str().unwrap()]);
    let stderr = text(&output.stderr);
    assert!(output.status.code() == Some(1) && stderr.contains("more than the machine has available"), "{stderr}");
}

/// A program in a file of its own, run with `args`.
fn program(name: &str, source: &str, args: &[&str]) -> Output {
    let path = temp_file(name, source.as_bytes());
    let mut rest = vec![path.to_str().unwrap()];
    rest.extend(args);
    run("run", &rest)
}

#[test]
fn the_written_out_transformers_agree() {
    // Twice what two sound passes differ by in the mean, on any instruction set: 0.0007 in float16, 0.008 behind 8-bit activations.
    for (format, tolerance) in [("f16", "0.0015"), ("q8_0", "0.015"), ("q4_0", "0.015")] {
        let model = root().join(format!("models/demo-{format}.gguf"));
        let path = root().join("tests/programs/transformers_agree.tl");
        let output = run("run", &[path.to_str().unwrap(), "--", model.to_str().unwrap(), tolerance]);
        assert_eq!(text(&output.stdout), "agree\n", "{format}: {}", text(&output.stderr));
    }
}

#[test]
fn programs_run_with_arguments_and_exit_codes() {
    let check = |name: &str, source: &str, args: &[&str], code: i32, stdout: &str| {
        let output = program(name, source, args);
        let stderr = text(&output.stderr);
        assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(code), stdout), "{stderr}");
    };
    check("hello.tl", "print(\"hello\", 1 + 1)", &[], 0, "hello 2\n");
    check("args.tl", "print(args())", &["--", "a b", "--c"], 0, "[\"a b\", \"--c\"]\n");
    check("exit.tl", "print(1)\nexit(3)\nprint(2)", &[], 3, "1\n");
    check("empty.tl", "", &[], 0, "");
}

/// A program names a model as a user does, also by what the caches call it.
#[test]
fn programs_load_models_by_name() {
    let hub = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("named-hub");
    let repository = hub.join("models--someone--demo-gguf");
    let snapshot = repository.join("snapshots/0123456789abcdef0123456789abcdef01234567");
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::create_dir_all(repository.join("refs")).unwrap();
    std::fs::write(repository.join("refs/main"), "0123456789abcdef0123456789abcdef01234567").unwrap();
    std::fs::copy(root().join("models/demo-q8_0.gguf"), snapshot.join("demo-q8_0.gguf")).unwrap();
    let source = b"let m = load_model(args()[0])\nprint(m.config.dim, len(tokenize(load_tokenizer(args()[0]), \"a\")))";
    let path = temp_file("named.tl", source);
    let named =
        |name: &str| tl("run", &[path.to_str().unwrap(), "--", name]).env("HF_HUB_CACHE", &hub).output().unwrap();
    let output = named("someone/demo-gguf");
    assert_eq!(text(&output.stdout), "96 2\n", "{}", text(&output.stderr));
    let stderr = text(&named("someone/other").stderr);
    assert!(stderr.contains("named.tl:1:9") && stderr.contains("tl pull someone/other"), "{stderr}");
}

#[test]
fn what_is_wrong_with_a_program_is_shown_at_its_place() {
    let check = |name: &str, source: &str, place: &str, expected: &str| {
        let output = program(name, source, &[]);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{name}: {stderr}");
        let line = source.lines().nth(place.split(':').next().unwrap().parse::<usize>().unwrap() - 1).unwrap();
        for part in ["error", &format!("{name}:{place}"), line, expected] {
            assert!(stderr.contains(part), "{name}: {part:?} is not in: {stderr}");
        }
    };
    check("syntax.tl", "let x = (1 + \nprint(x)", "1:9", "never closed");
    check("shape.tl", "let a = ones([8, 512])\nlet b = a @ ones([256, 128])", "2:9", "the inner sizes differ");
    check("type.tl", "let x: int = \"one\"", "1:14", "");
    check("name.tl", "let x = 1\nprimt(x)", "2:1", "print");
    check("zero.tl", "let zero = len([])\nprint(1 / zero)", "2:7", "division by zero");
    check("index.tl", "let x = [1, 2, 3]\nlet i = len(x)\nprint(x[i])", "3:7", "3");
    check("assert.tl", "assert(1 == 2, \"one is not two\")", "1:1", "one is not two");
    check("model.tl", "let m = load_model(\"none.gguf\")", "1:9", "none.gguf: No such file");
    check("caller.tl", "fn half(n: int) -> int { n / (n - n) }\nprint(half(4))", "1:26", "in `half`, called at");
}

#[test]
fn plots_are_written() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("plots-{}", std::process::id()));
    let source = "plot([1, 2.5, -1], title: \"a < b\")\nplot(ones([2, 3]), \"heat\")\nplot([[1, 2], [3]])\nplot([3, 4], \"bars\")";
    let path = temp_file("plots.tl", source.as_bytes());
    let output = run("run", &[path.to_str().unwrap(), "--plots", folder.to_str().unwrap()]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
    for (number, part) in [(1, "a &lt; b"), (2, "<rect"), (3, "<polyline"), (4, "<rect")] {
        let svg = std::fs::read_to_string(folder.join(format!("plot-{number}.svg"))).unwrap();
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n") && svg.contains(part), "{svg}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
    let output = run("run", &[path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stderr).matches("plots are not kept").count(), 1);
    for (source, expected) in [
        ("plot(3)", "a tensor or a list is drawn, not int"),
        ("plot([])", "there is nothing to draw"),
        ("plot([1], \"pie\")", "there is no kind \"pie\""),
        ("plot(ones([2, 2, 2]))", "one or two dimensions"),
        ("plot(ones([2, 2]), \"bars\")", "bars are of one row"),
        ("plot([\"a\"])", "numbers are drawn, not string"),
        ("plot(zeros([300, 300]))", "at most 65536 numbers"),
    ] {
        let path = temp_file("plot-errors.tl", source.as_bytes());
        let output = run("run", &[path.to_str().unwrap()]);
        assert!(
            output.status.code() == Some(1) && text(&output.stderr).contains(expected),
            "{source}: {}",
            text(&output.stderr)
        );
    }
}

#[test]
fn programs_that_cannot_be_read() {
    let check = |path: &str, expected: &str| {
        for command in ["run", "check"] {
            let output = run(command, &[path]);
            let stderr = text(&output.stderr);
            assert!(output.status.code() == Some(1) && stderr.starts_with("error: "), "{command} {path}: {stderr}");
            assert!(stderr.contains(expected), "{command} {path}: {stderr}");
        }
    };
    check("none.tl", "none.tl: No such file");
    check("examples/memory-locks", "examples/memory-locks: ");
    check("models/demo-q4_0.gguf", "is not UTF-8");
    check(temp_file("latin.tl", b"print(\"\xe9\")").to_str().unwrap(), "byte 7 is not UTF-8");
}

#[test]
fn check_finds_errors_without_running() {
    let path = temp_file("check.tl", b"print(\"ran\")\nlet x = nonsense(1)");
    let output = run("check", &[path.to_str().unwrap()]);
    let stderr = text(&output.stderr);
    assert!(output.status.code() == Some(1) && output.stdout.is_empty() && stderr.contains("nonsense"), "{stderr}");
    for example in ["generate.tl", "generate_naive.tl", "tensor_buffer_demo.tl"] {
        let output = run("check", &[&format!("examples/{example}")]);
        assert!(output.status.success() && output.stdout.is_empty(), "{example}: {}", text(&output.stderr));
    }
}

#[test]
fn imports_are_relative_to_the_file_that_imports() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("imports");
    std::fs::create_dir_all(folder.join("inner")).unwrap();
    let write = |path: &str, source: &str| std::fs::write(folder.join(path), source).unwrap();
    write("main.tl", "import \"inner/a.tl\"\nimport \"inner/../b.tl\"\nprint(twice(21))");
    write("inner/a.tl", "import \"../b.tl\"\nfn twice(n: int) -> int { sum_of(n, n) }");
    write("b.tl", "fn sum_of(a: int, b: int) -> int { a + b }");
    write("cycle.tl", "import \"inner/back.tl\"");
    write("inner/back.tl", "import \"../cycle.tl\"");
    write("lost.tl", "import \"none.tl\"");
    let check = |file: &str, code: i32, expected: &str| {
        let output = run("run", &[folder.join(file).to_str().unwrap()]);
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{file}: {stderr}");
        assert!(stdout.contains(expected) || stderr.contains(expected), "{file}: {stdout}{stderr}");
    };
    check("main.tl", 0, "42\n");
    check("cycle.tl", 1, "cycle");
    check("lost.tl", 1, "No such file");
    // The same file under the working folder, whose name is then short.
    let output = tl("run main.tl", &[]).current_dir(&folder).output().unwrap();
    assert_eq!(text(&output.stdout), "42\n", "{}", text(&output.stderr));
}

#[test]
fn a_program_ends_when_nobody_reads_it() {
    let path = temp_file("endless.tl", b"loop { print(\"again\") }");
    let mut child = tl("run", &[path.to_str().unwrap()]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 1];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""));
}

#[test]
fn statistics_of_a_program() {
    let path = temp_file("stats.tl", b"buffer_reserve([8, 8], 2)\nlet x = ones([8, 8])\nassert(false, \"stop\")");
    let output = run("run --memory-stats json", &[path.to_str().unwrap()]);
    let stderr = text(&output.stderr);
    let object: serde_json::Value = serde_json::from_str(stderr.lines().last().unwrap()).unwrap();
    // Also of one that failed.
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        (&object["reserved"], &object["taken"], &object["fallbacks"]),
        (&2.into(), &1.into(), &0.into()),
        "{object}"
    );
}
