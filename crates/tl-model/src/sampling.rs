//! Choosing the next token from logits: greedy, temperature, top-k, top-p, with a seed.
//!
//! It owns its random generator and its scratch, so that a choice allocates nothing, and computes with additions,
//! multiplications and divisions in float64 only: the same seed and the same logits give the same token on every machine.

use std::cmp::Ordering;

use tl_tensor::Tensor;

use crate::error::{ModelError, Result};

/// How the next token is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SamplingOptions {
    /// What the logits are divided by; 0 takes the largest. Finite, not negative.
    pub temperature: f32,
    /// Only this many of the most likely tokens are considered; 0 is all of them.
    pub top_k: usize,
    /// Only the most likely tokens whose probabilities add up to this are considered. Above 0, at most 1 (all).
    pub top_p: f32,
    /// Where the random sequence starts.
    pub seed: u64,
}

impl Default for SamplingOptions {
    /// Temperature 1 over all tokens, seed 0.
    fn default() -> SamplingOptions {
        SamplingOptions { temperature: 1.0, top_k: 0, top_p: 1.0, seed: 0 }
    }
}

/// Chooses tokens: the options, a random sequence and scratch for one vocabulary.
#[derive(Clone, Debug)]
pub struct Sampler {
    options: SamplingOptions,
    random: Random,
    // Room for every token of the vocabulary; filled anew by each choice.
    /// What is left of the tokens.
    candidates: Vec<Candidate>,
    /// The weight of every token.
    weights: Vec<f64>,
    /// The logits of a tensor as float32.
    logits: Vec<f32>,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    logit: f32,
    id: u32,
    /// Not normalized; 1 for the largest logit.
    weight: f64,
}

impl Candidate {
    /// More likely first; of equals, the lower id first.
    fn order(a: &Candidate, b: &Candidate) -> Ordering {
        b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id))
    }
}

impl Sampler {
    /// A sampler for logits of up to `vocab_size` tokens; reserves its scratch now.
    ///
    /// # Errors
    /// An option outside its range.
    pub fn new(options: SamplingOptions, vocab_size: usize) -> Result<Sampler> {
        check_options(&options)?;
        Ok(Sampler {
            options,
            random: Random::new(options.seed),
            candidates: Vec::with_capacity(vocab_size),
            weights: Vec::with_capacity(vocab_size),
            logits: Vec::with_capacity(vocab_size),
        })
    }

    /// The options, as they were given.
    pub fn options(&self) -> &SamplingOptions {
        &self.options
    }

    /// Starts the random sequence again from `seed`.
    pub fn reseed(&mut self, seed: u64) {
        self.options.seed = seed;
        self.random = Random::new(seed);
    }

    /// Changes temperature, top-k and top-p for the choices to come; the random sequence goes on.
    ///
    /// # Errors
    /// An option outside its range; nothing is changed then.
    pub fn set_shape(&mut self, temperature: f32, top_k: usize, top_p: f32) -> Result<()> {
        let options = SamplingOptions { temperature, top_k, top_p, seed: self.options.seed };
        check_options(&options)?;
        self.options = options;
        Ok(())
    }

    /// Chooses a token. Temperature is applied first, then top-k, then top-p over what is left.
    ///
    /// `logits`: one per token. Minus infinity means never. Allocates nothing as long as there are no more logits
    /// than the sampler was made for.
    ///
    /// # Errors
    /// No logits, a NaN, plus infinity, or minus infinity for every token.
    pub fn sample(&mut self, logits: &[f32]) -> Result<u32> {
        let best = argmax(logits)?;
        if self.options.temperature == 0.0 {
            return Ok(best);
        }
        let largest = logits.get(best as usize).copied().unwrap_or_default();
        if largest.is_infinite() {
            let problem = format!("the largest, of token {best}, is {largest}");
            return Err(ModelError::Logits { problem });
        }
        let SamplingOptions { temperature, top_k, top_p, .. } = self.options;
        let scale = Scale { largest: f64::from(largest), temperature: f64::from(temperature) };
        let total = if top_k > 0 && top_k < logits.len() {
            self.take_top_k(logits, scale)
        } else if top_p < 1.0 {
            self.take_top_p(logits, scale)
        } else {
            fill_weights(logits, scale, &mut self.weights);
            let left = self.random.unit() * sum(&self.weights);
            return Ok(draw(self.weights.iter().copied().zip(0..), left).unwrap_or(best));
        };
        if top_p < 1.0 {
            self.keep_top_p(total);
        }
        let weights = self.candidates.iter().map(|candidate| (candidate.weight, candidate.id));
        let left = self.random.unit() * weights.clone().map(|(weight, _)| weight).sum::<f64>();
        Ok(draw(weights, left).unwrap_or(best))
    }

