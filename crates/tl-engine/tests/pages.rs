//! Steps of several sequences, whose keys and values lie in pages of one memory: the logits of the reference, the same bits
//! whoever else is in a step and wherever the pages are, in memory that is planned.

use tl_device::{Device, DeviceOptions, Isa, TensorBuffer};
use tl_engine::{Activations, BatchSizes, KvCache, Model};
use tl_model::{LogitsRows, ModelError, PAGE_LEN, StepSequence};

mod tiny;
use tiny::{ALL, Tiny, distance};

/// Off the reference by no more than steps of one sequence: see `architectures.rs`.
const FLOAT32: f64 = 2e-5;

fn devices() -> Vec<Device> {
    let device = |isa, threads| {
        let mut options = DeviceOptions::default();
        (options.threads, options.isa, options.memory.nan_fill) = (threads, isa, true);
        Device::cpu_with(&options)
    };
    let sets = ["avx2", "portable"].iter().filter_map(|name| Isa::named(name));
    std::iter::once(device(None, 3)).chain(sets.map(|isa| device(Some(isa), 1))).collect()
}

/// Whether a model's layers keep states, which do not lie in pages.
fn keeps_states(tiny: &Tiny) -> bool {
    matches!(tiny.architecture, "lfm2" | "qwen3next" | "qwen35" | "qwen35moe")
}

/// A text with pages of its own.
struct Text {
    tokens: Vec<u32>,
    pages: Vec<u32>,
    held: usize,
}

impl Text {
    fn sequence(&self, adding: usize) -> StepSequence<'_> {
        StepSequence { pages: &self.pages, held: self.held, adding }
    }
}

/// The logits of the rows of a step in which each text takes this many of its tokens.
fn step(model: &Model, cache: &mut KvCache, texts: &mut [&mut Text], adding: usize) -> Vec<Vec<f32>> {
    let tokens: Vec<u32> = texts.iter().flat_map(|text| text.tokens[text.held..][..adding].to_vec()).collect();
    let sequences: Vec<StepSequence<'_>> = texts.iter().map(|text| text.sequence(adding)).collect();
    let logits = model.scripted().forward_step(&tokens, sequences, LogitsRows::All, cache).unwrap();
    let width = model.config().vocab_size;
    let values = logits.cast::<f32>().unwrap().to_vec().unwrap();
    texts.iter_mut().for_each(|text| text.held += adding);
    values.chunks(width).map(<[f32]>::to_vec).collect()
}

fn as_f64(rows: &[Vec<f32>]) -> Vec<Vec<f64>> {
    rows.iter().map(|row| row.iter().map(|x| f64::from(*x)).collect()).collect()
}

#[test]
fn logits_of_the_reference() {
    for device in devices() {
        for tiny in ALL.iter().filter(|tiny| !keeps_states(tiny)) {
            let reference = tiny.reference();
            let model = tiny.load(&device, Activations::Float32);
            let n = reference.ids.len();
            let n_pages = n.div_ceil(PAGE_LEN) as u32;
            for len in [n, 5, 1] {
                let mut cache = model.scripted().new_pages(2 * n_pages as usize, n).unwrap();
                let pages = (0..n_pages).map(|page| 2 * page + 1).collect();
                let mut text = Text { tokens: reference.ids.clone(), pages, held: 0 };
                let mut rows = Vec::new();
                while text.held < n {
                    let adding = len.min(n - text.held);
                    rows.extend(step(&model, &mut cache, &mut [&mut text], adding));
                }
                let distance = distance(&as_f64(&rows), &reference.logits);
                assert!(distance <= FLOAT32, "{} in steps of {len}: off by {distance:.3e}", tiny.name);
            }
        }
    }
}

/// A text has the bits that it has alone, beside any others.
#[test]
fn a_text_has_the_bits_that_it_has_alone() {
    let context = 3 * PAGE_LEN;
    for device in devices() {
        for tiny in ALL.iter().filter(|tiny| !keeps_states(tiny)) {
            for activations in [Activations::Float16, Activations::Float32] {
                let model = tiny.load(&device, activations);
                let vocab = model.config().vocab_size;
                let text = |which: usize, pages: [u32; 3]| {
                    let id = |i: usize| ((7 * i * i + (3 + 5 * which) * i + 5 + which) % vocab) as u32;
                    Text { tokens: (0..context).map(id).collect(), pages: pages.to_vec(), held: 0 }
                };
                // Alone, in the first pages.
                let mut alone = Vec::new();
                let mut cache = model.scripted().new_pages(9, context).unwrap();
                let prompts = [37, 20, 64];
                for (which, prompt) in prompts.into_iter().enumerate() {
                    let mut one = text(which, [0, 1, 2]);
                    let mut rows = step(&model, &mut cache, &mut [&mut one], prompt);
                    for _ in 0..8 {
                        rows.extend(step(&model, &mut cache, &mut [&mut one], 1));
                    }
                    alone.push(rows);
                }
                // Together: the prompts one after the other, then one token of each at a time.
                let mut cache = model.scripted().new_pages(9, context).unwrap();
                let mut texts = [text(0, [4, 0, 8]), text(1, [7, 2, 3]), text(2, [1, 6, 5])];
                let mut together: Vec<Vec<Vec<f32>>> = Vec::new();
                for which in [0, 1, 2] {
                    together.push(step(&model, &mut cache, &mut [&mut texts[which]], prompts[which]));
                }
                for _ in 0..8 {
                    let rows = step(&model, &mut cache, &mut texts.each_mut(), 1);
                    together.iter_mut().zip(rows).for_each(|(all, row)| all.push(row));
                }
                let bits = |rows: &[Vec<f32>]| -> Vec<u32> { rows.iter().flatten().map(|x| x.to_bits()).collect() };
                for which in 0..3 {
                    let what =
                        format!("{} {activations:?}, text {which}, {}", tiny.name, device.threads().isa().name());
                    assert!(bits(&alone[which]) == bits(&together[which]), "{what}");
                }
            }
        }
    }
}

