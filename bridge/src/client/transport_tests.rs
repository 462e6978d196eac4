//! The client's transport against the server's engine, on a simulated clock: real STUN, DTLS and SRTP on both sides.

use std::time::Duration;

use super::sdp::{self, Remote, Section};
use super::{Event, Local, Outgoing, Source, SourceId, Transport};
use crate::media::control::*;
use crate::media::simulation::{Camera, IDS, MS, Wire, World, hash, leg, opus, vp8};
use crate::transport::dtls::{DEFAULT_RTO, Identity};

/// What came to a client: (ssrc, index, payload, repaired).
type Got = (u32, u64, Vec<u8>, bool);

struct Client {
    id: TransportId,
    address: std::net::SocketAddr,
    transport: Transport,
    out: Outgoing,
    got: Vec<Got>,
    key_frames: Vec<SourceId>,
    profile: Option<String>,
}

/// The server's address; the engine knows none, it answers to where a datagram came from.
const SERVER: &str = "192.0.2.1:7882";

impl Client {
    fn new(world: &mut World, address: &str) -> Self {
        let identity = Identity::generate(DEFAULT_RTO).unwrap();
        let (local, id) = (Local::new(&identity), TransportId::next());
        let ice = IceParameters {
            local_ufrag: format!("server{}", id.0),
            local_pwd: "a password of the server, long".into(),
            remote_ufrag: local.ufrag.clone(),
            remote_pwd: local.password.clone(),
        };
        let dtls = DtlsParameters { remote_fingerprint: hash(identity.fingerprint()), active: false };
        let room = world.room();
        let remote = format!(
            "v=0\r\na=ice-ufrag:{}\r\na=ice-pwd:{}\r\na=setup:passive\r\na=fingerprint:sha-256 {}\r\n\
             m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\na=candidate:1 1 udp 1 {} typ host\r\na=rtpmap:96 VP8/90000\r\n\
             a=rtpmap:111 opus/48000/2\r\na=ssrc-group:FID 77 78\r\na=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\n\
             a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\n\
             a=extmap:11 urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id\r\n\
             a=extmap:3/recvonly http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r\n",
            ice.local_ufrag,
            ice.local_pwd,
            world.server().map(|byte| format!("{byte:02X}")).join(":"),
            SERVER.replace(':', " "),
        );
        world.command(Command::OpenTransport { transport: id, room, ice, dtls, open_channels: false });
        let mut transport = Transport::new(world.now, &local);
        transport.remote(world.now, &Remote::parse(&remote).unwrap());
        let (out, got, key_frames, profile) = Default::default();
        Self { id, address: address.parse().unwrap(), transport, out, got, key_frames, profile }
    }

    /// Sends what waits, takes what has come, but for what `lose` takes away.
    fn exchange(&mut self, world: &mut World, mut lose: impl FnMut(&[u8]) -> bool) {
        loop {
            let datagrams: Vec<Vec<u8>> = self.out.datagrams().map(|(_, datagram)| datagram.to_vec()).collect();
            self.out.clear();
            let sent = datagrams.len();
            datagrams.into_iter().for_each(|datagram| world.send(self.address, datagram));
            let come = world.take(self.address);
            if sent + come.len() == 0 {
                return;
            }
            for mut datagram in come {
                if lose(&datagram) {
                    continue;
                }
                let Self { got, key_frames, profile, .. } = self;
                self.transport.handle(world.now, SERVER.parse().unwrap(), &mut datagram, &mut self.out, &mut |event| {
                    match event {
                        Event::Connected(negotiated) => *profile = Some(negotiated),
                        Event::Packet(p) => got.push((p.ssrc, p.index, p.payload.to_vec(), p.repaired)),
                        Event::KeyFrameWanted(source) => key_frames.push(source),
                        Event::Ended(why) => panic!("{why}"),
                    }
                });
            }
        }
    }

