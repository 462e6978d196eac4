//! How much is sent to a subscriber, and what its feedback does.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::super::super::control::*;
use super::super::super::hostile::Attack;
use super::super::super::rtcp;
use super::super::super::simulation::*;
use super::super::super::twcc::Recorder;
use super::super::Peer;

/// Everything is sent to a client, whatever the estimate: it is the estimate that is looked at.
fn unlimited(world: &mut World, client: &Client) {
    let key = world.engine.by_transport[&client.transport];
    world.engine.peers[key].allocation.limit = Some(1_000_000_000);
}

/// A leg that takes part in transport-wide congestion control.
fn numbered(track: TrackId, mid: &str) -> SendSection {
    SendSection { transport_wide: true, ..leg(track, Kind::Video, mid) }
}

#[test]
fn everything_sent_on_a_transport_is_numbered_in_one_row() {
    let mut world = World::new();
    let mut publisher = Client::connect(&mut world, "127.0.0.1:1001");
    let mut cameras = [Camera::new(&["q"]), Camera::new(&["q"])];
    let [front, back] = &cameras;
    publisher.negotiate(&mut world, vec![front.section("0")], vec![]);
    let mut other = Client::connect(&mut world, "127.0.0.1:1002");
    other.negotiate(&mut world, vec![back.section("0")], vec![]);
    let mut subscriber = Client::connect(&mut world, "127.0.0.1:1003");
    unlimited(&mut world, &subscriber);
    let legs = [numbered(front.track, "1"), numbered(back.track, "2")];
    subscriber.negotiate(&mut world, vec![], legs.to_vec());
    let mut got = Vec::new();
    for i in 0..10u32 {
        let [front, back] = &mut cameras;
        for packet in front.frame(&mut publisher, "0", 0, i * 33, i == 0, 3) {
            world.send(publisher.address, packet);
        }
        for packet in back.frame(&mut other, "0", 0, i * 33, i == 0, 2) {
            world.send(other.address, packet);
        }
        let (packets, _) = subscriber.receive(&mut world);
        let mut nack = rtcp::Writer::default();
        nack.nack(packets[0].header.ssrc, &[packets[0].header.sequence]);
        subscriber.rtcp(&mut world, nack.bytes());
        got.extend(packets);
        got.extend(subscriber.receive(&mut world).0);
    }
    let ssrcs: std::collections::BTreeSet<u32> = got.iter().map(|packet| packet.header.ssrc).collect();
    assert_eq!(ssrcs, [legs[0].ssrc, legs[0].rtx_ssrc, legs[1].ssrc].into(), "media and repairs");
    let numbers: Vec<u16> = got.iter().filter_map(|packet| packet.number).collect();
    assert_eq!(numbers, (0..60).collect::<Vec<u16>>());
}

#[test]
fn a_section_without_the_extension_bears_no_numbers() {
    let mut world = World::new();
    let mut publisher = Client::connect(&mut world, "127.0.0.1:1001");
    let mut camera = Camera::new(&["q"]);
    publisher.negotiate(&mut world, vec![camera.section("0")], vec![]);
    let mut subscriber = Client::connect(&mut world, "127.0.0.1:1002");
    let leg = leg(camera.track, Kind::Video, "1");
    subscriber.negotiate(&mut world, vec![], vec![leg]);
    for packet in camera.frame(&mut publisher, "0", 0, 0, true, 2) {
        world.send(publisher.address, packet);
    }
    let (packets, _) = subscriber.receive(&mut world);
    assert_eq!(packets.iter().map(|packet| packet.number).collect::<Vec<_>>(), [None, None]);
}

/// The way to a client that answers with transport-wide feedback.
struct Way {
    /// Bits per second.
    rate: f64,
    busy: Instant,
    arriving: VecDeque<(Instant, u16)>,
    recorder: Recorder,
    answer: Instant,
    got: Vec<Got>,
}

impl Way {
    fn new(world: &World, rate: f64) -> Self {
        let now = world.now;
        let recorder = Recorder::new(now);
        Self { rate, busy: now, arriving: VecDeque::new(), recorder, answer: now, got: Vec::new() }
    }

