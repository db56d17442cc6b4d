//! `tl plan` and `tl synth` as their users run them, and the limit that `tl generate` is given.

mod common;

use std::path::PathBuf;

use serde_json::Value;

use common::{run, text};

/// What the command prints where it succeeds.
fn printed(line: &str, rest: &[&str]) -> String {
    let output = run(line, rest);
    assert!(output.status.success(), "{line}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// The command fails with this exit code and a message with this in it.
fn check_failure(line: &str, rest: &[&str], code: i32, expected: &str) {
    let output = run(line, rest);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{line}: {stderr}");
    assert!(stderr.starts_with("error: ") && stderr.contains(expected), "{line}: {stderr}");
    assert!(code != 1 || stderr.trim_end().lines().count() == 1, "{line}: {stderr}");
    assert!(output.stdout.is_empty(), "{line}");
}

fn temp_path(name: &str) -> String {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name).to_str().unwrap().to_owned()
}

fn plan(line: &str) -> Value {
    serde_json::from_str(&printed(&format!("plan --json {line}"), &[])).unwrap()
}

#[test]
fn a_synthetic_model_generates() {
    for format in ["f32", "F16", "bf16", "q8_0", "Q4_0"] {
        let path = temp_path(&format!("synthetic-{format}.gguf"));
        let said = printed(&format!("synth --shape tiny --format {format} --seed 3"), &[&path]);
        let len = std::fs::metadata(&path).unwrap().len();
        assert!(said.contains(&format!("({len} bytes)")), "{said}");
        let info = printed("info", &[&path]);
        assert!(info.contains("synthetic-tiny") && info.contains("SentencePiece BPE, 512 tokens"), "{info}");
        assert!(info.contains(&format.to_uppercase()), "{info}");
        let generated = printed("generate --max-tokens 5 --prompt tea", &[&path]);
        assert!(generated.starts_with("tea"), "{generated}");
        // The same seed gives the same bytes, in the place of those that were there.
        let before = std::fs::read(&path).unwrap();
        printed(&format!("synth --shape tiny --format {format} --seed 3 --threads 1"), &[&path]);
        assert!(before == std::fs::read(&path).unwrap(), "{format}");
    }
}

#[test]
fn what_cannot_be_written() {
    let path = temp_path("never.gguf");
    check_failure("synth --shape huge --format f16", &[&path], 1, "no shape `huge`; there are tinyllama-1.1b, tiny");
    check_failure("synth --shape tiny --format q9", &[&path], 1, "no format to write weights in `q9`; there are f32");
    check_failure("synth --shape tiny --format f16 none/x.gguf", &[], 1, "none/x.gguf cannot be written: No such file");
    check_failure("synth --shape tiny --format f16 models", &[], 1, "is a directory");
    check_failure("synth --shape tiny --format f16", &[], 2, "<OUT>");
    assert!(!std::fs::exists(&path).unwrap());
}

#[test]
fn a_plan_is_a_table_or_an_object() {
    let table = printed("plan models/demo-q8_0.gguf --context 100", &[]);
    for expected in
        ["100 tokens of context, float16", "weights  ", "KV cache  ", "activations  ", "total  ", "buffers\n"]
    {
        assert!(table.contains(expected), "{table}");
    }
    assert!(table.contains("44 × float16[100, 1, 32]"), "{table}");
    let object = plan("models/demo-q8_0.gguf --context 100 --memory-limit 1GiB");
    let part = |key: &str| object[key].as_u64().unwrap();
    assert_eq!(part("cache_bytes"), 44 * 100 * 32 * 2);
    let parts = ["weight_bytes", "cache_bytes", "activation_bytes", "workspace_bytes", "heap_bytes"].map(part);
    assert_eq!(part("total_bytes"), parts.iter().sum::<u64>());
    assert_eq!((&object["fits"], part("longest_context")), (&Value::Bool(true), 256));
    let float32 = plan("models/demo-q8_0.gguf --context 100 --activations float32");
    assert_eq!(float32["cache_bytes"].as_u64(), Some(44 * 100 * 32 * 4));
    let eight = plan("models/demo-q8_0.gguf --context 100 --cache q8_0");
    assert_eq!((eight["cache_bytes"].as_u64(), &eight["cache"]), (Some(44 * 100 * 34), &"q8_0".into()));
    let table = printed("plan models/demo-q8_0.gguf --context 100 --cache q8_0", &[]);
    assert!(
        table.contains("float16 activations, KV cache in q8_0\n") && table.contains("44 × q8_0[100, 1, 32]"),
        "{table}"
    );
    // The whole context of the model where none is given.
    assert_eq!(plan("models/demo-q8_0.gguf")["context"].as_u64(), Some(256));
}

/// The least of all bounds decides, and the plan names it: here limits of the process itself.
#[test]
#[cfg(target_os = "linux")]
fn a_plan_knows_the_limits_of_its_process() {
    let limited = |limit: &str, rest: &str| {
        let line = format!("ulimit {limit}; exec \"$0\" {rest}");
        let output = std::process::Command::new("sh")
            .args(["-c", &line, env!("CARGO_BIN_EXE_tl")])
            .current_dir(common::root())
            .output()
            .unwrap();
        (text(&output.stdout), text(&output.stderr), output.status.code())
    };
    let plan = |limit: &str, rest: &str| -> Value {
        let (stdout, stderr, _) = limited(limit, &format!("plan models/demo-q8_0.gguf --json {rest}"));
        serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stderr}"))
    };
    let of_space = plan("-v 150000", "");
    assert!(of_space["available_bytes"].as_u64().unwrap() < 150_000 << 10, "{of_space}");
    assert_eq!(of_space["available_in"], "the limit of the address space (ulimit -v)");
    assert_eq!(plan("-d 120000", "")["available_in"], "the limit of data (ulimit -d)");
    // A limit of the user's beside it: the lesser decides.
    assert_eq!(plan("-v 150000", "--memory-limit 1GiB")["fits"], true);
    assert_eq!(plan("-v 150000", "--memory-limit 1MB")["fits"], false);
    let (table, ..) = limited("-v 150000", "plan models/demo-q8_0.gguf");
    assert!(table.contains("\nulimit -v leaves "), "{table}");
}

