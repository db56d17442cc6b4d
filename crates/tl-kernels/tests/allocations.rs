//! No kernel allocates on the heap: every one of them runs, and linear layers in every format on each of their paths, once to
//! start the workers and once under a count of the process's allocations.
#![allow(unsafe_code)]

use half::f16;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use tl_kernels::*;

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged; the default `realloc` and `alloc_zeroed` come through here.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, SeqCst);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn kernels_do_not_allocate() {
    const N: usize = 64 * 1024;
    let threads = Threads::new(3);
    let x = vec![f16::from_f32(0.5); N];
    let bytes = vec![1u8; 4 * N];
    let mut y = vec![f16::ZERO; N];
    let mut wide = vec![0.0f32; N];
    let mut indexes = vec![0i32; 256];
    let mut run_all = || {
        let view = View { data: &x[..], dims: &[256, 256], strides: &[1, 256] };
        unary(&threads, view, &mut y, gelu);
        binary(&threads, view, view, &mut wide, |a, b| a + b);
        copy(&threads, view, &mut y);
        mask(&threads, view, View { data: &bytes[..N], dims: &[256, 256], strides: &[256, 1] }, 0.0, &mut y);
        let sources = [Source::F16(view), Source::Number(2.0)];
        let double: BinaryMap = |_, a, b| a.iter_mut().zip(b).for_each(|(a, b)| *a *= b);
        let steps = [Step::Load(0), Step::Load(1), Step::Binary(double), Step::Round];
        chain(&threads, &sources, &steps, &mut y);
        softmax(&threads, &x, 256, &mut y);
        log_softmax(&threads, &x, 256, &mut y);
        swiglu(&threads, &x, &x, &mut y);
        let row = Weight { bytes: &bytes[..512], format: &F16 };
        rms_norm(&threads, &x, row, 256, 1e-5, &mut y);
        layer_norm(&threads, &x, row, Some(row), 256, 1e-5, &mut y);
        for axis in [0, 1] {
            reduce(&threads, view, axis, ReduceOp::Sum, &mut y[..256]);
            arg_reduce(&threads, view, axis, ArgReduceOp::Max, &mut indexes);
        }
        let factors = Some(Weight { bytes: &bytes[..32 * 4], format: &F32 });
        let rotation = Rotation { style: RopeStyle::Halves, factors, ..Rotation::new(64, 5, 1e4) };
        rope(&threads, &x, 64, 16, 64, rotation, &mut y);
        let matrix = Matrix { data: &x[..], row_stride: 256, col_stride: 1 };
        batch_matmul(&threads, Batch::ONE, matrix, matrix, [256, 256, 256], &mut wide);
        batch_matmul(&threads, Batch::ONE, matrix, matrix, [1, 256, 256], &mut wide[..256]);
        let batch = Batch { dims: &[2, 2], n_inner: 1, a_strides: &[128, 64], b_strides: &[0, 0] };
        batch_matmul(&threads, batch, matrix, matrix, [64, 64, 256], &mut wide);
        for format in [
            &F32, &F16, &BF16, &Q8_0, &Q4_0, &Q4_1, &Q5_0, &Q5_1, &IQ4_NL, &MXFP4, &Q2_K, &Q3_K, &Q4_K, &Q5_K, &Q6_K,
            &IQ4_XS,
        ] {
            let weight = Weight { bytes: &bytes[..format.row_bytes(64 * 256)], format };
            // Rows that are long enough for every dot product of the format.
            let long = Weight { bytes: &bytes[..format.row_bytes(64 * 1024)], format };
            linear(&threads, &x[..1024], 1, 1024, long, None, 64, &mut y[..64]);
            for m in [1, 100] {
                linear(&threads, &x[..m * 256], m, 256, weight, None, 64, &mut y[..m * 64]);
            }
            gather_rows(&threads, weight, 256, 64, &[3, 63], &mut wide[..512]).unwrap();
            // Experts with few rows and with many.
            let experts = Experts { weight, bias: None, n_experts: 4, k: 256, n: 16 };
            for chosen in [&[3, 1][..], &[2; 40]] {
                let y = &mut y[..chosen.len() * 16];
                linear_experts(&threads, &x[..chosen.len() / 2 * 256], 2, experts, chosen, y).unwrap();
            }
        }
        let mut places = [0; 64];
        top_places(&threads, &x[..8 * 128], [128, 8], &mut places);
        for n in [1, 64] {
            let heads = |n_tokens, n_heads, data| Heads {
                data,
                n_tokens,
                n_heads,
                token_stride: 64 * n_heads,
                head_stride: 64,
            };
            let (q, kv) = (heads(n, 16, &x[..]), heads(256, 4, &x[..]));
            attention(&threads, q, kv, kv, 64, 64, Scores::new(0.125, true), &mut y[..n * 1024]);
            let sinks = Some(Weight { bytes: &bytes[..16 * 4], format: &F32 });
            let scores = Scores { window: 100, softcap: 5.0, sinks, ..Scores::new(0.125, true) };
            attention(&threads, q, kv, kv, 64, 64, scores, &mut y[..n * 1024]);
            // So many keys that several tasks share a head's.
            let (q, kv) = (heads(n, 4, &x[..]), heads(1024, 1, &x[..]));
            attention(&threads, q, kv, kv, 64, 64, Scores::new(0.125, true), &mut y[..n * 256]);
        }
    };
    run_all();
    // The test harness has threads of its own, so that one undisturbed pass of several is the proof.
    let counts = [(); 5].map(|()| {
        let before = ALLOCATIONS.load(SeqCst);
        run_all();
        ALLOCATIONS.load(SeqCst) - before
    });
    assert!(counts.contains(&0), "allocations in five passes: {counts:?}");
}
