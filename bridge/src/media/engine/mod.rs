//! One worker's logic, without I/O: `(now, datagrams, commands) → (datagrams, events, next timeout)`.
//!
//! - `mod.rs`: the state, the way of a datagram to its peer, time;
//! - `commands.rs`: what signalling orders;
//! - `allocate.rs`: who gets which layers;
//! - `incoming.rs`: the way of an RTP packet in;
//! - `copying.rs`: its way out, to every subscriber;
//! - `feedback.rs`: RTCP, both ways;
//! - `pace.rs`: what waits for its turn on a narrow way;
//! - `probe.rs`: padding to find out what the way to a subscriber carries;
//! - `replay.rs`: what comes out of the history;
//! - `peer.rs`: one PeerConnection, or the way to another bridge; `link.rs`: how its other side is reached;
//! - `relay.rs`: what is different towards another bridge;
//! - `mirror.rs`: what is published at another worker of this bridge;
//! - `quality.rs`: what its connection is like;
//! - `turns.rs`: whose turn it is when time passes.

mod allocate;
mod commands;
mod copying;
mod feedback;
mod incoming;
mod link;
mod mirror;
mod pace;
mod peer;
mod probe;
mod quality;
mod relay;
mod replay;
#[cfg(test)]
mod tests;
mod turns;

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use slab::Slab;
use smallvec::SmallVec;

use super::audio::{Hearing, Voices};
use super::control::{CloseReason, Event, RoomId, TrackId, TransportId};
use super::leg::Packet;
use super::outbox::{Outbox, Slot};
use super::receiver::Report;
use super::rtcp;
use super::spotlight::Spotlight;
use super::track::Track;
use super::udp::Datagram;
use crate::transport::dtls::{DtlsEnd, Identity};
use crate::transport::five_tuple::FiveTuple;
use crate::transport::ice::{CONSENT_TIMEOUT, IceLite, stun_username};
use link::Link;
pub(crate) use mirror::{Crossed, Crossing, Mirror, Needs, Note, Word};
use peer::Peer;
use turns::Part;

/// The engine's clock tick while there are peers: the finest grain of its timers (a NACK waits 8 ms at least).
pub(crate) const TICK: Duration = Duration::from_millis(10);
/// Packets of one receive call that there is room for from the beginning.
const WAITING: usize = 64;
/// A pair is not taken from a peer that has been heard from within this.
const ADDRESS_HOLD: Duration = Duration::from_secs(5);

/// What the engine has counted since it began.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Counters {
    /// RTP packets received and their bytes.
    pub(crate) received: u64,
    pub(crate) received_bytes: u64,
    /// Audio packets of a large room's quieter voices, which nobody gets.
    pub(crate) held: u64,
    /// Copies sent to subscribers and their payload bytes.
    pub(crate) forwarded: u64,
    pub(crate) forwarded_bytes: u64,
    /// Packets repaired by the publisher's RTX, and by ours for subscribers.
    pub(crate) repaired: u64,
    pub(crate) retransmitted: u64,
    /// Legs started with a key frame out of the history.
    pub(crate) replayed: u64,
    /// NACKed sequence numbers, both ways.
    pub(crate) nacks_sent: u64,
    pub(crate) nacks_received: u64,
    /// Key-frame requests, both ways.
    pub(crate) key_frames_asked: u64,
    pub(crate) key_frames_wanted: u64,
    /// Dropped: neither STUN, DTLS nor RTP, or contradictory.
    pub(crate) malformed: u64,
    /// Dropped: the wrong key, a damaged packet or a replay.
    pub(crate) unauthentic: u64,
    /// Dropped: from an address that has passed no connectivity check.
    pub(crate) stray: u64,
    /// Dropped: connectivity checks without the right credentials.
    pub(crate) stun_refused: u64,
    /// Dropped: an SSRC or payload type that the SDP does not explain.
    pub(crate) unknown: u64,
    /// Bytes sent only to find out what the way to a subscriber carries.
    pub(crate) probe_bytes: u64,
    /// Repairs refused because they would take more than their part of the budget.
    pub(crate) repairs_refused: u64,
    /// Transport-wide feedback that was malformed or spoke of what cannot be.
    pub(crate) feedback_refused: u64,
    /// RTP packets to other bridges and from them, with their bytes.
    pub(crate) relayed: u64,
    pub(crate) relayed_bytes: u64,
    pub(crate) relay_received: u64,
    pub(crate) relay_received_bytes: u64,
    /// DTLS handshakes that succeeded and failed.
    pub(crate) handshakes: u64,
    pub(crate) handshakes_failed: u64,
}

