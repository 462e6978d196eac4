//! An RTP packet's way in: opened, recognised, measured, remembered.

use std::collections::HashMap;
use std::time::Instant;

use super::super::audio::{Hearing, Verdict};
use super::super::codec::Frame;
use super::super::control::{Event, Kind, RoomId};
use super::super::leg::{Leg, clock_rate};
use super::super::receiver::Receiver;
use super::super::rtp::{self, Header, Values};
use super::copying::Waiting;
use super::mirror::{Crossed, Crossing, Word};
use super::peer::{Peer, Stream};
use super::{Engine, Room, Track};
use crate::transport::five_tuple::FiveTuple;

impl Engine {
    /// An SRTP packet on a peer's checked pair, which stands at `at` of the receive buffer; decrypted in place.
    pub(super) fn rtp(
        &mut self,
        (now, came): (Instant, Instant),
        from: FiveTuple,
        key: usize,
        at: usize,
        datagram: &mut [u8],
    ) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let (Some(header), Some(inbound)) = (Header::read(datagram), &mut peer.inbound) else {
            self.counters.malformed += 1;
            return;
        };
        let Some(opened) = inbound.open_rtp(datagram, header.len, header.ssrc, header.sequence) else {
            self.counters.unauthentic += 1;
            return;
        };
        let datagram = &mut datagram[..opened.len];
        self.counters.received += 1;
        self.counters.received_bytes += datagram.len() as u64;
        if peer.link.heard(now, from) {
            self.reached(now, key, from);
        }
        let Some(peer) = self.peers.get_mut(key) else { return };
        if let Some(path) = peer.link.relay_mut() {
            path.received += opened.len as u64;
            self.counters.relay_received += 1;
            self.counters.relay_received_bytes += opened.len as u64;
        }
        let values = Values::read(&peer.map, &header, datagram);
        if let Some(sequence) = values.twcc {
            peer.twcc.record(came, sequence);
        }
        let known = peer.stream(header.ssrc);
        let Some(stream) = known.or_else(|| learn(peer, &mut self.tracks, &mut self.events, &header, &values)) else {
            self.counters.unknown += 1;
            return;
        };
        if stream.rtx {
            self.retransmission(now, stream, &header, at, datagram);
        } else {
            self.media(now, stream, opened.index, &header, (at, datagram), values);
        }
    }

    /// RFC 4588: the payload of an RTX packet is the original sequence number and payload. The packet is made into the
    /// original in place and goes its way, if it was missing.
    fn retransmission(&mut self, now: Instant, stream: Stream, header: &Header, at: usize, datagram: &mut [u8]) {
        let Some(track) = self.tracks.get(stream.track) else { return };
        let layer = &track.layers[stream.layer];
        let (Some(original), Some(ssrc), Some(receiver)) =
            (track.repaired_by(header.payload_type), layer.ssrc, &layer.receiver)
        else {
            return; // padding before the first media packet, mostly
        };
        let Some(sequence) = datagram.get(header.len..).and_then(<[u8]>::first_chunk::<2>).copied() else { return };
        let Some(index) = receiver.missing_index(u16::from_be_bytes(sequence)) else {
            return; // padding, or it came by itself meanwhile
        };
        datagram.copy_within(..header.len, 2);
        let packet = &mut datagram[2..];
        packet[1] = packet[1] & 0x80 | original.number;
        packet[2..4].copy_from_slice(&sequence);
        packet[8..12].copy_from_slice(&ssrc.to_be_bytes());
        let Some(header) = Header::read(packet) else { return };
        self.counters.repaired += 1;
        let Some(map) = self.peers.get(track.peer).map(|publisher| &publisher.map) else { return };
        let values = Values::read(map, &header, packet);
        self.media(now, Stream { ssrc, ..stream }, index, &header, (at + 2, packet), values);
    }

    /// A plain media packet with its 48-bit index, its place in the receive buffer and its extensions' values, which came by
    /// itself or on the stream of repairs: it is counted and remembered, and waits to be copied.
    pub(super) fn media(
        &mut self,
        now: Instant,
        stream: Stream,
        index: u64,
        header: &Header,
        (start, packet): (usize, &[u8]),
        values: Values<'_>,
    ) {
        let (Some(track), Some(payload)) = (self.tracks.get_mut(stream.track), rtp::payload(header, packet)) else {
            self.counters.malformed += 1;
            return;
        };
        let Some(payload_type) = track.media(header.payload_type) else {
            self.counters.unknown += 1;
            return;
        };
        let kind = track.kind;
        let layer = &mut track.layers[stream.layer];
        let first = layer.last_packet.is_none();
        layer.last_packet = Some(now);
        // What another worker's publisher sends is asked for there.
        let repairs = kind == Kind::Video && !track.mirrored;
        let receiver = layer.receiver.get_or_insert_with(|| Receiver::new(now, clock_rate(kind), index, repairs));
        let newest = receiver.receive(now, index, header.timestamp, stream.rtx);
        let frame = match payload {
            [] => Frame::default(),
            _ => layer.reader.read(payload_type.codec, payload, values.dependency_descriptor, newest),
        };
        let clock = layer.clock;
        if !payload.is_empty() && track.codec != Some(payload_type.codec) {
            track.codec = Some(payload_type.codec);
            self.events.push(Event::TrackStarted {
                transport: track.transport,
                track: track.id,
                codec: payload_type.codec,
            });
        }
        if track.muted {
            return;
        }
        if let Some(&[level, ..]) = values.audio_level {
            track.loudness.observe(level);
        }
        let was_held = track.held;
        if kind == Kind::Audio
            && !is_heard(&mut self.rooms, self.hearing, (track, stream.track), now, values.audio_level)
        {
            self.counters.held += 1;
            if !was_held && !track.elsewhere.is_empty() {
                let track = track.id;
                self.tell_elsewhere(track, &Word::Held { track });
            }
            return;
        }
        let bytes = header.len + payload.len();
        if !payload.is_empty() {
            let spatial = if track.layer_count > 1 { stream.layer as u8 } else { frame.spatial };
            track.meter.count(spatial, &frame, bytes, header.marker);
        }
        if !payload.is_empty()
            && let Some(history) = track.history(now, stream.layer)
        {
            history.push(now, header.sequence, &packet[..bytes]);
        }
        let layer = &mut track.layers[stream.layer];
        if frame.key_start && layer.key_frame.is_none_or(|(last, _)| last < index) {
            layer.key_frame = Some((index, now));
            if let Some(receiver) = &mut layer.receiver {
                receiver.begin_anew(index);
            }
        }
        for (worker, _) in track.elsewhere.iter().filter(|(_, needs)| needs.streams >> stream.layer & 1 == 1) {
            let (worker, stream, len) = (*worker, stream.layer as u8, packet.len());
            self.crossings.push(Crossing { worker, packet: Crossed { track: track.id, stream, index, start, len } });
        }
        if track.legs.is_empty() {
            return;
        }
        if first && track.look(now) {
            // A layer more to choose from.
            self.reconsider_track(stream.track);
            self.settle(now);
        }
        let Some(track) = self.tracks.get_mut(stream.track) else { return };
        if frame.key_start {
            track.layers[stream.layer].key_frame_wanted = false; // here it is
        }
        let encoding = &track.layers[stream.layer];
        self.waiting.push(Waiting {
            track: stream.track,
            order: self.waiting.len() as u32,
            stream: stream.layer as u8,
            newest,
            asks: first || (frame.key_start && !newest),
            codec: payload_type.codec,
            start,
            len: packet.len(),
            index,
            header: *header,
            frame,
            structure: frame.dependencies.and_then(|_| encoding.reader.structure().cloned()),
            clock,
        });
    }
}

