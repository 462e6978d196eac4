//! What subscribers get of what publishers send.

use super::super::super::control::*;
use super::super::super::rtcp::{self, Feedback};
use super::super::super::rtp::Outgoing;
use super::super::super::simulation::*;

/// A publisher of a camera with three layers, and a subscriber to it.
struct Pair {
    world: World,
    publisher: Client,
    camera: Camera,
    subscriber: Client,
    leg: SendSection,
}

impl Pair {
    fn new() -> Self {
        let mut world = World::new();
        let publisher = Client::connect(&mut world, "127.0.0.1:1001");
        let camera = Camera::new(&["q", "h", "f"]);
        publisher.negotiate(&mut world, vec![camera.section("7")], vec![]);
        let subscriber = Client::connect(&mut world, "127.0.0.1:1002");
        let leg = leg(camera.track, Kind::Video, "3");
        subscriber.negotiate(&mut world, vec![], vec![leg.clone()]);
        let mut pair = Self { world, publisher, camera, subscriber, leg };
        pair.drain();
        pair
    }

    fn drain(&mut self) {
        self.publisher.receive(&mut self.world);
        self.subscriber.receive(&mut self.world);
    }

    /// Sends one frame of each given layer (layer, key frame); two packets each.
    fn frames(&mut self, ms: u32, layers: &[(usize, bool)]) {
        for &(layer, key) in layers {
            for packet in self.camera.frame(&mut self.publisher, "7", layer, ms, key, 2) {
                self.world.send(self.publisher.address, packet);
            }
        }
    }

    fn want(&mut self, layer: Option<u8>) {
        let (transport, leg) = (self.subscriber.transport, self.leg.leg);
        self.world.command(Command::Want { transport, leg, wanted: layer.map_or(Wanted::PAUSED, Wanted::up_to) });
    }

    /// Key-frame requests and NACKs that the publisher got.
    fn asked(&mut self) -> (Vec<u32>, Vec<(u32, Vec<u16>)>) {
        let (mut keys, mut nacks) = (Vec::new(), Vec::new());
        for report in self.publisher.receive(&mut self.world).1 {
            for feedback in rtcp::read(&report) {
                match feedback {
                    Feedback::KeyFrame(ssrc) => keys.push(ssrc),
                    Feedback::Nack(n) => nacks.push((n.media_ssrc, n.sequences().collect())),
                    _ => {}
                }
            }
        }
        (keys, nacks)
    }
}

/// Sequence numbers without a gap, timestamps and picture ids that only grow by what is expected.
fn assert_continuous(packets: &[Got]) {
    for pair in packets.windows(2) {
        let (a, b) = (&pair[0], &pair[1]);
        assert_eq!(b.header.sequence, a.header.sequence.wrapping_add(1));
        let ticks = b.header.timestamp.wrapping_sub(a.header.timestamp);
        assert!(ticks < 90 * 200, "{ticks}");
        let ((picture_a, tl0_a, _), (picture_b, tl0_b, _)) = (read_payload(&a.payload), read_payload(&b.payload));
        let step = u16::from(a.header.marker);
        assert_eq!((picture_b, tl0_b), ((picture_a + step) & 0x7fff, tl0_a.wrapping_add(step as u8)));
    }
}

fn layers(packets: &[Got]) -> Vec<u8> {
    packets.iter().map(|packet| read_payload(&packet.payload).2).collect()
}

#[test]
fn a_subscriber_gets_its_own_numbers() {
    let mut pair = Pair::new();
    pair.frames(0, &[(2, true)]);
    pair.frames(33, &[(2, false)]);
    let (packets, _) = pair.subscriber.receive(&mut pair.world);
    assert_eq!(packets.len(), 4);
    assert_continuous(&packets);
    for packet in &packets {
        assert_eq!((packet.header.payload_type, packet.header.ssrc), (120, pair.leg.ssrc));
        assert_eq!(packet.mid, b"3");
    }
    assert_eq!(packets.iter().map(|p| p.header.marker).collect::<Vec<_>>(), [false, true, false, true]);
    let started =
        Event::TrackStarted { transport: pair.publisher.transport, track: pair.camera.track, codec: Codec::Vp8 };
    assert!(pair.world.events.contains(&started));
    let active = Event::LegActive { transport: pair.subscriber.transport, leg: pair.leg.leg, active: true };
    assert!(pair.world.events.contains(&active));
}

