//! Responses.

use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use serde_json::Value;

use super::events::{EventBody, Events, ResponseBody};
use crate::api::ApiError;

/// A response of this server.
pub(super) type Reply = Response<ResponseBody>;

/// A response with this type of content.
pub(super) fn whole(status: StatusCode, content_type: &'static str, body: impl Into<hyper::body::Bytes>) -> Reply {
    let mut reply = Response::new(ResponseBody::Whole(Some(body.into())));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

/// A JSON object.
pub(super) fn json(value: &Value) -> Reply {
    whole(StatusCode::OK, "application/json", value.to_string())
}

/// Events, sent as they are made.
pub(super) fn events<F: Future<Output = ()> + Send + 'static>(make: impl FnOnce(Events) -> F) -> Reply {
    let mut reply = Response::new(ResponseBody::Events(EventBody::new(make)));
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    reply
}

/// An error.
pub(super) fn error(error: &ApiError) -> Reply {
    let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut reply = whole(status, "application/json", error.json().to_string());
    if let Some(time) = error.retry_after {
        reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from(time.as_secs().max(1)));
    }
    if status == StatusCode::UNAUTHORIZED {
        reply.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    reply
}

/// The error for a method that a path does not have.
pub(super) fn wrong_method(allowed: &'static str) -> Reply {
    let mut reply = error(&ApiError::new(405, None, format!("this path has the method {allowed} only")));
    reply.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    reply
}
