//! Products and attention on a GPU at the sizes where their programs change: few and many tokens, squares that are not
//! full, weights that are bound in parts, long caches. Every call must find a program: none may go to the CPU.
//!
//! Skipped where the machine has no GPU, unless `TL_REQUIRE_GPU` is set.
#![cfg(feature = "gpu")]

use half::f16;
use tl_device::{DType, Device, DeviceOptions, Layout, Role};
use tl_tensor::quant::{FORMATS, Format};
use tl_tensor::{Random, Tensor};

#[path = "../../../tests/gpu.rs"]
mod gpu;
use gpu::gpu;

/// A GPU with everything that it offers, and one with what every device has; none where the machine has no GPU.
fn gpus(change: impl Fn(&mut DeviceOptions)) -> Vec<Device> {
    let open = |is_plain: bool| {
        let mut options = DeviceOptions::default();
        options.memory.nan_fill = true;
        change(&mut options);
        if is_plain {
            (options.gpu.use_f16, options.gpu.use_subgroups, options.gpu.use_matrix) = (false, false, false);
        }
        gpu(&options)
    };
    [false, true].into_iter().filter_map(open).collect()
}

/// Values that a tensor of this type keeps as they are.
fn random(dtype: DType, n: usize, seed: u64) -> Vec<f32> {
    let mut random = Random::new(seed);
    let value = |_| 2.0 * random.uniform() - 1.0;
    (0..n).map(value).map(|x| if dtype == DType::F16 { f16::from_f32(x).to_f32() } else { x }).collect()
}

fn tensor(device: &Device, dtype: DType, values: &[f32], dims: &[usize]) -> Tensor {
    let made = match dtype {
        DType::F16 => {
            Tensor::from_vec(device, values.iter().map(|&x| f16::from_f32(x)).collect(), dims).map(Tensor::into_dyn)
        }
        _ => Tensor::from_vec(device, values.to_vec(), dims).map(Tensor::into_dyn),
    };
    made.unwrap()
}

/// A weight, and the values that it has.
fn weight(device: &Device, format: &Format, values: &[f32], dims: &[usize]) -> (Tensor, Vec<f32>) {
    let layout = Layout::new(format.dtype, dims);
    let mut lease = device.take(&layout, Role::Learnable).unwrap();
    let mut blocks = vec![0; lease.len_bytes()];
    (format.kernels.quantize.expect("a format that can be written"))(values, &mut blocks);
    lease.write(0, &blocks).unwrap();
    let mut rounded = vec![0f32; values.len()];
    (format.kernels.dequantize)(device.threads().isa(), &blocks, &mut rounded);
    (Tensor::from_lease(lease, &layout).unwrap(), rounded)
}

fn elements(tensor: &Tensor) -> Vec<f32> {
    let tensor = tensor.clone();
    match tensor.dtype() {
        DType::F16 => tensor.into_typed::<f16>().unwrap().to_vec().unwrap().iter().map(|x| x.to_f32()).collect(),
        _ => tensor.into_typed::<f32>().unwrap().to_vec().unwrap(),
    }
}

/// Sums in `f32` of `terms` products of numbers up to 1, rounded to the type.
fn check_near(label: &str, found: &Tensor, expected: &[f64], terms: usize) {
    let near = 6e-7 * ((terms + 1) as f64).sqrt() + 1e-6;
    let rounding = if found.dtype() == DType::F16 { 5e-4 } else { 1e-6 };
    let elements = elements(found);
    assert_eq!(elements.len(), expected.len(), "{label}");
    for (i, (&found, want)) in elements.iter().zip(expected).enumerate() {
        assert!(
            (f64::from(found) - want).abs() <= near + rounding * want.abs(),
            "{label}: [{i}] is {found}, not {want}"
        );
    }
    let stats = found.device().gpu_stats().unwrap();
    assert_eq!(stats.host_fallbacks, 0, "{label}");
}

/// `x: [m, k], w: [n, k] → [m, n]`.
fn product(x: &[f32], w: &[f32], [m, k, n]: [usize; 3]) -> Vec<f64> {
    let element = |i: usize| -> f64 {
        let (x, w) = (&x[i / n * k..][..k], &w[i % n * k..][..k]);
        x.iter().zip(w).map(|(&x, &w)| f64::from(x) * f64::from(w)).sum()
    };
    (0..m * n).map(element).collect()
}

fn check_linear(device: &Device, format: &Format, dtype: DType, [m, k, n]: [usize; 3]) {
    let label = format!("{dtype}[{m}, {k}] and {}[{n}, {k}]", format.dtype);
    let x = random(dtype, m * k, 1);
    let (w, w_values) = weight(device, format, &random(DType::F32, n * k, 2), &[n, k]);
    let bias = random(DType::F32, n, 3);
    let own = tensor(device, dtype, &x, &[m, k]);
    let mut expected = product(&x, &w_values, [m, k, n]);
    check_near(&label, &own.linear(&w).unwrap(), &expected, k);
    if k > 0 {
        check_near(&label, &own.matmul(&w.transpose(0, 1).unwrap()).unwrap(), &expected, k);
    }
    expected.iter_mut().enumerate().for_each(|(i, y)| *y += f64::from(bias[i % n]));
    let bias = tensor(device, DType::F32, &bias, &[n]);
    check_near(&label, &own.linear_with_bias(&w, &bias).unwrap(), &expected, k);
}