/// What was planned is what steps of any size take.
#[test]
fn steps_take_what_was_planned() {
    let (context, n_pages, most, chunk) = (2 * PAGE_LEN, 12, 5, 40);
    for tiny in ALL.iter().filter(|tiny| !keeps_states(tiny)) {
        let mut options = DeviceOptions::default();
        (options.threads, options.memory.nan_fill) = (2, true);
        let device = Device::cpu_with(&options);
        let model = tiny.load(&device, Activations::Float16);
        let buffer = TensorBuffer::new(&device);
        model.scripted().reserve_batch(&buffer, BatchSizes { n_pages, context, sequences: most, chunk }).unwrap();
        device.set_tensor_buffer(buffer.clone());
        device.seal();
        let held = device.stats();
        let mut cache = model.scripted().new_pages(n_pages, context).unwrap();
        let ids: Vec<u32> = (0..chunk as u32).map(|i| i % model.config().vocab_size as u32).collect();
        for n in 1..=chunk {
            let sequence = StepSequence { pages: &[3, 5], held: context - n, adding: n };
            model.scripted().forward_step(&ids[..n], [sequence], LogitsRows::Last, &mut cache).unwrap();
        }
        for n in 1..=most {
            let sequence = StepSequence { pages: &[7, 1], held: context - 1, adding: 1 };
            let sequences = std::iter::repeat_n(sequence, n);
            let logits = model.scripted().forward_step(&ids[..n], sequences, LogitsRows::All, &mut cache).unwrap();
            assert_eq!(logits.dims(), [n, model.config().vocab_size]);
        }
        let stats = device.stats();
        assert_eq!((stats.driver_bytes, stats.allocation_count), (held.driver_bytes, held.allocation_count));
        assert_eq!(buffer.stats().fallback_count, 0, "{}", tiny.name);
    }
}

#[test]
fn what_cannot_lie_in_pages() {
    let device = Device::cpu();
    for tiny in ALL.iter().filter(|tiny| keeps_states(tiny)) {
        let model = tiny.load(&device, Activations::Float32);
        let error = model.scripted().new_pages(4, PAGE_LEN).unwrap_err();
        assert!(matches!(error, ModelError::CachePages { .. }), "{error}");
        let sizes = BatchSizes { n_pages: 4, context: PAGE_LEN, sequences: 2, chunk: 8 };
        assert!(model.scripted().batch_plan(sizes).is_err());
    }
    let model = tiny::named("llama").load(&device, Activations::Float32);
    let mut cache = model.scripted().new_pages(4, 2 * PAGE_LEN).unwrap();
    let mut run = |sequences: &[StepSequence<'_>]| {
        let n = sequences.iter().map(|sequence| sequence.adding).sum();
        let ran = model.scripted().forward_step(&vec![1; n], sequences.iter().copied(), LogitsRows::Last, &mut cache);
        ran.map(|_| String::new()).unwrap_or_else(|error| error.to_string())
    };
    let of = |pages, held, adding| StepSequence { pages, held, adding };
    assert_eq!(run(&[of(&[0, 1], 40, 3)]), "");
    for (sequence, expected) in [
        (of(&[0], 31, 2), "too few pages"),
        (of(&[4], 0, 1), "a page that the cache has not"),
        (of(&[0, 1], 60, 5), "it holds 60 of at most 64 tokens, 5 more"),
    ] {
        let told = run(&[sequence]);
        assert!(told.contains(expected), "{told}");
    }
    assert!(run(&[of(&[0], 2, 1), of(&[1], 0, 0)]).contains("adds no token"));
    // A step is said before it runs, and a cache for one sequence has none.
    let mut one = model.new_cache(8).unwrap();
    let error = model.scripted().forward_step(&[1], [of(&[0], 0, 1)], LogitsRows::Last, &mut one).unwrap_err();
    assert!(error.to_string().contains("no pages"), "{error}");
    let error = model.forward(&[1], &mut cache).unwrap_err();
    assert!(error.to_string().contains("no sequence is named"), "{error}");
    let ran = model.scripted().forward_step(&[1, 2], [of(&[0], 0, 1)], LogitsRows::Last, &mut cache);
    assert!(ran.unwrap_err().to_string().contains("another number of tokens"));
}
