//! The loop over rows of floats and several tokens, for both sets of instructions.
//!
//! A row and a token have four registers of sums, which take the row's registers in turns, as in the loop for one token: so a token has
//! the bits that it has alone. A few tokens' sums stay in registers while the row goes by.

use crate::quant::rows::Rows;
use crate::quant::tokens::FloatTokens;
use crate::scratch::Scratch;
use crate::x86::walk::{GROUP, PrefetchPosition};

/// Rows whose sums are kept at a time where rows go in parts.
const SUM_ROWS: usize = 16;
/// Bytes of activations that stay in the first cache while rows go by.
const NEAR_BYTES: usize = 24 * 1024;

/// `out[t * n + j] +=` the dot product of row `j` of `n` with token `t`, where a row is a whole number of registers of `LANES` elements in
/// `BYTES` bytes. The sums of at most `tile` tokens, six or fewer, are in registers at a time.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "what a set of instructions brings")]
pub(crate) fn rows<const BYTES: usize, const LANES: usize, V: Copy>(
    rows: Rows<'_>,
    x: FloatTokens<'_>,
    out: &mut [f32],
    tile: usize,
    zero: V,
    unpack: impl Fn(&[u8; BYTES]) -> V,
    add: impl Fn(V, V, &[f32; LANES]) -> V,
    total: impl Fn([V; GROUP]) -> f32,
) {
    let n_tokens = x.count();
    let n_rows = out.len() / n_tokens;
    // Tiles of equal size.
    let tile = n_tokens.div_ceil(n_tokens.div_ceil(tile));
    for (i, out) in out.chunks_mut(tile * n_rows).enumerate() {
        macro_rules! tokens {
            ($($n:literal),+) => {
                match out.len() / n_rows {
                    $($n => few::<BYTES, LANES, $n, V>(rows, x.some(i * tile), out, zero, &unpack, &add, &total),)+
                    n => unreachable!("{n} tokens"),
                }
            };
        }
        tokens!(1, 2, 3, 4, 5, 6);
    }
}

/// `T` tokens.
#[inline(always)]
fn few<const BYTES: usize, const LANES: usize, const T: usize, V: Copy>(
    rows: Rows<'_>,
    x: [&[f32]; T],
    out: &mut [f32],
    zero: V,
    unpack: &impl Fn(&[u8; BYTES]) -> V,
    add: &impl Fn(V, V, &[f32; LANES]) -> V,
    total: &impl Fn([V; GROUP]) -> f32,
) {
    let n_rows = out.len() / T;
    let x = x.map(|x| x.as_chunks::<LANES>().0);
    // Whole groups of registers.
    let most = NEAR_BYTES / (T * GROUP * LANES * size_of::<f32>()) * GROUP;
    let mut room = Scratch::<[[V; GROUP]; T], SUM_ROWS>::new();
    for first_row in (0..n_rows).step_by(SUM_ROWS) {
        let sums = room.filled(SUM_ROWS.min(n_rows - first_row), |_| [[zero; GROUP]; T]);
        for first in (0..x[0].len()).step_by(most) {
            let mut x = x;
            for x in &mut x {
                *x = &x[first..x.len().min(first + most)];
            }
            let part = first..first + x[0].len();
            for (r, sums) in sums.iter_mut().enumerate() {
                let row = &rows.row(0, first_row + r).as_chunks::<BYTES>().0[part.clone()];
                *sums = add_row(*sums, row, x, unpack, add);
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (t, sums) in sums.iter().enumerate() {
                out[t * n_rows + first_row + r] += total(*sums);
            }
        }
    }
}

/// Adds the products of a part of a row.
#[inline(always)]
fn add_row<const BYTES: usize, const LANES: usize, const T: usize, V: Copy>(
    mut sums: [[V; GROUP]; T],
    row: &[[u8; BYTES]],
    x: [&[[f32; LANES]]; T],
    unpack: &impl Fn(&[u8; BYTES]) -> V,
    add: &impl Fn(V, V, &[f32; LANES]) -> V,
) -> [[V; GROUP]; T] {
    let (groups, last) = row.as_chunks::<GROUP>();
    let mut of_tokens = [(&[[[0.0f32; LANES]; GROUP]; 0][..], &[[0.0f32; LANES]; 0][..]); T];
    for (of_token, x) in of_tokens.iter_mut().zip(x) {
        let (x_groups, x_last) = x.as_chunks::<GROUP>();
        *of_token = (&x_groups[..groups.len()], x_last);
    }
    for (g, group) in groups.iter().enumerate() {
        for i in 0..GROUP {
            PrefetchPosition::new::<1, false>(i).prefetch(&group[i], 0, 1);
            let weights = unpack(&group[i]);
            for (sums, (x, _)) in sums.iter_mut().zip(&of_tokens) {
                sums[i] = add(sums[i], weights, &x[g][i]);
            }
        }
    }
    for (i, weights) in last.iter().enumerate() {
        for (sums, (_, x)) in sums.iter_mut().zip(&of_tokens) {
            sums[i] = add(sums[i], unpack(weights), &x[i]);
        }
    }
    sums
}
