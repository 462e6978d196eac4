//! One subscriber's copy of a track: which layer flows, and the rewriting of a packet into the subscriber's numbers.

use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::allocation::Rank;
use super::bandwidth::{Bandwidth, Purpose};
use super::codec::{Frame, Offsets};
use super::control::{ExtensionIds, Kind, LegId, PayloadType, SendSection, TransportId, Wanted};
use super::layer::Layer;
use super::outbox::{Outbox, Slot};
use super::rtp::{self, Header, Outgoing, OutgoingExtensions, Values};
use super::sequence::SequenceMap;
use super::srtp::{OutStream, Outbound};

/// Packets a subscriber can ask for again; a power of two.
const REPAIRABLE: usize = 512;
/// The same packet is not sent again within this.
const REPAIR_PAUSE: Duration = Duration::from_millis(20);

/// A plain packet of a published track, ready to be copied to subscribers.
#[derive(Clone, Copy)]
pub(crate) struct Packet<'a> {
    /// Simulcast layer, 0 the lowest.
    pub(crate) layer: u8,
    /// Rollover counter and sequence number.
    pub(crate) index: u64,
    pub(crate) header: Header,
    pub(crate) values: Values<'a>,
    pub(crate) payload: &'a [u8],
    pub(crate) frame: Frame,
}

/// Sender's clock of one layer, from its sender reports.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct SenderClock {
    /// NTP timestamp (32.32 fixed point, seconds since 1900) …
    pub(crate) ntp: u64,
    /// … and the RTP timestamp of the same instant.
    pub(crate) rtp: u32,
    /// When the report came.
    pub(crate) at: Instant,
}

impl SenderClock {
    /// Seconds on the sender's clock at an RTP timestamp, from an arbitrary start.
    fn seconds(&self, timestamp: u32, clock_rate: u32) -> f64 {
        let since = timestamp.wrapping_sub(self.rtp).cast_signed();
        self.ntp as f64 / 4_294_967_296.0 + f64::from(since) / f64::from(clock_rate)
    }
}

/// The source a leg copies from.
#[derive(Debug)]
struct Source {
    layer: u8,
    ssrc: u32,
    sequence: SequenceMap,
    timestamp: u32,
    vp8: Offsets,
    last: u32,
    clock: Option<SenderClock>,
}

/// A sent packet, to find it again when the subscriber asks.
#[derive(Clone, Copy)]
struct Sent {
    index: u64,
    source_sequence: u16,
    layer: u8,
    timestamp: u32,
    vp8: Offsets,
    repaired: Option<Instant>,
}

/// Where a packet that is asked for again is to be found.
#[derive(Clone, Copy)]
pub(crate) struct Repair {
    pub(crate) layer: u8,
    pub(crate) sequence: u16,
    index: u64,
    timestamp: u32,
    vp8: Offsets,
}

/// Payload type translation: (incoming, outgoing, outgoing RTX).
type Translation = (u8, u8, Option<u8>);

/// The subscriber's end of the way of a packet.
pub(crate) struct Destination<'a> {
    pub(crate) outbound: &'a mut Outbound,
    pub(crate) to: std::net::SocketAddr,
    pub(crate) slot: &'a mut Slot,
    pub(crate) extensions: &'a ExtensionIds,
    /// Counts what the transport sends.
    pub(crate) bandwidth: &'a mut Bandwidth,
}

impl Destination<'_> {
    /// The transport-wide sequence number of the next packet, where section and transport have negotiated it.
    fn number(&self, section: bool) -> Option<[u8; 2]> {
        (section && self.extensions.twcc != 0).then(|| self.bandwidth.next_number())
    }
}

/// One subscriber's copy of a track.
pub(crate) struct Leg {
    pub(crate) id: LegId,
    pub(crate) transport: TransportId,
    /// The subscriber's key in the engine.
    pub(crate) peer: usize,
    pub(crate) ssrc: u32,
    pub(crate) rtx_ssrc: u32,
    mid: SmallVec<[u8; 8]>,
    kind: Kind,
    clock_rate: u32,
    transport_wide: bool,
    accepted: Vec<PayloadType>,
    translation: SmallVec<[Translation; 6]>,
    stream: Option<OutStream>,
    rtx: Option<OutStream>,
    rtx_next: u64,
    pub(crate) wanted: Wanted,
    /// The layer to go to, chosen from what is wanted and what there is; `None` pauses.
    pub(crate) target: Option<Layer>,
    source: Option<Source>,
    next: u64,
    last_timestamp: u32,
    last_sent: Option<Instant>,
    last_vp8: Option<(u16, u8)>,
    sent: Box<[Option<Sent>]>,
    packets: u32,
    octets: u32,
    /// Whether the subscriber was told that packets flow.
    pub(crate) active: bool,
    /// Whether the bandwidth does not suffice for it, of which the subscriber was told.
    pub(crate) starved: bool,
    /// Whether something else is wanted of it than at the last allocation.
    pub(crate) fresh: bool,
    /// Its place at the last allocation.
    pub(crate) rank: Rank,
}

