//! Generates 100 tokens in three ways and prints what memory cost: every tensor allocated, the reactive pool, reserved
//! buffers. The text is the same in all three.
//!
//!     cargo run --release -p tensorlogic-rt --example count

use std::error::Error;
use std::time::Instant;

use tensorlogic::{
    Device, DeviceOptions, GenerateOptions, Generator, MemoryOptions, Model, ReserveFor, SamplingOptions, TensorBuffer,
    bytes,
};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "models/demo-q8_0.gguf".to_owned());
    println!(
        "| memory | allocations | of them while decoding | served again | peak of live bytes | held by the device | time |"
    );
    println!("|---|---|---|---|---|---|---|");
    let mut texts = Vec::new();
    for (name, memory, is_reserved) in [
        ("every tensor allocated", MemoryOptions::unpooled(), false),
        ("BufferPool", MemoryOptions::default(), false),
        ("TensorBuffer", MemoryOptions::default(), true),
    ] {
        texts.push(run(&path, name, memory, is_reserved)?);
    }
    if texts.iter().any(|text| *text != texts[0]) {
        return Err("the three ways gave different texts".into());
    }
    Ok(())
}

/// Generates, prints a row, and gives the tokens.
fn run(path: &str, name: &str, memory: MemoryOptions, is_reserved: bool) -> Result<Vec<u32>, Box<dyn Error>> {
    // The first round warms the machine up; the fastest of the others counts.
    let mut best: Option<(f64, String, Vec<u32>)> = None;
    for _ in 0..6 {
        let mut options = DeviceOptions::default();
        options.memory = memory.clone();
        let device = Device::cpu_with(&options);
        let model = Model::load(path, &device)?;
        let ids = model.tokenizer()?.encode("A trait object");
        let context = ids.len() + 100;
        if is_reserved {
            let buffer = TensorBuffer::new(&device);
            buffer.reserve_for(&model, context)?;
            device.set_tensor_buffer(buffer);
        }
        let sampling = SamplingOptions::default().with_temperature(0.7).with_top_p(0.9).with_seed(7);
        let options = GenerateOptions::default().with_max_tokens(100).with_context(context).with_sampling(sampling);
        let start = Instant::now();
        let mut generator = Generator::new(model.clone(), &ids, &options)?;
        let mut tokens = Vec::with_capacity(100);
        tokens.extend(generator.next().transpose()?);
        let after_prefill = device.stats().allocation_count;
        for token in generator.by_ref() {
            tokens.push(token?);
        }
        let seconds = start.elapsed().as_secs_f64();
        let (stats, reserve) = (device.stats(), device.tensor_buffer_stats());
        let row = format!(
            "{} | {} | {} | {} | {}",
            stats.allocation_count,
            stats.allocation_count - after_prefill,
            stats.pool_reuse_count + reserve.reused_count,
            bytes(stats.peak_bytes),
            bytes(stats.driver_bytes),
        );
        if best.as_ref().is_none_or(|(fastest, _, _)| seconds < *fastest) {
            best = Some((seconds, row, tokens));
        }
    }
    let (seconds, row, tokens) = best.ok_or("no run")?;
    println!("| {name} | {row} | {:.0} ms |", seconds * 1e3);
    Ok(tokens)
}
