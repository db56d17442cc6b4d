//! The causal convolution and the gated delta rule against plain references in `f64`, on the CPU and on a GPU: whole texts and parts of
//! them, so that the states are seen by what comes of them.

use half::f16;
use tl_device::{DType, Device, DeviceOptions, Layout};
use tl_tensor::ops::{DeltaStep, convolution_state, delta_state};
use tl_tensor::{Random, Tensor, TensorMut};

#[path = "../../../tests/gpu.rs"]
mod gpu;
use gpu::gpu;

/// The CPU, and a GPU with everything that it offers and with what every device has.
fn devices() -> Vec<Device> {
    let options = |is_plain: bool| {
        let mut options = DeviceOptions::default();
        options.threads = 3;
        // What nobody has written shows in the result.
        options.memory.nan_fill = true;
        let plain = !is_plain;
        (options.gpu.use_f16, options.gpu.use_subgroups, options.gpu.use_matrix) = (plain, plain, plain);
        options
    };
    let mut devices = vec![Device::cpu_with(&options(false))];
    devices.extend([false, true].into_iter().filter_map(|is_plain| gpu(&options(is_plain))));
    devices
}

struct Values(Random);

impl Values {
    /// Uniform from `low` to `high`, as float16 keeps them.
    fn take(&mut self, n: usize, low: f32, high: f32) -> Vec<f32> {
        (0..n).map(|_| f16::from_f32(low + self.0.uniform() * (high - low)).to_f32()).collect()
    }
}

fn tensor(device: &Device, dtype: DType, values: &[f32], dims: &[usize]) -> Tensor {
    match dtype {
        DType::F16 => {
            let values = values.iter().map(|&x| f16::from_f32(x)).collect();
            Tensor::from_vec(device, values, dims).unwrap().into_dyn()
        }
        _ => Tensor::from_slice(device, values, dims).unwrap().into_dyn(),
    }
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    let mut values = vec![0.0; tensor.n_elems()];
    tensor.read_f32(&mut values).unwrap();
    values
}

fn check(what: &str, found: &[f32], expected: &[f64], (absolute, relative): (f64, f64)) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (&found, expected)) in found.iter().zip(expected).enumerate() {
        let distance = (f64::from(found) - expected).abs();
        assert!(distance <= absolute + relative * expected.abs(), "{what}: element {i} is {found}, not {expected}");
    }
}

/// The steps of `n` tokens that are tried: whole, in parts that are shorter and longer than a filter, one by one.
fn steps(n: usize) -> [Vec<usize>; 3] {
    let mut parts = Vec::new();
    let mut left = n;
    for part in [2, 5, 1, 9, 3, 70].into_iter().cycle() {
        parts.push(left.min(part));
        left -= left.min(part);
        if left == 0 {
            break;
        }
    }
    [vec![n], parts, vec![1; n]]
}

/// Runs `step` over the parts of a text, with memory that takes turns.
fn run(
    device: &Device,
    layout: &Layout,
    parts: &[usize],
    mut step: impl FnMut(std::ops::Range<usize>, Option<&TensorMut>, &mut TensorMut) -> Tensor,
) -> Vec<f32> {
    let [mut state, mut next] = [(); 2].map(|()| TensorMut::new(device, layout).unwrap());
    let (mut at, mut found) = (0, Vec::new());
    for &n in parts {
        found.extend(floats(&step(at..at + n, (at > 0).then_some(&state), &mut next)));
        std::mem::swap(&mut state, &mut next);
        at += n;
    }
    found
}

