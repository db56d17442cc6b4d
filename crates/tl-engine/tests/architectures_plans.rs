//! The memory of every architecture: a plan says what a device then holds, to the byte, and sealed devices generate.

use std::path::Path;

use tl_device::{DType, Device, DeviceOptions, MemoryStats, TensorBuffer};
use tl_engine::{
    Activations, GenerateOptions, Generator, KvCache, LanguageModel, MemoryPlan, Model, Planner, ReserveFor, Result,
    SamplingOptions,
};
use tl_tensor::Tensor;

mod tiny;
use tiny::{ALL, Tiny, named};

const TYPES: [(Activations, Option<DType>); 3] =
    [(Activations::Float16, None), (Activations::Float32, None), (Activations::Float32, Some(DType::F16))];

fn device(limit: Option<u64>) -> Device {
    let mut options = DeviceOptions::default();
    options.threads = 1;
    options.memory.limit_bytes = limit.map(|limit| limit as usize);
    Device::cpu_with(&options)
}

fn prompt(len: usize) -> Vec<u32> {
    (0..len as u32).map(|i| (7 * i * i + 3 * i + 5) % 96).collect()
}

fn options(max_tokens: usize, context: usize) -> GenerateOptions {
    let sampling = SamplingOptions::greedy();
    GenerateOptions::default().with_max_tokens(max_tokens).with_context(context).with_sampling(sampling)
}

/// Contexts below and above what a layer with a window holds, where there is one, up to the longest.
fn contexts(tiny: &Tiny) -> Vec<usize> {
    match tiny.window {
        Some((window, _)) => vec![1, window + 1, 300, window + KvCache::MAX_STEP, window + KvCache::MAX_STEP + 1, 1024],
        // The longest that LongRoPE's short factors hold for, and one more.
        None if tiny.name == "phi4mini-short" => vec![1, 256, 257, 1024],
        None if tiny.name == "phi4mini-long" => vec![1, 16, 17, 256],
        // Fewer than an architecture has heads or groups of experts, too.
        None => vec![1, 3, 24, 256],
    }
}

/// A model that does not end a text by itself.
struct Endless<'a>(&'a Model);

impl LanguageModel for Endless<'_> {
    fn vocab_size(&self) -> usize {
        self.0.vocab_size()
    }

    fn context_length(&self) -> usize {
        self.0.context_length()
    }

    fn is_end(&self, _token: u32) -> bool {
        false
    }

    fn new_cache(&self, context: usize) -> Result<KvCache> {
        self.0.new_cache(context)
    }

    fn forward(&self, tokens: &[u32], cache: &mut KvCache) -> Result<Tensor> {
        self.0.forward(tokens, cache)
    }
}

/// Generates in sealed memory until the context is full: what the device held before, and still does.
fn generate(source: &Path, plan: &MemoryPlan, limit: u64) -> Result<MemoryStats> {
    let context = plan.context;
    let device = device(Some(limit));
    let model = Model::load(source, &device)?.with_activations(plan.activations).with_cache_dtype(plan.cache_dtype);
    let buffer = TensorBuffer::new(&device);
    buffer.reserve_for(&model, context)?;
    device.set_tensor_buffer(buffer.clone());
    device.seal();
    let held = device.stats();
    let half = context.div_ceil(2);
    let mut generator = Generator::new(Endless(&model), &prompt(half), &options(context, context))?;
    let n_tokens = generator.by_ref().collect::<Result<Vec<u32>>>()?.len();
    let what = format!("{}, {context}, {:?}, {}", source.display(), plan.activations, plan.cache_dtype);
    // The last token is chosen by the logits behind a full cache.
    assert_eq!(n_tokens, context - half + 1, "{what}");
    let (stats, buffers) = (device.stats(), buffer.stats());
    assert_eq!((stats.driver_bytes, stats.allocation_count), (held.driver_bytes, held.allocation_count), "{what}");
    assert_eq!((buffers.fallback_count, buffers.hit_rate()), (0, 1.0), "{what}: {buffers:#?}");
    Ok(stats)
}

