//! `y = x W^T + b` straight from a weight's blocks. The weight is never dequantized whole.
//!
//! The activations are brought into the form that the format multiplies with, once, in the threads' workspace; then tiles
//! of the output are shared out. There are two ways: rows of the weight as they lie, each piece of which is unpacked for up to 16 tokens
//! (`gemv`; for few tokens the time is that of reading the weight), and panels of 16 tokens, against which stretches of the weight are
//! unpacked (`gemm`). Which products go which way is the instruction set's. More tokens than the workspace holds go in parts; where it
//! holds not even one, the blocked product of `gemm_tile` needs none.

use super::activations::LANES;
use super::gemm::Tokens;
use super::product::Product;
use super::row_dot::GemvTokens;
use super::weight::Weight;
use super::{gemm, gemv};
use crate::element::Element;
use crate::gemm_tile::{Operands, PANEL, fill_column, gemm_tile, tile_size};
use crate::isa::Isa;
use crate::task_size::PARALLEL_MIN;
use crate::threads::{Threads, Tiling};

/// `y[t, j] = sum over i of x[t, i] * weight[j, i], + bias[j]`.
///
/// `x: [m, k]` and `y: [m, n]` contiguous, `weight: [n, k]` in any format, `bias: [n]` in any format. Float formats sum in `f32`. The
/// integer formats round each 32 activations to 8 bits first, or, with AMX and more than 16 tokens, activations and weights to
/// `bf16`, which is nearer. `avx512bf16` (see [`Isa::on_request`]) rounds float formats of 16 bits and their activations to `bf16` where
/// there are more than 16 tokens. With AMX an infinity among so many tokens becomes NaN. `k` is a multiple of the format's block, and of
/// 32 for integer formats. Each row of `y` depends on its own row of `x` alone, and of up to 16 rows each has the bits that it has alone.
#[expect(clippy::too_many_arguments, reason = "the sizes of a product are three numbers")]
pub fn linear<X: Element, Y: Element>(
    threads: &Threads,
    x: &[X],
    m: usize,
    k: usize,
    weight: Weight<'_>,
    bias: Option<Weight<'_>>,
    n: usize,
    y: &mut [Y],
) {
    assert_eq!(x.len(), m * k, "linear: length of x");
    assert_eq!(y.len(), m * n, "linear: length of y");
    assert_eq!(weight.bytes.len(), n * weight.format.row_bytes(k), "linear: bytes of the weight");
    if let Some(bias) = bias {
        assert_eq!(bias.bytes.len(), bias.format.row_bytes(n), "linear: bytes of the bias");
    }
    if y.is_empty() {
        return;
    }
    let parallel = y.len().saturating_mul(k) >= PARALLEL_MIN;
    multiply(threads, x, m, &Product { k, n, weight, bias, first_bias: 0, parallel }, y);
}

/// As [`linear`], where the lengths are known to fit and there are elements to compute.
pub(crate) fn multiply<X: Element, Y: Element>(
    threads: &Threads,
    x: &[X],
    m: usize,
    product: &Product<'_>,
    y: &mut [Y],
) {
    let (isa, Product { k, n, weight, .. }) = (threads.isa(), *product);
    let (gemv_capacity, gemm_capacity) = (gemv::capacity(isa, weight.format, k), gemm::capacity::<X>(isa, product));
    if k == 0 || gemv_capacity == 0 || gemm_capacity == 0 {
        return blocked(threads, x, m, product, y);
    }
    // The tokens of whole panels, and those that are left.
    let GemvTokens { most, most_left } = gemv::tokens(isa, weight.format);
    let in_panels = match m % LANES {
        _ if m <= most => 0,
        left if left <= most_left => m - left,
        _ => m,
    };
    let ((x, x_left), (y, y_left)) = (x.split_at(in_panels * k), y.split_at_mut(in_panels * n));
    for (x, y) in parts(x, k, gemm_capacity).zip(parts_mut(y, n, gemm_capacity)) {
        gemm::multiply(threads, Tokens::InOrder(x), product, y);
    }
    for (x, y) in parts(x_left, k, gemv_capacity).zip(parts_mut(y_left, n, gemv_capacity)) {
        gemv::multiply(threads, x, product, y);
    }
}