    /// As [`Sampler::sample`], from a tensor `[vocab_size]` or `[1, vocab_size]` of `float16` or `float32`.
    ///
    /// On a GPU, the likeliest token (temperature 0) is found there, and only its number is read back; a NaN is then not
    /// looked for.
    ///
    /// # Errors
    /// As for [`Sampler::sample`]; a tensor of more than one row, or of another type.
    pub fn sample_tensor<T>(&mut self, logits: &Tensor<T>) -> Result<u32> {
        if self.options.temperature == 0.0 && logits.device().is_gpu() {
            check_logits(logits)?;
            let mut token = [0f32];
            logits.argmax(None, false)?.read_f32(&mut token)?;
            return Ok(token[0] as u32);
        }
        let mut values = std::mem::take(&mut self.logits);
        let sampled = read_logits(logits, &mut values).and_then(|()| self.sample(&values));
        self.logits = values;
        sampled
    }

    /// The candidates are the `top_k` most likely tokens, in this order. Gives the sum of their weights.
    fn take_top_k(&mut self, logits: &[f32], scale: Scale) -> f64 {
        let k = self.options.top_k;
        self.candidates.clear();
        // Of what has been seen, the best `k` and some more; a token comes in that may be among the best.
        let (room, mut smallest) = (k.saturating_mul(2).max(256), f32::NEG_INFINITY);
        for (&logit, id) in logits.iter().zip(0u32..) {
            if logit < smallest {
                continue;
            }
            self.candidates.push(Candidate { logit, id, weight: 0.0 });
            if self.candidates.len() == room {
                let (_, last, _) = self.candidates.select_nth_unstable_by(k - 1, Candidate::order);
                smallest = last.logit;
                self.candidates.truncate(k);
            }
        }
        self.candidates.sort_unstable_by(Candidate::order);
        self.candidates.truncate(k);
        self.candidates.iter_mut().for_each(|candidate| candidate.weight = scale.weight(candidate.logit));
        self.candidates.iter().map(|candidate| candidate.weight).sum()
    }

    /// The candidates are tokens among which are all that [`Sampler::keep_top_p`] keeps. Gives the sum of the weights of all tokens.
    fn take_top_p(&mut self, logits: &[f32], scale: Scale) -> f64 {
        fill_weights(logits, scale, &mut self.weights);
        let total = sum(&self.weights);
        // Were all tokens left out that weigh less than this, they would still be no more than what may be left out.
        let smallest = total * (1.0 - f64::from(self.options.top_p)) / logits.len() as f64;
        self.candidates.clear();
        for ((&logit, &weight), id) in logits.iter().zip(&self.weights).zip(0u32..) {
            if weight >= smallest {
                self.candidates.push(Candidate { logit, id, weight });
            }
        }
        total
    }

    /// Keeps the most likely candidates that have `top_p` of the total.
    fn keep_top_p(&mut self, total: f64) {
        let wanted = total * f64::from(self.options.top_p);
        let mut sum = 0.0;
        let mut done = 0;
        // The few that matter are usually among the first: sort no more than is looked at.
        let mut step = 64;
        while done < self.candidates.len() {
            let rest = self.candidates.get_mut(done..).unwrap_or_default();
            let sorted = step.min(rest.len());
            if sorted < rest.len() {
                rest.select_nth_unstable_by(sorted, Candidate::order);
            }
            let chunk = rest.get_mut(..sorted).unwrap_or_default();
            chunk.sort_unstable_by(Candidate::order);
            for candidate in chunk {
                sum += candidate.weight;
                done += 1;
                if sum >= wanted {
                    self.candidates.truncate(done);
                    return;
                }
            }
            step *= 8;
        }
    }
}

/// What makes weights of logits.
#[derive(Clone, Copy)]
struct Scale {
    largest: f64,
    temperature: f64,
}

impl Scale {
    /// The probability of a token, not normalized: 1 for the largest logit.
    #[inline(always)]
    fn weight(self, logit: f32) -> f64 {
        exp((f64::from(logit) - self.largest) / self.temperature)
    }
}

/// The weight of each token.
fn fill_weights(logits: &[f32], scale: Scale, weights: &mut Vec<f64>) {
    weights.clear();
    weights.extend(logits.iter().map(|&logit| scale.weight(logit)));
}