    /// Carries what was sent to the client, and back what it says of it.
    fn carry(&mut self, world: &mut World, client: &mut Client) {
        for packet in client.receive(world).0 {
            let bytes = packet.header.len + packet.payload.len() + packet.padding + 16 + 28;
            self.busy = self.busy.max(world.now) + Duration::from_secs_f64(bytes as f64 * 8.0 / self.rate);
            self.arriving.extend(packet.number.map(|number| (self.busy, number)));
            self.got.push(packet);
        }
        while let Some((at, number)) = self.arriving.pop_front_if(|(at, _)| *at <= world.now) {
            self.recorder.record(at, number);
        }
        if world.now >= self.answer {
            self.answer = world.now + 50 * MS;
            let mut message = Vec::new();
            while self.recorder.write(1, 2, &mut message) {
                client.rtcp(world, &std::mem::take(&mut message));
            }
        }
    }
}

/// A publisher whose camera is seen by some.
struct Stage {
    world: World,
    publisher: Client,
    camera: Camera,
    seen: Vec<(Client, SendSection, Way)>,
    frames: u32,
}

impl Stage {
    fn new(rates: &[f64]) -> Self {
        let mut world = World::new();
        let publisher = Client::connect(&mut world, "127.0.0.1:1001");
        let camera = Camera::new(&["q"]);
        publisher.negotiate(&mut world, vec![camera.section("0")], vec![]);
        let mut seen = Vec::new();
        for (&rate, port) in rates.iter().zip(1002..) {
            let client = Client::connect(&mut world, &format!("127.0.0.1:{port}"));
            unlimited(&mut world, &client);
            let leg = numbered(camera.track, "1");
            client.negotiate(&mut world, vec![], vec![leg.clone()]);
            let way = Way::new(&world, rate);
            seen.push((client, leg, way));
        }
        Self { world, publisher, camera, seen, frames: 0 }
    }

    fn peer(&mut self, index: usize) -> &mut Peer {
        let key = self.world.engine.by_transport[&self.seen[index].0.transport];
        &mut self.world.engine.peers[key]
    }

    fn budget(&mut self, index: usize) -> u64 {
        self.peer(index).bandwidth.budget().unwrap()
    }

    /// A second has a hundred steps, and every third one a frame of `packets`; `before` each step something may happen.
    fn run(&mut self, seconds: f64, packets: usize, mut before: impl FnMut(&mut Self)) {
        for step in 0..(seconds * 100.0) as u32 {
            before(self);
            if step.is_multiple_of(3) {
                let key = self.frames == 0;
                for packet in self.camera.frame(&mut self.publisher, "0", 0, self.frames * 30, key, packets) {
                    self.world.send(self.publisher.address, packet);
                }
                self.frames += 1;
            }
            self.world.pass(10 * MS);
            for (client, _, way) in &mut self.seen {
                way.carry(&mut self.world, client);
            }
        }
    }
}

#[test]
fn the_budget_follows_the_way() {
    let mut stage = Stage::new(&[20e6, 400e3]);
    // 17 packets of about 160 bytes a frame: 700 kbit/s.
    stage.run(4.0, 17, |stage| {
        stage.peer(0).wish(Some(3_000_000), false);
        stage.peer(1).wish(Some(3_000_000), false);
    });
    let wide = stage.budget(0);
    assert!((3_000_000..5_000_000).contains(&wide), "what was wished for is proved: {wide}");
    let thin = stage.budget(1);
    assert!(thin < 400_000, "{thin}");
    let (_, leg, way) = &stage.seen[0];
    let probes: Vec<&Got> = way.got.iter().filter(|packet| packet.header.ssrc == leg.rtx_ssrc).collect();
    assert!(probes.len() > 10 && probes.iter().any(|packet| packet.payload.is_empty()), "padding, too");
    for packet in probes {
        assert!(packet.header.payload_type == 121 && packet.number.is_some());
        assert!(packet.payload.is_empty() != (packet.padding == 0), "padding, or a picture's packet again");
    }
    let mut sequences = way.got.iter().filter(|packet| packet.header.ssrc == leg.rtx_ssrc);
    let first = sequences.next().unwrap().header.sequence;
    assert!(sequences.enumerate().all(|(i, packet)| packet.header.sequence == first.wrapping_add(i as u16 + 1)));
    assert_eq!(stage.world.engine.limited(), 1);
}

#[test]
fn nothing_is_probed_without_a_wish() {
    let mut stage = Stage::new(&[20e6]);
    stage.run(4.0, 5, |_| {});
    assert_eq!(stage.world.engine.counters().probe_bytes, 0);
    assert!(stage.seen[0].2.got.iter().all(|packet| packet.padding == 0));
    assert_eq!(stage.world.engine.limited(), 0);
}

