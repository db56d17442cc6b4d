//! What the kernels reach: linear layers of every format, with one token and with many, and attention.
//!
//! `gemv`: a matrix times a vector, over so many copies of a weight that no cache holds them; GB/s of weight, beside
//! `read_sequential`, `read_interleaved` and `read_non_temporal`, which prefetch as products do and only add the bytes up. `gemm/N`: N
//! tokens; billions of multiply-adds a second. `attention`: one query over a cache in `f16` and one in Q8_0, GB/s of keys and values;
//! and queries over themselves. Instruction sets are compared within a run: all that this CPU has, or those that `TL_BENCH_ISA` names,
//! on two threads.
#![allow(missing_docs)] // made by the macro `criterion_group`

use bytemuck::Zeroable;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use half::f16;
use std::hint::black_box;
use std::time::Duration;
use tl_kernels::*;

const THREADS: usize = 2;
/// Rows and columns of the weight.
const N: usize = 2048;
const K: usize = 2048;
/// Bytes of all copies of a weight.
const COLD_BYTES: usize = 256 << 20;

/// The sets to measure, from the best down.
fn threads() -> Vec<Threads> {
    let wanted = std::env::var("TL_BENCH_ISA").ok();
    let mut sets: Vec<Isa> = Isa::all().collect();
    sets.retain(|isa| wanted.as_ref().is_none_or(|wanted| wanted.split(',').any(|name| name == isa.name())));
    sets.reverse();
    sets.into_iter().map(|isa| Threads::with_isa(THREADS, isa)).collect()
}

fn values(n: usize) -> Vec<f16> {
    (0..n).map(|i| f16::from_f32((i * 7919 % 2003) as f32 / 1001.0 - 1.0)).collect()
}

fn weight(format: &WeightKernels) -> Vec<u8> {
    let values: Vec<f32> = values(N * K).into_iter().map(f32::from).collect();
    let mut bytes = vec![0; N * format.row_bytes(K)];
    if let Some(quantize) = format.quantize {
        quantize(&values, &mut bytes);
    }
    bytes
}

fn read(threads: &Threads, words: &[u64], prefetch: Prefetch) {
    let chunks: Vec<&[u64]> = words.chunks((1 << 20) / 8).collect();
    threads.run(chunks.len(), &|chunk| {
        black_box(limits::read(threads.isa(), chunks[chunk], Some(prefetch)));
    });
}

fn gemv(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("gemv");
    let words = vec![1u64; COLD_BYTES / 8];
    group.throughput(Throughput::Bytes(COLD_BYTES as u64));
    for threads in threads() {
        let names = ["read_sequential", "read_interleaved", "read_non_temporal"];
        for (name, prefetch) in names.into_iter().zip(Prefetch::ALL) {
            group.bench_function(BenchmarkId::new(name, threads.isa().name()), |bencher| {
                bencher.iter(|| read(&threads, &words, prefetch));
            });
        }
    }
    let x = values(K);
    let mut y = vec![f16::ZERO; N];
    for format in FORMATS {
        let bytes = weight(format);
        let n_bytes = bytes.len();
        let copies = bytes.repeat(COLD_BYTES / n_bytes);
        group.throughput(Throughput::Bytes(copies.len() as u64));
        for threads in threads() {
            let isa = threads.isa().name();
            group.bench_function(BenchmarkId::new(format.blocks.name, isa), |bencher| {
                bencher.iter(|| {
                    for bytes in copies.chunks_exact(n_bytes) {
                        linear(&threads, &x, 1, K, Weight { bytes, format }, None, N, &mut y);
                    }
                });
            });
        }
    }
}

fn gemm(criterion: &mut Criterion) {
    for m in [8, 128, 512] {
        let mut group = criterion.benchmark_group(format!("gemm/{m}"));
        group.throughput(Throughput::Elements((m * K * N) as u64));
        let x = values(m * K);
        let mut y = vec![f16::ZERO; m * N];
        for format in FORMATS {
            let bytes = weight(format);
            for threads in threads().into_iter().filter(|threads| threads.isa() != Isa::portable()) {
                group.bench_function(BenchmarkId::new(format.blocks.name, threads.isa().name()), |bencher| {
                    let weight = Weight { bytes: &bytes, format };
                    bencher.iter(|| linear(&threads, &x, m, K, weight, None, N, &mut y));
                });
            }
        }
    }
}

/// One query over the caches of all layers, so that they come from memory as in a decoding step, and a prompt over itself.
fn attend(criterion: &mut Criterion) {
    for (n, m, n_heads, kv_heads, d) in [(1, 1024, 32, 4, 64), (1, 8192, 32, 8, 128), (512, 512, 32, 4, 64)] {
        let cache = values(m * kv_heads * d);
        attend_over(criterion, "attention", &cache, [n, m, n_heads, kv_heads, d]);
        let mut blocks = vec![Q8Block::zeroed(); cache.len() / Q8Block::ELEMS];
        let floats: Vec<f32> = cache.iter().map(|x| x.to_f32()).collect();
        (Q8_0.quantize.expect("Q8_0 can be written"))(&floats, bytemuck::cast_slice_mut(&mut blocks));
        attend_over(criterion, "attention_q8_0", &blocks, [n, m, n_heads, kv_heads, d]);
    }
}

fn attend_over<C: KvElement>(
    criterion: &mut Criterion,
    name: &str,
    cache: &[C],
    [n, m, n_heads, kv_heads, d]: [usize; 5],
) {
    let mut group = criterion.benchmark_group(name);
    let n_layers = if n == 1 { COLD_BYTES / 8 / (2 * size_of_val(cache)) } else { 1 };
    let q = values(n * n_heads * d);
    let caches = vec![cache.to_vec(); 2 * n_layers];
    let mut out = vec![f16::ZERO; n * n_heads * d];
    let q = Heads { data: &q[..], n_tokens: n, n_heads, token_stride: n_heads * d, head_stride: d };
    let heads = |data| Heads { data, n_tokens: m, n_heads: kv_heads, token_stride: kv_heads * d, head_stride: d };
    group.throughput(match n {
        1 => Throughput::Bytes((n_layers * 2 * size_of_val(cache)) as u64),
        _ => Throughput::Elements((n * m * n_heads * d) as u64),
    });
    for threads in threads().into_iter().filter(|threads| threads.isa() != Isa::portable()) {
        group.bench_function(BenchmarkId::new(format!("{n}x{m}x{d}"), threads.isa().name()), |bencher| {
            bencher.iter(|| {
                for [keys, values] in caches.as_chunks().0 {
                    attention(
                        &threads,
                        q,
                        heads(&keys[..]),
                        heads(&values[..]),
                        d,
                        d,
                        Scores::new(0.125, true),
                        &mut out,
                    );
                }
            });
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1));
    targets = gemv, gemm, attend
}
criterion_main!(benches);
