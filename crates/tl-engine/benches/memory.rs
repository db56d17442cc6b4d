//! Cost of taking and returning the memory of a model's steps, by the source of the memory.
//!
//! A pair is one take and one return. All sources serve the same requests in the same order with the same lifetimes:
//! a decoding step, and the prefill of 1,000 tokens, of a model of TinyLlama's shape, on 1, 2 and 8 threads that share
//! one device. The KV cache stays out throughout, as in a program. Times are per pair: on one thread processor time,
//! which other programs do not disturb; on several wall-clock time divided by the pairs of all of them.
#![allow(unsafe_code)] // the system's allocator and its mappings, called directly
#![allow(missing_docs)] // made by the macro `criterion_group`

use std::alloc::{Layout as HeapLayout, alloc, dealloc};
use std::collections::HashMap;
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tl_device::{Device, Layout, Lease, Role, Storage, TensorBuffer};

mod steps;

use steps::{Action, Steps, TINYLLAMA};

/// A source of memory.
trait Source: Sync {
    type Memory: Send;
    fn take(&self, layout: &Layout) -> Self::Memory;
}

impl Source for Device {
    type Memory = Storage;
    fn take(&self, layout: &Layout) -> Storage {
        Device::take(self, layout, Role::Activation).map(Lease::share).expect("memory for the bench")
    }
}

/// The system's allocator, every page written to.
struct Allocator;

/// A block of it.
struct Allocated {
    start: *mut u8,
    layout: HeapLayout,
}

// SAFETY: the block is the value's own.
unsafe impl Send for Allocated {}

impl Drop for Allocated {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, and freed once.
        unsafe { dealloc(self.start, self.layout) }
    }
}

fn len_bytes(layout: &Layout) -> usize {
    layout.len_bytes().expect("a layout of the bench").max(1)
}

fn touch(start: *mut u8, len: usize) {
    for at in (0..len).step_by(4096) {
        // SAFETY: within the block, which nobody else knows.
        unsafe { start.add(at).write_volatile(1) };
    }
}

impl Source for Allocator {
    type Memory = Allocated;
    fn take(&self, layout: &Layout) -> Allocated {
        let layout = HeapLayout::from_size_align(len_bytes(layout), 64).expect("a layout of the bench");
        // SAFETY: the size is not 0.
        let start = unsafe { alloc(layout) };
        assert!(!start.is_null());
        touch(start, layout.size());
        Allocated { start, layout }
    }
}

/// Pages fresh from the operating system, every one written to: the cost of an allocator without a cache.
struct FreshPages;

struct Mapped {
    start: *mut libc::c_void,
    len: usize,
}

// SAFETY: the mapping is the value's own.
unsafe impl Send for Mapped {}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: mapped with this length, and unmapped once.
        unsafe { libc::munmap(self.start, self.len) };
    }
}

impl Source for FreshPages {
    type Memory = Mapped;
    fn take(&self, layout: &Layout) -> Mapped {
        let len = len_bytes(layout);
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new anonymous mapping.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, flags, -1, 0) };
        assert!(start != libc::MAP_FAILED);
        touch(start.cast(), len);
        Mapped { start, len }
    }
}

/// A common pool design: a hash map from sizes to lists of buffers, behind a mutex.
#[derive(Clone, Default)]
struct MapPool {
    free: Arc<Mutex<HashMap<usize, Vec<Vec<u8>>>>>,
}

struct Pooled {
    bytes: Vec<u8>,
    pool: MapPool,
}

impl Drop for Pooled {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.pool.free.lock().expect("no thread panics").entry(bytes.len()).or_default().push(bytes);
    }
}

impl Source for MapPool {
    /// Shared, as the memory of a tensor is.
    type Memory = Arc<Pooled>;
    fn take(&self, layout: &Layout) -> Arc<Pooled> {
        let len = len_bytes(layout);
        let idle = self.free.lock().expect("no thread panics").get_mut(&len).and_then(Vec::pop);
        let bytes = idle.unwrap_or_else(|| vec![0; len]);
        Arc::new(Pooled { bytes, pool: self.clone() })
    }
}

/// Replays the steps once.
fn replay<S: Source>(source: &S, steps: &Steps, held: &mut Vec<Option<S::Memory>>) {
    held.clear();
    for action in &steps.actions {
        match *action {
            Action::Take { layout } => held.push(Some(source.take(&steps.layouts[layout]))),
            Action::Return { tensor } => drop(held[tensor].take()),
        }
    }
}

