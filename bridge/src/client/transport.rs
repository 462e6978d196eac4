//! One media transport of a participant: ICE, DTLS, SRTP, RTCP, tied together. Sans-IO.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::ice::{Agent, Outcome};
use super::port::Outgoing;
use super::sdp::{Mapping, Remote};
use super::source::{Meta, Sending, Source, SourceId, Way};
use super::stream::{Packet, Receiving};
use super::stun;
use super::types::{Ended, Event, Local, TransportTotals};
use crate::media::control::ExtensionIds;
use crate::media::rtcp::{self, Feedback, MAX_COMPOUND, OUR_SSRC, Writer};
use crate::media::rtp::{self, ExtensionMap, Header, Values};
use crate::media::srtp::{Inbound, Outbound, contexts};
use crate::media::twcc::{self, Recorder};
use crate::transport::dtls::{Dtls, DtlsEvent, Identity};

/// Pause between two receiver and sender reports.
const REPORTS: Duration = Duration::from_secs(1);
/// Assumed until it is known.
const DEFAULT_RTT: Duration = Duration::from_millis(50);
/// Streams a server may send at once on a transport; more are ignored.
const MAX_STREAMS: usize = 1024;
/// Retransmissions for one request.
const MAX_REPAIRS: usize = 128;

struct Srtp {
    inbound: Inbound,
    outbound: Outbound,
}

/// A transport. Call [`Self::tick`] every 10 ms or so.
pub struct Transport {
    identity: Identity,
    ice: Agent,
    dtls: Option<Dtls>,
    srtp: Option<Srtp>,
    ended: bool,
    ids: ExtensionIds,
    map: ExtensionMap,
    mapping: Mapping,
    twcc: Recorder,
    twcc_due: Instant,
    twcc_next: u16,
    reports_due: Instant,
    sources: Vec<Sending>,
    streams: Vec<Receiving>,
    writer: Writer,
    nacks: Vec<u16>,
    totals: TransportTotals,
}

impl Transport {
    /// A transport that knows nothing of its server yet.
    #[must_use]
    pub fn new(now: Instant, local: &Local) -> Self {
        Self {
            identity: local.identity.clone(),
            ice: Agent::new(now, &local.ufrag, &local.password),
            dtls: None,
            srtp: None,
            ended: false,
            ids: ExtensionIds::default(),
            map: ExtensionMap::new(&ExtensionIds::default()),
            mapping: Mapping::default(),
            twcc: Recorder::new(now),
            twcc_due: now,
            twcc_next: 1,
            reports_due: now,
            sources: Vec::new(),
            streams: Vec::new(),
            writer: Writer::default(),
            nacks: Vec::new(),
            totals: TransportTotals::default(),
        }
    }

    /// What the server's description says, the first and all later ones.
    pub fn remote(&mut self, now: Instant, remote: &Remote) {
        self.ids = remote.extensions;
        self.map = ExtensionMap::new(&remote.extensions);
        self.mapping.clone_from(&remote.mapping);
        remote.candidates.iter().for_each(|candidate| self.ice.add_candidate(*candidate));
        if self.dtls.is_none() {
            self.dtls = Some(Dtls::new(now, &self.identity, !remote.active, remote.fingerprint));
        }
        self.ice.start(now, &remote.ufrag, &remote.password);
    }

    /// An address of the server that came by trickling.
    pub fn add_candidate(&mut self, address: SocketAddr) {
        self.ice.add_candidate(address);
    }

