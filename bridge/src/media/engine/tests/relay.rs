//! A room on two bridges: two engines, and the datagrams between their ports.

use std::net::SocketAddr;

use super::super::super::control::*;
use super::super::super::simulation::*;
use super::extensions::{OTHER_IDS, taken};

const LAYERS: [(u32, u32); 3] = [(100_001, 100_002), (100_003, 100_004), (100_005, 100_006)];
const MICROPHONE: (u32, u32) = (100_011, 100_012);
const IDS_BETWEEN: ExtensionIds = ExtensionIds {
    mid: 0,
    rid: 0,
    repaired_rid: 0,
    audio_level: 1,
    twcc: 0,
    abs_send_time: 0,
    dependency_descriptor: 2,
    abs_capture_time: 3,
    playout_delay: 4,
    video_orientation: 5,
};

/// Somebody with camera and microphone on one bridge, somebody who gets them on another one.
struct Two {
    /// The publisher's bridge and the subscriber's.
    here: World,
    there: World,
    addresses: [SocketAddr; 2],
    transports: [TransportId; 2],
    publisher: Client,
    camera: Camera,
    microphone: TrackId,
    /// The tracks at the subscriber's bridge.
    remote: (TrackId, TrackId),
    subscriber: Client,
    legs: Vec<SendSection>,
    spoken: u16,
    /// Whether a datagram from the publisher's bridge is lost, by its number.
    loses: fn(usize) -> bool,
    /// Datagrams from the publisher's bridge so far, and their bytes.
    passed: usize,
    bytes: usize,
}

fn key(number: u8) -> RelayKey {
    RelayKey { key: vec![number; 32], salt: vec![number; 12] }
}

impl Two {
    fn new() -> Self {
        let (mut here, mut there) = (World::new(), World::new());
        let publisher = Client::connect(&mut here, "127.0.0.1:1001");
        let camera = Camera::new(&["q", "h", "f"]);
        let microphone = TrackId::next();
        let sound = sound_section("8", microphone, 77);
        publisher.negotiate(&mut here, vec![camera.section("7"), sound], vec![]);
        let remote = (TrackId::next(), TrackId::next());
        let subscriber = Client::connect(&mut there, "127.0.0.1:2001");
        let legs = vec![leg(remote.0, Kind::Video, "3"), leg(remote.1, Kind::Audio, "4")];
        let mut two = Self {
            here,
            there,
            addresses: ["192.0.2.1:7882", "192.0.2.2:7882"].map(|address| address.parse().unwrap()),
            transports: [TransportId::next(), TransportId::next()],
            publisher,
            camera,
            microphone,
            remote,
            subscriber,
            legs,
            spoken: 0,
            loses: |_| false,
            passed: 0,
            bytes: 0,
        };
        two.open(1, None);
        two.offer(0);
        two
    }

    /// The subscriber wants the camera's lowest layer, which is pulled with the sound.
    fn watching_lowest() -> Self {
        let mut two = Self::new();
        two.subscribe();
        two.want(Some(0));
        two.pull(&[0], true, 0);
        two
    }

    /// Both bridges open a session with new keys.
    fn open(&mut self, session: u8, limit: Option<u64>) {
        let (first, second) = (u32::from(session) * 2 + 5000, u32::from(session) * 2 + 5001);
        let (mine, theirs) = (key(2 * session), key(2 * session + 1));
        let parameters = |remote, seal: &RelayKey, open: &RelayKey, listen_ssrc, report_ssrc| RelayParameters {
            remote: vec!["198.51.100.9:9".parse().unwrap(), remote],
            seal: seal.clone(),
            open: open.clone(),
            listen_ssrc,
            report_ssrc,
            limit,
        };
        let here = parameters(self.addresses[1], &mine, &theirs, first, second);
        let there = parameters(self.addresses[0], &theirs, &mine, second, first);
        let rooms = [self.here.room, self.there.room];
        for (world, parameters, end) in [(&mut self.here, here, 0), (&mut self.there, there, 1)] {
            let (transport, room) = (self.transports[end], rooms[end]);
            world.command(Command::OpenRelay { transport, room, parameters: Box::new(parameters) });
        }
        self.pump();
    }

