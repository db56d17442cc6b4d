//! Whole programs' requests replayed on a simulated device: the results of pool, tensor buffer and arena.
//!
//! `just bench traces` prints the table of `docs/memory-traces.md`. Nothing is timed: the figures are the device's own
//! counters, the same on every machine.

use std::collections::VecDeque;

use tl_device::{
    DType, Device, DeviceOptions, Error, Layout, Lease, MemoryOptions, Role, Simulation, TensorBuffer, bytes,
};

mod steps;

use steps::{Action, Llama, Steps, TINYLLAMA};
use tl_engine::Model;

/// A program's activations, and its name in the table.
struct Program {
    name: &'static str,
    steps: Steps,
}

/// Result of one way of serving a program.
struct Outcome {
    allocations: u64,
    hit_rate: f64,
    peak_live: u64,
    peak_driver: u64,
}

fn programs() -> Vec<Program> {
    let model = TINYLLAMA.counting();
    let prefill = |n: usize| Steps::of(&model, n);
    let decode = {
        let mut steps = prefill(128);
        (0..200).for_each(|_| steps.forward(&model, 1));
        steps
    };
    vec![
        Program { name: "prefill of 1", steps: prefill(1) },
        Program { name: "prefill of 128", steps: prefill(128) },
        Program { name: "prefill of 2048", steps: prefill(2048) },
        Program { name: "prefill of 128, 200 tokens decoded", steps: decode },
        Program { name: "decoding, keys and values copied as they grow", steps: growing_cache(&model, 200) },
        Program { name: "two models in turns", steps: two_models(&model, 50) },
        Program { name: "sizes that only grow", steps: growing_sizes(400) },
        Program { name: "small ones that stay beside huge ones", steps: small_beside_huge(200) },
    ]
}

/// A cache of programs that concatenate the new token's keys and values to the old ones: a new tensor for each layer
/// and token, one row longer.
fn growing_cache(model: &Model, n_tokens: usize) -> Steps {
    let mut steps = Steps::default();
    let mut held: VecDeque<usize> = VecDeque::new();
    for n in 1..=n_tokens {
        for _ in 0..2 * TINYLLAMA.n_layers {
            let longer = steps.take(Layout::from(vec![n, TINYLLAMA.n_kv_heads, TINYLLAMA.head_dim]));
            if n > 1 {
                steps.give_back(held.pop_front().as_slice());
            }
            held.push_back(longer);
        }
        steps.forward(model, 1);
    }
    steps.give_back(held.make_contiguous());
    steps
}

/// A large model and a small one that drafts for it: four tokens of the small one, then those at once by the large one.
fn two_models(model: &Model, n_rounds: usize) -> Steps {
    let draft =
        Llama { n_layers: 6, dim: 512, n_heads: 8, n_kv_heads: 2, head_dim: 64, ffn_dim: 1408, vocab_size: 32000 };
    let draft = draft.counting();
    let mut steps = Steps::default();
    for _ in 0..n_rounds {
        (0..4).for_each(|_| steps.forward(&draft, 1));
        steps.forward(model, 4);
    }
    steps
}

/// Attention's scores, `[heads, n, n]`, for a text that grows by a token: no size recurs.
fn growing_sizes(n_tokens: usize) -> Steps {
    let mut steps = Steps::default();
    for n in 1..=n_tokens {
        let scores = steps.take(Layout::new(DType::F32, [TINYLLAMA.n_heads, n, n]));
        let weights = steps.take(Layout::new(DType::F32, [TINYLLAMA.n_heads, n, n]));
        steps.give_back(&[scores]);
        let out = steps.take(Layout::from(vec![n, TINYLLAMA.dim]));
        steps.give_back(&[weights, out]);
    }
    steps
}

