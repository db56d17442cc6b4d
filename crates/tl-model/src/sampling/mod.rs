//! Sampling of the next token from logits: penalties for repetition, then temperature, top-k, min-p and top-p, with a
//! seed.
//!
//! A sampler owns its random generator, its scratch memory and the last tokens, so that a choice allocates nothing. It
//! computes with additions, multiplications and divisions in float64 only: the same seed, logits and last tokens give
//! the same token on every machine. It knows no text: [`Sampler::accept`] adds the tokens that the penalties count.

use std::cmp::Ordering;

use tl_tensor::Tensor;

use crate::constraint::Constraint;
use crate::error::{ModelError, Result};

/// Sampling options, applied in this order: penalties, temperature, top-k, min-p, top-p.
///
/// ```
/// use tl_model::SamplingOptions;
/// let mut options = SamplingOptions::default().with_temperature(0.7).with_top_p(0.9).with_seed(7);
/// options.min_p = 0.05;
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct SamplingOptions {
    /// Divisor of the logits; 0 takes the largest logit. Finite, not negative.
    pub temperature: f32,
    /// Keeps this many of the most likely tokens; 0 keeps all.
    pub top_k: usize,
    /// Keeps the most likely tokens whose probabilities add up to this. Above 0, at most 1 (all).
    pub top_p: f32,
    /// Seed of the random sequence.
    pub seed: u64,
    /// Drops tokens whose probability is below `min_p` times that of the most likely token. From 0 (none are dropped)
    /// to 1.
    pub min_p: f32,
    /// Divides the positive logits of the last tokens, and multiplies the negative ones (Keskar et al., 2019, "CTRL").
    /// 1 changes nothing, less than 1 favours repetition. From 0.01 to 100.
    pub repetition_penalty: f32,
    /// Subtracted from the logit of each of the last tokens. 0 changes nothing. From 0 to 100.
    pub presence_penalty: f32,
    /// Subtracted from a token's logit for each occurrence among the last tokens. 0 changes nothing. From 0 to 100.
    pub frequency_penalty: f32,
    /// Number of last tokens that the penalties count, at most [`SamplingOptions::MAX_PENALTY_WINDOW`]; 0 disables the
    /// penalties.
    pub penalty_window: usize,
}

impl Default for SamplingOptions {
    /// Temperature 1 over all tokens without penalties, seed 0; penalties that are set count the last 64 tokens.
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

    /// The largest logit, always: temperature 0.
    pub fn greedy() -> SamplingOptions {
        SamplingOptions::default().with_temperature(0.0)
    }

    /// With another temperature.
    pub fn with_temperature(mut self, temperature: f32) -> SamplingOptions {
        self.temperature = temperature;
        self
    }

    /// With another `top_p`.
    pub fn with_top_p(mut self, top_p: f32) -> SamplingOptions {
        self.top_p = top_p;
        self
    }

    /// With another seed.
    pub fn with_seed(mut self, seed: u64) -> SamplingOptions {
        self.seed = seed;
        self
    }

    /// Checks that every option is in its range.
    ///
    /// # Errors
    /// The first one that is not, with its range.
    pub fn check(&self) -> Result<()> {
        check_options(self)
    }

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
    state: SamplerState,
    vocab_size: usize,
    // Scratch for the whole vocabulary; refilled by each choice.
    /// The remaining tokens.
    candidates: Vec<Candidate>,
    /// The weight of every token.
    weights: Vec<f64>,
    /// A tensor's logits as float32, or logits with penalties applied.
    logits: Vec<f32>,
}

/// What a text has of its own: the options, the random sequence and the last tokens. Several texts can share one
/// sampler's scratch: see [`Sampler::swap_state`].
#[derive(Clone, Debug)]
pub struct SamplerState {
    options: SamplingOptions,
    random: Random,
    /// The last tokens; `None` without penalties.
    history: Option<History>,
}

impl SamplerState {
    /// The state of a text of a vocabulary of `vocab_size` tokens.
    ///
    /// # Errors
    /// An option outside its range.
    pub fn new(options: SamplingOptions, vocab_size: usize) -> Result<SamplerState> {
        check_options(&options)?;
        let history = options.has_penalties().then(|| History::new(options.penalty_window, vocab_size));
        Ok(SamplerState { options, random: Random::new(options.seed), history })
    }
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
    /// A sampler for logits of up to `vocab_size` tokens; allocates its scratch, and with penalties room for the last
    /// tokens.
    ///
    /// # Errors
    /// An option outside its range.
    pub fn new(options: SamplingOptions, vocab_size: usize) -> Result<Sampler> {
        Ok(Sampler {
            state: SamplerState::new(options, vocab_size)?,
            vocab_size,
            candidates: Vec::with_capacity(vocab_size),
            weights: Vec::with_capacity(vocab_size),
            logits: Vec::with_capacity(vocab_size),
        })
    }

    /// The options as given.
    pub fn options(&self) -> &SamplingOptions {
        &self.state.options
    }

