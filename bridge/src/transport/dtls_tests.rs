//! DTLS against itself as a client and against rtc-dtls (what bots of the `webrtc` crate use), on a simulated network.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use bytes::BytesMut;
use rtc::crypto::RTCCryptoProvider;
use rtc::crypto::providers::RingProvider;
use rtc::dtls::config::{ClientAuthType, ConfigBuilder, HandshakeConfig};
use rtc::dtls::crypto::Certificate;
use rtc::dtls::endpoint::{Endpoint, EndpointEvent};
use rtc::dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc::shared::TransportProtocol;

use super::super::simnet::{End, Network, Random};
use super::*;

const LIMIT: Duration = Duration::from_secs(60);

fn identity() -> Identity {
    Identity::generate(DEFAULT_RTO).unwrap()
}

fn hash(identity: &Identity) -> [u8; 32] {
    sha256(&identity.certificate.certificate)
}

/// A `Dtls` and what it has told.
struct Side {
    dtls: Dtls,
    keys: Option<Keys>,
    data: Vec<Bytes>,
    end: Option<DtlsEnd>,
}

impl Side {
    fn new(now: Instant, identity: &Identity, active: bool, remote: [u8; 32]) -> Self {
        let mut dtls = Dtls::new(now, identity, active, remote);
        dtls.start(now);
        Self { dtls, keys: None, data: Vec::new(), end: None }
    }

    fn events(&mut self) {
        while let Some(event) = self.dtls.poll_event() {
            assert!(self.end.is_none(), "nothing follows the end");
            match event {
                DtlsEvent::Connected(keys) => assert!(self.keys.replace(keys).is_none()),
                DtlsEvent::Data(data) => self.data.push(data),
                DtlsEvent::Ended(end) => self.end = Some(end),
            }
        }
    }
}

impl End for Side {
    fn receive(&mut self, now: Instant, datagram: Vec<u8>) {
        self.dtls.handle(now, &datagram);
        self.events();
    }

    fn transmit(&mut self, _: Instant) -> Option<Vec<u8>> {
        self.dtls.poll_transmit()
    }

    fn timeout(&self) -> Option<Instant> {
        self.dtls.poll_timeout()
    }

    fn tick(&mut self, now: Instant) {
        self.dtls.handle_timeout(now);
        self.events();
    }
}

fn pair(network: &Network, server: &Identity, client: &Identity) -> (Side, Side) {
    (Side::new(network.now, server, false, hash(client)), Side::new(network.now, client, true, hash(server)))
}

fn connected(network: &mut Network) -> (Side, Side) {
    let (a, b) = (identity(), identity());
    let (mut server, mut client) = pair(network, &a, &b);
    let up = |s: &mut Side, c: &mut Side| s.keys.is_some() && c.keys.is_some();
    network.run(&mut server, &mut client, LIMIT, up).expect("connects");
    (server, client)
}

#[test]
fn both_sides_derive_the_same_keys() {
    let mut network = Network::new(1, 0);
    let (server, client) = connected(&mut network);
    let (server, client) = (server.keys.unwrap(), client.keys.unwrap());
    assert_eq!(server.profile(), SrtpProfile::AEAD_AES_256_GCM);
    assert_eq!(server.local(), client.remote());
    assert_eq!(server.remote(), client.local());
    assert_ne!(server.local(), server.remote());
    assert_eq!((server.local().0.len(), server.local().1.len()), (32, 12));
    assert!(!format!("{server:?}").contains(&format!("{:?}", server.local().0)), "secrets are not printed");
}

#[test]
fn the_fingerprint_is_written_as_sdp_has_it() {
    let identity = identity();
    let bytes: Vec<u8> = identity.fingerprint().split(':').map(|b| u8::from_str_radix(b, 16).unwrap()).collect();
    assert_eq!(bytes, hash(&identity));
}

#[test]
fn another_certificate_is_refused() {
    let (server, client, other) = (identity(), identity(), identity());
    for wrong_for_server in [true, false] {
        let mut network = Network::new(1, 0);
        let expected = if wrong_for_server { hash(&other) } else { hash(&client) };
        let mut a = Side::new(network.now, &server, false, expected);
        let expected = if wrong_for_server { hash(&server) } else { hash(&other) };
        let mut b = Side::new(network.now, &client, true, expected);
        network.run(&mut a, &mut b, LIMIT, |a, b| a.end.is_some() && b.end.is_some());
        let deceived = if wrong_for_server { &a } else { &b };
        assert_eq!(deceived.end, Some(DtlsEnd::Certificate));
        assert!(deceived.keys.is_none());
    }
}