/// Rows of `len` elements in parts of equal size, of at most `most` rows.
fn parts<T>(rows: &[T], len: usize, most: usize) -> std::slice::Chunks<'_, T> {
    rows.chunks(part_rows(rows.len() / len, most) * len)
}

/// As [`parts`].
fn parts_mut<T>(rows: &mut [T], len: usize, most: usize) -> std::slice::ChunksMut<'_, T> {
    rows.chunks_mut(part_rows(rows.len() / len, most) * len)
}

fn part_rows(n_rows: usize, most: usize) -> usize {
    n_rows.div_ceil(n_rows.div_ceil(most).max(1)).max(1)
}

/// The product without a workspace, all in `f32`.
fn blocked<X: Element, Y: Element>(threads: &Threads, x: &[X], m: usize, product: &Product<'_>, y: &mut [Y]) {
    let n_threads = if product.parallel { threads.count() } else { 1 };
    let (tile_rows, tile_cols) = tile_size(1, m, product.n, n_threads);
    let tiling = Tiling { n_cols: product.n, group_rows: m, row_step: 1, tile_rows, tile_cols };
    let operands = Blocked { x, product };
    threads.for_tiles_if(product.parallel, y, tiling, &|mut tile| {
        gemm_tile(threads.isa(), &operands, product.k, tile.first_row(), &mut tile);
    });
}

struct Blocked<'a, X> {
    x: &'a [X],
    product: &'a Product<'a>,
}