    /// Begins anew with other options: their seed's random sequence, no last tokens. The scratch stays.
    ///
    /// # Errors
    /// An option outside its range; the sampler is then unchanged.
    pub fn set_options(&mut self, options: SamplingOptions) -> Result<()> {
        self.state = SamplerState::new(options, self.vocab_size)?;
        Ok(())
    }

    /// Exchanges the text that the sampler chooses for. The state must be one of the same vocabulary.
    pub fn swap_state(&mut self, state: &mut SamplerState) {
        std::mem::swap(&mut self.state, state);
    }

    /// Restarts the random sequence from `seed`.
    pub fn reseed(&mut self, seed: u64) {
        self.state.options.seed = seed;
        self.state.random = Random::new(seed);
    }

    /// Changes temperature, top-k, min-p and top-p for later choices; the random sequence and the penalties stay.
    ///
    /// # Errors
    /// An option outside its range; the sampler is then unchanged.
    pub fn set_shape(&mut self, temperature: f32, top_k: usize, min_p: f32, top_p: f32) -> Result<()> {
        let options = SamplingOptions { temperature, top_k, min_p, top_p, ..self.state.options };
        check_options(&options)?;
        self.state.options = options;
        Ok(())
    }

    /// Adds a token of the prompt or of the text to those that the penalties count; does nothing without penalties. A
    /// token outside the sampler's vocabulary takes a place among the last tokens and is not penalized.
    ///
    /// The sampler adds no token by itself: the caller accepts each chosen token that becomes part of the text.
    pub fn accept(&mut self, token: u32) {
        if let Some(history) = &mut self.state.history {
            history.push(token);
        }
    }

    /// Forgets the last tokens, and restarts the random sequence from the seed.
    pub fn reset(&mut self) {
        self.state.random = Random::new(self.state.options.seed);
        if let Some(history) = &mut self.state.history {
            history.clear();
        }
    }

    /// Chooses a token: penalties, temperature, top-k, min-p, then top-p over the remaining tokens.
    ///
    /// `logits`: one per token. Minus infinity means never. Allocates nothing for logits of up to the sampler's
    /// `vocab_size`.
    ///
    /// # Errors
    /// No logits, a NaN, plus infinity, or minus infinity for every token.
    pub fn sample(&mut self, logits: &[f32]) -> Result<u32> {
        if self.state.history.is_none() {
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
        let SamplingOptions { repetition_penalty, presence_penalty, frequency_penalty, .. } = self.state.options;
        let [repetition, presence, frequency] =
            [repetition_penalty, presence_penalty, frequency_penalty].map(f64::from);
        let Some(history) = &mut self.state.history else { return };
        history.for_each_token(|token, count| {
            let Some(logit) = logits.get_mut(token as usize) else { return };
            let x = f64::from(*logit);
            let repeated = if x > 0.0 { x / repetition } else { x * repetition };
            let penalized = repeated - (presence + frequency * f64::from(count));
            // Possible tokens stay possible, and finite logits stay finite.
            let bounded = if x.is_finite() { penalized.clamp(f32::MIN.into(), f32::MAX.into()) } else { penalized };
            *logit = bounded as f32;
        });
    }

    /// Chooses a token; the penalties are already applied.
    fn choose(&mut self, logits: &[f32]) -> Result<u32> {
        let best = argmax(logits)?;
        if self.state.options.temperature == 0.0 {
            return Ok(best);
        }
        let largest = logits.get(best as usize).copied().unwrap_or_default();
        if largest.is_infinite() {
            let problem = format!("the largest, of token {best}, is {largest}");
            return Err(ModelError::Logits { problem });
        }
        let SamplingOptions { temperature, top_k, top_p, min_p, .. } = self.state.options;
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
            let left = self.state.random.unit() * sum(&self.weights);
            return Ok(draw(self.weights.iter().copied().zip(0..), left).unwrap_or(best));
        };
        if top_p < 1.0 {
            self.keep_top_p(total);
        }
        let weights = self.candidates.iter().map(|candidate| (candidate.weight, candidate.id));
        let left = self.state.random.unit() * weights.clone().map(|(weight, _)| weight).sum::<f64>();
        Ok(draw(weights, left).unwrap_or(best))
    }

    /// As [`Sampler::sample`], from a tensor `[vocab_size]` or `[1, vocab_size]` of `float16` or `float32`.
    ///
    /// On a GPU, the likeliest token (temperature 0, no penalties) is found there, and only its number is read back;
    /// NaNs are then not detected.
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