/// A client that comes from another bridge was told there that its packets come: it leaves out mid and RID.
#[test]
fn streams_are_known_by_the_word_of_another_bridge() {
    let mut here = Pair::new();
    here.frames(0, &[(0, true), (2, true)]);
    let (transport, track) = (here.publisher.transport, here.camera.track);
    for layer in [0, 2] {
        let ssrc = Camera::ssrc(usize::from(layer));
        let known = Event::StreamKnown { transport, track, layer, rtx: false, ssrc };
        assert_eq!(here.world.events.iter().filter(|event| **event == known).count(), 1, "{layer}");
    }
    let mut there = Pair::new();
    there.camera.bare = true;
    there.frames(0, &[(2, true)]);
    assert_eq!(there.subscriber.receive(&mut there.world).0.len(), 0, "nobody knows what it is");
    let ssrcs = (0..3).map(|layer| (Camera::ssrc(layer), None)).collect();
    let section = ReceiveSection { ssrcs, ..there.camera.section("7") };
    there.publisher.negotiate(&mut there.world, vec![section], vec![]);
    there.frames(33, &[(2, true)]);
    assert_eq!(layers(&there.subscriber.receive(&mut there.world).0), [2, 2]);
}

/// What such a client sent elsewhere is not here: new pictures are asked for at once. And what it gets is numbered on.
#[test]
fn a_client_goes_on_with_another_server() {
    let mut here = Pair::new();
    let mut client = Client::open(&mut here.world, "127.0.0.1:1003");
    let downlink = Some(Downlink { next_number: 65_535, bits: 3_000_000 });
    here.world.command(Command::GoOn { transport: client.transport, channels: [None; 2], downlink });
    let own = Camera::new(&["q", "h", "f"]);
    let ssrcs = [11, 0, 13].map(|ssrc| (ssrc, None)).to_vec();
    let shown = SendSection { transport_wide: true, ..leg(here.camera.track, Kind::Video, "3") };
    client.negotiate(&mut here.world, vec![ReceiveSection { ssrcs, ..own.section("7") }], vec![shown]);
    client.check(&mut here.world, true);
    client.handshake(&mut here.world);
    here.frames(0, &[(0, true), (2, true)]);
    let (packets, reports) = client.receive(&mut here.world);
    let asked = |report: &Vec<u8>| -> Vec<u32> {
        let key = |feedback| if let Feedback::KeyFrame(ssrc) = feedback { Some(ssrc) } else { None };
        rtcp::read(report).filter_map(key).collect()
    };
    assert_eq!(reports.iter().flat_map(asked).collect::<Vec<_>>(), [11, 13], "of each layer that is known");
    let numbers: Vec<u16> = packets.iter().filter_map(|got| got.number).collect();
    assert_eq!(numbers[..2], [65_535, 0], "{numbers:?}");
    assert_eq!(layers(&packets).last(), Some(&2), "there is room for the highest at once");
}

