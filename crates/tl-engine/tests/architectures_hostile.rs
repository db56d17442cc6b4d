//! Models whose metadata lie: loading and computing give an error or logits, in little memory, and never a panic.

use std::path::PathBuf;

use proptest::prelude::*;
use tl_device::{Device, DeviceOptions};
use tl_engine::{Activations, Model, Planner};

#[path = "../../../tests/heap.rs"]
mod heap;
mod tiny;
use heap::{alone, most_bytes};
use tiny::{ALL, Tiny};

/// What devices may hold. Tensors lie in memory that the counting allocator does not see.
const DEVICE_LIMIT: usize = 8 << 20;
/// More than the small models need of the heap.
const HEAP_LIMIT: usize = 32 << 20;
const CONTEXT: usize = 12;

/// A file for one model after the other, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        Scratch(std::env::temp_dir().join(format!("tl-hostile-{}-{name}.gguf", std::process::id())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Loads the model, plans, and takes two steps. Whether all of that worked; an error has a text.
fn run(scratch: &Scratch, bytes: &[u8]) -> bool {
    // A file that is mapped is not written to: the one before is gone by then, and its name is free.
    let _ = std::fs::remove_file(&scratch.0);
    std::fs::write(&scratch.0, bytes).unwrap();
    let mut options = DeviceOptions::default();
    options.threads = 1;
    options.memory.limit_bytes = Some(DEVICE_LIMIT);
    let device = Device::cpu_with(&options);
    let steps = || -> tl_engine::Result<()> {
        let model = Model::load(&scratch.0, &device)?.with_activations(Activations::Float32);
        let _ = Planner::of(&model).plan(model.config().context_length);
        let mut cache = model.new_cache(CONTEXT)?;
        for part in [&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10][..], &[3]] {
            let logits = model.forward(part, &mut cache)?;
            assert_eq!(*logits.dims(), [1, model.config().vocab_size]);
        }
        Ok(())
    };
    match steps() {
        Ok(()) => true,
        Err(error) => {
            let text = error.to_string();
            assert!(!text.is_empty() && !text.contains("panicked"), "{text}");
            false
        }
    }
}

/// Where a number of a GGUF file's metadata lies.
#[derive(Clone, Debug)]
struct Number {
    key: String,
    at: usize,
    len: usize,
    is_float: bool,
}

/// The numbers that lie behind keys of the file, and where its metadata and list of tensors end.
fn numbers(bytes: &[u8], n_tensors_and_keys: (u64, u64)) -> (Vec<Number>, usize) {
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
    let (n_tensors, n_keys) = n_tensors_and_keys;
    let mut numbers = Vec::new();
    let mut at = 24;
    for _ in 0..n_keys {
        let len = long(at);
        let key = String::from_utf8(bytes[at + 8..at + 8 + len].to_vec()).unwrap();
        let kind = word(at + 8 + len);
        at += 12 + len;
        if kind == 9 {
            // A list of numbers, or of truth values.
            let len = match word(at) {
                4 | 5 => 4,
                7 => 1,
                _ => panic!("{key} is a list of something else"),
            };
            for _ in 0..long(at + 4) {
                numbers.push(Number { key: key.clone(), at: at + 12, len, is_float: false });
                at += len;
            }
            at += 12;
            continue;
        }
        let len = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            8 => 8 + long(at),
            10..=12 => 8,
            _ => panic!("{key} is of a kind that there is not"),
        };
        if kind != 8 {
            numbers.push(Number { key, at, len, is_float: kind == 6 });
        }
        at += len;
    }
    for _ in 0..n_tensors {
        at += 8 + long(at);
        at += 4 + 8 * word(at) as usize + 12;
    }
    (numbers, at)
}

fn counts(bytes: &[u8]) -> (u64, u64) {
    let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    (long(8), long(16))
}

