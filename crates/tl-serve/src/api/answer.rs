//! One answer: the engine's tokens as text, up to a stop string, with the calls of tools cut out.

use std::sync::Arc;
use std::task::{Context, Poll};

use tl_engine::{DecodeStream, StopStrings, Tokenizer};

use super::error::{ApiError, ApiResult};
use super::tools::{ToolCall, ToolReader};
use crate::stream::{Finish, Token, TokenStream};

/// Reason for the end of an answer, as the API names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// By itself, or before a stop string.
    Stop,
    /// At the maximum of tokens.
    Length,
    /// With calls of tools.
    ToolCalls,
}

impl End {
    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            End::Stop => "stop",
            End::Length => "length",
            End::ToolCalls => "tool_calls",
        }
    }
}

/// A piece of an answer: whole characters.
#[derive(Debug, Default)]
pub(crate) struct Piece {
    /// Text. Empty while a character or a stop string may be unfinished.
    pub(crate) text: String,
    /// The token behind it; `None` for text that was held back.
    pub(crate) token: Option<Token>,
}

/// A running answer.
#[derive(Debug)]
pub(crate) struct Answer {
    tokenizer: Arc<Tokenizer>,
    /// `None` once a stop string was found, which cancels the sequence.
    stream: Option<TokenStream>,
    decode: DecodeStream,
    stop: StopStrings,
    tools: Option<ToolReader>,
    /// Tokens so far.
    pub(crate) n_tokens: usize,
    /// Set at the end.
    pub(crate) end: Option<End>,
    /// The calls of tools, at the end.
    pub(crate) calls: Vec<ToolCall>,
}

impl Answer {
    pub(crate) fn new(
        tokenizer: Arc<Tokenizer>,
        stream: TokenStream,
        stop: StopStrings,
        tools: Option<ToolReader>,
    ) -> Answer {
        let (decode, calls) = (DecodeStream::new(), Vec::new());
        Answer { tokenizer, stream: Some(stream), decode, stop, tools, n_tokens: 0, end: None, calls }
    }

    /// The next piece; `None` at the end.
    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<ApiResult<Piece>>> {
        if self.end.is_some() {
            return Poll::Ready(None);
        }
        let Some(stream) = &mut self.stream else { return Poll::Ready(self.last_piece(End::Stop).map(Ok)) };
        let token = match stream.poll_next(context) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(token) => token,
        };
        Poll::Ready(match token {
            Some(Ok(token)) => Some(self.push(token)),
            Some(Err(error)) => Some(Err(error.into())),
            None => match stream.finish() {
                Some(Finish::MaxTokens) => self.last_piece(End::Length).map(Ok),
                Some(Finish::EndOfText | Finish::ConstraintComplete) => self.last_piece(End::Stop).map(Ok),
                _ => {
                    Some(Err(ApiError::new(503, Some("stopping"), "the server stopped before the answer was complete")))
                }
            },
        })
    }

    fn push(&mut self, token: Token) -> ApiResult<Piece> {
        self.n_tokens += 1;
        let text = self.decode.next(&self.tokenizer, token.id).map_err(ApiError::failed)?;
        let text = self.stop.push(text);
        let text = match &mut self.tools {
            Some(tools) => tools.push(text),
            None => text.to_owned(),
        };
        if self.stop.found().is_some() {
            self.stream = None;
        }
        Ok(Piece { text, token: Some(token) })
    }

    /// Ends the answer, with the text that was held back, if any.
    fn last_piece(&mut self, end: End) -> Option<Piece> {
        let mut text = self.stop.push(self.decode.finish()).to_owned();
        text.push_str(self.stop.finish());
        let mut end = if self.stop.found().is_some() { End::Stop } else { end };
        if let Some(tools) = self.tools.take() {
            let (shown, calls) = tools.finish(&text);
            (text, self.calls) = (shown, calls);
            if !self.calls.is_empty() {
                end = End::ToolCalls;
            }
        }
        self.end = Some(end);
        Some(Piece { text, token: None })
    }
}

/// The answers to a request.
#[derive(Debug)]
pub(crate) struct Answers(pub(crate) Vec<Answer>);

impl Answers {
    /// The next piece of any of them, with its index; `None` once all have ended.
    pub(crate) async fn next(&mut self) -> Option<(usize, ApiResult<Piece>)> {
        std::future::poll_fn(|context| {
            let mut is_ended = true;
            for (index, answer) in self.0.iter_mut().enumerate() {
                match answer.poll_next(context) {
                    Poll::Ready(Some(piece)) => return Poll::Ready(Some((index, piece))),
                    Poll::Ready(None) => {}
                    Poll::Pending => is_ended = false,
                }
            }
            if is_ended { Poll::Ready(None) } else { Poll::Pending }
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::channel;

    /// The pieces of an answer and its end.
    fn read(ids: &[u32], stop: &[&str], finish: Finish) -> (String, Option<End>) {
        let path = tl_testing::project_file("models/demo-q8_0.gguf");
        let tokenizer = tl_engine::Model::load(path, &tl_device::Device::cpu()).unwrap().tokenizer().unwrap();
        let (sink, stream) = channel(ids.len(), 0);
        ids.iter().for_each(|&id| sink.push(id, 0.0, &[]));
        sink.finish(finish);
        let mut answer = Answer::new(tokenizer, stream, StopStrings::new(stop).unwrap(), None);
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut text = String::new();
        while let Poll::Ready(Some(piece)) = answer.poll_next(&mut context) {
            text += &piece.unwrap().text;
        }
        (text, answer.end)
    }

    #[test]
    fn text_and_end() {
        let path = tl_testing::project_file("models/demo-q8_0.gguf");
        let tokenizer = tl_engine::Model::load(path, &tl_device::Device::cpu()).unwrap().tokenizer().unwrap();
        // Without the token that begins a text. The umlaut consists of two tokens, each a byte.
        let ids = &tokenizer.encode("a trait objectö is")[1..];
        let all = read(ids, &[], Finish::MaxTokens);
        assert_eq!((all.0.trim_start(), all.1), ("a trait objectö is", Some(End::Length)));
        assert_eq!(read(ids, &["none"], Finish::EndOfText), (all.0.clone(), Some(End::Stop)));
        let stopped = read(ids, &["ject"], Finish::MaxTokens);
        assert_eq!((stopped.0.trim_start(), stopped.1), ("a trait ob", Some(End::Stop)));
        // The end of the text may have been the beginning of a stop string.
        assert_eq!(read(ids, &["is so"], Finish::EndOfText), (all.0, Some(End::Stop)));
    }
}
