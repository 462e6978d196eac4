//! What is true in a room after some entry of its log: [`State`]. Only `apply` changes it; everything here reads.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use livekit_protocol::participant_info::{KindDetail, State as WireState};
use livekit_protocol::{
    Codec, DisconnectReason, ParticipantInfo, ParticipantPermission, SubscriptionPermission, TrackInfo, TrackSource,
};

use super::ids::{Identity, ParticipantSid, RoomName, RoomSid, TrackSid};

/// How far a participant's connection has got.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Presence {
    /// Its WebSocket is open.
    Joining,
    /// Its first offer or answer has arrived. Bridges do not log that any more: nobody waits for it, and each entry is told
    /// to everybody.
    Joined,
    /// Media can flow.
    Active,
}

impl Presence {
    pub(super) fn wire(self) -> WireState {
        match self {
            Self::Joining => WireState::Joining,
            Self::Joined => WireState::Joined,
            Self::Active => WireState::Active,
        }
    }

    pub(super) fn from_wire(state: i32) -> Option<Self> {
        match WireState::try_from(state).ok()? {
            WireState::Joining => Some(Self::Joining),
            WireState::Joined => Some(Self::Joined),
            WireState::Active => Some(Self::Active),
            WireState::Disconnected => None,
        }
    }
}

/// The attribute that makes a participant an interpreter, with any value but the empty one, such as the language.
pub const INTERPRETER: &str = "ratssaal.interpreter";

/// A participant who is in the room.
#[derive(Clone, PartialEq, Debug)]
pub struct Participant {
    /// This stay.
    pub sid: ParticipantSid,
    /// Unique among those present.
    pub identity: Identity,
    /// Display name.
    pub name: String,
    /// Opaque to us.
    pub metadata: String,
    /// Opaque to us.
    pub attributes: BTreeMap<String, String>,
    /// `livekit.ParticipantInfo.Kind`.
    pub kind: i32,
    /// What it may do.
    pub permission: ParticipantPermission,
    /// How far its connection has got.
    pub presence: Presence,
    /// Unix milliseconds.
    pub joined_at_ms: i64,
    /// Grows with every change.
    pub version: u32,
    /// `ClientInfo.client_protocol`.
    pub client_protocol: i32,
    /// `ClientInfo.capabilities`.
    pub capabilities: Vec<i32>,
    /// The bridge it sits on.
    pub bridge: String,
    /// The allocator's reservation this stay came from.
    pub join_id: String,
    /// The opening of the room that it is forwarded from: no client of its own is in this one.
    pub forwarded_from: Option<RoomSid>,
    /// The bridge it sat on before it was moved here, and the entry that moved it.
    pub came_from: Option<(String, u64)>,
    /// In the order of publication.
    pub tracks: Vec<Arc<TrackInfo>>,
    /// Who may subscribe to its tracks; `None` is everyone.
    pub subscribers: Option<Arc<SubscriptionPermission>>,
}

impl Participant {
    /// Whether it sat on this bridge after entry `sequence`, as far back as its last move.
    #[must_use]
    pub fn sat_on(&self, bridge: &str, sequence: u64) -> bool {
        match &self.came_from {
            Some((before, moved)) if sequence < *moved => before == bridge,
            _ => self.bridge == bridge,
        }
    }

    /// Whether it interprets: its sound is forwarded however many others are louder.
    #[must_use]
    pub fn interprets(&self) -> bool {
        self.attributes.get(INTERPRETER).is_some_and(|value| !value.is_empty())
    }

    /// As the protocol shows it.
    #[must_use]
    pub fn info(&self) -> ParticipantInfo {
        ParticipantInfo {
            sid: self.sid.to_string(),
            identity: self.identity.to_string(),
            state: self.presence.wire() as i32,
            tracks: self.tracks.iter().map(|track| TrackInfo::clone(track)).collect(),
            metadata: self.metadata.clone(),
            joined_at: self.joined_at_ms / 1000,
            joined_at_ms: self.joined_at_ms,
            name: self.name.clone(),
            version: self.version,
            permission: Some(self.permission.clone()),
            is_publisher: !self.tracks.is_empty(),
            kind: self.kind,
            attributes: self.attributes.clone().into_iter().collect(),
            client_protocol: self.client_protocol,
            capabilities: self.capabilities.clone(),
            kind_details: self.forwarded_from.iter().map(|_| KindDetail::Forwarded as i32).collect(),
            ..ParticipantInfo::default()
        }
    }

