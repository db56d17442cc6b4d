//! The options that reserve, limit, seal and show memory, as users run them.

mod common;

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use common::{root, run, text};

/// What a command that succeeds prints on standard output and on standard error.
fn printed(line: &str, rest: &[&str]) -> (String, String) {
    let output = run(line, rest);
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{line}: {stderr}");
    (stdout, stderr)
}

fn temp_path(name: &str) -> String {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name).to_str().unwrap().to_owned()
}

fn temp_file(name: &str, contents: &str) -> String {
    let path = temp_path(name);
    std::fs::write(&path, contents).unwrap();
    path
}

/// The example that generates text, with its own reservations left out.
fn generate_unreserved(name: &str, head: &str) -> String {
    let source = std::fs::read_to_string(root().join("examples/generate.tl")).unwrap();
    let (before, rest) = source.split_once("// What one step of n").unwrap();
    let (_, main) = rest.split_once("main {").unwrap();
    let reserves =
        |line: &&str| line.trim_start().starts_with("buffer_reserve") || line.trim_start().starts_with("reserve_step");
    let lines: Vec<&str> = main.lines().filter(|line| !reserves(line)).collect();
    temp_file(name, &format!("{before}main {{\n{head}{}\n", lines.join("\n")))
}

/// The generated text, without the figures behind it.
fn generated(stdout: &str) -> &str {
    stdout.split_once("\n\nbuffers reserved:").unwrap().0
}

#[test]
fn reports_and_traces_are_written() {
    let (page, trace) = (temp_path("report.html"), temp_path("trace.json"));
    let commands: [(&str, &[&str]); 2] = [
        ("run examples/generate.tl", &[]),
        ("generate models/demo-q8_0.gguf --max-tokens 10", &["--prompt", "A trait object"]),
    ];
    for (line, rest) in commands {
        printed(line, &[&["--memory-report", &page, "--memory-trace", &trace], rest].concat());
        let html = std::fs::read_to_string(&page).unwrap();
        for part in ["<!doctype html>", "buffer_reserve([1, 96], 3)", "float16[1, 1536]</td>", "rms_norm", "</html>"] {
            assert!(html.contains(part), "{line}: {part}");
        }
        assert!(!html.contains("http"), "{line}: the page needs something else");
        let object: Value = serde_json::from_slice(&std::fs::read(&trace).unwrap()).unwrap();
        let events = object["traceEvents"].as_array().unwrap();
        let of = |phase: &str| events.iter().filter(|event| event["ph"] == phase).count();
        assert!(of("X") > 1000 && of("C") > 1000 && of("M") > 10, "{line}");
        let has_places = events.iter().any(|event| event["args"]["place"] == "examples/generate.tl:11");
        assert_eq!(has_places && html.contains("examples/generate.tl:11"), line.starts_with("run"), "{line}");
        std::fs::remove_file(&page).unwrap();
        std::fs::remove_file(&trace).unwrap();
    }
    let failing = temp_file("failing.tl", "let x = ones([7, 9])\nassert(false, \"stop\")");
    assert_eq!(run("run", &["--memory-report", &page, &failing]).status.code(), Some(1));
    assert!(std::fs::read_to_string(&page).unwrap().contains("float16[7, 9]"), "also of a program that failed");
}

#[test]
fn reports_and_traces_of_a_million_events_stay_small() {
    let (page, trace) = (temp_path("million.html"), temp_path("million.json"));
    let source =
        "let x = ones([8])\nfor i in 0..250000 { let y = softmax(x, 0)\nlet z = softmax(y, 0) }\nprint(\"done\")";
    let program = temp_file("million.tl", source);
    let (_, stderr) =
        printed("run --memory-stats=json", &["--memory-report", &page, "--memory-trace", &trace, &program]);
    let stats: Value = serde_json::from_str(stderr.lines().last().unwrap()).unwrap();
    let recording = stats["recording_bytes"].as_u64().unwrap();
    assert!((1 << 20..=64 << 20).contains(&recording), "{recording}");
    for path in [&page, &trace] {
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.len() <= 5_000_000, "{path}: {}", text.len());
        assert!(text.contains("of 500001 tensors are drawn"), "{path}");
    }
    assert!(
        std::fs::read_to_string(&page).unwrap().contains("<td>softmax</td><td>500000</td>"),
        "the tables count all"
    );
    // The plan is exact.
    assert!(printed("plan", &[&program]).0.starts_with("buffer_reserve([8], 3) "));
}