    /// As [`Sampler::sample_tensor`], among only the tokens that a constraint allows, whatever the options. The caller
    /// passes the chosen token to the constraint.
    ///
    /// The masked logits lie in the sampler's own scratch; the constraint may allocate. On a GPU all logits are read
    /// back.
    ///
    /// # Errors
    /// As for [`Sampler::sample_tensor`]; errors of [`Constraint::mask`]; minus infinity for every allowed token.
    pub fn sample_tensor_with<T>(&mut self, logits: &Tensor<T>, constraint: &mut dyn Constraint) -> Result<u32> {
        let mut values = std::mem::take(&mut self.logits);
        let chosen = read_logits(logits, &mut values).and_then(|()| {
            // A NaN is a defect of the model, whether or not the token is allowed.
            argmax(&values)?;
            constraint.mask(&mut values)?;
            let best = argmax(&values)?;
            if values.get(best as usize).is_none_or(|&logit| logit == f32::NEG_INFINITY) {
                let problem = "every token that the grammar allows has minus infinity".to_owned();
                return Err(ModelError::Logits { problem });
            }
            self.penalize(&mut values);
            self.choose(&values)
        });
        self.logits = values;
        chosen
    }

    /// Whether a GPU can choose the token: the largest unchanged logit.
    fn chooses_on_device(&self) -> bool {
        self.state.options.temperature == 0.0 && self.state.history.is_none()
    }

    /// Sets the candidates to the `top_k` most likely tokens, in this order. Returns the sum of their weights.
    fn take_top_k(&mut self, logits: &[f32], scale: Scale) -> f64 {
        let k = self.state.options.top_k;
        self.candidates.clear();
        // Keeps the best `k` so far and some more; a token is added if it may be among the best.
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

    /// Keeps the candidates that min-p allows. Returns the sum of their weights.
    fn keep_min_p(&mut self) -> f64 {
        let smallest = f64::from(self.state.options.min_p);
        self.candidates.retain(|candidate| candidate.weight >= smallest);
        self.candidates.iter().map(|candidate| candidate.weight).sum()
    }

    /// Sets the candidates to the tokens that min-p allows, by id. Returns the sum of their weights.
    fn take_min_p(&mut self, logits: &[f32], scale: Scale) -> f64 {
        fill_weights(logits, scale, &mut self.weights);
        // The largest weight is 1.
        let smallest = f64::from(self.state.options.min_p);
        self.candidates.clear();
        for ((&logit, &weight), id) in logits.iter().zip(&self.weights).zip(0u32..) {
            if weight >= smallest {
                self.candidates.push(Candidate { logit, id, weight });
            }
        }
        self.candidates.iter().map(|candidate| candidate.weight).sum()
    }

    /// Sets the candidates to a superset of the tokens that [`Sampler::keep_top_p`] keeps. Returns the sum of the
    /// weights of all tokens.
    fn take_top_p(&mut self, logits: &[f32], scale: Scale) -> f64 {
        fill_weights(logits, scale, &mut self.weights);
        let total = sum(&self.weights);
        // All tokens that weigh less than this together weigh no more than top-p may drop.
        let smallest = total * (1.0 - f64::from(self.state.options.top_p)) / logits.len() as f64;
        self.candidates.clear();
        for ((&logit, &weight), id) in logits.iter().zip(&self.weights).zip(0u32..) {
            if weight >= smallest {
                self.candidates.push(Candidate { logit, id, weight });
            }
        }
        total
    }

    /// Keeps the most likely candidates whose weights reach `top_p` of the total.
    fn keep_top_p(&mut self, total: f64) {
        let wanted = total * f64::from(self.state.options.top_p);
        let mut sum = 0.0;
        let mut done = 0;
        // The few that matter are usually among the first: sort only as many as are read.
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

/// The parameters that turn logits into weights.
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

/// The sum of the values, in an order that is the same on every machine and keeps several additions in flight.
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

/// The token at which the cumulative weight reaches `left`, or the last one with a weight.
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
    // Plain loops over all logits, which the compiler vectorizes; the search for the index comes last.
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

/// The last tokens, and the number of occurrences of each.
#[derive(Clone, Debug)]
struct History {
    /// Filled from the front; once full, the oldest is overwritten.
    ring: Vec<u32>,
    window: usize,
    /// Index of the oldest, once the ring is full.
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

    /// Calls `f` once with each token of the vocabulary that is among the last, and its number of occurrences.
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

/// e^x for x ≤ 0, within a few units in the last place. The standard library's differs between platforms. Branch-free,
/// so that the compiler can vectorize it.
#[inline(always)]
fn exp(x: f64) -> f64 {
    // Below this the result is no longer a normal number; a token with such a weight is never drawn.
    const SMALLEST: f64 = -708.0;
    // x = n ln 2 + r with |r| ≤ ln 2 / 2; ln 2 in two parts, so that n times the first is exact.
    const LN_2_HIGH: f64 = 6.931_471_803_691_238e-1;
    const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    // 1.5 * 2^52: adding it rounds a number to an integer, which is then in the lowest bits.
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
    // n is between -1022 and 0: the shift leaves the exponent's bits.
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
        let mut splitmix = tl_tensor::Random::new(seed);
        Random { state: std::array::from_fn(|_| splitmix.next_u64()) }
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
mod tests;
