//! Errors of our own API: `{"error": code, "message": what to do}`.

use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};

use crate::room::Refusal;

/// An error as the web client gets it; it has a text of its own for each code.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ApiError {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) message: String,
    /// Seconds after which the same request may succeed.
    pub(super) retry_after: Option<u64>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), retry_after: None }
    }

    pub(super) fn retry_after(self, seconds: u64) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unavailable { retry_after_ms } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", refusal.to_string())
                    .retry_after(retry_after_ms.div_ceil(1000))
            }
            Refusal::TooManyRooms => Self::new(StatusCode::SERVICE_UNAVAILABLE, "no_capacity", refusal.to_string()),
            _ => Self::new(StatusCode::BAD_REQUEST, "bad_request", refusal.to_string()),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = serde_json::json!({ "error": self.code, "message": self.message });
        let mut response = (self.status, [(header::CACHE_CONTROL, "no-store")], axum::Json(body)).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

pub(super) async fn no_such_endpoint() -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        "no_such_endpoint",
        "there is no such endpoint; see the documentation of the API",
    )
}