/// The sum of the values, in an order that is the same on every machine and does not wait for each addition.
fn sum(values: &[f64]) -> f64 {
    let (groups, rest) = values.as_chunks::<8>();
    let mut sums = [0.0; 8];
    for group in groups {
        for (sum, value) in sums.iter_mut().zip(group) {
            *sum += value;
        }
    }
    sums.iter().sum::<f64>() + rest.iter().sum::<f64>()
}

/// The token at which `left` of the weights are used up, or the last that has a weight.
fn draw(weights: impl Iterator<Item = (f64, u32)>, mut left: f64) -> Option<u32> {
    let mut last = None;
    for (weight, id) in weights.filter(|(weight, _)| *weight > 0.0) {
        last = Some(id);
        left -= weight;
        if left < 0.0 {
            break;
        }
    }
    last
}

/// The token with the largest logit, the first of equals.
///
/// # Errors
/// No logits, or a NaN among them.
pub fn argmax(logits: &[f32]) -> Result<u32> {
    // Plain loops over all of them, which the compiler makes fast; what is looked for comes last.
    if logits.iter().fold(false, |any, logit| any | logit.is_nan()) {
        let id = logits.iter().position(|logit| logit.is_nan()).unwrap_or_default();
        return Err(ModelError::Logits { problem: format!("that of token {id} is NaN") });
    }
    let (groups, rest) = logits.as_chunks::<16>();
    let mut largest = [f32::NEG_INFINITY; 16];
    for group in groups {
        for (largest, &logit) in largest.iter_mut().zip(group) {
            *largest = if logit > *largest { logit } else { *largest };
        }
    }
    let largest = largest.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max);
    let best = logits.iter().position(|logit| *logit == largest);
    best.map(|id| id as u32).ok_or_else(|| ModelError::Logits { problem: "there are none".to_owned() })
}

/// The elements of a tensor with one row, as float32.
fn read_logits<T>(tensor: &Tensor<T>, values: &mut Vec<f32>) -> Result<()> {
    values.clear();
    check_logits(tensor)?;
    values.resize(tensor.n_elems(), 0.0);
    Ok(tensor.read_f32(values)?)
}

/// Logits are one row of floats.
fn check_logits<T>(tensor: &Tensor<T>) -> Result<()> {
    if tensor.dims().last() != Some(&tensor.n_elems()) {
        let problem =
            format!("they have the shape {}, expected one row, [vocab_size] or [1, vocab_size]", tensor.shape());
        return Err(ModelError::Logits { problem });
    }
    if !tensor.dtype().is_float() {
        let problem = format!("they are {}, expected float16 or float32", tensor.dtype());
        return Err(ModelError::Logits { problem });
    }
    Ok(())
}

fn check_options(options: &SamplingOptions) -> Result<()> {
    let SamplingOptions { temperature, top_p, .. } = *options;
    if !temperature.is_finite() || temperature < 0.0 {
        let expected = "a finite number that is not negative";
        return Err(ModelError::SamplingOption { option: "temperature", value: temperature, expected });
    }
    if !(top_p > 0.0 && top_p <= 1.0) {
        let expected = "a number above 0 and at most 1";
        return Err(ModelError::SamplingOption { option: "top_p", value: top_p, expected });
    }
    Ok(())
}

/// e^x for x ≤ 0, within a few units in the last place. The standard library's differs between platforms. Without branches, so that
/// several are computed at a time.
#[inline(always)]
fn exp(x: f64) -> f64 {
    // Below this the result is no longer a normal number; nobody draws a token with such a weight.
    const SMALLEST: f64 = -708.0;
    // x = n ln 2 + r with |r| ≤ ln 2 / 2; ln 2 in two parts, so that n times the first is exact.
    const LN_2_HIGH: f64 = 6.931_471_803_691_238e-1;
    const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    // 1.5 * 2^52: added to it, a number is rounded to a whole one, which then stands in the lowest bits.
    const WHOLE: f64 = 6_755_399_441_055_744.0;
    let kept = if x < SMALLEST { SMALLEST } else { x };
    let shifted = kept * std::f64::consts::LOG2_E + WHOLE;
    let n = shifted - WHOLE;
    let r = (kept - n * LN_2_HIGH) - n * LN_2_LOW;
    // Taylor's series; the 14th term is below 2^-56 of the sum.
    let mut sum = INVERSE_FACTORIALS[13];
    for k in (0..13).rev() {
        sum = INVERSE_FACTORIALS[k] + sum * r;
    }
    // n is between -1022 and 0: the exponent is what of the bits is left.
    let power = f64::from_bits((shifted.to_bits() + 1023) << 52);
    if x < SMALLEST { 0.0 } else { sum * power }
}

