//! The server: a socket, a thread for all connections, an orderly end.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tl_engine::Model;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::app::App;
use super::body::BodyRoom;
use super::options::ServerOptions;
use super::routes;
use super::stall::StallGuard;
use crate::api::Served;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::stats::EngineStats;

/// A running server. Dropping it cancels all requests and closes all connections.
#[derive(Debug)]
pub struct Server {
    app: Arc<App>,
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

/// Threads that prepare requests: templates, tokens, grammars.
const PREPARING_THREADS: usize = 2;

/// Time for the connections to send what they have, once the engine has ended.
const CLOSING_TIME: Duration = Duration::from_secs(5);

/// How often the server looks whether a drained engine has ended.
const END_POLL: Duration = Duration::from_millis(20);

impl Server {
    /// Serves an engine's model on a socket, on a thread of its own.
    ///
    /// # Errors
    /// Options outside their range, a model without a tokenizer, a socket or thread that the system refuses.
    pub fn start(engine: Engine, model: &Model, listener: TcpListener, options: ServerOptions) -> Result<Server> {
        check(&options)?;
        let served = Served::new(model, options.model_name.clone(), engine.stats().context, options.max_tokens)?;
        let bodies = BodyRoom::new(options.limits, model.device().clone());
        let app = App { engine, served: Arc::new(served), bodies, counts: Arc::default(), options };
        let app = Arc::new(app);
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(PREPARING_THREADS)
            .build()?;
        let listener = {
            let _entered = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let shared = app.clone();
        let thread = std::thread::Builder::new().name("http".to_owned()).spawn(move || {
            runtime.block_on(serve(shared, listener));
            // A grammar that still compiles is left alone.
            runtime.shutdown_background();
        })?;
        Ok(Server { app, address, thread: Some(thread) })
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The state of its engine.
    pub fn stats(&self) -> EngineStats {
        self.app.engine.stats()
    }

    /// Takes no more requests: `/ready` and new ones are answered with 503. Those that were taken go on for at most
    /// `patience`. Returns at once; [`Server::is_ended`] tells when all is done.
    pub fn drain(&self, patience: Duration) {
        self.app.engine.drain(patience);
    }

    /// Whether all connections are closed, after a drain or a failure.
    pub fn is_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.drain(Duration::ZERO);
        if let Some(thread) = self.thread.take() {
            // After a panic there is nobody left to tell.
            let _ = thread.join();
        }
    }
}

fn check(options: &ServerOptions) -> Result<()> {
    let limits = &options.limits;
    let at_least = |option: &'static str, value: usize, least: usize| match value < least {
        true => Err(Error::Option { option, value, expected: format!("at least {least}") }),
        false => Ok(()),
    };
    at_least("max_tokens", options.max_tokens, 1)?;
    at_least("connections", limits.connections, 1)?;
    at_least("body_bytes", limits.body_bytes, 1024)?;
    at_least("headers", limits.headers, 16)?;
    // The least that the HTTP library takes.
    at_least("header_bytes", limits.header_bytes, 8192)
}

/// Accepts connections until the engine has ended, then closes them.
async fn serve(app: Arc<App>, listener: tokio::net::TcpListener) {
    let limit = app.options.limits.connections.min(Semaphore::MAX_PERMITS);
    let places = Arc::new(Semaphore::new(limit));
    let (closing, is_closing) = watch::channel(false);
    loop {
        match tokio::time::timeout(END_POLL, listener.accept()).await {
            Ok(Ok((stream, client))) => match places.clone().try_acquire_owned() {
                Ok(place) => {
                    tokio::spawn(connection(app.clone(), stream, client, is_closing.clone(), place));
                }
                Err(_) => turn_away(&app, &stream),
            },
            // Too many open files, or a client that went again.
            Ok(Err(_)) => tokio::time::sleep(END_POLL).await,
            Err(_) => {}
        }
        if app.engine.stats().is_ended {
            break;
        }
    }
    drop(listener);
    // The receivers outlive the sender's use.
    let _ = closing.send(true);
    let all = u32::try_from(limit).unwrap_or(u32::MAX);
    let _ = tokio::time::timeout(CLOSING_TIME, places.acquire_many(all)).await;
}

/// Tells a client beyond the maximum, if its socket takes a line at once.
fn turn_away(app: &App, stream: &TcpStream) {
    app.counts.turned_away.fetch_add(1, Ordering::Relaxed);
    let _ = stream.try_write(
        b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
    );
}

/// Serves a connection.
async fn connection(
    app: Arc<App>,
    stream: TcpStream,
    client: SocketAddr,
    mut is_closing: watch::Receiver<bool>,
    _place: OwnedSemaphorePermit,
) {
    // Tokens are sent as they come. A socket that cannot do that still works.
    let _ = stream.set_nodelay(true);
    let limits = app.options.limits;
    app.counts.connections.fetch_add(1, Ordering::Relaxed);
    let counts = app.counts.clone();
    let service = service_fn(move |request| routes::answer(app.clone(), client, request));
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limits.header_time);
    builder.max_headers(limits.headers).max_buf_size(limits.header_bytes);
    let io = TokioIo::new(StallGuard::new(stream, limits.stall_time));
    let mut connection = std::pin::pin!(builder.serve_connection(io, service));
    let mut closing = std::pin::pin!(is_closing.wait_for(|&is_closing| is_closing));
    let mut is_told = false;
    std::future::poll_fn(|context| {
        if !is_told && closing.as_mut().poll(context).is_ready() {
            is_told = true;
            connection.as_mut().graceful_shutdown();
        }
        // An error of a connection concerns its client alone.
        connection.as_mut().poll(context).map(drop)
    })
    .await;
    counts.connections.fetch_sub(1, Ordering::Relaxed);
}