#[test]
fn layers_switch_at_key_frames_without_a_seam() {
    let mut pair = Pair::new();
    // Chromium ramps up: the lowest layer first.
    pair.frames(0, &[(0, true)]);
    pair.frames(33, &[(0, false)]);
    let mut packets = pair.subscriber.receive(&mut pair.world).0;
    assert_eq!(layers(&packets), [0; 4], "any layer is better than none");
    pair.world.pass(66 * MS);
    pair.frames(66, &[(0, false), (2, false)]);
    packets.extend(pair.subscriber.receive(&mut pair.world).0);
    assert_eq!(layers(&packets), [0; 6], "not without a key frame");
    assert_eq!(pair.asked().0.last(), Some(&Camera::ssrc(2)), "so one is asked for");
    pair.world.pass(33 * MS);
    pair.frames(99, &[(0, false), (1, true), (2, true)]);
    packets.extend(pair.subscriber.receive(&mut pair.world).0);
    assert_eq!(layers(&packets)[6..], [0, 0, 1, 1, 2, 2]);
    pair.world.pass(33 * MS);
    pair.frames(132, &[(0, false), (1, false), (2, false)]);
    packets.extend(pair.subscriber.receive(&mut pair.world).0);
    assert_eq!(layers(&packets)[12..], [2, 2]);
    // Less is wanted: its last key frame is fresh enough.
    pair.want(Some(1));
    pair.frames(165, &[(0, true), (1, false), (2, false)]);
    pair.frames(198, &[(0, true), (1, true), (2, true)]);
    packets.extend(pair.subscriber.receive(&mut pair.world).0);
    assert_eq!(layers(&packets)[14..], [1; 8], "from 99 ms on");
    // Nothing, and again.
    pair.want(None);
    pair.frames(264, &[(0, true), (1, true), (2, true)]);
    assert!(pair.subscriber.receive(&mut pair.world).0.is_empty());
    pair.want(Some(0));
    pair.world.pass(66 * MS);
    pair.frames(297, &[(0, false), (1, true), (2, true)]);
    packets.extend(pair.subscriber.receive(&mut pair.world).0);
    assert_eq!(layers(&packets)[22..], [0; 4]);
    assert_continuous(&packets);
}

#[test]
fn a_layer_that_stops_is_replaced() {
    let mut pair = Pair::new();
    pair.frames(0, &[(0, true), (1, true), (2, true)]);
    pair.subscriber.receive(&mut pair.world);
    for i in 1..25 {
        pair.world.pass(100 * MS);
        pair.frames(i * 100, &[(0, false), (1, i % 5 == 0)]);
    }
    let (packets, _) = pair.subscriber.receive(&mut pair.world);
    assert!(layers(&packets).iter().all(|layer| *layer == 1), "the next best one");
    assert!(packets.len() >= 10);
    assert_eq!(pair.world.engine.counters().replayed, 1, "its last key frame was still at hand");
}

#[test]
fn lost_packets_are_asked_for_and_repaired() {
    let mut pair = Pair::new();
    pair.frames(0, &[(2, true)]);
    let mut lost = pair.camera.frame(&mut pair.publisher, "7", 2, 33, false, 3);
    let missing = lost.remove(1);
    for packet in lost {
        pair.world.send(pair.publisher.address, packet);
    }
    pair.world.pass(40 * MS);
    let (_, nacks) = pair.asked();
    let sequence = u16::from_be_bytes([missing[2], missing[3]]);
    assert_eq!(nacks, [(Camera::ssrc(2), vec![sequence])]);
    // The publisher repeats it as RTX: original sequence number, then the payload.
    let mut body = sequence.to_be_bytes().to_vec();
    body.extend_from_slice(&vp8_payload(201, 201, false, false, 2));
    let header = Outgoing {
        marker: false,
        payload_type: 97,
        sequence: 9,
        timestamp: 33 * 90 + 2 * 7_777,
        ssrc: Camera::rtx_ssrc(2),
    };
    let values: [(u8, &[u8]); 2] = [(IDS.mid, b"7"), (IDS.repaired_rid, b"f")];
    let rtx = pair.publisher.seal(&header, 9, &values, &body);
    pair.world.send(pair.publisher.address, rtx);
    let (mut packets, _) = pair.subscriber.receive(&mut pair.world);
    assert_eq!(packets.len(), 5);
    let repaired = packets.pop().unwrap();
    packets.insert(3, repaired);
    assert_continuous(&packets);
    assert_eq!(packets[3].header.ssrc, pair.leg.ssrc, "as if it had come in time");
    pair.world.pass(100 * MS);
    assert_eq!(pair.asked().1, [], "and is not asked for again");
}

