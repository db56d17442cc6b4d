//! The builtin `generate`: whole generation, in memory that is reserved before the first token and kept for the next call.

use tl_device::{Device, TensorBuffer};
use tl_model::{
    DecodeStream, GenerateOptions, Generator, ModelError, SamplingOptions, StopStrings, Tokenizer, Weights,
};

use super::row::{Args, Failure};
use crate::architecture::{PREFILL_CHUNK, ScriptedModel};
use crate::value::{Handle, HandleKind, Kept, Reserved, Value};

pub(super) fn generate(args: &Args<'_>) -> Result<Value, Failure> {
    let Handle::Model(weights, kept) = args.handle(0, HandleKind::Model)? else {
        return Err(Failure::new("not a model"));
    };
    let tokenizer = weights.tokenizer()?;
    let sampling = SamplingOptions {
        temperature: args.number(3)? as f32,
        top_p: args.number(4)? as f32,
        top_k: args.size(5)?,
        seed: args.int(6)? as u64,
        min_p: args.number(7)? as f32,
        repetition_penalty: args.number(8)? as f32,
        presence_penalty: args.number(9)? as f32,
        frequency_penalty: args.number(10)? as f32,
        penalty_window: args.size(11)?,
    };
    let mut stop = StopStrings::new(&args.texts(12)?)?;
    super::models::check_encoding(weights.device(), args.text(1)?)?;
    let prompt = tokenizer.encode(args.text(1)?);
    let max_tokens = args.size(2)?;
    let context = context(weights, prompt.len(), max_tokens)?;
    let model = ScriptedModel::new(weights)?;
    let memory = Memory::of(&model, kept.as_ref(), context, prompt.len())?;
    let options = GenerateOptions { max_tokens, sampling, context: Some(memory.context) };
    let _current = memory.buffer.map(|buffer| Current::replaced(weights.device(), buffer)).transpose()?;
    text(Generator::new(model, &prompt, &options)?, &tokenizer, &mut stop)
}

/// Tokens that there is to be room for: as many as the call can use.
fn context(weights: &Weights, prompt_len: usize, max_tokens: usize) -> Result<usize, ModelError> {
    let limit = weights.config().context_length;
    if prompt_len > limit {
        return Err(ModelError::PromptTooLong { tokens: prompt_len, context: limit });
    }
    Ok(prompt_len.saturating_add(max_tokens).clamp(1, limit))
}

/// Goes on until the text ends.
fn text(generator: Generator<ScriptedModel>, tokenizer: &Tokenizer, stop: &mut StopStrings) -> Result<Value, Failure> {
    let mut stream = DecodeStream::new();
    let mut text = String::new();
    for id in generator {
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
    /// What the program planned goes first: a plan that was made of all of it, then what the model keeps, then reservations that
    /// serve the call. Where none does, the model reserves, and keeps that.
    fn of(model: &ScriptedModel, kept: Option<&Kept>, context: usize, prompt_len: usize) -> Result<Memory, Failure> {
        let device = model.weights().device();
        let current = device.tensor_buffer();
        if current.as_ref().is_some_and(TensorBuffer::keeps_to_plan) {
            return Ok(Memory { buffer: None, context });
        }
        let mut reserved = kept.map(|kept| kept.lock());
        let held = reserved.as_ref().and_then(|reserved| reserved.as_ref());
        if let Some(Reserved { buffer, context }) = held.filter(|reserved| reserved.context >= context) {
            return Ok(Memory { buffer: Some(buffer.clone()), context: *context });
        }
        if let Some(current) = current
            && model.is_served_by(&current, context, &step_lengths(prompt_len))?
        {
            return Ok(Memory { buffer: None, context });
        }
        if device.is_sealed() {
            return Err(sealed(context, held.map(|reserved| reserved.context)));
        }
        // The shorter one goes before the longer one comes.
        if let Some(reserved) = &mut reserved {
            **reserved = None;
        }
        let buffer = TensorBuffer::new(device);
        model.reserve(&buffer, context)?;
        if let Some(reserved) = &mut reserved {
            **reserved = Some(Reserved { buffer: buffer.clone(), context });
        }
        Ok(Memory { buffer: Some(buffer), context })
    }
}

/// How many tokens go through the model at once, each number once.
fn step_lengths(prompt_len: usize) -> Vec<usize> {
    let mut lengths = vec![prompt_len.min(PREFILL_CHUNK), prompt_len % PREFILL_CHUNK, 1];
    lengths.retain(|&n| n > 0);
    lengths.dedup();
    lengths
}

#[cold]
fn sealed(context: usize, held: Option<usize>) -> Failure {
    let held = match held {
        Some(held) => format!("the model has reserved memory for {held}"),
        None => "the model has reserved no memory".to_owned(),
    };
    let message = format!("`generate`: memory is sealed, a prompt and text of {context} tokens are to fit, and {held}");
    Failure::new(message).hint(
        "call `generate` with as many tokens once before `buffer_seal()`, and with --sealed before the first tensor; or run by a plan: \
         `tl plan SCRIPT.tl -o FILE`, then `tl run --plan FILE --sealed SCRIPT.tl`",
    )
}

/// A device takes from another tensor buffer as long as this exists.
struct Current<'a> {
    device: &'a Device,
    before: Option<TensorBuffer>,
}

impl Current<'_> {
    fn replaced(device: &Device, buffer: TensorBuffer) -> Result<Current<'_>, tl_device::Error> {
        let before = device.replace_tensor_buffer(Some(buffer))?;
        Ok(Current { device, before })
    }
}

impl Drop for Current<'_> {
    fn drop(&mut self) {
        // It was this device's before.
        let _ = self.device.replace_tensor_buffer(self.before.take());
    }
}
