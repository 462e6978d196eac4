//! Which packets of a stream a subscriber gets: key frames out of the history, temporal layers, spatial layers of one
//! stream, repairs of what it got and of nothing else.

use super::super::super::codec::scalable::{Encoder, Mode};
use super::super::super::control::*;
use super::super::super::rtcp::{self, Feedback};
use super::super::super::rtp::Outgoing;
use super::super::super::simulation::*;

/// A publisher with one track, and those who look at it.
struct Stage {
    world: World,
    publisher: Client,
    camera: Camera,
}

/// A subscriber and its leg.
struct Viewer {
    client: Client,
    leg: SendSection,
}

impl Stage {
    fn new(rids: &[&'static str]) -> Self {
        let mut world = World::new();
        let publisher = Client::connect(&mut world, "127.0.0.1:1001");
        let camera = Camera::new(rids);
        publisher.negotiate(&mut world, vec![camera.section("7")], vec![]);
        Self { world, publisher, camera }
    }

    fn join(&mut self, port: u16) -> Viewer {
        let client = Client::connect(&mut self.world, &format!("127.0.0.1:{port}"));
        let leg = leg(self.camera.track, Kind::Video, "3");
        client.negotiate(&mut self.world, vec![], vec![leg.clone()]);
        Viewer { client, leg }
    }

    /// One frame of two packets of a layer; the sealed packets.
    fn make(&mut self, ms: u32, layer: usize, key: bool) -> Vec<Vec<u8>> {
        self.camera.frame(&mut self.publisher, "7", layer, ms, key, 2)
    }

    fn send(&mut self, packets: impl IntoIterator<Item = Vec<u8>>) {
        for packet in packets {
            self.world.send(self.publisher.address, packet);
        }
    }

    /// Frames of a layer every 33 ms from `ms` on, the first a key frame if `key`.
    fn play(&mut self, ms: u32, layer: usize, key: bool, frames: u32) {
        for i in 0..frames {
            let packets = self.make(ms + 33 * i, layer, key && i == 0);
            self.send(packets);
            self.world.pass(33 * MS);
        }
    }

    /// The SSRCs of which the publisher was asked for key frames.
    fn asked(&mut self) -> Vec<u32> {
        let mut all = Vec::new();
        for report in self.publisher.receive(&mut self.world).1 {
            all.extend(rtcp::read(&report).filter_map(|feedback| match feedback {
                Feedback::KeyFrame(ssrc) => Some(ssrc),
                _ => None,
            }));
        }
        all
    }
}

impl Viewer {
    fn receive(&mut self, stage: &mut Stage) -> Vec<Got> {
        self.client.receive(&mut stage.world).0
    }

    fn want(&self, stage: &mut Stage, layer: Option<u8>) {
        let (transport, leg) = (self.client.transport, self.leg.leg);
        stage.world.command(Command::Want { transport, leg, wanted: layer.map_or(Wanted::PAUSED, Wanted::up_to) });
    }

