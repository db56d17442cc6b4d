//! Perplexity of a model on a text, and Kullback-Leibler divergence of its predictions from another's, over windows of
//! tokens.
//!
//! The windows do not overlap, and the predictions of each one's second half are scored, so that each has at least half
//! a window of context. If the tokenizer puts a token before a text, it replaces each window's first token. llama.cpp's
//! `llama-perplexity` does the same; the figures are comparable.

use tl_device::{Device, TensorBuffer};
use tl_engine::{Model, Workload};
use tl_lang::{PREFILL_CHUNK, ScriptedModel};
use tl_model::{KvCache, ModelError};
use tl_tensor::Tensor;

use crate::error::{Result, ToolError};
use crate::log_probs::{LogProbsRow, SHORTEST_WINDOW, first_scored, log_sum_exp};

/// Tokens whose logits are in memory at once: enough for the speed of prefill.
const PART: usize = 128;

/// Predictions as a workload: plans and reservations for windows of a given number of tokens.
///
/// ```
/// use tl_engine::{Activations, Planner};
/// use tl_tools::WINDOWS;
/// let planner = Planner::open("../../models/demo-q4_0.gguf", Activations::Float16)?;
/// let windows = planner.for_workload(WINDOWS);
/// assert!(planner.plan(2).is_ok() && windows.plan(2).is_err()); // nothing is predicted in a window of two tokens
/// # Ok::<(), tl_engine::ModelError>(())
/// ```
pub const WINDOWS: Workload = Workload {
    shortest: SHORTEST_WINDOW,
    reserve,
    rehearse: |model, window| match Predictions::new(model, window) {
        Ok(_) => Ok(()),
        Err(ToolError::Model(error)) => Err(error),
        Err(_) => Ok(()),
    },
};

/// A model that runs over windows of a text.
///
/// ```
/// use tl_engine::Model;
/// use tl_tools::{Perplexity, Predictions};
/// let model = Model::load("../../models/demo-q8_0.gguf", &tl_device::Device::cpu())?;
/// let text = "fn main() { let x = 1; }";
/// let tokens = model.tokenizer()?.encode(text);
/// let mut perplexity = Perplexity::default();
/// Predictions::new(&model, tokens.len())?.window(&tokens, &mut |next, logits| {
///     perplexity.add(next, logits);
///     Ok(())
/// })?;
/// assert!(perplexity.value() < model.config().vocab_size as f64);
/// # Ok::<(), tl_tools::ToolError>(())
/// ```
#[derive(Debug)]
pub struct Predictions<'a> {
    model: &'a Model,
    cache: KvCache,
    window: usize,
    /// The token that each window begins with, if any.
    begin: Option<u32>,
    /// The tokens of the current window.
    ids: Vec<u32>,
    logits: Vec<f32>,
}

