//! What is noted of each request: one line of the log when it ends, and counts for the metrics.
//!
//! A line has the route and never the path as it came, so that nothing a client wrote gets into the log.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use super::options::Log;
use crate::clock;

/// Counts of a server.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Connections now.
    pub(super) connections: AtomicUsize,
    /// Connections that were turned away.
    pub(super) turned_away: AtomicU64,
    /// Responses by the first digit of their status: 2xx, 3xx, 4xx, 5xx.
    pub(super) responses: [AtomicU64; 4],
}

impl Counts {
    fn count(&self, status: u16) {
        let class = usize::from(status / 100).clamp(2, 5) - 2;
        if let Some(count) = self.responses.get(class) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A request from its beginning to the end of its response. Writes its line when it is dropped.
#[derive(Debug)]
pub(super) struct Record {
    log: Log,
    counts: Arc<Counts>,
    start: Instant,
    client: SocketAddr,
    method: &'static str,
    route: &'static str,
    status: u16,
    answer: Option<AnswerRecord>,
}

/// What is noted of an answer.
#[derive(Clone, Debug, Default)]
pub(super) struct AnswerRecord {
    pub(super) id: String,
    pub(super) prompt_tokens: usize,
    pub(super) tokens: usize,
    /// Why it ended; `cancelled` until it has.
    pub(super) finish: &'static str,
}

impl Record {
    pub(super) fn new(
        log: Log,
        counts: Arc<Counts>,
        client: SocketAddr,
        method: &'static str,
        route: &'static str,
    ) -> Record {
        Record { log, counts, start: clock::now(), client, method, route, status: 0, answer: None }
    }

    pub(super) fn set_status(&mut self, status: u16) {
        self.status = status;
        self.counts.count(status);
    }

    pub(super) fn set_answer(&mut self, answer: AnswerRecord) {
        self.answer = Some(answer);
    }

    /// The answer's record, if there is one.
    pub(super) fn answer(&mut self) -> Option<&mut AnswerRecord> {
        self.answer.as_mut()
    }

    fn line(&self) -> String {
        let time = clock::now().saturating_duration_since(self.start);
        let Record { client, method, route, status, .. } = self;
        let unix = clock::unix_seconds();
        // A client that went before its response has no status.
        let status = if *status == 0 { "-".to_owned() } else { status.to_string() };
        let mut line = format!(
            "time={unix} client={client} method={method} route={route} status={status} ms={}",
            time.as_millis()
        );
        if let Some(AnswerRecord { id, prompt_tokens, tokens, finish }) = &self.answer {
            line += &format!(" id={id} prompt_tokens={prompt_tokens} tokens={tokens} finish={finish}");
        }
        line
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.log.write(&self.line());
    }
}
