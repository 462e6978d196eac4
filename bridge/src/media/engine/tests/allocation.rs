//! Who gets which layers of a room, within what budget, and what publishers are asked to send for it.

use std::collections::BTreeMap;

use super::super::super::control::*;
use super::super::super::rtcp::{self, Feedback};
use super::super::super::simulation::*;

/// Packets of 1000 bytes in a frame of each layer, five frames a second: about 43, 130 and 433 kbit/s on the wire.
const PACKETS: [usize; 3] = [1, 3, 10];
const FRAME: u32 = 200;

/// A camera and who sends it: what it is asked for, and only that.
struct Publisher {
    client: Client,
    camera: Camera,
    layers: u8,
    keys: [bool; 3],
}

/// Publishers and one subscriber of them all.
struct Room {
    world: World,
    publishers: Vec<Publisher>,
    subscriber: Client,
    legs: Vec<SendSection>,
    ms: u32,
    /// Everything the engine has said.
    events: Vec<Event>,
}

/// What a leg got over a time.
#[derive(Default, Clone, Copy, PartialEq, Debug)]
struct Flow {
    /// Of the last packet.
    layer: Option<u8>,
    bits: u64,
}

impl Room {
    fn new(cameras: usize) -> Self {
        let mut world = World::new();
        let publishers: Vec<Publisher> = (0..cameras)
            .map(|i| {
                let client = Client::connect(&mut world, &format!("127.0.0.1:{}", 2000 + i));
                let mut camera = Camera::new(&["q", "h", "f"]);
                camera.payload = 1000;
                client.negotiate(&mut world, vec![camera.section("0")], vec![]);
                let (track, bitrates) = (camera.track, [43_000, 130_000, 433_000]);
                world.command(Command::DescribeTrack { track, screen: false, bitrates });
                Publisher { client, camera, layers: 3, keys: [true; 3] }
            })
            .collect();
        let subscriber = Client::connect(&mut world, "127.0.0.1:1002");
        let legs: Vec<SendSection> =
            publishers.iter().enumerate().map(|(i, p)| leg(p.camera.track, Kind::Video, &i.to_string())).collect();
        Self { world, publishers, subscriber, legs, ms: 0, events: Vec::new() }
    }

    /// The subscriber joins, with this much bandwidth.
    fn join(&mut self, budget: impl Into<Option<u64>>) {
        self.limit(budget);
        self.subscriber.negotiate(&mut self.world, vec![], self.legs.clone());
    }

    fn limit(&mut self, budget: impl Into<Option<u64>>) {
        self.world.engine.limit(self.subscriber.transport, budget);
    }

    fn want(&mut self, leg: usize, wanted: Wanted) {
        let (transport, leg) = (self.subscriber.transport, self.legs[leg].leg);
        self.world.command(Command::Want { transport, leg, wanted });
    }

    /// Media flows for a time; what the subscriber got of each leg.
    fn run(&mut self, ms: u32) -> Vec<Flow> {
        let mut flows = vec![Flow::default(); self.legs.len()];
        for _ in 0..ms / FRAME {
            self.listen();
            for publisher in &mut self.publishers {
                for (layer, packets) in PACKETS.into_iter().enumerate().take(publisher.layers.into()) {
                    let key = std::mem::take(&mut publisher.keys[layer]);
                    let client = &mut publisher.client;
                    for packet in publisher.camera.frame(client, "0", layer, self.ms, key, packets) {
                        self.world.send(publisher.client.address, packet);
                    }
                }
            }
            self.ms += FRAME;
            self.world.pass(FRAME * MS);
            if self.ms.is_multiple_of(10_000) {
                for publisher in &mut self.publishers {
                    publisher.client.check(&mut self.world, false);
                }
                self.subscriber.check(&mut self.world, false);
            }
            for packet in self.subscriber.receive(&mut self.world).0 {
                let Some(leg) = self.legs.iter().position(|leg| leg.ssrc == packet.header.ssrc) else { continue };
                flows[leg].layer = packet.payload.last().copied();
                flows[leg].bits += 8 * (packet.payload.len() + 80) as u64;
            }
        }
        self.listen();
        flows
    }

