//! What a room says to the sessions of its participants ([`ToSession`]).

use std::sync::Arc;

use bytes::Bytes;
use livekit_protocol::leave_request::Action;
use livekit_protocol::{ConnectionQualityInfo, DisconnectReason, ParticipantInfo, ParticipantPermission, SpeakerInfo};

use super::ids::{ParticipantSid, RoomName, TrackSid};
use crate::media::control::{Channel, Codec};

/// A message from the room to one participant's session. What many get is shared behind an `Arc`.
///
/// When the channel closes without a [`ToSession::Leave`] before, the session was too slow (1024 messages waited) and is
/// out of the room already.
#[derive(Clone, PartialEq, Debug)]
pub enum ToSession {
    /// Participants whose state changed (`update`); somebody who left has state `DISCONNECTED`. May contain the
    /// receiver itself.
    Participants(Arc<[ParticipantInfo]>),
    /// The room changed (`room_update`).
    Room(Arc<livekit_protocol::Room>),
    /// A track that this participant may subscribe to has media on this bridge. Never one of its own.
    TrackAvailable(TrackSid),
    /// The opposite: unpublished, or not permitted any more.
    TrackUnavailable(TrackSid),
    /// Who speaks, as changes (`speakers_changed`): somebody who fell silent comes once with `active` false.
    Speakers(Arc<[SpeakerInfo]>),
    /// Changed connection qualities (`connection_quality`).
    Quality(Arc<[ConnectionQualityInfo]>),
    /// One of this participant's own tracks was muted by somebody else (`mute`); the media is stopped at the server too.
    SetMuted {
        /// Which.
        track: TrackSid,
        /// Always true today: nobody is unmuted by somebody else.
        muted: bool,
    },
    /// The server API changed what this participant is subscribed to.
    Subscription {
        /// Which tracks.
        tracks: Vec<TrackSid>,
        /// To or from.
        subscribe: bool,
    },
    /// What this participant may do changed. (Its client sees it in [`ToSession::Participants`].)
    Permission(ParticipantPermission),
    /// A publisher changed whether this participant may have a track (`subscription_permission_update`); followed by
    /// [`ToSession::TrackAvailable`] or [`ToSession::TrackUnavailable`].
    SubscriptionPermission {
        /// Whose track.
        publisher: ParticipantSid,
        /// Which.
        track: TrackSid,
        /// May or may not.
        allowed: bool,
    },
    /// One of this participant's own tracks was unpublished by the room (`track_unpublished`).
    TrackUnpublished(TrackSid),
    /// Somebody gets one of this participant's own tracks now (`track_subscribed`). May come more than once per track.
    TrackSubscribed(TrackSid),
    /// Somebody who gets one of this participant's own tracks can decode it in this codec only. May come more than once.
    CodecWanted {
        /// Which track.
        track: TrackSid,
        /// The codec.
        codec: Codec,
    },
    /// A data packet for this participant, encoded.
    Data {
        /// Over which channel.
        channel: Channel,
        /// `livekit.DataPacket`.
        bytes: Bytes,
    },
    /// This bridge is drained: the client shall go to another one.
    Move {
        /// The bridge that expects it to go on with its session there; `None`: it can only join anew.
        to: Option<String>,
    },
    /// The session goes on at another bridge: here it is over. The participant stays in the room.
    MovedAway,
    /// The server API moves this participant to another room: its client joins anew, there.
    MoveTo {
        /// That room.
        room: RoomName,
    },
    /// The stay is over; nothing follows. The participant is out of the room already.
    Leave {
        /// Why.
        reason: DisconnectReason,
        /// What the client shall do.
        action: Action,
    },
}
