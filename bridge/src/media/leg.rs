//! One subscriber's copy of a track: which of its streams flows, and the writing of its packets.

use std::cmp::Ordering;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::allocation::Rank;
use super::bandwidth::{Bandwidth, Purpose};
use super::codec::{Frame, Structure};
use super::control::{Codec, ExtensionIds, Kind, LegId, PayloadType, SendSection, TransportId, Wanted};
use super::layer::Layer;
use super::outbox::{Outbox, Slot};
use super::pacer::Tail;
use super::redundancy::Recent;
use super::repairs::{Repair, Repairs};
use super::rtp::{self, Header, Outgoing, OutgoingExtensions, Values};
use super::source::{MAX_DESCRIPTOR, Progress, Rewrite, SenderClock, Source};
use super::srtp::{OutStream, Outbound};
use crate::transport::five_tuple::FiveTuple;

/// A leg without a target is asked for its last packets for no longer than this.
const REST: Duration = Duration::from_secs(2);

/// A plain packet of a published track, ready to be copied to subscribers.
#[derive(Clone, Copy)]
pub(crate) struct Packet<'a> {
    /// Which of the track's incoming streams: the simulcast layer, 0 the lowest.
    pub(crate) layer: u8,
    /// Rollover counter and sequence number.
    pub(crate) index: u64,
    pub(crate) header: Header,
    pub(crate) values: Values<'a>,
    /// Nothing of the values is passed on.
    pub(crate) bare: bool,
    pub(crate) payload: &'a [u8],
    /// Bytes of RTP padding that its copies get.
    pub(crate) padding: u8,
    pub(crate) codec: Codec,
    pub(crate) frame: Frame,
    /// What the frame's dependency descriptor refers to.
    pub(crate) structure: Option<&'a Structure>,
    /// The sender's clock, as far as it is known.
    pub(crate) clock: Option<SenderClock>,
    /// What a voice said before, for those who lose packets.
    pub(crate) earlier: Option<&'a Recent>,
    /// No later packet of the stream has come yet.
    pub(crate) newest: bool,
    /// When it came; for one out of the history, when its key frame came.
    pub(crate) arrived: Instant,
}

/// Payload type translation: (incoming, outgoing, outgoing RTX).
type Translation = (u8, u8, Option<u8>);

/// The subscriber's end of the way of a packet.
pub(crate) struct Destination<'a> {
    pub(crate) outbound: &'a mut Outbound,
    pub(crate) to: FiveTuple,
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
    /// Whether it carries one stream of the track and never another in its place: to another bridge.
    pub(crate) exact: bool,
    /// The layer to go to, chosen from what is wanted and what there is; `None` pauses.
    pub(crate) target: Option<Layer>,
    /// How many incoming streams the track has: more than one are simulcast.
    streams: u8,
    source: Option<Box<Source>>,
    /// The source that was left, whose clock and memory are for the next one.
    spare: Option<Box<Source>>,
    progress: Progress,
    repairs: Repairs,
    /// How many packets of sound are sent again with each.
    pub(crate) redundancy: u8,
    /// What waits in the peer's pacer.
    pub(crate) tail: Tail,
    packets: u32,
    octets: u32,
    /// Whether the subscriber was told that packets flow.
    pub(crate) active: bool,
    /// Whether the bandwidth does not suffice for it, of which the subscriber was told.
    pub(crate) starved: bool,
    /// Whether it was given nothing since it is there, or since something else is wanted of it.
    pub(crate) fresh: bool,
    /// Its place at the last allocation.
    pub(crate) rank: Rank,
}

