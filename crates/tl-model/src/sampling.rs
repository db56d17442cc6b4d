//! Choosing the next token from logits: penalties for repetition, then temperature, top-k, min-p and top-p, with a seed.
//!
//! It owns its random generator, its scratch and the last tokens, so that a choice allocates nothing, and computes with additions,
//! multiplications and divisions in float64 only: the same seed, logits and last tokens give the same token on every machine. It
//! knows no text: which tokens the penalties count, [`Sampler::accept`] is told.

use std::cmp::Ordering;

use tl_tensor::Tensor;

use crate::error::{ModelError, Result};

/// How the next token is chosen: penalties first, then temperature, top-k, min-p and top-p, in this order.
///
/// More options may come; write `SamplingOptions { temperature: 0.7, ..SamplingOptions::default() }`.
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
    /// Tokens whose probability is below `min_p` times that of the most likely token are left out. From 0 (none are) to 1.
    pub min_p: f32,
    /// Divides the positive logits of tokens that are among the last, and multiplies the negative ones (Keskar et al., 2019,
    /// "CTRL"). 1 changes nothing, less than 1 favours repetition. From 0.01 to 100.
    pub repetition_penalty: f32,
    /// Subtracted from the logit of every token that is among the last. 0 changes nothing. From 0 to 100.
    pub presence_penalty: f32,
    /// Subtracted from a token's logit once for each time that it is among the last. 0 changes nothing. From 0 to 100.
    pub frequency_penalty: f32,
    /// How many of the last tokens the penalties count, at most [`SamplingOptions::MAX_PENALTY_WINDOW`]; with 0, no token is
    /// penalized.
    pub penalty_window: usize,
}

impl Default for SamplingOptions {
    /// Temperature 1 over all tokens without penalties, seed 0; a window of 64 tokens for penalties that are set.
    fn default() -> SamplingOptions {
        SamplingOptions {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            seed: 0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            penalty_window: 64,
        }
    }
}

impl SamplingOptions {
    /// The largest `penalty_window`: a million tokens, 4 MiB.
    pub const MAX_PENALTY_WINDOW: usize = 1 << 20;

