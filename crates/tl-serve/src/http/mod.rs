//! HTTP: connections, bounds, routes, responses.

mod app;
mod body;
mod completions;
mod events;
mod keys;
mod metrics;
mod options;
mod record;
mod reply;
mod routes;
mod server;
mod stall;

pub use keys::{ApiKeys, KeysError};
pub use options::{Limits, Log, ServerOptions};
pub use server::Server;
