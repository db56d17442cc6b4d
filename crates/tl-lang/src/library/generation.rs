//! The builtin `generate`: prompt to text, in memory that is reserved before the first token and kept for the next call.

use tl_device::{Device, TensorBuffer};
use tl_model::{DecodeStream, GenerateOptions, ModelError, SamplingOptions, StopStrings, Tokenizer, Weights};

use super::args::Args;
use super::error::BuiltinError;
use super::models::MODEL;
use super::param::{DefaultValue, Param, ParamKind};
use super::row::{Builtin, Context, always};
use super::runnable::RunnableModel;
use super::tokenizers::check_encoding;
use crate::types::HandleKind;
use crate::value::{Handle, OpenedModel, Reservation, ReservationCell, Value};

pub(super) static ROWS: &[Builtin] = &[Builtin {
    name: "generate",
    doc: "The text with which the model continues a prompt: at most `max_tokens` tokens, chosen as `sample` does. Penalties for \
              the last `penalty_window` tokens, of the prompt and of the text, change their logits first: `repetition_penalty` \
              divides the positive ones and multiplies the negative ones (1: no change), `presence_penalty` is subtracted once, \
              and `frequency_penalty` once for each time. The text ends before the first of the `stop` strings, a list. The \
              first call reserves memory for prompt and text, unless the program has; the model keeps it, so that a call with no more \
              tokens allocates nothing.",
    params: &[
        MODEL,
        Param::required("prompt", ParamKind::Text),
        Param::optional("max_tokens", ParamKind::Int, DefaultValue::Int(100)),
        Param::optional("temperature", ParamKind::Number, DefaultValue::Number(0.8)),
        Param::optional("top_p", ParamKind::Number, DefaultValue::Number(0.95)),
        Param::optional("top_k", ParamKind::Int, DefaultValue::Int(0)),
        Param::optional("seed", ParamKind::Int, DefaultValue::Int(0)),
        Param::optional("min_p", ParamKind::Number, DefaultValue::Number(0.0)),
        Param::optional("repetition_penalty", ParamKind::Number, DefaultValue::Number(1.0)),
        Param::optional("presence_penalty", ParamKind::Number, DefaultValue::Number(0.0)),
        Param::optional("frequency_penalty", ParamKind::Number, DefaultValue::Number(0.0)),
        Param::optional("penalty_window", ParamKind::Int, DefaultValue::Int(64)),
        Param::optional("stop", ParamKind::Texts, DefaultValue::Absent),
    ],
    result: always!(Str),
    run: generate,
    ..Builtin::BASE
}];

fn generate(context: &mut Context<'_>, args: &mut Args<'_>) -> Result<Value, BuiltinError> {
    let Handle::Model(model) = args.handle(0, HandleKind::Model)? else {
        return Err(BuiltinError::new("not a model"));
    };
    let OpenedModel { weights, reservation } = &**model;
    let tokenizer = weights.tokenizer()?;
    let mut sampling = SamplingOptions::default();
    sampling.temperature = args.number(3)? as f32;
    sampling.top_p = args.number(4)? as f32;
    sampling.top_k = args.size(5)?;
    sampling.seed = args.int(6)? as u64;
    sampling.min_p = args.number(7)? as f32;
    sampling.repetition_penalty = args.number(8)? as f32;
    sampling.presence_penalty = args.number(9)? as f32;
    sampling.frequency_penalty = args.number(10)? as f32;
    sampling.penalty_window = args.size(11)?;
    let mut stop = StopStrings::new(&args.texts(12)?)?;
    check_encoding(weights.device(), args.text(1)?)?;
    let prompt = tokenizer.encode(args.text(1)?);
    let max_tokens = args.size(2)?;
    let device = weights.device();
    let n_tokens = context_length(weights, prompt.len(), max_tokens)?;
    let model = (context.open_model)(weights)?;
    let memory = Memory::of(&*model, device, reservation.as_ref(), n_tokens, prompt.len())?;
    let options =
        GenerateOptions::default().with_max_tokens(max_tokens).with_context(memory.context).with_sampling(sampling);
    let _guard = memory.buffer.map(|buffer| BufferGuard::replace(device, buffer)).transpose()?;
    text(model.generate(&prompt, &options)?, &tokenizer, &mut stop)
}

