//! SDP, ICE-lite, DTLS and data channels together against `rtc`'s whole PeerConnection (what the bots of the `webrtc` crate
//! run on), in the PeerConnections of the protocol, on a simulated network.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use rtc::data_channel::{RTCDataChannelId, RTCDataChannelInit};
use rtc::peer_connection::configuration::RTCConfigurationBuilder;
use rtc::peer_connection::configuration::media_engine::MediaEngine;
use rtc::peer_connection::event::{RTCDataChannelEvent, RTCPeerConnectionEvent};
use rtc::peer_connection::message::RTCMessage;
use rtc::peer_connection::sdp::RTCSessionDescription;
use rtc::peer_connection::state::RTCPeerConnectionState;
use rtc::peer_connection::transport::{CandidateConfig, CandidateHostConfig, RTCIceCandidate};
use rtc::peer_connection::{RTCPeerConnection, RTCPeerConnectionBuilder};
use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use rtc::sansio::Protocol;
use rtc::shared::{TaggedBytesMut, TransportContext, TransportProtocol};

use super::data::{Data, DataEvent};
use super::dtls::{Dtls, DtlsEvent, Identity, Keys};
use super::five_tuple::FiveTuple;
use super::ice::{IceLite, generate_credentials, stun_username};
use super::sdp::{
    Answerer, LocalTransport, OfferedTrack, OpusOptions, Plan, RemoteDescription, RemoteTransport, SendPlan,
    SubscriberOffer,
};
use super::simnet::{End, Network};
use crate::media::control::{Channel, Kind, LegId, TrackId, Wanted};

const LIMIT: Duration = Duration::from_secs(60);
/// Clients of `rtc` are stuck when a DTLS flight is repeated before their own timeout of 1 s.
const RTO: Duration = Duration::from_secs(2);

fn server_address() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 7882))
}

fn client_address() -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 7], 40_007))
}

/// Our side, put together as the media engine does it.
struct Server {
    identity: Identity,
    local: LocalTransport,
    open_channels: bool,
    ice: Option<IceLite>,
    dtls: Option<Dtls>,
    active: bool,
    keys: Option<Keys>,
    data: Option<Data>,
    open: Vec<Channel>,
    messages: Vec<(Channel, Bytes)>,
    replies: Vec<Vec<u8>>,
    refused: usize,
}

impl Server {
    fn new(open_channels: bool) -> Self {
        let identity = Identity::generate(RTO).unwrap();
        let (ice_ufrag, ice_pwd) = generate_credentials();
        let fingerprint = identity.fingerprint().to_owned();
        let local = LocalTransport { ice_ufrag, ice_pwd, fingerprint, candidates: vec![server_address()] };
        Self {
            identity,
            local,
            open_channels,
            ice: None,
            dtls: None,
            active: false,
            keys: None,
            data: None,
            open: Vec::new(),
            messages: Vec::new(),
            replies: Vec::new(),
            refused: 0,
        }
    }

    /// `Command::OpenTransport`
    fn start(&mut self, now: Instant, remote: &RemoteTransport) {
        self.ice = Some(IceLite::new(now, &remote.ice(&self.local.ice_ufrag, &self.local.ice_pwd)));
        let dtls = remote.dtls();
        self.active = dtls.active;
        self.dtls = Some(Dtls::new(now, &self.identity, dtls.active, dtls.remote_fingerprint));
    }

    fn work(&mut self, now: Instant) {
        let Some(dtls) = &mut self.dtls else { return };
        while let Some(event) = dtls.poll_event() {
            match event {
                DtlsEvent::Connected(keys) => {
                    self.keys = Some(keys);
                    self.data = Some(Data::new(now, self.active, self.open_channels));
                }
                DtlsEvent::Data(packet) => self.data.as_mut().unwrap().handle(now, packet),
                DtlsEvent::Ended(end) => panic!("DTLS ended: {end}"),
            }
        }
        let Some(data) = &mut self.data else { return };
        while let Some(event) = data.poll_event() {
            match event {
                DataEvent::Open(channel) => self.open.push(channel),
                DataEvent::Message(channel, payload) => self.messages.push((channel, payload)),
                DataEvent::Ended(end) => panic!("SCTP ended: {end}"),
            }
        }
        while let Some(packet) = data.poll_transmit(now) {
            dtls.write(&packet);
        }
    }

    fn send(&mut self, now: Instant, channel: Channel, payload: &'static [u8]) {
        self.data.as_mut().unwrap().send(now, channel, Bytes::from_static(payload)).unwrap();
        self.work(now);
    }
}

