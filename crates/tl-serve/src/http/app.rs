//! What all connections share.

use std::sync::Arc;

use super::body::BodyRoom;
use super::options::ServerOptions;
use super::record::Counts;
use crate::api::Served;
use crate::engine::Engine;

/// What all connections share.
#[derive(Debug)]
pub(super) struct App {
    pub(super) engine: Engine,
    pub(super) served: Arc<Served>,
    pub(super) bodies: BodyRoom,
    pub(super) counts: Arc<Counts>,
    pub(super) options: ServerOptions,
}