/// A script that keeps each head's keys and values three times takes three times the cache.
#[test]
fn a_plan_for_another_script() {
    let script = printed("arch llama", &[]);
    let tripled = script.replace("_cache(q, k, v,", "_cache(q, concat([k, k, k], 1), concat([v, v, v], 1),");
    let (same_path, tripled_path) = (temp_path("same.tl"), temp_path("tripled.tl"));
    std::fs::write(&same_path, script).unwrap();
    std::fs::write(&tripled_path, tripled).unwrap();
    let cache = |path: &str| {
        let object = printed("plan --json models/demo-q8_0.gguf --arch", &[path]);
        serde_json::from_str::<Value>(&object).unwrap()["cache_bytes"].as_u64().unwrap()
    };
    assert_eq!(cache(&same_path), plan("models/demo-q8_0.gguf")["cache_bytes"].as_u64().unwrap());
    assert_eq!(cache(&tripled_path), 3 * cache(&same_path));
    check_failure("plan models/demo-q8_0.gguf --arch none.tl", &[], 1, "none.tl: No such file");
    check_failure("plan examples/generate.tl --arch none.tl", &[], 2, "unexpected argument '--arch'");
}

#[test]
fn a_plan_that_does_not_fit_is_an_answer() {
    let small = plan("models/demo-q8_0.gguf --context 100")["total_bytes"].as_u64().unwrap();
    let line = format!("plan models/demo-q8_0.gguf --memory-limit {small}");
    let table = printed(&line, &[]);
    assert!(table.contains("does not fit") && table.contains("longest that fits      100 tokens\n"), "{table}");
    let none = plan("models/demo-q8_0.gguf --memory-limit 1kB");
    assert_eq!((&none["fits"], &none["longest_context"]), (&Value::Bool(false), &Value::Null));
    check_failure("plan models/demo-q8_0.gguf --context 257", &[], 1, "this model works for 1 to 256");
    check_failure("plan models/demo-q8_0.gguf --context 0", &[], 1, "this model works for 1 to 256");
    check_failure("plan none.gguf", &[], 1, "none.gguf: No such file");
    check_failure("generate none.gguf --no-mmap --prompt x", &[], 1, "none.gguf: No such file");
    check_failure("generate models --no-mmap --prompt x", &[], 1, "give the path of one of demo-f16.gguf");
    check_failure("plan README.md", &[], 1, "README.md: ");
    check_failure("plan models/demo-q8_0.gguf --memory-limit many", &[], 2, "expected a size such as 300MB");
    check_failure("plan models/demo-q8_0.gguf --arena", &[], 2, "unexpected argument '--arena'");
}