    fn nack(&mut self, stage: &mut Stage, sequences: &[u16]) -> Vec<Got> {
        let mut writer = rtcp::Writer::default();
        writer.nack(self.leg.ssrc, sequences);
        self.client.rtcp(&mut stage.world, writer.bytes());
        self.receive(stage)
    }
}

/// Sequence numbers and picture ids without a gap, timestamps that go on; the picture's own numbers are the layer's.
fn assert_continuous(packets: &[Got]) {
    for pair in packets.windows(2) {
        let (a, b) = (&pair[0], &pair[1]);
        assert_eq!(b.header.sequence, a.header.sequence.wrapping_add(1));
        let step = u16::from(a.header.marker);
        assert_eq!(read_payload(&b.payload).0, (read_payload(&a.payload).0 + step) & 0x7fff);
        let ticks = b.header.timestamp.wrapping_sub(a.header.timestamp).cast_signed();
        assert_eq!(ticks > 0, a.header.marker, "{ticks}");
        assert!((0..90_000).contains(&ticks), "{ticks}");
    }
}

#[test]
fn who_joins_a_moment_later_starts_with_the_same_key_frame() {
    let mut stage = Stage::new(&[]);
    let mut first = stage.join(2001);
    stage.asked();
    stage.play(0, 0, true, 10);
    stage.asked();
    let before = stage.world.engine.counters().replayed;
    let mut second = stage.join(2002);
    let packets = second.receive(&mut stage);
    assert_eq!(packets.len(), 20, "at once, from the key frame on");
    let spacing = packets[2].header.timestamp.wrapping_sub(packets[0].header.timestamp);
    assert_eq!(spacing, 33 * 90, "as they were taken");
    stage.play(330, 0, false, 5);
    let mut all = packets;
    all.extend(second.receive(&mut stage));
    assert_eq!(all.len(), 30);
    assert_continuous(&all);
    assert_eq!(stage.asked(), [0; 0], "nobody asks for another one");
    assert_continuous(&first.receive(&mut stage));
    assert_eq!(stage.world.engine.counters().replayed, before + 1);
    // What came out of the history can be asked for again like everything else.
    let wanted = &all[3];
    let repairs = second.nack(&mut stage, &[wanted.header.sequence]);
    assert_eq!(repairs.len(), 1);
    assert_eq!((repairs[0].header.timestamp, &repairs[0].payload[2..]), (wanted.header.timestamp, &wanted.payload[..]));
}

#[test]
fn an_old_or_torn_key_frame_is_no_beginning() {
    let mut stage = Stage::new(&[]);
    stage.play(0, 0, true, 35); // 1155 ms
    let mut late = stage.join(2001);
    assert!(late.receive(&mut stage).is_empty());
    assert_eq!(stage.asked(), [Camera::ssrc(0)]);
    let mut key = stage.make(1200, 0, true);
    let torn = key.pop();
    stage.send(key);
    let packets = stage.make(1233, 0, false);
    stage.send(packets);
    stage.world.pass(10 * MS);
    stage.asked();
    let mut other = stage.join(2002);
    assert!(other.receive(&mut stage).is_empty(), "one packet is missing");
    stage.send(torn);
    stage.world.pass(110 * MS);
    assert_eq!(other.receive(&mut stage).len(), 4, "now it is whole");
}

#[test]
fn a_key_frame_in_disorder_is_started_with_its_first_packet() {
    let mut stage = Stage::new(&[]);
    let mut viewer = stage.join(2001);
    let mut key = stage.make(0, 0, true);
    key.extend(stage.make(33, 0, false));
    key.rotate_left(1);
    stage.send(key);
    let packets = viewer.receive(&mut stage);
    assert_eq!(packets.len(), 4);
    assert_continuous(&packets);
}

#[test]
fn a_fresh_key_frame_of_a_higher_layer_serves_the_next_to_want_it() {
    let mut stage = Stage::new(&["q", "h", "f"]);
    let mut viewer = stage.join(2001);
    viewer.want(&mut stage, Some(0));
    stage.asked();
    let mut ms = 0;
    let mut play = |stage: &mut Stage, key: bool, frames: u32| {
        for i in 0..frames {
            let mut packets = stage.make(ms, 0, key && i == 0);
            packets.extend(stage.make(ms, 2, key && i == 0));
            stage.send(packets);
            stage.world.pass(33 * MS);
            ms += 33;
        }
    };
    play(&mut stage, true, 6);
    let mut all = viewer.receive(&mut stage);
    assert!(all.iter().all(|packet| read_payload(&packet.payload).2 == 0));
    stage.asked();
    viewer.want(&mut stage, None);
    viewer.want(&mut stage, Some(2));
    let caught_up = viewer.receive(&mut stage);
    assert_eq!(caught_up.len(), 12, "200 ms old");
    all.extend(caught_up);
    play(&mut stage, false, 3);
    all.extend(viewer.receive(&mut stage));
    assert_eq!(all.len(), 12 + 12 + 6);
    assert!(all[12..].iter().all(|packet| read_payload(&packet.payload).2 == 2));
    for pair in all.windows(2) {
        assert_eq!(pair[1].header.sequence, pair[0].header.sequence.wrapping_add(1));
        let ticks = pair[1].header.timestamp.wrapping_sub(pair[0].header.timestamp).cast_signed();
        assert_eq!(ticks > 0, pair[0].header.marker);
        assert!(ticks < 90 * 200, "time does not go back, and does not run away");
    }
    assert_eq!(stage.asked(), [0; 0]);
}

#[test]
fn a_storm_of_key_frame_requests_reaches_nobody() {
    let mut stage = Stage::new(&[]);
    let mut viewers: Vec<Viewer> = (0..10).map(|i| stage.join(2000 + i)).collect();
    stage.play(0, 0, true, 1);
    stage.world.pass(400 * MS);
    stage.asked();
    let mut asked = 0;
    // 1000 requests a second for 3 s.
    for round in 0..300u32 {
        for viewer in &mut viewers {
            let mut writer = rtcp::Writer::default();
            writer.picture_loss(viewer.leg.ssrc);
            viewer.client.rtcp(&mut stage.world, writer.bytes());
        }
        if round % 4 == 0 {
            let packets = stage.make(433 + round * 10, 0, false);
            stage.send(packets);
        }
        stage.world.pass(10 * MS);
        asked += stage.asked().len();
    }
    assert_eq!(
        asked, 5,
        "each viewer's first four requests count, one in 300 ms, and the last ones ask behind what is under way"
    );
    assert_eq!(stage.world.engine.counters().key_frames_wanted, 3000);
}

fn av1(number: u8) -> PayloadType {
    PayloadType { number, codec: Codec::Av1, rtx: Some(number + 1), profile: 0 }
}

/// A publisher of one scalable AV1 stream.
struct Scalable {
    stage: Stage,
    encoder: Encoder,
    sequence: u64,
    picture: u32,
}

impl Scalable {
    fn new(mode: Mode) -> Self {
        let mut world = World::new();
        let mut publisher = Client::connect(&mut world, "127.0.0.1:1001");
        let camera = Camera::new(&[]);
        let section = ReceiveSection { payload_types: vec![av1(45)], ..camera.section("7") };
        publisher.negotiate(&mut world, vec![section], vec![]);
        publisher.receive(&mut world);
        let stage = Stage { world, publisher, camera };
        Self { stage, encoder: Encoder::new(mode), sequence: 0, picture: 0 }
    }