    /// As the protocol tells the others that it has gone (or become hidden).
    #[must_use]
    pub fn farewell(&self, reason: DisconnectReason) -> ParticipantInfo {
        ParticipantInfo {
            state: WireState::Disconnected as i32,
            tracks: Vec::new(),
            is_publisher: false,
            version: self.version.saturating_add(1),
            disconnect_reason: reason as i32,
            ..self.info()
        }
    }

    /// Whether it may publish from this source.
    #[must_use]
    pub fn may_publish(&self, source: TrackSource) -> bool {
        let sources = &self.permission.can_publish_sources;
        self.permission.can_publish
            && !self.permission.hidden
            && (sources.is_empty() || sources.contains(&(source as i32)))
    }

    /// One of its tracks.
    #[must_use]
    pub fn track(&self, sid: &TrackSid) -> Option<&Arc<TrackInfo>> {
        self.tracks.iter().find(|track| track.sid == sid.as_str())
    }

    /// Whether this publisher lets `subscriber` have `track` (`subscription_permission`).
    fn lets(&self, subscriber: &Participant, track: &TrackSid) -> bool {
        let Some(permission) = &self.subscribers else { return true };
        permission.all_participants
            || permission.track_permissions.iter().any(|allowed| {
                let named = if allowed.participant_identity.is_empty() {
                    allowed.participant_sid == subscriber.sid.as_str()
                } else {
                    allowed.participant_identity == subscriber.identity.as_str()
                };
                named && (allowed.all_tracks || allowed.track_sids.iter().any(|sid| sid == track.as_str()))
            })
    }
}

/// What the allocator fixes when a room opens.
#[derive(Clone, PartialEq, Debug)]
pub struct RoomFacts {
    /// This life of the room.
    pub sid: RoomSid,
    /// What it is called.
    pub name: RoomName,
    /// Unix milliseconds.
    pub created_ms: i64,
    /// How long the allocator keeps it before the first participant, milliseconds.
    pub empty_timeout_ms: u64,
    /// How long the allocator keeps it after the last has left, milliseconds.
    pub departure_timeout_ms: u64,
    /// 0 is no limit; the allocator holds it.
    pub max_participants: u32,
}

/// A room after entry [`State::sequence`] of its log.
#[derive(Clone, PartialEq, Debug)]
pub struct State {
    pub(super) sequence: u64,
    pub(super) room: RoomFacts,
    pub(super) metadata: String,
    pub(super) participants: BTreeMap<ParticipantSid, Arc<Participant>>,
    pub(super) identities: BTreeMap<Identity, ParticipantSid>,
    pub(super) owners: BTreeMap<TrackSid, ParticipantSid>,
    /// Identity and Unix milliseconds before which its tokens are void, oldest revocation first.
    pub(super) revocations: Vec<(Identity, i64)>,
    pub(super) ended: Option<DisconnectReason>,
    pub(super) keeper: String,
    /// Entries of a kind that this version does not know, with their sequence, for a neighbour that does.
    pub(super) carried: Vec<(u64, Bytes)>,
}

impl State {
    /// The state before the first entry.
    #[must_use]
    pub fn new(room: RoomFacts) -> Self {
        Self {
            sequence: 0,
            room,
            metadata: String::new(),
            participants: BTreeMap::new(),
            identities: BTreeMap::new(),
            owners: BTreeMap::new(),
            revocations: Vec::new(),
            ended: None,
            keeper: String::new(),
            carried: Vec::new(),
        }
    }

    /// Ends the room: nobody is in it any more.
    pub(super) fn end(&mut self, reason: DisconnectReason) {
        self.ended = Some(reason);
        self.participants.clear();
        self.identities.clear();
        self.owners.clear();
    }

    /// The number of the last applied entry; 0 before the first.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The room's facts.
    #[must_use]
    pub fn room(&self) -> &RoomFacts {
        &self.room
    }

    /// Everybody, hidden ones too, in the order of their sids.
    pub fn participants(&self) -> impl Iterator<Item = &Arc<Participant>> {
        self.participants.values()
    }

