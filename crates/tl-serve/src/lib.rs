//! A server of the OpenAI API over a model whose memory is reserved before the first request.
//!
//! [`Engine`] takes tokens and gives tokens; it owns the model's memory and knows nothing of HTTP. [`Server`] puts the
//! API before it: connections, bounds on what clients send, templates, text. The program `tl serve` adds arguments,
//! signals and the terminal.
//!
//! ```
//! use std::net::TcpListener;
//! use std::time::Duration;
//! use tl_serve::{Engine, EngineOptions, Server, ServerOptions};
//!
//! let model = tl_engine::Model::load("../../models/demo-q8_0.gguf", &tl_device::Device::cpu())?;
//! let engine = Engine::start(&model, EngineOptions::new(64))?;
//! let server = Server::start(engine, &model, TcpListener::bind("127.0.0.1:0")?, ServerOptions::new("demo"))?;
//! println!("http://{}", server.address());
//! server.drain(Duration::from_secs(1));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::print_stdout, clippy::print_stderr))]

mod api;
mod batch;
mod clock;
mod engine;
mod error;
mod http;
mod logprobs;
mod options;
mod page_pool;
mod request;
mod scheduler;
mod shared;
mod single;
mod stats;
mod stream;

pub use engine::Engine;
pub use error::{Error, Refusal, Result};
pub use http::{ApiKeys, KeysError, Limits, Log, Server, ServerOptions};
pub use options::{EngineOptions, runs_several};
pub use request::Request;
pub use stats::{EngineStats, Quote};
pub use stream::{Finish, Token, TokenLogprob, TokenStream};
