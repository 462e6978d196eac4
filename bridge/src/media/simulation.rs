//! Clients for the engine's tests and benchmarks: real STUN, DTLS and SRTP on a passed-in clock. The wire is a trait: a
//! [`World`] holds an engine without sockets, the loopback benchmark has real ones.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use dimpl::SrtpProfile;
use rtc::crypto::providers::RingCrypto;
use rtc::stun::attributes::{ATTR_USE_CANDIDATE, ATTR_USERNAME};
use rtc::stun::fingerprint::FINGERPRINT;
use rtc::stun::integrity::MessageIntegrity;
use rtc::stun::message::{BINDING_REQUEST, Message, Setter, TransactionId};
use rtc::stun::textattrs::TextAttribute;

use super::control::*;
use super::engine::{Crossed, Crossing, Engine, Word};
use super::rtp::{ExtensionMap, Header, Outgoing, OutgoingExtensions, Values, payload};
use super::srtp::{Inbound, OutStream, Outbound, contexts};
use super::udp::Datagram;
use crate::transport::dtls::{DEFAULT_RTO, Dtls, DtlsEvent, Identity};
use crate::transport::five_tuple::FiveTuple;

pub(crate) const MS: Duration = Duration::from_millis(1);

pub(crate) const IDS: ExtensionIds = ExtensionIds {
    mid: 4,
    rid: 10,
    repaired_rid: 11,
    audio_level: 1,
    twcc: 3,
    abs_send_time: 0,
    dependency_descriptor: 12,
    abs_capture_time: 5,
    playout_delay: 6,
    video_orientation: 0,
};

pub(crate) fn vp8(number: u8) -> PayloadType {
    PayloadType { number, codec: Codec::Vp8, rtx: Some(number + 1), profile: 0 }
}

pub(crate) fn opus(number: u8) -> PayloadType {
    PayloadType { number, codec: Codec::Opus, rtx: None, profile: 0 }
}

/// From there to the server's one address.
pub(crate) fn pair(remote: SocketAddr) -> FiveTuple {
    FiveTuple::udp(SocketAddr::from(([192, 0, 2, 1], 20_000)), remote)
}

/// What a client's datagrams and commands go through.
pub(crate) trait Wire {
    /// The time.
    fn now(&self) -> Instant;
    /// The room all transports are in.
    fn room(&self) -> RoomId;
    /// SHA-256 of the server's certificate.
    fn server(&self) -> [u8; 32];
    /// A command of signalling's.
    fn command(&mut self, command: Command);
    /// One datagram to the server.
    fn send(&mut self, from: SocketAddr, datagram: Vec<u8>);
    /// What has come for an address.
    fn take(&mut self, to: SocketAddr) -> Vec<Vec<u8>>;
}

/// The engine with a clock.
pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) engine: Engine,
    pub(crate) room: RoomId,
    pub(crate) events: Vec<Event>,
    server: [u8; 32],
    /// What the engine has sent and nobody has taken.
    wire: Vec<(SocketAddr, Vec<u8>)>,
    /// What other workers need of what has come.
    pub(crate) crossings: Vec<(Crossing, Vec<u8>)>,
}

/// The bytes of a fingerprint as SDP writes it.
pub(crate) fn hash(fingerprint: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    for (byte, text) in hash.iter_mut().zip(fingerprint.split(':')) {
        *byte = u8::from_str_radix(text, 16).unwrap();
    }
    hash
}

impl World {
    pub(crate) fn new() -> Self {
        let identity = Identity::generate(DEFAULT_RTO).unwrap();
        let (server, now, room) = (hash(identity.fingerprint()), Instant::now(), RoomId::next());
        let mut engine = Engine::new(identity);
        engine.command(now, Command::OpenRoom { room });
        Self { now, engine, room, events: Vec::new(), server, wire: Vec::new(), crossings: Vec::new() }
    }

    /// One datagram to the server which came some time ago and is handled now.
    pub(crate) fn send_earlier(&mut self, waited: Duration, from: SocketAddr, mut datagram: Vec<u8>) {
        let all = [Datagram { from: pair(from), start: 0, len: datagram.len(), waited }];
        self.engine.datagrams(self.now, &mut datagram, &all, &mut |_| {});
        let bytes = |of: Crossing| (of, datagram[of.packet.start..of.packet.start + of.packet.len].to_vec());
        self.crossings.extend(self.engine.crossings().map(bytes));
        self.collect();
    }