#[test]
fn convolutions() {
    for device in devices() {
        for (channels, taps, n) in [(1, 1, 3), (3, 4, 14), (64, 3, 7), (65, 2, 9), (130, 16, 33)] {
            let mut values = Values(Random::new(channels as u64));
            let x = values.take(n * channels, -1.0, 1.0);
            let (w, b) = (values.take(channels * taps, -1.0, 1.0), values.take(channels, -1.0, 1.0));
            for (dtype, weights, has_bias) in
                [(DType::F32, DType::F32, true), (DType::F32, DType::F16, false), (DType::F16, DType::F32, true)]
            {
                let expected: Vec<f64> = (0..n * channels)
                    .map(|i| {
                        let (t, c) = (i / channels, i % channels);
                        let bias = if has_bias { f64::from(b[c]) } else { 0.0 };
                        let taken = (0..taps)
                            .filter(|j| t + j + 1 >= taps)
                            .map(|j| f64::from(w[c * taps + j]) * f64::from(x[(t + j + 1 - taps) * channels + c]));
                        bias + taken.sum::<f64>()
                    })
                    .collect();
                let w = tensor(&device, weights, &w, &[channels, taps]);
                let b = tensor(&device, DType::F32, &b, &[channels]);
                for parts in steps(n) {
                    let what = format!("{channels} channels of {dtype}, {taps} taps of {weights}, {parts:?}");
                    let found = run(&device, &convolution_state(channels, taps), &parts, |tokens, state, next| {
                        // As a part of wider rows, which is copied first.
                        let rows = &x[tokens.start * channels..tokens.end * channels];
                        let wide: Vec<f32> =
                            rows.chunks(channels).flat_map(|row| [row, &vec![9.0; channels][..]].concat()).collect();
                        let wide = tensor(&device, dtype, &wide, &[tokens.len(), 2 * channels]);
                        let x = wide.slice(1, 0, channels).unwrap();
                        x.causal_convolution(&w, has_bias.then_some(&b), state, next).unwrap()
                    });
                    let rounding = if dtype == DType::F16 { 1e-3 } else { 1e-6 };
                    check(&what, &found, &expected, (1e-6 * taps as f64, rounding));
                }
            }
        }
    }
}

#[test]
fn the_gated_delta_rule() {
    for device in devices() {
        for (heads, key_heads, key_dim, value_dim, n, is_tiled) in [
            (1, 1, 1, 1, 4, false),
            (4, 2, 8, 5, 14, true),
            (6, 3, 17, 33, 11, false),
            (2, 1, 128, 65, 9, false),
            (3, 1, 256, 64, 5, true),
        ] {
            let mut values = Values(Random::new(key_dim as u64));
            let short = 1.0 / (key_dim as f32).sqrt();
            let (q, k) =
                (values.take(n * key_heads * key_dim, -1.0, 1.0), values.take(n * key_heads * key_dim, -short, short));
            let v = values.take(n * heads * value_dim, -1.0, 1.0);
            let (gate, beta) = (values.take(n * heads, -2.0, 0.0), values.take(n * heads, 0.0, 1.0));
            let mut state = vec![0.0; heads * key_dim * value_dim];
            let mut expected = Vec::new();
            for at in 0..n * heads {
                let (token, head) = (at / heads, at % heads);
                let key_head = if is_tiled { head % key_heads } else { head * key_heads / heads };
                let key = |of: &[f32], i: usize| f64::from(of[(token * key_heads + key_head) * key_dim + i]);
                for j in 0..value_dim {
                    let place = |i: usize| (head * key_dim + i) * value_dim + j;
                    (0..key_dim).for_each(|i| state[place(i)] *= f64::from(gate[at]).exp());
                    let known: f64 = (0..key_dim).map(|i| state[place(i)] * key(&k, i)).sum();
                    let change = (f64::from(v[at * value_dim + j]) - known) * f64::from(beta[at]);
                    (0..key_dim).for_each(|i| state[place(i)] += key(&k, i) * change);
                    expected.push((0..key_dim).map(|i| state[place(i)] * key(&q, i)).sum::<f64>());
                }
            }
            for parts in steps(n) {
                let what = format!("{heads} and {key_heads} heads of {key_dim} and {value_dim}, {parts:?}");
                let found = run(&device, &delta_state(heads, key_dim, value_dim), &parts, |tokens, state, next| {
                    let part = |values: &[f32], dims: &[usize]| {
                        let width: usize = dims.iter().product();
                        let dims = [&[tokens.len()], dims].concat();
                        tensor(&device, DType::F32, &values[tokens.start * width..tokens.end * width], &dims)
                    };
                    let (k, v) = (part(&k, &[key_heads, key_dim]), part(&v, &[heads, value_dim]));
                    let (gate, beta) = (part(&gate, &[heads]), part(&beta, &[heads]));
                    let step = DeltaStep { k: &k, v: &v, gate: &gate, beta: &beta, is_tiled };
                    part(&q, &[key_heads, key_dim]).gated_delta_rule(&step, state, next).unwrap()
                });
                check(&what, &found, &expected, (2e-5, 1e-5));
            }
        }
    }
}