impl Counters {
    /// A subscriber was sent its copy of a packet.
    fn copied(&mut self, packet: &Packet<'_>) {
        self.forwarded += 1;
        self.forwarded_bytes += packet.payload.len() as u64;
    }
}

/// A room on this worker.
#[derive(Default)]
struct Room {
    peers: Vec<usize>,
    tracks: Vec<usize>,
    speakers: Vec<(TrackId, f32)>,
    /// Audio tracks that are not muted.
    microphones: usize,
    voices: Voices,
    spotlight: Spotlight,
}

/// One worker's state.
pub(crate) struct Engine {
    identity: Identity,
    peers: Slab<Peer>,
    tracks: Slab<Track>,
    rooms: HashMap<RoomId, Room>,
    by_transport: HashMap<TransportId, usize>,
    by_track: HashMap<TrackId, usize>,
    by_ufrag: HashMap<String, usize>,
    /// Clients whose answers have not come yet, by our ufrag.
    expected: HashMap<String, (TransportId, IceLite)>,
    by_pair: HashMap<FiveTuple, usize>,
    /// The SSRCs that other bridges were told to use.
    by_relay_ssrc: HashMap<u32, usize>,
    /// Where the last datagram came: packets come in runs.
    last: Option<(FiveTuple, usize)>,
    /// Packets of the present receive call.
    waiting: Vec<copying::Waiting>,
    outbox: Outbox,
    events: Vec<Event>,
    counters: Counters,
    next_tick: Option<Instant>,
    ticks: u64,
    /// Whose turn it is within a tick.
    part: Part,
    reply: Vec<u8>,
    writer: rtcp::Writer,
    nacks: Vec<u16>,
    /// Working memory of the ticks, empty in between: keys of peers, report blocks, who speaks.
    keys: Vec<usize>,
    blocks: Vec<(u32, Report)>,
    speaking: Vec<(TrackId, f32)>,
    /// Peers for which something changed.
    due: Vec<usize>,
    workspace: allocate::Workspace,
    /// Which of the workers this is.
    number: usize,
    /// Who is heard in large rooms.
    hearing: Hearing,
    /// Packets of the present receive call that other workers need.
    crossings: Vec<Crossing>,
    notes: VecDeque<Note>,
}

impl Engine {
    pub(crate) fn new(identity: Identity) -> Self {
        Self {
            identity,
            peers: Slab::new(),
            tracks: Slab::new(),
            rooms: HashMap::new(),
            by_transport: HashMap::new(),
            by_track: HashMap::new(),
            by_ufrag: HashMap::new(),
            expected: HashMap::new(),
            by_pair: HashMap::new(),
            by_relay_ssrc: HashMap::new(),
            last: None,
            waiting: Vec::with_capacity(WAITING),
            outbox: Outbox::new(),
            events: Vec::new(),
            counters: Counters::default(),
            next_tick: None,
            ticks: 0,
            part: Part::ALL,
            reply: Vec::new(),
            writer: rtcp::Writer::default(),
            nacks: Vec::new(),
            keys: Vec::new(),
            blocks: Vec::new(),
            speaking: Vec::new(),
            due: Vec::new(),
            workspace: allocate::Workspace::default(),
            number: 0,
            hearing: Hearing::default(),
            crossings: Vec::new(),
            notes: VecDeque::new(),
        }
    }

    /// So many are heard.
    pub(crate) fn hearing(self, hearing: Hearing) -> Self {
        Self { hearing, ..self }
    }