    /// Lets time pass, tick by tick.
    pub(crate) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.engine.poll_timeout().filter(|at| *at <= until) {
            self.now = at.max(self.now);
            self.engine.handle_timeout(self.now);
            self.collect();
        }
        self.now = until;
    }

    /// The same room on one more worker.
    pub(crate) fn beside(&self, number: usize) -> Self {
        let mut other = Self::new();
        other.engine.command(self.now, Command::CloseRoom { room: other.room });
        other.engine.command(self.now, Command::OpenRoom { room: self.room });
        Self { now: self.now, room: self.room, engine: other.engine.numbered(number), ..other }
    }

    /// Takes what is said about another worker.
    pub(crate) fn word(&mut self, word: Word) {
        self.engine.word(self.now, word);
        self.collect();
    }

    /// Takes packets of another worker.
    pub(crate) fn cross(&mut self, packets: &[(Crossing, Vec<u8>)]) {
        let (mut buffer, mut crossed) = (Vec::new(), Vec::new());
        for (Crossing { packet, .. }, bytes) in packets {
            crossed.push(Crossed { start: buffer.len(), ..*packet });
            buffer.extend_from_slice(bytes);
        }
        self.engine.crossed(self.now, &buffer, &crossed, &mut |_| {});
        self.collect();
    }

    /// What the engine has sent is on the wire, and its events are known.
    pub(crate) fn collect(&mut self) {
        for (to, datagrams) in self.engine.outbox().queues() {
            self.wire.extend(datagrams.map(|datagram| (to.remote, datagram.to_vec())));
        }
        self.engine.sent();
        self.events.extend(self.engine.events());
    }
}

impl Wire for World {
    fn now(&self) -> Instant {
        self.now
    }

    fn room(&self) -> RoomId {
        self.room
    }

    fn server(&self) -> [u8; 32] {
        self.server
    }

    fn command(&mut self, command: Command) {
        self.engine.command(self.now, command);
        self.collect();
    }

    fn send(&mut self, from: SocketAddr, datagram: Vec<u8>) {
        self.send_earlier(Duration::ZERO, from, datagram);
    }

    fn take(&mut self, to: SocketAddr) -> Vec<Vec<u8>> {
        let (mine, rest) = std::mem::take(&mut self.wire).into_iter().partition(|(address, _)| *address == to);
        self.wire = rest;
        let mine: Vec<(SocketAddr, Vec<u8>)> = mine;
        mine.into_iter().map(|(_, datagram)| datagram).collect()
    }
}

/// A received RTP packet, opened.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) header: Header,
    pub(crate) mid: Vec<u8>,
    /// Its transport-wide sequence number.
    pub(crate) number: Option<u16>,
    /// The elements of its header extension, (id, value).
    pub(crate) elements: Vec<(u8, Vec<u8>)>,
    pub(crate) payload: Vec<u8>,
    /// Bytes of RTP padding.
    pub(crate) padding: usize,
}

/// A client.
pub(crate) struct Client {
    pub(crate) transport: TransportId,
    pub(crate) address: SocketAddr,
    ice: IceParameters,
    dtls: Dtls,
    inbound: Option<Inbound>,
    outbound: Option<Outbound>,
    streams: Vec<OutStream>,
    /// What came before the keys were here.
    early: Vec<Vec<u8>>,
}

impl Client {
    /// Opens a transport and connects it.
    pub(crate) fn connect(world: &mut impl Wire, address: &str) -> Self {
        let mut client = Self::open(world, address);
        client.check(world, true);
        client.handshake(world);
        assert!(client.outbound.is_some(), "connected");
        client
    }

    /// Opens a transport and sends nothing yet.
    pub(crate) fn open(world: &mut impl Wire, address: &str) -> Self {
        let (client, open) = Self::prepare(world, address);
        world.command(open);
        client
    }