#[test]
fn linear_at_every_number_of_tokens() {
    for device in gpus(|_| ()) {
        for format in FORMATS.iter().filter(|format| format.kernels.quantize.is_some()) {
            for sizes in [[1, 512, 6], [3, 768, 4], [8, 256, 12], [65, 512, 132]] {
                check_linear(&device, format, DType::F16, sizes);
            }
            for sizes in [[1, 4352, 8], [2, 256, 8], [9, 256, 64]] {
                check_linear(&device, format, DType::F32, sizes);
            }
        }
    }
}

#[test]
fn linear_of_dense_weights_of_any_size() {
    let is_dense = |format: &&Format| format.dtype.block_elems() == 1;
    for device in gpus(|_| ()) {
        for format in FORMATS.iter().filter(is_dense) {
            for sizes in
                [[1, 1, 1], [1, 37, 5], [4, 12, 3], [5, 33, 8], [10, 3, 7], [70, 36, 68], [70, 45, 64], [2, 0, 4]]
            {
                check_linear(&device, format, DType::F16, sizes);
                check_linear(&device, format, DType::F32, sizes);
            }
        }
    }
}

#[test]
fn weights_larger_than_a_binding() {
    for device in gpus(|options| options.gpu.max_binding_bytes = Some(40_000)) {
        for format in FORMATS.iter().filter(|format| format.kernels.quantize.is_some()) {
            for sizes in [[1, 256, 701], [3, 256, 520], [20, 256, 712]] {
                check_linear(&device, format, DType::F16, sizes);
            }
        }
    }
}

#[test]
fn batches_of_products() {
    for device in gpus(|_| ()) {
        for dtype in [DType::F16, DType::F32] {
            for [batch, m, k, n] in [[1, 64, 32, 64], [3, 65, 70, 68], [2, 130, 1, 4], [5, 1, 200, 36]] {
                let (a, b) = (random(dtype, batch * m * k, 5), random(dtype, batch * n * k, 6));
                let expected: Vec<f64> = (0..batch)
                    .flat_map(|i| product(&a[i * m * k..][..m * k], &b[i * n * k..][..n * k], [m, k, n]))
                    .collect();
                let label = format!("{dtype} [{batch}, {m}, {k}] and [{batch}, {k}, {n}]");
                let own_a = tensor(&device, dtype, &a, &[batch, m, k]);
                let own_b = tensor(&device, dtype, &b, &[batch, n, k]);
                let found = own_a.matmul(&own_b.transpose(1, 2).unwrap()).unwrap();
                check_near(&label, &found, &expected, k);
                check_near(&label, &own_a.einsum("bik,bjk->bij", &own_b).unwrap(), &expected, k);
            }
        }
    }
}

/// Sizes of an attention: queries, heads, keys, key-value heads, elements of a head.
type Heads = [usize; 5];

fn attention_of(q: &[f32], k: &[f32], v: &[f32], [n, heads, m, kv_heads, d]: Heads, is_causal: bool) -> Vec<f64> {
    let mut result = vec![0f64; n * heads * d];
    for (row, result) in result.chunks_mut(d).enumerate() {
        let (i, kv_head) = (row / heads, row % heads / (heads / kv_heads));
        let seen = if is_causal { (i + 1 + m).saturating_sub(n) } else { m };
        let at = |j: usize| (j * kv_heads + kv_head) * d;
        let score = |j: usize| -> f64 {
            let pairs = q[row * d..][..d].iter().zip(&k[at(j)..][..d]);
            pairs.map(|(&q, &k)| f64::from(q) * f64::from(k)).sum::<f64>() / (d as f64).sqrt()
        };
        let scores: Vec<f64> = (0..seen).map(score).collect();
        let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
        let total: f64 = weights.iter().sum();
        for (j, weight) in weights.iter().enumerate() {
            for (result, &v) in result.iter_mut().zip(&v[at(j)..][..d]) {
                *result += weight / total * f64::from(v);
            }
        }
    }
    result
}

fn check_attention(device: &Device, dtype: DType, cache: DType, sizes: Heads) {
    let [n, heads, m, kv_heads, d] = sizes;
    let (q, k, v) =
        (random(dtype, n * heads * d, 7), random(cache, m * kv_heads * d, 8), random(cache, m * kv_heads * d, 9));
    let own_q = tensor(device, dtype, &q, &[n, heads, d]);
    let (own_k, own_v) = (tensor(device, cache, &k, &[m, kv_heads, d]), tensor(device, cache, &v, &[m, kv_heads, d]));
    for is_causal in [true, false] {
        let label = format!("{dtype} over {cache}, {sizes:?}, causal: {is_causal}");
        let expected = attention_of(&q, &k, &v, sizes, is_causal);
        check_near(&label, &own_q.attention(&own_k, &own_v, is_causal).unwrap(), &expected, d + m);
    }
}

#[test]
fn attention_of_every_number_of_queries() {
    for device in gpus(|_| ()) {
        for (dtype, cache) in [(DType::F16, DType::F16), (DType::F32, DType::F32), (DType::F32, DType::F16)] {
            for sizes in [
                [1, 8, 700, 2, 64],
                [1, 1, 1, 1, 4],
                [2, 4, 257, 4, 36],
                [9, 32, 130, 4, 64],
                [70, 12, 70, 4, 32],
                [130, 16, 300, 16, 128],
                [3, 2, 100, 1, 256],
                [6, 2, 2, 1, 8],
                // Wide heads, of which fewer rows share a workgroup.
                [20, 16, 33, 1, 576],
                [2, 3, 40, 1, 1024],
            ] {
                check_attention(&device, dtype, cache, sizes);
            }
        }
    }
}