    /// By sid.
    #[must_use]
    pub fn participant(&self, sid: &ParticipantSid) -> Option<&Arc<Participant>> {
        self.participants.get(sid)
    }

    /// By identity.
    #[must_use]
    pub fn by_identity(&self, identity: &str) -> Option<&Arc<Participant>> {
        self.participants.get(self.identities.get(identity)?)
    }

    /// A track and its publisher.
    #[must_use]
    pub fn track(&self, sid: &TrackSid) -> Option<(&Arc<Participant>, &Arc<TrackInfo>)> {
        let publisher = self.participants.get(self.owners.get(sid)?)?;
        Some((publisher, publisher.track(sid)?))
    }

    /// Everybody else that `viewer` may see.
    #[must_use]
    pub fn others(&self, viewer: &ParticipantSid) -> Vec<ParticipantInfo> {
        self.participants
            .values()
            .filter(|other| other.sid != *viewer && !other.permission.hidden)
            .map(|other| other.info())
            .collect()
    }

    /// Whether `subscriber` may receive `track`: its own permission, the publisher's, and never its own track.
    #[must_use]
    pub fn may_subscribe(&self, subscriber: &ParticipantSid, track: &TrackSid) -> bool {
        let Some((publisher, _)) = self.track(track) else { return false };
        let Some(subscriber) = self.participants.get(subscriber) else { return false };
        publisher.sid != subscriber.sid
            && subscriber.permission.can_subscribe
            && !publisher.permission.hidden
            && publisher.lets(subscriber, track)
    }

    /// Whether tokens of this identity have been revoked.
    #[must_use]
    pub fn is_revoked(&self, identity: &str) -> bool {
        self.revocations.iter().any(|(revoked, _)| revoked.as_str() == identity)
    }

    /// The bridge that speaks for the room to the outside (webhooks): that of whoever has been in it longest; while it is
    /// empty, the last one. Empty before the first participant.
    #[must_use]
    pub fn keeper(&self) -> &str {
        &self.keeper
    }

    /// The one that would be without a bridge.
    pub(crate) fn keeper_without(&self, bridge: &str) -> Option<&str> {
        let others = self.participants.values().filter(|participant| participant.bridge != bridge);
        others.min_by_key(|participant| (participant.joined_at_ms, &participant.sid)).map(|who| who.bridge.as_str())
    }

    /// Chooses the keeper anew.
    pub(super) fn keep(&mut self) {
        let first = self.participants.values().min_by_key(|participant| (participant.joined_at_ms, &participant.sid));
        if let Some(first) = first
            && first.bridge != self.keeper
        {
            self.keeper = first.bridge.clone();
        }
    }

    /// Why the room is over, if it is.
    #[must_use]
    pub fn ended(&self) -> Option<DisconnectReason> {
        self.ended
    }

    /// The entries of unknown kind, with their sequence.
    #[must_use]
    pub fn carried(&self) -> &[(u64, Bytes)] {
        &self.carried
    }

    /// As the protocol shows the room.
    #[must_use]
    pub fn info(&self) -> livekit_protocol::Room {
        let visible = || self.participants.values().filter(|participant| !participant.permission.hidden);
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        livekit_protocol::Room {
            sid: self.room.sid.to_string(),
            name: self.room.name.to_string(),
            empty_timeout: whole_seconds(self.room.empty_timeout_ms),
            departure_timeout: whole_seconds(self.room.departure_timeout_ms),
            max_participants: self.room.max_participants,
            creation_time: self.room.created_ms / 1000,
            creation_time_ms: self.room.created_ms,
            enabled_codecs: enabled_codecs(),
            metadata: self.metadata.clone(),
            num_participants: count(visible().count()),
            num_publishers: count(visible().filter(|participant| !participant.tracks.is_empty()).count()),
            ..livekit_protocol::Room::default()
        }
    }
}

fn whole_seconds(ms: u64) -> u32 {
    u32::try_from(ms.div_ceil(1000)).unwrap_or(u32::MAX)
}

/// What may be published, in the order of preference.
#[must_use]
pub fn enabled_codecs() -> Vec<Codec> {
    ["audio/opus", "audio/red", "video/VP8", "video/H264", "video/VP9", "video/AV1", "video/rtx"]
        .map(|mime| Codec { mime: mime.to_owned(), fmtp_line: String::new() })
        .to_vec()
}
