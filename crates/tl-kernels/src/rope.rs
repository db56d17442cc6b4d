//! Rotary position embedding. Knows nothing of models: which elements form a pair is the caller's [`RopeStyle`].

use crate::element::Element;
use crate::isa::instantiate;
use crate::map::BLOCK;
use crate::math::sin_cos;
use crate::quant::Weight;
use crate::threads::Threads;

/// Elements that a task rotates; what is smaller runs on the calling thread.
const TASK_ELEMS: usize = 16 * 1024;
/// Pairs whose angles are on the stack at a time.
const PAIRS: usize = BLOCK / 2;

/// Which elements of a head form the pairs that are rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeStyle {
    /// Pairs `(2i, 2i + 1)`, as the llama weights of GGUF files are laid out.
    Interleaved,
    /// Pairs `(i, i + rotary_dim / 2)`, as in GPT-NeoX and in Hugging Face's weights.
    Halves,
}

/// How heads are rotated.
#[derive(Clone, Copy, Debug)]
pub struct Rotation<'a> {
    /// How many elements of a head are rotated, the first ones: an even number.
    pub rotary_dim: usize,
    /// The position of the first token.
    pub pos: usize,
    /// The positions of all tokens, where they do not follow the first one's.
    pub positions: Option<&'a [i32]>,
    /// The base of the frequencies.
    pub base: f32,
    /// Which elements form a pair.
    pub style: RopeStyle,
    /// What every angle is divided by.
    pub scale: f64,
    /// What the angle of each pair is divided by too: a row of `rotary_dim / 2` elements.
    pub factors: Option<Weight<'a>>,
    /// What sines and cosines are multiplied by.
    pub magnitude: f32,
}

impl Rotation<'_> {
    /// All of a head of `rotary_dim` elements in interleaved pairs, the first token at `pos`.
    pub fn new(rotary_dim: usize, pos: usize, base: f32) -> Self {
        let style = RopeStyle::Interleaved;
        Rotation { rotary_dim, pos, positions: None, base, style, scale: 1.0, factors: None, magnitude: 1.0 }
    }

    fn position(&self, token: usize) -> f64 {
        self.positions
            .and_then(|positions| positions.get(token))
            .map_or((self.pos + token) as f64, |pos| f64::from(*pos))
    }
}

/// Rotates pair `i` of each head of token `t` by the angle `(pos + t) * base^(-2i / rotary_dim) / scale / factors[i]`, and makes it
/// `magnitude` times as long. `x`, `out`: `[n_tokens, n_heads, head_dim]` contiguous. The first `rotary_dim` elements of a head are
/// rotated, the rest is copied. Angles are computed in `f64`, products in `f32`. Source: Su and others, "RoFormer", 2021.
///
/// # Panics
/// If `rotary_dim` is odd or larger than `head_dim`, or a length is wrong.
pub fn rope<T: Element>(
    threads: &Threads,
    x: &[T],
    n_tokens: usize,
    n_heads: usize,
    head_dim: usize,
    rotation: Rotation<'_>,
    out: &mut [T],
) {
    let (token_elems, rotary_dim) = (n_heads * head_dim, rotation.rotary_dim);
    assert!(x.len() == n_tokens * token_elems && out.len() == x.len(), "rope: lengths");
    assert!(rotary_dim.is_multiple_of(2) && rotary_dim <= head_dim, "rope: {rotary_dim} of {head_dim} elements");
    assert!(rotation.positions.is_none_or(|positions| positions.len() == n_tokens), "rope: positions");
    if let Some(Weight { bytes, format }) = rotation.factors {
        assert_eq!(bytes.len(), format.row_bytes(rotary_dim / 2), "rope: bytes of the factors");
    }
    if x.is_empty() {
        return;
    }
    let tokens_per_task = (TASK_ELEMS / token_elems).max(1);
    threads.for_chunks(out, tokens_per_task * token_elems, &|chunk, out| {
        let first = chunk * tokens_per_task;
        let x = &x[first * token_elems..][..out.len()];
        for (t, (x, out)) in x.chunks_exact(token_elems).zip(out.chunks_exact_mut(token_elems)).enumerate() {
            rotate_token(threads.isa(), x, head_dim, rotation, rotation.position(first + t), out);
        }
    });
}