#[test]
fn hostile_feedback_costs_others_nothing() {
    // What the neighbour gets without an attack, and with every attack at once.
    let [quiet, attacked] = [false, true].map(|attack| {
        let mut stage = Stage::new(&[20e6, 20e6]);
        stage.run(3.0, 17, |stage| {
            if !attack {
                return;
            }
            let (client, leg, way) = &mut stage.seen[1];
            let last = way.got.iter().rev().find(|packet| packet.header.ssrc == leg.ssrc).map(|p| p.header.sequence);
            let last = last.unwrap_or_default();
            for i in 0..10u32 {
                let mut storm = rtcp::Writer::default();
                storm.picture_loss(leg.ssrc);
                storm.nack(leg.ssrc, &(0..200).map(|back| last.wrapping_sub(back)).collect::<Vec<_>>());
                let out = storm.buffer();
                out.extend_from_slice(&[
                    0x8f, 205, 0, 6, 0, 0, 0, 1, 0, 0, 0, 2, 0, 1, 0, 4, 0x7f, 0xff, 0xff, i as u8,
                ]);
                out.extend_from_slice(&[0x40, 4, 0x7f, 0xff, 0x7f, 0xff, 0x80, 0]);
                for remb in [[0, 0, 0], [(46 << 2) | 2, 0, 0]] {
                    out.extend_from_slice(&[0x8f, 206, 0, 5, 0, 0, 0, 1, 0, 0, 0, 0, b'R', b'E', b'M', b'B', 1]);
                    out.extend_from_slice(&remb);
                    out.extend_from_slice(&leg.ssrc.to_be_bytes());
                }
                let message = storm.bytes().to_vec();
                client.rtcp(&mut stage.world, &message);
            }
        });
        stage
    });
    let packets =
        |stage: &Stage| -> Vec<Vec<u8>> { stage.seen[0].2.got.iter().map(|packet| packet.payload.clone()).collect() };
    assert_eq!(packets(&quiet), packets(&attacked));
    let counters = attacked.world.engine.counters();
    assert!(counters.key_frames_asked <= 12, "3000 requests in 3 s: {}", counters.key_frames_asked);
    assert!(counters.feedback_refused > 2_000, "{}", counters.feedback_refused);
    assert!(counters.repairs_refused > 0);
    let repaired: usize = {
        let (_, leg, way) = &attacked.seen[1];
        way.got.iter().filter(|packet| packet.header.ssrc == leg.rtx_ssrc).map(|packet| packet.payload.len()).sum()
    };
    assert!(repaired < 120_000, "a quarter of the budget for three seconds, and what was saved up: {repaired}");
}

#[test]
fn datagrams_full_of_one_thing_cost_others_nothing() {
    /// What a neighbour gets within two seconds, and what the engine has counted.
    fn two_seconds(attack: Option<Attack>) -> (Vec<Vec<u8>>, Stage) {
        let mut stage = Stage::new(&[20e6, 20e6]);
        stage.run(2.0, 17, |stage| {
            let Some(attack) = attack else { return };
            let (client, leg, way) = &mut stage.seen[1];
            let last = way.got.iter().rev().find(|packet| packet.header.ssrc == leg.ssrc);
            let sequence = last.map_or(0, |packet| packet.header.sequence);
            let number = last.and_then(|packet| packet.number).unwrap_or_default();
            let message = attack.compound(leg.ssrc, sequence, number);
            for _ in 0..10 {
                client.rtcp(&mut stage.world, &message);
            }
        });
        (stage.seen[0].2.got.iter().map(|packet| packet.payload.clone()).collect(), stage)
    }
    let (quiet, _) = two_seconds(None);
    assert!(quiet.len() > 1000);
    for attack in Attack::ALL {
        let (attacked, stage) = two_seconds(Some(attack));
        assert_eq!(quiet.len(), attacked.len(), "{attack:?}");
        assert!(quiet == attacked, "{attack:?}");
        let counters = stage.world.engine.counters();
        // Two thousand datagrams: what is done about them is bounded by what was sent, not by what is asked.
        match attack {
            Attack::Repairs => {
                assert!(counters.nacks_received <= 2000 * 200, "{}", counters.nacks_received);
                assert!(counters.repairs_refused > 0 && counters.retransmitted < 3000, "{}", counters.retransmitted);
            }
            Attack::Arrivals => {
                assert!(counters.feedback_refused > 100_000, "{} of 116000", counters.feedback_refused);
            }
            Attack::KeyFrames => assert!(counters.key_frames_asked <= 10, "{}", counters.key_frames_asked),
            Attack::Bandwidths | Attack::Reports | Attack::Unknown => {
                assert_eq!((counters.feedback_refused, counters.retransmitted), (0, 0), "{attack:?}");
            }
        }
    }
}
