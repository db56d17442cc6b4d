//! `tl bench` and `tl quantize` as their users run them.

mod common;

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use common::{Folder, run, text};

fn objects(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn one_object_for_each_test() {
    let line = "bench models/demo-q4_0.gguf --threads 2 --prefill 16,0,32 --decode 4 --depth 0,20 --reps 2 --json";
    let found = objects(&run(line, &[]));
    let names: Vec<&str> = found.iter().map(|object| object["test"].as_str().unwrap()).collect();
    assert_eq!(names, ["pp16", "pp32", "tg4", "tg4d20"]);
    for object in &found {
        let rates = object["tokens_per_second"].as_array().unwrap();
        assert_eq!(rates.len(), 2, "{object}");
        assert!(rates.iter().all(|rate| rate.as_f64().unwrap() > 0.0), "{object}");
        assert_eq!((&object["threads"], &object["allocations_per_token"]), (&2.into(), &0.0.into()), "{object}");
        assert!(object.get("limit_bytes_per_second").is_none(), "{object}");
    }
    // 22 layers, keys and values, 32 wide: 20 tokens more in the cache, two bytes each.
    let bytes = |index: usize| found[index]["bytes_per_token"].as_f64().unwrap();
    assert_eq!(bytes(3) - bytes(2), 20.0 * 2.0 * 22.0 * 32.0 * 2.0);
    let wide = objects(&run("bench models/demo-q4_0.gguf --prefill 0 --decode 4 --activations float32 --json", &[]));
    let more = wide[0]["bytes_per_token"].as_f64().unwrap() - bytes(2);
    assert_eq!(more, 2.5 * 2.0 * 22.0 * 32.0 * 2.0);
}

#[test]
fn the_table_has_the_machine_and_every_test() {
    let output = run("bench --synth tiny:q8_0 --prefill 8 --decode 4 --reps 1 --threads 1", &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    let has = |wanted: &str| assert!(table.contains(wanted), "{wanted}: {table}");
    has("tiny:q8_0: 1.44 million weights in q8_0, 2 layers, float16 activations\n1 thread with");
    has("this machine, with the same threads, reads ");
    has("% of reading\n");
    has("\npp8 ");
    has("\ntg4 ");
    has("\nallocations while decoding: 0\n");
    let stderr = text(&output.stderr);
    assert!(stderr.contains("note: left out: tg4d1024 needs a context of 1028 tokens"), "{stderr}");
    let limits = objects(&run("bench --synth tiny:f16 --prefill 0 --decode 2 --reps 1 --json --limits", &[]));
    assert!(limits[0]["limit_bytes_per_second"].as_f64().unwrap() > 1e8, "{limits:?}");
}

#[test]
fn a_made_up_model_leaves_no_file() {
    let folder = Folder::new("synth");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tl"));
    command.args("bench --synth tiny:q4_0 --decode 2 --depth 0 --reps 1 --json".split(' ')).env("TMPDIR", &folder.0);
    assert_eq!(objects(&command.output().unwrap()).len(), 2);
    assert!(folder.names().is_empty());
    // Nor where it comes to nothing.
    command.args(["--prefill", "4000"]);
    assert_eq!(command.output().unwrap().status.code(), Some(1));
    assert!(folder.names().is_empty());
}

#[test]
fn memory_options_take_part() {
    let demo = "bench models/demo-q4_0.gguf --prefill 8 --decode 2 --reps 1 --json";
    let output = run(&format!("{demo} --memory-stats json"), &[]);
    let last: Value = serde_json::from_str(text(&output.stderr).lines().last().unwrap()).unwrap();
    assert_eq!(last["fallbacks"], 0, "{last}");
    let output = run(&format!("{demo} --memory-limit 1MB"), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("more than the limit of"), "{}", text(&output.stderr));
    let folder = Folder::new("report");
    let (page, trace) = (folder.file("r.html"), folder.file("t.json"));
    let output = run(demo, &["--memory-report", &page, "--memory-trace", &trace]);
    assert!(output.status.success() && Path::new(&page).exists() && Path::new(&trace).exists());
}

#[test]
fn quantizes() {
    let folder = Folder::new("quantize");
    let small = folder.file("small.gguf");
    let output = run("quantize models/demo-f16.gguf", &[&small, "Q4_0", "--threads", "1"]);
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success() && stderr.is_empty(), "{stderr}");
    let len = std::fs::metadata(&small).unwrap().len();
    assert!(stdout.contains(&format!("({len} bytes), before 4.")), "{stdout}");
    let info = text(&run("info", &[&small]).stdout);
    assert!(info.contains("F32: 45 tensors") && info.contains("Q4_0: 156 tensors"), "{info}");
    let greedy = "--temperature 0 --max-tokens 20 --prompt";
    let generated = run(&format!("generate {small} {greedy}"), &["A trait object"]);
    assert!(generated.status.success() && generated.stdout.len() > 40, "{}", text(&generated.stderr));
    // From a file that has lost bits already, to a format whose blocks are longer than the rows.
    let mixed = folder.file("mixed.gguf");
    let stderr = text(&run(&format!("quantize {small} {mixed} q4_k_m"), &[]).stderr);
    assert!(stderr.contains("float16 instead for token_embd.weight") && stderr.contains("more\n"), "{stderr}");
    assert!(stderr.contains("tensors were quantized before"), "{stderr}");
    // A folder, and a split file by one of its parts.
    let converted = folder.file("converted.gguf");
    let stderr = text(&run(&format!("quantize tests/data/tiny/llama {converted} f16"), &[]).stderr);
    assert_eq!(stderr, "note: the folder has no tokenizer.json, and the file no tokenizer\n");
    assert!(text(&run("info", &[&converted]).stdout).contains("F16: "));
    let part = "tests/data/tiny/qwen3-split/model-00002-of-00003.gguf";
    let output = run(&format!("quantize {part} {converted} f32"), &[]);
    assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
    let logits = |model: &str| text(&run(&format!("logits {model} --ids 1,2,3 --activations float32"), &[]).stdout);
    assert_eq!(logits(&converted), logits(&part.replace("00002-of", "00001-of")));
    assert_eq!(folder.names(), ["converted.gguf", "mixed.gguf", "small.gguf"]);
}

#[test]
fn mistakes_are_one_line() {
    let check = |line: &str, code: i32, expected: &str| {
        let output = run(line, &[]);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{line}: {stderr}");
        assert!(stderr.starts_with("error: ") && stderr.contains(expected), "{line}: {stderr}");
        assert!(code == 2 || stderr.lines().count() == 1, "{line}: {stderr}");
    };
    let demo = "models/demo-q4_0.gguf";
    check("bench none.gguf", 1, "none.gguf: No such file");
    check("bench Cargo.toml --json", 1, "Cargo.toml: not a GGUF file");
    check("bench --synth huge:q4_0", 1, "no shape `huge`; there are tinyllama-1.1b, tiny");
    check("bench --synth tiny:q9", 1, "no format to write weights in `q9`");
    check(&format!("bench {demo} --prefill 512"), 1, "works for 1 to 256; lower --prefill");
    check(&format!("bench {demo} --depth 200"), 1, "works for 1 to 256; lower --depth or --decode");
    check(&format!("bench {demo} --decode 300"), 1, "works for 1 to 256; lower --decode");
    check(&format!("bench {demo} --prefill 0 --decode 0"), 1, "nothing to measure");
    check("bench", 2, "--synth");
    check("bench --synth tiny", 2, "expected SHAPE:FORMAT");
    check(&format!("bench {demo} --synth tiny:f16"), 2, "cannot be used with");
    check(&format!("bench {demo} --reps 0"), 2, "0 is not in 1..=1000");
    check(&format!("bench {demo} --prefill 128,x"), 2, "invalid value 'x'");
    check(&format!("bench {demo} --limits"), 2, "--json");
    check("quantize none.gguf x.gguf q4_0", 1, "none.gguf: No such file");
    check("quantize Cargo.toml x.gguf q4_0", 1, "Cargo.toml: not a GGUF file");
    check(&format!("quantize {demo} x.gguf q9"), 1, "no format to write weights in `q9`; there are f32, f16");
    check(&format!("quantize {demo} ./models/../{demo} q8_0"), 1, "is the file that is read; write to another");
    let tiny = "tests/data/tiny";
    for (model, target) in [
        ("llama", "llama/model.safetensors"),
        ("llama", "llama/config.json"),
        ("llama/model.safetensors", "llama/generation_config.json"),
        ("qwen3-split/model-00003-of-00003.gguf", "qwen3-split/model-00001-of-00003.gguf"),
    ] {
        check(
            &format!("quantize {tiny}/{model} {tiny}/{target} q8_0"),
            1,
            "is the file that is read; write to another",
        );
    }
    check(&format!("quantize {demo} models q8_0"), 1, "models cannot be written: is a directory");
    check(&format!("quantize {demo} none/x.gguf q8_0"), 1, "none/x.gguf cannot be written: No such file");
    check(&format!("quantize {demo} x.gguf"), 2, "<FORMAT>");
}