    /// Whether media can flow.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.srtp.is_some() && !self.ended
    }

    /// The counters.
    #[must_use]
    pub fn totals(&self) -> TransportTotals {
        self.totals
    }

    /// Starts a source; `None` before the transport is connected, or when its SSRC is taken.
    pub fn add_source(&mut self, source: Source) -> Option<SourceId> {
        let sending = Sending::new(source, &mut self.srtp.as_mut()?.outbound)?;
        self.sources.push(sending);
        Some(SourceId(self.sources.len() - 1))
    }

    /// Sends a media packet. `audio_level` as in RFC 6464: bit 7 voice, bits 0–6 −dBov.
    pub fn send(
        &mut self,
        now: Instant,
        source: SourceId,
        (marker, timestamp, audio_level): (bool, u32, Option<u8>),
        payload: &[u8],
        out: &mut Outgoing,
    ) {
        let (Some(srtp), Some(to), Some(sending)) =
            (&mut self.srtp, self.ice.selected(), self.sources.get_mut(source.0))
        else {
            return;
        };
        let meta = Meta { marker, timestamp, audio_level };
        let outbound = &mut srtp.outbound;
        let way = Way { to, ids: &self.ids, transport_wide: &mut self.twcc_next, outbound };
        if sending.send(now, way, (&meta, payload), out) {
            self.totals.sent += 1;
        }
    }

    /// Asks for a key frame of a stream, at most every 500 ms.
    pub fn ask_key_frame(&mut self, now: Instant, ssrc: u32, out: &mut Outgoing) {
        if self.streams.iter_mut().any(|stream| stream.ssrc == ssrc && stream.ask_key_frame(now)) {
            self.totals.key_frames_asked += 1;
            self.writer.clear();
            self.writer.receiver_report(&[]);
            self.writer.picture_loss(ssrc);
            self.send_rtcp(out);
        }
    }

    /// A datagram from the server.
    pub fn handle(
        &mut self,
        now: Instant,
        from: SocketAddr,
        datagram: &mut [u8],
        out: &mut Outgoing,
        on: &mut dyn FnMut(Event<'_>),
    ) {
        match datagram.first() {
            _ if stun::is_ours(datagram) => {
                if self.ice.handle(now, from, datagram, out) == Outcome::Connected
                    && let Some(dtls) = &mut self.dtls
                {
                    dtls.start(now);
                    self.dtls_output(out, on);
                }
            }
            Some(20..=63) => {
                if let Some(dtls) = &mut self.dtls {
                    dtls.handle(now, datagram);
                    self.dtls_output(out, on);
                }
            }
            Some(128..=191) if datagram.get(1).is_some_and(|kind| (192..=223).contains(kind)) => {
                self.rtcp(now, datagram, out, on);
            }
            Some(128..=191) => self.rtp(now, datagram, on),
            _ => {}
        }
    }

    /// Does what is due by time.
    pub fn tick(&mut self, now: Instant, out: &mut Outgoing, on: &mut dyn FnMut(Event<'_>)) {
        if self.ended {
            return;
        }
        self.ice.tick(now, out);
        if self.ice.is_lost(now) {
            self.end(Ended::Unreachable, on);
            return;
        }
        if let Some(dtls) = &mut self.dtls
            && dtls.poll_timeout().is_some_and(|at| at <= now)
        {
            dtls.handle_timeout(now);
            self.dtls_output(out, on);
        }
        if self.srtp.is_none() {
            return;
        }
        self.repairs(now, out);
        if now >= self.twcc_due && !self.twcc.is_empty() {
            self.twcc_due = now + twcc::INTERVAL;
            let media = self.streams.first().map_or(0, |stream| stream.ssrc);
            loop {
                self.writer.clear();
                if !self.twcc.write(OUR_SSRC, media, self.writer.buffer()) {
                    break;
                }
                self.send_rtcp(out);
            }
        }
        if now >= self.reports_due {
            self.reports_due = now + REPORTS;
            self.reports(now, out);
        }
    }

    /// Says goodbye (DTLS close_notify).
    pub fn close(&mut self, out: &mut Outgoing) {
        if let Some(dtls) = &mut self.dtls {
            dtls.close();
            self.dtls_output(out, &mut |_| {});
        }
        self.ended = true;
    }

    fn end(&mut self, why: Ended, on: &mut dyn FnMut(Event<'_>)) {
        if !std::mem::replace(&mut self.ended, true) {
            on(Event::Ended(why));
        }
    }

    fn dtls_output(&mut self, out: &mut Outgoing, on: &mut dyn FnMut(Event<'_>)) {
        let (Some(dtls), Some(to)) = (&mut self.dtls, self.ice.selected()) else { return };
        while let Some(datagram) = dtls.poll_transmit() {
            out.push(to, &datagram);
        }
        let mut end = None;
        while let Some(event) = dtls.poll_event() {
            match event {
                DtlsEvent::Connected(keys) => {
                    match contexts(keys.profile(), keys.remote(), keys.local()) {
                        Some((inbound, outbound)) => {
                            self.srtp = Some(Srtp { inbound: inbound.with_streams(MAX_STREAMS), outbound });
                        }
                        None => end = Some(Ended::Keys),
                    }
                    on(Event::Connected(keys.profile().to_string()));
                }
                DtlsEvent::Data(_) => {} // SCTP: there are no data channels
                DtlsEvent::Ended(why) => end = Some(why.into()),
            }
        }
        if let Some(why) = end {
            self.end(why, on);
        }
    }

    fn rtp(&mut self, now: Instant, datagram: &mut [u8], on: &mut dyn FnMut(Event<'_>)) {
        let (Some(header), Some(srtp)) = (Header::read(datagram), &mut self.srtp) else { return };
        let Some(opened) = srtp.inbound.open_rtp(datagram, header.len, header.ssrc, header.sequence) else {
            self.totals.unauthentic += 1;
            return;
        };
        let packet = &datagram[..opened.len];
        self.totals.received += 1;
        self.totals.received_bytes += packet.len() as u64;
        if let Some(number) = Values::read(&self.map, &header, packet).twcc {
            self.twcc.record(now, number);
        }
        let Some(payload) = rtp::payload(&header, packet) else { return };
        if let Some(media) = self.mapping.repaired_by(header.ssrc) {
            self.repaired(now, media, &header, payload, on);
            return;
        }
        let Some(clock_rate) = self.mapping.clock_rate(header.payload_type) else { return };
        let repairable = self.mapping.is_repairable(header.ssrc);
        let at = self.streams.iter().position(|stream| stream.ssrc == header.ssrc).or_else(|| {
            (self.streams.len() < MAX_STREAMS).then(|| {
                self.streams.push(Receiving::new(now, header.ssrc, clock_rate, repairable, opened.index));
                self.streams.len() - 1
            })
        });
        let Some(at) = at else { return };
        self.streams[at].receive(now, opened.index, header.timestamp, false);
        on(Event::Packet(Packet {
            ssrc: header.ssrc,
            index: opened.index,
            payload_type: header.payload_type,
            timestamp: header.timestamp,
            marker: header.marker,
            payload,
            repaired: false,
        }));
    }

    /// RFC 4588 §4: the original sequence number, then the original payload.
    fn repaired(&mut self, now: Instant, media: u32, header: &Header, payload: &[u8], on: &mut dyn FnMut(Event<'_>)) {
        let Some((sequence, payload)) = payload.split_first_chunk::<2>() else { return }; // padding: a probe
        let Some(stream) = self.streams.iter_mut().find(|stream| stream.ssrc == media) else { return };
        let Some(index) = stream.missing(u16::from_be_bytes(*sequence)) else {
            self.totals.duplicates += 1;
            return;
        };
        stream.receive(now, index, header.timestamp, true);
        on(Event::Packet(Packet {
            ssrc: media,
            index,
            payload_type: header.payload_type,
            timestamp: header.timestamp,
            marker: header.marker,
            payload,
            repaired: true,
        }));
    }

    fn rtcp(&mut self, now: Instant, datagram: &mut [u8], out: &mut Outgoing, on: &mut dyn FnMut(Event<'_>)) {
        let (Some(srtp), Some(to)) = (&mut self.srtp, self.ice.selected()) else { return };
        let Some(len) = srtp.inbound.open_rtcp(datagram) else {
            self.totals.unauthentic += 1;
            return;
        };
        for feedback in rtcp::read(&datagram[..len]) {
            match feedback {
                Feedback::Sender(report) => {
                    if let Some(stream) = self.streams.iter_mut().find(|stream| stream.ssrc == report.ssrc) {
                        stream.sender_report(now, report.ntp_time);
                    }
                }
                Feedback::Nack(nack) => {
                    let source = self.sources.iter_mut().find(|sending| sending.source.ssrc == nack.media_ssrc);
                    let Some(sending) = source else { continue };
                    for sequence in nack.sequences().take(MAX_REPAIRS) {
                        let (ids, transport_wide) = (&self.ids, &mut self.twcc_next);
                        let way = Way { to, ids, transport_wide, outbound: &mut srtp.outbound };
                        if sending.repair(sequence, way, out) {
                            self.totals.repairs_sent += 1;
                        }
                    }
                }
                Feedback::KeyFrame(ssrc) => {
                    if let Some(at) = self.sources.iter().position(|sending| sending.source.ssrc == ssrc) {
                        on(Event::KeyFrameWanted(SourceId(at)));
                    }
                }
                _ => {} // what the server thinks of our bandwidth is no matter of a load test
            }
        }
    }

    /// Asks for what is missing.
    fn repairs(&mut self, now: Instant, out: &mut Outgoing) {
        let rtt = self.ice.rtt().unwrap_or(DEFAULT_RTT);
        self.writer.clear();
        for stream in self.streams.iter_mut().filter(|stream| stream.repairable) {
            self.nacks.clear();
            stream.nacks(now, rtt, &mut self.nacks);
            if !self.nacks.is_empty() {
                self.totals.nacks_sent += self.nacks.len() as u64;
                self.writer.nack(stream.ssrc, &self.nacks);
            }
            if stream.take_overrun() && stream.ask_key_frame(now) {
                self.totals.key_frames_asked += 1;
                self.writer.picture_loss(stream.ssrc);
            }
            if self.writer.bytes().len() > MAX_COMPOUND - 300 {
                break; // the rest follows at the next tick
            }
        }
        self.send_rtcp(out);
    }

    fn reports(&mut self, now: Instant, out: &mut Outgoing) {
        self.writer.clear();
        for sending in &self.sources {
            if let Some(report) = sending.report(now) {
                self.writer.sender_report(sending.source.ssrc, report);
            }
        }
        self.send_rtcp(out);
        let mut at = 0;
        while at < self.streams.len() {
            let end = (at + 31).min(self.streams.len());
            let blocks: smallvec::SmallVec<[_; 31]> =
                self.streams[at..end].iter_mut().map(|stream| (stream.ssrc, stream.report(now))).collect();
            self.writer.clear();
            self.writer.receiver_report(&blocks);
            self.send_rtcp(out);
            at = end;
        }
    }

    /// Seals and queues what the writer holds.
    fn send_rtcp(&mut self, out: &mut Outgoing) {
        let (Some(srtp), Some(to)) = (&mut self.srtp, self.ice.selected()) else { return };
        if self.writer.bytes().is_empty() {
            return;
        }
        let start = out.arena().len();
        out.arena().extend_from_slice(self.writer.bytes());
        if srtp.outbound.seal_rtcp(out.arena(), start) {
            out.commit(to, start);
        } else {
            out.abort(start);
        }
    }
}
