//! The parameters that all completions share: how tokens are chosen, where a text ends, what comes with it.

use std::hash::{BuildHasher, Hasher, RandomState};

use serde_json::json;
use tl_engine::{SamplingOptions, StopStrings};

use super::error::{ApiError, ApiResult};
use super::fields::Fields;
use crate::request::Request;

/// Maximum answers to one request: prompts times `n`.
pub(crate) const MAX_CHOICES: usize = 16;

/// Maximum number of stop strings.
pub(crate) const MAX_STOP_STRINGS: usize = 16;

/// What all completions share.
#[derive(Debug)]
pub(crate) struct Common {
    /// How tokens are chosen.
    pub(crate) sampling: SamplingOptions,
    /// Whether the request gives the seed, so that its answer must repeat.
    pub(crate) is_seeded: bool,
    /// Texts that end the answer.
    pub(crate) stop: Vec<String>,
    /// Answers to each prompt.
    pub(crate) n: usize,
    /// Whether the answer comes in pieces.
    pub(crate) is_streamed: bool,
    /// Whether a stream ends with the numbers of tokens.
    pub(crate) includes_usage: bool,
    /// Whether to tell the price instead of answering.
    pub(crate) is_dry_run: bool,
    /// The name of the model in the request.
    pub(crate) model: Option<String>,
}

impl Common {
    /// Takes the shared fields.
    pub(crate) fn take(fields: &mut Fields) -> ApiResult<Common> {
        check_unsupported(fields)?;
        let stop = fields.texts("stop")?;
        check_stop(&stop)?;
        let seed = seed(fields)?;
        let is_streamed = fields.truth("stream")?.unwrap_or(false);
        Ok(Common {
            sampling: sampling(fields)?.with_seed(seed.unwrap_or_else(random)),
            is_seeded: seed.is_some(),
            stop,
            n: fields.integer("n", 1..=MAX_CHOICES)?.unwrap_or(1),
            is_streamed,
            includes_usage: includes_usage(fields, is_streamed)?,
            is_dry_run: fields.truth("dry_run")?.unwrap_or(false),
            model: fields.text("model")?,
        })
    }
}

/// Parameters without an effect here: an error unless they are neutral.
fn check_unsupported(fields: &mut Fields) -> ApiResult<()> {
    fields.neutral("logit_bias", &[json!({})])?;
    fields.neutral("store", &[json!(false)])?;
    fields.neutral("service_tier", &[json!("auto"), json!("default")])?;
    fields.neutral("best_of", &[json!(1)])?;
    fields.neutral("echo", &[json!(false)])?;
    fields.neutral("suffix", &[json!("")])?;
    // They name the client; no answer depends on them.
    for name in ["user", "safety_identifier", "prompt_cache_key"] {
        fields.text(name)?;
    }
    fields.neutral("metadata", &[json!({})])
}

fn check_stop(stop: &[String]) -> ApiResult<()> {
    if stop.len() > MAX_STOP_STRINGS {
        let problem = format!("{} texts are more than the {MAX_STOP_STRINGS} that there can be", stop.len());
        return Err(ApiError::param("stop", problem));
    }
    StopStrings::new(stop).map(drop).map_err(|error| ApiError::param("stop", error))
}

/// The seed; a negative one is one too.
fn seed(fields: &mut Fields) -> ApiResult<Option<u64>> {
    let Some(value) = fields.take("seed") else { return Ok(None) };
    let seed = value.as_u64().or_else(|| value.as_i64().map(i64::cast_unsigned));
    seed.map(Some).ok_or_else(|| ApiError::param("seed", "expected a whole number of 64 bits"))
}

fn includes_usage(fields: &mut Fields, is_streamed: bool) -> ApiResult<bool> {
    let Some(options) = fields.take("stream_options") else { return Ok(false) };
    if !is_streamed {
        return Err(ApiError::param("stream_options", "it is for requests with \"stream\": true"));
    }
    let mut options = Fields::within(options, "stream_options")?;
    let includes = options.truth("include_usage")?.unwrap_or(false);
    options.neutral("include_obfuscation", &[json!(false)])?;
    options.end()?;
    Ok(includes)
}

fn sampling(fields: &mut Fields) -> ApiResult<SamplingOptions> {
    let mut options = SamplingOptions::default();
    if let Some(temperature) = fields.number("temperature", 0.0..=100.0)? {
        options.temperature = temperature;
    }
    if let Some(top_p) = fields.number("top_p", 0.0..=1.0)? {
        options.top_p = top_p;
    }
    if let Some(top_k) = top_k(fields)? {
        options.top_k = top_k;
    }
    if let Some(min_p) = fields.number("min_p", 0.0..=1.0)? {
        options.min_p = min_p;
    }
    if let Some(penalty) = fields.number("repetition_penalty", 0.01..=100.0)? {
        options.repetition_penalty = penalty;
    }
    if let Some(penalty) = fields.number("presence_penalty", 0.0..=100.0)? {
        options.presence_penalty = penalty;
    }
    if let Some(penalty) = fields.number("frequency_penalty", 0.0..=100.0)? {
        options.frequency_penalty = penalty;
    }
    if let Some(window) = fields.integer("penalty_window", 0..=MAX_PENALTY_WINDOW)? {
        options.penalty_window = window;
    }
    options.check().map_err(|error| ApiError::bad(error.to_string()))?;
    Ok(options)
}