/// Tokens to reserve room for: as many as the call can use.
fn context_length(weights: &Weights, prompt_len: usize, max_tokens: usize) -> Result<usize, ModelError> {
    let limit = weights.config().context_length;
    if prompt_len > limit {
        return Err(ModelError::PromptTooLong { tokens: prompt_len, context: limit });
    }
    Ok(prompt_len.saturating_add(max_tokens).clamp(1, limit))
}

/// Decodes tokens until the text ends.
fn text(
    tokens: impl Iterator<Item = tl_model::Result<u32>>,
    tokenizer: &Tokenizer,
    stop: &mut StopStrings,
) -> Result<Value, BuiltinError> {
    let mut stream = DecodeStream::new();
    let mut text = String::new();
    for id in tokens {
        text.push_str(stop.push(stream.next(tokenizer, id?)?));
        if stop.found().is_some() {
            return Ok(Value::text(text));
        }
    }
    text.push_str(stop.push(stream.finish()));
    text.push_str(stop.finish());
    Ok(Value::text(text))
}

/// The memory of a call.
struct Memory {
    /// The buffer to take from; `None`: the program's own serves.
    buffer: Option<TensorBuffer>,
    /// The tokens of the KV cache.
    context: usize,
}

impl Memory {
    /// Tried in this order: a plan of the whole program, the reservation that the model keeps, the program's own reservations if
    /// they serve the call. Else the model reserves, and keeps the reservation.
    fn of(
        model: &dyn RunnableModel,
        device: &Device,
        kept: Option<&ReservationCell>,
        context: usize,
        prompt_len: usize,
    ) -> Result<Memory, BuiltinError> {
        let current = device.tensor_buffer();
        if current.as_ref().is_some_and(TensorBuffer::keeps_to_plan) {
            return Ok(Memory { buffer: None, context });
        }
        let mut kept = kept.map(|kept| kept.lock());
        let reservation = kept.as_ref().and_then(|kept| kept.as_ref());
        if let Some(Reservation { buffer, context }) = reservation.filter(|reservation| reservation.context >= context)
        {
            return Ok(Memory { buffer: Some(buffer.clone()), context: *context });
        }
        if let Some(current) = current
            && model.is_served_by(&current, context, prompt_len)?
        {
            return Ok(Memory { buffer: None, context });
        }
        if device.is_sealed() {
            return Err(sealed(context, reservation.map(|reservation| reservation.context)));
        }
        // The shorter reservation is freed before the longer one is made.
        if let Some(kept) = &mut kept {
            **kept = None;
        }
        let buffer = TensorBuffer::new(device);
        model.reserve(&buffer, context)?;
        if let Some(kept) = &mut kept {
            **kept = Some(Reservation { buffer: buffer.clone(), context });
        }
        Ok(Memory { buffer: Some(buffer), context })
    }
}

#[cold]
fn sealed(context: usize, held: Option<usize>) -> BuiltinError {
    let held = match held {
        Some(held) => format!("the model has reserved memory for {held}"),
        None => "the model has reserved no memory".to_owned(),
    };
    let message = format!("`generate`: memory is sealed, a prompt and text of {context} tokens are to fit, and {held}");
    BuiltinError::new(message).hint(
        "call `generate` with as many tokens once before `buffer_seal()`, and with --sealed before the first tensor; or run by a plan: \
         `tl plan SCRIPT.tl -o FILE`, then `tl run --plan FILE --sealed SCRIPT.tl`",
    )
}

/// Makes a device take from another tensor buffer until it is dropped.
struct BufferGuard<'a> {
    device: &'a Device,
    before: Option<TensorBuffer>,
}

impl BufferGuard<'_> {
    fn replace(device: &Device, buffer: TensorBuffer) -> Result<BufferGuard<'_>, tl_device::Error> {
        let before = device.replace_tensor_buffer(Some(buffer))?;
        Ok(BufferGuard { device, before })
    }
}

impl Drop for BufferGuard<'_> {
    fn drop(&mut self) {
        // The buffer belongs to this device, so setting it cannot fail.
        let _ = self.device.replace_tensor_buffer(self.before.take());
    }
}
