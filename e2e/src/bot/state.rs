//! What a bot knows: the other participants, its own tracks, and what it has received.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
};

use livekit_protocol::{DataPacket, ParticipantInfo, SpeakerInfo};

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
    /// Its own sid.
    pub sid: String,
    /// Every needed PeerConnection is connected.
    pub connected: bool,
    /// Media is being sent.
    pub publishing: bool,
    /// Media packets sent, by layer.
    pub sent: BTreeMap<u8, u64>,
    /// The sids of its published tracks by cid.
    pub published: HashMap<String, String>,
    /// The other participants by sid.
    pub others: BTreeMap<String, ParticipantInfo>,
    /// What was received, by track sid.
    pub received: BTreeMap<String, Received>,
    /// Data packets received, in order.
    pub data: Vec<Heard>,
    /// The last speakers update.
    pub speakers: Vec<SpeakerInfo>,
    /// In v1: the track of each section.
    pub mids: HashMap<String, String>,
    /// Why the session is over, once it is.
    pub ended: Option<String>,
}

impl View {
    /// How many tracks the others have published.
    #[must_use]
    pub fn tracks(&self) -> usize {
        self.others.values().map(|participant| participant.tracks.len()).sum()
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