impl Leg {
    /// A leg that sends nothing yet. `first` is its first sequence number, random (RFC 3711 §3.3.1 wants it below 2^15).
    pub(crate) fn new(section: SendSection, transport: TransportId, peer: usize, kind: Kind, first: u16) -> Self {
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
            exact: false,
            target: None,
            streams: 1,
            source: None,
            spare: None,
            progress: Progress::new(u64::from(first & 0x7fff)),
            repairs: Repairs::default(),
            redundancy: 0,
            tail: Tail::default(),
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

    /// Works out how the track's payload types are called by the subscriber. The track has so many incoming streams.
    pub(crate) fn translate(&mut self, track: &[PayloadType], streams: usize) {
        self.streams = u8::try_from(streams).unwrap_or(u8::MAX).max(1);
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
            self.rtx = (self.kind == Kind::Video).then(|| outbound.stream(self.rtx_ssrc)).flatten();
            let next = &mut self.progress.next;
            *next = self.stream.as_ref().map_or(*next, |stream| stream.next_index(*next));
            self.rtx_next = self.rtx.as_ref().map_or(self.rtx_next, |stream| stream.next_index(self.rtx_next));
        }
    }

    /// The leg ends; its writers go back.
    pub(crate) fn close(&mut self, outbound: &mut Outbound) {
        for stream in [self.stream.take(), self.rtx.take()].into_iter().flatten() {
            outbound.retire(stream);
        }
    }

    /// The incoming stream that has a layer.
    fn stream_of(&self, layer: Layer) -> u8 {
        layer.spatial.min(self.streams - 1)
    }

    /// How much of an incoming stream is taken on the way to the target: of one that is left for a lower one, only the
    /// base temporal layer.
    fn limit(&self, stream: u8) -> Layer {
        let Some(target) = self.target else { return Layer { spatial: 0, temporal: 0 } };
        let temporal = match self.stream_of(target).cmp(&stream) {
            Ordering::Less => 0,
            Ordering::Equal => target.temporal,
            Ordering::Greater => u8::MAX,
        };
        Layer { spatial: if self.streams > 1 { u8::MAX } else { target.spatial }, temporal }
    }

    /// The incoming stream that the leg waits for a key frame of.
    pub(crate) fn awaits(&self) -> Option<u8> {
        let stream = self.stream_of(self.target?);
        if self.tail.stream() == Some(stream) {
            return None; // it has come, and will be sent
        }
        let waits = self.kind == Kind::Video
            && self.stream.is_some()
            && self
                .source
                .as_ref()
                .is_none_or(|source| source.stream != stream || source.selection.lacks(self.limit(stream)));
        waits.then_some(stream)
    }

    /// The incoming stream that is copied.
    pub(crate) fn stream(&self) -> Option<u8> {
        self.source.as_ref().map(|source| source.stream)
    }

    /// The layer that flows.
    pub(crate) fn current(&self) -> Option<Layer> {
        let source = self.source.as_ref()?;
        let flowing = source.selection.flowing();
        Some(if self.streams > 1 { Layer { spatial: source.stream, ..flowing } } else { flowing })
    }

    /// Stops; the next start continues the numbers.
    pub(crate) fn pause(&mut self) {
        self.spare = self.source.take().or(self.spare.take());
        self.tail.clear();
    }

    /// To be called now and then: a leg on which nothing has flowed for a while needs no memory for it.
    pub(crate) fn rest(&mut self, now: Instant) {
        if self.target.is_none() && self.progress.sent_at().is_none_or(|at| now.duration_since(at) > REST) {
            self.repairs = Repairs::default();
            self.spare = None;
        }
    }

    /// Whether a packet is of the stream that is copied.
    pub(crate) fn copies(&self, packet: &Packet<'_>) -> bool {
        self.source.as_ref().is_some_and(|source| source.is_of(packet))
    }

    /// Whether a packet of another stream than the `current` one is where to go on.
    pub(crate) fn may_begin(&self, packet: &Packet<'_>, current: Option<u8>) -> bool {
        let Some(target) = self.target.map(|target| self.stream_of(target)) else { return false };
        // Any layer is better than none, a higher one is welcome, and the target is where to go.
        let better = !self.exact && current.is_none_or(|current| current < packet.layer) && packet.layer <= target;
        let replaced = current == Some(packet.layer); // the publisher took another SSRC
        let welcome = better || replaced || packet.layer == target;
        // Behind a late one, packets would be missing: the history serves better.
        welcome && packet.newest && packet.frame.key_start && !packet.payload.is_empty()
    }