#[test]
fn handshakes_survive_loss() {
    let (a, b) = (identity(), identity());
    for (seed, loss, allowed) in [(1, 5, 0), (2, 20, 1)] {
        let failed = (0..100).filter(|n| {
            let mut network = Network::new(seed * 1000 + n, loss);
            let (mut server, mut client) = pair(&network, &a, &b);
            let up = |s: &mut Side, c: &mut Side| s.keys.is_some() && c.keys.is_some();
            network.run(&mut server, &mut client, LIMIT, up).is_none()
        });
        assert!(failed.count() <= allowed, "at {loss} % loss");
    }
}

#[test]
fn data_and_close_notify_arrive() {
    let mut network = Network::new(1, 0);
    let (mut server, mut client) = connected(&mut network);
    for n in 0..40u8 {
        client.dtls.write(&[n; 1150]);
    }
    client.dtls.write(&[0; MAX_WRITE + 1]);
    network.run(&mut server, &mut client, LIMIT, |s, _| s.data.len() == 40).expect("all arrive");
    assert!(server.data.iter().enumerate().all(|(n, data)| data.len() == 1150 && usize::from(data[0]) == n));
    server.dtls.close();
    assert!(server.dtls.is_ended() && server.dtls.poll_event().is_none());
    network.run(&mut server, &mut client, LIMIT, |_, c| c.end.is_some()).expect("close_notify arrives");
    assert_eq!(client.end, Some(DtlsEnd::Peer));
    client.dtls.write(b"late");
    assert!(client.dtls.poll_transmit().is_none());
}

#[test]
fn a_queue_that_is_not_polled_stays_bounded() {
    let mut network = Network::new(1, 0);
    let (_, mut client) = connected(&mut network);
    for _ in 0..10_000 {
        client.dtls.write(&[0; 1150]);
    }
    assert!(!client.dtls.is_ended());
    assert_eq!(std::iter::from_fn(|| client.dtls.poll_transmit()).count(), MAX_OUT);
}

#[test]
fn garbage_replays_and_late_datagrams_do_no_harm() {
    let mut network = Network::new(1, 0);
    let (mut server, mut client) = connected(&mut network);
    client.dtls.write(b"once");
    let record = client.dtls.poll_transmit().unwrap();
    let mut random = Random::new(5);
    for _ in 0..100 {
        server.receive(network.now, record.clone());
        server.receive(network.now, (0..100).map(|n| if n == 0 { 22 } else { random.below(256) as u8 }).collect());
    }
    assert_eq!(server.data, [Bytes::from_static(b"once")]);
    client.dtls.write(b"still");
    network.run(&mut server, &mut client, LIMIT, |s, _| s.data.len() == 2).expect("goes on");
}

/// A fragment of a ClientHello of 30 000 bytes.
fn fragment(record: u32, offset: u32, len: u16) -> Vec<u8> {
    let mut d = vec![22, 0xfe, 0xfd, 0, 0, 0, 0];
    d.extend_from_slice(&record.to_be_bytes());
    d.extend_from_slice(&(12 + len).to_be_bytes());
    d.extend_from_slice(&[1, 0, 0x75, 0x30, 0, 0]);
    d.extend_from_slice(&offset.to_be_bytes()[1..]);
    d.push(0);
    d.extend_from_slice(&len.to_be_bytes());
    d.resize(25 + usize::from(len), 0);
    d
}

#[test]
fn thirty_thousand_fragments_end_like_a_silent_peer() {
    const N: u32 = 30_000;
    let (a, b) = (identity(), identity());
    let floods: [&dyn Fn(u32) -> Vec<u8>; 3] =
        [&|n| fragment(n, N - 1 - n, 1), &|n| fragment(n, n, 1), &|n| fragment(n, 0, 1000)];
    for flood in floods {
        let start = Instant::now();
        let mut side = Side::new(start, &a, false, hash(&b));
        let mut now = start;
        for n in 0..N {
            now = start + Duration::from_micros(u64::from(n) * 100);
            side.receive(now, flood(n));
            assert!(side.transmit(now).is_none(), "no answer to a fragment: nothing to amplify");
        }
        while let Some(at) = side.timeout() {
            now = now.max(at);
            side.tick(now);
        }
        assert!(side.end.is_some() && side.keys.is_none());
        assert!(now <= start + HANDSHAKE_TIMEOUT);
    }
}

