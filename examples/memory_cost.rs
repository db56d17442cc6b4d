//! What memory costs while a model runs, in four ways: every tensor allocated, the reactive pool, buffers reserved by layout, and
//! the arena that `reserve_for` makes.
//! Prints a table in markdown for each model: allocations per token, hit rate, bytes, and the share of the time that goes
//! into taking and giving back.
//!
//!     cargo run --release -p tensorlogic-rt --example memory_cost -- models/demo-q8_0.gguf [MODEL.gguf …]

use std::error::Error;
use std::time::{Duration, Instant};

use tensorlogic::{
    Action, Device, DeviceOptions, KvCache, Layout, Lease, MemoryOptions, Model, Purpose, ReserveFor, Simulation,
    Source, TensorBuffer, Trace, bytes,
};

/// Tokens of the prompt, which fills the context, and tokens decoded behind its beginning: what a reservation for this context
/// holds is needed, all of it.
const PROMPT: usize = 128;
const DECODED: usize = 100;
/// Times that each way is run.
const ROUNDS: usize = 3;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let mut paths: Vec<String> = std::env::args().skip(1).collect();
    if paths.is_empty() {
        paths.push("models/demo-q8_0.gguf".to_owned());
    }
    paths.iter().try_for_each(|path| compare(path))
}

/// Where the memory of tensors comes from.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Allocated,
    Pool,
    Layouts,
    ReserveFor,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Way::Allocated => "every tensor allocated",
            Way::Pool => "BufferPool",
            Way::Layouts => "TensorBuffer by layout",
            Way::ReserveFor => "`reserve_for`",
        }
    }
}

/// What a run showed.
struct Run {
    allocations: [u64; 2],
    served: [u64; 2],
    peak_bytes: u64,
    reserved_bytes: u64,
    driver_bytes: u64,
    /// Times of the prompt and of a decoded token: the shortest, since whatever else the machine does only adds to them.
    steps: [Duration; 2],
    /// The part of them that is taking and giving back, the shortest of many repetitions.
    memory: [Duration; 2],
    /// What the model said; the same in every way.
    logits: Vec<u16>,
}

fn compare(path: &str) -> Result<()> {
    let trace = trace_run(path)?;
    let mut runs: Vec<(Way, Run)> = Vec::new();
    for way in [Way::Allocated, Way::Pool, Way::Layouts, Way::ReserveFor] {
        // The first round warms the machine up; of the times the shorter count.
        let mut best = run(path, way, &trace)?;
        for _ in 1..ROUNDS {
            let again = run(path, way, &trace)?;
            for i in 0..2 {
                best.steps[i] = best.steps[i].min(again.steps[i]);
                best.memory[i] = best.memory[i].min(again.memory[i]);
            }
        }
        runs.push((way, best));
    }
    if runs.iter().any(|(_, run)| run.logits != runs[0].1.logits) {
        return Err("the ways gave different logits".into());
    }
    let model = simulated(path)?;
    let cache_bytes = model.new_cache(PROMPT).map(|_cache| model.device().stats().cache_bytes)?;
    print(path, &runs, cache_bytes, trace.arena()?.lower_bound_bytes as u64);
    Ok(())
}

/// The model on a device that only counts.
fn simulated(path: &str) -> Result<Model> {
    let mut options = DeviceOptions::default();
    options.simulation = Some(Simulation::default());
    Ok(Model::load(path, &Device::cpu_with(&options))?)
}

/// What the cache, the prompt and two decoded tokens take, on a device that only counts.
fn trace_run(path: &str) -> Result<Trace> {
    let model = simulated(path)?;
    model.device().start_trace();
    let mut cache = model.new_cache(PROMPT)?;
    model.forward(&prompt(&model), &mut cache)?;
    cache.truncate(PROMPT - DECODED)?;
    model.forward(&[1], &mut cache)?;
    model.forward(&[1], &mut cache)?;
    Ok(model.device().stop_trace())
}

fn prompt(model: &Model) -> Vec<u32> {
    (0..PROMPT).map(|i| (i * 7919 % model.config().vocab_size) as u32).collect()
}

fn run(path: &str, way: Way, trace_of_run: &Trace) -> Result<Run> {
    let mut options = DeviceOptions::default();
    if way == Way::Allocated {
        options.memory = MemoryOptions::unpooled();
    }
    let device = Device::cpu_with(&options);
    let model = Model::load(path, &device)?;
    let buffer = TensorBuffer::new(&device);
    let config = model.config();
    match way {
        Way::Allocated | Way::Pool => {}
        Way::Layouts => trace_of_run.plan()?.reserve(&buffer)?,
        Way::ReserveFor => buffer.reserve_for(&model, PROMPT)?,
    }
    device.set_tensor_buffer(buffer.clone());
    let prompt = prompt(&model);
    let mut cache = model.new_cache(PROMPT)?;
    // Allocations and requests served, so far.
    let counts = || {
        let stats = device.stats();
        (stats.allocation_count, stats.pool_reuse_count + buffer.stats().taken_count)
    };
    let start = counts();
    let (mut times, mut logits) = (Vec::new(), Vec::new());
    let began = Instant::now();
    drop(model.forward(&prompt, &mut cache)?);
    let prefill = began.elapsed();
    let between = counts();
    cache.truncate(PROMPT - DECODED)?;
    for i in 0..DECODED {
        let began = Instant::now();
        let last = model.forward(&[(i * 31 % config.vocab_size) as u32], &mut cache)?;
        times.push(began.elapsed());
        if i + 1 == DECODED {
            logits = last.into_typed::<tensorlogic::f16>()?.to_vec()?.into_iter().map(|x| x.to_bits()).collect();
        }
    }
    let end = counts();
    // The same two steps again, written down.
    cache.clear();
    let prefill_trace = trace(&model, &prompt, &mut cache)?;
    cache.truncate(PROMPT - DECODED)?;
    let traces = [prefill_trace, trace(&model, &[1], &mut cache)?];
    let driver = traces.iter().map(|trace| trace.totals().peak_driver_bytes).max();
    let memory = [replay(&device, &traces[0])?, replay(&device, &traces[1])?];
    Ok(Run {
        allocations: [between.0 - start.0, end.0 - between.0],
        served: [between.1 - start.1, end.1 - between.1],
        peak_bytes: device.stats().peak_bytes,
        reserved_bytes: buffer.stats().reserved_bytes,
        driver_bytes: driver.unwrap_or(0),
        steps: [prefill, shortest(&times)],
        memory,
        logits,
    })
}