    /// Copies a packet to the subscriber if it belongs to what the leg shows, switching to its stream where that is
    /// possible and wanted. True if something was sent.
    pub(crate) fn forward(
        &mut self,
        now: Instant,
        packet: &Packet<'_>,
        to: &mut Destination<'_>,
        outbox: &mut Outbox,
    ) -> bool {
        let same = self.source.as_ref().is_some_and(|source| source.is_of(packet));
        if same && self.source.as_ref().is_some_and(|source| source.has(packet)) {
            return false;
        }
        if !same && !self.may_begin(packet, self.stream()) {
            return false;
        }
        let Some(&(_, payload_type, _)) = self.translation.iter().find(|t| t.0 == packet.header.payload_type) else {
            return false;
        };
        if self.stream.is_none() {
            return false;
        }
        let limit = self.limit(packet.layer);
        if !same {
            if self.rtx.is_some() {
                self.repairs.prepare(now);
            }
            let before = (self.source.as_deref().or(self.spare.as_deref()), &self.progress);
            let source = Source::new(packet, limit, before, self.clock_rate);
            self.begin(source);
        }
        let red = if self.redundancy > 0 { self.red() } else { None };
        let (Some(source), Some(stream)) = (&mut self.source, &mut self.stream) else { return false };
        let Some((index, rewrite)) = source.take(packet, now, limit, &mut self.progress) else { return false };
        let Rewrite { marker, timestamp, .. } = rewrite;
        let mut header = Outgoing { marker, payload_type, sequence: index as u16, timestamp, ssrc: self.ssrc };
        let number = to.number(self.transport_wide);
        let mut prefix = Prefix::None;
        if packet.codec == Codec::Opus
            && let (Some(recent), Some(red)) = (packet.earlier, red)
        {
            prefix = Prefix::Earlier(recent, payload_type, self.redundancy);
            header.payload_type = red;
        }
        let (start, header_len) =
            write(&header, to.extensions, (&self.mid, number.as_ref()), packet, prefix, &rewrite, outbox);
        if !to.outbound.seal_rtp(stream, index, outbox.arena(), start, header_len) {
            outbox.abort(start);
            return false;
        }
        to.bandwidth.sent(now, outbox.arena().len() - start, number, Purpose::Media);
        outbox.commit(&to.to, to.slot, start);
        self.repairs.push(now, &Repair { stream: packet.layer, sequence: packet.header.sequence, index, rewrite });
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(packet.payload.len() as u32);
        true
    }

    /// Goes on with another source. Switching does not allocate.
    fn begin(&mut self, source: Source) {
        self.source = match self.source.take().or(self.spare.take()) {
            Some(mut place) => {
                *place = source;
                Some(place)
            }
            None => Some(Box::new(source)),
        };
    }

    /// The payload type for sound sent twice, where the subscriber takes it.
    pub(crate) fn red(&self) -> Option<u8> {
        self.accepted.iter().find(|accepted| accepted.codec == Codec::Red).map(|red| red.number)
    }

    /// The subscriber asks for a packet again: where its source is, unless it was just repeated.
    pub(crate) fn find(&mut self, now: Instant, sequence: u16) -> Option<Repair> {
        self.rtx.as_ref()?;
        self.repairs.take(now, self.progress.next, sequence)
    }

    /// The newest packet that can be sent again to probe with.
    pub(crate) fn newest(&mut self, now: Instant) -> Option<Repair> {
        self.rtx.as_ref()?;
        self.repairs.newest(now, self.progress.next)
    }

    /// Sends a packet again as RTX (RFC 4588).
    pub(crate) fn repair(
        &mut self,
        now: Instant,
        (repair, purpose): (&Repair, Purpose),
        packet: &Packet<'_>,
        to: &mut Destination<'_>,
        outbox: &mut Outbox,
    ) -> bool {
        let translation = self.translation.iter().find(|t| t.0 == packet.header.payload_type);
        let (Some(&(_, _, Some(payload_type))), Some(stream)) = (translation, &mut self.rtx) else { return false };
        let index = self.rtx_next;
        self.rtx_next += 1;
        let (sequence, original) = (index as u16, repair.index as u16);
        let header = Outgoing {
            marker: repair.rewrite.marker,
            payload_type,
            sequence,
            timestamp: repair.rewrite.timestamp,
            ssrc: self.rtx_ssrc,
        };
        let number = to.number(self.transport_wide);
        let (start, header_len) = write(
            &header,
            to.extensions,
            (&self.mid, number.as_ref()),
            packet,
            Prefix::Original(original),
            &repair.rewrite,
            outbox,
        );
        let sealed = to.outbound.seal_rtp(stream, index, outbox.arena(), start, header_len);
        if sealed {
            to.bandwidth.sent(now, outbox.arena().len() - start, number, purpose);
            outbox.commit(&to.to, to.slot, start);
        } else {
            outbox.abort(start);
        }
        sealed
    }

