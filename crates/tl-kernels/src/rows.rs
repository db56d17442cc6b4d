//! Operations along contiguous rows: softmax and the normalizations; and SwiGLU, which feeds them.
//!
//! A row is read in blocks of `f32` on the stack, once per pass that its formula needs; but the exponentials of a row that is not
//! too long are computed once and kept. Reductions of strided views are in `reduce`.

use crate::element::Element;
use crate::isa::{Isa, instantiate};
use crate::map::{BLOCK, View, binary};
use crate::math::{exp, silu};
use crate::quant::Weight;
use crate::reduce::{add, fold, fold_values, larger};
use crate::scratch::Scratch;
use crate::task_size::ROW_TASK_ELEMS;
use crate::threads::Threads;

/// Elements that a task of softmax reads: exponentials take long enough to share small tensors too.
const SOFTMAX_TASK_ELEMS: usize = 2 * 1024;
/// The most elements of a row that softmax keeps.
const KEPT: usize = 2048;

/// `out[r, i] = e^x[r, i] / sum over j of e^x[r, j]`, shifted by the row's largest value. `x`, `out`: `[rows, n]` contiguous.
/// A row with a NaN, with +inf, or of -inf alone gives NaN.
pub fn softmax<T: Element>(threads: &Threads, x: &[T], n: usize, out: &mut [T]) {
    for_rows(threads, SOFTMAX_TASK_ELEMS, x, n, out, |isa, x, out| softmax_row(isa, x, out));
}

/// `out[r, i] = x[r, i] - ln(sum over j of e^x[r, j])`. Shapes and special values as in [`softmax`].
pub fn log_softmax<T: Element>(threads: &Threads, x: &[T], n: usize, out: &mut [T]) {
    for_rows(threads, SOFTMAX_TASK_ELEMS, x, n, out, |isa, x, out| log_softmax_row(isa, x, out));
}

/// `out[r, i] = x[r, i] * w[i] / sqrt(mean over j of x[r, j]^2 + eps)`. `x`, `out`: `[rows, n]` contiguous, `w`: `[n]` in any
/// format. Source: Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019.
pub fn rms_norm<T: Element>(threads: &Threads, x: &[T], w: Weight<'_>, n: usize, eps: f32, out: &mut [T]) {
    assert_eq!(w.bytes.len(), w.format.row_bytes(n), "rms_norm: bytes of the weight");
    for_rows(threads, ROW_TASK_ELEMS, x, n, out, |isa, x, out| rms_norm_row(isa, x, w, eps, out));
}

/// `out[r, i] = (x[r, i] - mean) * w[i] / sqrt(variance + eps) + b[i]`, mean and (biased) variance over row `r`. `x`, `out`:
/// `[rows, n]` contiguous, `w` and `b`: `[n]` in any format. Source: Ba and others, "Layer Normalization", 2016.
pub fn layer_norm<T: Element>(
    threads: &Threads,
    x: &[T],
    w: Weight<'_>,
    b: Option<Weight<'_>>,
    n: usize,
    eps: f32,
    out: &mut [T],
) {
    for weight in [Some(w), b].into_iter().flatten() {
        assert_eq!(weight.bytes.len(), weight.format.row_bytes(n), "layer_norm: bytes of the weight and the bias");
    }
    for_rows(threads, ROW_TASK_ELEMS, x, n, out, |isa, x, out| layer_norm_row(isa, x, w, b, eps, out));
}

/// `out[i] = silu(gate[i]) * up[i]`, with `silu(x) = x / (1 + e^-x)`. Source: Shazeer, "GLU Variants Improve
/// Transformer", 2020.
pub fn swiglu<T: Element>(threads: &Threads, gate: &[T], up: &[T], out: &mut [T]) {
    assert!(gate.len() == out.len() && up.len() == out.len(), "swiglu: lengths");
    let (dims, strides) = ([out.len()], [1]);
    let view = |data| View { data, dims: &dims, strides: &strides };
    binary(threads, view(gate), view(up), out, |gate, up| silu(gate) * up);
}

/// Calls `body` with each row of `x` and of `out`, in parallel: tasks of so many elements, or of a row.
fn for_rows<T: Element>(
    threads: &Threads,
    task_elems: usize,
    x: &[T],
    n: usize,
    out: &mut [T],
    body: impl Fn(Isa, &[T], &mut [T]) + Sync,
) {
    assert!(x.len() == out.len(), "rows: lengths of input and output");
    if x.is_empty() {
        return;
    }
    assert!(n > 0 && x.len().is_multiple_of(n), "{} elements in rows of {n}", x.len());
    let chunk = (task_elems / n).max(1) * n;
    threads.for_chunks(out, chunk, &|index, out| {
        let x = &x[index * chunk..][..out.len()];
        for (x, out) in x.chunks_exact(n).zip(out.chunks_exact_mut(n)) {
            body(threads.isa(), x, out);
        }
    });
}