    fn join(&mut self, port: u16, layer: u8) -> Viewer {
        let client = Client::connect(&mut self.stage.world, &format!("127.0.0.1:{port}"));
        let leg = leg(self.stage.camera.track, Kind::Video, "3");
        let leg = SendSection { payload_types: vec![av1(99)], wanted: Wanted::up_to(layer), ..leg };
        client.negotiate(&mut self.stage.world, vec![], vec![leg.clone()]);
        Viewer { client, leg }
    }

    /// Pictures every 33 ms; payloads say (spatial, temporal) and a number.
    fn play(&mut self, key: bool, pictures: u32) {
        for i in 0..pictures {
            for frame in self.encoder.picture(key && i == 0) {
                let header = Outgoing {
                    marker: frame.last,
                    payload_type: 45,
                    sequence: self.sequence as u16,
                    timestamp: self.picture * 3000,
                    ssrc: Camera::ssrc(0),
                };
                let descriptor = frame.descriptor(true, true);
                let values: [(u8, &[u8]); 2] = [(IDS.mid, b"7"), (IDS.dependency_descriptor, &descriptor)];
                let start = if frame.key && frame.spatial == 0 { 0x08 } else { 0 };
                let body = [start, frame.spatial, frame.temporal, self.sequence as u8];
                let packet = self.stage.publisher.seal(&header, self.sequence, &values, &body);
                self.stage.send([packet]);
                self.sequence += 1;
            }
            self.picture += 1;
            self.stage.world.pass(33 * MS);
        }
    }

