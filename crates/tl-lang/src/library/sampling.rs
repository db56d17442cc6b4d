//! Sampling of tokens. All calls of a program draw from one random sequence, which `seed` restarts.

use tl_model::{Sampler, SamplingOptions};

use super::args::Args;
use super::error::BuiltinError;
use super::param::{DefaultValue, Param, ParamKind};
use super::row::{Builtin, Context, always};
use crate::value::Value;

const LOGITS: Param = Param::required("logits", ParamKind::Tensor);

pub(super) static ROWS: &[Builtin] = &[
    Builtin {
        name: "sample",
        doc: "A token chosen from `logits: [vocab]` or `[1, vocab]`, an int: with the probabilities `softmax(logits / temperature)` \
              among the `top_k` most likely tokens (0: all), of those the ones that are at least `min_p` times as likely as the most \
              likely token, and of those the most likely ones that add up to `top_p`. Temperature 0 gives the most likely token.",
        params: &[
            LOGITS,
            Param::optional("temperature", ParamKind::Number, DefaultValue::Number(1.0)),
            Param::optional("top_k", ParamKind::Int, DefaultValue::Int(0)),
            Param::optional("top_p", ParamKind::Number, DefaultValue::Number(1.0)),
            Param::optional("min_p", ParamKind::Number, DefaultValue::Number(0.0)),
        ],
        result: always!(Int),
        run: |context, args| {
            let (temperature, top_k, top_p, min_p) = (args.number(1)?, args.size(2)?, args.number(3)?, args.number(4)?);
            sample(context, args, Choice { temperature, top_k, top_p, min_p })
        },
        ..Builtin::BASE
    },
    Builtin {
        name: "temperature_sample",
        doc: "`sample` with a temperature alone.",
        params: &[LOGITS, Param::required("temperature", ParamKind::Number)],
        result: always!(Int),
        run: |context, args| {
            let temperature = args.number(1)?;
            sample(context, args, Choice { temperature, ..Choice::ALL })
        },
        ..Builtin::BASE
    },
    Builtin {
        name: "top_k_sample",
        doc: "`sample` among the `k` most likely tokens.",
        params: &[
            LOGITS,
            Param::required("k", ParamKind::Int),
            Param::optional("temperature", ParamKind::Number, DefaultValue::Number(1.0)),
        ],
        result: always!(Int),
        run: |context, args| {
            let (k, temperature) = (args.size(1)?, args.number(2)?);
            sample(context, args, Choice { temperature, top_k: k, ..Choice::ALL })
        },
        ..Builtin::BASE
    },
    Builtin {
        name: "top_p_sample",
        doc: "`sample` among the most likely tokens whose probabilities add up to `p`.",
        params: &[
            LOGITS,
            Param::required("p", ParamKind::Number),
            Param::optional("temperature", ParamKind::Number, DefaultValue::Number(1.0)),
        ],
        result: always!(Int),
        run: |context, args| {
            let (p, temperature) = (args.number(1)?, args.number(2)?);
            sample(context, args, Choice { temperature, top_p: p, ..Choice::ALL })
        },
        ..Builtin::BASE
    },
];

/// The sampling parameters of a call.
struct Choice {
    temperature: f64,
    top_k: usize,
    top_p: f64,
    min_p: f64,
}

impl Choice {
    /// Among all tokens.
    const ALL: Choice = Choice { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0 };
}

fn sample(context: &mut Context<'_>, args: &Args<'_>, choice: Choice) -> Result<Value, BuiltinError> {
    let logits = args.tensor(0)?;
    let sampler = match context.sampler {
        Some(sampler) => sampler,
        None => {
            let options = SamplingOptions::default().with_seed(*context.seed);
            context.sampler.insert(Sampler::new(options, logits.n_elems())?)
        }
    };
    let Choice { temperature, top_k, top_p, min_p } = choice;
    sampler.set_shape(temperature as f32, top_k, min_p as f32, top_p as f32)?;
    Ok(Value::Int(i64::from(sampler.sample_tensor(logits)?)))
}
