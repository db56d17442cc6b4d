//! Completions: a body becomes sequences of the engine, their tokens a response.

use std::sync::Arc;

use hyper::Request;
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::app::App;
use super::events::Events;
use super::record::{AnswerRecord, Record};
use super::reply::{self, Reply};
use crate::api::{Answer, Answers, ApiError, ApiResult, End, Kind, Prepared, Shape, Usage, Whole};
use crate::stats::Quote;

/// Answers a request for a completion.
pub(super) async fn run(app: &Arc<App>, kind: Kind, request: Request<Incoming>, mut record: Record) -> Reply {
    let prepared = match prepare(app, Some(kind), request).await {
        Ok(prepared) => prepared,
        Err(error) => return fail(&mut record, &error),
    };
    if prepared.common.is_dry_run {
        record.set_status(200);
        return reply::json(&quotes(app, &prepared));
    }
    let running = match Running::start(app, prepared) {
        Ok(running) => running,
        Err(error) => return fail(&mut record, &error),
    };
    record.set_answer(running.record());
    if running.is_streamed {
        record.set_status(200);
        return reply::events(|events| running.stream(events, record));
    }
    match running.whole(&mut record).await {
        Ok(value) => {
            record.set_status(200);
            reply::json(&value)
        }
        Err(error) => fail(&mut record, &error),
    }
}

fn fail(record: &mut Record, error: &ApiError) -> Reply {
    record.set_status(error.status);
    if let Some(answer) = record.answer() {
        answer.finish = "error";
    }
    reply::error(error)
}

/// Tells the price of a request, which is a chat completion if it has messages.
pub(super) async fn quote(app: &Arc<App>, request: Request<Incoming>) -> ApiResult<Value> {
    let prepared = prepare(app, None, request).await?;
    Ok(quotes(app, &prepared))
}

/// Reads and prepares a request, on another thread than that of the connections.
async fn prepare(app: &Arc<App>, kind: Option<Kind>, request: Request<Incoming>) -> ApiResult<Prepared> {
    let body = app.bodies.read(request).await?;
    let served = app.served.clone();
    let prepare = move || {
        let map = crate::api::object(&body.bytes)?;
        match kind {
            Some(kind) => Prepared::new(kind, map, false, &served),
            None => {
                let kind = if map.contains_key("messages") { Kind::Chat } else { Kind::Text };
                Prepared::new(kind, map, true, &served)
            }
        }
    };
    tokio::task::spawn_blocking(prepare).await.map_err(|_| ApiError::failed("the request could not be prepared"))?
}

fn quotes(app: &App, prepared: &Prepared) -> Value {
    let sizes = prepared.sizes.iter().flat_map(|&size| std::iter::repeat_n(size, prepared.common.n));
    let list = sizes.map(|(prompt_len, max_tokens)| quote_json(&app.engine.quote(prompt_len, max_tokens)));
    json!({"object": "quote", "model": app.served.name, "sequences": list.collect::<Vec<_>>()})
}

fn quote_json(quote: &Quote) -> Value {
    json!({
        "prompt_tokens": quote.prompt_tokens,
        "max_tokens": quote.max_tokens,
        "needed_tokens": quote.needed_tokens,
        "limit_tokens": quote.limit_tokens,
        "fits": quote.fits,
        "kv_bytes": quote.kv_bytes,
        "requests_ahead": quote.ahead,
        "longest_wait_seconds": quote.wait.map(|time| time.as_secs_f64()),
        "longest_run_seconds": quote.run.map(|time| time.as_secs_f64()),
    })
}

/// A request whose sequences the engine has.
struct Running {
    app: Arc<App>,
    answers: Answers,
    shape: Shape,
    usage: Usage,
    is_streamed: bool,
    includes_usage: bool,
    keeps_tokens: bool,
}