/// Whether a voice is forwarded: everybody's in a small room, the loudest in a large one.
fn is_heard(
    rooms: &mut HashMap<RoomId, Room>,
    hearing: Hearing,
    (track, key): (&mut Track, usize),
    now: Instant,
    level: Option<&[u8]>,
) -> bool {
    let room = rooms.get_mut(&track.room).filter(|_| !track.exempt);
    let room = room.and_then(|room| Some((hearing.places(room.microphones)?, room)));
    let held = match (room, level) {
        // Another worker's is judged there, but takes a place here, too.
        (Some((places, room)), Some(&[level, ..])) => {
            room.voices.packet(now, key, level, places) == Verdict::Hold && !track.mirrored
        }
        // Who does not say how loud it is cannot be judged.
        _ => false,
    };
    if held && !track.held {
        // What is held back leaves no gap in the subscribers' numbers.
        track.legs.iter_mut().for_each(Leg::pause);
    }
    track.held = held;
    !held
}

/// Finds out which track and layer a new SSRC belongs to: by mid and rid, by the SDP's `a=ssrc`, or because only one
/// section can be meant. RTX often comes first.
fn learn(
    peer: &mut Peer,
    tracks: &mut slab::Slab<Track>,
    events: &mut Vec<Event>,
    header: &Header,
    values: &Values<'_>,
) -> Option<Stream> {
    let section = match values.mid {
        Some(mid) => peer.sections.iter().find(|section| section.mid.as_bytes() == mid),
        None => {
            peer.sections.iter().find(|s| s.ssrcs.iter().any(|(m, r)| *m == header.ssrc || *r == Some(header.ssrc)))
        }
    }?;
    let track = peer.tracks.iter().copied().find(|&key| tracks.get(key).is_some_and(|t| t.id == section.track))?;
    let entry = tracks.get_mut(track)?;
    let by_rid = |rid: &[u8]| section.rids.iter().position(|known| known.as_bytes() == rid);
    let declared = section.ssrcs.iter().enumerate().find_map(|(layer, (media, rtx))| {
        (*media == header.ssrc).then_some((layer, false)).or((*rtx == Some(header.ssrc)).then_some((layer, true)))
    });
    let (layer, rtx) = match (values.rid, values.repaired_rid, declared) {
        (_, Some(rid), _) => (by_rid(rid)?, true),
        (Some(rid), None, _) if !section.rids.is_empty() => {
            (by_rid(rid)?, entry.repaired_by(header.payload_type).is_some())
        }
        (_, None, Some(declared)) => declared,
        _ if section.rids.is_empty() => (0, entry.repaired_by(header.payload_type).is_some()),
        _ => return None,
    };
    let slot = entry.layers.get_mut(layer)?;
    if !rtx {
        slot.bind(header.ssrc);
    }
    if !section.rids.is_empty() && !peer.is_relay() {
        let (transport, track, ssrc) = (peer.id, entry.id, header.ssrc);
        events.push(Event::StreamKnown { transport, track, layer: layer as u8, rtx, ssrc });
    }
    let stream = Stream { ssrc: header.ssrc, track, layer, rtx };
    peer.bind(stream);
    Some(stream)
}
