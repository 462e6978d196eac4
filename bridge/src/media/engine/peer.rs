//! One PeerConnection as the engine sees it: ICE, DTLS, SCTP and SRTP state, what it publishes and what it gets.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::super::allocation::Memory;
use super::super::bandwidth::Bandwidth;
use super::super::control::{
    Channel, DtlsParameters, Event, ExtensionIds, IceParameters, LegId, ReceiveSection, RoomId, SendSection,
    TransportId,
};
use super::super::leg::Destination;
use super::super::outbox::{Outbox, Slot};
use super::super::rtcp;
use super::super::rtp::ExtensionMap;
use super::super::srtp::{Inbound, Outbound, contexts};
use super::super::twcc;
use super::quality::Measured;
use super::replay::Allowance;
use crate::transport::data::{Data, DataEnd, DataEvent, SendRefusal};
use crate::transport::dtls::{Dtls, DtlsEnd, DtlsEvent, Identity};
use crate::transport::ice::IceLite;

/// Sender reports whose answers can still be timed.
const REPORTS: usize = 8;
/// Messages that may wait for DTLS.
const MAX_EARLY: usize = 256;
/// SSRCs remembered of one peer; the oldest go first.
const MAX_STREAMS: usize = 64;

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
    /// What the tests say the budget is, whatever the estimate.
    #[cfg(test)]
    pub(super) limit: Option<u64>,
}

/// One PeerConnection.
pub(super) struct Peer {
    pub(super) id: TransportId,
    pub(super) room: RoomId,
    pub(super) ice: IceLite,
    dtls: Dtls,
    /// From the moment DTLS is up.
    data: Option<Data>,
    /// Messages to send once it is.
    early: Vec<(Channel, Bytes)>,
    active: bool,
    open_channels: bool,
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
    /// The engine has noticed that DTLS is up.
    pub(super) opened: bool,
}