    /// Whether any penalty changes logits.
    pub fn has_penalties(&self) -> bool {
        let is_neutral =
            self.repetition_penalty == 1.0 && self.presence_penalty == 0.0 && self.frequency_penalty == 0.0;
        !is_neutral && self.penalty_window > 0
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
    /// The logits of a tensor as float32, and those that penalties change.
    logits: Vec<f32>,
    /// The last tokens; `None` without penalties.
    history: Option<History>,
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
    /// A sampler for logits of up to `vocab_size` tokens; reserves its scratch now, with penalties also room for the last tokens.
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
            history: options.has_penalties().then(|| History::new(options.penalty_window, vocab_size)),
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

    /// Changes temperature, top-k, min-p and top-p for the choices to come; the random sequence goes on, and the penalties stay.
    ///
    /// # Errors
    /// An option outside its range; nothing is changed then.
    pub fn set_shape(&mut self, temperature: f32, top_k: usize, min_p: f32, top_p: f32) -> Result<()> {
        let options = SamplingOptions { temperature, top_k, min_p, top_p, ..self.options };
        check_options(&options)?;
        self.options = options;
        Ok(())
    }

    /// Adds a token of the prompt or of the text to those that the penalties count; without penalties it does nothing. A token
    /// outside the vocabulary that the sampler was made for takes a place among the last tokens and is not penalized.
    ///
    /// The sampler adds no token by itself: the caller accepts each chosen token that becomes part of the text.
    pub fn accept(&mut self, token: u32) {
        if let Some(history) = &mut self.history {
            history.push(token);
        }
    }

    /// Begins anew: no token is counted by the penalties, and the random sequence starts again from the seed.
    pub fn reset(&mut self) {
        self.random = Random::new(self.options.seed);
        if let Some(history) = &mut self.history {
            history.clear();
        }
    }

    /// Chooses a token. The penalties change the logits first, then come temperature, top-k, min-p, and top-p over what is left.
    ///
    /// `logits`: one per token. Minus infinity means never. Allocates nothing as long as there are no more logits
    /// than the sampler was made for.
    ///
    /// # Errors
    /// No logits, a NaN, plus infinity, or minus infinity for every token.
    pub fn sample(&mut self, logits: &[f32]) -> Result<u32> {
        if self.history.is_none() {
            return self.choose(logits);
        }
        let mut values = std::mem::take(&mut self.logits);
        values.clear();
        values.extend_from_slice(logits);
        self.penalize(&mut values);
        let chosen = self.choose(&values);
        self.logits = values;
        chosen
    }

    /// Applies the penalties to the logits of the last tokens.
    fn penalize(&mut self, logits: &mut [f32]) {
        let SamplingOptions { repetition_penalty, presence_penalty, frequency_penalty, .. } = self.options;
        let [repetition, presence, frequency] =
            [repetition_penalty, presence_penalty, frequency_penalty].map(f64::from);
        let Some(history) = &mut self.history else { return };
        history.for_each_token(|token, count| {
            let Some(logit) = logits.get_mut(token as usize) else { return };
            let x = f64::from(*logit);
            let repeated = if x > 0.0 { x / repetition } else { x * repetition };
            let penalized = repeated - (presence + frequency * f64::from(count));
            // What was possible stays possible, and no finite logit becomes one that is refused.
            let bounded = if x.is_finite() { penalized.clamp(f32::MIN.into(), f32::MAX.into()) } else { penalized };
            *logit = bounded as f32;
        });
    }

    /// Chooses a token; the penalties are behind.
    fn choose(&mut self, logits: &[f32]) -> Result<u32> {
        let best = argmax(logits)?;
        if self.options.temperature == 0.0 {
            return Ok(best);
        }
        let largest = logits.get(best as usize).copied().unwrap_or_default();
        if largest.is_infinite() {
            let problem = format!("the largest, of token {best}, is {largest}");
            return Err(ModelError::Logits { problem });
        }
        let SamplingOptions { temperature, top_k, top_p, min_p, .. } = self.options;
        let scale = Scale { largest: f64::from(largest), temperature: f64::from(temperature) };
        let total = if top_k > 0 && top_k < logits.len() {
            let total = self.take_top_k(logits, scale);
            if min_p > 0.0 { self.keep_min_p() } else { total }
        } else if min_p > 0.0 {
            self.take_min_p(logits, scale)
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
    /// On a GPU, the likeliest token (temperature 0, no penalties) is found there, and only its number is read back; a NaN is then
    /// not looked for.
    ///
    /// # Errors
    /// As for [`Sampler::sample`]; a tensor of more than one row, or of another type.
    pub fn sample_tensor<T>(&mut self, logits: &Tensor<T>) -> Result<u32> {
        if logits.device().is_gpu() && self.chooses_on_device() {
            check_logits(logits)?;
            let mut token = [0f32];
            logits.argmax(None, false)?.read_f32(&mut token)?;
            return Ok(token[0] as u32);
        }
        let mut values = std::mem::take(&mut self.logits);
        let chosen = read_logits(logits, &mut values).and_then(|()| {
            self.penalize(&mut values);
            self.choose(&values)
        });
        self.logits = values;
        chosen
    }

    /// Whether a GPU can choose the token: the largest logit, as it is.
    fn chooses_on_device(&self) -> bool {
        self.options.temperature == 0.0 && self.history.is_none()
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

    /// Keeps the candidates that min-p allows. Gives the sum of their weights.
    fn keep_min_p(&mut self) -> f64 {
        let smallest = f64::from(self.options.min_p);
        self.candidates.retain(|candidate| candidate.weight >= smallest);
        self.candidates.iter().map(|candidate| candidate.weight).sum()
    }

    /// The candidates are the tokens that min-p allows, by their ids. Gives the sum of their weights.
    fn take_min_p(&mut self, logits: &[f32], scale: Scale) -> f64 {
        fill_weights(logits, scale, &mut self.weights);
        // The largest weight is 1.
        let smallest = f64::from(self.options.min_p);
        self.candidates.clear();
        for ((&logit, &weight), id) in logits.iter().zip(&self.weights).zip(0u32..) {
            if weight >= smallest {
                self.candidates.push(Candidate { logit, id, weight });
            }
        }
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
    let SamplingOptions { temperature, top_k: _, top_p, seed: _, min_p, penalty_window, .. } = *options;
    let SamplingOptions { repetition_penalty, presence_penalty, frequency_penalty, .. } = *options;
    let penalty = "a number from 0 to 100";
    // No comparison holds for a NaN.
    let checks = [
        ("temperature", temperature, (0.0..=f32::MAX).contains(&temperature), "a finite number that is not negative"),
        ("top_p", top_p, top_p > 0.0 && top_p <= 1.0, "a number above 0 and at most 1"),
        ("min_p", min_p, (0.0..=1.0).contains(&min_p), "a number from 0 to 1"),
        (
            "repetition_penalty",
            repetition_penalty,
            (0.01..=100.0).contains(&repetition_penalty),
            "a number from 0.01 to 100; 1 is none",
        ),
        ("presence_penalty", presence_penalty, (0.0..=100.0).contains(&presence_penalty), penalty),
        ("frequency_penalty", frequency_penalty, (0.0..=100.0).contains(&frequency_penalty), penalty),
        (
            "penalty_window",
            penalty_window as f32,
            penalty_window <= SamplingOptions::MAX_PENALTY_WINDOW,
            "at most 1048576 tokens",
        ),
    ];
    match checks.into_iter().find(|(_, _, is_right, _)| !is_right) {
        Some((option, value, _, expected)) => Err(ModelError::SamplingOption { option, value, expected }),
        None => Ok(()),
    }
}

/// The last tokens, and how often each token is among them.
#[derive(Clone, Debug)]
struct History {
    /// Filled from the front, then the oldest is overwritten.
    ring: Vec<u32>,
    window: usize,
    /// The place of the oldest, once the ring is full.
    oldest: usize,
    /// By token. The highest bit is a mark while [`History::for_each_token`] runs.
    counts: Vec<u32>,
}

impl History {
    const MARK: u32 = 1 << 31;

    fn new(window: usize, vocab_size: usize) -> History {
        History { ring: Vec::with_capacity(window), window, oldest: 0, counts: vec![0; vocab_size] }
    }

    fn push(&mut self, token: u32) {
        if let Some(count) = self.counts.get_mut(token as usize) {
            *count += 1;
        }
        if self.ring.len() < self.window {
            self.ring.push(token);
            return;
        }
        if let Some(place) = self.ring.get_mut(self.oldest) {
            let old = std::mem::replace(place, token);
            if let Some(count) = self.counts.get_mut(old as usize) {
                *count -= 1;
            }
            self.oldest = (self.oldest + 1) % self.window;
        }
    }

    fn clear(&mut self) {
        for &token in &self.ring {
            if let Some(count) = self.counts.get_mut(token as usize) {
                *count = 0;
            }
        }
        self.ring.clear();
        self.oldest = 0;
    }

    /// Calls `f` with each token of the vocabulary that is among the last, once, and with how often it is.
    fn for_each_token(&mut self, mut f: impl FnMut(u32, u32)) {
        for &token in &self.ring {
            if let Some(count) = self.counts.get_mut(token as usize)
                && *count & Self::MARK == 0
            {
                f(token, *count);
                *count |= Self::MARK;
            }
        }
        for &token in &self.ring {
            if let Some(count) = self.counts.get_mut(token as usize) {
                *count &= !Self::MARK;
            }
        }
    }
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
    use proptest::prelude::*;

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
            let got = shares(SamplingOptions { temperature, top_k, top_p, seed: 7, ..Default::default() }, &logits);
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
                let options = SamplingOptions { temperature: 0.7, top_k, top_p, seed: 1, ..Default::default() };
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
            let options = SamplingOptions { temperature: 0.8, top_k: 40, top_p: 0.95, seed, ..Default::default() };
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
    fn options_outside_their_ranges_are_named() {
        let plain = SamplingOptions::default;
        let check = |options: SamplingOptions, expected: Option<&str>| {
            let wrong = match Sampler::new(options, 4) {
                Err(ModelError::SamplingOption { option, .. }) => Some(option),
                other => other.map(|_| None).unwrap(),
            };
            assert_eq!(wrong, expected, "{options:?}");
        };
        for (value, is_right) in [(0.0, true), (1.0, true), (-0.1, false), (1.1, false), (f32::NAN, false)] {
            check(SamplingOptions { min_p: value, ..plain() }, (!is_right).then_some("min_p"));
        }
        let values = [f32::NAN, f32::INFINITY, -1.0, 100.1, 0.0, 0.001, 100.0];
        for (value, is_right) in values.into_iter().zip([false, false, false, false, true, true, true]) {
            let (presence, frequency) = ("presence_penalty", "frequency_penalty");
            check(SamplingOptions { presence_penalty: value, ..plain() }, (!is_right).then_some(presence));
            check(SamplingOptions { frequency_penalty: value, ..plain() }, (!is_right).then_some(frequency));
            let wrong = (value != 100.0).then_some("repetition_penalty");
            check(SamplingOptions { repetition_penalty: value, ..plain() }, wrong);
        }
        let most = SamplingOptions::MAX_PENALTY_WINDOW;
        check(SamplingOptions { penalty_window: most, ..plain() }, None);
        check(SamplingOptions { penalty_window: most + 1, ..plain() }, Some("penalty_window"));
        check(SamplingOptions { penalty_window: usize::MAX, presence_penalty: 1.0, ..plain() }, Some("penalty_window"));
    }

    #[test]
    fn a_seed_gives_these_tokens() {
        let logits: Vec<f32> = (0..1000).map(|i| (i * 379 % 1009) as f32 / 80.0).collect();
        let check = |temperature: f32, top_k: usize, top_p: f32, expected: [u32; 8]| {
            let options = SamplingOptions { temperature, top_k, top_p, seed: 11, ..Default::default() };
            let mut sampler = Sampler::new(options, logits.len()).unwrap();
            assert_eq!(expected.map(|_| sampler.sample(&logits).unwrap()), expected, "{options:?}");
            // A window alone penalizes nothing, and a new start is one.
            sampler.reset();
            sampler.accept(expected[0]);
            assert_eq!(expected.map(|_| sampler.sample(&logits).unwrap()), expected, "{options:?}");
            assert!(sampler.history.is_none());
        };
        check(1.0, 0, 1.0, [881, 804, 977, 599, 298, 740, 157, 45]);
        check(0.7, 0, 0.9, [471, 487, 423, 937, 378, 511, 189, 804]);
        check(0.8, 40, 1.0, [551, 756, 945, 165, 993, 764, 599, 402]);
        check(1.3, 40, 0.8, [157, 362, 354, 575, 591, 165, 599, 402]);
        check(0.0, 0, 1.0, [402; 8]);
    }

    #[test]
    fn min_p_draws_have_the_right_shares() {
        let logits = [0.1f32, 0.4, 0.0, 0.2, 0.3].map(f32::ln);
        let check = |options: SamplingOptions, expected: [f64; 5]| {
            for (got, expected) in shares(SamplingOptions { seed: 7, ..options }, &logits).iter().zip(expected) {
                assert!((got - expected).abs() < 0.015 && (expected > 0.0 || *got == 0.0), "{got} for {expected}");
            }
        };
        let plain = SamplingOptions::default();
        check(SamplingOptions { min_p: 0.2, ..plain }, [0.1, 0.4, 0.0, 0.2, 0.3]);
        check(SamplingOptions { min_p: 0.4, ..plain }, [0.0, 4.0 / 9.0, 0.0, 2.0 / 9.0, 3.0 / 9.0]);
        check(SamplingOptions { min_p: 0.6, ..plain }, [0.0, 4.0 / 7.0, 0.0, 0.0, 3.0 / 7.0]);
        check(SamplingOptions { min_p: 1.0, ..plain }, [0.0, 1.0, 0.0, 0.0, 0.0]);
        check(SamplingOptions { min_p: 1e-30, ..plain }, [0.1, 0.4, 0.0, 0.2, 0.3]);
        // Top-p is of what min-p leaves: 4/9 and 3/9 are more than 0.7.
        check(SamplingOptions { min_p: 0.4, top_p: 0.7, ..plain }, [0.0, 4.0 / 7.0, 0.0, 0.0, 3.0 / 7.0]);
        check(SamplingOptions { min_p: 0.4, top_k: 2, ..plain }, [0.0, 4.0 / 7.0, 0.0, 0.0, 3.0 / 7.0]);
        check(SamplingOptions { min_p: 0.7, top_k: 4, ..plain }, [0.0, 4.0 / 7.0, 0.0, 0.0, 3.0 / 7.0]);
        // Of probabilities after the temperature: at 0.5, 9/30 are 9/16 of 16/30.
        check(SamplingOptions { min_p: 0.6, temperature: 0.5, ..plain }, [0.0, 1.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn penalties_change_the_logits_of_the_last_tokens() {
        let check = |options: SamplingOptions, last: &[u32], logits: &[f32], expected: &[f32]| {
            let mut sampler = Sampler::new(options, logits.len()).unwrap();
            last.iter().for_each(|&token| sampler.accept(token));
            let mut changed = logits.to_vec();
            sampler.penalize(&mut changed);
            assert_eq!(changed, expected, "{options:?} {last:?}");
        };
        let plain = SamplingOptions::default();
        let repetition = SamplingOptions { repetition_penalty: 2.0, ..plain };
        check(repetition, &[0, 1, 1, 2], &[3.0, -3.0, 0.0, 1.0], &[1.5, -6.0, 0.0, 1.0]);
        check(repetition, &[0, 7, u32::MAX], &[3.0, 3.0], &[1.5, 3.0]);
        check(repetition, &[0, 1], &[f32::NEG_INFINITY, f32::INFINITY], &[f32::NEG_INFINITY, f32::INFINITY]);
        check(repetition, &[0, 1], &[f32::MIN, f32::MAX], &[f32::MIN, f32::MAX / 2.0]);
        let favoured = SamplingOptions { repetition_penalty: 0.5, ..plain };
        check(favoured, &[0, 1], &[f32::MAX, -2.0], &[f32::MAX, -1.0]);
        let presence = SamplingOptions { presence_penalty: 0.5, ..plain };
        check(presence, &[1, 1, 1], &[3.0, 3.0], &[3.0, 2.5]);
        let frequency = SamplingOptions { frequency_penalty: 0.5, ..plain };
        check(frequency, &[1, 1, 0, 1], &[3.0, 3.0], &[2.5, 1.5]);
        // The repetition penalty comes before those that are subtracted.
        let all = SamplingOptions { presence_penalty: 0.25, frequency_penalty: 0.5, ..repetition };
        check(all, &[1, 1], &[3.0, 3.0], &[3.0, 0.25]);
        // The window: the first of four no longer counts.
        let narrow = SamplingOptions { penalty_window: 3, ..frequency };
        check(narrow, &[0, 1, 1, 2], &[3.0, 3.0, 3.0], &[3.0, 2.0, 2.5]);
        check(narrow, &[0, 1, 1, 2, 2, 2], &[3.0, 3.0, 3.0], &[3.0, 3.0, 1.5]);
        check(SamplingOptions { penalty_window: 0, ..all }, &[0, 1], &[3.0, 3.0], &[3.0, 3.0]);
    }

    #[test]
    fn reset_forgets_the_last_tokens() {
        let options =
            SamplingOptions { temperature: 0.0, presence_penalty: 2.0, penalty_window: 4, ..Default::default() };
        let mut sampler = Sampler::new(options, 3).unwrap();
        let logits = [1.0, 2.0, 0.5];
        for _ in 0..2 {
            let chosen: Vec<u32> = (0..7)
                .map(|_| {
                    let token = sampler.sample(&logits).unwrap();
                    sampler.accept(token);
                    token
                })
                .collect();
            // Once each has been chosen, the order is that without penalties, until the ring lets the first go.
            assert_eq!(chosen, [1, 0, 2, 1, 1, 1, 0]);
            sampler.reset();
        }
    }

    #[test]
    fn the_device_chooses_only_without_penalties() {
        let check = |options: SamplingOptions, expected: bool| {
            assert_eq!(Sampler::new(options, 2).unwrap().chooses_on_device(), expected, "{options:?}");
        };
        let greedy = SamplingOptions { temperature: 0.0, ..SamplingOptions::default() };
        check(greedy, true);
        check(SamplingOptions { min_p: 0.5, top_k: 3, top_p: 0.5, ..greedy }, true);
        check(SamplingOptions { repetition_penalty: 1.1, penalty_window: 0, ..greedy }, true);
        check(SamplingOptions { repetition_penalty: 1.1, ..greedy }, false);
        check(SamplingOptions { presence_penalty: 0.1, ..greedy }, false);
        check(SamplingOptions { frequency_penalty: 0.1, ..greedy }, false);
        check(SamplingOptions::default(), false);
    }

    /// The logits after the penalties, with `last` the tokens that count.
    fn penalized(options: &SamplingOptions, last: &[u32], logits: &[f32]) -> Vec<f32> {
        let penalize = |(&logit, id): (&f32, u32)| {
            let count = last.iter().filter(|token| **token == id).count();
            if count == 0 {
                return logit;
            }
            let penalty = f64::from(options.repetition_penalty);
            let x = f64::from(logit);
            let repeated = if x > 0.0 { x / penalty } else { x * penalty };
            (repeated - (f64::from(options.presence_penalty) + f64::from(options.frequency_penalty) * count as f64))
                as f32
        };
        logits.iter().zip(0..).map(penalize).collect()
    }

    /// The ids that a choice is among, most likely first. Where it depends on the last bits of a sum or an exponential, more of
    /// them are kept with a `slack` above 0, fewer with one below.
    fn kept(options: &SamplingOptions, logits: &[f32], slack: f64) -> Vec<u32> {
        let largest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let weight = |logit: f32| ((f64::from(logit) - largest) / f64::from(options.temperature)).exp();
        let mut all: Vec<(f32, u32)> = logits.iter().copied().zip(0..).collect();
        all.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        if options.top_k > 0 {
            all.truncate(options.top_k);
        }
        let least = (f64::from(options.min_p) * (1.0 - slack)).min(1.0);
        all.retain(|(logit, _)| weight(*logit) >= least);
        let wanted =
            all.iter().map(|(logit, _)| weight(*logit)).sum::<f64>() * f64::from(options.top_p) * (1.0 + slack);
        let mut sum = 0.0;
        let is_kept = |(logit, _): &(f32, u32)| {
            let before = sum;
            sum += weight(*logit);
            before < wanted
        };
        all.into_iter().take_while(is_kept).map(|(_, id)| id).collect()
    }

    /// Logits with many equal ones and some that are minus infinity; with what cannot be sampled now and then.
    fn some_logits() -> impl Strategy<Value = Vec<f32>> {
        let logit = prop_oneof![
            200 => (-80i32..80).prop_map(|eighths| eighths as f32 / 8.0),
            20 => Just(f32::NEG_INFINITY),
            20 => -10.0f32..10.0,
        ];
        let odd = prop_oneof![30 => Just(None), 1 => Just(Some(f32::NAN)), 1 => Just(Some(f32::INFINITY))];
        let logits = prop_oneof![prop::collection::vec(logit.clone(), 1..20), prop::collection::vec(logit, 200..700)];
        (logits, odd, any::<prop::sample::Index>()).prop_map(|(mut logits, odd, at)| {
            if let Some(odd) = odd {
                let at = at.index(logits.len());
                logits[at] = odd;
            }
            logits
        })
    }

    fn some_options() -> impl Strategy<Value = SamplingOptions> {
        let filters = (
            prop_oneof![Just(0.0f32), Just(1.0), 0.05f32..3.0],
            prop_oneof![Just(0usize), 1usize..8, 8usize..400],
            prop_oneof![Just(1.0f32), 0.01f32..1.0, Just(0.5)],
            prop_oneof![2 => Just(0.0f32), 2 => 0.0001f32..1.0, 1 => Just(1.0)],
        );
        let penalties = (
            prop_oneof![Just(1.0f32), 0.5f32..3.0],
            prop_oneof![Just(0.0f32), 0.0f32..4.0],
            prop_oneof![Just(0.0f32), 0.0f32..2.0],
            prop_oneof![Just(0usize), 1usize..12, Just(64)],
        );
        (filters, penalties, any::<u64>()).prop_map(|(filters, penalties, seed)| {
            let (temperature, top_k, top_p, min_p) = filters;
            let (repetition_penalty, presence_penalty, frequency_penalty, penalty_window) = penalties;
            SamplingOptions {
                temperature,
                top_k,
                top_p,
                seed,
                min_p,
                repetition_penalty,
                presence_penalty,
                frequency_penalty,
                penalty_window,
            }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1500))]

        #[test]
        fn choices_are_those_of_the_plain_way(
            options in some_options(),
            logits in some_logits(),
            tokens in prop::collection::vec(0u32..24, 0..40),
        ) {
            let mut sampler = Sampler::new(options, logits.len()).unwrap();
            let room = |sampler: &Sampler| {
                let ring = sampler.history.as_ref().map(|history| history.ring.capacity());
                (sampler.candidates.capacity(), sampler.weights.capacity(), sampler.logits.capacity(), ring)
            };
            let room_before = room(&sampler);
            // The drawn token becomes one of the last, four times.
            let mut tokens = tokens;
            tokens.iter().for_each(|&token| sampler.accept(token));
            for _ in 0..4 {
                let last = &tokens[tokens.len().saturating_sub(options.penalty_window)..];
                let changed = penalized(&options, last, &logits);
                let unit = sampler.random.clone().unit();
                let token = sampler.sample(&logits);
                let largest = changed.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                if changed.iter().any(|logit| logit.is_nan()) || (options.temperature > 0.0 && largest.is_infinite()) {
                    prop_assert!(token.is_err());
                    break;
                }
                let token = token.unwrap();
                if options.temperature == 0.0 {
                    prop_assert_eq!(Some(token as usize), changed.iter().position(|logit| *logit == largest));
                } else {
                    let is_filtered = (1..logits.len()).contains(&options.top_k) || options.min_p > 0.0 || options.top_p < 1.0;
                    let order: Vec<u32> = if is_filtered {
                        let order: Vec<u32> = sampler.candidates.iter().map(|candidate| candidate.id).collect();
                        let (least, most) = (kept(&options, &changed, -1e-9), kept(&options, &changed, 1e-9));
                        prop_assert!((least.len()..=most.len()).contains(&order.len()));
                        let (mut sorted, mut expected) = (order.clone(), most[..order.len()].to_vec());
                        sorted.sort_unstable();
                        expected.sort_unstable();
                        prop_assert_eq!(sorted, expected);
                        order
                    } else {
                        (0..logits.len() as u32).collect()
                    };
                    // The random number falls into the token's share.
                    let temperature = f64::from(options.temperature);
                    let weight = |id: u32| ((f64::from(changed[id as usize]) - f64::from(largest)) / temperature).exp();
                    let total: f64 = order.iter().map(|&id| weight(id)).sum();
                    let before: f64 = order.iter().take_while(|id| **id != token).map(|&id| weight(id)).sum();
                    let (left, slack) = (unit * total, 1e-9 * total);
                    prop_assert!(order.contains(&token) && weight(token) > 0.0);
                    prop_assert!(before - slack <= left && left <= before + weight(token) + slack);
                }
                sampler.accept(token);
                tokens.push(token);
            }
            prop_assert_eq!(room(&sampler), room_before);
        }
    }

    #[test]
    fn tiny_temperatures_are_greedy() {
        let mut sampler = Sampler::new(SamplingOptions { temperature: 1e-30, ..Default::default() }, 3).unwrap();
        assert_eq!(sampler.sample(&[1.0, 1.0001, 0.0]).unwrap(), 1);
    }
}