#[test]
fn a_report_that_cannot_be_written_is_refused_before_the_run() {
    let program = temp_file("prints.tl", "print(\"ran\")");
    for option in ["--memory-report", "--memory-trace"] {
        for path in ["/none/there.html", env!("CARGO_TARGET_TMPDIR")] {
            let output = run("run", &[option, path, &program]);
            let stderr = text(&output.stderr);
            assert!(output.status.code() == Some(1) && output.stdout.is_empty(), "{stderr}");
            assert!(stderr.contains(path) && stderr.contains("cannot be written"), "{stderr}");
        }
    }
}

#[test]
fn limits_hold() {
    let program = temp_file("large.tl", "let x = ones([1000, 1000])\nprint(\"done\")");
    let check = |limit: &str, code: i32, expected: &str| {
        let output = run("run --memory-limit", &[limit, &program]);
        let stderr = text(&output.stderr);
        assert!(output.status.code() == Some(code) && stderr.contains(expected), "{limit}: {stderr}");
    };
    check("1MB", 1, "of the limit of 976.6 KiB");
    check("1MB", 1, "float16[1000, 1000]");
    check("3MB", 0, "");
    check("4000000", 0, "");
    check("lots", 2, "expected a size");
    check("-3", 2, "");
    let plan = temp_file("large.plan", "exact float16[1000, 1000] 3\n");
    let output = run("run --memory-limit 5MB --plan", &[&plan, &program]);
    assert!(output.status.code() == Some(1) && text(&output.stderr).contains("limit"), "{}", text(&output.stderr));
}

#[test]
fn the_soft_limit_empties_the_pool() {
    let source = "fn once(n: int) { let x = ones([n]) }\nfor i in 1..6 { once(100000 * i) }";
    let program = temp_file("sizes.tl", source);
    let pooled = |rest: &[&str]| {
        let (_, stderr) = printed("run --memory-stats=json", &[rest, &[&program]].concat());
        let object: Value = serde_json::from_str(stderr.lines().last().unwrap()).unwrap();
        object["pooled_bytes"].as_u64().unwrap()
    };
    let without = pooled(&[]);
    assert!(without > 2_000_000, "{without}");
    assert!(pooled(&["--soft-memory-limit", "1MB"]) < without / 2);
}