instantiate! {
    /// Rotates all heads of one token, a stretch of pairs at a time.
    fn rotate_token[T: Element](
        isa: Isa, x: &[T], head_dim: usize, rotation: Rotation<'_>, position: f64, out: &mut [T],
    ) {
        let Rotation { rotary_dim, base, style, scale, factors, magnitude, .. } = rotation;
        let n_pairs = rotary_dim / 2;
        let (mut sines, mut cosines, mut angles) = ([0.0; PAIRS], [0.0; PAIRS], [0.0; PAIRS]);
        // Successive frequencies by one power and products, whose rounding in f64 does not reach f32.
        let ratio = f64::from(base).powf(-1.0 / n_pairs as f64);
        for first in (0..n_pairs).step_by(PAIRS) {
            let count = PAIRS.min(n_pairs - first);
            let mut angle = position / scale * ratio.powi(first as i32);
            for value in &mut angles[..count] {
                *value = angle;
                angle *= ratio;
            }
            if let Some(factors) = factors {
                divide_by(isa, &mut angles[..count], factors, first);
            }
            for ((sine, cosine), angle) in sines.iter_mut().zip(&mut cosines).zip(&angles[..count]) {
                (*sine, *cosine) = sin_cos(*angle);
            }
            if magnitude != 1.0 {
                sines.iter_mut().chain(&mut cosines).for_each(|value| *value *= magnitude);
            }
            let (sines, cosines) = (&sines[..count], &cosines[..count]);
            for (x, out) in x.chunks_exact(head_dim).zip(out.chunks_exact_mut(head_dim)) {
                match style {
                    RopeStyle::Interleaved => {
                        let range = 2 * first..2 * (first + count);
                        rotate_interleaved(isa, &x[range.clone()], sines, cosines, &mut out[range]);
                    }
                    RopeStyle::Halves => {
                        let (low, high) = (first..first + count, n_pairs + first..n_pairs + first + count);
                        rotate_halves(isa, [&x[low.clone()], &x[high.clone()]], sines, cosines, out, [low, high]);
                    }
                }
            }
        }
        for (x, out) in x.chunks_exact(head_dim).zip(out.chunks_exact_mut(head_dim)) {
            out[rotary_dim..].copy_from_slice(&x[rotary_dim..]);
        }
    }
}

/// Divides the angles of the pairs from `first` on by their factors.
#[inline(always)]
fn divide_by(isa: crate::isa::Isa, angles: &mut [f64], factors: Weight<'_>, first: usize) {
    let mut values = [1.0; PAIRS];
    let values = &mut values[..angles.len()];
    factors.load(isa, first, values);
    for (angle, factor) in angles.iter_mut().zip(values) {
        *angle /= f64::from(*factor);
    }
}

#[inline(always)]
fn rotate_interleaved<T: Element>(isa: crate::isa::Isa, x: &[T], sines: &[f32], cosines: &[f32], out: &mut [T]) {
    let mut values = [0.0; BLOCK];
    let values = &mut values[..x.len()];
    T::load(isa, x, values);
    for ((pair, sin), cos) in values.as_chunks_mut::<2>().0.iter_mut().zip(sines).zip(cosines) {
        let [a, b] = *pair;
        *pair = [a * cos - b * sin, a * sin + b * cos];
    }
    T::store(isa, values, out);
}