impl Leg {
    /// A leg that sends nothing yet. `first` is its first sequence number, random (RFC 3711 §3.3.1 wants it below 2^15).
    pub(crate) fn new(section: SendSection, transport: TransportId, peer: usize, kind: Kind, first: u16) -> Self {
        let repairable = if kind == Kind::Video { REPAIRABLE } else { 0 };
        Self {
            id: section.leg,
            transport,
            peer,
            ssrc: section.ssrc,
            rtx_ssrc: section.rtx_ssrc,
            mid: SmallVec::from_slice(section.mid.as_bytes()),
            kind,
            clock_rate: clock_rate(kind),
            transport_wide: section.transport_wide,
            accepted: section.payload_types,
            translation: SmallVec::new(),
            stream: None,
            rtx: None,
            rtx_next: u64::from(first),
            wanted: section.wanted,
            target: None,
            source: None,
            next: u64::from(first & 0x7fff),
            last_timestamp: 0,
            last_sent: None,
            last_vp8: None,
            sent: vec![None; repairable].into(),
            packets: 0,
            octets: 0,
            active: false,
            starved: false,
            fresh: true,
            rank: Rank::Other,
        }
    }

    /// A renegotiation named this leg again.
    pub(crate) fn renegotiate(&mut self, section: SendSection) {
        self.mid = SmallVec::from_slice(section.mid.as_bytes());
        self.transport_wide = section.transport_wide;
        self.accepted = section.payload_types;
    }

    /// Works out how the track's payload types are called by the subscriber.
    pub(crate) fn translate(&mut self, track: &[PayloadType]) {
        let same = |a: &PayloadType, b: &PayloadType| a.codec == b.codec && a.profile >> 8 == b.profile >> 8;
        self.translation.clear();
        for incoming in track {
            let exact = self.accepted.iter().find(|accepted| same(incoming, accepted));
            let outgoing = exact.or_else(|| self.accepted.iter().find(|accepted| accepted.codec == incoming.codec));
            if let Some(outgoing) = outgoing {
                self.translation.push((incoming.number, outgoing.number, outgoing.rtx));
            }
        }
    }

    /// SRTP is up: the leg gets its writers.
    pub(crate) fn open(&mut self, outbound: &mut Outbound) {
        if self.stream.is_none() {
            self.stream = outbound.stream(self.ssrc);
            self.rtx = (!self.sent.is_empty()).then(|| outbound.stream(self.rtx_ssrc)).flatten();
            self.next = self.stream.as_ref().map_or(self.next, |stream| stream.next_index(self.next));
            self.rtx_next = self.rtx.as_ref().map_or(self.rtx_next, |stream| stream.next_index(self.rtx_next));
        }
    }

    /// The leg ends; its writers go back.
    pub(crate) fn close(&mut self, outbound: &mut Outbound) {
        for stream in [self.stream.take(), self.rtx.take()].into_iter().flatten() {
            outbound.retire(stream);
        }
    }

    /// Whether it waits for a key frame of its target layer.
    pub(crate) fn needs_key_frame(&self) -> bool {
        self.kind == Kind::Video
            && self.stream.is_some()
            && self.target.is_some()
            && self.source.as_ref().map(|source| source.layer) != self.target.map(|target| target.spatial)
    }

    /// The layer that flows.
    pub(crate) fn current(&self) -> Option<Layer> {
        self.source.as_ref().map(|source| Layer::full(source.layer))
    }

    /// Stops; the next start continues the numbers.
    pub(crate) fn pause(&mut self) {
        self.source = None;
    }

