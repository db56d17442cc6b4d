//! Decoding allocates nothing on the heap, whatever the architecture: by a global allocator that counts.

use std::path::PathBuf;

use tl_device::{Device, DeviceOptions, MemoryOptions, TensorBuffer};
use tl_engine::{Activations, GenerateOptions, Generator, Model, ReserveFor, SamplingOptions};
use tl_tools::Predictions;

#[path = "../../../tests/heap.rs"]
mod heap;
mod tiny;
use tiny::{ALL, Tiny, named};

/// Where a decoded token's activations come from.
#[derive(Clone, Copy, Debug, PartialEq)]
enum From {
    Reserve,
    Pool,
    /// Allocated anew each time.
    System,
}

/// Heap allocations of this thread from the third generated token on.
fn allocations(tiny: &Tiny, from: From, activations: Activations) -> usize {
    let mut options = DeviceOptions::default();
    options.threads = 1;
    options.memory = if from == From::System { MemoryOptions::unpooled() } else { MemoryOptions::default() };
    let device = Device::cpu_with(&options);
    let model = tiny.load(&device, activations);
    // With windows, tokens behind which rows of the caches move.
    let (n_prompt, context) = if tiny.window.is_some() { (500, 600) } else { (9, 100) };
    if from == From::Reserve {
        let buffer = TensorBuffer::new(&device);
        buffer.reserve_for(&model, context).unwrap();
        device.set_tensor_buffer(buffer);
    }
    let prompt: Vec<u32> = (0..n_prompt).map(|i| (7 * i * i + 3 * i + 5) % 96).collect();
    let sampling = SamplingOptions::default().with_seed(3);
    let options = GenerateOptions::default().with_max_tokens(60).with_context(context).with_sampling(sampling);
    let mut generator = Generator::new(model, &prompt, &options).unwrap();
    for _ in 0..2 {
        generator.next().unwrap().unwrap();
    }
    let before = heap::allocations();
    let n_tokens = generator.by_ref().map(std::result::Result::unwrap).count();
    let after = heap::allocations();
    // A few end their texts before.
    assert!(n_tokens >= 40, "{}: {n_tokens} tokens", tiny.name);
    after - before
}

#[test]
fn decoding_allocates_nothing_on_the_heap() {
    for tiny in ALL {
        for activations in [Activations::Float16, Activations::Float32] {
            for from in [From::Reserve, From::Pool] {
                let found = allocations(tiny, from, activations);
                assert_eq!(found, 0, "{}, {activations:?}, {from:?}", tiny.name);
            }
        }
    }
}

/// Windows of a text allocate a few lists, the same for each.
#[test]
fn windows_allocate_alike_on_the_heap() {
    let mut options = DeviceOptions::default();
    options.threads = 1;
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models/demo-q8_0.gguf");
    let model = Model::load(path, &Device::cpu_with(&options)).unwrap();
    let buffer = TensorBuffer::new(model.device());
    (tl_tools::WINDOWS.reserve)(&buffer, &model, 200).unwrap();
    model.device().set_tensor_buffer(buffer);
    let tokens: Vec<u32> = (0..200).map(|i| (7 * i * i + 3 * i + 5) % 96).collect();
    let mut predictions = Predictions::new(&model, 200).unwrap();
    let mut allocations = || {
        let before = heap::allocations();
        predictions.window(&tokens, &mut |_, _| Ok(())).unwrap();
        heap::allocations() - before
    };
    allocations();
    let (second, third) = (allocations(), allocations());
    assert!(second == third && second < 20, "{second}, {third}");
}

/// The same measurement sees the allocations where nothing is kept.
#[test]
fn without_a_pool_it_does() {
    assert!(allocations(named("gpt-oss"), From::System, Activations::Float16) > 1000);
}