/// What `tl plan` says is what the kernel can hold the process to: a text to the end of the context runs within it, and less is refused
/// with a message.
#[test]
#[cfg(target_os = "linux")]
fn the_kernel_holds_a_process_to_what_was_said() {
    for (model, context, rest) in [
        ("models/demo-q8_0.gguf", 256, ""),
        ("models/demo-q8_0.gguf", 64, "--cache q8_0"),
        ("models/demo-f16.gguf", 128, "--no-mmap"),
        ("models/demo-q4_0.gguf", 256, "--threads 1"),
    ] {
        let of_plan = if rest.contains("cache") { rest } else { "" };
        let total = plan(&format!("{model} --context {context} {of_plan}"))["total_bytes"].as_u64().unwrap();
        let generate = |limit: u64| {
            let tokens = context - 1;
            format!(
                "generate {model} --context {context} --max-tokens {tokens} --temperature 0 --enforce --memory-limit {limit} {rest} --prompt trait"
            )
        };
        assert!(printed(&generate(total), &[]).len() > 100, "{model}");
        check_failure(&generate(total / 100 * 98), &[], 1, "the longest context that fits");
    }
    check_failure("generate models/demo-q8_0.gguf --enforce --prompt a", &[], 2, "--memory-limit");
    // A program that asks for more ends with a message all the same.
    let (program, endless) = (temp_path("enforced.tl"), "let l = [1.5]\nwhile true { l = [l, 1] }");
    std::fs::write(&program, endless).unwrap();
    let output = run("run --memory-limit 32MiB --enforce", &[&program]);
    assert!(output.status.code() == Some(1) && text(&output.stderr).contains("over the memory limit"));
}

#[test]
fn a_limit_bounds_all_that_generating_takes() {
    let total = plan("models/demo-q8_0.gguf --context 60")["total_bytes"].as_u64().unwrap();
    let generate =
        |limit: u64| format!("generate models/demo-q8_0.gguf --context 60 --memory-limit {limit} --prompt trait");
    assert!(printed(&generate(total), &[]).starts_with("trait"));
    let stats = run(&(generate(total) + " --memory-stats=json"), &[]);
    let stats: Value = serde_json::from_str(text(&stats.stderr).lines().last().unwrap()).unwrap();
    let held = ["driver_bytes", "workspace_bytes", "mapped_bytes"].map(|key| stats[key].as_u64().unwrap());
    // The heap has its bound, the rest is exact.
    let of_heap = total - held.iter().sum::<u64>();
    let heap = stats["heap_peak_bytes"].as_u64().unwrap();
    assert!(heap <= of_heap && of_heap <= heap + (1 << 20), "{heap} of {of_heap}");
    let said = format!("({total} bytes): weights 2.5 MiB");
    check_failure(&generate(total - 1), &[], 1, &said);
    check_failure(&generate(total - 1), &[], 1, "the longest context that fits: 59 tokens");
    check_failure(&generate(1000), &[], 1, "not even one token fits");
    check_failure("generate models/demo-q8_0.gguf --memory-limit 5e8 --prompt a", &[], 2, "expected a size");
    assert!(
        printed("generate models/demo-q8_0.gguf --memory-limit 300MB --max-tokens 3 --prompt trait", &[]).len() > 5
    );
}

#[test]
fn a_lock_names_the_lines_that_take_more() {
    let folder = common::Folder::new("lock");
    let (program, lock) = (folder.file("step.tl"), folder.file("step.lock"));
    std::fs::write(folder.file("layer.tl"), "fn twice(x: float16[n]) -> float16[n] { x + x }\n").unwrap();
    let write = |body: &str| std::fs::write(&program, format!("import \"layer.tl\"\n\n{body}")).unwrap();
    let first = "let x = ones([512])\nlet y = twice(x)\nprint(sum(y))\n";
    write(first);
    assert!(printed("plan", &[&program, "--lock", &lock]).contains("buffer_reserve([512], 2)"));
    let text = std::fs::read_to_string(&lock).unwrap();
    for part in [
        "tl memory lock 1\n",
        "\nof step.tl\n",
        "exact float16[512] 2\n",
        "  layer.tl: fn twice",
        "  step.tl: let x = ones([512])\n",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains(folder.0.to_str().unwrap()), "{text}");
    assert_eq!(folder.names(), ["layer.tl", "step.lock", "step.tl"]);
    // The same with other threads, another cap of the pool, and lines that have moved.
    printed("plan --threads 3", &[&program, "--lock", &folder.file("again.lock")]);
    assert_eq!(std::fs::read_to_string(folder.file("again.lock")).unwrap(), text);
    write(&format!("\n// a remark\n{first}"));
    let unpooled = common::tl("plan", &[&program, "--check", &lock]).env("TL_BUFFER_MAX_MB", "0").output().unwrap();
    assert_eq!(unpooled.status.code(), Some(0), "{}", common::text(&unpooled.stderr));
    let check = |code: i32, parts: &[&str]| {
        let output = run("plan", &[&program, "--check", &lock]);
        let said = text_of(&output);
        assert_eq!(output.status.code(), Some(code), "{said}");
        parts.iter().for_each(|part| assert!(said.contains(part), "{part}: {said}"));
    };
    check(0, &["has not grown beyond"]);
    write(&(first.replace("let y", "let more = softmax(x, 0)\nlet y") + "print(sum(more))\n"));
    check(
        1,
        &[
            "error: the memory of step.tl has grown beyond",
            "peak_live_bytes: 2.0 KiB -> 3.0 KiB",
            "float16[512]: 2 -> 3\n",
            "step.tl:4: let more = softmax(x, 0)  (new here)\n",
        ],
    );
    write(&first.replace("512", "256"));
    check(
        0,
        &["has not grown", "what shrank", "float16[512] is now float16[256]", "peak_live_bytes: 2.0 KiB -> 1.0 KiB"],
    );
    check_lock_files(&folder, &program, &lock);
}

