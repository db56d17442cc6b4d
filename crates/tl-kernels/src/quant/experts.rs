//! Linear layers of experts: each row of the output is the product of a row of activations with the weight of the expert that it is
//! sent to.
//!
//! Rows are ordered by their experts. Those of an expert with many rows go as panels (`gemm`), so that its weight is unpacked once for
//! all of them; those of all other experts are multiplied in one run (`gemv`), as in decoding. Activations are gathered where they are
//! quantized or packed, and results are written where they belong.

use super::expert_weights::Experts;
use super::gather::RowOutOfRange;
use super::gemm::Tokens;
use super::linear::multiply;
use super::{gemm, gemv};
use crate::element::Element;
use crate::scratch::Scratch;
use crate::task_size::PARALLEL_MIN;
use crate::threads::{MAX_LISTED, Threads};

/// `y[r, j] = sum over i of x[r / shared_by, i] * weight[chosen[r], j, i], + bias[chosen[r], j]`.
///
/// `x: [chosen.len() / shared_by, k]` and `y: [chosen.len(), n]` contiguous. The weights of an expert that is not in `chosen` are not read.
/// A row that shares its expert with no more than 15 others has the bits that [`linear`](super::linear()) gives one token.
///
/// # Errors
/// The first of `chosen` that is negative or not an expert's; `y` is then unchanged.
pub fn linear_experts<X: Element, Y: Element>(
    threads: &Threads,
    x: &[X],
    shared_by: usize,
    experts: Experts<'_>,
    chosen: &[i32],
    y: &mut [Y],
) -> Result<(), RowOutOfRange> {
    let Experts { weight, bias, n_experts, k, n } = experts;
    assert_eq!(x.len() * shared_by, chosen.len() * k, "linear_experts: length of x");
    assert_eq!(y.len(), chosen.len() * n, "linear_experts: length of y");
    assert_eq!(weight.bytes.len(), n_experts * n * weight.format.row_bytes(k), "linear_experts: bytes of the weight");
    if let Some(bias) = bias {
        assert_eq!(bias.bytes.len(), bias.format.row_bytes(n_experts * n), "linear_experts: bytes of the bias");
    }
    let outside = |&id: &i32| usize::try_from(id).map_or(true, |id| id >= n_experts);
    if let Some(position) = chosen.iter().position(outside) {
        return Err(RowOutOfRange { position, id: chosen[position], n_rows: n_experts });
    }
    if y.is_empty() {
        return Ok(());
    }
    let is_held = gemv::capacity(threads.isa(), weight.format, k) >= gemv::BLOCK_TOKENS
        && gemm::capacity::<X>(threads.isa(), &experts.product(0, false)) > 0;
    for (part, (chosen, y)) in chosen.chunks(MAX_LISTED).zip(y.chunks_mut(MAX_LISTED * n)).enumerate() {
        let routed = Routed { x, first: part * MAX_LISTED, shared_by, experts: &experts, chosen };
        if k == 0 || !is_held {
            routed.multiply_each(threads, y);
        } else {
            routed.multiply(threads, y);
        }
    }
    Ok(())
}

/// Rows of the output, those from `first` on, and the experts that they are sent to.
struct Routed<'a, X> {
    x: &'a [X],
    first: usize,
    shared_by: usize,
    experts: &'a Experts<'a>,
    /// At most [`MAX_LISTED`].
    chosen: &'a [i32],
}