    /// What a viewer got: (spatial, temporal) of each packet, whose numbers have no gaps and whose pictures all end.
    fn layers(&mut self, viewer: &mut Viewer) -> Vec<(u8, u8)> {
        let got = viewer.receive(&mut self.stage);
        for pair in got.windows(2) {
            assert_eq!(pair[1].header.sequence, pair[0].header.sequence.wrapping_add(1));
            assert_eq!(pair[0].header.timestamp != pair[1].header.timestamp, pair[0].header.marker);
        }
        got.iter().map(|packet| (packet.payload[1], packet.payload[2])).collect()
    }
}

/// A REMB (draft-alvestrand-rmcat-remb-03 §2.2) that names so many kbit/s.
fn remb(kbits: u32) -> [u8; 24] {
    let mut packet = [0; 24];
    packet[..4].copy_from_slice(&[0x8f, 206, 0, 5]);
    packet[12..17].copy_from_slice(b"REMB\x01");
    packet[17..20].copy_from_slice(&(((kbits * 1000) / 16) | (4 << 18)).to_be_bytes()[1..]);
    packet
}

/// What a viewer on a narrow way gets of whom the upper layer is wanted, whose key frame has to wait, and then, before its
/// turn, the lower one again, with a key frame of its own `at_once` or later.
fn back_before_its_turn(at_once: bool) -> Vec<Got> {
    let mut stage = Stage::new(&["q", "h"]);
    let mut viewer = stage.join(2001);
    let key = stage.world.engine.by_transport[&viewer.client.transport];
    stage.world.engine.peers[key].allocation.limit = Some(1_000_000_000);
    viewer.want(&mut stage, Some(0));
    // Longer than the history is of use.
    stage.play(0, 0, true, 40);
    let mut all = viewer.receive(&mut stage);
    viewer.client.rtcp(&mut stage.world, &remb(64));
    stage.world.pass(33 * MS);
    viewer.want(&mut stage, Some(1));
    let waits = |stage: &Stage| stage.world.engine.peers[key].pacer.as_ref().is_some_and(|pacer| !pacer.is_empty());
    let mut ms = 1350;
    while !waits(&stage) {
        let packets = stage.make(ms, 0, false);
        stage.send(packets);
        ms += 1;
        assert!(ms < 2000, "nothing waits at 64 kbit/s");
    }
    let packets = stage.make(ms, 1, true);
    stage.send(packets);
    for _ in 0..5 {
        let packets = stage.make(ms, 0, false);
        stage.send(packets);
        ms += 1;
    }
    stage.asked();
    viewer.want(&mut stage, Some(0));
    assert!(waits(&stage));
    assert!(!stage.asked().is_empty(), "only a key frame leads back");
    let packets = stage.make(ms, 0, at_once);
    stage.send(packets);
    for _ in 0..30 {
        stage.world.pass(33 * MS);
        all.extend(viewer.receive(&mut stage));
    }
    stage.play(ms + 900, 0, !at_once, 5);
    all.extend(viewer.receive(&mut stage));
    let layers: Vec<u8> = all.iter().map(|packet| packet.payload[packet.payload.len() - 1]).collect();
    assert!(!layers.contains(&1), "the upper layer's turn came: {layers:?}");
    all
}

#[test]
fn what_is_overtaken_by_a_key_frame_that_waits_leaves_no_gap() {
    for at_once in [true, false] {
        let all = back_before_its_turn(at_once);
        assert_continuous(&all);
        assert!(all.len() > 80 + 10, "{} with a key frame {at_once}", all.len());
    }
}

#[test]
fn the_layers_of_a_scalable_stream_are_left_out_one_by_one() {
    let mut scalable = Scalable::new(Mode::L3T3Key);
    let mut viewer = scalable.join(2001, u8::MAX);
    scalable.play(true, 32);
    let layers = scalable.layers(&mut viewer);
    let key = layers.windows(3).rposition(|three| three == [(0, 0), (1, 0), (2, 0)]).unwrap();
    assert!(layers.len() - key > 20 && layers[key + 3..].iter().all(|layer| layer.0 == 2), "{layers:?}");
    scalable.stage.asked();
    viewer.want(&mut scalable.stage, Some(0));
    scalable.play(false, 12);
    assert_eq!(scalable.layers(&mut viewer), [(2, 0); 3], "the least there is, until a key frame leads down");
    assert!(!scalable.stage.asked().is_empty());
    scalable.play(true, 4);
    assert_eq!(scalable.layers(&mut viewer), [(0, 0), (0, 2), (0, 1), (0, 2)]);
    scalable.play(false, 12);
    scalable.stage.asked();
    scalable.play(false, 12);
    assert_eq!(scalable.stage.asked(), [0; 0], "there is no more to be had");
    assert!(scalable.layers(&mut viewer).iter().all(|layer| layer.0 == 0));
}

#[test]
fn one_history_repairs_every_subscribers_own_view() {
    let mut scalable = Scalable::new(Mode::L3T3);
    let mut viewers: Vec<Viewer> = (0..48).map(|i| scalable.join(2000 + i, i as u8 % 3)).collect();
    scalable.play(true, 8);
    for viewer in &mut viewers {
        scalable.layers(viewer);
    }
    scalable.play(false, 16);
    for (i, viewer) in viewers.iter_mut().enumerate() {
        let got = viewer.receive(&mut scalable.stage);
        assert_eq!(got.len(), 16 * (1 + i % 3));
        let lost: Vec<u16> = got.iter().skip(5).step_by(3).map(|packet| packet.header.sequence).collect();
        let repairs = viewer.nack(&mut scalable.stage, &lost);
        assert_eq!(repairs.len(), lost.len());
        for repair in repairs {
            let original = u16::from_be_bytes([repair.payload[0], repair.payload[1]]);
            let first = got.iter().find(|packet| packet.header.sequence == original).unwrap();
            assert_eq!((&repair.payload[2..], repair.header.timestamp), (&first.payload[..], first.header.timestamp));
            assert_eq!(repair.header.marker, first.header.marker);
        }
        let last = got.last().unwrap().header.sequence;
        let never: Vec<u16> = (1..60).map(|i| last.wrapping_add(i)).collect();
        assert!(viewer.nack(&mut scalable.stage, &never).is_empty(), "what it never got is not repeated");
    }
}