/// Maximum tokens that penalties count; they take memory with each request.
const MAX_PENALTY_WINDOW: usize = 8192;

/// -1, as other servers write it, is all.
fn top_k(fields: &mut Fields) -> ApiResult<Option<usize>> {
    match fields.take("top_k") {
        None => Ok(None),
        Some(value) if value == json!(-1) => Ok(Some(0)),
        Some(value) => {
            let top_k = value.as_u64().filter(|&k| k <= u64::from(u32::MAX));
            let problem = "expected a whole number; 0 or -1 is all";
            top_k.map(|k| Some(k as usize)).ok_or_else(|| ApiError::param("top_k", problem))
        }
    }
}

/// The log-probabilities for each token that a chat completion asks for; `None`: none, not even the chosen token's.
pub(crate) fn chat_logprobs(fields: &mut Fields) -> ApiResult<Option<usize>> {
    let is_asked = fields.truth("logprobs")?.unwrap_or(false);
    match fields.integer("top_logprobs", 0..=Request::MAX_LOGPROBS)? {
        Some(n) if !is_asked && n > 0 => Err(ApiError::param("top_logprobs", "it needs \"logprobs\": true")),
        n => Ok(is_asked.then(|| n.unwrap_or(0))),
    }
}

/// The maximum of tokens that a request sets, under either name.
pub(crate) fn max_tokens(fields: &mut Fields) -> ApiResult<Option<usize>> {
    let old = fields.integer("max_tokens", 1..=usize::MAX)?;
    let new = fields.integer("max_completion_tokens", 1..=usize::MAX)?;
    match (old, new) {
        (Some(old), Some(new)) if old != new => {
            Err(ApiError::param("max_completion_tokens", format_args!("it is {new}, and max_tokens is {old}")))
        }
        (old, new) => Ok(new.or(old)),
    }
}

/// An unpredictable number, for seeds and for the ids of answers.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn take(value: Value) -> Result<Common, String> {
        let Value::Object(map) = value else { panic!("no object") };
        let mut fields = Fields::new(map);
        let common = Common::take(&mut fields).map_err(|error| error.json().to_string())?;
        fields.end().map_err(|error| error.json().to_string())?;
        Ok(common)
    }

    #[test]
    fn what_is_taken() {
        let common = take(json!({
            "temperature": 0.5, "top_p": 0.9, "top_k": -1, "min_p": 0.1, "seed": -1, "stop": "x", "n": 2,
            "stream": true, "stream_options": {"include_usage": true}, "user": "a", "logit_bias": {}, "best_of": 1,
            "presence_penalty": 0, "frequency_penalty": 0.5, "repetition_penalty": 1.1, "penalty_window": 100,
        }))
        .unwrap();
        assert_eq!((common.sampling.temperature, common.sampling.top_k, common.sampling.seed), (0.5, 0, u64::MAX));
        assert_eq!((common.n, common.is_streamed, common.includes_usage, common.is_seeded), (2, true, true, true));
        assert_eq!(common.stop, ["x"]);
        let plain = take(json!({})).unwrap();
        assert_eq!((plain.n, plain.is_streamed, plain.is_seeded, plain.sampling.temperature), (1, false, false, 1.0));
    }

    #[test]
    fn what_is_refused() {
        let check = |value: Value, expected: &str| {
            let error = take(value.clone()).err().unwrap_or_default();
            assert!(error.contains(expected), "{value}: {error}");
        };
        check(json!({"temperature": -1}), "temperature: expected a number from 0 to 100");
        check(json!({"temperature": "hot"}), "temperature");
        check(json!({"top_p": 0}), "top_p");
        check(json!({"top_k": 1.5}), "top_k");
        check(json!({"n": 17}), "n: expected a whole number from 1 to 16, found 17");
        check(json!({"n": 0}), "n: expected");
        check(json!({"seed": 1.5}), "seed");
        check(json!({"presence_penalty": -0.5}), "presence_penalty: expected a number from 0 to 100");
        check(json!({"logit_bias": {"50256": -100}}), "logit_bias: this server does not support");
        check(json!({"echo": true}), "echo");
        check(json!({"stop": vec!["a"; 17]}), "stop: 17 texts");
        check(json!({"stop": [""]}), "stop");
        check(json!({"stop": ["x".repeat(2000)]}), "stop");
        check(json!({"stop": [1]}), "a list of texts");
        check(json!({"stream_options": {"include_usage": true}}), "stream_options");
        check(json!({"stream": true, "stream_options": {"x": 1}}), "stream_options.x");
        check(json!({"temprature": 1}), "temprature: this server does not know");
        check(json!({"model": 1}), "model: expected a text");
    }
}