    /// What can be had is told; `shift` makes the SSRCs others.
    fn offer(&mut self, shift: u32) {
        let section = |track, kind, payload: PayloadType, rids: &[&str], ssrcs: &[(u32, u32)]| ReceiveSection {
            mid: "PA_publisher".into(),
            track,
            kind,
            payload_types: vec![payload],
            rids: rids.iter().map(|rid| (*rid).to_owned()).collect(),
            ssrcs: ssrcs.iter().map(|(media, rtx)| (media + shift, Some(rtx + shift))).collect(),
        };
        let receive = vec![
            section(self.remote.0, Kind::Video, vp8(96), &["q", "h", "f"], &LAYERS),
            section(self.remote.1, Kind::Audio, opus(98), &[], &[MICROPHONE]),
        ];
        let transport = self.transports[1];
        self.there.command(Command::Negotiated { transport, extensions: IDS_BETWEEN, receive, send: vec![] });
    }

    /// The subscriber subscribes.
    fn subscribe(&mut self) {
        self.subscriber.negotiate(&mut self.there, vec![], self.legs.clone());
    }

    fn want(&mut self, layer: Option<u8>) {
        let (transport, leg) = (self.subscriber.transport, self.legs[0].leg);
        self.there.command(Command::Want { transport, leg, wanted: layer.map_or(Wanted::PAUSED, Wanted::up_to) });
    }

    /// Pulls layers of the camera, and the microphone; legs that go on keep their ids.
    fn pull(&mut self, layers: &[u8], sound: bool, shift: u32) {
        let section = |track, payload: PayloadType, (ssrc, rtx_ssrc): (u32, u32), layer: u8| SendSection {
            leg: LegId(900_000 + u64::from(ssrc)),
            track,
            mid: String::new(),
            payload_types: vec![payload],
            ssrc: ssrc + shift,
            rtx_ssrc: rtx_ssrc + shift,
            transport_wide: false,
            wanted: Wanted::up_to(layer),
        };
        let video = layers.iter().map(|&at| section(self.camera.track, vp8(96), LAYERS[usize::from(at)], at));
        let audio = sound.then(|| section(self.microphone, opus(98), MICROPHONE, 0));
        let send = video.chain(audio).collect();
        let transport = self.transports[0];
        self.here.command(Command::Negotiated { transport, extensions: IDS_BETWEEN, receive: vec![], send });
    }

    /// Carries datagrams between the bridges until there are none.
    fn pump(&mut self) {
        loop {
            let there = self.here.take(self.addresses[1]);
            let here = self.there.take(self.addresses[0]);
            if there.is_empty() && here.is_empty() {
                return;
            }
            for datagram in there {
                self.passed += 1;
                self.bytes += datagram.len();
                if !(self.loses)(self.passed) {
                    self.there.send(self.addresses[0], datagram);
                }
            }
            for datagram in here {
                self.here.send(self.addresses[1], datagram);
            }
        }
    }

    /// One frame of these layers (layer, key frame), two packets each, 33 ms apart, and sound meanwhile.
    fn frame(&mut self, ms: &mut u32, layers: &[(usize, bool)]) {
        for &(layer, key) in layers {
            for packet in self.camera.frame(&mut self.publisher, "7", layer, *ms, key, 2) {
                self.here.send(self.publisher.address, packet);
            }
        }
        let packet = self.publisher.spoken(77, self.spoken, 20);
        self.spoken += 1;
        self.here.send(self.publisher.address, packet);
        for _ in 0..3 {
            self.pump();
            self.here.pass(11 * MS);
            self.there.pass(11 * MS);
        }
        self.pump();
        *ms += 33;
    }

