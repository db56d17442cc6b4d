//! Bodies of responses: whole, or events that are made while they are sent.
//!
//! The maker of events is a future inside the body. It runs only when the connection asks for more, and when the client
//! is gone it is dropped with the body, and with it everything that it waits for.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use parking_lot::Mutex;
use serde_json::Value;

/// Bytes of events that may wait for the connection before their maker pauses.
const MAX_WAITING_BYTES: usize = 16 << 10;

/// The body of a response.
pub(super) enum ResponseBody {
    /// All of it; `None` once it was taken.
    Whole(Option<Bytes>),
    /// Events as they are made.
    Events(EventBody),
}

/// Events on their way to the connection.
pub(super) struct EventBody {
    maker: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    waiting: Arc<Mutex<Vec<u8>>>,
}

/// Where a maker puts its events.
#[derive(Clone, Debug)]
pub(super) struct Events(Arc<Mutex<Vec<u8>>>);

impl Events {
    /// Sends an event with this value as its data.
    pub(super) async fn send(&self, value: &Value) {
        self.send_text(&value.to_string()).await;
    }

    /// Sends an event with this line as its data, once the connection has taken most of those before it.
    pub(super) async fn send_text(&self, data: &str) {
        // The body polls its maker again whenever it has given events away, so nobody needs to be woken.
        let has_room = || self.0.lock().len() < MAX_WAITING_BYTES;
        std::future::poll_fn(|_| if has_room() { Poll::Ready(()) } else { Poll::Pending }).await;
        let mut waiting = self.0.lock();
        waiting.extend_from_slice(b"data: ");
        waiting.extend_from_slice(data.as_bytes());
        waiting.extend_from_slice(b"\n\n");
    }
}

impl EventBody {
    /// A body of the events that `make` sends.
    pub(super) fn new<F: Future<Output = ()> + Send + 'static>(make: impl FnOnce(Events) -> F) -> EventBody {
        let waiting = Arc::default();
        EventBody { maker: Some(Box::pin(make(Events(Arc::clone(&waiting))))), waiting }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let is_done = match &mut self.maker {
            Some(maker) => maker.as_mut().poll(context).is_ready(),
            None => true,
        };
        if is_done {
            self.maker = None;
        }
        let waiting = std::mem::take(&mut *self.waiting.lock());
        match (waiting.is_empty(), is_done) {
            (false, _) => Poll::Ready(Some(waiting.into())),
            (true, true) => Poll::Ready(None),
            (true, false) => Poll::Pending,
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = match &mut *self {
            ResponseBody::Whole(bytes) => Poll::Ready(bytes.take()),
            ResponseBody::Events(events) => events.poll(context),
        };
        bytes.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, ResponseBody::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            ResponseBody::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            ResponseBody::Events(_) => SizeHint::default(),
        }
    }
}