#[inline(always)]
fn rotate_halves<T: Element>(
    isa: crate::isa::Isa,
    x: [&[T]; 2],
    sines: &[f32],
    cosines: &[f32],
    out: &mut [T],
    ranges: [std::ops::Range<usize>; 2],
) {
    let (mut low, mut high) = ([0.0; PAIRS], [0.0; PAIRS]);
    let (low, high) = (&mut low[..sines.len()], &mut high[..sines.len()]);
    T::load(isa, x[0], low);
    T::load(isa, x[1], high);
    for (((a, b), sin), cos) in low.iter_mut().zip(high.iter_mut()).zip(sines).zip(cosines) {
        (*a, *b) = (*a * cos - *b * sin, *a * sin + *b * cos);
    }
    let [low_range, high_range] = ranges;
    T::store(isa, low, &mut out[low_range]);
    T::store(isa, high, &mut out[high_range]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::F32;
    use crate::testing::{Random, all_threads, assert_close, rounding};
    use half::f16;

    fn check<T: Element>([n_tokens, n_heads, head_dim]: [usize; 3], rotation: Rotation<'_>, factors: &[f32]) {
        let x = Random::new(7).vec::<T>(n_tokens * n_heads * head_dim);
        let Rotation { rotary_dim, base, style, scale, magnitude, .. } = rotation;
        let mut expected: Vec<f64> = x.iter().map(|x| f64::from(x.to_f32())).collect();
        for (row, head) in expected.chunks_mut(head_dim).enumerate() {
            for i in 0..rotary_dim / 2 {
                let frequency = f64::from(base).powf(-2.0 * i as f64 / rotary_dim as f64);
                let factor = factors.get(i).map_or(1.0, |&factor| f64::from(factor));
                let (sin, cos) = (rotation.position(row / n_heads) * frequency / scale / factor).sin_cos();
                let (sin, cos) = (sin * f64::from(magnitude), cos * f64::from(magnitude));
                let (a, b) = match style {
                    RopeStyle::Interleaved => (2 * i, 2 * i + 1),
                    RopeStyle::Halves => (i, i + rotary_dim / 2),
                };
                (head[a], head[b]) = (head[a] * cos - head[b] * sin, head[a] * sin + head[b] * cos);
            }
        }
        for threads in all_threads() {
            let mut out = vec![T::from_f32(f32::NAN); x.len()];
            rope(&threads, &x, n_tokens, n_heads, head_dim, rotation, &mut out);
            let what = format!("{n_tokens} {n_heads} {head_dim} {rotation:?}");
            let size = f64::from(magnitude).max(1.0);
            assert_close(&what, &out, &expected, 3e-7 * size, rounding::<T>());
        }
    }

    #[test]
    fn pairs_turn_by_their_angles() {
        for style in [RopeStyle::Interleaved, RopeStyle::Halves] {
            for (pos, base) in [(0, 1e4), (1, 1e4), (99_990, 1e4), (99_990, 5e5), (3, 1.0)] {
                let of = |rotary_dim| Rotation { style, ..Rotation::new(rotary_dim, pos, base) };
                for (sizes, rotary_dim) in [
                    ([0, 1, 8], 8),
                    ([1, 1, 2], 2),
                    ([3, 3, 32], 32),
                    ([2, 5, 80], 20),
                    ([1, 2, 7], 0),
                    ([1, 1, 700], 600),
                ] {
                    check::<f32>(sizes, of(rotary_dim), &[]);
                    check::<f16>(sizes, of(rotary_dim), &[]);
                }
                check::<f16>([300, 4, 64], of(64), &[]);
            }
        }
    }

    #[test]
    fn tokens_may_have_any_positions() {
        let positions = [7, 0, 99_990, 8, 8];
        let at = |positions| Rotation { positions, ..Rotation::new(64, 8, 1e4) };
        check::<f16>([5, 3, 64], at(Some(&positions)), &[]);
        // A token has the bits that it has as the first of others.
        let x = Random::new(3).vec::<f16>(64);
        let mut results = [[f16::ZERO; 64]; 2];
        rope(&all_threads()[0], &x, 1, 1, 64, at(None), &mut results[0]);
        rope(&all_threads()[0], &x, 1, 1, 64, at(Some(&[8])), &mut results[1]);
        assert_eq!(results[0], results[1]);
    }

    #[test]
    fn angles_and_lengths_are_scaled() {
        let factors: Vec<f32> = (0..300).map(|i| 0.25 + (i * 37 % 101) as f32 * 0.3).collect();
        let bytes: Vec<u8> = factors.iter().flat_map(|factor| factor.to_le_bytes()).collect();
        for style in [RopeStyle::Interleaved, RopeStyle::Halves] {
            for (head_dim, rotary_dim) in [(2, 2), (64, 64), (66, 34), (700, 600)] {
                for (scale, magnitude, has_factors) in [(4.0, 1.0, false), (1.0, 1.25, false), (0.5, 0.75, true)] {
                    let n = if has_factors { rotary_dim / 2 } else { 0 };
                    // At any alignment.
                    let row = [&[7][..], &bytes[..4 * n]].concat();
                    let factors_of = Weight { bytes: &row[1..], format: &F32 };
                    let rotation = Rotation {
                        style,
                        scale,
                        magnitude,
                        factors: has_factors.then_some(factors_of),
                        ..Rotation::new(rotary_dim, 30_011, 1e4)
                    };
                    check::<f32>([3, 2, head_dim], rotation, &factors[..n]);
                    check::<f16>([3, 2, head_dim], rotation, &factors[..n]);
                }
            }
        }
    }
}