/// Loads blocks of a contiguous row.
#[inline(always)]
fn load_row<T: Element>(isa: Isa, x: &[T]) -> impl Fn(usize, &mut [f32]) {
    move |first, dst| T::load(isa, &x[first..first + dst.len()], dst)
}

/// `out[i] = f(x[i], i's weight, i's bias)` in blocks; weights default to 1 and biases to 0.
#[inline(always)]
fn map_row<T: Element>(
    isa: Isa,
    x: &[T],
    out: &mut [T],
    w: Option<Weight<'_>>,
    b: Option<Weight<'_>>,
    f: impl Fn(f32, f32, f32) -> f32,
) {
    let mut room = [const { Scratch::<f32, BLOCK>::new() }; 3];
    let [values, weights, biases] = room.each_mut().map(|room| room.zeroed(BLOCK.min(x.len())));
    weights.fill(1.0);
    for (block, (x, out)) in x.chunks(BLOCK).zip(out.chunks_mut(BLOCK)).enumerate() {
        let values = &mut values[..x.len()];
        T::load(isa, x, values);
        if let Some(w) = w {
            w.load(isa, block * BLOCK, &mut weights[..x.len()]);
        }
        if let Some(b) = b {
            b.load(isa, block * BLOCK, &mut biases[..x.len()]);
        }
        for ((value, weight), bias) in values.iter_mut().zip(weights.iter()).zip(biases.iter()) {
            *value = f(*value, *weight, *bias);
        }
        T::store(isa, values, out);
    }
}