#[test]
fn what_was_said_is_what_is_taken() {
    for tiny in ALL {
        for (source, (activations, cache)) in
            tiny.sources().flat_map(|source| TYPES.map(|types| (source.clone(), types)))
        {
            let planner = Planner::open(&source, activations).unwrap().with_cache_dtype(cache);
            for context in contexts(tiny) {
                let what = format!("{}, {context}, {activations:?}, {cache:?}", source.display());
                let plan = planner.plan(context).unwrap();
                let stats =
                    generate(&source, &plan, plan.total_bytes()).unwrap_or_else(|error| panic!("{what}: {error}"));
                assert_eq!(plan.total_bytes(), stats.total_bytes(), "{what}");
                assert_eq!(plan.cache_bytes, stats.cache_bytes, "{what}");
                // A byte less is refused.
                let error = generate(&source, &plan, plan.total_bytes() - 1).unwrap_err().to_string();
                assert!(error.contains("over the memory limit"), "{what}: {error}");
            }
        }
    }
}

/// On the CPU a layer with a window holds the rows of the window and of one step, one with a state that alone, and the
/// others the rows of the whole context.
#[test]
fn windows_save_memory() {
    for tiny in ALL {
        for dtype in [DType::F16, DType::F32] {
            let planner = Planner::open(tiny.any_source(), Activations::Float16).unwrap().with_cache_dtype(dtype);
            let config = planner.model().config().clone();
            for context in contexts(tiny) {
                let (window, n_windowed) = tiny.window.unwrap_or((0, 0));
                let (n_recurrent, state_bytes) = tiny.states.unwrap_or((0, 0));
                let n_whole = config.n_layers - n_windowed - n_recurrent;
                let rows = n_windowed * context.min(window + KvCache::MAX_STEP) + n_whole * context;
                let row = config.n_kv_heads * (config.head_dim + config.value_dim) * dtype.block_bytes();
                let plan = planner.plan(context).unwrap();
                let expected = match tiny.architecture {
                    // A head of 16 and two of 32; what else there is reads those of others.
                    "gemma4" => 2 * dtype.block_bytes() * (context.min(8 + KvCache::MAX_STEP) * 16 + context * 2 * 32),
                    _ => rows * row + 2 * state_bytes,
                };
                assert_eq!(plan.cache_bytes, expected as u64, "{}, {context}", tiny.name);
                if tiny.window.is_some() && context == 1024 && tiny.architecture != "gemma4" {
                    assert!(plan.cache_bytes < (config.n_layers * context * row) as u64, "{}", tiny.name);
                }
            }
        }
    }
}

/// Every byte that is reserved is used: a full context takes all of the buffers and all of the arena.
#[test]
fn nothing_is_reserved_in_vain() {
    for tiny in ALL {
        for activations in [Activations::Float16, Activations::Float32] {
            for context in contexts(tiny) {
                let device = device(None);
                let model = tiny.load(&device, activations);
                let buffer = TensorBuffer::new(&device);
                buffer.reserve_for(&model, context).unwrap();
                device.set_tensor_buffer(buffer.clone());
                let mut cache = model.new_cache(context).unwrap();
                drop(model.forward(&prompt(context), &mut cache).unwrap());
                let stats = buffer.stats();
                assert_eq!(stats.fallback_count, 0, "{}, {context}", tiny.name);
                assert_eq!(stats.arena_most_bytes, stats.arena_bytes, "{}, {context}", tiny.name);
                for row in &stats.by_layout {
                    assert_eq!(row.most_in_use, row.reserved_count, "{}, {context}: {row:?}", tiny.name);
                }
            }
        }
    }
}

/// The tokens do not depend on where memory comes from, or on what was in it.
#[test]
fn sealed_memory_gives_the_same_tokens() {
    for tiny in ALL {
        let generate = |is_sealed: bool| -> Vec<u32> {
            let mut options = DeviceOptions::default();
            options.threads = 1;
            options.memory.nan_fill = true;
            let device = Device::cpu_with(&options);
            let model = tiny.load(&device, Activations::Float16);
            if is_sealed {
                let buffer = TensorBuffer::new(&device);
                buffer.reserve_for(&model, 64).unwrap();
                device.set_tensor_buffer(buffer);
                device.seal();
            }
            let generator = Generator::new(model, &prompt(20), &self::options(40, 64)).unwrap();
            generator.map(std::result::Result::unwrap).collect()
        };
        let sealed = generate(true);
        assert_eq!((sealed.len(), &sealed), (40, &generate(false)), "{}", tiny.name);
    }
}

/// Without the reservation a sealed device refuses the first request: the test above can fail.
#[test]
fn sealed_without_a_reservation() {
    let device = device(None);
    let model = named("qwen3moe").load(&device, Activations::Float16);
    let mut cache = model.new_cache(8).unwrap();
    device.seal();
    let error = model.forward(&[1], &mut cache).unwrap_err().to_string();
    assert!(error.contains("buffer_reserve("), "{error}");
}
