//! Options of a server, and the bounds on what clients may send.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::keys::ApiKeys;

/// Bounds on what clients may send, and on the time they may take.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Connections at once. Further ones are answered with 503 and closed.
    pub connections: usize,
    /// Bytes of a body.
    pub body_bytes: usize,
    /// Bytes of all bodies that are being read at once; further requests wait.
    pub bodies_bytes: usize,
    /// Headers of a request.
    pub headers: usize,
    /// Bytes of a request's line and headers.
    pub header_bytes: usize,
    /// Time for a request's line and headers, and for an idle connection.
    pub header_time: Duration,
    /// Time for a body.
    pub body_time: Duration,
    /// Time for which a client may read nothing of an answer.
    pub stall_time: Duration,
}

impl Default for Limits {
    /// 64 connections, 1 MiB for a body and 8 MiB for all, 64 headers of 16 KiB, 15 s for headers, 30 s for a body, 60 s
    /// for a client that reads nothing.
    fn default() -> Limits {
        Limits {
            connections: 64,
            body_bytes: 1 << 20,
            bodies_bytes: 8 << 20,
            headers: 64,
            header_bytes: 16 << 10,
            header_time: Duration::from_secs(15),
            body_time: Duration::from_secs(30),
            stall_time: Duration::from_secs(60),
        }
    }
}

/// Heap of a parsed body, in bytes for each of its own: values, template, text and tokens.
pub(crate) const HEAP_PER_BODY_BYTE: usize = 16;

impl Limits {
    /// Heap bytes of all connections and of one request with the longest body. Further bodies are taken only where the
    /// heap has room for them.
    pub fn heap_bytes(&self) -> u64 {
        /// A connection's buffers and its task.
        const CONNECTION_BYTES: usize = 64 << 10;
        let connections = self.connections.saturating_mul(CONNECTION_BYTES.saturating_add(self.header_bytes));
        connections.saturating_add(self.body_bytes.saturating_mul(HEAP_PER_BODY_BYTE)) as u64
    }
}

/// Receiver of the server's log lines, one for each request. Keys, prompts and answers are never part of them.
#[derive(Clone)]
pub struct Log(Arc<dyn Fn(&str) + Send + Sync>);

impl Log {
    /// A log to this function.
    pub fn new(write: impl Fn(&str) + Send + Sync + 'static) -> Log {
        Log(Arc::new(write))
    }

    /// No log.
    pub fn none() -> Log {
        Log::new(|_| ())
    }

    pub(crate) fn write(&self, line: &str) {
        (self.0)(line);
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Log")
    }
}

/// Options of a server.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerOptions {
    /// The name by which clients ask for the model.
    pub model_name: String,
    /// Maximum tokens of an answer whose request sets none.
    pub max_tokens: usize,
    /// Keys, one of which a request must have.
    pub api_keys: ApiKeys,
    /// The web origin whose pages may use the server; `*`: all.
    pub cors_origin: Option<String>,
    /// Bounds on what clients may send.
    pub limits: Limits,
    /// Receiver of log lines.
    pub log: Log,
}

impl ServerOptions {
    /// A server without keys, for a model of this name: answers of up to 1024 tokens, no log.
    pub fn new(model_name: impl Into<String>) -> ServerOptions {
        ServerOptions {
            model_name: model_name.into(),
            max_tokens: 1024,
            api_keys: ApiKeys::none(),
            cors_origin: None,
            limits: Limits::default(),
            log: Log::none(),
        }
    }
}