    /// The datagrams of one receive call, which stand in `buffer`; they are decrypted in place. `full` is given the outbox
    /// whenever it holds enough to be sent; what is left in it at the end is to be sent, too.
    pub(crate) fn datagrams(
        &mut self,
        now: Instant,
        buffer: &mut [u8],
        datagrams: &[Datagram],
        full: &mut dyn FnMut(&mut Outbox),
    ) {
        for &Datagram { from, start, len, waited } in datagrams {
            if let Some(datagram) = buffer.get_mut(start..start + len) {
                self.demultiplex((now, now.checked_sub(waited).unwrap_or(now)), from, start, datagram);
            }
        }
        self.copy_waiting(now, buffer, full);
    }

    /// A datagram that is handled now and came at another time.
    fn demultiplex(&mut self, (now, came): (Instant, Instant), from: FiveTuple, at: usize, datagram: &mut [u8]) {
        // RFC 7983: the first byte tells the protocol.
        match datagram.first() {
            Some(0..=3) => self.stun(now, from, datagram),
            Some(20..=63) => {
                let Some(key) = self.peer_at(from) else { return };
                let end = self.peers[key].dtls(now, datagram, &mut self.events);
                self.after_dtls(now, key, end);
            }
            Some(128..=191) => {
                // RFC 5761 §4: these payload types can only be RTCP's.
                let rtcp = datagram.get(1).is_some_and(|kind| (192..=223).contains(kind));
                let relay = self.relay_of(datagram, rtcp);
                let Some(key) = relay.or_else(|| self.peer_at(from)) else { return };
                if rtcp {
                    self.rtcp((now, came), from, key, datagram);
                } else {
                    self.rtp((now, came), from, key, at, datagram);
                }
            }
            _ => self.counters.malformed += 1,
        }
    }

    /// The peer whose checks came on this pair; anything from elsewhere is dropped.
    fn peer_at(&mut self, from: FiveTuple) -> Option<usize> {
        if let Some((pair, key)) = self.last
            && pair == from
        {
            return Some(key);
        }
        let found = self.by_pair.get(&from).copied();
        self.last = found.map(|key| (from, key));
        self.counters.stray += u64::from(found.is_none());
        found
    }

    fn stun(&mut self, now: Instant, from: FiveTuple, datagram: &[u8]) {
        let ours = stun_username(datagram).and_then(|name| name.split_once(':')).map(|(ours, _)| ours);
        let Some(&key) = ours.and_then(|ufrag| self.by_ufrag.get(ufrag)) else {
            self.early_check(now, from, ours, datagram);
            return;
        };
        if self.is_held(now, &from, Some(key)) {
            self.counters.stun_refused += 1;
            return;
        }
        let holder = self.by_pair.get(&from).copied().filter(|&holder| holder != key);
        let Link::Client(client) = &mut self.peers[key].link else { return };
        let outcome = client.ice.handle(now, datagram, from, &mut self.reply);
        if !self.reply.is_empty() {
            self.outbox.push(&from, &mut Slot::STALE.clone(), &self.reply);
        }
        let Ok(outcome) = outcome else {
            self.counters.stun_refused += 1;
            return;
        };
        if outcome.new_pair || holder.is_some() {
            self.by_pair.insert(from, key);
            self.last = None;
        }
        if let Some(pair) = outcome.forgotten {
            self.by_pair.remove(&pair);
            self.last = None;
        }
        if let Some(ufrag) = outcome.retired_ufrag {
            self.by_ufrag.remove(&ufrag);
        }
        if self.peers[key].link.selected().is_some() {
            let end = self.peers[key].start_dtls(now, &mut self.events);
            self.after_dtls(now, key, end);
        }
    }

    /// A check of somebody whose answer has not come yet.
    fn early_check(&mut self, now: Instant, from: FiveTuple, ours: Option<&str>, datagram: &[u8]) {
        let held = self.is_held(now, &from, None);
        let Some((_, ice)) = ours.filter(|_| !held).and_then(|ufrag| self.expected.get_mut(ufrag)) else {
            self.counters.stun_refused += 1;
            return;
        };
        let outcome = ice.handle(now, datagram, from, &mut self.reply);
        if !self.reply.is_empty() {
            self.outbox.push(&from, &mut Slot::STALE.clone(), &self.reply);
        }
        self.counters.stun_refused += u64::from(outcome.is_err());
    }