    /// Publishers do what they are asked for.
    fn listen(&mut self) {
        for event in std::mem::take(&mut self.world.events) {
            if let Event::LayersNeeded { track, layers, .. } = event {
                let publisher = self.publishers.iter_mut().find(|p| p.camera.track == track).unwrap();
                for key in &mut publisher.keys[publisher.layers.min(layers).into()..layers.into()] {
                    *key = true; // an encoder begins with a key frame
                }
                publisher.layers = layers;
            }
            self.events.push(event);
        }
        for publisher in &mut self.publishers {
            for report in publisher.client.receive(&mut self.world).1 {
                for feedback in rtcp::read(&report) {
                    if let Feedback::KeyFrame(ssrc) = feedback {
                        publisher.keys[(0..3).position(|layer| Camera::ssrc(layer) == ssrc).unwrap()] = true;
                    }
                }
            }
        }
    }

    /// What the subscriber was told last of each leg that it was told of: active or paused.
    fn states(&mut self) -> BTreeMap<usize, bool> {
        let told = self.events.iter().filter_map(|event| match event {
            Event::LegActive { leg, active, .. } => Some((self.legs.iter().position(|own| own.leg == *leg)?, *active)),
            _ => None,
        });
        told.collect()
    }

    /// What the publishers were told of their layers since the last call.
    fn needed(&mut self) -> Vec<(usize, u8)> {
        self.listen();
        let told = std::mem::take(&mut self.events).into_iter().filter_map(|event| match event {
            Event::LayersNeeded { track, layers, .. } => {
                Some((self.publishers.iter().position(|p| p.camera.track == track).unwrap(), layers))
            }
            _ => None,
        });
        told.collect()
    }
}

fn layers(flows: &[Flow]) -> Vec<Option<u8>> {
    flows.iter().map(|flow| flow.layer).collect()
}

fn bits_per_second(flows: &[Flow], ms: u32) -> u64 {
    flows.iter().map(|flow| flow.bits).sum::<u64>() * 1000 / u64::from(ms)
}

#[test]
fn without_a_known_limit_everything_wanted_flows() {
    let mut room = Room::new(2);
    room.join(None);
    room.want(1, Wanted::up_to(1));
    room.run(2000);
    assert_eq!(layers(&room.run(1000)), [Some(2), Some(1)]);
}

#[test]
fn nine_tiles_fit_a_megabit() {
    let mut room = Room::new(9);
    room.join(1_000_000);
    room.run(4000);
    let flows = room.run(4000);
    assert!(flows.iter().all(|flow| flow.layer.is_some()), "everybody is seen: {flows:?}");
    let rate = bits_per_second(&flows, 4000);
    assert!((600_000..=1_000_000).contains(&rate), "{rate}");
    assert!(flows.iter().any(|flow| flow.layer == Some(1)), "what is left is used: {flows:?}");
    assert!(room.states().values().all(|active| *active));
    // Nobody has to encode what nobody gets.
    assert!(room.publishers.iter().all(|publisher| publisher.layers <= 2));
}

#[test]
fn what_does_not_fit_is_paused_said_and_resumed() {
    let mut room = Room::new(5);
    room.join(120_000);
    room.run(4000);
    let flows = room.run(2000);
    assert_eq!(layers(&flows), [Some(0), Some(0), None, None, None], "in the order of subscribing");
    assert!(bits_per_second(&flows, 2000) <= 120_000);
    assert_eq!(room.states(), [(0, true), (1, true), (2, false), (3, false), (4, false)].into());
    room.limit(4_000_000);
    room.run(3000);
    assert_eq!(layers(&room.run(1000)), [Some(2); 5]);
    assert!(room.states().values().all(|active| *active));
    room.events.clear();
    room.limit(300_000);
    room.run(1000);
    let flows = room.run(2000);
    assert!(bits_per_second(&flows, 2000) <= 300_000);
    assert_eq!(layers(&flows), [Some(0); 5]);
    assert_eq!(room.states(), [].into(), "nobody was paused");
}

#[test]
fn what_the_client_pauses_itself_is_not_announced() {
    let mut room = Room::new(2);
    room.join(2_000_000);
    room.run(2000);
    room.events.clear();
    room.want(0, Wanted::PAUSED);
    assert_eq!(layers(&room.run(1000)), [None, Some(2)]);
    room.want(0, Wanted::BEST);
    assert_eq!(layers(&room.run(1000)), [Some(2), Some(2)]);
    assert_eq!(room.states(), [].into());
}

#[test]
fn the_screen_and_the_pinned_come_first() {
    let mut room = Room::new(4);
    let track = room.publishers[3].camera.track;
    room.world.command(Command::DescribeTrack { track, screen: true, bitrates: [43_000, 130_000, 433_000] });
    room.join(1_150_000);
    room.want(2, Wanted { priority: 1, ..Wanted::BEST });
    room.run(4000);
    assert_eq!(layers(&room.run(1000)), [Some(0), Some(0), Some(2), Some(2)]);
    room.limit(700_000);
    room.run(1000);
    assert_eq!(layers(&room.run(1000)), [Some(0), Some(0), Some(0), Some(2)], "the screen before the pinned");
}

