//! `reserve_for` serves steps of every length: sealed, without a fallback, and with the same results. It reserves at most 2 %
//! more than a step has live.

use std::path::Path;

use tl_device::{Device, DeviceOptions, TensorBuffer};
use tl_engine::{Activations, KvCache, Model, ReserveFor};
use tl_tensor::Tensor;

#[path = "../benches/steps/mod.rs"]
#[allow(dead_code)]
mod shapes;
mod tiny;
use shapes::TINYLLAMA;
use tiny::{ALL, named, project_file};

/// The longest step that is tried.
const MOST: usize = 128;

fn ids(model: &Model, n: usize, from: usize) -> Vec<u32> {
    (from..from + n).map(|i| ((7 * i * i + 3 * i + 5) % model.config().vocab_size) as u32).collect()
}

fn bits(logits: Tensor) -> Vec<u32> {
    let values = logits.into_typed::<f32>().unwrap().to_vec().unwrap();
    values.into_iter().map(f32::to_bits).collect()
}

/// Steps of `n` tokens, of one and of `n` again, the last one's logits of all rows where that is one; their logits.
fn logits(model: &Model, cache: &mut KvCache, n: usize) -> Vec<Vec<u32>> {
    cache.clear();
    let mut all = Vec::new();
    for len in [n, 1, n] {
        if cache.len() + len <= cache.capacity() {
            let tokens = ids(model, len, cache.len());
            all.push(bits(model.forward(&tokens, cache).unwrap()));
        }
    }
    if cache.len() < cache.capacity() {
        all.push(bits(model.forward_all(&[1], cache).unwrap()));
    }
    all
}

/// Every step of a model in sealed memory gives what it gives in memory that is allocated for it.
fn check(path: &Path, contexts: &[usize]) {
    let device = |is_filled: bool| {
        let mut options = DeviceOptions::default();
        options.threads = 1;
        options.memory.nan_fill = is_filled;
        Device::cpu_with(&options)
    };
    for &context in contexts {
        let free = Model::load(path, &device(false)).unwrap().with_activations(Activations::Float32);
        let mut free_cache = free.new_cache(context).unwrap();
        let device = device(true);
        let model = Model::load(path, &device).unwrap().with_activations(Activations::Float32);
        let buffer = TensorBuffer::new(&device);
        buffer.reserve_for(&model, context).unwrap();
        device.set_tensor_buffer(buffer.clone());
        device.seal();
        let held = device.stats();
        let mut cache = model.new_cache(context).unwrap();
        for n in 1..=context.min(MOST) {
            let what = format!("{}, context {context}, {n} tokens", path.display());
            assert_eq!(logits(&model, &mut cache, n), logits(&free, &mut free_cache, n), "{what}");
            assert_eq!(buffer.stats().fallback_count, 0, "{what}");
        }
        let stats = device.stats();
        assert_eq!((stats.driver_bytes, stats.allocation_count), (held.driver_bytes, held.allocation_count));
        let left = buffer.stats();
        let cache_parts = model.config().n_layers;
        drop(cache);
        assert!(left.in_use_count >= cache_parts && buffer.stats().in_use_count == 0, "all came back");
    }
}

#[test]
fn steps_of_every_length_are_served() {
    check(&project_file("models/demo-q8_0.gguf"), &[1, 100, 256]);
}

/// Windows, experts, states, latent attention, and views that are copied in steps of several tokens alone.
#[test]
fn steps_of_every_architecture_are_served() {
    for name in [
        "llama",
        "gemma3",
        "gemma4",
        "mixtral",
        "qwen3moe",
        "qwen3next",
        "lfm2",
        "deepseek2",
        "phi3",
        "glm4",
        "gpt-oss",
    ] {
        check(&named(name).any_source(), &[3, 64, 256]);
    }
}

/// What a model holds with a reservation for `context` tokens, over the least that it can hold: the KV cache and the most
/// activations that the longest step has live at once.
fn held_over_bound(model: &Model, context: usize) -> f64 {
    let device = model.device();
    let buffer = TensorBuffer::new(device);
    let before = device.stats().driver_bytes;
    buffer.reserve_for(model, context).unwrap();
    let held = device.stats().driver_bytes - before;
    drop(buffer);
    let mut cache = model.new_cache(context).unwrap();
    let cache_bytes = device.stats().cache_bytes;
    device.start_trace();
    drop(model.forward(&ids(model, context, 0), &mut cache).unwrap());
    cache.clear();
    drop(model.forward(&[1], &mut cache).unwrap());
    let most = device.stop_trace().arena().unwrap().lower_bound_bytes as u64;
    held as f64 / (cache_bytes + most) as f64
}

#[test]
fn a_reservation_is_hardly_more_than_what_is_live() {
    let model = TINYLLAMA.counting();
    for context in [128, 512, 2048] {
        let ratio = held_over_bound(&model, context);
        assert!((1.0..=1.02).contains(&ratio), "context {context}: {ratio}");
    }
    // What the logits need beside the arena is the more, the shorter the longest step.
    for (context, most) in [(1, 1.5), (16, 1.1)] {
        let ratio = held_over_bound(&model, context);
        assert!((1.0..=most).contains(&ratio), "context {context}: {ratio}");
    }
}

/// A longer context never takes less, on which the search for the longest one that fits relies.
#[test]
fn more_tokens_never_take_less() {
    for tiny in ALL {
        let planner = tl_engine::Planner::open(tiny.any_source(), Activations::Float16).unwrap();
        let longest = planner.model().config().context_length.min(KvCache::MAX_STEP);
        let mut before = 0;
        for context in (1..=longest).step_by(7) {
            let plan = planner.plan(context).unwrap();
            assert!(plan.total_bytes() >= before, "{}: {context}", tiny.name);
            before = plan.total_bytes();
        }
    }
}