    /// A client whose answer is not there yet, and the command that opens its transport then.
    pub(crate) fn prepare(world: &mut impl Wire, address: &str) -> (Self, Command) {
        let (identity, transport) = (Identity::generate(DEFAULT_RTO).unwrap(), TransportId::next());
        let ice = IceParameters {
            local_ufrag: format!("ufrag{}", transport.0),
            local_pwd: "a password of the server, long".into(),
            remote_ufrag: "theirs".into(),
            remote_pwd: "a password of the client, long".into(),
        };
        let dtls = DtlsParameters { remote_fingerprint: hash(identity.fingerprint()), active: false };
        let room = world.room();
        let open = Command::OpenTransport { transport, room, ice: ice.clone(), dtls, open_channels: false };
        let dtls = Dtls::new(world.now(), &identity, true, world.server());
        let address = address.parse().unwrap();
        let (inbound, outbound, streams, early) = Default::default();
        (Self { transport, address, ice, dtls, inbound, outbound, streams, early }, open)
    }

    /// What was offered to it: its checks may come.
    pub(crate) fn expected(&self) -> Command {
        let (local_ufrag, local_pwd) = (self.ice.local_ufrag.clone(), self.ice.local_pwd.clone());
        Command::ExpectChecks { transport: self.transport, local_ufrag, local_pwd }
    }

    /// New credentials on both sides, and the command that makes them hold.
    pub(crate) fn restart(&mut self) -> Command {
        self.ice.local_ufrag.push_str("again");
        self.ice.remote_ufrag.push_str("again");
        Command::RestartIce { transport: self.transport, ice: self.ice.clone() }
    }

    /// Whether SRTP is up.
    pub(crate) fn connected(&self) -> bool {
        self.outbound.is_some()
    }

    /// A connectivity check; true if it was answered.
    pub(crate) fn check(&mut self, world: &mut impl Wire, nominate: bool) -> bool {
        self.check_with(world, nominate, &self.ice.local_pwd.clone())
    }

    pub(crate) fn check_with(&mut self, world: &mut impl Wire, nominate: bool, pwd: &str) -> bool {
        struct UseCandidate;
        impl Setter for UseCandidate {
            fn add_to(&self, message: &mut Message) -> rtc::shared::error::Result<()> {
                message.add(ATTR_USE_CANDIDATE, &[]);
                Ok(())
            }
        }
        let username = format!("{}:{}", self.ice.local_ufrag, self.ice.remote_ufrag);
        let mut setters: Vec<Box<dyn Setter>> = vec![
            Box::new(TransactionId::new()),
            Box::new(BINDING_REQUEST),
            Box::new(TextAttribute::new(ATTR_USERNAME, username)),
        ];
        if nominate {
            setters.push(Box::new(UseCandidate));
        }
        setters.push(Box::new(MessageIntegrity::new_short_term_integrity_with_provider(pwd.to_owned(), &RingCrypto)));
        setters.push(Box::new(FINGERPRINT));
        let mut request = Message::new();
        request.build(&setters).unwrap();
        world.send(self.address, request.raw);
        let answers = world.take(self.address);
        let answered = answers.iter().any(|datagram| datagram[0] < 4);
        for datagram in answers {
            if datagram[0] >= 20 {
                self.dtls.handle(world.now(), &datagram);
            }
        }
        answered
    }

    pub(crate) fn handshake(&mut self, world: &mut impl Wire) {
        self.dtls.start(world.now());
        let limit = Instant::now() + Duration::from_secs(10);
        while Instant::now() < limit {
            self.dtls.handle_timeout(world.now());
            while let Some(datagram) = self.dtls.poll_transmit() {
                world.send(self.address, datagram);
            }
            for datagram in world.take(self.address) {
                match datagram[0] {
                    128.. => self.early.push(datagram),
                    _ => self.dtls.handle(world.now(), &datagram),
                }
            }
            while let Some(event) = self.dtls.poll_event() {
                if let DtlsEvent::Connected(keys) = event {
                    assert_eq!(keys.profile(), SrtpProfile::AEAD_AES_256_GCM);
                    let (inbound, outbound) = contexts(keys.profile(), keys.remote(), keys.local()).unwrap();
                    (self.inbound, self.outbound) = (Some(inbound), Some(outbound));
                }
            }
            if self.outbound.is_some() {
                return;
            }
        }
    }

    /// Negotiates what this client sends and gets.
    pub(crate) fn negotiate(&self, world: &mut impl Wire, receive: Vec<ReceiveSection>, send: Vec<SendSection>) {
        self.negotiate_as(world, IDS, receive, send);
    }

