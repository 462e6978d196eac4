//! One transport as the engine sees it, a client's PeerConnection or the way to another bridge: SRTP, DTLS and SCTP state,
//! what comes on it and what it gets.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use smallvec::SmallVec;

use super::super::allocation::Memory;
use super::super::bandwidth::Bandwidth;
use super::super::control::{
    Channel, DtlsParameters, Event, ExtensionIds, LegId, ReceiveSection, RelayParameters, RoomId, SendSection,
    TransportId,
};
use super::super::leg::Destination;
use super::super::outbox::{Outbox, Slot};
use super::super::pacer::Pacer;
use super::super::redundancy::Redundancy;
use super::super::requests::Requests;
use super::super::rtcp;
use super::super::rtp::ExtensionMap;
use super::super::srtp::{Inbound, Outbound, contexts, relay_contexts};
use super::super::twcc;
use super::link::{Client, Link, Mirrored, Path};
use super::quality::Measured;
use super::replay::Allowance;
use crate::transport::data::{Data, DataEnd, DataEvent, SendRefusal};
use crate::transport::dtls::{Dtls, DtlsEnd, DtlsEvent, Identity};
use crate::transport::five_tuple::FiveTuple;
use crate::transport::ice::IceLite;

/// Sender reports whose answers can still be timed.
const REPORTS: usize = 8;
/// Messages that may wait for DTLS.
const MAX_EARLY: usize = 256;
/// SSRCs remembered of one peer; the oldest go first.
const MAX_STREAMS: usize = 64;
/// The same of another bridge: those of all tracks of a large room.
const MAX_RELAY_STREAMS: usize = 4096;

/// Which track and layer an incoming SSRC belongs to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stream {
    pub(super) ssrc: u32,
    pub(super) track: usize,
    pub(super) layer: usize,
    pub(super) rtx: bool,
}

/// Where one of the peer's legs is.
#[derive(Clone, Copy, Debug)]
pub(super) struct LegRef {
    pub(super) leg: LegId,
    pub(super) track: usize,
    pub(super) ssrc: u32,
    /// Whether the client wants anything of it: most legs of a large room are not on anybody's screen.
    pub(super) wanted: bool,
    /// Where in the track's legs it was last.
    pub(super) at: usize,
    /// The key frames it has asked for.
    pub(super) requests: Requests,
}

/// What a peer's legs get, and what was decided last.
#[derive(Default, Debug)]
pub(super) struct Allocation {
    pub(super) memory: Memory,
    /// Something changed since.
    pub(super) due: bool,
    /// The budget then.
    pub(super) budget: Option<u64>,
    /// Spatial layers short of what is wanted, mean over the video legs.
    pub(super) short: f32,
    /// What is allowed at most, whatever the estimate: to another bridge by configuration, to clients in tests.
    pub(super) limit: Option<u64>,
}

/// One transport.
pub(super) struct Peer {
    pub(super) id: TransportId,
    pub(super) room: RoomId,
    pub(super) link: Link,
    pub(super) inbound: Option<Inbound>,
    pub(super) outbound: Option<Outbound>,
    slot: Slot,
    pub(super) ids: ExtensionIds,
    pub(super) map: ExtensionMap,
    pub(super) sections: Vec<ReceiveSection>,
    streams: Vec<Stream>,
    pub(super) tracks: Vec<usize>,
    pub(super) legs: Vec<LegRef>,
    /// Legs whose track is not there (yet).
    pub(super) orphans: Vec<SendSection>,
    pub(super) twcc: twcc::Recorder,
    /// What the way to the client carries.
    pub(super) bandwidth: Bandwidth,
    pub(super) allocation: Allocation,
    pub(super) rtt: Option<Duration>,
    reports: [(u32, Option<Instant>); REPORTS],
    next_report: usize,
    pub(super) measured: Measured,
    /// What may be sent to it out of the history.
    pub(super) allowance: Allowance,
    /// How much of the sound it gets again.
    pub(super) redundancy: Redundancy,
    /// What waits, while its way is narrow.
    pub(super) pacer: Option<Box<Pacer>>,
    /// The engine has noticed that DTLS is up.
    pub(super) opened: bool,
}