    /// Video and audio packets that the subscriber got.
    fn got(&mut self) -> (Vec<Got>, Vec<Got>) {
        let (packets, _) = self.subscriber.receive(&mut self.there);
        packets.into_iter().filter(|got| got.padding == 0).partition(|got| got.header.ssrc == self.legs[0].ssrc)
    }

    /// What the subscriber's bridge needs of the tracks, since the last call.
    fn needed(&mut self) -> Vec<(TrackId, u8)> {
        let ours = self.transports[1];
        let events = self.there.events.drain(..);
        let needed = events.filter_map(|event| match event {
            Event::LayersNeeded { transport, track, layers } if transport == ours => Some((track, layers)),
            Event::StreamsNeeded { transport, track, streams } if transport == ours => Some((track, streams)),
            _ => None,
        });
        needed.collect()
    }
}

/// How many layers of the camera its publisher was told to send, since the last call.
fn told(two: &mut Two) -> Vec<u8> {
    let track = two.camera.track;
    let told = two.here.events.drain(..).filter_map(|event| match event {
        Event::LayersNeeded { track: of, layers, .. } if of == track => Some(layers),
        _ => None,
    });
    told.collect()
}

fn assert_continuous(packets: &[Got]) {
    for pair in packets.windows(2) {
        let step = pair[1].header.sequence.wrapping_sub(pair[0].header.sequence);
        assert_eq!(step, 1);
    }
}

fn layers(packets: &[Got]) -> Vec<u8> {
    packets.iter().map(|packet| read_payload(&packet.payload).2).collect()
}

#[test]
fn only_what_somebody_there_wants_flows_and_only_once() {
    let mut two = Two::new();
    let connected = |event: &Event| matches!(event, Event::Connected { .. });
    assert!(two.here.events.iter().any(connected) && two.there.events.iter().any(connected), "they have met");
    let mut ms = 0;
    let before = two.here.engine.counters().relayed;
    for number in 0..30 {
        two.frame(&mut ms, &[(0, number == 0), (1, number == 0), (2, number == 0)]);
    }
    assert_eq!((two.here.engine.counters().relayed, two.needed()), (before, vec![]), "nobody is there");

    two.subscribe();
    two.want(Some(1));
    // What nobody needs yet is looked at every 100 ms.
    for _ in 0..4 {
        two.frame(&mut ms, &[(0, false), (1, false), (2, false)]);
    }
    let needed = two.needed();
    let last = |track| needed.iter().rev().find(|(of, _)| *of == track).map(|(_, layers)| *layers);
    assert_eq!(last(two.remote.1), Some(1), "{needed:?}");
    assert_eq!(last(two.remote.0).map(|streams| streams & 0b10), Some(0b10), "the wanted one: {needed:?}");
    two.pull(&[1], true, 0);
    two.got();
    for number in 0..30 {
        two.frame(&mut ms, &[(0, number == 2), (1, number == 2), (2, number == 2)]);
    }
    let (video, audio) = two.got();
    assert_eq!(layers(&video), vec![1; 2 * 28], "from the key frame on");
    assert_continuous(&video);
    assert_eq!(audio.len(), 30);
    assert_continuous(&audio);
    assert_eq!(two.here.engine.counters().relayed, 2 * 28 + 30, "one copy");
}