#[test]
fn the_speaker_comes_first_among_equals() {
    let mut room = Room::new(4);
    let voice = TrackId::next();
    let section = sound_section("9", voice, 77);
    let speaker = &room.publishers[2];
    speaker.client.negotiate(&mut room.world, vec![speaker.camera.section("0"), section], vec![]);
    room.join(800_000);
    room.run(5000);
    let before = layers(&room.run(1000));
    assert!(!before.contains(&Some(2)), "evenly: {before:?}");
    for i in 0..80u16 {
        let client = &mut room.publishers[2].client;
        room.world.send(client.address, client.spoken(77, i, 20));
        if i % 10 == 9 {
            room.run(FRAME);
        }
    }
    room.run(1000);
    assert_eq!(layers(&room.run(1000))[2], Some(2), "raised as soon as she speaks");
}

#[test]
fn layers_that_nobody_gets_are_not_asked_for() {
    let mut room = Room::new(1);
    room.join(None);
    room.want(0, Wanted::up_to(0));
    room.run(2800);
    assert_eq!(room.needed(), [], "not at once");
    room.run(600);
    assert_eq!(room.needed(), [(0, 1)]);
    assert_eq!(layers(&room.run(5000)), [Some(0)]);
    room.want(0, Wanted::up_to(2));
    assert_eq!(room.needed(), [(0, 3)], "at once");
    let flows = room.run(400);
    assert_eq!(layers(&flows), [Some(2)], "with the first frames");
    room.want(0, Wanted::PAUSED);
    room.run(5000);
    assert_eq!(room.needed(), [(0, 0)], "nobody watches");
    room.run(20_000);
    room.want(0, Wanted::BEST);
    assert_eq!(room.needed(), [(0, 3)]);
    assert_eq!(layers(&room.run(400)), [Some(2)]);
}

#[test]
fn a_track_without_subscribers_is_not_asked_for_until_there_is_one() {
    let mut room = Room::new(1);
    room.run(5000);
    assert_eq!(room.needed(), [(0, 0)]);
    room.join(None);
    assert_eq!(room.needed(), [(0, 3)]);
    assert_eq!(layers(&room.run(400)), [Some(2)]);
    room.subscriber.negotiate(&mut room.world, vec![], vec![]);
    room.run(5000);
    assert_eq!(room.needed(), [(0, 0)], "and when the last one has gone");
}

#[test]
fn what_nobody_can_afford_is_not_encoded_and_comes_back() {
    let mut room = Room::new(1);
    room.join(200_000);
    room.run(6000);
    assert_eq!(room.needed(), [(0, 2)], "the third layer is wanted, but does not fit");
    room.run(60_000);
    assert_eq!(room.needed(), []);
    room.limit(600_000);
    room.run(1600);
    assert_eq!(room.needed(), [(0, 3)]);
    assert_eq!(layers(&room.run(400)), [Some(2)]);
}

#[test]
fn a_publisher_that_cannot_send_a_layer_is_not_waited_for() {
    let mut room = Room::new(1);
    room.join(None);
    for _ in 0..30 {
        room.publishers[0].layers = 2; // a small camera, whatever it is asked for
        room.run(FRAME);
    }
    assert_eq!(layers(&room.run(1000)), [Some(1)]);
    assert_eq!(room.needed(), [], "it is still asked for: it may come");
    room.publishers[0].layers = 3;
    room.run(800);
    assert_eq!(layers(&room.run(400)), [Some(2)]);
}

#[test]
fn a_muted_track_costs_nothing_and_is_asked_for_anew() {
    let mut room = Room::new(2);
    room.join(600_000);
    room.want(0, Wanted { priority: 1, ..Wanted::BEST });
    room.run(4000);
    assert_eq!(layers(&room.run(1000)), [Some(2), Some(0)]);
    let track = room.publishers[0].camera.track;
    room.world.command(Command::MuteTrack { track, muted: true });
    room.run(2000);
    assert_eq!(layers(&room.run(1000)), [None, Some(2)], "the other gets its share");
    room.needed();
    room.world.command(Command::MuteTrack { track, muted: false });
    assert_eq!(room.needed(), [(0, 3)], "clients forget");
    room.run(1000);
    assert_eq!(layers(&room.run(1000)), [Some(2), Some(0)]);
    assert!(room.states().values().all(|active| *active));
}