#[test]
fn a_subscribers_losses_are_repaired_from_the_history() {
    let mut pair = Pair::new();
    pair.frames(0, &[(1, true)]);
    pair.frames(33, &[(1, false)]);
    let (packets, _) = pair.subscriber.receive(&mut pair.world);
    let wanted = packets[2].clone();
    let nack = |sequence: u16| {
        let mut writer = rtcp::Writer::default();
        writer.nack(pair.leg.ssrc, &[sequence, sequence.wrapping_add(5000)]);
        writer.bytes().to_vec()
    };
    let request = nack(wanted.header.sequence);
    pair.subscriber.rtcp(&mut pair.world, &request);
    let (repairs, _) = pair.subscriber.receive(&mut pair.world);
    let [repair] = &repairs[..] else { panic!("{repairs:?}") };
    assert_eq!((repair.header.ssrc, repair.header.payload_type), (pair.leg.rtx_ssrc, 121));
    assert_eq!((repair.header.timestamp, repair.header.marker), (wanted.header.timestamp, wanted.header.marker));
    assert_eq!(repair.payload[..2], wanted.header.sequence.to_be_bytes());
    assert_eq!(repair.payload[2..], wanted.payload);
    pair.subscriber.rtcp(&mut pair.world, &request);
    assert!(pair.subscriber.receive(&mut pair.world).0.is_empty(), "not twice within a moment");
    pair.world.pass(30 * MS);
    pair.subscriber.rtcp(&mut pair.world, &request);
    assert_eq!(pair.subscriber.receive(&mut pair.world).0.len(), 1);
}

#[test]
fn key_frame_requests_are_aggregated() {
    let mut pair = Pair::new();
    let mut others: Vec<(Client, SendSection)> = (0..20)
        .map(|i| {
            let client = Client::connect(&mut pair.world, &format!("127.0.0.1:{}", 2000 + i));
            let leg = leg(pair.camera.track, Kind::Video, "0");
            client.negotiate(&mut pair.world, vec![], vec![leg.clone()]);
            (client, leg)
        })
        .collect();
    pair.frames(0, &[(2, true)]);
    pair.asked();
    pair.world.pass(400 * MS);
    let mut count = 0;
    for round in 0..10 {
        for (client, leg) in &mut others {
            let mut writer = rtcp::Writer::default();
            writer.picture_loss(leg.ssrc);
            client.rtcp(&mut pair.world, writer.bytes());
        }
        pair.world.pass(60 * MS);
        pair.frames(round * 60, &[(2, false)]);
        count += pair.asked().0.len();
    }
    assert_eq!(count, 3, "200 requests from 0 to 600 ms");
}

#[test]
fn every_packet_is_in_the_transport_wide_feedback() {
    use rtc::rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc;
    use rtc::shared::marshal::Unmarshal;
    let mut pair = Pair::new();
    for i in 0..60u16 {
        let header = Outgoing { marker: false, payload_type: 97, sequence: i, timestamp: 0, ssrc: Camera::rtx_ssrc(0) };
        let number = i.to_be_bytes();
        let values: [(u8, &[u8]); 3] = [(IDS.mid, b"7"), (IDS.repaired_rid, b"q"), (IDS.twcc, &number)];
        let padding = pair.publisher.seal(&header, u64::from(i), &values, &[0, 0]);
        pair.world.send(pair.publisher.address, padding);
        pair.world.pass(5 * MS);
    }
    pair.world.pass(60 * MS);
    let mut covered = 0;
    for report in pair.publisher.receive(&mut pair.world).1 {
        if report[..2] == [0x8f, 205] {
            let feedback = TransportLayerCc::unmarshal(&mut &report[..]).unwrap();
            assert_eq!(feedback.base_sequence_number, covered);
            covered += feedback.packet_status_count;
        }
    }
    assert_eq!(covered, 60);
}

