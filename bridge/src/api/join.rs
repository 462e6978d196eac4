//! `POST /api/v1/join`: exchanges a name, and the moderator key if there is one, for an access token of a room.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use ratssaal_process::http::Peer;
use serde::{Deserialize, Serialize};

use super::Api;
use super::error::ApiError;
use super::names::{self, Handle};
use super::rooms::{room_name, unreadable, within};
use crate::token::{Claims, VideoGrants};

/// How long the token opens the signalling; a session gets fresh ones there.
const TOKEN_TTL: Duration = Duration::from_secs(600);

#[derive(Deserialize)]
pub(super) struct JoinBody {
    room: String,
    name: String,
    key: Option<String>,
    /// From an earlier answer to this browser: it comes back as the same guest.
    identity: Option<String>,
}

#[derive(Serialize)]
struct JoinAnswer {
    token: String,
    room: String,
    /// A secret of this browser, see [`Handle`]; the identity that others see is in the token.
    identity: String,
    moderator: bool,
}

pub(super) async fn join(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    body: Result<Json<JoinBody>, JsonRejection>,
) -> Response {
    let outcome = try_join(&api, peer, body).await;
    api.metrics.count("join", outcome.as_ref().map_or_else(|error| error.code, |_| "ok"));
    outcome.map_or_else(ApiError::into_response, |answer| {
        ([(header::CACHE_CONTROL, "no-store")], Json(answer)).into_response()
    })
}

async fn try_join(api: &Api, peer: Peer, body: Result<Json<JoinBody>, JsonRejection>) -> Result<JoinAnswer, ApiError> {
    within(&api.limits.join, peer)?;
    let Json(request) = body.map_err(|error| unreadable(&error))?;
    let room = room_name(&request.room)?;
    let message = "a name has 1 to 64 characters that can be seen";
    let name = names::display(&request.name).ok_or_else(|| bad_request("bad_name", message))?;
    let moderator = match &request.key {
        None => false,
        Some(key) => {
            let verified = api.keys.verify_moderator_key(key, &room);
            verified.map_err(|error| ApiError::new(StatusCode::FORBIDDEN, "invalid_key", error.to_string()))?;
            true
        }
    };
    let handle = match request.identity.as_deref() {
        None => Handle::random(),
        Some(text) => {
            let message = "`identity` is what an earlier answer of this server said; leave it out to be a new guest";
            Handle::parse(text).ok_or_else(|| bad_request("bad_identity", message))?
        }
    };
    let identity = handle.identity(&room);
    check_room(api, &room, &identity, moderator).await?;
    let claims = Claims {
        identity,
        name,
        grants: VideoGrants {
            room: room.clone(),
            room_join: true,
            // The opener's room may have ended meanwhile: its key opens it again.
            room_create: moderator,
            room_admin: moderator,
            can_publish: Some(true),
            can_subscribe: Some(true),
            can_publish_data: Some(true),
            can_update_own_metadata: Some(true),
            ..VideoGrants::default()
        },
        ..Claims::default()
    };
    let token = api.keys.mint(&claims, TOKEN_TTL);
    Ok(JoinAnswer { token, room, identity: handle.as_str().to_owned(), moderator })
}

/// Whether this guest may come into the room as it is now. The room itself asks again when it joins.
async fn check_room(api: &Api, room: &str, identity: &str, moderator: bool) -> Result<(), ApiError> {
    if api.rooms.get(room).is_some_and(|room| room.state().is_revoked(identity)) {
        let message = "a moderator has removed you from this meeting";
        return Err(ApiError::new(StatusCode::FORBIDDEN, "banned", message));
    }
    if !api.open_rooms && !moderator && !api.rooms.is_open(room).await? {
        let message = "this meeting is not open; check the link or wait until it begins";
        return Err(ApiError::new(StatusCode::NOT_FOUND, "no_such_room", message));
    }
    Ok(())
}

fn bad_request(code: &'static str, message: &str) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, code, message)
}