fn text_of(output: &std::process::Output) -> String {
    common::text(&output.stdout) + &common::text(&output.stderr)
}

/// Files that are no locks, and locks of something else.
fn check_lock_files(folder: &common::Folder, program: &str, lock: &str) {
    let whole = std::fs::read_to_string(lock).unwrap();
    let bad = folder.file("bad.lock");
    let check = |contents: &[u8], expected: &str| {
        std::fs::write(&bad, contents).unwrap();
        let output = run("plan", &[program, "--check", &bad]);
        let said = text_of(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.lines().last().unwrap().starts_with(&format!("error: {bad}: ")) && said.contains(expected),
            "{said}"
        );
    };
    check(b"exact float16[8] 1\n", "this is no memory lock");
    check(b"\xff\xfe", "it is not text");
    check(whole.replace("lock 1", "lock 2").as_bytes(), "this tl reads version 1");
    check(whole.split_once("layouts").unwrap().0.as_bytes(), "the end of this memory lock is missing");
    check(whole.replace("step.tl\n", "other.tl\n").as_bytes(), "the lock of other.tl, not of step.tl");
    check(&vec![b' '; 5 << 20], "too long for a memory lock");
    check_failure("plan models/demo-q8_0.gguf --check", &[&bad], 1, "too long");
    for (rest, code, expected) in [
        (["--check", "none.lock"], 1, "none.lock: No such file"),
        (["--lock", "/none/there.lock"], 1, "cannot be written"),
        (["--device=gpu", "--lock=x.lock"], 1, "a memory lock is of the CPU"),
        (["--check=x.lock", "--lock=x.lock"], 2, "cannot be used with"),
    ] {
        let output = run("plan", &[&[program], &rest[..]].concat());
        assert!(output.status.code() == Some(code) && text_of(&output).contains(expected), "{}", text_of(&output));
    }
    std::fs::write(folder.file("failing.tl"), "exit(3)").unwrap();
    let output = run("plan", &[&folder.file("failing.tl"), "--lock", &bad]);
    assert!(output.status.code() == Some(1) && text_of(&output).contains("ended with exit code 3"));
}

#[test]
fn a_lock_of_a_model() {
    let folder = common::Folder::new("model-lock");
    let lock = folder.file("demo.lock");
    printed("plan models/demo-q8_0.gguf --context 100 --lock", &[&lock]);
    let text = std::fs::read_to_string(&lock).unwrap();
    for part in [
        "of demo-q8_0.gguf\nfor activations float16\n",
        "for context 100\n",
        "cache_bytes 281600\n",
        "exact float16[100, 1, 32] 44\n",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let same = printed("plan models/demo-q8_0.gguf --context 100 --check", &[&lock]);
    assert!(same.contains("has not grown"), "{same}");
    std::fs::write(&lock, text.replace("cache_bytes 281600", "cache_bytes 281599").replace("32] 44", "32] 45"))
        .unwrap();
    let output = run("plan models/demo-q8_0.gguf --context 100 --check", &[&lock]);
    let said = text_of(&output);
    assert!(
        output.status.code() == Some(1)
            && said.contains("cache_bytes: 275.0 KiB -> 275.0 KiB (281599 -> 281600 bytes)"),
        "{said}"
    );
    assert!(said.contains("float16[100, 1, 32]: 45 -> 44"), "{said}");
    check_failure(
        "plan models/demo-q8_0.gguf --context 99 --check",
        &[&lock],
        1,
        "and what runs has activations float16, cache float16, context 99",
    );
}
