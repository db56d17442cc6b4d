//! The shapes of answers in the OpenAI API.

use serde_json::{Map, Value, json};
use tl_engine::Tokenizer;

use super::answer::End;
use super::prepare::Kind;
use super::sampling::random;
use super::tools::ToolCall;
use crate::clock;
use crate::stream::{Token, TokenLogprob};

/// What all parts of an answer have in common.
#[derive(Debug)]
pub(crate) struct Shape {
    kind: Kind,
    id: String,
    created: u64,
    model: String,
    /// Log-probabilities for each token; `None`: none.
    logprobs: Option<usize>,
}

/// Numbers of tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) prompt_tokens: usize,
    pub(crate) completion_tokens: usize,
}

impl Usage {
    pub(crate) fn json(self) -> Value {
        let Usage { prompt_tokens, completion_tokens } = self;
        let total_tokens = prompt_tokens + completion_tokens;
        json!({"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens, "total_tokens": total_tokens})
    }
}

/// A whole answer.
#[derive(Debug, Default)]
pub(crate) struct Whole {
    pub(crate) text: String,
    pub(crate) tokens: Vec<(Token, usize)>,
    pub(crate) end: Option<End>,
    pub(crate) calls: Vec<ToolCall>,
}

impl Shape {
    pub(crate) fn new(kind: Kind, model: &str, logprobs: Option<usize>) -> Shape {
        let prefix = if kind == Kind::Chat { "chatcmpl" } else { "cmpl" };
        let (id, created) = (format!("{prefix}-{:016x}", random()), clock::unix_seconds());
        Shape { kind, id, created, model: model.to_owned(), logprobs }
    }

    /// The name of the answer.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    fn frame(&self, is_chunk: bool, choices: Vec<Value>) -> Map<String, Value> {
        let object = match (self.kind, is_chunk) {
            (Kind::Chat, true) => "chat.completion.chunk",
            (Kind::Chat, false) => "chat.completion",
            (Kind::Text, _) => "text_completion",
        };
        let mut map = Map::new();
        map.insert("id".to_owned(), json!(self.id));
        map.insert("object".to_owned(), json!(object));
        map.insert("created".to_owned(), json!(self.created));
        map.insert("model".to_owned(), json!(self.model));
        map.insert("choices".to_owned(), Value::Array(choices));
        map
    }

    /// The answer to a request that is not streamed.
    pub(crate) fn whole(&self, answers: Vec<Whole>, usage: Usage, tokenizer: &Tokenizer) -> Value {
        let choices = answers.into_iter().enumerate().map(|(index, answer)| self.choice(index, answer, tokenizer));
        let mut map = self.frame(false, choices.collect());
        map.insert("usage".to_owned(), usage.json());
        Value::Object(map)
    }

    fn choice(&self, index: usize, answer: Whole, tokenizer: &Tokenizer) -> Value {
        let finish = answer.end.map(End::name);
        let logprobs = self.logprobs(&answer.tokens, tokenizer);
        match self.kind {
            Kind::Text => json!({"index": index, "text": answer.text, "logprobs": logprobs, "finish_reason": finish}),
            Kind::Chat => {
                let calls = calls(&answer.calls);
                let content =
                    if answer.text.is_empty() && !calls.is_empty() { Value::Null } else { json!(answer.text) };
                let mut message = json!({"role": "assistant", "content": content, "refusal": null});
                if !calls.is_empty() {
                    message["tool_calls"] = Value::Array(calls);
                }
                json!({"index": index, "message": message, "logprobs": logprobs, "finish_reason": finish})
            }
        }
    }

    /// The first part of a stream, for kinds that have one.
    pub(crate) fn first_chunk(&self, index: usize) -> Option<Value> {
        let delta = json!({"role": "assistant", "content": ""});
        (self.kind == Kind::Chat).then(|| self.chat_chunk(index, delta, Value::Null, None))
    }

    fn chat_chunk(&self, index: usize, delta: Value, logprobs: Value, finish: Option<&str>) -> Value {
        let choice = json!({"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish});
        Value::Object(self.frame(true, vec![choice]))
    }

    /// A piece of text, with its token.
    pub(crate) fn chunk(
        &self,
        index: usize,
        text: &str,
        token: Option<(Token, usize)>,
        tokenizer: &Tokenizer,
    ) -> Value {
        let logprobs = self.logprobs(token.as_slice(), tokenizer);
        match self.kind {
            Kind::Chat => self.chat_chunk(index, json!({"content": text}), logprobs, None),
            Kind::Text => {
                let choice = json!({"index": index, "text": text, "logprobs": logprobs, "finish_reason": null});
                Value::Object(self.frame(true, vec![choice]))
            }
        }
    }

    /// The last part of an answer: its calls and the reason for its end.
    pub(crate) fn last_chunk(&self, index: usize, end: Option<End>, answer_calls: &[ToolCall]) -> Value {
        let finish = end.map(End::name);
        match self.kind {
            Kind::Text => {
                let choice = json!({"index": index, "text": "", "logprobs": null, "finish_reason": finish});
                Value::Object(self.frame(true, vec![choice]))
            }
            Kind::Chat => {
                let mut delta = json!({});
                let list: Vec<Value> = calls(answer_calls)
                    .into_iter()
                    .enumerate()
                    .map(|(at, mut call)| {
                        call["index"] = json!(at);
                        call
                    })
                    .collect();
                if !list.is_empty() {
                    delta["tool_calls"] = Value::Array(list);
                }
                self.chat_chunk(index, delta, Value::Null, finish)
            }
        }
    }

    /// The end of a stream: the numbers of tokens.
    pub(crate) fn usage_chunk(&self, usage: Usage) -> Value {
        let mut map = self.frame(true, Vec::new());
        map.insert("usage".to_owned(), usage.json());
        Value::Object(map)
    }

    /// The log-probabilities of tokens, each with the offset of its text.
    fn logprobs(&self, tokens: &[(Token, usize)], tokenizer: &Tokenizer) -> Value {
        let Some(n) = self.logprobs else { return Value::Null };
        if tokens.is_empty() {
            return Value::Null;
        }
        match self.kind {
            Kind::Chat => {
                let list = tokens.iter().map(|(token, _)| {
                    let mut entry = token_json(chosen(token), tokenizer);
                    let top = token.top.iter().take(n).map(|&top| token_json(top, tokenizer));
                    entry["top_logprobs"] = top.collect();
                    entry
                });
                json!({"content": list.collect::<Vec<_>>(), "refusal": null})
            }
            Kind::Text => {
                let text = |id: u32| Value::String(token_text(id, tokenizer));
                let top = |token: &Token| -> Value {
                    let entries = token.top.iter().take(n);
                    entries
                        .map(|top| (token_text(top.id, tokenizer), json!(finite(top.logprob))))
                        .collect::<Map<_, _>>()
                        .into()
                };
                json!({
                    "tokens": tokens.iter().map(|(token, _)| text(token.id)).collect::<Vec<_>>(),
                    "token_logprobs": tokens.iter().map(|(token, _)| finite(chosen(token).logprob)).collect::<Vec<_>>(),
                    "top_logprobs": tokens.iter().map(|(token, _)| top(token)).collect::<Vec<_>>(),
                    "text_offset": tokens.iter().map(|(_, offset)| offset).collect::<Vec<_>>(),
                })
            }
        }
    }
}

fn chosen(token: &Token) -> TokenLogprob {
    TokenLogprob { id: token.id, logprob: token.logprob.unwrap_or(f32::NEG_INFINITY) }
}

/// JSON has no infinity; the API writes this number.
fn finite(logprob: f32) -> f32 {
    logprob.max(-9999.0)
}

fn token_text(id: u32, tokenizer: &Tokenizer) -> String {
    let bytes = tokenizer.text_bytes(id);
    bytes.map_or_else(String::new, |bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn token_json(token: TokenLogprob, tokenizer: &Tokenizer) -> Value {
    let bytes = tokenizer.text_bytes(token.id).unwrap_or_default();
    json!({"token": String::from_utf8_lossy(&bytes), "logprob": finite(token.logprob), "bytes": bytes.as_ref()})
}

fn calls(calls: &[ToolCall]) -> Vec<Value> {
    let call = |call: &ToolCall| {
        let function = json!({"name": call.name, "arguments": call.arguments});
        json!({"id": format!("call_{:016x}", random()), "type": "function", "function": function})
    };
    calls.iter().map(call).collect()
}