#[test]
fn a_key_frame_is_asked_for_across_and_what_is_lost_on_the_way_is_repaired_there() {
    let mut two = Two::watching_lowest();
    let mut ms = 0;
    two.frame(&mut ms, &[(0, true)]);
    two.publisher.receive(&mut two.here);
    two.loses = |number| number % 10 == 3;
    for _ in 0..300 {
        two.frame(&mut ms, &[(0, false)]);
    }
    two.loses = |_| false;
    two.frame(&mut ms, &[(0, false)]);
    let (video, _) = two.got();
    let mut numbers: Vec<u16> =
        video.iter().map(|got| got.header.sequence.wrapping_sub(video[0].header.sequence)).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..604).collect::<Vec<u16>>(), "everything has come in the end");
    assert!(two.here.engine.counters().retransmitted > 20, "by the bridge's repairs");
    assert_eq!(two.here.engine.counters().nacks_sent, 0, "the publisher has nothing to do with it");

    // A subscriber that lost its picture: one request for all, across both bridges.
    two.publisher.receive(&mut two.here);
    two.here.pass(400 * MS);
    two.there.pass(400 * MS);
    two.pump();
    let mut request = super::super::super::rtcp::Writer::default();
    request.picture_loss(two.legs[0].ssrc);
    for _ in 0..5 {
        two.subscriber.rtcp(&mut two.there, request.bytes());
    }
    two.pump();
    let reports = two.publisher.receive(&mut two.here).1;
    let feedback = reports.iter().flat_map(|report| super::super::super::rtcp::read(report).collect::<Vec<_>>());
    let asked =
        feedback.filter(|feedback| matches!(feedback, super::super::super::rtcp::Feedback::KeyFrame(_))).count();
    assert_eq!(asked, 1);
}

#[test]
fn capture_time_and_playout_delay_reach_another_bridge() {
    let mut two = Two::new();
    two.camera.timed = true;
    two.subscriber.negotiate_as(&mut two.there, OTHER_IDS, vec![], two.legs.clone());
    two.want(Some(0));
    two.pull(&[0], true, 0);
    let mut ms = 0;
    for number in 0..5 {
        two.frame(&mut ms, &[(0, number == 0)]);
    }
    let (video, _) = two.got();
    assert_eq!(
        video.iter().map(taken).collect::<Vec<_>>(),
        (0..5).flat_map(|frame| [Some(33 * frame); 2]).collect::<Vec<_>>()
    );
}

#[test]
fn what_is_not_pulled_any_more_is_not_asked_for_any_more() {
    let all = [(0, false), (1, false), (2, false)];
    let mut two = Two::watching_lowest();
    let mut ms = 0;
    let mut flow = |two: &mut Two, frames: usize| (0..frames).for_each(|_| two.frame(&mut ms, &all));
    flow(&mut two, 120);
    assert_eq!(told(&mut two), [1], "in the beginning it is asked for everything");
    two.pull(&[2], true, 0);
    flow(&mut two, 4);
    assert_eq!(told(&mut two), [3], "up at once");
    two.pull(&[0], true, 0);
    flow(&mut two, 4);
    assert_eq!(told(&mut two), [1], "down too: the other bridge has waited");
    // A session that begins anew pulls again what it had; nothing changes for the publisher.
    two.open(2, None);
    two.offer(1000);
    flow(&mut two, 30);
    two.pull(&[0], true, 1000);
    flow(&mut two, 120);
    assert_eq!(told(&mut two), [0_u8; 0]);
    // A bridge that is gone may come again; after three seconds it does not.
    let transport = two.transports[0];
    two.here.command(Command::CloseTransport { transport });
    flow(&mut two, 80);
    assert_eq!(told(&mut two), [0_u8; 0]);
    flow(&mut two, 20);
    assert_eq!(told(&mut two), [0]);
}

#[test]
fn new_keys_bring_everything_back_at_the_next_key_frame() {
    let mut two = Two::watching_lowest();
    let mut ms = 0;
    for number in 0..30 {
        two.frame(&mut ms, &[(0, number == 0)]);
    }
    let (mut video, mut audio) = two.got();
    assert_eq!((video.len(), audio.len()), (60, 30));
    two.open(2, None);
    two.frame(&mut ms, &[(0, false)]);
    assert_eq!(two.got().0.len(), 0, "nothing is pulled in this session yet");
    two.offer(1000);
    two.pull(&[0], true, 1000);
    for number in 0..30 {
        two.frame(&mut ms, &[(0, number == 3)]);
    }
    let (more_video, more_audio) = two.got();
    assert_eq!((more_video.len(), more_audio.len()), (54, 30));
    video.extend(more_video);
    audio.extend(more_audio);
    assert_continuous(&video);
    assert_continuous(&audio);
    let jump = audio[30].header.timestamp.wrapping_sub(audio[29].header.timestamp);
    assert!((1440..=3840).contains(&jump), "about the time that passed: {jump}");
}

