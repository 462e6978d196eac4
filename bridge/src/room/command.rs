//! What somebody wants to happen in a room ([`Command`]), who that is ([`Actor`]), and why not ([`Refusal`]).

use std::collections::BTreeMap;

use livekit_protocol::{DisconnectReason, ParticipantPermission, SubscriptionPermission, TrackInfo};

use super::ids::{Identity, ParticipantSid, RoomSid, TrackSid};
use super::limits;
use super::state::Presence;

/// Who asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Actor {
    /// A participant, about itself and its own tracks.
    Participant(ParticipantSid),
    /// Somebody with the right to administer this room: the server API with `roomAdmin` or `roomCreate`.
    Admin,
    /// This bridge, about what it sees of its own participants: joining, progress, leaving, expiry.
    Bridge,
}

/// Somebody who is about to join.
#[derive(Clone, PartialEq, Debug)]
pub struct Newcomer {
    /// The fresh session id.
    pub sid: ParticipantSid,
    /// Replaces whoever has the same.
    pub identity: Identity,
    /// Display name.
    pub name: String,
    /// Opaque to us.
    pub metadata: String,
    /// Opaque to us.
    pub attributes: BTreeMap<String, String>,
    /// `livekit.ParticipantInfo.Kind`.
    pub kind: i32,
    /// From the token's grants.
    pub permission: ParticipantPermission,
    /// `ClientInfo.client_protocol`.
    pub client_protocol: i32,
    /// `ClientInfo.capabilities`.
    pub capabilities: Vec<i32>,
    /// When the token was issued, Unix milliseconds; a revocation later than this refuses it. 0 when the token does not say.
    pub token_issued_ms: i64,
    /// Which bridge it sits on.
    pub bridge: String,
    /// The allocator's reservation this stay turns into a seat.
    pub join_id: String,
    /// The opening of the room that it is forwarded from; `None` for somebody whose client comes.
    pub forwarded_from: Option<RoomSid>,
}

/// What shall happen.
#[derive(Clone, PartialEq, Debug)]
pub enum Command {
    /// Come in; an older stay of the same identity ends.
    Join(Box<Newcomer>),
    /// A participant's connection got further.
    Progress {
        /// Who.
        participant: ParticipantSid,
        /// How far; never backwards.
        presence: Presence,
    },
    /// A participant is gone, its tracks with it.
    Leave {
        /// Who.
        participant: ParticipantSid,
        /// Why, told to the others.
        reason: DisconnectReason,
    },
    /// A participant sits on another bridge from now on; its stay and its tracks go on.
    Move {
        /// Who.
        participant: ParticipantSid,
        /// That bridge.
        bridge: String,
        /// The allocator's reservation that becomes its seat there.
        join_id: String,
    },
    /// A track was added and has an m-section: from now on the others see it.
    Publish {
        /// Whose.
        participant: ParticipantSid,
        /// The track with its `sid` (see [`TrackSid::random`]).
        track: Box<TrackInfo>,
    },
    /// A published track's description changed (layers, codecs, features). Sid, type, source and mute state stay.
    UpdateTrack {
        /// The new description.
        track: Box<TrackInfo>,
    },
    /// A track is gone.
    Unpublish {
        /// Which.
        track: TrackSid,
    },
    /// Mute or unmute a track. Its publisher may do both, an administrator may only mute.
    Mute {
        /// Which.
        track: TrackSid,
        /// The new state.
        muted: bool,
    },
    /// Change what a participant says about itself; `None` leaves a field as it is.
    Describe {
        /// Who.
        participant: ParticipantSid,
        /// Display name.
        name: Option<String>,
        /// Opaque to us.
        metadata: Option<String>,
        /// Only the keys to change; an empty value removes the key.
        attributes: BTreeMap<String, String>,
    },
    /// Change what a participant may do. Tracks it may not publish any more are unpublished.
    Permit {
        /// Who.
        participant: ParticipantSid,
        /// The new permission, complete.
        permission: ParticipantPermission,
    },
    /// Who may subscribe to a publisher's tracks.
    AllowSubscribers {
        /// The publisher.
        participant: ParticipantSid,
        /// The new permission, complete.
        permission: SubscriptionPermission,
    },
    /// Throw somebody out.
    Remove {
        /// Who.
        identity: Identity,
        /// Tokens of this identity issued before this instant (Unix milliseconds) do not open this room any more.
        revoke_before_ms: Option<i64>,
    },
    /// Change the room's metadata.
    DescribeRoom {
        /// Opaque to us.
        metadata: String,
    },
    /// End the room for everyone.
    End {
        /// Why, told to those present.
        reason: DisconnectReason,
    },
}

/// Why a command was not carried out. Nothing of it happened.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// The actor lacks the right.
    #[error("not allowed to {what}; ask for a token or a permission that grants it")]
    NotAllowed {
        /// What was tried.
        what: &'static str,
    },
    /// There is no such participant in the room.
    #[error("no such participant in this room; list the participants for who is there")]
    NoSuchParticipant,
    /// There is no such track in the room.
    #[error("no such track in this room; it may just have been unpublished")]
    NoSuchTrack,
    /// A field is longer than we keep.
    #[error("{what} is too large: at most {limit} are kept")]
    TooLarge {
        /// Which field, with its unit.
        what: &'static str,
        /// The limit in that unit.
        limit: usize,
    },
    /// A field makes no sense.
    #[error("{what}")]
    Invalid {
        /// What is wrong and what would be right.
        what: &'static str,
    },
    /// An administrator tried to unmute somebody.
    #[error("nobody is unmuted by somebody else; ask the participant to do it")]
    RemoteUnmute,
    /// The token was revoked by an administrator.
    #[error("this token was revoked for this room; ask for a new one")]
    Revoked,
    /// There are as many open rooms as there may be.
    #[error("as many rooms are open as may be; try again when one has ended")]
    TooManyRooms,
    /// The room is over.
    #[error("the room has ended; join again to open it anew")]
    Ended,
    /// The room's log cannot be written right now.
    #[error("the room's log is unavailable; try again in {retry_after_ms} ms")]
    Unavailable {
        /// Milliseconds.
        retry_after_ms: u64,
    },
}

impl Refusal {
    /// A field longer than [`limits`] allow.
    pub(crate) fn too_large(what: &'static str, limit: usize) -> Self {
        Self::TooLarge { what, limit }
    }

    /// The answer while the allocator is away.
    pub(crate) fn unavailable() -> Self {
        Self::Unavailable { retry_after_ms: limits::RETRY_AFTER_MS }
    }
}