instantiate! {
    fn softmax_row[T: Element](isa: Isa, x: &[T], out: &mut [T]) {
        if x.len() <= KEPT {
            let mut kept = Scratch::<f32, KEPT>::new();
            let values = kept.zeroed(x.len());
            T::load(isa, x, values);
            let largest = fold_values(values, f32::NEG_INFINITY, larger, larger);
            for value in values.iter_mut() {
                *value = exp(*value - largest);
            }
            let scale = 1.0 / fold_values(values, 0.0, add, add);
            for value in values.iter_mut() {
                *value *= scale;
            }
            return T::store(isa, values, out);
        }
        let largest = fold(x.len(), f32::NEG_INFINITY, load_row(isa, x), larger, larger);
        let sum = fold(x.len(), 0.0, load_row(isa, x), |sum, x| sum + exp(x - largest), add);
        let scale = 1.0 / sum;
        map_row(isa, x, out, None, None, |x, _, _| exp(x - largest) * scale);
    }

    fn log_softmax_row[T: Element](isa: Isa, x: &[T], out: &mut [T]) {
        let largest = fold(x.len(), f32::NEG_INFINITY, load_row(isa, x), larger, larger);
        let sum = fold(x.len(), 0.0, load_row(isa, x), |sum, x| sum + exp(x - largest), add);
        let log = sum.ln();
        map_row(isa, x, out, None, None, |x, _, _| (x - largest) - log);
    }

    fn rms_norm_row[T: Element](isa: Isa, x: &[T], w: Weight<'_>, eps: f32, out: &mut [T]) {
        let squares = fold(x.len(), 0.0, load_row(isa, x), |sum, x| isa.mul_add(x, x, sum), add);
        let scale = 1.0 / (squares / x.len() as f32 + eps).sqrt();
        map_row(isa, x, out, Some(w), None, |x, w, _| x * scale * w);
    }

    fn layer_norm_row[T: Element](
        isa: Isa, x: &[T], w: Weight<'_>, b: Option<Weight<'_>>, eps: f32, out: &mut [T],
    ) {
        let n = x.len() as f32;
        // From the first element on, so that a row of equal elements has exactly their mean.
        let mut first = [0.0];
        T::load(isa, &x[..1], &mut first);
        let first = first[0];
        let mean = first + fold(x.len(), 0.0, load_row(isa, x), |sum, x| sum + (x - first), add) / n;
        let squares = fold(x.len(), 0.0, load_row(isa, x), |sum, x| isa.mul_add(x - mean, x - mean, sum), add);
        let scale = 1.0 / (squares / n + eps).sqrt();
        map_row(isa, x, out, Some(w), b, |x, w, b| isa.mul_add((x - mean) * scale, w, b));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::{F16, F32};
    use crate::testing::{Random, all_threads, assert_close, rounding};
    use half::{bf16, f16};

    const SIZES: [(usize, usize); 9] =
        [(0, 5), (1, 1), (3, 2), (2, 31), (5, 33), (2, 255), (3, 257), (70, 1000), (1, 50_000)];

    /// Runs `found` on random rows and compares with `expected`, which maps one row; errors as of values around 1.
    fn check<T: Element>(
        what: &str,
        found: impl Fn(&Threads, &[T], usize, &mut [T]),
        expected: impl Fn(&[f64]) -> Vec<f64>,
    ) {
        for (rows, n) in SIZES {
            let x: Vec<T> = Random::new(n as u64).vec::<f32>(rows * n).iter().map(|x| T::from_f32(x * 5.0)).collect();
            let wide: Vec<f64> = x.iter().map(|x| f64::from(x.to_f32())).collect();
            let expected: Vec<f64> = wide.chunks(n).flat_map(&expected).collect();
            for threads in all_threads() {
                let mut out = vec![T::from_f32(f32::NAN); rows * n];
                found(&threads, &x, n, &mut out);
                let absolute = if size_of::<T>() == 4 { 2e-6 } else { 1e-7 };
                assert_close(&format!("{what} [{rows}, {n}]"), &out, &expected, absolute, rounding::<T>());
            }
        }
    }

    fn check_all<T: Element>() {
        let logs = |x: &[f64]| {
            let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let log = max + x.iter().map(|x| (x - max).exp()).sum::<f64>().ln();
            x.iter().map(|x| x - log).collect::<Vec<_>>()
        };
        check::<T>("softmax", softmax, |x| logs(x).into_iter().map(f64::exp).collect());
        check::<T>("log_softmax", log_softmax, logs);
        let weight = |n: usize, seed: u64| {
            let mut bytes = vec![0; 2 * n];
            (F16.quantize.unwrap())(&Random::new(seed).vec::<f32>(n), &mut bytes);
            let mut values = vec![0.0; n];
            (F16.dequantize)(Isa::portable(), &bytes, &mut values);
            (bytes, values)
        };
        let rms = |threads: &Threads, x: &[T], n: usize, out: &mut [T]| {
            rms_norm(threads, x, Weight { bytes: &weight(n, 1).0, format: &F16 }, n, 1e-5, out);
        };
        check::<T>("rms_norm", rms, |x| {
            let scale = (x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64 + 1e-5).sqrt().recip();
            x.iter().zip(weight(x.len(), 1).1).map(|(x, w)| x * scale * f64::from(w)).collect()
        });
        for with_bias in [false, true] {
            let layer = |threads: &Threads, x: &[T], n: usize, out: &mut [T]| {
                let (w, b) = (weight(n, 1).0, weight(n, 2).0);
                let bias = with_bias.then_some(Weight { bytes: &b, format: &F16 });
                layer_norm(threads, x, Weight { bytes: &w, format: &F16 }, bias, n, 1e-5, out);
            };
            check::<T>("layer_norm", layer, |x| {
                let mean = x.iter().sum::<f64>() / x.len() as f64;
                let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64;
                let scale = (variance + 1e-5).sqrt().recip();
                let (w, b) = (weight(x.len(), 1).1, weight(x.len(), 2).1);
                let bias = |i: usize| if with_bias { f64::from(b[i]) } else { 0.0 };
                (0..x.len()).map(|i| (x[i] - mean) * scale * f64::from(w[i]) + bias(i)).collect()
            });
        }
        let swiglu = |threads: &Threads, x: &[T], _: usize, out: &mut [T]| swiglu(threads, x, x, out);
        check::<T>("swiglu", swiglu, |x| x.iter().map(|x| x / (1.0 + (-x).exp()) * x).collect());
    }

    #[test]
    fn rows_of_every_element_type() {
        check_all::<f32>();
        check_all::<f16>();
        check_all::<bf16>();
    }

    #[test]
    fn softmax_of_special_values() {
        const INF: f32 = f32::INFINITY;
        let table: [([f32; 3], [f64; 3]); 5] = [
            ([1e30, -1e30, 1e30], [0.5, 0.0, 0.5]),
            ([-INF, 0.0, -INF], [0.0, 1.0, 0.0]),
            ([-INF; 3], [f64::NAN; 3]),
            ([f32::NAN, 0.0, 0.0], [f64::NAN; 3]),
            ([-500.0, -1000.0, -500.0], [0.5, 0.0, 0.5]),
        ];
        for (x, expected) in table {
            for threads in all_threads() {
                let mut out = [0.0; 3];
                softmax(&threads, &x, 3, &mut out);
                assert_close("softmax", &out, &expected, 1e-7, 0.0);
            }
        }
    }

    #[test]
    fn a_weight_may_be_wider_than_its_row_block() {
        let w: Vec<u8> = (0..300).flat_map(|i| (i as f32).to_le_bytes()).collect();
        let mut out = [0.0f32; 300];
        rms_norm(&Threads::new(1), &[2.0; 300], Weight { bytes: &w, format: &F32 }, 300, 0.0, &mut out);
        assert!(out.iter().enumerate().all(|(i, &v)| v == i as f32));
    }
}
