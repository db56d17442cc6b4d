//! Limits of the machine: memory bandwidth, and the rate of multiplications and additions in `float32` and in the
//! arithmetic of a prompt's products.
//!
//! All are measured on the threads that the model runs on, by loops that do nothing else.

use std::hint::black_box;
use std::time::Instant;

use half::f16;
use tl_device::{Device, available_memory};
use tl_engine::{Activations, Model};
use tl_kernels::limits::{self, Arithmetic};
use tl_kernels::{Isa, Prefetch};
use tl_tensor::quant::format_of;

/// Bytes that a thread reads at a time.
const CHUNK_BYTES: usize = 1 << 20;
/// A buffer larger than any cache, for caches of unknown size.
const LEAST_BUFFER_BYTES: usize = 512 << 20;
const MOST_BUFFER_BYTES: usize = 2 << 30;
/// Number of passes of each measurement; the best counts.
const PASSES: usize = 8;

/// The limits; `None` for one that cannot be measured.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Bytes read per second.
    pub bytes_per_second: Option<f64>,
    /// Length of the buffer that was read.
    pub buffer_bytes: usize,
    /// Additions and multiplications of `float32` per second.
    pub float32: Option<f64>,
    /// The arithmetic of a prompt's products, and its additions and multiplications per second.
    pub products: Option<(&'static str, f64)>,
}

impl Limits {
    /// Measures on this device's threads, for products in this arithmetic; takes a second or two.
    pub fn measure(device: &Device, products: Arithmetic) -> Limits {
        let buffer_bytes = buffer_bytes();
        let bytes_per_second = read_bandwidth(device, buffer_bytes);
        Limits {
            bytes_per_second,
            buffer_bytes,
            float32: peak(device, Arithmetic::Float32),
            products: peak(device, products).map(|rate| (products.name(), rate)),
        }
    }
}

/// The arithmetic of most of a prompt's products with a model's weights.
pub fn of_products(model: &Model) -> Arithmetic {
    let isa = model.device().threads().isa();
    let mut elems: Vec<(Arithmetic, usize)> = Vec::new();
    for (_, tensor) in model.weights().tensors().filter(|(_, tensor)| tensor.rank() == 2) {
        let Some(format) = format_of(tensor.dtype()) else { continue };
        let arithmetic = match model.activations() {
            Activations::Float16 => Arithmetic::of::<f16>(isa, format.kernels),
            Activations::Float32 => Arithmetic::of::<f32>(isa, format.kernels),
        };
        match elems.iter_mut().find(|(known, _)| *known == arithmetic) {
            Some((_, n)) => *n += tensor.n_elems(),
            None => elems.push((arithmetic, tensor.n_elems())),
        }
    }
    elems.into_iter().max_by_key(|(_, n)| *n).map_or(Arithmetic::Float32, |(arithmetic, _)| arithmetic)
}

/// Twice the size of the largest cache, within bounds and a quarter of the available memory.
fn buffer_bytes() -> usize {
    let wanted = largest_cache().saturating_mul(2).clamp(LEAST_BUFFER_BYTES, MOST_BUFFER_BYTES);
    let spare = available_memory().map_or(wanted, |has| usize::try_from(has.bytes / 4).unwrap_or(usize::MAX));
    wanted.min(spare) / CHUNK_BYTES * CHUNK_BYTES
}

/// Bytes of the first core's largest cache; 0 where the system does not say.
fn largest_cache() -> usize {
    let size = |index: usize| {
        let text = std::fs::read_to_string(format!("/sys/devices/system/cpu/cpu0/cache/index{index}/size")).ok()?;
        // `32768K`
        text.trim().strip_suffix('K')?.parse::<usize>().ok()?.checked_mul(1024)
    };
    (0..8).filter_map(size).max().unwrap_or(0)
}

/// Bytes per second that all threads read together; `None` for lack of memory.
fn read_bandwidth(device: &Device, len_bytes: usize) -> Option<f64> {
    let mut map = memmap2::MmapMut::map_anon(len_bytes).ok()?;
    // In pages of 2 MiB, as weights are mapped.
    #[cfg(target_os = "linux")]
    let _ = map.advise(memmap2::Advice::HugePage);
    // Written, so that every page is allocated.
    map.fill(1);
    let buffer: &[u64] = bytemuck::cast_slice(&map);
    let n_chunks = len_bytes / CHUNK_BYTES;
    let isa = device.threads().isa();
    let pass = |reading| {
        device.threads().run(n_chunks, &|chunk| {
            let words = buffer.get(chunk * (CHUNK_BYTES / 8)..).and_then(|words| words.get(..CHUNK_BYTES / 8));
            black_box(limits::read(isa, words.unwrap_or_default(), reading));
        });
    };
    // The fastest kind of prefetch depends on the CPU.
    let seconds = Prefetch::ALL.map(|reading| best_seconds(|| pass(Some(reading)))).into_iter();
    let seconds = seconds.fold(best_seconds(|| pass(None)), f64::min);
    (n_chunks > 0).then(|| len_bytes as f64 / seconds)
}

/// Operations per second that all threads compute together; `None` without a loop for them: on x86-64, with portable
/// instructions.
fn peak(device: &Device, arithmetic: Arithmetic) -> Option<f64> {
    let isa = device.threads().isa();
    if cfg!(target_arch = "x86_64") && isa == Isa::portable() {
        return None;
    }
    // Small tasks: if a thread is delayed, the others take more of them.
    let n_tasks = 16 * device.threads().count();
    const ROUNDS: usize = 20_000;
    let operations = arithmetic.multiply_adds(isa, ROUNDS)? * n_tasks as f64;
    let pass = || {
        device.threads().run(n_tasks, &|_| {
            black_box(arithmetic.multiply_adds(isa, ROUNDS));
        });
    };
    Some(operations / best_seconds(pass))
}

/// The time of the fastest pass.
fn best_seconds(pass: impl Fn()) -> f64 {
    let seconds = |_| {
        let start = Instant::now();
        pass();
        start.elapsed().as_secs_f64().max(1e-9)
    };
    (0..PASSES).map(seconds).fold(f64::INFINITY, f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_plausible() {
        let limits = Limits::measure(&Device::cpu(), Arithmetic::Integer);
        // A slow phone reads a gigabyte a second, and no memory of today reads ten terabytes.
        assert!(limits.bytes_per_second.is_some_and(|rate| (1e8..1e13).contains(&rate)), "{limits:?}");
        assert!(limits.float32.is_none_or(|rate| (1e8..1e15).contains(&rate)), "{limits:?}");
        assert!(limits.products.is_none_or(|(_, rate)| (1e8..1e15).contains(&rate)), "{limits:?}");
        assert!(limits.buffer_bytes.is_multiple_of(CHUNK_BYTES) && limits.buffer_bytes <= MOST_BUFFER_BYTES);
    }
}
