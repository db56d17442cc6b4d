//! Errors as clients of the OpenAI API expect them: a status and `{"error": {"message", "type", "param", "code"}}`.

use std::time::Duration;

use serde_json::{Value, json};

use crate::error::{Error, Refusal};

/// An error for a client.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ApiError {
    /// The HTTP status.
    pub(crate) status: u16,
    message: String,
    kind: &'static str,
    /// The parameter that is wrong.
    param: Option<String>,
    code: Option<&'static str>,
    /// When to try again.
    pub(crate) retry_after: Option<Duration>,
}

/// Result of what a client asked for.
pub(crate) type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    /// An error with this status.
    pub(crate) fn new(status: u16, code: Option<&'static str>, message: impl Into<String>) -> ApiError {
        let kind = match status {
            401 => "authentication_error",
            429 => "rate_limit_error",
            500.. => "server_error",
            _ => "invalid_request_error",
        };
        ApiError { status, message: message.into(), kind, param: None, code, retry_after: None }
    }

    /// A request that cannot be understood.
    pub(crate) fn bad(message: impl Into<String>) -> ApiError {
        ApiError::new(400, None, message)
    }

    /// A wrong parameter. The message is `param` and then `problem`.
    pub(crate) fn param(param: &str, problem: impl std::fmt::Display) -> ApiError {
        ApiError { param: Some(param.to_owned()), ..ApiError::bad(format!("{param}: {problem}")) }
    }

    /// A failure of the server.
    pub(crate) fn failed(message: impl ToString) -> ApiError {
        ApiError::new(500, None, message.to_string())
    }

    /// With the time after which the client may try again.
    pub(crate) fn with_retry_after(self, time: Duration) -> ApiError {
        ApiError { retry_after: Some(time), ..self }
    }

    /// As JSON.
    pub(crate) fn json(&self) -> Value {
        json!({"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}})
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> ApiError {
        let message = refusal.to_string();
        match refusal {
            Refusal::TooLong { .. } => ApiError::new(400, Some("context_length_exceeded"), message),
            Refusal::QueueFull { retry_after, .. } => {
                ApiError::new(429, Some("queue_full"), message).with_retry_after(retry_after)
            }
            Refusal::Stopping => ApiError::new(503, Some("stopping"), message).with_retry_after(Duration::from_secs(5)),
            _ => ApiError::bad(message),
        }
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> ApiError {
        ApiError::failed(error)
    }
}