/// `1 / k!`.
const INVERSE_FACTORIALS: [f64; 14] = {
    let (mut inverses, mut factorial, mut k) = ([1.0; 14], 1.0, 1);
    while k < inverses.len() {
        factorial *= k as f64;
        inverses[k] = 1.0 / factorial;
        k += 1;
    }
    inverses
};

/// xoshiro256++ (Blackman and Vigna), its state filled by splitmix64 from the seed as its authors recommend.
#[derive(Clone, Debug)]
struct Random {
    state: [u64; 4],
}

impl Random {
    fn new(seed: u64) -> Random {
        let mut s = seed;
        let mut splitmix = || {
            s = s.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (s ^ (s >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        Random { state: [splitmix(), splitmix(), splitmix(), splitmix()] }
    }

    fn next(&mut self) -> u64 {
        let [a, b, c, d] = self.state;
        let result = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
        let (c, d) = (c ^ a, d ^ b);
        self.state = [a ^ d, b ^ c, c ^ (b << 17), d.rotate_left(45)];
        result
    }

    /// Uniform in [0, 1), a multiple of 2^-53.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_sequence_is_the_published_one() {
        let mut random = Random { state: [1, 2, 3, 4] };
        let first: Vec<u64> = (0..4).map(|_| random.next()).collect();
        assert_eq!(first, [41943041, 58720359, 3588806011781223, 3591011842654386]);
        // Filled from the seed by splitmix64, whose first numbers from this seed are published too.
        let random = Random::new(1477776061723855037);
        assert_eq!(random.state[..3], [1985237415132408290, 2979275885539914483, 13511426838097143398]);
    }

    #[test]
    fn exp_is_accurate() {
        for i in 0..=70_000 {
            let x = -f64::from(i) / 100.0;
            let (ours, std) = (exp(x), x.exp());
            assert!((ours - std).abs() <= 4.0 * f64::EPSILON * std, "exp({x}) = {ours}, not {std}");
        }
        assert_eq!((exp(0.0), exp(-709.0), exp(f64::NEG_INFINITY)), (1.0, 0.0, 0.0));
    }

    #[test]
    fn argmax_takes_the_first_of_equals() {
        let check = |logits: &[f32], expected: Option<u32>| assert_eq!(argmax(logits).ok(), expected, "{logits:?}");
        check(&[1.0, 3.0, 3.0], Some(1));
        check(&[f32::NEG_INFINITY, f32::NEG_INFINITY], Some(0));
        check(&[-0.0, 0.0], Some(0));
        check(&[], None);
        check(&[1.0, f32::NAN], None);
    }

    /// Shares of 20,000 draws.
    fn shares(options: SamplingOptions, logits: &[f32]) -> Vec<f64> {
        let mut sampler = Sampler::new(options, logits.len()).unwrap();
        let mut counts = vec![0.0; logits.len()];
        for _ in 0..20_000 {
            counts[sampler.sample(logits).unwrap() as usize] += 1.0 / 20_000.0;
        }
        counts
    }

    #[test]
    fn draws_have_the_right_shares() {
        let ln = |p: f32| p.ln();
        let logits = [ln(0.1), ln(0.4), f32::NEG_INFINITY, ln(0.2), ln(0.3)];
        let check = |temperature: f32, top_k: usize, top_p: f32, expected: [f64; 5]| {
            let got = shares(SamplingOptions { temperature, top_k, top_p, seed: 7 }, &logits);
            for (got, expected) in got.iter().zip(expected) {
                // Four standard deviations of 20,000 draws are below 0.015; what cannot be drawn never is.
                assert!((got - expected).abs() < 0.015 && (expected > 0.0 || *got == 0.0), "{got} for {expected}");
            }
        };
        check(1.0, 0, 1.0, [0.1, 0.4, 0.0, 0.2, 0.3]);
        check(0.0, 0, 1.0, [0.0, 1.0, 0.0, 0.0, 0.0]);
        check(0.5, 0, 1.0, [1.0 / 30.0, 16.0 / 30.0, 0.0, 4.0 / 30.0, 9.0 / 30.0]);
        check(1.0, 2, 1.0, [0.0, 4.0 / 7.0, 0.0, 0.0, 3.0 / 7.0]);
        check(1.0, 1, 1.0, [0.0, 1.0, 0.0, 0.0, 0.0]);
        check(1.0, 9, 1.0, [0.1, 0.4, 0.0, 0.2, 0.3]);
        check(1.0, 0, 0.6, [0.0, 4.0 / 7.0, 0.0, 0.0, 3.0 / 7.0]);
        check(1.0, 0, 0.85, [0.0, 4.0 / 9.0, 0.0, 2.0 / 9.0, 3.0 / 9.0]);
        check(1.0, 3, 0.5, [0.0, 4.0 / 7.0, 0.0, 0.0, 3.0 / 7.0]);
        check(1.0, 0, f32::MIN_POSITIVE, [0.0, 1.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn top_p_over_a_large_flat_vocabulary() {
        // All equal: the first tokens win, and the loop goes through several of its steps.
        let logits = vec![0.0; 5000];
        let options = SamplingOptions { top_p: 0.5, ..SamplingOptions::default() };
        let mut sampler = Sampler::new(options, logits.len()).unwrap();
        for _ in 0..1000 {
            assert!(sampler.sample(&logits).unwrap() < 2500);
        }
        assert_eq!(sampler.candidates.len(), 2500);
        assert_eq!(sampler.candidates.capacity(), 5000);
    }

    #[test]
    fn what_is_kept_is_what_sorting_everything_keeps() {
        let mut random = Random::new(3);
        for n in [1, 2, 7, 255, 256, 257, 700, 5000] {
            for (top_k, top_p) in [(0, 0.9), (0, 0.05), (0, 0.999_999), (1, 1.0), (40, 0.8), (300, 1.0), (4999, 0.5)] {
                // Eighths: many are equal.
                let logits: Vec<f32> = (0..n).map(|_| (random.unit() * 80.0).round() as f32 / 8.0).collect();
                let options = SamplingOptions { temperature: 0.7, top_k, top_p, seed: 1 };
                let mut sampler = Sampler::new(options, n).unwrap();
                let token = sampler.sample(&logits).unwrap();
                let scale = Scale { largest: f64::from(logits.iter().copied().fold(0.0, f32::max)), temperature: 0.7 };
                let mut all: Vec<Candidate> = (0..n)
                    .map(|i| Candidate { logit: logits[i], id: i as u32, weight: scale.weight(logits[i]) })
                    .collect();
                all.sort_by(Candidate::order);
                if top_k > 0 {
                    all.truncate(top_k);
                }
                let wanted = all.iter().map(|c| c.weight).sum::<f64>() * f64::from(top_p);
                let mut sum = 0.0;
                let is_kept = |c: &&Candidate| {
                    let before = sum;
                    sum += c.weight;
                    before < wanted
                };
                let expected: Vec<u32> = all.iter().take_while(is_kept).map(|c| c.id).collect();
                let kept: Vec<u32> = sampler.candidates.iter().map(|c| c.id).collect();
                assert!(expected.contains(&token));
                if top_p < 1.0 || (1..n).contains(&top_k) {
                    assert_eq!(kept, expected, "{n} {top_k} {top_p}");
                }
            }
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_tokens() {
        let logits: Vec<f32> = (0..300).map(|i| (i * 37 % 101) as f32 / 25.0).collect();
        let draw = |seed: u64| -> Vec<u32> {
            let options = SamplingOptions { temperature: 0.8, top_k: 40, top_p: 0.95, seed };
            let mut sampler = Sampler::new(options, logits.len()).unwrap();
            (0..12).map(|_| sampler.sample(&logits).unwrap()).collect()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn bad_options_and_logits_are_errors() {
        let check = |temperature: f32, top_p: f32, ok: bool| {
            let options = SamplingOptions { temperature, top_p, ..SamplingOptions::default() };
            assert_eq!(Sampler::new(options, 4).is_ok(), ok, "{options:?}");
        };
        check(0.0, 1.0, true);
        check(-0.1, 1.0, false);
        check(f32::NAN, 1.0, false);
        check(f32::INFINITY, 1.0, false);
        check(1.0, 0.0, false);
        check(1.0, 1.01, false);
        check(1.0, f32::NAN, false);
        let mut sampler = Sampler::new(SamplingOptions::default(), 2).unwrap();
        for logits in [&[f32::NAN, 0.0][..], &[f32::INFINITY, 0.0], &[f32::NEG_INFINITY; 2], &[]] {
            assert!(sampler.sample(logits).is_err(), "{logits:?}");
        }
    }

    #[test]
    fn tiny_temperatures_are_greedy() {
        let mut sampler = Sampler::new(SamplingOptions { temperature: 1e-30, ..Default::default() }, 3).unwrap();
        assert_eq!(sampler.sample(&[1.0, 1.0001, 0.0]).unwrap(), 1);
    }
}
