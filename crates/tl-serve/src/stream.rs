//! Tokens on their way from the engine to whoever asked for them.
//!
//! The room for all tokens of an answer is allocated when its request is taken. So the engine's side never waits and
//! never allocates, however slowly the other side reads. Dropping the reader's side cancels the sequence.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use parking_lot::Mutex;

use crate::error::{Error, Result};

/// A token, and its log-probability.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenLogprob {
    /// The token.
    pub id: u32,
    /// Natural logarithm of its probability, before penalties, temperature and constraint.
    pub logprob: f32,
}

/// A token of an answer.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Token {
    /// The token.
    pub id: u32,
    /// Natural logarithm of its probability; `None` where the request asks for none.
    pub logprob: Option<f32>,
    /// The likeliest tokens at this place, the likeliest first: as many as the request asks for.
    pub top: Vec<TokenLogprob>,
}

/// Reason for the end of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finish {
    /// The model ended the text.
    EndOfText,
    /// It is complete by its constraint: nothing may follow it.
    ConstraintComplete,
    /// It has the maximum number of tokens.
    MaxTokens,
    /// The reader is gone, or the engine was told to stop.
    Cancelled,
    /// An error, which the stream has returned.
    Failed,
}

#[derive(Debug)]
struct State {
    tokens: VecDeque<(u32, f32)>,
    /// `n_top` for each token.
    top: VecDeque<TokenLogprob>,
    error: Option<Error>,
    finish: Option<Finish>,
    waker: Option<Waker>,
}

#[derive(Debug)]
struct Channel {
    state: Mutex<State>,
    is_cancelled: AtomicBool,
    n_top: usize,
}

/// Room for an answer of up to `max_tokens`, with the log-probabilities of `n_top` tokens for each.
pub(crate) fn channel(max_tokens: usize, n_top: usize) -> (TokenSink, TokenStream) {
    let state = State {
        tokens: VecDeque::with_capacity(max_tokens),
        top: VecDeque::with_capacity(max_tokens.saturating_mul(n_top)),
        error: None,
        finish: None,
        waker: None,
    };
    let channel = Arc::new(Channel { state: Mutex::new(state), is_cancelled: AtomicBool::new(false), n_top });
    (TokenSink(channel.clone()), TokenStream { channel, finish: None })
}

/// The engine's side. Dropping it without [`TokenSink::finish`] ends the answer with an error.
#[derive(Debug)]
pub(crate) struct TokenSink(Arc<Channel>);

impl TokenSink {
    /// Adds a token. `top` has as many entries as the request asks for, or none where it asks for none.
    pub(crate) fn push(&self, id: u32, logprob: f32, top: &[TokenLogprob]) {
        let mut state = self.0.state.lock();
        state.tokens.push_back((id, logprob));
        state.top.extend(top.iter().take(self.0.n_top));
        wake(state);
    }

    /// Ends the answer.
    pub(crate) fn finish(self, finish: Finish) {
        let mut state = self.0.state.lock();
        state.finish = Some(finish);
        wake(state);
    }

    /// Ends the answer with an error.
    pub(crate) fn fail(self, error: Error) {
        let mut state = self.0.state.lock();
        (state.error, state.finish) = (Some(error), Some(Finish::Failed));
        wake(state);
    }

    /// Whether the reader is gone.
    pub(crate) fn is_cancelled(&self) -> bool {
        // No other data is published with it.
        self.0.is_cancelled.load(Ordering::Relaxed)
    }

    /// Number of likeliest tokens that the request asks for.
    pub(crate) fn n_top(&self) -> usize {
        self.0.n_top
    }
}

impl Drop for TokenSink {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        if state.finish.is_none() {
            (state.error, state.finish) = (Some(Error::Ended), Some(Finish::Failed));
            wake(state);
        }
    }
}

/// Wakes the reader, outside the lock.
fn wake(mut state: parking_lot::MutexGuard<'_, State>) {
    let waker = state.waker.take();
    drop(state);
    waker.into_iter().for_each(Waker::wake);
}

/// The reader's side: the tokens of an answer as they come. Dropping it cancels the sequence at the engine's next step.
#[derive(Debug)]
pub struct TokenStream {
    channel: Arc<Channel>,
    /// Set once all tokens have been read.
    finish: Option<Finish>,
}

