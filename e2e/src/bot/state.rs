//! What a bot knows: the other participants, its own tracks, and what it has received.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
};

use livekit_protocol::{DataPacket, ParticipantInfo, RequestResponse, Room, SpeakerInfo, TrackSource};

use crate::received::Received;

/// A data packet as it came.
#[derive(Clone, Debug)]
pub struct Heard {
    /// Whether it came on the reliable channel.
    pub reliable: bool,
    /// The packet.
    pub packet: DataPacket,
}

/// The bot's state, looked at through [`crate::bot::Bot::view`].
#[derive(Default)]
pub struct View {
    /// Itself, as the server says.
    pub me: ParticipantInfo,
    /// The room, as the server says.
    pub room: Room,
    /// Every needed PeerConnection is connected.
    pub connected: bool,
    /// Media is being sent.
    pub publishing: bool,
    /// Media packets sent, by layer.
    pub sent: BTreeMap<u8, u64>,
    /// The sids of its published tracks by cid.
    pub published: HashMap<String, String>,
    /// The other participants by identity.
    pub others: BTreeMap<String, ParticipantInfo>,
    /// Descriptions of the server that were applied: its offers (v0) and answers.
    pub negotiations: u64,
    /// What was received, by track sid.
    pub received: BTreeMap<String, Received>,
    /// Data packets received, in order.
    pub data: Vec<Heard>,
    /// What the server muted or unmuted, by track sid.
    pub muted: BTreeMap<String, bool>,
    /// The server's answers to requests it did not simply do.
    pub responses: Vec<RequestResponse>,
    /// The timestamp of the last ping that was answered.
    pub answered_ping: i64,
    /// The last speakers update.
    pub speakers: Vec<SpeakerInfo>,
    /// In v1: the track of each section.
    pub mids: HashMap<String, String>,
    /// Why it has no WebSocket, while it waits for [`crate::bot::Bot::resume`].
    pub away: Option<String>,
    /// Why the session is over, once it is.
    pub ended: Option<String>,
}

impl View {
    /// How many tracks the others have published.
    #[must_use]
    pub fn tracks(&self) -> usize {
        self.others.values().map(|participant| participant.tracks.len()).sum()
    }

    /// What is known of another participant.
    #[must_use]
    pub fn other(&self, identity: &str) -> Option<&ParticipantInfo> {
        self.others.get(identity)
    }

    /// The sid of another participant's camera or microphone.
    #[must_use]
    pub fn track_of(&self, identity: &str, source: TrackSource) -> Option<String> {
        let tracks = &self.other(identity)?.tracks;
        tracks.iter().find(|track| track.source() == source).map(|track| track.sid.clone())
    }

    /// Packets received of a track.
    #[must_use]
    pub fn packets_of(&self, sid: &str) -> u64 {
        self.received.get(sid).map_or(0, |received| received.packets)
    }

    /// Packets received over all tracks.
    #[must_use]
    pub fn packets(&self) -> u64 {
        self.received.values().map(|received| received.packets).sum()
    }
}

/// The state, shared by the session, the track readers and the test.
#[derive(Default)]
pub(super) struct Shared(Mutex<View>);

impl Shared {
    pub(super) fn view<T>(&self, look: impl FnOnce(&View) -> T) -> T {
        look(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn change<T>(&self, change: impl FnOnce(&mut View) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