    /// Copies a packet to the subscriber if it belongs to what the leg shows, switching to its layer where that is
    /// possible and wanted. True if something was sent.
    pub(crate) fn forward(
        &mut self,
        now: Instant,
        packet: &Packet<'_>,
        clock: Option<SenderClock>,
        to: Destination<'_>,
        outbox: &mut Outbox,
    ) -> bool {
        let same = self.source.as_ref().is_some_and(|s| s.layer == packet.layer && s.ssrc == packet.header.ssrc);
        if !same {
            let Some(Layer { spatial: target, .. }) = self.target else { return false };
            let current = self.source.as_ref().map(|source| source.layer);
            // Any layer is better than none, a higher one is welcome, and the target is where to go.
            let better = current.is_none_or(|c| c < packet.layer) && packet.layer <= target;
            let replaced = current == Some(packet.layer); // the publisher took another SSRC
            if !packet.frame.key_start || packet.payload.is_empty() || !(better || replaced || packet.layer == target) {
                return false;
            }
        }
        let Some(&(_, payload_type, _)) = self.translation.iter().find(|t| t.0 == packet.header.payload_type) else {
            return false;
        };
        if self.stream.is_none() {
            return false;
        }
        if !same {
            self.switch(now, packet, clock);
        }
        let Some(source) = &mut self.source else { return false };
        if packet.payload.is_empty() {
            source.sequence.skip(packet.index); // padding only
            return false;
        }
        let (Some(index), Some(stream)) = (source.sequence.map(packet.index), &mut self.stream) else { return false };
        if clock.is_some() {
            source.clock = clock;
        }
        source.last = packet.header.timestamp;
        let timestamp = packet.header.timestamp.wrapping_add(source.timestamp);
        let header =
            Outgoing { marker: packet.header.marker, payload_type, sequence: index as u16, timestamp, ssrc: self.ssrc };
        let vp8 = source.vp8;
        let number = to.number(self.transport_wide);
        let start = write(&header, to.extensions, (&self.mid, number.as_ref()), packet, None, vp8, outbox);
        let header_len = outbox.arena().len() - start - packet.payload.len();
        if !to.outbound.seal_rtp(stream, index, outbox.arena(), start, header_len) {
            outbox.abort(start);
            return false;
        }
        to.bandwidth.sent(now, outbox.arena().len() - start, number, Purpose::Media);
        outbox.commit(to.to, to.slot, start);
        let sent = Sent {
            index,
            source_sequence: packet.header.sequence,
            layer: packet.layer,
            timestamp,
            vp8,
            repaired: None,
        };
        if let Some(place) = slot_of(&mut self.sent, index) {
            *place = Some(sent);
        }
        if index >= self.next {
            self.next = index + 1;
            self.last_timestamp = timestamp;
            self.last_sent = Some(now);
            self.last_vp8 = packet.frame.counters.map(|counters| vp8.map(&counters)).or(self.last_vp8);
        }
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(packet.payload.len() as u32);
        true
    }

    /// Continues with another source: sequence numbers without a gap, timestamps by the sender's clock where it is known,
    /// by the time passed where not, VP8's counters without a jump.
    fn switch(&mut self, now: Instant, packet: &Packet<'_>, clock: Option<SenderClock>) {
        let timestamp = match self.last_sent {
            None => 0,
            Some(at) => {
                let passed = now.duration_since(at).as_secs_f64();
                let by_clock = self.source.as_ref().and_then(|source| {
                    let before = source.clock?.seconds(source.last, self.clock_rate);
                    Some(clock?.seconds(packet.header.timestamp, self.clock_rate) - before)
                });
                // A clock that disagrees with ours by more than half a second is not believed.
                let seconds = by_clock.filter(|by_clock| (by_clock - passed).abs() < 0.5).unwrap_or(passed);
                let ticks = (seconds * f64::from(self.clock_rate)).max(1.0) as u32;
                self.last_timestamp.wrapping_add(ticks).wrapping_sub(packet.header.timestamp)
            }
        };
        self.source = Some(Source {
            layer: packet.layer,
            ssrc: packet.header.ssrc,
            sequence: SequenceMap::new(packet.index, self.next),
            timestamp,
            vp8: packet.frame.counters.map_or_else(Offsets::default, |first| Offsets::after(self.last_vp8, &first)),
            last: packet.header.timestamp,
            clock,
        });
    }

    /// The subscriber asks for a packet again: where its source is, unless it was just repeated.
    pub(crate) fn find(&mut self, now: Instant, sequence: u16) -> Option<Repair> {
        self.rtx.as_ref()?;
        let behind = (self.next as u16).wrapping_sub(sequence);
        let index = self.next.checked_sub(u64::from(behind)).filter(|_| behind != 0)?;
        let sent = slot_of(&mut self.sent, index)?.as_mut().filter(|sent| sent.index == index)?;
        if sent.repaired.is_some_and(|at| now.duration_since(at) < REPAIR_PAUSE) {
            return None;
        }
        sent.repaired = Some(now);
        let Sent { layer, source_sequence: sequence, timestamp, vp8, .. } = *sent;
        Some(Repair { layer, sequence, index, timestamp, vp8 })
    }

