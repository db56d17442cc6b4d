//! Every architecture on a GPU: the logits of the references without any work on the CPU, and the memory that was planned.
//!
//! Skipped where the machine has no GPU, unless `TL_REQUIRE_GPU` is set. `TL_SHOW_DISTANCES=1` prints what is found.
#![cfg(feature = "gpu")]

use tl_device::{DeviceOptions, TensorBuffer};
use tl_engine::{Activations, GenerateOptions, Generator, Planner, ReserveFor, SamplingOptions};

#[path = "../../../tests/gpu.rs"]
mod gpu;
mod tiny;
use gpu::gpu;
use tiny::{ALL, distance, logits};

/// Sums of float32 in another order, and the GPU's own `exp`, `sin` and `tanh`, which may be less exact than those of the software
/// renderer with which 7e-7 was found.
const FLOAT32: f64 = 1e-4;
/// Every intermediate rounded to float16: 1.8e-3 was found.
const FLOAT16: f64 = 0.005;
const CONTEXT: usize = 32;

fn check_logits(activations: Activations, steps: &[usize], tolerance: f64) {
    let Some(device) = gpu(&DeviceOptions::default()) else { return };
    for tiny in ALL {
        let reference = tiny.reference();
        let model = tiny.load(&device, activations);
        let before = device.gpu_stats().unwrap().host_fallbacks;
        for &step in steps {
            let found = distance(&logits(&model, &reference.ids, step).unwrap(), &reference.logits);
            if std::env::var_os("TL_SHOW_DISTANCES").is_some() {
                println!("{found:.2e} of {tolerance:.0e} {} {activations:?}, steps of {step}", tiny.name);
            }
            assert!(found <= tolerance, "{} {activations:?}, steps of {step}: off by {found:.3e}", tiny.name);
        }
        let n_fallbacks = device.gpu_stats().unwrap().host_fallbacks - before;
        assert_eq!(n_fallbacks, 0, "{}: operations ran on the CPU", tiny.name);
    }
}

#[test]
fn logits_in_float32() {
    check_logits(Activations::Float32, &[24, 5, 1], FLOAT32);
}

#[test]
fn logits_in_float16() {
    check_logits(Activations::Float16, &[24, 1], FLOAT16);
}

/// What the long references say behind more tokens than a window and a prefill's part together.
#[test]
fn logits_behind_many_tokens() {
    let Some(device) = gpu(&DeviceOptions::default()) else { return };
    let mut n_tested = 0;
    for tiny in ALL {
        let Some(long) = tiny.reference().long else { continue };
        n_tested += 1;
        let cache_bytes = |planner: Planner| planner.plan(1024).unwrap().cache_bytes;
        let [on_gpu, on_cpu] = [
            Planner::open_for(tiny.any_source(), Activations::Float32, &device),
            Planner::open(tiny.any_source(), Activations::Float32),
        ]
        .map(|planner| cache_bytes(planner.unwrap()));
        assert_eq!(on_gpu, on_cpu, "{}: layers with a window hold their window", tiny.name);
        let rows = logits(&tiny.load(&device, Activations::Float32), &long.ids, 160).unwrap();
        let last = &rows[rows.len() - long.last_logits.len()..];
        let found = distance(last, &long.last_logits);
        assert!(found <= FLOAT32, "{}: off by {found:.3e}", tiny.name);
    }
    assert!(n_tested >= 4);
}

/// In sealed memory, which is as much as the plan says; and a byte less is refused.
#[test]
fn what_was_said_is_what_is_taken() {
    let Some(own) = gpu(&DeviceOptions::default()) else { return };
    for (i, tiny) in ALL.iter().enumerate() {
        let activations = if i % 2 == 0 { Activations::Float16 } else { Activations::Float32 };
        let plan = Planner::open_for(tiny.any_source(), activations, &own).unwrap().plan(CONTEXT).unwrap();
        let take = |limit: u64| -> tl_engine::Result<u64> {
            let mut options = DeviceOptions::default();
            options.memory.limit_bytes = Some(limit as usize);
            let device = gpu(&options).expect("there was one above");
            let model = tl_engine::Model::load(tiny.any_source(), &device)?.with_activations(activations);
            let buffer = TensorBuffer::new(&device);
            buffer.reserve_for(&model, CONTEXT)?;
            device.set_tensor_buffer(buffer.clone());
            device.seal();
            let held = device.stats().driver_bytes;
            let sampling = SamplingOptions::greedy();
            let options =
                GenerateOptions::default().with_max_tokens(CONTEXT).with_context(CONTEXT).with_sampling(sampling);
            let prompt: Vec<u32> = (0..24).map(|i| (7 * i * i + 3 * i + 5) % 96).collect();
            let tokens = Generator::new(&model, &prompt, &options)?.collect::<tl_engine::Result<Vec<u32>>>()?;
            assert_eq!(tokens.len(), CONTEXT - prompt.len() + 1, "{}", tiny.name);
            assert_eq!((device.stats().driver_bytes, buffer.stats().fallback_count), (held, 0), "{}", tiny.name);
            Ok(held)
        };
        assert_eq!(take(plan.total_bytes()).unwrap(), plan.total_bytes(), "{}", tiny.name);
        let refused = take(plan.total_bytes() - 1).unwrap_err().to_string();
        assert!(refused.contains("over the memory limit"), "{}: {refused}", tiny.name);
    }
}
