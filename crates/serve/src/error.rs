//! Errors as OpenAI's API has them, and those that keep a server from starting.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use koan_infer::InferError;
use serde_json::{Value, json};

use crate::http::json_response;

/// Why models can't be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// There is no listening at the address.
    #[error(
        "cannot listen at {host}, port {port}; is another server there? --port 0 takes any port that is free"
    )]
    Bind {
        /// The host that was asked for.
        host: String,
        /// The port that was asked for.
        port: u16,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The system refused threads, or to watch connections.
    #[error("the system refuses what a server needs")]
    System(#[source] std::io::Error),
    /// Two models have one name.
    #[error("two models are called `{name}`; give them names of their own: NAME=DIR")]
    TwoOfOneName {
        /// The name.
        name: String,
    },
    /// A model could not be loaded, or its memory not be planned.
    #[error(transparent)]
    Infer(#[from] InferError),
    /// The device ran out of memory while it served, and has none to begin anew.
    #[error("the device has no memory to go on with")]
    OutOfMemory {
        /// What it refused.
        source: koan_backend::OutOfMemory,
    },
}

/// An error as the API tells it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
    pub(crate) kind: &'static str,
    /// The parameter that is wrong.
    pub(crate) param: Option<String>,
    pub(crate) code: Option<&'static str>,
}

/// Seconds after which whom the queue had no place for may try again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

impl ApiError {
    /// A request that is wrong in `param`.
    pub(crate) fn wrong(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            message: message.into(),
            kind: "invalid_request_error",
            param: Some(param.into()),
            code: None,
        }
    }

    /// A request that is wrong as a whole.
    pub(crate) fn invalid(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, param: None, ..Self::wrong("", message) }
    }

    pub(crate) fn with_code(self, code: &'static str) -> Self {
        Self { code: Some(code), ..self }
    }

    /// What the API has and this server has not.
    pub(crate) fn unsupported(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::wrong(param, message).with_code("unsupported_parameter")
    }

    /// A fault of the server.
    pub(crate) fn server(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), kind: "server_error", param: None, code: None }
    }

    /// The queue has no place.
    pub(crate) fn queue_full(limit: usize) -> Self {
        Self {
            kind: "rate_limit_error",
            code: Some("rate_limit_exceeded"),
            ..Self::server(StatusCode::TOO_MANY_REQUESTS, format!("The queue is full ({limit} requests)."))
        }
    }

    /// More tokens than the model's context has.
    pub(crate) fn context(param: &str, context: usize, needed: usize) -> Self {
        let message = format!("This model's context is {context} tokens; the request needs {needed}.");
        Self::wrong(param, message).with_code("context_length_exceeded")
    }

    /// What the text library or the engine refuses of a request, in `param`.
    pub(crate) fn of_text(param: &str, error: &InferError) -> Self {
        let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
        let words = causes.fold(error.to_string(), |words, cause| format!("{words}: {cause}"));
        match error {
            InferError::TextLength { .. } => Self::wrong(param, words).with_code("string_above_max_length"),
            _ => Self::wrong(param, words),
        }
    }

    /// As the API writes it.
    pub(crate) fn to_json(&self) -> Value {
        let Self { message, kind, param, code, .. } = self;
        json!({"error": {"message": message, "type": kind, "param": param, "code": code}})
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = json_response(self.status, &self.to_json());
        if matches!(self.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        response
    }
}
