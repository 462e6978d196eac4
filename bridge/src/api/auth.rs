//! Who calls the server API: the bearer token of a request and the grants a call needs.

use http::{HeaderMap, header};

use super::twirp::{Code, TwirpError};
use crate::token::{Claims, Keys};

/// Verifies the `Authorization: Bearer …` of a request.
pub(super) fn claims(keys: &Keys, headers: &HeaderMap) -> Result<Claims, TwirpError> {
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some((scheme, token)) = value.and_then(|value| value.split_once(' ')) else {
        return Err(TwirpError::new(Code::Unauthenticated, "send `Authorization: Bearer` and an access token"));
    };
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(TwirpError::new(Code::Unauthenticated, "send the access token with the scheme `Bearer`"));
    }
    keys.verify(token.trim()).map_err(|error| TwirpError::new(Code::Unauthenticated, error.to_string()))
}

/// The grant `roomCreate`.
pub(super) fn may_create(claims: &Claims) -> Result<(), TwirpError> {
    need(claims.grants.room_create, "roomCreate")
}

/// The grant `roomList`.
pub(super) fn may_list(claims: &Claims) -> Result<(), TwirpError> {
    need(claims.grants.room_list, "roomList")
}

/// The grant `roomAdmin` for this room.
pub(super) fn may_administer(claims: &Claims, room: &str) -> Result<(), TwirpError> {
    need(claims.grants.room_admin && claims.grants.room == room, "roomAdmin and this room")
}

/// `roomCreate`, or `roomAdmin` for this room: a moderator ends its own meeting.
pub(super) fn may_end(claims: &Claims, room: &str) -> Result<(), TwirpError> {
    let moderator = claims.grants.room_admin && claims.grants.room == room;
    need(claims.grants.room_create || moderator, "roomCreate, or roomAdmin and this room")
}

/// `roomAdmin` for this room and `destinationRoom` for the other.
pub(super) fn may_move(claims: &Claims, room: &str, destination: &str) -> Result<(), TwirpError> {
    may_administer(claims, room)?;
    need(claims.grants.destination_room == destination && !destination.is_empty(), "destinationRoom for that room")
}

fn need(granted: bool, grant: &str) -> Result<(), TwirpError> {
    if granted {
        return Ok(());
    }
    Err(TwirpError::new(Code::PermissionDenied, format!("the token does not grant {grant}: use one that does")))
}