impl TokenStream {
    /// The next token; `None` at the end.
    ///
    /// # Errors
    /// The error that ended the sequence, once, as the last item.
    pub async fn next(&mut self) -> Option<Result<Token>> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// [`TokenStream::next`] for a thread that may wait.
    ///
    /// # Errors
    /// As for [`TokenStream::next`].
    pub fn wait_next(&mut self) -> Option<Result<Token>> {
        let waker = Waker::from(Arc::new(ThreadWaker(std::thread::current())));
        let mut context = Context::from_waker(&waker);
        loop {
            match self.poll_next(&mut context) {
                Poll::Ready(token) => return token,
                Poll::Pending => std::thread::park(),
            }
        }
    }

    /// [`TokenStream::next`] as a poll.
    ///
    /// # Errors
    /// As for [`TokenStream::next`].
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Token>>> {
        let n_top = self.channel.n_top;
        let mut state = self.channel.state.lock();
        if let Some((id, logprob)) = state.tokens.pop_front() {
            let len = n_top.min(state.top.len());
            let top = state.top.drain(..len).collect();
            return Poll::Ready(Some(Ok(Token { id, logprob: (n_top > 0).then_some(logprob), top })));
        }
        if let Some(error) = state.error.take() {
            return Poll::Ready(Some(Err(error)));
        }
        if state.finish.is_some() {
            self.finish = state.finish;
            return Poll::Ready(None);
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }

    /// Reason for the end, once [`TokenStream::next`] has returned `None`.
    pub fn finish(&self) -> Option<Finish> {
        self.finish
    }
}

impl Drop for TokenStream {
    fn drop(&mut self) {
        self.channel.is_cancelled.store(true, Ordering::Relaxed);
    }
}

/// Wakes a thread that is parked.
struct ThreadWaker(std::thread::Thread);

impl Wake for ThreadWaker {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(stream: &mut TokenStream) -> Vec<std::result::Result<u32, String>> {
        let next = || stream.wait_next().map(|token| token.map(|token| token.id).map_err(|error| error.to_string()));
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn tokens_come_in_order_and_then_the_reason_for_the_end() {
        let (sink, mut stream) = channel(3, 0);
        let engine = std::thread::spawn(move || {
            (0..3).for_each(|id| sink.push(id, 0.0, &[]));
            sink.finish(Finish::MaxTokens);
        });
        assert_eq!(drain(&mut stream), [Ok(0), Ok(1), Ok(2)]);
        assert_eq!(stream.finish(), Some(Finish::MaxTokens));
        engine.join().unwrap();
    }

    #[test]
    fn the_room_is_there_from_the_beginning() {
        let (sink, stream) = channel(100, 2);
        let room = |stream: &TokenStream| {
            let state = stream.channel.state.lock();
            (state.tokens.capacity(), state.top.capacity())
        };
        let before = room(&stream);
        let top = [TokenLogprob { id: 1, logprob: -0.5 }, TokenLogprob { id: 2, logprob: -1.0 }];
        (0..100).for_each(|id| sink.push(id, -0.5, &top));
        assert_eq!(room(&stream), before);
    }

    #[test]
    fn likeliest_tokens_stay_with_their_token() {
        let (sink, mut stream) = channel(2, 1);
        for id in 0..2 {
            sink.push(id, -1.0, &[TokenLogprob { id: id + 10, logprob: -0.5 }]);
        }
        for id in 0..2 {
            let token = stream.wait_next().unwrap().unwrap();
            assert_eq!((token.id, token.logprob, token.top[0].id), (id, Some(-1.0), id + 10));
        }
    }

    #[test]
    fn either_side_may_go() {
        let (sink, mut stream) = channel(1, 0);
        drop(sink);
        assert_eq!(drain(&mut stream), [Err("the engine has ended".to_owned())]);
        assert_eq!(stream.finish(), Some(Finish::Failed));
        let (sink, stream) = channel(1, 0);
        assert!(!sink.is_cancelled());
        drop(stream);
        assert!(sink.is_cancelled());
        sink.push(0, 0.0, &[]);
        sink.finish(Finish::Cancelled);
    }
}