impl<'a, X: Element> Routed<'a, X> {
    /// The activations of a row.
    fn activations(&self, row: u32) -> &'a [X] {
        let k = self.experts.k;
        &self.x[(self.first + row as usize) / self.shared_by * k..][..k]
    }

    fn expert(&self, row: u32) -> usize {
        self.chosen[row as usize] as usize
    }

    /// One row after the other.
    fn multiply_each<Y: Element>(&self, threads: &Threads, y: &mut [Y]) {
        let parallel = self.experts.n.saturating_mul(self.experts.k) >= PARALLEL_MIN;
        for (row, y) in (0..).zip(y.chunks_exact_mut(self.experts.n)) {
            let product = self.experts.product(self.expert(row), parallel);
            multiply(threads, self.activations(row), 1, &product, y);
        }
    }

    fn multiply<Y: Element>(&self, threads: &Threads, y: &mut [Y]) {
        let mut order = Scratch::<u64, MAX_LISTED>::new();
        let order = order.filled(self.chosen.len(), |row| (self.chosen[row] as u64) << 32 | row as u64);
        order.sort_unstable();
        let mut rows = Scratch::<u32, MAX_LISTED>::new();
        let rows = rows.filled(order.len(), |i| order[i] as u32);
        // Of the experts with few rows, the rows and where each begins.
        let (mut gemv_rows, mut starts) =
            (Scratch::<u32, MAX_LISTED>::new(), Scratch::<u32, { MAX_LISTED + 1 }>::new());
        let (gemv_rows, starts) = (gemv_rows.zeroed(rows.len()), starts.zeroed(rows.len() + 1));
        let (mut n_gemv_rows, mut n_groups) = (0, 0);
        let most = gemv::tokens(threads.isa(), self.experts.weight.format).most;
        for rows in rows.chunk_by(|&a, &b| self.expert(a) == self.expert(b)) {
            if rows.len() > most {
                self.multiply_gemm(threads, rows, y);
                continue;
            }
            for rows in rows.chunks(gemv::BLOCK_TOKENS) {
                gemv_rows[n_gemv_rows..n_gemv_rows + rows.len()].copy_from_slice(rows);
                n_gemv_rows += rows.len();
                n_groups += 1;
                starts[n_groups] = n_gemv_rows as u32;
            }
        }
        self.multiply_gemv(threads, gemv_rows, &starts[..=n_groups], y);
    }

    /// All rows of one expert.
    fn multiply_gemm<Y: Element>(&self, threads: &Threads, rows: &[u32], y: &mut [Y]) {
        let Experts { k, n, .. } = *self.experts;
        let parallel = rows.len().saturating_mul(n).saturating_mul(k) >= PARALLEL_MIN;
        let product = self.experts.product(self.expert(rows[0]), parallel);
        let capacity = gemm::capacity::<X>(threads.isa(), &product);
        // Parts of equal size.
        for rows in rows.chunks(rows.len().div_ceil(rows.len().div_ceil(capacity))) {
            let tokens = Tokens::Listed { x: self.x, rows, first: self.first, shared_by: self.shared_by };
            gemm::multiply(threads, tokens, &product, y);
        }
    }

    /// As many experts at a time as the workspace holds rows of.
    fn multiply_gemv<Y: Element>(&self, threads: &Threads, rows: &[u32], starts: &[u32], y: &mut [Y]) {
        let capacity = gemv::capacity(threads.isa(), self.experts.weight.format, self.experts.k);
        let mut rest = starts;
        while let [first, _, ..] = *rest {
            let n_groups = rest[1..].iter().take_while(|&&end| (end - first) as usize <= capacity).count();
            let (these, next) = (&rest[..=n_groups], &rest[n_groups..]);
            let expert = |group: usize| self.expert(rows[these[group] as usize]);
            let x = |row: u32| self.activations(row);
            gemv::multiply_groups(threads, &x, self.experts, &expert, (rows, these), y);
            rest = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;
    use crate::quant::product::Product;
    use crate::quant::{F16, FORMATS, Weight, WeightKernels, linear};
    use crate::testing::{Random, all_threads, assert_close, rounding};
    use half::f16;

    /// Tokens, rows for each token, experts, elements of a row, rows of an expert.
    type Sizes = [usize; 5];

    fn random_rows(format: &WeightKernels, n_elems: usize, random: &mut Random) -> (Vec<u8>, Vec<f32>) {
        let mut bytes = vec![0; 1 + format.row_bytes(n_elems)];
        (format.quantize.unwrap())(&random.vec::<f32>(n_elems), &mut bytes[1..]);
        let mut values = vec![0.0; n_elems];
        (format.dequantize)(Isa::portable(), &bytes[1..], &mut values);
        (bytes, values)
    }

    /// With `favourite`, most rows are sent to one expert.
    fn check<X: Element, Y: Element>(
        format: &WeightKernels,
        [n_tokens, top, n_experts, k, n]: Sizes,
        is_shared: bool,
        favourite: bool,
    ) {
        let k = k.next_multiple_of(format.blocks.block_elems);
        let mut random = Random::new((n_tokens * 7 + k * 3 + n) as u64);
        let n_rows = n_tokens * top;
        let chosen: Vec<i32> = (0..n_rows)
            .map(|_| match random.bits() % 8 {
                0..6 if favourite => 1.min(n_experts as i32 - 1),
                _ => (random.bits() % n_experts as u64) as i32,
            })
            .collect();
        let (bytes, weights) = random_rows(format, n_experts * n * k, &mut random);
        let (bias_bytes, bias) = random_rows(&F16, n_experts * n, &mut random);
        let shared_by = if is_shared { top } else { 1 };
        let x = random.vec::<X>(n_rows / shared_by * k);
        let has_bias = n % 2 == 1;
        let experts = Experts {
            weight: Weight { bytes: &bytes[1..], format },
            bias: has_bias.then_some(Weight { bytes: &bias_bytes[1..], format: &F16 }),
            n_experts,
            k,
            n,
        };
        let expected: Vec<f64> = (0..n_rows * n)
            .map(|i| {
                let (row, j) = (i / n, i % n);
                let at = chosen[row] as usize * n + j;
                let (x, w) = (&x[row / shared_by * k..][..k], &weights[at * k..][..k]);
                let sum: f64 = x.iter().zip(w).map(|(x, w)| f64::from(x.to_f32()) * f64::from(*w)).sum();
                sum + if has_bias { f64::from(bias[at]) } else { 0.0 }
            })
            .collect();
        for threads in all_threads() {
            let mut y = vec![Y::from_f32(f32::NAN); n_rows * n];
            linear_experts(&threads, &x, shared_by, experts, &chosen, &mut y).unwrap();
            // As for linear layers.
            let step = if format.blocks.block_elems > 1 { 6.0 * 0.5 / 127.0 / 3.0 } else { 2e-6 };
            let what = format!("{} [{n_tokens}, {top}] of {n_experts} x [{n}, {k}] {threads:?}", format.blocks.name);
            assert_close(&what, &y, &expected, step * (1.0 + k as f64).sqrt(), rounding::<Y>());
            // The bits of a token alone.
            for (row, y) in y.chunks_exact(n.max(1)).enumerate() {
                if chosen.iter().filter(|&&id| id == chosen[row]).count() > gemv::tokens(threads.isa(), format).most
                    || n_rows > MAX_LISTED
                {
                    continue;
                }
                let mut alone = vec![Y::from_f32(f32::NAN); n];
                let Product { weight, .. } = experts.product(chosen[row] as usize, false);
                let (x, first) = (&x[row / shared_by * k..][..k], chosen[row] as usize * n);
                let bias = bias_bytes[1..][2 * first..2 * (first + n)].to_vec();
                let bias = has_bias.then_some(Weight { bytes: &bias, format: &F16 });
                linear(&threads, x, 1, k, weight, bias, n, &mut alone);
                assert!(y.iter().zip(&alone).all(|(a, b)| a.to_f32() == b.to_f32()), "{what}: row {row}");
            }
        }
    }

    #[test]
    fn every_format_and_awkward_sizes() {
        for format in FORMATS {
            for is_shared in [false, true] {
                check::<f32, f32>(format, [1, 2, 4, 64, 33], is_shared, false);
                check::<f16, f16>(format, [1, 3, 8, 288, 64], is_shared, false);
                check::<f32, f16>(format, [5, 2, 3, 96, 31], is_shared, false);
                check::<f32, f32>(format, [40, 3, 5, 512, 70], is_shared, true);
                check::<f16, f16>(format, [3, 4, 1, 64, 5], is_shared, true);
            }
        }
        for format in [FORMATS[1], FORMATS[3]] {
            check::<f32, f32>(format, [0, 2, 4, 64, 3], true, false);
            check::<f32, f32>(format, [2, 0, 4, 64, 3], false, false);
            check::<f32, f32>(format, [2, 2, 4, 0, 3], true, false);
            check::<f32, f32>(format, [2, 2, 4, 64, 0], true, false);
            // More rows than are listed at a time.
            check::<f32, f32>(format, [1500, 3, 7, 32, 3], true, true);
            // More rows than the workspace holds, of few and of many.
            check::<f32, f32>(format, [200, 2, 200, 8192, 3], true, false);
        }
        check::<f32, f32>(FORMATS[3], [5, 1, 3, 720_000, 1], true, true);
    }

    #[test]
    fn experts_that_are_not_there() {
        let (bytes, _) = random_rows(&F16, 3 * 2 * 4, &mut Random::new(1));
        let weight = Weight { bytes: &bytes[1..], format: &F16 };
        let experts = Experts { weight, bias: None, n_experts: 3, k: 4, n: 2 };
        for bad in [-1, 3, i32::MIN, i32::MAX] {
            let mut y = [7.0f32; 4];
            let found = linear_experts(&Threads::new(1), &[1.0f32; 4], 2, experts, &[2, bad], &mut y);
            assert_eq!(found, Err(RowOutOfRange { position: 1, id: bad, n_rows: 3 }));
            assert_eq!(y, [7.0; 4]);
        }
    }
}
