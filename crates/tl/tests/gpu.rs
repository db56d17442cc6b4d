//! The program on a GPU, as its users run it. What needs a GPU is skipped where there is none, unless `TL_REQUIRE_GPU` is set.
#![cfg(feature = "gpu")]

mod common;

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

fn tl(line: &str) -> Command {
    let mut command = common::tl(line, &[]);
    command.env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"));
    command
}

fn run(line: &str) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = tl(line).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// Whether the tests that need a GPU are to run.
fn has_gpu() -> bool {
    let (_, devices, _) = run("devices --json");
    let devices: Value = serde_json::from_str(&devices).unwrap();
    let has_any = !devices["gpus"].as_array().unwrap().is_empty();
    assert!(has_any || std::env::var_os("TL_REQUIRE_GPU").is_none(), "TL_REQUIRE_GPU is set, and there is no GPU");
    if !has_any {
        eprintln!("skipped: no GPU");
    }
    has_any
}

/// The object on the last line of standard error.
fn statistics(stderr: &str) -> Value {
    serde_json::from_str(stderr.trim_end().lines().last().unwrap()).unwrap()
}

#[test]
fn devices_and_operations_are_listed() {
    let (code, devices, _) = run("devices");
    assert!(code == Some(0) && devices.starts_with("cpu "), "{devices}");
    let (_, ops, _) = run("devices --ops");
    let on_gpu = |name: &str| {
        ops.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(|rest| rest.trim().to_owned()))
    };
    for name in
        ["linear", "matmul", "attention", "rms_norm", "rope", "swiglu", "embedding", "softmax", "argmax", "concat"]
    {
        assert_eq!(on_gpu(name).as_deref(), Some("program"), "{name}");
    }
    assert_eq!(on_gpu("reshape").as_deref(), Some("view"));
    assert_eq!(on_gpu("scatter").as_deref(), Some("CPU"));
}

#[test]
fn devices_that_are_not_there() {
    let check = |line: &str, device: Option<&str>, expected: (i32, &str)| {
        let mut command = tl(line);
        command.envs(device.map(|device| ("TL_DEVICE", device)));
        let output = command.output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(expected.0), "{line}: {stderr}");
        assert!(stderr.contains(expected.1), "{line}: {stderr}");
    };
    let line = "generate models/demo-f16.gguf --prompt a --max-tokens 1";
    check(&format!("{line} --device gpu:99"), None, (1, "no GPU number 99"));
    check(&format!("{line} --device gpu:nosuch"), None, (1, "no GPU whose name contains \"nosuch\""));
    check(&format!("{line} --device tpu"), None, (2, "expected cpu, gpu, gpu:NUMBER, gpu:NAME or auto"));
    check(line, Some("tpu"), (1, "TL_DEVICE is \"tpu\", expected cpu"));
    check(line, Some("cpu"), (0, ""));
    check(&format!("{line} --device auto"), None, (0, "device: "));
}

#[test]
fn a_model_says_the_same_as_on_the_cpu() {
    if !has_gpu() {
        return;
    }
    let line = "generate models/demo-f16.gguf --prompt impl --max-tokens 40 --temperature 0 --memory-stats json";
    let (_, expected, _) = run(line);
    let (code, text, stderr) = run(&format!("{line} --device gpu"));
    assert_eq!((code, &text), (Some(0), &expected), "{stderr}");
    assert!(stderr.contains("device: GPU "), "{stderr}");
    let statistics = statistics(&stderr);
    assert_eq!(statistics["allocations_while_decoding"], 0);
    assert_eq!((&statistics["fallbacks"], &statistics["gpu"]["host_fallbacks"]), (&Value::from(0), &Value::from(0)));
    assert_eq!(statistics["mapped_bytes"], 0);
}

#[test]
fn a_gpu_has_no_limits_to_measure() {
    if !has_gpu() {
        return;
    }
    let (code, text, stderr) = run("bench models/demo-q4_0.gguf --prefill 4 --decode 0 --json --limits --device gpu");
    assert!(code == Some(1) && text.is_empty(), "{text}");
    assert!(stderr.contains("error: --limits measures the CPU, and this runs on the GPU "), "{stderr}");
}

#[test]
fn too_little_memory_is_said_before_loading() {
    if !has_gpu() {
        return;
    }
    let line = "generate models/demo-q4_0.gguf --prompt impl --max-tokens 100 --device gpu";
    let (code, _, stderr) = run(&format!("{line} --memory-limit 1600000"));
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("the longest context that fits: ") && stderr.contains("tokens"), "{stderr}");
    let (code, _, stderr) = run(&format!("{line} --memory-limit 1MB"));
    assert!(code == Some(1) && stderr.contains("not even one token fits"), "{stderr}");
    let (_, plan, _) = run("plan models/demo-q4_0.gguf --device gpu");
    assert!(plan.contains("copied to the GPU") && plan.contains("1 × int32[]"), "{plan}");
}

#[test]
fn scripts_run_with_all_that_memory_offers() {
    if !has_gpu() {
        return;
    }
    let (code, text, stderr) = run("run examples/tensor_buffer_demo.tl --device gpu --memory-stats json");
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(text, run("run examples/tensor_buffer_demo.tl").1);
    assert!(statistics(&stderr)["gpu"]["buffers_created"].as_u64().unwrap() > 0);
    let (code, _, stderr) = run("run examples/generate_naive.tl --device gpu --memory-stats json");
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(statistics(&stderr)["gpu"]["host_fallbacks"], 0, "{stderr}");
    let (code, _, stderr) = run("run --arena examples/tensor_buffer_demo.tl --device gpu");
    assert!(code == Some(1) && stderr.contains("a GPU has no arenas"), "{stderr}");
    let report = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("gpu-report.html");
    let line = format!("run --sealed examples/generate.tl --device gpu --memory-report {}", report.display());
    let (code, _, stderr) = run(&line);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(std::fs::read_to_string(&report).unwrap().contains("</html>"));
}