impl Running {
    /// Gives the sequences to the engine: all of them or none.
    fn start(app: &Arc<App>, mut prepared: Prepared) -> ApiResult<Running> {
        let requests = std::mem::take(&mut prepared.requests);
        let mut answers = Vec::with_capacity(requests.len());
        for request in requests {
            let stream = app.engine.submit(request)?;
            let tools = prepared.tool_reader(&app.served);
            answers.push(Answer::new(app.served.tokenizer.clone(), stream, prepared.stop.clone(), tools));
        }
        Ok(Running {
            app: app.clone(),
            answers: Answers(answers),
            shape: Shape::new(prepared.kind, &app.served.name, prepared.logprobs),
            usage: Usage { prompt_tokens: prepared.prompt_tokens, completion_tokens: 0 },
            is_streamed: prepared.common.is_streamed,
            includes_usage: prepared.common.includes_usage,
            keeps_tokens: prepared.logprobs.is_some(),
        })
    }

    fn record(&self) -> AnswerRecord {
        let id = self.shape.id().to_owned();
        AnswerRecord { id, prompt_tokens: self.usage.prompt_tokens, tokens: 0, finish: "cancelled" }
    }

    /// Counts the tokens so far.
    fn count(&mut self, record: &mut Record) {
        self.usage.completion_tokens = self.answers.0.iter().map(|answer| answer.n_tokens).sum();
        if let Some(answer) = record.answer() {
            answer.tokens = self.usage.completion_tokens;
        }
    }

    /// Notes why the first answer ended.
    fn note_end(&self, record: &mut Record) {
        if let Some(answer) = record.answer() {
            answer.finish = self.answers.0.first().and_then(|answer| answer.end).map_or("error", End::name);
        }
    }

    /// Waits for all answers.
    async fn whole(mut self, record: &mut Record) -> ApiResult<Value> {
        let mut wholes: Vec<Whole> = self.answers.0.iter().map(|_| Whole::default()).collect();
        while let Some((index, piece)) = self.answers.next().await {
            self.count(record);
            let piece = piece?;
            let Some(whole) = wholes.get_mut(index) else { continue };
            let offset = whole.text.chars().count();
            whole.text.push_str(&piece.text);
            whole.tokens.extend(piece.token.filter(|_| self.keeps_tokens).map(|token| (token, offset)));
        }
        for (whole, answer) in wholes.iter_mut().zip(&mut self.answers.0) {
            (whole.end, whole.calls) = (answer.end, std::mem::take(&mut answer.calls));
        }
        self.note_end(record);
        Ok(self.shape.whole(wholes, self.usage, &self.app.served.tokenizer))
    }

    /// Sends the answers as they come.
    async fn stream(mut self, events: Events, mut record: Record) {
        for index in 0..self.answers.0.len() {
            if let Some(chunk) = self.shape.first_chunk(index) {
                events.send(&chunk).await;
            }
        }
        let mut offsets = vec![0; self.answers.0.len()];
        while let Some((index, piece)) = self.answers.next().await {
            self.count(&mut record);
            let piece = match piece {
                Ok(piece) => piece,
                Err(error) => {
                    fail(&mut record, &error);
                    return events.send(&error.json()).await;
                }
            };
            let offset = offsets.get(index).copied().unwrap_or_default();
            if let Some(offset) = offsets.get_mut(index) {
                *offset += piece.text.chars().count();
            }
            let token = piece.token.filter(|_| self.keeps_tokens).map(|token| (token, offset));
            if !piece.text.is_empty() || token.is_some() {
                events.send(&self.shape.chunk(index, &piece.text, token, &self.app.served.tokenizer)).await;
            }
            if let Some(answer) = self.answers.0.get(index)
                && answer.end.is_some()
            {
                events.send(&self.shape.last_chunk(index, answer.end, &answer.calls)).await;
            }
        }
        self.note_end(&mut record);
        if self.includes_usage {
            events.send(&self.shape.usage_chunk(self.usage)).await;
        }
        events.send_text("[DONE]").await;
    }
}