    /// Whether a pair is somebody else's and alive. It is not given away: its packets would be lost to a spoofed check.
    fn is_held(&self, now: Instant, pair: &FiveTuple, by: Option<usize>) -> bool {
        let holder = self.by_pair.get(pair).filter(|&&holder| Some(holder) != by);
        let until = holder.and_then(|&holder| self.peers.get(holder)).map(|other| other.link.expires_at());
        until.is_some_and(|until| now + CONSENT_TIMEOUT < until + ADDRESS_HOLD)
    }

    /// The pairs of a peer are those that its ICE has found valid before it was there.
    fn bind_pairs(&mut self, now: Instant, key: usize) {
        let Some(Link::Client(client)) = self.peers.get(key).map(|peer| &peer.link) else { return };
        let valid: SmallVec<[FiveTuple; 2]> = client.ice.valid().collect();
        if valid.is_empty() {
            return; // as nearly always at a join
        }
        self.by_pair.retain(|pair, holder| *holder != key || valid.contains(pair));
        for pair in valid {
            if !self.is_held(now, &pair, Some(key)) {
                self.by_pair.insert(pair, key);
            }
        }
        self.last = None;
        if self.peers[key].link.selected().is_some() {
            let end = self.peers[key].start_dtls(now, &mut self.events);
            self.after_dtls(now, key, end);
        }
    }

    /// Sends what DTLS has, notices that it is up or has ended.
    fn after_dtls(&mut self, now: Instant, key: usize, end: Option<DtlsEnd>) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        peer.transmit(&mut self.outbox);
        if let Some(end) = end {
            self.counters.handshakes_failed += u64::from(!peer.connected());
            let reason = match end {
                DtlsEnd::Peer => CloseReason::Peer,
                DtlsEnd::Data(_) => CloseReason::Data,
                _ => CloseReason::Dtls,
            };
            tracing::debug!(transport = peer.id.0, %end, "DTLS ended");
            self.close(key, reason);
            return;
        }
        if peer.connected() && !peer.opened {
            peer.opened = true;
            self.counters.handshakes += 1;
            self.open_legs(now, key);
        }
    }

    /// When to call [`Self::handle_timeout`]; `None` while there is nobody.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.next_tick.filter(|_| !self.peers.is_empty())
    }

    /// Time has passed.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.peers.is_empty() {
            self.next_tick = None;
            return;
        }
        let due = *self.next_tick.get_or_insert(now);
        if now < due {
            return;
        }
        self.part = self.part.next(self.peers.len());
        self.ticks += u64::from(self.part.is_first());
        // Late ticks are not made up for.
        self.next_tick = Some((due + self.part.time()).max(now));
        self.tick(now);
    }

    /// Closes everything, with goodbyes.
    pub(crate) fn shut_down(&mut self) {
        let keys: Vec<usize> = self.peers.iter().map(|(key, _)| key).collect();
        keys.into_iter().for_each(|key| self.close(key, CloseReason::Requested));
    }

    /// What waits to be sent.
    pub(crate) fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// It has been sent.
    pub(crate) fn sent(&mut self) {
        self.outbox.clear();
    }

    /// What has happened since the last call.
    pub(crate) fn events(&mut self) -> std::vec::Drain<'_, Event> {
        self.events.drain(..)
    }

    /// Sets what a transport can carry, bits per second, in place of the estimate.
    #[cfg(test)]
    pub(crate) fn limit(&mut self, transport: TransportId, bits: impl Into<Option<u64>>) {
        let key = self.by_transport[&transport];
        self.peers[key].allocation.limit = bits.into();
    }

    /// Counts since the beginning.
    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Transports whose clients could use more than their way is known to carry.
    pub(crate) fn limited(&self) -> usize {
        self.peers.iter().filter(|(_, peer)| peer.bandwidth.limited()).count()
    }

    /// (rooms, transports, tracks, legs) at present; what is another worker's is counted there.
    pub(crate) fn sizes(&self) -> (usize, usize, usize, usize) {
        let legs = self.tracks.iter().map(|(_, track)| track.legs.len()).sum();
        let peers = self.peers.iter().filter(|(_, peer)| !peer.is_mirror()).count();
        let tracks = self.tracks.iter().filter(|(_, track)| !track.mirrored).count();
        (self.rooms.len(), peers, tracks, legs)
    }
}