#[test]
fn a_muted_track_is_silent_whatever_is_sent() {
    let mut pair = Pair::new();
    pair.frames(0, &[(2, true)]);
    assert_eq!(pair.subscriber.receive(&mut pair.world).0.len(), 2);
    let track = pair.camera.track;
    pair.world.command(Command::MuteTrack { track, muted: true });
    pair.frames(33, &[(2, true), (1, true)]);
    assert!(pair.subscriber.receive(&mut pair.world).0.is_empty());
    pair.world.command(Command::MuteTrack { track, muted: false });
    pair.frames(66, &[(2, false)]);
    assert!(pair.subscriber.receive(&mut pair.world).0.is_empty(), "only from a key frame on");
    pair.frames(99, &[(2, true)]);
    assert_eq!(pair.subscriber.receive(&mut pair.world).0.len(), 2);
}

#[test]
fn padding_leaves_no_gap() {
    let mut pair = Pair::new();
    pair.frames(0, &[(2, true)]);
    let (next, _) = (65_520 + 2, ());
    let header =
        Outgoing { marker: false, payload_type: 96, sequence: next as u16, timestamp: 0, ssrc: Camera::ssrc(2) };
    let padding = pair.publisher.seal(&header, next, &[(IDS.mid, b"7"), (IDS.rid, b"f")], &[]);
    pair.world.send(pair.publisher.address, padding);
    pair.camera.skip(2);
    pair.frames(33, &[(2, false)]);
    let (packets, _) = pair.subscriber.receive(&mut pair.world);
    assert_eq!(packets.len(), 4);
    assert_continuous(&packets);
}

#[test]
fn audio_flows_and_tells_who_speaks() {
    let mut world = World::new();
    let mut publisher = Client::connect(&mut world, "127.0.0.1:1001");
    let track = TrackId::next();
    let section = sound_section("0", track, 77);
    publisher.negotiate(&mut world, vec![section], vec![]);
    let mut subscriber = Client::connect(&mut world, "127.0.0.1:1002");
    let leg = leg(track, Kind::Audio, "1");
    subscriber.negotiate(&mut world, vec![], vec![leg.clone()]);
    let mut speak = |world: &mut World, numbers: std::ops::Range<u16>, level: u8| {
        for i in numbers {
            // No mid: the SDP's a=ssrc tells.
            let packet = publisher.spoken(77, i, level);
            world.send(publisher.address, packet);
            world.pass(20 * MS);
        }
    };
    speak(&mut world, 0..40, 20);
    let speakers = |world: &World| -> Vec<Vec<(TrackId, f32)>> {
        let speakers = world.events.iter().filter_map(|event| match event {
            Event::Speakers { speakers, .. } => Some(speakers.clone()),
            _ => None,
        });
        speakers.collect()
    };
    assert_eq!(speakers(&world), [vec![(track, 0.125)]]);
    speak(&mut world, 40..100, 127);
    assert_eq!(speakers(&world).last(), Some(&vec![]), "and who does not any more");
    let (packets, _) = subscriber.receive(&mut world);
    assert_eq!(packets.len(), 100);
    for pair in packets.windows(2) {
        assert_eq!(pair[1].header.sequence, pair[0].header.sequence.wrapping_add(1));
        assert_eq!(pair[1].header.timestamp.wrapping_sub(pair[0].header.timestamp), 960);
        assert_eq!((pair[1].header.payload_type, pair[1].header.ssrc), (109, leg.ssrc));
    }
}