impl End for Server {
    fn receive(&mut self, now: Instant, datagram: Vec<u8>) {
        let (Some(ice), Some(dtls)) = (&mut self.ice, &mut self.dtls) else { return };
        match datagram[0] {
            0..=3 => {
                let ufrag = stun_username(&datagram).and_then(|name| name.split_once(':')).map(|(ours, _)| ours);
                let mut reply = Vec::new();
                match ice.handle(now, &datagram, FiveTuple::towards(client_address()), &mut reply) {
                    Ok(_) => assert_eq!(ufrag, Some(self.local.ice_ufrag.as_str())),
                    Err(_) => self.refused += 1,
                }
                if !reply.is_empty() {
                    self.replies.push(reply);
                }
                dtls.start(now);
            }
            20..=63 => dtls.handle(now, &datagram),
            _ => {} // SRTP
        }
        self.work(now);
    }

    fn transmit(&mut self, now: Instant) -> Option<Vec<u8>> {
        self.work(now);
        self.replies.pop().or_else(|| self.dtls.as_mut()?.poll_transmit())
    }

    fn timeout(&self) -> Option<Instant> {
        let dtls = self.dtls.as_ref().and_then(Dtls::poll_timeout);
        let data = self.data.as_ref().and_then(Data::poll_timeout);
        dtls.into_iter().chain(data).min()
    }

    fn tick(&mut self, now: Instant) {
        if let Some(dtls) = &mut self.dtls {
            dtls.handle_timeout(now);
        }
        if let Some(data) = &mut self.data {
            data.handle_timeout(now);
        }
        self.work(now);
    }
}

struct Client {
    pc: RTCPeerConnection,
    connected: bool,
    open: Vec<(String, RTCDataChannelId)>,
    messages: Vec<Bytes>,
    timeout: Option<Instant>,
}

impl Client {
    fn new(now: Instant) -> Self {
        let mut media = MediaEngine::default();
        media.register_default_codecs().unwrap();
        let mut pc = RTCPeerConnectionBuilder::new()
            .with_configuration(RTCConfigurationBuilder::new().build())
            .with_media_engine(media)
            .build(now)
            .unwrap();
        let base_config = CandidateConfig {
            network: "udp".to_owned(),
            address: client_address().ip().to_string(),
            port: client_address().port(),
            component: 1,
            ..CandidateConfig::default()
        };
        let candidate =
            CandidateHostConfig { base_config, ..CandidateHostConfig::default() }.new_candidate_host().unwrap();
        pc.add_local_candidate(RTCIceCandidate::from(&candidate).to_json().unwrap()).unwrap();
        Self { pc, connected: false, open: Vec::new(), messages: Vec::new(), timeout: None }
    }

    fn create_channels(&mut self) {
        self.pc.create_data_channel("_reliable", None).unwrap();
        let lossy = RTCDataChannelInit { ordered: false, max_retransmits: Some(0), ..RTCDataChannelInit::default() };
        self.pc.create_data_channel("_lossy", Some(lossy)).unwrap();
    }

    fn offer(&mut self, now: Instant) -> RemoteDescription {
        let offer = self.pc.create_offer(None).unwrap();
        self.pc.set_local_description(now, offer).unwrap();
        RemoteDescription::parse(&self.pc.local_description().unwrap().sdp).unwrap()
    }

    fn answered(&mut self, now: Instant, sdp: String) {
        self.pc.set_remote_description(now, RTCSessionDescription::answer(sdp).unwrap()).unwrap();
    }

    fn answer(&mut self, now: Instant, offer: String) -> RemoteDescription {
        self.pc.set_remote_description(now, RTCSessionDescription::offer(offer).unwrap()).unwrap();
        let answer = self.pc.create_answer(None).unwrap();
        self.pc.set_local_description(now, answer).unwrap();
        RemoteDescription::parse(&self.pc.local_description().unwrap().sdp).unwrap()
    }

    fn send(&mut self, now: Instant, label: &str, payload: &[u8]) {
        let id = self.open.iter().find(|(known, _)| known == label).unwrap().1;
        self.pc.data_channel(id).unwrap().send(now, BytesMut::from(payload)).unwrap();
    }

    fn events(&mut self) {
        while let Some(event) = self.pc.poll_event() {
            match event {
                RTCPeerConnectionEvent::OnConnectionStateChangeEvent(state) => {
                    assert_ne!(state, RTCPeerConnectionState::Failed);
                    self.connected = state == RTCPeerConnectionState::Connected;
                }
                RTCPeerConnectionEvent::OnDataChannel(RTCDataChannelEvent::OnOpen(id)) => {
                    let label = self.pc.data_channel(id).unwrap().label().to_owned();
                    self.open.push((label, id));
                }
                _ => {}
            }
        }
        while let Some(read) = self.pc.poll_read() {
            if let RTCMessage::DataChannelMessage(_, message) = read.message {
                self.messages.push(message.data.freeze());
            }
        }
        self.timeout = self.pc.poll_timeout();
    }
}

