//! Generating takes the memory that was reserved for it, and no other: by the device's counters, and by those of a
//! counting global allocator.

use std::path::PathBuf;

use tl_device::{DType, Device, DeviceOptions, MemoryOptions, ReserveKind, TensorBuffer};
use tl_engine::{Activations, DecodeStream, GenerateOptions, Generator, Model, ReserveFor, SamplingOptions};

#[path = "../../../tests/heap.rs"]
mod heap;

fn demo(device: &Device, activations: Activations) -> Model {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models/demo-q8_0.gguf");
    Model::load(path, device).unwrap().with_activations(activations)
}

fn one_thread(memory: MemoryOptions) -> Device {
    let mut options = DeviceOptions::default();
    options.threads = 1;
    options.memory = memory;
    Device::cpu_with(&options)
}

fn options(max_tokens: usize, context: usize) -> GenerateOptions {
    let sampling = SamplingOptions::default().with_seed(3);
    GenerateOptions::default().with_max_tokens(max_tokens).with_context(context).with_sampling(sampling)
}

fn prompt(len: usize) -> Vec<u32> {
    (0..len as u32).map(|i| if i == 0 { 1 } else { 300 + i * 7 % 1000 }).collect()
}

/// Every buffer that is reserved is needed, none is missing, and nothing is allocated while generating.
fn check_reservation(context: usize, prompt_len: usize, max_tokens: usize, (activations, cache): (Activations, DType)) {
    let what = format!("context {context}, prompt {prompt_len}, {activations:?}, cache in {cache}");
    let device = one_thread(MemoryOptions::default());
    let model = demo(&device, activations).with_cache_dtype(cache);
    let buffer = TensorBuffer::new(&device);
    buffer.reserve_for(&model, context).unwrap();
    device.set_tensor_buffer(buffer);
    let reserved = device.stats();
    let mut generator = Generator::new(model.clone(), &prompt(prompt_len), &options(max_tokens, context)).unwrap();
    let n = generator.by_ref().map(Result::unwrap).count();
    assert!(n > 0, "{what}");
    let stats = device.tensor_buffer_stats();
    assert_eq!((stats.fallback_count, stats.hit_rate()), (0, 1.0), "{what}: {stats:#?}");
    assert_eq!(device.stats().allocation_count, reserved.allocation_count, "{what}");
    assert_eq!(device.stats().free_count, 0, "{what}");
    // Prompts shorter than the context leave a part of the arena unused, never a buffer.
    let is_full = stats.arena_most_bytes == stats.arena_bytes;
    assert!(is_full || prompt_len < context && stats.arena_most_bytes < stats.arena_bytes, "{what}: {stats:#?}");
    for row in &stats.by_layout {
        assert_eq!(row.most_in_use, row.reserved_count, "{what}: {row:?}");
        assert!(row.kind != ReserveKind::Learnable, "{what}");
    }
    drop(generator);
    assert_eq!(device.tensor_buffer_stats().in_use_count, 0, "{what}");
}

#[test]
fn the_reservation_is_exact() {
    for types in [
        (Activations::Float16, DType::F16),
        (Activations::Float32, DType::F32),
        (Activations::Float16, DType::Q8_0),
        (Activations::Float32, DType::F16),
    ] {
        check_reservation(256, 1, 40, types);
        check_reservation(256, 100, 200, types);
        check_reservation(256, 256, 10, types);
        check_reservation(64, 5, 100, types);
        check_reservation(2, 2, 100, types);
        check_reservation(1, 1, 100, types);
    }
}

/// Heap allocations of this thread from the third generated token on, text included.
fn allocations_while_decoding(device: &Device) -> usize {
    let model = demo(device, Activations::Float16);
    let tokenizer = model.tokenizer().unwrap();
    let mut stream = DecodeStream::new();
    let mut generator = Generator::new(model.clone(), &prompt(9), &options(60, 256)).unwrap();
    for _ in 0..2 {
        generator.next().unwrap().unwrap();
    }
    let before = heap::allocations();
    let mut len = 0;
    for token in generator.by_ref() {
        len += stream.next(&tokenizer, token.unwrap()).unwrap().len();
    }
    let after = heap::allocations();
    assert!(len > 0);
    after - before
}

#[test]
fn decoding_allocates_nothing_on_the_heap() {
    let device = one_thread(MemoryOptions::default());
    let buffer = TensorBuffer::new(&device);
    buffer.reserve_for(&demo(&device, Activations::Float16), 256).unwrap();
    device.set_tensor_buffer(buffer);
    assert_eq!(allocations_while_decoding(&device), 0);
    // The pool serves the same sizes again from the second token on.
    assert_eq!(allocations_while_decoding(&one_thread(MemoryOptions::default())), 0);
    // Without either, the same measurement sees the allocations.
    assert!(allocations_while_decoding(&one_thread(MemoryOptions::unpooled())) > 1000);
}

#[test]
fn the_text_does_not_depend_on_where_memory_comes_from() {
    let generate = |memory: MemoryOptions, reserve: bool| -> Vec<u32> {
        let device = one_thread(memory);
        let model = demo(&device, Activations::Float16);
        if reserve {
            let buffer = TensorBuffer::new(&device);
            buffer.reserve_for(&model, 256).unwrap();
            device.set_tensor_buffer(buffer);
        }
        Generator::new(model.clone(), &prompt(30), &options(100, 256)).unwrap().map(Result::unwrap).collect()
    };
    let mut nan_fill = MemoryOptions::default();
    nan_fill.nan_fill = true;
    let expected = generate(MemoryOptions::unpooled(), false);
    assert!(expected.len() > 10);
    assert_eq!(generate(MemoryOptions::default(), false), expected);
    assert_eq!(generate(MemoryOptions::default(), true), expected);
    assert_eq!(generate(nan_fill.clone(), false), expected);
    assert_eq!(generate(nan_fill, true), expected);
}

#[test]
fn prompts_in_parts_give_the_same_logits() {
    let device = Device::cpu();
    let model = demo(&device, Activations::Float32);
    let ids = prompt(200);
    let logits = |parts: &[usize]| {
        let mut cache = model.new_cache(200).unwrap();
        let mut at = 0;
        let mut last = None;
        for &len in parts {
            last = Some(model.forward(&ids[at..at + len], &mut cache).unwrap());
            at += len;
        }
        assert_eq!((cache.len(), at), (200, 200));
        last.unwrap().into_typed::<f32>().unwrap().to_vec().unwrap()
    };
    let whole = logits(&[200]);
    for parts in [&[199, 1][..], &[1, 199], &[64, 64, 72]] {
        // Up to 16 tokens are summed in another order than more are (and rounded otherwise than by tiles of bfloat16), after which
        // an activation may become the other one of two neighbouring 8-bit numbers.
        let near = if parts.iter().any(|&len| len <= 16) { 0.2 } else { 1e-3 };
        for (a, b) in logits(parts).iter().zip(&whole) {
            assert!((a - b).abs() < near, "{parts:?}: {a} and {b}");
        }
    }
}
