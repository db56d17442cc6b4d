//! Whichever allocation fails: a run ends in one error, keeps nothing, and works when it is tried again.

use std::path::PathBuf;

use tl_device::{Device, DeviceOptions, MemoryOptions, TensorBuffer};
use tl_engine::{GenerateOptions, Generator, Model, ReserveFor, Result, SamplingOptions};
use tl_tools::SyntheticModel;

const CONTEXT: usize = 16;
const MAX_TOKENS: usize = 3;

fn project_file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(name)
}

fn device(memory: MemoryOptions) -> Device {
    let mut options = DeviceOptions::default();
    options.threads = 1;
    options.memory = memory;
    Device::cpu_with(&options)
}

/// Loads a model, reserves if asked to, and generates three tokens. An error ends it, and there is never another.
fn run(device: &Device, file: &str, is_reserved: bool) -> Result<Vec<u32>> {
    let model = Model::load(project_file(file), device)?;
    if is_reserved {
        let buffer = TensorBuffer::new(device);
        device.set_tensor_buffer(buffer.clone());
        buffer.reserve_for(&model, CONTEXT)?;
    }
    let sampling = SamplingOptions::greedy();
    let options = GenerateOptions::default().with_max_tokens(MAX_TOKENS).with_context(CONTEXT).with_sampling(sampling);
    let mut generator = Generator::new(model.clone(), &[1, 5, 7], &options)?;
    let tokens: Vec<Result<u32>> = generator.by_ref().collect();
    let n_errors = tokens.iter().filter(|token| token.is_err()).count();
    assert!(n_errors <= 1, "{n_errors} errors");
    assert!(generator.next().is_none());
    tokens.into_iter().collect()
}

/// Nothing is held but what is idle in pool and reserve, and the pool gives up its part.
fn check_nothing_is_held(device: &Device, what: &str) {
    let stats = device.stats();
    assert_eq!((stats.live_bytes, stats.waste_bytes, stats.mapped_bytes), (0, 0, 0), "{what}: {stats:?}");
    assert_eq!(stats.driver_bytes, stats.pooled_bytes + stats.reserved_free_bytes, "{what}: {stats:?}");
    device.trim();
    let stats = device.stats();
    assert_eq!(stats.driver_bytes, stats.reserved_free_bytes, "{what}: {stats:?}");
}

/// Fails each allocation of a run in turn. Gives how many there were.
fn fail_each(file: &str, is_pooled: bool, is_reserved: bool) -> u64 {
    let options = || if is_pooled { MemoryOptions::default() } else { MemoryOptions::unpooled() };
    let expected = run(&device(options()), file, is_reserved).expect("no allocation fails");
    assert!(!expected.is_empty());
    for n in 1.. {
        let what = format!("{file}, pool {is_pooled}, reserved {is_reserved}, allocation {n}");
        let mut memory = options();
        memory.fail_allocation = Some(n);
        let device = device(memory);
        let result = run(&device, file, is_reserved);
        check_nothing_is_held(&device, &what);
        let Err(error) = result else {
            // There is no allocation with this number: all have had their turn.
            assert_eq!(result.ok(), Some(expected), "{what}");
            return n - 1;
        };
        assert!(error.to_string().contains("out of memory: "), "{what}: {error}");
        drop(device.replace_tensor_buffer(None));
        assert_eq!(device.stats().driver_bytes, device.stats().reserved_free_bytes, "{what}");
        assert_eq!(device.stats().reserved_free_bytes, 0, "{what}");
        assert_eq!(run(&device, file, is_reserved).ok().as_ref(), Some(&expected), "{what}: tried again");
        drop(device.replace_tensor_buffer(None));
        check_nothing_is_held(&device, &what);
        assert_eq!((device.stats().driver_bytes, device.stats().allocation_count), (0, device.stats().free_count));
    }
    0
}

#[test]
fn each_allocation_of_a_small_model_fails_in_turn() {
    let mut counts = Vec::new();
    for is_pooled in [false, true] {
        for is_reserved in [false, true] {
            counts.push(fail_each("tests/data/random-f16.gguf", is_pooled, is_reserved));
            fail_each("tests/data/random-q8_0.gguf", is_pooled, is_reserved);
        }
    }
    // Without a pool every result is an allocation; with a reservation only the reservation's buffers are.
    assert!(counts[0] > counts[2] && counts[2] >= 10, "{counts:?}");
    assert_eq!(counts[1], counts[3], "{counts:?}");
}

/// Two layers, three tokens, pool off and on, reserved and not.
#[test]
fn each_allocation_of_two_layers_fails_in_turn() {
    let file = std::env::temp_dir().join(format!("tl-faults-{}.gguf", std::process::id()));
    SyntheticModel::new("tiny", "q8_0", 7).and_then(|model| model.write(&file, &Device::cpu())).expect("a model file");
    let path = file.to_str().expect("a path in Unicode");
    for is_pooled in [false, true] {
        for is_reserved in [false, true] {
            // Reserved are keys and values of each layer, the logits and an arena.
            let least = if is_reserved { 2 * 2 + 2 } else { 11 };
            assert!(fail_each(path, is_pooled, is_reserved) >= least);
        }
    }
    drop(std::fs::remove_file(&file));
}

/// The demo model has 22 layers: the prompt's and the first steps' allocations.
#[test]
fn each_allocation_of_the_demo_model_fails_in_turn() {
    assert!(fail_each("models/demo-q4_0.gguf", true, false) > 44);
    assert!(fail_each("models/demo-q4_0.gguf", true, true) > 44);
}