impl<'a> Predictions<'a> {
    /// Takes a KV cache for windows of `window` tokens. Memory for it and for the windows comes from the device's
    /// tensor buffer if one is set (see [`WINDOWS`]).
    ///
    /// # Errors
    /// A window that is too short to predict from, or longer than the model was trained for; a file without a
    /// tokenizer; lack of memory.
    pub fn new(model: &'a Model, window: usize) -> Result<Predictions<'a>> {
        check_window(model, window)?;
        let tokenizer = model.tokenizer()?;
        // An empty text has only the tokens that are added around every text.
        let begin = tokenizer.bos().filter(|bos| tokenizer.encode("").first() == Some(bos));
        let logits = room_for_logits(model.device(), model.config().vocab_size)?;
        let ids = Vec::with_capacity(window);
        Ok(Predictions { model, cache: model.new_cache(window)?, window, begin, ids, logits })
    }

    /// Runs a window; passes `each` the next token and the logits at its position, for every prediction of the second
    /// half.
    ///
    /// # Errors
    /// Errors of `each`, a window of another length, an id outside the vocabulary, lack of memory.
    pub fn window(&mut self, tokens: &[u32], each: &mut dyn FnMut(u32, &[f32]) -> Result<()>) -> Result<()> {
        if tokens.len() != self.window {
            return Err(ModelError::Window { asked: tokens.len(), shortest: self.window, limit: self.window }.into());
        }
        let vocab_size = self.model.config().vocab_size;
        if let Some(&id) = tokens.iter().find(|&&id| id as usize >= vocab_size) {
            return Err(ModelError::TokenId { id, vocab_size }.into());
        }
        self.ids.clear();
        self.ids.extend_from_slice(tokens);
        if let (Some(first), Some(begin)) = (self.ids.first_mut(), self.begin) {
            *first = begin;
        }
        self.cache.clear();
        // The last token has no successor.
        let (before, scored) = self.ids[..self.window - 1].split_at(first_scored(self.window));
        let mut nexts = tokens[before.len() + 1..].iter();
        let scratch = &mut self.logits;
        run(self.model.scripted(), &mut self.cache, before, scored, &mut |logits| {
            let n = logits.dims().first().copied().unwrap_or(0);
            let at_once = (scratch.len() / vocab_size).clamp(1, n.max(1));
            for start in (0..n).step_by(at_once) {
                let rows = logits.slice(0, start, (start + at_once).min(n))?;
                let values = &mut scratch[..rows.n_elems()];
                rows.read_f32(values)?;
                values.chunks_exact(vocab_size).zip(&mut nexts).try_for_each(|(logits, &next)| each(next, logits))?;
            }
            Ok(())
        })
    }
}

fn check_window(model: &Model, window: usize) -> tl_model::Result<()> {
    let limit = model.config().context_length;
    if window < SHORTEST_WINDOW || window > limit {
        return Err(ModelError::Window { asked: window, shortest: SHORTEST_WINDOW, limit });
    }
    Ok(())
}

/// Heap space for the logits read at once: one token's; on a GPU, where each read waits, those of a whole part.
fn room_for_logits(device: &Device, vocab_size: usize) -> tl_model::Result<Vec<f32>> {
    let rows = if device.is_gpu() { PART } else { 1 };
    let len = rows * vocab_size;
    device.check_heap(len * size_of::<f32>(), || format!("the logits of {rows} × {vocab_size} tokens"))?;
    Ok(vec![0.0; len])
}

/// Runs the tokens without scored predictions, then the others in parts, and passes `each` the logits after each of the
/// latter.
fn run<E: From<ModelError>>(
    model: &ScriptedModel,
    cache: &mut KvCache,
    before: &[u32],
    scored: &[u32],
    each: &mut dyn FnMut(Tensor) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    drop(model.forward(before, cache)?);
    scored.chunks(PART).try_for_each(|part| each(model.forward_all(part, cache)?))
}

/// Reserves memory for windows of `window` tokens.
fn reserve(buffer: &TensorBuffer, model: &Model, window: usize) -> tl_model::Result<()> {
    check_window(model, window)?;
    let n_before = first_scored(window);
    let before = lengths(n_before, PREFILL_CHUNK);
    let scored = lengths(window - 1 - n_before, PART);
    let all: Vec<usize> = before.iter().chain(&scored).copied().collect();
    model.scripted().reserve_steps(buffer, window, &all, |model, cache| {
        let mut step = |before: usize, scored: usize| -> tl_model::Result<()> {
            cache.clear();
            run(model, cache, &vec![0; before], &vec![0; scored], &mut |_| Ok(()))
        };
        before.iter().try_for_each(|&n| step(n, 0))?;
        scored.iter().try_for_each(|&n| step(1, n))
    })
}

/// Numbers of tokens that run at once when `n` are divided into parts of at most `part`, each number once.
fn lengths(n: usize, part: usize) -> Vec<usize> {
    let mut lengths = vec![n.min(part), n % part];
    lengths.retain(|&n| n > 0);
    lengths.dedup();
    lengths
}

/// The perplexity of tokens: the exponential of the mean of their negative log-likelihoods.
#[derive(Clone, Copy, Debug, Default)]
pub struct Perplexity {
    n: u64,
    sum: f64,
    sum_of_squares: f64,
}

impl Perplexity {
    /// Adds a token, predicted with these logits of the whole vocabulary.
    pub fn add(&mut self, next: u32, logits: &[f32]) {
        let logit = logits.get(next as usize).copied().map_or(f64::NEG_INFINITY, f64::from);
        self.add_nll(log_sum_exp(logits) - logit);
    }