#[test]
fn a_silent_or_half_open_peer_is_given_up_after_15_seconds() {
    let (a, b) = (identity(), identity());
    let start = Instant::now();
    let mut client = Side::new(start, &b, true, hash(&a));
    let hello = client.transmit(start).unwrap();
    for first in [None, Some(hello), Some(fragment(0, 0, 100))] {
        let mut waiting = Dtls::new(start, &a, false, hash(&b));
        assert_eq!(waiting.poll_timeout(), None, "ICE has its own deadline");
        waiting.start(start);
        let mut side = Side { dtls: waiting, keys: None, data: Vec::new(), end: None };
        if let Some(datagram) = first {
            side.receive(start, datagram);
        }
        let (mut now, mut sent) = (start, 0);
        while let Some(at) = side.timeout() {
            now = at;
            side.tick(now);
            sent += std::iter::from_fn(|| side.transmit(now)).count();
        }
        assert_eq!(side.end, Some(DtlsEnd::Timeout));
        assert!(now <= start + HANDSHAKE_TIMEOUT && sent < 50, "{:?}, {sent} datagrams", now - start);
    }
}

#[test]
fn a_changed_byte_in_the_hello_panics_nothing() {
    let (a, b) = (identity(), identity());
    let now = Instant::now();
    let hello = Side::new(now, &b, true, hash(&a)).transmit(now).unwrap();
    let mut random = Random::new(7);
    for n in 0..hello.len() * 8 {
        let mut bad = hello.clone();
        bad[n / 8] ^= random.below(255) as u8 + 1;
        let mut side = Side::new(now, &a, false, hash(&b));
        side.receive(now, bad);
        assert!(side.keys.is_none());
    }
}

/// The DTLS of the `webrtc` crate.
struct Bot {
    endpoint: Endpoint,
    connected: bool,
}

const ADDRESS: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 65535));

type BotIdentity = (Arc<dyn RTCCryptoProvider>, Certificate);

impl Bot {
    fn identity() -> BotIdentity {
        let provider = Arc::new(RingProvider::new());
        let certificate = Certificate::generate_self_signed(vec!["bot".to_owned()], provider.crypto()).unwrap();
        (provider, certificate)
    }

    fn config((provider, certificate): &BotIdentity, profiles: Vec<SrtpProtectionProfile>) -> Arc<HandshakeConfig> {
        let config = ConfigBuilder::default()
            .with_crypto_provider(Arc::clone(provider))
            .with_certificates(vec![certificate.clone()])
            .with_srtp_protection_profiles(profiles)
            .with_client_auth(ClientAuthType::RequireAnyClientCert)
            .with_insecure_skip_verify(true)
            .build(true, None);
        Arc::new(config.unwrap())
    }

    fn start(now: Instant, config: Arc<HandshakeConfig>) -> Self {
        let mut endpoint = Endpoint::new(ADDRESS, TransportProtocol::UDP, None);
        endpoint.connect(now, ADDRESS, config, None).unwrap();
        Self { endpoint, connected: false }
    }
}

impl End for Bot {
    fn receive(&mut self, now: Instant, datagram: Vec<u8>) {
        if let Ok(events) = self.endpoint.read(now, ADDRESS, None, BytesMut::from(&datagram[..])) {
            self.connected |= events.iter().any(|e| matches!(e, EndpointEvent::HandshakeComplete));
        }
    }

    fn transmit(&mut self, _: Instant) -> Option<Vec<u8>> {
        self.endpoint.poll_transmit().map(|t| t.message.to_vec())
    }

    fn timeout(&self) -> Option<Instant> {
        self.endpoint.poll_timeout(&ADDRESS)
    }

    fn tick(&mut self, now: Instant) {
        if self.timeout().is_some_and(|at| at <= now) {
            let _ = self.endpoint.handle_timeout(ADDRESS, now);
        }
    }
}

#[test]
fn rtc_dtls_connects_with_each_profile_and_not_without_srtp() {
    use SrtpProtectionProfile::{Srtp_Aead_Aes_128_Gcm, Srtp_Aes128_Cm_Hmac_Sha1_80};
    let (server, bot) = (identity(), Bot::identity());
    let remote = sha256(&bot.1.certificate[0]);
    let cases = [
        (vec![Srtp_Aead_Aes_128_Gcm], Some((SrtpProfile::AEAD_AES_128_GCM, 16, 12))),
        (vec![Srtp_Aes128_Cm_Hmac_Sha1_80], Some((SrtpProfile::AES128_CM_SHA1_80, 16, 14))),
        (vec![], None),
    ];
    for (profiles, expected) in cases {
        let mut network = Network::new(1, 0);
        let mut a = Side::new(network.now, &server, false, remote);
        let mut b = Bot::start(network.now, Bot::config(&bot, profiles));
        let done = |a: &mut Side, b: &mut Bot| a.end.is_some() || (a.keys.is_some() && b.connected);
        network.run(&mut a, &mut b, LIMIT, done).expect("ends one way or the other");
        let got = a.keys.as_ref().map(|k| (k.profile(), k.local().0.len(), k.local().1.len()));
        assert_eq!(got, expected);
        assert_eq!(a.end, expected.is_none().then_some(DtlsEnd::NoSrtp));
    }
}