/// A permanent kilobyte is taken between huge temporary tensors: the pattern that fragments splitting allocators.
fn small_beside_huge(n_rounds: usize) -> Steps {
    let mut steps = Steps::default();
    let mut small: VecDeque<usize> = VecDeque::new();
    for n in 0..n_rounds {
        let huge = steps.take(Layout::from(vec![512, TINYLLAMA.ffn_dim + 64 * (n % 7)]));
        small.push_back(steps.take(Layout::from(vec![512])));
        let other = steps.take(Layout::from(vec![512, TINYLLAMA.dim]));
        steps.give_back(&[huge]);
        if small.len() > 50 {
            steps.give_back(small.pop_front().as_slice());
        }
        steps.give_back(&[other]);
    }
    steps.give_back(small.make_contiguous());
    steps
}

fn device(memory: MemoryOptions) -> Device {
    let mut options = DeviceOptions::default();
    options.threads = 1;
    options.memory = memory;
    options.simulation = Some(Simulation::default());
    Device::cpu_with(&options)
}

/// Replays a program; returns the maximum bytes that the device held.
fn replay(device: &Device, steps: &Steps) -> Result<u64, Error> {
    let mut held: Vec<Option<Lease>> = Vec::with_capacity(steps.n_taken());
    let mut peak_driver = device.stats().driver_bytes;
    for action in &steps.actions {
        match *action {
            Action::Take { layout } => {
                held.push(Some(device.take(&steps.layouts[layout], Role::Activation)?));
                peak_driver = peak_driver.max(device.stats().driver_bytes);
            }
            Action::Return { tensor } => drop(held[tensor].take()),
        }
    }
    Ok(peak_driver)
}

/// Replays a program on a prepared device.
fn outcome(device: &Device, steps: &Steps) -> Result<Outcome, Error> {
    let before = device.stats().allocation_count;
    let peak_driver = replay(device, steps)?;
    let stats = device.stats();
    assert_eq!(stats.live_bytes, 0, "everything was returned");
    let allocations = stats.allocation_count - before;
    let hit_rate = 1.0 - allocations as f64 / steps.n_taken() as f64;
    Ok(Outcome { allocations, hit_rate, peak_live: stats.peak_bytes, peak_driver })
}

/// Pool, tensor buffer by the trace's plan, arena by the trace. The second and third replay the recording of the first.
fn outcomes(steps: &Steps) -> Result<[(&'static str, Outcome); 3], Error> {
    let pool_device = device(MemoryOptions::default());
    pool_device.start_trace();
    let pool = outcome(&pool_device, steps)?;
    let trace = pool_device.stop_trace();
    let reserved = |reserve: &dyn Fn(&TensorBuffer) -> Result<(), Error>| -> Result<Outcome, Error> {
        let device = device(MemoryOptions::default());
        let buffer = TensorBuffer::new(&device);
        reserve(&buffer)?;
        device.set_tensor_buffer(buffer);
        outcome(&device, steps)
    };
    let buffer = reserved(&|buffer| trace.plan()?.reserve(buffer))?;
    let arena = reserved(&|buffer| buffer.reserve_arena(&trace.arena()?))?;
    Ok([("pool", pool), ("TensorBuffer", buffer), ("arena", arena)])
}

fn main() -> Result<(), Error> {
    println!(
        "| program | served by | takes | allocations in it | served without | most live | most held | held beyond live |"
    );
    println!("|---|---|---:|---:|---:|---:|---:|---:|");
    for program in programs() {
        for (index, (name, outcome)) in outcomes(&program.steps)?.into_iter().enumerate() {
            let (title, takes) = match index {
                0 => (program.name, program.steps.n_taken().to_string()),
                _ => ("", String::new()),
            };
            let beyond = outcome.peak_driver as f64 / outcome.peak_live as f64 - 1.0;
            println!(
                "| {title} | {name} | {takes} | {} | {:.2} % | {} | {} | {:.1} % |",
                outcome.allocations,
                100.0 * outcome.hit_rate,
                bytes(outcome.peak_live),
                bytes(outcome.peak_driver),
                100.0 * beyond
            );
        }
    }
    Ok(())
}