    fn add_nll(&mut self, nll: f64) {
        self.n += 1;
        self.sum += nll;
        self.sum_of_squares += nll * nll;
    }

    /// Number of tokens so far.
    pub fn n_tokens(&self) -> u64 {
        self.n
    }

    /// The perplexity; NaN before the first token.
    pub fn value(&self) -> f64 {
        (self.sum / self.n as f64).exp()
    }

    /// Its standard error, from the spread of the log-likelihoods; NaN before the second token.
    pub fn standard_error(&self) -> f64 {
        let mean = self.sum / self.n as f64;
        let variance = (self.sum_of_squares / self.n as f64 - mean * mean).max(0.0);
        self.value() * (variance / (self.n as f64 - 1.0)).sqrt()
    }
}

/// Divergence of predictions from those of a reference: for each the Kullback-Leibler divergence `Σ p (ln p - ln q)`,
/// with `p` the reference's probability of a token and `q` the tested model's, both among the tokens with known `p`,
/// and whether both have the same likeliest token.
#[derive(Clone, Debug, Default)]
pub struct Divergence {
    reference: Perplexity,
    values: Vec<f64>,
    same_top: u64,
    scratch: Vec<f64>,
}

impl Divergence {
    /// Adds a prediction: the reference's log-probabilities, the logits, and the actual next token.
    pub fn add(&mut self, reference: &LogProbsRow<'_>, next: u32, logits: &[f32]) {
        self.scratch.clear();
        self.scratch.extend(reference.known());
        // Normalized over the known tokens, for both; the file's numbers are rounded as well.
        let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let (mut sum_p, mut sum_q) = (0.0, 0.0);
        for (&log_p, &logit) in self.scratch.iter().zip(logits).filter(|&(&log_p, _)| log_p > f64::NEG_INFINITY) {
            sum_p += log_p.exp();
            sum_q += f64::from(logit - most).exp();
        }
        let (total_p, total_q) = (sum_p.ln(), f64::from(most) + sum_q.ln());
        let term = |(&log_p, &logit): (&f64, &f32)| match log_p - total_p {
            f64::NEG_INFINITY => 0.0,
            log_p => log_p.exp() * (log_p - (f64::from(logit) - total_q)),
        };
        self.values.push(self.scratch.iter().zip(logits).map(term).sum());
        let top = first_greatest(self.scratch.iter().copied());
        self.same_top += u64::from(top == first_greatest(logits.iter().map(|&x| f64::from(x))));
        let log_p = reference.values().nth(next as usize).unwrap_or(f64::NEG_INFINITY);
        self.reference.add_nll(-log_p);
    }

    /// The reference's own perplexity.
    pub fn reference(&self) -> &Perplexity {
        &self.reference
    }

    /// The mean divergence; NaN before the first.
    pub fn mean(&self) -> f64 {
        self.values.iter().sum::<f64>() / self.values.len() as f64
    }

    /// The value that a share of the divergences, from 0 to 1, does not exceed; NaN before the first.
    pub fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        let index = (share * sorted.len() as f64).ceil() as usize;
        sorted.get(index.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or(f64::NAN)
    }