fn files() -> impl Iterator<Item = (&'static Tiny, Vec<u8>)> {
    ALL.iter().filter_map(|tiny| Some((tiny, std::fs::read(tiny.gguf()?).unwrap())))
}

const INTEGERS: [u64; 15] = [
    0,
    1,
    2,
    3,
    5,
    7,
    33,
    520,
    1 << 16,
    (1 << 28) - 1,
    1 << 28,
    (1 << 31) - 1,
    1 << 31,
    u32::MAX as u64 - 1,
    u32::MAX as u64,
];
const FLOATS: [f32; 10] = [0.0, -0.0, -1.0, 1e-45, 1e-30, 0.5, 1e30, f32::MAX, f32::INFINITY, f32::NAN];

#[test]
fn every_number_of_the_metadata_may_lie() {
    let _guard = alone();
    let scratch = Scratch::new("numbers");
    let (mut n_run, mut n_worked) = (0, 0);
    for (tiny, mut bytes) in files() {
        let (numbers, _) = numbers(&bytes, counts(&bytes));
        assert!(numbers.len() >= 10, "{}", tiny.name);
        for Number { key, at, len, is_float } in numbers {
            let place = at..at + len;
            let kept = bytes[place.clone()].to_vec();
            let values: Vec<Vec<u8>> = match is_float {
                true => FLOATS.iter().map(|x| x.to_le_bytes().to_vec()).collect(),
                false => INTEGERS.iter().map(|x| x.to_le_bytes()[..len].to_vec()).collect(),
            };
            for value in values {
                bytes[place.clone()].copy_from_slice(&value);
                let most = most_bytes(|| n_worked += usize::from(run(&scratch, &bytes)));
                assert!(most < HEAP_LIMIT, "{}, {key} {value:?}: {most} bytes at once", tiny.name);
                n_run += 1;
            }
            bytes[place].copy_from_slice(&kept);
        }
        assert!(run(&scratch, &bytes), "{}", tiny.name);
    }
    // A window or a base of positions may be any; a width may not.
    assert!(n_worked > n_run / 20 && n_worked < n_run * 9 / 10, "{n_worked} of {n_run} worked");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn several_numbers_may_lie(
        which in any::<prop::sample::Index>(),
        lies in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u32>()), 2..5),
    ) {
        let _guard = alone();
        let scratch = Scratch::new("several");
        let files: Vec<_> = files().collect();
        let (tiny, mut bytes) = files[which.index(files.len())].clone();
        let (numbers, _) = numbers(&bytes, counts(&bytes));
        for (number, value, random) in lies {
            let Number { at, len, is_float, .. } = &numbers[number.index(numbers.len())];
            let choice = value.index(INTEGERS.len() + 3);
            let value = match (INTEGERS.get(choice), is_float) {
                (Some(_), true) => u64::from(FLOATS[choice % FLOATS.len()].to_bits()),
                (Some(&value), false) => value,
                (None, _) if choice.is_multiple_of(2) => u64::from(random % 100),
                (None, _) => u64::from(random),
            };
            bytes[*at..at + len].copy_from_slice(&value.to_le_bytes()[..*len]);
        }
        let most = most_bytes(|| _ = run(&scratch, &bytes));
        prop_assert!(most < HEAP_LIMIT, "{}: {most} bytes at once", tiny.name);
    }

    #[test]
    fn flipped_bytes(
        which in any::<prop::sample::Index>(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let _guard = alone();
        let scratch = Scratch::new("flipped");
        let files: Vec<_> = files().collect();
        let (tiny, mut bytes) = files[which.index(files.len())].clone();
        let (_, end) = numbers(&bytes, counts(&bytes));
        for (at, flip) in flips {
            bytes[at.index(end)] ^= flip;
        }
        let most = most_bytes(|| _ = run(&scratch, &bytes));
        prop_assert!(most < HEAP_LIMIT, "{}: {most} bytes at once", tiny.name);
    }
}