#[test]
fn sealed_programs_name_what_they_would_allocate() {
    printed("run --sealed examples/generate.tl", &[]);
    let program = generate_unreserved("sealed.tl", "");
    let output = run("run --sealed", &[&program]);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    for part in
        ["memory is sealed", "float16[103, 1, 32]", "buffer_reserve([103, 1, 32], 1)", "sealed.tl:", "kv_cache("]
    {
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
    // Sealing begins with the first tensor, which must have been reserved itself; so must everything after it.
    let silent = temp_file("silent.tl", "let x = ones([8])");
    assert_eq!(run("run --sealed", &[&silent]).status.code(), Some(1), "the first tensor was not reserved");
    let late = temp_file("late.tl", "buffer_reserve([8], 1)\nlet x = ones([8])\nbuffer_reserve([9], 1)");
    let stderr = text(&run("run --sealed", &[&late]).stderr);
    assert!(stderr.contains("memory is sealed") && stderr.contains("late.tl:3:1"), "{stderr}");
    let good = temp_file("good.tl", "buffer_reserve([8], 1)\nprint(sum(ones([8]) as float32))");
    assert!(text(&run("run --sealed", &[&good]).stderr).contains("float32[8]"), "one buffer is not enough");
    let none = temp_file("none.plan", "");
    assert_eq!(run("run --sealed --plan", &[&none, &silent]).status.code(), Some(1), "sealed from the start");
}

/// `generate` reserves for itself, before a device is sealed by its first tensor, and a plan or an arena has its memory too.
#[test]
fn sealed_programs_generate() {
    let source = "let m = load_model(\"models/demo-q8_0.gguf\")\nfor i in 0..3 { print(generate(m, \"A trait\", 9, temperature: 0)) }";
    let (program, plan) = (temp_file("generates.tl", source), temp_path("generates.plan"));
    let (alone, _) = printed("run", &[&program]);
    assert_eq!(alone.lines().collect::<std::collections::HashSet<_>>().len(), alone.lines().count() / 3, "{alone}");
    printed("plan", &[&program, "-o", &plan]);
    for options in [
        "--sealed",
        "--threads 3 --sealed",
        "--arena --sealed",
        "--tune=1 --sealed",
        &format!("--plan {plan} --sealed"),
    ] {
        assert_eq!(printed(&format!("run {options}"), &[&program]).0, alone, "{options}");
    }
    let late = temp_file("generates_late.tl", &format!("buffer_reserve([8], 1)\nlet x = ones([8])\n{source}"));
    let output = run("run --sealed", &[&late]);
    let stderr = text(&output.stderr);
    assert!(output.status.code() == Some(1) && stderr.contains("with --sealed before the first tensor"), "{stderr}");
}

#[test]
fn a_plan_serves_the_program_that_it_was_made_for() {
    let (program, plan) = (generate_unreserved("planned.tl", ""), temp_path("planned.plan"));
    let (lines, stderr) = printed("plan", &[&program, "-o", &plan]);
    assert!(stderr.starts_with("A trait object"), "the output goes to standard error: {stderr}");
    let (alone, _) = printed("run", &[&program]);
    let (planned, stderr) = printed("run --sealed", &["--plan", &plan, &program]);
    assert_eq!(generated(&planned), generated(&alone));
    assert!(planned.contains("100.0%, fallbacks: 0") && stderr.is_empty(), "{planned}{stderr}");
    // As for a program whose cache is kept in blocks.
    let source = std::fs::read_to_string(&program).unwrap().replace("context)\n", "context, q8_0)\n");
    let in_blocks = temp_file("blocks.tl", &source);
    printed("plan", &[&in_blocks, "-o", &plan]);
    assert!(std::fs::read_to_string(&plan).unwrap().contains("exact q8_0[103, 1, 32] 44\n"));
    let (stdout, stderr) = printed("run --sealed", &["--plan", &plan, &in_blocks]);
    assert!(stdout.contains("100.0%, fallbacks: 0") && stderr.is_empty(), "{stdout}{stderr}");
    // The lines can be put into the program as they are.
    let pasted = generate_unreserved("pasted.tl", &lines);
    let (stdout, stderr) = printed("run --sealed", &[&pasted]);
    assert!(stdout.contains("100.0%, fallbacks: 0") && stderr.is_empty(), "{stdout}{stderr}");
    assert_eq!(generated(&stdout), generated(&alone));
}

#[test]
fn a_plan_that_does_not_fit_is_told_of() {
    let program = temp_file("misfit.tl", "let x = ones([8, 8])\nlet y = ones([8, 8])\nprint(sum(x + y))");
    let plan = temp_file("misfit.plan", "# a remark\nexact float16[8, 8] 1\nup_to float16[99, 3] 2\n");
    let (_, stderr) = printed("run", &["--plan", &plan, &program]);
    for part in ["the plan does not fit", "never used: buffer_reserve_up_to([99, 3], 2)", "not enough: float16[8, 8]"] {
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
    let check = |contents: &str, expected: &str| {
        let output = run("run --plan", &[&temp_file("wrong.plan", contents), &program]);
        let stderr = text(&output.stderr);
        assert!(output.status.code() == Some(1) && stderr.contains(expected), "{stderr}");
        assert!(output.stdout.is_empty() && stderr.contains("wrong.plan"), "{stderr}");
    };
    check("exact float16[8, 8] 1\nsome", "line 2 of the plan");
    check("exact float16[8] 1\nexact float17[8] 1", "the data type is none of");
    let output = run("run --plan none.plan", &[&program]);
    assert!(output.status.code() == Some(1) && text(&output.stderr).contains("none.plan: No such file"));
}

#[test]
fn plans_of_programs_in_both_forms() {
    let program = temp_file("small.tl", "print(args())\nlet x = ones([8, 8]) * 2\nlet y = ones([8, 8])\nexit(3)");
    let (stdout, stderr) = printed("plan --arena", &[&program, "--", "a"]);
    let expected = "buffer_reserve([8, 8], 2)  // 256 B\n// 2 buffers, 256 B (256 bytes)\n";
    assert!(stdout.starts_with(expected), "{stdout}");
    assert!(stdout.contains("// activations in one block: "), "{stdout}");
    assert!(stderr.contains("[\"a\"]") && stderr.contains("exit code 3"), "{stderr}");
    let object: Value = serde_json::from_str(&printed("plan --json --arena", &[&program]).0).unwrap();
    assert_eq!(object["total_bytes"].as_u64().unwrap(), object["arena"]["lower_bound_bytes"].as_u64().unwrap());
    assert_eq!(object["buffers"][0]["layout"], "float16[8, 8]");
    for option in ["--context 5", "--activations float16"] {
        let output = run(&format!("plan {option}"), &[&program]);
        assert!(output.status.code() == Some(2) && text(&output.stderr).contains("unexpected argument"), "{option}");
    }
    let source = "let x = ones([4, 4])\nlet p = buffer_trace { let y = ones([8]) }\nlet z = ones([4, 4]) + x";
    let (stdout, _) = printed("plan", &[&temp_file("own_trace.tl", source)]);
    assert!(stdout.contains("([4, 4], ") && stdout.contains("([8], 1)"), "also what it records itself: {stdout}");
    let failing = temp_file("plan_failing.tl", "let x = ones([8])\nassert(false, \"stop\")");
    let output = run("plan", &[&failing]);
    assert!(output.status.code() == Some(1) && output.stdout.is_empty() && text(&output.stderr).contains("stop"));
}

#[test]
fn an_arena_serves_all_activations() {
    let program = generate_unreserved("arena.tl", "");
    let (alone, _) = printed("run", &[&program]);
    let (stdout, stderr) = printed("run --arena --sealed", &[&program]);
    assert_eq!(generated(&stdout), generated(&alone), "printed once, and the same");
    assert!(stdout.contains("allocations while decoding: 0\n") && stderr.contains(", 0 fell back"), "{stdout}{stderr}");
    let ratio = stderr.split_once("arena of ").and_then(|(_, rest)| rest.split_once(", "));
    let ratio: f64 = ratio.unwrap().1.split_once(" ×").unwrap().0.parse().unwrap();
    assert!((1.0..=1.05).contains(&ratio), "{stderr}");
    let failing = temp_file("arena_failing.tl", "print(1)\nlet x = ones([8])\nassert(false, \"stop\")");
    let output = run("run --arena", &[&failing]);
    assert!(output.status.code() == Some(1) && output.stdout.is_empty() && text(&output.stderr).contains("stop"));
}

#[test]
fn tuning_reserves_what_the_first_steps_needed() {
    let program = generate_unreserved("tuned.tl", "");
    let (alone, _) = printed("run", &[&program]);
    let page = format!("run --tune --memory-report {}", temp_path("tuned.html"));
    for line in ["run --tune", "run --tune=4", "run --tune --sealed", &page] {
        let (stdout, stderr) = printed(line, &[&program]);
        assert_eq!(generated(&stdout), generated(&alone), "{line}");
        assert!(stderr.contains("(hit rate 100.0%), and there were 0 allocations"), "{line}: {stderr}");
    }
    let short = temp_file("short.tl", "print(1)\nlet x = ones([8])");
    let (_, stderr) = printed("run --tune", &[&short]);
    assert!(stderr.contains("not tuned: the program printed 1 times"), "{stderr}");
}

#[test]
fn tuning_reserves_for_sizes_that_grow() {
    let line = "run --tune --sealed --steps 101 examples/generate_naive.tl";
    let (alone, _) = printed("run examples/generate_naive.tl", &[]);
    let text = |stdout: &str| stdout.split("memory:").next().unwrap().to_owned();
    let (stdout, stderr) = printed(line, &[]);
    assert_eq!(text(&stdout), text(&alone));
    for part in ["hit rate 100.0%", "there were 0 allocations", "sizes grow", "reserved for 101 outputs"] {
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
    let (_, stderr) = printed("run --tune examples/generate_naive.tl", &[]);
    assert!(stderr.contains("by [1, 0, 0] in each step") && stderr.contains("--steps=N reserves for N"), "{stderr}");
    let output = run("run --steps 5 examples/generate_naive.tl", &[]);
    assert_eq!(output.status.code(), Some(2));
}

/// A program with a size that varies, a sequence that grows to it, and a tensor of it in both dimensions.
fn sized_program(name: &str) -> String {
    let source = "fn step(x: float16[n, d], w: float16[d, d]) -> float16[n, d] {\n\
                      let y = softmax(x @ w, 1)\n\
                      rms_norm(y, ones([d]) as float32, eps: 1e-5) @ w\n\
                  }\n\
                  main {\n\
                      let n = size(\"n\", if len(args()) > 0 { int(args()[0]) } else { 8 })\n\
                      let x = ones([n, 16])\n\
                      let scores = x @ x.transpose(0, 1)\n\
                      let y = step(x, ones([16, 16]))\n\
                      for t in 1..n + 1 { let u = softmax(ones([t, 4]), 1) }\n\
                      print(sum(y.slice_last(0)), sum(softmax(scores, 1)))\n\
                  }\n";
    temp_file(name, source)
}

#[test]
fn a_plan_with_a_size_serves_all_its_values() {
    let (program, plan) = (sized_program("sized.tl"), temp_path("sized.plan"));
    let (lines, _) = printed("plan --with n=1..512 -o", &[&plan, &program]);
    for part in ["buffer_reserve_up_to([n, 16], ", "buffer_reserve_up_to([n, n], ", "// total: ", " * n * n + "] {
        assert!(lines.contains(part), "{part}: {lines}");
    }
    for (start, n) in
        [("// for n = 1..512", 0), ("// checked: runs at n = 1, 2, 171, 257, 512 took", 0), ("// assumed", 0)]
    {
        assert!(lines.lines().skip(n).any(|line| line.starts_with(start)), "{start}: {lines}");
    }
    let file = std::fs::read_to_string(&plan).unwrap();
    assert!(file.contains("\nwith n = 1..512\n") && file.contains("\nup_to float16[n, n] "), "{file}");
    for n in ["1", "8", "9", "16", "100", "512"] {
        let (alone, _) = printed(&format!("run --with n={n}"), &[&program]);
        // Reserved for the largest, and for just this one.
        let (in_largest, told) = printed("run --sealed --plan", &[&plan, &program, "--", n]);
        assert!(alone == in_largest && told.is_empty(), "{n}: {in_largest}{told}");
        let (in_own, told) = printed(&format!("run --sealed --with n={n} --plan"), &[&plan, &program]);
        assert!(alone == in_own && !told.contains("not enough"), "{n}: {in_own}{told}");
        // As does an arena that is planned for the largest.
        let (in_arena, told) = printed("run --sealed --arena --with n=1..512", &[&program, "--", n]);
        assert!(alone == in_arena && told.contains(", 0 fell back"), "{n}: {in_arena}{told}");
    }
    let output = run("run --sealed --plan", &[&plan, &program, "--", "513"]);
    assert!(output.status.code() == Some(1) && text(&output.stderr).contains("513"), "{}", text(&output.stderr));
}

/// A plan for a size has at least the bytes that a program with that size has live, and the table shows its bytes.
#[test]
fn a_plan_with_a_size_is_never_smaller_than_what_is_taken() {
    let program = sized_program("sized_json.tl");
    let object: Value = serde_json::from_str(&printed("plan --json --arena --with n=1..64", &[&program]).0).unwrap();
    assert_eq!(object["with"][0], serde_json::json!({ "name": "n", "min": 1, "max": 64 }));
    assert_eq!(object["recorded"].as_array().unwrap().len(), 5);
    assert!(object["arena"]["bytes"].as_u64().unwrap() > 0, "{object}");
    let totals = object["totals"].as_array().unwrap();
    let of = |total: &Value, key: &str| total[key].as_u64().unwrap();
    assert_eq!(totals.iter().map(|total| of(&total["with"], "n")).collect::<Vec<_>>(), [1, 8, 64]);
    assert_eq!(of(&totals[2], "total_bytes"), of(&object, "total_bytes"));
    for total in totals {
        let n = of(&total["with"], "n");
        let (_, stderr) = printed(&format!("run --memory-stats=json --with n={n}"), &[&program]);
        let stats: Value = serde_json::from_str(stderr.lines().last().unwrap()).unwrap();
        assert!(of(total, "total_bytes") >= of(&stats, "peak_bytes"), "{n}: {total} {stats}");
    }
}

#[test]
fn sizes_that_are_given_wrongly() {
    let (program, plan) = (sized_program("sized_wrong.tl"), temp_path("sized_wrong.plan"));
    printed("plan --with n=8..64 -o", &[&plan, &program]);
    let check = |line: &str, rest: &[&str], code: i32, expected: &str| {
        let output = run(line, rest);
        let stderr = text(&output.stderr);
        assert!(output.status.code() == Some(code) && stderr.contains(expected), "{line}: {stderr}");
    };
    check("plan --with m=1..8", &[&program], 1, "the program asks for no such size; it asks for size(\"n\", 8)");
    check("plan --with n=8..1", &[&program], 2, "the lowest value, 8, is above the highest, 1");
    check("plan --with n", &[&program], 2, "expected NAME=VALUE or NAME=LOWEST..HIGHEST");
    check("plan --with n=1..8 --with n=1..9", &[&program], 2, "the size is given twice");
    check("plan --with n=1..8 --lock x.lock", &[&program], 2, "cannot be used with");
    check("plan --with n=1..8 models/demo-q8_0.gguf", &[], 2, "unexpected argument '--with'");
    check("run --with n=1..8", &[&program], 2, "a program runs with one value");
    check("run --with n=65 --plan", &[&plan, &program], 1, "the plan is for n = 8..64");
    check("run --with m=1", &[&program], 0, "warning: --with m = 1: the program asks for no such size");
    for (contents, expected) in [
        ("with n = 1..8\nup_to float16[m] 1", "line 2 of the plan, \"up_to float16[m] 1\": a dimension has a name"),
        (
            "up_to float16[n] 1\nwith n = 1..8",
            "line 1 of the plan, \"up_to float16[n] 1\": a dimension is not a number",
        ),
        ("with n = 1..\n", "line 1 of the plan, \"with n = 1..\": expected NAME=VALUE"),
    ] {
        check("run --plan", &[&temp_file("sized_bad.plan", contents), &program], 1, expected);
    }
    let failing = temp_file("sized_failing.tl", "if size(\"n\", 1) > 5 { exit(3) }\nlet x = ones([4])");
    check("plan --with n=1..8", &[&failing], 1, "with n = 8 the program ended with exit code 3");
}

#[test]
fn an_arena_is_planned_where_steps_repeat() {
    let (alone, _) = printed("run examples/generate_naive.tl", &[]);
    let (stdout, stderr) = printed("run --sealed --arena examples/generate_naive.tl", &[]);
    let text = |stdout: &str| stdout.split("memory:").next().unwrap().to_owned();
    assert_eq!(text(&stdout), text(&alone));
    assert!(stderr.contains(", 0 fell back") && stdout.contains("fallbacks: 0"), "{stdout}{stderr}");
    let (_, stats) = printed("run --sealed --arena --memory-stats=json examples/generate_naive.tl", &[]);
    let stats: Value = serde_json::from_str(stats.lines().last().unwrap()).unwrap();
    let (held, peak) = (stats["driver_bytes"].as_u64().unwrap(), stats["peak_bytes"].as_u64().unwrap());
    assert!(held as f64 <= peak as f64 * 1.05, "{held} for {peak}");
    let (lines, _) = printed("plan --arena examples/generate_naive.tl", &[]);
    assert!(lines.contains("for what stays from step to step"), "{lines}");
}

/// `script` of util-linux gives a program a terminal.
#[test]
fn a_line_shows_progress_on_a_terminal_only() {
    let source =
        "let t = time_ms()\nlet x = ones([1024])\nwhile time_ms() - t < 1500.0 { let y = x + x }\nprint(\"done\")";
    let program = temp_file("long.tl", source);
    let out = temp_path("long.out");
    let shown = |redirect: &str| {
        let line = format!("'{}' run '{program}' {redirect}", env!("CARGO_BIN_EXE_tl"));
        let mut command = Command::new("script");
        command.args(["-qec", &line, "/dev/null"]).env("TERM", "xterm").stdin(std::process::Stdio::null());
        command.output().map(|output| text(&output.stdout))
    };
    let Ok(mixed) = shown("") else {
        eprintln!("skipped: there is no `script` to give the program a terminal");
        return;
    };
    assert!(mixed.contains("done") && !mixed.contains("peak"), "{mixed:?}");
    let alone = shown(&format!("> '{out}'")).unwrap();
    assert!(alone.contains("peak 4.0 KiB") && alone.ends_with("\r\x1b[K"), "{alone:?}");
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "done\n");
    assert!(run("run", &[&program]).stderr.is_empty(), "no terminal, no line");
}

/// A plan or an arena serves what a program reserves for itself: nothing is reserved twice, and sealed memory is no obstacle.
#[test]
fn a_plan_serves_a_programs_own_reservations() {
    let plan = temp_path("own.plan");
    let program = root().join("examples/generate.tl");
    let program = program.to_str().unwrap();
    printed("plan -o", &[&plan, program]);
    let reserved = |stats: &str| {
        let stats: Value = serde_json::from_str(stats.lines().last().unwrap()).unwrap();
        assert_eq!(stats["fallbacks"].as_u64(), Some(0), "{stats}");
        stats["reserved_bytes"].as_u64().unwrap()
    };
    let (own_text, own) = printed("run --memory-stats=json", &[program]);
    let (text, planned) = printed("run --sealed --memory-stats=json --plan", &[&plan, program]);
    let (_, in_arena) = printed("run --sealed --arena --memory-stats=json", &[program]);
    assert!(reserved(&planned) <= reserved(&own) && reserved(&in_arena) <= reserved(&planned));
    let story = |text: &str| text.split("buffers reserved:").next().unwrap().to_owned();
    assert_eq!(story(&text), story(&own_text));
}