    /// The same with other ids of the header extensions.
    pub(crate) fn negotiate_as(
        &self,
        world: &mut impl Wire,
        extensions: ExtensionIds,
        receive: Vec<ReceiveSection>,
        send: Vec<SendSection>,
    ) {
        world.command(Command::Negotiated { transport: self.transport, extensions, receive, send });
    }

    /// The encrypted packet.
    pub(crate) fn seal(&mut self, header: &Outgoing, index: u64, values: &[(u8, &[u8])], body: &[u8]) -> Vec<u8> {
        let at = self.streams.iter().position(|stream| stream.ssrc() == header.ssrc);
        let outbound = self.outbound.as_mut().unwrap();
        let at = at.unwrap_or_else(|| {
            self.streams.push(outbound.stream(header.ssrc).unwrap());
            self.streams.len() - 1
        });
        let mut packet = Vec::new();
        OutgoingExtensions::of(values).write(header, &mut packet);
        let len = packet.len();
        packet.extend_from_slice(body);
        assert!(outbound.seal_rtp(&mut self.streams[at], index, &mut packet, 0, len));
        packet
    }

    /// 20 ms of Opus, sealed: the packet of that number of a microphone's, so many dB below the loudest.
    pub(crate) fn spoken(&mut self, ssrc: u32, number: u16, level: u8) -> Vec<u8> {
        let timestamp = u32::from(number) * 960;
        let header = Outgoing { marker: false, payload_type: 111, sequence: number, timestamp, ssrc };
        self.seal(&header, number.into(), &[(IDS.audio_level, &[level])], b"opus")
    }

    /// Sends an RTCP packet.
    pub(crate) fn rtcp(&mut self, world: &mut impl Wire, plain: &[u8]) {
        let packet = self.seal_rtcp(plain);
        world.send(self.address, packet);
    }

    /// The encrypted RTCP packet.
    pub(crate) fn seal_rtcp(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut packet = plain.to_vec();
        assert!(self.outbound.as_mut().unwrap().seal_rtcp(&mut packet, 0));
        packet
    }

    /// What arrived: RTP packets, and the RTCP compounds in plain.
    pub(crate) fn receive(&mut self, world: &mut impl Wire) -> (Vec<Got>, Vec<Vec<u8>>) {
        let (mut packets, mut reports) = (Vec::new(), Vec::new());
        for mut datagram in std::mem::take(&mut self.early).into_iter().chain(world.take(self.address)) {
            let inbound = self.inbound.as_mut().unwrap();
            match (datagram[0], datagram[1]) {
                (128..=191, 192..=223) => {
                    let len = inbound.open_rtcp(&mut datagram).expect("authentic");
                    reports.push(datagram[..len].to_vec());
                }
                (128..=191, _) => {
                    let header = Header::read(&datagram).unwrap();
                    let opened =
                        inbound.open_rtp(&mut datagram, header.len, header.ssrc, header.sequence).expect("authentic");
                    let packet = &datagram[..opened.len];
                    let values = Values::read(&ExtensionMap::new(&IDS), &header, packet);
                    packets.push(Got {
                        header,
                        mid: values.mid.unwrap_or_default().to_vec(),
                        number: values.twcc,
                        elements: header.elements(packet).map(|(id, value)| (id, value.to_vec())).collect(),
                        payload: payload(&header, packet).unwrap().to_vec(),
                        padding: packet.len() - header.len - payload(&header, packet).unwrap().len(),
                    });
                }
                (20..=63, _) => self.dtls.handle(world.now(), &datagram),
                _ => {}
            }
        }
        (packets, reports)
    }
}

/// A camera with simulcast, as Chromium sends it.
pub(crate) struct Camera {
    pub(crate) track: TrackId,
    rids: Vec<&'static str>,
    /// Next sequence number and picture id of each layer.
    next: Vec<(u64, u16)>,
    /// Bytes of payload in each packet, if more than the fewest.
    pub(crate) payload: usize,
    /// It leaves out mid and RID, as a client does that knows that its packets have come.
    pub(crate) bare: bool,
    /// Each packet tells when its picture was taken (milliseconds, where abs-capture-time has NTP) and how long it may wait to
    /// be shown ([`PLAYOUT_DELAY`]).
    pub(crate) timed: bool,
}

/// Both limits as the extension writes them: 18 × 10 ms and 52 × 10 ms, 12 bits each.
pub(crate) const PLAYOUT_DELAY: [u8; 3] = [0x01, 0x20, 0x34];

