//! Dot products and weighted sums of one vector of `f32` with many that lie one after the other: attention, products of a few rows.

use crate::isa::Portable;

/// How an instruction set multiplies vectors.
pub(crate) trait VectorKernels: Copy {
    /// `out[j]` = the dot product of `x` with `rows[j * x.len() ..]`.
    #[inline(always)]
    fn dots(self, x: &[f32], rows: &[f32], out: &mut [f32]) {
        for (out, row) in out.iter_mut().zip(rows.chunks_exact(x.len())) {
            let mut sums = [0.0; 8];
            let ((groups, rest), (groups_x, rest_x)) = (row.as_chunks::<8>(), x.as_chunks::<8>());
            for (a, b) in groups.iter().zip(groups_x) {
                for i in 0..8 {
                    sums[i] += a[i] * b[i];
                }
            }
            let rest: f32 = rest.iter().zip(rest_x).map(|(a, b)| a * b).sum();
            *out = sums.iter().sum::<f32>() + rest;
        }
    }

    /// `sums +=` the sum over `j` of `weights[j] * rows[j * sums.len() ..]`.
    #[inline(always)]
    fn add_weighted(self, weights: &[f32], rows: &[f32], sums: &mut [f32]) {
        for (weight, row) in weights.iter().zip(rows.chunks_exact(sums.len())) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += weight * value;
            }
        }
    }
}

impl VectorKernels for Portable {}
