//! Answers, and errors as answers.

use axum::{
    body::Bytes,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::json;

use crate::ViewError;

/// Raw system errors of exhausted descriptors: of the process, and of the system (Linux, macOS).
const NO_DESCRIPTORS: [i32; 2] = [24, 23];

/// What a page answers.
pub(crate) type Answer = Result<Response, ViewError>;

impl IntoResponse for ViewError {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::Query { .. } | Self::TooManyColumns { .. } => StatusCode::BAD_REQUEST,
            Self::NoStep { .. } | Self::NoSuchRun { .. } => StatusCode::NOT_FOUND,
            Self::Read { source, .. }
                if source.raw_os_error().is_some_and(|code| NO_DESCRIPTORS.contains(&code)) =>
            {
                StatusCode::SERVICE_UNAVAILABLE
            }
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        json_with(status, &json!({"error": self.to_string()}))
    }
}

/// The answer to a path that no page has.
pub(super) async fn nothing_here() -> Response {
    json_with(StatusCode::NOT_FOUND, &json!({"error": "there is nothing here"}))
}

/// The result of work that reads files, which one of few threads does.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ViewError> + Send + 'static,
) -> Result<T, ViewError> {
    tokio::task::spawn_blocking(work).await.map_err(|source| ViewError::Work { source })?
}

/// The same, as JSON.
pub(crate) async fn blocking_json<T: Serialize>(
    work: impl FnOnce() -> Result<T, ViewError> + Send + 'static,
) -> Answer {
    blocking(|| Ok(json_with(StatusCode::OK, &work()?))).await
}

/// A value as JSON.
pub(crate) fn json_with(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        // Without the room that the text grew into: what is held for slow readers is what is counted.
        Ok(body) => {
            (status, [(header::CONTENT_TYPE, "application/json")], Bytes::from(body.into_boxed_slice()))
                .into_response()
        }
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, e.to_string()).into_response(),
    }
}