impl Peer {
    pub(super) fn new(
        now: Instant,
        identity: &Identity,
        (id, room): (TransportId, RoomId),
        ice: IceLite,
        dtls: &DtlsParameters,
        open_channels: bool,
    ) -> Self {
        let client = Client {
            ice,
            dtls: Dtls::new(now, identity, dtls.active, dtls.remote_fingerprint),
            data: None,
            early: Vec::new(),
            active: dtls.active,
            open_channels,
            adopted: None,
        };
        Self::with(now, (id, room), Link::Client(Box::new(client)))
    }

    /// The way to another bridge; media can flow at once. `None` when the keys do not have the right sizes.
    pub(super) fn relay(now: Instant, ids: (TransportId, RoomId), parameters: &RelayParameters) -> Option<Self> {
        let mut peer = Self::with(now, ids, Link::Relay(Box::new(Path::new(now, parameters))));
        peer.rekey(now, parameters).then_some(peer)
    }

    /// A transport of another worker of this bridge, of which only the tracks are known here.
    pub(super) fn mirror(now: Instant, ids: (TransportId, RoomId), mirrored: Mirrored) -> Self {
        Self { opened: true, ..Self::with(now, ids, Link::Mirror(mirrored)) }
    }

    fn with(now: Instant, (id, room): (TransportId, RoomId), link: Link) -> Self {
        Self {
            id,
            room,
            link,
            inbound: None,
            outbound: None,
            slot: Slot::STALE,
            ids: ExtensionIds::default(),
            map: ExtensionMap::new(&ExtensionIds::default()),
            sections: Vec::new(),
            streams: Vec::new(),
            tracks: Vec::new(),
            legs: Vec::new(),
            orphans: Vec::new(),
            twcc: twcc::Recorder::new(now),
            bandwidth: Bandwidth::new(now),
            allocation: Allocation::default(),
            rtt: None,
            reports: [(0, None); REPORTS],
            next_report: 0,
            measured: Measured::new(now),
            allowance: Allowance::default(),
            redundancy: Redundancy::default(),
            pacer: None,
            opened: false,
        }
    }

    /// New keys, addresses and SSRCs on the way to another bridge. What flows has to be negotiated again.
    pub(super) fn rekey(&mut self, now: Instant, parameters: &RelayParameters) -> bool {
        let Some((inbound, outbound)) = relay_contexts(&parameters.open, &parameters.seal) else { return false };
        self.link = Link::Relay(Box::new(Path::new(now, parameters)));
        self.inbound = Some(inbound.with_streams(MAX_RELAY_STREAMS));
        self.outbound = Some(outbound);
        self.opened = true;
        self.allocation.limit = parameters.limit;
        self.streams.clear();
        true
    }

    /// Whether this is the way to another bridge.
    pub(super) fn is_relay(&self) -> bool {
        self.link.relay().is_some()
    }

    /// Whether this is a transport of another worker.
    pub(super) fn is_mirror(&self) -> bool {
        self.link.mirrored().is_some()
    }

    /// Whether it is a client that is connected and sends and gets no media.
    pub(super) fn is_quiet(&self) -> bool {
        self.legs.is_empty() && self.tracks.is_empty() && self.opened && !self.is_relay()
    }

    /// Whether it is a client that only gets media, and all that it wants: it has no losses to ask for and nothing waits.
    pub(super) fn is_calm(&self) -> bool {
        self.tracks.is_empty() && self.opened && !self.is_relay() && self.pacer.is_none() && self.bandwidth.is_calm()
    }

    /// Whether media can flow.
    pub(super) fn connected(&self) -> bool {
        self.outbound.is_some()
    }

    /// The round-trip time, or a guess.
    pub(super) fn rtt(&self) -> Duration {
        self.rtt.unwrap_or(Duration::from_millis(50))
    }

    /// What an SSRC is known as.
    pub(super) fn stream(&self, ssrc: u32) -> Option<Stream> {
        self.streams.iter().copied().find(|stream| stream.ssrc == ssrc)
    }

    /// Remembers an SSRC.
    pub(super) fn bind(&mut self, stream: Stream) {
        self.streams.retain(|known| known.ssrc != stream.ssrc);
        let most = if self.is_relay() { MAX_RELAY_STREAMS } else { MAX_STREAMS };
        if self.streams.len() >= most {
            self.streams.remove(0);
        }
        self.streams.push(stream);
    }