#[test]
fn sound_that_comes_twice_is_passed_on_as_it_is() {
    let mut world = World::new();
    let mut publisher = Client::connect(&mut world, "127.0.0.1:1001");
    let track = TrackId::next();
    let red = |number| PayloadType { number, codec: Codec::Red, rtx: None, profile: 0 };
    let section = ReceiveSection { payload_types: vec![red(63), opus(111)], ..sound_section(0, track, 77) };
    publisher.negotiate(&mut world, vec![section], vec![]);
    let mut subscriber = Client::connect(&mut world, "127.0.0.1:1002");
    let leg = leg(track, Kind::Audio, "1");
    let payload_types = [leg.payload_types.clone(), vec![red(98)]].concat();
    subscriber.negotiate(&mut world, vec![], vec![SendSection { payload_types, ..leg }]);
    let mut sent = Vec::new();
    for i in 0..20u16 {
        // RFC 2198: a block of Opus from 20 ms before, then the newest one.
        let timestamp = u32::from(i + 1) * 960;
        let mut payload = vec![0x80 | 111, (960u32 >> 6) as u8, ((960u32 << 2) as u8), 3, 111];
        payload.extend([b'a', b'b', i as u8, b'c', i as u8 + 1]);
        let header = Outgoing { marker: i == 0, payload_type: 63, sequence: i, timestamp, ssrc: 77 };
        let packet = publisher.seal(&header, u64::from(i), &[(IDS.audio_level, &[20])], &payload);
        world.send(publisher.address, packet);
        world.pass(20 * MS);
        sent.push(payload);
    }
    let (packets, _) = subscriber.receive(&mut world);
    assert!(packets.iter().all(|packet| packet.header.payload_type == 98));
    assert_eq!(packets.into_iter().map(|packet| packet.payload).collect::<Vec<_>>(), sent);
}

#[test]
fn reports_go_both_ways_and_measure_the_round_trip() {
    let mut pair = Pair::new();
    pair.frames(0, &[(2, true)]);
    let mut writer = rtcp::Writer::default();
    writer.sender_report(Camera::ssrc(2), (0xAAAA_0001_0000_0000, 2 * 7_777, 2, 200));
    pair.publisher.rtcp(&mut pair.world, writer.bytes());
    pair.drain();
    pair.world.pass(1000 * MS);
    let received = pair.publisher.receive(&mut pair.world);
    let blocks: Vec<_> = received.1.iter().flat_map(|r| rtcp::read(r)).collect();
    assert!(
        blocks.iter().any(|f| matches!(f, Feedback::Receiver(r) if r.iter().any(|b| b.ssrc == Camera::ssrc(2)
            && b.fraction_lost == 0 && b.last_sender_report == 0x0001_0000))),
        "{blocks:?}"
    );
    let received = pair.subscriber.receive(&mut pair.world);
    let reports: Vec<_> = received.1.iter().flat_map(|r| rtcp::read(r)).collect();
    let Some(Feedback::Sender(report)) = reports.first() else { panic!("{reports:?}") };
    assert_eq!((report.ssrc, report.packet_count), (pair.leg.ssrc, 2));
    // It left with the last tick, 10 ms ago. The subscriber held it for 100 ms, the way took another 40, and it was read 9 ms
    // after it had come.
    pair.world.pass(139 * MS);
    let answer = super::super::super::receiver::Report {
        fraction_lost: 64,
        total_lost: 1,
        highest: 2,
        jitter: 0,
        last_sr: (report.ntp_time >> 16) as u32,
        delay: 65_536 / 10,
    };
    writer.clear();
    writer.receiver_report(&[(pair.leg.ssrc, answer)]);
    let sealed = pair.subscriber.seal_rtcp(writer.bytes());
    pair.world.send_earlier(9 * MS, pair.subscriber.address, sealed);
    pair.world.events.clear();
    pair.world.pass(6000 * MS);
    let quality = pair.world.events.iter().find_map(|event| match event {
        Event::Quality { transport, quality } if *transport == pair.subscriber.transport => {
            Some((quality.down.video_loss, quality.rtt_ms))
        }
        _ => None,
    });
    let (loss, rtt) = quality.unwrap();
    assert_eq!(loss, 0.25);
    assert!((40.0..40.1).contains(&rtt), "{rtt}");
}
