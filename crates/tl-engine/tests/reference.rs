//! The models of the project against logits and texts that an independent program computed in float64.
//!
//! `tests/data/reference.json` and `random-reference.json` hold the ten best logits of a prompt's last position (or all of
//! them), the norm of the logits at every position, and the greedy continuation up to the first close decision.

use std::path::PathBuf;

use serde_json::Value;
use tl_device::{Device, DeviceOptions};
use tl_engine::{Activations, GenerateOptions, Generator, Model, SamplingOptions};
use tl_tensor::Tensor;

#[cfg(feature = "gpu")]
#[path = "../../../tests/gpu.rs"]
mod gpu;
#[cfg(feature = "gpu")]
use gpu::gpu;

fn project_file(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

fn json(path: &str) -> Value {
    serde_json::from_slice(&std::fs::read(project_file(path)).unwrap()).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

/// How far a result may be from the reference.
#[derive(Clone, Copy, Debug)]
struct Tolerance {
    /// Of a vector, relative to its norm.
    relative: f64,
    /// Of one logit.
    largest: f64,
}

/// Rounding of float32 sums.
const FLOAT32: Tolerance = Tolerance { relative: 1e-4, largest: 0.005 };
/// Every intermediate rounded to float16.
const FLOAT16: Tolerance = Tolerance { relative: 0.003, largest: 0.08 };
/// Activations quantized to 8 bits before each product with a quantized weight.
const EIGHT_BITS: Tolerance = Tolerance { relative: 0.02, largest: 0.5 };
/// The same where weights are random and one position is looked at: float64 arithmetic on activations rounded to 8 bits
/// is off by 0.0209 (q8_0) and 0.0214 (q4_0) there.
const EIGHT_BITS_RANDOM: Tolerance = Tolerance { relative: 0.03, largest: 0.5 };

/// On the CPU activations are rounded for products with quantized weights, on a GPU they are not.
fn tolerance(device: &Device, is_quantized: bool, activations: Activations) -> Tolerance {
    match (is_quantized && !device.is_gpu(), activations) {
        (true, _) => EIGHT_BITS,
        (false, Activations::Float16) => FLOAT16,
        (false, Activations::Float32) => FLOAT32,
    }
}

const BOTH: [Activations; 2] = [Activations::Float16, Activations::Float32];

fn rows(logits: &Tensor) -> Vec<Vec<f64>> {
    let n = *logits.dims().last().unwrap();
    let values = logits.cast::<f32>().unwrap().to_vec().unwrap();
    values.chunks(n).map(|row| row.iter().map(|&x| f64::from(x)).collect()).collect()
}

/// The logits after each of `ids`: all at once, or one after the other.
fn logits(model: &Model, ids: &[u32], at_once: bool) -> Vec<Vec<f64>> {
    let mut cache = model.new_cache(ids.len()).unwrap();
    let rows = if at_once {
        rows(&model.forward_all(ids, &mut cache).unwrap())
    } else {
        ids.iter().flat_map(|id| rows(&model.forward(&[*id], &mut cache).unwrap())).collect()
    };
    assert_eq!(cache.len(), ids.len());
    rows
}

fn norm(row: &[f64]) -> f64 {
    row.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// The norms of all positions as one vector: nearer to the reference's than the logits themselves are to its logits.
fn check_norms(rows: &[Vec<f64>], expected: &Value, tolerance: Tolerance, what: &str) {
    let expected = numbers(expected);
    assert_eq!(rows.len(), expected.len(), "{what}");
    let off: Vec<f64> = rows.iter().zip(&expected).map(|(row, expected)| norm(row) - expected).collect();
    let relative = norm(&off) / norm(&expected);
    assert!(relative <= tolerance.relative, "{what}: the norms are off by {relative}: {off:?}");
}

fn check_demo(format: &str, device: &Device) {
    let reference = json("tests/data/reference.json");
    let loaded = Model::load(project_file(&format!("models/demo-{format}.gguf")), device).unwrap();
    let tokenizer = loaded.tokenizer().unwrap();
    let cases = reference[format].as_array().unwrap();
    assert_eq!(cases.len(), 4);
    for (case, activations) in cases.iter().flat_map(|case| BOTH.map(|activations| (case, activations))) {
        let model = loaded.with_activations(activations);
        let tolerance = tolerance(device, format != "f16", activations);
        let prompt = ids(&case["ids"]);
        assert_eq!(tokenizer.encode(case["prompt"].as_str().unwrap()), prompt);
        for at_once in [true, false] {
            let what = format!("{format}, {activations:?}, {:?}, at once: {at_once}", case["prompt"]);
            let rows = logits(&model, &prompt, at_once);
            check_norms(&rows, &case["logits_norm_per_position"], tolerance, &what);
            let last = rows.last().unwrap();
            for pair in case["last_logits_top10"].as_array().unwrap() {
                let (id, expected) = (pair[0].as_u64().unwrap() as usize, pair[1].as_f64().unwrap());
                let off = (last[id] - expected).abs();
                assert!(off <= tolerance.largest, "{what}: the logit of token {id} is off by {off}");
            }
        }
        check_greedy(&model, case, &prompt);
    }
}

fn check_greedy(model: &Model, case: &Value, prompt: &[u32]) {
    let expected = ids(&case["greedy"]);
    let options = GenerateOptions::default().with_max_tokens(expected.len()).with_sampling(SamplingOptions::greedy());
    let generated: Vec<u32> = Generator::new(model, prompt, &options).unwrap().map(Result::unwrap).collect();
    assert_eq!(generated, expected, "{:?}", case["prompt"]);
    let text = model.tokenizer().unwrap().decode(&generated).unwrap();
    assert_eq!(text, case["greedy_text"].as_str().unwrap());
}

#[cfg(not(feature = "gpu"))]
fn gpu(_options: &DeviceOptions) -> Option<Device> {
    None
}

/// Nothing on a model's path is done by the CPU.
fn check_no_fallback(device: &Device) {
    assert_eq!(device.gpu_stats().map_or(0, |stats| stats.host_fallbacks), 0);
}

#[test]
fn demo_f16() {
    check_demo("f16", &Device::cpu());
}

#[test]
fn demo_q8_0() {
    check_demo("q8_0", &Device::cpu());
}

#[test]
fn demo_q4_0() {
    check_demo("q4_0", &Device::cpu());
}

#[test]
fn demo_on_a_gpu() {
    let Some(device) = gpu(&DeviceOptions::default()) else { return };
    for format in ["f16", "q8_0", "q4_0"] {
        check_demo(format, &device);
    }
    check_no_fallback(&device);
}

fn check_random(format: &str, is_quantized: bool, device: &Device) {
    let reference = json("tests/data/random-reference.json");
    let ids = ids(&reference["ids"]);
    let file = format!("random-{format}.gguf");
    let case = &reference["files"][&file];
    let loaded = Model::load(project_file(&format!("tests/data/{file}")), device).unwrap();
    for activations in BOTH {
        let model = loaded.with_activations(activations);
        let is_rounded = is_quantized && !device.is_gpu();
        let tolerance = if is_rounded { EIGHT_BITS_RANDOM } else { tolerance(device, false, activations) };
        for at_once in [true, false] {
            let what = format!("{file}, {activations:?}, at once: {at_once}");
            let rows = logits(&model, &ids, at_once);
            check_norms(&rows, &case["logits_norm_per_position"], tolerance, &what);
            let (last, expected) = (rows.last().unwrap(), numbers(&case["last_logits"]));
            let off: Vec<f64> = last.iter().zip(&expected).map(|(a, b)| a - b).collect();
            let relative = norm(&off) / norm(&expected);
            let largest = off.iter().fold(0.0f64, |largest, x| largest.max(x.abs()));
            assert!(relative <= tolerance.relative, "{what}: off by {relative}");
            assert!(largest <= tolerance.largest, "{what}: one logit is off by {largest}");
        }
    }
}

/// The formats, and whether the CPU rounds activations for them.
const RANDOM_FORMATS: [(&str, bool); 15] = [
    ("f16", false),
    ("bf16", false),
    ("q8_0", true),
    ("q4_0", true),
    ("q4_1", true),
    ("q5_0", true),
    ("q5_1", true),
    ("iq4_nl", true),
    ("mxfp4", true),
    ("q2_k", true),
    ("q3_k_m", true),
    ("q4_k_s", true),
    ("q5_k_s", true),
    ("q6_k", true),
    ("iq4_xs", true),
];

#[test]
fn random_formats() {
    for (format, is_quantized) in RANDOM_FORMATS {
        check_random(format, is_quantized, &Device::cpu());
    }
}

#[test]
fn random_formats_on_a_gpu() {
    let Some(device) = gpu(&DeviceOptions::default()) else { return };
    for (format, is_quantized) in RANDOM_FORMATS {
        check_random(format, is_quantized, &device);
    }
    check_no_fallback(&device);
}
