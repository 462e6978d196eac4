//! Copies of the packets of one receive call to everybody who subscribes, subscriber by subscriber: its state is in the
//! cache for all of them, and they stand one after another in the outbox, so that they leave as one run.

use std::sync::Arc;
use std::time::Instant;

use smallvec::SmallVec;

use super::super::codec::{Frame, Structure};
use super::super::control::{Codec, Event, Kind};
use super::super::leg::Packet;
use super::super::outbox::Outbox;
use super::super::rtp::{self, Header, Values};
use super::super::source::SenderClock;
use super::super::track::Track;
use super::Engine;
use super::pace::copy_paced;

/// Packets of a track that are copied at a stretch.
const STRETCH: usize = 16;
/// The outbox is handed on when it holds this much: what stays in the second-level cache until the kernel copies it.
const FULL: usize = 256 << 10;
/// Packets of a frame that are shorter than the longest by no more than this leave as long as it is (RFC 3550 §5.1,
/// padding): libwebrtc makes them equal to a byte, and runs of GSO want them equal altogether.
const MOST_PADDING: usize = 8;

/// A packet that was opened and counted, and waits to be copied.
pub(super) struct Waiting {
    pub(super) track: usize,
    /// Its place among those that wait.
    pub(super) order: u32,
    /// Which of the track's incoming streams.
    pub(super) stream: u8,
    pub(super) newest: bool,
    /// Legs that cannot go on have to ask again behind it.
    pub(super) asks: bool,
    pub(super) codec: Codec,
    /// Where the plain packet begins in the receive buffer, and its length.
    pub(super) start: usize,
    pub(super) len: usize,
    pub(super) index: u64,
    pub(super) header: Header,
    pub(super) frame: Frame,
    pub(super) structure: Option<Arc<Structure>>,
    pub(super) clock: Option<SenderClock>,
}

impl Engine {
    /// Copies what waits; `full` is given the outbox whenever it holds enough to be sent.
    pub(super) fn copy_waiting(&mut self, now: Instant, buffer: &[u8], full: &mut dyn FnMut(&mut Outbox)) {
        let mut waiting = std::mem::take(&mut self.waiting);
        let place = |waiting: &Waiting| (waiting.track, waiting.order);
        if !waiting.is_sorted_by_key(place) {
            waiting.sort_unstable_by_key(place);
        }
        for of_track in waiting.chunk_by(|a, b| a.track == b.track) {
            // Of a voice that some get twice, each packet bears the one before it.
            let repeated = self.tracks.get(of_track[0].track).is_some_and(|track| track.recent.is_some());
            let stretch = if repeated { 1 } else { STRETCH };
            of_track.chunks(stretch).for_each(|stretch| self.copy(now, buffer, stretch, full));
            if of_track.iter().any(|waiting| waiting.asks) {
                self.request_key_frames(now, of_track[0].track);
            }
        }
        waiting.clear();
        self.waiting = waiting;
    }

    /// Copies packets of one track.
    fn copy(&mut self, now: Instant, buffer: &[u8], stretch: &[Waiting], full: &mut dyn FnMut(&mut Outbox)) {
        // Whoever ended since they came has taken its tracks along.
        let Some(track) = stretch.first().and_then(|first| self.tracks.get_mut(first.track)) else { return };
        let Track { legs, peer, kind, recent, .. } = track;
        let Some(map) = self.peers.get(*peer).map(|publisher| &publisher.map) else { return };
        let mut packets: SmallVec<[Packet<'_>; STRETCH]> = SmallVec::new();
        for waiting in stretch {
            let Some(bytes) = buffer.get(waiting.start..waiting.start + waiting.len) else { continue };
            let Some(payload) = rtp::payload(&waiting.header, bytes) else { continue };
            let values = Values::read(map, &waiting.header, bytes);
            packets.push(Packet {
                layer: waiting.stream,
                index: waiting.index,
                header: waiting.header,
                bare: values.is_bare(),
                values,
                payload,
                padding: 0,
                codec: waiting.codec,
                frame: waiting.frame,
                structure: waiting.structure.as_deref(),
                clock: waiting.clock,
                earlier: recent.as_deref().filter(|_| waiting.newest),
                newest: waiting.newest,
                arrived: now,
            });
        }
        even_out(&mut packets);
        for leg in legs.iter_mut().filter(|leg| leg.target.is_some()) {
            let Some(peer) = self.peers.get_mut(leg.peer) else { continue };
            let (before, bytes) = (self.counters.forwarded, self.outbox.bytes());
            if *kind == Kind::Video && peer.pacer.is_some() {
                copy_paced(now, peer, leg, &packets, &mut self.outbox, &mut self.counters);
            } else {
                let Some(mut to) = peer.destination() else { continue };
                for packet in &packets {
                    if leg.forward(now, packet, &mut to, &mut self.outbox) {
                        self.counters.copied(packet);
                    }
                }
            }
            if leg.exact {
                let bytes = (self.outbox.bytes() - bytes) as u64;
                self.counters.relayed += self.counters.forwarded - before;
                self.counters.relayed_bytes += bytes;
                if let Some(path) = self.peers.get_mut(leg.peer).and_then(|peer| peer.link.relay_mut()) {
                    path.sent += bytes;
                }
            }
            if !leg.active && self.counters.forwarded > before {
                leg.active = true;
                self.events.push(Event::LegActive { transport: leg.transport, leg: leg.id, active: true });
            }
            if self.outbox.bytes() > FULL {
                full(&mut self.outbox);
            }
        }
        drop(packets);
        if let (Some(recent), Some(waiting)) = (recent, stretch.last().filter(|waiting| waiting.newest))
            && let Some(bytes) = buffer.get(waiting.start..waiting.start + waiting.len)
            && let Some(payload) = rtp::payload(&waiting.header, bytes)
        {
            recent.push(waiting.header.timestamp, payload);
        }
    }
}

/// Makes the packets of each frame equally long by padding, where little is missing.
fn even_out(packets: &mut [Packet<'_>]) {
    for frame in packets.chunk_by_mut(|a, b| a.header.timestamp == b.header.timestamp && a.layer == b.layer) {
        let longest = frame.iter().map(|packet| packet.payload.len()).max().unwrap_or(0);
        // The last one of a run may be shorter.
        let Some((_, others)) = frame.split_last_mut() else { continue };
        for packet in others.iter_mut().filter(|packet| !packet.payload.is_empty()) {
            let missing = longest - packet.payload.len();
            packet.padding = if missing <= MOST_PADDING { missing as u8 } else { 0 };
        }
    }
}
