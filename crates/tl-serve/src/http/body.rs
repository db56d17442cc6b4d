//! Bodies of requests: bounded in bytes, in time, and all together.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::{Body, Incoming};
use hyper::header::CONTENT_TYPE;
use tl_device::Device;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::options::{HEAP_PER_BODY_BYTE, Limits};
use crate::api::{ApiError, ApiResult};

/// The unit in which bodies are booked.
const UNIT_BYTES: usize = 1 << 10;

/// The room for all bodies at once.
#[derive(Debug)]
pub(super) struct BodyRoom {
    room: Arc<Semaphore>,
    limits: Limits,
    device: Device,
}

/// A body, and the room that it has.
#[derive(Debug)]
pub(super) struct BookedBody {
    pub(super) bytes: Vec<u8>,
    _room: OwnedSemaphorePermit,
}

impl BodyRoom {
    pub(super) fn new(limits: Limits, device: Device) -> BodyRoom {
        // A single body always fits.
        let units = limits.bodies_bytes.max(limits.body_bytes).div_ceil(UNIT_BYTES);
        BodyRoom { room: Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS))), limits, device }
    }

    /// Reads a body of JSON.
    ///
    /// # Errors
    /// Another type of content, a body that is too long or too slow, no room.
    pub(super) async fn read(&self, request: Request<Incoming>) -> ApiResult<BookedBody> {
        // A web page of another origin can send other types without asking.
        let content_type =
            request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/json") {
            let message = "expected the header Content-Type: application/json";
            return Err(ApiError::new(415, None, message));
        }
        let body = request.into_body();
        let limit = self.limits.body_bytes;
        // Without a length, as much as there may be.
        let expected = body.size_hint().exact().unwrap_or(limit as u64);
        if expected > limit as u64 {
            return Err(too_long(limit));
        }
        let room = self.book(expected as usize).await?;
        let bytes = timeout(self.limits.body_time, read_all(body, limit)).await.unwrap_or_else(|_| {
            let message = format!("the body did not come within {} s", self.limits.body_time.as_secs());
            Err(ApiError::new(408, None, message))
        })?;
        Ok(BookedBody { bytes, _room: room })
    }

    /// Waits for the room that a body takes, and checks that the heap has it too.
    async fn book(&self, len: usize) -> ApiResult<OwnedSemaphorePermit> {
        let units = u32::try_from(len.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX);
        let full = || {
            let error = ApiError::new(503, Some("overloaded"), "too many bodies are being read at once; try again");
            error.with_retry_after(Duration::from_secs(1))
        };
        let room = timeout(self.limits.body_time, self.room.clone().acquire_many_owned(units)).await;
        let room = room.map_err(|_| full())?.map_err(|_| full())?;
        let what = || format!("a request's body of {len} bytes");
        let heap = self.device.check_heap(len.saturating_mul(HEAP_PER_BODY_BYTE), what);
        heap.map_err(|error| ApiError::new(503, Some("out_of_memory"), error.to_string()))?;
        Ok(room)
    }
}

/// Reads a body to its end.
async fn read_all(mut body: Incoming, limit: usize) -> ApiResult<Vec<u8>> {
    let mut bytes = Vec::with_capacity(body.size_hint().exact().map_or(0, |len| len as usize).min(limit));
    while let Some(frame) = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let frame = frame.map_err(|_| ApiError::bad("the body ended early"))?;
        // Other frames are trailers.
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > limit {
            return Err(too_long(limit));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

fn too_long(limit: usize) -> ApiError {
    ApiError::new(413, None, format!("the body is longer than the {limit} bytes that it may have"))
}