fn trace(model: &Model, tokens: &[u32], cache: &mut KvCache) -> Result<Trace> {
    model.device().start_trace();
    drop(model.forward(tokens, cache)?);
    Ok(model.device().stop_trace())
}

/// A step's use of memory without its arithmetic.
enum Act {
    Take(usize, Layout, Purpose),
    Return(usize),
}

fn shortest(times: &[Duration]) -> Duration {
    times.iter().min().copied().unwrap_or_default()
}

/// How long the takes and returns of a step are by themselves, repeated as often as fits half a second.
fn replay(device: &Device, trace: &Trace) -> Result<Duration> {
    let acts: Vec<Act> = trace.events().filter_map(|event| act(&event.action)).collect();
    let mut held: Vec<Option<Lease>> = Vec::new();
    held.resize_with(acts.len() + 1, || None);
    let mut times = Vec::new();
    let start = Instant::now();
    while times.len() < 5 || start.elapsed() < Duration::from_millis(500) {
        let began = Instant::now();
        for act in &acts {
            match act {
                Act::Take(place, layout, purpose) => held[*place] = Some(device.take(layout, *purpose)?),
                Act::Return(place) => held[*place] = None,
            }
        }
        times.push(began.elapsed());
    }
    Ok(shortest(&times))
}

fn act(action: &Action) -> Option<Act> {
    match action {
        Action::Take { id, layout, role, op, source, .. } if *source != Source::File => {
            Some(Act::Take(*id as usize, layout.clone(), Purpose { role: *role, op }))
        }
        Action::Return { id } => Some(Act::Return(*id as usize)),
        _ => None,
    }
}

fn print(path: &str, runs: &[(Way, Run)], cache_bytes: u64, most_bytes: u64) {
    let bound = cache_bytes + most_bytes;
    let name = std::path::Path::new(path).file_name().map_or(path.into(), |name| name.to_string_lossy());
    println!("\n### {name}: context and prompt of {PROMPT} tokens, then {DECODED} decoded\n");
    println!(
        "| memory | allocations per token, prefill | decode | hit rate | peak live | reserved | held by the device (× the lower bound) | prefill | in takes and returns | decode, per token | in takes and returns |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    for (way, run) in runs {
        let rate = |n: u64, tokens: usize| format!("{:.2}", n as f64 / tokens as f64);
        let asked: u64 = run.allocations.iter().sum::<u64>() + run.served.iter().sum::<u64>();
        let share = |i: usize| {
            let (step, memory) = (run.steps[i].as_secs_f64(), run.memory[i].as_secs_f64());
            format!("{:.2} ms | {:.1} µs ({:.3} %)", step * 1e3, memory * 1e6, memory / step * 100.0)
        };
        println!(
            "| {} | {} | {} | {:.1} % | {} | {} | {} | {} | {} |",
            way.name(),
            rate(run.allocations[0], PROMPT),
            rate(run.allocations[1], DECODED),
            run.served.iter().sum::<u64>() as f64 / asked.max(1) as f64 * 100.0,
            bytes(run.peak_bytes),
            bytes(run.reserved_bytes),
            format_args!("{} ({:.3} ×)", bytes(run.driver_bytes), run.driver_bytes as f64 / bound as f64),
            share(0),
            share(1),
        );
    }
    println!(
        "\nLower bound (KV cache {} and the most activations that are live at once, {}): {}.",
        bytes(cache_bytes),
        bytes(most_bytes),
        bytes(bound)
    );
    let time = |way: Way, i: usize| {
        runs.iter().find(|(other, _)| *other == way).map_or(0.0, |(_, run)| run.memory[i].as_secs_f64())
    };
    for (i, step) in ["prefill", "a decoded token"].into_iter().enumerate() {
        let less = |than: Way, way: Way| (1.0 - time(way, i) / time(than, i)) * 100.0;
        println!(
            "- takes and returns of {step}: by layout {:.1} % less than the BufferPool ({:.1} % less than allocating), `reserve_for` {:.1} % ({:.1} %)",
            less(Way::Pool, Way::Layouts),
            less(Way::Allocated, Way::Layouts),
            less(Way::Pool, Way::ReserveFor),
            less(Way::Allocated, Way::ReserveFor)
        );
    }
}