    /// The share of predictions, from 0 to 1, whose likeliest token is the reference's.
    pub fn same_top(&self) -> f64 {
        self.same_top as f64 / self.values.len() as f64
    }
}

/// The index of the greatest value; of equal ones, the first.
fn first_greatest(values: impl Iterator<Item = f64>) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    for (index, value) in values.enumerate() {
        if best.is_none_or(|(_, best)| value > best) {
            best = Some((index, value));
        }
    }
    best.map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log_probs::{LogProbs, LogProbsWriter, rows_of};
    use tl_device::Simulation;
    use tl_model::Activations;
    use tl_testing::{TempFile, project_file};

    fn demo() -> Model {
        Model::load(project_file("models/demo-f16.gguf"), &Device::cpu()).unwrap()
    }

    /// Every prediction is the one that the model gives when it goes through the window token by token.
    #[test]
    fn predictions_are_the_models() {
        let model = demo();
        for window in [3, 4, 5, 64, 256] {
            let tokens: Vec<u32> = (0..window as u32).map(|i| 300 + i % 90).collect();
            let mut seen = Vec::new();
            let mut keep = |next, logits: &[f32]| {
                seen.push((next, logits.to_vec()));
                Ok(())
            };
            Predictions::new(&model, window).unwrap().window(&tokens, &mut keep).unwrap();
            assert_eq!(seen.len(), rows_of(window));
            let mut cache = model.new_cache(window).unwrap();
            for at in 0..window - 1 {
                let id = if at == 0 { model.tokenizer().unwrap().bos().unwrap() } else { tokens[at] };
                let logits = model.forward(&[id], &mut cache).unwrap().cast::<f32>().unwrap().to_vec().unwrap();
                if let Some((next, found)) = at.checked_sub(window / 2).and_then(|row| seen.get(row)) {
                    assert_eq!(*next, tokens[at + 1]);
                    // One token and many are multiplied in another order, in float16 between the weights.
                    let far = logits.iter().zip(found).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                    assert!(far < 0.15, "{window}, {at}: {far}");
                }
            }
        }
    }

    /// What is reserved serves every window, and nothing of it is too much.
    #[test]
    fn windows_take_what_is_reserved() {
        let mut simulation = Simulation::default();
        simulation.is_gpu = true;
        for device in [Device::cpu(), Device::simulated(simulation)] {
            for name in ["llama", "gemma3", "lfm2", "qwen3moe", "gpt-oss"] {
                let model = Model::load(project_file(&format!("tests/data/tiny/{name}/model.gguf")), &device).unwrap();
                let longest = model.config().context_length;
                for window in [3, 4, 64, 200, 257, 1027, 1300].into_iter().filter(|&window| window <= longest) {
                    let buffer = TensorBuffer::new(&device);
                    reserve(&buffer, &model, window).unwrap();
                    drop(device.replace_tensor_buffer(Some(buffer.clone())).unwrap());
                    let ids: Vec<u32> = (0..window as u32 - 1).map(|i| i * i % 90).collect();
                    let (before, scored) = ids.split_at(first_scored(window));
                    device.seal();
                    let mut cache = model.new_cache(window).unwrap();
                    for _ in 0..2 {
                        cache.clear();
                        run::<ModelError>(model.scripted(), &mut cache, before, scored, &mut |_| Ok(())).unwrap();
                    }
                    device.unseal();
                    let stats = buffer.stats();
                    assert_eq!(stats.fallback_count, 0, "{name}, {window}, {device:?}: {stats:?}");
                    assert_eq!(stats.arena_most_bytes, stats.arena_bytes, "{name}, {window}, {device:?}: {stats:?}");
                }
            }
        }
    }