impl End for Client {
    fn receive(&mut self, now: Instant, datagram: Vec<u8>) {
        let transport = TransportContext {
            local_addr: client_address(),
            peer_addr: server_address(),
            ecn: None,
            transport_protocol: TransportProtocol::UDP,
        };
        let _ = self.pc.handle_read(TaggedBytesMut { now, transport, message: BytesMut::from(&datagram[..]) });
        self.events();
    }

    fn transmit(&mut self, _: Instant) -> Option<Vec<u8>> {
        let written = self.pc.poll_write().map(|out| out.message.to_vec());
        self.events();
        written
    }

    fn timeout(&self) -> Option<Instant> {
        self.timeout
    }

    fn tick(&mut self, now: Instant) {
        let _ = self.pc.handle_timeout(now);
        self.events();
    }
}

fn all_open(server: &mut Server, client: &mut Client) -> bool {
    client.connected && server.open.len() == 2 && client.open.len() == 2
}

/// v1, and v0's publisher: the client offers data channels and media.
fn client_offers(network: &mut Network) -> (Server, Client) {
    let (mut server, mut client) = (Server::new(false), Client::new(network.now));
    client.create_channels();
    for kind in [RtpCodecKind::Audio, RtpCodecKind::Video] {
        client.pc.add_transceiver_from_kind(kind, None).unwrap();
    }
    let offer = client.offer(network.now);
    server.start(network.now, &offer.transport);
    let mut number = 0;
    let plan = |section: &super::sdp::RemoteSection| {
        number += 1;
        if section.direction.sends() {
            return Plan::Receive { track: TrackId(1), prefer: None, opus: OpusOptions::default() };
        }
        Plan::Send(SendPlan {
            leg: LegId(number.into()),
            track: TrackId(number.into()),
            stream_id: format!("PA_x|TR_{number}"),
            track_id: format!("TR_{number}"),
            cname: "PA_x".to_owned(),
            ssrc: number,
            rtx_ssrc: 100 + number,
            wanted: Wanted::BEST,
            codecs: Vec::new(),
        })
    };
    let answer = Answerer::new().answer(&offer, &server.local, plan).unwrap();
    assert!(answer.data && answer.send.len() == 2);
    client.answered(network.now, answer.sdp);
    (server, client)
}

#[test]
fn a_client_that_offers_connects_and_talks() {
    for (seed, loss) in [(1, 0), (2, 0), (3, 5)] {
        let mut network = Network::new(seed, loss);
        let (mut server, mut client) = client_offers(&mut network);
        let took = network.run(&mut server, &mut client, LIMIT, all_open).expect("connects");
        assert!(loss > 0 || took < Duration::from_secs(3), "{took:?}");
        assert_eq!(server.ice.as_ref().unwrap().selected(), Some(FiveTuple::towards(client_address())));
        client.send(network.now, "_reliable", b"up");
        server.send(network.now, Channel::Reliable, b"down");
        let talked =
            |server: &mut Server, client: &mut Client| !server.messages.is_empty() && !client.messages.is_empty();
        network.run(&mut server, &mut client, LIMIT, talked).expect("talks");
        assert_eq!(server.messages, [(Channel::Reliable, Bytes::from_static(b"up"))]);
        assert_eq!(client.messages, [Bytes::from_static(b"down")]);
        assert!(server.keys.is_some());
    }
}

#[test]
fn a_client_that_answers_gets_our_channels_and_later_tracks() {
    let mut network = Network::new(4, 0);
    let (mut server, mut client) = (Server::new(true), Client::new(network.now));
    let mut subscriber = SubscriberOffer::new();
    let answer = client.answer(network.now, subscriber.offer(&server.local));
    server.start(network.now, &answer.transport);
    assert!(subscriber.accept(&answer).unwrap().send.is_empty());
    network.run(&mut server, &mut client, LIMIT, all_open).expect("connects without a single track");
    server.send(network.now, Channel::Lossy, b"hello");
    network.run(&mut server, &mut client, LIMIT, |_, client| !client.messages.is_empty()).expect("arrives");

    for (leg, kind) in [(1, Kind::Audio), (2, Kind::Video)] {
        subscriber.add(OfferedTrack {
            leg: LegId(leg),
            track: TrackId(leg),
            kind,
            stream_id: format!("PA_x|TR_{leg}"),
            track_id: format!("TR_{leg}"),
            cname: "PA_x".to_owned(),
            ssrc: 1000,
            rtx_ssrc: 2000,
            stereo: false,
            wanted: Wanted::BEST,
            codecs: Vec::new(),
        });
    }
    let again = client.answer(network.now, subscriber.offer(&server.local));
    assert!(!again.transport.restarts_ice(&answer.transport));
    let accepted = subscriber.accept(&again).unwrap();
    assert_eq!(accepted.send.len(), 2);
    assert!(accepted.send[1].payload_types.iter().any(|p| p.rtx.is_some()));
}
