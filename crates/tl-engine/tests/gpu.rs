//! A model on a GPU: the CPU's tokens, in memory that was reserved before; after the first step nothing is made.
//!
//! Skipped where the machine has no GPU, unless `TL_REQUIRE_GPU` is set.
#![cfg(feature = "gpu")]

use std::path::PathBuf;

use tl_device::{Device, DeviceOptions, GpuStats, TensorBuffer};
use tl_engine::{Activations, GenerateOptions, Generator, Model, Planner, ReserveFor, SamplingOptions};

#[path = "../../../tests/gpu.rs"]
mod gpu;
use gpu::gpu;

fn model_file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models").join(name)
}

fn generator(model: &Model, n_tokens: usize) -> Generator<Model> {
    let prompt = model.tokenizer().unwrap().encode("Once upon a time");
    let sampling = SamplingOptions::greedy();
    let options = GenerateOptions::default().with_max_tokens(n_tokens).with_context(128).with_sampling(sampling);
    Generator::new(model.clone(), &prompt, &options).unwrap()
}

/// What was made, ever, and what the driver holds now.
fn made(stats: &GpuStats) -> [u64; 6] {
    [
        stats.buffers_created,
        stats.bind_groups_created,
        stats.pipelines_created,
        stats.driver_buffers,
        stats.driver_bind_groups,
        stats.driver_pipelines,
    ]
}

#[test]
fn a_hundred_tokens_make_nothing() {
    let Some(device) = gpu(&DeviceOptions::default()) else { return };
    let path = model_file("demo-f16.gguf");
    let model = Model::load(&path, &device).unwrap();
    let buffer = TensorBuffer::new(&device);
    buffer.reserve_for(&model, 128).unwrap();
    device.set_tensor_buffer(buffer.clone());
    device.seal();
    let mut generator = generator(&model, 103);
    let mut tokens: Vec<u32> = generator.by_ref().take(3).map(Result::unwrap).collect();
    let before = device.gpu_stats().unwrap();
    tokens.extend(generator.map(Result::unwrap));
    let after = device.gpu_stats().unwrap();
    assert_eq!(tokens.len(), 103);
    assert_eq!(made(&before), made(&after));
    assert_eq!((after.host_fallbacks, buffer.stats().fallback_count), (0, 0));
    // A token is one number down and one up.
    assert_eq!((after.uploads - before.uploads, after.readbacks - before.readbacks), (100, 100));
    assert_eq!(after.readback_bytes - before.readback_bytes, 400);
    assert!(after.submissions - before.submissions <= 300, "{} submissions", after.submissions - before.submissions);

    let cpu = Model::load(&path, &Device::cpu()).unwrap();
    let expected: Vec<u32> = self::generator(&cpu, 103).map(Result::unwrap).collect();
    assert_eq!(tokens, expected);
}

#[test]
fn what_was_said_is_what_is_taken() {
    let Some(device) = gpu(&DeviceOptions::default()) else { return };
    drop(device);
    for (name, activations) in [("demo-q4_0.gguf", Activations::Float16), ("demo-q8_0.gguf", Activations::Float32)] {
        let path = model_file(name);
        let take = |limit: u64| -> tl_model::Result<u64> {
            let mut options = DeviceOptions::default();
            options.memory.limit_bytes = Some(limit as usize);
            let device = gpu(&options).expect("there was one above");
            let model = Model::load(&path, &device)?.with_activations(activations);
            let buffer = TensorBuffer::new(&device);
            buffer.reserve_for(&model, 128)?;
            device.set_tensor_buffer(buffer);
            let mut generator = generator(&model, 20);
            let held = device.stats().driver_bytes;
            generator.try_for_each(|token| token.map(drop))?;
            assert_eq!(device.stats().driver_bytes, held, "{name}");
            Ok(held)
        };
        let own = gpu(&DeviceOptions::default()).expect("there was one above");
        let plan = Planner::open_for(&path, activations, &own).unwrap().plan(128).unwrap();
        assert_eq!(take(plan.total_bytes()).unwrap(), plan.total_bytes(), "{name}");
        let refused = take(plan.total_bytes() - 1).unwrap_err().to_string();
        assert!(refused.contains("over the memory limit"), "{refused}");
    }
}

#[test]
fn weights_beyond_the_binding_limit_are_bound_in_parts() {
    let mut options = DeviceOptions::default();
    // The demo's largest weights have 300 KiB.
    options.gpu.max_binding_bytes = Some(32 << 10);
    let Some(device) = gpu(&options) else { return };
    let path = model_file("demo-f16.gguf");
    let model = Model::load(&path, &device).unwrap();
    let tokens: Vec<u32> = generator(&model, 10).map(Result::unwrap).collect();
    let cpu = Model::load(&path, &Device::cpu()).unwrap();
    assert_eq!(tokens, generator(&cpu, 10).map(Result::unwrap).collect::<Vec<_>>());
    assert_eq!(device.gpu_stats().unwrap().host_fallbacks, 0);
}