impl Camera {
    pub(crate) fn new(rids: &[&'static str]) -> Self {
        let next = (0..rids.len().max(1) as u64).map(|layer| (65_500 + 10 * layer, 100 * layer as u16)).collect();
        Self { track: TrackId::next(), rids: rids.to_vec(), next, payload: 0, bare: false, timed: false }
    }

    pub(crate) fn section(&self, mid: &str) -> ReceiveSection {
        ReceiveSection {
            mid: mid.to_owned(),
            track: self.track,
            kind: Kind::Video,
            payload_types: vec![vp8(96)],
            rids: self.rids.iter().map(|rid| (*rid).to_owned()).collect(),
            ssrcs: Vec::new(),
        }
    }

    pub(crate) fn ssrc(layer: usize) -> u32 {
        1000 + layer as u32
    }

    pub(crate) fn rtx_ssrc(layer: usize) -> u32 {
        2000 + layer as u32
    }

    /// Leaves out a sequence number.
    pub(crate) fn skip(&mut self, layer: usize) {
        self.next[layer].0 += 1;
    }

    /// The encrypted packets of one frame of a layer at a time in milliseconds.
    pub(crate) fn frame(
        &mut self,
        client: &mut Client,
        mid: &str,
        layer: usize,
        ms: u32,
        key: bool,
        packets: usize,
    ) -> Vec<Vec<u8>> {
        let (next, picture) = &mut self.next[layer];
        let mut all = Vec::new();
        for i in 0..packets {
            let header = Outgoing {
                marker: i + 1 == packets,
                payload_type: 96,
                sequence: *next as u16,
                timestamp: (ms * 90).wrapping_add(7_777 * layer as u32),
                ssrc: Self::ssrc(layer),
            };
            let mut body = vp8_payload(*picture, *picture as u8, key, i == 0, layer as u8);
            body.resize(self.payload.max(body.len()), 0xaa);
            *body.last_mut().unwrap() = layer as u8;
            let mut values: Vec<(u8, &[u8])> = vec![(IDS.mid, mid.as_bytes())];
            if let Some(rid) = self.rids.get(layer) {
                values.push((IDS.rid, rid.as_bytes()));
            }
            if self.bare {
                values.clear();
            }
            let taken = u64::from(ms).to_be_bytes();
            if self.timed {
                values.extend([(IDS.abs_capture_time, &taken[..]), (IDS.playout_delay, &PLAYOUT_DELAY[..])]);
            }
            all.push(client.seal(&header, *next, &values, &body));
            *next += 1;
        }
        *picture += 1;
        all
    }
}

/// A VP8 payload whose last byte names the layer.
pub(crate) fn vp8_payload(picture: u16, tl0: u8, key: bool, start: bool, layer: u8) -> Vec<u8> {
    let [high, low] = picture.to_be_bytes();
    let mut body = vec![if start { 0x90 } else { 0x80 }, 0xe0, 0x80 | high, low, tl0, 0x20, u8::from(!key)];
    body.extend_from_slice(&[0xaa; 90]);
    body.push(layer);
    body
}

/// (picture id, TL0PICIDX, layer) of a payload made by [`vp8_payload`].
pub(crate) fn read_payload(body: &[u8]) -> (u16, u8, u8) {
    (u16::from_be_bytes([body[2] & 0x7f, body[3]]), body[4], *body.last().unwrap())
}

/// The m-section of a microphone.
pub(crate) fn sound_section(mid: impl ToString, track: TrackId, ssrc: u32) -> ReceiveSection {
    ReceiveSection {
        mid: mid.to_string(),
        track,
        kind: Kind::Audio,
        payload_types: vec![opus(111)],
        rids: vec![],
        ssrcs: vec![(ssrc, None)],
    }
}

pub(crate) fn leg(track: TrackId, kind: Kind, mid: &str) -> SendSection {
    let leg = LegId::next();
    SendSection {
        leg,
        track,
        mid: mid.to_owned(),
        payload_types: vec![if kind == Kind::Video { vp8(120) } else { opus(109) }],
        ssrc: 0x5000_0000 + leg.0 as u32,
        rtx_ssrc: 0x6000_0000 + leg.0 as u32,
        transport_wide: false, // what answers with feedback says so
        wanted: Wanted::BEST,
    }
}