/// The processor time of this thread.
fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure is valid and this function's own.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The time that `rounds` replays take on each of `n_threads` threads at once, from the first start to the last end.
fn time<S: Source>(source: &S, steps: &Steps, n_threads: usize, rounds: u64) -> Duration {
    if n_threads == 1 {
        let mut held = Vec::with_capacity(steps.n_taken());
        replay(source, steps, &mut held);
        let start = cpu_time();
        (0..rounds).for_each(|_| replay(source, steps, &mut held));
        return cpu_time() - start;
    }
    let barrier = Barrier::new(n_threads);
    let work = || {
        let mut held = Vec::with_capacity(steps.n_taken());
        replay(source, steps, &mut held);
        barrier.wait();
        let start = Instant::now();
        (0..rounds).for_each(|_| replay(source, steps, &mut held));
        (start, Instant::now())
    };
    let spans: Vec<(Instant, Instant)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..n_threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().expect("no thread panics")).collect()
    });
    let start = spans.iter().map(|span| span.0).min();
    let end = spans.iter().map(|span| span.1).max();
    start.zip(end).map_or(Duration::ZERO, |(start, end)| end - start)
}

/// The reservations that serve a device's requests before its pool.
#[derive(Clone, Copy)]
enum Reserved<'a> {
    Nothing,
    /// Buffers by layout, for this many threads that replay the steps.
    Buffers(&'a Steps, usize),
    Arena(&'a Steps),
}

/// A device, and the cache that is out on it.
fn device(reserved: Reserved) -> (Device, Vec<Lease>) {
    let mut options = tl_device::DeviceOptions::default();
    options.threads = 1;
    options.memory.pool_max_bytes = 4 << 30;
    options.memory.max_buffers_per_size = 1000;
    let device = Device::cpu_with(&options);
    if let Reserved::Buffers(steps, _) | Reserved::Arena(steps) = reserved {
        device.start_trace();
        replay(&device, steps, &mut Vec::new());
        let trace = device.stop_trace();
        device.trim();
        let buffer = TensorBuffer::new(&device);
        match reserved {
            Reserved::Buffers(_, n_threads) => {
                let mut plan = trace.plan().expect("a short recording");
                plan.rows.iter_mut().for_each(|row| row.count *= n_threads);
                plan.reserve(&buffer)
            }
            _ => buffer.reserve_arena(&trace.arena().expect("a short recording")),
        }
        .expect("memory for the bench");
        device.set_tensor_buffer(buffer);
    }
    let cache = Layout::from(vec![128, TINYLLAMA.n_kv_heads, TINYLLAMA.head_dim]);
    let take = |_| device.take(&cache, Role::Cache).expect("memory for the bench");
    let held = (0..2 * TINYLLAMA.n_layers).map(take).collect();
    (device, held)
}

fn bench<S: Source>(criterion: &mut Criterion, name: &str, source: &S, steps: &Steps, step_name: &str, n: usize) {
    let mut group = criterion.benchmark_group(format!("{step_name}/{n} threads"));
    group.throughput(Throughput::Elements(1)).sample_size(20);
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_millis(1500));
    group.bench_with_input(BenchmarkId::from_parameter(name), &n, |bencher, &n| {
        bencher.iter_custom(|iterations| {
            // Criterion counts pairs; whole steps are replayed, and the time is scaled to the requested number.
            let pairs_per_round = (steps.n_taken() * n) as u64;
            let rounds = iterations.div_ceil(pairs_per_round);
            time(source, steps, n, rounds).mul_f64(iterations as f64 / (rounds * pairs_per_round) as f64)
        });
    });
    group.finish();
}

fn memory(criterion: &mut Criterion) {
    let model = TINYLLAMA.counting();
    for (step_name, tokens) in [("decode", 1), ("prefill", 1000)] {
        let steps = Steps::of(&model, tokens);
        for n in [1, 2, 8] {
            let of_device = |criterion: &mut Criterion, name: &str, reserved: Reserved| {
                let (device, _cache) = device(reserved);
                bench(criterion, name, &device, &steps, step_name, n);
                let missed = device.tensor_buffer_stats().fallback_count;
                assert!([0, 2 * TINYLLAMA.n_layers as u64].contains(&missed), "only the cache was not reserved");
            };
            of_device(criterion, "TensorBuffer", Reserved::Buffers(&steps, n));
            // An arena is planned for one step at a time.
            if n == 1 {
                of_device(criterion, "arena", Reserved::Arena(&steps));
            }
            of_device(criterion, "BufferPool", Reserved::Nothing);
            bench(criterion, "mutex and hash map", &MapPool::default(), &steps, step_name, n);
            bench(criterion, "system allocator, pages touched", &Allocator, &steps, step_name, n);
            bench(criterion, "fresh pages", &FreshPages, &steps, step_name, n);
        }
    }
}

criterion_group!(benches, memory);
criterion_main!(benches);