    fn pass(&mut self, world: &mut World, time: Duration) {
        for _ in 0..time.as_millis() / 10 {
            world.pass(10 * MS);
            self.transport.tick(world.now, &mut self.out, &mut |event| panic!("{event:?}"));
            self.exchange(world, |_| false);
        }
    }

    fn connect(world: &mut World, address: &str) -> Self {
        let mut client = Self::new(world, address);
        client.pass(world, 500 * MS);
        assert!(client.transport.is_connected());
        client
    }

    fn negotiate(&self, world: &mut World, receive: Vec<ReceiveSection>, send: Vec<SendSection>) {
        world.command(Command::Negotiated { transport: self.id, extensions: IDS, receive, send });
    }
}

fn is_rtp(datagram: &[u8]) -> bool {
    (128..=191).contains(&datagram[0]) && !(192..=223).contains(&datagram[1])
}

/// A layer of the camera that the simulation's section describes.
fn layer(rid: &str, ssrc: u32) -> Source {
    Source {
        mid: "0".into(),
        rid: Some(rid.into()),
        ssrc,
        rtx: Some((ssrc + 1, 97)),
        payload_type: 96,
        clock_rate: 90_000,
    }
}

fn payload(number: u16) -> Vec<u8> {
    crate::media::simulation::vp8_payload(number, number as u8, number == 0, true, 0)
}

/// A publisher and a subscriber, both ours, and the publisher's lowest layer.
fn pair(world: &mut World) -> (Client, Client, SourceId) {
    let (mut publisher, subscriber) =
        (Client::connect(world, "127.0.0.1:30000"), Client::connect(world, "127.0.0.1:30001"));
    assert_eq!(publisher.profile.as_deref(), Some("SRTP_AEAD_AES_256_GCM"));
    let camera = Camera::new(&["q", "h"]);
    publisher.negotiate(world, vec![camera.section("0")], vec![]);
    let mut section = leg(camera.track, Kind::Video, "0");
    (section.ssrc, section.rtx_ssrc) = (77, 78);
    section.payload_types = vec![vp8(96)];
    subscriber.negotiate(world, vec![], vec![section]);
    let source = publisher.transport.add_source(layer("q", 1000)).unwrap();
    assert!(publisher.transport.add_source(layer("h", 1000)).is_none(), "one writer for an SSRC");
    (publisher, subscriber, source)
}

fn send(world: &World, publisher: &mut Client, source: SourceId, number: u16) {
    let timestamp = u32::from(number) * 3000;
    publisher.transport.send(world.now, source, (true, timestamp, None), &payload(number), &mut publisher.out);
}

#[test]
fn what_one_sends_the_other_gets_once_and_whole() {
    let mut world = World::new();
    let (mut publisher, mut subscriber, source) = pair(&mut world);
    for number in 0..300 {
        send(&world, &mut publisher, source, number);
        publisher.exchange(&mut world, |_| false);
        publisher.pass(&mut world, 10 * MS);
        if number == 150 {
            publisher.key_frames.clear();
            subscriber.transport.ask_key_frame(world.now, 77, &mut subscriber.out);
        }
        subscriber.pass(&mut world, 10 * MS);
    }
    assert_eq!(publisher.key_frames.first(), Some(&source), "what one asks for, the other is asked for");
    assert_eq!(subscriber.got.len(), 300);
    let first = subscriber.got[0].1;
    for (at, (ssrc, index, body, repaired)) in subscriber.got.iter().enumerate() {
        assert_eq!((*ssrc, *index, *repaired), (77, first + at as u64, false));
        assert_eq!(body.last(), payload(at as u16).last());
    }
    let totals = subscriber.transport.totals();
    assert_eq!((totals.nacks_sent, totals.duplicates, totals.unauthentic), (0, 0, 0));
}

