//! The longer responses: what a client is told when it joins, comes back, or has to go.

use std::time::{SystemTime, UNIX_EPOCH};

use livekit_protocol::leave_request::Action;
use livekit_protocol::request_response::{Reason, Request};
use livekit_protocol::signal_response::Message;
use livekit_protocol::{
    DisconnectReason, JoinResponse, LeaveRequest, ReconnectResponse, RequestResponse, ServerInfo, server_info,
};

use super::request::Path;
use crate::room::{Joined, Refusal};

/// What we announce as our version. Clients read from it what a server can do: from 1.8.0 on remote procedure calls; above
/// 1.13.6 `livekit-client` 2.23 may send VP9 and AV1 as simulcast, which is not forwarded yet.
const PROTOCOL_VERSION: &str = "1.9.0";
/// The protocol number of the client protocol that this server speaks.
const PROTOCOL: i32 = 16;
/// How often a client sends a ping, seconds.
const PING_INTERVAL: i32 = 5;
/// After how long without an answer it gives the WebSocket up, and we after how long without a ping; seconds.
pub(crate) const PING_TIMEOUT: i32 = 15;

fn server_info() -> ServerInfo {
    ServerInfo {
        edition: server_info::Edition::Standard.into(),
        version: PROTOCOL_VERSION.to_owned(),
        protocol: PROTOCOL,
        ..ServerInfo::default()
    }
}

/// The first message to somebody who joined.
pub(crate) fn join(joined: &Joined, path: Path) -> Message {
    let server_info = server_info();
    let permission = joined.me.permission.as_ref();
    Message::Join(JoinResponse {
        room: Some(joined.info.clone()),
        participant: Some(joined.me.clone()),
        other_participants: joined.others.clone(),
        server_version: server_info.version.clone(),
        subscriber_primary: path == Path::V0,
        ping_interval: PING_INTERVAL,
        ping_timeout: PING_TIMEOUT,
        server_info: Some(server_info),
        // With end-to-end encryption, frames that end in this are known to come from a server. We inject none.
        sif_trailer: joined.info.sid.clone().into_bytes(),
        enabled_publish_codecs: joined.info.enabled_codecs.clone(),
        fast_publish: permission.is_some_and(|permission| permission.can_publish),
        ..JoinResponse::default()
    })
}

/// The first message to somebody who came back; `last_message_seq` is the last reliable data packet we got from it.
pub(crate) fn reconnect(last_message_seq: u32) -> Message {
    Message::Reconnect(ReconnectResponse {
        server_info: Some(server_info()),
        last_message_seq,
        ..ReconnectResponse::default()
    })
}

/// The last message.
pub(crate) fn leave(reason: DisconnectReason, action: Action) -> Message {
    Message::Leave(LeaveRequest {
        can_reconnect: action != Action::Disconnect,
        reason: reason.into(),
        action: action.into(),
        regions: None,
    })
}

/// The outcome of a request.
pub(crate) fn response(request_id: u32, reason: Reason, message: String, request: Option<Request>) -> Message {
    Message::RequestResponse(RequestResponse { request_id, reason: reason.into(), message, request })
}

/// A refusal in the protocol's words.
pub(crate) fn reason(refusal: &Refusal) -> Reason {
    match refusal {
        Refusal::NotAllowed { .. } | Refusal::RemoteUnmute | Refusal::Revoked => Reason::NotAllowed,
        Refusal::NoSuchParticipant | Refusal::NoSuchTrack => Reason::NotFound,
        Refusal::TooLarge { .. } | Refusal::TooManyRooms => Reason::LimitExceeded,
        Refusal::Invalid { .. } => Reason::InvalidRequest,
        Refusal::Ended | Refusal::Unavailable { .. } => Reason::UnclassifiedError,
    }
}

/// Unix milliseconds.
pub(crate) fn unix_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}
