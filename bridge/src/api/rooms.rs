//! `POST /api/v1/rooms`: opens a room and makes whoever opened it its moderator.

use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use ratssaal_process::http::Peer;
use serde::{Deserialize, Serialize};

use super::Api;
use super::error::ApiError;
use super::names;
use super::rate::Limiter;

/// How long a moderator key is valid: the meeting and its afternoon.
const MODERATOR_TTL: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Deserialize)]
pub(super) struct OpenRequest {
    room: Option<String>,
}

#[derive(Serialize)]
struct Opened {
    room: String,
    key: String,
}

pub(super) async fn open(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    body: Result<Json<OpenRequest>, JsonRejection>,
) -> Response {
    let outcome = try_open(&api, peer, body).await;
    api.metrics.count("rooms", outcome.as_ref().map_or_else(|error| error.code, |_| "ok"));
    outcome.map_or_else(ApiError::into_response, |opened| {
        (StatusCode::CREATED, [(header::CACHE_CONTROL, "no-store")], Json(opened)).into_response()
    })
}

async fn try_open(api: &Api, peer: Peer, body: Result<Json<OpenRequest>, JsonRejection>) -> Result<Opened, ApiError> {
    if !api.open_rooms {
        let message = "rooms on this server are opened by its organisation only; use the link of an invitation";
        return Err(ApiError::new(StatusCode::FORBIDDEN, "rooms_closed", message));
    }
    within(&api.limits.open, peer)?;
    let Json(request) = body.map_err(|error| unreadable(&error))?;
    let room = match request.room.as_deref() {
        Some(text) => room_name(text)?,
        None => names::fresh_room(),
    };
    if api.rooms.create(&room, None, "", true).await?.is_none() {
        let message = "a room of this name is open already; join it or choose another name";
        return Err(ApiError::new(StatusCode::CONFLICT, "room_exists", message));
    }
    let key = api.keys.moderator_key(&room, MODERATOR_TTL);
    Ok(Opened { room, key })
}

/// A room's name in its one form.
pub(super) fn room_name(text: &str) -> Result<String, ApiError> {
    let message = "a room's name has 1 to 64 letters, digits and hyphens";
    names::room(text).ok_or_else(|| ApiError::new(StatusCode::BAD_REQUEST, "bad_room", message))
}

/// Takes one call of this network.
pub(super) fn within(limiter: &Limiter, peer: Peer) -> Result<(), ApiError> {
    limiter.take(peer.client, Instant::now()).map_err(|wait| {
        let seconds = wait.as_secs() + 1;
        let message = format!("too many requests from this network; try again in {seconds} s");
        ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", message).retry_after(seconds)
    })
}

/// A body that is too long, no JSON, or not what was asked for.
pub(super) fn unreadable(rejection: &JsonRejection) -> ApiError {
    let status = match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => StatusCode::PAYLOAD_TOO_LARGE,
        _ => StatusCode::BAD_REQUEST,
    };
    let message = format!("the request cannot be read ({}); send a JSON object as documented", rejection.body_text());
    ApiError::new(status, "bad_request", message)
}