#[test]
fn losses_are_repaired_both_ways() {
    let mut world = World::new();
    let (mut publisher, mut subscriber, source) = pair(&mut world);
    for number in 0..200u16 {
        send(&world, &mut publisher, source, number);
        if number % 20 == 7 {
            publisher.out.clear(); // lost on the way up
        }
        publisher.exchange(&mut world, |_| false);
        let mut lost = false;
        subscriber.exchange(&mut world, |datagram| {
            let lose = number % 20 == 13 && !lost && is_rtp(datagram);
            lost |= lose;
            lose
        });
        publisher.pass(&mut world, 20 * MS);
        subscriber.pass(&mut world, 10 * MS);
    }
    subscriber.pass(&mut world, 200 * MS);
    let mut indices: Vec<u64> = subscriber.got.iter().map(|(_, index, ..)| *index).collect();
    indices.sort_unstable();
    let first = indices[0];
    assert_eq!(indices, (first..first + 200).collect::<Vec<_>>());
    assert_eq!(publisher.transport.totals().repairs_sent, 10);
    let repaired = subscriber.got.iter().filter(|(.., repaired)| *repaired).count();
    assert_eq!(repaired, 10, "those lost on the way down come by RTX, the others as if late");
}

#[test]
fn a_silent_server_is_given_up() {
    let mut world = World::new();
    let mut client = Client::new(&mut world, "127.0.0.1:30000");
    let mut ended = None;
    for _ in 0..3200 {
        world.now += 10 * MS;
        client.transport.tick(world.now, &mut client.out, &mut |event| {
            if let Event::Ended(why) = event {
                ended = Some(why.to_string());
            }
        });
        client.out.clear();
    }
    assert!(ended.is_some_and(|why| why.contains("UDP")), "{:?}", client.profile);
}

#[test]
fn offers_are_understood_by_the_server() {
    let local = Local::new(&Identity::generate(DEFAULT_RTO).unwrap());
    let sections = [
        Section::SendAudio { cid: "mic".into(), ssrc: 5 },
        Section::SendVideo {
            cid: "cam".into(),
            ssrcs: vec![(6, 7); 3],
            rids: ["q", "h", "f"].map(String::from).into(),
        },
        Section::SendVideo { cid: "screen".into(), ssrcs: vec![(8, 9)], rids: vec![] },
        Section::ReceiveAudio,
        Section::ReceiveVideo,
    ];
    let offer = crate::transport::sdp::RemoteDescription::parse(&sdp::offer(&local, 1, 1, &sections)).unwrap();
    assert_eq!(offer.transport.fingerprint, hash(local.identity.fingerprint()));
    assert_eq!(offer.sections.len(), 5);
    assert_eq!(offer.sections[0].codecs[0].payload, opus(111));
    let video = &offer.sections[1];
    assert_eq!((video.codecs[0].payload, &video.rids[..]), (vp8(96), &["q", "h", "f"].map(String::from)[..]));
    assert_eq!(offer.sections[2].ssrcs, [(8, Some(9))]);
    let sends: Vec<bool> = offer.sections.iter().map(|section| section.direction.sends()).collect();
    assert_eq!(sends, [true, true, true, false, false]);
}

#[test]
fn answers_without_what_is_needed_are_refused() {
    for (sdp, part) in [("", "fingerprint"), ("a=fingerprint:sha-256 00:11\r\n", "fingerprint")] {
        assert!(Remote::parse(sdp).unwrap_err().to_string().contains(part));
    }
    let hash = ["AB"; 32].join(":");
    let error = Remote::parse(&format!("a=fingerprint:sha-256 {hash}\r\na=ice-ufrag:x\r\n")).unwrap_err();
    assert!(error.to_string().contains("ice-pwd"));
    assert_eq!(sdp::candidate("a=candidate:1 1 UDP 5 192.0.2.7 99 typ host"), Some("192.0.2.7:99".parse().unwrap()));
    for line in ["candidate:1 1 tcp 5 192.0.2.7 9 typ host", "candidate:1 1 udp 5 x.local 9", "x"] {
        assert_eq!(sdp::candidate(line), None, "{line}");
    }
}
