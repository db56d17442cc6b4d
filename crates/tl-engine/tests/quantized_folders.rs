//! Models written as one GGUF file from folders and split files compute what the folders compute.

use std::path::PathBuf;

use tl_device::Device;
use tl_engine::{Activations, Model};
use tl_tools::Quantization;

mod tiny;
use tiny::{ALL, distance, logits, named, project_file};

/// Sums of float32 in another order, of the reference's rounding too.
const FLOAT32: f64 = 2e-5;
/// Weights rounded to float16, by one part in 2048 at most: of one token 0.009 was found, of Gemma 4, whose scores nothing scales.
const FLOAT16: f64 = 0.02;
/// Of qwen2moe, two experts are so close for one of these tokens that the rounded weights choose the other; the next
/// token sees it.
const CHANGED_CHOICE: [usize; 2] = [22, 23];

/// The model of that source in that format, through a file that is gone again.
fn quantized(source: PathBuf, format: &str, name: &str) -> Model {
    let device = Device::cpu();
    let path = std::env::temp_dir().join(format!("tl-quantized-{}-{name}-{format}.gguf", std::process::id()));
    Quantization::open(source, format).unwrap().write(&path, &device, &mut |_| ()).unwrap();
    let model = Model::load(&path, &device).unwrap().with_activations(Activations::Float32);
    std::fs::remove_file(&path).unwrap();
    model
}

#[test]
fn folders_compute_the_same_as_one_file() {
    for tiny in ALL {
        let reference = tiny.reference();
        for (format, tolerance) in [("f32", FLOAT32), ("f16", FLOAT16)] {
            let model = quantized(tiny.folder(), format, tiny.name);
            for step in [reference.ids.len(), 1] {
                let found = logits(&model, &reference.ids, step).unwrap();
                let mut off: Vec<(usize, f64)> = found
                    .chunks(1)
                    .zip(reference.logits.chunks(1))
                    .map(|(found, expected)| distance(found, expected))
                    .enumerate()
                    .filter(|&(_, distance)| distance > tolerance)
                    .collect();
                if (tiny.name, format) == ("qwen2moe", "f16") {
                    off.retain(|(token, _)| !CHANGED_CHOICE.contains(token));
                }
                assert!(off.is_empty(), "{} in {format}, steps of {step}: {off:?}", tiny.name);
            }
        }
    }
}

#[test]
fn split_files_compute_the_same_as_one_file() {
    let reference = named("qwen3").reference();
    let parts = (1..=3).map(|part| format!("qwen3-split/model-0000{part}-of-00003.gguf"));
    for (number, source) in parts.chain(["qwen3-sharded".to_owned()]).enumerate() {
        let source = project_file("tests/data/tiny").join(source);
        let model = quantized(source, "f32", &format!("part{number}"));
        let distance = distance(&logits(&model, &reference.ids, reference.ids.len()).unwrap(), &reference.logits);
        assert!(distance <= FLOAT32, "{number}: {distance:.2e}");
    }
}
