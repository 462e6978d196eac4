//! What a room and its relays to other bridges say to each other: [`ToRelay`], and the parts of [`RoomHandle`] that relays
//! use. The room does not know how they reach the other bridges.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use bytes::Bytes;
use livekit_protocol::{ConnectionQualityInfo, DataPacket};
use tokio::sync::{mpsc, watch};

use super::handle::{LocalTrack, Request, RoomHandle, Shared};
use super::ids::{ParticipantSid, RoomSid, TrackSid};
use super::session::ToSession;
use crate::media::control::{Channel, Codec};

/// What waits for a relay at most.
const QUEUE: usize = 4096;

/// The relays of a room, by the bridges they lead to.
pub(super) type Relays = BTreeMap<String, mpsc::Sender<ToRelay>>;

/// What a room tells each of its relays.
#[derive(Clone, Debug)]
pub(crate) enum ToRelay {
    /// The tracks that have media here are others now.
    Tracks,
    /// A data packet for participants at the other end, encoded, with the room's position at that moment.
    Data { sender: Option<ParticipantSid>, channel: Channel, packet: Bytes, after: u64 },
    /// Who of this bridge speaks, complete.
    Speakers(Vec<(ParticipantSid, f32)>),
    /// Somebody here can decode a track that comes from elsewhere in this codec only.
    CodecWanted { track: TrackSid, codec: Codec },
    /// Connection qualities of participants of this bridge.
    Quality(Vec<ConnectionQualityInfo>),
}

/// On which bridges a room's participants sit, told whenever it changes, and once more with nobody at its end here.
#[derive(Debug)]
pub(crate) struct Spread {
    pub(crate) room: RoomHandle,
    pub(crate) bridges: BTreeSet<String>,
}

impl Shared {
    /// Whether a track has media here and its publisher sits here.
    pub(super) fn is_own(&self, track: &TrackSid) -> bool {
        let tracks = self.tracks.read().unwrap_or_else(PoisonError::into_inner);
        tracks.get(track).is_some_and(|track| track.relay.is_none())
    }

    /// Tells all relays. One that is so far behind that it loses a message finds the tracks again when it catches up; data
    /// that finds no place is lost, which is counted.
    pub(super) fn tell_relays(&self, message: &ToRelay) {
        for relay in self.relays.load().values() {
            self.tell_relay(relay, message.clone());
        }
    }

    pub(super) fn tell_relay(&self, relay: &mpsc::Sender<ToRelay>, message: ToRelay) {
        if relay.try_send(message).is_err() {
            self.metrics.relay_lost.inc();
        }
    }

    /// Adds and removes relays.
    fn change_relays(&self, change: impl Fn(&mut Relays)) {
        self.relays.rcu(|relays| {
            let mut relays = Relays::clone(relays);
            change(&mut relays);
            relays
        });
    }

    /// A relay to that bridge is about to be connected: what is said until then waits for it, so that nobody there misses
    /// what was said after it had come.
    pub(super) fn announce_relay(&self, bridge: &str) {
        if !self.relays.load().contains_key(bridge) {
            let (sender, receiver) = mpsc::channel(QUEUE);
            self.early.lock().unwrap_or_else(PoisonError::into_inner).insert(bridge.to_owned(), receiver);
            self.change_relays(|relays| drop(relays.insert(bridge.to_owned(), sender.clone())));
        }
    }

    /// Nobody sits there any more: a relay that was not connected yet never will be.
    pub(super) fn forget_relay(&self, bridge: &str) {
        if self.early.lock().unwrap_or_else(PoisonError::into_inner).remove(bridge).is_some() {
            self.change_relays(|relays| drop(relays.remove(bridge)));
        }
    }
}

impl RoomHandle {
    /// This opening of the room.
    pub(crate) fn sid(&self) -> RoomSid {
        self.shared.state.load().room().sid.clone()
    }

    /// Connects a relay to another bridge, with what waited for it; one that was there is replaced.
    pub(crate) fn connect_relay(&self, bridge: &str) -> (mpsc::Sender<ToRelay>, mpsc::Receiver<ToRelay>) {
        let early = self.shared.early.lock().unwrap_or_else(PoisonError::into_inner).remove(bridge);
        let announced = self.shared.relays.load().get(bridge).cloned();
        if let (Some(receiver), Some(sender)) = (early, announced) {
            return (sender, receiver);
        }
        let (sender, receiver) = mpsc::channel(QUEUE);
        self.shared.change_relays(|relays| drop(relays.insert(bridge.to_owned(), sender.clone())));
        (sender, receiver)
    }

    /// This relay to that bridge ends. Unless there is another one already, nobody there speaks.
    pub(crate) fn disconnect_relay(&self, bridge: &str, relay: &mpsc::Sender<ToRelay>) {
        let own = |known: Option<&mpsc::Sender<ToRelay>>| known.is_some_and(|known| known.same_channel(relay));
        if own(self.shared.relays.load().get(bridge)) {
            self.shared.change_relays(|relays| {
                if own(relays.get(bridge)) {
                    relays.remove(bridge);
                }
            });
            self.relayed_speakers(bridge, Vec::new());
        }
    }

    /// The tracks whose publishers sit here, and which the log tells of.
    pub(crate) fn own_tracks(&self) -> Vec<(TrackSid, LocalTrack)> {
        let tracks = self.shared.tracks.read().unwrap_or_else(PoisonError::into_inner);
        let unlogged = self.shared.unlogged.load();
        let own = tracks.iter().filter(|(sid, track)| track.relay.is_none() && !unlogged.contains(*sid));
        own.map(|(sid, track)| (sid.clone(), track.clone())).collect()
    }

    /// The media that a relay brought is gone; the track may be published still.
    pub(crate) fn withdraw_media(&self, sid: &TrackSid, track: &LocalTrack) {
        // A room that has ended needs no withdrawing.
        let _ = self.shared.request(Request::Unbound(sid.clone(), track.media));
    }

    /// Follows the sequence of the last applied entry.
    pub(crate) fn applied(&self) -> watch::Receiver<u64> {
        self.shared.applied.subscribe()
    }

    /// A data packet from another bridge, for those who sit here.
    pub(crate) fn relayed_data(&self, from: Option<&ParticipantSid>, packet: DataPacket, channel: Channel) {
        super::data::route_relayed(&self.shared, from, packet, channel);
    }

    /// Who speaks on another bridge, complete.
    pub(crate) fn relayed_speakers(&self, bridge: &str, speakers: Vec<(ParticipantSid, f32)>) {
        let _ = self.shared.request(Request::Speaking(bridge.to_owned(), speakers));
    }

    /// Somebody here can decode a track in this codec only: its publisher hears of it, wherever it sits.
    pub(crate) fn want_codec(&self, track: &TrackSid, codec: Codec) {
        if !self.relayed_want(track, codec) {
            self.shared.tell_relays(&ToRelay::CodecWanted { track: track.clone(), codec });
        }
    }

    /// The same of somebody at another bridge. False when the publisher does not sit here.
    pub(crate) fn relayed_want(&self, track: &TrackSid, codec: Codec) -> bool {
        let state = self.state();
        let message = ToSession::CodecWanted { track: track.clone(), codec };
        state.track(track).is_some_and(|(publisher, _)| self.tell(&publisher.sid, message))
    }

    /// Somebody at another bridge gets a track of this one.
    pub(crate) fn relayed_subscription(&self, publisher: &ParticipantSid, track: &TrackSid) {
        let _ = self.tell(publisher, ToSession::TrackSubscribed(track.clone()));
    }
}