    /// Windows on a sealed device, with the text's logits read.
    #[test]
    fn windows_allocate_nothing() {
        for activations in [Activations::Float16, Activations::Float32] {
            let model = demo().with_activations(activations).with_cache_dtype(tl_device::DType::Q8_0);
            let buffer = TensorBuffer::new(model.device());
            reserve(&buffer, &model, 256).unwrap();
            model.device().set_tensor_buffer(buffer);
            let tokens: Vec<u32> = (0..256).map(|i| 300 + i % 90).collect();
            let mut predictions = Predictions::new(&model, 256).unwrap();
            model.device().seal();
            let mut perplexities = [Perplexity::default(); 3];
            for perplexity in &mut perplexities {
                let mut add = |next, logits: &[f32]| {
                    perplexity.add(next, logits);
                    Ok(())
                };
                predictions.window(&tokens, &mut add).unwrap();
            }
            assert_eq!(perplexities.map(|perplexity| perplexity.n_tokens()), [rows_of(256) as u64; 3]);
            assert!(perplexities.iter().all(|perplexity| perplexity.value() == perplexities[0].value()));
            assert_eq!(model.device().tensor_buffer_stats().fallback_count, 0);
        }
    }

    #[test]
    fn what_cannot_be_predicted() {
        let model = demo();
        let check = |window: usize, expected: &str| {
            let error = Predictions::new(&model, window).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(0, "a window of 0 tokens");
        check(2, "works for 3 to 256");
        check(257, "works for 3 to 256");
        let mut predictions = Predictions::new(&model, 4).unwrap();
        let mut window = |tokens: &[u32]| predictions.window(tokens, &mut |_, _| Ok(())).unwrap_err().to_string();
        assert!(window(&[1; 3]).contains("a window of 3 tokens"));
        assert!(window(&[1, 1, 1, 1 << 30]).contains("token id 1073741824"));
    }

    #[test]
    fn perplexity_of_known_distributions() {
        let mut perplexity = Perplexity::default();
        assert!(perplexity.value().is_nan());
        // Eight tokens that are equally likely.
        (0..8).for_each(|next| perplexity.add(next, &[1.5; 8]));
        assert!((perplexity.value() - 8.0).abs() < 1e-9 && perplexity.standard_error().abs() < 1e-6);
        // Half and a quarter: the geometric mean of 2 and 4, and a spread of ln 2 between two.
        let mut perplexity = Perplexity::default();
        let logits = [0.5f32.ln(), 0.25f32.ln(), 0.25f32.ln()];
        (0..2).for_each(|next| perplexity.add(next, &logits));
        assert!((perplexity.value() - 8f64.sqrt()).abs() < 1e-6);
        assert!((perplexity.standard_error() - 8f64.sqrt() * 2f64.ln() / 2.0).abs() < 1e-6);
    }

    /// Against probabilities of a half, a quarter and a quarter, through a file.
    #[test]
    fn divergence_of_known_distributions() {
        let target = TempFile::new("divergence");
        let mut writer = LogProbsWriter::create(&target.0, 5, 3, &[0; 5]).unwrap();
        let reference = [0.5f32.ln(), 0.25f32.ln(), 0.25f32.ln()];
        (0..2).for_each(|_| writer.row(&reference).unwrap());
        writer.finish().unwrap();
        let bytes = std::fs::read(&target.0).unwrap();
        let file = LogProbs::parse(&bytes).unwrap();
        let mut divergence = Divergence::default();
        let uniform = [7.0f32; 3];
        for (row, logits) in file.rows().zip([&reference, &uniform]) {
            divergence.add(&row, 0, logits);
        }
        // The entropy of the uniform distribution less that of the reference.
        let expected = 3f64.ln() - 1.5 * 2f64.ln();
        assert!((divergence.mean() - expected / 2.0).abs() < 1e-5, "{divergence:?}");
        assert!((divergence.quantile(1.0) - expected).abs() < 1e-5 && divergence.quantile(0.5).abs() < 1e-5);
        assert_eq!(divergence.same_top(), 1.0);
        assert!((divergence.reference().value() - 2.0).abs() < 1e-4);
        divergence.add(&file.rows().next().unwrap(), 0, &[0.0, 1.0, 0.0]);
        assert!((divergence.same_top() - 2.0 / 3.0).abs() < 1e-9);
        assert!(Divergence::default().quantile(0.99).is_nan());
    }
}