#[test]
fn what_does_not_fit() {
    let device = Device::cpu();
    let ones = |dims: &[usize]| Tensor::<f32>::ones(&device, dims).unwrap().into_dyn();
    let memory = |dims: &[usize]| TensorMut::new(&device, &Layout::new(DType::F32, dims)).unwrap();
    let none = None::<&Tensor>;
    let convolve = |x: &[usize], w: &[usize], state: &[usize]| {
        ones(x).causal_convolution(&ones(w), none, None, &mut memory(state)).unwrap_err().to_string()
    };
    for (x, w, state, expected) in [
        (&[2, 3, 4][..], &[4, 3][..], &[2, 4][..], "x must have 2 dimensions, [n, channels]"),
        (&[2, 4], &[5, 3], &[2, 4], "there must be a filter for each channel of x|(5 and 4)"),
        (&[2, 4], &[4, 0], &[0, 4], "the number of taps must be 1 to 16"),
        (&[2, 4], &[4, 17], &[16, 4], "the number of taps must be 1 to 16"),
        (&[2, 4], &[4, 3], &[3, 4], "the state has other sizes than the step|(3 and 2)"),
        (&[2, 4], &[4, 3], &[2, 4, 1], "the state must have as many dimensions as a step's"),
    ] {
        let error = convolve(x, w, state);
        assert!(expected.split('|').all(|part| error.contains(part)), "{error}");
    }
    let delta = |q: &[usize], v: &[usize], gate: &[usize], state: &[usize]| {
        let (k, v, gate) = (ones(q), ones(v), ones(gate));
        let step = DeltaStep { k: &k, v: &v, gate: &gate, beta: &gate, is_tiled: false };
        ones(q).gated_delta_rule(&step, None, &mut memory(state)).unwrap_err().to_string()
    };
    for (q, v, gate, state, expected) in [
        (&[2, 3][..], &[2, 4, 5][..], &[2, 4][..], &[4, 3, 5][..], "q must have 3 dimensions"),
        (&[2, 3, 6], &[2, 4, 5], &[2, 4], &[4, 6, 5], "the heads of v are no multiple of the heads of k|(4 and 3)"),
        (&[2, 0, 6], &[2, 4, 5], &[2, 4], &[4, 6, 5], "the heads of v are no multiple of the heads of k|(4 and 0)"),
        (&[2, 2, 6], &[3, 4, 5], &[2, 4], &[4, 6, 5], "keys and values have different lengths|(2 and 3)"),
        (&[2, 2, 6], &[2, 4, 5], &[2, 3], &[4, 6, 5], "there must be a gate and a beta for each head of v|(4 and 3)"),
        (&[2, 2, 257], &[2, 4, 5], &[2, 4], &[4, 257, 5], "the size of a head of keys must be 256 or less"),
        (&[2, 2, 6], &[2, 4, 5], &[2, 4], &[4, 5, 6], "the state has other sizes than the step|(5 and 6)"),
    ] {
        let error = delta(q, v, gate, state);
        assert!(expected.split('|').all(|part| error.contains(part)), "{error}");
    }
    let half = Tensor::<f16>::ones(&device, [2, 1, 4]).unwrap().into_dyn();
    let (values, gate) = (ones(&[2, 1, 4]), ones(&[2, 1]));
    let step = DeltaStep { k: &half, v: &values, gate: &gate, beta: &gate, is_tiled: false };
    let error = values.gated_delta_rule(&step, None, &mut memory(&[1, 4, 4])).unwrap_err().to_string();
    assert!(error.contains("k must be float32 (cast it first), not float16"), "{error}");
}