#[test]
fn what_others_send_is_dropped_and_a_changed_address_is_followed() {
    let mut two = Two::watching_lowest();
    let mut ms = 0;
    two.frame(&mut ms, &[(0, true)]);
    two.got();
    let before = *two.there.engine.counters();
    let stranger: SocketAddr = "203.0.113.5:5".parse().unwrap();
    let mut junk = vec![0x80, 96, 0, 1, 0, 0, 0, 1];
    junk.extend_from_slice(&LAYERS[0].0.to_be_bytes());
    junk.resize(200, 0xee);
    two.there.send(stranger, junk.clone());
    two.there.send(two.addresses[0], junk.clone());
    junk[8..12].copy_from_slice(&77u32.to_be_bytes());
    two.there.send(two.addresses[0], junk);
    let after = *two.there.engine.counters();
    assert_eq!((after.unauthentic - before.unauthentic, after.stray - before.stray), (2, 1));

    // What was sent already, once more from elsewhere: a replay moves nothing.
    for packet in two.camera.frame(&mut two.publisher, "7", 0, ms, false, 2) {
        two.here.send(two.publisher.address, packet);
    }
    let sent = two.here.take(two.addresses[1]);
    for datagram in &sent {
        two.there.send(two.addresses[0], datagram.clone());
    }
    let before = two.there.engine.counters().unauthentic;
    two.there.send(stranger, sent[0].clone());
    assert_eq!(two.there.engine.counters().unauthentic, before + 1);

    // The publisher's bridge is behind another address now: its next packets show it, and answers go there.
    let moved: SocketAddr = "192.0.2.77:4000".parse().unwrap();
    ms += 33;
    for packet in two.camera.frame(&mut two.publisher, "7", 0, ms, false, 2) {
        two.here.send(two.publisher.address, packet);
    }
    for datagram in two.here.take(two.addresses[1]) {
        two.there.send(moved, datagram);
    }
    assert_eq!(two.got().0.len(), 4);
    two.there.pass(1100 * MS);
    assert!(!two.there.take(moved).is_empty(), "reports go where it is");
    assert!(two.there.take(two.addresses[0]).is_empty());
}

#[test]
fn a_limit_keeps_the_lowest_layers_and_sound() {
    let mut two = Two::new();
    two.subscribe();
    two.want(Some(2));
    two.open(3, Some(200_000));
    two.offer(2000);
    two.pull(&[0, 1, 2], true, 2000);
    two.camera.payload = 800;
    let mut ms = 0;
    for number in 0..150 {
        two.frame(&mut ms, &[(0, number % 30 == 0), (1, number % 30 == 0), (2, number % 30 == 0)]);
    }
    let (bytes, from) = (two.bytes, ms);
    two.got();
    for number in 0..150 {
        two.frame(&mut ms, &[(0, number % 30 == 0), (1, number % 30 == 0), (2, number % 30 == 0)]);
    }
    let (video, audio) = two.got();
    assert_eq!(audio.len(), 150);
    let rate = (two.bytes - bytes) as u64 * 8 * 1000 / u64::from(ms - from);
    // One layer of 60 packets of 800 bytes a second is 400 kbit/s: not even the lowest fits.
    assert!(rate < 200_000, "{rate} bit/s");
    assert_eq!(video.len(), 0);
    two.open(4, Some(700_000));
    two.offer(3000);
    two.pull(&[0, 1, 2], true, 3000);
    for number in 0..300 {
        two.frame(&mut ms, &[(0, number % 30 == 0), (1, number % 30 == 0), (2, number % 30 == 0)]);
    }
    let (video, _) = two.got();
    let lowest = layers(&video).iter().filter(|layer| **layer == 0).count();
    assert!(lowest > 400 && lowest * 10 > video.len() * 8, "{lowest} of {}", video.len());
}