    /// Sends a packet of padding only (RFC 4588 §4 leaves an RTX packet without payload without meaning) of about `bytes` on
    /// the RTX stream; the bytes it takes on the wire, 0 if there is no such stream.
    pub(crate) fn pad(&mut self, now: Instant, bytes: usize, to: &mut Destination<'_>, outbox: &mut Outbox) -> usize {
        let payload_type = self.translation.iter().find_map(|translation| translation.2);
        let (Some(payload_type), Some(stream)) = (payload_type, &mut self.rtx) else { return 0 };
        let timestamp = self.progress.timestamp().unwrap_or_default(); // it may come before the first picture
        let index = self.rtx_next;
        self.rtx_next += 1;
        let number = to.number(self.transport_wide);
        let header = Outgoing { marker: false, payload_type, sequence: index as u16, timestamp, ssrc: self.rtx_ssrc };
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
        outbox.commit(&to.to, to.slot, start);
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

/// What is written before a payload.
enum Prefix<'a> {
    None,
    /// The sequence number of the packet that is sent again (RFC 4588).
    Original(u16),
    /// What was said before, all with this payload type, so many packets of it (RFC 2198).
    Earlier(&'a Recent, u8, u8),
}

/// Writes header, prefix and payload with the leg's counters; where the packet begins, and how long its header is.
fn write(
    header: &Outgoing,
    ids: &ExtensionIds,
    (mid, number): (&[u8], Option<&[u8; 2]>),
    packet: &Packet<'_>,
    prefix: Prefix<'_>,
    rewrite: &Rewrite,
    outbox: &mut Outbox,
) -> (usize, usize) {
    let arena = outbox.arena();
    let start = arena.len();
    if packet.bare {
        header.write_bare(ids, mid, number.copied(), arena);
    } else {
        write_extended(header, ids, (mid, number), packet, rewrite, arena);
    }
    let header_len = arena.len() - start;
    match prefix {
        Prefix::None => {}
        Prefix::Original(original) => arena.extend_from_slice(&original.to_be_bytes()),
        Prefix::Earlier(recent, payload_type, depth) => {
            recent.write(payload_type, packet.header.timestamp, packet.payload, depth, arena);
            return (start, header_len);
        }
    }
    let body = arena.len();
    arena.extend_from_slice(packet.payload);
    rewrite.payload(packet.frame.counters.as_ref(), &mut arena[body..]);
    if packet.padding > 0 {
        // The last byte of padding counts them all (RFC 3550 §5.1).
        arena[start] |= rtp::PADDING;
        arena.resize(arena.len() + usize::from(packet.padding) - 1, 0);
        arena.push(packet.padding);
    }
    (start, header_len)
}

/// The header of a packet with extensions that are passed on.
fn write_extended(
    header: &Outgoing,
    ids: &ExtensionIds,
    (mid, number): (&[u8], Option<&[u8; 2]>),
    packet: &Packet<'_>,
    rewrite: &Rewrite,
    arena: &mut Vec<u8>,
) {
    let mut buffer;
    let dependency_descriptor = if rewrite.changes_descriptor() {
        buffer = [0; MAX_DESCRIPTOR];
        rewrite.descriptor(packet, &mut buffer)
    } else {
        packet.values.dependency_descriptor
    };
    let values = Values { dependency_descriptor, ..packet.values };
    OutgoingExtensions::new(ids, mid, number, &values).write(header, arena);
}