impl<X: Element> Operands for Blocked<'_, X> {
    #[inline(always)]
    fn load_a(&self, isa: Isa, row: usize, first_k: usize, dst: &mut [f32]) {
        X::load(isa, &self.x[row * self.product.k + first_k..][..dst.len()], dst);
    }

    #[inline(always)]
    fn load_b(&self, isa: Isa, first_col: usize, n_cols: usize, first_k: usize, panel: &mut [[f32; PANEL]]) {
        for col in 0..n_cols {
            let first = (first_col + col) * self.product.k + first_k;
            fill_column(panel, col, |values| self.product.weight.load(isa, first, values));
        }
    }

    #[inline(always)]
    fn init_accumulators(&self, isa: Isa, first_col: usize, dst: &mut [f32]) {
        self.product.init_accumulators(isa, first_col, dst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::FloatSlice;
    use crate::quant::activations::Prepared;
    use crate::quant::quantize::{prepare_token, token_tiling};
    use crate::quant::{Dot, F16, F32, FORMATS, Prefetch, Q4_0, Q8_0, Rows, STREAMS, WeightKernels, gather_rows};
    use crate::testing::{Random, all_threads, assert_close, rounding};
    use crate::workspace::Line;
    use bytemuck::Zeroable;
    use half::{bf16, f16};

    /// Random rows of a format, one byte into a vector so that nothing is aligned, and what they mean.
    fn random_weight(format: &WeightKernels, n: usize, k: usize, random: &mut Random) -> (Vec<u8>, Vec<f32>) {
        let mut bytes = vec![0; 1 + n * format.row_bytes(k)];
        (format.quantize.unwrap())(&random.vec::<f32>(n * k), &mut bytes[1..]);
        let mut values = vec![0.0; n * k];
        (format.dequantize)(Isa::portable(), &bytes[1..], &mut values);
        (bytes, values)
    }

    fn check<X: Element, Y: Element>(format: &WeightKernels, (m, k, n): (usize, usize, usize), with_bias: bool) {
        let k = k.next_multiple_of(format.blocks.block_elems);
        let mut random = Random::new((m * 7 + k * 3 + n) as u64);
        let (bytes, weights) = random_weight(format, n, k, &mut random);
        let (bias_bytes, bias) = random_weight(&F16, 1, n, &mut random);
        let x = random.vec::<X>(m * k);
        let mut expected = vec![0.0; m * n];
        for (index, expected) in expected.iter_mut().enumerate() {
            let (x, w) = (&x[index / n * k..][..k], &weights[index % n * k..][..k]);
            *expected = x.iter().zip(w).map(|(x, w)| f64::from(x.to_f32()) * f64::from(*w)).sum();
            *expected += if with_bias { f64::from(bias[index % n]) } else { 0.0 };
        }
        for threads in all_threads() {
            let mut y = vec![Y::from_f32(f32::NAN); m * n];
            let weight = Weight { bytes: &bytes[1..], format };
            let bias = with_bias.then_some(Weight { bytes: &bias_bytes[1..], format: &F16 });
            linear(&threads, &x, m, k, weight, bias, n, &mut y);
            // An activation is off by up to half of 1/127 (evenly spread), a weight is at most 1: a random walk of k such steps,
            // and six standard deviations. Float formats have the rounding of their sums.
            let step = if matches!(format.dot, Dot::Integer(_)) { 6.0 * 0.5 / 127.0 / 3.0 } else { 2e-6 };
            let relative = rounding::<Y>();
            let what = format!("{} [{m}, {k}] x [{n}, {k}] {threads:?}", format.blocks.name);
            assert_close(&what, &y, &expected, step * (1.0 + k as f64).sqrt(), relative);
        }
    }

    /// Rounded as it says, and exact but for that.
    #[test]
    fn floats_in_bfloat16() {
        for (isa, format) in Isa::on_request().flat_map(|isa| FORMATS[..3].iter().map(move |format| (isa, format))) {
            for (m, k, n) in [(17, 1, 3), (18, 31, 13), (33, 257, 97), (70, 600, 200)] {
                let mut random = Random::new((m + k) as u64);
                let (bytes, weights) = random_weight(format, n, k, &mut random);
                let x = random.vec::<f32>(m * k);
                let round = |value: &f32| match format.blocks.block_bytes {
                    2 => f64::from(bf16::from_f32(*value).to_f32()),
                    _ => f64::from(*value),
                };
                let expected: Vec<f64> = (0..m * n)
                    .map(|i| {
                        let (x, w) = (&x[i / n * k..][..k], &weights[i % n * k..][..k]);
                        x.iter().zip(w).map(|(x, w)| round(x) * round(w)).sum()
                    })
                    .collect();
                for count in [1, 3] {
                    let mut y = vec![f32::NAN; m * n];
                    let weight = Weight { bytes: &bytes[1..], format };
                    linear(&Threads::with_isa(count, isa), &x, m, k, weight, None, n, &mut y);
                    assert_close(&format!("{m} {k} {n}"), &y, &expected, 1e-5 * (1.0 + k as f64).sqrt(), 1e-6);
                }
            }
        }
    }

    #[test]
    fn every_format_and_awkward_sizes() {
        for format in FORMATS {
            for m in [0, 1, 2, 3, 4, 5, 7, 17, 18, 33, 35] {
                for (k, n) in [(0, 3), (32, 1), (96, 31), (288, 33), (288, 64), (512, 8), (2048, 5)] {
                    check::<f32, f32>(format, (m, k, n), m % 2 == 0);
                    check::<f16, f16>(format, (m, k, n), m % 2 == 1);
                }
            }
            check::<f16, f16>(format, (1, 256, 1025), true);
            check::<f16, f16>(format, (3, 544, 1032), true);
            // Longer than what the integer kernels prepare at a time.
            let long = if matches!(format.dot, Dot::Integer(_)) { 70_016 } else { 20_000 };
            check::<f32, f32>(format, (1, long, 17), false);
            check::<f32, f16>(format, (100, 1056, 257), true);
        }
        // More tokens than the workspace holds, many of them and few.
        for format in [FORMATS[0], FORMATS[3]] {
            check::<f32, f32>(format, (600, 64, 33), true);
        }
        check::<f32, f32>(FORMATS[3], (4, 720_000, 1), true);
        // The workspace holds 17 tokens, in blocks of up to 16.
        check::<f32, f32>(FORMATS[3], (17, 164_352, 1), true);
        check::<f32, f32>(FORMATS[4], (17, 179_200, 1), true);
        for &format in &FORMATS[..3] {
            for k in [1, 7, 31, 33, 255, 257] {
                check::<bf16, f32>(format, (1, k, 257), true);
                check::<f16, bf16>(format, (9, k, 31), false);
            }
        }
    }

    /// Whatever the CPU is that chooses between them.
    #[test]
    fn sums_are_the_same_however_rows_are_read() {
        for format in FORMATS {
            for (k, n_rows) in [(96, 1), (1056, 3), (35_072, 2)] {
                let k = usize::next_multiple_of(k, format.blocks.block_elems);
                let (n, mut random) = (STREAMS * (n_rows + 1), Random::new(11));
                let (bytes, _) = random_weight(format, n, k, &mut random);
                let x = random.vec::<f16>(k);
                for isa in Isa::all() {
                    let dot = |prefetch, first: usize, sums: &mut [f32]| {
                        let length = format.row_bytes(k);
                        let rows =
                            Rows { bytes: &bytes[1 + first * length..], length, prefetch, stream_stride: n_rows + 1 };
                        match format.dot {
                            Dot::Float(kernels) => (kernels.dot)(isa, rows, FloatSlice::F16(&x), sums),
                            Dot::Integer(kernels) => {
                                let threads = Threads::with_isa(1, isa);
                                let group = (kernels.group_size)(isa);
                                let mut lines = vec![Line::zeroed(); group.token_lines(k)];
                                let n_groups = group.n_groups(k);
                                threads.for_tiles(&mut lines, token_tiling(group, k, 1), &|mut tile| {
                                    prepare_token(isa, &kernels, &x, &mut tile);
                                });
                                let x =
                                    Prepared { lines: &lines, n_tokens: 1, token_stride: n_groups, group_stride: 1 };
                                (kernels.dot)(isa, rows, x, sums);
                            }
                        }
                    };
                    let mut sums = [(); 3].map(|()| vec![1.0; STREAMS * n_rows]);
                    let [beside, best_single_stream, past] = &mut sums;
                    dot(Prefetch::Interleaved, 1, beside);
                    for (prefetch, found) in [(Prefetch::Sequential, best_single_stream), (Prefetch::NonTemporal, past)]
                    {
                        for (stream, sums) in found.chunks_mut(n_rows).enumerate() {
                            dot(prefetch, stream * (n_rows + 1) + 1, sums);
                        }
                        assert_eq!(found, beside, "{}, {k} elements, {isa:?}, {prefetch:?}", format.blocks.name);
                    }
                    assert!(beside.iter().all(|sum| *sum != 1.0));
                }
            }
        }
    }

    /// A row has the bits that it has alone, whatever the other rows are, and on how many threads.
    #[test]
    fn a_row_has_the_bits_that_it_has_alone() {
        for format in FORMATS {
            for (k, n) in [(32, 3), (288, 33), (576, 40), (1024, 17), (2816, 9)] {
                let k = usize::next_multiple_of(k, format.blocks.block_elems);
                let mut random = Random::new((k * 3 + n) as u64);
                let (bytes, _) = random_weight(format, n, k, &mut random);
                let weight = Weight { bytes: &bytes[1..], format };
                let x = random.vec::<f16>(gemv::BLOCK_TOKENS * k);
                for threads in all_threads() {
                    let mut alone = vec![f32::NAN; gemv::BLOCK_TOKENS * n];
                    for (x, alone) in x.chunks(k).zip(alone.chunks_mut(n)) {
                        linear(&threads, x, 1, k, weight, None, n, alone);
                    }
                    for m in 2..=gemv::tokens(threads.isa(), format).most.min(gemv::BLOCK_TOKENS) {
                        let first = random.bits() as usize % (gemv::BLOCK_TOKENS - m + 1);
                        let mut y = vec![f32::NAN; m * n];
                        linear(&threads, &x[first * k..][..m * k], m, k, weight, None, n, &mut y);
                        let what = format!("{} {m} rows of {k}, {n} columns, {threads:?}", format.blocks.name);
                        assert!(y == alone[first * n..][..m * n], "{what}");
                    }
                }
            }
        }
    }

    #[test]
    fn integer_products_are_exact_in_the_rounded_activations() {
        for format in &FORMATS[3..] {
            let mut random = Random::new(9);
            let (bytes, weights) = random_weight(format, 40, 4096, &mut random);
            // Multiples of the step: rounding to 8 bits changes nothing.
            let x: Vec<f32> =
                (0..4096).map(|i| if i % 32 == 0 { 127.0 } else { (random.unit() * 127.0).round() }).collect();
            let expected: Vec<f64> = weights
                .chunks(4096)
                .map(|w| w.iter().zip(&x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum())
                .collect();
            for threads in all_threads() {
                let mut y = vec![0.0f32; 40];
                let weight = Weight { bytes: &bytes[1..], format };
                linear(&threads, &x, 1, 4096, weight, None, 40, &mut y);
                assert_close(format.blocks.name, &y, &expected, 2e-2, 1e-6);
            }
        }
    }

    /// Where sums of products in few bits would overflow.
    #[test]
    fn the_largest_weights_and_activations() {
        // Where the format keeps a scale, and what stands there for one: an `f16` but for MXFP4.
        let places: [&[usize]; 13] =
            [&[0], &[0], &[0, 2], &[0], &[0, 2], &[0], &[0], &[80, 82], &[108], &[0, 2], &[0, 2], &[208], &[0]];
        let (k, half) = (512, f16::ONE.to_le_bytes());
        for (&format, places) in FORMATS[3..].iter().zip(places) {
            let one = if format.blocks.name == "mxfp4" { &[128][..] } else { &half };
            for (fill, sign) in [0x00, 0x0F, 0x7F, 0x80, 0xF0, 0xFF].into_iter().flat_map(|f| [(f, 1.0), (f, -1.0)]) {
                let mut bytes = vec![fill; format.row_bytes(k)];
                for block in bytes.chunks_exact_mut(format.blocks.block_bytes) {
                    places.iter().for_each(|&at| block[at..at + one.len()].copy_from_slice(one));
                }
                let mut weights = vec![0.0; k];
                (format.dequantize)(Isa::portable(), &bytes, &mut weights);
                let expected = f64::from(sign) * weights.iter().map(|&w| f64::from(w)).sum::<f64>();
                for threads in all_threads() {
                    let mut y = [f32::NAN];
                    linear(&threads, &vec![sign; k], 1, k, Weight { bytes: &bytes, format }, None, 1, &mut y);
                    let what = format!("{} filled with {fill:#x} {threads:?}", format.blocks.name);
                    assert_close(&what, &y, &[expected], 1e-3, 1e-5);
                }
            }
        }
    }

    #[test]
    fn a_row_too_long_for_the_workspace() {
        // Whole numbers, whose sums are exact in any order.
        let k = 1_100_000;
        assert!(k * size_of::<f32>() > crate::workspace::LENT_BYTES);
        let mut random = Random::new(10);
        let mut numbers = |n: usize| -> Vec<f32> { (0..n).map(|_| (random.unit() * 2.0).round()).collect() };
        let (x, weights) = (numbers(k), numbers(2 * k));
        let expected: Vec<f64> =
            weights.chunks(k).map(|w| w.iter().zip(&x).map(|(w, x)| f64::from(w * x)).sum()).collect();
        for m in [1, 5, gemv::BLOCK_TOKENS + 1] {
            let (x, expected) = (x.repeat(m), expected.repeat(m));
            for threads in all_threads() {
                let mut y = vec![f32::NAN; m * 2];
                let weight = Weight { bytes: bytemuck::cast_slice(&weights), format: &F32 };
                linear(&threads, &x, m, k, weight, None, 2, &mut y);
                assert_close("a long row", &y, &expected, 0.0, 0.0);
            }
        }
    }

    #[test]
    fn a_row_does_not_depend_on_the_others() {
        for format in FORMATS {
            let mut random = Random::new(4);
            let (bytes, _) = random_weight(format, 65, 256, &mut random);
            let weight = Weight { bytes: &bytes[1..], format };
            let mut x = random.vec::<f32>(20 * 256);
            x[5 * 256] = f32::NAN;
            for threads in all_threads() {
                let mut y = vec![0.0f32; 20 * 65];
                linear(&threads, &x, 20, 256, weight, None, 65, &mut y);
                for (row, y) in y.chunks(65).enumerate() {
                    assert!(y.iter().all(|y| y.is_nan() == (row == 5)), "{} row {row}", format.blocks.name);
                }
            }
        }
    }

    /// Where a row ends within a register, the next one must not be felt.
    #[test]
    fn a_row_of_the_weight_does_not_depend_on_the_others() {
        for format in FORMATS {
            let k = 96usize.next_multiple_of(format.blocks.block_elems);
            let (mut bytes, _) = random_weight(format, 3, k, &mut Random::new(8));
            let row_bytes = format.row_bytes(k);
            // Every `f16` and `f32` among them is NaN; with the scale of MXFP4 sums overflow.
            bytes[1 + row_bytes..][..row_bytes].fill(0xFF);
            let weight = Weight { bytes: &bytes[1..], format };
            for threads in all_threads() {
                let mut y = [0.0f32; 3];
                linear(&threads, &vec![1.0f32; k], 1, k, weight, None, 3, &mut y);
                assert_eq!(y.map(f32::is_finite), [true, false, true], "{} {threads:?}", format.blocks.name);
            }
        }
    }

    #[test]
    fn rows_are_gathered() {
        for format in FORMATS {
            let (n_rows, k) = (37, 288usize.next_multiple_of(format.blocks.block_elems));
            let (bytes, values) = random_weight(format, n_rows, k, &mut Random::new(5));
            let table = Weight { bytes: &bytes[1..], format };
            let ids: Vec<i32> = (0..300).map(|i| (i * 7 % n_rows) as i32).collect();
            let expected: Vec<f64> =
                ids.iter().flat_map(|&id| &values[id as usize * k..][..k]).map(|&v| f64::from(v)).collect();
            for threads in all_threads() {
                let mut out = vec![f32::NAN; ids.len() * k];
                gather_rows(&threads, table, k, n_rows, &ids, &mut out).unwrap();
                assert_close(format.blocks.name, &out, &expected, 0.0, 0.0);
                for bad in [-1, 37, i32::MIN, i32::MAX] {
                    let result = gather_rows(&threads, table, k, n_rows, &[0, bad], &mut out[..2 * k]);
                    assert_eq!(result.unwrap_err().position, 1);
                }
                gather_rows::<f16>(&threads, table, k, n_rows, &[], &mut []).unwrap();
            }
        }
    }

    /// A block's bytes and the values that the format's description gives them.
    #[test]
    fn blocks_mean_what_the_format_says() {
        let mut q8 = [0u8; 34];
        q8[..2].copy_from_slice(&f16::from_f32(0.5).to_le_bytes());
        let mut q4 = [0u8; 18];
        q4[..2].copy_from_slice(&f16::from_f32(-2.0).to_le_bytes());
        for i in 0..32u8 {
            q8[2 + i as usize] = i.wrapping_mul(37);
            if i < 16 {
                q4[2 + i as usize] = i | (15 - i) << 4;
            }
        }
        for threads in all_threads() {
            let mut out = [0.0; 32];
            (Q8_0.dequantize)(threads.isa(), &q8, &mut out);
            for (i, out) in out.iter().enumerate() {
                assert_eq!(*out, 0.5 * f32::from((i as u8).wrapping_mul(37) as i8));
            }
            (Q4_0.dequantize)(threads.isa(), &q4, &mut out);
            for (i, out) in out.iter().enumerate() {
                let q = if i < 16 { i as i32 } else { 31 - i as i32 };
                assert_eq!(*out, -2.0 * (q - 8) as f32);
            }
        }
    }

    #[test]
    fn quantizing_stays_within_a_step() {
        // Of values in -1 .. 1: half a level, and what rounding scales and minima adds.
        let steps = [0.0, 5e-4, 4e-3, 4.5e-3, 0.126, 0.08, 0.07, 0.04, 0.16, 0.3, 0.45, 0.3, 0.09, 0.05, 0.045, 0.17];
        for (format, step) in FORMATS.into_iter().zip(steps) {
            let mut x = Random::new(6).vec::<f32>(256 * 7);
            x[..256].fill(0.0);
            let mut bytes = vec![0; format.row_bytes(x.len())];
            (format.quantize.unwrap())(&x, &mut bytes);
            let mut found = vec![0.0; x.len()];
            (format.dequantize)(Isa::detect(), &bytes, &mut found);
            let expected: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
            assert_close(format.blocks.name, &found, &expected, step, 0.0);
            assert!(found[..256].iter().all(|&v| v == 0.0));
        }
    }
}