impl Peer {
    pub(super) fn new(
        now: Instant,
        identity: &Identity,
        (id, room): (TransportId, RoomId),
        ice: &IceParameters,
        dtls: &DtlsParameters,
        open_channels: bool,
    ) -> Self {
        Self {
            id,
            room,
            ice: IceLite::new(now, ice),
            dtls: Dtls::new(now, identity, dtls.active, dtls.remote_fingerprint),
            data: None,
            early: Vec::new(),
            active: dtls.active,
            open_channels,
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
            opened: false,
        }
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
        if self.streams.len() == MAX_STREAMS {
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
        let to = self.ice.selected()?;
        let outbound = self.outbound.as_mut()?;
        let bandwidth = &mut self.bandwidth;
        Some(Destination { outbound, to, slot: &mut self.slot, extensions: &self.ids, bandwidth })
    }

    /// Bits per second for everything sent on this transport, headers down to IP included; `None` while nothing is known
    /// to limit it.
    pub(super) fn budget(&self) -> Option<u64> {
        let estimate = self.bandwidth.budget();
        #[cfg(test)]
        let estimate = self.allocation.limit.or(estimate);
        estimate
    }

    /// What an upgrade would need, in bits per second for everything sent on this transport; `None` when nothing could be
    /// upgraded, and so nothing is probed.
    pub(super) fn wish(&mut self, bits: Option<u64>) {
        self.bandwidth.wish(bits);
    }

    /// A DTLS datagram.
    pub(super) fn dtls(&mut self, now: Instant, datagram: &[u8], events: &mut Vec<Event>) -> Option<DtlsEnd> {
        self.dtls.handle(now, datagram);
        self.work(now, events)
    }

    /// ICE has an address.
    pub(super) fn start_dtls(&mut self, now: Instant, events: &mut Vec<Event>) -> Option<DtlsEnd> {
        self.dtls.start(now);
        self.work(now, events)
    }

    /// Timers of DTLS and SCTP.
    pub(super) fn timers(&mut self, now: Instant, events: &mut Vec<Event>) -> Option<DtlsEnd> {
        let dtls = self.dtls.poll_timeout().is_some_and(|at| at <= now);
        let data = self.data.as_mut().filter(|data| data.poll_timeout().is_some_and(|at| at <= now));
        if !dtls && data.is_none() {
            return None;
        }
        if let Some(data) = data {
            data.handle_timeout(now);
        }
        if dtls {
            self.dtls.handle_timeout(now);
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
        match &mut self.data {
            Some(data) => {
                if let Err(SendRefusal::Overflow) = data.send(now, channel, payload) {
                    return Some(DtlsEnd::Data("reliable messages are not read"));
                }
            }
            None if self.early.len() < MAX_EARLY => self.early.push((channel, payload)),
            None => return Some(DtlsEnd::Data("too many messages before the connection")),
        }
        self.work(now, events)
    }

    /// Moves what DTLS and SCTP have for each other and for the engine, until both are quiet.
    fn work(&mut self, now: Instant, events: &mut Vec<Event>) -> Option<DtlsEnd> {
        let mut end = None;
        loop {
            let mut quiet = true;
            while let Some(event) = self.dtls.poll_event() {
                quiet = false;
                match event {
                    DtlsEvent::Connected(keys) => {
                        match contexts(keys.profile(), keys.remote(), keys.local()) {
                            Some((inbound, outbound)) => {
                                (self.inbound, self.outbound) = (Some(inbound), Some(outbound));
                                self.ice.heard(now);
                                let mut data = Data::new(now, self.active, self.open_channels);
                                for (channel, payload) in self.early.drain(..) {
                                    let _ = data.send(now, channel, payload); // at most MAX_EARLY: no overflow yet
                                }
                                self.data = Some(data);
                                if let Some(remote) = self.ice.selected() {
                                    events.push(Event::Connected { transport: self.id, remote });
                                }
                            }
                            None => end = Some(DtlsEnd::NoSrtp),
                        }
                    }
                    DtlsEvent::Data(packet) => {
                        self.ice.heard(now);
                        if let Some(data) = &mut self.data {
                            data.handle(now, packet);
                        }
                    }
                    DtlsEvent::Ended(reason) => end = Some(reason),
                }
            }
            let Some(data) = &mut self.data else { return end };
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
                self.dtls.write(&packet);
            }
            if quiet {
                return end;
            }
        }
    }

    /// Puts waiting DTLS datagrams into the outbox.
    pub(super) fn transmit(&mut self, outbox: &mut Outbox) {
        while let Some(datagram) = self.dtls.poll_transmit() {
            if let Some(to) = self.ice.selected() {
                outbox.push(to, &mut self.slot, &datagram);
            }
        }
    }

    /// Says goodbye.
    pub(super) fn close(&mut self, outbox: &mut Outbox) {
        self.dtls.close();
        self.transmit(outbox);
    }

    /// Seals and queues what `writer` holds, and empties it.
    pub(super) fn send_rtcp(&mut self, writer: &mut rtcp::Writer, outbox: &mut Outbox) {
        if !writer.bytes().is_empty()
            && let (Some(outbound), Some(to)) = (&mut self.outbound, self.ice.selected())
        {
            let start = outbox.arena().len();
            outbox.arena().extend_from_slice(writer.bytes());
            if outbound.seal_rtcp(outbox.arena(), start) {
                outbox.commit(to, &mut self.slot, start);
            } else {
                outbox.abort(start);
            }
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
    pub(super) fn answered(&mut self, now: Instant, last_sr: u32, delay: u32) {
        let report = self.reports.iter().find(|(middle, at)| *middle == last_sr && at.is_some() && last_sr != 0);
        if let Some((_, Some(at))) = report {
            let held = Duration::from_secs_f64(f64::from(delay) / 65_536.0);
            self.rtt = Some(now.duration_since(*at).saturating_sub(held));
        }
    }
}