    /// Sends a packet again as RTX (RFC 4588).
    pub(crate) fn repair(
        &mut self,
        now: Instant,
        repair: &Repair,
        packet: &Packet<'_>,
        to: Destination<'_>,
        outbox: &mut Outbox,
    ) -> bool {
        let translation = self.translation.iter().find(|t| t.0 == packet.header.payload_type);
        let (Some(&(_, _, Some(payload_type))), Some(stream)) = (translation, &mut self.rtx) else { return false };
        let index = self.rtx_next;
        self.rtx_next += 1;
        let (sequence, original) = (index as u16, repair.index as u16);
        let header = Outgoing {
            marker: packet.header.marker,
            payload_type,
            sequence,
            timestamp: repair.timestamp,
            ssrc: self.rtx_ssrc,
        };
        let number = to.number(self.transport_wide);
        let start =
            write(&header, to.extensions, (&self.mid, number.as_ref()), packet, Some(original), repair.vp8, outbox);
        let header_len = outbox.arena().len() - start - packet.payload.len() - 2;
        let sealed = to.outbound.seal_rtp(stream, index, outbox.arena(), start, header_len);
        if sealed {
            to.bandwidth.sent(now, outbox.arena().len() - start, number, Purpose::Repair);
            outbox.commit(to.to, to.slot, start);
        } else {
            outbox.abort(start);
        }
        sealed
    }

    /// Sends a packet of padding only (RFC 4588 §4 leaves an RTX packet without payload without meaning) of about `bytes` on
    /// the RTX stream; the bytes it takes on the wire, 0 if there is no such stream.
    pub(crate) fn pad(&mut self, now: Instant, bytes: usize, to: Destination<'_>, outbox: &mut Outbox) -> usize {
        let payload_type = self.translation.iter().find_map(|translation| translation.2);
        let (Some(payload_type), Some(stream), true) = (payload_type, &mut self.rtx, self.last_sent.is_some()) else {
            return 0;
        };
        let index = self.rtx_next;
        self.rtx_next += 1;
        let number = to.number(self.transport_wide);
        let header = Outgoing {
            marker: false,
            payload_type,
            sequence: index as u16,
            timestamp: self.last_timestamp,
            ssrc: self.rtx_ssrc,
        };
        let arena = outbox.arena();
        let start = arena.len();
        OutgoingExtensions::new(to.extensions, &self.mid, number.as_ref(), &Values::default()).write(&header, arena);
        arena[start] |= rtp::PADDING;
        let header_len = arena.len() - start;
        // The last byte of padding counts them all (RFC 3550 §5.1).
        let padding = u8::try_from(bytes).unwrap_or(u8::MAX).max(1);
        arena.resize(arena.len() + usize::from(padding) - 1, 0);
        arena.push(padding);
        if !to.outbound.seal_rtp(stream, index, arena, start, header_len) {
            outbox.abort(start);
            return 0;
        }
        let sent = to.bandwidth.sent(now, outbox.arena().len() - start, number, Purpose::Probe);
        outbox.commit(to.to, to.slot, start);
        sent
    }

    /// A sender report for now (RFC 3550 §6.4.1): (NTP, RTP timestamp, packets, octets), once the source's clock is
    /// known.
    pub(crate) fn sender_report(&self, now: Instant, clock: Option<SenderClock>) -> Option<(u64, u32, u32, u32)> {
        let source = self.source.as_ref()?;
        let clock = clock?;
        let passed = now.duration_since(clock.at).as_secs_f64();
        let ntp = clock.ntp.wrapping_add((passed * 4_294_967_296.0) as u64);
        let ticks = (passed * f64::from(self.clock_rate)) as u32;
        let rtp = clock.rtp.wrapping_add(ticks).wrapping_add(source.timestamp);
        Some((ntp, rtp, self.packets, self.octets))
    }
}

/// RTP ticks a second.
pub(crate) fn clock_rate(kind: Kind) -> u32 {
    match kind {
        Kind::Audio => 48_000,
        Kind::Video => 90_000,
    }
}

fn slot_of(sent: &mut [Option<Sent>], index: u64) -> Option<&mut Option<Sent>> {
    let len = sent.len();
    if len == 0 {
        return None;
    }
    sent.get_mut((index % len as u64) as usize)
}

/// Writes header, original sequence number (RTX) and payload with the leg's counters; returns where the packet begins.
fn write(
    header: &Outgoing,
    ids: &ExtensionIds,
    (mid, number): (&[u8], Option<&[u8; 2]>),
    packet: &Packet<'_>,
    original: Option<u16>,
    vp8: Offsets,
    outbox: &mut Outbox,
) -> usize {
    let arena = outbox.arena();
    let start = arena.len();
    OutgoingExtensions::new(ids, mid, number, &packet.values).write(header, arena);
    if let Some(original) = original {
        arena.extend_from_slice(&original.to_be_bytes());
    }
    let body = arena.len();
    arena.extend_from_slice(packet.payload);
    if let Some(counters) = &packet.frame.counters {
        vp8.rewrite(counters, &mut arena[body..]);
    }
    start
}