    /// A track of this peer is gone.
    pub(super) fn unbind(&mut self, track: usize) {
        self.streams.retain(|stream| stream.track != track);
        self.tracks.retain(|&key| key != track);
    }

    /// Where media for this peer goes, once it is connected.
    pub(super) fn destination(&mut self) -> Option<Destination<'_>> {
        let to = self.link.selected()?;
        let outbound = self.outbound.as_mut()?;
        let bandwidth = &mut self.bandwidth;
        Some(Destination { outbound, to, slot: &mut self.slot, extensions: &self.ids, bandwidth })
    }

    /// Bits per second for everything sent on this transport, headers down to IP included; `None` while nothing is known
    /// to limit it.
    pub(super) fn budget(&self) -> Option<u64> {
        self.allocation.limit.or(self.bandwidth.budget())
    }

    /// What an upgrade would need, in bits per second for everything sent on this transport; `None` when nothing could be
    /// upgraded, and so nothing is probed. `starved`: a track is not even begun.
    pub(super) fn wish(&mut self, bits: Option<u64>, starved: bool) {
        self.bandwidth.wish(bits, starved);
    }

    /// A DTLS datagram.
    pub(super) fn dtls(&mut self, now: Instant, datagram: &[u8], events: &mut Vec<Event>) -> Option<DtlsEnd> {
        if let Link::Client(client) = &mut self.link {
            client.dtls.handle(now, datagram);
        }
        self.work(now, events)
    }

    /// ICE has an address.
    pub(super) fn start_dtls(&mut self, now: Instant, events: &mut Vec<Event>) -> Option<DtlsEnd> {
        if let Link::Client(client) = &mut self.link {
            client.dtls.start(now);
        }
        self.work(now, events)
    }

    /// Timers of DTLS and SCTP.
    pub(super) fn timers(&mut self, now: Instant, events: &mut Vec<Event>) -> Option<DtlsEnd> {
        let Link::Client(client) = &mut self.link else { return None };
        let dtls = client.dtls.poll_timeout().is_some_and(|at| at <= now);
        let data = client.data.as_mut().filter(|data| data.poll_timeout().is_some_and(|at| at <= now));
        if !dtls && data.is_none() {
            return None;
        }
        if let Some(data) = data {
            data.handle_timeout(now);
        }
        if dtls {
            client.dtls.handle_timeout(now);
        }
        self.work(now, events)
    }

    /// A message to the client. One that does not read its reliable messages is disconnected.
    pub(super) fn send_data(
        &mut self,
        now: Instant,
        channel: Channel,
        payload: Bytes,
        events: &mut Vec<Event>,
    ) -> Option<DtlsEnd> {
        let Link::Client(client) = &mut self.link else { return None };
        match &mut client.data {
            Some(data) => {
                if let Err(SendRefusal::Overflow) = data.send(now, channel, payload) {
                    return Some(DtlsEnd::Data("reliable messages are not read"));
                }
            }
            None if client.early.len() < MAX_EARLY => client.early.push((channel, payload)),
            None => return Some(DtlsEnd::Data("too many messages before the connection")),
        }
        self.work(now, events)
    }

    /// Moves what DTLS and SCTP have for each other and for the engine, until both are quiet.
    fn work(&mut self, now: Instant, events: &mut Vec<Event>) -> Option<DtlsEnd> {
        let Link::Client(client) = &mut self.link else { return None };
        let Client { ice, dtls, data, early, active, open_channels, adopted } = &mut **client;
        let mut end = None;
        loop {
            let mut quiet = true;
            while let Some(event) = dtls.poll_event() {
                quiet = false;
                match event {
                    DtlsEvent::Connected(keys) => {
                        match contexts(keys.profile(), keys.remote(), keys.local()) {
                            Some((inbound, outbound)) => {
                                (self.inbound, self.outbound) = (Some(inbound), Some(outbound));
                                ice.heard(now);
                                let mut channels = Data::new(now, *active, *open_channels);
                                if let Some(streams) = adopted.take() {
                                    channels.adopt(now, streams);
                                }
                                for (channel, payload) in early.drain(..) {
                                    let _ = channels.send(now, channel, payload); // at most MAX_EARLY: no overflow yet
                                }
                                *data = Some(channels);
                                if let Some(pair) = ice.selected() {
                                    events.push(Event::Connected { transport: self.id, remote: pair.remote });
                                }
                            }
                            None => end = Some(DtlsEnd::NoSrtp),
                        }
                    }
                    DtlsEvent::Data(packet) => {
                        ice.heard(now);
                        if let Some(data) = data {
                            data.handle(now, packet);
                        }
                    }
                    DtlsEvent::Ended(reason) => end = Some(reason),
                }
            }
            let Some(data) = data else { return end };
            while let Some(event) = data.poll_event() {
                quiet = false;
                let transport = self.id;
                match event {
                    DataEvent::Open(channel) => events.push(Event::ChannelOpen { transport, channel }),
                    DataEvent::Message(channel, payload) => events.push(Event::Data { transport, channel, payload }),
                    DataEvent::Ended(DataEnd::Peer) => {} // media may go on
                    DataEvent::Ended(DataEnd::Limits) => end = Some(DtlsEnd::Data("SCTP limits exceeded")),
                }
            }
            while let Some(packet) = data.poll_transmit(now) {
                quiet = false;
                dtls.write(&packet);
            }
            if quiet {
                return end;
            }
        }
    }

    /// Puts waiting DTLS datagrams into the outbox.
    pub(super) fn transmit(&mut self, outbox: &mut Outbox) {
        let Link::Client(client) = &mut self.link else { return };
        while let Some(datagram) = client.dtls.poll_transmit() {
            if let Some(to) = client.ice.selected() {
                outbox.push(&to, &mut self.slot, &datagram);
            }
        }
    }

    /// Says goodbye.
    pub(super) fn close(&mut self, outbox: &mut Outbox) {
        if let Link::Client(client) = &mut self.link {
            client.dtls.close();
        }
        self.transmit(outbox);
    }

    /// Seals and queues what `writer` holds, and empties it.
    pub(super) fn send_rtcp(&mut self, writer: &mut rtcp::Writer, outbox: &mut Outbox) {
        if let Some(to) = self.link.selected() {
            self.send_rtcp_to(&to, writer, outbox);
        }
        writer.clear();
    }

    fn send_rtcp_to(&mut self, to: &FiveTuple, writer: &rtcp::Writer, outbox: &mut Outbox) {
        let Some(outbound) = self.outbound.as_mut().filter(|_| !writer.bytes().is_empty()) else { return };
        let start = outbox.arena().len();
        outbox.arena().extend_from_slice(writer.bytes());
        if let Some(path) = self.link.relay() {
            rtcp::rename(&mut outbox.arena()[start..], path.report_ssrc);
        }
        if outbound.seal_rtcp(outbox.arena(), start) {
            outbox.commit(to, &mut self.slot, start);
        } else {
            outbox.abort(start);
        }
    }

    /// Tries the addresses of another bridge of which nothing is heard; `writer` is empty before and after.
    pub(super) fn try_path(&mut self, now: Instant, writer: &mut rtcp::Writer, outbox: &mut Outbox) {
        let Some(path) = self.link.relay_mut() else { return };
        let candidates: SmallVec<[SocketAddr; 4]> = path.try_now(now).iter().copied().collect();
        if candidates.is_empty() {
            return;
        }
        writer.receiver_report(&[]);
        for to in candidates {
            self.send_rtcp_to(&FiveTuple::towards(to), writer, outbox);
        }
        writer.clear();
    }

    /// A sender report leaves; its answer will tell the round-trip time.
    pub(super) fn reported(&mut self, now: Instant, ntp: u64) {
        let middle = (ntp >> 16) as u32;
        self.reports[self.next_report] = (middle, Some(now));
        self.next_report = (self.next_report + 1) % REPORTS;
    }

    /// A report block answers one of our sender reports (RFC 3550 §6.4.1: RTT = A − LSR − DLSR).
    pub(super) fn answered(&mut self, came: Instant, last_sr: u32, delay: u32) {
        let report = self.reports.iter().find(|(middle, at)| *middle == last_sr && at.is_some() && last_sr != 0);
        if let Some((_, Some(at))) = report {
            let held = Duration::from_secs_f64(f64::from(delay) / 65_536.0);
            self.rtt = Some(came.duration_since(*at).saturating_sub(held));
        }
    }
}
