//! Twirp (v7): protobuf or JSON in, the same out, errors as JSON with the code's HTTP status.
//! <https://twitchtv.github.io/twirp/docs/spec_v7.html>

use axum::body::Bytes;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use prost::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::room::Refusal;

/// The codes of the specification that we use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Code {
    InvalidArgument,
    Malformed,
    NotFound,
    AlreadyExists,
    BadRoute,
    PermissionDenied,
    Unauthenticated,
    FailedPrecondition,
    ResourceExhausted,
    Unimplemented,
    Internal,
    Unavailable,
    DeadlineExceeded,
    Aborted,
}

/// All of them.
const CODES: [Code; 14] = [
    Code::InvalidArgument,
    Code::Malformed,
    Code::NotFound,
    Code::AlreadyExists,
    Code::BadRoute,
    Code::PermissionDenied,
    Code::Unauthenticated,
    Code::FailedPrecondition,
    Code::ResourceExhausted,
    Code::Unimplemented,
    Code::Internal,
    Code::Unavailable,
    Code::DeadlineExceeded,
    Code::Aborted,
];

impl Code {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::InvalidArgument => "invalid_argument",
            Self::Malformed => "malformed",
            Self::NotFound => "not_found",
            Self::AlreadyExists => "already_exists",
            Self::BadRoute => "bad_route",
            Self::PermissionDenied => "permission_denied",
            Self::Unauthenticated => "unauthenticated",
            Self::FailedPrecondition => "failed_precondition",
            Self::ResourceExhausted => "resource_exhausted",
            Self::Unimplemented => "unimplemented",
            Self::Internal => "internal",
            Self::Unavailable => "unavailable",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::Aborted => "aborted",
        }
    }

    /// The code of this name, as another bridge wrote it.
    pub(super) fn of_name(name: &str) -> Self {
        CODES.into_iter().find(|code| code.name() == name).unwrap_or(Self::Internal)
    }

    fn status(self) -> StatusCode {
        match self {
            Self::InvalidArgument | Self::Malformed => StatusCode::BAD_REQUEST,
            Self::NotFound | Self::BadRoute => StatusCode::NOT_FOUND,
            Self::PermissionDenied => StatusCode::FORBIDDEN,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::FailedPrecondition => StatusCode::PRECONDITION_FAILED,
            Self::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
            Self::Unimplemented => StatusCode::NOT_IMPLEMENTED,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::DeadlineExceeded => StatusCode::REQUEST_TIMEOUT,
            Self::AlreadyExists | Self::Aborted => StatusCode::CONFLICT,
        }
    }
}

/// An error as the client gets it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct TwirpError {
    pub(super) code: Code,
    pub(super) message: String,
}

impl TwirpError {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl From<Refusal> for TwirpError {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal {
            Refusal::NotAllowed { .. } | Refusal::Revoked => Code::PermissionDenied,
            Refusal::NoSuchParticipant | Refusal::NoSuchTrack | Refusal::Ended => Code::NotFound,
            Refusal::TooLarge { .. } | Refusal::Invalid { .. } => Code::InvalidArgument,
            Refusal::RemoteUnmute => Code::FailedPrecondition,
            Refusal::TooManyRooms => Code::ResourceExhausted,
            Refusal::Unavailable { .. } => Code::Unavailable,
        };
        Self::new(code, refusal.to_string())
    }
}

impl IntoResponse for TwirpError {
    fn into_response(self) -> Response {
        let body = serde_json::json!({ "code": self.code.name(), "msg": self.message });
        (self.code.status(), axum::Json(body)).into_response()
    }
}

/// The two encodings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Encoding {
    Protobuf,
    Json,
}

impl Encoding {
    /// By the request's `Content-Type`.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, TwirpError> {
        let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        match value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
            "application/protobuf" => Ok(Self::Protobuf),
            "application/json" => Ok(Self::Json),
            _ => {
                Err(TwirpError::new(Code::BadRoute, "send `Content-Type: application/protobuf` or `application/json`"))
            }
        }
    }

    pub(super) fn read<T: Message + Default + DeserializeOwned>(self, body: &Bytes) -> Result<T, TwirpError> {
        match self {
            Self::Protobuf => T::decode(body.clone()).map_err(|error| error.to_string()),
            Self::Json => serde_json::from_slice(body).map_err(|error| error.to_string()),
        }
        .map_err(|error| TwirpError::new(Code::Malformed, format!("the body cannot be read: {error}")))
    }

    pub(super) fn write<T: Message + Serialize>(self, message: &T) -> Result<Response, TwirpError> {
        let (mime, body) = match self {
            Self::Protobuf => ("application/protobuf", message.encode_to_vec()),
            Self::Json => {
                let body = serde_json::to_vec(message);
                ("application/json", body.map_err(|error| TwirpError::new(Code::Internal, error.to_string()))?)
            }
        };
        Ok(([(header::CONTENT_TYPE, mime)], body).into_response())
    }
}

/// Another HTTP method than POST, or another path.
pub(super) async fn bad_route() -> TwirpError {
    TwirpError::new(
        Code::BadRoute,
        "there is no such method: POST to /twirp/livekit.RoomService/ and the method's name",
    )
}
