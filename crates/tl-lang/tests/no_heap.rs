//! A loop of tensor operations, function calls and sampling allocates nothing on the heap per round, once it has warmed up.
//!
//! The allocator counts for the whole process, so this file has one test only.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use tl_device::Device;
use tl_lang::Interpreter;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: everything is handed to the system's allocator unchanged; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A step of a transformer with everything that one uses, over a real model's weights.
const PROGRAM: &str = r#"
fn block(model: Model, cache: KvCache, i: int, x: float16[n, d]) -> float16[n, d] {
    let c = model.config
    let w = model.blk[i]
    let y = rms_norm(x, w.attn_norm.weight, eps: c.rms_eps)
    let q = linear(y, w.attn_q.weight).reshape([n, c.n_heads, c.head_dim]).rope(pos: cache.len, base: c.rope_base)
    let k = linear(y, w.attn_k.weight).reshape([n, c.n_kv_heads, c.head_dim]).rope(pos: cache.len)
    let v = linear(y, w.attn_v.weight).reshape([n, c.n_kv_heads, c.head_dim])
    let seen = attention_with_cache(q, k, v, cache, i).reshape([n, c.n_heads * c.head_dim])
    let x = x + linear(seen, w.attn_output.weight)
    let z = rms_norm(x, w.ffn_norm.weight, eps: c.rms_eps)
    let gate = linear(z, w.ffn_gate.weight)
    if i % 2 == 0 and i >= 0 {
        x + linear(swiglu(gate, linear(z, w.ffn_up.weight)), w.ffn_down.weight)
    } else {
        x + linear(silu(gate) * linear(z, w.ffn_up.weight), w.ffn_down.weight)
    }
}

fn forward(model: Model, cache: KvCache, ids: [int]) -> float16[1, ?] {
    let x = embedding(model.token_embd.weight, ids)
    for i in 0..model.config.n_layers { x = block(model, cache, i, x) }
    linear(rms_norm(x.slice_last(0), model.output_norm.weight, eps: 1e-5), model.output.weight)
}

main {
    let model = load_model("../../models/demo-q8_0.gguf")
    let c = model.config
    let tok = load_tokenizer(model)
    let text = decode_stream(tok)
    let cache = kv_cache(c.n_layers, c.n_kv_heads, c.head_dim, 100)
    let token = 1
    let letters = 0
    for step in 0..ROUNDS {
        if cache.len >= 90 { cache.clear() }
        let logits = forward(model, cache, [token])
        token = sample(logits, temperature: 0.7, top_p: 0.9, min_p: 0.001)
        let s = softmax(logits * 0.5 - 1.0)[0, 0..16]
        let p = max(s) + s[1..2] ** 2
        letters = letters + len(text.next(token))
        assert(shape(p)[0] == 1 and letters >= 0)
    }
}
"#;

fn allocations_of(rounds: u32) -> u64 {
    let device = Device::cpu();
    let program = PROGRAM.replace("ROUNDS", &rounds.to_string());
    let mut interpreter = Interpreter::new(&device);
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    if let Err(error) = interpreter.run(&program) {
        panic!("{error}");
    }
    ALLOCATIONS.load(Ordering::Relaxed) - before
}

#[test]
fn rounds_allocate_nothing() {
    // The first run warms up what is made once in a process.
    allocations_of(20);
    let (few, many) = (allocations_of(200), allocations_of(600));
    assert_eq!(many, few, "400 more rounds allocate {} times", many as i64 - few as i64);
}
